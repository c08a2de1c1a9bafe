"""Making the chains of many records: in slices, one after another or in worker processes, in the order of records.

Chains do not depend on each other, so a slice can be made anywhere. Slices are bounded in size and only a
few are under way at a time: memory does not depend on the size of the vault.
"""

from __future__ import annotations

import multiprocessing
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import dataclass
from itertools import islice

import msgspec

from borg_vault_plugin.sample.chains import record_rows
from borg_vault_plugin.sample.plan import Plan
from borg_vault_plugin.sample.rows import Checkpoint

SLICE_ENTRIES = 4000
SLICE_BYTES = 8_000_000
# What an entry takes in a file without its filler, roughly; the filler is there twice, as JSON and in the envelope.
ENTRY_BYTES = 1_700

Line = Callable[[msgspec.Struct], bytes]


@dataclass(frozen=True, slots=True)
class Start:
    """Where to go on with a record's chain."""

    record: int
    after: int = 0
    """Position of the last entry that exists already."""
    digest: bytes | None = None
    """That entry's digest; None if there is none or nobody remembers it."""


@dataclass(frozen=True, slots=True)
class Slice:
    """Lines for two tables, made from the chains of some records, and the digests of the chains' heads."""

    entries: bytes
    checkpoints: bytes
    heads: list[tuple[int, bytes]]


def made_slice(plan: Plan, starts: list[Start], line: Line) -> Slice:
    """Sign and write out what comes after each start."""
    entries, checkpoints = bytearray(), bytearray()
    heads: dict[int, str] = {}
    for start in starts:
        for row in record_rows(plan, start.record, start.after, start.digest):
            if isinstance(row, Checkpoint):
                checkpoints += line(row)
                continue
            entries += line(row)
            heads[start.record] = row.payload_hash
    return Slice(bytes(entries), bytes(checkpoints), [(record, bytes.fromhex(head)) for record, head in heads.items()])


def slices(plan: Plan, starts: Iterable[Start], line: Line, processes: int) -> Iterator[Slice]:
    """Give the slices for all starts, in their order."""
    parts = batches(plan, starts)
    if processes == 1:
        yield from (made_slice(plan, part, line) for part in parts)
        return
    # A forked child would share the caller's database connections and locks.
    context = multiprocessing.get_context("forkserver")
    with ProcessPoolExecutor(processes, mp_context=context) as pool:
        yield from in_order(pool.submit(made_slice, plan, part, line) for part in parts)


def in_order(futures: Iterator[Future[Slice]]) -> Iterator[Slice]:
    """Give the results of futures, of which at most eight are submitted at a time."""
    waiting = deque(islice(futures, 8))
    while waiting:
        yield waiting.popleft().result()
        waiting.extend(islice(futures, 1))


def batches(plan: Plan, starts: Iterable[Start]) -> Iterator[list[Start]]:
    """Divide starts so that each part gives a bounded number of entries and bytes."""
    shape = plan.shape
    entries = min(SLICE_ENTRIES, SLICE_BYTES // (ENTRY_BYTES + 2 * shape.filler_bytes))
    size = max(1, entries // max(1, shape.entries_per_record))
    remaining = iter(starts)
    while part := list(islice(remaining, size)):
        yield part
