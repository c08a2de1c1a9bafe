"""The script's tarball: how it is dated, what its metadata says, what the head of a dump says, what a dump tells."""

from __future__ import annotations

import struct
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from conftest import SMALL
from fix_artifacts import GROUP, HEIR, OWNER, POLICED, READER, BackedUp
from fix_tarball import ScriptNights, packed, run_tar, unpacked, write_metadata

from borg_vault_plugin.cluster import Distribution, throwaway_cluster
from borg_vault_plugin.errors import SourceError
from borg_vault_plugin.manifest import read_manifest
from borg_vault_plugin.progress import unseen
from borg_vault_plugin.properties import Role
from borg_vault_plugin.recovery.ground import source_of
from borg_vault_plugin.recovery.target import exact_clients, target_on
from borg_vault_plugin.tarballs.dump_header import DumpHeader, read_header
from borg_vault_plugin.tarballs.dump_properties import ask_for_properties, definitions, told_properties
from borg_vault_plugin.tarballs.tarball import (
    look_at,
    metadata_text,
    new_file,
    pack,
    read_metadata,
    timestamp_in,
    unpack,
)

pytest_plugins = ("fix_server", "fix_backed_up", "fix_script_nights")

NIGHT = datetime(2026, 5, 26, 1, 33, 27, tzinfo=UTC)

TIMES: dict[str, datetime | None] = {
    "2026-05-26-013327": NIGHT,
    "ledger-2026-05-26-013327": NIGHT,
    "ledger-2-2026-05-26-013327": NIGHT,
    "2026-2026-05-26-013327": NIGHT,
    "a-2025-01-01-000000-2026-05-26-013327": NIGHT,
    "backup-ledger_7.prod-2026-05-26-013327.tar.gz": NIGHT,
    "backup-2026-05-26-013327 (1).tar.gz": NIGHT,
    "2026-05-26T01:33:27Z": NIGHT,
    "20260526T013327Z": NIGHT,
    "2026-05-26_01-33-27": NIGHT,
    "2026-05-26-013327-2026-13-01-000000": NIGHT,
    "2026-02-31-013327": None,
    "2026-05-26": None,
    "12026-05-26-0133270": None,
    "٢٠٢٦-05-26-013327": None,
    "ledger": None,
    "": None,
}


@pytest.mark.parametrize(("text", "time"), TIMES.items())
def test_the_last_thing_in_a_name_that_is_a_time_is_its_time(text: str, time: datetime | None) -> None:
    assert timestamp_in(text) == time


def tarball(place: Path, directory: str, name: str, metadata: dict[str, str] | None = None) -> Path:
    """Make a tarball with a directory of this name."""
    inside = place / directory
    inside.mkdir(parents=True)
    (inside / "db.dump").write_bytes(b"PGDMP")
    if metadata is not None:
        write_metadata(inside, metadata)
    return packed(inside, place / name)


DATED: dict[str, tuple[str, str, dict[str, str] | None]] = {
    "the directory's": ("2026-05-26-013327", "backup-2020-01-01-000000.tar.gz", {"created_at": "2021-01-01T00:00:00Z"}),
    "the metadata's": ("server", "backup-2020-01-01-000000.tar.gz", {"created_at": "2026-05-26T01:33:27Z"}),
    "the metadata's, of another zone": ("server", "x.tar.gz", {"created_at": "2026-05-26T03:33:27.5+02:00"}),
    "the metadata's, of no zone": ("server", "x.tar.gz", {"created_at": "2026-05-26 01:33:27"}),
    "the file's, without metadata": ("server", "backup-server-2026-05-26-013327.tar.gz", None),
    "the file's, with metadata of no date": ("server", "2026-05-26-013327.tgz", {"created_at": ""}),
    "the file's, with metadata of no instant": (
        "server",
        "2026-05-26-013327.tgz",
        {"created_at": "0001-01-01T00:00+14:00"},
    ),
    "the file's, with metadata of a broken date": ("server", "2026-05-26-013327.tgz", {"created_at": "yesterday"}),
}


@pytest.mark.parametrize("name", DATED)
def test_a_tarball_is_of_the_time_of(name: str, tmp_path: Path) -> None:
    directory, file, metadata = DATED[name]
    assert look_at(tarball(tmp_path / "files", directory, file, metadata)).time == NIGHT


def test_a_tarball_without_any_date_is_refused_with_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"says of when it is: put its date into its name"):
        look_at(tarball(tmp_path / "files", "server", "latest.tar.gz"))


def test_a_tarball_of_the_future_or_of_long_ago_is_refused(tmp_path: Path) -> None:
    ahead = datetime.now(UTC) + timedelta(minutes=11)
    for name in (f"{ahead:%Y-%m-%d-%H%M%S}", "0001-01-01-000000"):
        with pytest.raises(SourceError, match="which cannot be: give it its own date"):
            look_at(tarball(tmp_path / "files", name, f"{name}.tar.gz"))
    close = datetime.now(UTC) + timedelta(minutes=5)
    assert look_at(tarball(tmp_path / "others", f"{close:%Y-%m-%d-%H%M%S}", "x.tar.gz")).size


@pytest.mark.parametrize(
    ("option", "letters"),
    [("--format=gnu", 90), ("--format=oldgnu", 90), ("--format=ustar", 60), ("--format=v7", 9), ("--format=posix", 9)],
)
def test_what_any_tar_packs_of_the_three_files_is_read(
    option: str, letters: int, script_nights: ScriptNights, tmp_path: Path
) -> None:
    directory = unpacked(script_nights.tarballs[6], tmp_path / "unpacked")
    long = directory.rename(directory.with_name("p" * letters + "-2026-05-26-013327"))
    path = tmp_path / "x.tar.gz"
    run_tar(option, "-czf", path, "-C", long.parent, f"./{long.name}")
    found = look_at(path)
    (tmp_path / "ours").mkdir()
    read = unpack(found, tmp_path / "ours", unseen)
    assert found.time == NIGHT
    assert (read.dump.size, read.metadata["compose_project"]) == ((long / "db.dump").stat().st_size, "ledger-prod")


def test_metadata_is_read_with_patience() -> None:
    dated = b"# a comment=1\n\n created_at = 2026-05-26T01:33:27Z \r\nnothing\n"
    pinned = b"agledger_image_pin=\"a@sha256:b=c\"\nx='y'\nz=\n"
    assert read_metadata(dated + pinned + b"\xff=\xfe\n") == {
        "created_at": "2026-05-26T01:33:27Z",
        "agledger_image_pin": "a@sha256:b=c",
        "x": "y",
        "z": "",
        "\ufffd": "\ufffd",
    }
    facts = {"created_at": "2026-05-26T01:33:27Z", "wal_lsn": "", "pin": "a=b"}
    assert read_metadata(metadata_text(facts, "x=y").encode()) == facts


def test_what_is_packed_is_unpacked(tmp_path: Path) -> None:
    dump = tmp_path / "dump"
    dump.write_bytes(b"PGDMP" + bytes(range(256)) * 9000)
    path = tmp_path / "out.tar.gz"
    told: list[int] = []
    with new_file(path) as out:
        pack(out, NIGHT, [("db.dump", dump), ("backup-metadata", b"a=b\n")], told.append)
    (tmp_path / "unpacked").mkdir()
    read = unpack(look_at(path), tmp_path / "unpacked", unseen)
    assert (tmp_path / "unpacked" / "db.dump").read_bytes() == dump.read_bytes()
    assert (read.metadata, read.registry, look_at(path).time) == ({"a": "b"}, None, NIGHT)
    assert told == sorted(told)
    assert told[-1] > dump.stat().st_size


def test_the_head_of_a_dump_says_whose_it_is(backed_up: BackedUp) -> None:
    header, snapshot = read_header(backed_up.directory / "db.dump"), backed_up.document["snapshot"]
    assert header == DumpHeader(snapshot["database"], snapshot["server_version"], snapshot["server_version"], False)  # noqa: FBT003
    assert header.major == backed_up.cluster.distribution.major


def test_the_scripts_dumps_are_compressed(script_nights: ScriptNights, tmp_path: Path) -> None:
    assert read_header(unpacked(script_nights.tarballs[0], tmp_path / "unpacked") / "db.dump").compressed


def text(value: bytes) -> bytes:
    return struct.pack("<BI", 0, len(value)) + value


def head(
    version: bytes = b"\x01\x10\x00", form: bytes = b"\x01", texts: tuple[bytes, ...] = (b"d", b"18.4", b"18.4")
) -> bytes:
    return b"PGDMP" + version + b"\x04\x08" + form + b"\x01" + struct.pack("<BI", 0, 1) * 7 + b"".join(map(text, texts))


HEADS: dict[str, tuple[bytes, str]] = {
    "newer": (head(b"\x01\x11\x00"), "format 1.17"),
    "older": (head(b"\x01\x0b\x00"), "format 1.11"),
    "a directory's": (head(form=b"\x05"), "not of pg_dump's custom format"),
    "cut short": (head()[:40], "cut short"),
    "a text without end": (head()[:-20] + b"\0" + b"\xff" * 20, "a text in its head"),
    "no version": (head(texts=(b"d", b"eighteen", b"18.4")), "'eighteen' is no version"),
    "nothing": (b"PGDMP", "cut short"),
}  # fmt: skip


@pytest.mark.parametrize("name", HEADS)
def test_a_head_that_is_not_known_is_refused(name: str, tmp_path: Path) -> None:
    data, message = HEADS[name]
    (tmp_path / "db.dump").write_bytes(data)
    with pytest.raises(SourceError, match=message):
        read_header(tmp_path / "db.dump")


@pytest.mark.parametrize(
    ("version", "major"), [(b"18.4 (Debian 18.4-1.pgdg13+1)", 18), (b"19devel", 19), (b"9.6.24", 9)]
)
def test_a_version_is_read_without_what_distributors_add(version: bytes, major: int, tmp_path: Path) -> None:
    (tmp_path / "db.dump").write_bytes(head(texts=(b"d", version, version)))
    assert read_header(tmp_path / "db.dump").major == major


def test_a_dump_tells_everything_of_its_database_but_what_its_roles_may_do(
    backed_up: BackedUp, distribution: Distribution, tmp_path: Path
) -> None:
    dump, was = backed_up.directory / "db.dump", read_manifest(backed_up.directory)[0].survey.properties
    clients = exact_clients(distribution.major)
    script = definitions(clients, dump)
    with throwaway_cluster(distribution, settings=SMALL) as fresh:
        target = target_on(source_of(fresh), was.name, clients, tmp_path, own=True)
        told = ask_for_properties(target, dump, script, told_properties(script, was.name)).properties
    assert {OWNER, READER, POLICED, HEIR, GROUP} <= {role.name for role in told.roles}
    in_database = tuple(setting for setting in was.settings if setting.in_database)
    assert replace(told, roles=(), memberships=()) == replace(was, roles=(), memberships=(), settings=in_database)
    assert all("SUPERUSER" not in role.attributes for role in told.roles if role.name != "postgres")


SCRIPT = """
--
-- Name: {name}; Type: DATABASE; Schema: -; Owner: {owner}
--

CREATE DATABASE {quoted} WITH TEMPLATE = template0 ENCODING = 'UTF8' {locale};

--
-- Name: guard; Type: EVENT TRIGGER; Schema: -; Owner: keeper
--

--
-- Name: public; Type: SCHEMA; Schema: -; Owner: pg_database_owner
--
"""

LOCALES: dict[str, tuple[str, str, str, str | None]] = {
    "LOCALE_PROVIDER = libc LOCALE = 'en_US.utf8'": ("libc", "en_US.utf8", "en_US.utf8", None),
    "LC_COLLATE = 'C' LC_CTYPE = 'de_DE.utf8'": ("libc", "C", "de_DE.utf8", None),
    "LOCALE_PROVIDER = icu LOCALE = 'C' ICU_LOCALE = 'und'": ("icu", "C", "C", "und"),
    "LOCALE_PROVIDER = builtin LOCALE = 'C' BUILTIN_LOCALE = 'C.UTF-8'": ("builtin", "C", "C", "C.UTF-8"),
    "LOCALE = E'odd \\\\ ''one'''": ("libc", "odd \\ 'one'", "odd \\ 'one'", None),
}


@pytest.mark.parametrize("locale", LOCALES)
def test_a_script_tells_how_its_database_was_made_and_who_owned_what(locale: str) -> None:
    script = SCRIPT.format(name="a b", quoted='"a b"', owner="o; Type: TABLE", locale=locale)
    told = told_properties(script, "a b")
    assert (told.provider, told.collate, told.ctype, told.locale) == LOCALES[locale]
    assert told.roles == (
        Role("keeper", ("SUPERUSER", "INHERIT"), -1, None),
        Role("o; Type: TABLE", ("INHERIT",), -1, None),
    )


def test_a_script_without_a_database_is_refused() -> None:
    with pytest.raises(SourceError, match="does not say how its database was made"):
        told_properties("-- Name: t; Type: TABLE; Schema: public; Owner: o\n", "d")
