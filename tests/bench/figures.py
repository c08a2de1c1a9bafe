"""The arithmetic between samples and what is printed: medians, ratios to the floor, and whether a budget is met."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from statistics import median

from bench.contenders import FLOOR, OURS, SCRIPT
from bench.results import Part, Results, Sample

MEGABYTE = 1_000_000
TIMES, NOT_MEASURED = "\u00d7", "\u2013"
BUDGET_CORES = 2
FULL_RATE, NIGHTLY_RATE = 18_000, 80_000
VERIFYING_BYTES, PROGRAM_BYTES = 250 * MEGABYTE, 200 * MEGABYTE
MOST_OF_FLOOR, LEAST_OF_TARBALL, MOST_GROWTH = 2.0, 15.0, 1.2
DOUBLED = 1.8

Figure = Callable[[Sample], float]


@dataclass(frozen=True, slots=True)
class Budget:
    """One promise about speed: what it demands, what was measured, and whether that is enough.

    None where it was not measured.
    """

    what: str
    demanded: str
    measured: str
    is_met: bool | None


def seconds(sample: Sample) -> float:
    """Give the wall time."""
    return sample.cost.seconds


def added(sample: Sample) -> float:
    """Give the bytes that a night added."""
    return sample.added_bytes or 0


def rate(sample: Sample) -> float:
    """Give entries a second of a verification without the start of its process, or of a whole export."""
    return sample.verified / (sample.phases.get("verify") or sample.cost.seconds)


def middle(samples: Iterable[Sample], figure: Figure) -> float | None:
    """Give the median of a figure; None when nothing was measured."""
    values = [figure(sample) for sample in samples]
    return median(values) if values else None


def ratio(value: float | None, floor: float | None) -> float | None:
    """Give how many times the floor a value is; None where one of them is not known, or the floor is nothing."""
    return None if value is None or not floor else value / floor


def nights(results: Results, series: str, contender: str, *, first: bool = False) -> list[Sample]:
    """Give a contender's nights of the main measurement: those that follow, or the first."""
    return results.chosen(
        lambda one: (
            (one.part, one.scale, one.series, one.contender, one.night == 0)
            == ("night", False, series, contender, first)
        )
    )


def of_part(results: Results, part: Part, contender: str | None = None) -> list[Sample]:
    """Give a part of the main measurement."""
    return results.chosen(
        lambda one: one.part == part and not one.scale and (contender is None or one.contender == contender)
    )


def verifications(results: Results, mode: str, jobs: int) -> list[Sample]:
    """Give the verifications of the main measurement in one mode, with so many processes."""
    return [one for one in of_part(results, "verification") if (one.mode, one.jobs) == (mode, jobs)]


def sized(results: Results, part: Part, contender: str, entries: int) -> list[Sample]:
    """Give what was measured of one part in the series of sizes; of nights those that follow the first."""
    return results.chosen(
        lambda one: (
            (one.part, one.scale, one.contender, one.entries) == (part, True, contender, entries)
            and (part != "night" or one.night > 0)
        )
    )


def contenders_in(results: Results) -> list[str]:
    """Name the contenders in the order in which they are listed, this program last."""
    found = {one.contender for one in of_part(results, "night")}
    others = sorted(found - {SCRIPT, FLOOR, OURS})
    return [name for name in (SCRIPT, FLOOR, *others, OURS) if name in found]


def phases(samples: list[Sample]) -> dict[str, float]:
    """Give the median seconds of each phase, in their order."""
    names = dict.fromkeys(name for sample in samples for name in sample.phases)
    return {name: median(sample.phases.get(name, 0.0) for sample in samples) for name in names}


def budgets(results: Results) -> list[Budget]:
    """Hold every budget against what was measured."""
    return [*_night_budgets(results), *_verification_budgets(results), *_memory_budgets(results)]


def _night_budgets(results: Results) -> list[Budget]:
    ours, floor, script = (nights(results, "youngest", name) for name in (OURS, FLOOR, SCRIPT))
    night = middle(ours, seconds)
    of_floor = ratio(night, middle(floor, seconds))
    of_script = ratio(night, middle(script, seconds))
    growth = ratio(middle(script, added), middle(ours, added))
    return [
        _at_most("a nightly `create`, everything included, to the floor", of_floor, MOST_OF_FLOOR, f"{{:.2f}} {TIMES}"),
        _at_most("a nightly `create` to the shell script", of_script, 1.0, f"{{:.2f}} {TIMES}"),
        _at_least(
            "the tarball to what such a night adds to the repository", growth, LEAST_OF_TARBALL, f"{{:.0f}} {TIMES}"
        ),
    ]


def _verification_budgets(results: Results) -> list[Budget]:
    jobs = min(BUDGET_CORES, results.machine.cores)
    full, nightly = (verifications(results, mode, jobs) for mode in ("full", "nightly"))
    largest = max((one.cost.tree_bytes for one in full), default=None)
    return [
        _at_least(f"full verification, {jobs} processes", middle(full, rate), FULL_RATE, "{:,.0f} entries/s"),
        _at_most("... its memory, all processes together", _megabytes(largest), _size(VERIFYING_BYTES), "{:.0f} MB"),
        _at_least(f"nightly verification, {jobs} processes", middle(nightly, rate), NIGHTLY_RATE, "{:,.0f} entries/s"),
    ]


def _memory_budgets(results: Results) -> list[Budget]:
    ours = nights(results, "youngest", OURS)
    largest = max((one.cost.program_bytes for one in ours), default=None)
    what = f"memory of the program itself in a night, {results.entries:,} entries"
    return [_at_most(what, _megabytes(largest), _size(PROGRAM_BYTES), "{:.0f} MB"), _doubling(results)]


def _doubling(results: Results) -> Budget:
    """Compare the largest size with the next one, that of the nights among them, that is at most about half of it."""
    measured = (*results.sizes, results.entries)
    smaller = max((size for size in measured if size * DOUBLED <= max(results.sizes, default=0)), default=0)
    what = "its growth from one size to the next, at least twice as many entries"
    if not smaller:
        return Budget(what, f"≤ {MOST_GROWTH:.2f} {TIMES}", NOT_MEASURED, None)
    peaks = [_peak(results, size) for size in (smaller, max(results.sizes))]
    what = f"its growth from {smaller:,} to {max(results.sizes):,} entries"
    return _at_most(what, ratio(peaks[1], peaks[0]), MOST_GROWTH, f"{{:.2f}} {TIMES}")


def _peak(results: Results, size: int) -> int | None:
    of_size = sized(results, "night", OURS, size) or nights(results, "youngest", OURS)
    return max((one.cost.program_bytes for one in of_size), default=None)


def _at_most(what: str, value: float | None, limit: float, form: str) -> Budget:
    return Budget(what, f"≤ {form.format(limit)}", _shown(value, form), None if value is None else value <= limit)


def _at_least(what: str, value: float | None, limit: float, form: str) -> Budget:
    return Budget(what, f"≥ {form.format(limit)}", _shown(value, form), None if value is None else value >= limit)


def _shown(value: float | None, form: str) -> str:
    return NOT_MEASURED if value is None else form.format(value)


def _megabytes(size: float | None) -> float | None:
    return None if size is None else size / MEGABYTE


def _size(size: int) -> float:
    return size / MEGABYTE
