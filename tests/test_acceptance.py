"""What an operator has to say: `accept` for findings that are known, `accept-rewind` for a state that was restored."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from fix_cli import RunCli
from fix_history import Server, found
from fix_vault import Vault

from borg_vault_plugin.acceptance import accept, accepted_findings, remember
from borg_vault_plugin.errors import UsageError
from borg_vault_plugin.history import History
from borg_vault_plugin.report import Finding

pytest_plugins = ("fix_server", "fix_good_night")

REASON = "a slip of 2026-05, see ticket 17"


def bend(vault: Vault, position: int) -> None:
    """Change what one entry of the last record says in the open."""
    with vault.connect() as connection, connection.transaction():
        connection.execute("SET LOCAL session_replication_role = replica")
        last = "(SELECT max(record_id::text)::uuid FROM public.audit_vault)"
        change = f"UPDATE public.audit_vault SET actor_role = 'nobody' WHERE record_id = {last} AND chain_position = %s"
        assert connection.execute(change.encode(), [position]).rowcount == 1


def events(state: Path, kind: str) -> list[dict[str, Any]]:
    lines = (state / "history.ndjson").read_text("utf-8").splitlines()
    return [event for event in map(json.loads, lines) if event["event"] == kind]


def test_a_finding_that_is_accepted_leaves_the_next_nights_good_and_a_new_one_does_not(
    seasoned: Server, run_cli: RunCli, state: Path
) -> None:
    bend(seasoned.vault, 2)
    (finding,) = seasoned.night("--no-prune", exit_code=10)["chain"]["findings"]
    said = run_cli("accept", finding["id"], "--reason", REASON, exit_code=0).stdout
    assert said == f"accepted CHAIN_ACTOR_ATTRIBUTION_MISMATCH at {finding['where']}: {REASON}\n"
    (accepted,) = events(state, "accepted")
    assert accepted["finding"] == finding["id"]
    assert [accepted[name] for name in ("code", "where", "hash", "reason")] == [
        finding["code"], finding["where"], finding["hash"], REASON
    ]  # fmt: skip

    said = run_cli("create", "--no-prune", exit_code=0).stdout
    assert ": GOOD" in said
    assert f"; 1 accepted finding\n  CHAIN_ACTOR_ATTRIBUTION_MISMATCH at {finding['where']}: " in said
    assert f"[accepted: {REASON}]" in said
    archive = seasoned.repository.names()[-1]
    chain = json.loads(seasoned.repository.read(archive, "manifest.json"))["chain"]
    assert (chain["verdict"], chain["accepted"]) == ("passed", 1)
    assert chain["findings"] == [finding | {"accepted": REASON}]

    bend(seasoned.vault, 3)
    document = seasoned.night("--no-prune", exit_code=10)
    assert (document["chain"]["accepted"], document["chain"]["failure_count"]) == (1, 1)
    assert [one.get("accepted") for one in document["chain"]["findings"]] == [REASON, None]
    assert document["continuity"]["previous"] == archive
    # Whoever verifies that archive on demand is told the same.
    said = run_cli("verify", archive, exit_code=0).stdout
    assert f"[accepted: {REASON}]" in said


def test_only_what_was_found_here_can_be_accepted(seasoned: Server, run_cli: RunCli, state: Path) -> None:
    bend(seasoned.vault, 2)
    (finding,) = seasoned.night("--no-prune", exit_code=10)["chain"]["findings"]
    said = run_cli("accept", finding["id"], "0123456789abcdef", "--reason", REASON, exit_code=2).stderr
    assert "no run of this host has found '0123456789abcdef'" in said
    assert events(state, "accepted") == []


@pytest.mark.parametrize("command", [["accept", "0123456789abcdef"], ["accept-rewind", "prod-2026-05-01T00:00:00Z"]])
@pytest.mark.parametrize("reason", [[], ["--reason", ""], ["--reason", " \n"]], ids=["none", "empty", "blank"])
def test_no_word_counts_without_a_reason(
    command: list[str], reason: list[str], seasoned: Server, run_cli: RunCli, state: Path
) -> None:
    name = seasoned.name if command[0] == "accept-rewind" else command[1]
    assert "reason" in run_cli(command[0], name, *reason, exit_code=2).stderr
    assert events(state, "accepted") == events(state, "rewound") == []


def test_what_verify_finds_in_an_archive_can_be_accepted(seasoned: Server, run_cli: RunCli, state: Path) -> None:
    bend(seasoned.vault, 2)
    archive = seasoned.night("--no-prune", exit_code=10)["archive"] + ".suspect"
    (state / "history.ndjson").unlink()
    (finding,) = run_cli("verify", archive, "--json", exit_code=10).document["findings"]
    run_cli("accept", finding["id"], "--reason", REASON, exit_code=0)
    document = run_cli("verify", archive, "--json", exit_code=0).document
    assert (document["verdict"], document["failure_count"]) == ("passed", 0)
    assert document["findings"] == [finding | {"accepted": REASON}]


def test_a_restored_state_is_good_when_the_operator_says_so_and_only_that_one(
    seasoned: Server, run_cli: RunCli, state: Path
) -> None:
    seasoned.grow(entries=20, rotate=True)
    newer = seasoned.ledger()
    seasoned.night("--no-prune")
    seasoned.roll_back()
    said = run_cli("accept-rewind", seasoned.name, "--reason", REASON, exit_code=0).stdout
    assert said == f"from now on history is compared with {seasoned.name}: {REASON}\n"
    (event,) = events(state, "rewound")
    assert (event["archive"], event["reason"]) == (seasoned.name, REASON)

    restored = seasoned.night("--no-prune")
    rewind = {"archive": seasoned.name, "time": event["time"], "reason": REASON}
    assert restored["continuity"] == {
        "previous": seasoned.name, "verdict": "passed", "findings": [], "rewind": rewind
    }  # fmt: skip
    manifest = json.loads(seasoned.repository.read(restored["archive"], "manifest.json"))
    assert manifest["continuity"]["rewind"] == rewind

    seasoned.put(newer)
    later = seasoned.night("--no-prune")
    assert later["continuity"] == {"previous": restored["archive"], "verdict": "passed", "findings": []}
    seasoned.roll_back()
    again = seasoned.night("--no-prune", exit_code=10)
    assert again["continuity"]["previous"] == later["archive"]
    assert "CONTINUITY_CHAIN_SHORTENED" in found(again)


def test_only_an_archive_of_this_server_can_be_named(seasoned: Server, run_cli: RunCli, state: Path) -> None:
    others = ["holiday pictures", "prod-eu-2026-05-01T00:00:00Z", "prod-keys-2026-05-01T00:00:00Z"]
    seasoned.repository.add(*others)
    assert (
        "prod-2020-01-01T00:00:00Z"
        in run_cli("accept-rewind", "prod-2020-01-01T00:00:00Z", "--reason", REASON, exit_code=2).stderr
    )
    for name in others:
        said = run_cli("accept-rewind", name, "--reason", REASON, exit_code=2).stderr
        assert f"{name} is no archive of prod" in said
    assert events(state, "rewound") == []


def test_a_host_that_remembers_nothing_can_be_told(seasoned: Server, run_cli: RunCli, state: Path) -> None:
    state.rename(state.with_name("lost"))
    run_cli("accept-rewind", "latest", "--reason", REASON, exit_code=0)
    (event,) = events(state, "rewound")
    assert event["archive"] == seasoned.name


def finding(detail: str = "gone", **more: str) -> Finding:
    return Finding("CONTINUITY_CHAIN_MISSING", "audit_vault, chain 7, position 3", detail, **more)


def test_a_finding_is_its_code_its_place_and_its_hash() -> None:
    assert finding(hash="ab").id == finding("in other words", hash="ab").id
    ids = {
        finding().id,
        finding("in other words").id,
        finding(hash="ab").id,
        finding(hash="cd").id,
        finding(hash="").id,
        Finding("CONTINUITY_CHAIN_MISSING", "audit_vault, chain 8, position 3", "gone").id,
        Finding("CONTINUITY_CHAIN_SHORTENED", "audit_vault, chain 7, position 3", "gone").id,
    }
    assert len(ids) == 7


def test_what_is_found_again_is_remembered_once(tmp_path: Path) -> None:
    history = History(tmp_path / "history.ndjson")
    for _ in range(2):
        remember(history, "prod-2026-05-01T00:00:00Z", [finding(), finding(hash="ab")])
    assert [event.finding for event in history.events()] == [finding().id, finding(hash="ab").id]


def test_a_second_word_about_the_same_finding_replaces_the_first(tmp_path: Path) -> None:
    history = History(tmp_path / "history.ndjson")
    remember(history, "prod-2026-05-01T00:00:00Z", [finding()])
    for reason in ("first", "second"):
        accept(history, [finding().id], reason)
    assert accepted_findings(history) == {finding().id: "second"}
    with pytest.raises(UsageError):
        accept(history, [finding(hash="ab").id], "third")
