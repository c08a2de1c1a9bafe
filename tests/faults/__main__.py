"""`make test-faults`: play a schedule, print the table, keep the results; exit code 1 unless all survived."""

from __future__ import annotations

import argparse
import signal
import sys
import tempfile
import time
from pathlib import Path

from conftest import FORBID_SKIPS

from faults import table
from faults.ground import nights_made
from faults.injections import CELLS
from faults.play import Result
from faults.schedule import schedule
from faults.workers import played


def main() -> int:
    """Play the schedule that the command line asks for."""
    options = _options()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    cases = schedule(options.seed, max(options.runs, *options.only, 0), CELLS)
    cases = [case for case in cases if not options.only or case.number in options.only]
    begun = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="faults-") as place, nights_made(Path(place)) as nights:
        results, made_with = played(nights, cases, _tell)
    report = table.Report(options.seed, made_with, round(time.monotonic() - begun, 1), tuple(results))
    print("\n".join(table.lines(report)))  # noqa: T201
    if options.results is not None:
        table.write(report, options.results)
    return 0 if all(map(_is_fine, results)) else 1


def _is_fine(result: Result) -> bool:
    """Whether a run survived or, where skips are allowed, could not be disturbed here: only root has small disks."""
    return result.survived or (bool(result.reason) and not FORBID_SKIPS)


def _tell(result: Result) -> None:
    print(table.line(result), flush=True)  # noqa: T201


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m faults", description=__doc__)
    parser.add_argument("--runs", type=int, default=300)
    parser.add_argument("--seed", type=int, default=175)
    parser.add_argument("--only", type=int, metavar="N", nargs="*", default=[], help="play these runs alone")
    parser.add_argument("--results", type=Path, metavar="DIR", help="write faults.json and faults.md there")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
