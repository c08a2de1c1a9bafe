"""`make bench`: measure, print how far it has come, and write results/.

ENTRIES (100,000) is the size of the vault, ROUNDS (3) how often everything is done, SIZES (ENTRIES) the largest of the
series of sizes, 0 for none. With these it takes 20 minutes on two processors that do nothing else; with ENTRIES=500000
ROUNDS=1 SIZES=1000000 an hour, and 20 GB of the temporary directory (TMPDIR).
"""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path

from bench.parts import Plan
from bench.pictures import cost_per_night, repository_size
from bench.results import Results, sizes_up_to, write
from bench.tables import markdown
from bench.whole import measure

RESULTS = Path(__file__).parent / "results"
BEGUN = time.monotonic()


def say(line: str) -> None:
    """Print a line with the time since the beginning."""
    minutes, seconds = divmod(int(time.monotonic() - BEGUN), 60)
    sys.stdout.write(f"[{minutes:>3}:{seconds:02}] {line}\n")
    sys.stdout.flush()


def write_all(results: Results, directory: Path) -> None:
    """Write everything that is made of results."""
    directory.mkdir(exist_ok=True)
    write(results, directory / "bench.json")
    (directory / "bench.md").write_text(markdown(results), "utf-8")
    (directory / "cost-per-night.svg").write_text(cost_per_night(results), "utf-8")
    (directory / "repository-size.svg").write_text(repository_size(results), "utf-8")


def plan_of(environment: dict[str, str]) -> Plan:
    """Read how much is to be measured."""
    entries = int(environment.get("ENTRIES") or 100_000)
    largest = int(environment.get("SIZES") or entries)
    return Plan(
        entries=entries, rounds=int(environment.get("ROUNDS") or 3), sizes=sizes_up_to(largest) if largest else ()
    )


def main() -> None:
    """Measure as the environment says, and write the results."""
    signal.signal(signal.SIGTERM, lambda number, _frame: sys.exit(128 + number))  # every `with` ends what it began
    results = measure(plan_of(dict(os.environ)), say)
    write_all(results, RESULTS)
    sys.stdout.write("\n" + markdown(results))
    say(f"written to {RESULTS}")
    if results.failures:
        sys.exit("\n".join(["parts failed:", *results.failures]))


if __name__ == "__main__":
    main()
