"""Backups are taken from a hot standby as from a primary."""

from __future__ import annotations

import pytest
from conftest import wanted_distribution
from fix_cli import RunCli
from fix_repository import PlainRepository, announce
from fix_standby import standby_of
from fix_vault import Vault, connect, template_of

from borg_vault_plugin.cluster import throwaway_cluster

pytest_plugins = ("fix_server",)


def test_a_standby_is_backed_up(repository: PlainRepository, run_cli: RunCli, monkeypatch: pytest.MonkeyPatch) -> None:
    with throwaway_cluster(wanted_distribution("embedded-18"), settings={"max_connections": "20"}) as primary:
        sample = template_of(primary, "v2")
        with connect(primary.conninfo("template_v2")) as connection:
            connection.execute("CREATE UNLOGGED TABLE scratch AS SELECT 1")
        with standby_of(primary) as standby:
            vault = Vault(standby, "template_v2", sample)
            assert vault.value("SELECT pg_is_in_recovery()") is True
            announce(monkeypatch, vault, repository)
            document = run_cli("create", "--json", exit_code=0).document
            assert document["counts"]["audit_vault"] == vault.value("SELECT count(*) FROM audit_vault")
    assert document["snapshot"]["wal_lsn"] is not None
    assert document["snapshot"]["system_identifier"] is not None
    assert repository.names() == [document["archive"]]
