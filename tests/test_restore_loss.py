"""What would be lost with an older state is said first, and nobody loses it who has not said that it may be."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from fix_cli import RunCli
from fix_repository import PlainRepository, announce
from fix_restore import CONFIG, DROP_TABLES, NEW_ENTRIES, Rescue
from fix_vault import Vault

pytest_plugins = ("fix_server", "fix_rescue")


def test_an_older_archive_says_what_would_be_lost_and_is_refused(rescue: Rescue, run_cli: RunCli) -> None:
    older, newer = rescue.nights.older, rescue.nights.newer
    for words in ([], ["--swap", "--yes"]):
        with rescue.untouched():
            said = run_cli("restore", older, *words, exit_code=12)
        assert f"{older} is not the newest state: {newer} holds " in said.stderr
        assert "add --accept-loss to restore it all the same" in said.stderr
        assert "entries, " in said.stdout
    document = run_cli("restore", older, "--json", exit_code=12).document
    assert document["exit_code"] == 12
    assert "written after 20" in document["error"]


def test_an_older_archive_that_was_accepted_is_the_state_from_which_history_goes_on(
    rescue: Rescue, run_cli: RunCli
) -> None:
    older, newer = rescue.nights.older, rescue.nights.newer
    shutil.rmtree(rescue.state / "evidence")  # so that the archive itself is asked
    entries = rescue.vault.value("SELECT count(*) FROM audit_vault")
    keys = rescue.vault.value("SELECT count(*) FROM vault_signing_keys")
    document = run_cli("restore", older, "--swap", "--yes", "--accept-loss", "--json", exit_code=0).document
    assert [loss["where"] for loss in document["lost"]] == [newer, f"the live database {rescue.live}"]
    for loss in document["lost"]:
        assert loss["entries"] == entries - rescue.vault.value("SELECT count(*) FROM audit_vault") >= NEW_ENTRIES
        assert loss["keys"] == keys - rescue.vault.value("SELECT count(*) FROM vault_signing_keys") == 1
        assert loss["chains"] > 0
    (event,) = rescue.history("rewound")
    assert event["archive"] == older
    assert document["previous_database"] in event["reason"]
    assert run_cli("create", "--json", exit_code=0).document["continuity"]["previous"] == older


def test_what_only_the_live_database_holds_counts_for_a_swap(rescue: Rescue, run_cli: RunCli) -> None:
    with rescue.vault.connect() as connection:
        rescue.vault.sample.grow(connection, entries=5)
    with rescue.untouched():
        said = run_cli("restore", "--swap", "--yes", exit_code=12)
    assert f"the live database {rescue.live} holds " in said.stderr
    document = run_cli("restore", "--json", exit_code=0).document
    assert [loss["entries"] > 0 for loss in document["lost"]] == [True]
    swap = document["next"][0]["command"]
    assert swap.endswith("--swap --accept-loss")
    run_cli("restore", "--swap", "--yes", "--accept-loss", "--database", document["database"], exit_code=0)
    # The restored archive is the newest good one: nothing has to be told to continuity.
    assert rescue.history("rewound") == []


def test_what_cannot_be_found_out_counts_as_lost(rescue: Rescue, run_cli: RunCli) -> None:
    rescue.vault.execute("ALTER TABLE audit_vault RENAME COLUMN chain_position TO place")
    with rescue.untouched():
        said = run_cli("restore", "--swap", "--yes", exit_code=12)
    assert f"what the live database {rescue.live} holds more is not known" in said.stderr
    run_cli("restore", "--swap", "--yes", "--accept-loss", exit_code=0)


def test_a_repository_that_cannot_be_asked_may_hold_something_newer(
    rescue: Rescue, run_cli: RunCli, write_config: Callable[[str], Path]
) -> None:
    nowhere = rescue.state.parent / "nowhere"
    write_config(
        f'{CONFIG}[repositories.near]\npath = "{rescue.repository.path}"\n[repositories.far]\npath = "{nowhere}"\n'
    )
    with rescue.untouched():
        said = run_cli("restore", "--swap", "--yes", exit_code=12)
    assert "what a repository holds more is not known (repository far" in said.stderr
    run_cli("restore", exit_code=0)


def test_a_live_database_without_a_chain_has_nothing_to_lose(rescue: Rescue, run_cli: RunCli) -> None:
    rescue.vault.execute(*DROP_TABLES, "CREATE TABLE records (id uuid)")
    document = run_cli("restore", "--swap", "--yes", "--json", exit_code=0).document
    (loss,) = document["lost"]
    assert (loss["entries"], loss["chains"], loss["keys"]) == (0, 0, 0)


def test_a_vault_of_the_first_era_is_compared_too(
    latest_older_vault: Vault,
    repository: PlainRepository,
    run_cli: RunCli,
    write_config: Callable[[str], Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    write_config(CONFIG)
    announce(monkeypatch, latest_older_vault, repository)
    run_cli("create", exit_code=0)
    entries = latest_older_vault.value("SELECT count(*) FROM audit_vault")
    with latest_older_vault.connect() as connection:
        latest_older_vault.sample.grow(connection, entries=7)
    lost = latest_older_vault.value("SELECT count(*) FROM audit_vault") - entries
    said = run_cli("restore", "--swap", "--yes", exit_code=12)
    assert f"the live database {latest_older_vault.database} holds {lost} entries, " in said.stderr
