"""The page about a restore drill: when a backup was last restored, and how anybody knows that it worked."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime

from borg_vault_plugin.evidence.blocks import (
    WORDS,
    Column,
    banner,
    bullets,
    columns,
    facts,
    heading,
    mark,
    note,
    paragraph,
    section,
    table,
    tiles,
)
from borg_vault_plugin.evidence.charts import Line, Measurement, line_chart, timing_bars
from borg_vault_plugin.evidence.glossary import DRILL_WORDS, glossary
from borg_vault_plugin.evidence.markup import Markup, code, element, joined, value
from borg_vault_plugin.evidence.page import page
from borg_vault_plugin.evidence.quantities import duration, instant, measured
from borg_vault_plugin.evidence.shapes import Verdict
from borg_vault_plugin.report import CheckVerdict
from borg_vault_plugin.wording import plural

MOST_DRILLS = 200
MOST_CHECKS = 500
TITLE = "Restore drill"


@dataclass(frozen=True, slots=True)
class DrillCheck:
    """One thing that was checked about the restored database."""

    name: str
    title: str
    """What it checks, for people."""
    verdict: CheckVerdict
    detail: str
    seconds: float


@dataclass(frozen=True, slots=True)
class Phase:
    """One part of the recovery and how long it took."""

    name: str
    seconds: float


@dataclass(frozen=True, slots=True)
class PastDrill:
    """How an earlier drill ended; durations in seconds, None where it did not come so far."""

    instant: datetime
    archive: str
    verdict: Verdict
    rpo_seconds: float | None
    rto_seconds: float | None


@dataclass(frozen=True, slots=True)
class DrillEvidence:
    """All that a drill has to show; instants are aware, durations in seconds, None where it did not come so far."""

    archive: str
    verdict: Verdict
    checks: tuple[DrillCheck, ...]
    phases: tuple[Phase, ...]
    """Of the recovery, in their order."""
    rpo_seconds: float | None
    """How much of the newest work a restore of the archive would lose."""
    rto_seconds: float | None
    """How long the recovery took."""
    head: str | None
    """Which chain heads are proven; None when none are."""
    snapshot: datetime | None
    """The instant that the restored database shows; None where the drill did not come so far."""
    drilled: datetime
    versions: Mapping[str, str]
    """Names and versions of the software that took part."""
    past: tuple[PastDrill, ...]
    """The drills before this one, in any order."""
    proven: tuple[str, ...]
    not_proven: tuple[str, ...]


def drill_page(drill: DrillEvidence) -> str:
    """Give the page about a drill."""
    return page(
        f"{WORDS[drill.verdict]}: {TITLE.lower()} of {instant(drill.drilled)}",
        heading("Report for auditors", TITLE),
        _verdict(drill),
        _figures(drill),
        _questions(drill),
        _checks(drill),
        _proof(drill),
        section("How long the recovery took", timing_bars("Phases of the recovery", _phases(drill))),
        *_past(drill),
        _software(drill),
        glossary(DRILL_WORDS),
        element("footer", f"Drill of {instant(drill.drilled)}. This page loads nothing and runs nothing."),
    )


def _verdict(drill: DrillEvidence) -> Markup:
    told = {
        "passed": "The archive was restored, and the restored database holds what was backed up.",
        "failed": "At least one check failed: what this archive gives back is not what it should be.",
        "not_checked": "There is no verdict: something could not be checked. That counts as a drill that did not pass.",
    }[drill.verdict]
    return banner(drill.verdict, WORDS[drill.verdict], told, joined("Archive ", code(drill.archive), "."))


def _figures(drill: DrillEvidence) -> Markup:
    made = [check for check in drill.checks if check.verdict != "not_applicable"]
    passed = sum(check.verdict == "passed" for check in made)
    return tiles(
        (
            ("Drilled", instant(drill.drilled)[:10], f"at {instant(drill.drilled)[11:]}"),
            ("Checks", f"{passed:,} of {len(made):,}", "passed"),
            _measured("Recovery point (RPO)", drill.rpo_seconds, "of the newest work would be lost"),
            _measured("Recovery time (RTO)", drill.rto_seconds, "until the data could be used"),
        )
    )


def _measured(name: str, seconds: float | None, meaning: str) -> tuple[str, str, str]:
    return name, duration(seconds), "not measured" if measured(seconds) is None else meaning


def _questions(drill: DrillEvidence) -> Markup:
    return section(
        "When was a backup last restored, and did it work?",
        facts(
            (
                ("Last restored", _last_restored(drill)),
                ("State of the data", f"{instant(drill.snapshot)}: the instant of the archived snapshot"),
                ("How it is known", _how_known(drill)),
                ("Chain heads", value(drill.head) if drill.head else "none are proven"),
            )
        ),
    )


def _last_restored(drill: DrillEvidence) -> Markup:
    if drill.verdict == "passed":
        return joined(f"{instant(drill.drilled)}, by this drill, from the archive ", code(drill.archive))
    good = [past for past in drill.past if past.verdict == "passed"]
    if not good:
        return joined("No drill is known that passed. This one did not.")
    last = max(good, key=lambda past: past.instant)
    return joined(
        f"Not by this drill. The last one that passed was on {instant(last.instant)}, of ", code(last.archive)
    )


def _how_known(drill: DrillEvidence) -> str:
    counts = {verdict: sum(check.verdict == verdict for check in drill.checks) for verdict in WORDS}
    parts = [f"{count:,} {WORDS[verdict].lower()}" for verdict, count in counts.items() if count]
    if not parts:
        return "It is not: no check was made."
    return f"From {plural(len(drill.checks), 'check')} of what was restored: {', '.join(parts)}."


def _checks(drill: DrillEvidence) -> Markup:
    names = (Column("Check"), Column("Outcome"), Column("What was seen"), Column("Time", number=True))
    rows = (
        (
            joined(element("div", value(check.title)), element("div", code(check.name), class_="note")),
            mark(check.verdict),
            value(check.detail),
            duration(check.seconds),
        )
        for check in drill.checks[:MOST_CHECKS]
    )
    more = len(drill.checks) - MOST_CHECKS
    rest = [note(f"{plural(more, 'more check')} not shown.")] if more > 0 else []
    return section("Checks", table("What was checked, and how it came out", names, rows), *rest)


def _proof(drill: DrillEvidence) -> Markup:
    proven = bullets(map(value, drill.proven)) if drill.proven else paragraph("Nothing.")
    not_proven = bullets(map(value, drill.not_proven)) if drill.not_proven else paragraph("Nothing is listed.")
    return section("What this proves, and what it does not", columns(("Proven", proven), ("Not proven", not_proven)))


def _phases(drill: DrillEvidence) -> list[tuple[str, float]]:
    return [(phase.name, phase.seconds) for phase in drill.phases]


def _past(drill: DrillEvidence) -> Iterator[Markup]:
    this = PastDrill(drill.drilled, drill.archive, drill.verdict, drill.rpo_seconds, drill.rto_seconds)
    drills = [*sorted(drill.past, key=lambda past: past.instant), this]
    shown = drills[-MOST_DRILLS:]
    if not drill.past:
        yield section("Earlier drills", paragraph("None is known: this is the first one."))
        return
    lines = (
        Line("Recovery point (RPO)", tuple(_measurement(past, past.rpo_seconds) for past in shown)),
        Line("Recovery time (RTO)", tuple(_measurement(past, past.rto_seconds) for past in shown)),
    )
    names = (Column("Drilled"), Column("Outcome"), Column("Archive"), Column("RPO", number=True))
    rows = (
        (
            instant(past.instant),
            mark(past.verdict),
            code(past.archive),
            duration(past.rpo_seconds),
            duration(past.rto_seconds),
        )
        for past in reversed(shown)
    )
    left_out = len(drills) - len(shown)
    yield section(
        "This drill and those before it",
        line_chart("Recovery point and recovery time", lines),
        table("The newest first", (*names, Column("RTO", number=True)), rows),
        *([note(f"{plural(left_out, 'older drill')} not shown.")] if left_out else []),
    )


def _measurement(past: PastDrill, seconds: float | None) -> Measurement:
    return Measurement(past.instant, seconds, past.verdict, past.archive)


def _software(drill: DrillEvidence) -> Markup:
    told = facts((name, code(version)) for name, version in drill.versions.items())
    return section("Software that took part", told if drill.versions else paragraph("Not recorded."))
