"""Retention: which archives go, and that nobody else's ever do."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from fix_cli import RunCli
from fix_repository import PlainRepository

pytest_plugins = ("fix_server",)

WriteConfig = Callable[[str], Path]

OURS = [f"prod-2026-05-{day:02}T01:00:00Z" for day in range(1, 10)]
FOREIGN = [
    "prod-2026-05-01", "prod-2026-05-01T01:00:00Z.suspect", "prod-2026-05-01T01:00:00Z.partial",
    "prod-eu-2026-05-01T01:00:00Z", "prod-keys-2026-05-01T01:00:00Z", "xprod-2026-05-01T01:00:00Z",
]  # fmt: skip


@pytest.fixture(scope="session")
def full_template(repository_template: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository with nine archives of ours and older ones of others."""
    directory = tmp_path_factory.mktemp("full")
    shutil.copytree(repository_template, directory / "repository")
    repository = PlainRepository(directory / "repository", directory / "base")
    for name in FOREIGN:
        repository.add_at("2026-04-01T00:00:00", name)
    for name in OURS:
        repository.add_at(name.removeprefix("prod-").removesuffix("Z"), name, comment="verdict=good")
    return repository.path


@pytest.fixture
def full(
    full_template: Path, tmp_path: Path, write_config: WriteConfig, monkeypatch: pytest.MonkeyPatch
) -> PlainRepository:
    """The full repository, the test's own; no database is needed to prune it."""
    shutil.copytree(full_template, tmp_path / "repository")
    repository = PlainRepository(tmp_path / "repository", tmp_path / "plain-borg")
    monkeypatch.setenv("DATABASE_URL", "postgresql:///app")
    monkeypatch.setenv("BORG_REPO", str(repository.path))
    monkeypatch.setenv("BORG_PASSPHRASE", repository.passphrase)
    write_config('label = "prod"')
    return repository


def kept(repository: PlainRepository) -> list[str]:
    return [name for name in repository.names() if name in OURS]


def test_seven_are_kept_and_only_our_own_are_touched(full: PlainRepository, run_cli: RunCli) -> None:
    told = run_cli("prune", "--dry-run", "--json", exit_code=0).document["pruned"]
    assert [one["removed"] for one in told] == [OURS[:2]]
    assert "would remove 2 archives" in run_cli("prune", "-n", exit_code=0).stdout
    assert full.names() == sorted(OURS + FOREIGN)
    said = run_cli("prune", exit_code=0).stdout
    for name in OURS[:2]:
        assert name in said
    assert full.names() == sorted(OURS[2:] + FOREIGN)


@pytest.mark.usefixtures("full")
def test_a_listing_tells_of_our_own_alone(run_cli: RunCli) -> None:
    listed = run_cli("list", "--json", exit_code=0).document["archives"]
    assert sorted(one["name"] for one in listed) == sorted([*OURS, FOREIGN[1]])


def test_keep_says_how_many(full: PlainRepository, run_cli: RunCli) -> None:
    run_cli("prune", "--keep", "30", exit_code=0)
    assert kept(full) == OURS
    run_cli("prune", "--keep", "3", exit_code=0)
    assert kept(full) == OURS[-3:]


def test_parts_of_a_rule_add_up(full: PlainRepository, run_cli: RunCli) -> None:
    run_cli("prune", "--keep", "1", "--keep-daily", "2", exit_code=0)
    assert kept(full) == OURS[-3:]


@pytest.mark.usefixtures("full")
def test_the_file_gives_the_rule_and_the_command_line_overrides_it(run_cli: RunCli, write_config: WriteConfig) -> None:
    write_config('label = "prod"\n[sets.database]\nkeep = 3\n')
    for words, removed in ((["--keep", "8"], OURS[:1]), ([], OURS[:6])):
        pruned = run_cli("prune", "-n", *words, "--json", exit_code=0).document["pruned"]
        assert pruned[0]["removed"] == removed


def test_a_newer_archive_that_nobody_calls_good_leaves_the_newest_good_one_where_it_is(
    full: PlainRepository, run_cli: RunCli
) -> None:
    other = "prod-2026-06-01T01:00:00Z"
    full.add_at("2026-06-01T01:00:00", other)
    told = run_cli("prune", "--keep", "1", "--json", exit_code=0).document
    assert (told["pruned"][0]["removed"], told["pruned"][0]["spared"]) == (OURS[:-1], OURS[-1:])
    assert full.names() == sorted([OURS[-1], other, *FOREIGN])


@pytest.mark.parametrize("option", ["--keep", "--keep-daily", "--keep-weekly", "--keep-monthly", "--keep-yearly"])
def test_keeping_nothing_is_refused(option: str, run_cli: RunCli) -> None:
    assert option in run_cli("prune", option, "0", exit_code=2).stderr


def test_create_refuses_to_keep_nothing(run_cli: RunCli) -> None:
    run_cli("create", "--keep", "0", exit_code=2)
    run_cli("create", "--keep", "-1", exit_code=2)


@pytest.mark.usefixtures("server")
def test_create_prunes_after_it_has_stored(repository: PlainRepository, run_cli: RunCli) -> None:
    first = run_cli("create", "--json", exit_code=0).document
    assert first["pruned"] == [one | {"removed": [], "spared": []} for one in first["pruned"]]
    second = run_cli("create", "--keep", "1", "--json", exit_code=0).document
    assert second["pruned"][0]["removed"] == [first["archive"]]
    assert repository.names() == [second["archive"]]
    repository.borg("check", "--verify-data")


def test_a_repository_that_cannot_be_pruned_is_reported(
    full: PlainRepository, run_cli: RunCli, write_config: WriteConfig, tmp_path: Path
) -> None:
    gone = f'[repositories.gone]\npath = "{tmp_path / "gone"}"\n'
    write_config(f'label = "prod"\n{gone}[repositories.here]\npath = "{full.path}"\n')
    said = run_cli("prune", "--keep", "8", "--json", exit_code=5)
    failed, went_well = said.document["pruned"]
    assert "repository gone" in failed["error"]
    assert went_well["removed"] == OURS[:1]
    assert "repository gone" in said.stderr
