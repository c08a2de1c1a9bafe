"""Whether a rebuilt database is the archived one: its rows by their recorded counts and digests, and everything else.

Large objects are compared to the byte, sequences by the value that was seen, materialised views, which a restore fills
anew, by whether they are filled; definitions and privileges entry by entry (`printed`).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import psycopg

from borg_vault_plugin.database import Connection, only_row
from borg_vault_plugin.recovery.definitions import Definitions
from borg_vault_plugin.recovery.large_objects import LargeObjects
from borg_vault_plugin.recovery.printed import archived_large_objects, compare_definitions, rebuilt_large_objects
from borg_vault_plugin.recovery.property_comparison import compare_database, compare_roles
from borg_vault_plugin.recovery.target import Target
from borg_vault_plugin.sealed_set import SealedSet
from borg_vault_plugin.survey import Survey, Table, digest_query, take_survey
from borg_vault_plugin.wording import plural

STEPS = "SELECT schemaname, sequencename, increment_by, cycle FROM pg_sequences"
TOLD_TYPES = ("TRIGGER", "EVENT TRIGGER", "POLICY", "CONSTRAINT", "FK CONSTRAINT", "INDEX", "FUNCTION", "ACL")


@dataclass(frozen=True, slots=True)
class Comparison:
    """In what a rebuilt database differs from the archived one, what was compared, and what could not be."""

    differences: tuple[str, ...]
    compared: str
    counted: int
    """Tables whose rows were compared."""
    uncounted: tuple[str, ...]
    """Tables whose rows nobody had counted."""


def compare(sealed: SealedSet, target: Target) -> Comparison:
    """Compare a rebuilt database with what the manifest and the dump say. Raises psycopg.Error, SourceError."""
    survey = sealed.manifest.survey
    with target.reading() as connection:
        differences = list(_in_session(connection, survey, target))
    definitions = compare_definitions(sealed, target)
    archived, found = archived_large_objects(sealed, target), rebuilt_large_objects(target)
    differences += [*definitions.departures, *_large_objects(archived, found)]
    return Comparison(
        tuple(differences),
        _told(survey, definitions.archived, archived),
        sum(table.digest is not None for table in survey.tables),
        tuple(_name(table.schema, table.name) for table in survey.tables if table.digest is None),
    )


def _in_session(connection: Connection, survey: Survey, target: Target) -> Iterator[str]:
    found = take_survey(connection, major=target.clients.major)
    yield from _tables(connection, survey)
    yield from _sequences(connection, survey, found)
    yield from _relations(survey, found)
    yield from compare_database(survey.properties, found.properties)
    if target.own:
        yield from compare_roles(connection, survey.properties)


def _tables(connection: Connection, survey: Survey) -> Iterator[str]:
    for table in survey.tables:
        if table.digest is not None:
            yield from _table(connection, table)


def _table(connection: Connection, table: Table) -> Iterator[str]:
    name = _name(table.schema, table.name)
    query = digest_query(table.schema, table.name, by_record=table.method == "record")
    try:
        with connection.transaction():
            rows, digest = only_row(connection, query)
    except psycopg.errors.UndefinedTable:
        yield f"table {name} is missing"
        return
    if rows != table.rows:
        yield f"table {name} has {rows} rows, had {table.rows}"
    elif digest != table.digest:
        yield f"table {name} has its {rows} rows, but not with the values that they had"


def _sequences(connection: Connection, survey: Survey, found: Survey) -> Iterator[str]:
    """Sequences are in no snapshot: the dump may hold a later value than the one that was seen, never an earlier."""
    values = {(one.schema, one.name): one.value for one in found.sequences}
    steps = {(schema, name): (step, cycle) for schema, name, step, cycle in connection.execute(STEPS).fetchall()}
    for sequence in survey.sequences:
        place, name = (sequence.schema, sequence.name), _name(sequence.schema, sequence.name)
        if place not in values:
            yield f"sequence {name} is missing"
            continue
        now, seen = values[place], sequence.value
        step, cycles = steps[place]
        if seen is not None and (now is None or (not cycles and (now - seen) * step < 0)):
            yield f"sequence {name} is at {now}, was at {seen} already"


def _relations(survey: Survey, found: Survey) -> Iterator[str]:
    views = {(view.schema, view.name): view.populated for view in found.materialised_views}
    for view in survey.materialised_views:
        populated = views.get((view.schema, view.name))
        if populated is None:
            yield f"materialised view {_name(view.schema, view.name)} is missing"
        elif populated != view.populated:
            yield f"materialised view {_name(view.schema, view.name)} is {'filled' if populated else 'not filled'}"
    extensions = {one.name for one in found.extensions}
    yield from (f"extension {one.name} is missing" for one in survey.extensions if one.name not in extensions)
    foreign = set(found.foreign_tables)
    yield from (f"foreign table {name} is missing" for name in survey.foreign_tables if name not in foreign)


def _large_objects(archived: LargeObjects, found: LargeObjects) -> Iterator[str]:
    if archived.count != found.count:
        yield f"of {plural(archived.count, 'large object')} {found.count} are there"
    elif archived != found:
        yield f"the {found.count} large objects have not the contents, owners and privileges that they had"


def _name(schema: str, name: str) -> str:
    return f"{schema}.{name}"


def _told(survey: Survey, definitions: Definitions, objects: LargeObjects) -> str:
    counted = [table.rows or 0 for table in survey.tables if table.digest is not None]
    types = definitions.types()
    named = ", ".join(f"{types[name]} {name}" for name in TOLD_TYPES if types[name])
    counts = (
        f"{plural(len(counted), 'table')} with {plural(sum(counted), 'row')}",
        plural(len(survey.sequences), "sequence"),
        plural(len(survey.materialised_views), "materialised view"),
        plural(objects.count, "large object"),
        f"{plural(types.total(), 'definition')} ({named})",
    )
    return ", ".join(counts)
