"""The split holds: private keys in the registry end the run unseen, and what is no public key makes a set suspect."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    KeySerializationEncryption,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_der_private_key,
)
from fix_cli import RunCli
from fix_repository import PlainRepository
from fix_vault import Vault
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from borg_vault_plugin import SourceError, check_registry, refuse_private_keys
from borg_vault_plugin.database import source_from_url
from borg_vault_plugin.private_key import is_public_key, private_key_in
from borg_vault_plugin.session import open_session

pytest_plugins = ("fix_server",)

PrivateKey = ed25519.Ed25519PrivateKey | ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey
Form = Callable[[PrivateKey], str]

HEADER = "key_id,public_key,algorithm,status,activated_at,retired_at"
NOTHING_FOR_SECRETS = NoEncryption()
LOCKED = BestAvailableEncryption(b"x")
# Keys that are always the same: what fails today fails tomorrow.
KEYS: dict[str, PrivateKey] = {
    "Ed25519": ed25519.Ed25519PrivateKey.from_private_bytes(bytes(range(32))),
    "P-256": ec.derive_private_key(int.from_bytes(hashlib.sha256(b"P-256").digest()), ec.SECP256R1()),
    "P-521": ec.derive_private_key(int.from_bytes(hashlib.sha512(b"P-521").digest()), ec.SECP521R1()),
}


def der(
    key: PrivateKey,
    layout: PrivateFormat = PrivateFormat.PKCS8,
    lock: KeySerializationEncryption = NOTHING_FOR_SECRETS,
) -> bytes:
    return key.private_bytes(Encoding.DER, layout, lock)


def pem(
    key: PrivateKey,
    layout: PrivateFormat = PrivateFormat.PKCS8,
    lock: KeySerializationEncryption = NOTHING_FOR_SECRETS,
) -> str:
    return key.private_bytes(Encoding.PEM, layout, lock).decode()


def base64_of(data: bytes) -> str:
    return base64.b64encode(data).decode()


def jwk(_key: PrivateKey, **others: Any) -> dict[str, Any]:
    public = {"kty": "OKP", "crv": "Ed25519", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}
    return public | {"d": "nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A"} | others


FORMS: dict[str, Form] = {
    "PKCS#8 in PEM": pem,
    "encrypted PKCS#8 in PEM": lambda key: pem(key, lock=LOCKED),
    "PEM of OpenSSH": lambda key: pem(key, PrivateFormat.OpenSSH),
    "PEM in one line": lambda key: pem(key).replace("\n", "\\n"),
    "PEM between other words": lambda key: f"rotated on Monday\n{pem(key)}do not lose",
    "PKCS#8 in base64": lambda key: base64_of(der(key)),
    "encrypted PKCS#8 in base64": lambda key: base64_of(der(key, lock=LOCKED)),
    "PKCS#8 in base64url without padding": lambda key: base64.urlsafe_b64encode(der(key)).decode().rstrip("="),
    "lines of 76, as encode() writes them": lambda key: base64.encodebytes(der(key)).decode(),
    "lines of 64 and carriage returns": lambda key: "\r\n".join(textwrap.wrap(base64_of(der(key)), 64)),
    "encrypted, in lines": lambda key: base64.encodebytes(der(key, lock=LOCKED)).decode(),
    "in a sentence": lambda key: f'the key is "{base64_of(der(key))}", keep it',
    "after a colon": lambda key: f"private:{base64_of(der(key))}",
    "after a prefix with an underscore": lambda key: f"vsk_{base64_of(der(key))}",
    "after a prefix with a dash": lambda key: f"ed25519-priv-{base64_of(der(key))}",
    "after the public key": lambda key: f"{spki(key)}\n{base64_of(der(key))}",
    "in JSON": lambda key: json.dumps({"signing": {"key": base64_of(der(key))}}),
    "in lines, in JSON": lambda key: json.dumps([{"key": base64.encodebytes(der(key)).decode()}]),
    "hexadecimal, as bytea is printed": lambda key: "\\x" + der(key).hex(),
    "a JWK": lambda key: json.dumps(jwk(key)),
    "a JWK between other words": lambda key: f"key: {json.dumps(jwk(key))};",
    "a set of JWKs": lambda key: json.dumps({"keys": [{"kty": "OKP", "x": "x"}, jwk(key)]}),
    "a JWK inside a JWK": lambda key: json.dumps({"kty": "OKP", "next": jwk(key)}),
}


@pytest.mark.parametrize("algorithm", KEYS)
@pytest.mark.parametrize("form", FORMS)
def test_a_private_key_is_recognised(form: str, algorithm: str) -> None:
    kind = private_key_in(FORMS[form](KEYS[algorithm]))
    assert kind is not None
    assert kind in ("a private key in PEM", "a private key in DER", "a JWK with a private part")


@pytest.mark.parametrize("algorithm", ["P-256", "P-521"])
def test_a_key_of_sec1_is_recognised(algorithm: str) -> None:
    key = KEYS[algorithm]
    for form in (
        pem(key, PrivateFormat.TraditionalOpenSSL),
        base64_of(der(key, PrivateFormat.TraditionalOpenSSL)),
        base64.encodebytes(der(key, PrivateFormat.TraditionalOpenSSL)).decode(),
        "\\x" + der(key, PrivateFormat.TraditionalOpenSSL).hex(),
    ):
        assert private_key_in(form) is not None


def test_a_key_of_rsa_is_recognised() -> None:
    key = rsa.generate_private_key(65537, 2048)
    for layout in (PrivateFormat.PKCS8, PrivateFormat.TraditionalOpenSSL):
        assert private_key_in(base64_of(der(key, layout))) == "a private key in DER"
        assert private_key_in(pem(key, layout)) == "a private key in PEM"


def spki(key: PrivateKey) -> str:
    return base64_of(key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo))


ed25519_keys = st.binary(min_size=32, max_size=32).map(ed25519.Ed25519PrivateKey.from_private_bytes)
p256_keys = st.integers(1, 2**255).map(lambda number: ec.derive_private_key(number, ec.SECP256R1()))
private_keys = st.one_of(ed25519_keys, p256_keys)
patiently = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])  # a busy machine is no failure


@patiently
@given(private_keys)
def test_a_public_key_is_never_taken_for_a_private_one(key: PrivateKey) -> None:
    public, data = spki(key), base64.b64decode(spki(key))
    assert is_public_key(public)
    text = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
    ssh = key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()
    wrapped = base64.encodebytes(data).decode()
    for form in (public, text, ssh, wrapped, "\\x" + data.hex(), f"vsk_{public}", public * 3, f"{public}\n{public}"):
        assert private_key_in(form) is None
    assert private_key_in({"kty": "OKP", "crv": "Ed25519", "x": public, "kid": "d"}) is None


@patiently
@given(private_keys)
def test_a_private_key_is_recognised_wherever_it_stands(key: PrivateKey) -> None:
    text = base64_of(der(key))
    assert not is_public_key(text)
    for form in (text, f"  {text}\n", f"M{text}", f"MC4CAQAwBQYDK2Vw{text}", text + spki(key), spki(key) + text):
        assert private_key_in(form) is not None


@patiently
@given(st.binary(max_size=400))
@example(b"")
@example(bytes(200))
@example(b"0" * 300)
def test_random_bytes_are_no_key(data: bytes) -> None:
    # What is a private key by accident is one: the library that reads keys has the last word.
    try:
        load_der_private_key(data, password=None)
    except (ValueError, TypeError):
        assert private_key_in(base64_of(data)) is None
        assert private_key_in("\\x" + data.hex()) is None
        assert not is_public_key(base64_of(b"\x00" + data))


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text().filter(lambda name: name != "kty"), inner),
    max_leaves=20,
)


@patiently
@given(json_values)
def test_any_other_value_is_no_key(value: Any) -> None:
    assert private_key_in(value) is None
    assert private_key_in(json.dumps(value)) is None


def test_a_public_jwk_is_no_private_one() -> None:
    public = {name: value for name, value in jwk(KEYS["Ed25519"]).items() if name != "d"}
    for value in (public, {"keys": [public]}, {"d": "not of a key"}, json.dumps(public)):
        assert private_key_in(value) is None


def test_a_text_nested_too_deeply_to_read_is_passed_over() -> None:
    assert private_key_in('{"a":' * 20_000 + "1" + "}" * 20_000) is None


# Where in the registry a private key can stand: the column's type, and how the key gets there.
PLACES = {
    "text": "%s",
    "varchar(9999)": "%s",
    "text[]": "ARRAY['x', %s]",
    "json": "json_build_object('key', json_build_array(%s::text))",
    "jsonb": "jsonb_build_object('key', jsonb_build_array(%s::text))",
    "bytea": "decode(%s, 'base64')",
    "bytea[]": "ARRAY[NULL, decode(%s, 'base64')]",
    "pair": "ROW(1, decode(%s, 'base64'))::pair",
    "wrapped text": "encode(decode(%s, 'base64'), 'base64')",
}


@pytest.mark.parametrize("algorithm", ["Ed25519", "P-256"])
def test_a_private_key_in_an_added_column_is_refused(algorithm: str, latest_vault: Vault) -> None:
    secret = base64_of(der(KEYS[algorithm]))
    oldest = "(SELECT key_id FROM vault_signing_keys ORDER BY activated_at, key_id DESC LIMIT 1)"
    latest_vault.execute("CREATE TYPE pair AS (a integer, b bytea)")
    rows = latest_vault.value("SELECT count(*) FROM vault_signing_keys")
    for place, value in PLACES.items():
        with latest_vault.connect() as connection:
            kind = place.removeprefix("wrapped ")
            connection.execute(f"ALTER TABLE vault_signing_keys ADD escrow {kind}".encode())
            change = f"UPDATE vault_signing_keys SET escrow = {value} WHERE key_id = {oldest}"
            connection.execute(change.encode(), [secret])
        said = refusal(latest_vault)
        assert said.startswith(f"the key registry holds a private key in DER in row {rows}, column escrow:"), place
        latest_vault.execute("ALTER TABLE vault_signing_keys DROP escrow")


def test_a_jwk_in_a_json_column_is_refused(latest_vault: Vault) -> None:
    latest_vault.execute("ALTER TABLE vault_signing_keys ADD jwk jsonb")
    with latest_vault.connect() as connection:
        document = json.dumps({"keys": [jwk(KEYS["Ed25519"])]})
        connection.execute("UPDATE vault_signing_keys SET jwk = %s", [document])
    assert "a JWK with a private part in row 1, column jwk" in refusal(latest_vault)


def refusal(vault: Vault) -> str:
    """Give the line that refuses the registry; it never shows what is there."""
    with open_session(source_from_url(vault.url)) as connection, pytest.raises(SourceError) as refused:
        refuse_private_keys(connection)
    said = str(refused.value)
    assert len(said.splitlines()) == 1
    for key in KEYS.values():
        assert base64_of(der(key))[40:60] not in said
    assert "nWGxne" not in said
    return said


def test_the_registry_of_a_server_is_not_refused(latest_vault: Vault) -> None:
    with open_session(source_from_url(latest_vault.url)) as connection:
        refuse_private_keys(connection)


# One key in the place of a public one, one in a column that is not exported.
RUNS: dict[str, tuple[str, Form, str]] = {
    "the public key": ("UPDATE vault_signing_keys SET public_key = %s", pem, "column public_key"),
    "an added column": (
        "UPDATE vault_signing_keys SET seed = decode(%s, 'base64')",
        lambda key: base64_of(der(key)),
        "column seed",
    ),
}


@pytest.mark.parametrize("place", RUNS)
def test_a_private_key_ends_the_run_and_is_shown_and_kept_nowhere(
    place: str, server: Vault, repository: PlainRepository, run_cli: RunCli, tmp_path: Path
) -> None:
    statement, form, words = RUNS[place]
    secret = form(KEYS["P-256"])
    server.execute("ALTER TABLE vault_signing_keys ADD seed bytea")
    with server.connect() as connection:
        connection.execute(statement.encode(), [secret])
    said = run_cli("-v", "create", exit_code=4)
    assert said.stderr.startswith("borg-vault: hook key-registry: the key registry holds a private key")
    assert f"in row 1, {words}: private keys are never backed up" in said.stderr
    assert repository.names() == []
    shown = (said.stdout + said.stderr).encode()
    for part in traces(KEYS["P-256"]):
        assert part not in shown
        for path in tmp_path.rglob("*"):
            assert not path.is_file() or part not in path.read_bytes(), path


def traces(key: PrivateKey) -> list[bytes]:
    """Give what would give a key away: parts of its base64, of its bytes, and those in hex."""
    data = der(key)
    return [base64.b64encode(data)[60:100], data[36:60], data[36:60].hex().encode()]


def replace_key(vault: Vault, public_key: str) -> None:
    with vault.connect() as connection:
        newest = "(SELECT key_id FROM vault_signing_keys ORDER BY activated_at DESC, key_id LIMIT 1)"
        connection.execute(f"UPDATE vault_signing_keys SET public_key = %s WHERE key_id = {newest}", [public_key])


def test_a_key_that_is_none_makes_the_set_suspect(
    server: Vault, repository: PlainRepository, run_cli: RunCli, tmp_path: Path
) -> None:
    replace_key(server, base64_of(b"this is no key"))
    document = run_cli("create", "--json", exit_code=10).document
    assert document["verdict"] == "suspect"
    assert document["chain"]["verdict"] == "failed"
    *unproved, finding = document["chain"]["findings"]
    key_id = server.value("SELECT key_id FROM vault_signing_keys ORDER BY activated_at DESC, key_id LIMIT 1")
    assert (finding["code"], finding["where"]) == ("REGISTRY_KEY_UNREADABLE", f"vault-public-keys.csv, key {key_id}")
    assert finding["detail"] == "public_key is no SPKI in base64"
    assert unproved  # what that key has signed
    assert repository.names() == [document["archive"] + ".suspect"]
    assert repository.archives()[0]["comment"].startswith("verdict=suspect ")
    history = (tmp_path / "xdg_state_home/borg-vault/history.ndjson").read_text("utf-8")
    events = [json.loads(line) for line in history.splitlines()]
    stored = [event for event in events if event["event"] in {"intended", "created"}]
    assert [event["verdict"] for event in stored] == ["suspect"] * 2
    (listed,) = run_cli("list", "--json", exit_code=0).document["archives"]
    assert (listed["name"], listed["verdict"]) == (document["archive"] + ".suspect", "suspect")


def test_a_suspect_set_says_so_in_words_and_makes_retention_drop_nothing_good(
    server: Vault, repository: PlainRepository, run_cli: RunCli
) -> None:
    good = f"{server.database}-2026-05-01T00:00:00Z"
    repository.add_at("2026-05-01T00:00:00", good)
    replace_key(server, "A" * 200_000)
    said = run_cli("create", "--keep", "1", exit_code=10).stdout
    assert re.search(r"REGISTRY_KEY_UNREADABLE at vault-public-keys.csv, key [0-9a-f]{16}: public_key is no SPKI", said)
    assert ": SUSPECT" in said
    assert len(repository.names()) == 2
    assert good in repository.names()


UNREADABLE = {
    "nothing": "",
    "words": "not a key",
    "letters that no base64 has": "größe",
    "base64 of something else": base64_of(b"x" * 44),
    "cut short": spki(KEYS["Ed25519"])[:-8],
    "something after it": spki(KEYS["Ed25519"]) + "AAAA",
    "a key without its frame": base64_of(bytes(32)),
    "hexadecimal": base64.b64decode(spki(KEYS["Ed25519"])).hex(),
    "a line break inside": spki(KEYS["P-256"])[:60] + "\n" + spki(KEYS["P-256"])[60:],
    "a point that is not on the curve": spki(KEYS["P-256"])[:-8] + "AAAAAA==",
}


@pytest.mark.parametrize("what", UNREADABLE)
def test_what_is_no_public_key_is_a_finding(what: str) -> None:
    quoted = '"' + UNREADABLE[what].replace("\n", "\n") + '"'
    line = f"aa,{quoted},Ed25519,active,2026-05-26 01:24:53+00,\n"
    good = f"bb,{spki(KEYS['P-256'])},ES256,active,2026-05-26 01:24:53+00,\n"
    findings = list(check_registry([HEADER + "\n", good, *line.splitlines(keepends=True)]))
    assert [(one.code, one.where) for one in findings] == [("REGISTRY_KEY_UNREADABLE", "vault-public-keys.csv, key aa")]


@pytest.mark.parametrize(
    "header", ["", "key_id", HEADER + ",seed", HEADER.replace(",status", ""), "public_key,key_id" + HEADER[17:]]
)
def test_a_registry_has_exactly_six_columns(header: str) -> None:
    row = f"aa,{spki(KEYS['Ed25519'])},Ed25519,active,2026-05-26 01:24:53+00,\n"
    (finding,) = check_registry([header + "\n", row])
    assert finding.code == "REGISTRY_COLUMNS"
    assert HEADER.replace(",", ", ") in finding.detail


def test_a_row_of_another_length_is_a_finding() -> None:
    row = f"aa,{spki(KEYS['Ed25519'])},Ed25519,active,2026-05-26 01:24:53+00,,more\n"
    assert [one.code for one in check_registry([HEADER + "\n", row])] == ["REGISTRY_KEY_UNREADABLE"]


def test_a_registry_without_keys_has_no_finding() -> None:
    assert list(check_registry([HEADER + "\n"])) == []
