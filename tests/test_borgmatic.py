"""borgmatic, as installed, with the example's configuration: every place in which a night can fail, and a good one."""

from __future__ import annotations

import contextlib
import hashlib
import signal
import subprocess
import time
from collections.abc import Iterator

from fix_borgmatic import BORGMATIC, EXAMPLE, NAMES, SECONDS, Site, xxh64sum
from fix_repository import PlainRepository

from borg_vault_plugin.borg import find_borg

pytest_plugins = ("fix_server", "fix_night")

NOT_STORED = "store_config_files: false"


@contextlib.contextmanager
def locked(repository: PlainRepository) -> Iterator[None]:
    """Hold Borg's lock on a repository, as another Borg does."""
    command = [str(find_borg().program), "with-lock", str(repository.path), "cat"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, env=dict(repository.environment())) as holder:
        while not (repository.path / "lock.exclusive").exists():
            time.sleep(0.05)
        yield
        holder.communicate(timeout=SECONDS)


def test_the_example_is_valid(site: Site) -> None:
    said = site.run(BORGMATIC, "--config", EXAMPLE / "vault.yaml", "config", "validate", exit_code=0)
    assert "All configuration files are valid" in said.stdout
    site.vault("config", "validate", exit_code=0)


def test_a_night_leaves_the_same_bytes_in_both_repositories(borgmatics_night: Site) -> None:
    site = borgmatics_night
    confirmed = site.events("confirmed")
    assert len(confirmed) == len(NAMES)
    for name in NAMES:
        (archive,) = site.repository(name).names()
        manifest = site.repository(name).read(archive, f"{site.staged}/manifest.json".lstrip("/"))
        assert hashlib.sha256(manifest).hexdigest() == confirmed[0].manifest
        assert manifest == (site.staged / "manifest.json").read_bytes()
    assert site.alarm() == ""


def test_its_archives_are_listed_verified_and_drilled(site: Site, borgmatics_night: Site) -> None:
    archives = site.vault("list", "--json", exit_code=0).document["archives"]
    assert {(one["repository"], one["verdict"]) for one in archives} == {("nas", "good"), ("offsite", "good")}
    assert all(one["name"].startswith("vault-") for one in archives)
    assert "PASSED" in site.vault("verify", archives[0]["name"], exit_code=0).stdout
    out = site.place / "out"
    out.mkdir()
    site.borgmatic("extract", "--repository", "nas", "--archive", "latest", "--destination", out, exit_code=0)
    extracted = out / borgmatics_night.staged.relative_to("/")
    drilled = site.vault("drill", "--from", extracted, "--json", exit_code=0).document
    assert (drilled["archive"], drilled["verdict"]) == (site.events("confirmed")[0].holds, "passed")


def test_a_dry_run_needs_nothing_but_the_last_nights_set(site: Site) -> None:
    before = site.names()
    site.borgmatic("--dry-run", "create", "prune", exit_code=0)
    assert site.names() == before
    assert len(site.events("confirmed")) == len(NAMES)


def test_a_repository_that_is_locked_does_not_keep_the_other_from_its_archive(site: Site) -> None:
    """With retries: each of them goes through the same hooks, and staging is done once."""
    site.change(("retries: 0", "retries: 1"))
    before = site.names()
    with locked(site.repository("offsite")):
        said = site.borgmatic("create", "prune", exit_code=1)
    assert "offsite: Error running actions for repository" in said.stderr
    assert "nas: " not in said.stderr
    after = site.names()
    assert (len(after["nas"]), after["offsite"]) == (2, before["offsite"])
    assert site.alarm() != ""


def test_a_set_that_cannot_be_staged_is_archived_nowhere(site: Site) -> None:
    (site.place / "database-url").write_text("postgresql://127.0.0.1:1/nothing", "utf-8")
    before = site.names()
    said = site.borgmatic("create", "prune", exit_code=1)
    assert "borg-vault: database" in said.stderr
    assert site.names() == before
    assert site.alarm() != ""


def test_an_archive_that_lacks_a_file_is_not_confirmed_however_often_it_is_tried(site: Site) -> None:
    site.change(("retries: 0", "retries: 1\nexclude_patterns: ['*/roles.sql']"))
    said = site.borgmatic("create", "prune", exit_code=1)
    assert "does not hold the set of" in said.stderr
    assert "roles.sql is missing" in said.stderr
    assert {len(names) for names in site.names().values()} == {3}
    assert len(site.events("confirmed")) == len(NAMES)
    assert len({one.holds for one in site.events("confirmed")}) == 1


def test_a_prune_that_would_hurt_is_refused_and_nothing_is_pruned(site: Site) -> None:
    (first, *_) = site.events("confirmed")
    site.vault("pin", first.archive, "--reason", "audit", exit_code=0)
    site.change(("keep_daily: 14\nkeep_weekly: 8\nkeep_monthly: 24", "keep_secondly: 1"))
    said = site.borgmatic("create", "prune", exit_code=1)
    assert f"prune in nas is refused: it would remove {first.archive}, pinned: audit" in said.stderr
    assert len(site.names()["nas"]) == 2
    assert len(site.names()["offsite"]) == (2 if first.archive in site.names()["offsite"] else 1)


def test_a_run_that_is_ended_by_a_signal_is_reported_and_the_next_night_is_good(site: Site) -> None:
    """The 143 of a Borg that was ended is a warning to borgmatic, unless it is told otherwise."""
    borg = site.place / "bin" / "borg"
    lock, real = site.place / "nas" / "lock.exclusive", find_borg().program
    end = f"(while kill -0 $$ && ! [ -e {lock} ]; do sleep 0.01; done; kill -TERM $$) >/dev/null 2>&1 &"
    borg.write_text(f'#!/bin/sh\ncase $1 in create) {end};; esac\nexec {real} "$@"\n', "utf-8")
    borg.chmod(0o755)
    (site.place / "ballast").write_bytes(bytes(range(256)) * 500_000)
    site.change(
        (f"    - {site.staged} ", f"    - {site.place}/ballast\n    - {site.staged} "),
        (f"    - path: {site.place}/offsite\n      label: offsite\n", ""),
    )
    before = site.names()["nas"]
    said = site.borgmatic("create", "prune", exit_code=1)
    assert "Treating exit code 143 as an error, as per configuration" in said.stderr
    assert site.names()["nas"] == before
    assert site.alarm() != ""
    borg.unlink()
    site.borgmatic("create", "prune", exit_code=0)
    assert len(site.names()["nas"]) == 2


def test_borgmatic_that_is_stopped_leaves_nothing_behind_that_counts(site: Site) -> None:
    """As `systemctl stop` does, in the middle of staging."""
    command = [str(BORGMATIC), "--config", str(site.place / "vault.yaml"), "create", "prune"]
    null, environment = subprocess.DEVNULL, dict(site.environment())
    # It passes the signal on to its whole process group.
    with subprocess.Popen(command, env=environment, start_new_session=True, stdout=null, stderr=null) as run:
        while not list(site.place.glob(".set.borg-vault/run-*")):
            time.sleep(0.02)
        run.send_signal(signal.SIGTERM)
        run.wait(SECONDS)
        assert run.returncode not in (0, 75)
    assert {len(names) for names in site.names().values()} == {1}


def test_the_spot_check_finds_archive_and_directory_the_same(site: Site) -> None:
    spot = "{name: spot, count_tolerance_percentage: 10, data_sample_percentage: 100, data_tolerance_percentage: 0"
    program = xxh64sum(site.place / "bin" / "xxh64sum")
    site.change(
        (NOT_STORED, "store_config_files: true"),
        ("    - name: archives\n", f"    - {spot}, xxh64sum_command: '{program}'}}\n    - name: archives\n"),
    )
    site.borgmatic("create", "prune", "check", "--only", "spot", "--force", exit_code=0)
    (database,) = (one for one in site.staged.iterdir() if one.name == "db.dump")
    database.write_bytes(b"another")
    site.borgmatic("check", "--only", "spot", "--force", exit_code=1)
