"""A whole run: the servers, the vault, every part in its order, and what was there."""

from __future__ import annotations

import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

from bench.contenders import BORGMATIC, COMPRESSION, ENCRYPTION, beside_python
from bench.measuring import adopting_orphans
from bench.parts import Bench, Plan, Say
from bench.results import Results, machine
from bench.vaults import Source, servers
from borg_vault_plugin.borg import find_borg
from borg_vault_plugin.manifest import program_version
from borg_vault_plugin.process import plain_environment, run

PROBE_SECONDS = 60.0


def measure(plan: Plan, say: Say) -> Results:
    """Measure everything; what a command that failed said last is in the results."""
    begun, here = time.monotonic(), machine()
    with (
        adopting_orphans(),
        tempfile.TemporaryDirectory(prefix="bench-") as place,
        servers(Path(place)) as source,
    ):
        bench = Bench(plan, Path(place), source, say)
        say(f"making a vault of {plan.entries:,} entries")
        vault = source.load(plan.entries)
        bench.nights(vault)
        bench.proofs(vault)
        source.forget(plan.entries)
        bench.sizes()
        versions = versions_of(source)
    return Results(
        time=datetime.now(UTC),
        seconds=round(time.monotonic() - begun, 1),
        entries=plan.entries,
        rounds=plan.rounds,
        nights=plan.nights,
        sizes=plan.sizes,
        machine=here,
        versions=versions,
        encryption=ENCRYPTION,
        compression=COMPRESSION,
        vault=bench.vault,
        missing=() if beside_python("borgmatic").exists() else (BORGMATIC,),
        failures=tuple(bench.failures),
        samples=tuple(bench.samples),
    )


def versions_of(source: Source) -> dict[str, str]:
    """Give the versions of all programs that took part."""
    asked: dict[str, list[str | Path]] = {
        "PostgreSQL": [source.program("postgres"), "--version"],
        "tar": ["tar", "--version"],
    }
    if beside_python("borgmatic").exists():
        asked["borgmatic"] = [beside_python("borgmatic"), "--version"]
    told = {
        name: run(command, env=plain_environment(), timeout=PROBE_SECONDS).stdout.decode().splitlines()[0].split()[-1]
        for name, command in asked.items()
    }
    ours = {"borg-vault": program_version().split()[-1], "Python": sys.version.split()[0], "Borg": find_borg().version}
    return ours | told
