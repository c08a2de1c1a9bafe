"""Staging that changes behind our back: what was verified and sealed is what is stored, or nothing is called good.

Only our own user can write there, so it is a hook that is not done when it says so.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from fix_cli import RunCli
from fix_plugin import InstallPlugin
from fix_repository import PlainRepository
from fix_vault import Vault

pytest_plugins = ("fix_server",)

CONFIG = 'label = "prod"\nplugins = ["badge"]\n'
# What becomes of a file of eight bytes; its size stays the same, and where that can be, its times.
CHANGES = {
    "other content": "badge.write_text('changed!')",
    "other content, older times": "badge.write_text('changed!'); os.utime(badge, ns=(0, was.st_mtime_ns))",
    "another file": "other.write_text('changed!'); os.replace(other, badge)",
    "a link": "other.write_text('changed!'); badge.unlink(); badge.symlink_to(other)",
    "nothing": "badge.unlink()",
}
HOOKS = """
import os, threading, time
@hookimpl
def collect_artifacts(snapshot, staging):
    with staging.write("badge.txt") as file:
        file.write(b"original")
    {late}
    return [file.artifact()]

def change(directory):
    badge, other = directory / "badge.txt", directory.parent / "other"
    was = badge.stat()
    {change}

def once_sealed(directory):
    while not (directory / "SHA256SUMS").exists():
        time.sleep(0.0005)
    time.sleep(0.1)  # Borg takes longer to start
    change(directory)
"""
WHILE_VERIFIED = """
@hookimpl
def verify_staging(staging):
    change(staging.directory)
"""


def hooks(change: str, *, late: bool) -> str:
    start = "threading.Thread(target=once_sealed, args=[staging.directory], daemon=True).start()" if late else "pass"
    return HOOKS.format(change=CHANGES[change], late=start) + ("" if late else WHILE_VERIFIED)


@pytest.fixture
def meddle(
    server: Vault, run_cli: RunCli, install_plugin: InstallPlugin, write_config: Callable[[str], Path]
) -> Callable[..., str]:
    """Backs up with a hook that changes its file late, and gives what was complained about."""
    assert server.database

    def run(change: str, *, late: bool, exit_code: int) -> str:
        install_plugin(hooks(change, late=late))
        write_config(CONFIG)
        return run_cli("create", exit_code=exit_code).stderr

    return run


@pytest.mark.parametrize("change", ["other content, older times", "another file", "a link"])
def test_what_changes_between_sealing_and_storing_gets_no_name(
    change: str, repository: PlainRepository, meddle: Callable[..., str]
) -> None:
    said = meddle(change, late=True, exit_code=5)
    assert "badge.txt changed in staging while" in said
    assert all(name.endswith(".partial") for name in repository.names())


@pytest.mark.parametrize("change", CHANGES)
def test_what_changes_while_it_is_verified_ends_the_run(
    change: str, repository: PlainRepository, meddle: Callable[..., str]
) -> None:
    assert "badge.txt" in meddle(change, late=False, exit_code=4)
    assert repository.names() == []


LINKED = """
@hookimpl
def collect_artifacts(snapshot, staging):
    place = {place}
    place.rename(place.with_name("aside"))
    place.symlink_to({elsewhere!r})
    with staging.write("more/badge.txt") as file:
        file.write(b"original")
    return [file.artifact()]
"""


@pytest.mark.usefixtures("server")
@pytest.mark.parametrize("place", ["staging.directory", "staging.directory.parent", "staging.directory / 'more'"])
def test_nothing_is_written_through_a_link_in_the_place_of_staging(
    place: str,
    repository: PlainRepository,
    run_cli: RunCli,
    install_plugin: InstallPlugin,
    write_config: Callable[[str], Path],
) -> None:
    elsewhere = repository.path.parent / "elsewhere"
    (elsewhere / "set").mkdir(parents=True)
    make = "" if "more" not in place else "    (staging.directory / 'more').mkdir()\n"
    install_plugin(LINKED.replace("    place =", f"{make}    place =").format(place=place, elsewhere=str(elsewhere)))
    write_config(CONFIG)
    said = run_cli("create", exit_code=4).stderr
    assert "Not a directory: look who changed it, and run again" in said
    assert [path for path in elsewhere.rglob("*") if not path.is_dir()] == []
    assert repository.names() == []
