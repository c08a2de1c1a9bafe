"""Counts, instants and durations, as people read them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import pairwise

from borg_vault_plugin.chain.times import EPOCH, MILLISECOND

MINUTE, HOUR, DAY = 60, 3_600, 86_400
UNITS = ((DAY, "d"), (HOUR, "h"), (MINUTE, "min"), (1, "s"))
THOUSANDS = ((1_000_000_000, "G"), (1_000_000, "M"), (1_000, "k"))
UNKNOWN = "unknown"
# A thousand years: nothing that a computer measures takes longer.
LONGEST = 365_000 * DAY


def short_count(count: float) -> str:
    """Print a round count in the few letters that an axis has room for."""
    for size, letter in THOUSANDS:
        if count >= size:
            return f"{count / size:g}{letter}"
    return f"{count:g}"


def instant_of(milliseconds: int) -> datetime:
    """Give an instant that a dump states, in UTC."""
    return EPOCH + timedelta(milliseconds=milliseconds)


def milliseconds_of(at: datetime) -> int:
    """Give an instant in milliseconds since 1970."""
    return (at - EPOCH) // MILLISECOND


def instant(at: datetime | int | None) -> str:
    """Print an instant, aware or in milliseconds since 1970, to the second and in UTC."""
    if at is None:
        return UNKNOWN
    known = instant_of(at) if isinstance(at, int) else at.astimezone(UTC)
    return f"{known.isoformat(' ', 'seconds')[:19]} UTC"


def measured(seconds: float | None) -> float | None:
    """Give a duration; None for what is none."""
    return seconds if seconds is not None and 0 <= seconds <= LONGEST else None


def duration(seconds: float | None) -> str:
    """Print a duration in its two largest units, seconds with a fraction when they are few."""
    seconds = measured(seconds)
    if seconds is None:
        return UNKNOWN
    if seconds < MINUTE:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    (size, unit), (smaller, small_unit) = next(pair for pair in pairwise(UNITS) if seconds >= pair[0][0])
    # Rounded as a whole first, so that there never are 60 seconds beside the minutes.
    whole = round(seconds / smaller) * smaller
    rest = whole % size // smaller
    return f"{whole // size:,} {unit}" + (f" {rest} {small_unit}" if rest else "")


def short_duration(seconds: float) -> str:
    """Print a round duration in the few letters that an axis has room for."""
    size, unit = next((step for step in UNITS if seconds >= step[0]), UNITS[-1])
    return f"{seconds / size:g} {unit}"
