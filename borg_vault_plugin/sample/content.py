"""The Server's other tables, so that a dump of the database holds what a real one does."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from borg_vault_plugin.sample.chains import RECORD_TYPES, completion_id
from borg_vault_plugin.sample.plan import HOUR, Plan, utc_text
from borg_vault_plugin.sample.rows import uuid7

# The entry at this position of a record's chain submits its completion.
COMPLETION_POSITION = 4
MIGRATIONS = ("0001_records", "0002_audit_vault", "0003_read_log", "0004_checkpoints")


@dataclass(frozen=True, slots=True)
class Table:
    """Rows for one table, in the order of these columns."""

    name: str
    columns: str
    rows: Iterable[tuple[object, ...]]


def standing_tables(plan: Plan) -> list[Table]:
    """Give the tables that are filled once and do not grow by the day."""
    shape, created = plan.shape, utc_text(plan.start - 2 * HOUR)
    orgs = range(shape.orgs)
    return [
        Table("_migrations", "name, applied_at", [(name, created) for name in MIGRATIONS]),
        Table("server_identity", "instance_id", [(plan.random_id("instance"),)]),
        Table("orgs", "id, slug, name, config, managed_by, created_at", [
            (plan.org_id(org), f"org-{org}", f"Sample Organisation № {org}", {"region": "eu", "retention_days": 3650},
             "provisioning" if org % 2 else None, created)
            for org in orgs
        ]),
        Table("agents", "id, org_id, slug, managed_by", [
            (plan.agent_id(org), plan.org_id(org), "first-agent", None) for org in orgs
        ]),
        Table("api_keys", "id, key_hash, role, owner_type, owner_id, created_at", [
            (actor.key_id, hashlib.sha256(actor.key_id.encode()).hexdigest(), actor.role,
             "org" if actor.role == "admin" else "agent", actor.owner_id, created)
            for actor in (*plan.administrators, *plan.agents)
        ]),
        Table("webhook_subscriptions", "id, org_id, url, secret, managed_by", [
            (plan.random_id("webhook", org), plan.org_id(org), f"https://hooks.sample.invalid/{org}",
             plan.noise("webhook secret", org) * 2, None)
            for org in orgs
        ]),
    ]  # fmt: skip


def growing_tables(plan: Plan, first_day: int) -> list[Table]:
    """Give what the days from number `first_day` on brought; day 0 is the first load."""
    first = plan.days[first_day - 1].first_record if first_day else 0
    touched = sorted(plan.days[-1].slots) if first_day else range(plan.records)
    return [
        Table(
            "records", "id, org_id, type, state, status, criteria, version, created_at, words", record_rows(plan, first)
        ),
        Table("completions", "id, record_id, evidence, evidence_hash", completion_rows(plan, touched, first_day)),
        Table("pgboss.job", "id, name, state, data, output, created_on", job_rows(plan, first_day)),
    ]


def record_rows(plan: Plan, first: int) -> Iterator[tuple[object, ...]]:
    """Give the rows of `records`."""
    for record in range(first, plan.records):
        name, state = RECORD_TYPES[record % len(RECORD_TYPES)], record_state(plan.version(record))
        yield (
            plan.record_id(record), plan.org_id(plan.org_of(record)), name, state, record_status(plan.version(record)),
            {"quantity": record % 90, "unit": "Stück"}, plan.version(record), utc_text(plan.created(record)),
            f"'{name}':1 'record':2 '{record}':3",
        )  # fmt: skip


def record_state(version: int) -> str:
    """Give the state in a record's row after this many writes."""
    return "RECORDED" if version == 1 else ("ACTIVE", "FULFILLED")[version % 2]


def record_status(version: int) -> str:
    """Give the status in a record's row after this many writes."""
    return "open" if version == 1 else "amended"


def completion_rows(plan: Plan, records: Iterable[int], first_day: int) -> Iterator[tuple[object, ...]]:
    """Give the rows of `completions` for those records whose chains got long enough on these days."""
    earliest = plan.days[first_day - 1].start if first_day else 0
    for record in records:
        submitted = plan.instants(record)[COMPLETION_POSITION - 1 : COMPLETION_POSITION]
        if submitted and submitted[0] >= earliest:
            digest = plan.noise("evidence", record).hex()
            evidence = {"pages": record % 11, "signed": True, "remarks": 'none \\ "at all"'}
            yield (completion_id(plan, record), plan.record_id(record), evidence, digest)


def job_rows(plan: Plan, first_day: int) -> Iterator[tuple[object, ...]]:
    """Give the jobs that were queued at the end of each of these days."""
    ends = [plan.start + plan.span, *(day.end for day in plan.days)]
    for day in range(first_day, len(ends)):
        for number, state in enumerate(("completed", "completed", "failed", "created")):
            job_id = uuid7(ends[day], plan.shape.seed, "job", day, number)
            output = {"attempts": number, "seconds": 0.25} if state != "created" else None
            yield (job_id, "webhook-delivery", state, {"day": day}, output, utc_text(ends[day] + number))
