"""HTML that no value can break out of: what is not markup already is escaped on its way in.

Characters that are not seen, or that change the order of others, are shown as their numbers: a page must look like
what it says. Text has an end, too.
"""

from __future__ import annotations

import html

from borg_vault_plugin.wording import visible

LONGEST_TEXT = 2_000
LONGEST_VALUE = 300
VOID_ELEMENTS = frozenset({"meta", "wbr"})


class Markup(str):
    """Text that is HTML already."""

    __slots__ = ()


def element(tag: str, *content: str, **attributes: str | float | None) -> Markup:
    """Make an element; plain text in it is escaped.

    An attribute's underscores stand for hyphens, one at its end keeps it apart from Python's words; None leaves it out.
    """
    written = "".join(
        f' {name.rstrip("_").replace("_", "-")}="{escaped(str(value))}"'
        for name, value in attributes.items()
        if value is not None
    )
    if tag in VOID_ELEMENTS:
        return Markup(f"<{tag}{written}>")
    return Markup(f"<{tag}{written}>{joined(*content)}</{tag}>")


def joined(*content: str) -> Markup:
    """Put pieces one after another; plain text among them is escaped."""
    return Markup("".join(map(escaped, content)))


def value(text: str, longest: int = LONGEST_VALUE) -> Markup:
    """Show something that somebody else wrote, apart from the text around it."""
    return element("bdi", cut(text, longest))


def code(text: str, longest: int = LONGEST_VALUE) -> Markup:
    """Show a name, a hash or the like, letter by letter; too long for a line, it is broken after underscores."""
    words = cut(text, longest).split("_")
    pieces = (joined(word, "_", element("wbr")) for word in words[:-1])
    return element("code", *pieces, words[-1])


def escaped(text: str) -> Markup:
    """Make text that means itself wherever it stands in HTML; markup stays what it is."""
    if isinstance(text, Markup):
        return text
    return Markup(html.escape(visible(cut(text, LONGEST_TEXT)), quote=True))


def cut(text: str, longest: int) -> str:
    """Shorten text that is too long, and say how long it was."""
    return text if len(text) <= longest else f"{text[:longest]}… ({len(text):,} characters)"
