"""Tarballs that are damaged, hostile or something else: refused by name, nothing is stored, the others go on."""

from __future__ import annotations

import gzip
import io
import os
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
from fix_tarball import Operator, bent, script_backup
from fix_vault import Vault

from borg_vault_plugin.progress import unseen
from borg_vault_plugin.tarballs.tarball import look_at, unpack

pytest_plugins = ("fix_server", "fix_script_nights")

Write = Callable[[tarfile.TarFile], None]
DIRECTORY, DUMP = "2026-06-12-013027", b"PGDMP" + bytes(600)


def member(name: str, content: bytes = b"", kind: bytes = tarfile.REGTYPE, link: str = "") -> Write:
    """Give what adds a member to a tar."""

    def write(archive: tarfile.TarFile) -> None:
        header = tarfile.TarInfo(name)
        header.type, header.linkname, header.size = kind, link, len(content)
        archive.addfile(header, io.BytesIO(content))

    return write


def claiming(name: str, size: int) -> Write:
    """Give what adds a header of a file that is not there."""

    def write(archive: tarfile.TarFile) -> None:
        header = tarfile.TarInfo(name)
        header.size = size
        archive.fileobj.write(header.tobuf(tarfile.GNU_FORMAT))

    return write


def extended(records: bytes, kind: bytes = tarfile.XHDTYPE) -> Write:
    """Give what adds an extended header."""
    return member("./PaxHeaders/x", records, kind)


DUMPED = member(f"{DIRECTORY}/db.dump", DUMP)

HOSTILE: dict[str, tuple[tuple[Write, ...], str]] = {
    "absolute": ((member("/etc/passwd", b"x"),), "'/etc/passwd', which leads out of its directory"),
    "upwards": ((member(f"{DIRECTORY}/../db.dump", DUMP),), "which leads out of its directory"),
    "link": ((member(f"{DIRECTORY}/db.dump", kind=tarfile.SYMTYPE, link="/etc/shadow"),), "holds a symbolic link"),
    "linked directory": ((member(DIRECTORY, kind=tarfile.SYMTYPE, link="/etc"),), "holds a symbolic link"),
    "hard link": ((DUMPED, member(f"{DIRECTORY}/x", kind=tarfile.LNKTYPE, link="/etc/shadow")), "holds a hard link"),
    "device": ((member(f"{DIRECTORY}/db.dump", kind=tarfile.BLKTYPE),), "holds a device"),
    "character device": ((member(f"{DIRECTORY}/db.dump", kind=tarfile.CHRTYPE),), "holds a device"),
    "pipe": ((member(f"{DIRECTORY}/db.dump", kind=tarfile.FIFOTYPE),), "holds a named pipe"),
    "sparse": ((member(f"{DIRECTORY}/db.dump", kind=tarfile.GNUTYPE_SPARSE),), "holds a sparse file"),
    "unknown kind": ((member(f"{DIRECTORY}/db.dump", kind=b"Q"),), "holds something unknown"),
    "twice": ((DUMPED, DUMPED), "twice"),
    "twice in other words": ((DUMPED, member(f"./{DIRECTORY}//db.dump", DUMP)), "twice"),
    "two backups": ((DUMPED, member("2026-06-13-013027/db.dump", DUMP)), "holds several directories"),
    "no directory": ((member("db.dump", DUMP),), "there must be one directory with files in it"),
    "deeper": ((DUMPED, member(f"{DIRECTORY}/more/db.dump", DUMP)), "there must be one directory with files in it"),
    "control characters": ((member(f"{DIRECTORY}/\x1b[2Jdb.dump", DUMP),), "leads out of its directory"),
    "many": (tuple(member(f"{DIRECTORY}/{number}") for number in range(80)), "more than 64 files"),
    "nothing": ((), "holds no db.dump"),
    "no dump": ((member(f"{DIRECTORY}/vault-public-keys.csv", b"key_id"),), "holds no db.dump"),
    "huge": ((claiming(f"{DIRECTORY}/db.dump", 1 << 50),), "needs about 1,125,899,907 MB"),
    "huge, cut short": ((claiming(f"{DIRECTORY}/db.dump", 1 << 30),), "ends in the middle of a file"),
    "huge registry": ((claiming(f"{DIRECTORY}/vault-public-keys.csv", 1 << 40),), "is not to be trusted"),
    "huge metadata": ((claiming(f"{DIRECTORY}/backup-metadata", 1 << 30),), "is not to be trusted"),
    "huge something": ((claiming(f"{DIRECTORY}/movie.mkv", 1 << 40),), "is not to be trusted"),
    "huge header": ((claiming("x", 0), extended(bytes(1 << 20))), "there must be one directory"),
    "huge extended header": ((extended(bytes(1 << 20)), DUMPED), "a header of 1048576 bytes"),
    "other size": ((extended(b"19 size=99999999999\n"), DUMPED), "names or sizes in extended headers"),
    "other name": ((extended(b"22 path=../../etc/cron\n"), DUMPED), "names or sizes in extended headers"),
    "other name for all": ((extended(b"12 path=x/y\n", tarfile.XGLTYPE), DUMPED), "names or sizes in extended headers"),
    "long name upwards": (
        (member("././@LongLink", b"../" * 40 + b"x\0", tarfile.GNUTYPE_LONGNAME), DUMPED),
        "which leads out of its directory",
    ),
    "empty dump": ((member(f"{DIRECTORY}/db.dump", b""),), "db.dump is empty"),
    "log ahead of the dump": (
        (member(f"{DIRECTORY}/db.dump", b"[2026-06-12] Using compose postgres\n" + DUMP),),
        "does not begin as a dump of pg_dump does, but with b'[2026-06-12] Using compose postgres",
    ),
    "plain SQL": ((member(f"{DIRECTORY}/db.dump", b"-- PostgreSQL database dump\n"),), "does not begin as a dump"),
}  # fmt: skip


def written(path: Path, *writes: Write, behind: bytes = b"") -> Path:
    """Write a tarball member by member."""
    with gzip.open(path, "wb") as zipped:
        with tarfile.open(fileobj=zipped, mode="w", format=tarfile.GNU_FORMAT) as archive:
            for write in writes:
                write(archive)
        zipped.write(behind)
    return path


def refusal(tarball: Path, directory: Path) -> str:
    """Give why a tarball is refused, and make sure that nothing but parts of its own files was written."""
    directory.mkdir()
    with pytest.raises(Exception) as refused:  # noqa: PT011 - which error it is, is looked at below
        unpack(look_at(tarball), directory, unseen)
    assert {path.name for path in directory.iterdir()} <= {"db.dump", ".db.dump.partial", "vault-public-keys.csv"}
    assert "\n" not in str(refused.value)
    return str(refused.value)


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_or_foreign_tarball_is_refused_for_what_it_holds(name: str, tmp_path: Path) -> None:
    writes, message = HOSTILE[name]
    tarball = written(tmp_path / f"backup-{DIRECTORY}.tar.gz", *writes)
    assert message in refusal(tarball, tmp_path / "unpacked")


def test_what_is_behind_the_end_of_a_tar_is_refused(tmp_path: Path) -> None:
    tarball = written(tmp_path / f"backup-{DIRECTORY}.tar.gz", DUMPED, behind=b"more")
    assert "goes on behind its end" in refusal(tarball, tmp_path / "unpacked")


def test_no_end_of_zeros_is_read(tmp_path: Path) -> None:
    tarball = written(tmp_path / f"backup-{DIRECTORY}.tar.gz", DUMPED, behind=bytes(64 << 20))
    assert "goes on behind its end" in refusal(tarball, tmp_path / "unpacked")


@pytest.mark.parametrize("share", [0.01, 0.3, 0.7, 0.99])
def test_a_tarball_that_was_cut_short_is_refused(share: float, newcomer: Operator, tmp_path: Path) -> None:
    whole = newcomer.script.tarballs[0].read_bytes()
    cut = tmp_path / f"backup-{DIRECTORY}.tar.gz"
    cut.write_bytes(whole[: int(len(whole) * share)])
    said = newcomer.run("import", cut, exit_code=4)
    assert f"{cut.name} is cut short or damaged" in said.stderr
    assert newcomer.repository.names() == []


def test_a_tarball_with_one_bit_changed_is_refused(newcomer: Operator, tmp_path: Path) -> None:
    data = bytearray(newcomer.script.tarballs[0].read_bytes())
    data[len(data) // 2] ^= 1
    damaged = tmp_path / f"backup-{DIRECTORY}.tar.gz"
    damaged.write_bytes(data)
    assert "damaged" in newcomer.run("import", damaged, exit_code=4).stderr


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "holds no db.dump"),
        (b"PK\x03\x04 this is a zip", "is not gzip"),
        (gzip.compress(b"no tar at all, but longer than nothing" * 40), "is no tar"),
        (gzip.compress(b"short"), "is no tar"),
    ],
    ids=["nothing", "a zip", "text in gzip", "a word in gzip"],
)  # fmt: skip
def test_a_file_of_another_kind_is_refused(content: bytes, message: str, tmp_path: Path) -> None:
    tarball = tmp_path / f"backup-{DIRECTORY}.tar.gz"
    tarball.write_bytes(content)
    assert message in refusal(tarball, tmp_path / "unpacked")


def test_what_is_no_file_is_refused_and_never_waited_for(newcomer: Operator, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.tar.gz")
    found = newcomer.bring_in(
        tmp_path / "pipe.tar.gz", tmp_path, tmp_path / "nowhere.tar.gz", exit_code=4, warning="no file"
    )
    assert {one["status"] for one in found} == {"failed"}


def test_a_dump_that_was_cut_short_before_it_was_packed_is_refused(newcomer: Operator, tmp_path: Path) -> None:
    def cut(directory: Path) -> None:
        dump = directory / "db.dump"
        os.truncate(dump, dump.stat().st_size // 2)

    tarball = bent(newcomer.script.tarballs[0], tmp_path, cut)
    assert "db.dump is not whole" in newcomer.run("import", tarball, exit_code=4).stderr
    assert newcomer.repository.names() == []


def test_one_bad_tarball_does_not_stop_the_others(newcomer: Operator, tmp_path: Path) -> None:
    nights = newcomer.script.nights
    bad = written(tmp_path / f"backup-{DIRECTORY}.tar.gz", member("/etc/passwd", b"x"))
    found = newcomer.bring_in(bad, nights[0].tarball, exit_code=4, warning="leads out of its directory")
    assert [(one["status"], one["exit_code"]) for one in found] == [("failed", 4), ("imported", 0)]
    assert newcomer.repository.names() == [nights[0].archive]
    text = newcomer.run("import", bad, nights[0].tarball, exit_code=4).stdout
    assert "2 tarballs: 1 there already, 1 FAILED" in text


def test_other_plain_files_beside_the_three_are_passed_over(newcomer: Operator, tmp_path: Path) -> None:
    def add(directory: Path) -> None:
        (directory / "._db.dump").write_bytes(b"of a Mac")
        (directory / "notes.txt").write_text("by hand", "utf-8")

    tarball = bent(newcomer.script.tarballs[0], tmp_path, add)
    said = newcomer.run("import", tarball, exit_code=0)
    assert "notes.txt is passed over" in said.stdout
    assert not any("notes" in one["path"] for one in newcomer.manifest(newcomer.repository.names()[0])["artifacts"])


PRIVATE = "MC4CAQAwBQYDK2VwBCIEIJ1hsZ3v/VpguoRK9JLsLMREScVpezJpGXA7rAMcrn9g"  # RFC 8410, 10.3: an example


def test_a_private_key_in_the_csv_is_refused_without_being_shown(newcomer: Operator, tmp_path: Path) -> None:
    def add(directory: Path) -> None:
        path = directory / "vault-public-keys.csv"
        lines = path.read_text("utf-8").splitlines()
        path.write_text("\n".join([*lines, f"abcd,{PRIVATE},Ed25519,active,2026-06-01 00:00:00+00,"]) + "\n", "utf-8")

    tarball = bent(newcomer.script.tarballs[0], tmp_path, add)
    said = newcomer.run("import", tarball, exit_code=4)
    assert "vault-public-keys.csv holds a private key in DER in row 3, column 2" in said.stderr
    assert PRIVATE not in said.stderr + said.stdout
    assert newcomer.repository.names() == []


def test_a_private_key_in_the_dumps_registry_is_refused_also_in_a_column_that_is_not_exported(
    newcomer: Operator, latest_vault: Vault, tmp_path: Path
) -> None:
    latest_vault.execute(
        "ALTER TABLE vault_signing_keys ADD secret bytea",
        f"UPDATE vault_signing_keys SET secret = decode('{PRIVATE}', 'base64')",
    )
    tarball = script_backup(latest_vault, tmp_path / "script", newcomer.script.nights[0].time)
    said = newcomer.run("import", tarball, exit_code=4)
    assert "the key registry in db.dump holds a private key in DER in line" in said.stderr
    assert newcomer.repository.names() == []


def test_a_database_that_is_no_servers_is_refused(newcomer: Operator, latest_vault: Vault, tmp_path: Path) -> None:
    latest_vault.execute("DROP SCHEMA public CASCADE", "CREATE SCHEMA public", "CREATE TABLE public.t AS SELECT 1 AS n")
    tarball = script_backup(latest_vault, tmp_path / "script", newcomer.script.nights[0].time, form="old")
    said = newcomer.run("import", tarball, exit_code=4)
    assert "this is not a Server's database" in said.stderr or "vault_signing_keys" in said.stderr
    assert newcomer.repository.names() == []
