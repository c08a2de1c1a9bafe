"""The page about a drill: when a backup was last restored, and how anybody knows that it worked."""

from __future__ import annotations

import math
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from fix_page import HOSTILE, Page, read_page
from hypothesis import given
from hypothesis import strategies as st

from borg_vault_plugin.evidence.drill import DrillCheck, DrillEvidence, PastDrill, Phase, drill_page
from borg_vault_plugin.evidence.shapes import Verdict

DRILLED = datetime(2026, 7, 1, 3, 12, 8, tzinfo=UTC)
ARCHIVE = "prod-2026-07-01T01:33:27Z"
CHECK = DrillCheck("chain", "The restored chain gives the archived NDJSON", "passed", "6 files, 625 MB", 22.8)
DRILL = DrillEvidence(
    archive=ARCHIVE,
    verdict="passed",
    checks=(CHECK, replace(CHECK, name="continuity", verdict="not_applicable", detail="there is no earlier archive")),
    phases=(Phase("extract", 30.0), Phase("pg_restore", 120.0)),
    rpo_seconds=93_600.0,
    rto_seconds=270.0,
    head="104,001 chains, 519,670 entries",
    snapshot=datetime(2026, 7, 1, 1, 33, 27, tzinfo=UTC),
    drilled=DRILLED,
    versions={"BorgBackup": "1.4.5", "PostgreSQL": "15.18"},
    past=(),
    proven=("PostgreSQL rebuilds the database.",),
    not_proven=("That the encryption keys can be restored.",),
)
TEXT = st.text(st.characters() | st.sampled_from("<>&\"'\0\u202e"), max_size=60)


def page_of(drill: DrillEvidence) -> Page:
    return read_page(drill_page(drill))


def past(weeks: int, verdict: Verdict = "passed", rto: float | None = 240.0) -> PastDrill:
    at = DRILLED - timedelta(weeks=weeks)
    return PastDrill(at, f"prod-{at:%Y-%m-%d}T01:33:27Z", verdict, 5 * 3600.0, rto)


def test_it_answers_when_and_how_it_is_known() -> None:
    page = page_of(DRILL)
    assert page.inside("title")[0] == "Passed: restore drill of 2026-07-01 03:12:08 UTC"
    assert page.all("div", "banner") == [{"class": "banner passed"}]
    assert f"2026-07-01 03:12:08 UTC, by this drill, from the archive {ARCHIVE}" in page.text
    assert "2026-07-01 01:33:27 UTC: the instant of the archived snapshot" in page.text
    assert "From 2 checks of what was restored: 1 passed, 1 not applicable." in page.text
    assert "1 of 1" in page.inside("dd")
    for words in ("1 d 2 h", "4 min 30 s", "104,001 chains, 519,670 entries", "1.4.5", "15.18"):
        assert words in page.text
    for words in (CHECK.title, CHECK.detail, "23 s", *DRILL.proven, *DRILL.not_proven):
        assert words in page.text


def test_the_phases_are_drawn() -> None:
    page = page_of(DRILL)
    assert [bar["width"] for bar in page.all("rect", "bar")] == ["25.000%", "100.000%"]
    assert "2 phases, 2 min 30 s in all." in page.text


@pytest.mark.parametrize("verdict", ["failed", "not_checked"])
def test_a_drill_that_did_not_pass_names_the_last_one_that_did(verdict: Verdict) -> None:
    drill = replace(DRILL, verdict=verdict, checks=(replace(CHECK, verdict=verdict),))
    page = page_of(replace(drill, past=(past(3), past(1, "failed"), past(2))))
    assert page.all("div", "banner") == [{"class": f"banner {verdict}"}]
    assert "Not by this drill. The last one that passed was on 2026-06-17 03:12:08 UTC" in page.text
    assert "No drill is known that passed. This one did not." in page_of(replace(drill, past=(past(1, "failed"),))).text
    assert "passed" not in page_of(drill).classes()


def test_the_first_drill_has_no_chart_of_earlier_ones() -> None:
    page = page_of(DRILL)
    assert "None is known: this is the first one." in page.text
    assert page.all("line", "line") == []


def test_earlier_drills_are_a_chart_and_a_table_newest_first() -> None:
    page = page_of(replace(DRILL, past=tuple(past(weeks) for weeks in (2, 30, 1, 5))))
    assert len(page.all("line", "line")) == 2 * 4
    assert "5 measurements" in page.text
    at = [text for text in page.inside("th") if text.endswith("UTC")]
    assert at == sorted(at, reverse=True)
    assert at[0] == "2026-07-01 03:12:08 UTC"
    assert len(at) == 5


def test_a_drill_that_came_to_no_number_leaves_a_hole_and_a_word() -> None:
    page = page_of(replace(DRILL, past=(past(3), past(2, "failed", None), past(1))))
    assert len(page.all("line", "line")) == 3 + 1
    assert "unknown" in page.inside("td")
    unmeasured = page_of(replace(DRILL, rpo_seconds=None, rto_seconds=math.nan))
    assert unmeasured.inside("dd").count("unknown") == 2
    assert unmeasured.text.count("not measured") == 2


def test_very_many_drills_and_checks_have_an_end() -> None:
    page = page_of(replace(DRILL, past=tuple(past(weeks) for weeks in range(1, 1_000)), checks=(CHECK,) * 700))
    assert "800 older drills not shown." in page.text
    assert "200 more checks not shown." in page.text
    assert "700 of 700" in page.text


def test_nothing_at_all_is_no_pass() -> None:
    bare = replace(DRILL, verdict="not_checked", checks=(), phases=(), versions={}, proven=(), not_proven=())
    page = page_of(replace(bare, head=None, snapshot=None))
    assert "unknown: the instant of the archived snapshot" in page.text
    assert "It is not: no check was made." in page.text
    assert "No phase was measured." in page.text
    assert "Not recorded." in page.text
    assert "none are proven" in page.text
    assert "passed" not in page.classes()


def hostile_drill(text: str) -> DrillEvidence:
    """Put a text wherever a text can be."""
    return replace(
        DRILL,
        archive=text,
        checks=(DrillCheck(text, text, "failed", text, 1.0),),
        phases=(Phase(text, 1.0),),
        head=text,
        versions={text: text},
        past=(PastDrill(DRILLED - timedelta(days=1), text, "failed", 1.0, 1.0),),
        proven=(text,),
        not_proven=(text,),
    )


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_values_are_shown_and_do_nothing(text: str) -> None:
    html = drill_page(hostile_drill(text))
    page, plain = read_page(html), page_of(hostile_drill("plain"))
    assert [tag for tag, _ in page.elements if tag != "wbr"] == [tag for tag, _ in plain.elements if tag != "wbr"]
    assert page.classes() == plain.classes()
    assert len(html) < 120_000


@given(TEXT.filter(bool), st.floats(), st.datetimes(timezones=st.just(UTC)))
def test_any_value_in_any_place_is_only_text(text: str, seconds: float, at: datetime) -> None:
    drill = replace(hostile_drill(text), rpo_seconds=seconds, rto_seconds=seconds, drilled=at, snapshot=at)
    read_page(drill_page(replace(drill, phases=(Phase(text, seconds),))))
