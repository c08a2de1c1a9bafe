"""How counts are put into words, and how what somebody else wrote is shown, everywhere alike."""

from __future__ import annotations

import unicodedata

# More marks on one letter than any language needs would be painted over the lines above and below.
MOST_MARKS = 4


def plural(count: int, noun: str, nouns: str | None = None) -> str:
    """Print a count with its noun."""
    return f"{count:,} {noun if count == 1 else nouns or noun + 's'}"


def visible(text: str) -> str:
    """Replace what cannot be seen, or moves what can, by its number in Unicode, as in ⟨U+202E⟩.

    Whatever the text holds then is one line, and no terminal obeys it.
    """
    if text.isascii() and text.isprintable():
        return text
    marks, shown = 0, []
    for letter in text:
        marks = marks + 1 if unicodedata.category(letter) in ("Mn", "Me") else 0
        plain = letter.isprintable() and marks <= MOST_MARKS
        shown.append(letter if plain else f"⟨U+{ord(letter):04X}⟩")
    return "".join(shown)
