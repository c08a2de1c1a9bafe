r"""Large objects, which belong to no table: whether a database holds those of a dump, to the byte.

pg_dump and pg_restore print them alike, one command a line, and the contents in pieces:

    SELECT pg_catalog.lo_create('16390');
    ALTER LARGE OBJECT 16390 OWNER TO postgres;
    SELECT pg_catalog.lo_open('16390', 131072);
    SELECT pg_catalog.lowrite(0, '\x00ff');
    SELECT pg_catalog.lo_close(0);

Their order depends on the server, so what is compared is a sum of digests: one for each content, one for each line.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass, field

OPEN = re.compile(rb"SELECT pg_catalog\.lo_open\('(\d+)', \d+\);\s*")
WRITE = re.compile(rb"SELECT pg_catalog\.lowrite\(0, '\\+x([0-9a-f]*)'\);\s*")
CLOSE = re.compile(rb"SELECT pg_catalog\.lo_close\(\d+\);\s*")
CREATE = re.compile(rb"SELECT pg_catalog\.lo_create\('\d+'\);\s*")
# What says nothing about an object: comments and settings, and what keeps some commands together.
AROUND = re.compile(rb"--|\\(?:un)?restrict |SET |SELECT pg_catalog\.set_config|BEGIN;|COMMIT;|\s*$")
# The entries of a dump's list that are about large objects: themselves, their contents, privileges and comments.
LISTED = re.compile(rb"\d+; \d+ \d+ (?:BLOBS? |BLOB METADATA |(?:ACL|COMMENT|SECURITY LABEL) - LARGE OBJECTS? )")
MODULUS = 1 << 256


@dataclass(slots=True)
class LargeObjects:
    """How many there are, and a digest over their contents, owners, privileges and comments in any order."""

    count: int = 0
    digest: int = 0
    _content: hashlib._Hash | None = field(default=None, repr=False, compare=False)

    def read(self, line: bytes) -> None:
        """Take the next line of a script."""
        if found := WRITE.fullmatch(line):
            if self._content is not None:
                self._content.update(found[1])
        elif found := OPEN.fullmatch(line):
            self._content = hashlib.sha256(b"content of " + found[1] + b"\n")
        elif CLOSE.fullmatch(line):
            if self._content is not None:
                self._add(self._content)
            self._content = None
        elif not AROUND.match(line):
            self.count += CREATE.fullmatch(line) is not None
            self._add(hashlib.sha256(line))

    def _add(self, digest: hashlib._Hash) -> None:
        self.digest = (self.digest + int.from_bytes(digest.digest(), "big")) % MODULUS


def read_large_objects(lines: Iterable[bytes]) -> LargeObjects:
    """Read a script that holds large objects and nothing else."""
    found = LargeObjects()
    for line in lines:
        found.read(line)
    return found


def listed(listing: bytes) -> bytes:
    """Give the lines of a dump's list that are about large objects."""
    return b"".join(line for line in listing.splitlines(keepends=True) if LISTED.match(line))
