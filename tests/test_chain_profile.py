"""The profile of a dump: every entry is counted once, whatever it claims, in memory that has an end."""

from __future__ import annotations

import json
import tracemalloc
from collections.abc import Iterable
from datetime import date, timedelta
from pathlib import Path
from typing import Any, Literal

import pytest

from borg_vault_plugin.chain.profile import MOST_DAYS, MOST_KEYS, Profile, profile_of
from borg_vault_plugin.chain.source import FILES, NotCheckedError
from borg_vault_plugin.chain.times import milliseconds
from borg_vault_plugin.chain.verification import verify_directory
from borg_vault_plugin.sample import SampleVault, VaultShape

Era = Literal["v1", "v2"]
KEY = "a8204c47d170787a"


def written(directory: Path, entries: Iterable[dict[str, Any]], keys: Iterable[dict[str, Any]] = ()) -> Path:
    """Write a dump of these rows."""
    for name in FILES:
        (directory / f"{name}.ndjson").touch()
    for name, rows in (("audit_vault", entries), ("vault_signing_keys", keys)):
        with (directory / f"{name}.ndjson").open("w") as file:
            file.writelines(json.dumps(row) + "\n" for row in rows)
    return directory


def counted(profile: Profile) -> int:
    return sum(count for _, count in profile.days) + profile.other_days + profile.undated


@pytest.mark.parametrize("era", ["v1", "v2"])
def test_a_genuine_vault(era: Era, tmp_path: Path) -> None:
    vault = SampleVault(VaultShape(records=30, era=era, rotations=2, unsigned_entries=10))
    vault.write_ndjson(tmp_path)
    rows, profile = vault.rows(), profile_of(tmp_path, None)
    assert profile.entries == len(rows.audit_vault) == verify_directory(tmp_path, jobs=1).counts["audit_vault"]
    days = [row.created_at[:10] for row in rows.audit_vault]
    assert profile.days == tuple((date.fromisoformat(day), days.count(day)) for day in sorted(set(days)))
    assert (profile.other_days, profile.undated, profile.unknown, profile.other_keys) == (0, 0, 0, 0)
    assert profile.unnamed == sum(row.signing_key_id is None for row in rows.audit_vault) > 0
    named = [row.signing_key_id for row in rows.audit_vault]
    registered = sorted(rows.vault_signing_keys, key=lambda row: row.activated_at)
    assert [(key.key_id, key.algorithm, key.status) for key in profile.keys] == [
        (row.key_id, row.algorithm, row.status) for row in registered
    ]
    for key, row in zip(profile.keys, registered, strict=True):
        assert key.entries == named.count(key.key_id) > 0
        assert key.activated is not None
        assert key.first is not None
        assert key.last is not None
        assert key.activated <= key.first <= key.last <= (key.retired or key.last)
        assert (key.retired is None) == (row.retired_at is None) == (key.status == "active")


def test_instants_are_the_first_and_the_last_in_any_order(tmp_path: Path) -> None:
    times = ["2026-05-02T00:00:00.000Z", "2026-05-01T23:59:59.999Z", "2026-05-03T12:00:00.000Z"]
    keys = [{"key_id": KEY, "activated_at": "2026-05-01T00:00:00.000Z", "retired_at": "no time"}]
    profile = profile_of(written(tmp_path, ({"created_at": at, "signing_key_id": KEY} for at in times), keys), None)
    (key,) = profile.keys
    assert (profile.first, profile.last) == (key.first, key.last) == (milliseconds(times[1]), milliseconds(times[2]))
    assert (key.activated, key.retired) == (milliseconds("2026-05-01T00:00:00.000Z"), None)
    assert [day for day, _ in profile.days] == [date(2026, 5, 1), date(2026, 5, 2), date(2026, 5, 3)]


def test_days_before_1970_are_days(tmp_path: Path) -> None:
    profile = profile_of(written(tmp_path, [{"created_at": "1969-12-31T23:59:59.999Z"}]), None)
    assert profile.days == ((date(1969, 12, 31), 1),)


@pytest.mark.parametrize("at", [None, 5, "yesterday", "2026-02-30T00:00:00.000Z", {"a": 1}])
def test_an_entry_without_a_readable_time_is_counted(at: object, tmp_path: Path) -> None:
    profile = profile_of(written(tmp_path, [{"created_at": at, "signing_key_id": KEY}], [{"key_id": KEY}]), None)
    assert (profile.entries, profile.undated, profile.first, profile.last) == (1, 1, None, None)
    assert (profile.keys[0].entries, profile.keys[0].first) == (1, None)


@pytest.mark.parametrize(
    ("named", "where"),
    [(None, "unnamed"), ("", "unnamed"), ("0" * 16, "unknown"), (7, "unknown"), ([KEY], "unknown")],
)
def test_an_entry_without_a_known_key_is_counted(named: object, where: str, tmp_path: Path) -> None:
    profile = profile_of(written(tmp_path, [{"signing_key_id": named}], [{"key_id": KEY}]), None)
    assert getattr(profile, where) == 1
    assert profile.unnamed + profile.unknown == 1
    assert profile.keys[0].entries == 0


def test_of_two_rows_with_one_key_id_the_later_counts(tmp_path: Path) -> None:
    keys = [{"key_id": KEY, "status": "retired"}, {"key_id": KEY, "status": "active"}]
    assert [key.status for key in profile_of(written(tmp_path, [], keys), None).keys] == ["active"]


def test_keys_beyond_what_can_be_shown_are_counted(tmp_path: Path) -> None:
    keys = [{"key_id": f"{number:016}", "status": "x" * 10_000} for number in range(MOST_KEYS + 5)]
    odd: list[dict[str, Any]] = [{"key_id": None}, {"key_id": "k" * 1_000_000}, {}]
    profile = profile_of(written(tmp_path, [{"signing_key_id": f"{MOST_KEYS:016}"}], [*keys, *odd]), None)
    assert len(profile.keys) == MOST_KEYS
    assert profile.other_keys == 5 + len(odd)
    assert profile.unknown == 1
    assert max(len(key.status) for key in profile.keys) < 300


def test_days_beyond_what_can_be_shown_are_counted_and_take_no_memory(tmp_path: Path) -> None:
    whole = 3 * MOST_DAYS
    days = (date(1900, 1, 1) + timedelta(days=number) for number in range(whole))
    directory = written(tmp_path, ({"created_at": f"{day}T00:00:00.000Z"} for day in days))
    tracemalloc.start()
    try:
        profile = profile_of(directory, None)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(profile.days) == MOST_DAYS
    assert (profile.other_days, counted(profile)) == (whole - MOST_DAYS, whole)
    assert peak < 8_000_000


def test_no_entries_are_a_profile_too(tmp_path: Path) -> None:
    profile = profile_of(written(tmp_path, []), None)
    assert (profile.entries, profile.days, profile.keys, profile.first) == (0, (), (), None)


def test_what_cannot_be_read_has_no_profile(tmp_path: Path) -> None:
    with pytest.raises(NotCheckedError, match="there is no audit_vault"):
        profile_of(tmp_path, None)
    written(tmp_path, [])
    with pytest.raises(NotCheckedError, match="vault_key_statements"):
        profile_of(tmp_path, "v2")
    (tmp_path / "audit_vault.ndjson").write_text('{"created_at": "2026-05-01T00:00:00.000Z"}\nno json\n')
    with pytest.raises(NotCheckedError, match="line at byte 43"):
        profile_of(tmp_path, None)
