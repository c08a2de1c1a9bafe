"""The set `keys`: files, a command's output, or a command that attests that the keys are where they should be."""

from __future__ import annotations

import os
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from fix_cli import Said
from fix_shelf import Shelf, archived, files_in, written_below

pytest_plugins = ("fix_server", "fix_sets")

CREATE = ("create", "--set", "keys")
SEALED = {"manifest.json", "SHA256SUMS", "RESTORE.txt"}
PEM = Ed25519PrivateKey.from_private_bytes(bytes(range(32))).private_bytes(
    Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()
)
SECRET = "5f2c9b7e41d0a836"

Configure = Callable[[str], Shelf]
Script = Callable[[str], Path]


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    """A Server's directory with keys, and its .env."""
    directory = tmp_path / "server"
    (directory / "keys" / "old").mkdir(parents=True)
    (directory / "keys" / "customer.pem").write_bytes(PEM)
    (directory / "keys" / "old" / ".aes").write_bytes(bytes(range(32)))
    (directory / ".env").write_text(f"VAULT_SIGNING_KEY={SECRET}\n", "utf-8")
    return directory


@pytest.fixture
def configure(shelf: Shelf) -> Configure:
    """Writer of a configuration in which the keys go to `escrow` and the database does not."""

    def write(lines: str) -> Shelf:
        database = "[sets.database]\nrepositories = ['nas']"
        shelf.configure(f"{database}\n[sets.keys]\nrepositories = ['escrow']\n{lines}", nas="", escrow="")
        return shelf

    return write


@pytest.fixture
def script(tmp_path: Path) -> Script:
    """Maker of commands."""

    def make(text: str) -> Path:
        path = tmp_path / "command"
        path.write_text(f"#!/bin/sh\n{text}\n", "utf-8")
        path.chmod(0o700)
        return path

    return make


def stored_in(shelf: Shelf, directory: Path) -> dict[str, bytes]:
    """Give the files in the one archive of keys."""
    (name,) = shelf["escrow"].names()
    found = archived(shelf["escrow"], name, directory)
    return {path: data for path, data in found.items() if path not in SEALED}


def test_files_and_directories_are_stored(configure: Configure, keys: Path, tmp_path: Path) -> None:
    shelf = configure(f"paths = ['{keys}/keys/', '{keys}/.env']")
    document = shelf.run(*CREATE, "--json", exit_code=0).document
    assert (document["set"], document["verdict"], document["revision"]) == ("keys", "good", None)
    assert document["archive"].startswith("prod-keys-20")
    assert {one["producer"] for one in document["artifacts"]} == {"key-files"}
    (archive,) = shelf["escrow"].archives()
    assert archive["comment"].endswith(" set=keys")
    assert stored_in(shelf, tmp_path / "extracted") == {f"keys/{path}": data for path, data in files_in(keys).items()}


def test_the_keys_are_told_to_nobody(configure: Configure, keys: Path) -> None:
    shelf = configure(f"paths = ['{keys}']\ncommand = 'cat {keys}/.env'")
    said = shelf.run("-v", *CREATE, exit_code=0)
    (keys / "wrong").symlink_to("/etc/passwd")
    failed = shelf.run("-v", *CREATE, exit_code=4)
    told = said.stdout + failed.stdout + failed.stderr + written_below(shelf.state)
    assert "PRIVATE KEY" not in told
    assert SECRET not in told
    assert "keys/server/keys/customer.pem" in told
    assert list((shelf.state / "staging" / "prod-keys").iterdir()) == []


def test_paths_that_end_alike_do_not_stand_in_each_others_way(configure: Configure, keys: Path, tmp_path: Path) -> None:
    (tmp_path / "worker").mkdir()
    (tmp_path / "worker" / ".env").write_text("other=1\n", "utf-8")
    shelf = configure(f"paths = ['{keys}/.env', '{tmp_path}/worker/.env', '{keys}/keys/customer.pem']")
    shelf.run(*CREATE, exit_code=0)
    assert stored_in(shelf, tmp_path / "extracted") == {
        f"keys{keys}/.env": (keys / ".env").read_bytes(),
        f"keys{tmp_path}/worker/.env": b"other=1\n",
        "keys/customer.pem": PEM,
    }


def test_a_commands_output_is_stored(configure: Configure, script: Script, tmp_path: Path) -> None:
    shelf = configure(f"command = '{script('printf %s $1; env >&2')} -n'")
    said = shelf.run(*CREATE, exit_code=0)
    assert said.stderr == ""
    assert stored_in(shelf, tmp_path / "extracted") == {"keys/command-output": b"-n"}


FAILING = {
    "it fails": ("echo half of it; exit 3", "failed with exit code 3"),
    "it is killed": ("kill -9 $$", "failed with ended by SIGKILL"),
    "it prints nothing": ("exit 0", "prints nothing"),
    "it prints an empty line": ("echo", "prints nothing"),
}


@pytest.mark.parametrize("wrong", FAILING)
def test_a_command_that_gives_no_keys_ends_the_run(wrong: str, configure: Configure, script: Script) -> None:
    text, words = FAILING[wrong]
    shelf = configure(f"command = '{script(text)}'")
    said = shelf.run(*CREATE, exit_code=4).stderr
    assert len(said.splitlines()) == 1
    assert "the command of the keys" in said
    assert words in said
    assert shelf["escrow"].names() == []


def test_a_command_that_is_not_there_is_named(configure: Configure, tmp_path: Path) -> None:
    shelf = configure(f"command = '{tmp_path}/no-such-command'")
    assert f"{tmp_path}/no-such-command" in shelf.run(*CREATE, exit_code=4).stderr


def test_commands_see_none_of_our_secrets(
    configure: Configure, script: Script, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BORG_PASSPHRASE", SECRET)
    monkeypatch.setenv("DATABASE_URL", f"postgresql://x:{SECRET}@db.example/app")
    shelf = configure(f"command = '{script('env; ls -l /proc/self/fd')}'")
    shelf.run(*CREATE, exit_code=0)
    (output,) = stored_in(shelf, tmp_path / "extracted").values()
    assert b"PATH=" in output
    assert SECRET.encode() not in output
    assert b"open escrow" not in output


@pytest.mark.parametrize("wrong", ["a missing file", "a missing directory", "a pipe", "a link that leads out"])
def test_keys_that_cannot_be_read_end_the_run(wrong: str, configure: Configure, keys: Path) -> None:
    path = {"a link that leads out": keys}.get(wrong, keys / "nothing")
    if wrong == "a pipe":
        os.mkfifo(path)
    if wrong == "a link that leads out":
        (keys / "link").symlink_to("/etc/passwd")
    shelf = configure(f"paths = ['{path}']")
    said = shelf.run(*CREATE, exit_code=4).stderr
    assert str(path) in said
    assert len(said.splitlines()) == 1
    assert shelf["escrow"].names() == []


def test_keys_that_we_may_not_read_end_the_run(
    configure: Configure, keys: Path, run_unprivileged: Callable[..., Said]
) -> None:
    for closed, named in ((keys / "keys" / "customer.pem", "customer.pem"), (keys, "keys")):
        mode = closed.stat().st_mode
        closed.chmod(0)
        shelf = configure(f"paths = ['{keys}/keys']")
        said = run_unprivileged(*CREATE, exit_code=4).stderr
        closed.chmod(mode)
        assert "Permission denied" in said
        assert named in said
        assert len(said.splitlines()) == 1
        assert shelf["escrow"].names() == []


def test_an_attestation_is_dated_in_history(configure: Configure, script: Script, tmp_path: Path) -> None:
    shelf = configure(f"attest = '{script(f'echo said; echo {SECRET} >&2; touch {tmp_path}/ran')}'")
    before = datetime.now(UTC)
    rehearsed = shelf.run(*CREATE, "--dry-run", "--json", exit_code=0).document
    assert (rehearsed["set"], rehearsed["attested"]) == ("keys", None)
    assert "would be attested" in shelf.run(*CREATE, "-n", exit_code=0).stdout
    assert not (tmp_path / "ran").exists()
    assert shelf.events("attested") == []
    document = shelf.run(*CREATE, "--json", exit_code=0).document
    (event,) = shelf.events("attested")
    assert datetime.fromisoformat(document["attested"]) == event.time
    assert before <= event.time <= before + timedelta(minutes=1)
    assert (event.archive, event.reason) == ("prod-keys", document["command"])
    assert f"attested at {datetime.now(UTC):%Y-%m-%d}" in shelf.run(*CREATE, exit_code=0).stdout
    assert len(shelf.events("attested")) == 2
    assert shelf["escrow"].names() == []
    assert SECRET not in (shelf.state / "history.ndjson").read_text("utf-8").replace(str(document["command"]), "")


def test_an_attestation_that_fails_is_none(configure: Configure, script: Script) -> None:
    shelf = configure(f"attest = '{script('exit 1')}'")
    said = shelf.run(*CREATE, "--json", exit_code=4)
    assert "the attestation of the keys" in said.stderr
    assert said.document["exit_code"] == 4
    assert shelf.events("attested") == []
    shelf.run("status", exit_code=13)


def test_an_attestation_needs_neither_borg_nor_repositories(shelf: Shelf) -> None:
    shelf.write_config("label = 'prod'\n[sets.keys]\nattest = 'true'\n")
    shelf.run(*CREATE, exit_code=0)


UNCLEAR = {
    "neither": "",
    "paths and attest": "paths = ['/k']\nattest = 'true'",
    "a command and attest": "command = 'true'\nattest = 'true'",
    "no paths": "paths = []",
    "empty commands": "command = ''\nattest = ''",
}


@pytest.mark.parametrize("what", UNCLEAR)
def test_keys_are_either_stored_or_attested(what: str, configure: Configure) -> None:
    said = configure(UNCLEAR[what]).run(*CREATE, exit_code=3).stderr
    assert "sets.keys" in said
    assert "needs either paths or a command, whose files are stored, or attest" in said


def test_keys_that_are_not_configured_are_not_backed_up(shelf: Shelf) -> None:
    shelf.configure("", escrow="")
    assert "the set keys is not configured: add [sets.keys]" in shelf.run(*CREATE, exit_code=3).stderr


def test_retention_applies_to_keys_as_well(configure: Configure, keys: Path) -> None:
    shelf = configure(f"keep = 1\npaths = ['{keys}/.env']")
    shelf["escrow"].add_at("2026-05-01T00:00:00", "prod-keys-2026-05-01T00:00:00Z", comment="verdict=good")
    document = shelf.run(*CREATE, "--json", exit_code=0).document
    assert document["pruned"][0]["removed"] == ["prod-keys-2026-05-01T00:00:00Z"]
    assert shelf["escrow"].names() == [document["archive"]]
