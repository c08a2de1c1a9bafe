"""A staged set and repositories for it, the test's own: see fix_wrapped."""

from __future__ import annotations

from pathlib import Path

import pytest
from fix_cli import RunCli
from fix_drill import Nights
from fix_shelf import Shelf, variable
from fix_wrapped import Wrapped

LABEL = "night"  # as the sets of `nights` have it
NAMES = ("nas", "second")


@pytest.fixture
def wrapped(nights: Nights, shelf: Shelf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, run_cli: RunCli) -> Wrapped:
    """The second night, staged."""
    assert run_cli is shelf.run
    place = tmp_path / "place"
    place.mkdir()
    monkeypatch.setenv("DATABASE_URL", nights.vault.url)
    sections = "\n".join(
        f"[repositories.{name}]\npath = '{shelf[name].path}'\npassphrase = {{ env = '{variable(name)}' }}\n"
        for name in NAMES
    )
    shelf.write_config(f'label = "{LABEL}"\n{sections}')
    found = Wrapped(place, shelf, nights)
    found.stage(nights.second)
    return found
