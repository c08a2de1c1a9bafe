"""Archives in repositories: what a run leaves there, what it clears away, what it refuses, and what it survives."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from fix_cli import RunCli
from fix_repository import PlainRepository, initialised
from fix_vault import Vault

from borg_vault_plugin.borg.answers import log_messages

pytest_plugins = ("fix_server",)

WriteConfig = Callable[[str], Path]


def section(name: str, path: Path, *, variable: str = "BORG_PASSPHRASE") -> str:
    return f"[repositories.{name}]\npath = '{path}'\npassphrase = {{ env = '{variable}' }}\n"


def test_a_killed_runs_leftovers_are_removed_and_nobody_elses(
    server: Vault, repository: PlainRepository, run_cli: RunCli
) -> None:
    time = "2026-05-01T00:00:00Z.partial"
    others = [f"{server.database}-eu-{time}", f"other-{time}", "mine.partial", f"{server.database}-x.partial"]
    repository.add(f"{server.database}-{time}", *others)
    said = run_cli("create", "--no-prune", exit_code=0).stdout
    assert f"removed {server.database}-{time} from default" in said
    assert not any(name == f"{server.database}-{time}" for name in repository.names())
    assert set(others) < set(repository.names())
    assert len(repository.names()) == len(others) + 1


@pytest.mark.usefixtures("server")
def test_two_repositories_get_the_same_bytes(
    repository: PlainRepository, run_cli: RunCli, write_config: WriteConfig, tmp_path: Path
) -> None:
    second = initialised(tmp_path / "second", tmp_path / "second-base", encryption="repokey-blake2")
    write_config(section("first", repository.path) + section("second", second.path))
    document = run_cli("create", "--json", exit_code=0).document
    assert [(one["repository"], one["status"]) for one in document["repositories"]] == [
        ("first", "stored"),
        ("second", "stored"),
    ]
    for path in ("manifest.json", "SHA256SUMS"):
        assert repository.read(document["archive"], path) == second.read(document["archive"], path)
    assert repository.archives()[0]["comment"] == second.archives()[0]["comment"]
    only = run_cli("list", "-r", "second", "--json", exit_code=0).document["archives"]
    assert [one["repository"] for one in only] == ["second"]


@pytest.mark.parametrize(("bad_one", "why"), [("first", "passphrase"), ("last", "missing")])
def test_a_bad_repository_does_not_stop_a_good_one(
    bad_one: str, why: str, repository: PlainRepository, bad_configuration: Callable[[str, str], None], run_cli: RunCli
) -> None:
    bad_configuration(bad_one, why)
    said = run_cli("create", "--json", exit_code=5)
    told = {one["repository"]: one for one in said.document["repositories"]}
    assert (told["good"]["status"], told["good"]["error"]) == ("stored", None)
    assert told["bad"]["status"] == "failed"
    assert "repository bad" in told["bad"]["error"]
    assert "repository bad" in said.stderr
    assert repository.names() == [said.document["archive"]]
    assert [one["repository"] for one in said.document["pruned"]] == ["good"]


@pytest.fixture
def bad_configuration(
    server: Vault,
    repository: PlainRepository,
    write_config: WriteConfig,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Callable[[str, str], None]:
    """Writer of a configuration with a good and a bad repository, in either order."""

    def write(bad_one: str, why: str) -> None:
        assert server.database
        path = tmp_path / "bad"
        if why == "passphrase":
            initialised(path, tmp_path / "bad-base")
        monkeypatch.setenv("WRONG", "wrong")
        sections = [section("bad", path, variable="WRONG"), section("good", repository.path)]
        write_config("".join(sections if bad_one == "first" else reversed(sections)))

    return write


def test_text_names_the_repository_that_failed(bad_configuration: Callable[[str, str], None], run_cli: RunCli) -> None:
    bad_configuration("first", "missing")
    said = run_cli("create", "--dry-run", exit_code=5)
    assert "bad: FAILED: " in said.stdout
    assert "borg-vault init" in said.stderr


REFUSED = [
    ["--comment=mine"], ["--comment", "mine"], ["--comm", "mine"], ["--comm=mine"], ["--timestamp=2001-01-01T00:00:00"],
    ["--time=2001-01-01T00:00:00"], ["--exclude", "chain"], ["-e", "chain"], ["--exclude-caches"], ["--excl=*"],
    ["--pattern=- *"], ["--patterns-from", "x"], ["--paths-from-stdin"], ["--paths-from-command"], ["--stdin-name=x"],
    ["--content-from-command"], ["--dry-run"], ["--dry"], ["-n"], ["--read-special"], ["-x"], ["--json"],
    ["--log-json"], ["/etc/passwd"], ["::other", "/etc"], ["--compression"], ["--stats=1"], ["--comp", "lz4"],
    ["--ignore-inode", "--comment=mine"], ["-svcomment"],
]  # fmt: skip


@pytest.mark.parametrize("options", REFUSED, ids=" ".join)
def test_an_option_that_could_break_the_contract_is_refused(options: list[str], run_cli: RunCli) -> None:
    assert "cannot be passed on to borg create" in run_cli("create", "--", *options, exit_code=2).stderr


@pytest.mark.usefixtures("server")
def test_other_options_are_passed_on(repository: PlainRepository, run_cli: RunCli) -> None:
    options = ["--compression", "lz4", "--stats", "--list", "--noatime", "--upload-ratelimit=0", "--show-rc", "-v"]
    document = run_cli("create", "--json", "--no-prune", "--", *options, exit_code=0).document
    archive = json.loads(repository.borg("info", "--json", f"::{document['archive']}"))["archives"][0]
    assert "lz4" in archive["command_line"]


@pytest.mark.usefixtures("server")
@pytest.mark.parametrize("mode", ["none", "authenticated"])
def test_an_unencrypted_repository_is_refused(
    mode: str, run_cli: RunCli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bare = initialised(tmp_path / "bare", tmp_path / "bare-base", encryption=mode)
    monkeypatch.setenv("BORG_REPO", str(bare.path))
    monkeypatch.setenv("BORG_BASE_DIR", str(bare.base))  # a Borg that has been told to trust it
    monkeypatch.setenv("BORG_UNKNOWN_UNENCRYPTED_REPO_ACCESS_IS_OK", "yes")
    for command in ("create", "prune"):
        said = run_cli(command, exit_code=7).stderr
        assert "is not encrypted" in said
    assert bare.names() == []


@pytest.mark.usefixtures("server")
def test_a_repository_of_the_same_id_elsewhere_is_refused(
    repository: PlainRepository, run_cli: RunCli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_cli("list", exit_code=0)
    moved = tmp_path / "moved"
    repository.path.rename(moved)
    monkeypatch.setenv("BORG_REPO", str(moved))
    monkeypatch.setenv("BORG_RELOCATED_REPO_ACCESS_IS_OK", "yes")
    assert "repository default" in run_cli("create", exit_code=5).stderr


@pytest.mark.usefixtures("server")
def test_a_repository_is_looked_into_before_the_first_byte_is_staged(
    run_cli: RunCli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BORG_REPO", str(tmp_path / "nowhere"))
    said = run_cli("create", exit_code=5)
    assert "snapshot of" not in said.stdout


def test_a_current_directory_that_is_gone_is_told(
    run_cli: RunCli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "gone").mkdir()
    monkeypatch.setenv("DATABASE_URL", "postgresql:///app")
    monkeypatch.setenv("BORG_PASSPHRASE", "x")
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    assert "the current directory, which is gone" in run_cli("list", exit_code=3).stderr


def test_of_a_traceback_of_borgs_only_the_exception_is_told() -> None:
    traceback = (
        'Traceback (most recent call last):\n  File "locking.py", line 143, in acquire\n    raise LockFailed()\n'
    )
    said = f"{traceback}borg.locking.LockFailed: Failed to create the lock.\n\nPlatform: Linux\nPID: 1\n"
    log = json.dumps({"type": "log_message", "message": said}).encode()
    assert log_messages(log) == ("borg.locking.LockFailed: Failed to create the lock.",)
