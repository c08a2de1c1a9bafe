"""A diagnosis as text: one table, and one sentence that says what it comes to."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from dataclasses import dataclass

from borg_vault_plugin.doctor.checks import Check, Diagnosis, State
from borg_vault_plugin.wording import plural

HEADER = ("STATE", "CHECK", "WHAT IT IS, AND WHAT TO DO")
SHOWN: dict[State, str] = {"ok": "ok", "warning": "warning", "failed": "FAILED", "not_checked": "not checked"}
LEAST_WIDTH = 40  # of the last column


@dataclass(frozen=True, slots=True)
class Line:
    """One line, and the state that it tells of."""

    text: str
    state: State | None = None


def lines(diagnosis: Diagnosis, width: int | None) -> Iterator[Line]:
    """Lay a diagnosis out; on a terminal of this width the last column is wrapped."""
    first, second = (
        max(map(len, (HEADER[0], *SHOWN.values()))),
        max(len(word) for word in (HEADER[1], *(check.name for check in diagnosis.checks))),
    )
    last = None if width is None else max(LEAST_WIDTH, width - first - second - 4)
    yield Line(f"{HEADER[0]:{first}}  {HEADER[1]:{second}}  {HEADER[2]}")
    for check in diagnosis.checks:
        told = [line for text in _told(check) for line in _wrapped(text, last)]
        for number, text in enumerate(told):
            state, name = (SHOWN[check.state], check.name) if number == 0 else ("", "")
            yield Line(f"{state:{first}}  {name:{second}}  {text}", check.state)
    yield Line("")
    yield Line(sentence(diagnosis))


def sentence(diagnosis: Diagnosis) -> str:
    """Say what it comes to."""
    failed = sum(check.state == "failed" for check in diagnosis.checks)
    warnings = sum(check.state == "warning" for check in diagnosis.checks)
    told = f", with {plural(warnings, 'warning')}" if warnings else ""
    if failed:
        return f"{plural(failed, 'thing')} would fail{told}: mend what says FAILED, then run `borg-vault doctor` again."
    return f"Nothing would fail{told}."


def _told(check: Check) -> Iterator[str]:
    yield f"{check.subject}: {check.detail}" if check.subject else check.detail
    if check.advice:
        yield f"-> {check.advice}"


def _wrapped(text: str, width: int | None) -> list[str]:
    if width is None:
        return [text]
    return textwrap.wrap(text, width, break_long_words=False, break_on_hyphens=False) or [""]
