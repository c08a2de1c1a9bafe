"""Seconds by phase of a run."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

PHASES = ("stage", "verify", "store", "prune")


@dataclass
class Stopwatch:
    """Counts the seconds of each phase, and of the whole run from when it was made."""

    started: float = field(default_factory=time.monotonic)
    seconds: dict[str, float] = field(default_factory=lambda: dict.fromkeys(PHASES, 0.0))

    @contextlib.contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Count what happens inside to one phase."""
        begun = time.monotonic()
        yield
        self.seconds[name] += seconds_since(begun)

    def total(self) -> dict[str, float]:
        """Give all phases and the whole."""
        return self.seconds | {"total": seconds_since(self.started)}


def seconds_since(begun: float) -> float:
    """Give the seconds since a reading of the monotonic clock, to the millisecond."""
    return round(time.monotonic() - begun, 3)
