"""The words of the pages, for readers who have never seen such a vault."""

from __future__ import annotations

from borg_vault_plugin.evidence.blocks import details
from borg_vault_plugin.evidence.markup import Markup, element, joined

CHAIN_WORDS = {
    "Server": "The system whose records are backed up. It keeps them in PostgreSQL, together with an audit vault.",
    "Chain, entry, position": "Everything that happens to a record is written as an entry. The entries of one record"
    " are its chain, numbered from 1; the number is the position.",
    "Hash": "A number of 64 hexadecimal digits (SHA-256) that stands for some bytes. Nobody can find other bytes with"
    " the same hash.",
    "Link": "Each entry holds the hash of the entry before it, so an old entry cannot be changed without changing all"
    " later ones.",
    "Head": "The last entry of a chain, by position and hash. Whoever knows a head knows the whole chain before it.",
    "Envelope": "The signed form of an entry (COSE_Sign1, RFC 9052), beside the readable one.",
    "Signature": "Made with a private key, which never is in a dump; verified with the public key, which is.",
    "Checkpoint": "A signed statement that a chain had a certain entry at a certain position.",
    "Read log": "What administrators have read. Each read is a leaf; the leaves of an organisation form a tree of"
    " hashes, whose root stands for all of them.",
    "Tree head": "A signed statement of the root over the first so many leaves.",
    "Key registry": "The Server's list of its signing keys, each with the time in which it was valid. Replacing a key"
    " by the next is a rotation.",
    "Key statement": "A signed statement by which one key admits or closes another (second era).",
    "Pinned key": "A key whose fingerprint the verifier was given from outside the dump: the anchor of trust.",
    "Era": "The form of the vault: v1 is that of Server 0.25 to 1.x, v2 that of Server 2.x.",
    "Continuity": "The rule that every chain of a later archive goes on from its head in an earlier one.",
    "Finding, code": "One thing that verification reports, and its stable name.",
}
DRILL_WORDS = {
    "Drill": "An archive is restored into a database made for that purpose, compared with what was archived, and"
    " thrown away.",
    "Archive": "One backup in a repository of BorgBackup.",
    "Snapshot": "The one instant of the database from which everything in the archive comes.",
    "Recovery point (RPO)": "How much of the newest work a restore of this archive would lose, in time.",
    "Recovery time (RTO)": "How long it takes from the decision to restore to a database that can be used.",
    "Chain head": "The last entry of a chain of audit entries, by position and hash. It stands for the whole chain"
    " before it.",
    "Not checked": "A check that could not run. It is neither passed nor failed, and says why.",
}


def glossary(words: dict[str, str]) -> Markup:
    """Explain words, folded away until somebody asks."""
    entries = (joined(element("dt", word), element("dd", meaning)) for word, meaning in words.items())
    listed = (element("div", entry) for entry in entries)
    return element("section", details("What the words mean", element("dl", *listed, class_="glossary")))
