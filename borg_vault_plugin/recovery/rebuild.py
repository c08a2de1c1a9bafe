"""From a sealed set to a database: its roles, the database itself, everything in the dump, then its own properties.

Roles that are there already are left alone; those that are made cannot log in, since nobody has given them a password
yet. The database's settings and privileges come last, so that none of them stands in the way of the restore. What
pg_restore runs is the archive's own code; nothing of an archive is ever handed to psql, which would run programs here.
"""

from __future__ import annotations

import contextlib
import logging
import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import psycopg
from psycopg import sql

from borg_vault_plugin.chain.ranges import processors
from borg_vault_plugin.chain.source import NotCheckedError, open_regular
from borg_vault_plugin.database import Connection, explain
from borg_vault_plugin.errors import SourceError
from borg_vault_plugin.process import ending
from borg_vault_plugin.properties import Properties, database_sql, roles_sql
from borg_vault_plugin.recovery.target import Target
from borg_vault_plugin.sealed_set import SealedSet
from borg_vault_plugin.session import open_session

logger = logging.getLogger(__name__)

DUMP, ROLES, DATABASE = "db.dump", "roles.sql", "database.sql"
LARGEST_SCRIPT_BYTES = 64 << 20
LONGEST_SHOWN = 400
ERROR = re.compile(r"\berror:|\b(?:ERROR|FATAL|PANIC):")
# What PostgreSQL says when a server, and not the archive, lacks something.
LACKING = re.compile(
    r'extension "[^"]*" is not available|could not (?:access|open|load) (?:file|extension|library)'
    r"|not supported (?:by|in) this build|server to be built with|unsupported XML"
    r'|collation "[^"]*" for encoding "[^"]*" does not exist|locale name|could not create locale'
    r'|tablespace "[^"]*" does not exist|No space left on device|Disk quota exceeded'
)
# One statement of the scripts that we write: comments, texts in either form, names, anything else up to a semicolon.
STATEMENT = re.compile(
    r"""(?:--[^\n]*+|E'(?:[^'\\]|\\.|'')*+'|'(?:[^']|'')*+'|"(?:[^"]|"")*+"|(?!E')[^;'"-]|-(?!-))*+(?:;|\Z)""",
    re.DOTALL,
)
COMMENT = re.compile(r"^\s*--.*$", re.MULTILINE)

SUBSCRIPTIONS = """
SELECT datname, subname FROM pg_subscription JOIN pg_database d ON d.oid = subdbid WHERE datname = ANY (%s)"""


@dataclass(frozen=True, slots=True)
class Scripts:
    """What is run before and after the dump, as SQL."""

    roles: str
    database: str


@dataclass(frozen=True, slots=True)
class Rebuilt:
    """What became of a set: the roles that were made for it, and what pg_restore said that is no error."""

    roles: tuple[str, ...]
    remarks: tuple[str, ...]


def archived_scripts(sealed: SealedSet) -> Scripts:
    """Give the scripts of the archive, for a server that has nothing yet. Raises NotCheckedError, SourceError."""
    return Scripts(_read(sealed.directory / ROLES), _read(sealed.directory / DATABASE))


def scripts_beside(properties: Properties, name: str, there: Collection[str]) -> Scripts:
    """Give scripts for a server on which these roles are there already, and a database of another name is made."""
    missing = {role.name for role in properties.roles} - set(there)
    of_missing = replace(
        properties,
        roles=tuple(role for role in properties.roles if role.name in missing),
        memberships=tuple(one for one in properties.memberships if one.member in missing),
        settings=tuple(one for one in properties.settings if one.role in missing and not one.in_database),
    )
    return Scripts(roles_sql(of_missing), database_sql(properties, name))


def rebuild(sealed: SealedSet, target: Target, scripts: Scripts, *, jobs: int | None = None) -> Rebuilt:
    """Make the roles and the new database, and restore everything into it, in so many processes.

    Raises SourceError when something of the archive is refused, NotCheckedError when it is the server that lacks
    something; what was made until then stays, and `target.made` tells what that is.
    """
    making, finishing = _parted(statements(scripts.database))
    with _refusals(ROLES), target.on_server() as server:
        roles = make_roles(server, scripts.roles)
        target.made.roles.extend(roles)
    make_database(target, making)
    remarks = restore_dump(target, sealed.directory / DUMP, jobs=jobs)
    with _refusals(DATABASE), target.on_server() as server:
        _run(server, finishing)
    return Rebuilt(roles, remarks)


def make_roles(server: Connection, script: str) -> tuple[str, ...]:
    """Run a script that makes roles, let none of them log in, and give their names. Raises psycopg.Error."""
    with server.transaction():
        before = role_names(server)
        server.execute(script.encode())
        made = sorted(role_names(server) - before)
        for name in made:
            server.execute(sql.SQL("ALTER ROLE {} NOLOGIN").format(sql.Identifier(name)))
    return tuple(made)


def make_database(target: Target, script: list[str]) -> None:
    """Run the statements that make the new database. Raises SourceError, NotCheckedError."""
    with _refusals(DATABASE), target.on_server() as server:
        _run(server, script)
        target.made.databases.append(target.name)
        if server.execute("SELECT FROM pg_database WHERE datname = %s", [target.name]).fetchone() is None:
            raise SourceError(f"{DATABASE} makes another database than {target.name}, which the manifest names")


def role_names(server: Connection) -> set[str]:
    """Give the names of all roles."""
    return {name for (name,) in server.execute("SELECT rolname FROM pg_roles").fetchall()}


def restore_dump(target: Target, dump: Path, *, jobs: int | None = None) -> tuple[str, ...]:
    """Restore a dump into the new database, and give what pg_restore remarked without calling it an error.

    Raises SourceError with its first error, NotCheckedError when that says that the server lacks something.
    """
    processes = jobs or processors()
    # Several processes read a file; into a container the dump comes as a stream.
    parallel = [] if target.clients.container else [f"--jobs={processes}"]
    done = target.run("pg_restore", "--exit-on-error", *parallel, dump=dump)
    lines = [line.strip() for line in done.stderr.decode("utf-8", "replace").splitlines() if line.strip()]
    errors = [line for line in lines if ERROR.search(line)]
    if done.returncode or errors:
        said = (errors or lines or ["no message"])[0][:LONGEST_SHOWN]
        raise _refusal(f"pg_restore {target.clients.version} ended with {ending(done.returncode)}", said, *lines)
    return tuple(lines)


def restore_definitions(sealed: SealedSet, target: Target, *, listing: Path) -> None:
    """Make the new database again without a single row, from the entries in a list that pg_restore printed."""
    making, _ = _parted(statements(database_sql(sealed.manifest.survey.properties, target.name)))
    make_database(target, making)
    dump = sealed.directory / DUMP
    done = target.run("pg_restore", "--exit-on-error", "--schema-only", listing=listing, dump=dump)
    if done.returncode:
        raise _refusal(f"pg_restore {target.clients.version} of the definitions alone failed", done.last_words())


def discard(target: Target) -> None:
    """Drop the databases and roles that were made, and nothing else; what cannot be dropped is a warning."""
    made, drop_database = target.made, "DROP DATABASE IF EXISTS {} WITH (FORCE)"
    if not (made.databases or made.roles):
        return
    try:
        _forget_subscriptions(target)
        with target.on_server() as server:
            for kept, statement in ((made.databases, drop_database), (made.roles, "DROP ROLE IF EXISTS {}")):
                while kept:
                    server.execute(sql.SQL(statement).format(sql.Identifier(kept[-1])))
                    kept.pop()
    except psycopg.Error as error:
        left = ", ".join((*made.databases, *made.roles))
        logger.warning("could not drop %s of %s: %s", left, target.server.address, explain(error))


def _forget_subscriptions(target: Target) -> None:
    """Drop subscriptions, with which no database is dropped, and leave alone what they would drop on the publisher."""
    with target.on_server() as server:
        found = server.execute(SUBSCRIPTIONS, [target.made.databases]).fetchall()
    for database, name in found:
        with open_session(replace(target, name=database).database) as connection:
            for statement in ("ALTER SUBSCRIPTION {} SET (slot_name = NONE)", "DROP SUBSCRIPTION {}"):
                connection.execute(sql.SQL(statement).format(sql.Identifier(name)))


def statements(script: str) -> list[str]:
    """Take one of our own scripts apart, since CREATE DATABASE must be sent alone. Raises SourceError."""
    found: list[str] = []
    place = 0
    while place < len(script):
        piece = STATEMENT.match(script, place)
        if piece is None:
            raise SourceError(f"a script of the archive ends inside of a text or name, after {place} characters")
        found.append(piece[0].strip())
        place = piece.end()
    return [piece for piece in found if COMMENT.sub("", piece).strip()]


def _read(path: Path) -> str:
    with open_regular(path) as file:
        data = file.read(LARGEST_SCRIPT_BYTES + 1)
    if len(data) > LARGEST_SCRIPT_BYTES:
        raise NotCheckedError(f"{path.name} is longer than {LARGEST_SCRIPT_BYTES} bytes")
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise SourceError(f"{path.name} is not UTF-8: {error}") from error


def _parted(script: list[str]) -> tuple[list[str], list[str]]:
    """Part a script behind its CREATE DATABASE."""
    for place, statement in enumerate(script, start=1):
        if statement.startswith("CREATE DATABASE"):
            return script[:place], script[place:]
    raise SourceError(f"{DATABASE} makes no database")


def _run(server: Connection, script: list[str]) -> None:
    for statement in script:
        server.execute(statement.encode())


@contextlib.contextmanager
def _refusals(script: str) -> Iterator[None]:
    try:
        yield
    except psycopg.Error as error:
        raise _refusal(f"{script} was refused", explain(error)) from error


def _refusal(what: str, said: str, *others: str) -> SourceError | NotCheckedError:
    """Give the error that says what PostgreSQL refused, by whose fault it is."""
    lacking = next((line for line in (said, *others) if LACKING.search(line)), None)
    if lacking is None:
        return SourceError(f"{what}: {said}")
    return NotCheckedError(f"this server lacks something: {lacking[:LONGEST_SHOWN]}")
