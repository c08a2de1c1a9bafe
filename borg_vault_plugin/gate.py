"""The gate: a staged set is verified and compared with its predecessors, and that gives its verdict."""

from __future__ import annotations

import logging
import secrets
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import msgspec

from borg_vault_plugin.acceptance import Accepted, marked, still_open
from borg_vault_plugin.archive import Verdict
from borg_vault_plugin.chain.codes import Code
from borg_vault_plugin.chain.readlog import TreeHead
from borg_vault_plugin.chain.source import NotCheckedError
from borg_vault_plugin.chain.tally import MOST_FINDINGS
from borg_vault_plugin.chain.verification import Past, Verification, verify_directory
from borg_vault_plugin.continuity import compare
from borg_vault_plugin.predecessor import Predecessors, past_of
from borg_vault_plugin.progress import Progress
from borg_vault_plugin.report import Chain, CheckVerdict, Continuity, Finding, chain_counts, staged_chain
from borg_vault_plugin.staging import Artifact

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Rules:
    """What a staged set is held against."""

    predecessors: Predecessors
    accepted: Accepted
    anchors: Sequence[str] = ()
    carry: bool = True
    """Whether signatures that a predecessor proved need not be verified again."""


@dataclass(frozen=True, slots=True)
class Judgement:
    """What became of a staged set at the gate."""

    verdict: Verdict
    chain: Chain
    continuity: Continuity
    read_logs: tuple[TreeHead, ...]


def judge(
    directory: Path, artifacts: tuple[Artifact, ...], others: Iterable[Finding], rules: Rules, progress: Progress
) -> Judgement:
    """Verify what is staged, compare it with what is archived, and give its verdict; `others` are plugins' findings."""
    verification = _verified(directory, rules, progress)
    counts = chain_counts(artifacts)
    continuity = _continuity(compare(rules.predecessors, directory, counts, verification), rules.accepted)
    chain = _chain(artifacts, verification, tuple(others), rules)
    return Judgement(_verdict(chain, continuity), chain, continuity, verification.trees)


def _verified(directory: Path, rules: Rules, progress: Progress) -> Verification:
    secret = secrets.token_bytes(16)
    try:
        past = past_of(rules.predecessors, secret)
        past = past if rules.carry else replace(past, proved=None)
    except NotCheckedError as error:
        logger.warning("nothing is carried over from the archive before: %s", error)
        past = Past(secret)
    return verify_directory(directory, anchors=rules.anchors, past=past, progress=progress)


def _chain(
    artifacts: tuple[Artifact, ...], verification: Verification, others: tuple[Finding, ...], rules: Rules
) -> Chain:
    findings = marked((*verification.findings, *others), rules.accepted)
    total = verification.failure_count + len(others)
    missing = still_open(findings)
    accepted = len(findings) - len(missing)
    failures = total - accepted
    return replace(
        staged_chain(artifacts),
        verdict=_chain_verdict(verification, missing, failures, rules),
        signatures_checked=verification.signatures_checked,
        signatures_carried=verification.signatures_carried,
        accepted=accepted,
        findings=findings[:MOST_FINDINGS],
        failure_count=failures or msgspec.UNSET,
        reason="; ".join(verification.unfinished) or msgspec.UNSET,
    )


def _chain_verdict(verification: Verification, missing: Sequence[Finding], failures: int, rules: Rules) -> CheckVerdict:
    empty = [one.code for one in missing] == [Code.CHAIN_EMPTY] and rules.predecessors.empty_before
    if empty and failures == 1:
        logger.warning("the vault is still empty: nothing in it could be verified")
        return "not_applicable"
    if failures:
        return "failed"
    return "passed" if verification.verdict != "not_checked" and verification.extension else "not_checked"


def _continuity(compared: Continuity, accepted: Accepted) -> Continuity:
    findings = marked(compared.findings, accepted)
    cut = len(findings) >= MOST_FINDINGS
    verdict: CheckVerdict = compared.verdict
    if verdict == "failed" and not cut and not still_open(findings):
        verdict = "not_checked" if compared.reason else "passed"
    return replace(compared, verdict=verdict, findings=findings)


def _verdict(chain: Chain, continuity: Continuity) -> Verdict:
    verdicts = {chain.verdict, continuity.verdict}
    if "failed" in verdicts:
        return "suspect"
    return "unverified" if "not_checked" in verdicts else "good"
