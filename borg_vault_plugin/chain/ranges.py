"""Dividing audit_vault among processes: ranges of similar size, each beginning with a chain.

Chains do not depend on each other, so a range can be checked anywhere; reports are taken in the order of the file, so
that nothing in them tells how many processes there were.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from itertools import pairwise
from multiprocessing import forkserver

from borg_vault_plugin.chain.rows import CheckpointRow, EntryRow, UnreadableLineError
from borg_vault_plugin.chain.source import DumpFile, NotCheckedError, RowSource, open_rows
from borg_vault_plugin.chain.tally import RangeReport
from borg_vault_plugin.chain.walk import RangeWalk, Work, chain_key_of

RANGE_BYTES = 2_000_000
RANGES_PER_JOB = 16


@dataclass(frozen=True, slots=True)
class Range:
    """One part of the file, from the beginning of a chain to that of another or the end of the file."""

    start: int
    end: int
    to_end_of_file: bool


@dataclass(frozen=True, slots=True)
class Vault:
    """The two files in which chains are, and what they are checked with."""

    entries: DumpFile
    checkpoints: DumpFile
    work: Work

    def report(self, part: Range, stop_before: int | None = None) -> RangeReport:
        """Check one range. Raises NotCheckedError."""
        with (
            open_rows(self.entries, EntryRow, part.end) as entries,
            open_rows(self.checkpoints, CheckpointRow) as checkpoints,
        ):
            walk = RangeWalk(entries, checkpoints, self.work, to_end_of_file=part.to_end_of_file)
            return walk.run(part.start, stop_before)


def whole(entries: DumpFile) -> list[Range]:
    """Give the whole file as one range."""
    return [Range(0, entries.size, to_end_of_file=True)]


def ranges(entries: DumpFile, jobs: int) -> list[Range]:
    """Divide the file at the beginnings of records' chains, as far as it can be read."""
    count = min(entries.size // RANGE_BYTES, jobs * RANGES_PER_JOB)
    starts = [0]
    with open_rows(entries, EntryRow) as rows:
        for number in range(1, count):
            wanted = entries.size * number // count
            start = _chain_start(rows, wanted) if wanted > starts[-1] else starts[-1]
            if start is None:
                break
            if start > starts[-1]:
                starts.append(start)
    ends = [*starts[1:], entries.size]
    return [Range(start, end, end == entries.size) for start, end in zip(starts, ends, strict=True)]


def _chain_start(rows: RowSource[EntryRow], wanted: int) -> int | None:
    """Give where the first record's chain after an offset begins; None if schemas or unreadable rows come first."""
    try:
        row = rows.seek(rows.skip_line(wanted))
        key = None if row is None else chain_key_of(row)
        while row is not None and row.record_id is not None and chain_key_of(row) == key:
            row = rows.advance()
    except (UnreadableLineError, NotCheckedError):
        return None  # Whoever walks there says so, after what comes before it.
    return None if row is None or row.record_id is None else rows.offset


def processors() -> int:
    """Give how many processors there are for us."""
    return len(os.sched_getaffinity(0))


def begin_processes(size: int, jobs: int | None = None) -> None:
    """Start, beside whatever comes first, what processes that verify so large a file are forked from.

    It imports once, and shares with all of them, what each would import by itself.
    """
    if (jobs or processors()) > 1 and size >= 2 * RANGE_BYTES:
        package = __name__.partition(".")[0]
        loaded = sorted(name for name in sys.modules if name.partition(".")[0] == package)
        multiprocessing.get_context("forkserver").set_forkserver_preload(loaded)
        forkserver.ensure_running()


def reports(vault: Vault, parts: list[Range], jobs: int, advance: Callable[[int], object]) -> Iterator[RangeReport]:
    """Check ranges, in several processes if there are several; their reports in order. Raises NotCheckedError."""
    if jobs == 1 or len(parts) == 1:
        for part in parts:
            yield vault.report(part)
            advance(part.end)
        return
    # A forked child would share the caller's connections and locks.
    context = multiprocessing.get_context("forkserver")
    pool = ProcessPoolExecutor(min(jobs, len(parts)), context, initializer=_begin, initargs=(vault,))
    try:
        futures = [pool.submit(_report, part) for part in parts]
        for part, future in zip(parts, futures, strict=True):
            yield _result(future)
            advance(part.end)
    finally:
        pool.shutdown(cancel_futures=True)


def _result(future: Future[RangeReport]) -> RangeReport:
    try:
        return future.result()
    except BrokenProcessPool as error:
        raise NotCheckedError("a verifying process was ended from outside, perhaps for want of memory") from error


# A worker process checks ranges of one vault only, which it is given when it begins.
_vault: list[Vault] = []


def _begin(vault: Vault) -> None:
    # Interruptions are the parent's to act on; without the parent nobody waits for a result.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    _vault[:] = [vault]


def _end_with_parent() -> None:
    # The kernel's own signal would come with the end of the fork server, which lives as long as its children.
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _report(part: Range) -> RangeReport:
    return _vault[0].report(part)


def in_one_piece(found: list[RangeReport]) -> bool:
    """Whether the order of chain keys alone shows that no chain goes on after another began."""
    with_records = [report for report in found if report.records]
    return all(report.ascending for report in with_records) and all(
        before.last_key < after.first_key for before, after in pairwise(with_records)
    )
