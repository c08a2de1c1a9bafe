"""The split: no configuration, no option and no copy of a repository brings the keys and the database together."""

from __future__ import annotations

import itertools
import shutil
import socket
from datetime import UTC, datetime
from pathlib import Path

import pytest
from fix_cli import RunCli
from fix_shelf import Shelf, WriteConfig, id_of
from hypothesis import given
from hypothesis import strategies as st

from borg_vault_plugin.history import Event, Happening
from borg_vault_plugin.split import place_of

pytest_plugins = ("fix_server", "fix_sets")

SETS = "[sets.database]\nrepositories = ['nas']\n[sets.keys]\nrepositories = ['escrow']\ncommand = 'echo key'\n"
BOTH = "the sets keys and database share"
REFUSING = [("create",), ("create", "--set", "keys"), ("init",), ("status",), ("config", "validate")]


def configuration(database: str, keys: str, sets: str = SETS) -> str:
    """Give a configuration from what stands in the sections of two repositories."""
    return f"label = 'prod'\n{sets}[repositories.nas]\n{database}\n[repositories.escrow]\n{keys}\n"


def repository(path: object, passphrase: str) -> str:
    return f"path = '{path}'\npassphrase = {passphrase}"


ONE, OTHER, PASS_FILE = "{ env = 'ONE' }", "{ env = 'OTHER' }", "{ file = '/etc/pass' }"

SHARED: dict[str, tuple[str, str]] = {
    "one repository for both": (
        configuration(repository("/b/nas", ONE), repository("/b/escrow", OTHER), SETS.replace("escrow", "nas")),
        "share repository nas",
    ),
    "one of several": (
        configuration(
            repository("/b/nas", ONE), repository("/b/escrow", OTHER), SETS.replace("['nas']", "['nas', 'escrow']")
        ),
        "share repository escrow",
    ),
    "a database set that goes everywhere": (
        configuration(repository("/b/nas", ONE), repository("/b/escrow", OTHER), SETS.partition("\n[sets.keys]")[2])
        .replace("prod'\n", "prod'\n[sets.keys]", 1),
        "share repository escrow",
    ),
    "keys that go everywhere": (
        configuration(
            repository("/b/nas", ONE), repository("/b/escrow", OTHER), SETS.replace("repositories = ['escrow']\n", "")
        ),
        "share repository nas",
    ),
    "one variable with the passphrase": (
        configuration(repository("/b/nas", ONE), repository("/b/escrow", ONE)),
        "share the passphrase of repositories escrow and nas (env ONE)",
    ),
    "one file with the passphrase": (
        configuration(repository("/b/nas", PASS_FILE), repository("/b/escrow", PASS_FILE)),
        "(file /etc/pass)",
    ),
    "one file, written differently": (
        configuration(
            repository("/b/nas", PASS_FILE), repository("/b/escrow", "{ file = '/etc/../etc//pass' }")
        ),
        "share the passphrase",
    ),
    "one command for the passphrase": (
        configuration(
            repository("/b/nas", "{ command = 'pass show borg' }"),
            repository("/b/escrow", "{ command = 'pass  show borg' }"),
        ),
        "share the passphrase",
    ),
    "Borg's variable for both": (
        configuration("path = '/b/nas'", "path = '/b/escrow'"),
        "(env BORG_PASSPHRASE)",
    ),
    "Borg's variable, named once": (
        configuration("path = '/b/nas'", repository("/b/escrow", "{ env = 'BORG_PASSPHRASE' }")),
        "(env BORG_PASSPHRASE)",
    ),
    "one directory inside the other": (
        configuration(repository("/b/nas", ONE), repository("/b/nas/keys", OTHER)),
        "share a place: repositories escrow and nas (/b/nas/keys, /b/nas)",
    ),
}  # fmt: skip


@pytest.fixture
def borgs_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """What Borg and a Server would have in their environment."""
    monkeypatch.setenv("DATABASE_URL", "postgresql:///app")
    monkeypatch.setenv("BORG_PASSPHRASE", "x")


@pytest.mark.usefixtures("borgs_own")
@pytest.mark.parametrize("what", SHARED)
def test_what_keys_and_database_share_is_refused(what: str, write_config: WriteConfig, run_cli: RunCli) -> None:
    text, words = SHARED[what]
    write_config(text)
    for command in REFUSING:
        said = run_cli(*command, exit_code=3).stderr
        assert BOTH in said
        assert words in said
        assert "give the keys a place and a passphrase of their own" in said
        assert len(said.splitlines()) == 1


@pytest.mark.usefixtures("borgs_own")
def test_what_is_apart_is_not_refused(write_config: WriteConfig, run_cli: RunCli) -> None:
    write_config(configuration(repository("/b/nas", ONE), repository("/b/nas2", OTHER)))
    run_cli("config", "validate", exit_code=0)
    write_config(configuration("path = '/b/nas'", repository("/b/escrow", OTHER)))
    run_cli("config", "validate", exit_code=0)


@pytest.mark.usefixtures("borgs_own")
def test_keys_that_are_only_attested_share_nothing(write_config: WriteConfig, run_cli: RunCli) -> None:
    write_config("label = 'prod'\n[sets.keys]\nattest = 'true'\n[repositories.nas]\npath = '/b/nas'\n")
    run_cli("config", "validate", exit_code=0)
    run_cli("create", "--set", "keys", exit_code=0)


def test_a_host_that_has_only_the_keys_needs_no_place_for_a_database(
    shelf: Shelf, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = "[sets.keys]\ncommand = 'echo key'\n"
    shelf.configure(keys, escrow="")
    assert "share repository escrow" in shelf.run("create", "--set", "keys", exit_code=3).stderr
    monkeypatch.delenv("DATABASE_URL")
    shelf.run("create", "--set", "keys", "--dry-run", exit_code=0)
    shelf.configure(f"{keys}[sets.database]\nrepositories = ['escrow']\n", escrow="")
    assert "share repository escrow" in shelf.run("create", "--set", "keys", exit_code=3).stderr
    for url in ("'postgresql:///app'", "{ env = 'NOT_SET_HERE' }"):
        shelf.configure(f"{keys}[database]\nurl = {url}\n", escrow="")
        assert "share repository escrow" in shelf.run("create", "--set", "keys", exit_code=3).stderr
    shelf.configure(keys, escrow="")
    monkeypatch.setenv("PGDATABASE", "app")
    monkeypatch.setenv("PGHOST", "/tmp")
    assert "share repository escrow" in shelf.run("create", "--set", "keys", exit_code=3).stderr


@pytest.mark.usefixtures("borgs_own")
def test_provisioning_files_may_be_with_the_database(write_config: WriteConfig, run_cli: RunCli) -> None:
    provisioning = "[sets.provisioning]\npath = '/p'\nrepositories = ['nas']\n"
    write_config(configuration(repository("/b/nas", ONE), repository("/b/escrow", OTHER), SETS + provisioning))
    run_cli("config", "validate", exit_code=0)


# Every line is one place, written in several ways; no two lines are.
PLACES = [
    ["{d}/real", "{d}/real/", "{d}//real", "{d}/./real", "{d}/other/../real", "{d}/link", "file://{d}/real",
     "{d}/linked/real", "file://{d}/link/", "ssh://localhost{d}/real", "ssh://root@127.0.0.1:2222{d}/real",
     "ssh://[::1]{d}/real", "localhost:{d}/link", "ssh://{host}{d}/real"],
    ["{d}/real2", "{d}/real/../real2"],
    ["~/vault", "{home}/vault", "file://{home}/vault"],
    ["nas:/srv/vault", "ssh://nas/srv/vault", "ssh://backup@nas/srv/vault", "ssh://other@NAS:22/srv//vault/",
     "backup@nas:/srv/x/../vault", "ssh://nas./srv/./vault"],
    ["ssh://nas2/srv/vault", "nas2:/srv/vault"],
    ["ssh://backup@nas/./stash", "backup@nas:stash", "backup@nas:./stash", "backup@nas:~/stash",
     "ssh://backup@nas/~/stash", "ssh://other@nas/~backup/stash", "backup@nas:x/../stash/"],
    ["ssh://other@nas/./stash", "other@nas:stash"],
    ["ssh://backup@nas/./stash#keys", "backup@nas:stash#keys"],
    ["ssh://backup@nas/./stash?keys"],
    ["ssh://[2001:db8::1]/srv/keys", "[2001:DB8::1]:/srv/keys"],
    ["./with:colon", "{cwd}/with:colon"],
]  # fmt: skip


@pytest.fixture
def ways(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The ways to write places, with what is different on each machine."""
    directory = tmp_path / "places"
    (directory / "real").mkdir(parents=True)
    (directory / "link").symlink_to("real")
    (directory / "linked").symlink_to(".")
    monkeypatch.chdir(directory)
    here = {"d": directory, "home": tmp_path / "home", "host": socket.gethostname(), "cwd": directory}
    return [[way.format_map(here) for way in place] for place in PLACES]


def test_a_place_is_recognised_however_it_is_written(ways: list[list[str]]) -> None:
    for place in ways:
        for one, other in itertools.product(place, repeat=2):
            assert place_of(one).overlaps(place_of(other)), (one, other)


def test_other_places_are_told_apart(ways: list[list[str]]) -> None:
    for place, another in itertools.permutations(ways, 2):
        for one, other in itertools.product(place, another):
            assert not place_of(one).overlaps(place_of(other)), (one, other)


@pytest.mark.parametrize(
    ("outer", "inner"),
    [
        ("/b", "/b/keys"), ("/b", "/b/x/../keys"), ("ssh://nas/srv", "nas:/srv/a/b/c"),
        ("nas:vault", "ssh://nas/./vault/keys"), ("nas:.", "nas:vault"), ("/", "/b"),
    ],
)  # fmt: skip
def test_a_place_inside_another_is_no_place_of_its_own(outer: str, inner: str) -> None:
    assert place_of(outer).overlaps(place_of(inner))
    assert place_of(inner).overlaps(place_of(outer))
    assert not place_of(f"{inner}2").overlaps(place_of(f"{inner}3"))


def test_a_home_that_nobody_knows_may_be_anywhere() -> None:
    for absolute in ("ssh://backup@nas/home/backup/vault", "nas:/srv/vault"):
        assert place_of(absolute).overlaps(place_of("backup@nas:vault"))
        assert place_of("ssh://nas/~/vault").overlaps(place_of(absolute))
        assert not place_of("ssh://nas/~/vault2").overlaps(place_of(absolute))
    assert place_of("nas:vault").overlaps(place_of("backup@nas:vault"))


@given(st.text(min_size=1).filter(lambda path: "\0" not in path and path.isprintable()))
def test_every_path_is_some_place(path: str) -> None:
    assert place_of(path).overlaps(place_of(path))


@pytest.fixture
def apart(shelf: Shelf) -> Shelf:
    """A lawful configuration."""
    shelf.configure(SETS, nas="", escrow="")
    return shelf


def test_an_option_cannot_bring_them_together(apart: Shelf) -> None:
    said = apart.run("create", "--set", "keys", "-r", "nas", exit_code=3).stderr
    assert "the sets keys and database share repository nas" in said
    assert apart["nas"].names() == []


@pytest.mark.usefixtures("server")
def test_an_option_cannot_bring_the_database_to_the_keys(apart: Shelf, run_cli: RunCli) -> None:
    said = run_cli("create", "-r", "escrow", "-r", "nas", exit_code=3).stderr
    assert "the sets database and keys share repository escrow" in said
    assert apart["escrow"].names() == apart["nas"].names() == []


def test_a_third_repository_in_the_same_place_is_refused_as_well(apart: Shelf) -> None:
    third = f"[repositories.third]\npath = '{apart['nas'].path}/./'\npassphrase = {{ env = 'PASSPHRASE_OF_NAS' }}\n"
    apart.configure(f"{SETS}{third}", nas="", escrow="")
    said = apart.run("create", "--set", "keys", "-r", "third", exit_code=3).stderr
    assert "the passphrase of repositories third and nas" in said


def test_a_repository_that_holds_the_other_set_is_refused_wherever_it_is(apart: Shelf) -> None:
    """A copied configuration: other names, other paths, and a repository in which the database was."""
    name = "prod-2026-05-01T01:00:00Z"
    apart["escrow"].add_at("2026-05-01T01:00:00", name, comment="verdict=good")
    said = apart.run("create", "--set", "keys", exit_code=3).stderr
    assert f"the sets keys and database share repository escrow, which has {name}" in said


def test_a_repository_that_held_the_other_set_is_refused_wherever_it_is(
    apart: Shelf, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    repository_id = id_of(apart["escrow"])
    apart.history().append(event("created", repository_id), event("removed", repository_id))
    moved = tmp_path / "elsewhere"
    shutil.move(apart["escrow"].path, moved)
    monkeypatch.setenv("BORG_BASE_DIR", str(tmp_path))  # a Borg that does not know where it was
    section = f"[repositories.vault]\npath = '{moved}'\npassphrase = {{ env = 'PASSPHRASE_OF_ESCROW' }}\n"
    apart.configure(SETS.replace("escrow", "vault") + section, nas="")
    said = apart.run("create", "--set", "keys", exit_code=3).stderr
    assert "the sets keys and database share repository vault, which has prod-2026-05-01T01:00:00Z" in said


@pytest.mark.usefixtures("server")
def test_the_database_does_not_go_where_keys_were(apart: Shelf, run_cli: RunCli) -> None:
    apart["nas"].add_at("2026-05-01T01:00:00", "prod-keys-2026-05-01T01:00:00Z", comment="verdict=good")
    said = run_cli("create", exit_code=3).stderr
    assert "the sets database and keys share repository nas" in said


def test_keys_that_are_apart_are_stored(apart: Shelf) -> None:
    apart["nas"].add_at("2026-05-01T01:00:00", "prod-2026-05-01T01:00:00Z", comment="verdict=good")
    apart["escrow"].add_at("2026-05-01T01:00:00", "other-2026-05-01T01:00:00Z", comment="verdict=good")
    apart.run("create", "--set", "keys", "--no-prune", exit_code=0)
    assert len(apart["escrow"].names()) == 2


@pytest.mark.parametrize("ending", ["-keys", "-provisioning"])
def test_a_label_that_ends_like_a_set_is_refused(ending: str, write_config: WriteConfig, run_cli: RunCli) -> None:
    """`prod` of the set `keys` and `prod-keys` of the database would have the same archive names."""
    url = f"[database]\nurl = 'postgresql:///prod{ending}'\n"
    for text in (f"label = 'prod{ending}'\n{url}", url):
        write_config(f"{text}[repositories.nas]\npath = '/b/nas'\npassphrase = {{ env = 'HOME' }}\n")
        said = run_cli("create", exit_code=3).stderr
        assert f"'prod{ending}'" in said
        assert "set another" in said


def event(happening: Happening, repository_id: str) -> Event:
    """Give what happened to an archive of the database that was in a repository."""
    name, now = "prod-2026-05-01T01:00:00Z", datetime.now(UTC)
    return Event(time=now, event=happening, archive=name, repository=repository_id, archive_id="00")
