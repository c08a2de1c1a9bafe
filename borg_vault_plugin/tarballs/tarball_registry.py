"""The key registry in a tarball: fit to be kept, without private keys, and the same as the one in the dump beside it.

The script exports it after the dump, so a key that was rotated in between is no contradiction.
"""

from __future__ import annotations

import csv
import re
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from borg_vault_plugin.chain.codes import Code
from borg_vault_plugin.chain.entries import shown
from borg_vault_plugin.clients import Clients
from borg_vault_plugin.errors import SourceError
from borg_vault_plugin.private_key import private_key_in
from borg_vault_plugin.registry import COLUMNS
from borg_vault_plugin.report import Finding
from borg_vault_plugin.tarballs.dump_properties import print_dump

REGISTRY = "vault-public-keys.csv"
TIMES = ("activated_at", "retired_at")
ENDING = ("status", "retired_at")
ADVICE = "private keys are never backed up: take it out of the database, and replace that signing key"
ESCAPED = re.compile(r"\\(.)", re.DOTALL)
CONTROLS = {"n": "\n", "t": "\t", "r": "\r", "b": "\b", "f": "\f", "v": "\v"}

Row = dict[str, str]


def has_header(path: Path) -> bool:
    """Whether a CSV begins with the registry's header: else something else wrote into it, as the script knows."""
    with path.open("rb") as file:
        return file.readline(1 << 16).rstrip(b"\r\n") == ",".join(COLUMNS).encode()


def refuse_private_keys_in_csv(path: Path, archive: str) -> None:
    """Look into every value of a CSV. Raises SourceError that names row and column, never what is there."""
    for number, row in enumerate(_rows(path), start=1):
        for place, value in enumerate(row, start=1):
            _refuse(f"{archive}: {REGISTRY}", private_key_in(value), f"row {number}, column {place}")


def refuse_private_keys_in_dump(dump: Path, clients: Clients, archive: str) -> None:
    """Look into every value of the registry in a dump, exported or not. Raises SourceError."""
    arguments = ("--data-only", "--schema=public", "--table=vault_signing_keys", "--file=-")
    for number, line in enumerate(print_dump(clients, dump, *arguments).splitlines(), start=1):
        for place, value in enumerate(line.split("\t"), start=1):
            _refuse(f"{archive}: the key registry in {dump.name}", private_key_in(_plain(value)),
                    f"line {number} of its data, column {place}")  # fmt: skip


def differences(theirs: Path, ours: Path, time: datetime) -> Iterator[Finding]:
    """Report in what a tarball's registry is not the one in its dump; `time` is when the backup began."""
    exported, dumped = _by_key(theirs), _by_key(ours)
    for key_id in sorted(exported.keys() | dumped.keys()):
        one, other = exported.get(key_id), dumped.get(key_id)
        if other is None:
            if not _is_later(one, "activated_at", time):
                yield _finding(key_id, "is not in the dump")
        elif one is None:
            yield _finding(key_id, "is in the dump alone")
        else:
            yield from _changed(key_id, one, other, time)


def _changed(key_id: str, exported: Row, dumped: Row, time: datetime) -> Iterator[Finding]:
    retired_since = not dumped.get("retired_at") and _is_later(exported, "retired_at", time)
    for column in COLUMNS:
        one, other = exported.get(column, ""), dumped.get(column, "")
        same = _instant(one) == _instant(other) if column in TIMES else one == other
        if not same and not (column in ENDING and retired_since):
            yield _finding(key_id, f"{column} is {shown(one)} here, {shown(other)} in the dump")


def _finding(key_id: str, detail: str) -> Finding:
    return Finding(Code.TARBALL_REGISTRY_DIFFERS, f"{REGISTRY}, key {shown(key_id)}", detail)


def _is_later(row: Row | None, column: str, time: datetime) -> bool:
    instant = _instant((row or {}).get(column, ""))
    return isinstance(instant, datetime) and instant >= time


def _instant(text: str) -> datetime | str:
    """Read an instant as PostgreSQL prints it, in whatever zone; what is none stays as it is."""
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        return text
    return time if time.tzinfo else time.replace(tzinfo=UTC)


def _by_key(path: Path) -> dict[str, Row]:
    return {row[0]: dict(zip(COLUMNS, row, strict=False)) for row in _rows(path) if row}


def _rows(path: Path) -> Iterator[list[str]]:
    csv.field_size_limit(sys.maxsize)
    with path.open(encoding="utf-8", errors="backslashreplace", newline="") as file:
        rows = csv.reader(file)
        next(rows, None)
        yield from rows


def _refuse(where: str, kind: str | None, place: str) -> None:
    if kind:
        raise SourceError(f"{where} holds {kind} in {place}: {ADVICE}")


def _plain(value: str) -> str:
    """Take back what COPY escapes (PostgreSQL documentation, COPY, Text Format)."""
    return ESCAPED.sub(lambda match: CONTROLS.get(match[1], match[1]), value)
