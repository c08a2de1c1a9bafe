"""`confirm`: an archive of somebody else's `borg create` holds exactly the staged set, and then counts as ours."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from fix_wrapped import Wrapped

from borg_vault_plugin.sealed_set import open_set

pytest_plugins = ("fix_server", "fix_nights", "fix_sets", "fix_staged")

KEYS = [
    "repository",
    "set",
    "set_verdict",
    "verdict",
    "archive",
    "archive_id",
    "repository_id",
    "root",
    "findings",
    "reasons",
]


def test_an_archive_that_holds_the_set_is_confirmed_and_remembered(wrapped: Wrapped) -> None:
    archive_id = wrapped.archive("whatever-it-is-called")
    assert wrapped.confirm() == f"nas: whatever-it-is-called holds {wrapped.title} (good), in staging\n"
    (event,) = wrapped.shelf.events("confirmed")
    sealed = open_set(wrapped.staging)
    assert (event.archive, event.archive_id, event.holds) == ("whatever-it-is-called", archive_id, wrapped.title)
    assert (event.manifest, event.verdict, event.where) == (sealed.manifest_sha256, "good", "staging")
    assert event.size == sum(path.stat().st_size for path in wrapped.staging.rglob("*") if path.is_file())


def test_its_document_names_archive_and_place(wrapped: Wrapped) -> None:
    archive_id = wrapped.archive("daily")
    document = wrapped.shelf.run("confirm", "-r", "nas", "--from", wrapped.staging, "--json", exit_code=0).document
    assert list(document) == KEYS
    assert (document["verdict"], document["archive"], document["archive_id"]) == ("passed", "daily", archive_id)
    assert (document["set"], document["set_verdict"], document["root"]) == (wrapped.title, "good", "staging")


def test_a_repository_goes_by_its_path_as_well(wrapped: Wrapped) -> None:
    wrapped.archive("daily", where="second")
    path = wrapped.shelf["second"].path
    for named in (path, f"file://{path}", f"{path.parent}/../{path.parent.name}/{path.name}"):
        said = wrapped.shelf.run("confirm", "-r", named, "--from", wrapped.staging, exit_code=0).stdout
        assert said.startswith("second: daily holds ")


@pytest.mark.parametrize("named", ["nowhere", "", "/no/such/repository"])
def test_a_repository_that_is_not_configured_is_refused(wrapped: Wrapped, named: str) -> None:
    said = wrapped.shelf.run("confirm", "-r", named, "--from", wrapped.staging, exit_code=3).stderr
    assert f"there is no repository named {named!r}" in said or f"there is no repository {named!r}" in said


@pytest.mark.parametrize(
    ("paths", "root"), [(["staging"], "staging"), (["{staging}", "/etc/passwd"], "{staging}"), (["{staging}/./"], "")]
)
def test_the_set_is_found_wherever_it_lies(wrapped: Wrapped, paths: list[str], root: str) -> None:
    wrapped.archive("daily", *(path.format(staging=wrapped.staging) for path in paths))
    wrapped.confirm()
    (event,) = wrapped.shelf.events("confirmed")
    assert event.where == root.format(staging=wrapped.staging).lstrip("/")


def test_what_else_is_in_the_archive_does_not_matter(wrapped: Wrapped) -> None:
    bootstrap = wrapped.place / "borgmatic" / "bootstrap"
    bootstrap.mkdir(parents=True)
    (bootstrap / "manifest.json").write_text("{}", "utf-8")
    (wrapped.place / "link").symlink_to("nowhere")
    wrapped.archive("daily", "borgmatic", "staging", "link")
    wrapped.confirm()


def test_nothing_was_archived_since_the_set_was_sealed(wrapped: Wrapped) -> None:
    wrapped.archive("before", time="2026-01-01T00:00:00")
    said = wrapped.confirm(exit_code=5)
    assert f"has no archive made since {wrapped.staging} was sealed at" in said
    assert wrapped.shelf.events("confirmed") == []


def test_another_set_than_the_staged_one_was_archived(wrapped: Wrapped) -> None:
    wrapped.stage(wrapped.nights.first)
    wrapped.archive("daily")
    wrapped.archive("elsewhere", "/etc/passwd")
    wrapped.stage(wrapped.nights.second)
    assert "is in none of the 2 archives made since it was sealed, the newest being elsewhere" in wrapped.confirm(
        exit_code=5
    )


def missing(staging: Path) -> None:
    (staging / "roles.sql").unlink()


def cut(staging: Path) -> None:
    os.truncate(staging / "db.dump", 1000)


def added(staging: Path) -> None:
    (staging / "chain" / "notes.txt").write_text("", "utf-8")


def linked(staging: Path) -> None:
    (staging / "roles.sql").rename(staging.parent / "roles.sql")
    (staging / "roles.sql").symlink_to("../roles.sql")


@pytest.mark.parametrize(
    ("bend", "told"),
    [
        (missing, "roles.sql is missing"),
        (cut, "db.dump has 1,000 bytes instead of"),
        (added, "chain/notes.txt does not belong to it"),
        (linked, "roles.sql is no regular file"),
    ],
)
def test_an_archive_that_differs_is_not_confirmed(wrapped: Wrapped, bend: object, told: str) -> None:
    assert callable(bend)
    wrapped.archive("as-it-was")  # may be of the same second: the name decides then
    bend(wrapped.staging)
    wrapped.archive("broken")
    wrapped.stage(wrapped.nights.second)
    said = wrapped.confirm(exit_code=5)
    assert f"broken does not hold the set of {wrapped.staging}: {told}" in said
    assert wrapped.shelf.events("confirmed") == []


def test_a_manifest_that_was_changed_in_place_is_another_one(wrapped: Wrapped) -> None:
    manifest = wrapped.staging / "manifest.json"
    sealed = manifest.read_bytes()
    manifest.write_bytes(sealed.replace(b'"good"', b'"baad"', 1))
    wrapped.archive("forged")
    manifest.write_bytes(sealed)
    os.utime(manifest, (1, 1))
    assert "is in none of the 1 archive made since" in wrapped.confirm(exit_code=5)


@pytest.mark.parametrize(
    ("bend", "code"), [(missing, "SET_FILE_MISSING"), (cut, "SET_FILE_CHANGED"), (added, "SET_FILE_UNKNOWN")]
)
def test_a_directory_that_is_not_as_it_was_sealed_fails(wrapped: Wrapped, bend: object, code: str) -> None:
    assert callable(bend)
    bend(wrapped.staging)
    wrapped.archive("daily")
    words = ("confirm", "-r", "nas", "--from", wrapped.staging)
    document = wrapped.shelf.run(*words, "--json", exit_code=10).document
    assert (document["verdict"], document["archive"]) == ("failed", None)
    assert code in {one["code"] for one in document["findings"]}
    assert code in wrapped.shelf.run(*words, exit_code=10).stdout


def test_a_manifest_that_cannot_be_read_is_no_verdict(wrapped: Wrapped) -> None:
    (wrapped.staging / "manifest.json").write_text("{", "utf-8")
    assert "not checked: the set in" in wrapped.confirm(exit_code=11)


def test_a_directory_without_a_set_is_refused(wrapped: Wrapped) -> None:
    shutil.rmtree(wrapped.staging)
    assert f"{wrapped.staging} holds no sealed set" in wrapped.confirm(exit_code=2)
