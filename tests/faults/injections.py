"""Every bad thing: to which commands it can happen, when, and with which exit codes a run may end then."""

from __future__ import annotations

import signal
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from fix_fault_proxy import CHAIN

from faults.clock import jumping_clock
from faults.company import at_once, hanging_hook
from faults.damage import damaged, flipped, lost_history, missing, reverted, torn, truncated
from faults.disks import full_disk, linked_staging, permissions, staging_disk
from faults.ground import COMMANDS, STAGING
from faults.kills import cut, kill_backend, kill_child, kill_postmaster, kill_us
from faults.moments import BEFORE, BORG, CLIENT, Fault

KILLED = -signal.SIGKILL
ON_SERVER = ("create", "stage", "restore --swap", "drill")


@dataclass(frozen=True, slots=True)
class Injection:
    """One fault: what it can happen to, and the exit codes allowed then; 0 is when the run did not need what broke."""

    fault: Fault
    codes: Mapping[str, frozenset[int]]
    pattern: Callable[[str], str | None] = lambda _command: None
    """Which lines of a command's narration its moments are chosen from; None: any line, or any instant."""
    accepted: frozenset[str] = frozenset()
    """What retention may ask about in the next run, as it must (exit code 12), until an operator has accepted it."""
    damages: bool = False
    """Whether archives are damaged: Borg repairs the repository before the next run."""
    severs: bool = False
    """Whether the server or the way to it is lost: then nobody may know what became of a COMMIT."""
    refuses: bool = False
    """Whether the operating system refuses what nobody expects it to."""


def ending(*codes: int, **of_command: tuple[int, ...]) -> dict[str, frozenset[int]]:
    """Say how runs may end; by a command's first word where that differs."""
    return {command: frozenset(of_command.get(command.split()[0], codes)) for command in COMMANDS}


def only(commands: tuple[str, ...], codes: dict[str, frozenset[int]]) -> dict[str, frozenset[int]]:
    """Leave out the commands to which something cannot happen."""
    return {command: codes[command] for command in commands}


def matching(pattern: str) -> Callable[[str], str | None]:
    """Choose moments from the lines that match, whatever the command."""
    return lambda _command: pattern


# After Borg's commit: what is lost then is what tells that the archive is ours.
COMMITTED = {
    "create": r"^borg (create|list|rename)|^run: \S+/borg --log-json \S+ (rename|list --json-lines)|^stored ",
    "prune": r"^removed |^run: \S+/borg --log-json \S+ (prune --glob|delete|compact)",
    "restore --swap": r"is what was restored now|^run: \S+/pg_dump '--dbname.*--data-only",
    "drill": r"^run: \S+/pg_dump '--dbname.*--data-only",
}
REMEMBERED = tuple(COMMITTED)
FUTURE, UNKNOWN = "RETENTION_ARCHIVE_FUTURE", "RETENTION_ARCHIVE_UNKNOWN"
MISSING, CHANGED = "RETENTION_ARCHIVE_MISSING", "RETENTION_ARCHIVE_CHANGED"
DAMAGED = ending(0, 5, 10, 11, 12, restore=(0, 5, 10, 11, 12), drill=(0, 5, 10, 11), prune=(0, 5, 12))
EXPLAINED = frozenset((MISSING, CHANGED, UNKNOWN))

# In the order of the table.
INJECTIONS: dict[str, Injection] = {
    "SIGKILL to borg-vault": Injection(kill_us, ending(KILLED)),
    "SIGKILL to pg_dump, pg_restore": Injection(
        kill_child("pg_dump", "pg_restore"),
        only(ON_SERVER, ending(4, restore=(4, 10, 11), drill=(4, 10, 11))),
        matching(CLIENT),
    ),
    # A restore looks first whether there is a dump at all, and goes on where it cannot: the whole archive is looked at.
    "SIGKILL to borg": Injection(
        kill_child("borg"),
        ending(5, create=(5, 11), stage=(11,), restore=(0, 5, 12), drill=(5, 10, 11)),
        matching(BORG),
    ),
    "SIGKILL to a backend": Injection(
        kill_backend, only(ON_SERVER, ending(0, 4, restore=(0, 4, 10, 11, 12), drill=(0, 10, 11))), severs=True
    ),
    "SIGKILL to the postmaster": Injection(
        kill_postmaster, only(ON_SERVER, ending(0, 4, restore=(0, 4, 10, 11, 12), drill=(0, 10, 11))), severs=True
    ),
    # A restore asks it, too: it exports the restored database once more.
    "connection cut in mid-COPY": Injection(
        cut(CHAIN, 1, 400_000, asking=ON_SERVER[:3]),
        only(ON_SERVER[:3], ending(4, restore=(4, 10, 11, 12))),
        matching(BEFORE),
        severs=True,
    ),
    "connection cut in mid-dump": Injection(
        cut(b"COPY public.padding ", 1, 4_000_000, asking=STAGING),
        only(ON_SERVER[:3], ending(4, restore=(4, 10, 11, 12))),
        lambda command: BEFORE if command in STAGING else CLIENT,
        severs=True,
    ),
    "staging disk full": Injection(
        full_disk(staging_disk, "512m"),
        only(ON_SERVER, ending(0, 4, 7, restore=(0, 4, 5, 7, 10, 11), drill=(0, 4, 5, 7, 10, 11))),
        refuses=True,
    ),
    "repository disk full": Injection(
        full_disk(lambda scene: scene.site.repository.path, "96m"),
        # A swap is refused where nobody can say what newer archives hold.
        ending(0, 5, 7, stage=(0, 11), restore=(0, 5, 7, 12), drill=(0, 5, 10, 11)),
        refuses=True,
    ),
    "state disk full": Injection(full_disk(lambda scene: scene.site.state, "4m"), ending(0, 3), refuses=True),
    "clock jumps": Injection(jumping_clock, ending(0, 12, drill=(0,)), accepted=frozenset((FUTURE,))),
    "segment truncated": Injection(damaged(truncated), DAMAGED, accepted=EXPLAINED, damages=True),
    "segment flipped": Injection(damaged(flipped), DAMAGED, accepted=EXPLAINED, damages=True),
    "segment missing": Injection(damaged(missing), DAMAGED, accepted=EXPLAINED, damages=True),
    "permissions changed": Injection(
        permissions, ending(0, 3, 4, 5, 7, 11, 12, drill=(0, 3, 4, 5, 7, 10, 11)), refuses=True
    ),
    "staging is a link": Injection(linked_staging, only(ON_SERVER, ending(0, 4, 5, 7, 10, 11)), refuses=True),
    "two at once": Injection(at_once(2), ending(0, 6)),
    "ten at once": Injection(at_once(10), ending(0, 6)),
    "a hook hangs": Injection(hanging_hook, only(STAGING, ending(4, create=(0, 4))), matching(BEFORE)),
    "history reverted": Injection(
        lost_history(reverted), only(REMEMBERED, ending(KILLED)), COMMITTED.get, accepted=EXPLAINED
    ),
    "history torn": Injection(lost_history(torn), only(REMEMBERED, ending(KILLED)), COMMITTED.get, accepted=EXPLAINED),
}
CELLS = {name: tuple(injection.codes) for name, injection in INJECTIONS.items()}
