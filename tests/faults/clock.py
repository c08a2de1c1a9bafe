"""A clock that jumps."""

from __future__ import annotations

import os
import shutil
import struct
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

from fix_fault_run import Run

from faults.moments import Scene, Strike, standing_still

SOURCE = Path(__file__).with_suffix(".c")
JUMPS = (-40 * 86400, -86400, -3600, -90, 90, 3600, 2 * 86400)


@contextmanager
def jumping_clock(scene: Scene) -> Iterator[Strike]:
    """Let the clock jump: that of the host (the program and all its children), of the source's server, or both.

    The clocks that only count (CLOCK_MONOTONIC) go on, as they do when a clock is set. Files keep their real times.
    """
    who = "host" if scene.case.command == "drill" else scene.dice.choice(("host", "server", "both"))
    jump = scene.dice.choice(JUMPS)
    clock = scene.site.place / "clock"
    clock.write_bytes(struct.pack("q", 0))
    variables = {"LD_PRELOAD": str(_compiled(scene.ground.place)), "SHIFTED_CLOCK": str(clock)}
    with ExitStack() as stack:
        if who != "server":
            scene.variables |= variables | {"PATH": f"{_clocked_children(scene, variables)}:{os.environ['PATH']}"}
        if who != "host":
            stack.enter_context(_clocked_server(scene, variables))

        def strike(run: Run) -> str | None:
            with standing_still(run) as still_runs, clock.open("r+b") as file:
                file.write(struct.pack("q", jump))
            return f"{who}: {jump:+,d} s" if still_runs else None

        yield strike
    scene.variables.clear()


def _compiled(place: Path) -> Path:
    """Compile what shifts the clock of a process that loads it."""
    library = place / "clock.so"
    if not library.exists():
        subprocess.run(["cc", "-shared", "-fPIC", "-O2", "-Wall", "-o", library, SOURCE, "-ldl"], check=True)
    return library


def _clocked_children(scene: Scene, variables: Mapping[str, str]) -> Path:
    """Make a setpriv through which every child of the program gets the same clock; it starts them all by that."""
    directory = scene.site.place / "clocked"
    directory.mkdir()
    words = " ".join(f"{name}='{value}'" for name, value in variables.items())
    script = directory / "setpriv"
    script.write_text(f'#!/bin/sh\nexport {words}\nexec {shutil.which("setpriv")} "$@"\n', "utf-8")
    script.chmod(0o755)
    return directory


@contextmanager
def _clocked_server(scene: Scene, variables: Mapping[str, str]) -> Iterator[None]:
    cluster = scene.ground.cluster
    usual = cluster.account
    words = ("env", *(f"{name}={value}" for name, value in variables.items()))
    cluster.stop()
    cluster.account = replace(usual, prefix=(*usual.prefix, *words))
    cluster.start()
    try:
        yield
    finally:
        cluster.stop()
        cluster.account = usual
        cluster.start()
