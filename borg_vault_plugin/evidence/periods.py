"""Days put together into longer periods, so that no chart has more bars than can be told apart."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date

MOST_PERIODS = 120


@dataclass(frozen=True, slots=True)
class Unit:
    """A length of periods: each has a number, and the next one the next."""

    name: str
    names: str
    number: Callable[[date], int]
    label: Callable[[int], str]
    named_by: str = ""


@dataclass(frozen=True, slots=True)
class Periods:
    """Counts of all periods from the first to the last, also of those without anything."""

    unit: Unit
    first: int
    """The number of the first period."""
    counts: tuple[int, ...]

    def label(self, place: int) -> str:
        """Name the period at this place, from 0."""
        return self.unit.label(self.first + place)


UNITS = (
    Unit("day", "days", date.toordinal, lambda number: date.fromordinal(number).isoformat()),
    Unit(
        "week",
        "weeks",
        # The first day of the calendar is a Monday.
        lambda day: (day.toordinal() - 1) // 7,
        lambda number: date.fromordinal(number * 7 + 1).isoformat(),
        ", named by its Monday",
    ),
    Unit(
        "month",
        "months",
        lambda day: day.year * 12 + day.month - 1,
        lambda number: f"{number // 12:04}-{number % 12 + 1:02}",
    ),
    Unit("year", "years", lambda day: day.year, lambda number: f"{number:04}"),
    Unit("decade", "decades", lambda day: day.year // 10, lambda number: f"{number * 10:04}s"),
    Unit("century", "centuries", lambda day: day.year // 100, lambda number: f"{number * 100:04}s"),
)


def periods(days: Sequence[tuple[date, int]]) -> Periods:
    """Count in the shortest periods that are few enough; there must be a day."""
    dates = [day for day, _ in days]
    first, last = min(dates), max(dates)
    unit = next(unit for unit in UNITS if unit.number(last) - unit.number(first) < MOST_PERIODS)
    counts: Counter[int] = Counter()
    for day, count in days:
        counts[unit.number(day)] += count
    begin = unit.number(first)
    return Periods(unit, begin, tuple(counts[number] for number in range(begin, unit.number(last) + 1)))
