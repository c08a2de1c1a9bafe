"""Whether a rebuilt database has its own properties again and, on a server of our own, its roles theirs.

On other servers roles may have been there before, and are left alone. None that was made can log in yet.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from operator import attrgetter

from borg_vault_plugin.database import Connection
from borg_vault_plugin.properties import (
    ATTRIBUTES,
    LIST_SETTINGS,
    MEMBERSHIPS,
    SETTINGS,
    Membership,
    Privilege,
    Properties,
    Role,
    Setting,
)

PARTS = ("owner", "encoding", "provider", "collate", "ctype", "locale", "connection_limit", "comment")
ROLES = "SELECT rolname, to_jsonb(r), rolconnlimit, rolvaliduntil::text FROM pg_roles r WHERE rolname = ANY (%s)"


def compare_database(archived: Properties, found: Properties) -> Iterator[str]:
    """Say in what a database's own properties, settings and privileges are not the archived ones."""
    for part in PARTS:
        was, now = attrgetter(part)(archived), attrgetter(part)(found)
        if was != now:
            yield f"the database's {part.replace('_', ' ')} is {now!r}, was {was!r}"
    was, now = _privileges(archived.privileges), _privileges(found.privileges)
    if was != now:
        yield f"privileges on the database are {_shown(now)}, were {_shown(was)}"
    yield from _lost_settings(_settings(archived.settings, in_database=True), found.settings)


def compare_roles(connection: Connection, archived: Properties) -> Iterator[str]:
    """Say in what roles, their memberships and settings are not the archived ones. Raises psycopg.Error."""
    names = [role.name for role in archived.roles]
    roles = {role.name: role for role in _roles(connection, names)}
    for role in archived.roles:
        # What we are has been there from the start.
        if role.name != connection.info.user and roles.get(role.name) != _without_login(role):
            yield f"role {role.name} {'has other attributes than it had' if role.name in roles else 'is missing'}"
    memberships = {Membership(*row) for row in connection.execute(MEMBERSHIPS, [names]).fetchall()}
    for one in archived.memberships:
        if one not in memberships:
            yield f"role {one.member} is not the member of {one.group} that it was"
    found = (
        Setting(role, in_database, *assignment.partition("=")[::2])
        for role, in_database, assignment in connection.execute(SETTINGS, [names]).fetchall()
    )
    yield from _lost_settings(_settings(archived.settings, in_database=False), found)


def _roles(connection: Connection, names: list[str]) -> Iterator[Role]:
    for name, row, limit, until in connection.execute(ROLES, [names]).fetchall():
        attributes = tuple(word for column, word in ATTRIBUTES.items() if row[column])
        yield _without_login(Role(name, attributes, limit, until))


def _without_login(role: Role) -> Role:
    return replace(role, attributes=tuple(word for word in role.attributes if word != "LOGIN"))


def _settings(settings: Iterable[Setting], *, in_database: bool) -> list[Setting]:
    return [setting for setting in settings if setting.in_database == in_database]


def _lost_settings(archived: Iterable[Setting], found: Iterable[Setting]) -> Iterator[str]:
    there = {_in_one_form(setting) for setting in found}
    for setting in archived:
        if _in_one_form(setting) not in there:
            whose = "of the database" if setting.role is None else f"of role {setting.role}"
            yield f"setting {setting.name} {whose} is not {setting.value!r} any more"


def _in_one_form(setting: Setting) -> Setting:
    """Write an empty list in one way: it stands there as nothing, or as one empty name."""
    empty = setting.name in LIST_SETTINGS and not setting.value
    return replace(setting, value='""') if empty else setting


def _privileges(privileges: Iterable[Privilege] | None) -> frozenset[Privilege] | None:
    return None if privileges is None else frozenset(privileges)


def _shown(privileges: frozenset[Privilege] | None) -> str:
    if privileges is None:
        return "PostgreSQL's own"
    return ", ".join(sorted(f"{one.privilege} to {one.grantee or 'PUBLIC'}" for one in privileges)) or "none"
