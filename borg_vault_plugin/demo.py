"""The whole story in two minutes: a Server's database, two nights of backups, and a look at what they are worth."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psycopg

from borg_vault_plugin import backup, delivery, process, repositories, text
from borg_vault_plugin.borg import find_borg, open_repository
from borg_vault_plugin.cluster import Cluster, embedded_distributions, throwaway_cluster
from borg_vault_plugin.config import Settings
from borg_vault_plugin.errors import PreflightError, RepositoryError, SourceError
from borg_vault_plugin.recovery.rehearsal import Request, rehearse
from borg_vault_plugin.report import Backup
from borg_vault_plugin.sample import SampleVault, VaultShape
from borg_vault_plugin.secret import SecretReference
from borg_vault_plugin.sections import DatabaseSettings, RepositorySettings
from borg_vault_plugin.staging import CHECKSUMS
from borg_vault_plugin.verify import Request as VerifyRequest
from borg_vault_plugin.verify import verify

RECORDS, ENTRIES_PER_RECORD, NEW_ENTRIES = 2_000, 5, 100
CHECK_SECONDS = 60.0
# The end of the youngest record's chain, with the checkpoint that vouches for it: nothing in the database tells.
CUT = """
WITH last AS (
    DELETE FROM audit_vault WHERE id = (SELECT id FROM audit_vault WHERE record_id IS NOT NULL AND chain_position > 1
                                         ORDER BY record_id DESC, chain_position DESC LIMIT 1)
    RETURNING record_id, chain_position)
DELETE FROM vault_checkpoints c USING last l
 WHERE c.record_id = l.record_id AND c.chain_position >= l.chain_position"""


@dataclass(frozen=True, slots=True)
class Line:
    """One line of the story: a heading, a command that anybody could type, or what is seen."""

    text: str
    heading: bool = False


Say = Callable[[Line], None]


@dataclass(frozen=True, slots=True)
class Scene:
    """Where the story happens: a Server's database, and what a small operator would have."""

    say: Say
    directory: Path
    cluster: Cluster
    vault: SampleVault
    settings: Settings

    def heading(self, words: str) -> None:
        """Begin a chapter."""
        self.say(Line(words, heading=True))

    def lines(self, *lines: str) -> None:
        """Tell what is seen."""
        for line in lines:
            self.say(Line(f"   {line}"))


def tell(say: Say, *, keep_files: bool) -> None:
    """Play the story and tell it line by line.

    Everything happens in one temporary directory, which goes at the end unless `keep_files` says otherwise.
    Raises PreflightError when there is no embedded PostgreSQL or no Borg, and whatever a backup raises.
    """
    find_borg()
    with (
        _directory(keep_files=keep_files) as directory,
        _borg_keeps_its_files_in(directory / "borg"),
        _scene(say, directory) as scene,
    ):
        _setting(scene)
        first = _night(scene, "3. The first night")
        _day(scene)
        second = _night(scene, "5. The second night")
        _cost(scene, first, second)
        _extracted(scene, second)
        _drilled(scene)
        _tampered(scene)
        _pruned(scene)
    say(Line("The end", heading=True))
    say(
        Line(
            f"   The files of this demo are in {directory}."
            if keep_files
            else "   Nothing of this demo is left behind."
        )
    )


def _setting(scene: Scene) -> None:
    scene.heading("1. A Server's database")
    scene.lines(
        f"PostgreSQL {scene.cluster.distribution.major} on a private socket: {RECORDS:,} records, and in their vault",
        f"more than {RECORDS * ENTRIES_PER_RECORD:,} entries, each signed and chained to the one before it.",
    )
    scene.heading("2. An encrypted repository")
    scene.lines("$ borg-vault init")
    scene.lines(*text.initialised_lines(repositories.initialise(scene.settings, (), "repokey", None)))


def _night(scene: Scene, heading: str) -> Backup:
    scene.heading(heading)
    scene.lines("$ borg-vault create")
    report = backup.create(scene.settings, delivery.Request())
    scene.lines(*text.backup_lines(report))
    if report.exit_code:
        raise RepositoryError(f"the demo's backup failed: {report.repositories[0].error}")
    return report


def _day(scene: Scene) -> None:
    changed = RECORDS // 100
    with psycopg.connect(scene.cluster.conninfo("demo")) as connection:
        scene.vault.grow(connection, entries=NEW_ENTRIES, rotate=True, records_updated=changed)
    scene.heading("4. A day passes")
    scene.lines(
        f"The signing key is rotated, {NEW_ENTRIES} entries are appended, {changed} records change their state."
    )


def _cost(scene: Scene, first: Backup, second: Backup) -> None:
    scene.heading("6. What the second night really cost")
    scene.lines("$ borg-vault list")
    scene.lines(*text.listing_lines(repositories.list_archives(scene.settings, ())))
    whole, added = first.repositories[0].deduplicated_size or 0, second.repositories[0].deduplicated_size or 0
    scene.lines(
        f"Both nights can be restored whole. The first one took {text.size(whole)} of disk, the second only"
        f" {text.size(added)} more."
    )


def _extracted(scene: Scene, report: Backup) -> None:
    scene.heading("7. No borg-vault needed to read it")
    target = scene.directory / "extracted"
    target.mkdir()
    name, settings = next(iter(scene.settings.repositories.items()))
    scene.lines(f"$ borg extract ::{report.archive}")
    open_repository(name, settings).extract(report.archive, target)
    scene.lines(f"$ sha256sum -c {CHECKSUMS}")
    checked = process.run(
        ["sha256sum", "-c", CHECKSUMS], env=process.plain_environment(), timeout=CHECK_SECONDS, cwd=target
    )
    scene.lines(*checked.stdout.decode().splitlines())
    if checked.returncode:
        raise RepositoryError(f"the extracted archive is damaged: {checked.last_words()}: please report this as a bug")
    _proved(scene, target)


def _proved(scene: Scene, extracted: Path) -> None:
    scene.heading("8. No Server needed to prove it")
    scene.lines("$ borg-vault verify .")
    report = verify(scene.settings, VerifyRequest(str(extracted))).report
    scene.lines(*text.verified_lines(report))
    if report.exit_code:
        raise SourceError("the demo's own chain does not verify: please report this as a bug")


def _drilled(scene: Scene) -> None:
    scene.heading("9. A backup that was never restored is a hope")
    scene.lines("$ borg-vault drill --evidence evidence")
    done = rehearse(scene.settings, Request(evidence=scene.directory / "evidence"))
    scene.lines(*text.drill_lines(done))
    if done.exit_code:
        raise SourceError("the demo's archive does not pass its drill: please report this as a bug")
    scene.lines("evidence/drill.html shows the same to an auditor.")


def _tampered(scene: Scene) -> None:
    scene.heading("10. Somebody rewrites history")
    with psycopg.connect(scene.cluster.conninfo("demo")) as connection:
        connection.execute("SET session_replication_role = replica")
        connection.execute(CUT)
    scene.lines(
        "The database's superuser deletes the last entry of a chain, and the checkpoint that vouches for it. What",
        "is left verifies, every hash and every signature. But the archive of the night before knows better.",
        "$ borg-vault create",
    )
    report = backup.create(scene.settings, delivery.Request())
    scene.lines(*text.backup_lines(report))
    if report.verdict != "suspect":
        raise SourceError("the demo's rewritten history was not found: please report this as a bug")
    scene.lines("Exit code 10. It is stored all the same, beside the good archives and under a name of its own:")
    scene.lines("$ borg-vault list")
    scene.lines(*text.listing_lines(repositories.list_archives(scene.settings, ())))


def _pruned(scene: Scene) -> None:
    scene.heading("11. Old nights go, by a rule")
    scene.lines("$ borg-vault prune --keep 1")
    report = backup.prune(scene.settings, delivery.Request(keep={"keep": 1}))
    scene.lines(*text.pruned_lines(report.pruned))


@contextlib.contextmanager
def _scene(say: Say, directory: Path) -> Iterator[Scene]:
    distributions = embedded_distributions()
    if not distributions:
        raise PreflightError("the demo needs its own PostgreSQL: run pip install 'borg-vault-plugin[embedded]'")
    with throwaway_cluster(distributions[-1], parent=directory) as cluster:
        with psycopg.connect(cluster.conninfo(), autocommit=True) as connection:
            connection.execute("CREATE DATABASE demo")
        vault = _vault()
        try:
            with psycopg.connect(cluster.conninfo("demo")) as connection:
                vault.load(connection)
        except psycopg.Error as error:
            raise SourceError(f"the demo's database cannot be filled: {error}") from error
        yield Scene(say, directory, cluster, vault, _settings(directory, cluster))


def _vault() -> SampleVault:
    entries = RECORDS * ENTRIES_PER_RECORD
    start = datetime.now(UTC) - timedelta(days=3)
    step = timedelta(days=2) / entries
    return SampleVault(
        VaultShape(records=RECORDS, entries_per_record=ENTRIES_PER_RECORD, start=start, step=step, rotations=1)
    )


def _settings(directory: Path, cluster: Cluster) -> Settings:
    return Settings(
        label="demo",
        state_directory=directory / "state",
        database=DatabaseSettings(url=_secret(directory / "database-url", cluster.url("demo"))),
        repositories={
            "default": RepositorySettings(
                path=str(directory / "backup" / "borg-vault"),
                passphrase=_secret(directory / "passphrase", secrets.token_urlsafe(24)),
            )
        },
    )


def _secret(path: Path, value: str) -> SecretReference:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
        stream.write(value)
    return SecretReference(file=path)


@contextlib.contextmanager
def _directory(*, keep_files: bool) -> Iterator[Path]:
    directory = Path(tempfile.mkdtemp(prefix="borg-vault-demo-"))
    try:
        yield directory
    finally:
        if not keep_files:
            shutil.rmtree(directory, ignore_errors=True)


@contextlib.contextmanager
def _borg_keeps_its_files_in(directory: Path) -> Iterator[None]:
    """Keep Borg's cache and its memory of repositories out of the user's home."""
    previous = os.environ.get("BORG_BASE_DIR")
    os.environ["BORG_BASE_DIR"] = str(directory)
    try:
        yield
    finally:
        if previous is None:
            del os.environ["BORG_BASE_DIR"]
        else:
            os.environ["BORG_BASE_DIR"] = previous
