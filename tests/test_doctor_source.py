"""`doctor` and the database: each thing that would end a run there is a row with its message and what to do."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta, tzinfo
from pathlib import Path

import pytest
from conftest import SMALL, wanted_distribution
from fix_doctor import Patient, read
from fix_installation import installed
from fix_pooler import pooler_before
from fix_standby import standby_of
from fix_vault import Connection, connect, role, url_of

from borg_vault_plugin.cluster import throwaway_cluster
from borg_vault_plugin.doctor import source

pytest_plugins = ("fix_server", "fix_good_night", "fix_patient")

ASKED = ("clients", "rights", "vault", "timeouts", "limits", "connections", "standby", "leftovers")


@contextmanager
def reader(patient: Patient, monkeypatch: pytest.MonkeyPatch, options: str = "BYPASSRLS") -> Iterator[str]:
    """Let the program use a role of its own."""
    with role(patient.vault, options=options) as name:
        monkeypatch.setenv("DATABASE_URL", url_of(patient.vault, name))
        yield name


def test_a_server_that_is_not_there_fails_and_what_hangs_on_it_is_not_checked(
    patient: Patient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgresql://x@127.0.0.1:1/app")
    seen = patient.seen(exit_code=7)
    failure = seen.only_failure()
    assert failure.name == "server"
    assert "Connection refused" in failure.detail
    assert failure.advice == "start the server, or mend host and port"
    assert {row.name for row in seen.rows if row.state == "not_checked"} == {*ASKED, "staging", "drill", "room"}
    assert seen.one("repository").state == "ok"


def test_a_wrong_password_is_told_without_the_password(patient: Patient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", patient.vault.url.replace(patient.vault.cluster.password, "not-this-one"))
    failure = patient.failure()
    assert (failure.name, failure.advice) == ("server", "give the right password")
    assert "password authentication failed" in failure.detail
    assert "not-this-one" not in failure.told


def test_a_server_that_never_answers_is_told_in_time(patient: Patient, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setenv("DATABASE_URL", f"postgresql://x@127.0.0.1:{silent.getsockname()[1]}/app?connect_timeout=2")
        failure = patient.failure()
    assert failure.name == "server"
    assert "timeout expired" in failure.detail


def test_tables_that_cannot_be_read_are_named(patient: Patient, monkeypatch: pytest.MonkeyPatch) -> None:
    with reader(patient, monkeypatch, options="") as name:
        patient.vault.execute(
            f"REVOKE pg_read_all_data FROM {name}",
            f"GRANT USAGE ON SCHEMA public TO {name}",
            f"GRANT SELECT ON ALL TABLES IN SCHEMA public TO {name}",
            f"GRANT SELECT ON ALL SEQUENCES IN SCHEMA public TO {name}",
            f"REVOKE SELECT ON orgs FROM {name}",
            f"REVOKE SELECT ON SEQUENCE record_reference_seq FROM {name}",
        )
        failure = patient.failure()
    assert failure.name == "rights"
    assert failure.detail.startswith(f"role {name} cannot read everything: pgboss.")
    assert "(no USAGE on its schema)" in failure.detail
    assert "public.orgs (no SELECT)" in failure.detail
    assert "public.record_reference_seq (no SELECT)" in failure.detail
    assert failure.advice.startswith("grant it pg_read_all_data")


def test_a_policy_in_the_way_is_named(patient: Patient, monkeypatch: pytest.MonkeyPatch) -> None:
    with reader(patient, monkeypatch, options=""):
        failure = patient.failure()
    assert failure.name == "rights"
    assert failure.detail.endswith("cannot read everything: public.webhook_subscriptions (row-level security)")
    assert failure.advice.endswith("and BYPASSRLS where row-level security is in the way")


def test_timeouts_are_overridden_and_that_is_said(patient: Patient, monkeypatch: pytest.MonkeyPatch) -> None:
    with reader(patient, monkeypatch) as name:
        patient.vault.execute(
            f"ALTER ROLE {name} SET statement_timeout = '30s'",
            f"ALTER DATABASE \"{patient.vault.database}\" SET idle_in_transaction_session_timeout = '5min'",
            f"ALTER ROLE {name} IN DATABASE \"{patient.vault.database}\" SET transaction_timeout = '1h'",
        )
        row = patient.seen().one("timeouts")
    assert row.state == "ok"
    assert row.detail == (
        "idle_in_transaction_session_timeout = 5min (set for the database), statement_timeout = 30s (set for the user),"
        " transaction_timeout = 1h (set for the database user): overridden in our sessions"
    )


def test_limits_that_are_not_overridden_are_warnings(patient: Patient, monkeypatch: pytest.MonkeyPatch) -> None:
    with reader(patient, monkeypatch) as name:
        patient.vault.execute(f"ALTER ROLE {name} SET temp_file_limit = '1GB'")
        assert patient.warnings()["limits"] == "temp_file_limit = 1GB can end a long run: raise it on the server"


def test_a_role_with_too_few_sessions_is_told(patient: Patient, monkeypatch: pytest.MonkeyPatch) -> None:
    with reader(patient, monkeypatch, options="BYPASSRLS CONNECTION LIMIT 3"):
        failure = patient.failure()
    assert failure.name == "connections"
    assert failure.told == ("3 are free, but a run takes 6: raise max_connections, or the limit of role or database")


def test_a_database_without_a_vault_is_told(patient: Patient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", patient.vault.cluster.url("postgres"))
    failure = patient.failure()
    assert failure.name == "vault"
    assert failure.detail.startswith("there is no table public.audit_vault and no table public.vault_signing_keys")


def test_a_private_key_in_the_registry_is_told_and_not_shown(patient: Patient) -> None:
    key = "-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEIJ\n-----END PRIVATE KEY-----"
    patient.vault.execute(
        "ALTER TABLE vault_signing_keys ADD note text", f"UPDATE vault_signing_keys SET note = '{key}'"
    )
    failure = patient.failure()
    assert failure.name == "vault"
    assert "in row 1, column note: private keys are never backed up" in failure.detail
    assert "MC4CAQ" not in failure.told


class Ahead(datetime):
    """A clock of this host that is wrong."""

    by = timedelta()

    @classmethod
    def now(cls, tz: tzinfo | None = None) -> datetime:  # type: ignore[override]
        """Give a wrong time."""
        return datetime.now(tz) + cls.by


@pytest.mark.parametrize(
    ("by", "expected", "said"),
    [
        (timedelta(seconds=-60), "warning", "the server's clock is 60 s ahead of this host's"),
        (timedelta(minutes=11), "failed", "the server's clock is 660 s behind this host's"),
    ],
    ids=["a minute", "eleven minutes"],
)
def test_a_clock_that_is_off_is_told(
    by: timedelta, expected: str, said: str, patient: Patient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(source, "datetime", type("Wrong", (Ahead,), {"by": by}))
    row = patient.seen(exit_code=7 if expected == "failed" else 0).one("clock")
    assert (row.state, row.detail, row.advice) == (expected, said, "set both by NTP")


def test_a_pooler_in_transaction_mode_fails_and_nothing_else_is_asked_through_it(
    patient: Patient, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pooler_before(patient.vault, "transaction") as url:
        monkeypatch.setenv("DATABASE_URL", url)
        seen = patient.seen(exit_code=7)
    failure = seen.only_failure()
    assert failure.name == "pooler"
    assert failure.detail.startswith("a pooler in transaction mode: ")
    assert failure.advice == "let DATABASE_URL lead to PostgreSQL itself, or give this database pool_mode=session"
    assert {row.name for row in seen.rows if row.state == "not_checked"} >= set(ASKED)


def test_a_pooler_in_statement_mode_fails_too(patient: Patient, monkeypatch: pytest.MonkeyPatch) -> None:
    with pooler_before(patient.vault, "statement") as url:
        monkeypatch.setenv("DATABASE_URL", url)
        failure = patient.failure()
    assert failure.name == "pooler"
    assert failure.detail.startswith("a transaction is refused: ")


def test_a_pooler_that_keeps_sessions_apart_is_a_warning(patient: Patient, monkeypatch: pytest.MonkeyPatch) -> None:
    with pooler_before(patient.vault, "session") as url:
        monkeypatch.setenv("DATABASE_URL", url)
        assert patient.warnings()["pooler"] == (
            "a pooler that keeps sessions apart; a run needs 6 at once: let DATABASE_URL lead to PostgreSQL itself"
        )


def test_a_standby_that_cancels_long_snapshots_is_a_warning(patient: Patient, monkeypatch: pytest.MonkeyPatch) -> None:
    with standby_of(patient.vault.cluster, settings=SMALL) as standby:
        monkeypatch.setenv("DATABASE_URL", standby.url(patient.vault.database))
        assert patient.warnings()["standby"] == (
            "hot_standby_feedback is off: replay cancels what is in its way for 30s: set hot_standby_feedback = on"
            " there, or max_standby_streaming_delay = -1, or back up the primary"
        )
        with connect(standby.conninfo()) as connection:
            connection.execute("ALTER SYSTEM SET hot_standby_feedback = on")
            connection.execute("SELECT pg_reload_conf()")
        assert patient.seen().one("standby").told == "yes, and replay does not cancel a long snapshot"


def test_a_standby_that_is_behind_is_a_warning(patient: Patient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(source, "STANDBY_BEHIND", timedelta())
    with standby_of(patient.vault.cluster, settings=SMALL | {"hot_standby_feedback": "on"}) as standby:
        with connect(standby.conninfo()) as connection:
            patient.vault.execute("CREATE TABLE before ()")
            until_replayed(connection, "pg_last_xact_replay_timestamp() IS NOT NULL")
            connection.execute("SELECT pg_wal_replay_pause()")
            patient.vault.execute("CREATE TABLE after ()")
            until_replayed(connection, "pg_last_wal_receive_lsn() <> pg_last_wal_replay_lsn()")
        monkeypatch.setenv("DATABASE_URL", standby.url(patient.vault.database))
        behind = [row for row in patient.seen().rows if row.name == "standby" and row.state == "warning"]
    assert [row.told for row in behind] == [
        "its last transaction is 0 minutes old, and more has arrived: find out why replay is slow or paused"
    ]


def until_replayed(connection: Connection, condition: str) -> None:
    """Wait until something is so on a standby."""
    deadline = time.monotonic() + 30
    while connection.execute(f"SELECT {condition}".encode()).fetchone() != (True,):
        assert time.monotonic() < deadline, condition
        time.sleep(0.05)


@pytest.mark.usefixtures("patient")
def test_newer_clients_are_a_warning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with throwaway_cluster(wanted_distribution("embedded-16"), settings=SMALL) as older:
        monkeypatch.setenv("DATABASE_URL", older.url())
        one = installed(tmp_path / "installation", embedded=("pginstall18",))
        clients = read(one.run("doctor", "--json", exit_code=7, env={}).document).one("clients")
    assert clients.state == "warning"
    assert clients.detail.startswith("pg_dump 18.")
    assert clients.told.endswith("newer than the server: its dump may not restore there: install postgresql-client-16")


def test_the_database_of_a_drill_that_was_killed_is_told(patient: Patient) -> None:
    name = "borg_vault_drill_0123456789ab"
    patient.vault.execute(f"CREATE DATABASE {name}")
    try:
        assert patient.warnings()["leftovers"] == (
            f"{name}: of a drill that runs, or that was killed: drop them when no drill runs"
        )
    finally:
        patient.vault.execute(f"DROP DATABASE {name}")


@pytest.mark.usefixtures("patient")
def test_without_clients_that_fit_the_package_is_named(tmp_path: Path) -> None:
    one = installed(tmp_path / "installation", embedded=("pginstall16",))
    seen = read(one.run("doctor", "--json", exit_code=7, env={}).document)
    clients = seen.one("clients")
    assert clients.state == "failed"
    assert clients.detail.startswith("no pg_dump that fits a PostgreSQL 18 server: found ")
    assert clients.advice == "install postgresql-client-18 (Debian, PGDG)"
    assert ("drill", "warning", "install postgresql-18") in [(row.name, row.state, row.advice) for row in seen.rows]
