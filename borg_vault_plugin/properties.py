"""What pg_dump leaves out: the roles that own or are granted anything in the database, and its own properties.

Both are read from the catalogues into facts, and written as SQL that psql can run. Creating a role that is there
already is no error, so the script can run against any server; passwords are never read.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator
from dataclasses import dataclass

from psycopg import sql

from borg_vault_plugin.database import Connection, only_row
from borg_vault_plugin.snapshot import Snapshot
from borg_vault_plugin.staging import Artifact, Staging

# PostgreSQL's source calls these GUC_LIST_QUOTE: their value is a list of names.
LIST_SETTINGS = ("search_path", "temp_tablespaces", "session_preload_libraries", "local_preload_libraries")
ATTRIBUTES = {
    "rolsuper": "SUPERUSER",
    "rolinherit": "INHERIT",
    "rolcreaterole": "CREATEROLE",
    "rolcreatedb": "CREATEDB",
    "rolcanlogin": "LOGIN",
    "rolreplication": "REPLICATION",
    "rolbypassrls": "BYPASSRLS",
}
# Whatever the encoding and quoting of the session that runs the script.
PREAMBLE = ("SET client_encoding = 'UTF8';", "SET standard_conforming_strings = on;")
PROVIDERS = {"c": "libc", "i": "icu", "b": "builtin"}

# Owners, grantees and roles of policies are in pg_shdepend, except the bootstrap superuser (oid 10), which is pinned.
ROLES = f"""
WITH RECURSIVE used (oid) AS (
  SELECT refobjid FROM pg_shdepend, pg_database d
   WHERE d.datname = current_database() AND refclassid = 'pg_authid'::regclass
     AND (dbid = d.oid OR (dbid = 0 AND classid = 'pg_database'::regclass AND objid = d.oid))
  UNION SELECT 10::oid
  UNION SELECT setrole FROM pg_db_role_setting, pg_database d
         WHERE d.datname = current_database() AND setdatabase = d.oid AND setrole <> 0
  UNION SELECT subowner FROM pg_subscription, pg_database d WHERE d.datname = current_database() AND subdbid = d.oid
  UNION SELECT m.roleid FROM pg_auth_members m JOIN used u ON u.oid = m.member)
SELECT r.rolname, ARRAY[{", ".join(f"r.{name}" for name in ATTRIBUTES)}], r.rolconnlimit, r.rolvaliduntil::text
  FROM pg_roles r JOIN used u ON u.oid = r.oid
 WHERE r.rolname !~ '^pg_' ORDER BY r.rolname"""  # noqa: S608 - constants of this file

MEMBERSHIPS = """
SELECT g.rolname, m.rolname, bool_or(a.admin_option),
       bool_or((to_jsonb(a)->>'inherit_option')::boolean), bool_or((to_jsonb(a)->>'set_option')::boolean)
  FROM pg_auth_members a JOIN pg_roles g ON g.oid = a.roleid JOIN pg_roles m ON m.oid = a.member
 WHERE m.rolname = ANY (%s) GROUP BY 1, 2 ORDER BY 1, 2"""

SETTINGS = """
SELECT r.rolname, s.setdatabase <> 0, unnest(s.setconfig)
  FROM pg_db_role_setting s LEFT JOIN pg_roles r ON r.oid = s.setrole
 WHERE s.setdatabase IN (0, (SELECT oid FROM pg_database WHERE datname = current_database()))
   AND (s.setrole = 0 AND s.setdatabase <> 0 OR r.rolname = ANY (%s)) ORDER BY 1 NULLS FIRST, 2, 3"""

PRIVILEGES = """
SELECT coalesce(r.rolname, ''), a.privilege_type, a.is_grantable
  FROM pg_database d, aclexplode(d.datacl) a LEFT JOIN pg_roles r ON r.oid = a.grantee
 WHERE d.datname = current_database() ORDER BY 1, 2"""


@dataclass(frozen=True, slots=True)
class Role:
    """A role: its name, the attributes that it has, its connection limit (-1: none), until when its password holds."""

    name: str
    attributes: tuple[str, ...]
    connection_limit: int
    valid_until: str | None


@dataclass(frozen=True, slots=True)
class Membership:
    """Role `member` is a member of role `group`; before PostgreSQL 16 there was no say in inheriting and setting."""

    group: str
    member: str
    admin: bool
    inherit: bool | None
    set: bool | None


@dataclass(frozen=True, slots=True)
class Setting:
    """A setting of a role, of the database, or of a role in the database."""

    role: str | None
    in_database: bool
    name: str
    value: str


@dataclass(frozen=True, slots=True)
class Privilege:
    """A privilege on the database; `grantee` is empty for PUBLIC."""

    grantee: str
    privilege: str
    grantable: bool


@dataclass(frozen=True, slots=True)
class Properties:
    """The database's own properties, and the roles that matter in it."""

    name: str
    owner: str
    encoding: str
    provider: str
    collate: str
    ctype: str
    locale: str | None
    connection_limit: int
    comment: str | None
    privileges: tuple[Privilege, ...] | None
    """None when nobody ever changed PostgreSQL's default."""
    roles: tuple[Role, ...]
    memberships: tuple[Membership, ...]
    settings: tuple[Setting, ...]


def read_properties(connection: Connection) -> Properties:
    """Read the properties of the database that the connection leads to. Raises psycopg.Error."""
    database, owner, encoding, comment = only_row(
        connection,
        "SELECT to_jsonb(d), pg_get_userbyid(d.datdba), pg_encoding_to_char(d.encoding),"
        " shobj_description(d.oid, 'pg_database') FROM pg_database d WHERE d.datname = current_database()",
    )
    roles = tuple(_roles(connection))
    names = [role.name for role in roles]
    privileges = [Privilege(*found) for found in connection.execute(PRIVILEGES).fetchall()]
    return Properties(
        name=database["datname"],
        owner=owner,
        encoding=encoding,
        provider=PROVIDERS[database.get("datlocprovider", "c")],
        collate=database["datcollate"],
        ctype=database["datctype"],
        locale=database.get("datlocale") or database.get("daticulocale"),
        connection_limit=database["datconnlimit"],
        comment=comment,
        privileges=None if database["datacl"] is None else tuple(privileges),
        roles=roles,
        memberships=tuple(Membership(*found) for found in connection.execute(MEMBERSHIPS, [names]).fetchall()),
        settings=tuple(_settings(connection, names)),
    )


def roles_sql(properties: Properties) -> str:
    """Write the roles, without passwords, as SQL."""
    lines = ["-- The roles that matter in this database. Passwords are not part of a backup.", *PREAMBLE]
    lines += [_create_role(role) for role in properties.roles]
    lines += [_grant_membership(membership) for membership in properties.memberships]
    lines += [_alter_setting(setting, properties.name) for setting in properties.settings if not setting.in_database]
    return "\n".join(lines) + "\n"


def database_sql(properties: Properties, name: str) -> str:
    """Write as SQL how to create the database under a name, with its own properties and privileges."""
    database = sql.Identifier(name)
    lines = [*PREAMBLE, _create_database(properties, database)]
    if properties.comment is not None:
        lines.append(_text("COMMENT ON DATABASE {} IS {};", database, sql.Literal(properties.comment)))
    lines += [_alter_setting(setting, name) for setting in properties.settings if setting.in_database]
    if properties.privileges is not None:
        # Owner and PUBLIC first lose what CREATE DATABASE gave them.
        lines.append(_text("REVOKE ALL ON DATABASE {} FROM PUBLIC, {};", database, sql.Identifier(properties.owner)))
        lines += [_grant(privilege, database) for privilege in properties.privileges]
    return "\n".join(lines) + "\n"


def export_properties(snapshot: Snapshot, staging: Staging) -> Iterator[Artifact]:
    """Write roles.sql and database.sql, as the snapshot has them. Raises psycopg.Error, SourceError."""
    with snapshot.connection() as connection:
        properties = read_properties(connection)
    texts = {"roles.sql": roles_sql(properties), "database.sql": database_sql(properties, properties.name)}
    for path, text in texts.items():
        with staging.write(path) as file:
            file.write(text.encode("utf-8"))
        yield file.artifact()


def _roles(connection: Connection) -> Iterator[Role]:
    for name, flags, limit, until in connection.execute(ROLES.encode()).fetchall():
        attributes = (attribute for attribute, flag in zip(ATTRIBUTES.values(), flags, strict=True) if flag)
        yield Role(name, tuple(attributes), limit, until)


def _settings(connection: Connection, names: list[str]) -> Iterator[Setting]:
    for role, in_database, assignment in connection.execute(SETTINGS, [names]).fetchall():
        name, _, value = assignment.partition("=")
        yield Setting(role, in_database, name, value)


def _create_role(role: Role) -> str:
    words = [word if word in role.attributes else f"NO{word}" for word in ATTRIBUTES.values()]
    create = f"{_text('CREATE ROLE {} WITH', sql.Identifier(role.name))} {' '.join(words)}"
    create += f" CONNECTION LIMIT {role.connection_limit}"
    if role.valid_until is not None:
        create += _text(" VALID UNTIL {}", sql.Literal(role.valid_until))
    missing = _text("NOT EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = {})", sql.Literal(role.name))
    return _text("DO {};", sql.Literal(f"BEGIN IF {missing} THEN {create}; END IF; END"))


def _grant_membership(membership: Membership) -> str:
    granted = _text("GRANT {} TO {}", sql.Identifier(membership.group), sql.Identifier(membership.member))
    if membership.inherit is None:
        return f"{granted}{' WITH ADMIN OPTION' if membership.admin else ''};"
    options = {"ADMIN": membership.admin, "INHERIT": membership.inherit, "SET": membership.set}
    return f"{granted} WITH {', '.join(f'{name} {str(value).upper()}' for name, value in options.items())};"


def _create_database(properties: Properties, database: sql.Identifier) -> str:
    options = [
        _text("OWNER = {}", sql.Identifier(properties.owner)),
        "TEMPLATE = template0",
        _text("ENCODING = {}", sql.Literal(properties.encoding)),
        _text("LC_COLLATE = {}", sql.Literal(properties.collate)),
        _text("LC_CTYPE = {}", sql.Literal(properties.ctype)),
        f"CONNECTION LIMIT = {properties.connection_limit}",
    ]
    if properties.provider != "libc":
        options += [f"LOCALE_PROVIDER = {properties.provider}", _locale(properties)]
    return f"{_text('CREATE DATABASE {} WITH', database)} {' '.join(options)};"


def _locale(properties: Properties) -> str:
    name = "ICU_LOCALE" if properties.provider == "icu" else "BUILTIN_LOCALE"
    return _text(f"{name} = {{}}", sql.Literal(properties.locale or "und"))


def _alter_setting(setting: Setting, database: str) -> str:
    scope = _text(" IN DATABASE {}", sql.Identifier(database)) if setting.in_database else ""
    if setting.role is None:
        whom = _text("DATABASE {}", sql.Identifier(database))
    else:
        whom = _text("ROLE {}", sql.Identifier(setting.role)) + scope
    return f"ALTER {whom} SET {_text('{} TO {};', sql.Identifier(*setting.name.split('.')), _value(setting))}"


def _value(setting: Setting) -> sql.Composable:
    if setting.name not in LIST_SETTINGS:
        return sql.Literal(setting.value)
    names = next(csv.reader([setting.value], skipinitialspace=True), [])
    return sql.SQL(", ").join(sql.Literal(name) for name in names or [""])


def _grant(privilege: Privilege, database: sql.Identifier) -> str:
    grantee = sql.Identifier(privilege.grantee) if privilege.grantee else sql.SQL("PUBLIC")
    option = " WITH GRANT OPTION" if privilege.grantable else ""
    return _text(f"GRANT {privilege.privilege} ON DATABASE {{}} TO {{}}{option};", database, grantee)


def _text(template: str, *parts: sql.Composable) -> str:
    return sql.SQL(template).format(*parts).as_string()
