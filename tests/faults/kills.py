"""Processes that are killed and connections that are cut."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fix_fault_proxy import CLIENT_PROGRAM, loopback_before
from fix_fault_run import Process, Run, eventually, processes_of, state_of

from faults.moments import Fault, Scene, Strike, backends, program_of


@contextmanager
def kill_us(_scene: Scene) -> Iterator[Strike]:
    """SIGKILL to the program."""

    def strike(run: Run) -> str | None:
        return "killed" if ended_by_us(run) else None

    yield strike


def ended_by_us(run: Run) -> bool:
    """Kill the program; False when it has ended by itself."""
    run.signal(signal.SIGKILL)
    return run.popen.wait() == -signal.SIGKILL


def kill_child(*programs: str) -> Fault:
    """SIGKILL to a child that runs one of these programs."""

    @contextmanager
    def fault(scene: Scene) -> Iterator[Strike]:
        def strike(run: Run) -> str | None:
            child = scene.child(run, *programs)
            if child is None or not killed(child.pid):
                return None
            words = [Path(word).name for word in child.words if not word.startswith("-")]
            return f"killed {' '.join(words[:4])}"[:60]

        yield strike

    return fault


def killed(pid: int) -> bool:
    """Kill a process; False when it has ended by itself. It must stand still first: one that is at its end cannot."""
    try:
        os.kill(pid, signal.SIGSTOP)
        eventually(lambda: state_of(pid) in "TXZ", "the process stands still, or has ended")
        stood = state_of(pid) == "T"
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return False
    return stood


def postmaster(scene: Scene, run: Run) -> int | None:
    """Give the process number of the server that a run works with: the drill has its own."""
    if scene.case.command != "drill":
        return scene.ground.cluster.pid
    found = (one for one in processes_of(run.marker) if is_server(one))
    return next((one.pid for one in found), None)


def is_server(process: Process) -> bool:
    """Whether a process is a PostgreSQL server."""
    return Path(program_of(process)).name == "postgres" and "-D" in process.words


@contextmanager
def kill_backend(scene: Scene) -> Iterator[Strike]:
    """SIGKILL to one of the processes in which the server works for the run; the server then ends all others."""

    def look(run: Run) -> tuple[int, str] | None:
        server = postmaster(scene, run)
        at_work = [] if server is None else list(backends(server))
        if scene.case.command != "drill":
            at_work = [one for one in at_work if f" {scene.site.vault.database}" in one[1]]
        return scene.dice.choice(at_work) if at_work else None

    def strike(run: Run) -> str | None:
        found = scene.soon(run, lambda: look(run))
        if found is None or run.popen.poll() is not None or not killed(found[0]):
            return None
        return f"killed {found[1]}"[:60]

    yield strike
    scene.ground.run_again()


@contextmanager
def kill_postmaster(scene: Scene) -> Iterator[Strike]:
    """SIGKILL to the server itself."""

    def strike(run: Run) -> str | None:
        server = scene.soon(run, lambda: postmaster(scene, run))
        if server is None or run.popen.poll() is not None or not killed(server):
            return None
        return "killed"

    yield strike
    scene.ground.run_again()


def cut(sign: bytes, least: int, most: int, *, asking: tuple[str, ...]) -> Fault:
    """Cut the connection after so many bytes of the answer to a query; in pg_restore where it is not asked."""

    @contextmanager
    def fault(scene: Scene) -> Iterator[Strike]:
        with loopback_before(scene.ground.cluster) as proxy:
            scene.url = proxy.url(scene.site.vault)
            exactly = scene.case.command in asking
            if exactly:
                after = scene.dice.randint(least, most)
                proxy.cut(sign, after=after)

            def strike(run: Run) -> str | None:
                if not exactly:
                    count = scene.soon(run, lambda: cut_some(run))
                    return f"cut {count} connections" if count else None
                found = scene.soon(run, lambda: proxy.reached.is_set() or None)
                scene.moment = f"{after:,} bytes into {sign.decode().strip()}"
                return "cut" if found else None

            def cut_some(run: Run) -> int | None:
                return (run.popen.poll() is None and proxy.cut_waiting(CLIENT_PROGRAM)) or None

            yield strike

    return fault
