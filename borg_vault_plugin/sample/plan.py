"""What a vault will contain, decided before anything is signed: which entry of which record happens when.

A vault is its shape and the days it has grown by; everything else follows from these two. Records are
numbered in the order of their creation. Times are whole microseconds since 1970.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import cached_property
from typing import Literal

from borg_vault_plugin.sample.envelope import Actor
from borg_vault_plugin.sample.keys import Algorithm, SigningKey, signing_key
from borg_vault_plugin.sample.rows import noise, uuid7, uuid_text

Era = Literal["v1", "v2"]
Onto = Literal["youngest", "everywhere"]

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
SECOND = 1_000_000
HOUR = 3600 * SECOND
DEFAULT_SPAN = timedelta(days=40)


@dataclass(frozen=True, slots=True)
class VaultShape:
    """How large a vault is and what occurs in it; two equal shapes give the same bytes."""

    seed: int = 1
    era: Era = "v2"
    """v2 has key statements, chain keys on checkpoints, and the read log's tree of RFC 9162."""
    records: int = 100
    entries_per_record: int = 5
    orgs: int = 2
    reads_per_org: int = 20
    filler_bytes: int = 0
    """Length of a random text in every entry of a record."""
    start: datetime = datetime(2026, 5, 1, tzinfo=UTC)
    """Time of the first entry; aware."""
    step: timedelta | None = None
    """Time from one entry to the next; None spreads all entries over 40 days."""
    rotations: int = 2
    algorithms: tuple[Algorithm, ...] = ("Ed25519", "ES256")
    """Taken in turn by the keys."""
    checkpoint_every: int = 1
    """Every n-th record has a checkpoint at its head, after the first load and after each day; 0: none has."""
    unsigned_entries: int = 0
    """This many entries were written before the first key was activated."""


@dataclass(frozen=True, slots=True)
class Day:
    """One day by which a vault has grown."""

    start: int
    """Later than anything before it; a new key is activated at this instant."""
    end: int
    """Nothing that belongs to the day is later than this."""
    first_record: int
    """Number of the first record that was created on this day."""
    end_record: int
    slots: Mapping[int, tuple[int, ...]]
    """For each record with new entries, their times."""
    updated: frozenset[int]
    """Records whose row was changed in the database."""
    rotate: bool


@dataclass(frozen=True)
class Plan:
    """The shape of a vault and the days it has grown by."""

    shape: VaultShape
    days: tuple[Day, ...] = ()

    @cached_property
    def start(self) -> int:
        """Time of the first entry."""
        return microseconds(self.shape.start)

    @cached_property
    def step(self) -> int:
        """Time between two entries, at least 1 microsecond."""
        entries = max(1, self.shape.records * self.shape.entries_per_record)
        return max(1, (self.shape.step or DEFAULT_SPAN / entries) // timedelta(microseconds=1))

    @cached_property
    def span(self) -> int:
        """Duration of the vault before it grew."""
        return max(1, self.shape.records * self.shape.entries_per_record) * self.step

    @cached_property
    def end(self) -> int:
        """An instant after everything that is in the vault."""
        return self.days[-1].end if self.days else self.start + self.span + SECOND

    @cached_property
    def records(self) -> int:
        """Number of records, those of the days included."""
        return self.days[-1].end_record if self.days else self.shape.records

    @cached_property
    def activations(self) -> tuple[int, ...]:
        """When each key was activated; each retires the one before it."""
        unsigned = self.shape.unsigned_entries
        first = self.start + unsigned * self.step if unsigned else self.start - HOUR
        parts = self.shape.rotations + 1
        inside = [self.start + self.span * part // parts + 457 for part in range(1, parts)]
        return (first, *inside, *(day.start for day in self.days if day.rotate))

    def key(self, index: int) -> SigningKey:
        """Give key number `index`."""
        algorithms = self.shape.algorithms
        return signing_key(self.shape.seed, index, algorithms[index % len(algorithms)])

    def key_at(self, instant: int) -> SigningKey | None:
        """Give the key that signs at an instant; None before the first activation."""
        index = bisect_right(self.activations, instant) - 1
        return None if index < 0 else self.key(index)

    def slot(self, number: int) -> int:
        """Give the time of a slot: one of the evenly spaced instants, moved by a part of a step."""
        return self.start + number * self.step + number * 7919 % self.step

    def instants(self, record: int) -> list[int]:
        """Give the times of a record's entries, in order."""
        records, each = self.shape.records, self.shape.entries_per_record
        base = [self.slot(turn * records + record) for turn in range(each)] if record < records else []
        return base + [instant for day in self.days for instant in day.slots.get(record, ())]

    def checkpointed(self, record: int) -> list[int]:
        """Give the positions of a record's chain that have a checkpoint."""
        every = self.shape.checkpoint_every
        if not every or record % every:
            return []
        counts = [self.shape.entries_per_record if record < self.shape.records else 0]
        counts += [len(day.slots.get(record, ())) for day in self.days]
        return [sum(counts[: index + 1]) for index, count in enumerate(counts) if count]

    def created(self, record: int) -> int:
        """Give the time at which a record was created."""
        if record < self.shape.records:
            return self.slot(record)
        return next(day.slots[record][0] for day in self.days if record < day.end_record)

    def record_id(self, record: int) -> str:
        """Give a record's identifier; identifiers sort like records."""
        return uuid7(self.created(record), self.shape.seed, "record", record)

    def version(self, record: int) -> int:
        """Give how often a record's row was written."""
        return 1 + sum(record in day.updated for day in self.days)

    def org_of(self, record: int) -> int:
        """Give the number of the org that a record belongs to."""
        return record % self.shape.orgs

    def org_id(self, org: int) -> str:
        """Give an org's identifier."""
        return uuid7(self.start - 2 * HOUR + org, self.shape.seed, "org", org)

    @cached_property
    def administrators(self) -> tuple[Actor, ...]:
        """Each org's administrator, whom the org itself owns."""
        return tuple(Actor(self.key_owned(org, "admin"), "admin", self.org_id(org)) for org in range(self.shape.orgs))

    @cached_property
    def agents(self) -> tuple[Actor, ...]:
        """Each org's agent."""
        return tuple(Actor(self.key_owned(org, "agent"), "agent", self.agent_id(org)) for org in range(self.shape.orgs))

    def key_owned(self, org: int, role: str) -> str:
        """Give the identifier of the API key with which an org's administrator or agent signs in."""
        return uuid7(self.start - 2 * HOUR + org, self.shape.seed, role, "key", org)

    def agent_id(self, org: int) -> str:
        """Give the identifier of an org's agent."""
        return uuid7(self.start - 2 * HOUR + org, self.shape.seed, "agent", org)

    def noise(self, *labels: object) -> bytes:
        """Give 16 bytes that depend on the seed and the labels."""
        return noise(self.shape.seed, *labels)

    def random_id(self, *labels: object) -> str:
        """Give a UUIDv4 that depends on the seed and the labels."""
        value = bytearray(self.noise(*labels))
        value[6], value[8] = value[6] & 0x0F | 0x40, value[8] & 0x3F | 0x80
        return uuid_text(bytes(value))


def grown(plan: Plan, *, entries: int, onto: Onto, rotate: bool, records_updated: int, at: datetime | None) -> Plan:
    """Give the plan of the same vault one day later.

    `at` is the start of the day, by default one hour after the end of what there is.
    Raises ValueError if `at` is before that end.
    """
    start = plan.end + HOUR if at is None else microseconds(at)
    if start < plan.end:
        raise ValueError(f"the day would start before {utc_text(plan.end)}, where the vault ends")
    slots: defaultdict[int, tuple[int, ...]] = defaultdict(tuple)
    for number, record in enumerate(placements(plan, entries, onto), start=1):
        slots[record] += (start + number * plan.step + number * 7919 % plan.step,)
    day = Day(
        start=start,
        end=start + (entries + 1) * plan.step + SECOND,
        first_record=plan.records,
        end_record=max(plan.records, 1 + max(slots, default=-1)),
        slots=dict(slots),
        updated=frozenset(spread(records_updated, plan.records, len(plan.days))),
        rotate=rotate,
    )
    return replace(plan, days=(*plan.days, day))


def placements(plan: Plan, entries: int, onto: Onto) -> Iterator[int]:
    """Give the records that a day's entries go to, in order of time."""
    if onto == "everywhere":
        yield from spread(entries, plan.records, len(plan.days))
        return
    fresh = entries // 2 if plan.records else entries
    new_records = -(-fresh // plan.shape.entries_per_record)
    yield from (plan.records + number % new_records for number in range(fresh))
    young = max(1, plan.records // 20)
    yield from (plan.records - young + number % young for number in range(entries - fresh))


def spread(count: int, total: int, offset: int) -> Iterator[int]:
    """Choose `count` of `total` numbers at even distances; more than there are go round again."""
    if count and not total:
        raise ValueError("there is no record yet to choose from")
    if count > total:
        return ((number + offset) % total for number in range(count))
    return ((number * total // count + offset) % total for number in range(count))


def microseconds(time: datetime) -> int:
    """Give a time as microseconds since 1970."""
    return (time - EPOCH) // timedelta(microseconds=1)


def utc_text(instant: int) -> str:
    """Write an instant in RFC 3339 with six digits of fraction, in UTC."""
    return (EPOCH + timedelta(microseconds=instant)).replace(tzinfo=None).isoformat(timespec="microseconds") + "Z"
