"""Others that run at the same time, and a hook that never returns."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fix_fault_run import Run
from fix_plugin import HEADER

from borg_vault_plugin.errors import LockedError, SourceError
from faults.moments import Fault, Scene, Strike


def at_once(count: int) -> Fault:
    """Start the same command again and again while it runs."""

    @contextmanager
    def fault(scene: Scene) -> Iterator[Strike]:
        def strike(run: Run) -> str | None:
            for _ in range(count - 1):
                scene.begin()
            # One that was refused has met the others.
            return f"{count} at once" if run.popen.poll() in (None, LockedError.exit_code) else None

        yield strike

    return fault


HANGING = """
import time
from pathlib import Path

def hang(hook):
    if hook == {hook!r}:
        Path({begun!r}).touch()
        while Path({flag!r}).exists():
            time.sleep(0.05)

@hookimpl
def collect_artifacts(snapshot, staging):
    hang("collect_artifacts")
    with staging.write("badge.bin") as file:
        file.write(b"badge")
    return [file.artifact()]

@hookimpl
def verify_staging(staging):
    hang("verify_staging")
    return []

@hookimpl
def backup_finished(report):
    hang("backup_finished")
"""


# How a run must end, and what it must say: what only announces a backup does not make it fail.
HOOKS = {
    "collect_artifacts": (SourceError.exit_code, "hook badge did not finish"),
    "verify_staging": (SourceError.exit_code, "hook badge did not finish"),
    "backup_finished": (0, "plugin badge could not announce the backup"),
}


@contextmanager
def hanging_hook(scene: Scene) -> Iterator[Strike]:
    """Let a third party's hook never return; the configuration gives every hook six seconds."""
    hook = [*HOOKS][int(scene.case.place * (3 if scene.case.command == "create" else 2))]
    code, scene.says = HOOKS[hook]
    scene.codes = frozenset((code,))
    flag, begun = scene.site.place / "hang", scene.site.place / "hangs"
    flag.touch()
    install(scene.site.place / "site", HANGING.format(flag=str(flag), begun=str(begun), hook=hook))
    scene.site.configure(plugins='"badge"', timeout="6s")

    def strike(run: Run) -> str | None:
        scene.moment = f"in {hook}"
        return "hangs" if scene.soon(run, lambda: begun.exists() or None) else None

    yield strike
    flag.unlink()
    scene.site.configure()


def install(site: Path, source: str) -> None:
    """Install a plugin where runs of the schedule find it."""
    information = site / "badge_of_faults-1.0.dist-info"
    information.mkdir(parents=True)
    (site / "badge_of_faults.py").write_text(HEADER + source, "utf-8")
    (information / "METADATA").write_text("Metadata-Version: 2.1\nName: badge-of-faults\nVersion: 1.0\n", "utf-8")
    (information / "entry_points.txt").write_text("[borg_vault_plugin]\nbadge = badge_of_faults\n", "utf-8")
