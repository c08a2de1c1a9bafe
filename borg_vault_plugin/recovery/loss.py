"""What would be lost with an older state: entries, chains and keys that are elsewhere and not in the archive.

Elsewhere is the newest good archive, and the database whose place the restored one would take. What cannot be found out
counts as a loss of unknown size: nobody may take "could not ask" for "nothing".
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import msgspec
import psycopg

from borg_vault_plugin.archive import Archive
from borg_vault_plugin.chain.source import NotCheckedError
from borg_vault_plugin.chain_export import CHAIN_KEY
from borg_vault_plugin.config import Settings
from borg_vault_plugin.confirmed import recognised
from borg_vault_plugin.database import Connection, Source, answering, explain, only_row
from borg_vault_plugin.errors import PreflightError, RepositoryError, SourceError
from borg_vault_plugin.lookup import Stored
from borg_vault_plugin.predecessor import EVIDENCE, Evidence, head_lines, newest_good, registry_rows
from borg_vault_plugin.repositories import open_repositories
from borg_vault_plugin.sealed_set import SealedSet, open_set
from borg_vault_plugin.session import BEGIN, open_session

HAS_CHAIN_KEY = """
SELECT EXISTS (SELECT FROM pg_attribute WHERE attrelid = to_regclass('public.audit_vault') AND attname = 'chain_key'
                  AND NOT attisdropped)"""
THERE = "SELECT to_regclass('public.audit_vault') IS NOT NULL, to_regclass('public.vault_signing_keys') IS NOT NULL"

Ends = Iterable[tuple[str, int]]
"""The keys of chains with the positions of their last entries."""


@dataclass(frozen=True, slots=True)
class Loss:
    """What is in one place and not in the archive; the counts are None when they could not be found out."""

    where: str
    since: datetime
    """The instant of the archive: what was written later is not in it."""
    entries: int | None = None
    chains: int | None = None
    """Chains of which the archive holds nothing."""
    keys: int | None = None
    reason: str | msgspec.UnsetType = msgspec.UNSET
    """Why nobody can tell."""

    @property
    def is_known(self) -> bool:
        """Whether it was found out what would be lost."""
        return self.reason is msgspec.UNSET

    @property
    def is_empty(self) -> bool:
        """Whether it is known that no entry, chain or key would be lost."""
        return self.is_known and not (self.entries or self.chains or self.keys)


@dataclass(frozen=True, slots=True)
class Newer:
    """The newest good archive, when it is newer than the one to be restored; and why some could not be looked for."""

    stored: Stored | None
    reasons: tuple[str, ...]


def newer_than(settings: Settings, stored: Stored) -> Newer:
    """Look into every repository for a good archive that is newer than this one."""
    series = settings.series()
    found: list[Stored] = []
    reasons: list[str] = []
    for repository in open_repositories(settings, settings.repository_names("database")):
        try:
            inventory = recognised(repository.inventory(), settings.history())
        except (RepositoryError, PreflightError) as error:
            reasons.append(str(error))
            continue
        newest = newest_good(inventory.archives, series)
        if newest is not None and _is_newer(newest, stored.archive):
            found.append(Stored(repository, inventory.repository_id, newest))
    newest_of_all = max(found, key=lambda one: (one.archive.time, one.archive.name), default=None)
    return Newer(newest_of_all, tuple(reasons))


def lost_to_archive(settings: Settings, sealed: SealedSet, newer: Stored, private: Path) -> Loss:
    """Say what a newer archive holds that this set does not."""
    where, since = newer.archive.name, sealed.manifest.snapshot.time
    try:
        other = _evidence(settings, newer, private)
        ends = ((head.chain_key, head.position) for head in head_lines(other))
        return _loss(where, sealed, ends, registry_rows(other.directory))
    except (NotCheckedError, RepositoryError) as error:
        return Loss(where, since, reason=str(error))


def lost_from_live(sealed: SealedSet, live: Source) -> Loss:
    """Say what the chain and the key registry of the live database hold that this set does not."""
    where = f"the live database {live.database}"
    try:
        with open_session(live) as connection, answering(connection, live):
            connection.execute(BEGIN)
            has_chain, has_keys = only_row(connection, THERE)
            ends = _live_ends(connection) if has_chain else ()
            return _loss(where, sealed, ends, _live_keys(connection) if has_keys else ())
    except (psycopg.Error, SourceError, NotCheckedError) as error:
        said = explain(error) if isinstance(error, psycopg.Error) else str(error)
        return Loss(where, sealed.manifest.snapshot.time, reason=said)


def _is_newer(newest: Archive, than: Archive) -> bool:
    return (newest.time, newest.name) > (than.time, than.name) and newest.time > than.time


def _evidence(settings: Settings, newer: Stored, private: Path) -> SealedSet:
    digest = newer.archive.described.get("manifest", "").removeprefix("sha256:")
    kept = Evidence(settings.evidence_directory).find(digest) if digest.isalnum() else None
    if kept is not None:
        return kept
    directory = private / "newer"
    directory.mkdir(mode=0o700)
    newer.extract(directory, EVIDENCE)
    return open_set(directory)


def _loss(where: str, sealed: SealedSet, ends: Ends, keys: Iterable[str]) -> Loss:
    archived = {head.chain_key: head.position for head in head_lines(sealed)}
    entries = chains = 0
    for key, position in ends:
        entries += max(0, position - archived.get(key, 0))
        chains += key not in archived
    lost_keys = set(keys) - set(registry_rows(sealed.directory))
    return Loss(where, sealed.manifest.snapshot.time, entries, chains, len(lost_keys))


def _live_ends(connection: Connection) -> Iterator[tuple[str, int]]:
    (has_key,) = only_row(connection, HAS_CHAIN_KEY)
    key = "v.chain_key" if has_key else CHAIN_KEY
    # S608: one of two texts of this program
    query = f"SELECT {key}, max(v.chain_position) FROM public.audit_vault v GROUP BY 1"  # noqa: S608
    with connection.cursor() as cursor:
        yield from cursor.stream(query.encode())


def _live_keys(connection: Connection) -> list[str]:
    return [key for (key,) in connection.execute("SELECT key_id FROM public.vault_signing_keys").fetchall()]
