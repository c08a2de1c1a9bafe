"""Disks that fill up, and directories that are no longer what they were."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from fix_fault_disk import FILLER, Disk, mounted
from fix_fault_proxy import loopback_before
from fix_fault_run import Run

from faults.moments import Fault, NotHereError, Scene, Strike, standing_still


@contextmanager
def small_disk(path: Path, size: str) -> Iterator[Disk]:
    """Put a directory with what it holds on a small disk of its own."""
    aside = path.with_name(f"{path.name}.before")
    path.rename(aside)
    try:
        with mounted(path, size=size, files=4000) as disk:
            shutil.copytree(aside, path, dirs_exist_ok=True)
            shutil.rmtree(aside)
            yield disk
            shutil.copytree(path, aside)
        path.rmdir()
        aside.rename(path)
    except pytest.skip.Exception as refused:
        raise NotHereError(str(refused)) from refused


def full_disk(place: Callable[[Scene], Path], size: str) -> Fault:
    """Fill the disk that a directory is on; somebody makes room before the next run."""

    @contextmanager
    def fault(scene: Scene) -> Iterator[Strike]:
        with small_disk(place(scene), size) as disk:

            def strike(run: Run) -> str | None:
                with standing_still(run) as still_runs:
                    disk.fill()
                return "filled" if still_runs else None

            yield strike
            if (disk.path / FILLER).exists():
                disk.make_room()

    return fault


def staging_disk(scene: Scene) -> Path:
    """Give the directory below which the command stages."""
    return scene.site.stage.parent if scene.case.command == "stage" else scene.site.staging


@contextmanager
def permissions(scene: Scene) -> Iterator[Strike]:
    """Take the right to a directory away: by its mode or, for the drill, by making its disk read-only.

    Root would not notice a mode, so as root the program runs without that capability (CAP_DAC_OVERRIDE), and reaches
    the server over TCP: its socket is in a directory of another account. The drill needs it to clear away its server's
    files.
    """
    if scene.case.command == "drill":
        with _read_only(scene) as remount:
            yield remount
        return
    with loopback_before(scene.ground.cluster) as proxy:
        if os.geteuid() == 0:
            scene.before = ("setpriv", "--bounding-set=-dac_override,-dac_read_search")
            scene.url = proxy.url(scene.site.vault)
        with _taken_away(scene) as take_away:
            yield take_away


@contextmanager
def _taken_away(scene: Scene) -> Iterator[Strike]:
    changed: list[tuple[Path, int]] = []
    choice = scene.dice.choice(("state", "history", "staging", "repository", "data"))
    mode = scene.dice.choice((0, 0o500))

    def strike(run: Run) -> str | None:
        with standing_still(run) as still_runs:
            path = {
                "state": scene.site.state,
                "history": scene.site.history,
                "staging": newest_below(staging_disk(scene)),
                "repository": scene.site.repository.path,
                "data": newest_below(scene.site.repository.path / "data"),
            }[choice]
            changed.append((path, path.stat().st_mode))
            path.chmod(mode)
        return f"{choice}: mode {mode:04o}" if still_runs else None

    yield strike
    for path, before in changed:
        if path.exists():
            path.chmod(before)


def newest_below(directory: Path) -> Path:
    """Give the directory in which a run works: the deepest of the newest."""
    below = [path for path in directory.iterdir() if path.is_dir() and path.name != "set"] if directory.is_dir() else []
    return newest_below(max(below, key=lambda path: path.stat().st_mtime)) if below else directory


@contextmanager
def _read_only(scene: Scene) -> Iterator[Strike]:
    choice = scene.dice.choice((scene.site.state, scene.site.staging))
    with small_disk(choice, "512m"):

        def strike(run: Run) -> str | None:
            with standing_still(run) as still_runs:
                done = remounted(choice, "ro")
            return f"{choice.name}: read-only" if done and still_runs else None

        yield strike
        remounted(choice, "rw")


def remounted(path: Path, how: str) -> bool:
    """Let a mounted disk be written to, or not; the kernel refuses that while a file there is open for writing."""
    return not subprocess.run(
        ["mount", "-o", f"remount,{how}", path], stderr=subprocess.DEVNULL, check=False
    ).returncode


PRECIOUS = {"precious.txt": "somebody else's\n", "set/precious.txt": "somebody else's, too\n"}


@contextmanager
def linked_staging(scene: Scene) -> Iterator[Strike]:
    """Put a symbolic link in the place of the directory in which the run works, to one that is somebody else's."""
    elsewhere, aside = scene.site.place / "elsewhere", scene.site.place / "aside"
    for name, text in PRECIOUS.items():
        (elsewhere / name).parent.mkdir(parents=True, exist_ok=True)
        (elsewhere / name).write_text(text, "utf-8")
    links: list[Path] = []

    def strike(run: Run) -> str | None:
        path = scene.soon(run, chosen)
        if path is None:
            return None
        with standing_still(run) as still_runs:
            try:
                path.rename(aside)
            except FileNotFoundError:
                return None
            path.symlink_to(elsewhere)
            links.append(path)
        return f"{path.relative_to(scene.site.place)} leads elsewhere" if still_runs else None

    def chosen() -> Path | None:
        below = [path for path in staging_disk(scene).rglob("*") if path.is_dir() and ".borg-vault" not in path.name]
        found = [path for path in below if any(part.startswith(("run-", "bv-")) for part in path.parts[-2:])]
        return scene.dice.choice(sorted(found)) if found else None

    yield strike
    for path in links:
        if path.is_symlink():
            path.unlink()
    shutil.rmtree(aside, ignore_errors=True)
    there = {path.relative_to(elsewhere).as_posix(): path for path in elsewhere.rglob("*") if not path.is_dir()}
    assert there.keys() == PRECIOUS.keys(), f"behind the link there is now {sorted(there)}"
    for name, text in PRECIOUS.items():
        assert there[name].read_bytes() == text.encode(), f"{name} behind the link was touched"
