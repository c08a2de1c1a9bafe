"""The table of what was broken on purpose, and the files that keep it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
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
no process, lock, staging or scratch directory is left; the next run ends with 0. A run counts as injected only when the
program still ran when it was struck, and as failed when anything does not hold, injected or not.

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
- Connections are cut after a number of bytes by a proxy on loopback: in mid-COPY when the chain is exported (by a
  restore: when it exports the restored database once more), in mid-dump when `pg_dump` reads a table. Of a restore's
  in "mid-dump" those are cut on which one of its `pg_dump` and `pg_restore` waits for an answer.
- After a swap that ended with 0 only the archived content may be live, after one that failed only what was live; where
  the program was killed, or the server or the way to it was lost, the COMMIT may have been made or not.
- That the operating system refuses where nobody expected it is allowed only when a disk is full, rights were changed or
  staging is a link.
- Archives that the struck run has made are looked at before the next run, with a copy of the state directory.
- Where a hook hangs the run ends with 4 and names it; where the hook only announces the backup, it names it and ends
  with 0.""".splitlines()


@dataclass(frozen=True, slots=True)
class Report:
    """All runs of one schedule."""

    seed: int
    made_with: Mapping[str, str]
    seconds: float
    results: tuple[Result, ...]


def counted(results: Sequence[Result]) -> dict[str, int]:
    """Count runs, those to which it happened, those that survived it, those that failed, and the archives lost."""
    return {
        "runs": len(results),
        "injected": sum(one.happened is not None for one in results),
        "survived": sum(one.survived for one in results),
        "failed": sum(one.failed for one in results),
        "lost": sum(len(one.lost) for one in results),
    }


def line(result: Result) -> str:
    """Tell one run in a line, and how to repeat it when it did not survive."""
    case = result.case
    told = result.happened or f"not injected{': ' * bool(result.reason)}{result.reason}"
    codes = ",".join(map(str, sorted(set(result.exit_codes))))
    after = ",".join(map(str, result.next_codes))
    state = "ok  " if result.survived else "FAIL" if result.failed else "-   "
    words = f"{state} {case.number:3} {case.command:14} {case.fault}: {told}; {result.moment}; {codes}, then {after}"
    if state != "FAIL":
        return f"{words} ({result.seconds:.1f} s)" + f"\n     {result.said}" * bool(result.said)
    what = [*result.problems, *(f"lost: {name}" for name in result.lost)]
    return "\n".join([words, *(f"     {one}" for one in what), f"     again: {again(result)}"])


def again(result: Result) -> str:
    """Give the command that repeats exactly this run."""
    return f"make test-faults SEED={result.case.seed} ONLY={result.case.number}"


def lines(report: Report) -> Iterator[str]:
    """Give the table as Markdown: for every fault and command injected / survived / failed / lost."""
    yield f"| injected / survived / failed / lost | {' | '.join(COMMANDS)} | all |"
    yield f"|---|{'---|' * (len(COMMANDS) + 1)}"
    for fault in INJECTIONS:
        of_fault = [one for one in report.results if one.case.fault == fault]
        cells = [_cell([one for one in of_fault if one.case.command == command]) for command in COMMANDS]
        yield f"| {fault} | {' | '.join(cells)} | {_cell(of_fault)} |"
    of_command = [[one for one in report.results if one.case.command == command] for command in COMMANDS]
    yield f"| **all** | {' | '.join(map(_cell, of_command))} | {_cell(report.results)} |"


def _cell(results: Sequence[Result]) -> str:
    if not results:
        return ""
    return " / ".join(str(total) for name, total in counted(results).items() if name != "runs")


def write(report: Report, directory: Path) -> None:
    """Write the results as JSON and as a page of Markdown."""
    directory.mkdir(exist_ok=True)
    made = f"{datetime.now(UTC):%Y-%m-%d %H:%M:%SZ}"
    document = {
        "made": made,
        "seed": report.seed,
        "versions": dict(report.made_with),
        "seconds": report.seconds,
        **counted(report.results),
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
    well = sum(one.survived and not any(one.exit_codes) for one in report.results)
    yield "# What was broken on purpose"
    yield ""
    yield f"Seed {report.seed}, {made}, {report.seconds / 60:.0f} minutes, with {_with(report.made_with)}."
    yield ""
    yield f"{', '.join(f'{total} {name}' for name, total in counted(report.results).items())}."
    yield f"Of those that survived, {well} ended with 0: they no longer needed what broke, or could do without it."
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
