"""What a run says about itself: the documents that `--json` prints, in the order in which they are printed."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal

import msgspec

from borg_vault_plugin.archive import SetName, Verdict
from borg_vault_plugin.chain_export import TABLES
from borg_vault_plugin.errors import RefusedError, RepositoryError, smallest_exit_code
from borg_vault_plugin.foreign import Instant
from borg_vault_plugin.snapshot import Facts
from borg_vault_plugin.staging import Artifact

Action = Literal["keep", "spare", "remove"]
SUSPECT_EXIT_CODE, NOT_CHECKED_EXIT_CODE = 10, 11
VERDICT_EXIT_CODES: dict[Verdict, int] = {"good": 0, "suspect": SUSPECT_EXIT_CODE, "unverified": NOT_CHECKED_EXIT_CODE}
# Control characters that JSON lets stand (DEL is one of ASCII), and those that change the order of others.
UNSEEN = re.compile(r"[\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff]")
CheckVerdict = Literal["passed", "failed", "not_checked", "not_applicable"]


@dataclass(frozen=True, slots=True)
class Stored:
    """What became of a set in one repository; sizes in bytes, as Borg counts them."""

    repository: str
    status: Literal["stored", "failed", "would_store"]
    archive_id: str | None = None
    original_size: int | None = None
    compressed_size: int | None = None
    deduplicated_size: int | None = None
    seconds: float = 0.0
    error: str | None = None


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that verification reports: its stable code, where it is, what was expected and found."""

    code: str
    where: str
    detail: str
    hash: str | msgspec.UnsetType = msgspec.UNSET
    """The stored hash of the row that it is about, where that has one."""
    accepted: str | msgspec.UnsetType = msgspec.UNSET
    """Why an operator has accepted it."""
    id: str = field(init=False)
    """What stands for exactly this finding: made of code, place and hash (without one: detail); 16 hex digits."""

    def __post_init__(self) -> None:
        """Give it its id."""
        identity = "\0".join((self.code, self.where, self.detail if self.hash is msgspec.UNSET else self.hash))
        object.__setattr__(self, "id", hashlib.sha256(identity.encode("utf-8", "surrogatepass")).hexdigest()[:16])


@dataclass(frozen=True, slots=True)
class Verified:
    """The document of `verify --json`; findings are capped at 1,000, their count never is."""

    target: str
    verdict: Literal["passed", "failed", "not_checked"]
    era: str | None
    anchored: bool
    counts: dict[str, int]
    signatures_checked: int
    signatures_carried: int
    failure_count: int
    """Those that nobody has accepted."""
    findings: tuple[Finding, ...]
    files: int | msgspec.UnsetType = msgspec.UNSET
    """How many files were compared with a manifest; only there when there is one."""

    @property
    def exit_code(self) -> int:
        """The exit code of the verification."""
        return {"passed": 0, "failed": SUSPECT_EXIT_CODE, "not_checked": NOT_CHECKED_EXIT_CODE}[self.verdict]


@dataclass(frozen=True, slots=True)
class Chain:
    """What is known about the staged chain."""

    era: Literal["v1", "v2"]
    chains: int
    entries: int
    verdict: CheckVerdict = "not_checked"
    signatures_checked: int = 0
    signatures_carried: int = 0
    accepted: int = 0
    findings: tuple[Finding, ...] = ()
    """The first 1,000, those that are accepted among them."""
    failure_count: int | msgspec.UnsetType = msgspec.UNSET
    """All that nobody has accepted, where there are any."""
    reason: str | msgspec.UnsetType = msgspec.UNSET
    """Why it was not checked."""


@dataclass(frozen=True, slots=True)
class Rewind:
    """An older state that an operator did restore, so that history is compared with that."""

    archive: str
    time: Instant
    reason: str


@dataclass(frozen=True, slots=True)
class Continuity:
    """How the chain compares with the one archived before."""

    previous: str | None = None
    verdict: CheckVerdict = "not_checked"
    findings: tuple[Finding, ...] = ()
    reason: str | msgspec.UnsetType = msgspec.UNSET
    """Why it was not checked."""
    rewind: Rewind | msgspec.UnsetType = msgspec.UNSET


@dataclass(frozen=True, slots=True)
class SnapshotFacts:
    """The instant that every artifact of the set comes from; what the source refused to tell is None."""

    id: str
    time: Instant
    server_version: str
    system_identifier: str | None
    database: str
    wal_lsn: str | None


@dataclass(frozen=True, slots=True)
class Origin:
    """The tarball that a set was imported from: the file's name, its SHA-256 in hex, and what its metadata said."""

    file: str
    sha256: str
    metadata: dict[str, str]


@dataclass(frozen=True, slots=True)
class Pruned:
    """What retention did in one repository."""

    repository: str
    removed: tuple[str, ...] = ()
    spared: tuple[str, ...] = ()
    error: str | msgspec.UnsetType = msgspec.UNSET
    """Only there when retention failed."""
    refused: tuple[Finding, ...] | msgspec.UnsetType = msgspec.UNSET
    """Archives that history does not explain: only there when they stopped retention."""
    skipped: str | msgspec.UnsetType = msgspec.UNSET
    """Why there is no retention here; only there when there is none."""


@dataclass(frozen=True, slots=True)
class Fate:
    """What retention does with one archive, and why."""

    repository: str
    archive: str
    action: Action
    reason: str


@dataclass(frozen=True, slots=True)
class Pruning:
    """The document of `prune --json`: what was removed and, archive by archive, why."""

    pruned: tuple[Pruned, ...]
    plan: tuple[Fate, ...]

    @property
    def exit_code(self) -> int:
        """The exit code of the run: 0 when every repository was pruned."""
        return smallest_exit_code([_repository_exit_code(self.pruned), _refusal_exit_code(self.pruned)])


@dataclass(frozen=True, slots=True)
class Unheard:
    """A plugin that could not pass on how a run begins or ends, and why."""

    plugin: str
    error: str


@dataclass(frozen=True, slots=True)
class Backup:
    """The document of `create --json`."""

    archive: str
    verdict: Verdict
    repositories: tuple[Stored, ...]
    artifacts: tuple[Artifact, ...]
    counts: dict[str, int]
    chain: Chain
    continuity: Continuity
    snapshot: SnapshotFacts
    pruned: tuple[Pruned, ...] = ()
    seconds: dict[str, float] = field(default_factory=dict)
    notifications: tuple[Unheard, ...] | msgspec.UnsetType = msgspec.UNSET
    """Those that failed; only there when one did."""

    @property
    def set(self) -> SetName:
        """The set that was backed up."""
        return "database"

    @property
    def exit_code(self) -> int:
        """The exit code of the run: 0 when every repository stored a good set, and was pruned; a rehearsal has none."""
        verdict = VERDICT_EXIT_CODES[self.verdict] if self.artifacts else 0
        return smallest_exit_code([files_exit_code(self.repositories, self.pruned), verdict])


@dataclass(frozen=True, slots=True)
class FilesBackup:
    """The document of `create --set provisioning --json`, and of `keys`."""

    archive: str
    set: SetName
    verdict: Verdict
    repositories: tuple[Stored, ...]
    artifacts: tuple[Artifact, ...]
    revision: str | None
    pruned: tuple[Pruned, ...]
    seconds: dict[str, float]
    notifications: tuple[Unheard, ...] | msgspec.UnsetType = msgspec.UNSET

    @property
    def exit_code(self) -> int:
        """The exit code of the run: 0 when every repository stored the set, and was pruned."""
        return files_exit_code(self.repositories, self.pruned)


@dataclass(frozen=True, slots=True)
class Attested:
    """The document of `create --set keys --json` when the keys are attested to be where they should."""

    set: SetName
    attested: datetime | None
    """None in a rehearsal."""
    command: str
    notifications: tuple[Unheard, ...] | msgspec.UnsetType = msgspec.UNSET

    @property
    def exit_code(self) -> int:
        """The exit code of the run."""
        return 0


def files_exit_code(stored: tuple[Stored, ...], pruned: tuple[Pruned, ...]) -> int:
    """Give the exit code of what happened in repositories."""
    return smallest_exit_code([_repository_exit_code((*stored, *pruned)), _refusal_exit_code(pruned)])


def snapshot_facts(facts: Facts) -> SnapshotFacts:
    """Give the facts that a report and a manifest tell."""
    return SnapshotFacts(
        facts.id, facts.time, facts.server_version, facts.system_identifier, facts.database, facts.wal_lsn
    )


class Document(str):
    """JSON as it is printed: nothing in it steers a terminal."""

    __slots__ = ()


def as_json(document: object) -> Document:
    """Print a document as indented JSON; instants in UTC as RFC 3339 has them."""
    try:
        text = msgspec.json.format(msgspec.json.encode(document), indent=2).decode()
    except UnicodeEncodeError:  # a lone surrogate stands for a byte of a file's name that is no UTF-8
        text = json.dumps(msgspec.to_builtins(document), indent=2)
    return Document(UNSEEN.sub(lambda found: f"\\u{ord(found[0]):04x}", text))


def chain_counts(artifacts: tuple[Artifact, ...]) -> dict[str, int]:
    """Count the rows of each NDJSON file, by its table's name, in the order of the format."""
    rows = {artifact.path: artifact.rows for artifact in artifacts}
    paths = {table.name: f"chain/{table.name}.ndjson" for table in TABLES}
    return {name: rows[path] or 0 for name, path in paths.items() if path in rows}


def staged_chain(artifacts: tuple[Artifact, ...]) -> Chain:
    """Describe a staged chain that nobody has checked yet."""
    counts = chain_counts(artifacts)
    heads = next((artifact.rows for artifact in artifacts if artifact.path == "chain-heads.ndjson"), None)
    return Chain(
        era="v2" if "vault_key_statements" in counts else "v1",
        chains=heads or 0,
        entries=counts.get("audit_vault", 0),
    )


def _refusal_exit_code(pruned: tuple[Pruned, ...]) -> int:
    return RefusedError.exit_code if any(one.refused for one in pruned) else 0


def _repository_exit_code(outcomes: tuple[Stored | Pruned, ...]) -> int:
    return smallest_exit_code(RepositoryError.exit_code for one in outcomes if one.error)
