"""The checks by which an archive and what was rebuilt from it are proven; a drill and a restore share them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from itertools import islice

from borg_vault_plugin.acceptance import still_open
from borg_vault_plugin.archive import Archive
from borg_vault_plugin.chain.source import NotCheckedError
from borg_vault_plugin.chain.tally import MOST_FINDINGS
from borg_vault_plugin.clients import Clients
from borg_vault_plugin.dump import check_dump
from borg_vault_plugin.errors import SourceError
from borg_vault_plugin.gate import Rules, judge
from borg_vault_plugin.process import TimeoutExpired
from borg_vault_plugin.progress import Progress
from borg_vault_plugin.recovery.comparison import compare
from borg_vault_plugin.recovery.drill_report import Minutes, Outcome
from borg_vault_plugin.recovery.rebuild import DUMP
from borg_vault_plugin.recovery.reexport import chain_differences, registry_differences
from borg_vault_plugin.recovery.target import Target
from borg_vault_plugin.report import Chain, Continuity, Finding
from borg_vault_plugin.sealed_set import SealedSet, check_files, demand_manifest_of, unknown_files

SHOWN = 5


def look_at_files(sealed: SealedSet, minutes: Minutes, progress: Progress, archive: Archive | None = None) -> bool:
    """Check that every file is what the manifest says; of an archive also its comment, and that there is nothing else.

    Like every function here it notes what became of the check, and says whether it passed.
    """

    def look() -> Outcome:
        findings = list(islice(check_files(sealed, progress), MOST_FINDINGS))
        if archive is not None:
            demand_manifest_of(archive, sealed)
            findings += unknown_files(sealed)
        minutes.findings += findings
        if findings:
            return "failed", several([f"{one.where}: {one.code}: {one.detail}" for one in findings])
        size = sum(artifact.size for artifact in sealed.manifest.artifacts)
        return "passed", f"{len(sealed.manifest.artifacts)} artifacts, {size} bytes"

    return minutes.check("files", look)


def read_dump(sealed: SealedSet, clients: Clients, minutes: Minutes) -> bool:
    """Check that the client that will restore the dump reads it to its end."""

    def read() -> Outcome:
        minutes.versions["pg_restore"] = clients.version
        try:
            check_dump(sealed.directory / DUMP, clients, ())
        except OSError as error:
            raise NotCheckedError(f"{DUMP} cannot be read: {error.strerror}") from error
        except SourceError as error:
            if isinstance(error.__cause__, OSError | TimeoutExpired):
                raise NotCheckedError(str(error)) from error
            raise
        return "passed", f"pg_restore {clients.version}"

    return minutes.check("dump", read)


def verify_chain(sealed: SealedSet, rules: Rules, minutes: Minutes, progress: Progress) -> bool:
    """Check every signature of the archived chain, and its continuity with predecessors; one walk serves both.

    The chain of a vault that was known to be empty when it was archived may be so.
    """
    empty = rules.predecessors.empty_before or sealed.manifest.chain.verdict == "not_applicable"
    whole = replace(rules, predecessors=replace(rules.predecessors, empty_before=empty), carry=False)

    def verify() -> Outcome:
        judgement = judge(sealed.directory, sealed.manifest.artifacts, (), whole, progress)
        minutes.findings += [*judgement.chain.findings, *judgement.continuity.findings]
        minutes.note("continuity", *_continuity(judgement.continuity))
        return _chain(judgement.chain, rules.anchors)

    minutes.check("chain", verify)
    return minutes.checks["chain"].verdict in ("passed", "not_applicable")


def prove_database(sealed: SealedSet, target: Target, minutes: Minutes) -> bool:
    """Check that a rebuilt database holds what was archived, and gives back the archived bytes."""
    same = minutes.check("database", partial(_compare, sealed, target))
    minutes.is_recovered()
    registry = minutes.check("registry", partial(_export_registry, sealed, target))
    return minutes.check("export", partial(_export_chain, sealed, target)) and registry and same


def several(told: Sequence[str]) -> str:
    """Give the first of several things that are to be told, and how many more there are."""
    more = f" and {len(told) - SHOWN} more" if len(told) > SHOWN else ""
    return "; ".join(told[:SHOWN]) + more


def _compare(sealed: SealedSet, target: Target) -> Outcome:
    comparison = compare(sealed, target)
    if comparison.differences:
        return "failed", several(comparison.differences)
    if comparison.uncounted and not comparison.counted:
        raise NotCheckedError("no table was counted when the archive was made: set database.table_digests = true")
    uncounted = f"; rows not counted in {several(comparison.uncounted)}" if comparison.uncounted else ""
    return "passed", comparison.compared + uncounted


def _export_registry(sealed: SealedSet, target: Target) -> Outcome:
    with target.reading() as connection:
        return _same(list(registry_differences(connection, sealed)), "the same bytes")


def _export_chain(sealed: SealedSet, target: Target) -> Outcome:
    with target.reading() as connection:
        differences = list(chain_differences(connection, sealed))
    rows = sum(sealed.manifest.counts.values())
    return _same(differences, f"the same bytes: {rows} rows in {len(sealed.manifest.counts)} files, and every head")


def _same(differences: Sequence[str], passed: str) -> Outcome:
    return ("failed", several(differences)) if differences else ("passed", passed)


def _chain(chain: Chain, anchors: Sequence[str]) -> Outcome:
    if chain.verdict == "failed":
        return "failed", f"{chain.failure_count} findings: {_open(chain.findings)}"
    keys = "under keys that were pinned" if anchors else "under the archive's own keys"
    accepted = f"; {chain.accepted} accepted findings" if chain.accepted else ""
    counted = f"{chain.signatures_checked} signatures of {chain.chains} chains, {keys}{accepted}"
    return chain.verdict, chain.reason or counted


def _continuity(continuity: Continuity) -> Outcome:
    if continuity.verdict == "failed":
        return "failed", _open(continuity.findings)
    if continuity.verdict == "not_applicable":
        return "not_applicable", "there is no good archive before this one"
    return continuity.verdict, continuity.reason or f"everything in {continuity.previous} is still there"


def _open(findings: Sequence[Finding]) -> str:
    return several([f"{one.code} at {one.where}" for one in still_open(findings)])
