"""The generated parts, by name, and how they get into a text."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence

from readme.codes import exit_codes, findings
from readme.commands import commands
from readme.figures import bench, faults
from readme.hooks import hooks
from readme.metrics import metrics
from readme.settings import settings
from readme.story import demo

PARTS: dict[str, Callable[[], Iterable[str]]] = {
    "demo": demo,
    "commands": commands,
    "settings": settings,
    "hooks": hooks,
    "metrics": metrics,
    "exit codes": exit_codes,
    "finding codes": findings,
    "bench": bench,
    "faults": faults,
}
PART = re.compile(r"^<!-- generated: ([a-z ]+) -->\n.*?^<!-- end -->$", re.MULTILINE | re.DOTALL)


def generated(text: str) -> str:
    """Give a text with every generated part made anew. Raises KeyError for a part that nobody makes."""
    return PART.sub(lambda found: part(found[1]), text)


def part(name: str) -> str:
    """Give one part with its markers; one that has nothing to say is only markers."""
    lines = list(PARTS[name]())
    return "\n".join([f"<!-- generated: {name} -->", *(["", *lines, ""] if lines else []), "<!-- end -->"])


def names_in(text: str) -> Sequence[str]:
    """Give the names of the parts of a text, in order."""
    return [found[1] for found in PART.finditer(text)]
