"""How far a long step has come: what reports it knows nothing about who shows it."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager

Advance = Callable[[int], None]
"""Takes the number of bytes that are done by now."""

Progress = Callable[[str, int | None], AbstractContextManager[Advance]]
"""Begins a step of this name, with the number of bytes to expect if that is known."""


@contextlib.contextmanager
def unseen(_name: str, _total: int | None = None) -> Iterator[Advance]:
    """Report to nobody."""
    yield lambda _done: None
