"""Retention that cannot hurt: nothing is pruned while there is an archive that history does not explain."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from fix_cli import RunCli, Said
from fix_history import Server
from fix_repository import PlainRepository
from fix_shelf import Shelf, passphrase

from borg_vault_plugin.history import Event

pytest_plugins = ("fix_server", "fix_good_night", "fix_sets")

NAMES = [f"prod-provisioning-2026-05-{day:02}T01:00:00Z" for day in range(1, 6)]
DATABASES = "prod-2026-05-01T01:00:00Z"
SET = ("--set", "provisioning")


def at(name: str) -> str:
    """Give the time in a name, as Borg takes it."""
    return name[-20:].removesuffix("Z")


def named(time: datetime) -> str:
    return f"prod-provisioning-{time:%Y-%m-%dT%H:%M:%SZ}"


@pytest.fixture(scope="session")
def stock(pool: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository with five nights of ours, and one of the database's."""
    place = tmp_path_factory.mktemp("stock")
    shutil.copytree(pool / "nas", place / "nas")
    repository = PlainRepository(place / "nas", place / "base", passphrase("nas"))
    for name in (DATABASES, *NAMES):
        repository.add_at(at(name), name, comment=f"verdict=good manifest=sha256:{name[-20:-10]}")
    return repository.path


@pytest.fixture
def fresh(stock: Path, provisioned: Shelf) -> Shelf:
    """A shelf whose `nas` has five nights that this host has never seen."""
    shutil.rmtree(provisioned["nas"].path)
    shutil.copytree(stock, provisioned["nas"].path)
    return provisioned


@pytest.fixture
def known(fresh: Shelf) -> Shelf:
    """A shelf whose `nas` has five nights that this host knows."""
    fresh.run("prune", *SET, "--keep", "9", exit_code=0)
    return fresh


def prune(shelf: Shelf, *words: object, exit_code: int = 0) -> Any:
    """Apply retention and give what became of `nas`."""
    (pruned,) = shelf.run("prune", *SET, *words, "--json", exit_code=exit_code).document["pruned"]
    return pruned


def codes(pruned: Any) -> list[tuple[str, str]]:
    """Give code and archive of everything that stopped retention."""
    return [(one["code"], one["where"].removeprefix("archive ")) for one in pruned["refused"]]


def accept(shelf: Shelf, pruned: Any) -> Said:
    ids = [one["id"] for one in pruned["refused"]]
    return shelf.run("accept", *ids, "--reason", "we did that, ticket 4711", exit_code=0)


def nights(shelf: Shelf) -> list[str]:
    """Give the archives of the provisioning files."""
    return [name for name in shelf["nas"].names() if name.startswith("prod-provisioning-")]


def test_what_is_there_at_first_contact_is_ours(fresh: Shelf) -> None:
    pruned = prune(fresh, "--keep", "4")
    assert pruned["removed"] == NAMES[:1]
    assert "refused" not in pruned
    adopted = fresh.events("adopted")
    assert [event.archive for event in adopted] == NAMES
    assert {event.verdict for event in adopted} == {"good"}
    assert {one["id"] for one in fresh["nas"].archives() if one["name"] in NAMES} < {one.archive_id for one in adopted}
    prune(fresh, "--keep", "4")
    assert len(fresh.events("adopted")) == len(NAMES)


def test_a_rehearsal_adopts_nothing(fresh: Shelf) -> None:
    assert prune(fresh, "--dry-run", "--keep", "4")["removed"] == NAMES[:1]
    assert fresh.events("adopted") == []


def _deleted(nas: PlainRepository) -> list[tuple[str, str]]:
    nas.borg("delete", f"::{NAMES[1]}", f"{NAMES[3]}")
    return [("RETENTION_ARCHIVE_MISSING", NAMES[1]), ("RETENTION_ARCHIVE_MISSING", NAMES[3])]


def _replaced(nas: PlainRepository) -> list[tuple[str, str]]:
    (was,) = [one["comment"] for one in nas.archives() if one["name"] == NAMES[2]]
    nas.borg("delete", f"::{NAMES[2]}")
    nas.add_at(at(NAMES[2]), NAMES[2], comment=was)
    return [("RETENTION_ARCHIVE_CHANGED", NAMES[2])]


def _renamed(nas: PlainRepository) -> list[tuple[str, str]]:
    other = "prod-provisioning-2026-05-20T01:00:00Z"
    nas.borg("rename", f"::{NAMES[0]}", other)
    return [("RETENTION_ARCHIVE_MISSING", NAMES[0]), ("RETENTION_ARCHIVE_UNKNOWN", other)]


def _called_suspect(nas: PlainRepository) -> list[tuple[str, str]]:
    nas.borg("rename", f"::{NAMES[4]}", f"{NAMES[4]}.suspect")
    return [("RETENTION_ARCHIVE_MISSING", NAMES[4]), ("RETENTION_ARCHIVE_UNKNOWN", f"{NAMES[4]}.suspect")]


def _added(nas: PlainRepository) -> list[tuple[str, str]]:
    name = "prod-provisioning-2026-05-20T01:00:00Z"
    nas.add_at(at(name), name, comment="verdict=good")
    return [("RETENTION_ARCHIVE_UNKNOWN", name)]


def _added_to_the_future(nas: PlainRepository) -> list[tuple[str, str]]:
    name = named(datetime.now(UTC) + timedelta(days=400))
    nas.add_at(at(name), name, comment="verdict=good")
    return [("RETENTION_ARCHIVE_FUTURE", name), ("RETENTION_ARCHIVE_UNKNOWN", name)]


TRICKS = [_deleted, _replaced, _renamed, _called_suspect, _added, _added_to_the_future]


@pytest.mark.parametrize("trick", TRICKS, ids=lambda trick: trick.__name__.strip("_").replace("_", " "))
def test_what_history_does_not_explain_stops_retention_until_it_is_accepted(
    trick: Callable[[PlainRepository], list[tuple[str, str]]], known: Shelf
) -> None:
    expected = trick(known["nas"])
    before = known["nas"].names()
    refused = prune(known, "--keep", "1", exit_code=12)
    assert sorted(codes(refused)) == sorted(expected)
    assert (refused["removed"], refused["spared"]) == ([], [])
    rehearsed = prune(known, "--keep", "1", "--dry-run", exit_code=12)
    assert rehearsed["refused"] == refused["refused"]
    assert known["nas"].names() == before
    said = accept(known, refused).stdout
    assert all(f"accepted {code} at archive {name}: we did that" in said for code, name in expected)
    assert prune(known, "--keep", "1")["removed"]
    assert DATABASES in known["nas"].names()


def test_text_says_what_to_do(known: Shelf) -> None:
    _deleted(known["nas"])
    said = known.run("prune", *SET, "--keep", "1", exit_code=12)
    assert "nas: retention REFUSED: history does not explain 2 archives" in said.stdout
    (first, second) = said.stderr.splitlines()
    assert f"archive {NAMES[1]} of " in first
    assert "is gone, and no run of this host removed it" in second
    ids = [line.rpartition("[id ")[2].removesuffix("]") for line in (first, second)]
    assert all(f"id {finding}]" in said.stdout for finding in ids)
    known.run("accept", ids[0], "--reason", "x", exit_code=0)
    assert "history does not explain 1 archive\n" in known.run("prune", *SET, exit_code=12).stdout


def test_an_acceptance_is_for_one_event_only(known: Shelf) -> None:
    nas = known["nas"]
    nas.borg("delete", f"::{NAMES[1]}")
    accept(known, prune(known, exit_code=12))
    assert prune(known)["removed"] == []
    nas.borg("delete", f"::{NAMES[2]}")
    assert codes(prune(known, exit_code=12)) == [("RETENTION_ARCHIVE_MISSING", NAMES[2])]


@pytest.mark.parametrize(("minutes", "exit_code"), [(9, 0), (11, 12)])
def test_clocks_may_differ_by_ten_minutes(minutes: int, exit_code: int, fresh: Shelf) -> None:
    """At first contact, when every archive is taken for ours."""
    name = named(datetime.now(UTC) + timedelta(minutes=minutes))
    fresh["nas"].add_at(at(name), name, comment="verdict=good")
    pruned = prune(fresh, "--keep", "9", exit_code=exit_code)
    assert ("refused" in pruned) == (minutes > 10)
    if minutes > 10:
        assert codes(pruned) == [("RETENTION_ARCHIVE_FUTURE", name)]


def test_create_stores_all_the_same_and_says_why_it_did_not_prune(known: Shelf) -> None:
    _deleted(known["nas"])
    said = known.run("create", *SET, "--keep", "1", "--json", exit_code=12)
    document = said.document
    assert [one["status"] for one in document["repositories"]] == ["stored"]
    assert len(document["pruned"][0]["refused"]) == 2
    assert "is gone, and no run of this host removed it" in said.stderr
    assert set(nights(known)) == {*NAMES, document["archive"]} - {NAMES[1], NAMES[3]}
    accept(known, document["pruned"][0])
    assert prune(known, "--keep", "1")["removed"] == [NAMES[0], NAMES[2], NAMES[4]]
    assert nights(known) == [document["archive"]]


def test_what_our_own_retention_removes_is_explained(known: Shelf) -> None:
    assert prune(known, "--keep", "3")["removed"] == NAMES[:2]
    assert prune(known, "--keep", "2")["removed"] == NAMES[2:3]
    removed = known.events("removed")
    assert [(event.archive, event.reason) for event in removed] == [
        (NAMES[0], "retention keeps 3 newest"),
        (NAMES[1], "retention keeps 3 newest"),
        (NAMES[2], "retention keeps 2 newest"),
    ]
    known.run("prune", *SET, "--keep-daily", "1", exit_code=0)
    assert known.events("removed")[-1].reason == "retention keeps 1 daily"
    said = known.run("history", exit_code=0).stdout
    assert f"removed       {NAMES[0]}  retention keeps 3 newest" in said


def test_other_sets_and_other_peoples_archives_are_nobodys_business(known: Shelf) -> None:
    nas = known["nas"]
    nas.borg("delete", f"::{DATABASES}")
    nas.add(
        "holidays", "prod-provisioning-old", "prod-eu-provisioning-2026-05-20T01:00:00Z", "prod-2026-05-20T01:00:00Z"
    )
    assert prune(known, "--keep", "4")["removed"] == NAMES[:1]


def test_what_a_killed_run_left_is_swept_and_explained(known: Shelf) -> None:
    known["nas"].add_at("2026-05-20T01:00:00", "prod-provisioning-2026-05-20T01:00:00Z.partial")
    known.run("create", *SET, "--no-prune", exit_code=0)
    assert [event.archive for event in known.events("swept")] == ["prod-provisioning-2026-05-20T01:00:00Z.partial"]
    prune(known)


def rewrite_history(shelf: Shelf, keep: Callable[[Event], bool]) -> None:
    """Have history end where a run was killed: leave some events out."""
    events = [event for event in shelf.history().events() if keep(event)]
    (shelf.state / "history.ndjson").write_bytes(b"".join(event.line() for event in events))


def test_an_archive_whose_run_was_killed_before_it_could_say_so_is_explained_by_the_intent(known: Shelf) -> None:
    name = known.run("create", *SET, "--no-prune", "--json", exit_code=0).document["archive"]
    rewrite_history(known, lambda event: event.event != "created")
    prune(known)
    rewrite_history(known, lambda event: event.event != "intended")
    assert codes(prune(known, exit_code=12)) == [("RETENTION_ARCHIVE_UNKNOWN", name)]


def test_an_intent_explains_nothing_but_its_own_set(known: Shelf) -> None:
    nas = known["nas"]
    name = known.run("create", *SET, "--no-prune", "--json", exit_code=0).document["archive"]
    rewrite_history(known, lambda event: event.event != "created")
    nas.borg("delete", f"::{name}")
    nas.add_at(at(name), name, comment=f"verdict=good manifest=sha256:{64 * '0'} set=provisioning")
    assert codes(prune(known, exit_code=12)) == [("RETENTION_ARCHIVE_UNKNOWN", name)]
    nas.borg("delete", f"::{name}")
    nas.add_at(at(name), name)
    assert codes(prune(known, exit_code=12)) == [("RETENTION_ARCHIVE_UNKNOWN", name)]


def test_a_prune_that_was_killed_is_explained_whether_it_had_come_to_pass_or_not(known: Shelf) -> None:
    ids = {one["name"]: one["id"] for one in known["nas"].archives()}
    prune(known, "--keep", "4")
    rewrite_history(known, lambda event: event.event != "removed")
    prune(known, "--keep", "4")
    template = next(event for event in known.history().events() if event.event == "removing")
    meant = {"archive": NAMES[1], "archive_id": ids[NAMES[1]]}
    known.history().append(Event(**{name: getattr(template, name) for name in template.__struct_fields__} | meant))
    assert prune(known, "--keep", "3")["removed"] == [NAMES[1]]


def test_losing_history_is_a_first_contact_again(known: Shelf) -> None:
    known["nas"].borg("delete", f"::{NAMES[1]}")
    known.forget()
    prune(known, "--keep", "9")
    assert [event.archive for event in known.events("adopted")] == [NAMES[0], *NAMES[2:]]


def test_one_repository_that_refuses_does_not_stop_another(known: Shelf, tree: Path) -> None:
    second = known["second"]
    for name in NAMES[:3]:
        second.add_at(at(name), name, comment="verdict=good")
    known.configure(f"[sets.provisioning]\npath = '{tree}'\nkeep = 2", nas="", second="")
    _added(known["nas"])
    first, other = known.run("prune", *SET, "--json", exit_code=12).document["pruned"]
    assert (first["repository"], len(first["refused"]), first["removed"]) == ("nas", 1, [])
    assert other == {"repository": "second", "removed": NAMES[:1], "spared": []}


def test_pinned_archives_stay_until_they_are_unpinned(known: Shelf) -> None:
    said = known.run("pin", NAMES[0], "--reason", "the auditors' copy", exit_code=0).stdout
    assert said == f"nas: {NAMES[0]} is pinned\n"
    rehearsed = known.run("prune", *SET, "--keep", "2", "-n", "--json", exit_code=0).document
    assert [(one["archive"], one["reason"]) for one in rehearsed["plan"] if one["action"] == "spare"] == [
        (NAMES[0], "pinned: the auditors' copy")
    ]
    pruned = prune(known, "--keep", "2")
    assert (pruned["removed"], pruned["spared"]) == (NAMES[1:3], NAMES[:1])
    assert nights(known) == [NAMES[0], *NAMES[3:]]
    known.run("create", *SET, "--keep", "2", exit_code=0)
    assert NAMES[0] in nights(known)
    known.run("unpin", NAMES[0], exit_code=0)
    assert NAMES[0] in prune(known, "--keep", "2")["removed"]


def test_only_what_is_there_can_be_pinned_and_only_with_a_reason(known: Shelf) -> None:
    assert "there is no archive nothing" in known.run("pin", "nothing", "--reason", "x", exit_code=2).stderr
    assert "there is no archive nothing" in known.run("unpin", "nothing", exit_code=2).stderr
    assert "a reason is missing" in known.run("pin", NAMES[0], "--reason", "  ", exit_code=2).stderr
    known.run("pin", NAMES[0], exit_code=2)
    assert known.events("pinned") == []


def test_an_archive_is_pinned_wherever_it_is(known: Shelf, tree: Path, tmp_path: Path) -> None:
    """Also when a repository cannot be read, of which the run then tells."""
    known["escrow"].add_at(at(NAMES[0]), NAMES[0])
    gone = f"[repositories.gone]\npath = '{tmp_path}/gone'\npassphrase = {{ env = 'HOME' }}\n"
    sets = f"{gone}[sets.provisioning]\npath = '{tree}'"
    known.configure(sets, nas="", second="", escrow="")
    said = known.run("pin", NAMES[0], "--reason", "x", exit_code=5).stderr
    assert "repository gone" in said
    known.configure(f"[sets.provisioning]\npath = '{tree}'", nas="", second="", escrow="")
    assert len({event.repository for event in known.events("pinned")}) == 2
    said = known.run("pin", NAMES[0], "--reason", "x", exit_code=0).stdout
    assert said == f"nas: {NAMES[0]} is pinned\nescrow: {NAMES[0]} is pinned\n"


def test_seven_fresh_archives_of_somebody_else_push_no_good_one_out(seasoned: Server, run_cli: RunCli) -> None:
    """Whoever may only append chooses with names and dates what the newest seven are."""
    good, attacked = seasoned.name, datetime.now(UTC).replace(microsecond=0)
    comment = seasoned.repository.archives()[0]["comment"]
    forged = [f"prod-{attacked + timedelta(seconds=place):%Y-%m-%dT%H:%M:%SZ}" for place in range(60, 67)]
    for name in forged:
        seasoned.repository.add_at(at(name), name, comment=comment)
    document = run_cli("create", "--keep", "7", "--json", exit_code=12).document
    assert [one["status"] for one in document["repositories"]] == ["stored"]
    (pruned,) = document["pruned"]
    assert sorted(codes(pruned)) == sorted(("RETENTION_ARCHIVE_UNKNOWN", name) for name in forged)
    assert run_cli("prune", "--keep", "7", exit_code=12).stdout.count("RETENTION_ARCHIVE_UNKNOWN") == 7
    assert good in seasoned.repository.names()
    seasoned.repository.borg("delete", f"::{forged[0]}", *forged[1:])
    assert seasoned.night("--keep", "7")["pruned"][0]["removed"] == []
    assert good in seasoned.repository.names()
