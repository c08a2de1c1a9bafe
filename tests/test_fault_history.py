"""History: what was meant is written before Borg works, what came of it after; nothing that is torn stops anybody."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fix_cli import RunCli
from fix_fault_phases import Pause
from fix_fault_run import only_line
from fix_repository import PlainRepository
from fix_vault import Vault

pytest_plugins = ("fix_server", "fix_faults")

Recovers = Callable[[], list[str]]

TORN = '{"time":"2026-05-01T00:00:00Z","event":"crea'


@pytest.fixture
def torn(state: Path) -> Path:
    """A history whose last line was cut short by a crash."""
    state.mkdir(parents=True)
    history = state / "history.ndjson"
    history.write_text(TORN, "utf-8")
    return history


def events(history: Path) -> list[dict[str, Any]]:
    """Read every line but the torn one, which stands alone."""
    lines = history.read_text("utf-8").splitlines()
    assert lines.count(TORN) == 1
    return [json.loads(line) for line in lines if line != TORN]


def test_an_intent_is_written_before_borg_works_and_the_result_after_it(
    torn: Path, pause: Pause, repository: PlainRepository
) -> None:
    paused = pause("beginning to store", "--no-prune")
    (intended,) = events(torn)
    paused.go_on()
    paused.run.ended(0)
    first, created = events(torn)
    (archive,) = repository.archives()
    assert first == intended
    assert [intended["event"], created["event"]] == ["intended", "created"]
    assert intended["archive"] == created["archive"] == archive["name"]
    assert created["archive_id"] == archive["id"]
    assert archive["comment"] == f"verdict=good manifest=sha256:{intended['manifest']} set=database"
    assert intended["manifest"] == created["manifest"]


def test_an_archive_that_a_killed_borg_left_is_swept_and_that_is_remembered(
    torn: Path, pause: Pause, recovers: Recovers
) -> None:
    paused = pause("comparing", "--no-prune")
    paused.culprit.kill()
    assert "ended by SIGKILL: run it again" in only_line(paused.run.ended(5))
    (name,) = recovers()
    told = events(torn)
    assert [event["event"] for event in told] == ["intended", "swept", "intended", "created"]
    assert told[1]["archive"] == told[0]["archive"] + ".partial"
    assert told[1]["reason"] == "cut short"
    assert told[3]["archive"] == name


def test_a_removal_is_remembered_with_its_rule(
    server: Vault, torn: Path, repository: PlainRepository, run_cli: RunCli
) -> None:
    old, new = (f"{server.database}-2026-05-0{day}T00:00:00Z" for day in (1, 2))
    repository.add_at("2026-05-01T00:00:00", old)
    repository.add_at("2026-05-02T00:00:00", new)
    ids = {archive["name"]: archive["id"] for archive in repository.archives()}
    run_cli("prune", "--keep", "1", exit_code=0)
    assert repository.names() == [new]
    *adopted, removing, removed = events(torn)
    assert [event["event"] for event in adopted] == ["adopted", "adopted"]
    assert (removing["event"], removing["archive_id"]) == ("removing", removed["archive_id"])
    assert (removed["event"], removed["archive"], removed["archive_id"]) == ("removed", old, ids[old])
    assert removed["reason"] == "retention keeps 1 newest"
