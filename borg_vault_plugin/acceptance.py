"""What operators have acknowledged: findings, one by one, and an older state that they did restore."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

import msgspec

from borg_vault_plugin.archive import Series
from borg_vault_plugin.errors import UsageError
from borg_vault_plugin.history import Event, History, happened_now
from borg_vault_plugin.report import Finding, Rewind

Accepted = dict[str, str]
"""Reasons by the ids of findings."""


@dataclass(frozen=True, slots=True)
class Word:
    """What the operators of a Server have said about its history."""

    accepted: Accepted = field(default_factory=dict)
    rewind: Rewind | None = None


def word_of(history: History, series: Series) -> Word:
    """Give what the operators of this Server have said."""
    return Word(accepted_findings(history), latest_rewind(history, series))


def accepted_findings(history: History) -> Accepted:
    """Give the findings that were accepted on this host, with the reasons."""
    return {
        event.finding: event.reason or ""
        for event in history.events()
        if event.event == "accepted" and event.finding is not None
    }


def latest_rewind(history: History, series: Series) -> Rewind | None:
    """Give the older state of this Server that an operator said last that he restored."""
    events = [event for event in history.events() if event.event == "rewound" and series.owns(event.archive)]
    return Rewind(events[-1].archive, events[-1].time, events[-1].reason or "") if events else None


def marked(findings: Iterable[Finding], accepted: Accepted) -> tuple[Finding, ...]:
    """Mark the findings that were accepted."""
    return tuple(replace(one, accepted=accepted[one.id]) if one.id in accepted else one for one in findings)


def still_open(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """Give the findings that nobody has accepted."""
    return tuple(one for one in findings if one.accepted is msgspec.UNSET)


def remember(history: History, target: str, findings: Iterable[Finding]) -> None:
    """Note findings that are new on this host, so that they can be accepted by their ids."""
    known = {event.finding for event in history.events() if event.event == "found"}
    fresh = [one for one in findings if one.id not in known]
    if fresh:
        history.append(*(_found(target, one) for one in fresh))


def accept(history: History, ids: Sequence[str], reason: str) -> list[Event]:
    """Accept exactly these findings. Raises UsageError for one that no run of this host has found."""
    demand_reason(reason)
    found = {event.finding: event for event in history.events() if event.event == "found"}
    for finding_id in ids:
        if finding_id not in found:
            raise UsageError(
                f"no run of this host has found {finding_id!r}: give ids as `create` and `verify` print them"
            )
    now = datetime.now(UTC)
    events = [msgspec.structs.replace(found[one], event="accepted", time=now, reason=reason) for one in ids]
    history.append(*events)
    return events


def rewind(history: History, series: Series, archive: str, reason: str) -> None:
    """Note that an operator restored the state of an archive. Raises UsageError for one that is not ours."""
    demand_reason(reason)
    try:
        series.time_in(archive)  # a name may have the digits of a time that never was
    except ValueError:
        raise UsageError(f"{archive} is no archive of {series.prefix}: see `borg-vault list`") from None
    history.append(happened_now("rewound", archive, reason=reason))


def demand_reason(reason: str) -> None:
    """Refuse a reason that is none, or that history cannot hold. Raises UsageError."""
    if not reason.strip():
        raise UsageError("a reason is missing: say with --reason why, for whoever reads the history")
    if any("\ud800" <= letter <= "\udfff" for letter in reason):
        raise UsageError("the reason is not UTF-8: write it so")


def _found(target: str, finding: Finding) -> Event:
    return Event(
        time=datetime.now(UTC),
        event="found",
        archive=target,
        finding=finding.id,
        code=finding.code,
        where=finding.where,
        hash=finding.hash or None,
    )
