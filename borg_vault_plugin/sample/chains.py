"""The chains of a vault: one for every record, one for the platform, one for the schemas of each org.

Every entry carries the SHA-256 of the envelope before it, inside its own signed header.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass

from msgspec import UNSET

from borg_vault_plugin.sample.envelope import (
    PLATFORM,
    SERVER_URL,
    ZERO_UUID,
    Actor,
    Claim,
    record_state_predicate,
    schema_event_predicate,
    sealed_claim,
    statement,
    uuid_bytes,
)
from borg_vault_plugin.sample.plan import HOUR, SECOND, Plan, utc_text
from borg_vault_plugin.sample.rows import Checkpoint, Entry, Json, jsonb_ordered, uuid7, uuid8

RECORD_TYPES = ("parcel", "contract", "invoice", "permit")
SCHEMA_OUTCOMES = ("REGISTERED", "IMPORTED", "DIGEST_MISMATCH")


@dataclass(frozen=True, slots=True)
class Event:
    """What happened, before it has a place in a chain."""

    instant: int
    entry_type: str
    payload: Json
    actor: Actor


@dataclass(frozen=True, slots=True)
class Chain:
    """The name of a chain and what its envelopes say about it."""

    key: str
    record_id: str | None
    kind: str
    digest: bytes
    """SHA-256 of the chain's name as text."""

    def predicate(self, event: Event) -> Json:
        """Give what is signed about an event."""
        if self.record_id is None:
            return schema_event_predicate(event.payload, event.entry_type.removeprefix("SCHEMA_"))
        return record_state_predicate(self.record_id, event.entry_type, event.payload)


def chain_named(key: str, record_id: str | None) -> Chain:
    """Make a chain of a record (or the platform), or of schemas, which have no record."""
    kind = "schema-event" if record_id is None else "record-state"
    return Chain(key, record_id, kind, hashlib.sha256(key.encode()).digest())


def entry(plan: Plan, chain: Chain, event: Event, position: int, previous: bytes | None) -> Entry:
    """Sign an event at its place in a chain; `previous` is the digest of the entry before it."""
    key = plan.key_at(event.instant)
    claim = Claim(chain.key, event.instant // SECOND, event.actor, position, previous)
    payload = statement(chain.kind, "record_id", chain.digest, chain.predicate(event))
    envelope = sealed_claim(key, claim, payload)
    identity = oidc_identity(event.payload)
    return Entry(
        id=uuid7(event.instant, plan.shape.seed, chain.key, position),
        record_id=chain.record_id,
        chain_key=chain.key,
        entry_type=event.entry_type,
        payload=event.payload,
        payload_hash=hashlib.sha256(envelope).hexdigest(),
        previous_hash=None if previous is None else previous.hex(),
        chain_position=position,
        cose_sign1=envelope,
        signing_key_id=None if key is None else key.key_id,
        actor_key_id=event.actor.key_id,
        actor_role=event.actor.role,
        actor_owner_id=event.actor.owner_id,
        actor_oidc_iss=identity.get("iss"),
        actor_oidc_sub=identity.get("sub"),
        actor_oidc_synthesized=bool(identity),
        created_at=utc_text(event.instant),
    )


def oidc_identity(payload: Json) -> dict[str, str]:
    """Give the OIDC identity on whose behalf something was done; empty if there is none."""
    behalf = payload.get("on_behalf_of")
    return behalf["oidc"] if isinstance(behalf, dict) else {}


def checkpoint(plan: Plan, tip: Entry, instant: int, record_id: str) -> Checkpoint:
    """Sign that a chain had this entry at this position."""
    key, position = plan.key_at(instant), tip.chain_position
    predicate: Json = {
        "count": position,
        "range": {"start": 1, "end": position},
        "chain_tip_hash": f"sha256:{tip.payload_hash}",
    }
    digest = hashlib.sha256(uuid_bytes(record_id)).digest()
    claim = Claim(record_id, instant // SECOND, PLATFORM, position, None)
    return Checkpoint(
        id=uuid7(instant, plan.shape.seed, "checkpoint", tip.chain_key, position),
        record_id=record_id,
        chain_key=tip.chain_key if plan.shape.era == "v2" else UNSET,
        chain_position=position,
        payload_hash=tip.payload_hash,
        cose_sign1=sealed_claim(key, claim, statement("vault-checkpoint", "record_id", digest, predicate)),
        signing_key_id=None if key is None else key.key_id,
        created_at=utc_text(instant),
    )


def linked(plan: Plan, chain: Chain, events: list[Event]) -> Iterator[Entry]:
    """Sign events as a whole chain."""
    previous: bytes | None = None
    for position, event in enumerate(events, start=1):
        row = entry(plan, chain, event, position, previous)
        previous = bytes.fromhex(row.payload_hash)
        yield row


def record_rows(plan: Plan, record: int, after: int, previous: bytes | None) -> Iterator[Entry | Checkpoint]:
    """Give the entries of a record's chain beyond position `after`, each followed by its checkpoint if it has one.

    `previous` is the digest of the entry at `after`; if None, the chain is made anew up to there.
    """
    record_id = plan.record_id(record)
    chain, marked, known = chain_named(record_id, record_id), plan.checkpointed(record), previous is not None
    for position, instant in enumerate(plan.instants(record), start=1):
        if known and position <= after:
            continue
        row = entry(plan, chain, record_event(plan, record, position, instant), position, previous)
        previous = bytes.fromhex(row.payload_hash)
        if position > after:
            yield row
        if position > after and position in marked:
            yield checkpoint(plan, row, instant + 1, record_id)


def record_event(plan: Plan, record: int, position: int, instant: int) -> Event:
    """Give what happened to a record; the kinds of entries take turns along its chain."""
    org = plan.org_of(record)
    kind, payload = happening(plan, record, position)
    if plan.shape.filler_bytes:
        payload["filler"] = filler(plan, record, position)
    actor = (plan.administrators if kind == "RECORD_STATE_CHANGE" else plan.agents)[org]
    ordered = jsonb_ordered(payload)
    return Event(instant, kind, ordered if isinstance(ordered, dict) else {}, actor)


def happening(plan: Plan, record: int, position: int) -> tuple[str, Json]:
    """Give the entry type and the payload at a position of a record's chain."""
    if position == 1:
        return record_created(record)
    match (position - 2) % 4:
        case 0:
            return state_change(record)
        case 1:
            return gate_evaluated(record)
        case 2:
            return completion_submitted(plan, record)
        case _:
            return state_transition(record)


def record_created(record: int) -> tuple[str, Json]:
    """Describe the creation of a record."""
    name = RECORD_TYPES[record % len(RECORD_TYPES)]
    return "RECORD_CREATED", {"state": "RECORDED", "type": name, "criteria": {"quantity": record % 90, "unit": "Stück"}}


def state_change(record: int) -> tuple[str, Json]:
    """Describe a change of state by `from` and `to` alone (nothing is left to sign beside it), or with a reason."""
    reason: Json = {} if record % 3 == 0 else {"reason": 'accepted by \\ "both" sides\n'}
    return "RECORD_STATE_CHANGE", {"from": "RECORDED", "to": "ACTIVE"} | reason


def gate_evaluated(record: int) -> tuple[str, Json]:
    """Describe a gate, with the traces that led to its result."""
    checks: list[object] = [record % 7, None, True, {"ok": False, "id": "§1"}]
    traces = {"evaluator": "rules", "depth": record % 4}
    return "GATE_EVALUATED", {"gate": "delivery", "passed": record % 5 != 0, "checks": checks, "traces": traces}


def completion_submitted(plan: Plan, record: int) -> tuple[str, Json]:
    """Describe a completion; every other one was made on behalf of somebody known by OIDC."""
    payload: Json = {"completionId": completion_id(plan, record), "evidence_hash": plan.noise("evidence", record).hex()}
    if record % 2:
        return "COMPLETION_SUBMITTED", payload
    span = plan.noise("trace", record).hex()
    payload["on_behalf_of"] = {"oidc": {"iss": f"{SERVER_URL}/oidc", "sub": f"user-{record % 50}"}}
    return "COMPLETION_SUBMITTED", payload | {"traceparent": f"00-{span}-{span[:16]}-01"}


def state_transition(record: int) -> tuple[str, Json]:
    """Describe a change of state by one object, which may lack the state before."""
    before: Json = {} if record % 4 == 0 else {"from": "ACTIVE"}
    return "RECORD_STATE_CHANGE", {"state_transition": before | {"to": "FULFILLED"}, "note": "délivré ✓"}


def completion_id(plan: Plan, record: int) -> str:
    """Give the identifier of a record's completion."""
    return uuid7(plan.created(record), plan.shape.seed, "completion", record)


def filler(plan: Plan, record: int, position: int) -> str:
    """Give random hexadecimal text of the shape's filler length."""
    length = plan.shape.filler_bytes
    return hashlib.shake_128(plan.noise("filler", record, position)).hexdigest(length // 2 + 1)[:length]


def platform_chain(plan: Plan) -> list[Entry]:
    """Give the platform's own chain: one entry for every key, at its activation."""
    keys = [plan.key(index) for index in range(len(plan.activations))]
    events = [
        Event(instant, "KEY_ROTATED", {
            "newKeyId": key.key_id,
            "algorithm": key.algorithm,
            "previousKeyId": None if index == 0 else keys[index - 1].key_id,
        }, PLATFORM)
        for index, (instant, key) in enumerate(zip(plan.activations, keys, strict=True))
    ]  # fmt: skip
    return list(linked(plan, chain_named(ZERO_UUID, ZERO_UUID), [payload_ordered(event) for event in events]))


def payload_ordered(event: Event) -> Event:
    """Give an event with its payload's keys in jsonb's order."""
    ordered = jsonb_ordered(event.payload)
    return Event(event.instant, event.entry_type, ordered if isinstance(ordered, dict) else {}, event.actor)


def schema_chains(plan: Plan) -> list[list[Entry]]:
    """Give the chains of schema events: one for the platform, one for each org."""
    orgs: list[int | None] = [None, *range(plan.shape.orgs)]
    return [list(linked(plan, schema_chain(plan, org), schema_events(plan, org))) for org in orgs]


def schema_chain(plan: Plan, org: int | None) -> Chain:
    """Name the schema chain of an org, or of the platform."""
    return chain_named(f"schema:{'__platform__' if org is None else plan.org_id(org)}", None)


def schema_events(plan: Plan, org: int | None) -> list[Event]:
    """Give three events from before the first record, and one for each day on which the first org was active."""
    turn = 0 if org is None else org + 1
    before = [plan.start - HOUR // 2 + number * SECOND + turn * 1001 for number in range(3)]
    later = [day.start + 1000 for day in plan.days] if org == 0 else []
    return [schema_event(plan, org, number, instant) for number, instant in enumerate(before + later)]


def schema_event(plan: Plan, org: int | None, number: int, instant: int) -> Event:
    """Describe one schema event; versions are numbers and texts in turn."""
    payload: Json = {
        "type": RECORD_TYPES[number % len(RECORD_TYPES)],
        "version": number + 1 if number % 2 else f"{number + 1}.0.0",
        "manifestDigest": f"sha256:{plan.noise('manifest', org, number).hex() * 2}",
    }
    payload |= {} if org is None else {"orgId": plan.org_id(org)}
    payload |= {"source": "api"} if number % 3 else {}
    actor = PLATFORM if org is None else plan.administrators[org]
    return payload_ordered(Event(instant, f"SCHEMA_{SCHEMA_OUTCOMES[number % 3]}", payload, actor))


def platform_checkpoints(plan: Plan, chain: list[Entry]) -> list[Checkpoint]:
    """Give the platform chain's checkpoints: after the vault's first keys, and after each rotation since."""
    first = plan.shape.rotations + 1
    tips = zip(chain[first - 1 :], plan.activations[first - 1 :], strict=True)
    return [checkpoint(plan, tip, instant + 1, ZERO_UUID) for tip, instant in tips]


def schema_checkpoints(plan: Plan, chains: list[list[Entry]]) -> list[Checkpoint]:
    """Give one checkpoint at the third entry of each schema chain, under a derived record id; v2 only."""
    if plan.shape.era == "v1":
        return []
    made = [checkpoint(plan, chain[2], plan.start - HOUR // 4, uuid8(chain[2].chain_key)) for chain in chains]
    return sorted(made, key=lambda row: row.record_id)
