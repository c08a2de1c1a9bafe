"""Whether the readable row says what was signed: the predicate is rebuilt from the row and compared.

Numbers compare by their exact value, whole and fractional ones alike; null is not the same as absent, and true is no
number. A signed float equals a stored number with the same exact value, and the one that its shortest decimal form
(the one that reads back as that float) denotes: that form is what a writer of JSON stores.
"""

from __future__ import annotations

import re
from decimal import Decimal, InvalidOperation

import cbor2

from borg_vault_plugin.chain.envelope import Envelope
from borg_vault_plugin.chain.rows import EntryRow, Era, Real

SCHEMA_OUTCOMES = {
    "SCHEMA_REGISTERED": "REGISTERED",
    "SCHEMA_IMPORTED": "IMPORTED",
    "SCHEMA_DIGEST_MISMATCH": "DIGEST_MISMATCH",
}
# What has a place of its own in the predicate, or is not part of it.
LIFTED = frozenset({"from", "to", "state_transition", "traces", "on_behalf_of", "traceparent"})
# Signed beside the predicate that a row gives.
BESIDE = ("traceparent", "on_behalf_of")
TRACEPARENT = re.compile(r"00-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}")  # W3C Trace Context, version 00
# PostgreSQL's numeric ends at 131,072 digits before the point.
LARGEST_INTEGER_BITS = 440_000

# The in-toto Statement of a record's entry, up to its subject's digest, and after its predicate.
STATEMENT_START = b"".join((
    b"\xa4", cbor2.dumps("_type"), cbor2.dumps("https://in-toto.io/Statement/v1"),
    cbor2.dumps("subject"), b"\x81\xa2", cbor2.dumps("name"), cbor2.dumps("record_id"),
    cbor2.dumps("digest"), b"\xa1", cbor2.dumps("sha256"), b"\x58\x20",
))  # fmt: skip
PREDICATE_AT = len(STATEMENT_START) + 32
PREDICATE_LABEL = cbor2.dumps("predicate")
STATEMENT_END = cbor2.dumps("predicateType") + cbor2.dumps("https://agledger.ai/predicates/record-state/v1")

Json = dict[str, object]
Signed = dict[object, object]


def bound_predicate(row: EntryRow, payload: object, envelope: Envelope, era: Era) -> Signed | None:
    """Give the signed predicate if it is the one that the row gives; None if it is not."""
    if not isinstance(payload, dict) or not isinstance(row.entry_type, str):
        return None
    stated = row_predicate(row, row.entry_type, payload)
    if stated is None:
        return None
    if _is_statement_of(stated, envelope.payload):
        return stated
    predicate = envelope.predicate
    if predicate is None or not same(_without_beside(predicate), _without_beside(stated)):
        return None
    return predicate if _same_beside(payload, predicate, era) else None


def row_predicate(row: EntryRow, entry_type: str, payload: Json) -> Signed | None:
    """Rebuild the predicate of an entry, keys in the order of RFC 8949 section 4.2.1; None if it cannot have one."""
    if entry_type in SCHEMA_OUTCOMES:
        return _schema_predicate(payload, SCHEMA_OUTCOMES[entry_type])
    if not isinstance(row.record_id, str):
        return None
    if LIFTED.isdisjoint(payload):
        stated: Signed = {"payload": payload} if payload else {}
        stated["record_id"], stated["entry_type"] = row.record_id, entry_type
        return stated
    return _lifted_predicate(row.record_id, entry_type, payload)


def _lifted_predicate(record_id: str, entry_type: str, payload: Json) -> Signed:
    """Rebuild a predicate in which parts of the payload have a place of their own."""
    rest = {name: value for name, value in payload.items() if name not in LIFTED}
    traces = payload.get("traces")
    stated: Signed = {"traces": traces} if isinstance(traces, dict) else {}
    if rest:
        stated["payload"] = rest
    stated["record_id"], stated["entry_type"] = record_id, entry_type
    stated |= {name: payload[name] for name in BESIDE if name in payload}
    transition = payload.get("state_transition")
    if not (isinstance(transition, dict) and isinstance(transition.get("to"), str)):
        transition = payload
    if isinstance(transition.get("to"), str):
        before = transition.get("from")
        stated["state_transition"] = {"to": transition["to"], "from": before if isinstance(before, str) else None}
    return stated


def _is_statement_of(predicate: Signed, signed: bytes) -> bool:
    """Whether bytes are the Statement with this predicate, about any subject, in deterministic encoding.

    Equal bytes are equal values; the other way round it need not be so. Encoding takes a third of the time of decoding.
    """
    if not (signed.startswith(STATEMENT_START) and signed.endswith(STATEMENT_END)):
        return False
    try:
        encoded = cbor2.dumps(predicate)
    except (cbor2.CBORError, ValueError, TypeError, OverflowError, RecursionError):
        return False
    return signed[PREDICATE_AT : -len(STATEMENT_END)] == PREDICATE_LABEL + encoded


def _without_beside(predicate: Signed) -> Signed:
    return {name: value for name, value in predicate.items() if name not in BESIDE}


def same(signed: object, stored: object) -> bool:
    """Whether a decoded CBOR value and a decoded JSON value are the same."""
    kind = stored.__class__
    if kind is str or kind is bool or stored is None:
        return signed.__class__ is kind and signed == stored
    if kind is dict:
        return _same_map(signed, stored)  # type: ignore[arg-type]  # a dict
    if kind is list:
        return _same_list(signed, stored)  # type: ignore[arg-type]  # a list
    return same_number(signed, stored)


def same_number(signed: object, stored: object) -> bool:
    """Whether a signed number and a stored one have exactly the same value."""
    if isinstance(signed, bool) or not isinstance(signed, int | float):
        return False
    if isinstance(stored, int) and signed == stored:
        return True
    if isinstance(signed, int):
        return isinstance(stored, Real) and signed.bit_length() < LARGEST_INTEGER_BITS and _denotes(signed, stored)
    return _denotes(signed, stored)


def _denotes(signed: float, stored: object) -> bool:
    """Whether a number denotes a stored one: by its value or, if it is a float, by its shortest decimal form."""
    try:
        value = Decimal(stored.token) if isinstance(stored, Real) else Decimal(stored)  # type: ignore[arg-type]
        return value in (Decimal(signed), Decimal(repr(signed)))
    except (InvalidOperation, ValueError, TypeError):
        return False


def _same_map(signed: object, stored: Json) -> bool:
    if not isinstance(signed, dict) or signed.keys() != stored.keys():
        return False
    for name, value in stored.items():
        # Texts, the most frequent values by far, without a further call.
        if value.__class__ is str:
            if signed[name] != value:
                return False
        elif not same(signed[name], value):
            return False
    return True


def _same_list(signed: object, stored: list[object]) -> bool:
    if not isinstance(signed, list) or len(signed) != len(stored):
        return False
    return all(map(same, signed, stored))


def _schema_predicate(payload: Json, outcome: str) -> Signed | None:
    schema_type = _first(payload, "type", "schemaType", "schema_type")
    version = _first(payload, "version", "schemaVersion", "schema_version")
    digest = _first(payload, "manifestDigest", "manifest_digest")
    if isinstance(version, int) and not isinstance(version, bool):
        version = str(version)
    elif isinstance(version, Real):
        version = version.token
    if not (isinstance(schema_type, str) and isinstance(version, str) and isinstance(digest, str)):
        return None
    expected: Signed = {
        "org_id": payload.get("orgId") or None,
        "schema_type": schema_type,
        "schema_version": version,
        "manifest_digest": digest,
        "outcome": outcome,
    }
    source = payload.get("source")
    return expected | {"source": source} if isinstance(source, str) else expected


def _first(payload: Json, *names: str) -> object:
    """Give the first of some values that is neither null nor false, zero or empty."""
    return next((payload[name] for name in names if payload.get(name)), None)


def _same_beside(payload: Json, predicate: Signed, era: Era) -> bool:
    behalf, trace = payload.get("on_behalf_of"), payload.get("traceparent")
    stated: Json = {"on_behalf_of": behalf} if isinstance(behalf, dict) else {}
    if isinstance(trace, str) and TRACEPARENT.fullmatch(trace):
        stated["traceparent"] = trace
    return all(
        # Early servers did not sign these two; where they did, the row must say the same.
        same(predicate.get(name), value)
        for name, value in stated.items()
        if era == "v2" or name in predicate
    )
