"""What a drill says about itself: the document of `drill --json`, and its making, check by check."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Literal

import psycopg

from borg_vault_plugin.chain.source import NotCheckedError
from borg_vault_plugin.database import explain
from borg_vault_plugin.errors import SourceError
from borg_vault_plugin.report import NOT_CHECKED_EXIT_CODE, SUSPECT_EXIT_CODE, CheckVerdict, Finding
from borg_vault_plugin.stopwatch import seconds_since

# In their order, with what each of them looks at.
CHECKS = {
    "files": "The archive extracts, and every file has the size and digest that the manifest says",
    "dump": "The fitting client reads the dump to its end",
    "restore": "Roles, the database with its properties and everything in the dump are restored without an error",
    "database": "Every table has its recorded rows, and everything else is defined as archived",
    "registry": "The key registry, exported again, is the archived file to the byte",
    "export": "The chain, exported again, is the archived files to the byte",
    "chain": "The chain verifies in full, every signature",
    "continuity": "The chain extends that of the archive before it",
    "collations": "Versions of collations and extensions, here and in the source",
}
RECOVERY = ("files", "dump", "server", "restore", "database")
NEVER_CAME = "the drill did not come so far"
Outcome = tuple[CheckVerdict, str]
DrillVerdict = Literal["passed", "failed", "not_checked"]


@dataclass(frozen=True, slots=True)
class Check:
    """One of the named checks and what became of it."""

    name: str
    verdict: CheckVerdict
    detail: str
    seconds: float


@dataclass(frozen=True, slots=True)
class Drill:
    """The document of `drill --json`; durations in seconds, None where the drill did not come so far."""

    archive: str
    verdict: DrillVerdict
    checks: tuple[Check, ...]
    rpo_seconds: float | None
    """The age of the snapshot when the drill began: the work that a restore would lose."""
    rto_seconds: float | None
    """From the beginning of the extraction to a restored database that was compared."""
    head: str | None
    """The heads of the chains that are proven; None when they are not."""
    time: datetime
    snapshot: datetime | None
    phases: dict[str, float]
    """Of the recovery, in their order."""
    versions: dict[str, str]
    findings: tuple[Finding, ...]
    """What was found in files, chain and continuity; the first 1,000 of each."""

    @property
    def exit_code(self) -> int:
        """The exit code of the drill."""
        return {"passed": 0, "failed": SUSPECT_EXIT_CODE, "not_checked": NOT_CHECKED_EXIT_CODE}[self.verdict]


@dataclass(slots=True)
class Minutes:
    """What has been seen so far in a drill that goes on."""

    began: float = field(default_factory=time.monotonic)
    time: datetime = field(default_factory=lambda: datetime.now(UTC))
    checks: dict[str, Check] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)
    server: float = 0.0
    """Seconds until a server was ready."""
    recovered: float | None = None
    """Seconds until the restored database was compared, without the extraction."""

    def check(self, name: str, look: Callable[[], Outcome]) -> bool:
        """Make a check, note what became of it, and say whether it passed."""
        begun = time.monotonic()
        verdict, detail = _outcome(look)
        self.note(name, verdict, detail, seconds_since(begun))
        return verdict == "passed"

    def note(self, name: str, verdict: CheckVerdict, detail: str, seconds: float = 0.0) -> None:
        """Note what became of a check."""
        self.checks[name] = Check(name, verdict, " ".join(detail.split()), seconds)

    def skip(self, names: Iterable[str], reason: str) -> None:
        """Note that checks could not be made."""
        for name in names:
            self.note(name, "not_checked", reason)

    def has_server(self, begun: float) -> None:
        """Note that a server is ready, which was begun at that reading of the clock."""
        self.server = seconds_since(begun)

    def is_recovered(self) -> None:
        """Note that the recovery has come to its end."""
        self.recovered = seconds_since(self.began)

    def phases(self, extraction: float) -> dict[str, float]:
        """Give the seconds of each phase of the recovery, as far as it came."""
        seconds = {name: check.seconds for name, check in self.checks.items()} | {"server": self.server}
        return {"extract": round(extraction, 3)} | {name: seconds[name] for name in RECOVERY if seconds.get(name)}

    def all_checks(self) -> tuple[Check, ...]:
        """Give all checks in their order."""
        return tuple(self.checks.get(name) or Check(name, "not_checked", NEVER_CAME, 0.0) for name in CHECKS)


def worst(checks: Iterable[Check]) -> DrillVerdict:
    """Give the verdict of several checks; one that has nothing to look at does not count, and nothing is no pass."""
    verdicts = {check.verdict for check in checks} - {"not_applicable"}
    if "failed" in verdicts:
        return "failed"
    return "passed" if verdicts == {"passed"} else "not_checked"


def _outcome(look: Callable[[], Outcome]) -> Outcome:
    try:
        return look()
    except NotCheckedError as error:
        return "not_checked", str(error)
    except psycopg.OperationalError as error:  # the server, and not what is in it: ended, full, out of reach
        return "not_checked", explain(error)
    except psycopg.Error as error:
        return "failed", explain(error)
    except SourceError as error:
        return "failed", str(error)
