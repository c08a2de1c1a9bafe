"""The harness that breaks whole runs on purpose: it repeats itself, its checks notice, and its table counts."""

from __future__ import annotations

import json
import signal
import subprocess
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
from faults.archives import betrayed, is_whole, lost, plain_names
from faults.injections import CELLS, INJECTIONS
from faults.kills import ended_by_us, killed
from faults.moments import standing_still
from faults.play import Result
from faults.schedule import Case, schedule
from faults.table import Report, line, lines, write
from fix_fault_proxy import CLIENT_PROGRAM, proxy_before
from fix_fault_run import Run, eventually, state_of
from fix_repository import PlainRepository
from fix_vault import Vault
from psycopg import OperationalError, connect

pytest_plugins = ("fix_server",)

RESULTS = Path(__file__).with_name("faults") / "results" / "faults.json"
README = Path(__file__).parents[1] / "README.md"
NAMES = [f"prod-2026-05-2{day}T01:33:27Z" for day in range(1, 6)]


def test_a_seed_gives_the_same_runs_however_many_are_asked_for() -> None:
    assert schedule(5, 40, CELLS) == schedule(5, 300, CELLS)[:40]
    assert schedule(5, 40, CELLS) != schedule(6, 40, CELLS)
    assert [case.dice().random() for case in schedule(5, 9, CELLS)] == [
        case.dice().random() for case in schedule(5, 9, CELLS)
    ]


def test_every_fault_comes_before_any_comes_twice_and_every_pair_has_its_turn() -> None:
    cases = schedule(1, 300, CELLS)
    assert {case.fault for case in cases[: len(INJECTIONS)]} == set(INJECTIONS)
    assert {(case.command, case.fault) for case in cases} == {
        (command, fault) for fault, commands in CELLS.items() for command in commands
    }
    assert all(0 <= case.place < 1 for case in cases)


@pytest.mark.parametrize(
    ("command", "now", "expected"),
    [
        ("drill", NAMES[1:3], NAMES[:1]),
        ("stage", NAMES[:3], []),
        ("create", NAMES[1:4], []),
        ("create", NAMES[2:4], []),
        ("create", NAMES[3:4], [NAMES[2]]),
        ("create", NAMES[1:3], [NAMES[0]]),
        ("prune", NAMES[2:3], []),
        ("prune", NAMES[:2], [NAMES[2]]),
    ],
    ids=["drill-prunes-nothing", "nothing-gone", "oldest", "two-oldest", "one-of-the-newest", "nothing-stored", "prune",
         "newest-pruned"],
)  # fmt: skip
def test_an_archive_is_lost_unless_retention_may_take_it(command: str, now: list[str], expected: list[str]) -> None:
    assert lost(command, NAMES[:3], now) == expected


def test_an_archive_that_disappears_is_noticed(repository: PlainRepository) -> None:
    repository.add(*NAMES[:2])
    before = plain_names(repository)
    repository.borg("delete", f"::{NAMES[0]}")
    assert lost("drill", before, plain_names(repository)) == [NAMES[0]]


@pytest.mark.parametrize("bend", ["nothing", "content", "one file more", "a file is missing", "segment"])
def test_an_archive_that_is_not_whole_is_noticed(bend: str, repository: PlainRepository, tmp_path: Path) -> None:
    directory = tmp_path / "set"
    directory.mkdir()
    (directory / "SHA256SUMS").write_text(
        "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad  db.dump\n", "utf-8"
    )
    (directory / "db.dump").write_text("abd" if bend == "content" else "abc", "utf-8")
    if bend == "one file more":
        (directory / "more").touch()
    if bend == "a file is missing":
        (directory / "db.dump").unlink()
    repository.borg("create", f"::{NAMES[0]}", *(path.name for path in directory.iterdir()), cwd=directory)
    if bend == "segment":
        max((repository.path / "data").glob("*/*"), key=lambda path: path.stat().st_size).unlink()
    assert is_whole(repository, NAMES[0], tmp_path / "extracted") == (bend == "nothing")


def test_a_secret_in_a_file_is_noticed(tmp_path: Path) -> None:
    (tmp_path / "history.ndjson").write_text("so it was swordfish, then", "utf-8")
    (tmp_path / "clean").write_text("nothing", "utf-8")
    assert list(betrayed(["swordfish"], tmp_path.iterdir())) == ["history.ndjson"]


def running(command: list[str], place: Path) -> Run:
    return Run(subprocess.Popen(command), place / "stdout", place / "stderr", str(place), ())


def test_what_still_runs_stands_still_and_can_be_killed(tmp_path: Path) -> None:
    run = running(["sleep", "60"], tmp_path)
    with standing_still(run) as still_runs:
        assert still_runs
        assert state_of(run.pid) == "T"
    eventually(lambda: state_of(run.pid) != "T", "it goes on")
    assert ended_by_us(run)


def test_what_has_ended_cannot_be_struck_any_more(tmp_path: Path) -> None:
    run = running(["true"], tmp_path)
    eventually(lambda: state_of(run.pid) == "Z", "it has ended")
    with standing_still(run) as still_runs:
        assert not still_runs
    assert not killed(run.pid)
    assert not ended_by_us(run)


def test_a_process_that_still_runs_dies_of_the_kill(tmp_path: Path) -> None:
    run = running(["sleep", "60"], tmp_path)
    assert killed(run.pid)
    assert run.popen.wait() == -signal.SIGKILL


def test_only_a_connection_that_waits_for_an_answer_is_cut(latest_vault: Vault) -> None:
    with proxy_before(latest_vault.cluster) as proxy, ThreadPoolExecutor() as beside:
        way = proxy.url(latest_vault)
        with connect(way, application_name="pg_idle") as idle, connect(way, application_name="pg_busy") as busy:
            asked = beside.submit(busy.execute, "SELECT pg_sleep(60)")
            assert eventually(lambda: proxy.cut_waiting(CLIENT_PROGRAM), "one is cut") == 1
            with pytest.raises(OperationalError):
                asked.result()
            assert idle.execute("SELECT 1").fetchone() == (1,)


def result(number: int, *, survived: bool = True, lost: tuple[str, ...] = ()) -> Result:
    case = Case(number, 7, "create", "SIGKILL to borg", "boundary", 0.5)
    return Result(case, "at line 3", "killed", (5,), (0,), 2.5, () if survived else ("a process is left",), lost)


def test_the_table_counts_and_a_failed_run_says_how_to_repeat_it(tmp_path: Path) -> None:
    too_late = Result(Case(4, 7, "drill", "clock jumps", "random", 0.1), "", None, (), (), 0.0, reason="no libfaketime")
    refused = replace(too_late, case=replace(too_late.case, number=5), problems=("a secret shows",), reason="")
    results = (result(1), result(2, survived=False), result(3, lost=(NAMES[0],)), too_late, refused)
    report = Report(7, {"borg": "1.4.5"}, 60.0, results)
    rows = list(lines(report))
    assert "| SIGKILL to borg | 3 / 1 / 2 / 1 |  |  |  |  | 3 / 1 / 2 / 1 |" in rows
    assert "| clock jumps |  |  |  |  | 0 / 0 / 1 / 0 | 0 / 0 / 1 / 0 |" in rows
    assert rows[-1] == "| **all** | 3 / 1 / 2 / 1 |  |  |  | 0 / 0 / 1 / 0 | 3 / 1 / 3 / 1 |"
    assert "make test-faults SEED=7 ONLY=2" in line(results[1])
    assert "a process is left" in line(results[1])
    assert f"lost: {NAMES[0]}" in line(results[2])
    assert line(results[4]).startswith("FAIL")
    write(report, tmp_path)
    document = json.loads((tmp_path / "faults.json").read_text("utf-8"))
    counts = {"runs": 5, "injected": 3, "survived": 1, "failed": 3, "lost": 1}
    assert {name: document[name] for name in counts} == counts
    assert document["faults"][0]["exit_codes"] == [5]
    page = (tmp_path / "faults.md").read_text("utf-8")
    assert "5 runs, 3 injected, 1 survived, 3 failed, 1 lost." in page
    assert "Of those that survived, 0 ended with 0" in page


def test_the_readme_gives_the_totals_of_the_results_and_nothing_failed() -> None:
    document = json.loads(RESULTS.read_text("utf-8"))
    totals = ", ".join(f"{document[name]} {name}" for name in ("runs", "injected", "survived", "failed", "lost"))
    assert f"**{totals}**" in README.read_text("utf-8").replace("\n", " ")
    assert document["failed"] == document["lost"] == 0
    assert document["survived"] == document["injected"]
