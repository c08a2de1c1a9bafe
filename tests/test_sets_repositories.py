"""Several repositories: the same bytes into each, and whatever ails one of them never stops the others."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from fix_cli import RunCli
from fix_fault_disk import MountDisk
from fix_repository import PlainRepository
from fix_shelf import Shelf

from borg_vault_plugin.borg import find_borg

pytest_plugins = ("fix_server", "fix_sets", "fix_faults")

CREATE = ("create", "--set", "provisioning")
QUICK = "lock_wait = '1s'"
# Nobody listens there.
UNREACHABLE = "[repositories.far]\npath = 'ssh://backup@127.0.0.1:1/./vault'\npassphrase = { env = 'HOME' }\n"


@pytest.fixture
def hold() -> Iterator[Callable[[PlainRepository], None]]:
    """Holder of repositories' locks, as a Borg that takes long would."""
    running: list[subprocess.Popen[bytes]] = []

    def start(repository: PlainRepository) -> None:
        command = [str(find_borg().program), "with-lock", str(repository.path), "sleep", "600"]
        running.append(subprocess.Popen(command, env=dict(repository.environment()), start_new_session=True))
        deadline = time.monotonic() + 30
        while not (repository.path / "lock.exclusive").exists():
            assert time.monotonic() < deadline
            time.sleep(0.05)

    yield start
    for process in running:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def outcomes(document: Any) -> dict[str, str]:
    """Give what became of the set in each repository."""
    return {one["repository"]: one["status"] for one in document["repositories"]}


def errors(document: Any) -> dict[str, str]:
    return {one["repository"]: one["error"] for one in document["repositories"] if one["error"]}


@pytest.fixture
def bad_night(
    shelf: Shelf, tree: Path, hold: Callable[[PlainRepository], None], mount_disk: MountDisk
) -> Callable[..., None]:
    """Maker of a night in which one repository is full, the next one locked and another one far away."""

    def make(**good: str) -> None:
        disk = mount_disk("disk", size="8m")
        shutil.copytree(shelf["second"].path, disk.path / "second")
        disk.fill(but=1 << 20)
        full = shelf.section("second").replace(str(shelf["second"].path), str(disk.path / "second"))
        hold(shelf["third"])
        sections = full + shelf.section("third", QUICK) + UNREACHABLE
        shelf.configure(f"[sets.provisioning]\npath = '{tree}'\n{sections}", **good)

    return make


def test_a_full_a_locked_and_a_far_repository_do_not_stop_a_good_one(
    shelf: Shelf, bad_night: Callable[..., None]
) -> None:
    bad_night(nas="")
    said = shelf.run(*CREATE, "--json", exit_code=5)
    document = said.document
    assert outcomes(document) == {"second": "failed", "third": "failed", "far": "failed", "nas": "stored"}
    told = errors(document)
    assert "repository second" in told["second"]
    assert "are free" in told["second"]
    assert "another Borg holds its lock" in told["third"]
    assert "look at the network" in told["far"]
    for error in told.values():
        assert error in said.stderr
    assert shelf["nas"].names() == [document["archive"]]
    assert [one["repository"] for one in document["pruned"]] == ["nas"]
    again = shelf.run(*CREATE, "--dry-run", exit_code=5).stdout
    assert "nas: would store" in again
    assert "third: FAILED: repository third" in again


def test_when_all_fail_all_are_told(shelf: Shelf, bad_night: Callable[..., None]) -> None:
    bad_night()
    said = shelf.run(*CREATE, "--json", exit_code=7)  # what ails the first
    for words in ("are free", "another Borg holds its lock", "look at the network"):
        assert words in said.document["error"]
        assert words in said.stderr
    assert said.document["exit_code"] == 7


def test_a_disk_that_fills_up_while_it_stores_leaves_the_others_alone(
    shelf: Shelf, tree: Path, mount_disk: MountDisk, tmp_path: Path
) -> None:
    disk = mount_disk("disk", size="16m")
    shelf["second"].add_at("2026-05-01T01:00:00", "prod-provisioning-2026-05-01T01:00:00Z", comment="verdict=good")
    shutil.copytree(shelf["second"].path, disk.path / "second")
    full = shelf.section("second").replace(str(shelf["second"].path), str(disk.path / "second"))
    (tree / "large").write_bytes(hashlib.shake_256(b"7").digest(4 << 20))
    shelf.configure(f"[sets.provisioning]\npath = '{tree}'\n{full}", nas="", third="")
    disk.fill(but=2 << 20)
    document = shelf.run(*CREATE, "--keep", "1", "--json", exit_code=5).document
    assert outcomes(document) == {"second": "failed", "nas": "stored", "third": "stored"}
    assert "free space on its disk" in errors(document)["second"]
    assert [one["repository"] for one in document["pruned"]] == ["nas", "third"]
    small = PlainRepository(disk.path / "second", tmp_path / "another-borg", shelf["second"].passphrase)
    assert small.names() == ["prod-provisioning-2026-05-01T01:00:00Z"]


def test_each_repository_has_a_compression_and_a_rule_of_its_own(provisioned: Shelf, tree: Path) -> None:
    for name in ("nas", "second"):
        for day in range(1, 5):
            time_of = f"2026-05-0{day}T01:00:00"
            provisioned[name].add_at(time_of, f"prod-provisioning-{time_of}Z", comment="verdict=good")
    provisioned.configure(
        f"[sets.provisioning]\npath = '{tree}'\nkeep = 4",
        nas="compression = 'lz4'",
        second="compression = 'zlib,9'\nkeep = 2",
    )
    document = provisioned.run(*CREATE, "--json", exit_code=0).document
    assert [len(one["removed"]) for one in document["pruned"]] == [1, 3]
    for name, compression in (("nas", "lz4"), ("second", "zlib,9")):
        information = json.loads(provisioned[name].borg("info", "--json", f"::{document['archive']}"))
        assert f"--compression={compression}" in information["archives"][0]["command_line"]
    told = provisioned.run("prune", "--set", "provisioning", "--keep", "1", "-n", "--json", exit_code=0).document
    assert [len(one["removed"]) for one in told["pruned"]] == [3, 1]


def test_nothing_is_pruned_in_an_append_only_repository_and_that_is_told(provisioned: Shelf, tree: Path) -> None:
    provisioned.configure(f"[sets.provisioning]\npath = '{tree}'\nkeep = 1", nas="", second="append_only = true")
    for name in ("nas", "second"):
        provisioned[name].add_at(
            "2026-05-01T01:00:00", "prod-provisioning-2026-05-01T01:00:00Z", comment="verdict=good"
        )
    document = provisioned.run(*CREATE, "--json", exit_code=0).document
    nas, second = document["pruned"]
    assert len(nas["removed"]) == 1
    assert second == {"repository": "second", "removed": [], "spared": [], "skipped": "append-only"}
    assert len(provisioned["second"].names()) == 2
    said = provisioned.run("prune", "--set", "provisioning", exit_code=0).stdout
    assert "second: nothing is pruned: append-only" in said
    assert "repository second is append-only: nothing is pruned there" in said
    assert len(provisioned["second"].names()) == 2


@pytest.mark.usefixtures("server")
def test_the_database_goes_on_as_well(shelf: Shelf, run_cli: RunCli, bad_night: Callable[..., None]) -> None:
    bad_night(nas="", escrow="")
    document = run_cli("create", "--json", exit_code=5).document
    assert document["verdict"] == "good"
    assert outcomes(document) == {
        "second": "failed", "third": "failed", "far": "failed", "nas": "stored", "escrow": "stored",
    }  # fmt: skip
    comments = [shelf[name].archives()[0]["comment"] for name in ("nas", "escrow")]
    assert comments[0] == comments[1]


def test_a_passphrase_that_cannot_be_had_fails_one_repository(provisioned: Shelf, tree: Path) -> None:
    second = f"[repositories.second]\npath = '{provisioned['second'].path}'\npassphrase = {{ command = 'false' }}\n"
    provisioned.configure(f"[sets.provisioning]\npath = '{tree}'\n{second}", nas="")
    document = json.loads(provisioned.run(*CREATE, "--no-prune", "--json", exit_code=5).stdout)
    assert outcomes(document) == {"nas": "stored", "second": "failed"}
    assert "passphrase of repository second" in errors(document)["second"]
