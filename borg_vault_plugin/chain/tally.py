"""What verification has found and counted, in memory that the number of findings does not move."""

from __future__ import annotations

from array import array
from dataclasses import dataclass, field

from borg_vault_plugin.chain.entries import Proof
from borg_vault_plugin.report import Finding

MOST_FINDINGS = 1_000


@dataclass(slots=True)
class Tally:
    """What was found and counted, as far as one has come; findings are kept up to a limit, and counted beyond."""

    chains: int = 0
    entries: int = 0
    checked: int = 0
    carried: int = 0
    joined: int = 0
    """Checkpoints that belong to one of the chains."""
    failures: int = 0
    findings: list[Finding] = field(default_factory=list)
    breaks: int = 0
    broken: list[Finding] = field(default_factory=list)
    """Where a chain does not lead through its archived head."""

    def found(self, finding: Finding | None) -> None:
        """Count a finding if there is one."""
        if finding is not None:
            self.failures += 1
            if len(self.findings) < MOST_FINDINGS:
                self.findings.append(finding)

    def missed(self, finding: Finding) -> None:
        """Count a chain that does not lead through its archived head."""
        self.breaks += 1
        if len(self.broken) < MOST_FINDINGS:
            self.broken.append(finding)

    def proved(self, proof: Proof | None) -> None:
        """Count by what something is held."""
        self.checked += proof is Proof.SIGNATURE
        self.carried += proof is Proof.CARRIED

    def add(self, other: Tally) -> None:
        """Count what another tally holds as coming after this one."""
        self.chains += other.chains
        self.entries += other.entries
        self.checked += other.checked
        self.carried += other.carried
        self.joined += other.joined
        self.failures += other.failures
        self.findings.extend(other.findings[: MOST_FINDINGS - len(self.findings)])
        self.breaks += other.breaks
        self.broken.extend(other.broken[: MOST_FINDINGS - len(self.broken)])


@dataclass(slots=True)
class RangeReport:
    """What was found in one range of the file."""

    tally: Tally = field(default_factory=Tally)
    """All chains that were closed, those of schemas last."""
    records: array[int] = field(default_factory=lambda: array("Q"))
    """Digests of the keys of the records' chains, in the order of the file."""
    schemas: array[int] = field(default_factory=lambda: array("Q"))
    first_key: str = ""
    last_key: str = ""
    ascending: bool = True
    """Whether each of these keys is greater than the one before it, so that none can occur twice."""
    stopped: Finding | None = None
    """Why the walk went no further; chains that were open then are not in the tally."""
    schema_too_early: bool = False
    """Whether there is a row of a schema although the range does not reach to the end of the file."""
