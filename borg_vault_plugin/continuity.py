"""Continuity: tonight's vault must extend every archived one. Finds what no verifier can see in one dump alone.

Every chain still exists and holds, at its archived head's position, the archived hash; each read log begins with the
leaves that it had; no key disappears, changes or comes back from retirement; no table of the vault loses rows.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path

import msgspec

from borg_vault_plugin.chain.codes import Code
from borg_vault_plugin.chain.entries import shown
from borg_vault_plugin.chain.readlog import org_name, stored_digests
from borg_vault_plugin.chain.rows import Era, ReadRow
from borg_vault_plugin.chain.source import NotCheckedError, dump_files, open_rows
from borg_vault_plugin.chain.tally import MOST_FINDINGS
from borg_vault_plugin.chain.tree import roots_at
from borg_vault_plugin.chain.verification import Verification
from borg_vault_plugin.predecessor import REGISTRY, Predecessors, head_lines, registry_rows
from borg_vault_plugin.report import Continuity, Finding
from borg_vault_plugin.sealed_set import SealedSet

LASTING = ("public_key", "algorithm", "activated_at")
"""What never changes about a key."""
ENDING = ("retired_at", "status")
"""What never changes about a key that is retired."""


def compare(
    predecessors: Predecessors, directory: Path, counts: dict[str, int], verification: Verification
) -> Continuity:
    """Compare a staged vault with its predecessors; `verification` has walked through its chains with their heads.

    What could not be compared is a reason in the result, and no error.
    """
    if not predecessors.sets and not predecessors.reasons:
        return Continuity(verdict="not_applicable", rewind=predecessors.rewind or msgspec.UNSET)
    findings: list[Finding] = []
    reasons = list(predecessors.reasons)
    try:
        for finding in islice(_findings(predecessors, directory, counts, verification), MOST_FINDINGS):
            findings.append(finding)  # noqa: PERF402 - what was found before something cannot be read counts
    except NotCheckedError as error:
        reasons.append(str(error))
    if predecessors.sets and not _is_followed(predecessors, verification):
        reasons.append("the chains could not be followed to their ends")
    return Continuity(
        previous=predecessors.sets[0].manifest.archive if predecessors.sets else None,
        verdict="failed" if findings else "not_checked" if reasons else "passed",
        findings=tuple(findings),
        reason="; ".join(reasons) if reasons else msgspec.UNSET,
        rewind=predecessors.rewind or msgspec.UNSET,
    )


def _findings(
    predecessors: Predecessors, directory: Path, counts: dict[str, int], verification: Verification
) -> Iterator[Finding]:
    extension = verification.extension
    if extension is not None and _is_followed(predecessors, verification):
        yield from extension.broken
        for sealed, places in zip(predecessors.sets, extension.absent, strict=True):
            yield from _missing_chains(sealed, places)
    for sealed in predecessors.sets:
        yield from _read_logs(sealed, directory)
        yield from _keys(sealed, directory)
        yield from _counts(sealed, counts)


def _is_followed(predecessors: Predecessors, verification: Verification) -> bool:
    """Whether the chains were walked to their ends, with the heads of every predecessor."""
    extension = verification.extension
    return extension is not None and len(extension.absent) == len(predecessors.sets)


def _missing_chains(sealed: SealedSet, places: Iterable[int]) -> Iterator[Finding]:
    """Name the chains that are not there any more, by their places among the archived heads."""
    wanted = set(places)
    for place, head in enumerate(head_lines(sealed) if wanted else ()):
        if place in wanted:
            where = f"audit_vault, chain {shown(head.chain_key)}, position {head.position}"
            detail = f"{sealed.manifest.archive} holds {head.hash} there; the chain is gone"
            yield Finding(Code.CONTINUITY_CHAIN_MISSING, where, detail)


def _read_logs(sealed: SealedSet, directory: Path) -> Iterator[Finding]:
    """Look whether each read log begins with the leaves that it had, in the hashing of the era that archived them."""
    old = {tree.org: tree for tree in sealed.manifest.read_logs}
    roots = _roots(directory, sealed.manifest.chain.era, {org: tree.size for org, tree in old.items()}) if old else {}
    for org, tree in old.items():
        if roots.get(org) != tree.root:
            found = "shorter now" if roots.get(org) is None else f"now {roots[org]}"
            detail = f"{sealed.manifest.archive} has the root {tree.root} over {tree.size} leaves; {found}"
            where = f"org_admin_reads, org {shown(org)}, tree_size {tree.size}"
            yield Finding(Code.CONTINUITY_READ_LOG_REWRITTEN, where, detail)


def _roots(directory: Path, era: Era, sizes: dict[str, int]) -> dict[str, str]:
    """Give the root over the first so many leaves of each org, where there are that many."""
    leaves: dict[str, list[ReadRow]] = {org: [] for org in sizes}
    _, files = dump_files(directory, None)
    with open_rows(files["org_admin_reads"], ReadRow) as rows:
        for row in rows.rest():
            if org_name(row) in leaves:
                leaves[org_name(row)].append(row)
    found = {org: roots_at(era, stored_digests(leaves[org], era), [size]) for org, size in sizes.items()}
    return {org: found[org][size].hex() for org, size in sizes.items() if size in found[org]}


def _keys(sealed: SealedSet, directory: Path) -> Iterator[Finding]:
    now = registry_rows(directory)
    for key_id, before in registry_rows(sealed.directory).items():
        after = now.get(key_id)
        where = f"{REGISTRY}, key {shown(key_id)}"
        archive = sealed.manifest.archive
        if after is None:
            yield Finding(Code.CONTINUITY_KEY_MISSING, where, f"{archive} has it")
            continue
        columns = [column for column in LASTING if after.get(column) != before.get(column)]
        yield from (_changed(Code.CONTINUITY_KEY_CHANGED, archive, column, before, after) for column in columns)
        if before.get("retired_at") or before.get("status") == "retired":
            again = [column for column in ENDING if after.get(column) != before.get(column)]
            yield from (_changed(Code.CONTINUITY_KEY_REVIVED, archive, column, before, after) for column in again)


def _changed(code: Code, archive: str, column: str, before: dict[str, str], after: dict[str, str]) -> Finding:
    detail = f"{column} was {shown(before.get(column))} in {archive}, is {shown(after.get(column))}"
    return Finding(code, f"{REGISTRY}, key {shown(before['key_id'])}", detail)


def _counts(sealed: SealedSet, counts: dict[str, int]) -> Iterator[Finding]:
    for table, before in sealed.manifest.counts.items():
        after = counts.get(table, 0)
        if after < before:
            detail = f"{before} rows in {sealed.manifest.archive}, {after} now"
            yield Finding(Code.CONTINUITY_COUNT_FELL, table, detail)
