"""The audit tables beside the chains of records: everything that is small enough to be held whole."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path

import msgspec

from borg_vault_plugin.sample.chains import (
    platform_chain,
    platform_checkpoints,
    record_rows,
    schema_chains,
    schema_checkpoints,
)
from borg_vault_plugin.sample.plan import Plan
from borg_vault_plugin.sample.readlog import leaves, tree_heads
from borg_vault_plugin.sample.registry import key_statements, registered_keys
from borg_vault_plugin.sample.rows import Checkpoint, Entry, KeyStatement, Read, RegisteredKey, TreeHead, ndjson_line


@dataclass(frozen=True, slots=True)
class Rows:
    """The rows of a vault's audit tables, each list in the order of its file; the lists may be changed."""

    audit_vault: list[Entry] = field(default_factory=list)
    vault_checkpoints: list[Checkpoint] = field(default_factory=list)
    vault_signing_keys: list[RegisteredKey] = field(default_factory=list)
    org_admin_reads: list[Read] = field(default_factory=list)
    org_admin_reads_checkpoints: list[TreeHead] = field(default_factory=list)
    vault_key_statements: list[KeyStatement] | None = None
    """None in the first era, which has no such table."""

    def tables(self) -> dict[str, Sequence[msgspec.Struct]]:
        """Give the lists by the names of their tables."""
        named = {each.name: getattr(self, each.name) for each in fields(self)}
        return {name: rows for name, rows in named.items() if rows is not None}


def rows_before_records(plan: Plan) -> Rows:
    """Give the rows that come before those of any record: the platform's chain and its checkpoints."""
    chain = platform_chain(plan)
    return Rows(audit_vault=chain, vault_checkpoints=platform_checkpoints(plan, chain))


def rows_after_records(plan: Plan) -> Rows:
    """Give the rows that come after those of all records, and the tables in which records have none."""
    chains = schema_chains(plan)
    logs = [leaves(plan, org) for org in range(plan.shape.orgs)]
    heads = [tree_heads(plan, org, log) for org, log in enumerate(logs)]
    return Rows(
        audit_vault=sorted(
            (row for chain in chains for row in chain), key=lambda row: (row.chain_position, row.chain_key)
        ),
        vault_checkpoints=schema_checkpoints(plan, chains),
        vault_signing_keys=registered_keys(plan),
        org_admin_reads=[row for log in logs for row in log],
        org_admin_reads_checkpoints=[row for log in heads for row in log],
        vault_key_statements=key_statements(plan) if plan.shape.era == "v2" else None,
    )


def all_rows(plan: Plan) -> Rows:
    """Give every row of a small vault."""
    before, after = rows_before_records(plan), rows_after_records(plan)
    made = [row for record in range(plan.records) for row in record_rows(plan, record, 0, None)]
    entries = [row for row in made if isinstance(row, Entry)]
    checkpoints = [row for row in made if isinstance(row, Checkpoint)]
    return Rows(
        before.audit_vault + entries + after.audit_vault,
        before.vault_checkpoints + checkpoints + after.vault_checkpoints,
        after.vault_signing_keys,
        after.org_admin_reads,
        after.org_admin_reads_checkpoints,
        after.vault_key_statements,
    )


def write_rows(directory: Path, rows: Rows) -> None:
    """Write rows as a dump: one NDJSON file for each table, in the order of the lists."""
    directory.mkdir(parents=True, exist_ok=True)
    for name, table in rows.tables().items():
        with (directory / f"{name}.ndjson").open("wb") as file:
            file.writelines(ndjson_line(row) for row in table)
