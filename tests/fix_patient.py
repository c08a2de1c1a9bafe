"""A Server in good order, the test's own."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator

import pytest
from fix_cli import RunCli
from fix_doctor import Patient, WriteConfig
from fix_repository import PlainRepository
from fix_vault import Vault


@pytest.fixture
def patient(
    told: Vault,
    memory: PlainRepository,
    run_cli: RunCli,
    write_config: WriteConfig,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Patient]:
    """A Server in good order: a good archive, not old, and a key that was exported and is elsewhere.

    It has a directory of its own for temporary files, in which nobody else's killed run has left anything.
    """
    write_config('label = "prod"\n[sets.database]\nkeep = 7\n')
    with tempfile.TemporaryDirectory(prefix="patient-", dir="/tmp") as place:
        monkeypatch.setattr(tempfile, "tempdir", place)
        monkeypatch.setenv("TMPDIR", place)
        state = memory.path.parent / "xdg_state_home" / "borg-vault"
        patient = Patient(told, memory, run_cli, write_config, state)
        patient.note("key_exported", where="/media/safe/key")
        yield patient
