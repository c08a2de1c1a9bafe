"""The plan of retention: exactly what plain borg would prune, less what must never go, and nothing that is not ours."""

from __future__ import annotations

import itertools
import json
import re
import shutil
import subprocess
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Literal

import pytest
from fix_cli import RunCli
from fix_repository import PASSPHRASE, SECONDS, PlainRepository
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from borg_vault_plugin.archive import Archive, Series
from borg_vault_plugin.borg import Repository, find_borg
from borg_vault_plugin.history import Event, History
from borg_vault_plugin.retention import plan, protections
from borg_vault_plugin.sections import RepositorySettings

pytest_plugins = ("fix_server",)

WriteConfig = Callable[[str], Path]
Happened = Literal["verified", "drilled", "pinned", "unpinned"]

# Several in a day, the edges of days, weeks, months and years, a leap day, gaps.
TIMES = [
    "2023-12-31T23:59:59", "2024-01-01T00:00:00", "2024-02-28T01:00:00", "2024-02-29T01:00:00", "2024-03-31T00:30:00",
    "2024-03-31T02:30:00", "2024-12-29T12:00:00", "2024-12-30T12:00:00", "2024-12-31T23:59:59", "2025-01-01T00:00:00",
    "2025-01-05T23:59:59", "2025-01-06T00:00:00", "2025-05-01T01:00:00", "2025-10-26T00:30:00", "2025-10-26T01:30:00",
    "2026-01-31T01:00:00", "2026-02-28T01:00:00", "2026-03-31T01:00:00", "2026-05-01T00:59:59", "2026-05-01T01:00:00",
    "2026-05-01T13:00:00", "2026-05-01T23:59:59", "2026-05-02T00:00:00", "2026-05-03T01:00:00", "2026-05-03T01:00:01",
    "2026-05-05T01:00:00", "2026-05-06T01:00:00", "2026-05-07T01:00:00", "2026-05-08T01:00:00",
]  # fmt: skip
OURS = [f"prod-{time}Z" for time in TIMES]
FOREIGN = [
    "prod-2026-05-09T01:00:00Z.suspect", "prod-2024-01-02T00:00:00Z.unverified", "prod-2024-01-03T00:00:00Z.partial",
    "prod-eu-2024-01-01T00:00:00Z", "prod-keys-2024-01-01T00:00:00Z", "prod-2024-01-01", "holiday pictures",
]  # fmt: skip
OPTIONS = {
    "keep": "--keep-last",
    "keep_daily": "--keep-daily",
    "keep_weekly": "--keep-weekly",
    "keep_monthly": "--keep-monthly",
    "keep_yearly": "--keep-yearly",
}
SERIES = Series("prod", "database")
PLANNED = re.compile(r"^Would prune: +(\S+) ", re.MULTILINE)

rules = st.dictionaries(st.sampled_from(sorted(OPTIONS)), st.integers(1, 9), min_size=1)
happenings = st.lists(
    st.tuples(
        st.sampled_from(["verified", "drilled", "pinned", "unpinned"]),
        st.integers(0, len(OURS)),
        st.sampled_from(["good", "passed", "failed", "not_checked", None]),
    ),
    max_size=12,
)


@pytest.fixture(scope="session")
def archives(repository_template: Path, tmp_path_factory: pytest.TempPathFactory) -> PlainRepository:
    """A repository of 29 archives of ours and others; tests only look at it."""
    directory = tmp_path_factory.mktemp("archives")
    shutil.copytree(repository_template, directory / "repository")
    repository = PlainRepository(directory / "repository", directory / "base")
    for time, name in zip(TIMES, OURS, strict=True):
        repository.add_at(time, name, comment="verdict=good")
    for name in FOREIGN:
        repository.add_at("2024-01-01T12:00:00", name)
    return repository


@pytest.fixture
def own(
    archives: PlainRepository, tmp_path: Path, write_config: WriteConfig, monkeypatch: pytest.MonkeyPatch
) -> PlainRepository:
    """A copy of it, the test's own, with all that `prune` needs to know."""
    shutil.copytree(archives.path, tmp_path / "repository")
    monkeypatch.setenv("DATABASE_URL", "postgresql:///app")
    monkeypatch.setenv("BORG_REPO", str(tmp_path / "repository"))
    monkeypatch.setenv("BORG_PASSPHRASE", PASSPHRASE)
    write_config('label = "prod"')
    return PlainRepository(tmp_path / "repository", tmp_path / "plain-borg")


@pytest.fixture
def history(tmp_path: Path) -> History:
    """The history that the program of this test reads."""
    directory = tmp_path / "xdg_state_home" / "borg-vault"
    directory.mkdir()
    return History(directory / "history.ndjson")


def borg_would_prune(repository: PlainRepository, keep: Mapping[str, int]) -> set[str]:
    """Ask plain borg; it tells its plan on standard error."""
    options = [f"{OPTIONS[name]}={count}" for name, count in keep.items()]
    pattern = "--glob-archives=prod-????-??-??T??:??:??Z"
    command = [str(find_borg().program), "prune", "--dry-run", "--list", pattern, *options]
    done = subprocess.run(
        command, check=True, capture_output=True, text=True, timeout=SECONDS, env=repository.environment()
    )
    return set(PLANNED.findall(done.stderr))


def identifiers(repository: PlainRepository) -> tuple[str, dict[str, str]]:
    """Give the id of a repository, and those of its archives by their names."""
    document = json.loads(repository.borg("list", "--json"))
    return document["repository"]["id"], {archive["name"]: archive["id"] for archive in document["archives"]}


def remember(history: History, repository: PlainRepository, *happened: tuple[Happened, str, str | None]) -> None:
    """Write what happened to archives into the history."""
    repository_id, known = identifiers(repository)
    for number, (event, name, verdict) in enumerate(happened):
        archive_id = known.get(name, "00")
        history.append(happening(number, (event, name, verdict), repository=repository_id, archive_id=archive_id))


def happening(number: int, what: tuple[Happened, str, str | None], *, repository: str, archive_id: str) -> Event:
    event, name, verdict = what
    return Event(
        time=datetime(2026, 5, 9, tzinfo=UTC) + timedelta(seconds=number),
        event=event,
        repository=repository,
        archive=name,
        archive_id=archive_id,
        verdict=verdict,
        reason="the auditors' copy" if event == "pinned" else None,
    )


def expected_protections(
    names: list[str], good: list[str], happened: Iterable[tuple[str, str, str | None]]
) -> dict[str, set[str]]:
    """Say in the most obvious way why each archive must stay; names sort as their times do."""
    why: dict[str, set[str]] = {max(good or names): {"newest good"}} if names else {}
    events = [(event, name, verdict) for event, name, verdict in happened if name in names]
    for event, words in (("verified", "last verified"), ("drilled", "last drilled")):
        went_well = [name for other, name, verdict in events if other == event and verdict in (None, "good", "passed")]
        for name in went_well[-1:]:
            why.setdefault(name, set()).add(words)
    for name in names:
        pins = [event for event, other, _ in events if other == name and event in ("pinned", "unpinned")]
        if pins[-1:] == ["pinned"]:
            why.setdefault(name, set()).add("pinned: the auditors' copy")
    return why


@settings(deadline=None)
@given(present=st.sets(st.sampled_from(OURS)), good=st.sets(st.sampled_from(OURS)), happened=happenings)
def test_what_must_never_go_follows_from_history_and_from_what_archives_say(
    present: set[str], good: set[str], happened: list[tuple[Happened, int, Any]]
) -> None:
    names = [*OURS, "prod-2020-01-01T00:00:00Z"]
    events = [(event, names[number], verdict) for event, number, verdict in happened]
    stored = [
        Archive(
            name,
            f"id of {name}",
            datetime.fromisoformat(name.removeprefix("prod-")),
            "verdict=good manifest=sha256:00 set=database" if name in good else "",
        )
        for name in present
    ]
    told = [
        happening(number, event, repository="here", archive_id=f"id of {event[1]}")
        for number, event in enumerate(events)
    ]
    elsewhere = [
        happening(99, ("pinned", name, None), repository="elsewhere", archive_id=f"id of {name}") for name in names
    ]
    why = expected_protections(sorted(present), sorted(present & good), events)
    found = protections(stored, itertools.chain(elsewhere, told, elsewhere), "here")
    assert set(found) == {f"id of {name}" for name in why}
    for name, reasons in why.items():
        assert found[f"id of {name}"] in reasons


@settings(
    max_examples=5,
    deadline=None,
    phases=[Phase.explicit, Phase.reuse, Phase.generate],
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(keep=rules, happened=happenings)
def test_what_goes_and_what_is_spared_is_what_plain_borg_would_prune(
    keep: dict[str, int],
    happened: list[tuple[Happened, int, Any]],
    archives: PlainRepository,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    names = [*OURS, "prod-2020-01-01T00:00:00Z"]
    events = [(event, names[number], verdict) for event, number, verdict in happened]
    history = History(tmp_path_factory.mktemp("history") / "history.ndjson")
    remember(history, archives, *events)
    repository = Repository("here", RepositorySettings(path=str(archives.path)), find_borg(), PASSPHRASE)
    planned = plan(repository, repository.inventory(), SERIES, keep, history)
    removed, spared, kept = (set(planned.names(action)) for action in ("remove", "spare", "keep"))
    assert removed | spared == borg_would_prune(archives, keep)
    assert removed | spared | kept == set(OURS)
    assert len(planned.fates) == len(OURS)
    protected = set(expected_protections(OURS, OURS, events))
    assert not removed & protected
    assert spared == protected - kept
    assert OURS[-1] in kept


def protect(history: History, repository: PlainRepository) -> dict[str, str]:
    """Pin, verify and drill old archives; give the names of those that must stay, with the reason."""
    remember(
        history,
        repository,
        ("pinned", OURS[0], None),
        ("pinned", OURS[1], None),
        ("verified", OURS[3], "passed"),
        ("verified", OURS[4], "good"),
        ("verified", OURS[6], "failed"),
        ("drilled", OURS[5], None),
        ("unpinned", OURS[1], None),
    )
    return {OURS[0]: "pinned: the auditors' copy", OURS[4]: "last verified", OURS[5]: "last drilled"}


def test_a_plan_is_applied_exactly(own: PlainRepository, history: History, run_cli: RunCli) -> None:
    spared = protect(history, own)
    before = identifiers(own)[1]
    document = run_cli("prune", "--keep", "5", "--json", exit_code=0).document
    going = [name for name in OURS[:-5] if name not in spared]
    assert document["pruned"] == [{"repository": "default", "removed": going, "spared": sorted(spared)}]
    assert own.names() == sorted([*OURS[-5:], *spared, *FOREIGN])  # the newest good one too, older than a suspect one
    removals = [event for event in history.events() if event.event == "removed"]
    assert [(event.archive, event.archive_id) for event in removals] == [(name, before[name]) for name in going]
    assert {event.reason for event in removals} == {"retention keeps 5 newest"}
    assert {event.repository for event in removals} == {identifiers(own)[0]}
    again = run_cli("prune", "--keep", "5", "--json", exit_code=0).document
    assert again["pruned"][0] == {"repository": "default", "removed": [], "spared": sorted(spared)}
    own.borg("check")


def test_without_anything_spared_the_rest_is_what_plain_borg_leaves(
    own: PlainRepository, history: History, run_cli: RunCli
) -> None:
    words = ["--keep-daily", "2", "--keep-monthly", "3", "--keep-yearly", "2"]
    going = borg_would_prune(own, {"keep_daily": 2, "keep_monthly": 3, "keep_yearly": 2})
    run_cli("prune", *words, exit_code=0)
    assert own.names() == sorted({*OURS, *FOREIGN} - going)
    removals = [event for event in history.events() if event.event == "removed"]
    assert {event.archive for event in removals} == going
    assert {event.reason for event in removals} == {"retention keeps 2 daily, 3 monthly, 2 yearly"}


def test_a_dry_run_gives_every_fate_with_its_reason_and_changes_nothing(
    own: PlainRepository, history: History, run_cli: RunCli
) -> None:
    spared = protect(history, own)
    written = history.path.read_bytes()
    said = run_cli("prune", "--dry-run", "--keep", "3", "--keep-yearly", "1", exit_code=0).stdout
    rows = {line.split()[0]: line for line in said.splitlines() if line.startswith("prod-")}
    assert list(rows) == OURS
    for name, reason in spared.items():
        assert re.search(rf" spare +{re.escape(reason)}$", rows[name])
    assert re.search(r" keep +secondly #1$", rows[OURS[-1]])
    assert re.search(r" keep +yearly", said, re.MULTILINE)
    assert re.search(r" remove +no rule keeps it$", rows[OURS[1]])
    assert "would remove" in said
    assert own.names() == sorted(OURS + FOREIGN)
    assert history.path.read_bytes() == written


def test_a_history_that_is_torn_still_protects(own: PlainRepository, history: History, run_cli: RunCli) -> None:
    spared = protect(history, own)
    data = history.path.read_bytes()
    history.path.write_bytes(
        b'{"time":"20\n\n[]\nnull\n\xff\xfe\n' + data + b'{"time":"2026-05-09T00:00:00Z","event":"remo'
    )
    document = run_cli("prune", "--keep", "5", "--json", exit_code=0).document
    assert document["pruned"][0]["spared"] == sorted(spared)
    assert history.path.read_bytes().count(b'"event":"removed"') == len(document["pruned"][0]["removed"])
    assert sum(1 for event in history.events() if event.event == "removed") == len(document["pruned"][0]["removed"])


def test_what_borg_left_unfinished_is_not_the_newest_good_archive(
    own: PlainRepository, history: History, run_cli: RunCli
) -> None:
    assert history.path.parent.is_dir()
    unfinished = "prod-2026-06-01T01:00:00Z.checkpoint"
    own.add_at("2026-06-01T01:00:00", unfinished)
    document = run_cli("prune", "--dry-run", "--keep", "1", "--json", exit_code=0).document
    assert {fate["archive"] for fate in document["plan"]} == set(OURS)
    assert document["pruned"][0] == {"repository": "default", "removed": OURS[:-1], "spared": []}
