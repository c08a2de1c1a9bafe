"""What pages are built of: the verdict in word and symbol, facts, tables, lists."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from borg_vault_plugin.evidence.markup import Markup, element, joined
from borg_vault_plugin.report import CheckVerdict

WORDS: dict[CheckVerdict, str] = {
    "passed": "Passed",
    "failed": "Failed",
    "not_checked": "Not checked",
    "not_applicable": "Not applicable",
}
# Drawn, because not every machine has a font with these symbols.
SYMBOLS: dict[CheckVerdict, str] = {
    "passed": "M6 12.5l4 4 8-9",
    "failed": "M7 7l10 10M17 7L7 17",
    "not_checked": "M9 9.5a3 3 0 1 1 4.4 2.6c-.9.5-1.4 1-1.4 1.9v.4M12 17.5v.1",
    "not_applicable": "M7 12h10",
}


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a table: its heading, and whether it holds numbers."""

    heading: str
    number: bool = False


def heading(kind: str, title: str) -> Markup:
    """Begin a page."""
    return element("header", element("p", kind, class_="kicker"), element("h1", title))


def banner(verdict: CheckVerdict, word: str, *sentences: str) -> Markup:
    """Tell the verdict before anything else."""
    told = [element("p", sentence) for sentence in sentences]
    words = element("div", element("p", word, class_="word"), *told)
    return element("div", symbol(verdict), words, class_=f"banner {verdict}")


def mark(verdict: CheckVerdict, word: str | None = None) -> Markup:
    """Show a verdict in a line of text: its symbol, and its word or a better one."""
    return element("span", symbol(verdict), word or WORDS[verdict], class_=f"mark {verdict}")


def symbol(verdict: CheckVerdict) -> Markup:
    """Draw a verdict's symbol in a circle; the word always stands beside it."""
    circle = element("circle", cx=12, cy=12, r=10.5)
    drawn = element("path", d=SYMBOLS[verdict])
    return element("svg", circle, drawn, class_=f"icon mark {verdict}", viewBox="0 0 24 24", aria_hidden="true")


def section(title: str, *content: str) -> Markup:
    """Make a section with its heading."""
    return element("section", element("h2", title), *content)


def paragraph(*content: str) -> Markup:
    """Make a paragraph."""
    return element("p", *content)


def note(*content: str) -> Markup:
    """Make a paragraph in small print."""
    return element("p", *content, class_="note")


def bullets(items: Iterable[str]) -> Markup:
    """Make a list."""
    return element("ul", *(element("li", item) for item in items))


def points(items: Mapping[str, str]) -> Markup:
    """Make a list of points, each with what it is about in front."""
    return bullets(joined(element("strong", about), f": {told}") for about, told in items.items())


def facts(pairs: Iterable[tuple[str, str]]) -> Markup:
    """Make a list of names and what belongs to them."""
    told = (joined(element("dt", name), element("dd", content)) for name, content in pairs)
    return element("dl", *told, class_="facts")


def tiles(tiles: Iterable[tuple[str, str, str]]) -> Markup:
    """Make a row of the figures that matter most: name, figure, what it means."""
    shown = (
        element(
            "div", element("dt", name), element("dd", figure, class_="figure"), element("dd", meaning, class_="note")
        )
        for name, figure, meaning in tiles
    )
    return element("dl", *shown, class_="tiles")


def table(caption: str, header: Sequence[Column], rows: Iterable[Sequence[str]]) -> Markup:
    """Make a table whose first column names its rows; on narrow screens a row becomes a block."""
    head = (element("th", column.heading, scope="col", class_=_class(column)) for column in header)
    body = (element("tr", *_cells(header, row)) for row in rows)
    content = element(
        "table",
        element("caption", caption),
        element("thead", element("tr", *head)),
        element("tbody", *body),
        class_="stacked",
    )
    return element("div", content, class_="table")


def columns(*parts: tuple[str, Markup]) -> Markup:
    """Put parts with a heading each beside each other, or below where there is no room."""
    shown = (element("div", element("h3", title), content) for title, content in parts)
    return element("div", *shown, class_="columns")


def details(summary: str, *content: str) -> Markup:
    """Make a part that is folded away until it is asked for."""
    return element("details", element("summary", summary), *content)


def _cells(header: Sequence[Column], row: Sequence[str]) -> Iterable[Markup]:
    first, *others = zip(header, row, strict=True)
    yield element("th", first[1], scope="row", class_=_class(first[0]))
    for column, content in others:
        yield element("td", content, data_label=column.heading, class_=_class(column))


def _class(column: Column) -> str | None:
    return "number" if column.number else None
