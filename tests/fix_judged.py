"""Nights without a database: the rows of a vault, written, judged and sealed as a run does it.

A night differs from one of `create` in that no Server and no repository is asked: everything between them is the
program's own.
"""

from __future__ import annotations

import csv
import hashlib
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from fix_tamper import Tampered

from borg_vault_plugin.archive import Series
from borg_vault_plugin.chain_export import Heads
from borg_vault_plugin.gate import Judgement, Rules, judge
from borg_vault_plugin.manifest import FORMAT, Manifest, program_version, seal
from borg_vault_plugin.predecessor import Predecessors, read_evidence
from borg_vault_plugin.progress import unseen
from borg_vault_plugin.properties import Properties
from borg_vault_plugin.registry import COLUMNS
from borg_vault_plugin.report import Finding, Rewind, SnapshotFacts, chain_counts
from borg_vault_plugin.sample import Rows, write_rows
from borg_vault_plugin.sealed_set import SealedSet, open_set
from borg_vault_plugin.staging import OURS, Artifact
from borg_vault_plugin.survey import Server, Survey

SERIES = Series("prod", "database")
FIRST = datetime(2026, 5, 26, 1, 33, 27, tzinfo=UTC)
SURVEYED = Survey(
    tables=(),
    sequences=(),
    materialised_views=(),
    foreign_tables=(),
    extensions=(),
    collations=(),
    properties=Properties("prod", "postgres", "UTF8", "c", "C", "C", None, -1, None, None, (), (), ()),
    server=Server(None, None),
)


@dataclass(frozen=True, slots=True)
class Night:
    """One night's sealed set, and what it was judged to be."""

    directory: Path
    judgement: Judgement

    @property
    def sealed(self) -> SealedSet:
        """The set as whoever reads it later finds it."""
        return open_set(self.directory)

    @property
    def findings(self) -> tuple[Finding, ...]:
        """All findings, those of continuity last."""
        return (*self.judgement.chain.findings, *self.judgement.continuity.findings)

    @property
    def codes(self) -> list[str]:
        """The codes of all findings."""
        return [str(finding.code) for finding in self.findings]


def night(
    directory: Path,
    vault: Tampered,
    *before: Night,
    accepted: Mapping[str, str] | None = None,
    anchors: Sequence[str] = (),
    others: Iterable[Finding] = (),
    rewind: Rewind | None = None,
    empty_before: bool = False,
    number: int = 1,
) -> Night:
    """Stage a vault, judge it against the nights before it, and seal it; `number` tells its date."""
    artifacts = staged(directory, vault.rows)
    predecessors = Predecessors(
        tuple(read_evidence(one.directory) for one in before), rewind=rewind, empty_before=empty_before
    )
    judgement = judge(directory, artifacts, others, Rules(predecessors, dict(accepted or {}), anchors), unseen)
    seal(directory, manifest(artifacts, judgement, FIRST + timedelta(days=number - 1)))
    return Night(directory, judgement)


def resealed_set(one: Night, path: str, data: bytes) -> Night:
    """Seal a set anew with another file in it, as if it had been written so."""
    before = one.sealed.manifest
    (one.directory / path).write_bytes(data)
    for name in OURS:
        (one.directory / name).unlink()
    artifacts = tuple(
        described(one.directory, one.directory / path) if artifact.path == path else artifact
        for artifact in before.artifacts
    )
    seal(one.directory, replace(before, artifacts=artifacts))
    return one


def staged(directory: Path, rows: Rows) -> tuple[Artifact, ...]:
    """Write what the hooks write of the audit vault."""
    write_rows(directory / "chain", rows)
    heads = io.BytesIO()
    following = Heads(heads.write)
    for line in (directory / "chain" / "audit_vault.ndjson").read_bytes().splitlines(keepends=True):
        following.follow(line)
    following.finish()
    (directory / "chain-heads.ndjson").write_bytes(heads.getvalue())
    (directory / "vault-public-keys.csv").write_text(registry(rows), "utf-8")
    paths = sorted(path for path in directory.rglob("*") if path.is_file())
    return tuple(described(directory, path) for path in paths)


def registry(rows: Rows) -> str:
    """Write the key registry as CSV."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for row in sorted(rows.vault_signing_keys, key=lambda row: row.activated_at, reverse=True):
        writer.writerow([getattr(row, column) for column in COLUMNS])
    return text.getvalue()


def described(directory: Path, path: Path) -> Artifact:
    """Describe a file as the hook that wrote it would."""
    data = path.read_bytes()
    rows = data.count(b"\n") - (path.suffix == ".csv")
    place = path.relative_to(directory).as_posix()
    return Artifact(place, len(data), hashlib.sha256(data).hexdigest(), "audit-chain", rows)


def manifest(artifacts: tuple[Artifact, ...], judgement: Judgement, time: datetime) -> Manifest:
    """List the set as `stage` does."""
    facts = SnapshotFacts("00000003-00000002-1", time, "18.1", "7524198712345", "prod", "0/1A2B3C4")
    return Manifest(
        format=FORMAT,
        program=program_version(),
        label=SERIES.label,
        set=SERIES.set_name,
        archive=SERIES.name(time),
        verdict=judgement.verdict,
        snapshot=facts,
        clients="pg_dump 18.1",
        artifacts=artifacts,
        counts=chain_counts(artifacts),
        chain=judgement.chain,
        continuity=judgement.continuity,
        survey=SURVEYED,
        read_logs=judgement.read_logs,
    )
