"""What a restore says about itself: the document of `restore --json`, and the commands that come next."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from psycopg import sql

from borg_vault_plugin.recovery.decisions import Case
from borg_vault_plugin.recovery.drill_report import Check, DrillVerdict
from borg_vault_plugin.recovery.loss import Loss
from borg_vault_plugin.report import NOT_CHECKED_EXIT_CODE, SUSPECT_EXIT_CODE


@dataclass(frozen=True, slots=True)
class Step:
    """What an operator does next, and the command for it."""

    what: str
    command: str


@dataclass(frozen=True, slots=True)
class Restored:
    """The document of `restore --json`."""

    archive: str
    database: str | None
    """What the restored database is called now; None when there is none."""
    server: str
    verdict: DrillVerdict
    checks: tuple[Check, ...]
    roles_created: tuple[str, ...]
    roles_without_password: tuple[str, ...]
    """Those of them that could log in when they were archived."""
    swapped: bool
    previous_database: str | None
    """What the database is called now whose place the restored one has taken; it takes no connections."""
    lost: tuple[Loss, ...]
    next: tuple[Step, ...]

    @property
    def exit_code(self) -> int:
        """The exit code of the run."""
        return {"passed": 0, "failed": SUSPECT_EXIT_CODE, "not_checked": NOT_CHECKED_EXIT_CODE}[self.verdict]


def login_steps(roles: Iterable[str]) -> Iterator[Step]:
    """Give the statements that let roles log in again."""
    for role in roles:
        yield Step(f"let {role} log in, with a password", sql_text("ALTER ROLE {} LOGIN PASSWORD '…'", role))


def drop_step(what: str, database: str) -> Step:
    """Give the statement that drops a database."""
    return Step(what, sql_text("DROP DATABASE {}", database))


def verify_step(case: Case) -> Step:
    """Give the command that tells all that is wrong with an archive."""
    return Step("see all that was found in the archive", _command(case, "verify", case.archive))


def beside_steps(case: Case, lost: Iterable[Loss]) -> Iterator[Step]:
    """Give what can be done with a database that was restored beside the live one, and proven."""
    names, request = case.names, case.request
    if case.destination.live.state not in ("other", "closed") and case.series.owns(case.plain_archive):
        to = () if request.to is None else ("--to", request.to)
        accepting = () if all(loss.is_empty for loss in lost) else ("--accept-loss",)
        words = ("restore", case.archive, "--database", names.restored, *to, "--swap", *accepting)
        yield Step(f"prove it once more, and let it take the place of {names.live}", _command(case, *words))
    yield drop_step("or drop it", names.restored)


def swapped_steps(case: Case, *, rewind: bool) -> Iterator[Step]:
    """Give what is left to be done after a swap."""
    if rewind:
        words = ("accept-rewind", case.plain_archive, "--reason", "restored")
        yield Step("let the next backup be compared with the restored archive", _command(case, *words))
    if case.names.previous is not None:
        opened = sql_text("ALTER DATABASE {} ALLOW_CONNECTIONS true", case.names.previous)
        yield Step("look into the database that was there before", opened)
        yield drop_step("drop that one, when nobody needs it any more", case.names.previous)


def sql_text(template: str, name: str) -> str:
    """Give a statement of SQL about something of this name."""
    return template.format(sql.Identifier(name).as_string()) + ";"


def _command(case: Case, *words: str) -> str:
    return shlex.join([*case.request.call, *words])
