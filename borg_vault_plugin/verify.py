"""Verifying what is in a directory: a dump of the Server's own tool, or an extracted set."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from borg_vault_plugin.chain.rows import Era
from borg_vault_plugin.chain.verification import verify_directory
from borg_vault_plugin.progress import Progress, unseen
from borg_vault_plugin.report import Verified


def verify(
    directory: Path, *, era: Era | None, anchors: Sequence[str], jobs: int | None, progress: Progress = unseen
) -> tuple[Verified, tuple[str, ...]]:
    """Verify the chain in a directory; give the report and, when there is no verdict, the reasons for that."""
    found = verify_directory(directory, era=era, anchors=anchors, jobs=jobs, progress=progress)
    report = Verified(
        target=str(directory),
        verdict=found.verdict,
        era=found.era,
        anchored=found.anchored,
        counts=found.counts,
        signatures_checked=found.signatures_checked,
        signatures_carried=found.signatures_carried,
        failure_count=found.failure_count,
        findings=found.findings,
    )
    return report, found.reasons
