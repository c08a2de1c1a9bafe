"""What a drill has to show, for the page about it: its checks in words, what they prove and what they leave open."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from borg_vault_plugin.evidence.drill import DrillCheck, DrillEvidence, PastDrill, Phase
from borg_vault_plugin.recovery.drill_report import CHECKS, Drill

# What is known when a check has passed, and what nobody knows when it has not.
PROVES = {
    "files": "The archive is whole: every file is, to the byte, what its manifest says.",
    "dump": "The dump can be read to its end by PostgreSQL's own program of the fitting version.",
    "restore": "Roles, database, settings and everything in the dump can be restored without an error.",
    "database": "The restored database holds the rows and definitions that were backed up.",
    "registry": "The restored key registry is the archived one to the byte.",
    "export": "The restored audit chain is the archived one to the byte.",
    "chain": "Every signature in the chain is valid, and no entry is missing inside of it.",
    "continuity": "The chain continues the one in the archive before.",
    "collations": "Versions of collations and extensions were compared with those of the source.",
}
# No drill can show this.
NEVER_PROVEN = (
    "That the database was right when it was backed up: a drill compares with the backup, not with the world.",
    "That encryption keys, provisioning files and the Server's .env are backed up: they are not in this archive.",
    "That the Server itself starts on the restored database.",
)
PHASES = {
    "extract": "Extract the archive",
    "files": "Compare the files with the manifest",
    "dump": "Read the dump to its end",
    "server": "Make a server ready",
    "restore": "Restore",
    "database": "Compare the restored database",
}


def drill_evidence(drill: Drill, past: Iterable[PastDrill] = ()) -> DrillEvidence:
    """Give all that a drill has to show; `past` are the drills before it."""
    return DrillEvidence(
        archive=drill.archive,
        verdict=drill.verdict,
        checks=tuple(
            DrillCheck(check.name, CHECKS[check.name], check.verdict, check.detail, check.seconds)
            for check in drill.checks
        ),
        phases=tuple(Phase(PHASES[name], seconds) for name, seconds in drill.phases.items()),
        rpo_seconds=drill.rpo_seconds,
        rto_seconds=drill.rto_seconds,
        head=drill.head or "",
        snapshot=drill.snapshot,
        drilled=drill.time,
        versions=drill.versions,
        past=tuple(past),
        proven=tuple(PROVES[check.name] for check in drill.checks if check.verdict == "passed"),
        not_proven=(*_open(drill), *NEVER_PROVEN),
    )


def _open(drill: Drill) -> Iterator[str]:
    for check in drill.checks:
        if check.verdict in ("failed", "not_checked"):
            yield f"Not shown: {PROVES[check.name]}"
