"""The numbers that long runs have left: `make bench` and `make test-faults`. Without results nothing is said."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from bench.results import read
from bench.tables import summary

from readme.layout import wrapped

BENCH, FAULTS = (Path("tests") / name / "results" for name in ("bench", "faults"))
ROOT = Path(__file__).parents[2]


def bench() -> Iterator[str]:
    """Give the short table of `make bench`."""
    path = ROOT / BENCH / "bench.json"
    if path.exists():
        results = read(path)
        yield from wrapped(
            f"What a night costs with {results.entries:,} entries, beside what else could be done; in parentheses, how"
            f" many times the least that must be. `make bench` measures it, and [all of it]({BENCH / 'bench.md'}) says"
            f" on what; [a profile]({BENCH.parent / 'profile.md'}) says what holds the budgets that are not met."
        )
        yield ""
        yield from summary(results)


def faults() -> Iterator[str]:
    """Give the totals of `make test-faults`."""
    path = ROOT / FAULTS / "faults.json"
    if path.exists():
        found = json.loads(path.read_bytes())
        totals = ", ".join(f"{found[name]} {name}" for name in ("runs", "injected", "survived", "failed", "lost"))
        yield from wrapped(f"**{totals}**: [what happened to which command]({FAULTS / 'faults.md'}).")
