"""Scales of charts: where a value lies, and which round values are written beside it.

Across, places are percentages, so that a chart is as wide as its page while its letters keep their size; down, pixels.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from borg_vault_plugin.evidence.quantities import DAY, HOUR, MINUTE, instant_of

# The steps of clocks; beyond them, and below a second, those of decimal numbers.
CLOCK_STEPS = (
    *(1, 2, 5, 10, 15, 30),
    *(step * MINUTE for step in (1, 2, 5, 10, 15, 30)),
    *(step * HOUR for step in (1, 2, 3, 6, 12, 24)),
)
SHORTEST_STEP = 0.001
HALF_DAY = 12 * HOUR * 1000
SHORT_SPAN = 3 * DAY * 1000


@dataclass(frozen=True, slots=True)
class Span:
    """A stretch of time in milliseconds since 1970, of more than no length."""

    start: int
    end: int

    def across(self, at: int) -> float:
        """Give where an instant lies, in percent."""
        return 100 * (at - self.start) / (self.end - self.start)

    def labels(self) -> list[str]:
        """Name the beginning, the middle and the end: days, with the time where there are few."""
        texts = (
            instant_of(at).isoformat(" ", "minutes") for at in (self.start, (self.start + self.end) // 2, self.end)
        )
        short = self.end - self.start < SHORT_SPAN
        return [text[5:16] if short else text[:10] for text in texts]


@dataclass(frozen=True, slots=True)
class Axis:
    """Round values from 0 upwards, the last of them at least as large as anything that is drawn."""

    ticks: tuple[float, ...]

    def share(self, value: float) -> float:
        """Give how far up a value lies, from 0 to 1."""
        return value / self.ticks[-1]


def span(instants: Iterable[int]) -> Span:
    """Make the span from the first to the last instant, a day around a single one."""
    known = list(instants)
    start, end = min(known), max(known)
    return Span(start, end) if start < end else Span(start - HALF_DAY, end + HALF_DAY)


def count_axis(largest: int, steps: int) -> Axis:
    """Make the axis for counts up to this one, with at most so many steps."""
    return _axis(largest, max(1, decimal_step(largest / steps)))


def duration_axis(largest: float, steps: int) -> Axis:
    """Make the axis for seconds up to this many, with at most so many steps."""
    least = largest / steps
    if least < 1:
        return _axis(largest, decimal_step(least))
    clock = next((step for step in CLOCK_STEPS if step >= least), None)
    return _axis(largest, clock or DAY * decimal_step(least / DAY))


def decimal_step(least: float) -> float:
    """Give the smallest of 1, 2 and 5 times a power of ten that is not smaller, from 0.001 on; 1 for 0."""
    if least <= 0:
        return 1
    power: float = 10.0 ** math.floor(math.log10(max(least, SHORTEST_STEP)))
    return next((factor * power for factor in (1, 2, 5) if factor * power >= least), 10 * power)


def _axis(largest: float, step: float) -> Axis:
    steps = max(1, math.ceil(largest / step))
    return Axis(tuple(step * number for number in range(steps + 1)))
