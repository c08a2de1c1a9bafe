"""The frame of a page, and its way into a file."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from fix_fault_disk import FILLER, MountDisk
from fix_page import HOSTILE, read_page

from borg_vault_plugin.errors import ConfigError
from borg_vault_plugin.evidence.blocks import WORDS, Column, banner, mark, section, table
from borg_vault_plugin.evidence.markup import element
from borg_vault_plugin.evidence.page import page, write_page
from borg_vault_plugin.evidence.style import STYLE

pytest_plugins = ("fix_faults",)


def test_a_page_allows_its_own_style_sheet_and_nothing_else() -> None:
    read = read_page(page("Title", section("Heading", element("p", "text"))))
    assert read.inside("title") == ["Title"]
    assert read.inside("style") == [STYLE]
    assert [meta["content"] for meta in read.all("meta") if meta.get("name") == "viewport"]


@pytest.mark.parametrize("text", HOSTILE)
def test_a_hostile_title_stays_a_title(text: str) -> None:
    read = read_page(page(text, section(text)))
    assert len(read.elements) == len(read_page(page("Title", section("Heading"))).elements)


def test_the_style_sheet_serves_dark_rooms_narrow_screens_and_paper() -> None:
    for condition in ("prefers-color-scheme: dark", "max-width", "@media print"):
        assert condition in STYLE
    assert "</" not in STYLE


def test_a_verdict_is_a_word_and_a_symbol_and_not_only_a_colour() -> None:
    marks = {verdict: mark(verdict) for verdict in WORDS}
    assert len({html.split("<path")[1].split(">")[0] for html in marks.values()}) == len(WORDS)
    for verdict, html in marks.items():
        assert WORDS[verdict] in html
    assert "Not checked" in banner("not_checked", "Not checked", "Why.")


def test_a_table_names_its_cells_for_narrow_screens() -> None:
    html = table("Caption", (Column("Name"), Column("Count", number=True)), [("a", "1"), ("b", "2")])
    assert html.count('data-label="Count"') == 2
    assert "<caption>Caption</caption>" in html
    assert html.count('scope="col"') == html.count('scope="row"') == 2


@pytest.mark.parametrize("umask", [0o022, 0o077])
def test_a_page_is_for_its_owner_only(tmp_path: Path, umask: int) -> None:
    os.umask(umask)
    write_page(tmp_path / "report.html", "<p>é</p>")
    assert (tmp_path / "report.html").read_bytes() == "<p>é</p>".encode()
    assert (tmp_path / "report.html").stat().st_mode & 0o777 == 0o600


def test_a_page_replaces_the_one_before_and_not_what_a_link_leads_to(tmp_path: Path) -> None:
    directory = tmp_path / "pages"
    directory.mkdir()
    (tmp_path / "precious").write_text("precious")
    (directory / "report.html").symlink_to(tmp_path / "precious")
    for content in ("first", "second"):
        write_page(directory / "report.html", content)
        assert (directory / "report.html").read_text() == content
    assert (tmp_path / "precious").read_text() == "precious"
    assert [path.name for path in directory.iterdir()] == ["report.html"]


def test_a_missing_directory_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"report\.html cannot be written: No such file or directory: name a file"):
        write_page(tmp_path / "nowhere" / "report.html", "")


def test_a_directory_in_its_place_is_left_alone(tmp_path: Path) -> None:
    directory = tmp_path / "pages"
    (directory / "report.html").mkdir(parents=True)
    with pytest.raises(ConfigError, match="Is a directory"):
        write_page(directory / "report.html", "")
    assert [path.name for path in directory.iterdir()] == ["report.html"]


def test_a_full_disk_leaves_the_page_before_and_nothing_else(mount_disk: MountDisk) -> None:
    disk = mount_disk("pages", size="1m")
    write_page(disk.path / "report.html", "before")
    disk.fill(but=8192)
    with pytest.raises(ConfigError, match="No space left on device"):
        write_page(disk.path / "report.html", "x" * 100_000)
    assert (disk.path / "report.html").read_text() == "before"
    assert {path.name for path in disk.path.iterdir()} == {"report.html", FILLER}
