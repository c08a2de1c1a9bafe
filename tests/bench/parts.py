"""What is measured, in its order: nights and restores of all contenders in turn, verification, export, sizes."""

from __future__ import annotations

import contextlib
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

import msgspec
import psycopg

from bench.contenders import (
    OURS,
    BorgVault,
    Contender,
    Floor,
    Step,
    contenders,
    phases_of_checks,
    phases_of_create,
    tidy,
)
from bench.measuring import Cost, measured
from bench.results import Part, Sample, stored_bytes
from bench.vaults import Source
from bench.verifying import Verified
from borg_vault_plugin.chain.ranges import processors
from borg_vault_plugin.process import plain_environment
from borg_vault_plugin.sample import SampleVault
from borg_vault_plugin.sample.plan import Onto

Say = Callable[[str], None]
SCALE_NIGHTS = 2
MEGABYTE = 1_000_000


@dataclass(frozen=True, slots=True)
class Plan:
    """How much is measured; the defaults are those of `make bench`."""

    entries: int = 100_000
    rounds: int = 3
    nights: int = 5
    """After the first."""
    series: tuple[Onto, ...] = ("youngest", "everywhere")
    sizes: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Of:
    """What is being measured, before anything is known about it."""

    entries: int
    series: str
    round: int
    night: int
    scale: bool = False


@dataclass(slots=True)
class Bench:
    """A run of the harness: where it happens, and what it has found so far."""

    plan: Plan
    directory: Path
    source: Source
    say: Say
    samples: list[Sample] = field(default_factory=list)
    vault: dict[str, int] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)

    def nights(self, vault: SampleVault) -> None:
        """Measure the first night and those that follow, and the way back, of all contenders in turn."""
        for number in range(1, self.plan.rounds + 1):
            for series in self.plan.series:
                self.say(f"round {number} of {self.plan.rounds}, new entries on {series} records")
                with self._part() as place:
                    self._series(contenders(place, self.source), vault, series, number)

    def proofs(self, vault: SampleVault) -> None:
        """Measure staging, the export of the chain, and verification by number of processes."""
        for number in range(1, self.plan.rounds + 1):
            self.say(f"round {number} of {self.plan.rounds}, export and verification")
            with self._part() as place:
                self._proof(BorgVault(place / "borg-vault", self.source), vault, number)

    def sizes(self) -> None:
        """Measure how everything changes with the size of the vault."""
        for entries in self.plan.sizes:
            self.say(f"a vault of {entries:,} entries")
            vault = self.source.load(entries)
            with self._part() as place:
                floor, ours = Floor(place / "floor", self.source), BorgVault(place / "borg-vault", self.source)
                self._size(floor, ours, vault, entries)
            self.source.forget(entries)

    def _series(self, field: list[Contender], vault: SampleVault, series: Onto, number: int) -> None:
        for contender in field:
            contender.prepare()
        grown = self.source.begin(self.plan.entries, vault)
        self.vault = self.vault or self.source.facts()
        for night in range(self.plan.nights + 1):
            if night:
                self.source.grow(grown, self.plan.entries, series)
            for contender in in_turn(field, f"{series} {number} {night}"):
                self._night(contender, Of(self.plan.entries, series, number, night))
        if series == "youngest":
            for contender in in_turn(field, f"restore {number}"):
                self._restore(contender, Of(self.plan.entries, series, number, night))

    def _proof(self, ours: BorgVault, vault: SampleVault, number: int) -> None:
        ours.prepare()
        grown = self.source.begin(self.plan.entries, vault)
        before = self._staged(ours, number, 0)
        self.source.grow(grown, self.plan.entries, "youngest")
        self._staged(ours, number, 1)
        of = Of(self.plan.entries, "youngest", number, 1)
        chain = self._exported(ours, of)
        for jobs in sorted({1, 2, processors()}):
            self._verify(chain, None, of, jobs)
            self._verify(chain, before, of, jobs)

    def _size(self, floor: Floor, ours: BorgVault, vault: SampleVault, entries: int) -> None:
        both: tuple[Contender, ...] = (floor, ours)
        for contender in both:
            contender.prepare()
        grown = self.source.begin(entries, vault)
        for night in range(SCALE_NIGHTS + 1):
            if night:
                self.source.grow(grown, entries, "youngest")
            for contender in both[:: 1 if night % 2 else -1]:
                self._night(contender, Of(entries, "youngest", 1, night, scale=True))
        last = Of(entries, "youngest", 1, SCALE_NIGHTS, scale=True)
        for contender in both:
            self._restore(contender, last)
        self._verify(self._exported(ours, last), None, last, processors())

    def _night(self, contender: Contender, of: Of) -> None:
        before = stored_bytes(contender.stored)
        cost, phases, _ = self._steps(contender, contender.night(of.night))
        after = stored_bytes(contender.stored)
        self._add(sample("night", contender.name, of, cost, phases, added_bytes=after - before, stored_bytes=after))
        tidy(contender)

    def _restore(self, contender: Contender, of: Of) -> None:
        if isinstance(contender, BorgVault):
            self.source.no_database()
            drill = contender.step("drill", "drill", "--json", phases=phases_of_checks)
            cost, phases, _ = self._steps(contender, [drill])
            self._add(sample("drill", contender.name, of, cost, phases))
        else:
            self.source.empty_database()
        cost, phases, _ = self._steps(contender, contender.restore(), self.source.fresh.pid)
        if not self.source.restored_entries():
            raise RuntimeError(f"{contender.name} has restored nothing")
        self._add(sample("restore", contender.name, of, cost, phases))
        self.source.no_database()
        tidy(contender)

    def _staged(self, ours: BorgVault, number: int, night: int) -> Path:
        target = ours.directory / f"staged-{night}"
        step = ours.step("stage", "stage", target, "--json", phases=phases_of_create)
        cost, phases, _ = self._steps(ours, [step])
        self._add(sample("stage", ours.name, Of(self.plan.entries, "youngest", number, night), cost, phases))
        return target

    def _exported(self, ours: BorgVault, of: Of) -> Path:
        target = ours.directory / "chain"
        cost, phases, output = self._steps(ours, [ours.step("export", "dump-chain", target)])
        counted = msgspec.json.decode(output)["counts"]["audit_vault"]
        self._add(sample("export", ours.name, of, cost, phases, verified=counted))
        return target

    def _verify(self, chain: Path, before: Path | None, of: Of, jobs: int) -> None:
        words = [sys.executable, "-m", "bench.verifying", str(chain), str(jobs), *([str(before)] if before else [])]
        environment = plain_environment({"PYTHONPATH": str(Path(__file__).parents[1])})
        with self._place() as work:
            output, cost = measured(words, env=environment, directory=work)
        done = msgspec.json.decode(output, type=Verified)
        if bool(before) != bool(done.carried):
            raise RuntimeError(f"{chain}: {done.carried} signatures were carried over")
        phases, mode = {"verify": round(done.seconds, 3)}, "nightly" if before else "full"
        self._add(sample("verification", OURS, of, cost, phases, mode=mode, jobs=jobs, verified=done.entries))

    def _steps(
        self, contender: Contender, steps: list[Step], server: int | None = None
    ) -> tuple[Cost, dict[str, float], bytes]:
        """Run steps one after the other; give their cost together, all phases, and the last one's output."""
        costs: list[Cost] = []
        phases: dict[str, float] = {}
        output = b""
        for step in steps:
            output, cost = measured(
                step.command, env=step.env, directory=contender.work, server=server or self.source.cluster.pid
            )
            within = step.phases(output) if step.phases else {}
            # What a program does not count itself: its own start and end and, of a restore, looking and extracting.
            within |= {"the rest" if step.phases else step.name: cost.seconds - sum(within.values())}
            phases |= {name: round(seconds, 3) for name, seconds in within.items()}
            costs.append(cost)
        total = costs[0]
        for cost in costs[1:]:
            total = total.then(cost)
        return total, phases, output

    def _add(self, sample: Sample) -> None:
        self.samples.append(sample)
        cost = sample.cost
        what = " ".join(filter(None, (sample.part, sample.mode, f"{sample.jobs} processes" if sample.jobs else "")))
        night = f" {sample.night}" if sample.part == "night" else ""
        added = "" if sample.added_bytes is None else f", +{sample.added_bytes / MEGABYTE:,.1f} MB"
        self.say(f"  {sample.contender:<26}{what + night:<32}{cost.seconds:>8.2f} s{added}")

    @contextlib.contextmanager
    def _part(self) -> Iterator[Path]:
        """Give a part a directory; one that fails is noted, and the others go on."""
        try:
            with self._place() as place:
                yield place
        except (RuntimeError, OSError, psycopg.Error) as error:
            self.failures.append(str(error))
            self.say(f"  FAILED: {error}")

    @contextlib.contextmanager
    def _place(self) -> Iterator[Path]:
        directory = Path(tempfile.mkdtemp(prefix="part-", dir=self.directory))
        try:
            yield directory
        finally:
            shutil.rmtree(directory, ignore_errors=True)


def in_turn(field: list[Contender], when: str) -> list[Contender]:
    """Mix the contenders, in every run alike: nobody always comes first, or always after the same one."""
    return Random(when).sample(field, len(field))  # noqa: S311 - nothing here is secret


def sample(
    part: Part,
    contender: str,
    of: Of,
    cost: Cost,
    phases: dict[str, float],
    *,
    added_bytes: int | None = None,
    stored_bytes: int | None = None,
    mode: str = "",
    jobs: int = 0,
    verified: int = 0,
) -> Sample:
    """Make a sample."""
    return Sample(
        part=part,
        contender=contender,
        entries=of.entries,
        cost=cost,
        phases=phases,
        series=of.series,
        round=of.round,
        night=of.night,
        scale=of.scale,
        added_bytes=added_bytes,
        stored_bytes=stored_bytes,
        mode=mode,
        jobs=jobs,
        verified=verified,
    )
