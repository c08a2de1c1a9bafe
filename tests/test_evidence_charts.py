"""Charts: what is drawn, where, and what is said when there is nothing, little or very much to draw."""

from __future__ import annotations

import math
from datetime import UTC, date, datetime, timedelta

import pytest
from fix_page import HOSTILE, Page, read_markup
from hypothesis import example, given
from hypothesis import strategies as st

from borg_vault_plugin.chain.profile import KeyUse
from borg_vault_plugin.evidence.charts import Line, Measurement, bars, key_timeline, line_chart, timing_bars
from borg_vault_plugin.evidence.periods import MOST_PERIODS, periods
from borg_vault_plugin.evidence.quantities import duration, instant, short_count, short_duration
from borg_vault_plugin.evidence.scales import count_axis, duration_axis, span

START = date(2026, 5, 1)
NOON = datetime(2026, 5, 1, 12, tzinfo=UTC)
DAY = 86_400_000
DATES = st.dates()


def drawn(html: str) -> Page:
    """Read a chart; everything in it lies between its left and its right end."""
    page = read_markup(html)
    for _, attributes in page.elements:
        for name in ("x", "x1", "x2"):
            if attributes.get(name, "").endswith("%"):
                assert -0.01 <= float(attributes[name][:-1]) <= 100.01
        if attributes.get("width", "").endswith("%"):
            assert float(attributes["width"][:-1]) + float(attributes.get("x", "0%")[:-1]) <= 100.5
    return page


def days(count: int, *, each: int = 1) -> list[tuple[date, int]]:
    return [(START + timedelta(days=number), each) for number in range(count)]


def test_no_day_is_said_and_not_drawn() -> None:
    page = drawn(bars("Entries", [], "entry", "entries"))
    assert page.all("svg") == []
    assert "nothing to draw" in page.text


def test_one_day_is_one_bar_with_its_date() -> None:
    page = drawn(bars("Entries", days(1, each=7), "entry", "entries"))
    (bar,) = page.all("rect", "bar")
    assert float(bar["width"][:-1]) <= 12
    assert "7 entries in 1 day." in page.text
    assert page.inside("text")[-1] == "2026-05-01"


@pytest.mark.parametrize(
    ("count", "unit", "whole"),
    [
        (40, "day", 40),
        (120, "day", 120),
        (121, "week", 18),
        (800, "week", 115),
        (840, "month", 28),
        (3_000, "month", 99),
    ],
)
def test_many_days_become_longer_periods_and_it_says_so(count: int, unit: str, whole: int) -> None:
    page = drawn(bars("Entries", days(count), "entry", "entries"))
    assert f"Each bar is one {unit}" in page.text
    assert len(page.all("rect", "bar")) == whole
    assert f"{count:,} entries in " in page.text


def test_a_bar_is_as_high_as_its_share_of_the_axis() -> None:
    page = drawn(bars("Entries", [(START, 100), (START + timedelta(days=1), 50)], "entry", "entries"))
    heights = [float(bar["height"]) for bar in page.all("rect", "bar")]
    assert heights == [180, 90]
    assert [line["y1"] for line in (*page.all("line", "axis"), *page.all("line", "grid"))] == ["188.0", "98.0", "8.0"]
    assert page.inside("text")[:5] == ["0", "50", "100", "2026-05-01", "2026-05-02"]


def test_gaps_are_marked_and_counted() -> None:
    some = [(START, 1), (START + timedelta(days=4), 1), (START + timedelta(days=5), 1), (START + timedelta(days=9), 1)]
    page = drawn(bars("Entries", some, "entry", "entries"))
    gaps = [(gap["x"], gap["width"]) for gap in page.all("rect", "gap") if gap["x"].endswith("%")]
    assert gaps == [("10.000%", "30.000%"), ("60.000%", "30.000%")]
    assert "in 10 days, 6 of them without any" in page.text
    assert "no entries" in page.text


def test_the_numbers_behind_the_bars_are_there_to_read() -> None:
    page = drawn(bars("Entries", days(3, each=1234), "entry", "entries"))
    assert page.inside("td") == ["1,234"] * 3
    assert page.all("details")


def test_a_calendar_of_ten_thousand_years_still_is_a_chart() -> None:
    page = drawn(bars("Entries", [(date.min, 1), (date.max, 2)], "entry", "entries"))
    assert "Each bar is one century" in page.text
    assert len(page.all("rect", "bar")) == 2


@given(st.lists(st.tuples(DATES, st.integers(1, 10**18)), min_size=1, max_size=40))
def test_periods_count_everything_once(some: list[tuple[date, int]]) -> None:
    shown = periods(some)
    assert sum(shown.counts) == sum(count for _, count in some)
    assert len(shown.counts) <= MOST_PERIODS
    assert shown.counts[0]
    assert shown.counts[-1]
    assert shown.label(0) <= shown.label(len(shown.counts) - 1)


@given(st.integers(0, 10**18), st.integers(1, 6))
def test_an_axis_of_counts_reaches_to_the_largest_in_few_round_steps(largest: int, steps: int) -> None:
    ticks = count_axis(largest, steps).ticks
    assert ticks[0] == 0
    assert ticks[-1] >= largest * (1 - 1e-9)
    assert 2 <= len(ticks) <= steps + 2
    assert all(tick == round(tick) for tick in ticks)


@given(st.floats(0, 1e11), st.integers(1, 6))
@example(5e-324, 1)
@example(0.004, 4)
def test_an_axis_of_durations_reaches_to_the_longest(longest: float, steps: int) -> None:
    ticks = duration_axis(longest, steps).ticks
    assert ticks[-1] >= longest * (1 - 1e-9)
    assert 2 <= len(ticks) <= steps + 2
    assert len({short_duration(tick) for tick in ticks}) == len(ticks)


@pytest.mark.parametrize(
    ("longest", "names"),
    [
        (0.4, ["0 s", "0.2 s", "0.4 s"]),
        (45, ["0 s", "30 s", "1 min"]),
        (400, ["0 s", "5 min", "10 min"]),
        (93_600, ["0 s", "1 d", "2 d"]),
        (0, ["0 s", "1 s"]),
    ],
)
def test_durations_have_the_steps_of_clocks(longest: float, names: list[str]) -> None:
    assert [short_duration(tick) for tick in duration_axis(longest, 2).ticks] == names


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0, "0.0 s"),
        (4.25, "4.2 s"),
        (59.4, "59 s"),
        (61, "1 min 1 s"),
        (3_599.7, "60 min"),
        (3_600, "1 h"),
        (93_600 + 521, "1 d 2 h"),
        (None, "unknown"),
        (math.nan, "unknown"),
        (math.inf, "unknown"),
        (-1, "unknown"),
        (1e300, "unknown"),
    ],
)
def test_durations_in_words(seconds: float | None, words: str) -> None:
    assert duration(seconds) == words


def test_other_quantities_in_words() -> None:
    assert [short_count(count) for count in (0, 5, 2_000, 2_500_000, 5e9)] == ["0", "5", "2k", "2.5M", "5G"]
    assert instant(None) == "unknown"
    assert instant(0) == "1970-01-01 00:00:00 UTC"
    assert instant(datetime.fromisoformat("2026-05-01T01:30:00+02:00")) == "2026-04-30 23:30:00 UTC"


def test_phases_are_bars_beside_the_longest_one() -> None:
    page = drawn(timing_bars("Phases", [("extract", 30), ("restore", 60), ("verify", 0)]))
    assert [bar["width"] for bar in page.all("rect", "bar")] == ["50.000%", "100.000%", "0.300%"]
    assert page.inside("text") == ["extract", "30 s", "restore", "1 min", "verify", "0.0 s"]
    assert "3 phases, 1 min 30 s in all." in page.text


def test_phases_without_a_time_are_left_out() -> None:
    assert "No phase was measured" in drawn(timing_bars("Phases", [])).text
    assert "No phase was measured" in drawn(timing_bars("Phases", [("x", math.nan)])).text
    assert len(drawn(timing_bars("Phases", [("x", 0.0), ("y", math.inf)])).all("rect", "bar")) == 1
    many = drawn(timing_bars("Phases", [(f"phase {number}", 1.0) for number in range(99)]))
    assert len(many.all("rect", "bar")) == 40
    assert "Only the 40 first phases are drawn." in many.text


def key(name: str, activated: int | None, retired: int | None, entries: int = 5) -> KeyUse:
    return KeyUse(name, "Ed25519", "active", activated, retired, entries, activated, retired)


def test_keys_are_rows_from_activation_to_retirement() -> None:
    keys = [key("a" * 16, 0, 5 * DAY), key("b" * 16, 5 * DAY, None, 1)]
    page = drawn(key_timeline("Keys", keys, until=10 * DAY))
    windows = [(rect["x"], rect["width"]) for rect in page.all("rect", "window") if rect["x"].endswith("%")]
    assert windows == [("0.000%", "50.000%"), ("50.000%", "50.000%")]
    assert [line["x1"] for line in page.all("line", "rotation") if line["x1"] != "0"] == ["50.000%"]
    assert [line["x1"] for line in page.all("line", "end")] == ["50.000%"]
    assert len(page.all("path", "arrow")) == 1
    assert "2 keys, the oldest first; 1 rotation." in page.text
    assert page.inside("text") == [
        *("a" * 16, "5 entries", "b" * 16, "1 entry"),
        *("1970-01-01", "1970-01-06", "1970-01-11"),
    ]


def test_keys_are_few_or_many_or_without_times() -> None:
    assert drawn(key_timeline("Keys", [], until=None)).all("svg") == []
    assert drawn(key_timeline("Keys", [key("a", None, None)], until=DAY)).all("svg") == []
    one = drawn(key_timeline("Keys", [key("a", 0, None)], until=None))
    assert "1 key." in one.text
    assert one.all("line", "rotation") == []
    many = drawn(key_timeline("Keys", [key(f"{number:016}", number * DAY, None) for number in range(90)], until=DAY))
    assert "90 keys, the oldest first; 39 rotations. Only the 40 newest keys are drawn." in many.text
    assert f"{89:016}" in many.inside("text")
    assert f"{49:016}" not in many.inside("text")


def test_short_spans_are_named_by_the_minute() -> None:
    assert span([0, 3_600_000]).labels() == ["01-01 00:00", "01-01 00:30", "01-01 01:00"]
    assert span([0]).labels() == ["12-31 12:00", "01-01 00:00", "01-01 12:00"]
    assert span([0, 10 * DAY]).labels() == ["1970-01-01", "1970-01-06", "1970-01-11"]


def measured(*seconds: float | None, verdict: str = "passed") -> tuple[Measurement, ...]:
    return tuple(
        Measurement(NOON + timedelta(days=number), value, "failed" if verdict == "failed" else "passed", f"n-{number}")
        for number, value in enumerate(seconds)
    )


def test_two_lines_have_a_panel_and_a_scale_each() -> None:
    lines = [Line("RPO", measured(90_000, 45_000, 0)), Line("RTO", measured(60, 120, 240))]
    page = drawn(line_chart("Times", lines))
    assert len(page.all("line", "line")) == 4
    assert len([point for point in page.all("circle", "point") if point["r"] == "3.5"]) == 6 + 2
    assert page.inside("text") == [
        *("RPO", "0 s", "1 d", "2 d"),
        *("RTO", "0 s", "2 min", "4 min"),
        *("05-01 12:00", "05-02 12:00", "05-03 12:00"),
    ]
    assert "RPO and RTO; 3 measurements." in page.text


def test_a_line_ends_where_a_number_is_missing_and_goes_on_after_it() -> None:
    assert len(drawn(line_chart("Times", [Line("RTO", measured(1, 2, None, 3, 4))])).all("line", "line")) == 2
    assert len(drawn(line_chart("Times", [Line("RTO", measured(1, math.nan, 3))])).all("line", "line")) == 0


def test_one_point_and_none() -> None:
    assert len(drawn(line_chart("Times", [Line("RTO", measured(5))])).all("line", "line")) == 0
    assert "nothing to draw yet" in drawn(line_chart("Times", [Line("RTO", ())])).text
    assert "nothing to draw yet" in drawn(line_chart("Times", [])).text


def test_what_failed_has_another_shape_also_without_a_number() -> None:
    page = drawn(line_chart("Times", [Line("RTO", measured(None, 5, verdict="failed"))]))
    assert len(page.all("path", "failed")) == 2 + 1
    assert "failed" in page.text


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_names_are_short_and_harmless(text: str) -> None:
    use = KeyUse(text, text, text, 0, DAY, 1, 0, DAY)
    charts = (
        bars(text, days(3), text, text),
        timing_bars(text, [(text, 1.0)]),
        key_timeline(text, [use, use], until=None),
        line_chart(text, [Line(text, (Measurement(NOON, 1.0, "passed", text),))]),
    )
    for chart in charts:
        page = drawn(chart)
        assert max(map(len, page.inside("text")), default=0) <= 34
        assert len(page.all("svg", None)) <= 10


def test_a_chart_says_what_it_shows_to_those_who_cannot_see_it() -> None:
    for chart in (bars("T", days(3), "entry", "entries"), timing_bars("T", [("a", 1)])):
        page = read_markup(chart)
        (image,) = [svg for svg in page.all("svg") if svg.get("role") == "img"]
        assert image["width"] == "100%"
        assert page.inside("title")[0] == "T"
        assert len(page.inside("desc")) == 1
