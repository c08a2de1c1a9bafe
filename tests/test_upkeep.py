"""Between backups: checking repositories, and getting their keys to where nothing else is."""

from __future__ import annotations

import stat
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from fix_repository import PlainRepository
from fix_shelf import Shelf, id_of, variable

pytest_plugins = ("fix_server", "fix_sets")


@pytest.fixture
def two(shelf: Shelf) -> Shelf:
    """A program that knows two repositories with something in each."""
    for name in ("nas", "second"):
        shelf[name].add("something")
    shelf.configure("", nas="", second="")
    return shelf


def damage(repository: PlainRepository) -> bytes:
    """Change a byte of a file's content, in the largest segment; give what was there."""
    segment = max((repository.path / "data").rglob("*"), key=lambda path: path.stat().st_size if path.is_file() else 0)
    data = segment.read_bytes()
    segment.write_bytes(data[:80] + bytes([data[80] ^ 1]) + data[81:])
    return data


def mend(repository: PlainRepository, data: bytes) -> None:
    """Bring a segment back."""
    segment = next(
        path for path in (repository.path / "data").rglob("*") if path.is_file() and path.stat().st_size == len(data)
    )
    segment.write_bytes(data)


def checked(shelf: Shelf, *words: object, exit_code: int = 0) -> Any:
    return shelf.run("check", *words, "--json", exit_code=exit_code).document["repositories"]


def test_every_repository_is_checked_and_history_says_when(two: Shelf) -> None:
    before = datetime.now(UTC)
    assert checked(two) == [
        {"repository": name, "verdict": "passed", "whole": True, "error": None} for name in ("nas", "second")
    ]
    events = two.events("checked")
    assert [(one.repository, one.archive, one.verdict, one.reason) for one in events] == [
        (id_of(two[name]), name, "passed", None) for name in ("nas", "second")
    ]
    assert before <= events[0].time <= events[1].time <= datetime.now(UTC)
    assert two.run("check", "-r", "second", exit_code=0).stdout == "second: passed\n"
    said = two.run("status", "--json", exit_code=13).document["repositories"]
    assert [one["last_check"][:10] for one in said] == [f"{before:%Y-%m-%d}"] * 2


def test_a_check_can_be_a_short_one_and_says_so(two: Shelf) -> None:
    assert checked(two, "-r", "nas", "--max-duration", "30m")[0]["whole"] is False
    assert [one.reason for one in two.events("checked")] == ["for 0:30:00 at most"]
    said = two.run("check", "-r", "nas", "--max-duration", "1s", exit_code=0).stdout
    assert said == "nas: passed, as far as the time allowed\n"


def test_a_short_check_goes_on_where_the_last_one_stopped(two: Shelf) -> None:
    """Only Borg's check of the repository can be short, so that is what is asked for."""
    said = two.run("-v", "check", "-r", "nas", "--max-duration", "5m", exit_code=0).stdout
    assert "check --repository-only --max-duration=300" in said


@pytest.mark.parametrize("words", ["", "30", "soon", "-1s", "1.5h"])
def test_a_duration_that_is_none_is_refused(words: str, two: Shelf) -> None:
    said = two.run("check", f"--max-duration={words}", exit_code=2).stderr
    assert "a duration is a number and a unit" in said
    assert two.events("checked") == []


def test_a_damaged_repository_is_told_until_it_is_mended(two: Shelf) -> None:
    whole = damage(two["nas"])
    said = two.run("check", "--json", exit_code=5)
    nas, second = said.document["repositories"]
    assert (nas["verdict"], second["verdict"]) == ("failed", "passed")
    assert "repository nas" in nas["error"]
    assert "does not pass Borg's check" in nas["error"]
    assert nas["error"] in said.stderr
    assert [one.verdict for one in two.events("checked")] == ["failed", "passed"]
    told = two.run("status", "--json", exit_code=13).document["repositories"][0]
    assert any("failed: mend it" in problem for problem in told["problems"])
    mend(two["nas"], whole)
    assert checked(two, "-r", "nas")[0]["verdict"] == "passed"
    told = two.run("status", "--json", exit_code=13).document["repositories"][0]
    assert not any("failed" in problem for problem in told["problems"])


def test_a_short_check_finds_damage_as_well(two: Shelf) -> None:
    damage(two["nas"])
    assert checked(two, "-r", "nas", "--max-duration", "1h", exit_code=5)[0]["verdict"] == "failed"


def test_a_repository_that_is_not_there_does_not_stop_the_others(two: Shelf) -> None:
    two["nas"].path.rename(two["nas"].path.with_name("elsewhere"))
    nas, second = checked(two, exit_code=5)
    assert (nas["verdict"], second["verdict"]) == ("failed", "passed")
    assert [one.archive for one in two.events("checked")] == ["second"]


def test_an_unknown_repository_is_refused(two: Shelf) -> None:
    assert "there is no repository named 'other'" in two.run("check", "-r", "other", exit_code=3).stderr


def test_the_key_of_a_repository_that_is_there_can_be_exported(two: Shelf, tmp_path: Path) -> None:
    """As `status` says to do it."""
    two["nas"].add("night")
    key = tmp_path / "usb" / "nas.key"
    said = two.run("init", "-r", "nas", "--key-out", key, exit_code=0).stdout
    assert "created" not in said
    assert str(key) in said
    assert two["nas"].names() == ["night", "something"]
    assert key.read_text("utf-8").splitlines()[0] == f"BORG_KEY {id_of(two['nas'])}"
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    (event,) = two.events("key_exported")
    assert (event.repository, event.archive, event.where) == (id_of(two["nas"]), "nas", str(key))
    nas, second = two.run("status", "--json", exit_code=13).document["repositories"]
    assert nas["problems"] == [f"its exported key is still on this machine: move {key} elsewhere"]
    assert second["key_exported"] is None
    key.unlink()
    assert two.run("status", "--json", exit_code=13).document["repositories"][0]["problems"] == []


def test_an_exported_key_opens_its_repository_and_no_other(two: Shelf, tmp_path: Path) -> None:
    key = tmp_path / "nas.key"
    two.run("init", "-r", "nas", "--key-out", key, exit_code=0)
    two["nas"].borg("key", "import", "::", key)
    assert two["nas"].names() == ["something"]
    two["second"].borg("key", "import", "::", key, exit_code=45)


def test_a_repository_that_does_not_open_gives_no_key(
    two: Shelf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable("nas"), "wrong")
    two.run("init", "-r", "nas", "--key-out", tmp_path / "key", exit_code=5)
    assert not (tmp_path / "key").exists()
    assert two.events("key_exported") == []
    assert two["nas"].names() == ["something"]


def test_no_file_is_written_over_by_a_key(two: Shelf, tmp_path: Path) -> None:
    (tmp_path / "key").write_text("mine", "utf-8")
    assert "exists already" in two.run("init", "-r", "nas", "--key-out", tmp_path / "key", exit_code=3).stderr
    assert (tmp_path / "key").read_text("utf-8") == "mine"
    assert "one file, but there are several" in two.run("init", "--key-out", tmp_path / "k", exit_code=2).stderr


def test_without_a_file_for_its_key_a_repository_that_is_there_is_left_alone(two: Shelf) -> None:
    two.run("init", "-r", "nas", exit_code=5)
    assert two["nas"].names() == ["something"]
    assert two.events("key_exported") == []
