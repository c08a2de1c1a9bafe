"""How parts are laid out: tables for a forge, columns of a block for a terminal, too."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Iterator, Sequence

COLUMN, WIDTH = 40, 118


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    """Write a Markdown table."""
    yield f"| {' | '.join(head)} |"
    yield f"|{'|'.join(['---'] * len(head))}|"
    yield from (f"| {' | '.join(row)} |" for row in rows)


def folded(title: str, lines: Iterable[str]) -> Iterator[str]:
    """Write what a forge unfolds with a click."""
    yield from (f"<details><summary>{title}</summary>", "")
    yield from lines
    yield from ("", "</details>")


def block(lines: Iterable[str]) -> Iterator[str]:
    """Write a block as it stands."""
    yield "```text"
    yield from lines
    yield "```"


def wrapped(text: str, *, first: str = "", following: str = "") -> list[str]:
    """Break a text into lines with what stands before the first and before each that follows."""
    return textwrap.wrap(
        text, WIDTH, initial_indent=first, subsequent_indent=following, break_on_hyphens=False, break_long_words=False
    )


def entry(term: str, meaning: str) -> Iterator[str]:
    """Write a term and, in a column of its own, its meaning."""
    if len(term) >= COLUMN:
        yield term
        term = ""
    margin = " " * COLUMN
    yield from wrapped(meaning, first=f"{term:<{COLUMN}}", following=margin) or [term]
