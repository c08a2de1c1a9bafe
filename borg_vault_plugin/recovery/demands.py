"""What a set demands of the server on which it is rebuilt: asked before anything is touched, and told all at once."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import psycopg

from borg_vault_plugin.chain.source import NotCheckedError
from borg_vault_plugin.database import Connection, explain, only_row
from borg_vault_plugin.errors import PreflightError, SourceError
from borg_vault_plugin.properties import Properties, Role
from borg_vault_plugin.recovery.definitions import Definitions
from borg_vault_plugin.recovery.printed import archived_definitions
from borg_vault_plugin.recovery.rebuild import role_names
from borg_vault_plugin.recovery.target import Target
from borg_vault_plugin.sealed_set import SealedSet
from borg_vault_plugin.survey import Survey

# Only a superuser gives these away.
POWERS = {"SUPERUSER", "REPLICATION", "BYPASSRLS"}
AVAILABLE = "SELECT name FROM pg_available_extensions"
# An extension that is not trusted needs a superuser, even where it is there.
UNTRUSTED = """
SELECT DISTINCT name FROM pg_available_extension_versions
 WHERE name = ANY (%s) AND superuser AND NOT trusted ORDER BY 1"""
OURSELVES = "SELECT rolsuper, rolcreatedb, rolcreaterole FROM pg_roles WHERE rolname = current_user"
MEMBER_OF = "SELECT rolname FROM pg_roles WHERE pg_has_role(current_user, oid, 'MEMBER')"


def decide(sealed: SealedSet, target: Target) -> None:
    """Decide all that can be decided about somebody's server before anything is touched there.

    Raises NotCheckedError when it is of another major or lacks something, PreflightError when the new database exists
    or our role may not do what is to be done, SourceError when it cannot be asked.
    """
    definitions, survey = archived_definitions(sealed, target), sealed.manifest.survey
    try:
        with target.on_server() as server:
            _refuse_other_major(server, target)
            if server.execute("SELECT FROM pg_database WHERE datname = %s", [target.name]).fetchone() is not None:
                raise PreflightError(f"database {target.name} exists on that server: name one that does not")
            refuse_unable(server, survey, definitions, target.server.address)
    except psycopg.Error as error:
        raise SourceError(f"database {target.server.address}: {explain(error)}") from error


def refuse_unable(server: Connection, survey: Survey, definitions: Definitions, place: str) -> None:
    """Raise PreflightError for what our role may not do there, NotCheckedError for what the server lacks."""
    refused = list(forbidden(server, survey, definitions))
    if refused:
        raise PreflightError(f"role {server.info.user} of {place} may not {'; '.join(refused)}")
    demand(lacking(server, survey, definitions))


def demand(missing: Iterable[str]) -> None:
    """Raise NotCheckedError when something is missing."""
    names = list(missing)
    if names:
        raise NotCheckedError(f"this server lacks {', '.join(names)}: install or make what is missing")


def lacking(connection: Connection, survey: Survey, definitions: Definitions) -> Iterator[str]:
    """Name the extensions and tablespaces that a server does not have. Raises psycopg.Error."""
    available = {name for (name,) in connection.execute(AVAILABLE).fetchall()}
    yield from (f"extension {one.name} {one.version}" for one in survey.extensions if one.name not in available)
    there = {name for (name,) in connection.execute("SELECT spcname FROM pg_tablespace").fetchall()}
    yield from (f"tablespace {name}" for name in sorted(definitions.tablespaces() - there))


def forbidden(connection: Connection, survey: Survey, definitions: Definitions) -> Iterator[str]:
    """Say what our role would have to do and may not; a superuser may do everything. Raises psycopg.Error."""
    superuser, may_make_databases, may_make_roles = only_row(connection, OURSELVES)
    if superuser:
        return
    if not may_make_databases:
        yield "make a database (CREATEDB)"
    missing = _missing(survey.properties, role_names(connection))
    if missing and not may_make_roles:
        yield f"make {_several([role.name for role in missing], 'role')} (CREATEROLE)"
    for role in missing:
        if powers := sorted(POWERS & set(role.attributes)):
            yield f"make role {role.name} with {' and '.join(powers)} (SUPERUSER)"
    member_of = {name for (name,) in connection.execute(MEMBER_OF).fetchall()}
    predefined = {"pg_database_owner"}  # the owner of schema public, whoever owns the database
    owners = sorted((definitions.owners() | {survey.properties.owner}) - member_of - predefined)
    if owners:
        yield f"hand things to {_several(owners, 'role')}, being no member"
    untrusted = [
        name for (name,) in connection.execute(UNTRUSTED, [[one.name for one in survey.extensions]]).fetchall()
    ]
    if untrusted:
        yield f"make {_several(untrusted, 'extension')} (SUPERUSER)"
    if definitions.types()["EVENT TRIGGER"] and not may_make_event_triggers(connection):
        yield "make event triggers (SUPERUSER, or what stands for it on a managed server)"


def may_make_event_triggers(connection: Connection) -> bool:
    """Try it, and take it back: managed servers let others than superusers do it. Raises psycopg.Error."""
    connection.execute("BEGIN")
    try:
        connection.execute("CREATE FUNCTION pg_temp.f() RETURNS event_trigger LANGUAGE plpgsql AS 'BEGIN END'")
        connection.execute("CREATE EVENT TRIGGER borg_vault_may_i ON sql_drop EXECUTE FUNCTION pg_temp.f()")
    except psycopg.errors.InsufficientPrivilege:
        return False
    else:
        return True
    finally:
        connection.execute("ROLLBACK")


def _refuse_other_major(server: Connection, target: Target) -> None:
    major = server.info.server_version // 10000
    if major != target.clients.major:
        raise NotCheckedError(
            f"{target.server.address} is a PostgreSQL {major}, the archive's is {target.clients.major}: name a server"
            " of that major"
        )


def _missing(properties: Properties, there: set[str]) -> list[Role]:
    return [role for role in properties.roles if role.name not in there]


def _several(names: list[str], noun: str) -> str:
    return f"{noun} {names[0]}" if len(names) == 1 else f"{noun}s {', '.join(names)}"
