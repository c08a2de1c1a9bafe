"""What a verification of a chain looks at, kind by kind, and what it cannot see however careful it is."""

from __future__ import annotations

from dataclasses import dataclass

from borg_vault_plugin.chain.codes import Code
from borg_vault_plugin.evidence.findings import accepted
from borg_vault_plugin.report import CheckVerdict, Finding, Verified
from borg_vault_plugin.wording import plural


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of check: what it shows, the table whose rows it looks at, and where its codes begin."""

    name: str
    shows: str
    table: str
    codes: tuple[str, ...]


SIGNATURES = Kind(
    "Signatures",
    "Entries, checkpoints, leaves and tree heads carry a valid signature (Ed25519 or ES256) of the key that they name;"
    " entries are from the time in which their key was valid; nothing is unsigned since the first key was activated.",
    "",
    (
        Code.CHAIN_ENTRY_UNSIGNED,
        Code.CHAIN_SIGNING_KEY_DRIFT,
        Code.CHAIN_SIGNING_KEY_UNANCHORED,
        Code.CHAIN_UNSUPPORTED_ALGORITHM,
        Code.CHAIN_KEY_NOT_YET_ACTIVE,
        Code.CHAIN_KEY_EXPIRED,
        Code.CHAIN_SIGNATURE_INVALID,
        Code.CHAIN_AGENT_SIGNATURE_INVALID,
        Code.CHECKPOINT_UNSIGNED,
        Code.CHECKPOINT_KEY_UNANCHORED,
        Code.CHECKPOINT_SIGNATURE_INVALID,
        Code.TENANT_READ_LEAF_UNSIGNED,
        Code.TENANT_READ_KEY_UNANCHORED,
        Code.TENANT_READ_SIGNATURE_INVALID,
        Code.TENANT_CHECKPOINT_UNSIGNED,
        Code.TENANT_CHECKPOINT_KEY_UNANCHORED,
        Code.TENANT_CHECKPOINT_SIGNATURE_INVALID,
    ),
)
STATEMENTS = Kind(
    "Key statements",
    "Signed statements lead from the pinned keys to all others, and the registry says of each key what was signed.",
    "vault_key_statements",
    ("KEY_", Code.CHAIN_KEY_WINDOW_DRIFT),
)
PLUGINS = Kind("Checks of plugins", "What plugins looked at beside the chain; their documentation tells.", "", ())
# In the order in which a page shows them; a finding belongs to the first kind whose codes fit.
FILES = Kind(
    "Files of the set", "Every file is there, of the size and SHA-256 that the manifest states.", "", ("SET_",)
)
KINDS = (
    Kind(
        "Key registry",
        "Every key that something names is in the registry, and is of the algorithm that registry and signature say.",
        "vault_signing_keys",
        (Code.CHAIN_SIGNATURE_MISSING_KEY, Code.CHAIN_ALG_MISMATCH, "REGISTRY_", Code.TARBALL_REGISTRY_DIFFERS),
    ),
    SIGNATURES,
    STATEMENTS,
    Kind(
        "Payloads and actors",
        "The readable columns of every entry (record, type, payload, actor, OIDC identity) say what was signed.",
        "audit_vault",
        (
            Code.CHAIN_PAYLOAD_BINDING_MISMATCH,
            Code.CHAIN_ACTOR_ATTRIBUTION_MISMATCH,
            Code.CHAIN_OIDC_ACTOR_MISMATCH,
        ),
    ),
    Kind(
        "Hashes, links, positions",
        "Positions are 1, 2, 3 and so on in every chain; the stored hash is that of the signed envelope; each entry"
        " names the hash of the one before it, in its row and under its signature.",
        "audit_vault",
        ("CHAIN_", Code.UNSUPPORTED_FORMAT),
    ),
    Kind(
        "Checkpoints",
        "The entry for which a checkpoint vouches is there, at its position and with its hash.",
        "vault_checkpoints",
        ("CHECKPOINT_",),
    ),
    Kind(
        "Leaves of the read log",
        "The leaves of every organisation are numbered 0, 1, 2 and so on, are as signed, and name the one before.",
        "org_admin_reads",
        ("TENANT_READ_",),
    ),
    Kind(
        "Tree heads of the read log",
        "The leaves add up to the root that was signed, and no two heads of one size have different roots.",
        "org_admin_reads_checkpoints",
        ("TENANT_CHECKPOINT_",),
    ),
    FILES,
    Kind("Continuity", "Every chain goes on from where an earlier archive left it.", "", ("CONTINUITY_",)),
    Kind("Archives", "History explains every archive in the repository.", "", ("RETENTION_",)),
)

NEVER_SEEN = {
    "What used to be there": "entries cut off from the end of a chain, unless a checkpoint vouches for them; a whole"
    " chain that is gone together with its checkpoints; a checkpoint that is gone. Comparing with the chain heads of an"
    " earlier archive shows that: every chain must go on from there, which is called continuity.",
    "Whether it is true": "a signature shows that a record is what the Server signed at the time, and no more. What is"
    " encrypted stays unread.",
    "Who held the signing keys": "whoever has a private key can sign anything.",
    "Signatures of agents inside payloads": "the Server's signature covers them, so they have not changed; but whether"
    " each is its agent's takes certificates that were not looked at.",
    "Signatures of outside witnesses on tree heads": "their keys are not in a dump.",
    "Columns that no signature covers": "the identifiers of rows; the exact times of entries, which must only be within"
    " the validity of the key; of reads, by which key, with which filter and when.",
}


def kind_of(finding: Finding) -> Kind:
    """Give the kind of check that reported a finding; plugins have codes of their own."""
    return next((kind for kind in KINDS if finding.code.startswith(kind.codes)), PLUGINS)


def looked_at(kind: Kind, report: Verified) -> int:
    """Count the rows, or the signatures, that this kind of check looked at."""
    if kind is SIGNATURES:
        return report.signatures_checked + report.signatures_carried
    if kind is FILES:
        return report.files or 0
    return report.counts.get(kind.table, 0)


def kinds_of(report: Verified) -> list[Kind]:
    """Give the kinds that a report is about: without those that have neither a table in this dump nor a finding."""
    found = {kind_of(finding).name for finding in report.findings}
    tables = report.counts or {kind.table for kind in KINDS}
    return [
        kind
        for kind in (*KINDS, PLUGINS)
        if kind is SIGNATURES
        or (kind is FILES and report.files)
        or (kind.table and kind.table in tables)
        or kind.name in found
    ]


def outcome(kind: Kind, report: Verified) -> tuple[CheckVerdict, str]:
    """Say how this kind of check came out in a report that has a verdict."""
    mine = [finding for finding in report.findings if kind_of(finding) is kind]
    refused = sum(accepted(finding) is None for finding in mine)
    shown = sum(accepted(finding) is None for finding in report.findings)
    if mine:
        least = "at least " if report.failure_count > shown else ""
        return "failed", f"{least}{plural(refused, 'finding')}" if refused else f"{len(mine):,} accepted"
    if kind is STATEMENTS and report.verdict == "passed" and not report.anchored:
        # With an accepted finding nobody can tell from a report whether there was a pin.
        return "not_checked", "Not shown" if report.findings else "Not checked: no key is pinned"
    if looked_at(kind, report) == 0:
        return "not_applicable", "Nothing to check"
    return ("passed", "Passed") if report.verdict == "passed" else ("not_applicable", "No finding")
