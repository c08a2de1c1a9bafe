"""The charts of the pages: pure functions of what they show, without script, clock or chance.

Each gives a figure with a heading and an explanation, which is also the description for those who cannot see it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from itertools import groupby, pairwise

from borg_vault_plugin.chain.profile import KeyUse
from borg_vault_plugin.evidence.blocks import Column, details, table
from borg_vault_plugin.evidence.markup import Markup, joined
from borg_vault_plugin.evidence.periods import Periods, periods
from borg_vault_plugin.evidence.quantities import (
    duration,
    instant,
    measured,
    milliseconds_of,
    short_count,
    short_duration,
)
from borg_vault_plugin.evidence.scales import Axis, Span, count_axis, duration_axis, span
from borg_vault_plugin.evidence.shapes import (
    Verdict,
    arrow,
    drawing,
    figure,
    grid,
    label,
    legend,
    point,
    rect,
    segment,
    time_labels,
    vertical,
)
from borg_vault_plugin.wording import plural

BARS_TOP, BARS_BOTTOM, BARS_STEPS = 8, 188, 4
WIDEST_BAR = 12.0
MOST_KEYS, KEY_HEIGHT = 40, 44
MOST_PHASES, PHASE_HEIGHT = 40, 40
PANEL_TOP, PANEL_BOTTOM, PANEL_HEIGHT, PANEL_STEPS = 26, 116, 134, 2
LABELS_HEIGHT = 24


@dataclass(frozen=True, slots=True)
class Measurement:
    """How many seconds something took, if that is known, when, in what, and how that ended."""

    at: datetime
    seconds: float | None
    verdict: Verdict
    name: str


@dataclass(frozen=True, slots=True)
class Line:
    """Measurements of one thing, oldest first."""

    name: str
    measurements: tuple[Measurement, ...]


def bars(title: str, days: Sequence[tuple[date, int]], noun: str, nouns: str) -> Markup:
    """Draw how many there were each day; where the days are too many, each week, month or longer."""
    if not days:
        return figure(title, f"There is nothing to draw: no {noun} has a readable time.")
    shown = periods(days)
    unit, units = shown.unit.name, shown.unit.names
    empty = shown.counts.count(0)
    told = (
        f"{plural(sum(shown.counts), noun, nouns)} in {plural(len(shown.counts), unit, units)}"
        f"{f', {empty:,} of them without any' if empty else ''}. Each bar is one {unit}{shown.unit.named_by}, in UTC."
    )
    axis = count_axis(max(shown.counts), BARS_STEPS)
    lines = grid(axis, short_count, down=(BARS_TOP, BARS_BOTTOM))
    shapes = (*_gaps(shown), *lines, *_bars(shown, axis, noun, nouns), *_period_labels(shown))
    rows = [(shown.label(place), f"{count:,}") for place, count in enumerate(shown.counts) if count]
    columns = (Column(unit.capitalize()), Column(nouns.capitalize(), number=True))
    return figure(
        title,
        told,
        drawing(title, told, BARS_BOTTOM + LABELS_HEIGHT, *shapes),
        legend=legend(("gap", f"no {nouns}")) if empty else "",
        more=details("The numbers", table(f"{nouns.capitalize()} of each {unit} that has any", columns, rows)),
    )


def timing_bars(title: str, phases: Sequence[tuple[str, float]]) -> Markup:
    """Draw how long each phase took, one below the other."""
    known = [(name, seconds) for name, seconds in phases if measured(seconds) is not None]
    if not known:
        return figure(title, "No phase was measured.")
    longest = max(seconds for _, seconds in known) or 1
    whole = duration(sum(seconds for _, seconds in known))
    told = f"{plural(len(known), 'phase')}, {whole} in all.{_only(len(known), MOST_PHASES, 'first', 'phases')}"
    rows = [
        joined(
            label(0, y + 14, name, class_="name"),
            label(100, y + 14, duration(seconds), anchor="end"),
            rect("track", across=(0, 100), down=(y + 21, y + 30)),
            rect("bar", across=(0, 100 * (seconds / longest)), down=(y + 21, y + 30)),
        )
        for y, (name, seconds) in zip(range(0, MOST_PHASES * PHASE_HEIGHT, PHASE_HEIGHT), known, strict=False)
    ]
    return figure(title, told, drawing(title, told, PHASE_HEIGHT * len(rows), *rows), wide=True)


def key_timeline(title: str, keys: Sequence[KeyUse], *, until: int | None) -> Markup:
    """Draw a row for each key from its activation to its retirement, or to the end of what is known.

    Keys are sorted by activation; `until` is that end, in milliseconds since 1970, or earlier.
    """
    newest = keys[-MOST_KEYS:]
    known = [at for key in newest for at in (key.activated, key.retired, key.first, key.last) if at is not None]
    if not known:
        return figure(title, "There is nothing to draw: no key has a readable time.")
    time, height = span(known if until is None else (*known, until)), KEY_HEIGHT * len(newest)
    rotations = [key.activated for key in newest[1:] if key.activated is not None]
    order = f", the oldest first; {plural(len(rotations), 'rotation')}" if len(keys) > 1 else ""
    told = f"{plural(len(keys), 'key')}{order}.{_only(len(keys), MOST_KEYS, 'newest', 'keys')}"
    explained = [("window", "valid"), ("use", "from its first entry to its last"), ("rotation", "a new key takes over")]
    lines = (vertical("rotation", time.across(at), down=(0, height)) for at in rotations)
    rows = (_key_row(key, time, row * KEY_HEIGHT) for row, key in enumerate(newest))
    return figure(
        title,
        told,
        drawing(title, told, height + LABELS_HEIGHT, *lines, *rows, *time_labels(time, height + 16)),
        legend=legend(*(explained if rotations else explained[:-1])),
        wide=True,
    )


def line_chart(title: str, lines: Sequence[Line]) -> Markup:
    """Draw durations over time, a panel for each line: each on a scale of its own, all over the same dates."""
    instants = [milliseconds_of(one.at) for line in lines for one in line.measurements]
    if not instants:
        return figure(title, "There is nothing to draw yet.")
    time, bottom = span(instants), PANEL_HEIGHT * len(lines)
    most = max(len(line.measurements) for line in lines)
    told = f"{' and '.join(line.name for line in lines)}; {plural(most, 'measurement')}."
    panels = (_panel(line, time, row * PANEL_HEIGHT) for row, line in enumerate(lines))
    return figure(
        title,
        told,
        drawing(title, told, bottom + LABELS_HEIGHT, *panels, *time_labels(time, bottom + 6)),
        legend=legend(("passed", "passed"), ("failed", "failed"), ("not_checked", "not checked")),
    )


def _bars(shown: Periods, axis: Axis, noun: str, nouns: str) -> Iterator[Markup]:
    each = 100 / len(shown.counts)
    half = min(each * 0.8, WIDEST_BAR) / 2
    for place, count in enumerate(shown.counts):
        if count:
            middle, tall = (place + 0.5) * each, max(1.0, (BARS_BOTTOM - BARS_TOP) * axis.share(count))
            tip = f"{shown.label(place)}: {plural(count, noun, nouns)}"
            yield rect("bar", across=(middle - half, middle + half), down=(BARS_BOTTOM - tall, BARS_BOTTOM), tip=tip)


def _gaps(shown: Periods) -> Iterator[Markup]:
    """Mark the periods without anything, those that follow each other as one."""
    each = 100 / len(shown.counts)
    for empty, run in groupby(range(len(shown.counts)), key=lambda place: shown.counts[place] == 0):
        places = list(run)
        if empty:
            yield rect("gap", across=(places[0] * each, (places[-1] + 1) * each), down=(BARS_TOP, BARS_BOTTOM))


def _period_labels(shown: Periods) -> Iterator[Markup]:
    """Name all periods if they are few, else the first, the middle and the last one."""
    count, y = len(shown.counts), BARS_BOTTOM + 18
    if count <= 4:
        yield from (label((p + 0.5) * 100 / count, y, shown.label(p), anchor="middle") for p in range(count))
        return
    middle = (count - 1) // 2
    yield label(0, y, shown.label(0))
    yield label((middle + 0.5) * 100 / count, y, shown.label(middle), anchor="middle")
    yield label(100, y, shown.label(count - 1), anchor="end")


def _key_row(key: KeyUse, time: Span, y: int) -> Markup:
    begin = 0.0 if key.activated is None else time.across(key.activated)
    end = 100.0 if key.retired is None else time.across(key.retired)
    tip = f"activated: {instant(key.activated)}; retired: {'not' if key.retired is None else instant(key.retired)}"
    return joined(
        label(0, y + 14, key.key_id, class_="name mono"),
        label(100, y + 14, plural(key.entries, "entry", "entries"), anchor="end"),
        rect("track", across=(0, 100), down=(y + 25, y + 27)),
        rect("window", across=(begin, end), down=(y + 21, y + 31), tip=tip),
        _use(key, time, y),
        arrow(y + 26) if key.retired is None else vertical("end", end, down=(y + 18, y + 34)),
    )


def _use(key: KeyUse, time: Span, y: int) -> Markup:
    if key.first is None or key.last is None:
        return Markup("")
    return rect("use", across=(time.across(key.first), time.across(key.last)), down=(y + 24, y + 28))


def _panel(line: Line, time: Span, y: int) -> Markup:
    """Draw one line; a measurement without a number lies at the bottom, unless it passed, and ends the line."""
    top, bottom = y + PANEL_TOP, y + PANEL_BOTTOM
    axis = duration_axis(max((measured(one.seconds) or 0.0 for one in line.measurements), default=0.0), PANEL_STEPS)
    places = [
        (time.across(milliseconds_of(one.at)), bottom - (bottom - top) * axis.share(measured(one.seconds) or 0.0), one)
        for one in line.measurements
    ]
    segments = (
        segment("line", (x, up), (next_x, next_up))
        for (x, up, one), (next_x, next_up, following) in pairwise(places)
        if measured(one.seconds) is not None and measured(following.seconds) is not None
    )
    points = (
        point(one.verdict, x, up, f"{instant(one.at)}, {one.name}: {duration(one.seconds)}")
        for x, up, one in places
        if measured(one.seconds) is not None or one.verdict != "passed"
    )
    lines = grid(axis, short_duration, down=(top, bottom))
    return joined(label(0, y + 12, line.name, class_="name"), *lines, *segments, *points)


def _only(count: int, most: int, which: str, nouns: str) -> str:
    return f" Only the {most} {which} {nouns} are drawn." if count > most else ""
