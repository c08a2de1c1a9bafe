"""A sample vault: genuine signatures and links, made from a seed, written as a dump or loaded into PostgreSQL."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime
from pathlib import Path

from borg_vault_plugin.sample.audit import Rows, all_rows, rows_after_records, rows_before_records, write_rows
from borg_vault_plugin.sample.database import Connection, create_schema, insert_day, load_tables
from borg_vault_plugin.sample.plan import Onto, Plan, VaultShape, grown
from borg_vault_plugin.sample.rows import copy_line, ndjson_line
from borg_vault_plugin.sample.slices import Line, Slice, Start, slices

DIGEST_BYTES = 32


class SampleVault:
    """A vault of a given shape, and the days it has grown by.

    Everything follows from the shape and the calls of `grow`; two vaults treated alike hold the same bytes.
    """

    def __init__(self, shape: VaultShape) -> None:
        self.plan = Plan(shape)
        # The digests of the chains' heads, by record; zeros where nobody has made the chain yet.
        self.heads = bytearray()

    def write_ndjson(self, directory: Path, processes: int = 1) -> None:
        """Write the vault as the Server's own dump tool would: five files, six in the second era."""
        before, after = rows_before_records(self.plan), rows_after_records(self.plan)
        write_rows(directory, after)
        with (
            (directory / "audit_vault.ndjson").open("wb") as entries,
            (directory / "vault_checkpoints.ndjson").open("wb") as checkpoints,
        ):
            entries.writelines(ndjson_line(row) for row in before.audit_vault)
            checkpoints.writelines(ndjson_line(row) for row in before.vault_checkpoints)
            for part in self.remembered(self.all_starts(), ndjson_line, processes):
                entries.write(part.entries)
                checkpoints.write(part.checkpoints)
            entries.writelines(ndjson_line(row) for row in after.audit_vault)
            checkpoints.writelines(ndjson_line(row) for row in after.vault_checkpoints)

    def load(self, connection: Connection, processes: int = 1) -> None:
        """Create the Server's schema in an empty database and load the vault into it, in one transaction."""
        with connection.transaction():
            create_schema(connection, self.plan)
            load_tables(connection, self.plan, self.remembered(self.all_starts(), copy_line, processes))

    def grow(
        self,
        connection: Connection | None,
        *,
        entries: int,
        onto: Onto = "youngest",
        rotate: bool = False,
        records_updated: int = 0,
        at: datetime | None = None,
    ) -> None:
        """Let a day pass: new entries, reads, heads and checkpoints, and updated records.

        `onto` places half of the entries on new records and half on the youngest twentieth, or all of them
        evenly over all records. `rotate` has a new key replace the present one at the start of the day. The day
        starts at `at`, by default an hour after the end of what there is. A connection must lead to the database
        into which this vault was loaded; the day is inserted there, in one transaction.
        Raises ValueError if `at` is before the end of the vault.
        """
        before = self.plan
        self.plan = grown(before, entries=entries, onto=onto, rotate=rotate, records_updated=records_updated, at=at)
        starts = [self.start_of(before, record) for record in sorted(self.plan.days[-1].slots)]
        self.forget(start.record for start in starts)
        if connection is not None:
            with connection.transaction():
                insert_day(connection, self.plan, self.remembered(starts, copy_line, 1))

    def rows(self) -> Rows:
        """Give all rows of the audit tables, so that a test can bend one and write them with `write_rows`."""
        return all_rows(self.plan)

    def all_starts(self) -> Iterator[Start]:
        """Give the beginning of every record's chain."""
        return (Start(record) for record in range(self.plan.records))

    def start_of(self, before: Plan, record: int) -> Start:
        """Give the place where a record's chain goes on after the plan `before`."""
        digest = bytes(self.heads[record * DIGEST_BYTES : (record + 1) * DIGEST_BYTES])
        return Start(record, len(before.instants(record)), digest if any(digest) else None)

    def remembered(self, starts: Iterable[Start], line: Line, processes: int) -> Iterator[Slice]:
        """Give the slices for these starts, and keep the heads that they lead to."""
        for part in slices(self.plan, starts, line, processes):
            for record, digest in part.heads:
                self.remember(record, digest)
            yield part

    def remember(self, record: int, digest: bytes) -> None:
        """Keep the digest of the head of a record's chain."""
        missing = self.plan.records * DIGEST_BYTES - len(self.heads)
        if missing > 0:
            self.heads.extend(bytes(missing))
        self.heads[record * DIGEST_BYTES : (record + 1) * DIGEST_BYTES] = digest

    def forget(self, records: Iterable[int]) -> None:
        """Drop heads that are not the last entry any more."""
        for record in records:
            self.remember(record, bytes(DIGEST_BYTES))
