"""Verifying on demand: a dump of the Server's own tool, a staged or extracted set, an archive, or the latest one."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from borg_vault_plugin import acceptance
from borg_vault_plugin.chain.profile import Profile, profile_of
from borg_vault_plugin.chain.rows import Era
from borg_vault_plugin.chain.source import NotCheckedError
from borg_vault_plugin.chain.tally import MOST_FINDINGS
from borg_vault_plugin.chain.verification import Extension, Verification, verify_directory
from borg_vault_plugin.config import Settings
from borg_vault_plugin.evidence.page import write_page
from borg_vault_plugin.evidence.verification import verification_page
from borg_vault_plugin.history import happened_now
from borg_vault_plugin.lookup import Stored, extracted, find_archive
from borg_vault_plugin.manifest import program_version
from borg_vault_plugin.progress import Progress, unseen
from borg_vault_plugin.report import Finding, Verified
from borg_vault_plugin.sealed_set import check_files, demand_manifest_of, is_set, open_any_set, unknown_files
from borg_vault_plugin.staging import OURS


@dataclass(frozen=True, slots=True)
class Request:
    """What to verify, and how; anchors are `sha256:` and the SHA-256 of an SPKI in hex."""

    target: str
    era: Era | None = None
    anchors: Sequence[str] = ()
    jobs: int | None = None
    page: Path | None = None
    """Where to write a page for auditors."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a verification came to and, when there is no verdict, why."""

    report: Verified
    reasons: tuple[str, ...]


def verify(settings: Settings, request: Request, progress: Progress = unseen) -> Outcome:
    """Verify every signature again, and whether a set's files are what its manifest says; nothing is carried over.

    An archive is extracted for it, and history remembers the result. Raises UsageError, RepositoryError,
    PreflightError, and ConfigError when the page cannot be written.
    """
    stored = None if is_directory(request.target) else find_archive(settings, request.target)
    place: AbstractContextManager[Path] = nullcontext(Path(request.target))
    with place if stored is None else extracted(settings, stored) as directory:
        outcome = examine(settings, request, directory, stored, progress)
        if request.page is not None:
            _write_page(request, directory, outcome)
    if stored is not None:
        _remember(settings, stored, outcome)
    return outcome


def is_directory(target: str) -> bool:
    """Whether a target is meant as a directory: names of archives hold no slash."""
    return "/" in target or Path(target).is_dir()


def examine(
    settings: Settings, request: Request, directory: Path, stored: Stored | None, progress: Progress
) -> Outcome:
    """Verify what is in a directory; `stored` is the archive that it was extracted from, if it was."""
    anchors = request.anchors or settings.trust_anchors
    files, reasons, compared, has_chain = _files(directory, stored, progress)
    chain = Verification("passed", extension=Extension())
    if has_chain:
        chain = verify_directory(directory, era=request.era, anchors=anchors, jobs=request.jobs, progress=progress)
    findings = acceptance.marked((*files, *chain.findings), acceptance.accepted_findings(settings.history()))
    accepted = len(findings) - len(acceptance.still_open(findings))
    failures = chain.failure_count + len(files) - accepted
    reasons = (*reasons, *chain.unfinished)
    target = stored.archive.name if stored is not None else request.target
    return Outcome(replace(_report(target, chain, findings, failures, reasons), files=compared), reasons)


def _report(
    target: str, chain: Verification, findings: tuple[Finding, ...], failures: int, reasons: tuple[str, ...]
) -> Verified:
    return Verified(
        target=target,
        verdict="failed" if failures else "not_checked" if reasons else "passed",
        era=chain.era,
        anchored=chain.anchored,
        counts=chain.counts,
        signatures_checked=chain.signatures_checked,
        signatures_carried=chain.signatures_carried,
        failure_count=failures,
        findings=findings[:MOST_FINDINGS],
    )


def _files(
    directory: Path, stored: Stored | None, progress: Progress
) -> tuple[list[Finding], tuple[str, ...], int | msgspec.UnsetType, bool]:
    """Compare a set's files with its manifest, and an archive's manifest with its comment.

    Give what was found, why something was not checked, how many files there are, and whether a chain belongs to them.
    """
    if stored is None and not is_set(directory):
        return [], (), msgspec.UNSET, True
    findings: list[Finding] = []
    try:
        sealed = open_any_set(directory)
        for finding in check_files(sealed, progress):
            findings.append(finding)  # noqa: PERF402 - what was found before something cannot be read counts
    except NotCheckedError as error:
        return findings, (str(error),), msgspec.UNSET, True
    compared, has_chain = len(sealed.files) + len(OURS), sealed.manifest.set == "database"
    if stored is not None:
        findings += unknown_files(sealed)
        try:
            demand_manifest_of(stored.archive, sealed)
        except NotCheckedError as error:
            return findings, (str(error),), compared, has_chain
    return findings, (), compared, has_chain


def _write_page(request: Request, directory: Path, outcome: Outcome) -> None:
    profile: Profile | None = None
    with suppress(NotCheckedError):  # the page tells why there is no verdict
        profile = profile_of(directory, request.era)
    if request.page is not None:
        html = verification_page(
            outcome.report, outcome.reasons, profile, made=datetime.now(UTC), program=program_version()
        )
        write_page(request.page, html)


def _remember(settings: Settings, stored: Stored, outcome: Outcome) -> None:
    history, archive, report = settings.history(), stored.archive, outcome.report
    acceptance.remember(history, archive.name, report.findings)
    history.append(
        happened_now("verified", archive.name, stored.repository_id, archive_id=archive.id, verdict=report.verdict)
    )
