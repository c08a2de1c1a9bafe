"""Trust in keys: it flows from the pins through genuine statements, and each way of bending these is found."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import cbor2
import pytest
from cryptography.hazmat.primitives.asymmetric.ed448 import Ed448PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given, settings
from hypothesis import strategies as st

from borg_vault_plugin.chain.codes import Code
from borg_vault_plugin.chain.context import Trust, Window
from borg_vault_plugin.chain.rows import RegistryRow, StatementRow, read_row, row_decoder
from borg_vault_plugin.chain.statements import KeyTrust, walk
from borg_vault_plugin.chain.times import milliseconds
from borg_vault_plugin.sample import SampleVault, VaultShape
from borg_vault_plugin.sample.envelope import KEY_STATEMENT_TYPE, key_labels, sealed
from borg_vault_plugin.sample.keys import Algorithm, SigningKey, fingerprint, signing_key
from borg_vault_plugin.sample.rows import ndjson_line

Line = dict[str, Any]
Content = dict[str, Any]

ALGORITHMS: tuple[Algorithm, ...] = ("Ed25519", "ES256")
START = datetime(2026, 5, 1, 12, 0, 0, 954887, tzinfo=UTC)
STATEMENT_TYPE = "application/vnd.agledger.key-statement+cbor"


def instant(hour: float) -> str:
    """Write an instant as it is signed."""
    return (START + timedelta(hours=hour)).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def dumped(hour: float) -> str:
    """Write an instant as a dump has it: cut to milliseconds."""
    return instant(hour)[:23] + "Z"


@dataclass
class Keys:
    """A registry and its statements as JSON, which a test may bend; key number n is activated in hour 10 n."""

    algorithm: Algorithm = "Ed25519"
    registry: list[Line] = field(default_factory=list)
    statements: list[Line] = field(default_factory=list)

    def key(self, number: int) -> SigningKey:
        """Give a key; those from 90 on are kept for intruders."""
        return signing_key(77, number, self.algorithm)

    def register(self, number: int, retired: float | None = None, **columns: Any) -> None:
        """List a key."""
        self.registry.append(listed(self.key(number), 10 * number, retired) | columns)

    def add(self, kind: str, subject: int, endorser: int | None, at: float, **changes: Any) -> Line:
        """Store a statement at an hour; `changes` bend what is signed."""
        subject_key, endorser_key = self.key(subject), None if endorser is None else self.key(endorser)
        row = signed(kind, subject_key, endorser_key, at, 10 * subject, **changes)
        self.statements.append(row)
        return row

    def walk(self, *pins: int) -> KeyTrust:
        """Walk from some keys."""
        return walked(self.statements, self.registry, [anchor(self.key(pin)) for pin in pins])

    def anchored(self, trust: KeyTrust) -> set[int]:
        """Give the numbers of the keys that are anchored."""
        return {number for number in range(100) if trust.standing(self.key(number).key_id) == "anchored"}


def listed(key: SigningKey, activated: float, retired: float | None) -> Line:
    return {
        "key_id": key.key_id,
        "public_key": base64.b64encode(key.spki).decode(),
        "algorithm": key.algorithm,
        "status": "active" if retired is None else "retired",
        "activated_at": dumped(activated),
        "retired_at": None if retired is None else dumped(retired),
        "retired_by": None,
    }


def signed(
    kind: str, subject: SigningKey, endorser: SigningKey | None, at: float, activated: float, **changes: Any
) -> Line:
    content = described(kind, subject, endorser, activated, **changes) | {"iat": int(3600 * at)}
    endorsers = [] if endorser is None else [endorser]
    signers = endorsers if kind == "closure" else [*endorsers, subject]
    return {
        "id": "019d0000-0000-7000-8000-000000000000",
        "kind": kind,
        "subject_key_id": subject.key_id,
        "endorser_key_id": None if endorser is None else endorser.key_id,
        "statement": envelopes(content, signers),
        "created_at": dumped(at),
    }


def described(
    kind: str,
    subject: SigningKey,
    endorser: SigningKey | None,
    activated: float,
    *,
    retired: float = 0,
    forced: bool = False,
) -> Content:
    key: Content = {
        "kid": subject.key_id,
        "spkiSha256": fingerprint(subject.spki),
        "alg": subject.algorithm,
        "spki": subject.spki,
        "activatedAt": instant(activated),
    }
    content: Content = {"typ": kind, "iss": "https://vault.test", "iat": 0, "subject": key}
    if endorser is not None:
        content["endorser"] = {"kid": endorser.key_id, "spkiSha256": fingerprint(endorser.spki)}
    if kind == "closure":
        content["forced"] = forced
        key["retiredAt"] = instant(retired)
    return content


def envelopes(content: object, signers: Sequence[SigningKey]) -> list[str]:
    payload = content if isinstance(content, bytes) else cbor2.dumps(content, canonical=True)
    return [text(sealed(key, b"\xa3" + key_labels(key, KEY_STATEMENT_TYPE), payload)) for key in signers]


def text(data: bytes) -> str:
    return base64.b64encode(data).decode()


def anchor(key: SigningKey) -> str:
    return f"sha256:{fingerprint(key.spki)}"


def read(row_type: Any, lines: Iterable[Line]) -> list[Any]:
    return [read_row(row_decoder(row_type), json.dumps(line).encode()) for line in lines]


def walked(statements: Iterable[Line], registry: Iterable[Line], anchors: Iterable[str]) -> KeyTrust:
    return walk(read(StatementRow, statements), read(RegistryRow, registry), anchors)


def found(trust: KeyTrust) -> list[tuple[str, str]]:
    return [(finding.code, finding.where) for finding in trust.findings]


def row_place(number: int) -> str:
    return f"vault_key_statements, row {number}"


def rotated(count: int = 3, algorithm: Algorithm = "Ed25519", *, forced: tuple[int, ...] = ()) -> Keys:
    """Make keys of which each admits the next one and is closed by it.

    Rows: 1 genesis of key 0; then for key n = 1, 2, .. row 2n, its succession, and row 2n + 1, the closure before.
    """
    keys = Keys(algorithm)
    for number in range(count):
        keys.register(number, None if number == count - 1 else 10 * (number + 1))
    keys.add("genesis", 0, None, 0)
    for number in range(1, count):
        keys.add("succession", number, number - 1, 10 * number + 0.1)
        forcing = number - 1 in forced
        keys.add("closure", number - 1, number, 10 * number + 0.2, retired=10 * number, forced=forcing)
    return keys


@pytest.mark.parametrize("algorithms", [("Ed25519",), ("ES256",), ("Ed25519", "ES256")])
@pytest.mark.parametrize("rotations", [0, 1, 3])
def test_sample_vaults_are_anchored_from_every_key(algorithms: tuple[Algorithm, ...], rotations: int) -> None:
    vault = SampleVault(VaultShape(records=3, rotations=rotations, algorithms=algorithms))
    vault.grow(None, entries=5, onto="youngest", rotate=True)
    rows = vault.rows()
    registry = [json.loads(ndjson_line(row)) for row in rows.vault_signing_keys]
    statements = [json.loads(ndjson_line(row)) for row in rows.vault_key_statements or []]
    for number in range(rotations + 2):
        trust: Trust = walked(statements, registry, [anchor(vault.plan.key(number))])
        assert isinstance(trust, KeyTrust)
        assert trust.findings == ()
        assert trust.signing_since == milliseconds(registry[0]["activated_at"])
        for row in registry:
            assert trust.standing(row["key_id"]) == "anchored"
            window = Window(milliseconds(row["activated_at"]), milliseconds(row["retired_at"]))
            assert trust.window(row["key_id"]) == window


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("pins", [(0,), (1,), (2,), (0, 2), (0, 1, 2)])
def test_rotations_are_anchored_from_every_key(algorithm: Algorithm, pins: tuple[int, ...]) -> None:
    keys = rotated(3, algorithm)
    trust = keys.walk(*pins)
    assert (found(trust), keys.anchored(trust)) == ([], {0, 1, 2})


def test_an_anchor_may_be_written_in_capitals() -> None:
    keys = rotated()
    pin = "sha256:" + fingerprint(keys.key(0).spki).upper()
    assert keys.anchored(walked(keys.statements, keys.registry, [pin])) == {0, 1, 2}


@pytest.mark.parametrize(
    "anchors",
    [
        [],
        [""],
        ["ab" * 32],
        ["sha256:" + "ab" * 31],
        ["sha256:" + "ab" * 32 + "\n"],
        ["sha256:" + "gg" * 32],
        ["sha512:" + "ab" * 32],
        ["sha256:" + "ab" * 32, "a" * 16],
    ],
)
def test_what_is_no_anchor_is_refused(anchors: list[str]) -> None:
    with pytest.raises(ValueError, match=r"^.*anchor.*$") as refused:
        walk([], [], anchors)
    assert "\n" not in str(refused.value)


def test_a_pinned_key_without_any_statement_is_anchored_without_a_signed_window() -> None:
    keys = Keys()
    keys.register(0)
    trust = keys.walk(0)
    assert (found(trust), keys.anchored(trust), trust.window(keys.key(0).key_id)) == ([], {0}, None)
    assert trust.signing_since is None


def test_a_pin_that_is_not_there_anchors_nothing() -> None:
    keys = rotated()
    trust = keys.walk(50)
    assert keys.anchored(trust) == set()
    assert {code for code, _ in found(trust)} == {Code.KEY_STATEMENT_INVALID, Code.KEY_CLOSURE_INVALID}
    assert [place for _, place in found(trust)] == [row_place(number) for number in range(1, 6)]


def test_a_later_row_of_the_same_payload_is_ignored() -> None:
    keys = rotated(3, "ES256")
    keys.statements += keys.statements
    assert found(keys.walk(0)) == []


def test_statements_are_taken_in_the_order_of_their_storing() -> None:
    keys = rotated()
    keys.statements.reverse()
    trust = keys.walk(2)
    assert (found(trust), keys.anchored(trust)) == ([], {0, 1, 2})


def test_forms_that_are_not_laid_down_are_accepted() -> None:
    for algorithm, names in (("Ed25519", ("EdDSA", -8, -19)), ("ES256", ("es256", "ESP256", -7, -9))):
        for name in names:
            keys = Keys(algorithm)  # type: ignore[arg-type]  # of the two
            keys.register(0)
            content = described("genesis", keys.key(0), None, 0)
            content["subject"] |= {"alg": name, "kid": bytes.fromhex(keys.key(0).key_id)}
            content |= {"iat": None, "more": ["to", "come"]}
            keys.add("genesis", 0, None, 0)["statement"] = envelopes(content, [keys.key(0)])
            trust = keys.walk(0)
            assert found(trust) == []
            assert trust.window(keys.key(0).key_id) == Window(milliseconds(dumped(0)), None)


# Each bends a statement that is stored once more, later, so that nothing else depends on it.
Bend = Callable[[Keys, Line, Content, list[SigningKey]], object]


def change(row: Line, **columns: Any) -> None:
    row.update(columns)


def resign(row: Line, content: object, signers: Sequence[SigningKey]) -> None:
    row["statement"] = envelopes(content, signers)


def with_subject(**values: Any) -> Bend:
    return lambda _keys, row, content, signers: resign(row, content | {"subject": content["subject"] | values}, signers)


def with_content(**values: Any) -> Bend:
    return lambda _keys, row, content, signers: resign(row, content | values, signers)


def without(name: str) -> Bend:
    return lambda _keys, row, content, signers: resign(
        row, {key: value for key, value in content.items() if key != name}, signers
    )


def with_columns(**columns: Any) -> Bend:
    return lambda _keys, row, _content, _signers: change(row, **columns)


def reversed_map(content: Content) -> bytes:
    return cbor2.dumps(dict(sorted(content.items(), reverse=True)))


def spoiled(row: Line, signature: bytes | None = None) -> None:
    *others, last = [base64.b64decode(item) for item in row["statement"]]
    end = last[-64:-1] + bytes([last[-1] ^ 1]) if signature is None else signature
    row["statement"] = [*map(text, others), text(last[:-64] + end)]


def retyped(row: Line, key: SigningKey, content: Content) -> None:
    labels = key_labels(key, b"\x78\x1capplication/vnd.in-toto+cbor")
    row["statement"] = [text(sealed(key, b"\xa3" + labels, cbor2.dumps(content, canonical=True)))]


def renamed(row: Line, key: SigningKey, other: SigningKey) -> None:
    """Sign with a key under another key's id."""
    payload = cbor2.loads(base64.b64decode(row["statement"][0])).value[2]
    labels = key_labels(replace(key, key_id=other.key_id), KEY_STATEMENT_TYPE)
    row["statement"] = [text(sealed(key, b"\xa3" + labels, payload))]


def self_closed(keys: Keys, row: Line, content: Content) -> None:
    key = keys.key(0)
    content["endorser"] = {"kid": key.key_id, "spkiSha256": fingerprint(key.spki)}
    row["endorser_key_id"] = key.key_id
    resign(row, content, [key])


def by_stranger(keys: Keys, row: Line, content: Content, others: Sequence[SigningKey] = ()) -> None:
    key = keys.key(95)
    content["endorser"] = {"kid": key.key_id, "spkiSha256": fingerprint(key.spki)}
    row["endorser_key_id"] = key.key_id
    resign(row, content, [key, *others])


def two_payloads(row: Line, content: Content, signers: Sequence[SigningKey]) -> None:
    row["statement"] = [envelopes(content | {"iat": number}, [key])[0] for number, key in enumerate(signers)]


BENT: dict[str, tuple[str, Bend]] = {
    "wrong signature of a genesis": ("genesis", lambda _keys, row, _content, _signers: spoiled(row)),
    "wrong signature of a succession": ("succession", lambda _keys, row, _content, _signers: spoiled(row)),
    "wrong signature of a closure": ("closure", lambda _keys, row, _content, _signers: spoiled(row)),
    "zero signature": ("genesis", lambda _keys, row, _content, _signers: spoiled(row, bytes(64))),
    "no signature": ("genesis", lambda _keys, row, _content, _signers: spoiled(row, b"")),
    "signed by another": ("genesis", lambda keys, row, content, _signers: resign(row, content, [keys.key(1)])),
    "another key id in the header": (
        "genesis",
        lambda keys, row, _content, _signers: renamed(row, keys.key(0), keys.key(1)),
    ),
    "signed by the subject only": (
        "succession",
        lambda _keys, row, content, signers: resign(row, content, signers[1:]),
    ),
    "signed by the endorser only": (
        "succession",
        lambda _keys, row, content, signers: resign(row, content, signers[:1]),
    ),
    "signed in the other order": (
        "succession",
        lambda _keys, row, content, signers: resign(row, content, signers[::-1]),
    ),
    "signed once too often": (
        "genesis",
        lambda _keys, row, content, signers: resign(row, content, signers * 2),
    ),
    "two payloads": ("succession", lambda _keys, row, content, signers: two_payloads(row, content, signers)),
    "closed by the subject": ("closure", lambda keys, row, content, _signers: self_closed(keys, row, content)),
    "closed by a key that nobody knows": (
        "closure",
        lambda keys, row, content, _signers: by_stranger(keys, row, content),
    ),
    "admitted by a key that nobody knows": (
        "succession",
        lambda keys, row, content, signers: by_stranger(keys, row, content, signers[1:]),
    ),
    "another kid": ("genesis", with_subject(kid="ab" * 8)),
    "kid in capitals": ("genesis", with_subject(kid="AB" * 8)),
    "another fingerprint": ("genesis", with_subject(kid="ab" * 8, spkiSha256="ab" * 32)),
    "fingerprint as bytes": ("genesis", with_subject(spkiSha256=b"\xab" * 32)),
    "another key": ("genesis", with_subject(spki=signing_key(77, 1, "Ed25519").spki)),
    "no key": ("genesis", with_subject(spki=None)),
    "another algorithm": ("genesis", with_subject(alg="RS256")),
    "another algorithm's number": ("genesis", with_subject(alg=-37)),
    "true for an algorithm": ("genesis", with_subject(alg=True)),
    "milliseconds": ("genesis", with_subject(activatedAt=dumped(0))),
    "nanoseconds": ("genesis", with_subject(activatedAt=instant(0)[:-1] + "000Z")),
    "no such day": ("genesis", with_subject(activatedAt="2026-02-30T00:00:00.000000Z")),
    "another zone": ("genesis", with_subject(activatedAt=instant(0)[:-1] + "+00:00")),
    "no activation": ("genesis", with_subject(activatedAt=None)),
    "no retirement": ("closure", with_subject(retiredAt=None)),
    "no subject": ("genesis", with_content(subject=None)),
    "another type": ("genesis", with_content(typ="revocation")),
    "no issuer": ("genesis", without("iss")),
    "a genesis with an endorser": (
        "genesis",
        with_content(endorser={"kid": "ab" * 8, "spkiSha256": "ab" * 32}),
    ),
    "a succession without one": ("succession", without("endorser")),
    "an endorser without a fingerprint": ("succession", with_content(endorser={"kid": "ab" * 8})),
    "a closure that does not say whether forced": ("closure", without("forced")),
    "a closure forced by 1": ("closure", with_content(forced=1)),
    "a forced succession": ("succession", with_content(forced=False)),
    "kind and type differ": ("genesis", with_columns(kind="succession")),
    "another subject in the row": ("genesis", with_columns(subject_key_id="ab" * 8)),
    "another endorser in the row": ("succession", with_columns(endorser_key_id="ab" * 8)),
    "no endorser in the row": ("succession", with_columns(endorser_key_id=None)),
    "no time in the row": ("genesis", with_columns(created_at=None)),
    "an unreadable time in the row": ("genesis", with_columns(created_at="2026-02-30T00:00:00.000Z")),
    "not canonical": (
        "genesis",
        lambda _keys, row, content, signers: resign(row, reversed_map(content), signers),
    ),
    "another content type": ("genesis", lambda keys, row, content, _signers: retyped(row, keys.key(0), content)),
    "no map": ("genesis", lambda _keys, row, _content, signers: resign(row, cbor2.dumps([1]), signers)),
    "no envelopes": ("genesis", with_columns(statement=[])),
    "no list": ("genesis", with_columns(statement="0oRY")),
    "no base64": ("genesis", with_columns(statement=["*"])),
    "numbers": ("genesis", with_columns(statement=[1])),
}


def unharmed(kind: str, algorithm: Algorithm) -> tuple[Keys, int, Line, Content, list[SigningKey]]:
    """Give keys with one statement that may be lost: its row's number, the row, what it says, and who signs it."""
    keys = rotated(2, algorithm)
    if kind == "closure":  # closed a second time
        keys.add(kind, 0, 1, 20, retired=10)
    number = {"genesis": 1, "succession": 2, "closure": 4}[kind]
    row = keys.statements[number - 1]
    content = cbor2.loads(cbor2.loads(base64.b64decode(row["statement"][0])).value[2])
    signers = {"genesis": [0], "succession": [0, 1], "closure": [1]}[kind]
    return keys, number, row, content, [keys.key(signer) for signer in signers]


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("kind", ["genesis", "succession", "closure"])
def test_a_statement_that_is_signed_again(kind: str, algorithm: Algorithm) -> None:
    keys, _, row, content, signers = unharmed(kind, algorithm)
    resign(row, content | {"iat": 5}, signers)
    assert found(keys.walk(0, 1)) == []


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("case", BENT)
def test_a_bent_statement(case: str, algorithm: Algorithm) -> None:
    kind, bend = BENT[case]
    keys, number, row, content, signers = unharmed(kind, algorithm)
    bend(keys, row, content, signers)
    trust = keys.walk(0, 1)
    assert found(trust) == [(Code.KEY_STATEMENT_INVALID, row_place(number))]
    assert keys.anchored(trust) == {0, 1}


# Statements and columns that are genuine, and must not be so: what is found, and where.
def admitted_twice(keys: Keys) -> None:
    keys.add("succession", 1, 0, 10.15)


def admitted_again_by_genesis(keys: Keys) -> None:
    keys.add("genesis", 2, None, 25)


def admitted_by_a_closed_key(keys: Keys) -> None:
    keys.add("succession", 3, 0, 10.5)


def about_strangers(keys: Keys) -> None:
    keys.add("genesis", 95, None, 951)


def closed_by_a_stranger(keys: Keys) -> None:
    keys.register(95)
    keys.add("closure", 2, 95, 951, retired=950)


def closed_by_a_closed_key(keys: Keys) -> None:
    keys.add("closure", 2, 1, 25, retired=22)
    keys.registry[2] |= {"status": "retired", "retired_at": dumped(22)}


def closed_before_activation(keys: Keys) -> None:
    keys.add("closure", 1, 2, 25, retired=9)
    keys.registry[1] |= {"retired_at": dumped(9)}
    keys.statements.pop(2)  # the closure that key 1 signed, too late now
    keys.registry[0] |= {"status": "active", "retired_at": None}


def closed_ahead_of_time(keys: Keys) -> None:
    keys.add("succession", 3, 2, 30.1)
    keys.register(3)
    keys.add("closure", 2, 3, 30.2, retired=30.3)
    keys.registry[2] |= {"status": "retired", "retired_at": dumped(30.3)}


def retired_without_closure(keys: Keys) -> None:
    keys.registry[2] |= {"status": "retired", "retired_at": dumped(25)}


def key_place(keys: Keys, number: int) -> str:
    return f"vault_signing_keys, key {keys.key(number).key_id}"


def listing(number: int, **columns: Any) -> Callable[[Keys], None]:
    def bend(keys: Keys) -> None:
        keys.registry[number] |= columns

    return bend


MISPLACED: dict[str, tuple[Code, int, Callable[[Keys], None]]] = {
    "admitted twice": (Code.KEY_STATEMENT_INVALID, 6, admitted_twice),
    "admitted once more by a genesis": (Code.KEY_STATEMENT_INVALID, 6, admitted_again_by_genesis),
    "admitted by a closed key": (Code.KEY_STATEMENT_INVALID, 6, admitted_by_a_closed_key),
    "about strangers": (Code.KEY_STATEMENT_INVALID, 6, about_strangers),
    "closed by a stranger": (Code.KEY_CLOSURE_INVALID, 6, closed_by_a_stranger),
    "closed by a closed key": (Code.KEY_CLOSURE_INVALID, 6, closed_by_a_closed_key),
    "closed before activation": (Code.KEY_CLOSURE_INVALID, 5, closed_before_activation),
    "closed ahead of time": (Code.KEY_CLOSURE_INVALID, 7, closed_ahead_of_time),
}
LISTED: dict[str, tuple[Code, int, Callable[[Keys], None]]] = {
    "retired without a closure": (Code.KEY_CLOSURE_INVALID, 2, retired_without_closure),
    "another activation": (Code.CHAIN_KEY_WINDOW_DRIFT, 1, listing(1, activated_at=dumped(5))),
    "a millisecond earlier": (Code.CHAIN_KEY_WINDOW_DRIFT, 0, listing(0, activated_at=instant(0)[:20] + "953Z")),
    "no activation": (Code.CHAIN_KEY_WINDOW_DRIFT, 1, listing(1, activated_at=None)),
    "an unreadable activation": (Code.CHAIN_KEY_WINDOW_DRIFT, 1, listing(1, activated_at="then")),
    "another retirement": (Code.CHAIN_KEY_WINDOW_DRIFT, 0, listing(0, retired_at=dumped(90))),
    "no retirement": (Code.CHAIN_KEY_WINDOW_DRIFT, 0, listing(0, retired_at=None)),
    "made active again": (Code.CHAIN_KEY_WINDOW_DRIFT, 0, listing(0, status="active", retired_at=None)),
    "status only": (Code.CHAIN_KEY_WINDOW_DRIFT, 0, listing(0, status="active")),
    "a status that there is not": (Code.CHAIN_KEY_WINDOW_DRIFT, 2, listing(2, status="resting")),
    "no status": (Code.CHAIN_KEY_WINDOW_DRIFT, 2, listing(2, status=None)),
    "a retirement of an active key": (Code.CHAIN_KEY_WINDOW_DRIFT, 2, listing(2, retired_at=dumped(25))),
    "an unreadable retirement": (Code.CHAIN_KEY_WINDOW_DRIFT, 2, listing(2, retired_at=7)),
}
COVERED = {
    Code.KEY_STATEMENT_INVALID,
    *(code for table in (MISPLACED, LISTED) for code, _, _ in table.values()),
}


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("case", MISPLACED)
def test_a_misplaced_statement(case: str, algorithm: Algorithm) -> None:
    code, number, bend = MISPLACED[case]
    keys = rotated(3, algorithm)
    bend(keys)
    assert found(keys.walk(0)) == [(code, row_place(number))]


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("pin", [0, 1, 2])
@pytest.mark.parametrize("case", LISTED)
def test_a_registry_that_differs_from_what_was_signed(case: str, pin: int, algorithm: Algorithm) -> None:
    code, number, bend = LISTED[case]
    keys = rotated(3, algorithm)
    bend(keys)
    assert found(keys.walk(pin)) == [(code, key_place(keys, number))]


def test_codes_are_those_of_the_key_statements() -> None:
    assert {code for code in Code if code.startswith("KEY_")} | {Code.CHAIN_KEY_WINDOW_DRIFT} == COVERED


# Who is anchored after what.
def test_a_genesis_gives_no_trust() -> None:
    keys = rotated(2)
    keys.register(95)
    keys.add("genesis", 95, None, 951)
    assert keys.anchored(keys.walk(0)) == {0, 1}


def test_a_key_admitted_by_its_genesis_does_not_vouch_for_who_admits_it_later() -> None:
    keys = Keys()
    keys.register(0)
    keys.register(1)
    keys.add("genesis", 1, None, 10)
    keys.add("succession", 1, 0, 11)
    assert keys.anchored(keys.walk(1)) == {1}
    assert keys.anchored(keys.walk(0)) == {0, 1}


def test_a_key_admitted_twice_vouches_for_neither() -> None:
    keys = rotated(2)
    keys.register(5)
    keys.add("succession", 1, 5, 60)
    trust = keys.walk(1)
    assert keys.anchored(trust) == {1}
    assert (Code.KEY_STATEMENT_INVALID, row_place(4)) in found(trust)


@pytest.mark.parametrize(
    ("forced", "pin", "anchored"),
    [
        # What flows out of a key closed by force is void, forwards and backwards; the key itself stays anchored.
        (1, 0, {0, 1}),
        (1, 1, {1}),
        (1, 2, {1, 2}),
        (0, 0, {0}),
        (0, 1, {0, 1, 2}),
        (0, 2, {0, 1, 2}),
    ],
)
def test_forced_closures(forced: int, pin: int, anchored: set[int]) -> None:
    keys = rotated(3, forced=(forced,))
    assert keys.anchored(keys.walk(pin)) == anchored


def test_a_key_admitted_only_by_a_compromised_one_is_not_anchored() -> None:
    keys = Keys()
    keys.add("genesis", 0, None, 0)
    keys.add("succession", 1, 0, 10)
    keys.add("succession", 90, 1, 12)  # made with the stolen key 1
    keys.add("succession", 2, 0, 20)
    keys.add("closure", 1, 2, 20.5, retired=20, forced=True)
    for number, retired in {0: None, 1: 20, 2: None, 90: None}.items():
        keys.register(number, retired)
    for pin in (0, 2):
        trust = keys.walk(pin)
        assert keys.anchored(trust) == {0, 1, 2}
        assert found(trust) == []
        assert trust.window(keys.key(1).key_id) == Window(milliseconds(dumped(10)), milliseconds(dumped(20)))
        assert trust.window(keys.key(90).key_id) is None
        assert trust.standing(keys.key(90).key_id) == "unanchored"


def test_what_a_closed_key_admits_afterwards_is_void_without_force() -> None:
    keys = rotated(2)
    keys.register(90)
    keys.add("succession", 90, 0, 15)
    trust = keys.walk(0)
    assert keys.anchored(trust) == {0, 1}
    assert found(trust) == [(Code.KEY_STATEMENT_INVALID, row_place(4))]


def test_of_several_closures_the_first_one_stored_counts() -> None:
    keys = rotated(3)
    keys.register(5)
    keys.add("succession", 5, 0, 21)
    keys.add("closure", 0, 2, 22, retired=10)
    trust = keys.walk(0)
    assert keys.anchored(trust) == {0, 1, 2}
    assert found(trust) == [(Code.KEY_STATEMENT_INVALID, row_place(6))]


def test_a_closure_may_not_contradict_itself() -> None:
    keys = Keys()
    keys.register(1, 9)
    keys.register(2)
    keys.add("succession", 2, 1, 20)
    keys.add("closure", 1, 2, 21, retired=9)
    assert found(keys.walk(1)) == [(Code.KEY_CLOSURE_INVALID, row_place(2))]


def test_what_a_key_admitted_before_its_closure_stays() -> None:
    keys = rotated(2)
    keys.register(5)
    keys.statements[1:1] = [keys.add("succession", 5, 0, 10.05)]
    keys.statements.pop()
    assert keys.anchored(keys.walk(0)) == {0, 1, 5}


def test_a_closure_by_a_stranger_closes_nothing() -> None:
    keys = rotated(2)
    keys.register(95)
    keys.add("closure", 1, 95, 951, retired=15, forced=True)
    trust = keys.walk(0)
    assert keys.anchored(trust) == {0, 1}
    assert trust.window(keys.key(1).key_id) == Window(milliseconds(dumped(10)), None)


def test_of_several_closures_the_earliest_retirement_counts() -> None:
    keys = rotated(3)
    keys.add("closure", 0, 2, 25, retired=8, forced=True)
    trust = keys.walk(2)
    assert trust.window(keys.key(0).key_id) == Window(milliseconds(dumped(0)), milliseconds(dumped(8)))
    assert (Code.CHAIN_KEY_WINDOW_DRIFT, key_place(keys, 0)) in found(trust)


def test_of_several_admissions_the_latest_activation_counts() -> None:
    keys = rotated(2)
    content = described("genesis", keys.key(1), None, 11)
    keys.add("genesis", 1, None, 12)["statement"] = envelopes(content, [keys.key(1)])
    window = keys.walk(0).window(keys.key(1).key_id)
    assert window == Window(milliseconds(dumped(11)), None)


def test_a_key_that_is_not_what_it_is_called_is_not_anchored() -> None:
    keys = rotated(2)
    keys.registry[1] |= {"key_id": keys.key(95).key_id, "activated_at": None}
    trust = keys.walk(0)
    assert (found(trust), keys.anchored(trust)) == ([], {0})
    assert trust.standing(keys.key(95).key_id) == "unanchored"


def test_a_key_whose_place_in_the_registry_another_took_is_not_anchored() -> None:
    keys = rotated(2)
    keys.registry[1]["public_key"] = text(keys.key(95).spki)
    assert keys.anchored(keys.walk(0)) == {0}


@pytest.mark.parametrize("first", [True, False])
def test_a_name_that_two_keys_share_is_neithers(*, first: bool) -> None:
    keys = rotated(2)
    intruder = keys.registry[1] | {"public_key": text(keys.key(95).spki)}
    keys.registry.insert(0 if first else 2, intruder)
    assert keys.anchored(keys.walk(0)) == {0}


def test_a_key_that_is_in_statements_only_carries_trust() -> None:
    keys = rotated(3)
    keys.registry.pop(1)
    trust = keys.walk(0)
    assert (found(trust), keys.anchored(trust)) == ([], {0, 2})


# Keys of a kind that cannot be verified here.
def unverifiable_key() -> SigningKey:
    public = Ed448PrivateKey.from_private_bytes(bytes(57)).public_key()
    spki = public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return SigningKey(fingerprint(spki)[:16], "Ed25519", -8, spki, lambda _message: bytes(64))


def through_the_unverifiable() -> tuple[Keys, SigningKey]:
    """Let key 0 admit one that cannot be verified, and that one key 1."""
    keys, middle = rotated(1), unverifiable_key()
    keys.registry.append(listed(middle, 5, None))
    keys.register(1)
    keys.statements += [
        signed("succession", middle, keys.key(0), 5, 5),
        signed("succession", keys.key(1), middle, 10.1, 10),
    ]
    return keys, middle


def test_what_hangs_on_unverifiable_statements_is_undecided() -> None:
    keys, middle = through_the_unverifiable()
    trust = keys.walk(0)
    assert found(trust) == []
    assert keys.anchored(trust) == {0}
    assert [trust.standing(one) for one in (middle.key_id, keys.key(1).key_id)] == ["undecided"] * 2
    trust = keys.walk(0, 1)
    assert keys.anchored(trust) == {0, 1}


def test_whom_a_key_vouches_for_is_undecided_where_another_may_have_admitted_it() -> None:
    keys, other = rotated(2), unverifiable_key()
    keys.registry.append(listed(other, 5, None))
    keys.statements.append(signed("succession", keys.key(1), other, 9, 10))
    trust = keys.walk(1)
    assert keys.anchored(trust) == {1}
    assert [trust.standing(one) for one in (keys.key(0).key_id, other.key_id)] == ["undecided"] * 2


def test_a_key_that_an_undecided_one_closes_is_undecided() -> None:
    keys, middle = through_the_unverifiable()
    keys.statements.append(signed("closure", keys.key(0), middle, 6, 0, retired=5))
    trust = keys.walk(0)
    assert found(trust) == []
    assert trust.standing(keys.key(0).key_id) == "undecided"


def test_what_can_be_verified_must_be_valid_beside_what_cannot() -> None:
    keys, middle = through_the_unverifiable()
    row = keys.statements[1]
    row["statement"][0] = envelopes(described("succession", middle, keys.key(0), 5), [keys.key(1)])[0]
    assert (Code.KEY_STATEMENT_INVALID, row_place(2)) in found(keys.walk(0))


def test_an_unverifiable_key_closes_nobody_whom_it_does_not_follow() -> None:
    keys, stranger = rotated(2), unverifiable_key()
    keys.registry.append(listed(stranger, 5, None))
    keys.statements.append(signed("closure", keys.key(1), stranger, 30, 10, retired=20))
    trust = keys.walk(0)
    assert keys.anchored(trust) == {0, 1}
    assert found(trust) == [(Code.KEY_CLOSURE_INVALID, row_place(4))]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)
CBOR = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text() | st.integers(), inner, max_size=3),
    max_leaves=6,
)


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_no_column_makes_it_crash(data: st.DataObject) -> None:
    keys = rotated()
    row = data.draw(st.sampled_from([*keys.statements, *keys.registry]))
    row[data.draw(st.sampled_from(sorted(row)))] = data.draw(JSON)
    keys.walk(0)


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_no_payload_makes_it_crash(data: st.DataObject) -> None:
    keys = rotated(2)
    row = data.draw(st.sampled_from(keys.statements))
    content = cbor2.loads(cbor2.loads(base64.b64decode(row["statement"][0])).value[2])
    target = data.draw(st.sampled_from([content, content["subject"], content.get("endorser", content)]))
    target[data.draw(st.sampled_from(sorted(target)))] = data.draw(CBOR)
    resign(row, content, [keys.key(number) for number in (0, 1)[: len(row["statement"])]])
    keys.walk(0)


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["genesis", "succession", "closure"]), st.integers(0, 4), st.integers(0, 4), st.booleans()
    ),
    max_size=8,
)


@settings(max_examples=150, deadline=None)
@given(STEPS, st.integers(0, 4))
def test_statements_that_give_no_trust_take_none_away_from_the_pin(
    steps: list[tuple[str, int, int, bool]], pin: int
) -> None:
    keys = Keys()
    for number in range(5):
        keys.register(number)
    for hour, (kind, subject, endorser, forced) in enumerate(steps):
        if kind == "closure":
            keys.add(kind, subject, endorser, 100 + hour, retired=60, forced=forced)
        else:
            keys.add(kind, subject, None if kind == "genesis" else endorser, 100 + hour)
    trust = keys.walk(pin)
    anchored = keys.anchored(trust)
    admitted = {(subject, endorser) for kind, subject, endorser, _ in steps if kind == "succession"}
    assert pin in anchored
    # Every other anchored key shares a succession with an anchored key.
    assert all(
        any({subject, endorser} == {number, other} for subject, endorser in admitted for other in anchored - {number})
        for number in anchored - {pin}
    )
