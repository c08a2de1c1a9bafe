"""Archives that an attacker has put into the repository: nothing is written outside, and no terminal is steered."""

from __future__ import annotations

import json
import os
import shutil
import stat
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
from fix_cli import RunCli, Said
from fix_history import Server
from fix_hostile import ESCAPES, import_tar, is_harmless, member, tar_of
from fix_repository import PASSPHRASE, PlainRepository

from borg_vault_plugin.borg import Repository, open_repository
from borg_vault_plugin.borg.answers import FileDocument
from borg_vault_plugin.errors import RepositoryError
from borg_vault_plugin.secret import SecretReference
from borg_vault_plugin.sections import RepositorySettings

pytest_plugins = ("fix_server", "fix_good_night")

TAKEN = "prod-2026-05-26T01:33:27Z"
STRANGE = {
    "link": (member("chain", tarfile.SYMTYPE, link="/etc"), "a symbolic link ('chain')"),
    "hard link": (member("db.dump", tarfile.LNKTYPE, link="../../../etc/shadow"), "a hard link ('db.dump')"),
    "device": (member("db.dump", tarfile.BLKTYPE), "a device ('db.dump')"),
    "character device": (member("db.dump", tarfile.CHRTYPE), "a device ('db.dump')"),
    "pipe": (member("db.dump", tarfile.FIFOTYPE), "a named pipe ('db.dump')"),
    "escapes": (member(f"a{ESCAPES[:-1]}", tarfile.FIFOTYPE), "a named pipe ('a\\x1b]0;owned"),
}


@pytest.fixture(scope="module")
def shelf_of_strange(repository_template: Path, tmp_path_factory: pytest.TempPathFactory) -> PlainRepository:
    """A repository with one archive of each strange kind."""
    place = tmp_path_factory.mktemp("strange")
    shutil.copytree(repository_template, place / "repository")
    repository = PlainRepository(place / "repository", place / "base")
    for number, (strange, _) in enumerate(STRANGE.values()):
        import_tar(repository, f"strange-{number}", tar_of(place / "nothing", strange, member("later")), place)
    return repository


def opened(repository: PlainRepository, patch: pytest.MonkeyPatch) -> Repository:
    """Open a repository as the program does."""
    patch.setenv("HERE", PASSPHRASE)
    settings = RepositorySettings(path=str(repository.path), passphrase=SecretReference(env="HERE"))
    return open_repository("nas", settings)


@pytest.mark.parametrize("number", range(len(STRANGE)), ids=STRANGE)
def test_what_no_run_of_ours_stores_is_not_extracted(
    number: int, shelf_of_strange: PlainRepository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    nas = opened(shelf_of_strange, monkeypatch)
    (tmp_path / "place").mkdir()
    with pytest.raises(RepositoryError) as refused:
        nas.extract(f"strange-{number}", tmp_path / "place")
    assert list(STRANGE.values())[number][1] in str(refused.value)
    assert is_harmless(str(refused.value))
    assert "\n" not in str(refused.value)
    assert list((tmp_path / "place").iterdir()) == []


def test_nothing_is_extracted_through_a_link(
    repository: PlainRepository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    repository.add("archive")
    nas = opened(repository, monkeypatch)
    place, link = tmp_path / "place", tmp_path / "link"
    place.mkdir()
    link.symlink_to(place)
    with pytest.raises(
        RepositoryError, match=r"cannot extract archive to .*/link: Not a directory: look who changed it"
    ):
        nas.extract("archive", link)
    assert list(place.iterdir()) == []
    nas.extract("archive", place)
    assert list(place.iterdir()) != []


@pytest.mark.parametrize("path", ["/etc/cron.d/x", "../x", "chain/../../x", "chain/.."])
def test_a_path_that_leads_out_of_an_archive_is_strange(path: str) -> None:
    """Borg stores none: who changes Borg can."""
    assert FileDocument("-", path, 1, "-rw-------").strange == f"{path!r} outside of itself"
    assert FileDocument("-", "chain/..x", 1, "-rw-------").strange is None


@pytest.fixture
def ours(seasoned: Server, tmp_path: Path) -> Callable[..., str]:
    """Writer of archives that have the good archive's comment and files, with strange members before them."""

    def write(*before: tuple[tarfile.TarInfo, bytes], name: str = TAKEN) -> str:
        directory = tmp_path / "good"
        if not directory.is_dir():
            seasoned.repository.extract(seasoned.name, directory)
        (comment,) = (one["comment"] for one in seasoned.repository.archives() if one["name"] == seasoned.name)
        return import_tar(seasoned.repository, name, tar_of(directory, *before), tmp_path, comment=comment)

    return write


COMMANDS = {
    "verify": ("verify", TAKEN),
    "drill": ("drill", TAKEN),
    "restore": ("restore", TAKEN),
    "restore --only": ("restore", TAKEN, "--only", "chain", "OUT/new"),
    "export": ("export", TAKEN, "OUT/out.tar.gz"),
}
CODES = {"drill": 10}


def test_no_command_writes_through_a_link_of_an_archive(
    seasoned: Server, ours: Callable[..., str], run_cli: RunCli, tmp_path: Path, state: Path
) -> None:
    elsewhere, out = tmp_path / "elsewhere", tmp_path / "out"
    elsewhere.mkdir()
    out.mkdir()
    ours(member("chain", tarfile.SYMTYPE, link=str(elsewhere)), member("chain/audit_vault.ndjson", content=b"x"))
    for name, words in COMMANDS.items():
        said = run_cli(*(word.replace("OUT", str(out)) for word in words), exit_code=CODES.get(name, 5))
        assert "symbolic link ('chain')" in said.stdout + said.stderr, name
        assert list(elsewhere.iterdir()) == list(out.iterdir()) == [], name
        assert list((state / "staging").glob("*/bv-*")) == [], name
    run_cli("verify", seasoned.name, exit_code=0)


def test_a_night_is_not_compared_through_a_link_of_an_archive(
    seasoned: Server, run_cli: RunCli, tmp_path: Path
) -> None:
    (tmp_path / "elsewhere").mkdir()
    link = member("chain", tarfile.SYMTYPE, link=str(tmp_path / "elsewhere"))
    tar = tar_of(tmp_path / "nothing", link, member("chain/vault_checkpoints.ndjson", content=b"x"))
    import_tar(
        seasoned.repository, TAKEN, tar, tmp_path, comment=f"verdict=good manifest=sha256:{'0' * 64} set=database"
    )
    document = run_cli("create", "--no-prune", "--json", exit_code=11).document
    assert "symbolic link ('chain')" in document["continuity"]["reason"]
    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_owner_and_rights_of_an_archive_are_not_taken_over(seasoned: Server, run_cli: RunCli, tmp_path: Path) -> None:
    directory = seasoned.repository.extract(seasoned.name, tmp_path / "good")
    tar = tmp_path / "tar"
    with tarfile.open(tar, "w", format=tarfile.PAX_FORMAT) as packed:
        for path in directory.iterdir():
            packed.add(path, path.name, filter=open_to_all)
    import_tar(seasoned.repository, TAKEN, tar.read_bytes(), tmp_path)
    os.umask(0)
    run_cli("restore", TAKEN, "--only", "dump", tmp_path / "out", exit_code=0, warning="")
    found = (tmp_path / "out" / "db.dump").stat()
    assert (stat.S_IMODE(found.st_mode), found.st_uid) == (0o600, os.geteuid())
    assert stat.S_IMODE((tmp_path / "out").stat().st_mode) == 0o700


def open_to_all(header: tarfile.TarInfo) -> tarfile.TarInfo:
    header.mode, header.uid, header.gid = (0o777 if header.isdir() else 0o6777), 12345, 12345
    return header


def test_hostile_names_are_reported_on_one_line_each(ours: Callable[..., str], run_cli: RunCli, state: Path) -> None:
    long, odd = "x" * 240, "\udcffodd"
    ours(member(f"a{ESCAPES[:-1]}b"), member(long), member(odd))
    said = run_cli("verify", TAKEN, exit_code=10)
    assert is_harmless(said.stdout + said.stderr)
    lines = [line for line in said.stdout.splitlines() if line.startswith("  SET_FILE_UNKNOWN at ")]
    assert len(lines) == 3
    assert any("⟨U+001B⟩]0;owned⟨U+0007⟩" in line for line in lines)
    assert any("⟨U+DCFF⟩odd" in line for line in lines)
    assert len(run_cli("verify", TAKEN, "--json", exit_code=10).document["findings"]) == 3
    assert is_harmless(run_cli("history", exit_code=0).stdout)
    assert json.loads((state / "history.ndjson").read_text("utf-8").splitlines()[-1])["event"] == "verified"


def test_archives_of_hostile_names_and_comments_steer_no_terminal(
    seasoned: Server, run_cli: RunCli, tmp_path: Path
) -> None:
    name = f"x{ESCAPES[:-1]}[a-z]*"
    import_tar(
        seasoned.repository, name, tar_of(tmp_path / "nothing"), tmp_path, comment="verdict=good\x1b[2J set=\x9b"
    )
    hidden = import_tar(
        seasoned.repository, TAKEN, tar_of(tmp_path / "nothing"), tmp_path, comment="verdict=\x1b[2J\x9b manifest=\x1b["
    )
    heard: list[Said] = [
        run_cli("list", exit_code=0),
        run_cli("list", "--json", exit_code=0),
        run_cli("status", exit_code=13),
        run_cli("prune", "--keep", "1", "--dry-run", exit_code=12),
        run_cli("verify", hidden, exit_code=11),
        run_cli("restore", hidden, exit_code=11, warning="is "),
        run_cli("accept-rewind", name, "--reason", "none", exit_code=2),
    ]
    for said in heard:
        assert is_harmless(said.stdout + said.stderr), (said.stdout, said.stderr)


def test_a_tarball_gets_no_line_and_no_command_out_of_a_manifest(
    seasoned: Server, run_cli: RunCli, tmp_path: Path
) -> None:
    directory = seasoned.repository.extract(seasoned.name, tmp_path / "good")
    manifest = json.loads((directory / "manifest.json").read_text("utf-8"))
    metadata = {"compose_project": "$(reboot)", "agledger_version": "2.1\nx=1", "created_at": "`id`", "wal_lsn": "0/1A"}
    manifest["origin"] = {"file": "x", "sha256": "0" * 64, "metadata": metadata}
    (directory / "manifest.json").write_text(json.dumps(manifest), "utf-8")
    import_tar(seasoned.repository, TAKEN, tar_of(directory), tmp_path)
    run_cli("export", TAKEN, tmp_path / "out.tar.gz", exit_code=0, warning="")
    with tarfile.open(tmp_path / "out.tar.gz") as packed:
        (member_name,) = (name for name in packed.getnames() if name.endswith("backup-metadata"))
        file = packed.extractfile(member_name)
        assert file is not None
        lines = file.read().decode().splitlines()
    assert {"compose_project=", "agledger_version=", "created_at=", "wal_lsn=0/1A"} <= set(lines)
    assert not any(word in line for line in lines for word in ("reboot", "x=1", "id`"))
