"""What PostgreSQL's own programs print of a dump and of the database that was rebuilt from it, side by side.

PostgreSQL does not print every expression as it read it: what is restored and dumped again can differ in its text and
mean the same. So where a text differs, the dump's definitions alone are restored once more, into a second database
without rows, and what is printed there is what was to be expected.
"""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from borg_vault_plugin.errors import SourceError
from borg_vault_plugin.process import ending
from borg_vault_plugin.recovery.definitions import FILLING, Definitions, Departures, departures, read_definitions
from borg_vault_plugin.recovery.large_objects import LargeObjects, listed, read_large_objects
from borg_vault_plugin.recovery.rebuild import DUMP, discard, restore_definitions
from borg_vault_plugin.recovery.target import Made, Target
from borg_vault_plugin.sealed_set import SealedSet

FILLED = f" {FILLING} ".encode()


@dataclass(frozen=True, slots=True)
class DefinitionsCompared:
    """The definitions of a dump, and in what those of a rebuilt database depart from them."""

    archived: Definitions
    departures: Departures


def archived_definitions(sealed: SealedSet, target: Target) -> Definitions:
    """Read the definitions in a set's dump. Raises SourceError."""
    return read_definitions(_said(target, "pg_restore", "--schema-only", "--file=-", dump=sealed.directory / DUMP))


def compare_definitions(sealed: SealedSet, target: Target) -> DefinitionsCompared:
    """Compare the definitions of a rebuilt database with those of its dump. Raises psycopg.Error, SourceError."""
    archived, rebuilt = archived_definitions(sealed, target), _printed(target)
    found = departures(archived, rebuilt)
    if not (found.changed or found.added):
        return DefinitionsCompared(archived, found)
    with _without_rows(sealed, target) as other:
        unexpected = departures(_printed(other), rebuilt)
    doubtful = {*unexpected.changed, *unexpected.added}
    changed = tuple(heading for heading in found.changed if heading in doubtful)
    added = tuple(heading for heading in found.added if heading in doubtful)
    return DefinitionsCompared(archived, replace(found, changed=changed, added=added))


def archived_large_objects(sealed: SealedSet, target: Target) -> LargeObjects:
    """Read the large objects in a dump; one without any is not read to its end. Raises SourceError."""
    listing = listed(_listing(sealed, target))
    if not listing:
        return LargeObjects()
    chosen = target.private / "large-objects.list"
    chosen.write_bytes(listing)
    arguments, dump = ("--data-only", "--file=-"), sealed.directory / DUMP
    with target.output("pg_restore", *arguments, connected=False, listing=chosen, dump=dump) as script:
        return read_large_objects(script)


def rebuilt_large_objects(target: Target) -> LargeObjects:
    """Read the large objects of a rebuilt database. Raises SourceError."""
    with target.output("pg_dump", "--data-only", "--exclude-table-data=*.*") as script:
        return read_large_objects(script)


@contextlib.contextmanager
def _without_rows(sealed: SealedSet, target: Target) -> Iterator[Target]:
    """Make the dump's definitions once more; views stay empty, since filling them runs the archive's functions."""
    other = replace(target, name=f"definitions_{secrets.token_hex(4)}", made=Made())
    chosen = target.private / f"{other.name}.list"
    chosen.write_bytes(b"\n".join(line for line in _listing(sealed, target).splitlines() if FILLED not in line))
    try:
        restore_definitions(sealed, other, listing=chosen)
        yield other
    finally:
        discard(other)


def _printed(target: Target) -> Definitions:
    return read_definitions(_said(target, "pg_dump", "--schema-only"))


def _listing(sealed: SealedSet, target: Target) -> bytes:
    return _said(target, "pg_restore", "--list", dump=sealed.directory / DUMP)


def _said(target: Target, program: str, *arguments: str, dump: Path | None = None) -> bytes:
    done = target.run(program, *arguments, connected=dump is None, dump=dump)
    if done.returncode:
        how = ending(done.returncode)
        raise SourceError(f"{program} {target.clients.version} {arguments[0]} failed ({how}): {done.last_words()}")
    return done.stdout
