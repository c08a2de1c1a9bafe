"""`prune-guard`: somebody else's `borg prune` is looked at before it runs, and refused when it would hurt."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest
from fix_cli import RunCli
from fix_repository import PlainRepository
from fix_wrapped import Wrapped

from borg_vault_plugin.borg import pruning
from borg_vault_plugin.borgmatic import borgmatic_pruning
from borg_vault_plugin.errors import ConfigError, UsageError
from borg_vault_plugin.history import happened_now

pytest_plugins = ("fix_server", "fix_nights", "fix_sets", "fix_staged")

KEYS = ["repository", "allowed", "looked_at", "removes", "reasons", "findings"]
BEFORE, AFTER = "2026-01-01T00:00:00", "2099-01-01T00:00:00"


@pytest.fixture
def two(wrapped: Wrapped) -> Wrapped:
    """Both nights, archived by another program and confirmed; `daily-1` is the older one."""
    wrapped.confirmed("daily-1", wrapped.nights.first)
    wrapped.confirmed("daily-2", wrapped.nights.second)
    return wrapped


def guarded(wrapped: Wrapped, *words: object, exit_code: int) -> str:
    """Ask whether a prune would hurt, and give what is told."""
    said = wrapped.shelf.run("prune-guard", "-r", "nas", *words, exit_code=exit_code)
    assert len(said.stdout.splitlines()) == 1
    return said.stderr if exit_code else said.stdout


def test_a_prune_that_keeps_what_must_be_kept_hurts_nothing_and_changes_nothing(two: Wrapped) -> None:
    before = two.nas.archives()
    said = guarded(two, "--", "--keep-last", 1, "-a", "daily-*", exit_code=0)
    assert said == "nas: that prune hurts nothing: 1 of 2 archives would go\n"
    assert two.nas.archives() == before
    document = two.shelf.run("prune-guard", "-r", two.nas.path, "--json", "--", "-d1", exit_code=0).document
    assert list(document) == KEYS
    assert (document["allowed"], document["looked_at"], document["removes"]) == (True, 2, ["daily-1"])


def test_it_refuses_to_let_the_newest_good_archive_go(two: Wrapped) -> None:
    two.archive("other", "/etc/passwd", time=AFTER)
    said = guarded(two, "--", "--keep-last=1", exit_code=12)
    assert "prune in nas is refused: it would remove daily-2, the newest good one: let it keep more" in said
    assert "RETENTION_ARCHIVE_FUTURE" in said
    document = two.shelf.run("prune-guard", "-r", "nas", "--json", "--", "--keep-last=1", exit_code=12).document
    assert (document["allowed"], sorted(document["removes"])) == (False, ["daily-1", "daily-2"])


def test_it_refuses_to_let_an_archive_go_that_our_own_retention_spares(two: Wrapped) -> None:
    (first, _) = two.shelf.events("confirmed")
    history, about = two.shelf.history(), ("daily-1", first.repository)
    words = ("--", "--keep-last", 1)
    history.append(happened_now("verified", *about, archive_id=first.archive_id, verdict="passed"))
    said = guarded(two, *words, exit_code=12)
    assert "it would remove daily-1, the last verified one: verify a newer one first, with `borg-vault verify`" in said
    history.append(happened_now("drilled", *about, archive_id=first.archive_id, verdict="passed"))
    assert "it would remove daily-1, the last drilled one: drill a newer one first" in guarded(
        two, *words, exit_code=12
    )
    two.shelf.run("pin", "daily-2", "--reason", "audit", exit_code=0)
    two.archive("daily-3")
    two.confirm()
    said = guarded(two, *words, exit_code=12)
    assert "it would remove daily-2, pinned: audit: unpin it first" in said


def test_of_two_archives_with_the_same_set_one_is_enough(two: Wrapped) -> None:
    two.archive("daily-3")
    two.confirm()
    assert "2 of 3 archives would go" in guarded(two, "--", "--keep-last", 1, exit_code=0)


def test_a_prune_that_keeps_nothing_is_refused(wrapped: Wrapped) -> None:
    for words in (("--keep-daily", 0, "-w0"), ("-a", "daily-*")):
        assert "it would keep nothing: say what to keep" in guarded(wrapped, "--", *words, exit_code=12)
    assert "say what would be pruned" in wrapped.shelf.run("prune-guard", "-r", "nas", exit_code=2).stderr


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("--keep-daily 7 --force", "--force says neither what borg prune keeps nor which archives it looks at"),
        ("--keep-daily", "--keep-daily needs a number"),
        ("--keep-daily=many", "--keep-daily=many needs a number"),
        ("-a daily-* -w", "-w needs a number"),
        ("-a", "-a needs a value"),
        ("repository", "repository says neither"),
        ("--keep-d 7", "--keep-d says neither"),
    ],
)
def test_options_that_it_does_not_know_are_refused(words: str, told: str) -> None:
    with pytest.raises(UsageError, match=re.escape(told)):
        pruning(words.split())


def test_the_options_are_those_of_borg(wrapped: Wrapped) -> None:
    """Borg takes every option that is known here, as it is written here."""
    words = "-H1 -d 2 -w=3 -m 4 -y5 --keep-within 2d --keep-last 1 --keep-secondly=-1 --keep-minutely 1"
    rule = pruning([*words.replace("-w=3", "-w3").split(), "--keep-13weekly=1", "-a", "*"])
    wrapped.nas.borg("prune", "--dry-run", *rule.words())
    wrapped.nas.borg("prune", "--dry-run", *pruning(["--keep-3monthly", "2", "-P", "daily"]).words())
    with pytest.raises(UsageError, match="--list says neither"):
        pruning(["--keep-last", "1", "--list"])


def test_days_are_those_of_the_host_as_for_the_prune_itself(two: Wrapped, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, time in {
        "x-1": "2026-02-01T00:00:00",
        "x-2": "2026-03-01T20:00:00",
        "x-3": "2026-03-02T02:00:00",
    }.items():
        two.archive(name, "/etc/passwd", time=time)
    words = ("prune-guard", "-r", "nas", "--json", "--", "-d9", "-a", "x-*")
    monkeypatch.setenv("TZ", "UTC")
    assert two.shelf.run(*words, exit_code=0).document["removes"] == []
    monkeypatch.setenv("TZ", "EST5")
    assert two.shelf.run(*words, exit_code=0).document["removes"] == ["x-2"]


def test_an_archive_that_disappeared_is_noticed_unless_a_prune_was_to_remove_it(two: Wrapped) -> None:
    assert "1 of 2" in guarded(two, "--", "--keep-last", 1, exit_code=0)
    two.nas.borg("prune", "--keep-last", 1)
    assert two.nas.names() == ["daily-2"]
    assert "0 of 1" in guarded(two, "--", "--keep-last", 1, exit_code=0)
    two.archive("daily-3")
    two.confirm()
    two.nas.borg("delete", "::daily-2")
    said = guarded(two, "--", "--keep-last", 1, exit_code=12)
    assert "RETENTION_ARCHIVE_MISSING at archive daily-2: of " in said
    finding = said.rpartition("[id ")[2].split("]")[0]
    two.shelf.run("accept", finding, "--reason", "deleted by hand", exit_code=0)
    guarded(two, "--", "--keep-last", 1, exit_code=0)


def test_what_a_prune_left_there_all_the_same_must_stay(two: Wrapped) -> None:
    guarded(two, "--", "--keep-last", 1, exit_code=0)
    guarded(two, "--", "--keep-last", 2, exit_code=0)
    two.nas.borg("delete", "::daily-1")
    assert "RETENTION_ARCHIVE_MISSING at archive daily-1" in guarded(two, "--", "--keep-last", 2, exit_code=12)
    two.archive("daily-1", "/etc/passwd")
    assert "RETENTION_ARCHIVE_CHANGED at archive daily-1" in guarded(two, "--", "--keep-last", 9, exit_code=12)


def test_where_nothing_is_known_nothing_may_go(wrapped: Wrapped, run_cli: RunCli) -> None:
    wrapped.archive("daily-1", time=BEFORE)
    wrapped.archive("daily-2")
    words = ("prune-guard", "-r", "nas", "--")
    said = run_cli(*words, "--keep-last", 1, exit_code=12).stderr
    assert "no archive in it is known to hold a set" in said
    run_cli(*words, "--keep-last", 2, exit_code=0)


def test_a_repository_that_cannot_be_read_is_not_pruned(wrapped: Wrapped) -> None:
    shutil.rmtree(wrapped.nas.path)
    assert "does not exist" in wrapped.shelf.run("prune-guard", "-r", "nas", "--", "-d7", exit_code=5).stderr


def write(path: Path, repository: PlainRepository, *lines: str) -> Path:
    """Write a configuration of borgmatic's for a repository."""
    path.write_text(f"repositories:\n    - path: {repository.path}\n" + "\n".join(lines) + "\n", "utf-8")
    return path


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        (("keep_daily: 7",), ["--keep-daily=7", "--glob-archives={hostname}-*"]),  # borgmatic's default name
        (('archive_name_format: "{now}"', "keep_within: 2d"), ["--keep-within=2d"]),
        (('archive_name_format: "daily-{now:%Y-%m}.{pid}"', "keep_daily: -1"), ["--keep-daily=-1", "-a=daily-*.*"]),
        (
            ('archive_name_format: "daily-{now}"', "match_archives: other", "keep_3monthly: 7"),
            ["--keep-3monthly=7", "-a=other"],
        ),
        (('match_archives: "sh:daily-*"', "keep_weekly: 0"), ["--keep-weekly=0", "-a=daily-*"]),
        (('match_archives: "*"', "keep_exclude_tags: true", "keep_yearly: 1"), ["--keep-yearly=1"]),
        (('prefix: "daily-"', "keep_hourly: 1"), ["--keep-hourly=1", "-a=daily-*"]),
        (
            ('match_archives: "*"', "extra_borg_options: {prune: -y 2}", "keep_yearly: 1"),
            ["--keep-yearly=1", "--keep-yearly=2"],
        ),
    ],
)
def test_borgmatics_file_says_what_borgmatic_prunes(tmp_path: Path, lines: tuple[str, ...], words: list[str]) -> None:
    repository = PlainRepository(tmp_path / "nas", tmp_path)
    file = write(tmp_path / "borgmatic.yaml", repository, *lines)
    expected = [word.replace("-a=", "--glob-archives=") for word in words]
    assert borgmatic_pruning(file, str(repository.path)).words() == expected


@pytest.mark.parametrize("line", ['archive_name_format: "${NAME}-{now}"', "keep_last: 2"])
def test_a_file_whose_meaning_is_not_known_is_refused(tmp_path: Path, line: str) -> None:
    file = write(tmp_path / "borgmatic.yaml", PlainRepository(tmp_path / "nas", tmp_path), "keep_daily: 1", line)
    with pytest.raises(ConfigError, match=r"depends on borgmatic's environment|borgmatic cannot read it"):
        borgmatic_pruning(file, str(tmp_path / "nas"))


def test_borgmatics_file_may_include_others_and_differ_by_repository(two: Wrapped, tmp_path: Path) -> None:
    (tmp_path / "keep.yaml").write_text("keep_daily: 7\n", "utf-8")
    file = write(
        tmp_path / "borgmatic.yaml",
        two.nas,
        "      keep_daily: 0",
        f"    - path: {two.shelf['second'].path}",
        "<<: !include keep.yaml",
        'match_archives: "*"',
        f"commands:\n    - before: configuration\n      run: [touch {tmp_path}/hook]",
    )
    assert "it would keep nothing" in guarded(two, "--borgmatic", file, exit_code=12)
    two.shelf.run("prune-guard", "-r", "second", "--borgmatic", file, exit_code=0)
    assert not (tmp_path / "hook").exists()


def test_a_file_that_is_not_borgmatics_or_not_of_this_repository_is_refused(wrapped: Wrapped, tmp_path: Path) -> None:
    file = write(tmp_path / "borgmatic.yaml", wrapped.shelf["second"], "keep_daily: 7")
    words = ("prune-guard", "-r", "nas", "--borgmatic")
    said = wrapped.shelf.run(*words, file, exit_code=3).stderr
    assert f"borgmatic has no repository {wrapped.nas.path}" in said
    file.write_text("nonsense: 1\n", "utf-8")
    assert "borgmatic cannot read it: run `borgmatic --config" in wrapped.shelf.run(*words, file, exit_code=3).stderr
