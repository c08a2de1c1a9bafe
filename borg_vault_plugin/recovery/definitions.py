"""What a database consists of besides rows: every definition as pg_dump prints it, and how two databases differ.

pg_dump and pg_restore print one entry after the other, under a comment that says what it is:

    --
    -- Name: audit_vault audit_rows_stay; Type: TRIGGER; Schema: public; Owner: postgres
    --

    CREATE TRIGGER audit_rows_stay BEFORE UPDATE OR DELETE ON public.audit_vault ...

Names are printed without line breaks. Text inside a definition that looks like such a comment divides it in two; it
does so on both sides of a comparison.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

HEADER = re.compile(rb"\n--\n-- Name: ([^\n]*)\n--\n")
HEADING = re.compile(r"(.*); Type: ([^;]*); Schema: ([^;]*); Owner: (.*?)(?:; Tablespace: (.*))?")
END = b"\n--\n-- PostgreSQL database dump complete\n--\n"
# Said when the default changes from one entry to the next, so it depends on their order; headings name tablespaces.
DEFAULTS = re.compile(rb"(?:\s*SET default_(?:tablespace|table_access_method) = [^\n]*;)+\s*\Z")
FILLING = "MATERIALIZED VIEW DATA"  # a command to fill it, which pg_restore counts among the definitions


@dataclass(frozen=True, slots=True)
class Heading:
    """What an entry is: a comment, a trigger, a table and so on; a schema of `-` is none."""

    name: str
    type: str
    schema: str
    owner: str
    tablespace: str = ""

    def __str__(self) -> str:
        return f"{self.type} {self.name}" if self.schema == "-" else f"{self.type} {self.schema}.{self.name}"


@dataclass(frozen=True, slots=True)
class Definitions:
    """All entries of a database: the digests of their texts by their headings; a heading can occur more than once."""

    entries: Mapping[Heading, tuple[bytes, ...]]

    def types(self) -> Counter[str]:
        """Count the entries of each type."""
        return Counter(heading.type for heading, texts in self.entries.items() for _ in texts)

    def owners(self) -> set[str]:
        """Give the names of all owners."""
        return {heading.owner for heading in self.entries} - {"", "-"}

    def tablespaces(self) -> set[str]:
        """Give the names of all tablespaces but the database's own."""
        return {heading.tablespace for heading in self.entries} - {""}


@dataclass(frozen=True, slots=True)
class Departures:
    """In what one database departs from another."""

    missing: tuple[Heading, ...]
    added: tuple[Heading, ...]
    changed: tuple[Heading, ...]

    def __iter__(self) -> Iterator[str]:
        """Name each with what is wrong with it."""
        for wrong, headings in (("is missing", self.missing), ("was not there", self.added)):
            yield from (f"{heading} {wrong}" for heading in headings)
        yield from (f"{heading} is defined otherwise" for heading in self.changed)


def read_definitions(script: bytes) -> Definitions:
    """Read the script that pg_dump or pg_restore prints with --schema-only."""
    _, *parts = HEADER.split(script.rpartition(END)[0] or script)
    entries: dict[Heading, list[bytes]] = {}
    for line, text in zip(parts[::2], parts[1::2], strict=True):
        heading = _heading(line)
        if heading.type != FILLING:
            entries.setdefault(heading, []).append(hashlib.sha256(DEFAULTS.sub(b"", text).strip()).digest())
    return Definitions({heading: tuple(sorted(texts)) for heading, texts in entries.items()})


def departures(wanted: Definitions, found: Definitions) -> Departures:
    """Compare entry by entry; one that is there more or less often than it was counts as changed."""
    return Departures(
        _sorted(heading for heading in wanted.entries if heading not in found.entries),
        _sorted(heading for heading in found.entries if heading not in wanted.entries),
        _sorted(heading for heading, texts in wanted.entries.items() if found.entries.get(heading, texts) != texts),
    )


def _heading(line: bytes) -> Heading:
    text = line.decode("utf-8", "backslashreplace")
    found = HEADING.fullmatch(text)
    return Heading(text, "?", "-", "") if found is None else Heading(*(part or "" for part in found.groups()))


def _sorted(headings: Iterable[Heading]) -> tuple[Heading, ...]:
    return tuple(sorted(headings, key=str))
