"""The archives that tonight's must extend: the newest good one of every repository, or a set that is already there.

Of each only the evidence is needed: manifest, heads, key registry and checkpoints. This host keeps that of the last
archives that it made. What it keeps counts only when it is, to the byte, what the archive's comment names; else it is
taken out of the archive.
"""

from __future__ import annotations

import csv
import hashlib
import logging
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import BinaryIO

import msgspec

from borg_vault_plugin.acceptance import Word
from borg_vault_plugin.archive import Archive, Series
from borg_vault_plugin.borg import Inventory, Repository
from borg_vault_plugin.chain.checkpoints import chain_of
from borg_vault_plugin.chain.digests import DigestIndex, digest_of
from borg_vault_plugin.chain.entries import binary, shown
from borg_vault_plugin.chain.proved import ArchivedHeads, Head, Proved, archived_heads
from borg_vault_plugin.chain.rows import MAX_LINE_BYTES, CheckpointRow
from borg_vault_plugin.chain.source import NotCheckedError, open_regular
from borg_vault_plugin.chain.tally import MOST_FINDINGS
from borg_vault_plugin.chain.verification import Past
from borg_vault_plugin.errors import PreflightError, RepositoryError
from borg_vault_plugin.foreign import UNREADABLE
from borg_vault_plugin.report import Rewind
from borg_vault_plugin.scratch import scratch_directory
from borg_vault_plugin.sealed_set import SealedSet, difference, measured, open_set
from borg_vault_plugin.staging import MANIFEST

logger = logging.getLogger(__name__)

HEADS, REGISTRY, CHECKPOINTS = "chain-heads.ndjson", "vault-public-keys.csv", "chain/vault_checkpoints.ndjson"
EVIDENCE = (MANIFEST, HEADS, REGISTRY, CHECKPOINTS)
KEPT = 4
LARGEST_REGISTRY_BYTES = 64 << 20


@dataclass(frozen=True, slots=True)
class Predecessors:
    """What tonight's set must extend, newest first, and why some archives could not be looked at."""

    sets: tuple[SealedSet, ...] = ()
    reasons: tuple[str, ...] = ()
    rewind: Rewind | None = None
    """What an operator restored, as long as no good set was made since."""
    empty_before: bool = False
    """Whether the archive before tonight's, good or not, was one of an empty vault."""


class HeadLine(msgspec.Struct, frozen=True):
    """A line of chain-heads.ndjson."""

    chain_key: str
    position: int
    hash: str | None


@dataclass(frozen=True, slots=True)
class Evidence:
    """Where this host keeps the evidence of archives, by the digest of their manifest."""

    directory: Path

    def find(self, manifest_sha256: str) -> SealedSet | None:
        """Give what is kept of an archive, if it is exactly that."""
        try:
            return _whole(open_set(self.directory / manifest_sha256), manifest_sha256)
        except NotCheckedError:
            return None

    def keep(self, directory: Path) -> None:
        """Keep the evidence of a sealed set, and of not many older ones; without it the archive itself is asked."""
        try:
            self._keep(open_set(directory))
        except (OSError, PreflightError, NotCheckedError) as error:
            logger.info("the evidence of this set is not kept here: %s", error)

    def newest_good(self, series: Series, rewind: Rewind | None) -> SealedSet | None:
        """Give the newest good set of a series that this host remembers, as far as a rewind lets it count."""
        kept = (self.find(path.name) for path in (self.directory.iterdir() if self.directory.is_dir() else ()))
        good = [one for one in kept if one is not None and _is_good_of(one, series, rewind)]
        return max(good, key=lambda one: one.manifest.snapshot.time, default=None)

    def _keep(self, sealed: SealedSet) -> None:
        self.directory.mkdir(mode=0o700, exist_ok=True)
        final = self.directory / sealed.manifest_sha256
        if not final.exists():
            with scratch_directory(self.directory) as scratch:
                for path in EVIDENCE:
                    place = scratch / "evidence" / path
                    place.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                    shutil.copyfile(sealed.directory / path, place)
                (scratch / "evidence").rename(final)
        os.utime(final)
        kept = sorted(self.directory.iterdir(), key=lambda path: path.lstat().st_mtime, reverse=True)
        for old in kept[KEPT:]:
            shutil.rmtree(old, ignore_errors=True)


def newest_good(archives: Iterable[Archive], series: Series, rewind: Rewind | None = None) -> Archive | None:
    """Give the newest archive of a series that is good and named so, as far as a rewind lets it count."""
    good = [one for one in archives if series.is_good(one) and still_counts(one.time, series, rewind)]
    return max(good, key=lambda archive: (archive.time, archive.name), default=None)


def still_counts(time: datetime, series: Series, rewind: Rewind | None) -> bool:
    """Whether a set of this time is a predecessor: none between a restored state and the operator's word is one."""
    # Archives have whole seconds: what was made in the second of the operator's word counts.
    return rewind is None or time <= series.time_in(rewind.archive) or time >= rewind.time.replace(microsecond=0)


def find_predecessors(
    looked_into: Iterable[tuple[Repository, Inventory]],
    series: Series,
    evidence: Evidence,
    private: Path,
    word: Word,
    *,
    there: SealedSet | None = None,
) -> Predecessors:
    """Find what tonight's set must extend: in every repository, and the set that is `there` already.

    What could not be read is a reason, and no error.
    """
    sets: dict[str, SealedSet] = {} if there is None else {there.manifest_sha256: there}
    reasons: list[str] = []
    empty_before = False
    for repository, inventory in looked_into:
        ours = Ours(repository, inventory, series, evidence, private)
        try:
            found = ours.predecessor(word)
            empty_before = empty_before or (found is None and ours.was_empty())
            sets |= {} if found is None else {found.manifest_sha256: found}
        except (NotCheckedError, RepositoryError) as error:
            reasons.append(f"the archive before, in {repository.name}: {error}")
    newest_first = sorted(sets.values(), key=lambda one: one.manifest.snapshot.time, reverse=True)
    empty_before = empty_before or any(_holds_nothing(one) for one in newest_first)
    after_rewind = [one for one in newest_first if word.rewind and one.manifest.snapshot.time >= word.rewind.time]
    return Predecessors(tuple(newest_first), tuple(reasons), None if after_rewind else word.rewind, empty_before)


@dataclass(frozen=True, slots=True)
class Ours:
    """Our archives in one repository."""

    repository: Repository
    inventory: Inventory
    series: Series
    evidence: Evidence
    private: Path

    def predecessor(self, word: Word) -> SealedSet | None:
        """Give the newest good set or, when a later one is suspect for reasons that were all accepted, that."""
        good = newest_good(self.inventory.archives, self.series, word.rewind)
        suspect = self._newest(lambda archive: archive.verdict == "suspect")
        later = suspect is not None and (good is None or suspect.time > good.time) and word.accepted
        if suspect is not None and later and still_counts(suspect.time, self.series, word.rewind):
            found = self._fetched(suspect)
            if is_acknowledged(found, word):
                return found
        return None if good is None else self._fetched(good)

    def was_empty(self) -> bool:
        """Whether the newest archive that can be asked, whatever its verdict, is one of an empty vault."""
        newest = self._newest(lambda archive: "manifest" in archive.described)
        try:
            return newest is not None and _holds_nothing(open_set(self._extracted(newest, [MANIFEST])))
        except (NotCheckedError, RepositoryError) as error:
            logger.debug("it is not known whether the vault was empty before: %s", error)
            return False

    def _newest(self, chosen: Callable[[Archive], bool]) -> Archive | None:
        ours = (archive for archive in self.inventory.archives if self.series.owns(archive.title) and chosen(archive))
        return max(ours, key=lambda archive: (archive.time, archive.name), default=None)

    def _fetched(self, archive: Archive) -> SealedSet:
        digest = archive.described.get("manifest", "").removeprefix("sha256:")
        kept = self.evidence.find(digest) if digest.isalnum() else None
        if kept is not None:
            return kept
        logger.debug("taking the evidence of %s out of %s", archive.name, self.repository.name)
        return _whole(open_set(self._extracted(archive, EVIDENCE)), digest)

    def _extracted(self, archive: Archive, paths: Iterable[str]) -> Path:
        directory = Path(tempfile.mkdtemp(prefix="archive-", dir=self.private))
        self.repository.extract(archive.name, directory, paths, root=archive.root)
        return directory


def is_acknowledged(sealed: SealedSet, word: Word) -> bool:
    """Whether everything that made a set suspect was accepted since: then it is the state to be extended."""
    manifest = sealed.manifest
    counted = manifest.chain.failure_count or 0
    listed = counted <= len(manifest.chain.findings) and len(manifest.continuity.findings) < MOST_FINDINGS
    return manifest.verdict == "suspect" and listed and all(one.id in word.accepted for one in manifest.findings)


def _is_good_of(sealed: SealedSet, series: Series, rewind: Rewind | None) -> bool:
    manifest = sealed.manifest
    ours = (manifest.label, manifest.set, manifest.verdict) == (series.label, series.set_name, "good")
    return ours and still_counts(manifest.snapshot.time, series, rewind)


def read_evidence(directory: Path) -> SealedSet:
    """Read what a sealed set in a directory proves. Raises NotCheckedError."""
    return _whole(open_set(directory), None)


def past_of(predecessors: Predecessors, secret: bytes) -> Past:
    """Give what verification can use of the predecessors. Raises NotCheckedError."""
    archived = tuple(_heads_of(one, secret) for one in predecessors.sets)
    carrying = [(one, heads) for one, heads in zip(predecessors.sets, archived, strict=True) if _may_carry(one)]
    return Past(secret, archived, _proved(*carrying[0], secret) if carrying else None)


def head_lines(sealed: SealedSet) -> Iterator[HeadLine]:
    """Give the heads of a set's chains, in the order of the file. Raises NotCheckedError."""
    decoder = msgspec.json.Decoder(HeadLine)
    try:
        with open_regular(sealed.directory / HEADS) as file:
            yield from map(decoder.decode, _lines(file, HEADS))
    except UNREADABLE as error:
        raise NotCheckedError(f"{HEADS} of {sealed.manifest.archive} cannot be read: {error}") from error


def registry_rows(directory: Path) -> dict[str, dict[str, str]]:
    """Give the rows of the key registry's CSV by key id. Raises NotCheckedError."""
    with open_regular(directory / REGISTRY) as file:
        data = file.read(LARGEST_REGISTRY_BYTES + 1)
    if len(data) > LARGEST_REGISTRY_BYTES:
        raise NotCheckedError(f"{REGISTRY} is longer than {LARGEST_REGISTRY_BYTES} bytes")
    lines = data.decode("utf-8", "surrogateescape").splitlines(keepends=True)
    try:
        return {row["key_id"]: row for row in csv.DictReader(lines) if row.get("key_id")}
    except csv.Error as error:
        raise NotCheckedError(f"{REGISTRY} cannot be read: {error}") from error


def _lines(file: BinaryIO, name: str) -> Iterator[bytes]:
    """Give the lines of a file, none of them without end. Raises NotCheckedError."""
    while line := file.readline(MAX_LINE_BYTES + 1):
        if len(line) > MAX_LINE_BYTES:
            raise NotCheckedError(f"{name} has a line of more than {MAX_LINE_BYTES} bytes")
        yield line


def _holds_nothing(sealed: SealedSet) -> bool:
    return sealed.manifest.counts.get("audit_vault") == 0


def _whole(sealed: SealedSet, manifest_sha256: str | None) -> SealedSet:
    """Give a set back if its evidence is what its manifest says, and that what the archive's comment says."""
    if manifest_sha256 is not None and sealed.manifest_sha256 != manifest_sha256:
        raise NotCheckedError("its manifest is not the one that its comment names")
    for path in EVIDENCE[1:]:
        for finding in difference(sealed, path, measured(sealed.directory, path)):
            raise NotCheckedError(f"{finding.where}: {finding.detail}")
    return sealed


def _heads_of(sealed: SealedSet, secret: bytes) -> ArchivedHeads:
    heads: Iterable[Head] = ((line.chain_key, line.position, _hash(line.hash)) for line in head_lines(sealed))
    try:
        return archived_heads(sealed.manifest.archive, heads, secret)
    except ValueError as error:
        raise NotCheckedError(f"{HEADS} of {sealed.manifest.archive}: {error}") from error


def _hash(text: str | None) -> str | None:
    """Give a stored hash if it is one: what an accepted finding is about may be anything."""
    return text if text is not None and len(text) == 64 and set(text) <= set("0123456789abcdef") else None


def _may_carry(sealed: SealedSet) -> bool:
    chain = sealed.manifest.chain
    return chain.verdict == "passed" and chain.accepted <= len(chain.findings)


def _proved(sealed: SealedSet, heads: ArchivedHeads, secret: bytes) -> Proved:
    """Give what a good archive proved, less every chain in which something was found and accepted."""
    places = {finding.where.rpartition(", position ")[0] for finding in sealed.manifest.chain.findings}
    doubted = {place.partition(", chain ")[2] for place in places}
    if not doubted:
        return Proved(heads, DigestIndex(_checkpoints(sealed, doubted), secret), secret)
    keys = (line.chain_key for line in head_lines(sealed) if shown(line.chain_key) in doubted)
    excluded = frozenset(digest_of(key, secret) for key in keys)
    return Proved(heads, DigestIndex(_checkpoints(sealed, doubted), secret), secret, excluded)


def _checkpoints(sealed: SealedSet, doubted: set[str]) -> Iterator[str]:
    """Give the digests of the checkpoints' envelopes."""
    decoder = msgspec.json.Decoder(CheckpointRow)
    try:
        with open_regular(sealed.directory / CHECKPOINTS) as file:
            for line in _lines(file, CHECKPOINTS):
                row = decoder.decode(line)
                data = binary(row.cose_sign1)
                if data is not None and shown(chain_of(row, sealed.manifest.chain.era)) not in doubted:
                    yield hashlib.sha256(data).hexdigest()
    except UNREADABLE as error:
        raise NotCheckedError(f"{CHECKPOINTS} of {sealed.manifest.archive} cannot be read: {error}") from error
