"""Repositories on another host: over ssh, with a key that may only append below one directory."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fix_cli import RunCli
from fix_repository import PlainRepository
from fix_shelf import Shelf, Sshd, WriteConfig
from fix_vault import Vault

pytest_plugins = ("fix_server", "fix_sets", "fix_sshd")


@pytest.fixture
def far(shelf: Shelf, sshd: Sshd) -> Callable[..., Shelf]:
    """Writer of a configuration whose `nas` is on another host."""

    def configure(text: str, lines: str = "append_only = true", **others: str) -> Shelf:
        place = sshd.served / "nas"
        if not place.exists():
            shutil.copytree(shelf["nas"].path, place)
        section = shelf.section("nas", lines).replace(str(shelf["nas"].path), sshd.url(place))
        shelf.configure(f"{text}\n{section}", **others)
        return shelf

    return configure


def there(shelf: Shelf, sshd: Sshd, tmp_path: Path) -> PlainRepository:
    """Give the repository as the other host has it."""
    return PlainRepository(sshd.served / "nas", tmp_path / "their-borg", shelf["nas"].passphrase)


def test_the_database_is_stored_listed_verified_and_never_pruned_over_ssh(
    server: Vault, far: Callable[..., Shelf], sshd: Sshd, run_cli: RunCli, tmp_path: Path
) -> None:
    shelf = far("[sets.database]\nkeep = 1\n")
    first = run_cli("create", "--json", exit_code=0).document
    with server.connect() as connection:
        server.sample.grow(connection, entries=5)
    second = run_cli("create", "--json", exit_code=0).document
    assert second["continuity"]["previous"] == first["archive"]
    assert second["pruned"] == [{"repository": "nas", "removed": [], "spared": [], "skipped": "append-only"}]
    names = [first["archive"], second["archive"]]
    listed: Any = run_cli("list", "--json", exit_code=0).document["archives"]
    assert [one["name"] for one in listed] == names
    verified = run_cli("verify", "latest", "--json", exit_code=0).document
    assert (verified["verdict"], verified["signatures_carried"]) == ("passed", 0)
    assert there(shelf, sshd, tmp_path).names() == names
    assert run_cli("check", "--json", exit_code=0).document["repositories"][0]["verdict"] == "passed"
    assert "Accepted publickey" in sshd.log.read_text("utf-8")


def test_one_near_and_one_far_get_the_same_bytes(
    far: Callable[..., Shelf], sshd: Sshd, tree: Path, tmp_path: Path
) -> None:
    shelf = far(f"[sets.provisioning]\npath = '{tree}'\n", second="")
    document = shelf.run("create", "--set", "provisioning", "--json", exit_code=0).document
    assert {one["status"] for one in document["repositories"]} == {"stored"}
    (one,), (other,) = there(shelf, sshd, tmp_path).archives(), shelf["second"].archives()
    assert (one["name"], one["comment"]) == (other["name"], other["comment"])


def test_an_append_only_server_keeps_what_a_prune_from_here_removes(
    far: Callable[..., Shelf], sshd: Sshd, tree: Path
) -> None:
    """Borg cannot tell, so the configuration must: without it archives seem to be removed, and are not gone."""
    shelf = far(f"[sets.provisioning]\npath = '{tree}'\n", lines="")
    for _ in range(2):
        shelf.run("create", "--set", "provisioning", "--no-prune", exit_code=0)
    segments = {path.name for path in (sshd.served / "nas" / "data").rglob("*") if path.is_file()}
    shelf.run("prune", "--set", "provisioning", "--keep", "1", exit_code=0)
    assert segments <= {path.name for path in (sshd.served / "nas" / "data").rglob("*") if path.is_file()}
    assert "transaction" in (sshd.served / "nas" / "transactions").read_text("utf-8")


def test_what_is_not_served_is_refused(shelf: Shelf, sshd: Sshd, tree: Path, write_config: WriteConfig) -> None:
    section = shelf.section("nas").replace(str(shelf["nas"].path), sshd.url(shelf["nas"].path))
    write_config(f"label = 'prod'\n[sets.provisioning]\npath = '{tree}'\n{section}")
    said = shelf.run("create", "--set", "provisioning", exit_code=5).stderr
    assert "`borg serve` there is restricted to other paths" in said
    assert shelf["nas"].names() == []


def test_a_repository_is_made_over_ssh(shelf: Shelf, sshd: Sshd, write_config: WriteConfig, tmp_path: Path) -> None:
    url = sshd.url(sshd.served / "new")
    write_config(f"label = 'prod'\n[repositories.new]\npath = '{url}'\npassphrase = {{ env = 'PASSPHRASE_OF_NAS' }}\n")
    shelf.run("init", "--key-out", tmp_path / "new.key", exit_code=0)
    made = PlainRepository(sshd.served / "new", tmp_path / "their-borg", shelf["nas"].passphrase)
    assert made.names() == []
    assert (tmp_path / "new.key").read_text("utf-8").startswith("BORG_KEY ")


def test_a_host_that_does_not_know_us_is_told(
    far: Callable[..., Shelf], sshd: Sshd, tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shelf = far(f"[sets.provisioning]\npath = '{tree}'\n", second="")
    monkeypatch.setenv("BORG_RSH", sshd.shell.replace("client", "host"))
    said = shelf.run("create", "--set", "provisioning", "--json", exit_code=5)
    second, nas = said.document["repositories"]
    assert "look at the network, at ssh, and for borg on that host" in nas["error"]
    assert second["status"] == "stored"
