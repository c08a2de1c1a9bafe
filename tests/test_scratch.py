"""Scratch directories: private, removed, and not forgotten when their process is killed."""

from __future__ import annotations

import os
import stat
import time
from pathlib import Path

import pytest

from borg_vault_plugin.errors import PreflightError
from borg_vault_plugin.process import plain_environment, run
from borg_vault_plugin.scratch import held, private_place, scratch_directory


def test_it_is_private_and_gone_at_the_end(tmp_path: Path) -> None:
    with scratch_directory(tmp_path) as directory:
        assert stat.S_IMODE(directory.stat().st_mode) == 0o700
        (directory / "file").touch()
    assert list(tmp_path.glob("bv-*")) == []


def test_what_a_killed_parent_left_is_removed_by_the_next_run(tmp_path: Path) -> None:
    abandoned, young = tmp_path / "bv-abandoned", tmp_path / "bv-young"
    for left in (abandoned, young):
        (left / "data").mkdir(parents=True)
    os.utime(abandoned, (time.time() - 3600,) * 2)
    with scratch_directory(tmp_path) as held:
        os.utime(held, (time.time() - 3600,) * 2)
        with scratch_directory(tmp_path):
            assert not abandoned.exists()
            assert young.exists()
            assert held.exists()


def test_what_only_looks_like_one_stays(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "bv-link").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "bv-file").touch()
    os.utime(tmp_path / "bv-file", (0, 0))
    os.utime(tmp_path / "bv-link", (0, 0), follow_symlinks=False)
    with scratch_directory(tmp_path):
        pass
    assert {path.name for path in tmp_path.glob("*e*")} >= {"elsewhere", "bv-file"}
    assert (tmp_path / "bv-link").is_symlink()


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    expected = pytest.raises(
        PreflightError, match=r"^cannot make a directory in .*/nowhere: No such file or directory$"
    )
    with expected, scratch_directory(tmp_path / "nowhere"):
        pass


def test_a_place_is_made_for_us_alone(tmp_path: Path) -> None:
    place = private_place(tmp_path / "above" / "place")
    assert place.stat().st_mode & 0o777 == 0o700
    assert private_place(place) == place


def test_a_place_that_cannot_be_made_is_named_with_what_to_do() -> None:
    expected = r"^cannot make /proc/none/place: No such file or directory: mend that, or set staging_directory$"
    with pytest.raises(PreflightError, match=expected):
        private_place(Path("/proc/none/place"))


def test_a_directory_that_is_held_stays_the_same_for_children(tmp_path: Path) -> None:
    """Whatever is put in its place while a child is started, or before that."""
    place, elsewhere = tmp_path / "bv-place", tmp_path / "elsewhere"
    place.mkdir()
    elsewhere.mkdir()
    with held(place) as path:
        place.rename(tmp_path / "aside")
        place.symlink_to(elsewhere)
        assert run(["touch", "file"], env=plain_environment(), timeout=10, cwd=path).returncode == 0
    assert [one.name for one in (tmp_path / "aside").iterdir()] == ["file"]
    assert list(elsewhere.iterdir()) == []


def test_a_link_above_is_the_operators_own_whatever_its_name(tmp_path: Path) -> None:
    (tmp_path / "large disk").mkdir()
    (tmp_path / "bv-staging").symlink_to("large disk")
    with scratch_directory(tmp_path / "bv-staging") as directory, held(directory) as path:
        (path / "file").touch()
        assert (directory / "file").exists()


@pytest.mark.parametrize("name", ["bv-place", "bv-place/set"])
def test_a_link_in_its_place_is_not_held(name: str, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    (elsewhere / "set").mkdir(parents=True)
    (tmp_path / "bv-place").symlink_to(elsewhere)
    with pytest.raises(NotADirectoryError), held(tmp_path / name):
        pass
