"""Looking for private keys in files that are to be stored: whoever finds one says where, and never what.

Provisioning files and what third-party hooks write are looked through piece by piece. `db.dump` and the chain are the
customers' own data: a payload may well hold a text that begins like a key, and nobody is kept from storing that.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Iterable
from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import load_der_private_key

from borg_vault_plugin.errors import SourceError
from borg_vault_plugin.private_key import PEM, private_key_in
from borg_vault_plugin.sections import Allowed
from borg_vault_plugin.staging import Artifact

PIECE_BYTES, OVERLAP_BYTES = 1 << 20, 64 << 10  # no private key in use is longer than the overlap
JWK_CHARACTERS = 4096  # how far the members of one key may stand apart

AGE = re.compile(r"AGE-SECRET-KEY-(?:PQ-)?1[0-9A-Z]{20,}")
SSH = re.compile(r"b3BlbnNzaC1rZXktdjEA|PuTTY-User-Key-File-\d|---- BEGIN SSH2 (?:ENCRYPTED )?PRIVATE KEY ----")
PGP = re.compile(r"-----BEGIN PGP PRIVATE KEY BLOCK-----")
PEM_IN_BASE64 = re.compile(r"LS0tLS1CRUdJTi[A-Za-z0-9+/\s]{30,160}")  # as in a Kubernetes Secret
# A JWK (RFC 7517) in JSON, YAML or anything like them, whole or in part.
JWK_KIND = re.compile(r"""\bkty\b\\?["']?\s*[:=]\s*\\?["']?(?P<kind>\w+)""")
JWK_PRIVATE = re.compile(r"""(?<![\w.-])d\\?["']?\s*[:=]\s*\\?["']?[A-Za-z0-9_-]{40,}""")
JWK_SYMMETRIC = re.compile(r"""(?<![\w.-])k\\?["']?\s*[:=]\s*\\?["']?[A-Za-z0-9_-]{20,}""")
# DER: PKCS#8 (RFC 5958), PKCS#1 (RFC 8017) and SEC 1 (RFC 5915) begin with a version, encrypted PKCS#8 with an OID.
DER = re.compile(
    rb"\x30(?:(?P<short>[\x26-\x7f])|\x81(?P<one>[\x80-\xff])|\x82(?P<two>..))"
    rb"(?=\x02\x01[\x00\x01][\x02\x04\x30]|\x30[\x0b-\x7f]\x06[\x09\x0a]\x2a\x86\x48\x86\xf7\x0d\x01)",
    re.DOTALL,
)
# The Server's own secrets: in a .env, a shell, a Compose file, JSON, or as name and value in a Kubernetes manifest.
SERVER_SECRET = re.compile(
    r"""(?i)(?<![A-Za-z0-9])
    (?:VAULT_SIGNING_KEY|API_KEY_SECRET|(?:WEBHOOK|FEDERATION)_(?:SIGNING_|ENCRYPTION_)?(?:KEY|SECRET))(?![A-Za-z0-9_])
    \\?["']?\]?(?:[ \t]*(?:=>|[:=])|\s*,?\s*\\?["']?\bvalue\\?["']?[ \t]*[:=])[ \t]*(?P<rest>[^\n]{0,400})""",
    re.VERBOSE,
)
VALUE = re.compile(
    r"""\\?"(?P<double>[^"\\]*)|'(?P<single>[^']*)'|(?P<plain>\$\{\{.*?\}\}|\{\{.*?\}\}|\$\{[^}]*\}|\$\([^)]*\)|<[^>]*>|[^\s,;}\]]*)"""
)
# What stands for a value that is elsewhere: variables, templates, tags, anchors, mappings, and words for nothing.
ELSEWHERE = re.compile(
    r"""(?i)\$\{[a-z_]\w*(?::?\?[^}]*|:?[-+])?\}|\$[a-z_]\w*|\$\([^)]*\)|\$?\{\{.*\}\}|<[^>]*>|[#!*{\[].*|
    ~|null|none|undefined|change-?_?me""",
    re.VERBOSE,
)


def refuse_private_keys_in(directory: Path, artifacts: Iterable[Artifact], allowed: Iterable[Allowed]) -> None:
    """Look through staged files. Raises SourceError that names file and line of a private key, never its content."""
    known = {(one.path, one.sha256) for one in allowed}
    for artifact in artifacts:
        found = None if (artifact.path, artifact.sha256) in known else _found(directory / artifact.path)
        if found is not None:
            line, kind = found
            raise SourceError(
                f"{artifact.path}, line {line}, holds {kind}: keys are never stored with anything else: take it"
                f" out of what {artifact.producer} collects, or allow this file with a reason"
            )


def kind_of_key(data: bytes) -> str | None:
    """Say what private key stands in these bytes, or None."""
    # Without the zeros of UTF-16, its letters are those of UTF-8.
    text = data.replace(b"\0", b"").decode("utf-8", "replace")
    for kind, stands_in in KINDS.items():
        if stands_in(text):
            return kind
    return private_key_in(text) or ("a private key in DER" if _holds_der(data) else None)


def _found(path: Path) -> tuple[int, str] | None:
    """Give line and kind of the first private key in a file, which is looked through in pieces that overlap."""
    with path.open("rb") as file:
        before, line = b"", 1
        while piece := file.read(PIECE_BYTES):
            window = before + piece
            kind = kind_of_key(window)
            if kind is not None:
                return line + _lines_before_key(window), kind
            before = window[-OVERLAP_BYTES:]
            line += window[: len(window) - len(before)].count(b"\n")
    return None


def _lines_before_key(window: bytes) -> int:
    """Count the lines before the first key: the fewest lines that hold one, less those that it does not need."""
    begin, part = _narrowed(window)
    lines = part.split(b"\n")
    end = _least(len(lines), lambda count: kind_of_key(b"\n".join(lines[:count])) is not None)
    needed = _least(end, lambda count: kind_of_key(b"\n".join(lines[end - count : end])) is not None)
    return window[:begin].count(b"\n") + end - needed


def _narrowed(window: bytes) -> tuple[int, bytes]:
    """Give the first part of a window in which there is a key, and where it begins."""
    begins = range(0, len(window), OVERLAP_BYTES)
    parts = ((begin, window[begin : begin + 2 * OVERLAP_BYTES]) for begin in begins)
    return next((part for part in parts if kind_of_key(part[1]) is not None), (0, window))


def _least(most: int, is_enough: Callable[[int], bool]) -> int:
    """Give the least number that is enough, if `most` is, and everything above one that is."""
    low, high = 0, most
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if is_enough(middle) else (middle, high)
    return high


def _holds_server_secret(text: str) -> bool:
    return any(_is_value(match["rest"]) for match in SERVER_SECRET.finditer(text))


def _is_value(rest: str) -> bool:
    match = VALUE.match(rest)
    words = [word for word in match.groups() if word is not None] if match is not None else []
    return any(word.strip() and ELSEWHERE.fullmatch(word.strip()) is None for word in words)


def _holds_jwk(text: str) -> bool:
    for match in JWK_KIND.finditer(text):
        around = text[max(0, match.start() - JWK_CHARACTERS) : match.end() + JWK_CHARACTERS]
        if (JWK_SYMMETRIC if match["kind"] == "oct" else JWK_PRIVATE).search(around):
            return True
    return False


def _holds_pem_in_base64(text: str) -> bool:
    for match in PEM_IN_BASE64.finditer(text):
        letters = "".join(match[0].split())
        if PEM.match(base64.b64decode(letters[: len(letters) // 4 * 4]).decode("latin-1")):
            return True
    return False


def _holds_der(data: bytes) -> bool:
    for match in DER.finditer(data):
        length = match["short"] or match["one"] or match["two"]
        if _is_private(data[match.start() : match.end() + int.from_bytes(length)]):
            return True
    return False


def _is_private(der: bytes) -> bool:
    try:
        load_der_private_key(der, password=None)
    except TypeError:  # encrypted: a private key all the same
        return True
    except (ValueError, UnsupportedAlgorithm):
        return False
    return True


KINDS: dict[str, Callable[[str], object]] = {
    "an age key": AGE.search,
    "a private key of SSH": SSH.search,
    "a private key of PGP": PGP.search,
    "a secret of the Server's": _holds_server_secret,
    "a JWK with a private part": _holds_jwk,
    "a private key in PEM, in base64": _holds_pem_in_base64,
}
