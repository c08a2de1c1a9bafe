"""The findings of a report: what their codes mean, what to do next, and where each is."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from borg_vault_plugin.chain.codes import MEANINGS, Code, Meaning
from borg_vault_plugin.evidence.blocks import Column, note, paragraph, section, table
from borg_vault_plugin.evidence.markup import Markup, code, joined, value
from borg_vault_plugin.report import Finding, Verified
from borg_vault_plugin.wording import plural

MOST_FINDINGS = 1_000
KNOWN: dict[str, Meaning] = {str(known): meaning for known, meaning in MEANINGS.items()}
FOREIGN = Meaning(
    "reported by a plugin; what it means is not known here", "Look the code up in the documentation of the plugin."
)
ENDS_THE_WALK = frozenset({Code.CHAIN_EMPTY, Code.UNSUPPORTED_FORMAT})
FIRST_ONLY = (
    "Of an entry only the first check that fails is reported, and the later ones are not made; of a read log the first"
    " leaf that fails ends the verification of its organisation."
)
ENDED = (
    "CHAIN_EMPTY and UNSUPPORTED_FORMAT end the walk through the entries: what would have come after was not checked."
)


def accepted(finding: Finding) -> str | None:
    """Give the reason for which an operator has accepted a finding."""
    reason = getattr(finding, "accepted", None)
    return reason if isinstance(reason, str) else None


def findings_section(report: Verified) -> Iterator[Markup]:
    """Give the section about a report's findings, if it has any."""
    if not report.findings:
        return
    shown = report.findings[:MOST_FINDINGS]
    known = sum(accepted(finding) is not None for finding in report.findings)
    told = f"{plural(report.failure_count, 'finding')}{f', besides {known:,} accepted' if known else ''}."
    if report.failure_count + known > len(shown):
        told += f" The first {len(shown):,} are shown."
    ended = [note(ENDED)] if any(finding.code in ENDS_THE_WALK for finding in shown) else []
    yield section("Findings", paragraph(told), note(FIRST_ONLY), *ended, _codes(shown), _rows(shown))


def _codes(shown: Sequence[Finding]) -> Markup:
    columns = (Column("Code"), Column("Shown", number=True), Column("What it means"), Column("What to do next"))
    counts = Counter(finding.code for finding in shown)
    rows = (
        (code(name), f"{count:,}", f"{meaning.means[:1].upper()}{meaning.means[1:]}.", meaning.next_step)
        for name, count, meaning in ((name, count, KNOWN.get(name, FOREIGN)) for name, count in counts.items())
    )
    return table("What the codes mean", columns, rows)


def _rows(shown: Sequence[Finding]) -> Markup:
    columns = (Column("Code"), Column("Where"), Column("What was expected and found"))
    rows = (
        (code(finding.code), value(finding.where), joined(value(finding.detail), _reason(finding))) for finding in shown
    )
    return table("Every finding, in the order of the files", columns, rows)


def _reason(finding: Finding) -> Markup:
    reason = accepted(finding)
    return Markup("") if reason is None else note("Accepted by an operator: ", value(reason))
