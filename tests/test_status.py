"""`status`: do we have a complete, restorable backup? Yes, or each thing that is missing, one by one."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import jsonschema  # type: ignore[import-untyped]
import pytest
from fix_repository import PlainRepository
from fix_shelf import NAMES, Shelf, id_of, passphrase, variable

from borg_vault_plugin.archive import Series, SetName
from borg_vault_plugin.history import Event, Happening

pytest_plugins = ("fix_server", "fix_sets")

HOUR = timedelta(hours=1)
HELD: dict[str, tuple[SetName, ...]] = {
    "nas": ("database", "provisioning"),
    "second": ("database",),
    "escrow": ("keys",),
}
DATABASE = "[sets.database]\nrepositories = ['nas', 'second']\n"
PROVISIONING = "[sets.provisioning]\npath = '/p'\nrepositories = ['nas']\n"
KEYS = "[sets.keys]\ncommand = 'echo key'\nrepositories = ['escrow']\n"
ATTESTED = "[sets.keys]\nattest = 'true'\n"

NULL = {"type": "null"}
NUMBER = {"type": "number", "minimum": 0}
INSTANT = {"type": "string", "pattern": r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z$"}
TEXTS = {"type": "array", "items": {"type": "string", "minLength": 1}}


def exactly(**properties: object) -> dict[str, object]:
    """Give the schema of an object with these properties, all of them and no others."""
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


def perhaps(schema: object) -> dict[str, object]:
    return {"anyOf": [schema, NULL]}


DOCUMENT = exactly(
    complete={"type": "boolean"},
    sets={
        "type": "array",
        "items": exactly(
            set={"enum": ["database", "provisioning", "keys"]},
            archive=perhaps({"type": "string"}),
            repositories=TEXTS,
            time=perhaps(INSTANT),
            age_seconds=perhaps(NUMBER),
            max_age_seconds=perhaps(NUMBER),
            attested={"type": "boolean"},
            last_drill=perhaps(INSTANT),
            problems=TEXTS,
        ),
    },
    repositories={
        "type": "array",
        "items": exactly(
            repository={"type": "string"},
            last_check=perhaps(INSTANT),
            key_exported=perhaps(INSTANT),
            problems=TEXTS,
        ),
    },
    history_since=perhaps(INSTANT),
)


@dataclass(frozen=True, slots=True)
class Made:
    """Repositories with an archive of each set, an hour old when they were made."""

    place: Path
    time: datetime

    def name(self, set_name: SetName) -> str:
        """Name the archive of a set."""
        return Series("prod", set_name).name(self.time)


@dataclass(frozen=True, slots=True)
class Installation:
    """A Server with everything that makes a complete backup, and what takes it away."""

    shelf: Shelf
    made: Made

    def told(self, *, exit_code: int = 13) -> Any:
        """Give the document of `status`."""
        document = self.shelf.run("status", "--json", exit_code=exit_code).document
        jsonschema.validate(document, DOCUMENT)
        return document

    def only_problem(self) -> tuple[str, str]:
        """Give the one problem that there is, and whose it is."""
        document = self.told()
        found = [(one["set"], word) for one in document["sets"] for word in one["problems"]]
        found += [(one["repository"], word) for one in document["repositories"] for word in one["problems"]]
        assert len(found) == 1, found
        assert not document["complete"]
        whose, word = found[0]
        assert any(line.endswith(f"{whose}: {word}") for line in self.text().splitlines())
        return found[0]

    def text(self) -> str:
        """Give what `status` says to people."""
        said = self.shelf.run("status", exit_code=13).stdout
        assert said.startswith("complete backup: NO\n")
        return said

    def configure(self, text: str) -> None:
        """Write another configuration."""
        self.shelf.configure(text, nas="", second="", escrow="")

    def note(self, happening: Happening, *, repository: str = "", age: timedelta = HOUR, **more: Any) -> None:
        """Have something happened so long ago."""
        identity = id_of(self.shelf[repository]) if repository else ""
        event = {"archive": repository, "repository": identity} | more
        self.shelf.history().append(Event(time=datetime.now(UTC) - age, event=happening, **event))


@pytest.fixture(scope="session")
def made(pool: Path, tmp_path_factory: pytest.TempPathFactory) -> Made:
    """Repositories, to be copied."""
    made = Made(tmp_path_factory.mktemp("made"), datetime.now(UTC).replace(microsecond=0) - HOUR)
    for name, sets in HELD.items():
        shutil.copytree(pool / name, made.place / name)
        repository = PlainRepository(made.place / name, made.place / "base", passphrase(name))
        for set_name in sets:
            repository.add_at(f"{made.time:%Y-%m-%dT%H:%M:%S}", made.name(set_name), comment="verdict=good")
    return made


@pytest.fixture
def whole(shelf: Shelf, made: Made) -> Installation:
    """A Server with everything that makes a complete backup."""
    for name in HELD:
        shutil.rmtree(shelf[name].path)
        shutil.copytree(made.place / name, shelf[name].path)
    installation = Installation(shelf, made)
    for name in HELD:
        installation.note("key_exported", repository=name, where="/media/safe/key")
    installation.configure(DATABASE + PROVISIONING + KEYS)
    return installation


def test_a_complete_backup_is_all_three(whole: Installation) -> None:
    before = (whole.shelf.state / "history.ndjson").read_bytes()
    document = whole.told(exit_code=0)
    assert document["complete"]
    assert [(one["set"], one["archive"], one["repositories"]) for one in document["sets"]] == [
        ("database", whole.made.name("database"), ["nas", "second"]),
        ("provisioning", whole.made.name("provisioning"), ["nas"]),
        ("keys", whole.made.name("keys"), ["escrow"]),
    ]
    for one, longest in zip(document["sets"], (26 * 3600, 8 * 86_400, 32 * 86_400), strict=True):
        assert datetime.fromisoformat(one["time"]) == whole.made.time
        assert 3600 <= one["age_seconds"] < 7200
        assert (one["max_age_seconds"], one["attested"], one["last_drill"], one["problems"]) == (
            longest,
            False,
            None,
            [],
        )
    assert [one["repository"] for one in document["repositories"]] == ["nas", "second", "escrow"]
    assert all(
        one["key_exported"] == document["history_since"] or one["key_exported"] for one in document["repositories"]
    )
    assert {one["last_check"] for one in document["repositories"]} == {None}
    said = whole.shelf.run("status", exit_code=0).stdout
    assert said.startswith("complete backup: yes\n")
    (line,) = [line for line in said.splitlines() if line.startswith("database ")]
    assert whole.made.name("database") in line
    assert "1 day 2 hours" in line
    assert "nas, second" in line
    assert (whole.shelf.state / "history.ndjson").read_bytes() == before


@pytest.mark.parametrize(
    ("sets", "whose", "words"),
    [
        (DATABASE + KEYS, "provisioning", "add [sets.provisioning] to the configuration"),
        (DATABASE + PROVISIONING, "keys", "add [sets.keys] to the configuration"),
        (f"{DATABASE}max_age = '30m'\n{PROVISIONING}{KEYS}", "database", "hours old, and may be 0.5 hours"),
        (f"{DATABASE}{PROVISIONING}max_age = '30m'\n{KEYS}", "provisioning", "hours old, and may be 0.5 hours"),
        (f"{DATABASE}{PROVISIONING}{KEYS}max_age = '30m'\n", "keys", "hours old, and may be 0.5 hours"),
        (
            f"{DATABASE}max_drill_age = '7d'\n{PROVISIONING}{KEYS}",
            "database",
            "no drill has passed: run `borg-vault drill`",
        ),
        (
            DATABASE + PROVISIONING.replace("nas", "second") + KEYS,
            "provisioning",
            "there is no good archive: run `borg-vault create --set provisioning`",
        ),
        (DATABASE + PROVISIONING + ATTESTED, "keys", "never attested: run `borg-vault create --set keys`"),
    ],
)
def test_what_is_missing_of_a_set_is_named(sets: str, whose: str, words: str, whole: Installation) -> None:
    whole.configure(sets)
    found, said = whole.only_problem()
    assert found == whose
    assert words in said


def test_without_any_archive_the_first_backup_is_what_is_missing(whole: Installation, pool: Path) -> None:
    for name in HELD:
        shutil.rmtree(whole.shelf[name].path)
        shutil.copytree(pool / name, whole.shelf[name].path)
    document = whole.told()
    assert [one["problems"] for one in document["sets"]] == [
        ["there is no good archive: run `borg-vault create`"],
        ["there is no good archive: run `borg-vault create --set provisioning`"],
        ["there is no good archive: run `borg-vault create --set keys`"],
    ]
    assert [one["age_seconds"] for one in document["sets"]] == [None, None, None]


@pytest.mark.parametrize(
    "ending", ["Z.suspect", "Z.unverified", "Z.partial", "Z"], ids=["suspect", "unverified", "partial", "not said"]
)
def test_only_a_good_archive_counts(ending: str, whole: Installation) -> None:
    whole.configure(f"{DATABASE}max_age = '30m'\n{PROVISIONING}{KEYS}")
    now = datetime.now(UTC)
    for name in ("nas", "second"):
        comment = "" if ending == "Z" else f"verdict={ending.removeprefix('Z.')}"
        whole.shelf[name].add_at(f"{now:%Y-%m-%dT%H:%M:%S}", f"prod-{now:%Y-%m-%dT%H:%M:%S}{ending}", comment=comment)
    assert whole.only_problem()[0] == "database"
    assert whole.told()["sets"][0]["archive"] == whole.made.name("database")


def test_an_archive_from_the_future_does_not_hide_that_none_is_made(whole: Installation) -> None:
    whole.configure(f"{DATABASE}max_age = '30m'\n{PROVISIONING}{KEYS}")
    then = datetime.now(UTC) + timedelta(days=365)
    name = f"prod-{then:%Y-%m-%dT%H:%M:%SZ}"
    whole.shelf["nas"].add_at(name[5:].removesuffix("Z"), name, comment="verdict=good")
    database = whole.told()["sets"][0]
    assert database["archive"] == whole.made.name("database")
    stale, forged = database["problems"]
    assert "old, and may be 0.5 hours" in stale
    assert f"archive {name} in repository nas is dated {then:%Y-%m-%d}" in forged


def test_an_archive_that_disappeared_is_told_until_it_is_accepted(whole: Installation) -> None:
    whole.note("created", repository="nas", archive="prod-2026-05-01T01:00:00Z", archive_id="00")
    mine = whole.shelf["nas"].archives()[0]["id"]
    whole.note("created", repository="nas", archive=whole.made.name("database"), archive_id=mine)
    found, said = whole.only_problem()
    assert found == "database"
    assert said.startswith("archive prod-2026-05-01T01:00:00Z in repository nas of ")
    assert said.endswith("(00): see `borg-vault prune --dry-run`")
    refused = whole.shelf.run("prune", "-n", "-r", "nas", "--json", exit_code=12).document["pruned"][0]["refused"]
    whole.shelf.run("accept", *(one["id"] for one in refused), "--reason", "the disk was replaced", exit_code=0)
    whole.told(exit_code=0)


def test_an_archive_that_somebody_added_is_told(whole: Installation) -> None:
    mine = whole.shelf["escrow"].archives()[0]["id"]
    whole.note("created", repository="escrow", archive=whole.made.name("keys"), archive_id=mine)
    whole.told(exit_code=0)
    whole.shelf["escrow"].add_at("2026-05-01T01:00:00", "prod-keys-2026-05-01T01:00:00Z", comment="verdict=good")
    found, said = whole.only_problem()
    assert found == "keys"
    assert "no run of this host made it" in said


def test_a_repository_that_is_left_behind_is_told(whole: Installation) -> None:
    second, name = whole.shelf["second"], whole.made.name("database")
    second.borg("delete", f"::{name}")
    assert whole.only_problem() == ("database", "repository second has no good archive")
    assert whole.told()["sets"][0]["repositories"] == ["nas"]
    old = datetime.now(UTC) - timedelta(days=3)
    second.add_at(f"{old:%Y-%m-%dT%H:%M:%S}", f"prod-{old:%Y-%m-%dT%H:%M:%SZ}", comment="verdict=good")
    assert whole.only_problem() == ("database", "the last good archive in repository second is 3.0 days old")


def _gone(shelf: Shelf, _patch: pytest.MonkeyPatch) -> None:
    shelf["second"].path.rename(shelf["second"].path.with_name("elsewhere"))


def _closed(_shelf: Shelf, patch: pytest.MonkeyPatch) -> None:
    patch.delenv(variable("second"))


def _wrong_passphrase(_shelf: Shelf, patch: pytest.MonkeyPatch) -> None:
    patch.setenv(variable("second"), "wrong")


@pytest.mark.parametrize("trouble", [_gone, _closed, _wrong_passphrase])
def test_a_repository_that_cannot_be_read_is_a_problem_and_no_error(
    trouble: Callable[[Shelf, pytest.MonkeyPatch], None], whole: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    trouble(whole.shelf, monkeypatch)
    found, said = whole.only_problem()
    assert found == "second"
    assert "repository second" in said
    assert whole.told()["sets"][0]["repositories"] == ["nas"]


def test_the_key_of_every_repository_must_be_exported_and_elsewhere(whole: Installation, tmp_path: Path) -> None:
    whole.note("key_exported", repository="escrow", age=-HOUR, where=str(tmp_path / "key"))
    whole.told(exit_code=0)
    (tmp_path / "key").touch()
    assert whole.only_problem() == (
        "escrow",
        f"its exported key is still on this machine: move {tmp_path / 'key'} elsewhere",
    )


def test_a_key_that_was_never_exported_is_told(whole: Installation) -> None:
    events = [event for event in whole.shelf.history().events() if event.archive != "nas"]
    (whole.shelf.state / "history.ndjson").write_bytes(b"".join(event.line() for event in events))
    found, said = whole.only_problem()
    assert found == "nas"
    assert said == (
        "its key was never exported: run `borg-vault init -r nas --key-out FILE` and keep the file elsewhere"
    )


def test_the_key_of_a_repository_that_was_there_before_is_none_of_this_ones(whole: Installation, pool: Path) -> None:
    """The path is the same, the repository is another one."""
    shutil.rmtree(whole.shelf["escrow"].path)
    shutil.copytree(pool / "third", whole.shelf["escrow"].path)
    reference = f"{{ env = '{variable('third')}' }}"
    escrow = f"[repositories.escrow]\npath = '{whole.shelf['escrow'].path}'\npassphrase = {reference}\n"
    whole.shelf.configure(DATABASE + PROVISIONING + ATTESTED + escrow, nas="", second="")
    whole.note("attested", archive="prod-keys")
    found, said = whole.only_problem()
    assert (found, said.partition(":")[0]) == ("escrow", "its key was never exported")


def test_an_attestation_counts_as_long_as_it_is_young_and_ours(whole: Installation) -> None:
    whole.configure(DATABASE + PROVISIONING + ATTESTED + "max_age = '2h'\n")
    whole.note("attested", archive="other-keys")
    assert whole.only_problem()[0] == "keys"
    whole.note("attested", archive="prod-keys", age=3 * HOUR)
    assert whole.only_problem() == ("keys", "3.0 hours old, and may be 2.0 hours")
    whole.note("attested", archive="prod-keys")
    keys = whole.told(exit_code=0)["sets"][2]
    assert (keys["archive"], keys["repositories"], keys["attested"]) == (None, [], True)
    assert 3600 <= keys["age_seconds"] < 3700
    assert f"keys          attested {keys['time'][:10]}" in whole.shelf.run("status", exit_code=0).stdout


def test_drills_are_told_and_may_have_to_be_young(whole: Installation) -> None:
    name = whole.made.name("database")
    for archive, verdict in ((name, "failed"), ("prod-eu-2026-05-01T01:00:00Z", "passed")):
        whole.note("drilled", repository="nas", archive=archive, verdict=verdict)
    assert whole.told(exit_code=0)["sets"][0]["last_drill"] is None
    whole.note("drilled", repository="nas", archive=name, verdict="passed", age=72 * HOUR)
    assert whole.told(exit_code=0)["sets"][0]["last_drill"] is not None
    whole.configure(f"{DATABASE}max_drill_age = '2d'\n{PROVISIONING}{KEYS}")
    assert whole.only_problem() == ("database", "the last drill that passed is 3.0 days old, and may be 2.0 days")


def test_a_check_that_failed_is_told_until_one_of_everything_passes(whole: Installation) -> None:
    whole.note("checked", repository="nas", verdict="passed", age=4 * HOUR)
    checked = whole.told(exit_code=0)["repositories"][0]["last_check"]
    assert checked is not None
    whole.note("checked", repository="nas", verdict="failed", age=3 * HOUR)
    found, said = whole.only_problem()
    assert found == "nas"
    assert said.endswith("failed: mend it, then run `borg-vault check -r nas`")
    assert whole.told()["repositories"][0]["last_check"] == checked
    whole.note("checked", repository="nas", verdict="passed", reason="for 0:01:00 at most", age=2 * HOUR)
    assert whole.only_problem()[0] == "nas"
    whole.note("checked", repository="nas", verdict="passed")
    assert whole.told(exit_code=0)["repositories"][0]["last_check"] > checked


def test_without_history_nothing_is_known_of_what_was_before(whole: Installation) -> None:
    assert whole.told(exit_code=0)["history_since"] is not None
    whole.shelf.forget()
    document = whole.told()
    assert document["history_since"] is None
    assert [one["problems"] for one in document["sets"]] == [[], [], []]
    assert not whole.shelf.state.exists()


def test_every_repository_is_looked_at(whole: Installation) -> None:
    assert set(HELD) < set(NAMES)
    whole.shelf.configure(DATABASE + PROVISIONING + KEYS, nas="", second="", third="", escrow="")
    assert whole.only_problem()[0] == "third"
