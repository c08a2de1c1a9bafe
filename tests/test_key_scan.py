"""Private keys among files: found wherever they stand, named by file and line, shown nowhere; what is public passes."""

from __future__ import annotations

import base64
import hashlib
import json
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    KeySerializationEncryption,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from fix_cli import RunCli
from fix_history import found
from fix_plugin import InstallPlugin
from fix_repository import PlainRepository
from fix_shelf import Shelf, WriteConfig, written_below
from fix_vault import Vault

from borg_vault_plugin import SourceError
from borg_vault_plugin.key_scan import OVERLAP_BYTES, PIECE_BYTES, kind_of_key, refuse_private_keys_in
from borg_vault_plugin.sections import Allowed
from borg_vault_plugin.staging import Artifact

pytest_plugins = ("fix_server", "fix_sets")

PrivateKey = ed25519.Ed25519PrivateKey | ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey

PLAIN, LOCKED = NoEncryption(), BestAvailableEncryption(b"x")


def prime(seed: bytes) -> int:
    """Give a prime of 1024 bits, always the same."""
    number = int.from_bytes(hashlib.shake_256(seed).digest(128)) | 3 << 1022 | 1
    while pow(2, number - 1, number) != 1 or number % 65537 == 1:
        number += 2
    return number


def rsa_key(p: int, q: int, e: int = 65537) -> rsa.RSAPrivateKey:
    """Make a key of two primes."""
    d = pow(e, -1, (p - 1) * (q - 1))
    public = rsa.RSAPublicNumbers(e, p * q)
    return rsa.RSAPrivateNumbers(p, q, d, d % (p - 1), d % (q - 1), pow(q, -1, p), public).private_key()


# Keys that are always the same: what fails today fails tomorrow.
ED25519 = ed25519.Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
P256 = ec.derive_private_key(int.from_bytes(hashlib.sha256(b"P-256").digest()), ec.SECP256R1())
P521 = ec.derive_private_key(int.from_bytes(hashlib.sha512(b"P-521").digest()), ec.SECP521R1())
RSA = rsa_key(prime(b"p"), prime(b"q"))
KEYS: dict[str, PrivateKey] = {"Ed25519": ED25519, "P-256": P256, "P-521": P521, "RSA": RSA}
PKCS8, SEC1_OR_PKCS1 = PrivateFormat.PKCS8, PrivateFormat.TraditionalOpenSSL

AGE = "AGE-SECRET-KEY-1QQPSHLMJ3T9RVWF2Z0KXGYN4DUE6C5A7QQPSHLMJ3T9RVWF2Z0KXGYN4DU"
AGE_PUBLIC = "age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p"
SECRET = "8Zt1vVbq0rJ3xW6mY2nPkQ"


def der(key: PrivateKey, layout: PrivateFormat = PKCS8, lock: KeySerializationEncryption = PLAIN) -> bytes:
    return key.private_bytes(Encoding.DER, layout, lock)


def pem(key: PrivateKey, layout: PrivateFormat = PKCS8, lock: KeySerializationEncryption = PLAIN) -> bytes:
    return key.private_bytes(Encoding.PEM, layout, lock)


def indented(text: bytes, by: int = 4) -> bytes:
    return textwrap.indent(text.decode(), " " * by).encode()


def jwk(**others: object) -> dict[str, object]:
    public = {"kty": "OKP", "crv": "Ed25519", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}
    return public | {"d": "nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A"} | others


def yaml_of(mapping: dict[str, object], by: int = 6) -> bytes:
    return indented("".join(f"{name}: {value}\n" for name, value in mapping.items()).encode(), by)


PUTTY = b"PuTTY-User-Key-File-3: ssh-ed25519\nEncryption: none\nComment: x\nPublic-Lines: 2\n"
FORMS: dict[str, Callable[[PrivateKey], bytes]] = {
    "PKCS#8 in PEM": pem,
    "PKCS#8 in PEM, locked": lambda key: pem(key, lock=LOCKED),
    "OpenSSH": lambda key: pem(key, PrivateFormat.OpenSSH),
    "OpenSSH without its header": lambda key: b"".join(pem(key, PrivateFormat.OpenSSH).splitlines()[1:-1]),
    "PEM in YAML": lambda key: b"tls:\n  key: |\n" + indented(pem(key)),
    "PEM in JSON": lambda key: json.dumps({"key": pem(key).decode()}).encode(),
    "PEM with carriage returns": lambda key: pem(key).replace(b"\n", b"\r\n"),
    "PEM in UTF-16": lambda key: pem(key).decode().encode("utf-16"),
    "PEM in base64, as in a Kubernetes Secret": lambda key: b"  tls.key: " + base64.b64encode(pem(key)) + b"\n",
    "PEM in base64, in lines": lambda key: base64.encodebytes(pem(key)),
    "PEM, locked, in base64": lambda key: base64.b64encode(pem(key, lock=LOCKED)),
    "DER": der,
    "DER, locked": lambda key: der(key, lock=LOCKED),
    "DER with something after it": lambda key: der(key) + b"\n",
    "DER after something": lambda key: b"\x00\x01header\x30\x82\x01" + der(key),
    "DER in base64": lambda key: base64.b64encode(der(key)),
    "DER in base64, in lines": lambda key: base64.encodebytes(der(key)),
    "DER in base64, in YAML": lambda key: b"key: >-\n" + indented(base64.encodebytes(der(key))),
    "DER in hexadecimal, as PostgreSQL prints it": lambda key: f"\\x{der(key).hex()}".encode(),
}
OTHERS: dict[str, bytes] = {
    "SEC 1 in PEM": pem(P256, SEC1_OR_PKCS1),
    "SEC 1 in DER": der(P521, SEC1_OR_PKCS1),
    "SEC 1 in base64": base64.encodebytes(der(P256, SEC1_OR_PKCS1)),
    "PKCS#1 in PEM": pem(RSA, SEC1_OR_PKCS1),
    "PKCS#1 in PEM, locked": pem(RSA, SEC1_OR_PKCS1, LOCKED),
    "PKCS#1 in DER": der(RSA, SEC1_OR_PKCS1),
    "PKCS#1 in base64": base64.b64encode(der(RSA, SEC1_OR_PKCS1)),
    "a JWK": json.dumps(jwk()).encode(),
    "a JWK in lines": json.dumps(jwk(), indent=2).encode(),
    "JWKs, a line each": b"\n".join(json.dumps(one).encode() for one in ({"kty": "OKP", "x": "y"}, jwk())),
    "a JWK in unfinished JSON": b'{"keys": [' + json.dumps(jwk()).encode() + b", {",
    "a JWK as text in JSON": json.dumps({"jwk": json.dumps(jwk())}).encode() + b"}",
    "a JWK in YAML": b"keys:\n    - use: sig\n" + yaml_of(jwk()),
    "a JWK of RSA": json.dumps({"d": "x" * 342, "e": "AQAB", "n": "y" * 342, "kty": "RSA"}).encode(),
    "a symmetric JWK": json.dumps({"kty": "oct", "k": "AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ"}).encode(),
    "age": f"# created: 2026-05-01\n# public key: {AGE_PUBLIC}\n{AGE}\n".encode(),
    "age, of the new kind": AGE.replace("KEY-1", "KEY-PQ-1").encode(),
    "PuTTY": PUTTY,
    "SSH of the commercial kind": b"---- BEGIN SSH2 ENCRYPTED PRIVATE KEY ----\nComment: x\nP2/56w==\n",
    "PGP": b"-----BEGIN PGP PRIVATE KEY BLOCK-----\n\nlQVYBF...\n",
}  # fmt: skip


@pytest.mark.parametrize("algorithm", KEYS)
@pytest.mark.parametrize("form", FORMS)
def test_a_private_key_is_found_in_every_form(form: str, algorithm: str) -> None:
    data = FORMS[form](KEYS[algorithm])
    assert kind_of_key(data) is not None
    assert kind_of_key(b"before: it\n\n" + data) is not None


@pytest.mark.parametrize("form", OTHERS)
def test_keys_of_other_kinds_are_found(form: str) -> None:
    assert kind_of_key(OTHERS[form]) is not None


def certificate() -> x509.Certificate:
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "server.example")])
    begin = datetime(2026, 5, 1, tzinfo=UTC)
    builder = x509.CertificateBuilder(name, name, RSA.public_key(), 1, begin, begin + timedelta(days=1))
    return builder.sign(RSA, hashes.SHA256())


def public_forms() -> Iterable[tuple[str, bytes]]:
    for name, key in KEYS.items():
        public = key.public_key()
        for form, encoding in (("PEM", Encoding.PEM), ("DER", Encoding.DER)):
            data = public.public_bytes(encoding, PublicFormat.SubjectPublicKeyInfo)
            yield f"{name}, {form}", data
            yield f"{name}, {form} in base64", base64.encodebytes(data)
        yield f"{name}, OpenSSH", public.public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH)


PUBLIC: dict[str, bytes] = dict(public_forms()) | {
    "a certificate in PEM": certificate().public_bytes(Encoding.PEM),
    "a certificate in DER": certificate().public_bytes(Encoding.DER),
    "a certificate in base64": base64.b64encode(certificate().public_bytes(Encoding.PEM)),
    "a public JWK": json.dumps({"kty": "EC", "crv": "P-256", "x": "x" * 43, "y": "y" * 43, "kid": "d" * 43}).encode(),
    "a d that is no JWK's": b'<svg><path d="M0 0L10 10"/></svg> {"d": "' + b"x" * 50 + b'"}',
    "a public PGP key": b"-----BEGIN PGP PUBLIC KEY BLOCK-----\n\nmQENBF...\n",
    "an age recipient": AGE_PUBLIC.encode(),
    "words about keys": b"the PRIVATE KEY is elsewhere, see BEGIN and END; AGE-SECRET-KEY-1 is how one begins\n",
    "random bytes": hashlib.shake_256(b"7").digest(1 << 18),
    "random letters": base64.encodebytes(hashlib.shake_256(b"7").digest(1 << 18)),
    "zeros": bytes(1 << 18),
    "nothing": b"",
}


@pytest.mark.parametrize("form", PUBLIC)
def test_what_is_public_passes(form: str) -> None:
    assert kind_of_key(PUBLIC[form]) is None


VARIABLES = [
    "VAULT_SIGNING_KEY", "API_KEY_SECRET", "WEBHOOK_ENCRYPTION_KEY", "WEBHOOK_SECRET", "FEDERATION_SIGNING_KEY",
    "OLD_VAULT_SIGNING_KEY", "vault_signing_key",
]  # fmt: skip
GIVEN = {
    ".env": "{name}={value}",
    ".env with spaces": "  {name} = {value}  # rotated on Monday",
    ".env with quotes": "{name}='{value}'",
    "a shell": 'export {name}="{value}"; run',
    "YAML": "    {name}: {value}",
    "YAML with quotes": '"{name}": "{value}"',
    "YAML in a block": "{name}: |\n  {value}\n",
    "YAML in a line": "env: {{ A: b, {name}: {value} }}",
    "Compose": "      - {name}={value}",
    "Compose with quotes": '      - "{name}={value}"',
    "Compose with a default": "      {name}: ${{{name}:-{value}}}",
    "JSON": '{{"{name}":"{value}"}}',
    "JSON in JSON": '{{"config": "{{\\"{name}\\": \\"{value}\\"}}"}}',
    "a Kubernetes manifest": "- name: {name}\n  value: {value}",
    "a Kubernetes manifest with quotes": '- name: "{name}"\n  value: "{value}"',
    "a Kubernetes manifest in JSON": '{{"name": "{name}", "value": "{value}"}}',
    "a Ruby": '"{name}" => "{value}"',
    "a Python": 'os.environ["{name}"] = "{value}"',
    "carriage returns": "A=b\r\n{name}={value}\r\n",
    "the last of two": "{name}=\n{name}={value}",
}


@pytest.mark.parametrize("form", GIVEN)
def test_a_secret_of_the_servers_is_found_where_it_has_a_value(form: str) -> None:
    for name in VARIABLES:
        data = GIVEN[form].format(name=name, value=SECRET).encode()
        assert kind_of_key(data) == "a secret of the Server's", data
        assert kind_of_key(b"A=b\n" + data + b"\nC=d\n") is not None


ELSEWHERE = [
    "{name}=", "{name}=\nOTHER=value", "{name}=''", '{name}=""', '{name}= ""  # later', "{name}=   # later",
    "{name}=${{{name}}}", "{name}=${name}", '{name}: "${{{name}}}"', "{name}: ${{{name}:?missing}}",
    "{name}: ${{{name}:-}}", "{name}=$(cat /run/secrets/key)", "{name}: ${{{{ secrets.{name} }}}}",
    '{name}: "{{{{ .Values.key }}}}"', "{name}: {{{{ key }}}}", "{name}:", "{name}: null", "{name}: ~",
    '"{name}": null,', '"{name}": ""', "{name}: *signing", "{name}: !vault |", "{name}=<your key>", "{name}=changeme",
    "{name}=CHANGE_ME", "- {name}", "unset {name}", "the variable {name} is the signing key",
    "{name}_FILE=/run/secrets/key", "{name}_ID=4711", "X{name}=1",
    "- name: {name}\n  valueFrom:\n    secretKeyRef: {{name: server, key: {name}}}", "- name: {name}\n  value: ''",
    "{name}:\n  secretKeyRef:\n    name: server", "key: {name}\nname: server",
    "{name}: {{ secretKeyRef: {{ name: x }} }}",
]  # fmt: skip


@pytest.mark.parametrize("form", ELSEWHERE)
def test_a_secret_that_is_elsewhere_passes(form: str) -> None:
    for name in VARIABLES[:2]:
        data = form.format(name=name).encode()
        assert kind_of_key(data) is None, data
        assert kind_of_key(b"A: b\n" + data + b"\nC: d\n") is None, data


def artifact(directory: Path, data: bytes, path: str = "provisioning/file") -> Artifact:
    place = directory / path
    place.parent.mkdir(exist_ok=True)
    place.write_bytes(data)
    return Artifact(path, len(data), hashlib.sha256(data).hexdigest(), "badge")


def said_of(directory: Path, data: bytes, *allowed: Allowed) -> str:
    with pytest.raises(SourceError) as refused:
        refuse_private_keys_in(directory, [artifact(directory, data)], allowed)
    return str(refused.value)


@pytest.mark.parametrize("form", [*FORMS, *OTHERS, *(f"{form} (variable)" for form in GIVEN)])
def test_the_line_is_where_the_key_begins(form: str, tmp_path: Path) -> None:
    plain = form.removesuffix(" (variable)")
    data = (
        FORMS[form](ED25519)
        if form in FORMS
        else OTHERS.get(form, GIVEN.get(plain, "").format(name="VAULT_SIGNING_KEY", value=SECRET).encode())
    )
    for before in (0, 6, 500):
        said = said_of(tmp_path, b"a: line of words\n" * before + data + b"\nmore: words\n" * 9)
        number = int(said.partition(", line ")[2].partition(",")[0])
        assert before < number <= before + 1 + data.count(b"\n"), said
        if data.startswith(b"-----BEGIN"):
            assert number == before + 1


def test_of_two_keys_the_first_is_named(tmp_path: Path) -> None:
    said = said_of(tmp_path, b"x\n" * 10 + pem(P256) + b"x\n" * 10 + pem(ED25519))
    assert said.startswith("provisioning/file, line 11, holds a private key in PEM:")
    assert "take it out of what badge collects, or allow this file with a reason" in said


def test_lines_are_counted_through_all_pieces(tmp_path: Path) -> None:
    line = b"x" * 99 + b"\n"
    for count in (PIECE_BYTES // 100 - 3, PIECE_BYTES // 100, 3 * PIECE_BYTES // 100 + 7):
        said = said_of(tmp_path, line * count + pem(ED25519) + line * 100)
        assert f", line {count + 1}, " in said


@pytest.mark.parametrize("form", ["PKCS#8 in PEM", "DER", "DER in base64, in lines", "PEM in base64, in lines"])
def test_a_key_across_the_edge_of_a_piece_is_found(form: str, tmp_path: Path) -> None:
    data = FORMS[form](RSA)
    for piece in (1, 2):
        for inside in (1, len(data) // 2, len(data) - 1, OVERLAP_BYTES, OVERLAP_BYTES + len(data) // 2):
            before = piece * PIECE_BYTES - inside
            filler = (b"words, and more.\n" * (before // 17 + 1))[: before - 1] + b"\n"
            assert said_of(tmp_path, filler + data + filler[:5000])


def test_the_longest_keys_are_found_across_an_edge(tmp_path: Path) -> None:
    """RSA of 16384 bits, whose making takes long; a SEQUENCE of that size stands for it in what is read at once."""
    longest = 12_500  # characters of base64, in lines of 64, deep in YAML
    assert (longest // 64 + 1) * (64 + 40) < OVERLAP_BYTES
    assert said_of(tmp_path, b"\n" * (PIECE_BYTES - 600) + b"key: |\n" + indented(base64.encodebytes(der(RSA)), 40))


def test_exactly_what_is_allowed_passes(tmp_path: Path) -> None:
    data = pem(P256)
    reason = "the example in our manual"
    allowed = Allowed(path="provisioning/file", sha256=hashlib.sha256(data).hexdigest(), reason=reason)
    refuse_private_keys_in(tmp_path, [artifact(tmp_path, data)], [allowed])
    assert "line 1" in said_of(tmp_path, data + b"\n", allowed)
    with pytest.raises(SourceError, match="provisioning/other"):
        refuse_private_keys_in(tmp_path, [artifact(tmp_path, data, "provisioning/other")], [allowed])


LARGE = """
import resource, sys, time
from pathlib import Path
from borg_vault_plugin.key_scan import refuse_private_keys_in
from borg_vault_plugin.staging import Artifact
begun, before = time.monotonic(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
refuse_private_keys_in(Path(sys.argv[1]), [Artifact("large", 0, "", "x")], ())
print(round(time.monotonic() - begun, 1), (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
"""
CONTENT = {
    "YAML": b"- name: rule\n  when: amount > 100 and region == 'EU'\n  then: {notify: [a@example.org]}\n",
    "one line of letters": b"MIIBsomeLettersThatCouldBeAKey",
    "base64": base64.encodebytes(hashlib.shake_256(b"7").digest(57 * 1000)),
    "binary": hashlib.shake_256(b"7").digest(100_000),
}


@pytest.mark.parametrize("content", CONTENT)
def test_a_large_file_takes_little_memory_and_time(content: str, tmp_path: Path) -> None:
    with (tmp_path / "large").open("wb") as file:
        block = CONTENT[content] * ((1 << 20) // len(CONTENT[content]) + 1)
        for _ in range(100 if content == "YAML" else 12):
            file.write(block[: 1 << 20])
    command = [sys.executable, "-c", LARGE, str(tmp_path)]
    done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=300)
    seconds, megabytes = map(float, done.stdout.split())
    assert megabytes < 60
    assert seconds < 120


MISTAKES: dict[str, tuple[bytes, int, str]] = {
    "a key file": (b"# do not lose\n" + pem(P256, SEC1_OR_PKCS1), 2, "a private key in PEM"),
    "the Server's .env": (f"PORT=80\nLEVEL=info\nVAULT_SIGNING_KEY={SECRET}\n".encode(), 3, "a secret of the Server's"),
    "a JWK": (json.dumps([{"x": 1}, jwk()], indent=1).encode(), 6, "a JWK with a private part"),
    "an age identity": (f"{AGE}\n".encode(), 1, "an age key"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_key_among_the_provisioning_files_ends_the_run_unseen(mistake: str, provisioned: Shelf, tree: Path) -> None:
    data, line, kind = MISTAKES[mistake]
    (tree / "rules" / "placed by mistake").write_bytes(data)
    said = provisioned.run("-v", "create", "--set", "provisioning", exit_code=4)
    assert f"provisioning/rules/placed by mistake, line {line}, holds {kind}: " in said.stderr
    assert provisioned["nas"].names() == []
    told = said.stdout + said.stderr + written_below(provisioned.state)
    for secret in (AGE, SECRET, str(jwk()["d"]), pem(P256, SEC1_OR_PKCS1).decode().splitlines()[1]):
        assert secret not in told
    document = provisioned.run("create", "--set", "provisioning", "--json", exit_code=4).document
    assert set(document) == {"error", "exit_code"}


def test_an_allowed_file_is_stored_until_it_changes(provisioned: Shelf, tree: Path) -> None:
    (tree / "example.pem").write_bytes(pem(ED25519))
    entry = f"path = 'provisioning/example.pem'\nsha256 = '{hashlib.sha256(pem(ED25519)).hexdigest()}'\n"
    sets = f"[sets.provisioning]\npath = '{tree}'\n[[allow]]\n{entry}"
    provisioned.configure(sets, nas="")
    assert "allow.0.reason" in provisioned.run("create", "--set", "provisioning", exit_code=3).stderr
    provisioned.configure(f"{sets}reason = ''\n", nas="")
    provisioned.run("create", "--set", "provisioning", exit_code=3)
    provisioned.configure(f"{sets}reason = 'the key of RFC 8410'\n", nas="")
    provisioned.run("create", "--set", "provisioning", exit_code=0)
    (tree / "example.pem").write_bytes(pem(P256))
    said = provisioned.run("create", "--set", "provisioning", exit_code=4).stderr
    assert "provisioning/example.pem, line 1, holds" in said


@pytest.mark.usefixtures("server")
def test_a_key_in_a_plugins_file_ends_the_run_unseen(
    repository: PlainRepository,
    run_cli: RunCli,
    install_plugin: InstallPlugin,
    write_config: WriteConfig,
    tmp_path: Path,
) -> None:
    (tmp_path / "key").write_bytes(b"# rotated\n" + pem(P256))
    install_plugin(
        "import pathlib\n@hookimpl\ndef collect_artifacts(staging):\n    with staging.write('badge/key') as file:\n"
        f"        file.write(pathlib.Path({str(tmp_path / 'key')!r}).read_bytes())\n    return [file.artifact()]\n"
    )
    write_config("plugins = ['badge']\n")
    said = run_cli("-v", "create", exit_code=4)
    assert "badge/key, line 2, holds a private key in PEM: " in said.stderr
    assert "out of what badge collects" in said.stderr
    assert repository.names() == []
    told = said.stdout + said.stderr + written_below(tmp_path / "xdg_state_home")
    assert pem(P256).decode().splitlines()[1] not in told
    digest = hashlib.sha256((tmp_path / "key").read_bytes()).hexdigest()
    write_config(f"plugins = ['badge']\n[[allow]]\npath = 'badge/key'\nsha256 = '{digest}'\nreason = 'a specimen'\n")
    run_cli("create", "--no-prune", exit_code=0)
    assert len(repository.names()) == 1


def test_a_customers_payload_stops_nothing(server: Vault, repository: PlainRepository, run_cli: RunCli) -> None:
    """Records and chain are the customers' data, and what looks like a key in them is theirs to keep."""
    note = f"{pem(P256).decode()} VAULT_SIGNING_KEY={SECRET} {AGE}"
    server.execute("CREATE TABLE public.notes (body text)", f"INSERT INTO public.notes VALUES ($note${note}$note$)")
    run_cli("create", "--no-prune", exit_code=0)
    with server.connect() as connection, connection.transaction():
        connection.execute("SET LOCAL session_replication_role = replica")
        change = "UPDATE audit_vault SET payload = jsonb_build_object('note', %s::text)"
        assert connection.execute(change, [note]).rowcount
    document = run_cli("create", "--json", exit_code=10).document  # bent by hand, so the chain says so
    assert found(document)
    assert [one["status"] for one in document["repositories"]] == ["stored"]
    assert "PRIVATE KEY" in repository.read(f"{document['archive']}.suspect", "chain/audit_vault.ndjson").decode()
