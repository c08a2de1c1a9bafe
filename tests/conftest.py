"""What every test may ask for: PostgreSQL clusters, an empty database in one, and an environment of its own.

`cluster` and `database` run a test once on each PostgreSQL that is here; `latest_cluster` and `latest_database` once,
on the newest one of the `embedded` extra. With BORG_VAULT_FORBID_SKIPS=1 (continuous integration) a skip is a failure.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import platform
import shutil
import sys
from collections.abc import Generator, Iterator
from pathlib import Path

import psycopg
import pytest
from psycopg import sql

from borg_vault_plugin import redaction
from borg_vault_plugin.cluster import (
    Cluster,
    Distribution,
    embedded_distributions,
    system_distributions,
    throwaway_cluster,
)
from borg_vault_plugin.process import plain_environment, run

INHERITED_PREFIXES = ("PG", "BORG_", "DATABASE_URL", "BACKUP_DIR", "PROVISIONING_CONFIG_PATH")
OWN_DIRECTORIES = ("HOME", "XDG_STATE_HOME", "XDG_CONFIG_HOME", "XDG_CACHE_HOME", "BORG_BASE_DIR")
# A server with few connections and little memory of its own starts quickly; tests need neither.
SMALL = {"max_connections": "40", "shared_buffers": "32MB"}
FORBID_SKIPS = os.environ.get("BORG_VAULT_FORBID_SKIPS") == "1"

database_numbers = itertools.count(1)


def pytest_report_header() -> list[str]:
    """Say what the tests run against."""
    servers = [f"{origin} {found.major}" for origin, found in installed_distributions()]
    return [
        f"borg: {borg_version()}",
        f"PostgreSQL servers: {', '.join(servers) or 'none'}",
        f"system: {platform.platform()}",
    ]


def borg_version() -> str:
    """Give what `borg --version` says."""
    borg = shutil.which("borg", path=f"{Path(sys.executable).parent}:{os.environ.get('PATH', '')}")
    return run([borg, "--version"], env=plain_environment(), timeout=60).stdout.decode().strip() if borg else "none"


def installed_distributions() -> list[tuple[str, Distribution]]:
    """List the servers that are here, with where they come from."""
    return [("embedded", found) for found in embedded_distributions()] + [
        ("system", found) for found in system_distributions()
    ]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Count a skipped test as failed where skips are forbidden; an expected failure is no skip."""
    report = yield
    if FORBID_SKIPS and report.skipped and not hasattr(report, "wasxfail"):
        report.outcome, report.longrepr = "failed", f"skips are forbidden here: {skip_reason(report)}"
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """Count a skipped module as failed where skips are forbidden."""
    report = yield
    if FORBID_SKIPS and report.skipped:
        report.outcome, report.longrepr = "failed", f"skips are forbidden here: {skip_reason(report)}"
    return report


def skip_reason(report: pytest.TestReport | pytest.CollectReport) -> str:
    """Give the reason of a skip: the last of (path, line, reason)."""
    return str(report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr)


@pytest.fixture(autouse=True)
def private_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Keep tests from what the developer has set up, from the developer's files, and from each other."""
    umask = os.umask(0o022)
    monkeypatch.setattr(redaction, "_known", set())  # what one test keeps secret may be another one's host
    for name in os.environ:
        if name.startswith(INHERITED_PREFIXES):
            monkeypatch.delenv(name)
    for name in OWN_DIRECTORIES:
        directory = tmp_path / name.lower()
        directory.mkdir()
        monkeypatch.setenv(name, str(directory))
    yield
    os.umask(umask)


@pytest.fixture(scope="session", params=["embedded-16", "embedded-18", "system-15"])
def distribution(request: pytest.FixtureRequest) -> Distribution:
    """Each PostgreSQL that the project is tested with."""
    return wanted_distribution(request.param)


def wanted_distribution(name: str) -> Distribution:
    """Give the server called, for example, `system-15`; skip the test when it is not here."""
    for origin, found in installed_distributions():
        if f"{origin}-{found.major}" == name:
            return found
    pytest.skip(f"no {name} PostgreSQL here")


@pytest.fixture(scope="session")
def cluster(distribution: Distribution) -> Iterator[Cluster]:
    """A running cluster of each PostgreSQL, shared by all tests: leave its settings and roles as they are."""
    with throwaway_cluster(distribution, settings=SMALL) as cluster:
        yield cluster


@pytest.fixture(scope="session")
def newest() -> Distribution:
    """The newest PostgreSQL that the project is tested with."""
    return wanted_distribution("embedded-18")


@pytest.fixture(scope="session")
def latest_cluster(newest: Distribution) -> Iterator[Cluster]:
    """A running cluster of the newest PostgreSQL, shared as `cluster` is."""
    with throwaway_cluster(newest, settings=SMALL) as cluster:
        yield cluster


@pytest.fixture
def database(cluster: Cluster) -> Iterator[str]:
    """The connection string of an empty database in `cluster`."""
    with empty_database(cluster) as conninfo:
        yield conninfo


@pytest.fixture
def latest_database(latest_cluster: Cluster) -> Iterator[str]:
    """The connection string of an empty database in `latest_cluster`."""
    with empty_database(latest_cluster) as conninfo:
        yield conninfo


@contextlib.contextmanager
def empty_database(cluster: Cluster) -> Iterator[str]:
    """Make a database and give its connection string; drop it on leaving, whoever is still connected."""
    name = f"test_{next(database_numbers)}"
    with psycopg.connect(cluster.conninfo(), autocommit=True) as connection:
        connection.execute(sql.SQL("CREATE DATABASE {} TEMPLATE template0").format(sql.Identifier(name)))
    yield cluster.conninfo(name)
    with psycopg.connect(cluster.conninfo(), autocommit=True) as connection:
        connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))
