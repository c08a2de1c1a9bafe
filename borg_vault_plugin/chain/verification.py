"""Verification of a whole dump without database, network or clock: its files in, a verdict with its reasons out.

Three verdicts: passed; failed, which is evidence that somebody changed something; and not_checked, when a file is
missing or not readable. Nothing to verify is never a pass. Memory depends neither on the number of entries nor on the
length of a chain, but for a few bytes for each chain and checkpoint.
"""

from __future__ import annotations

import secrets
from array import array
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from borg_vault_plugin.chain.checkpoints import NO_ENTRY, chain_of, check_checkpoint
from borg_vault_plugin.chain.codes import Code
from borg_vault_plugin.chain.context import Context, context_of, registry_keys
from borg_vault_plugin.chain.digests import DigestIndex, first_repeated
from borg_vault_plugin.chain.proved import ArchivedHeads, Proved
from borg_vault_plugin.chain.ranges import (
    Range,
    Vault,
    begin_processes,
    in_one_piece,
    processors,
    ranges,
    reports,
    whole,
)
from borg_vault_plugin.chain.readlog import ReadLogCounts, TreeHead, check_read_log
from borg_vault_plugin.chain.rows import CheckpointRow, Era, HeadRow, ReadRow, RegistryRow, Row, StatementRow
from borg_vault_plugin.chain.source import STATEMENTS, DumpFile, NotCheckedError, dump_files, open_rows
from borg_vault_plugin.chain.statements import KeyTrust, walk
from borg_vault_plugin.chain.tally import RangeReport, Tally
from borg_vault_plugin.chain.walk import CheckpointIndex, Work
from borg_vault_plugin.progress import Progress, unseen
from borg_vault_plugin.report import Finding

Files = dict[str, DumpFile]


@dataclass(frozen=True, slots=True)
class Past:
    """What earlier archives hold, as far as tonight's verification can use it; all made with one secret."""

    secret: bytes = field(repr=False)
    archived: tuple[ArchivedHeads, ...] = ()
    """What the chains must extend."""
    proved: Proved | None = None
    """Whose signatures need not be verified again."""


@dataclass(frozen=True, slots=True)
class Extension:
    """How the chains lead through the heads that earlier archives saw."""

    breaks: int = 0
    broken: tuple[Finding, ...] = ()
    """The first 1,000; all of them count."""
    absent: tuple[tuple[int, ...], ...] = ()
    """For each archive the places, among its heads, of chains that are not there any more."""


@dataclass(frozen=True, slots=True)
class Verification:
    """What the verification of a dump came to."""

    verdict: Literal["passed", "failed", "not_checked"]
    era: Era | None = None
    """None when not even that is known."""
    anchored: bool = False
    """Whether it passed, and did so under keys that somebody pinned."""
    counts: dict[str, int] = field(default_factory=dict)
    """Rows of each file, by its table's name."""
    chains: int = 0
    signatures_checked: int = 0
    """Signatures of entries, checkpoints, leaves and tree heads that were verified and are valid."""
    signatures_carried: int = 0
    """Signatures that an earlier verification had found valid and that cannot have changed since."""
    failure_count: int = 0
    findings: tuple[Finding, ...] = ()
    """The first 1,000, in the order of the files; all of them count."""
    reasons: tuple[str, ...] = ()
    """Why there is no verdict."""
    trees: tuple[TreeHead, ...] = ()
    """The tree of each read log, as it is stored."""
    extension: Extension | None = None
    """None when the chains were not all walked to their end."""

    @property
    def unfinished(self) -> tuple[str, ...]:
        """Why not everything was looked at, also when there is a verdict."""
        stopped = self.verdict == "failed" and self.extension is None
        return (*self.reasons, *(["the walk had to stop before its end"] if stopped else []))


def verify_directory(
    directory: Path,
    *,
    era: Era | None = None,
    anchors: Sequence[str] = (),
    jobs: int | None = None,
    past: Past | None = None,
    progress: Progress = unseen,
) -> Verification:
    """Verify the NDJSON files in a directory, or below its `chain/`.

    `anchors` are `sha256:` and the SHA-256 of an SPKI in hex; `jobs` is a number of processes, by default one for each
    processor; `past` is what the chains must extend. Every result is the same with any number of jobs.
    """
    known = era
    try:
        known, files = dump_files(directory, era)
        with progress("verify", files["audit_vault"].size) as advance:
            processes = jobs or processors()
            earlier = past or Past(secrets.token_bytes(16))
            return _verified(known, files, anchors=anchors, jobs=processes, past=earlier, advance=advance)
    except NotCheckedError as error:
        return Verification("not_checked", known, reasons=(str(error),))


def _verified(
    era: Era,
    files: Files,
    *,
    anchors: Sequence[str],
    jobs: int,
    past: Past,
    advance: Callable[[int], object],
) -> Verification:
    begin_processes(files["audit_vault"].size, jobs)
    counts = dict.fromkeys(files, 0)
    registry = list(_rows(files["vault_signing_keys"], RegistryRow, counts))
    trust = _trust(era, files, counts, registry, anchors)
    context = context_of(era, registry_keys(registry), trust)
    index = _checkpoint_index(files["vault_checkpoints"], era, counts, past.secret)
    work = Work(context, index, past.secret, past.proved, past.archived)
    total, extension = _vault_section(Vault(files["audit_vault"], files["vault_checkpoints"], work), jobs, advance)
    counts["audit_vault"] = total.entries
    read_log, trees = _read_log(files, counts, context)
    total.add(read_log)
    for finding in trust.findings if trust is not None else ():
        total.found(finding)
    signatures = total.checked + total.carried
    return Verification(
        verdict="failed" if total.failures else "passed",
        era=era,
        anchored=trust is not None and not total.failures and signatures > 0,
        counts=counts,
        chains=total.chains,
        signatures_checked=total.checked,
        signatures_carried=total.carried,
        failure_count=total.failures,
        findings=tuple(total.findings),
        trees=trees,
        extension=extension,
    )


def _rows(dump_file: DumpFile, row_type: type[Row], counts: dict[str, int]) -> Iterator[Row]:
    with open_rows(dump_file, row_type) as source:
        for row in source.rest():
            counts[dump_file.name] += 1
            yield row


def _trust(
    era: Era, files: Files, counts: dict[str, int], registry: list[RegistryRow], anchors: Sequence[str]
) -> KeyTrust | None:
    if era == "v1":
        if anchors:
            raise NotCheckedError("keys cannot be pinned: the first era has no signed statements about keys")
        return None
    statements = _rows(files[STATEMENTS], StatementRow, counts)
    if not anchors:
        # Without a pin they prove nothing, but they must be there and readable.
        for _ in statements:
            pass
        return None
    try:
        return walk(statements, registry, anchors)
    except ValueError as error:
        raise NotCheckedError(str(error)) from error


def _checkpoint_index(dump_file: DumpFile, era: Era, counts: dict[str, int], secret: bytes) -> CheckpointIndex:
    offsets = array("Q")

    def keys() -> Iterator[str]:
        with open_rows(dump_file, CheckpointRow) as source:
            for row in source.rest():
                offsets.append(source.offset)
                yield chain_of(row, era)

    index = CheckpointIndex(DigestIndex(keys(), secret), offsets)
    counts[dump_file.name] = len(offsets)
    return index


def _vault_section(vault: Vault, jobs: int, advance: Callable[[int], object]) -> tuple[Tally, Extension | None]:
    parts = ranges(vault.entries, jobs)
    found = list(reports(vault, parts, jobs, advance))
    if any(report.schema_too_early for report in found):
        # Chains of schemas are not all at the end: only one walk over the whole file can keep them together.
        parts = whole(vault.entries)
        found = list(reports(vault, parts, 1, advance))
    rows = sum(report.tally.entries for report in found)
    total = Tally(entries=rows)
    if rows == 0:
        total.found(Finding(Code.CHAIN_EMPTY, "audit_vault", "there is not a single entry"))
        return total, _extension(total, vault, found)
    kept = _until_stopped(vault, parts, found)
    stopped = kept[-1].stopped
    if stopped is None or vault.work.context.era == "v2":
        for report in kept:
            total.add(report.tally)
        total.entries = rows
    total.found(stopped)
    if stopped is None and total.joined < len(vault.work.checkpoints.offsets):
        _add_leftovers(total, vault, found)
    return total, None if stopped is not None else _extension(total, vault, found)


def _extension(total: Tally, vault: Vault, found: list[RangeReport]) -> Extension:
    there = frozenset(_chains(found))
    absent = tuple(tuple(one.index.absent(there)) for one in vault.work.archived)
    return Extension(total.breaks, tuple(total.broken), absent)


def _chains(found: list[RangeReport]) -> Iterator[int]:
    return (digest for report in found for digests in (report.records, report.schemas) for digest in digests)


def _until_stopped(vault: Vault, parts: list[Range], found: list[RangeReport]) -> list[RangeReport]:
    """Give the reports up to where the walk had to stop, if it had to."""
    last = next((number for number, report in enumerate(found) if report.stopped is not None), len(found) - 1)
    kept = found[: last + 1]
    place = None if in_one_piece(kept) else first_repeated(digest for report in kept for digest in report.records)
    if place is None:
        return kept
    if vault.work.context.era == "v1":
        raise NotCheckedError("audit_vault.ndjson: chains are not each in one piece, which a stream cannot verify")
    number = 0
    while place >= len(kept[number].records):
        place -= len(kept[number].records)
        number += 1
    return [*kept[:number], vault.report(parts[number], place)]


def _add_leftovers(total: Tally, vault: Vault, found: list[RangeReport]) -> None:
    """Report the checkpoints of chains that are not there."""
    index, context = vault.work.checkpoints, vault.work.context
    with open_rows(vault.checkpoints, CheckpointRow) as source:
        for place in index.chains.absent(_chains(found)):
            row = source.seek(index.offsets[place])
            if row is not None:
                total.found(check_checkpoint(row, NO_ENTRY, context)[1])


def _read_log(files: Files, counts: dict[str, int], context: Context) -> tuple[Tally, tuple[TreeHead, ...]]:
    leaves = _rows(files["org_admin_reads"], ReadRow, counts)
    heads = _rows(files["org_admin_reads_checkpoints"], HeadRow, counts)
    tally, trees = Tally(), list[TreeHead]()
    for finding in _finished(check_read_log(leaves, heads, context), tally, trees):
        tally.found(finding)
    return tally, tuple(trees)


def _finished(
    checks: Generator[Finding, None, ReadLogCounts], tally: Tally, trees: list[TreeHead]
) -> Iterator[Finding]:
    counted = yield from checks
    tally.checked += counted.checked
    trees += counted.trees
