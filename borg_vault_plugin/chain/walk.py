"""Walking through audit_vault: chain after chain as they stand in the file, in memory that no chain's length moves.

Chains of records come one after another; chains of schemas, which have no record id, may be mixed with each other and
stay open to the end of the file. A chain is checked while it is read. Only when its rows turn out not to be in the
order of their positions, or not to lead to a head that was proved before, it is read once more: with its positions
sorted, and every signature verified.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from borg_vault_plugin.chain.checkpoints import NO_ENTRY, NO_ENVELOPES, chain_of, check_checkpoint
from borg_vault_plugin.chain.codes import Code
from borg_vault_plugin.chain.context import Context
from borg_vault_plugin.chain.digests import DigestIndex, digest_of
from borg_vault_plugin.chain.entries import ChainState, check_entry, shown
from borg_vault_plugin.chain.proved import ArchivedHeads, Proved
from borg_vault_plugin.chain.rows import CheckpointRow, EntryRow, UnreadableLineError, read_payload
from borg_vault_plugin.chain.source import RowSource
from borg_vault_plugin.chain.tally import RangeReport, Tally
from borg_vault_plugin.report import Finding

UNORDERED = float("inf")


@dataclass(frozen=True, slots=True)
class CheckpointIndex:
    """Where in vault_checkpoints the rows of each chain are."""

    chains: DigestIndex
    offsets: array[int]


class StoppedError(Exception):
    """The walk cannot go on; the argument is the finding that says why."""


def chain_key_of(row: EntryRow) -> str:
    """Give the key of an entry's chain; dumps of early versions leave it to the reader to put it together."""
    if isinstance(row.chain_key, str):
        return row.chain_key
    if row.record_id is not None:
        return row.record_id if isinstance(row.record_id, str) else repr(row.record_id)
    payload = read_payload(row.payload)
    org = payload.get("orgId") if isinstance(payload, dict) else None
    return f"schema:{org if isinstance(org, str) else '__platform__'}"


class ArchivedHead(NamedTuple):
    """Where an archive saw a chain's head; the hash is None where what was stored was none."""

    archive: str
    position: int
    hash: str | None


class OpenChain:
    """A chain whose entries are being read."""

    def __init__(
        self,
        key: str,
        context: Context,
        checkpoints: list[CheckpointRow],
        archived: Sequence[ArchivedHead] = (),
        head: tuple[int, str] | None = None,
    ) -> None:
        self._context = context
        self._checkpoints = checkpoints
        # The stored hashes at those positions that a checkpoint vouches for, and where archives saw the head.
        self._hashes: dict[int, object] = {
            row.chain_position: NO_ENTRY for row in checkpoints if row.chain_position.__class__ is int
        }
        self._archived = archived
        self._seen: dict[float, object] = {one.position: NO_ENTRY for one in archived}
        self._head = head
        self._last: float = 0
        self._tally = Tally(chains=1)
        self.state = ChainState(key, carried_to=head[0] if head else 0)

    @property
    def leads_to_head(self) -> bool:
        """Whether the proved head was there, if there is one."""
        return self.state.position >= self.state.carried_to

    def take(self, row: EntryRow) -> bool:
        """Check the next entry; False when the chain must be read anew, in order and without the proved head."""
        order = row.chain_position if isinstance(row.chain_position, int) else UNORDERED
        if order < self._last:
            return False
        self._last = order
        self.state, finding = check_entry(row, self.state, self._context)
        position = self.state.position
        if finding is not None:
            if position <= self.state.carried_to:
                return False  # A head proves what is below it only while everything there holds.
            self._tally.found(finding)
        if position in self._hashes:
            self._hashes[position] = row.payload_hash
        if order in self._seen:
            self._seen[order] = row.payload_hash
        return position != self.state.carried_to or (self._head is not None and row.payload_hash == self._head[1])

    def close(self, proved: Proved | None) -> Tally:
        """Check the chain's checkpoints and give what was found."""
        tally, state = self._tally, self.state
        tally.entries, tally.checked, tally.carried = state.position, state.checked, state.carried
        tally.joined = len(self._checkpoints)
        for row in self._checkpoints:
            there = self._hashes.get(row.chain_position, NO_ENTRY) if isinstance(row.chain_position, int) else NO_ENTRY
            proof, finding = check_checkpoint(row, there, self._context, proved or NO_ENVELOPES)
            tally.proved(proof)
            tally.found(finding)
        for head in self._archived:
            self._compare(head, tally)
        return tally

    def _compare(self, head: ArchivedHead, tally: Tally) -> None:
        """Look whether the chain still holds what an archive saw as its head."""
        there, key = self._seen[head.position], shown(self.state.chain_key)
        if there is not NO_ENTRY and head.hash in (None, there):
            return
        code = Code.CONTINUITY_CHAIN_SHORTENED if there is NO_ENTRY else Code.CONTINUITY_CHAIN_REWRITTEN
        held = f"ends at position {self.state.position}" if there is NO_ENTRY else f"has {shown(there)} there"
        where = f"audit_vault, chain {key}, position {head.position}"
        detail = f"{head.archive} holds {head.hash} there; the chain now {held}"
        tally.missed(Finding(code, where, detail))


@dataclass(frozen=True, slots=True)
class Work:
    """What every part of the file is checked with."""

    context: Context
    checkpoints: CheckpointIndex
    secret: bytes
    """With which the digests of chain keys are made, here and in what was proved."""
    proved: Proved | None = None
    archived: tuple[ArchivedHeads, ...] = ()
    """What archives hold that these chains must extend."""

    def heads(self, chain: int) -> list[ArchivedHead]:
        """Give where each archive saw the head of the chain whose key has this digest."""
        found = ((one.archive, one.head(chain)) for one in self.archived)
        return [ArchivedHead(archive, *head) for archive, head in found if head is not None]


class RangeWalk:
    """Goes through one range of audit_vault that begins with a chain; all rows of that chain are in the range."""

    def __init__(
        self,
        entries: RowSource[EntryRow],
        checkpoints: RowSource[CheckpointRow],
        work: Work,
        *,
        to_end_of_file: bool = True,
    ) -> None:
        self._entries = entries
        self._checkpoints = checkpoints
        self._work = work
        self._to_end_of_file = to_end_of_file
        self._report = RangeReport()
        self._schemas: dict[str, OpenChain | None] = {}
        self._schemas_begin = 0

    def run(self, start: int, stop_before: int | None = None) -> RangeReport:
        """Walk from `start` to the end of the range, or stop at the records' chain of this number, from 0."""
        try:
            self._walk(start, stop_before)
        except StoppedError as stop:
            (self._report.stopped,) = stop.args
            self._report.tally.entries = self._count_rows(start)
        except UnreadableLineError as error:
            raise self._entries.unreadable(error) from error
        return self._report

    def _walk(self, start: int, stop_before: int | None) -> None:
        row = self._entries.seek(start)
        while row is not None:
            if row.record_id is not None:
                if len(self._report.records) == stop_before:
                    raise StoppedError(_in_pieces(chain_key_of(row)))
                row = self._record_chain(row)
            elif self._to_end_of_file:
                row = self._schema_row(row)
            else:
                self._report.schema_too_early = True
                return
        self._close_schemas()

    def _record_chain(self, first: EntryRow) -> EntryRow | None:
        """Check one chain and give the row after it."""
        key, start = chain_key_of(first), self._entries.offset
        chain, row = self._opened(key), self._same_chain(first, key)
        while row is not None:
            if not chain.take(row):
                return self._record_chain_again(key, start)
            row = self._same_chain(self._entries.advance(), key)
        if not chain.leads_to_head:
            return self._record_chain_again(key, start)
        self._close_record(chain)
        return self._entries.present

    def _record_chain_again(self, key: str, start: int) -> EntryRow | None:
        places: list[tuple[float, int]] = []
        row = self._same_chain(self._entries.seek(start), key)
        while row is not None:
            places.append(self._place(row))
            row = self._same_chain(self._entries.advance(), key)
        after, beyond = self._entries.present, self._entries.offset
        self._close_record(self._sorted(key, places))
        return None if after is None else self._entries.seek(beyond)

    def _same_chain(self, row: EntryRow | None, key: str) -> EntryRow | None:
        """Give a row if it belongs to the record's chain that is being read."""
        if row is None or row.record_id is None or chain_key_of(row) != key:
            return None
        _refuse_without_envelope(row, key)
        return row

    def _schema_row(self, row: EntryRow) -> EntryRow | None:
        key = chain_key_of(row)
        _refuse_without_envelope(row, key)
        if not self._schemas:
            self._schemas_begin = self._entries.offset
        chain = self._schemas[key] if key in self._schemas else self._opened(key)
        # None: read anew when all rows of schemas have been seen.
        self._schemas[key] = chain if chain is not None and chain.take(row) else None
        return self._entries.advance()

    def _close_schemas(self) -> None:
        again = {key for key, chain in self._schemas.items() if chain is None or not chain.leads_to_head}
        places = self._schema_places(again) if again else {}
        for key, chain in self._schemas.items():
            closed = self._sorted(key, places[key]) if chain is None or key in again else chain
            self._report.schemas.append(digest_of(key, self._work.secret))
            self._report.tally.add(closed.close(self._work.proved))

    def _schema_places(self, keys: set[str]) -> dict[str, list[tuple[float, int]]]:
        places: dict[str, list[tuple[float, int]]] = {key: [] for key in keys}
        row = self._entries.seek(self._schemas_begin)
        while row is not None:
            if row.record_id is None and (key := chain_key_of(row)) in keys:
                places[key].append(self._place(row))
            row = self._entries.advance()
        return places

    def _place(self, row: EntryRow) -> tuple[float, int]:
        position = row.chain_position
        return position if isinstance(position, int) else UNORDERED, self._entries.offset

    def _sorted(self, key: str, places: Iterable[tuple[float, int]]) -> OpenChain:
        """Check a chain in the order of its positions, and in that of the file where these are equal."""
        digest = digest_of(key, self._work.secret)
        chain = OpenChain(key, self._work.context, self._checkpoints_of(key, digest), self._work.heads(digest))
        for _, offset in sorted(places):
            row = self._entries.seek(offset)
            if row is not None:
                chain.take(row)
        return chain

    def _opened(self, key: str) -> OpenChain:
        digest = digest_of(key, self._work.secret)
        head = None if self._work.proved is None else self._work.proved.head(digest)
        archived = self._work.heads(digest)
        return OpenChain(key, self._work.context, self._checkpoints_of(key, digest), archived, head)

    def _close_record(self, chain: OpenChain) -> None:
        report, key = self._report, chain.state.chain_key
        report.ascending = report.ascending and (not report.records or report.last_key < key)
        report.first_key = report.first_key if report.records else key
        report.last_key = key
        report.records.append(digest_of(key, self._work.secret))
        report.tally.add(chain.close(self._work.proved))

    def _checkpoints_of(self, key: str, digest: int) -> list[CheckpointRow]:
        index = self._work.checkpoints
        rows = (self._checkpoints.seek(index.offsets[place]) for place in index.chains.places(digest))
        return [row for row in rows if row is not None and chain_of(row, self._work.context.era) == key]

    def _count_rows(self, start: int) -> int:
        """Count all rows of the range; what is not checked must be readable all the same."""
        first = self._entries.seek(start)
        return 0 if first is None else 1 + sum(1 for _ in self._entries.rest())


def _refuse_without_envelope(row: EntryRow, key: str) -> None:
    if row.cose_sign1 is None or row.cose_sign1 == "":
        place = f"audit_vault, chain {shown(key)}, position {shown(row.chain_position)}"
        raise StoppedError(Finding(Code.UNSUPPORTED_FORMAT, place, "there is no envelope: cose_sign1 is empty"))


def _in_pieces(key: str) -> Finding:
    return Finding(Code.UNSUPPORTED_FORMAT, f"audit_vault, chain {shown(key)}", "goes on after another chain began")
