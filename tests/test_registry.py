"""The key registry as CSV: what an operator of a Server knows, in a fixed order and in UTC."""

from __future__ import annotations

import csv
import io
from datetime import timedelta

import pytest
from fix_vault import Vault, role, url_of

from borg_vault_plugin import export_registry
from borg_vault_plugin.database import source_from_url
from borg_vault_plugin.session import prepare_session

pytest_plugins = ("fix_server",)

HEADER = "key_id,public_key,algorithm,status,activated_at,retired_at"


def exported(url: str) -> str:
    """Give the CSV as a run writes it."""
    written: list[bytes] = []
    with source_from_url(url).connect() as connection:
        prepare_session(connection, lock_timeout=timedelta(seconds=5))
        rows = export_registry(connection, written.append)
    text = b"".join(written).decode()
    assert rows == len(list(csv.reader(io.StringIO(text)))) - 1
    return text


def replace_keys(vault: Vault, *rows: str) -> None:
    values = ", ".join(f"({row})" for row in rows)
    vault.execute(
        "DELETE FROM vault_signing_keys",
        f"INSERT INTO vault_signing_keys ({HEADER}) VALUES {values}",
    )


def test_keys_stand_newest_activation_first_as_postgresql_prints_them_in_utc(vault: Vault) -> None:
    replace_keys(
        vault,
        "'bb', 'MCow+/==', 'Ed25519', 'retired', '2026-05-26 03:24:53+02', '2026-05-27 00:00:00.5Z'",
        "'aa', 'MCow', 'ES256', 'active', '2026-05-27 00:00:00.123456Z', NULL",
        "'BB', 'MCow', 'ES256', 'active', '2026-05-26 01:24:53Z', NULL",
    )
    assert exported(vault.url).splitlines() == [
        HEADER,
        "aa,MCow,ES256,active,2026-05-27 00:00:00.123456+00,",
        "BB,MCow,ES256,active,2026-05-26 01:24:53+00,",
        "bb,MCow+/==,Ed25519,retired,2026-05-26 01:24:53+00,2026-05-27 00:00:00.5+00",
    ]


def test_the_sample_registry_is_told_whole(vault: Vault) -> None:
    rows = list(csv.DictReader(io.StringIO(exported(vault.url))))
    with vault.connect() as connection:
        query = "SELECT key_id, public_key, algorithm, status, activated_at::text, coalesce(retired_at::text, '')"
        stored = connection.execute(f"{query} FROM vault_signing_keys ORDER BY activated_at DESC".encode()).fetchall()
    assert [tuple(row.values()) for row in rows] == stored


def test_columns_of_newer_servers_stay_out(latest_vault: Vault) -> None:
    before = exported(latest_vault.url)
    latest_vault.execute("ALTER TABLE vault_signing_keys ADD private_hint text DEFAULT 'not for backups'")
    assert exported(latest_vault.url) == before


@pytest.mark.parametrize("zone", ["Asia/Kathmandu", "America/New_York"])
def test_a_roles_own_time_zone_and_date_style_change_no_byte(zone: str, latest_vault: Vault) -> None:
    before = exported(latest_vault.url)
    with role(latest_vault) as name:
        latest_vault.execute(
            f"ALTER ROLE {name} SET TimeZone = '{zone}'", f"ALTER ROLE {name} SET DateStyle = 'German'"
        )
        assert exported(url_of(latest_vault, name)) == before
