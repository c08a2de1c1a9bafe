"""`demo`: the whole story, told to its end, leaving nothing behind."""

from __future__ import annotations

from pathlib import Path

import pytest
from fix_cli import RunCommand
from readme.story import RECORDING, shape

pytest_plugins = ("fix_server",)


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The temporary directory in which the demo plays."""
    directory = tmp_path / "t"
    directory.mkdir()
    monkeypatch.setenv("TMPDIR", str(directory))
    return directory


def test_the_story_is_told_to_its_end_and_leaves_nothing(place: Path, run_command: RunCommand) -> None:
    told = run_command("demo", exit_code=0).stdout
    for words in ("$ borg-vault init", "The second night", "db.dump: OK", "PASSED: ", "removed 1 archive", "The end"):
        assert words in told
    assert list(place.iterdir()) == []
    # README shows it: `make demo-recording docs` when it has changed.
    assert shape(told) == shape(RECORDING.read_text(encoding="utf-8"))


def test_its_files_can_be_kept(place: Path, run_command: RunCommand) -> None:
    told = run_command("demo", "--keep-files", exit_code=0).stdout
    (kept,) = [path for path in place.iterdir() if path.name.startswith("borg-vault-demo-")]
    assert f"The files of this demo are in {kept}." in told
    assert (kept / "extracted" / "db.dump").exists()
    assert not (kept / "data").exists()
