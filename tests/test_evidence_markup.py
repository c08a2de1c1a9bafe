"""Text on its way into a page: whatever it holds, it stays text, and looks like what it is."""

from __future__ import annotations

import pytest
from fix_page import HOSTILE, read_markup
from hypothesis import given
from hypothesis import strategies as st

from borg_vault_plugin.evidence.markup import LONGEST_TEXT, Markup, code, cut, element, escaped, joined, value
from borg_vault_plugin.wording import visible

# Everything that Unicode has, lone surrogates too: JSON can hold them.
ANYTHING = st.text(st.characters() | st.sampled_from("<>&\"'\0\u202e\ud800"), max_size=80)


@given(ANYTHING)
def test_text_stays_text_in_content_and_attributes(text: str) -> None:
    html = element("p", text, data_label=text)
    page = read_markup(html)
    assert page.elements == [("p", {"data-label": visible(text)})]
    assert page.text == visible(text)
    html.encode()


@given(ANYTHING)
def test_a_value_is_kept_apart_from_the_text_around_it(text: str) -> None:
    page = read_markup(joined("before ", value(text), " after"))
    assert [tag for tag, _ in page.elements] == ["bdi"]
    assert page.text == f"before {visible(text)} after"


@given(ANYTHING)
def test_code_is_the_same_letters(text: str) -> None:
    page = read_markup(code(text))
    assert {tag for tag, _ in page.elements} <= {"code", "wbr"}
    assert page.text == visible(text)


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_text_is_harmless(text: str) -> None:
    page = read_markup(element("td", text, value(text), code(text), data_label=text))
    assert {tag for tag, _ in page.elements} <= {"td", "bdi", "code", "wbr"}


def test_what_cannot_be_seen_is_shown_as_its_number() -> None:
    assert visible("a\0b\u202ec\ud800\u200b\n") == "a⟨U+0000⟩b⟨U+202E⟩c⟨U+D800⟩⟨U+200B⟩⟨U+000A⟩"


def test_ordinary_text_of_any_language_is_left_alone() -> None:
    for text in ("plain text", "Zürich, e\u0301te\u0301", "東京 ありがとう", "שלום", "नमस्ते", "😀"):
        assert visible(text) == text


def test_marks_cannot_be_piled_up() -> None:
    assert visible("Z" + "\u0301" * 6) == "Z" + "\u0301" * 4 + "⟨U+0301⟩⟨U+0301⟩"


def test_long_text_has_an_end_and_says_how_long_it_was() -> None:
    assert cut("x" * 1_000_000, 10) == "xxxxxxxxxx… (1,000,000 characters)"
    assert cut("x" * 10, 10) == "x" * 10
    assert len(escaped("<" * 1_000_000)) < 5 * LONGEST_TEXT
    assert len(value("é" * 1_000_000)) < LONGEST_TEXT


def test_markup_is_not_escaped_again() -> None:
    assert element("p", element("b", "<")) == "<p><b>&lt;</b></p>"
    assert escaped(Markup("<b>")) == "<b>"


def test_attributes_are_written_as_html_has_them() -> None:
    assert element("th", class_="number", data_label="x", scope=None) == '<th class="number" data-label="x"></th>'
    assert element("meta", http_equiv="y") == '<meta http-equiv="y">'
