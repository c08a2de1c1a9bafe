"""A repository and a history that are no longer what was written."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from fix_fault_run import Run

from faults.kills import ended_by_us
from faults.moments import Fault, Scene, Strike, standing_still


def damaged(how: Callable[[Scene, Path], str]) -> Fault:
    """Damage one of the repository's segments."""

    @contextmanager
    def fault(scene: Scene) -> Iterator[Strike]:
        def strike(run: Run) -> str | None:
            with standing_still(run) as still_runs:
                if not still_runs:
                    return None
                files = sorted((scene.site.repository.path / "data").glob("*/*"), key=lambda path: int(path.name))
                chosen = scene.dice.choice([path for path in files if path.stat().st_size > 1000] or files)
                return f"segment {chosen.name} {how(scene, chosen)}"

        yield strike

    return fault


def truncated(scene: Scene, segment: Path) -> str:
    """Cut the end off."""
    size = scene.dice.randrange(segment.stat().st_size)
    os.truncate(segment, size)
    return f"cut to {size:,} bytes"


def flipped(scene: Scene, segment: Path) -> str:
    """Flip one bit."""
    place = scene.dice.randrange(segment.stat().st_size)
    with segment.open("r+b") as file:
        file.seek(place)
        byte = file.read(1)[0]
        file.seek(place)
        file.write(bytes([byte ^ 1 << scene.dice.randrange(8)]))
    return f"byte {place:,} flipped"


def missing(_scene: Scene, segment: Path) -> str:
    """Remove it."""
    segment.unlink()
    return "removed"


def lost_history(how: Callable[[bytes, bytes], bytes | None]) -> Fault:
    """Kill the program, and let its history be on disk what it was earlier, as after a crash of the machine."""

    @contextmanager
    def fault(scene: Scene) -> Iterator[Strike]:
        history = scene.site.history
        before = history.read_bytes()

        def strike(run: Run) -> str | None:
            scene.soon(run, lambda: True if history.read_bytes() != before else None)
            if not ended_by_us(run):
                return None
            there = history.read_bytes()
            kept = how(before, there)
            if kept is None:
                return None
            history.write_bytes(kept)
            return f"history: {len(there) - len(kept)} of its last bytes lost"

        yield strike

    return fault


def reverted(before: bytes, there: bytes) -> bytes | None:
    """Lose all that the run has written; None when that is nothing."""
    return before if there != before else None


def torn(before: bytes, there: bytes) -> bytes | None:
    """Lose half of the last line; None when the run has written none."""
    last = there.splitlines(keepends=True)[-1:]
    return there[: len(there) - len(last[0]) // 2] if there != before and last else None
