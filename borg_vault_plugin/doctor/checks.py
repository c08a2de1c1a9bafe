"""What `doctor` finds, and what each finding weighs: one table decides, and nobody else.

*failed*: a run tonight, or a restore on the bad day, would fail or give less than it promises. *warning*: both would
go well, but something is one step away from that, or is not as it should be. *not_checked*: it cannot be known from
here, or it hangs on something that failed, which then stands in a line of its own; so it does not count by itself.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from borg_vault_plugin.errors import PreflightError

State = Literal["ok", "warning", "failed", "not_checked"]

# A key is the name of a check and what is wrong there.
WEIGHTS: dict[str, State] = {
    "configuration.nothing": "failed",
    "configuration.unusable": "failed",
    "secrets.readable": "warning",  # the run goes well; whoever reads the secret does, too
    "secrets.unusable": "failed",
    "anchors.none": "warning",  # signatures are verified all the same, against the dump's own keys
    "plugin.unusable": "failed",
    "split.broken": "failed",
    "label.unusable": "failed",
    "set.unconfigured": "warning",  # it may be backed up by other means
    "provisioning.unreadable": "failed",
    "keys.unreadable": "failed",
    "retention.default": "warning",  # seven are kept, which nobody has decided
    "server.unreachable": "failed",
    "clock.off": "warning",  # archives are dated by the server
    "clock.far": "failed",  # retention refuses what is dated ten minutes ahead
    "pooler.transactions": "failed",  # one session is several: locks, settings and snapshot are lost
    "pooler.sessions": "warning",  # it works as long as it lets us have our sessions
    "clients.none": "failed",
    "clients.newer": "warning",  # it dumps, but the dump may not restore there
    "rights.missing": "failed",
    "vault.missing": "failed",
    "vault.private_key": "failed",
    "limits.set": "warning",  # only long runs meet them
    "connections.few": "failed",
    "standby.cancels": "warning",  # only a snapshot that is in the way of replay is cancelled
    "standby.behind": "warning",
    "account.nameless": "failed",
    "state.unusable": "failed",
    "state.open": "warning",
    "run.late": "failed",  # the next run would find the lock taken
    "staging.unusable": "failed",
    "staging.full": "failed",
    "leftovers.found": "warning",  # the next run removes them
    "drill.impossible": "warning",  # backups go well, but nobody can prove them here
    "drill.demanded": "failed",  # ... and max_drill_age says that somebody must
    "borg.none": "failed",
    "repository.unusable": "failed",
    "repository.read_only": "failed",
    "repository.full": "failed",
    "lock.held": "warning",  # a run waits for it
    "lock.stuck": "failed",  # it was held longer already than a run would wait
    "lock.dead": "warning",  # Borg itself removes what a dead process of this host has left
    "key.never": "failed",  # without it a damaged repository is lost
    "key.here": "warning",
    "backup.problem": "failed",
    "drill.never": "warning",
    "check.failed": "failed",
    "check.old": "warning",
    "probe.late": "failed",
    "probe.error": "failed",
}


@dataclass(frozen=True, slots=True)
class Check:
    """One row: what was looked at, on what, how it is, what that means, and what to do."""

    name: str
    subject: str
    state: State
    detail: str
    advice: str = ""


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """The document of `doctor --json`."""

    healthy: bool
    """Whether nothing would fail; warnings do not count."""
    checks: tuple[Check, ...]

    @property
    def exit_code(self) -> int:
        """The exit code of the command."""
        return 0 if self.healthy else PreflightError.exit_code


def diagnosis(checks: tuple[Check, ...]) -> Diagnosis:
    """Sum checks up."""
    return Diagnosis(not any(check.state == "failed" for check in checks), checks)


def ok(name: str, subject: str, detail: str) -> Check:
    """Say that a check found nothing wrong."""
    return Check(name, subject, "ok", detail)


def not_checked(name: str, subject: str, why: str) -> Check:
    """Say that a check could not be made, and why."""
    return Check(name, subject, "not_checked", why)


def found(key: str, subject: str, detail: str, advice: str) -> Check:
    """Say what is wrong, by a key of WEIGHTS."""
    return Check(key.partition(".")[0], subject, WEIGHTS[key], detail, advice)


def refused(key: str, subject: str, error: Exception | str) -> Check:
    """Say what is wrong in the words of an error, whose last part is what to do."""
    detail, _, advice = " ".join(str(error).split()).rpartition(": ")
    return found(key, subject, detail, advice) if detail else found(key, subject, advice, "")
