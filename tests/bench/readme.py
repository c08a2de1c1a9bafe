"""The numbers in a text, between two markers: `python -m bench.readme README.md` writes them anew from bench.json."""

from __future__ import annotations

import re
import sys
from pathlib import Path

from bench.results import Results, read
from bench.tables import summary

BEGIN, END = "<!-- numbers of make bench -->", "<!-- end of the numbers -->"
RESULTS = Path(__file__).parent / "results"


def with_numbers(text: str, results: Results) -> str:
    """Give a text with the short table between its markers. Raises ValueError when they are not there, once."""
    lines = "\n".join(["", *summary(results), ""])
    pattern = re.compile(f"(?<={re.escape(BEGIN)}\n).*(?={re.escape(END)})", re.DOTALL)
    replaced, count = pattern.subn(lambda _: f"{lines}\n", text)
    if count != 1:
        raise ValueError(f"the text needs a line {BEGIN} and, after it, a line {END}")
    return replaced


def numbers_in(text: str) -> str:
    """Give what stands between the markers of a text."""
    return text.partition(f"{BEGIN}\n")[2].partition(END)[0]


if __name__ == "__main__":
    path = Path(sys.argv[1])
    path.write_text(with_numbers(path.read_text("utf-8"), read(RESULTS / "bench.json")), "utf-8")
