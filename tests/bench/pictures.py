"""The two pictures, as SVG of fixed size that needs nothing: legible at 800 pixels, on light pages and on dark ones."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from statistics import median

from bench.contenders import FLOOR, OURS
from bench.figures import MEGABYTE, TIMES, added, contenders_in, middle, nights, ratio, seconds
from bench.results import Results
from borg_vault_plugin.evidence.markup import Markup, element, joined
from borg_vault_plugin.evidence.scales import Axis, count_axis

WIDTH, MARGIN = 800, 24
NAMES_AT, TIME_AT, ADDED_AT = 24, 212, 510
BAR_LENGTH, BAR_HEIGHT, ROW, TOP = 156, 20, 44, 134
PLOT_LEFT, PLOT_RIGHT, PLOT_TOP, PLOT_BOTTOM = 84, 520, 100, 404
KEPT = "The floor and borg-vault keep the chain besides the dump, the others the dump alone."
STEPS, LABEL_DISTANCE, TEN = 5, 22, 10
# Colours that are told apart without red and green, light and dark; the classes follow the order of the contenders.
STYLE = """
svg { font: 14px system-ui, "Segoe UI", "Liberation Sans", sans-serif; }
.page { fill: #ffffff; } text { fill: #1c2530; } .title { font-size: 18px; font-weight: 650; }
.muted { fill: #566270; font-size: 13px; } .grid { stroke: #dce1e7; } .axis { stroke: #566270; }
.ours { font-weight: 650; }
.c0 { --c: #b3541e; } .c1 { --c: #7b8794; } .c2 { --c: #8a6bb8; } .c3 { --c: #b0882a; } .c4 { --c: #1f6fb4; }
.bar { fill: var(--c); } .line { stroke: var(--c); stroke-width: 2.5; fill: none; stroke-linejoin: round; }
.dashed { stroke-dasharray: 6 4; } .dot, .swatch { fill: var(--c); }
@media (prefers-color-scheme: dark) {
  .page { fill: #13171c; } text { fill: #e4e9ee; } .muted { fill: #a0acb8; }
  .grid { stroke: #313a44; } .axis { stroke: #a0acb8; }
  .c0 { --c: #e58a55; } .c1 { --c: #9aa6b2; } .c2 { --c: #b79be0; } .c3 { --c: #d9b85f; } .c4 { --c: #63aceb; }
}
"""


@dataclass(frozen=True, slots=True)
class Curve:
    """What one contender keeps after each night, in megabytes."""

    name: str
    class_: str
    sizes: Sequence[float]
    dashed: bool = False


def cost_per_night(results: Results) -> str:
    """Draw what one following night takes: time, and bytes added."""
    names = contenders_in(results)
    bottom = TOP + ROW * len(names)
    told = f"A night of 1 % new entries on a vault of {results.vault['entries']:,}; {TIMES} is times the floor."
    return _svg(
        "What a night costs",
        told,
        bottom + MARGIN,
        _text(TIME_AT, TOP - 24, "time", "muted"),
        _text(ADDED_AT, TOP - 24, "added to what is kept", "muted"),
        *(
            _text(NAMES_AT, TOP + ROW * row + 15, name, "ours" if name == OURS else None)
            for row, name in enumerate(names)
        ),
        *_bars(results, names, TIME_AT, 1.0, "{:.1f} s"),
        *_bars(results, names, ADDED_AT, MEGABYTE, "{:.1f} MB"),
    )


def repository_size(results: Results) -> str:
    """Draw what is kept after each night, all contenders in one plot."""
    curves = _curves(results)
    axis = count_axis(max(1, *(round(size) for curve in curves for size in curve.sizes)), STEPS)
    told = "Everything is kept. MB after each night of 1 % new entries; dashed: spread over all records."
    return _svg(
        "What is kept after each night",
        told,
        PLOT_BOTTOM + 56,
        *_grid(axis),
        *_night_labels(results.nights + 1),
        *(shape for curve in curves for shape in _line(curve, axis)),
        *_names(curves, axis),
    )


def _bars(results: Results, names: list[str], left: int, unit: float, form: str) -> Iterator[Markup]:
    figure = seconds if unit == 1.0 else added
    values = {name: (middle(nights(results, "youngest", name), figure) or 0.0) / unit for name in names}
    longest = max(values.values()) or 1.0
    for row, name in enumerate(names):
        y = TOP + ROW * row
        length = max(1.0, BAR_LENGTH * values[name] / longest)
        times = ratio(values[name], values.get(FLOOR))
        beside = "" if times is None else f" · {times:.1f}{TIMES}" if times < TEN else f" · {times:.0f}{TIMES}"
        yield element("rect", x=left, y=y, width=f"{length:.1f}", height=BAR_HEIGHT, rx=2, class_=f"bar c{row % 5}")
        label = form.format(values[name]) + beside
        yield _text(left + length + 8, y + 15, label, "ours" if name == OURS else None)


def _curves(results: Results) -> list[Curve]:
    names = contenders_in(results)
    curves = [Curve(name, f"c{row % 5}", _sizes(results, "youngest", name)) for row, name in enumerate(names)]
    spread = _sizes(results, "everywhere", OURS)
    if spread:
        curves.append(Curve(f"{OURS}, spread", curves[-1].class_, spread, dashed=True))
    return [curve for curve in curves if curve.sizes]


def _sizes(results: Results, series: str, name: str) -> list[float]:
    """Give the median megabytes after each night."""
    kept = [*nights(results, series, name, first=True), *nights(results, series, name)]
    by_night: dict[int, list[int]] = {}
    for sample in kept:
        by_night.setdefault(sample.night, []).append(sample.stored_bytes or 0)
    return [median(sizes) / MEGABYTE for _, sizes in sorted(by_night.items())]


def _grid(axis: Axis) -> Iterator[Markup]:
    for tick in axis.ticks:
        y = _down(axis, tick)
        class_ = "grid" if tick else "axis"
        yield element("line", x1=PLOT_LEFT, x2=PLOT_RIGHT, y1=f"{y:.1f}", y2=f"{y:.1f}", class_=class_)
        yield _text(PLOT_LEFT - 10, y + 5, f"{tick:,.0f} MB" if tick else "0", "muted", "end")


def _night_labels(count: int) -> Iterator[Markup]:
    for night in range(count):
        name = "first night" if night == 0 else f"{night + 1}"
        yield _text(_across(night, count), PLOT_BOTTOM + 24, name, "muted", "middle")


def _line(curve: Curve, axis: Axis) -> Iterator[Markup]:
    count = len(curve.sizes)
    points = [(_across(night, count), _down(axis, size)) for night, size in enumerate(curve.sizes)]
    way = "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in points)
    yield element("path", d=way, class_=f"line {curve.class_}{' dashed' if curve.dashed else ''}")
    if not curve.dashed:
        yield from (
            element("circle", cx=f"{x:.1f}", cy=f"{y:.1f}", r=3.5, class_=f"dot {curve.class_}") for x, y in points
        )


def _names(curves: list[Curve], axis: Axis) -> Iterator[Markup]:
    """Name the curves at their ends, from the lowest upwards, moved apart where they end close together."""
    ordered = sorted(curves, key=lambda curve: curve.sizes[-1])
    for y, curve in zip(apart([_down(axis, one.sizes[-1]) for one in ordered]), ordered, strict=True):
        end = _down(axis, curve.sizes[-1])
        way = f"M{PLOT_RIGHT + 6} {end:.1f}L{PLOT_RIGHT + 20} {y:.1f}"
        yield element("path", d=way, class_=f"line {curve.class_}", style="stroke-width: 1")
        label = f"{curve.name} {curve.sizes[-1]:,.{int(curve.sizes[-1] < TEN)}f} MB"
        yield _text(PLOT_RIGHT + 24, y + 5, label, "ours" if curve.name == OURS else None)


def apart(places: Sequence[float]) -> list[float]:
    """Move places, which go upwards (to smaller numbers), apart as far as their labels need."""
    moved = [min(places[0], PLOT_BOTTOM)] if places else []
    for here in places[1:]:
        moved.append(min(here, moved[-1] - LABEL_DISTANCE))
    return moved


def _across(night: int, count: int) -> float:
    return PLOT_LEFT + 40 + (PLOT_RIGHT - PLOT_LEFT - 40) * night / max(1, count - 1)


def _down(axis: Axis, value: float) -> float:
    return PLOT_BOTTOM - (PLOT_BOTTOM - PLOT_TOP) * axis.share(value)


def _text(x: float, y: float, text: str, class_: str | None = None, anchor: str = "start") -> Markup:
    return element("text", text, x=f"{x:.1f}", y=f"{y:.1f}", class_=class_, text_anchor=anchor)


def _svg(title: str, told: str, height: int, *shapes: Markup) -> str:
    """Make a picture of its own: with a background, so that its letters never lie on somebody else's."""
    shown: Iterable[Markup] = (
        element("title", title),
        element("desc", f"{told} {KEPT}"),
        Markup(f"<style>{STYLE}</style>"),
        element("rect", width=WIDTH, height=height, rx=8, class_="page"),
        _text(MARGIN, 38, title, "title"),
        _text(MARGIN, 60, told, "muted"),
        _text(MARGIN, 78, KEPT, "muted"),
    )
    picture = element(
        "svg", joined(*shown, *shapes), xmlns="http://www.w3.org/2000/svg", viewBox=f"0 0 {WIDTH} {height}",
        width=WIDTH, height=height, role="img",
    )  # fmt: skip
    return f"{picture}\n"
