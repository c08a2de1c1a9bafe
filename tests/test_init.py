"""`init`: an encrypted repository, and its key where the operator can carry it away."""

from __future__ import annotations

import json
import re
import stat
from collections.abc import Callable
from pathlib import Path

import pytest
from fix_cli import RunCli
from fix_repository import PASSPHRASE, PlainRepository

pytest_plugins = ("fix_server",)

WriteConfig = Callable[[str], Path]


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> PlainRepository:
    """A repository that does not exist yet, named by the environment."""
    monkeypatch.setenv("BORG_REPO", str(tmp_path / "new" / "repository"))
    monkeypatch.setenv("BORG_PASSPHRASE", PASSPHRASE)
    return PlainRepository(tmp_path / "new" / "repository", tmp_path / "plain-borg")


def mode_of(repository: PlainRepository) -> object:
    return json.loads(repository.borg("info", "--json"))["encryption"]["mode"]


def test_a_repository_is_encrypted_and_its_key_exported(place: PlainRepository, run_cli: RunCli) -> None:
    said = run_cli("init", exit_code=0).stdout
    assert mode_of(place) == "repokey"
    found = re.search(r"^  its key: (.*)$", said, re.MULTILINE)
    assert found is not None
    key = Path(found[1])
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    assert stat.S_IMODE(key.parent.stat().st_mode) == 0o700
    assert PASSPHRASE not in key.read_text("utf-8") + said


def test_the_exported_key_opens_a_repository_that_lost_its_own(
    place: PlainRepository, run_cli: RunCli, tmp_path: Path
) -> None:
    key = tmp_path / "escrow" / "repository.key"
    run_cli("init", "--key-out", key, exit_code=0)
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    place.add("before")
    config = place.path / "config"
    config.write_text(re.sub(r"(?m)^key = .*\n(\t.*\n)*", "key = \n", config.read_text("utf-8")), "utf-8")
    place.borg("list", exit_code=44)
    place.borg("key", "import", "::", key)
    assert place.names() == ["before"]


def test_a_key_file_mode_is_possible(
    place: PlainRepository, run_cli: RunCli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BORG_BASE_DIR", str(place.base))
    run_cli("init", "--encryption", "keyfile-blake2", "--key-out", tmp_path / "key", exit_code=0)
    assert mode_of(place) == "keyfile-blake2"


@pytest.mark.parametrize("mode", ["none", "authenticated", "authenticated-blake2", "rot13"])
def test_a_mode_that_does_not_encrypt_is_refused(mode: str, place: PlainRepository, run_cli: RunCli) -> None:
    said = run_cli("init", "--encryption", mode, exit_code=3).stderr
    assert f"'{mode}' is refused: choose one of repokey" in said
    assert not place.path.exists()


def test_a_repository_is_never_made_over_another(place: PlainRepository, run_cli: RunCli) -> None:
    run_cli("init", exit_code=0)
    place.add("precious")
    assert "already exists" in run_cli("init", exit_code=5).stderr
    assert place.names() == ["precious"]


def test_a_key_file_is_never_overwritten(place: PlainRepository, run_cli: RunCli, tmp_path: Path) -> None:
    (tmp_path / "key").write_text("another key", "utf-8")
    said = run_cli("init", "--key-out", tmp_path / "key", exit_code=3).stderr
    assert f"key file {tmp_path / 'key'} exists already" in said
    assert (tmp_path / "key").read_text("utf-8") == "another key"
    assert not place.path.exists()


def test_one_key_file_cannot_hold_two_keys(run_cli: RunCli, write_config: WriteConfig, tmp_path: Path) -> None:
    write_config(
        "".join(
            f"[repositories.{name}]\npath = '{tmp_path / name}'\npassphrase = {{ command = 'echo {name}' }}\n"
            for name in ("first", "second")
        )
    )
    said = run_cli("init", "--key-out", tmp_path / "key", exit_code=2).stderr
    assert "choose one with -r" in said
    run_cli("init", exit_code=0)
    for name in ("first", "second"):
        assert mode_of(PlainRepository(tmp_path / name, tmp_path / "plain-borg", name)) == "repokey"
