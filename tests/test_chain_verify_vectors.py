"""Signatures and envelopes against the small public vectors of the RFCs, and values against their exact meaning."""

from __future__ import annotations

import base64
import math
from decimal import Decimal
from fractions import Fraction
from typing import Any

import cbor2
import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given
from hypothesis import strategies as st

from borg_vault_plugin.chain.binding import same
from borg_vault_plugin.chain.envelope import decode, to_be_signed
from borg_vault_plugin.chain.keys import ED25519_SPKI, RegistryKey, registry_key, verify_signature
from borg_vault_plugin.chain.rows import Real, RegistryRow, read_payload
from borg_vault_plugin.chain.times import milliseconds

# RFC 8032 section 7.1: public key, message, signature of tests 1, 2 and 3.
RFC_8032 = [
    (
        "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
        "",
        (
            "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24"
            "655141438e7a100b"
        ),
    ),
    (
        "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
        "72",
        (
            "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aee"
            "b00d291612bb0c00"
        ),
    ),
    (
        "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025",
        "af82",
        (
            "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac18ff9b538d16f290ae67f760984dc6594a7c15e9716ed28d"
            "c027beceea1ec40a"
        ),
    ),
]
# RFC 9052 appendix C.2.1: a single ECDSA signature, and the key of appendix C.7.1 that made it (kid "11").
RFC_9052_SIGN1 = (
    "d28443a10126a10442313154546869732069732074686520636f6e74656e742e58408eb33e4ca31d1c465ab05aac34cc6b23d58fef5c083106c4"
    "d25a91aef0b0117e2af9a291aa32e14ab834dc56ed2a223444547e01f11d3b0916e5a4c345cacb36"
)
RFC_9052_KEY = (
    "bac5b11cad8f99f9c72b05cf4b9e26d244dc189f745228255a219a86d6a09eff",
    "20138bf82dc1b6d562be0fa54ab7804a3a64b6d72ccfed6b6fb6ed28bbfc117e",
)


def key_of(spki: bytes) -> RegistryKey:
    key = registry_key(RegistryRow(key_id="k", public_key=base64.b64encode(spki).decode()))
    assert key is not None
    return key


@pytest.mark.parametrize(("public", "message", "signature"), RFC_8032)
def test_ed25519_of_rfc_8032(public: str, message: str, signature: str) -> None:
    key, signed = key_of(ED25519_SPKI + bytes.fromhex(public)), bytes.fromhex(signature)
    assert key.kind == "Ed25519"
    assert verify_signature(key, -8, bytes.fromhex(message), signed) == "valid"
    assert verify_signature(key, -8, bytes.fromhex(message) + b"\0", signed) == "invalid"
    assert verify_signature(key, -7, bytes.fromhex(message), signed) == "wrong_algorithm"
    assert verify_signature(key, -8, bytes.fromhex(message), signed[:63]) == "invalid"


def test_sign1_of_rfc_9052() -> None:
    x, y = (int(part, 16) for part in RFC_9052_KEY)
    public = ec.EllipticCurvePublicNumbers(x, y, ec.SECP256R1()).public_key()
    key = key_of(public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo))
    envelope = decode(bytes.fromhex(RFC_9052_SIGN1), "v2")
    assert envelope is not None
    assert (envelope.algorithm, envelope.payload) == (-7, b"This is the content.")
    # The ToBeSigned of the example, as the RFC's authors publish it.
    assert to_be_signed(envelope).hex() == (
        "846a5369676e61747572653143a101264054546869732069732074686520636f6e74656e742e"
    )
    assert verify_signature(key, envelope.algorithm, to_be_signed(envelope), envelope.signature) == "valid"


@given(st.binary(max_size=70_000), st.binary(max_size=300))
def test_signed_bytes_are_those_of_the_definition(payload: bytes, protected: bytes) -> None:
    envelope = decode(cbor2.dumps(cbor2.CBORTag(18, [protected, {}, payload, b"s"])), "v1")
    assert envelope is not None
    assert to_be_signed(envelope) == cbor2.dumps(["Signature1", protected, b"", payload])


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1970-01-01T00:00:00.001Z", 1),
        ("1969-12-31T23:59:59.999Z", -1),
        ("2026-05-01T00:00:00.954Z", 1_777_593_600_954),
        ("9999-12-31T23:59:59.999Z", 253_402_300_799_999),
        ("2026-05-01T00:00:00.95Z", None),
        ("2026-05-01T00:00:00.954321Z", None),
        ("2026-05-01 00:00:00.954Z", None),
        ("2026-05-01T00:00:00.954+00:00", None),
        ("2026-02-29T00:00:00.000Z", None),
        ("2026-05-01T24:00:00.000Z", None),
        ("2026-05-01T00:00:60.000Z", None),
        ("\uff12\uff1026-05-01T00:00:00.954Z", None),
        ("2026-05-01T00:00:00.954Z\n", None),
        ("infinity", None),
        (17, None),
        (None, None),
    ],
)
def test_instants(text: object, expected: int | None) -> None:
    assert milliseconds(text) == expected


def stored(text: str) -> object:
    return read_payload(msgspec.Raw(text.encode()))


@pytest.mark.parametrize(
    ("signed", "text"),
    [
        (1, "1"),
        (1.0, "1"),
        (1, "1.0"),
        (1, "1e0"),
        (0.1, "0.1"),
        (0.1, "0.10"),
        (2**53, "9007199254740992"),
        (2**53 + 1, "9007199254740993"),
        (float(2**53), "9007199254740992"),
        (1e21, "1000000000000000000000"),
        (1e23, "100000000000000000000000"),
        (1e23, "99999999999999991611392"),
        (1.5e300, "1.5e300"),
        (5e-324, "5e-324"),
        (-0.0, "0"),
        (10**40, "1" + "0" * 40),
        (True, "true"),
        (None, "null"),
        ("é", '"\\u00e9"'),
        ([1, [True, {}]], "[1, [true, {}]]"),
        ({"a": None, "b": 0.5}, '{"b": 0.5, "a": null}'),
    ],
)
def test_same_values(signed: object, text: str) -> None:
    assert same(signed, stored(text))
    assert same(cbor2.loads(cbor2.dumps(signed)), stored(text))


@pytest.mark.parametrize(
    ("signed", "text"),
    [
        (1, "true"),
        (True, "1"),
        (0, "false"),
        (False, "0.0"),
        (0, "null"),
        (None, "0"),
        (1, '"1"'),
        ("1", "1"),
        ("0.5", "0.5"),
        (b"a", '"a"'),
        (2**53, "9007199254740993"),
        (float(2**53), "9007199254740993"),
        (2**60, "1152921504606847000"),
        (0.1, "0.1000000000000000000001"),
        (0.1, "0.10000000000000001"),
        (math.inf, "1e400"),
        (math.nan, "0"),
        (1, "1e999999999999999999999"),
        (0, "1e-999999999999999999999"),
        ({"a": None}, "{}"),
        ({}, '{"a": null}'),
        ({"a": None}, '{"b": null}'),
        ([1], "[1, 1]"),
        ([], "{}"),
        ({}, "[]"),
        ({1: 1}, '{"1": 1}'),
        ((), "[]"),
        (cbor2.undefined, "null"),
    ],
)
def test_different_values(signed: object, text: str) -> None:
    assert not same(signed, stored(text))


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**80), 2**80)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=4),
    max_leaves=12,
)


@given(JSON)
def test_a_value_is_the_same_after_both_encodings(value: Any) -> None:
    assert same(cbor2.loads(cbor2.dumps(value)), stored(msgspec.json.encode(value).decode()))


@given(st.integers() | st.floats(), st.decimals(allow_nan=False, allow_infinity=False))
def test_numbers_are_the_same_only_if_a_reader_takes_them_for_the_same(signed: float, written: Decimal) -> None:
    if same(signed, Real(str(written))):
        assert float(written) == signed or Fraction(written) == Fraction(signed)
