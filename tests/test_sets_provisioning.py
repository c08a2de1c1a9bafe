"""The set `provisioning`: every file of its directory and none from outside, or an error that names what is wrong."""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import jsonschema  # type: ignore[import-untyped]
import pytest
from fix_cli import RunCli
from fix_plugin import InstallPlugin
from fix_shelf import Shelf, archived, files_in, written_below

pytest_plugins = ("fix_server", "fix_sets")

SEALED = {"manifest.json", "SHA256SUMS", "RESTORE.txt"}
CREATE = ("create", "--set", "provisioning")

TEXT = {"type": "string", "minLength": 1}
COUNT = {"type": "integer", "minimum": 0}
DIGEST = {"type": "string", "pattern": "^[0-9a-f]{64}$"}


def exactly(**properties: object) -> dict[str, object]:
    """Give the schema of an object with these properties, all of them and no others."""
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


DOCUMENT = exactly(
    archive={"type": "string", "pattern": r"^prod-provisioning-\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$"},
    set={"const": "provisioning"},
    verdict={"const": "good"},
    repositories={
        "type": "array",
        "items": exactly(
            repository=TEXT, status={"const": "stored"}, archive_id=DIGEST, original_size=COUNT, compressed_size=COUNT,
            deduplicated_size=COUNT, seconds={"type": "number"}, error={"type": "null"},
        ),
    },
    artifacts={
        "type": "array",
        "items": exactly(
            path=TEXT, size=COUNT, sha256=DIGEST, producer={"const": "provisioning-files"}, rows={"type": "null"}
        ),
    },
    revision={"anyOf": [TEXT, {"type": "null"}]},
    pruned={"type": "array", "items": exactly(repository=TEXT, removed={"const": []}, spared={"const": []})},
    seconds=exactly(**{phase: {"type": "number"} for phase in ("stage", "verify", "store", "prune", "total")}),
)  # fmt: skip


def git(directory: Path, *words: str) -> str:
    """Run git as somebody with a name."""
    someone = ["-c", "user.name=x", "-c", "user.email=x@example.org", "-c", "init.defaultBranch=main"]
    command = ["git", "-C", str(directory), *someone, *words]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


@pytest.fixture
def checkout(tree: Path) -> str:
    """The provisioning files, committed: their revision."""
    git(tree, "init")
    git(tree, "add", ".")
    git(tree, "commit", "--message=first")
    return git(tree, "rev-parse", "HEAD")


def revision_of(provisioned: Shelf) -> object:
    """Give the revision that a run would record."""
    return provisioned.run(*CREATE, "--dry-run", "--json", exit_code=0).document["revision"]


def test_every_file_is_stored_as_it_lies_there(provisioned: Shelf, tree: Path, tmp_path: Path) -> None:
    (tree / ".hidden").write_bytes(b"\0\xff\n")
    (tree / "empty").touch()
    (tree / ".d" / "deep" / "er").mkdir(parents=True)
    (tree / ".d" / "deep" / "er" / ".env.example").write_text("TIMEOUT=5\n", "utf-8")
    (tree / "nothing in here").mkdir()
    document = provisioned.run(*CREATE, "--json", exit_code=0).document
    jsonschema.validate(document, DOCUMENT)
    nas = provisioned["nas"]
    assert nas.names() == [document["archive"]]
    found = archived(nas, document["archive"], tmp_path / "extracted")
    assert {path: data for path, data in found.items() if path not in SEALED} == {
        f"provisioning/{path}": data for path, data in files_in(tree).items()
    }
    assert [one["path"] for one in document["artifacts"]] == sorted(set(found) - SEALED)


def test_an_archive_says_which_set_it_is(provisioned: Shelf, tree: Path) -> None:
    document = provisioned.run(*CREATE, "--json", exit_code=0).document
    nas, name = provisioned["nas"], document["archive"]
    (archive,) = nas.archives()
    assert re.fullmatch(r"verdict=good manifest=sha256:[0-9a-f]{64} set=provisioning", archive["comment"])
    manifest = json.loads(nas.read(name, "manifest.json"))
    assert (manifest["set"], manifest["label"], manifest["origin"]) == ("provisioning", "prod", str(tree))
    assert manifest["artifacts"] == document["artifacts"]
    told = nas.read(name, "RESTORE.txt").decode()
    assert f"borg extract REPOSITORY::{name}" in told
    assert str(tree) in told
    (listed,) = provisioned.run("list", "--json", exit_code=0).document["archives"]
    assert (listed["name"], listed["verdict"]) == (name, "good")


def test_the_servers_own_variable_names_the_directory(
    shelf: Shelf, tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PROVISIONING_CONFIG_PATH", str(tree))
    monkeypatch.setenv("BORG_REPO", str(shelf["nas"].path))
    monkeypatch.setenv("BORG_PASSPHRASE", shelf["nas"].passphrase)
    said = shelf.run(*CREATE, "--dry-run", exit_code=0).stdout
    assert "would make app-provisioning-" in said
    shelf.configure("[sets.provisioning]\nkeep = 3\npath = { env = 'PROVISIONING_CONFIG_PATH' }", nas="")
    assert "would make prod-provisioning-" in shelf.run(*CREATE, "--dry-run", exit_code=0).stdout


def test_a_set_that_is_not_configured_is_refused(shelf: Shelf) -> None:
    shelf.configure(nas="")
    assert "the set provisioning is not configured: add [sets.provisioning]" in shelf.run(*CREATE, exit_code=3).stderr


@pytest.mark.parametrize("wrong", ["missing", "a file"])
def test_a_path_that_is_no_directory_is_named(wrong: str, provisioned: Shelf, tree: Path) -> None:
    shutil.rmtree(tree)
    if wrong == "a file":
        tree.touch()
    assert f"{tree} is no directory" in provisioned.run(*CREATE, exit_code=4).stderr
    assert provisioned["nas"].names() == []


def test_a_directory_without_files_is_no_backup(provisioned: Shelf, tree: Path) -> None:
    shutil.rmtree(tree)
    (tree / "still" / "nothing").mkdir(parents=True)
    assert "there is nothing to store" in provisioned.run(*CREATE, exit_code=4).stderr
    assert provisioned["nas"].names() == []


def test_a_mounted_config_map_is_stored(provisioned: Shelf, tree: Path, tmp_path: Path) -> None:
    """Kubernetes mounts a ConfigMap as links to links: name -> ..data/name, ..data -> ..<time>."""
    shutil.rmtree(tree)
    (tree / "..2026_05_26").mkdir(parents=True)
    (tree / "..2026_05_26" / "rules.yaml").write_text("limit: 1\n", "utf-8")
    (tree / "..data").symlink_to("..2026_05_26")
    (tree / "rules.yaml").symlink_to("..data/rules.yaml")
    document = provisioned.run(*CREATE, "--json", exit_code=0).document
    found = archived(provisioned["nas"], document["archive"], tmp_path / "extracted")
    assert {path for path in found if path not in SEALED} == {
        "provisioning/rules.yaml", "provisioning/..data/rules.yaml", "provisioning/..2026_05_26/rules.yaml",
    }  # fmt: skip
    assert found["provisioning/rules.yaml"] == b"limit: 1\n"


def staged(provisioned: Shelf) -> dict[str, str]:
    """Back up and give the digests of the stored files by their names."""
    document = provisioned.run(*CREATE, "--no-prune", "--json", exit_code=0).document
    return {one["path"].removeprefix("provisioning/"): one["sha256"] for one in document["artifacts"]}


def test_links_inside_the_directory_are_followed_and_none_for_ever(provisioned: Shelf, tree: Path) -> None:
    (tree / "absolute").symlink_to(tree / "organisations.yaml")
    (tree / "current").symlink_to("rules")
    (tree / "rules" / "self").symlink_to(".")
    (tree / "rules" / "eu" / "up").symlink_to("../..")
    found = staged(provisioned)
    assert sorted(found) == [
        "absolute", "current/eu/limits.yaml", "organisations.yaml", "rules/eu/limits.yaml",
    ]  # fmt: skip
    assert found["current/eu/limits.yaml"] == found["rules/eu/limits.yaml"]


def test_the_directory_itself_may_be_a_link(provisioned: Shelf, tree: Path, tmp_path: Path) -> None:
    tree.rename(tmp_path / "releases")
    tree.symlink_to(tmp_path / "releases")
    assert sorted(staged(provisioned)) == ["organisations.yaml", "rules/eu/limits.yaml"]


def _outside(place: Path, elsewhere: Path) -> None:
    place.symlink_to(elsewhere)


def _above(place: Path, _elsewhere: Path) -> None:
    place.symlink_to("../../elsewhere")


def _to_a_directory(place: Path, elsewhere: Path) -> None:
    place.symlink_to(elsewhere.parent)


def _through_a_link(place: Path, elsewhere: Path) -> None:
    place.with_name("first").symlink_to(elsewhere)
    place.symlink_to("first")


def _nowhere(place: Path, _elsewhere: Path) -> None:
    place.symlink_to("not there")


def _to_itself(place: Path, _elsewhere: Path) -> None:
    place.symlink_to(place.name)


def _fifo(place: Path, _elsewhere: Path) -> None:
    os.mkfifo(place)


def _socket(place: Path, _elsewhere: Path) -> None:
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(place))


IN_THE_WAY: dict[str, tuple[Callable[[Path, Path], None], str]] = {
    "a link to a file outside": (_outside, "leads out of"),
    "a link to a file above": (_above, "leads out of"),
    "a link to a directory outside": (_to_a_directory, "leads out of"),
    "a link to a link that leads out": (_through_a_link, "leads out of"),
    "a link to nothing": (_nowhere, "leads nowhere"),
    "a link to itself": (_to_itself, "leads nowhere"),
    "a pipe": (_fifo, "is no regular file"),
    "a socket": (_socket, "is no regular file"),
}


@pytest.mark.parametrize("what", IN_THE_WAY)
def test_what_cannot_be_stored_ends_the_run_with_its_name(
    what: str, shelf: Shelf, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "elsewhere").write_text("somebody else's", "utf-8")
    monkeypatch.chdir(tmp_path)  # a socket's path must be short
    tree = Path("p")
    (tree / "d").mkdir(parents=True)
    (tree / "good.yaml").touch()
    make, words = IN_THE_WAY[what]
    make(tree / "d" / "in the way", tmp_path / "elsewhere")
    shelf.configure(f"[sets.provisioning]\npath = '{tree.absolute()}'", nas="")
    said = shelf.run(*CREATE, "--dry-run", exit_code=4).stderr
    assert words in said
    assert str(tmp_path / "p" / "d" / ("first" if what == "a link to a link that leads out" else "in the way")) in said
    assert len(said.splitlines()) == 1


@pytest.mark.parametrize("unreadable", ["organisations.yaml", "rules/eu"])
def test_what_we_may_not_read_ends_the_run_with_its_name(
    unreadable: str, provisioned: Shelf, tree: Path, run_unprivileged: Callable[..., object]
) -> None:
    (tree / unreadable).chmod(0)
    said = run_unprivileged(*CREATE, exit_code=4)
    assert f"{tree / unreadable} cannot be read: Permission denied" in str(said)
    (tree / unreadable).chmod(0o700)
    assert provisioned["nas"].names() == []
    run_unprivileged(*CREATE, "--dry-run", exit_code=0)


GOOD_NAMES = [
    "-rf", "--exclude=x", "::archive", "{now}", "{hostname}", "a b", "'", '"', "$HOME", "`id`", "*", "[a-z]?",
    "größe.yaml", "\u65e5\u672c\u8a9e", "re:.*", "sh:**", "a\\b", "#", "~", "!", "x.partial", ".partial",
    "manifest.json",
]  # fmt: skip


def test_names_mean_nothing(provisioned: Shelf, tree: Path, tmp_path: Path) -> None:
    for number, name in enumerate(GOOD_NAMES):
        (tree / name).write_text(str(number), "utf-8")
        (tree / "rules" / f"{name} ").mkdir()
        (tree / "rules" / f"{name} " / name).write_text(str(-number), "utf-8")
    document = provisioned.run(*CREATE, "--json", exit_code=0).document
    found = archived(provisioned["nas"], document["archive"], tmp_path / "extracted")
    assert {path.removeprefix("provisioning/"): data for path, data in found.items() if path not in SEALED} == files_in(
        tree
    )


@pytest.mark.parametrize("name", [b"two\nlines", b"\xff\xfe", b"bell\a", b"escape\x1b[31m", b"tab\t"])
@pytest.mark.parametrize("kind", ["file", "directory", "link"])
def test_a_name_that_checksums_and_terminals_cannot_take_is_refused(
    name: bytes, kind: str, provisioned: Shelf, tree: Path
) -> None:
    path = os.fsencode(tree) + b"/" + name
    if kind == "directory":
        os.mkdir(path)  # noqa: PTH102 - pathlib takes no bytes
    elif kind == "link":
        os.symlink("organisations.yaml", path)  # noqa: PTH211
    else:
        Path(os.fsdecode(path)).touch()
    said = provisioned.run(*CREATE, "--dry-run", exit_code=4).stderr
    assert len(said.splitlines()) == 1
    assert "has a name that cannot be stored" in said
    assert said.isascii()
    assert repr(os.fsdecode(name))[1:-1] in said


def test_a_rehearsal_writes_nothing(provisioned: Shelf, tree: Path) -> None:
    document = provisioned.run(*CREATE, "--dry-run", "--json", exit_code=0).document
    assert [(one["repository"], one["status"]) for one in document["repositories"]] == [("nas", "would_store")]
    assert document["artifacts"] == []
    assert document["archive"].startswith("prod-provisioning-")
    assert "nas: would store" in provisioned.run(*CREATE, "-n", exit_code=0).stdout
    assert provisioned["nas"].names() == []
    assert not (provisioned.state / "history.ndjson").exists()
    assert "limit: 100" not in written_below(provisioned.state)
    assert (tree / "organisations.yaml").exists()


def test_retention_has_a_rule_of_its_own(provisioned: Shelf, tree: Path) -> None:
    sets = f"[sets.database]\nkeep = 1\n[sets.provisioning]\nkeep = 3\npath = '{tree}'"
    provisioned.configure(sets, nas="")
    nas = provisioned["nas"]
    others = [f"prod-2026-05-{day:02}T01:00:00Z" for day in (1, 2)]
    ours = [f"prod-provisioning-2026-05-{day:02}T01:00:00Z" for day in range(1, 5)]
    for name in (*others, *ours):
        nas.add_at(name[-20:].removesuffix("Z"), name, comment="verdict=good")
    rehearsed = provisioned.run(*CREATE, "--dry-run", "--json", exit_code=0).document
    assert rehearsed["pruned"][0]["removed"] == ours[:1]  # the new one is not there yet
    document = provisioned.run(*CREATE, "--json", exit_code=0).document
    assert document["pruned"] == [{"repository": "nas", "removed": ours[:2], "spared": []}]
    assert nas.names() == sorted([*others, *ours[2:], document["archive"]])
    told = provisioned.run("prune", "--set", "provisioning", "--keep", "1", "-n", "--json", exit_code=0).document
    assert told["pruned"][0]["removed"] == ours[2:]


def test_every_repository_gets_the_same_bytes(provisioned: Shelf, tree: Path) -> None:
    provisioned.configure(f"[sets.provisioning]\npath = '{tree}'", nas="", second="", third="")
    document = provisioned.run(*CREATE, "--json", exit_code=0).document
    assert [one["repository"] for one in document["repositories"]] == ["nas", "second", "third"]
    archives = [provisioned[name].archives() for name in ("nas", "second", "third")]
    assert [len(found) for found in archives] == [1, 1, 1]
    assert len({(found[0]["name"], found[0]["comment"]) for found in archives}) == 1


def test_nothing_is_left_in_staging(provisioned: Shelf, tree: Path) -> None:
    provisioned.run(*CREATE, exit_code=0)
    (tree / "wrong").symlink_to("/etc/passwd")
    provisioned.run(*CREATE, exit_code=4)
    assert list((provisioned.state / "staging" / "prod-provisioning").iterdir()) == []


def test_a_checkout_has_its_revision_recorded(provisioned: Shelf, checkout: str) -> None:
    document = provisioned.run(*CREATE, "--json", exit_code=0).document
    assert document["revision"] == checkout
    assert [one["path"] for one in document["artifacts"] if ".git" in one["path"]] == []
    manifest = json.loads(provisioned["nas"].read(document["archive"], "manifest.json"))
    assert manifest["revision"] == checkout
    assert f"Revision: {checkout}" in provisioned["nas"].read(document["archive"], "RESTORE.txt").decode()


def _modified(tree: Path) -> None:
    (tree / "organisations.yaml").write_text("changed: true\n", "utf-8")


def _untracked(tree: Path) -> None:
    (tree / "new.yaml").touch()


def _ignored(tree: Path) -> None:
    (tree / ".git" / "info" / "exclude").write_text("*.swp\n", "utf-8")
    (tree / "x.swp").touch()


def _removed(tree: Path) -> None:
    (tree / "organisations.yaml").unlink()


@pytest.mark.parametrize("change", [_modified, _untracked, _ignored, _removed])
def test_what_is_not_in_the_revision_is_told(
    change: Callable[[Path], None], provisioned: Shelf, tree: Path, checkout: str
) -> None:
    assert revision_of(provisioned) == checkout
    change(tree)
    index = (tree / ".git" / "index").stat()
    assert revision_of(provisioned) == f"{checkout} with local changes"
    assert (tree / ".git" / "index").stat() == index


def test_a_directory_inside_a_checkout_has_its_revision(provisioned: Shelf, tree: Path, checkout: str) -> None:
    provisioned.configure(f"[sets.provisioning]\npath = '{tree / 'rules'}'", nas="")
    (tree / "organisations.yaml").unlink()  # which is not in there
    assert revision_of(provisioned) == checkout


def test_without_git_or_checkout_there_is_no_revision(
    provisioned: Shelf, tree: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert revision_of(provisioned) is None
    git(tree, "init")
    assert revision_of(provisioned) is None  # nothing is committed
    (tmp_path / "bin").mkdir()
    git(tree, "commit", "--allow-empty", "--message=first")
    assert revision_of(provisioned) is not None
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    assert revision_of(provisioned) is None


@pytest.mark.usefixtures("checkout")
def test_somebody_elses_checkout_runs_nothing_as_us(provisioned: Shelf, tree: Path, tmp_path: Path) -> None:
    """Git's own configuration can name programs that `git status` runs."""
    if os.geteuid() != 0:
        pytest.skip("only root can give files away")
    revision, trap = git(tree, "rev-parse", "HEAD"), tmp_path / "trap"
    git(tree, "config", "core.fsmonitor", f"touch {trap}; false")
    git(tree, "status")
    assert trap.exists()
    trap.unlink()
    for path in (tree, *tree.rglob("*")):
        os.chown(path, 65534, 65534)
    assert revision_of(provisioned) == f"{revision}, local changes not looked for"
    assert not trap.exists()


@pytest.mark.usefixtures("tree")
def test_a_plugin_can_add_files_and_is_named_when_it_fails(
    provisioned: Shelf, install_plugin: InstallPlugin, tree: Path
) -> None:
    install_plugin(
        "@hookimpl\ndef collect_provisioning(directory, staging):\n"
        "    if (directory / 'stop').exists(): raise SourceError('plug it in')\n"
        "    with staging.write('terraform/state') as file: file.write(b'{}')\n    yield file.artifact()\n"
    )
    provisioned.configure(f"plugins = ['badge']\n[sets.provisioning]\npath = '{tree}'", nas="")
    document = provisioned.run(*CREATE, "--json", exit_code=0).document
    assert [one["producer"] for one in document["artifacts"]] == ["provisioning-files", "provisioning-files", "badge"]
    (tree / "stop").touch()
    assert "hook badge: plug it in" in provisioned.run(*CREATE, exit_code=4).stderr


def test_text_tells_how_it_ended(provisioned: Shelf, checkout: str) -> None:
    said = provisioned.run(*CREATE, exit_code=0).stdout
    (name,) = provisioned["nas"].names()
    assert f"{name}: GOOD" in said
    assert f"2 files, 41 B, revision {checkout}" in said


def test_one_run_of_a_set_at_a_time(provisioned: Shelf, run_cli: RunCli) -> None:
    (provisioned.state).mkdir(parents=True, exist_ok=True)
    lock = provisioned.state / "prod-provisioning.lock"
    with subprocess.Popen(["flock", str(lock), "sleep", "60"]) as holder:
        deadline = time.monotonic() + 10
        while not lock.exists() or subprocess.run(["flock", "-n", str(lock), "true"], check=False).returncode == 0:
            assert time.monotonic() < deadline
        assert "another run holds" in run_cli(*CREATE, exit_code=6).stderr
        holder.kill()
