"""The table of what was broken on purpose, and the files that keep it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from faults.ground import COMMANDS
from faults.injections import INJECTIONS
from faults.play import Result

NAME = "faults"
# What the table does not say of itself.
NOTES = """\
What must hold after each run and the one after it: every plainly named archive extracts whole with plain Borg, its
SHA256SUMS hold, and `borg-vault verify` passes it; none is gone but what retention may take; the live database is what
it was or, after a swap, what the archive holds; no secret is in what was said, in the state directory or in an archive;
no process, lock, staging or scratch directory is left; the next run ends with 0.

- Killed runs leave their scratch directories until the next run that finds them unheld for a minute: here their times
  are set back by an hour instead of waiting.
- A damaged repository: nothing that plain Borg does not extract passes `verify`; after `borg check --repair` a new
  `create` and the command again end with 0, the newest archive is whole, and whatever was whole while the damage was
  there still is. What Borg itself cannot mend is not counted as lost. Borg does not read again what it deduplicates,
  so an archive that is made after the damage can be hit by it: `verify`, `check` and `drill` find that, a name cannot.
- After a jump of the clock, a repair, or a history that was lost, retention asks (exit code 12, the new archive stands)
  and goes on once the findings are accepted: that is done here, and then the next run must end with 0.
- A history that is reverted loses lines that were on disk (fsync) already; one that is torn loses half its last line.
- The clock is shifted in the program and all its children, in the source's server, or in both (by a preloaded library,
  clock.c): the time of day jumps, clocks that only count go on.
- Modes are taken away from root by running without CAP_DAC_OVERRIDE; for the drill, which needs that, the disk becomes
  read-only. Small disks are tmpfs, which only root can mount: elsewhere these runs are not injected.
- Connections are cut in mid-COPY and mid-dump after a number of bytes, by a proxy on loopback; a restore's
  at the moments of its children.""".splitlines()


@dataclass(frozen=True, slots=True)
class Report:
    """All runs of one schedule."""

    seed: int
    made_with: Mapping[str, str]
    seconds: float
    results: tuple[Result, ...]

    @property
    def totals(self) -> dict[str, int]:
        """Count the runs, those to which it happened, those that survived it, and the archives that were lost."""
        happened = [one for one in self.results if one.happened is not None]
        return {
            "runs": len(self.results),
            "injected": len(happened),
            "survived": sum(one.survived for one in happened),
            "lost": sum(len(one.lost) for one in self.results),
        }


def line(result: Result) -> str:
    """Tell one run in a line, and how to repeat it when it did not survive."""
    case = result.case
    told = result.happened or f"not injected{': ' * bool(result.reason)}{result.reason}"
    codes = ",".join(map(str, sorted(set(result.exit_codes))))
    after = ",".join(map(str, result.next_codes))
    state = "ok  " if result.survived else "FAIL" if result.happened or result.problems else "-   "
    words = f"{state} {case.number:3} {case.command:14} {case.fault}: {told}; {result.moment}; {codes}, then {after}"
    if state != "FAIL":
        return f"{words} ({result.seconds:.1f} s)" + f"\n     {result.said}" * bool(result.said)
    what = [*result.problems, *(f"lost: {name}" for name in result.lost)]
    return "\n".join([words, *(f"     {one}" for one in what), f"     again: {again(result)}"])


def again(result: Result) -> str:
    """Give the command that repeats exactly this run."""
    return f"make test-faults SEED={result.case.seed} ONLY={result.case.number}"


def lines(report: Report) -> Iterator[str]:
    """Give the table as Markdown: for every fault and command injected / survived / lost."""
    yield f"| injected / survived / lost | {' | '.join(COMMANDS)} | all |"
    yield f"|---|{'---|' * (len(COMMANDS) + 1)}"
    for fault in INJECTIONS:
        of_fault = [one for one in report.results if one.case.fault == fault]
        cells = [_cell([one for one in of_fault if one.case.command == command]) for command in COMMANDS]
        yield f"| {fault} | {' | '.join(cells)} | {_cell(of_fault)} |"
    of_command = [[one for one in report.results if one.case.command == command] for command in COMMANDS]
    yield f"| **all** | {' | '.join(map(_cell, of_command))} | {_cell(list(report.results))} |"


def _cell(results: list[Result]) -> str:
    happened = [one for one in results if one.happened is not None]
    if not results:
        return ""
    return f"{len(happened)} / {sum(one.survived for one in happened)} / {sum(len(one.lost) for one in results)}"


def write(report: Report, directory: Path) -> None:
    """Write the results as JSON and as a page of Markdown."""
    directory.mkdir(exist_ok=True)
    made = f"{datetime.now(UTC):%Y-%m-%d %H:%M:%SZ}"
    document = {
        "made": made,
        "seed": report.seed,
        "versions": dict(report.made_with),
        "seconds": report.seconds,
        **report.totals,
        "faults": [_row(one) for one in report.results],
    }
    (directory / f"{NAME}.json").write_text(json.dumps(document, indent=1) + "\n", "utf-8")
    (directory / f"{NAME}.md").write_text("\n".join(_page(report, made)) + "\n", "utf-8")


def _row(result: Result) -> dict[str, object]:
    return {
        "number": result.case.number,
        "command": result.case.command,
        "fault": result.case.fault,
        "moment": result.moment,
        "happened": result.happened,
        "exit_codes": list(result.exit_codes),
        "next_exit_codes": list(result.next_codes),
        "said": result.said,
        "seconds": result.seconds,
        "survived": result.survived,
        "lost": list(result.lost),
        "problems": list(result.problems),
    }


def _page(report: Report, made: str) -> Iterator[str]:
    totals = report.totals
    yield "# What was broken on purpose"
    yield ""
    yield f"Seed {report.seed}, {made}, {report.seconds / 60:.0f} minutes, with {_with(report.made_with)}."
    yield ""
    yield f"{totals['runs']} runs, {totals['injected']} injected, {totals['survived']} survived, {totals['lost']} lost."
    yield ""
    yield from lines(report)
    yield ""
    yield "## Which exit codes a run may have"
    yield ""
    yield f"| fault | {' | '.join(COMMANDS)} |"
    yield f"|---|{'---|' * len(COMMANDS)}"
    for fault, injection in INJECTIONS.items():
        yield f"| {fault} | {' | '.join(_codes(injection.codes.get(command)) for command in COMMANDS)} |"
    yield ""
    yield from NOTES


def _with(made_with: Mapping[str, str]) -> str:
    return ", ".join(f"{name} {version}" for name, version in made_with.items())


def _codes(codes: frozenset[int] | None) -> str:
    return ", ".join("SIGKILL" if code < 0 else str(code) for code in sorted(codes)) if codes else ""
