"""What a run of the harness gives: every sample, the machine and the versions, as bench.json keeps them."""

from __future__ import annotations

import os
import platform
from collections.abc import Callable, Iterable
from datetime import datetime
from pathlib import Path
from typing import Literal

import msgspec

from bench.measuring import Cost
from borg_vault_plugin.chain.ranges import processors

Part = Literal["night", "restore", "drill", "stage", "export", "verification"]
FORMAT = 1


class Sample(msgspec.Struct, frozen=True, kw_only=True):
    """One measurement: who did what, on how large a vault, and what it took."""

    part: Part
    contender: str
    entries: int
    """Of the vault before it grew."""
    cost: Cost
    phases: dict[str, float]
    """Seconds of each."""
    series: str = ""
    """Where new entries go: `youngest` or `everywhere`."""
    round: int = 1
    night: int = 0
    """0 is the first."""
    scale: bool = False
    """Whether it belongs to the series of sizes."""
    added_bytes: int | None = None
    """What the night added to the place where nights are kept."""
    stored_bytes: int | None = None
    """What lies there after it."""
    mode: str = ""
    """Of a verification: `full` or `nightly`."""
    jobs: int = 0
    verified: int = 0
    """Entries that were verified, or exported."""


class Machine(msgspec.Struct, frozen=True):
    """Where it was measured."""

    processor: str
    cores: int
    instructions: tuple[str, ...]
    """Those that encryption and hashing are quick with, as far as they are there."""
    memory_bytes: int
    system: str
    load_before: float
    """Processes that wanted a processor in the minute before: 0 on a quiet machine."""


class Results(msgspec.Struct, frozen=True, kw_only=True):
    """A whole run."""

    format: int = FORMAT
    time: datetime
    seconds: float
    """Of the whole run."""
    entries: int
    rounds: int
    nights: int
    sizes: tuple[int, ...]
    machine: Machine
    versions: dict[str, str]
    encryption: str
    compression: str
    vault: dict[str, int]
    """Entries and bytes of the database, before it grew."""
    missing: tuple[str, ...]
    """Contenders that are not installed here."""
    failures: tuple[str, ...]
    """What commands that failed said last; what would have followed them is not in the samples."""
    samples: tuple[Sample, ...]

    def chosen(self, accept: Callable[[Sample], bool]) -> list[Sample]:
        """Give the samples that are wanted."""
        return [sample for sample in self.samples if accept(sample)]


def machine() -> Machine:
    """Describe this machine."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    names = dict(line.replace("\t", "").split(":", 1) for line in reversed(lines) if ":" in line)
    flags = names.get("flags", "").split()
    return Machine(
        processor=names.get("model name", platform.machine()).strip(),
        cores=processors(),
        instructions=tuple(flag for flag in ("aes", "avx2", "avx512f", "sha_ni", "vaes") if flag in flags),
        memory_bytes=os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        system=platform.platform(),
        load_before=round(os.getloadavg()[0], 2),
    )


def write(results: Results, path: Path) -> None:
    """Write results as JSON; the file has its name when it is whole."""
    partial = path.with_name(f".{path.name}.partial")
    partial.write_bytes(msgspec.json.format(msgspec.json.encode(results), indent=1) + b"\n")
    partial.rename(path)


def read(path: Path) -> Results:
    """Read what `write` has written."""
    return msgspec.json.decode(path.read_bytes(), type=Results)


def sizes_up_to(largest: int) -> tuple[int, ...]:
    """Give the sizes of the series: 10,000, 30,000, 100,000 and so on, and the largest."""
    steps = [factor * 10**power for power in range(4, 8) for factor in (1, 3)]
    return (*(step for step in steps if step < largest), largest)


def stored_bytes(directory: Path) -> int:
    """Give the sizes of all files below a directory."""
    return sum(path.stat().st_size for path in walk(directory))


def walk(directory: Path) -> Iterable[Path]:
    """Give all files below a directory."""
    return (path for path in directory.rglob("*") if path.is_file())
