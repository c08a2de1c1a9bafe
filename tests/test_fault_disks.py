"""Disks that are too small are refused with numbers; disks that fill up meanwhile end a run cleanly, with advice."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from fix_cli import RunCli
from fix_fault_disk import PAGE_BYTES, Disk, MountDisk
from fix_fault_run import only_line, segments, staged, whole_archives
from fix_plugin import InstallPlugin
from fix_repository import PlainRepository

pytest_plugins = ("fix_server", "fix_faults")

WriteConfig = Callable[[str], Path]
NUMBERS = re.compile(r"needs about [\d,]+ MB, but [\d,]+ MB are free: free [\d,]+ MB there, or choose another place")

# Fills a disk once, as another program might do at that moment.
FILLING = """
import os, shutil
from contextlib import suppress
from pathlib import Path

def fill(directory, but):
    filled = Path(__file__).with_suffix(".filled")
    if filled.exists():
        return
    filled.touch()
    with (Path(directory) / "filler").open("wb") as filler:
        while (room := (shutil.disk_usage(directory).free - but) // 4096 * 4096) > 0:
            with suppress(OSError):  # other hooks write, too
                os.posix_fallocate(filler.fileno(), filler.seek(0, 2), room)

@hookimpl
def collect_artifacts(snapshot, staging):
    {collecting}
    with staging.write("badge.bin") as file:
        file.write(os.urandom({size}))
    return [file.artifact()]

@hookimpl
def verify_staging(staging):
    {verifying}
    return []
"""


@pytest.fixture
def fill_while(install_plugin: InstallPlugin) -> Callable[..., None]:
    """Installer of a plugin that stages some bytes, and fills a disk either while hooks write or after that."""

    def install(directory: Path, *, collecting: bool = False, but: int = 0, size: int = 1000) -> None:
        filling = f"fill({str(directory)!r}, {but})"
        install_plugin(
            FILLING.format(
                collecting=filling if collecting else "pass", verifying="pass" if collecting else filling, size=size
            )
        )

    return install


@pytest.fixture
def moved(repository: PlainRepository) -> Callable[[Disk], PlainRepository]:
    """Mover of the repository to another disk."""

    def move(disk: Disk) -> PlainRepository:
        shutil.move(repository.path, disk.path / "repository")
        return PlainRepository(disk.path / "repository", repository.base)

    return move


@pytest.mark.usefixtures("server")
def test_too_small_a_disk_for_staging_is_refused_before_the_first_byte(
    repository: PlainRepository, mount_disk: MountDisk, write_config: WriteConfig, run_cli: RunCli
) -> None:
    disk = mount_disk("staging", size="2m")
    write_config(f'staging_directory = "{disk.path}"')
    before, free = segments(repository), disk.free
    said = run_cli("create", exit_code=7)
    assert f"staging in {disk.path}" in only_line(said)
    assert NUMBERS.search(said.stderr)
    assert "snapshot of" not in said.stdout
    assert (segments(repository), disk.free) == (before, free)


@pytest.mark.usefixtures("server")
def test_too_small_a_disk_for_the_repository_is_refused_before_the_first_byte(
    moved: Callable[[Disk], PlainRepository], mount_disk: MountDisk, run_cli: RunCli, monkeypatch: pytest.MonkeyPatch
) -> None:
    repository = moved(mount_disk("small", size="2m"))
    monkeypatch.setenv("BORG_REPO", str(repository.path))
    said = run_cli("create", exit_code=7)
    assert f"repository default in {repository.path}" in only_line(said)
    assert NUMBERS.search(said.stderr)
    assert "snapshot of" not in said.stdout


@pytest.mark.usefixtures("server")
@pytest.mark.parametrize("moment", ["while hooks write", "before the set is sealed"])
def test_a_staging_disk_that_fills_up_ends_the_run_and_says_what_to_do(
    moment: str,
    repository: PlainRepository,
    small_staging: Disk,
    fill_while: Callable[..., None],
    run_cli: RunCli,
) -> None:
    before = segments(repository)
    fill_while(small_staging.path, collecting=moment == "while hooks write")
    line = only_line(run_cli("create", exit_code=4))
    assert "No space left on device" in line
    assert re.search(r": free .*, or ", line)
    assert [path.name for path in small_staging.path.rglob("*") if not path.is_dir()] == ["filler"]
    assert segments(repository) == before


@pytest.mark.usefixtures("server")
def test_a_hook_that_fills_the_staging_disk_by_its_own_means_is_told_the_same(
    small_staging: Disk, install_plugin: InstallPlugin, run_cli: RunCli
) -> None:
    body = '    (staging.directory / "own.bin").write_bytes(bytes(32 << 20))\n    return []\n'
    install_plugin(f"@hookimpl\ndef collect_artifacts(snapshot, staging):\n{body}")
    line = only_line(run_cli("create", exit_code=4))
    assert "No space left on device" in line
    assert re.search(r": free .*, or ", line)
    assert [path for path in small_staging.path.rglob("*") if not path.is_dir()] == []


@pytest.fixture
def small_staging(mount_disk: MountDisk, write_config: WriteConfig) -> Disk:
    """A staging disk that has just the room that preflight asks for."""
    disk = mount_disk("staging", size="16m")
    write_config(f'plugins = ["badge"]\nstaging_directory = "{disk.path}"')
    return disk


@pytest.mark.usefixtures("server")
def test_a_repository_disk_that_fills_up_ends_the_run_and_the_next_one_goes_well(
    moved: Callable[[Disk], PlainRepository],
    full_repository_disk: Disk,
    run_cli: RunCli,
    state: Path,
    tmp_path: Path,
) -> None:
    repository = moved(full_repository_disk)
    line = only_line(run_cli("create", exit_code=5))
    assert "repository default" in line
    assert "free space on its disk" in line
    assert staged(state) == []
    full_repository_disk.make_room()
    assert repository.names() == []
    archive = run_cli("create", "--no-prune", "--json", exit_code=0).document["archive"]
    assert whole_archives(repository, tmp_path) == [archive]


@pytest.fixture
def full_repository_disk(
    mount_disk: MountDisk, fill_while: Callable[..., None], write_config: WriteConfig, monkeypatch: pytest.MonkeyPatch
) -> Disk:
    """A disk that has room when a run begins, and too little as soon as the set is staged."""
    disk = mount_disk("repositories", size="64m")
    fill_while(disk.path, but=1 << 20, size=4 << 20)
    write_config('plugins = ["badge"]')
    monkeypatch.setenv("BORG_REPO", str(disk.path / "repository"))
    return disk


@pytest.fixture
def state_disk(mount_disk: MountDisk, write_config: WriteConfig, tmp_path: Path) -> Disk:
    """A small disk for history and locks alone."""
    disk = mount_disk("state", size="1m")
    write_config(f'state_directory = "{disk.path}"\nstaging_directory = "{tmp_path / "staging"}"\n')
    return disk


@pytest.mark.usefixtures("server")
def test_a_full_state_directory_is_named_before_anything_is_staged(
    state_disk: Disk, run_cli: RunCli, tmp_path: Path
) -> None:
    state_disk.fill()
    line = only_line(run_cli("create", exit_code=3))
    assert str(state_disk.path) in line
    assert "No space left on device" in line
    assert not (tmp_path / "staging").exists()


@pytest.mark.usefixtures("server")
def test_without_a_written_intent_nothing_is_stored(
    filling_state_disk: Disk, repository: PlainRepository, run_cli: RunCli, tmp_path: Path
) -> None:
    before = segments(repository)
    line = only_line(run_cli("create", exit_code=3))
    assert f"history {filling_state_disk.path}/history.ndjson cannot be written: No space left on device" in line
    assert segments(repository) == before
    assert list((tmp_path / "staging").glob("*/*")) == []


@pytest.fixture
def filling_state_disk(state_disk: Disk, fill_while: Callable[..., None], write_config: WriteConfig) -> Disk:
    """A disk for history and locks that fills up while the set is staged."""
    fill_while(state_disk.path)
    staging = state_disk.path.with_name("staging")
    write_config(f'plugins = ["badge"]\nstate_directory = "{state_disk.path}"\nstaging_directory = "{staging}"\n')
    return state_disk


@pytest.mark.usefixtures("server")
def test_a_result_that_cannot_be_written_is_told_and_the_archive_is_whole(
    state_disk: Disk, repository: PlainRepository, run_cli: RunCli, tmp_path: Path
) -> None:
    first = run_cli("create", "--no-prune", "--json", exit_code=0).document["archive"]
    history = state_disk.path / "history.ndjson"
    leave_room_for_one_and_a_half(history)
    state_disk.fill()
    line = only_line(run_cli("create", "--no-prune", exit_code=3))
    assert f"history {history} cannot be written" in line
    state_disk.make_room()
    names = whole_archives(repository, tmp_path)
    assert (len(names), names[0]) == (2, first)


def leave_room_for_one_and_a_half(history: Path) -> None:
    """Fill a history's last page up, but for what one intent and half of a result take."""
    intended, created = history.read_bytes().splitlines(keepends=True)
    room = len(intended) + len(created) // 2
    size = history.stat().st_size
    with history.open("ab") as file:
        file.write(b"-" * ((-size - room - 1) % PAGE_BYTES) + b"\n")


@pytest.mark.usefixtures("server")
def test_a_disk_with_room_for_no_more_files_is_refused_before_the_first_byte(
    mount_disk: MountDisk, write_config: WriteConfig, run_cli: RunCli
) -> None:
    disk = mount_disk("staging", size="64m", files=2)
    write_config(f'staging_directory = "{disk.path}"')
    line = only_line(run_cli("create", exit_code=7))
    assert str(disk.path) in line
    assert "No space left on device" in line
