"""Whole nights against a real Server and repository: what happened to the vault since last night is found tonight."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from fix_cli import RunCli
from fix_damage import Ledger, cut, delete, forget_reads, rewrite
from fix_history import LABEL, Server, WriteConfig, forgotten, found
from fix_repository import PlainRepository, announce, initialised
from fix_vault import Vault

from borg_vault_plugin.chain.codes import Code

pytest_plugins = ("fix_server", "fix_good_night")

FELL = "CONTINUITY_COUNT_FELL"
REWRITTEN = "CONTINUITY_CHAIN_REWRITTEN"


def forget_key(vault: Ledger) -> None:
    """Remove the first key from the registry."""
    del vault.rows.vault_signing_keys[0]


# What somebody with the vault's keys does, and what continuity finds.
DAMAGES: dict[str, tuple[Callable[[Ledger], None], set[str]]] = {
    "a tail is cut": (cut, {"CONTINUITY_CHAIN_SHORTENED", FELL}),
    "a chain with its checkpoint is gone": (delete, {"CONTINUITY_CHAIN_MISSING", FELL}),
    "the last reads are gone": (forget_reads, {"CONTINUITY_READ_LOG_REWRITTEN", FELL}),
    "a key is gone": (forget_key, {"CONTINUITY_KEY_MISSING", FELL}),
}


def remembered_nights(state: Path) -> int:
    """Count the archives of which this host keeps evidence."""
    return sum(1 for _ in (state / "evidence").iterdir())


def test_a_day_later_the_vault_is_good_and_only_what_is_new_was_verified(seasoned: Server, state: Path) -> None:
    seasoned.grow(entries=20, onto="everywhere", rotate=True)
    document = seasoned.night("--keep", "1")
    assert (document["verdict"], document["chain"]["verdict"]) == ("good", "passed")
    assert document["continuity"] == {"previous": seasoned.name, "verdict": "passed", "findings": []}
    signed = seasoned.first["counts"]["audit_vault"] + seasoned.first["counts"]["vault_checkpoints"]
    assert document["chain"]["signatures_carried"] == signed
    assert document["pruned"][0]["removed"] == [seasoned.name]
    assert list(seasoned.good_archives()) == seasoned.repository.names() == [document["archive"]]
    assert remembered_nights(state) == 2


@pytest.mark.parametrize("name", DAMAGES)
def test_what_happened_since_the_last_night_is_found_tonight(name: str, seasoned: Server, state: Path) -> None:
    damage, codes = DAMAGES[name]
    good = seasoned.good_archives()
    seasoned.damage(damage)
    document = seasoned.night("--keep", "1", exit_code=10)
    assert {one["code"] for one in document["continuity"]["findings"]} == codes
    assert document["chain"]["verdict"] == ("failed" if damage is forget_key else "passed")
    assert document["continuity"]["previous"] == seasoned.name
    assert seasoned.good_archives() == good
    assert seasoned.repository.names() == [seasoned.name, document["archive"] + ".suspect"]
    assert document["pruned"][0]["removed"] == []
    assert remembered_nights(state) == 1


def test_a_database_of_an_older_state_is_found_until_the_newer_one_is_back(seasoned: Server, run_cli: RunCli) -> None:
    seasoned.grow(entries=20, rotate=True)
    newer = seasoned.ledger()
    second = seasoned.night("--no-prune")["archive"]
    seasoned.roll_back()
    document = seasoned.night("--no-prune", exit_code=10)
    assert document["continuity"]["previous"] == second
    assert {FELL, "CONTINUITY_CHAIN_SHORTENED", "CONTINUITY_KEY_MISSING"} < set(found(document))
    seasoned.put(newer)
    assert seasoned.night("--no-prune")["continuity"]["previous"] == second
    listed = run_cli("list", "--json", exit_code=0).document["archives"]
    assert [one["verdict"] for one in listed] == ["good", "good", "suspect", "good"]


def test_the_archive_itself_tells_what_this_host_has_forgotten_or_was_told_wrongly(
    seasoned: Server, run_cli: RunCli, state: Path
) -> None:
    good = seasoned.good_archives()
    seasoned.damage(rewrite)
    remembered = seasoned.night("--no-prune", exit_code=10)
    with forgotten(state):
        extracted = seasoned.night("--no-prune", exit_code=10)
        assert not (state / "evidence").exists()
    lie(seasoned, state / "evidence")
    deceived = seasoned.night("--no-prune", exit_code=10)
    assert remembered["continuity"] == extracted["continuity"] == deceived["continuity"]
    assert found(remembered) == [REWRITTEN]
    assert seasoned.good_archives() == good
    # No verifier sees it in tonight's archive alone.
    assert run_cli("verify", deceived["archive"] + ".suspect", exit_code=0).stdout.startswith("PASSED")


def lie(seasoned: Server, evidence: Path) -> None:
    """Make what this host keeps of the good archive agree with the rewritten chain."""
    (kept,) = evidence.iterdir()
    before, after = seasoned.ledger(), seasoned.ledger()
    rewrite(after)
    last = before.length(4)
    old, new = before.entry(4, last).payload_hash, after.entry(4, last).payload_hash
    heads = (kept / "chain-heads.ndjson").read_text("utf-8")
    assert heads.count(old) == 1
    (kept / "chain-heads.ndjson").write_text(heads.replace(old, new), "utf-8")


def lose(repository: PlainRepository, archive: str, path: str, place: Path) -> None:
    """Have a repository lose what an archive's file is made of."""
    repository.borg("debug", "dump-archive", f"::{archive}", place)
    items = json.loads(place.read_bytes())["_items"]
    (item,) = [item for item in items if item["path"] == path]
    for chunk in item["chunks"]:
        said = repository.borg("debug", "delete-obj", "::", chunk[0].removeprefix("\x7f"))
        assert b" deleted." in said


def test_a_set_whose_predecessor_cannot_be_read_is_stored_all_the_same_and_called_unverified(
    seasoned: Server, state: Path, tmp_path: Path
) -> None:
    lose(seasoned.repository, seasoned.name, "manifest.json", tmp_path / "items.json")
    with forgotten(state):
        document = seasoned.night("--keep", "1", exit_code=11)
    assert (document["verdict"], document["continuity"]["verdict"]) == ("unverified", "not_checked")
    assert document["continuity"]["reason"].startswith("the archive before, in default: repository default")
    assert document["chain"]["verdict"] == "passed"
    assert document["chain"]["signatures_carried"] == 0
    assert seasoned.repository.names() == [seasoned.name, document["archive"] + ".unverified"]
    # What this host remembers is enough.
    assert seasoned.night("--no-prune")["continuity"]["previous"] == seasoned.name


def two_repositories(seasoned: Server, tmp_path: Path, write_config: WriteConfig) -> PlainRepository:
    """Configure a second repository, an empty one, beside the one with the good night."""
    second = initialised(tmp_path / "second", tmp_path / "second-base")
    paths = {"first": seasoned.repository.path, "second": second.path}
    write_config(LABEL + "".join(f'[repositories.{name}]\npath = "{path}"\n' for name, path in paths.items()))
    return second


def test_every_repository_that_is_written_to_is_a_witness(
    seasoned: Server, tmp_path: Path, write_config: WriteConfig
) -> None:
    second = two_repositories(seasoned, tmp_path, write_config)
    seasoned.grow(entries=20)
    newer = seasoned.night("-r", "second", "--no-prune")
    assert newer["continuity"]["verdict"] == "not_applicable"
    seasoned.roll_back()
    document = seasoned.night("--no-prune", exit_code=10)
    assert document["continuity"]["previous"] == newer["archive"]
    assert set(found(document)) >= {"CONTINUITY_CHAIN_SHORTENED", FELL}
    assert [one["status"] for one in document["repositories"]] == ["stored", "stored"]
    assert second.names() == [newer["archive"], document["archive"] + ".suspect"]
    assert seasoned.night("-r", "first", "--no-prune")["continuity"]["previous"] == seasoned.name


def test_a_repository_that_fails_counts_more_than_a_suspect_set(
    seasoned: Server, tmp_path: Path, write_config: WriteConfig
) -> None:
    paths = {"good": seasoned.repository.path, "gone": tmp_path / "gone"}
    write_config(LABEL + "".join(f'[repositories.{name}]\npath = "{path}"\n' for name, path in paths.items()))
    seasoned.damage(cut)
    document = seasoned.night("--no-prune", exit_code=5)
    assert (document["verdict"], found(document)[0]) == ("suspect", "CONTINUITY_CHAIN_SHORTENED")
    assert seasoned.repository.names()[-1].endswith(".suspect")


def test_what_is_listed_pruned_and_latest_tells_good_from_suspect(seasoned: Server, run_cli: RunCli) -> None:
    seasoned.damage(cut)
    suspect = seasoned.night("--no-prune", exit_code=10)["archive"] + ".suspect"
    said = run_cli("list", exit_code=0).stdout
    assert re.search(rf"^{seasoned.name} .* good +never$", said, re.MULTILINE)
    assert re.search(rf"^{suspect} .* suspect +never$", said, re.MULTILINE)
    plan = run_cli("prune", "--keep", "1", "--dry-run", "--json", exit_code=0).document["plan"]
    assert [(fate["archive"], fate["action"]) for fate in plan] == [(seasoned.name, "keep")]


def empty(vault: Vault) -> None:
    """Empty the chains and whatever leans on them."""
    with vault.connect() as connection, connection.transaction():
        connection.execute("SET LOCAL session_replication_role = replica")
        for table in ("audit_vault", "vault_checkpoints", "org_admin_reads", "org_admin_reads_checkpoints"):
            connection.execute(f"DELETE FROM public.{table}".encode())


def test_a_vault_that_is_empty_from_the_beginning_is_suspect_once(server: Vault, run_cli: RunCli) -> None:
    empty(server)
    first = run_cli("create", "--json", "--no-prune", exit_code=10).document
    assert found(first) == [Code.CHAIN_EMPTY]
    warning = "the vault is still empty: nothing in it could be verified"
    for previous in (None, "the second"):
        document = run_cli("create", "--json", "--no-prune", exit_code=0, warning=warning).document
        assert (document["verdict"], document["chain"]["verdict"]) == ("good", "not_applicable")
        assert bool(document["continuity"]["previous"]) == bool(previous)


def test_a_vault_that_was_emptied_is_suspect_every_night(seasoned: Server) -> None:
    empty(seasoned.vault)
    for _ in range(2):
        document = seasoned.night("--no-prune", exit_code=10)
        assert {Code.CHAIN_EMPTY, "CONTINUITY_CHAIN_MISSING", FELL} < set(found(document))
        assert document["continuity"]["previous"] == seasoned.name


@pytest.mark.usefixtures("repository")
def test_pinned_keys_of_a_server_without_statements_make_every_set_unverified(
    latest_older_vault: Vault,
    repository: PlainRepository,
    run_cli: RunCli,
    write_config: WriteConfig,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    announce(monkeypatch, latest_older_vault, repository)
    write_config(f'trust_anchors = ["sha256:{"ab" * 32}"]\n')
    said = run_cli("create", "--no-prune", exit_code=11).stdout
    assert ": UNVERIFIED" in said
    assert "chain not checked: keys cannot be pinned" in said
    (name,) = repository.names()
    assert name.endswith(".unverified")
    assert repository.archives()[0]["comment"].startswith("verdict=unverified ")


def test_a_pinned_key_that_vouches_for_nothing_makes_the_set_suspect(
    seasoned: Server, write_config: WriteConfig
) -> None:
    write_config(f'trust_anchors = ["sha256:{"ab" * 32}"]\n{LABEL}')
    document = seasoned.night("--no-prune", exit_code=10)
    assert Code.CHAIN_SIGNING_KEY_UNANCHORED in found(document)
    assert document["continuity"]["verdict"] == "passed"
    write_config(f'trust_anchors = ["{seasoned.ledger().anchor}"]\n{LABEL}')
    assert seasoned.night("--no-prune")["verdict"] == "good"
