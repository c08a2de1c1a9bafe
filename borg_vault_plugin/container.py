"""A container that runs PostgreSQL, and how the client programs in it are run; with compose.py all that knows Docker.

Ending `docker exec` does not end what it started. So a small script stands between: it keeps the program as long as our
end of its standard input is open, and takes from there the password (a line) and the files (so many bytes). The
password is in no argument and no environment, only in a file of mode 0600 in memory (/dev/shm), gone with the script.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO

from borg_vault_plugin import process

COPY_BYTES = 1 << 20
# What Docker and Compose need to find their daemon and the project; none of it is a secret.
VARIABLES = (
    "DOCKER_HOST", "DOCKER_CONTEXT", "DOCKER_CONFIG", "DOCKER_CERT_PATH", "DOCKER_TLS_VERIFY", "DOCKER_API_VERSION",
    "COMPOSE_PROJECT_NAME", "COMPOSE_FILE", "COMPOSE_PATH_SEPARATOR", "COMPOSE_PROFILES",
)  # fmt: skip

# POSIX, for Alpine's shell and Debian's. It waits for everything that it starts, and the watcher starts nothing: the
# first process of a container is often the server, which takes an orphan that a signal ended for a crashed session of
# its own, and then ends all the others (postmaster.c, CleanupBackend). Its arguments: the size of the list of entries
# and that of the dump (0: there is none), the program and its arguments.
SCRIPT = """
umask 077
listing=$1 dump=$2 input=/dev/null
shift 2
exec 3<&0 </dev/null
place=$(mktemp -d /dev/shm/borg-vault.XXXXXX) || exit 125
trap 'rm -rf "$place"' EXIT
IFS= read -r password <&3
printf '%s\\n' "$password" >"$place/pgpass"
if [ "$listing" != 0 ]; then
    dd bs="$listing" count=1 iflag=fullblock <&3 >"$place/listing" 2>/dev/null || exit 125
    set -- "$@" --use-list="$place/listing"
fi
if [ "$dump" != 0 ]; then
    input=$place/dump
    mkfifo "$input" || exit 125
fi
PGPASSFILE=$place/pgpass "$@" <"$input" 3<&- &
program=$!
if [ "$dump" != 0 ]; then
    head -c "$dump" <&3 >"$input" 2>/dev/null
fi
{
    while read -r _ <&3; do :; done
    kill "$program"
} >/dev/null 2>&1 &
watcher=$!
wait "$program"
status=$?
kill "$watcher" 2>/dev/null
wait "$watcher" 2>/dev/null
exit "$status"
"""


@dataclass(frozen=True, slots=True)
class Container:
    """One running container, and what people call it."""

    id: str
    name: str

    def __str__(self) -> str:
        return self.name

    def command(self, program: str, arguments: Sequence[str], *, listing: Path | None, dump: Path | None) -> list[str]:
        """Give the command that runs a client program in here; `feeding` gives what it has to be fed with."""
        sizes = [str(path.stat().st_size if path else 0) for path in (listing, dump)]
        script = ["sh", "-c", SCRIPT, "sh", *sizes, program, *arguments]
        return ["docker", "exec", "--interactive", "--env", "LC_ALL=C", self.id, *script]


def feeding(password_line: str, *, listing: Path | None, dump: Path | None) -> process.Feed:
    """Give what writes to the script's standard input: a line for libpq's password file, then the files."""
    return partial(_feed, password_line, [path for path in (listing, dump) if path])


def _feed(password_line: str, files: Sequence[Path], stream: IO[bytes]) -> None:
    stream.write(f"{password_line}\n".encode())
    for path in files:
        with path.open("rb") as file:
            shutil.copyfileobj(file, stream, COPY_BYTES)
    stream.flush()


def docker_environment() -> dict[str, str]:
    """Give the environment of Docker's and Compose's own programs."""
    return process.plain_environment({name: os.environ[name] for name in VARIABLES if name in os.environ})
