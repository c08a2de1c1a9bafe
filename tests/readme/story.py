"""The demo: a recording of it, what README shows of that, and how a run is compared with it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from readme.layout import WIDTH, block, wrapped

RECORDING = Path(__file__).with_name("demo.txt")
# What a reader of a minute needs; the rest is in the recording.
SHOWN = ("1. ", "5. ", "9. ", "10. ")
CHANGING = re.compile(r"/\S*/borg-vault-demo-\w+|[0-9a-f]{8,}(?:-[0-9a-f]{4,})*|\d[\d.,:TZ-]*")
UNITS = re.compile(r"# (?:bytes|[kMG]B|s|min|h)\b")


def demo() -> Iterator[str]:
    """Give the chapters of the recording that a minute has time for."""
    return block(_lines())


def shape(told: str) -> list[str]:
    """Give a run's lines without what changes from run to run: digests, times, sizes, counts, places, widths."""
    return [" ".join(UNITS.sub("#", CHANGING.sub("#", line)).split()) for line in told.splitlines()]


def _lines() -> Iterator[str]:
    chapters = RECORDING.read_text("utf-8").strip().split("\n\n")
    for number, chapter in enumerate(one for one in chapters if one.startswith(SHOWN)):
        yield from ([""] if number else [])
        for line in chapter.splitlines():
            margin = line[: len(line) - len(line.lstrip())]
            yield from [line] if len(line) <= WIDTH else wrapped(line.strip(), first=margin, following=f"{margin}    ")
