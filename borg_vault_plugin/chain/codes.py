"""Every code that verification can report, with what it means and what to do about it.

Codes are stable: scripts and acknowledgements refer to them. The first failed check of an entry gives its code.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum, auto


class Code(StrEnum):
    """The name of what was found."""

    @staticmethod
    def _generate_next_value_(name: str, _start: int, _count: int, _last_values: list[str]) -> str:
        return name

    CHAIN_EMPTY = auto()
    UNSUPPORTED_FORMAT = auto()
    CHAIN_POSITION_GAP = auto()
    CHAIN_MALFORMED_ENTRY = auto()
    CHAIN_HASH_MISMATCH = auto()
    CHAIN_GENESIS_INVALID = auto()
    CHAIN_LINK_BROKEN = auto()
    CHAIN_COSE_DECODE_FAILED = auto()
    CHAIN_COSE_HEADER_MISMATCH = auto()
    CHAIN_ACTOR_ATTRIBUTION_MISMATCH = auto()
    CHAIN_PAYLOAD_BINDING_MISMATCH = auto()
    CHAIN_OIDC_ACTOR_MISMATCH = auto()
    CHAIN_ENTRY_UNSIGNED = auto()
    CHAIN_SIGNATURE_MISSING_KEY = auto()
    CHAIN_SIGNING_KEY_DRIFT = auto()
    CHAIN_SIGNING_KEY_UNANCHORED = auto()
    CHAIN_UNSUPPORTED_ALGORITHM = auto()
    CHAIN_ALG_MISMATCH = auto()
    CHAIN_KEY_NOT_YET_ACTIVE = auto()
    CHAIN_KEY_EXPIRED = auto()
    CHAIN_SIGNATURE_INVALID = auto()
    CHAIN_AGENT_SIGNATURE_INVALID = auto()
    CHECKPOINT_ROW_MISSING = auto()
    CHECKPOINT_HASH_MISMATCH = auto()
    CHECKPOINT_CLAIM_MISMATCH = auto()
    CHECKPOINT_UNSIGNED = auto()
    CHECKPOINT_KEY_UNANCHORED = auto()
    CHECKPOINT_SIGNATURE_INVALID = auto()
    TENANT_CHECKPOINT_FORK = auto()
    TENANT_READ_LEAF_INDEX_GAP = auto()
    TENANT_READ_LEAF_HASH_MISMATCH = auto()
    TENANT_READ_CLAIM_MISMATCH = auto()
    TENANT_READ_LEAF_UNSIGNED = auto()
    TENANT_READ_KEY_UNANCHORED = auto()
    TENANT_READ_SIGNATURE_INVALID = auto()
    TENANT_CHECKPOINT_LEAF_COUNT_MISMATCH = auto()
    TENANT_CHECKPOINT_ROOT_MISMATCH = auto()
    TENANT_CHECKPOINT_CLAIM_MISMATCH = auto()
    TENANT_CHECKPOINT_UNSIGNED = auto()
    TENANT_CHECKPOINT_KEY_UNANCHORED = auto()
    TENANT_CHECKPOINT_SIGNATURE_INVALID = auto()
    KEY_STATEMENT_INVALID = auto()
    KEY_CLOSURE_INVALID = auto()
    CHAIN_KEY_WINDOW_DRIFT = auto()
    REGISTRY_COLUMNS = auto()
    REGISTRY_KEY_UNREADABLE = auto()
    CONTINUITY_CHAIN_MISSING = auto()
    CONTINUITY_CHAIN_SHORTENED = auto()
    CONTINUITY_CHAIN_REWRITTEN = auto()
    CONTINUITY_READ_LOG_REWRITTEN = auto()
    CONTINUITY_KEY_MISSING = auto()
    CONTINUITY_KEY_CHANGED = auto()
    CONTINUITY_KEY_REVIVED = auto()
    CONTINUITY_COUNT_FELL = auto()
    SET_FILE_MISSING = auto()
    SET_FILE_CHANGED = auto()
    SET_FILE_UNKNOWN = auto()
    SET_CHECKSUMS_DIFFER = auto()
    TARBALL_REGISTRY_DIFFERS = auto()
    RETENTION_ARCHIVE_MISSING = auto()
    RETENTION_ARCHIVE_CHANGED = auto()
    RETENTION_ARCHIVE_FUTURE = auto()
    RETENTION_ARCHIVE_UNKNOWN = auto()


@dataclass(frozen=True, slots=True)
class Meaning:
    """One line each for whoever reads a report."""

    means: str
    next_step: str


# What to do, where several codes call for the same.
COMPARE = "Compare this row with the last archive that was good, and find out who could write to the database."
TAKE_WHOLE = "Make the dump again, from the database itself; if it says so again, compare with the last good archive."
COMPARE_KEYS = "Compare the key registry with the last good archive and with the operators' record of key rotations."
ASK_SIGNER = "Find out which process wrote this row without a key, and compare it with the last good archive."
UPGRADE = "Verify with a version that knows this algorithm; until then nothing is known about what the key signed."
WITNESSES = "Keep all copies, and ask the holders of earlier tree heads which of them they were given."
REWOUND = (
    "If you restored an older state, say so with `accept-rewind`; if not, history was rewritten: keep all archives."
)
EXPLAIN = "Find out who can write to the repository; when it is explained, `accept` it, and retention goes on."
FETCH_AGAIN = "Extract the archive again and compare; if it says so again, run `borg check` on the repository."
ANCHOR = "Check the pinned fingerprint; if it is right, treat whatever this key signed as not proven."

MEANINGS: dict[Code, Meaning] = {
    Code.CHAIN_EMPTY: Meaning("the dump holds no audit entries at all", TAKE_WHOLE),
    Code.UNSUPPORTED_FORMAT: Meaning(
        "entries without an envelope, or chains that are not each in one piece", TAKE_WHOLE
    ),
    Code.CHAIN_POSITION_GAP: Meaning("the positions of a chain are not 1, 2, 3 and so on", COMPARE),
    Code.CHAIN_MALFORMED_ENTRY: Meaning("a column that a check needs does not hold what it should", COMPARE),
    Code.CHAIN_HASH_MISMATCH: Meaning("the stored hash is not that of the stored envelope", COMPARE),
    Code.CHAIN_GENESIS_INVALID: Meaning("the first entry of a chain names a predecessor", COMPARE),
    Code.CHAIN_LINK_BROKEN: Meaning("an entry does not name the hash of the entry before it", COMPARE),
    Code.CHAIN_COSE_DECODE_FAILED: Meaning("the stored envelope is no COSE_Sign1", COMPARE),
    Code.CHAIN_COSE_HEADER_MISMATCH: Meaning(
        "the signed place in the chain is not the one where the row stands", COMPARE
    ),
    Code.CHAIN_ACTOR_ATTRIBUTION_MISMATCH: Meaning("the row names another actor than the one that was signed", COMPARE),
    Code.CHAIN_PAYLOAD_BINDING_MISMATCH: Meaning("the readable row differs from what was signed", COMPARE),
    Code.CHAIN_OIDC_ACTOR_MISMATCH: Meaning(
        "the row names another OIDC identity than the one that was signed", COMPARE
    ),
    Code.CHAIN_ENTRY_UNSIGNED: Meaning("an entry names no key although signing had begun", ASK_SIGNER),
    Code.CHAIN_SIGNATURE_MISSING_KEY: Meaning("the key that is named is not in the registry", COMPARE_KEYS),
    Code.CHAIN_SIGNING_KEY_DRIFT: Meaning("the row names another key than the signed header", COMPARE),
    Code.CHAIN_SIGNING_KEY_UNANCHORED: Meaning("no statement leads from the pinned keys to this entry's key", ANCHOR),
    Code.CHAIN_UNSUPPORTED_ALGORITHM: Meaning("a key of a kind that cannot be verified here", UPGRADE),
    Code.CHAIN_ALG_MISMATCH: Meaning("registry or header name another algorithm than that of the key", COMPARE_KEYS),
    Code.CHAIN_KEY_NOT_YET_ACTIVE: Meaning("an entry from before its key was activated", COMPARE_KEYS),
    Code.CHAIN_KEY_EXPIRED: Meaning("an entry from outside the time in which its key was valid", COMPARE_KEYS),
    Code.CHAIN_SIGNATURE_INVALID: Meaning("the signature of an entry does not verify", COMPARE),
    Code.CHAIN_AGENT_SIGNATURE_INVALID: Meaning("the sealed signature of an agent does not verify", COMPARE),
    Code.CHECKPOINT_ROW_MISSING: Meaning("a checkpoint vouches for an entry that is not there", COMPARE),
    Code.CHECKPOINT_HASH_MISMATCH: Meaning(
        "a checkpoint vouches for another entry than the one that is there", COMPARE
    ),
    Code.CHECKPOINT_CLAIM_MISMATCH: Meaning("a checkpoint's row differs from what was signed", COMPARE),
    Code.CHECKPOINT_UNSIGNED: Meaning("a checkpoint names no key although signing had begun", ASK_SIGNER),
    Code.CHECKPOINT_KEY_UNANCHORED: Meaning("no statement leads from the pinned keys to this checkpoint's key", ANCHOR),
    Code.CHECKPOINT_SIGNATURE_INVALID: Meaning("the signature of a checkpoint does not verify", COMPARE),
    Code.TENANT_CHECKPOINT_FORK: Meaning("two heads of one read log state different roots for one size", WITNESSES),
    Code.TENANT_READ_LEAF_INDEX_GAP: Meaning("the leaves of a read log are not numbered 0, 1, 2 and so on", COMPARE),
    Code.TENANT_READ_LEAF_HASH_MISMATCH: Meaning("the stored hash of a leaf is not that of its envelope", COMPARE),
    Code.TENANT_READ_CLAIM_MISMATCH: Meaning("a leaf's row differs from what was signed", COMPARE),
    Code.TENANT_READ_LEAF_UNSIGNED: Meaning("a leaf carries no key although signing had begun", ASK_SIGNER),
    Code.TENANT_READ_KEY_UNANCHORED: Meaning("no statement leads from the pinned keys to this leaf's key", ANCHOR),
    Code.TENANT_READ_SIGNATURE_INVALID: Meaning("the signature of a leaf does not verify", COMPARE),
    Code.TENANT_CHECKPOINT_LEAF_COUNT_MISMATCH: Meaning("a tree head counts more leaves than there are", COMPARE),
    Code.TENANT_CHECKPOINT_ROOT_MISMATCH: Meaning("the leaves do not add up to the root of a tree head", COMPARE),
    Code.TENANT_CHECKPOINT_CLAIM_MISMATCH: Meaning("a tree head's row differs from what was signed", COMPARE),
    Code.TENANT_CHECKPOINT_UNSIGNED: Meaning("a tree head names no key although signing had begun", ASK_SIGNER),
    Code.TENANT_CHECKPOINT_KEY_UNANCHORED: Meaning(
        "no statement leads from the pinned keys to this head's key", ANCHOR
    ),
    Code.TENANT_CHECKPOINT_SIGNATURE_INVALID: Meaning("the signature of a tree head does not verify", COMPARE),
    Code.KEY_STATEMENT_INVALID: Meaning("a signed statement about a key is broken or out of place", COMPARE_KEYS),
    Code.KEY_CLOSURE_INVALID: Meaning(
        "a key was closed by nobody who could, or never closed although retired", COMPARE_KEYS
    ),
    Code.CHAIN_KEY_WINDOW_DRIFT: Meaning("the registry gives a key another window than the signed one", COMPARE_KEYS),
    Code.REGISTRY_COLUMNS: Meaning("the registry's CSV does not have its six columns", TAKE_WHOLE),
    Code.REGISTRY_KEY_UNREADABLE: Meaning("a registered key is no public key", COMPARE_KEYS),
    Code.CONTINUITY_CHAIN_MISSING: Meaning("a chain of the archive before is not there any more", REWOUND),
    Code.CONTINUITY_CHAIN_SHORTENED: Meaning("a chain ends before the head that the archive before proved", REWOUND),
    Code.CONTINUITY_CHAIN_REWRITTEN: Meaning("a chain has another entry at the archived head's position", REWOUND),
    Code.CONTINUITY_READ_LOG_REWRITTEN: Meaning(
        "a read log does not begin with the leaves that were archived", REWOUND
    ),
    Code.CONTINUITY_KEY_MISSING: Meaning("a key of the archive before is not in the registry any more", COMPARE_KEYS),
    Code.CONTINUITY_KEY_CHANGED: Meaning("a key has another public key or algorithm than it had", COMPARE_KEYS),
    Code.CONTINUITY_KEY_REVIVED: Meaning("a key that was retired is active again", COMPARE_KEYS),
    Code.CONTINUITY_COUNT_FELL: Meaning("a table of the vault has fewer rows than it had", REWOUND),
    Code.SET_FILE_MISSING: Meaning("a file that the manifest lists is not there", FETCH_AGAIN),
    Code.SET_FILE_CHANGED: Meaning("a file has another size or digest than the manifest says", FETCH_AGAIN),
    Code.SET_FILE_UNKNOWN: Meaning("a file that the manifest does not list", FETCH_AGAIN),
    Code.SET_CHECKSUMS_DIFFER: Meaning("SHA256SUMS does not say what the manifest says", FETCH_AGAIN),
    Code.TARBALL_REGISTRY_DIFFERS: Meaning("a tarball's registry is not the one in the dump beside it", COMPARE_KEYS),
    Code.RETENTION_ARCHIVE_MISSING: Meaning("an archive of ours is gone, and no run of this host removed it", EXPLAIN),
    Code.RETENTION_ARCHIVE_CHANGED: Meaning("an archive of ours was replaced by another one of its name", EXPLAIN),
    Code.RETENTION_ARCHIVE_FUTURE: Meaning("an archive is dated in the future, where it would outlive others", EXPLAIN),
    Code.RETENTION_ARCHIVE_UNKNOWN: Meaning("an archive has a name of ours, and no run of this host made it", EXPLAIN),
}
