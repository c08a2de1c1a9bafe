"""The harness of `make bench`: its arithmetic, its tables and pictures, and a whole run on a very small vault."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from xml.etree import ElementTree as ET

import msgspec
import pytest
from bench import tables
from bench.__main__ import plan_of, write_all
from bench.contenders import BORGMATIC, FLOOR, OURS, SCRIPT, phases_of_checks, phases_of_create
from bench.figures import budgets, middle, nights, ratio, seconds
from bench.measuring import Cost, measured
from bench.parts import Of, Plan, sample
from bench.pictures import LABEL_DISTANCE, apart, cost_per_night, repository_size
from bench.results import Machine, Results, Sample, read, sizes_up_to, write
from bench.whole import measure

from borg_vault_plugin.process import plain_environment

MEGABYTE = 1_000_000
SVG = "{http://www.w3.org/2000/svg}"
SPENT = {SCRIPT: 8.0, FLOOR: 2.0, BORGMATIC: 7.0, OURS: 3.0}
ADDED = {SCRIPT: 50 * MEGABYTE, FLOOR: 2 * MEGABYTE, BORGMATIC: 3 * MEGABYTE, OURS: 2 * MEGABYTE}
HERE = Machine("a processor", 2, ("aes",), 8_000 * MEGABYTE, "a system", 0.0)


def spent(seconds_: float, program: int = 100 * MEGABYTE) -> Cost:
    return Cost(seconds_, seconds_, 1.0, program, 50 * MEGABYTE, 150 * MEGABYTE, 10 * MEGABYTE)


def made_up_samples() -> Iterator[Sample]:
    for number in (1, 2, 3):
        for name, took in SPENT.items():
            for night in (0, 1, 2):
                cost, of = spent(took * number), Of(100_000, "youngest", number, night)
                kept = ADDED[name] * (night + 1)
                yield sample("night", name, of, cost, {"all": took}, added_bytes=ADDED[name], stored_bytes=kept)
            yield sample("restore", name, Of(100_000, "youngest", number, 2), spent(took), {"all": took})
        of = Of(100_000, "youngest", number, 2)
        yield sample("drill", OURS, of, spent(9.0), {"extract": 1.0, "restore": 8.0})
        yield sample("export", OURS, of, spent(2.0), {"export": 2.0}, verified=100_000)
        for mode, took in (("full", 5.0), ("nightly", 2.0)):
            of_it = {"mode": mode, "verified": 100_000}
            yield msgspec.structs.replace(
                sample("verification", OURS, of, spent(took + 1), {"verify": took}, jobs=2), **of_it
            )
    for entries, program in ((10_000, 90), (100_000, 95)):
        for name, took in SPENT.items():
            of = Of(entries, "youngest", 1, 1, scale=True)
            yield sample("night", name, of, spent(took, program * MEGABYTE), {}, added_bytes=1, stored_bytes=2)


@pytest.fixture
def results() -> Results:
    """What a run might have found."""
    return Results(
        time=datetime(2026, 1, 2, tzinfo=UTC),
        seconds=600.0,
        entries=100_000,
        rounds=3,
        nights=2,
        sizes=(10_000, 100_000),
        machine=HERE,
        versions={"Borg": "1.4"},
        encryption="repokey",
        compression="zstd,3",
        vault={"entries": 100_013, "database_bytes": 150 * MEGABYTE},
        missing=(),
        failures=(),
        samples=tuple(made_up_samples()),
    )


def test_a_figure_is_the_median_of_all_rounds_and_following_nights(results: Results) -> None:
    assert middle(nights(results, "youngest", OURS), seconds) == 6.0
    assert len(nights(results, "youngest", OURS)) == 6
    assert len(nights(results, "youngest", OURS, first=True)) == 3


def test_what_was_not_measured_has_no_median_and_no_ratio() -> None:
    assert middle([], seconds) is None
    assert ratio(None, 2.0) is None
    assert ratio(3.0, None) is None
    assert ratio(3.0, 0.0) is None
    assert ratio(3.0, 2.0) == 1.5


def test_each_budget_is_met_or_not_by_what_was_measured(results: Results) -> None:
    found = {budget.what: (budget.measured, budget.is_met) for budget in budgets(results)}
    assert list(found.values()) == [
        ("1.50 \u00d7", True),
        ("0.38 \u00d7", True),
        ("25 \u00d7", True),
        ("20,000 entries/s", True),
        ("150 MB", True),
        ("50,000 entries/s", False),
        ("100 MB", True),
        ("1.06 \u00d7", True),
    ]


def test_what_was_not_measured_meets_no_budget(results: Results) -> None:
    nothing = msgspec.structs.replace(results, samples=(), sizes=())
    assert {budget.is_met for budget in budgets(nothing)} == {None}


def test_every_figure_stands_beside_its_ratio_to_the_floor(results: Results) -> None:
    text = tables.markdown(results)
    assert f"| {OURS} | 6.00 s (1.5\u00d7) |" in text
    assert f"| {SCRIPT} | 16.00 s (4\u00d7) |" in text
    assert "50.00 MB (25\u00d7)" in text
    assert "| ... its memory, all processes together | \u2264 250 MB | 150 MB | met |" in text
    assert "**not met**" in text


@pytest.mark.parametrize("drawn", [cost_per_night, repository_size])
def test_a_picture_names_every_contender_and_nothing_lies_outside(
    drawn: Callable[[Results], str], results: Results
) -> None:
    picture = ET.fromstring(drawn(results))  # noqa: S314 - written here
    assert picture.tag == f"{SVG}svg"
    words = " ".join(text.text or "" for text in picture.iter(f"{SVG}text"))
    assert all(name in words for name in SPENT)
    ends = [float(bar.get("x", 0)) + float(bar.get("width", 0)) for bar in picture.iter(f"{SVG}rect")]
    assert max(ends) <= float(picture.get("width", 0))
    assert "prefers-color-scheme: dark" in "".join(picture.itertext())


def test_names_of_curves_that_end_together_are_moved_apart() -> None:
    moved = apart([380.0, 379.0, 378.0, 200.0])
    assert all(low - high >= LABEL_DISTANCE for low, high in pairwise(moved))
    assert moved[-1] == 200.0


def test_results_are_read_as_they_were_written(results: Results, tmp_path: Path) -> None:
    write(results, tmp_path / "bench.json")
    assert read(tmp_path / "bench.json") == results
    assert not list(tmp_path.glob(".*.partial"))


def test_the_sizes_go_in_steps_up_to_the_largest() -> None:
    assert sizes_up_to(100_000) == (10_000, 30_000, 100_000)
    assert sizes_up_to(500_000) == (10_000, 30_000, 100_000, 300_000, 500_000)
    assert sizes_up_to(1_000) == (1_000,)


def test_the_environment_says_how_much_is_measured() -> None:
    assert plan_of({}) == Plan(sizes=(10_000, 30_000, 100_000))
    assert plan_of({"ENTRIES": "500", "ROUNDS": "1", "SIZES": "0"}) == Plan(entries=500, rounds=1)


def test_phases_are_read_from_the_documents_of_the_commands() -> None:
    created = phases_of_create(b'{"verdict": "good", "seconds": {"stage": 1.0, "store": 2.0, "total": 3.5}}')
    assert created == {"look": 0.5, "stage": 1.0, "store": 2.0}
    drilled = b'{"checks": [{"name": "dump", "seconds": 2.0, "verdict": "passed"}], "phases": {"extract": 1.0}}'
    assert phases_of_checks(drilled) == {"extract": 1.0, "dump": 2.0}


def test_a_command_is_measured_with_everything_below_it(tmp_path: Path) -> None:
    work = tmp_path / "work"
    work.mkdir()
    held = "held = b'x' * 40_000_000; open('file', 'wb').write(held[:8_000_000])"
    burn = "import time; end = time.process_time() + 0.3\nwhile time.process_time() < end: pass"
    below = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {held + chr(10) + burn!r}], check=True)"
    output, cost = measured([sys.executable, "-c", below], env=plain_environment(), directory=work)
    assert output == b""
    assert cost.seconds >= 0.3
    assert cost.cpu_seconds >= 0.3
    assert cost.children_bytes >= 40_000_000 > cost.program_bytes
    assert 8_000_000 <= cost.temporary_bytes < 9_000_000


def test_a_command_that_fails_ends_the_measurement_with_its_last_words(tmp_path: Path) -> None:
    work = tmp_path / "work"
    work.mkdir()
    with pytest.raises(RuntimeError, match=r"sh: exit code 3\nno room"):
        measured(["sh", "-c", "echo no room >&2; exit 3"], env=plain_environment(), directory=work)


def test_a_whole_run_on_a_very_small_vault_measures_every_contender(tmp_path: Path) -> None:
    said: list[str] = []
    plan = Plan(entries=300, rounds=1, nights=1, series=("youngest",))
    results = measure(plan, said.append)
    assert results.failures == ()
    write_all(results, tmp_path / "results")
    assert sorted(path.name for path in (tmp_path / "results").iterdir()) == [
        "bench.json", "bench.md", "cost-per-night.svg", "repository-size.svg",
    ]  # fmt: skip
    ours = nights(results, "youngest", OURS)
    assert [list(one.phases) for one in ours] == [["look", "stage", "verify", "store", "prune", "the rest"]]
    assert all(one.added_bytes and one.cost.cpu_seconds > 0 for one in ours)
    assert {one.part for one in results.samples} == {"night", "restore", "drill", "stage", "export", "verification"}
    assert {SCRIPT, FLOOR, OURS} <= {one.contender for one in results.samples if one.part == "restore"}
    assert len(said) > len(results.samples)


def test_the_program_is_run_as_a_module() -> None:
    done = subprocess.run(
        [sys.executable, "-c", "import bench.__main__"],
        env=plain_environment({"PYTHONPATH": str(Path(tables.__file__).parents[1])}),
        capture_output=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
