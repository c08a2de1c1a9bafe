"""The shapes that charts are drawn of: across in percent of the width, down in pixels.

So a chart is as wide as its page, on a telephone and on paper, while its letters keep their size.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Literal

from borg_vault_plugin.evidence.markup import Markup, element, joined
from borg_vault_plugin.evidence.scales import Axis, Span
from borg_vault_plugin.wording import visible

Anchor = Literal["start", "middle", "end"]
Verdict = Literal["passed", "failed", "not_checked"]
LONGEST_LABEL = 34
THINNEST = 0.3


def figure(
    title: str, told: str, drawn: Markup | None = None, *, legend: str = "", more: str = "", wide: bool = False
) -> Markup:
    """Put a chart under its heading and explanation; without a drawing the explanation says why there is none.

    A wide one has no values in the left margin, and no margin.
    """
    caption = element("figcaption", element("h3", title), element("p", told), legend)
    plot = "" if drawn is None else element("div", drawn, class_="plot wide" if wide else "plot")
    return element("figure", caption, plot, more)


def drawing(title: str, description: str, height: int, *shapes: Markup) -> Markup:
    """Make a drawing that tells what it shows to those who cannot see it."""
    told = (element("title", title), element("desc", description))
    return element("svg", *told, *shapes, role="img", width="100%", height=height)


def rect(class_: str, *, across: tuple[float, float], down: tuple[float, float], tip: str | None = None) -> Markup:
    """Draw a rectangle between two places across and two down; however narrow, it can be seen."""
    (left, right), (top, bottom) = across, down
    width = max(right - left, THINNEST)
    told = () if tip is None else (element("title", tip),)
    return element(
        "rect",
        *told,
        class_=class_,
        x=percent(left),
        width=percent(width),
        y=f"{top:.1f}",
        height=f"{bottom - top:.1f}",
    )


def label(x: float, y: float, text: str, *, anchor: Anchor = "start", class_: str | None = None) -> Markup:
    """Write a line of text, cut to what fits in a chart."""
    seen = visible(text[:LONGEST_LABEL])
    shown = seen if len(seen) <= LONGEST_LABEL and len(text) <= LONGEST_LABEL else f"{seen[: LONGEST_LABEL - 1]}…"
    return element("text", shown, x=percent(x), y=f"{y:g}", text_anchor=anchor, class_=class_)


def vertical(class_: str, x: float, *, down: tuple[int, int]) -> Markup:
    """Draw a line from top to bottom."""
    return segment(class_, (x, down[0]), (x, down[1]))


def segment(class_: str, begin: tuple[float, float], end: tuple[float, float]) -> Markup:
    """Draw a line between two points."""
    (x1, y1), (x2, y2) = begin, end
    return element("line", x1=percent(x1), y1=f"{y1:.1f}", x2=percent(x2), y2=f"{y2:.1f}", class_=class_)


def arrow(y: int) -> Markup:
    """Draw at the right end that something goes on."""
    head = element("path", d="M-6 -5l7 5l-7 5z", class_="arrow")
    return element("svg", head, x="100%", y=y, overflow="visible")


def point(verdict: Verdict, x: float, y: float, tip: str) -> Markup:
    """Draw a measurement in the shape of its verdict."""
    return element("svg", _symbol(verdict, element("title", tip)), x=percent(x), y=f"{y:.1f}", overflow="visible")


def grid(axis: Axis, name: Callable[[float], str], *, down: tuple[int, int]) -> Iterator[Markup]:
    """Draw the lines of an axis between two places, and write their values in the left margin."""
    top, bottom = down
    for tick in axis.ticks:
        y = bottom - (bottom - top) * axis.share(tick)
        yield segment("grid" if tick else "axis", (0, y), (100, y))
        yield element("text", name(tick), x="0", dx="-8", y=f"{y + 4:.1f}", text_anchor="end")


def time_labels(time: Span, y: int) -> Iterator[Markup]:
    """Name the beginning, the middle and the end of a span."""
    anchors: tuple[Anchor, ...] = ("start", "middle", "end")
    for x, anchor, text in zip((0, 50, 100), anchors, time.labels(), strict=True):
        yield label(x, y, text, anchor=anchor)


def legend(*entries: tuple[str, str]) -> Markup:
    """Explain shapes: each is the class that it is drawn with, and what it means."""
    return element("ul", *(element("li", _swatch(class_), meaning) for class_, meaning in entries), class_="legend")


def percent(place: float) -> str:
    """Write a place across."""
    return f"{place:.3f}%"


def _symbol(verdict: Verdict, *tip: Markup) -> Markup:
    if verdict == "failed":
        return element("path", *tip, d="M-4 -4l8 8M4 -4l-8 8", class_="point failed")
    return element("circle", *tip, r=3.5, class_=f"point {verdict}")


def _swatch(class_: str) -> Markup:
    """Draw what a legend explains, in 20 by 12 pixels around their middle."""
    shapes: dict[str, Markup] = {
        "rotation": element("line", x1=0, y1=-6, x2=0, y2=6, class_=class_),
        "use": element("rect", x=-10, y=-2, width=20, height=4, class_=class_),
        "passed": _symbol("passed"),
        "failed": _symbol("failed"),
        "not_checked": _symbol("not_checked"),
    }
    shape = shapes.get(class_) or element("rect", x=-10, y=-5, width=20, height=10, class_=class_)
    return element("svg", joined(shape), viewBox="-10 -6 20 12", aria_hidden="true")
