"""Verifying an exported chain in a process of its own: `python -m bench.verifying DIR JOBS [SET OF THE NIGHT BEFORE]`.

With a set of the night before, signatures that it proves are carried over, as in a nightly run.
"""

from __future__ import annotations

import secrets
import sys
import time
from pathlib import Path

import msgspec

from borg_vault_plugin.chain.verification import Past, verify_directory
from borg_vault_plugin.predecessor import Predecessors, past_of, read_evidence


class Verified(msgspec.Struct, frozen=True):
    """What was verified, and in which time."""

    entries: int
    checked: int
    carried: int
    seconds: float


def verify(directory: Path, jobs: int, before: Path | None) -> Verified:
    """Verify a chain; what the night before proves is read within the time. Raises RuntimeError unless it passes."""
    begun = time.monotonic()
    past: Past | None = None
    if before is not None:
        past = past_of(Predecessors((read_evidence(before),)), secrets.token_bytes(16))
    found = verify_directory(directory, jobs=jobs, past=past)
    seconds = time.monotonic() - begun
    if found.verdict != "passed":
        raise RuntimeError(f"{directory}: {found.verdict} {found.reasons or found.findings[:1]}")
    return Verified(found.counts["audit_vault"], found.signatures_checked, found.signatures_carried, seconds)


if __name__ == "__main__":
    done = verify(Path(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]) if sys.argv[3:] else None)
    sys.stdout.buffer.write(msgspec.json.encode(done))
