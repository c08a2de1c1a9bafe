"""`stage DIR`: one whole, verified set in a directory at any time, for other people's `borg create`."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fix_cli import COMMAND, RunCli, RunCommand
from fix_damage import cut, ledger
from fix_fault_phases import MID_COPY
from fix_fault_proxy import DUMP, Proxy
from fix_fault_run import StartRun
from fix_history import LABEL, Server, WriteConfig, forgotten, found, replace_rows
from fix_plugin import InstallPlugin
from fix_repository import PASSPHRASE
from fix_vault import Vault

from borg_vault_plugin.errors import SourceError
from borg_vault_plugin.exchange import put_in_place
from borg_vault_plugin.lock import run_lock
from borg_vault_plugin.staging import staging_failures

pytest_plugins = ("fix_server", "fix_good_night", "fix_faults")

Tree = dict[str, tuple[int, int, bytes]]


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """Where sets are staged; the directory itself does not exist yet, and nothing else is beside it."""
    parent = tmp_path / "staged"
    parent.mkdir(mode=0o755)
    return parent / "prod"


@pytest.fixture
def lone(latest_vault: Vault, write_config: WriteConfig, monkeypatch: pytest.MonkeyPatch) -> Vault:
    """A Server and no repository."""
    monkeypatch.setenv("DATABASE_URL", latest_vault.url)
    write_config(LABEL)
    return latest_vault


def tree(directory: Path) -> Tree:
    """Give mode, inode and content of everything in a directory, and of the directory itself."""
    found: Tree = {}
    for path in (directory, *directory.rglob("*")):
        facts = path.lstat()
        found[str(path.relative_to(directory.parent))] = (
            facts.st_mode,
            facts.st_ino,
            path.read_bytes() if path.is_file() else b"",
        )
    return found


def document_of(place: Path) -> Any:
    return json.loads((place / "manifest.json").read_bytes())


def damage(vault: Vault) -> None:
    """Cut a tail in the database."""
    rows = ledger(vault.sample)
    cut(rows)
    replace_rows(vault, rows.rows)


@pytest.mark.usefixtures("lone")
def test_a_set_is_whole_private_and_alone(place: Path, run_cli: RunCli) -> None:
    document = run_cli("stage", place, "--json", exit_code=0).document
    assert (document["verdict"], document["repositories"], document["pruned"]) == ("good", [], [])
    assert document["continuity"]["verdict"] == "not_applicable"
    assert document_of(place)["archive"] == document["archive"]
    modes = {path.is_dir(): set[int]() for path in (place, place / "db.dump")}
    for path in (place, *place.rglob("*")):
        modes[path.is_dir()].add(path.lstat().st_mode & 0o7777)
    assert modes == {True: {0o700}, False: {0o600}}
    command = ["sha256sum", "--check", "--strict", "--quiet", "SHA256SUMS"]
    assert subprocess.run(command, cwd=place, check=True, capture_output=True).stdout == b""
    assert list(place.parent.iterdir()) == [place]
    assert run_cli("verify", place, exit_code=0).stdout.startswith("PASSED: ")


def test_a_later_set_takes_its_place_and_extends_it(lone: Vault, place: Path, run_cli: RunCli) -> None:
    first = run_cli("stage", place, "--json", exit_code=0).document
    before = tree(place)
    with lone.connect() as connection:
        lone.sample.grow(connection, entries=20, rotate=True)
    second = run_cli("stage", place, "--json", exit_code=0).document
    assert second["continuity"] == {"previous": first["archive"], "verdict": "passed", "findings": []}
    assert second["chain"]["signatures_carried"] > 0
    assert document_of(place)["snapshot"] == second["snapshot"] != first["snapshot"]
    assert not place.is_symlink()
    assert not {inode for _, inode, _ in before.values()} & {inode for _, inode, _ in tree(place).values()}
    assert list(place.parent.iterdir()) == [place]
    said = run_cli("stage", place, exit_code=0).stdout
    assert f"{place} holds prod-20" in said


@pytest.mark.usefixtures("lone")
def test_whoever_looks_into_the_directory_meanwhile_sees_one_whole_set(place: Path, run_cli: RunCli) -> None:
    run_cli("stage", place, exit_code=0)
    files = {path.name for path in place.iterdir()}
    seen: set[str] = set()
    with subprocess.Popen([str(COMMAND), "-q", "stage", str(place)], stdout=subprocess.DEVNULL) as run:
        while run.poll() is None:
            seen.add(document_of(place)["snapshot"]["time"])
            # The set that went away while we looked may have lost files already, the one that came has them all.
            assert files in ({path.name for path in place.iterdir()} for _ in range(2))
    assert run.returncode == 0
    assert len(seen | {document_of(place)["snapshot"]["time"]}) == 2


def as_link(place: Path) -> Path:
    (place.parent / "real").mkdir()
    place.symlink_to(place.parent / "real")
    return place


def as_file(place: Path) -> Path:
    place.write_text("precious", "utf-8")
    return place


def as_foreign(place: Path) -> Path:
    place.mkdir()
    (place / "thesis.tex").write_text("precious", "utf-8")
    return place


def without_parent(place: Path) -> Path:
    return place / "below"


UNFIT: dict[str, tuple[Callable[[Path], Path], str]] = {
    "a symbolic link": (as_link, "is a symbolic link, which Borg would store as a link"),
    "a file": (as_file, "is a mount point or no directory"),
    "a mount point": (lambda _: Path("/proc"), "is a mount point or no directory"),
    "somebody's directory": (as_foreign, "holds something else than a staged set"),
    "nowhere": (without_parent, "is no directory: make it first"),
}


@pytest.mark.usefixtures("lone")
@pytest.mark.parametrize("name", UNFIT)
def test_what_must_not_be_replaced_is_refused(name: str, place: Path, run_cli: RunCli) -> None:
    prepare, words = UNFIT[name]
    target = prepare(place)
    before = tree(place.parent)
    assert words in run_cli("stage", target, exit_code=2).stderr
    assert tree(place.parent) == before


@pytest.mark.usefixtures("lone")
def test_an_empty_directory_and_a_relative_path_serve(
    place: Path, run_cli: RunCli, monkeypatch: pytest.MonkeyPatch
) -> None:
    place.mkdir(mode=0o755)
    monkeypatch.chdir(place.parent)
    run_cli("stage", "prod/", exit_code=0)
    assert place.lstat().st_mode & 0o7777 == 0o700
    assert list(place.parent.iterdir()) == [place]


def test_a_suspect_set_leaves_the_directory_as_it_was_unless_it_is_allowed(
    lone: Vault, place: Path, run_cli: RunCli
) -> None:
    first = run_cli("stage", place, "--json", exit_code=0).document
    before = tree(place)
    damage(lone)
    for words in ([], ["--allow", "unverified"]):
        document = run_cli("stage", place, *words, "--json", exit_code=10).document
        assert (document["verdict"], document["continuity"]["previous"]) == ("suspect", first["archive"])
        assert found(document)[0] == "CONTINUITY_CHAIN_SHORTENED"
        assert tree(place) == before
        assert list(place.parent.iterdir()) == [place]
    said = run_cli("stage", place, exit_code=10)
    assert f"{place} is as it was: the new set is suspect" in said.stderr
    document = run_cli("stage", place, "--allow", "unverified", "--allow", "suspect", "--json", exit_code=0).document
    assert document_of(place)["archive"] == document["archive"]
    assert document_of(place)["verdict"] == "suspect"


def test_a_break_that_was_allowed_is_not_forgotten_the_next_night(lone: Vault, place: Path, run_cli: RunCli) -> None:
    run_cli("stage", place, exit_code=0)
    damage(lone)
    run_cli("stage", place, "--allow", "suspect", exit_code=0)
    document = run_cli("stage", place, "--json", exit_code=10).document
    assert found(document)[0] == "CONTINUITY_CHAIN_SHORTENED"


def test_a_break_that_was_allowed_is_not_good_on_a_host_that_has_forgotten_what_was_before(
    lone: Vault, place: Path, run_cli: RunCli, state: Path
) -> None:
    run_cli("stage", place, exit_code=0)
    damage(lone)
    run_cli("stage", place, "--allow", "suspect", exit_code=0)
    shutil.rmtree(state / "evidence")
    document = run_cli("stage", place, "--json", exit_code=11).document
    assert (document["verdict"], document["continuity"]["verdict"]) == ("unverified", "not_checked")
    assert document["continuity"]["reason"].endswith("before it is not known here")


def test_findings_of_a_staged_set_can_be_accepted(lone: Vault, place: Path, run_cli: RunCli) -> None:
    run_cli("stage", place, exit_code=0)
    damage(lone)
    document = run_cli("stage", place, "--json", exit_code=10).document
    ids = [one["id"] for one in document["continuity"]["findings"]]
    run_cli("accept", *ids, "--reason", "a test record was removed", exit_code=0)
    document = run_cli("stage", place, "--json", exit_code=0).document
    assert document["verdict"] == "good"
    assert {one["accepted"] for one in document["continuity"]["findings"]} == {"a test record was removed"}


@pytest.mark.usefixtures("lone")
@pytest.mark.parametrize("path", ["chain-heads.ndjson", "manifest.json", "vault-public-keys.csv"])
def test_a_set_that_was_damaged_where_it_lies_makes_the_next_one_unverified(
    path: str, place: Path, run_cli: RunCli
) -> None:
    run_cli("stage", place, exit_code=0)
    (place / path).write_bytes((place / path).read_bytes()[:-2])
    before = tree(place)
    document = run_cli("stage", place, "--json", exit_code=11).document
    assert (document["verdict"], document["continuity"]["verdict"]) == ("unverified", "not_checked")
    assert document["continuity"]["reason"].startswith(f"the set in {place}: {path}")
    assert tree(place) == before
    run_cli("stage", place, "--allow", "unverified", exit_code=0)
    assert tree(place) != before


def test_it_extends_what_configured_repositories_hold(
    seasoned: Server, place: Path, run_cli: RunCli, state: Path
) -> None:
    document = run_cli("stage", place, "--json", exit_code=0).document
    assert document["continuity"] == {"previous": seasoned.name, "verdict": "passed", "findings": []}
    archives = seasoned.repository.archives()
    seasoned.damage(cut)
    before = tree(place)
    remembered = run_cli("stage", place, "--json", exit_code=10).document
    with forgotten(state):
        extracted = run_cli("stage", place.with_name("another"), "--json", exit_code=10).document
    for found_there in (remembered, extracted):
        assert "CONTINUITY_CHAIN_SHORTENED" in found(found_there)
    assert f"{seasoned.name} holds" in extracted["continuity"]["findings"][0]["detail"]
    assert (tree(place), list(place.parent.iterdir())) == (before, [place])
    assert seasoned.repository.archives() == archives


@pytest.mark.usefixtures("lone")
def test_a_repository_that_cannot_be_reached_leaves_the_set_unverified(
    place: Path, run_cli: RunCli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BORG_REPO", str(tmp_path / "nowhere"))
    monkeypatch.setenv("BORG_PASSPHRASE", PASSPHRASE)
    document = run_cli("stage", place, "--json", exit_code=11).document
    assert (document["verdict"], document["chain"]["verdict"]) == ("unverified", "passed")
    assert "repository default" in document["continuity"]["reason"]
    assert list(place.parent.iterdir()) == []
    run_cli("stage", place, "--allow", "unverified", exit_code=0)
    assert list(place.parent.iterdir()) == [place]


@pytest.mark.usefixtures("lone")
def test_a_repository_that_is_away_does_not_matter_where_the_last_set_still_lies(
    place: Path, run_cli: RunCli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = run_cli("stage", place, "--json", exit_code=0).document
    monkeypatch.setenv("BORG_REPO", str(tmp_path / "nowhere"))
    monkeypatch.setenv("BORG_PASSPHRASE", PASSPHRASE)
    away = "the set is not compared with what is there: repository default"
    document = run_cli("stage", place, "--json", exit_code=0, warning=away).document
    assert document["continuity"] == {"previous": first["archive"], "verdict": "passed", "findings": []}


@pytest.mark.usefixtures("lone")
def test_a_hook_that_fails_leaves_nothing(
    place: Path, run_cli: RunCli, install_plugin: InstallPlugin, write_config: WriteConfig
) -> None:
    install_plugin("@hookimpl\ndef collect_artifacts(snapshot, staging):\n    raise SourceError('plug it in')\n")
    write_config('plugins = ["badge"]\n' + LABEL)
    assert "plug it in" in run_cli("stage", place, exit_code=4).stderr
    assert list(place.parent.iterdir()) == []


@pytest.mark.usefixtures("lone")
def test_it_waits_for_no_other_run_of_this_server(place: Path, run_cli: RunCli, state: Path) -> None:
    with run_lock(state, "prod"):
        assert "another run holds" in run_cli("stage", place, exit_code=6).stderr
    assert list(place.parent.iterdir()) == []


@pytest.mark.usefixtures("server")
def test_what_a_killed_run_left_is_gone_after_the_next(
    place: Path, proxy: Proxy, start: StartRun, run_command: RunCommand
) -> None:
    run_command("stage", place, exit_code=0)
    before = tree(place)
    proxy.hold(DUMP, after=MID_COPY)
    run = start("stage", place)
    run.until(proxy.reached.is_set, "the dump is held back")
    run.signal(signal.SIGKILL)
    run.ended(-signal.SIGKILL)
    proxy.release()
    assert len(list(place.parent.iterdir())) == 2
    assert tree(place) == before
    run_command("stage", place, exit_code=0)
    assert list(place.parent.iterdir()) == [place]
    assert tree(place) != before


def test_a_directory_gets_its_name_or_anothers_in_one_step(tmp_path: Path) -> None:
    new, place = tmp_path / "new", tmp_path / "place"
    for text in ("first", "second"):
        new.mkdir(exist_ok=True)
        (new / "below").mkdir(exist_ok=True)
        (new / "below" / "file").write_text(text, "utf-8")
        put_in_place(new, place)
        assert (place / "below" / "file").read_text("utf-8") == text
    assert (new / "below" / "file").read_text("utf-8") == "first"


@pytest.mark.usefixtures("lone")
def test_the_set_itself_says_what_was_verified(place: Path, run_cli: RunCli) -> None:
    document = run_cli("stage", place, "--json", exit_code=0).document
    told = document_of(place)
    for key in ("archive", "verdict", "artifacts", "counts", "chain", "continuity", "snapshot"):
        assert told[key] == document[key], key
    assert {log["org"] for log in told["read_logs"]} == {
        json.loads(line)["org_id"] for line in (place / "chain" / "org_admin_reads.ndjson").read_text().splitlines()
    }


def test_what_fails_below_staging_is_told_in_one_line(tmp_path: Path) -> None:
    with (
        pytest.raises(SourceError, match=r"staging in .*/set/gone: No such file or directory: look who changed it"),
        staging_failures(tmp_path / "set"),
    ):
        (tmp_path / "set" / "gone").read_bytes()
    with pytest.raises(FileNotFoundError), staging_failures(tmp_path / "set"):
        (tmp_path / "elsewhere").read_bytes()
