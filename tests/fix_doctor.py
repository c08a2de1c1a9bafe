"""What `doctor` says, read back, and a Server in good order of which tests take one thing away."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import jsonschema  # type: ignore[import-untyped]
from fix_cli import RunCli
from fix_repository import PlainRepository
from fix_shelf import id_of
from fix_vault import Vault

from borg_vault_plugin.history import Event, Happening, History

WriteConfig = Callable[[str], Path]

ROW = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "minLength": 1},
        "subject": {"type": "string"},
        "state": {"enum": ["ok", "warning", "failed", "not_checked"]},
        "detail": {"type": "string", "minLength": 1},
        "advice": {"type": "string"},
    },
    "required": ["name", "subject", "state", "detail", "advice"],
    "additionalProperties": False,
}
DOCUMENT = {
    "type": "object",
    "properties": {"healthy": {"type": "boolean"}, "checks": {"type": "array", "items": ROW, "minItems": 1}},
    "required": ["healthy", "checks"],
    "additionalProperties": False,
}


@dataclass(frozen=True, slots=True)
class Row:
    """One row of a diagnosis."""

    name: str
    subject: str
    state: str
    detail: str
    advice: str

    @property
    def told(self) -> str:
        """What it is, and what to do."""
        return f"{self.detail}: {self.advice}" if self.advice else self.detail


@dataclass(frozen=True, slots=True)
class Found:
    """All rows of a diagnosis."""

    rows: tuple[Row, ...] = field(default=())

    def of(self, state: str) -> list[tuple[str, str]]:
        """Give the rows in one state: the check's name, and what is said."""
        return [(row.name, row.told) for row in self.rows if row.state == state]

    def only_failure(self) -> Row:
        """Give the one row that failed."""
        (row,) = [row for row in self.rows if row.state == "failed"]
        return row

    def one(self, name: str) -> Row:
        """Give the one row of a check."""
        (row,) = [row for row in self.rows if row.name == name]
        return row


def read(document: Any) -> Found:
    """Read the document of `doctor --json`, which must be as it is promised."""
    jsonschema.validate(document, DOCUMENT)
    assert document["healthy"] == all(row["state"] != "failed" for row in document["checks"])
    assert all(row["advice"] for row in document["checks"] if row["state"] in ("warning", "failed"))
    return Found(tuple(Row(**row) for row in document["checks"]))


@dataclass(frozen=True, slots=True)
class Patient:
    """A Server in good order."""

    vault: Vault
    repository: PlainRepository
    run: RunCli
    write_config: WriteConfig
    state: Path

    def seen(self, *, exit_code: int = 0) -> Found:
        """Give what `doctor` finds; it writes nothing to standard error."""
        said = self.run("doctor", "--json", exit_code=exit_code)
        assert said.stderr == ""
        return read(said.document)

    def failure(self) -> Row:
        """Give the one thing that would fail."""
        return self.seen(exit_code=7).only_failure()

    def warnings(self) -> dict[str, str]:
        """Give what is said of everything that deserves a warning, by the check's name; nothing would fail."""
        return dict(self.seen().of("warning"))

    def note(self, happening: Happening, *, age: timedelta = timedelta(hours=1), **more: Any) -> None:
        """Have something happened to the repository so long ago."""
        event = {"archive": "default", "repository": id_of(self.repository)} | more
        self.history().append(Event(time=datetime.now(UTC) - age, event=happening, **event))

    def history(self) -> History:
        """Give the history of this host."""
        return History(self.state / "history.ndjson")
