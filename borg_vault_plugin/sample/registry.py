"""The signing-key registry, and in v2 the signed statements by which keys admit and close each other."""

from __future__ import annotations

import base64
from collections.abc import Iterator

from borg_vault_plugin.sample.envelope import SERVER_URL, canonical, sealed_key_statement
from borg_vault_plugin.sample.keys import SigningKey, fingerprint
from borg_vault_plugin.sample.plan import SECOND, Plan, utc_text
from borg_vault_plugin.sample.rows import Json, KeyStatement, RegisteredKey, uuid7

# A closure is stored after the succession, and both after the instant they speak of, also at millisecond precision.
SUCCESSION_DELAY, CLOSURE_DELAY = 5_000, 10_000


def registered_keys(plan: Plan) -> list[RegisteredKey]:
    """Give the registry, in order of activation; each key retires when the next one is activated."""
    retirements = [*plan.activations[1:], None]
    return [registered_key(plan, index, retired) for index, retired in enumerate(retirements)]


def registered_key(plan: Plan, index: int, retired: int | None) -> RegisteredKey:
    """Give one row of the registry."""
    key = plan.key(index)
    return RegisteredKey(
        key_id=key.key_id,
        public_key=base64.b64encode(key.spki).decode(),
        algorithm=key.algorithm,
        status="active" if retired is None else "retired",
        activated_at=utc_text(plan.activations[index]),
        retired_at=None if retired is None else utc_text(retired),
        retired_by=None if retired is None else plan.random_id("platform operator"),
    )


def key_statements(plan: Plan) -> list[KeyStatement]:
    """Give the statements in the order in which they were stored; none in v1."""
    return list(statements(plan)) if plan.shape.era == "v2" else []


def statements(plan: Plan) -> Iterator[KeyStatement]:
    """Give a genesis for the first key; for each later one a succession, and the closure of the one before it."""
    yield key_statement(plan, "genesis", subject=0, endorser=None, instant=plan.activations[0])
    for index in range(1, len(plan.activations)):
        activated = plan.activations[index]
        yield key_statement(plan, "succession", subject=index, endorser=index - 1, instant=activated + SUCCESSION_DELAY)
        yield key_statement(plan, "closure", subject=index - 1, endorser=index, instant=activated + CLOSURE_DELAY)


def key_statement(plan: Plan, kind: str, *, subject: int, endorser: int | None, instant: int) -> KeyStatement:
    """Sign one statement: a genesis by its subject, a succession by both, a closure by the endorser."""
    key, other = plan.key(subject), None if endorser is None else plan.key(endorser)
    content: Json = {
        "typ": kind,
        "iss": SERVER_URL,
        "iat": instant // SECOND,
        "subject": described(plan, subject, closed=kind == "closure"),
    }
    content |= {} if other is None else {"endorser": {"kid": other.key_id, "spkiSha256": fingerprint(other.spki)}}
    content |= {"forced": False} if kind == "closure" else {}
    signers = (other,) if kind == "closure" else (other, key)
    payload = canonical(content)
    return KeyStatement(
        id=uuid7(instant, plan.shape.seed, kind, subject),
        kind=kind,
        subject_key_id=key.key_id,
        endorser_key_id=None if other is None else other.key_id,
        statement=[sealed_key_statement(signer, payload) for signer in signers if signer is not None],
        created_at=utc_text(instant),
    )


def described(plan: Plan, index: int, *, closed: bool) -> Json:
    """Describe the key that a statement is about; a closure also names the end of its window."""
    key: SigningKey = plan.key(index)
    subject: Json = {
        "kid": key.key_id,
        "spkiSha256": fingerprint(key.spki),
        "alg": key.algorithm,
        "spki": key.spki,
        "activatedAt": utc_text(plan.activations[index]),
    }
    return subject | ({"retiredAt": utc_text(plan.activations[index + 1])} if closed else {})
