"""Swapping two databases: in one step, whoever is connected, and back to where it was when it fails."""

from __future__ import annotations

import contextlib
import itertools
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Self

import psycopg
import pytest
from conftest import SMALL
from fix_vault import Connection, connect
from psycopg import sql

from borg_vault_plugin.cluster import Cluster, Distribution, throwaway_cluster
from borg_vault_plugin.database import Source, source_from_url
from borg_vault_plugin.errors import SourceError
from borg_vault_plugin.recovery.swap import Names, obstacles, swap
from borg_vault_plugin.session import open_session

HAMMERS = 6
numbers = itertools.count(1)


@dataclass
class Pair:
    """Two databases, told apart by what is in them: `old` in the live one, `new` in the restored one."""

    cluster: Cluster
    names: Names

    @property
    def server(self) -> Source:
        """The server, reached beside both."""
        return source_from_url(self.cluster.url())

    def connect(self, name: str) -> Connection:
        """Connect to a database of this name."""
        return connect(self.cluster.conninfo(name))

    def held_by(self, name: str) -> str:
        """Say what is in the database of this name."""
        with self.connect(name) as connection:
            row = connection.execute("SELECT word FROM mark").fetchone()
        assert row is not None
        return str(row[0])

    def execute(self, statement: sql.Composed | str) -> None:
        """Run a statement beside both."""
        with connect(self.cluster.conninfo()) as connection:
            connection.execute(statement if isinstance(statement, sql.Composed) else statement.encode())

    def there(self) -> dict[str, bool]:
        """Give the databases of these names, and whether they take connections."""
        with connect(self.cluster.conninfo()) as connection:
            query = "SELECT datname, datallowconn FROM pg_database WHERE datname = ANY (%s)"
            wanted = [self.names.live, self.names.restored, self.names.previous]
            return dict(connection.execute(query, [wanted]).fetchall())


@contextlib.contextmanager
def paired(cluster: Cluster, names: Names) -> Iterator[Pair]:
    pair = Pair(cluster, names)
    for name, word in ((names.live, "old"), (names.restored, "new")):
        pair.execute(sql.SQL("CREATE DATABASE {} TEMPLATE template0").format(sql.Identifier(name)))
        with pair.connect(name) as connection:
            connection.execute(sql.SQL("CREATE TABLE mark AS SELECT {}::text AS word").format(word))
    yield pair
    for name in pair.there():
        pair.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


def new_names(live: str = "live") -> Names:
    number = next(numbers)
    return Names(f"{live}-{number}", f"restored-{number}", f"{live}-{number}-before")


@pytest.fixture
def pair(latest_cluster: Cluster) -> Iterator[Pair]:
    """A pair on the newest PostgreSQL."""
    with paired(latest_cluster, new_names()) as pair:
        yield pair


@pytest.fixture(scope="module")
def busy_cluster(newest: Distribution) -> Iterator[Cluster]:
    """A cluster that lets transactions be prepared, and logical slots be made."""
    with throwaway_cluster(
        newest, settings=SMALL | {"max_prepared_transactions": "5", "wal_level": "logical"}
    ) as cluster:
        yield cluster


@dataclass
class Hammers:
    """Clients that connect, read and connect again all the time, as pools do; what each saw, and from when to when."""

    pair: Pair
    seen: list[tuple[float, str, float]] = field(default_factory=list)
    refused: int = 0
    _done: threading.Event = field(default_factory=threading.Event)
    _threads: list[threading.Thread] = field(default_factory=list)

    def __enter__(self) -> Self:
        self._threads = [threading.Thread(target=self._hammer, daemon=True) for _ in range(HAMMERS)]
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        for thread in self._threads:
            thread.join()

    def words(self, since: float = 0) -> set[str]:
        """Give what they saw whenever they looked after this."""
        return {word for begun, word, _ in self.seen if begun > since}

    def wait_for(self, word: str, *, times: int = 20) -> None:
        """Wait until they have seen this so many times."""
        deadline = threading.Event()
        for _ in range(3000):
            if sum(seen == word for _, seen, _ in self.seen) >= times:
                return
            deadline.wait(0.01)
        pytest.fail(f"{word} was not seen {times} times")

    def _hammer(self) -> None:
        while not self._done.is_set():
            try:
                with self.pair.connect(self.pair.names.live) as connection:
                    for _ in range(5):
                        begun = time.monotonic()
                        row = connection.execute("SELECT word, pg_sleep(0.002) FROM mark").fetchone()
                        assert row is not None
                        self.seen.append((begun, row[0], time.monotonic()))
            except psycopg.OperationalError:
                self.refused += 1


def test_names_change_and_the_old_database_takes_no_connections(cluster: Cluster) -> None:
    with paired(cluster, new_names()) as pair:
        swap(pair.server, pair.names)
        assert pair.names.previous is not None
        assert pair.there() == {pair.names.live: True, pair.names.previous: False}
        assert pair.held_by(pair.names.live) == "new"
        with pytest.raises(psycopg.OperationalError, match="not currently accepting connections"):
            pair.connect(pair.names.previous)
        pair.execute(sql.SQL("ALTER DATABASE {} ALLOW_CONNECTIONS true").format(sql.Identifier(pair.names.previous)))
        assert pair.held_by(pair.names.previous) == "old"


def test_pools_that_reconnect_all_the_time_do_not_win(cluster: Cluster) -> None:
    with paired(cluster, new_names()) as pair, Hammers(pair) as hammers:
        hammers.wait_for("old")
        swap(pair.server, pair.names)
        hammers.wait_for("new")
    assert hammers.refused > 0
    swapped = min(ended for _, word, ended in hammers.seen if word == "new")
    assert hammers.words(swapped) == {"new"}


def test_sessions_that_do_something_are_ended_too(pair: Pair) -> None:
    with pair.connect(pair.names.live) as idle, pair.connect(pair.names.live) as working:
        idle.execute("BEGIN")
        idle.execute("INSERT INTO mark VALUES ('never committed')")
        waiting = threading.Thread(target=_sleep, args=(working,), daemon=True)
        waiting.start()
        with pair.connect(pair.names.restored) as looking:
            swap(pair.server, pair.names)
            with pytest.raises(psycopg.OperationalError):
                looking.execute("SELECT 1")
        waiting.join(10)
        assert not waiting.is_alive()
        with pytest.raises(psycopg.OperationalError):
            idle.execute("COMMIT")
    assert pair.held_by(pair.names.live) == "new"


def _sleep(connection: Connection) -> None:
    with contextlib.suppress(psycopg.OperationalError):
        connection.execute("SELECT pg_sleep(60)")


def test_a_live_database_that_is_not_there_makes_room_by_itself(pair: Pair) -> None:
    pair.execute(sql.SQL("DROP DATABASE {}").format(sql.Identifier(pair.names.live)))
    names = Names(pair.names.live, pair.names.restored, None)
    swap(pair.server, names)
    assert pair.there() == {names.live: True}
    assert pair.held_by(names.live) == "new"


@pytest.mark.parametrize("live", ['quo"te; DROP', "größe 100 %s", "it's {0}", "-x"])
def test_hostile_names_are_only_names(latest_cluster: Cluster, live: str) -> None:
    with paired(latest_cluster, new_names(live)) as pair:
        assert live in pair.names.live
        swap(pair.server, pair.names)
        assert pair.held_by(pair.names.live) == "new"


def test_a_swap_that_fails_leaves_everything_as_it_was(pair: Pair) -> None:
    pair.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(pair.names.previous or "")))
    before = pair.there()
    with pytest.raises(SourceError, match=r"is as it was; restored-.* is there still: .* already exists"):
        swap(pair.server, pair.names)
    assert pair.there() == before
    assert (pair.held_by(pair.names.live), pair.held_by(pair.names.restored)) == ("old", "new")


def test_a_database_that_somebody_holds_is_given_up_and_is_open_again(pair: Pair) -> None:
    holding = psycopg.connect(pair.cluster.conninfo())
    with contextlib.closing(holding), Hammers(pair) as hammers:
        hammers.wait_for("old")
        # Shares the lock on the second database with nobody who renames it.
        holding.execute(sql.SQL("COMMENT ON DATABASE {} IS 'held'").format(sql.Identifier(pair.names.restored)))
        with pytest.raises(SourceError, match="lock timeout"):
            swap(pair.server, pair.names)
        hammers.seen.clear()
        hammers.wait_for("old")
    assert hammers.words() == {"old"}
    assert pair.there() == {pair.names.live: True, pair.names.restored: True}


def test_what_stays_with_a_database_is_an_obstacle(busy_cluster: Cluster) -> None:
    with paired(busy_cluster, new_names()) as pair:
        with pair.connect(pair.names.live) as connection:
            connection.execute("SELECT pg_create_logical_replication_slot('a_slot', 'pgoutput')")
            connection.execute("CREATE SUBSCRIPTION sub CONNECTION 'dbname=x' PUBLICATION p WITH (connect = false)")
            connection.execute("BEGIN")
            connection.execute("INSERT INTO mark VALUES ('prepared')")
            connection.execute("PREPARE TRANSACTION 'it''s one'")
        with open_session(pair.server) as server:
            assert list(obstacles(server, pair.names)) == [
                "prepared transaction 'it''s one' belongs to the database: end or drop it first",
                "replication slot a_slot belongs to the database: end or drop it first",
                "subscription sub belongs to the database: end or drop it first",
            ]
        with pair.connect(pair.names.live) as connection:
            connection.execute("ROLLBACK PREPARED 'it''s one'")
            connection.execute("SELECT pg_drop_replication_slot('a_slot')")
            connection.execute("ALTER SUBSCRIPTION sub SET (slot_name = NONE)")
            connection.execute("DROP SUBSCRIPTION sub")


def test_rights_that_are_missing_are_obstacles(cluster: Cluster) -> None:
    with (
        paired(cluster, new_names()) as pair,
        logins(pair, 1) as (role,),
        pair.connect(pair.names.live),
        open_session(reached_as(pair, role)) as connection,
    ):
        assert list(obstacles(connection, pair.names)) == [
            f"role {role} may not rename {pair.names.live} (it must have the owner's rights, and CREATEDB)",
            f"role {role} may not rename {pair.names.restored} (it must have the owner's rights, and CREATEDB)",
            f"role {role} may not end sessions of postgres (pg_signal_backend; a superuser's: SUPERUSER)",
        ]


def test_an_owner_who_may_end_the_sessions_of_others_can_swap(cluster: Cluster) -> None:
    with paired(cluster, new_names()) as pair, logins(pair, 2) as (owner, other):
        pair.execute(f"ALTER ROLE {owner} CREATEDB")
        for name in (pair.names.live, pair.names.restored):
            pair.execute(sql.SQL("ALTER DATABASE {} OWNER TO {}").format(sql.Identifier(name), sql.Identifier(owner)))
        server = reached_as(pair, owner)
        conninfo = cluster.conninfo(pair.names.live).replace(f"user={cluster.user}", f"user={other}")
        with connect(conninfo) as session, open_session(server) as connection:
            (refusal,) = obstacles(connection, pair.names)
            assert refusal.startswith(f"role {owner} may not end sessions of {other} (")
            pair.execute(f"GRANT pg_signal_backend TO {owner}")
            assert list(obstacles(connection, pair.names)) == []
            swap(server, pair.names)
            with pytest.raises(psycopg.OperationalError):
                session.execute("SELECT 1")
        assert pair.held_by(pair.names.live) == "new"
        for name in pair.there():
            pair.execute(sql.SQL("ALTER DATABASE {} OWNER TO postgres").format(sql.Identifier(name)))


@contextlib.contextmanager
def logins(pair: Pair, count: int) -> Iterator[list[str]]:
    roles = [f"operator_{next(numbers)}" for _ in range(count)]
    for role in roles:
        pair.execute(f"CREATE ROLE {role} LOGIN PASSWORD '{pair.cluster.password}'")
    yield roles
    for role in roles:
        pair.execute(f"DROP ROLE {role}")


def reached_as(pair: Pair, role: str) -> Source:
    return source_from_url(pair.cluster.url().replace(f"//{pair.cluster.user}:", f"//{role}:"))
