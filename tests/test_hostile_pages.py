"""Pages of evidence made of hostile documents: no value becomes an element or an attribute, wherever it stands.

The documents are filled by their types: a field that is added later is hostile here from its first day.
"""

from __future__ import annotations

import dataclasses
import json
import types
import typing
from collections.abc import Mapping
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any, Literal, Union

import msgspec
import pytest
from fix_hostile import ESCAPES
from fix_page import HOSTILE, read_page

from borg_vault_plugin.chain.profile import Profile
from borg_vault_plugin.evidence.drill import DrillEvidence, drill_page
from borg_vault_plugin.evidence.verification import verification_page
from borg_vault_plugin.history import History
from borg_vault_plugin.recovery.drill_evidence import drill_evidence
from borg_vault_plugin.recovery.drill_report import Check, Drill
from borg_vault_plugin.recovery.rehearsal import past_drills
from borg_vault_plugin.report import Finding, Verified

INSTANT = datetime(2026, 5, 26, 1, 33, 27, tzinfo=UTC)
PLAIN: dict[object, object] = {int: 1, float: 1.5, bool: True, datetime: INSTANT, date: INSTANT.date()}


def filled(kind: Any, text: str) -> Any:
    """Make a value of a type in which every text is this one."""
    if kind is str:
        return text
    if kind in PLAIN:
        return PLAIN[kind]
    if dataclasses.is_dataclass(kind):
        hints = typing.get_type_hints(kind)
        made: Any = kind
        return made(**{field.name: filled(hints[field.name], text) for field in dataclasses.fields(kind) if field.init})
    return filled_generic(typing.get_origin(kind), typing.get_args(kind), text)


def filled_generic(origin: Any, arguments: tuple[Any, ...], text: str) -> Any:
    if origin is Literal:
        return "failed" if "failed" in arguments else arguments[0]
    if origin in (Union, types.UnionType):
        return filled(next(one for one in arguments if one not in (type(None), msgspec.UnsetType)), text)
    if issubclass(origin, Mapping):
        return {filled(arguments[0], text): filled(arguments[1], text)}
    return origin(filled(one, text) for one in arguments if one is not Ellipsis)


def texts_in(value: Any) -> list[str]:
    """List every text in a value that `filled` made."""
    if isinstance(value, str):
        return [value]
    if isinstance(value, Mapping):
        return [text for pair in value.items() for one in pair for text in texts_in(one)]
    if isinstance(value, tuple | list):
        return [text for one in value for text in texts_in(one)]
    if dataclasses.is_dataclass(value):
        return [text for field in dataclasses.fields(value) for text in texts_in(getattr(value, field.name))]
    return []


def verification(text: str) -> str:
    return verification_page(filled(Verified, text), (text,), filled(Profile, text), made=INSTANT, program=text)


def drilled(text: str) -> str:
    return drill_page(filled(DrillEvidence, text))


def test_the_documents_are_hostile_in_every_field() -> None:
    for kind, least in ((Verified, 8), (Profile, 3), (DrillEvidence, 10), (Finding, 5)):
        assert texts_in(filled(kind, "<b>")).count("<b>") >= least, kind


@pytest.mark.parametrize("made", [verification, drilled])
@pytest.mark.parametrize("text", [*HOSTILE, ESCAPES, "' onload='alert(1)", "data:text/html,<script>alert(1)</script>"])
def test_no_value_becomes_markup(made: Any, text: str) -> None:
    page, plain = read_page(made(text)), read_page(made("plain"))
    assert [tag for tag, _ in page.elements if tag != "wbr"] == [tag for tag, _ in plain.elements if tag != "wbr"]
    assert [set(one) for tag, one in page.elements if tag != "wbr"] == [
        set(one) for tag, one in plain.elements if tag != "wbr"
    ]
    assert page.classes() == plain.classes()


def test_a_hostile_history_is_only_text_in_the_page_of_a_drill(tmp_path: Path) -> None:
    lines = [
        {"time": "2026-05-26T01:33:27Z", "event": "drilled", "archive": text, "verdict": verdict, "rpo_seconds": number}
        for text in (*HOSTILE[:3], ESCAPES)
        for verdict in ("passed", "<script>", ESCAPES)
        for number in (-1e308, 1e308, 0)
    ]
    path = tmp_path / "history.ndjson"
    path.write_text("".join(f"{json.dumps(line)}\n" for line in lines), "utf-8")
    past = past_drills(History(path))
    assert len(past) == len(lines) / 3
    drill = Drill(
        archive=ESCAPES,
        verdict="failed",
        checks=(Check("files", "failed", HOSTILE[0], 1.0),),
        rpo_seconds=1.0,
        rto_seconds=1e308,
        head=HOSTILE[1],
        snapshot=INSTANT,
        time=INSTANT,
        phases={"extract": 1.0},
        versions={HOSTILE[2]: HOSTILE[3]},
        findings=(),
    )
    read_page(drill_page(drill_evidence(drill, past)))
