"""Roles and the database's own properties, as far as a dump tells: tarballs have no roles.sql and no database.sql.

A dump says how its database was made, and names every role that owns or was granted something; what those roles may do
besides, it does not say. So they are made without any right, on a throwaway server, until the dump's definitions can
be restored there without asking for another role. Then the catalogues know all that the dump tells.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import psycopg
from psycopg import sql

from borg_vault_plugin import process
from borg_vault_plugin.chain.source import NotCheckedError
from borg_vault_plugin.clients import Clients
from borg_vault_plugin.database import explain
from borg_vault_plugin.dump import printed
from borg_vault_plugin.errors import SourceError
from borg_vault_plugin.properties import Properties, Role, database_sql, read_properties
from borg_vault_plugin.recovery.rebuild import discard, make_database, statements
from borg_vault_plugin.recovery.target import Target

PRINT_SECONDS = 3600.0
MOST_PASSES = 64  # each finds all missing roles but those that one statement names together
HEADING = re.compile(
    r"^-- Name: (?P<name>.*); Type: (?P<type>[^;\n]*); Schema: [^;\n]*; Owner: (?P<owner>.*?)(?:; Tablespace: .*)?$",
    re.MULTILINE,
)
CREATE_DATABASE = re.compile(r'^CREATE DATABASE (?:"(?:[^"]|"")*"|\S+) WITH (.*);$', re.MULTILINE)
OPTION = re.compile(r"(\w+) = (E?'(?:[^']|'')*'|\"(?:[^\"]|\"\")*\"|\S+)")
ENTRY = re.compile(r"^\d+; 1262 (\d+) DATABASE ", re.MULTILINE)  # 1262: pg_database
MISSING_ROLE = re.compile(r'ERROR:  role "(.*)" does not exist$', re.MULTILINE)
# Nobody else can own these (PostgreSQL documentation, CREATE EVENT TRIGGER, CREATE FOREIGN DATA WRAPPER).
SUPERUSERS_OWN = ("EVENT TRIGGER", "FOREIGN DATA WRAPPER")
# A locale that every server has, where the database's own is not here: what is read does not depend on it.
STAND_INS = {"UTF8": "C.UTF-8"}
PROVIDER_LOCALES = ("ICU_LOCALE", "BUILTIN_LOCALE")


@dataclass(frozen=True, slots=True)
class Told:
    """What a dump tells: as it was, and with a locale that the server here has."""

    properties: Properties
    makeable: Properties


def print_dump(clients: Clients, dump: Path, *arguments: str) -> str:
    """Have pg_restore print something of a dump. Raises SourceError."""
    command = [str(clients.program("pg_restore")), *arguments, str(dump)]
    environment = process.plain_environment()
    text = printed(dump, clients, lambda: process.run(command, env=environment, timeout=PRINT_SECONDS))
    return text.decode("utf-8", "replace")


def definitions(clients: Clients, dump: Path) -> str:
    """Print all that a dump defines, the database itself included. Raises SourceError."""
    return print_dump(clients, dump, "--create", "--schema-only", "--file=-")


def database_oid(clients: Clients, dump: Path) -> str | None:
    """Give the number that the database had on its server. Raises SourceError."""
    entry = ENTRY.search(print_dump(clients, dump, "--create", "--list"))
    return entry[1] if entry else None


def told_properties(script: str, database: str) -> Properties:
    """Give what a dump's definitions tell by themselves: of the roles only the owners. Raises SourceError."""
    created = CREATE_DATABASE.search(script)
    heading = next((one for one in HEADING.finditer(script) if one["type"] == "DATABASE"), None)
    if created is None or heading is None:
        raise SourceError("db.dump does not say how its database was made: it is none of the Server's backups")
    options = {name: _unquoted(value) for name, value in OPTION.findall(created[1])}
    own = {"collate": options.get("LC_COLLATE", ""), "ctype": options.get("LC_CTYPE", "")}
    both = options.get("LOCALE")
    return Properties(
        name=database,
        owner=heading["owner"],
        encoding=options.get("ENCODING", "UTF8"),
        provider=options.get("LOCALE_PROVIDER", "libc"),
        collate=both if both is not None else own["collate"],
        ctype=both if both is not None else own["ctype"],
        locale=next((options[name] for name in PROVIDER_LOCALES if name in options), None),
        connection_limit=-1,
        comment=None,
        privileges=None,
        roles=tuple(_owners(script)),
        memberships=(),
        settings=(),
    )


def ask_for_properties(target: Target, dump: Path, script: str, told: Properties) -> Told:
    """Restore the definitions alone, with every role that they name, and read the catalogues; the roles stay.

    Raises NotCheckedError, SourceError when the server cannot be asked.
    """
    known: set[str] = set()
    missing = {role.name for role in told.roles}
    for _ in range(MOST_PASSES):
        _make_roles(target, [role for role in told.roles if role.name in missing], missing)
        known |= missing
        discard(target)
        _make_database(target, told)
        done = target.run("pg_restore", "--create", "--schema-only", str(dump))
        missing = set(MISSING_ROLE.findall(done.stderr.decode("utf-8", "replace"))) - known
        if not missing:
            break
    else:
        raise NotCheckedError(f"the definitions in {dump.name} name ever more roles")
    try:
        with target.reading() as connection:
            found = read_properties(connection)
    except psycopg.Error as error:
        raise NotCheckedError(f"the definitions in {dump.name} could not be looked at: {explain(error)}") from error
    discard(target)
    found = replace(found, roles=tuple(_without_ours(found.roles, target, script)))
    was = replace(found, provider=told.provider, collate=told.collate, ctype=told.ctype, locale=told.locale)
    return Told(was, found)


def _owners(script: str) -> Iterator[Role]:
    """Give every owner of something, as a role that may do nothing else."""
    owned: dict[str, set[str]] = {}
    for heading in HEADING.finditer(script):
        owned.setdefault(heading["owner"], set()).add(heading["type"])
    for name in sorted(name for name in owned if name not in ("", "-") and not name.startswith("pg_")):
        superuser = ("SUPERUSER",) if owned[name] & set(SUPERUSERS_OWN) else ()
        yield Role(name, (*superuser, "INHERIT"), -1, None)


def _make_roles(target: Target, owners: Iterable[Role], names: Iterable[str]) -> None:
    superusers = {role.name for role in owners if "SUPERUSER" in role.attributes}
    try:
        with target.on_server() as server:
            there = {name for (name,) in server.execute("SELECT rolname FROM pg_roles").fetchall()}
            for name in sorted(set(names) - there):
                kind = "SUPERUSER" if name in superusers else "NOSUPERUSER"
                server.execute(sql.SQL("CREATE ROLE {} NOLOGIN " + kind).format(sql.Identifier(name)))
    except psycopg.Error as error:
        raise NotCheckedError(f"a role that the dump names cannot be made here: {explain(error)}") from error


def _make_database(target: Target, told: Properties) -> None:
    """Make the database, empty; in a locale that is here when its own is not."""
    try:
        make_database(target, statements(database_sql(told, target.name)))
    except NotCheckedError:
        locale = STAND_INS.get(told.encoding, "C")
        other = replace(told, provider="libc", collate=locale, ctype=locale, locale=None)
        make_database(target, statements(database_sql(other, target.name)))


def _without_ours(roles: Iterable[Role], target: Target, script: str) -> Iterator[Role]:
    """Leave out the throwaway server's own superuser, unless the dump names one who is called so."""
    ours = target.server.parameters.get("user", "")
    named = rf'(?:; Owner:|\b(?:TO|FROM|FOR|ROLE|AUTHORIZATION)) "?{re.escape(ours)}"?(?!\w)'
    for role in roles:
        if role.name != ours or re.search(named, script):
            yield role


def _unquoted(value: str) -> str:
    quoted = value.removeprefix("E")
    if quoted[:1] not in ("'", '"'):
        return value
    quote = quoted[0]
    text = quoted[1:-1].replace(quote * 2, quote)
    return text.replace("\\\\", "\\") if value.startswith("E") else text
