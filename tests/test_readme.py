"""README is true: what is generated is fresh, what it names exists, and its blocks parse."""

from __future__ import annotations

import ast
import contextlib
import itertools
import re
import shlex
import subprocess
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from readme.commands import called
from readme.parts import PARTS, names_in, part
from typer.main import get_command

from borg_vault_plugin.borg import find_borg
from borg_vault_plugin.chain.codes import Code
from borg_vault_plugin.cli import app
from borg_vault_plugin.cli.panels import PANELS
from borg_vault_plugin.config import Settings, load_settings
from borg_vault_plugin.errors import EXIT_CODES

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = [ROOT / "README.md", *sorted((ROOT / "examples").glob("*/README.md"))]
HEADINGS = [
    "Sixty seconds", "Install", "First backup", "First drill", "Restoring on the bad day", "What a run does",
    "Configuration", "Writing a hook", "borgmatic and wrappers", "Monitoring", "Exit codes", "Threat model",
    "What a backup does not contain", "Licence",
]  # fmt: skip
BLOCK = re.compile(r"^( *)```(\w+)\n(.*?)^ *```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\(([^)\s]+)\)")
SHELLS = ("console", "sh", "bash")
# What separates commands of a shell, and what may stand before one.
SEPARATORS = ";&|()\n"
BEFORE = {"sudo", "exec", "if", "then", "!", "nice", "time"}


def blocks(*languages: str) -> list[Any]:
    """Give the code blocks of some languages, of every page, as parameters of a test."""
    return [
        pytest.param(re.sub(f"^{indent}", "", text, flags=re.MULTILINE), id=f"{page.relative_to(ROOT)}-{number}")
        for page in PAGES
        for number, (indent, language, text) in enumerate(BLOCK.findall(page.read_text(encoding="utf-8")))
        if language in languages
    ]


def typed(block: str) -> list[str]:
    """Give what is typed in a block: each command line after a prompt, or the whole script."""
    return re.findall(r"^\$ ((?:.*\\\n)*.*)", block, re.MULTILINE) or [block]


def section(heading: str) -> str:
    """Give the text below one heading."""
    found = re.search(rf"^##+ {re.escape(heading)}\n(.*?)(?=^##+ |\Z)", README, re.MULTILINE | re.DOTALL)
    assert found, f"README has no section {heading!r}"
    return found[1]


def understood(words: list[str]) -> None:
    """Let the program read a command line and do nothing; raises typer.TyperException when it does not understand."""
    command = get_command(app)
    _forget_to_act(command)
    command.main(args=words, prog_name="borg-vault", standalone_mode=False)


def _forget_to_act(command: Any) -> None:
    command.callback = lambda **_: None
    for inner in getattr(command, "commands", {}).values():
        _forget_to_act(inner)


def calls(script: str) -> Iterator[list[str]]:
    """Give the words of every call of the program in a command line or script."""
    text = re.sub(r"(^|\s)#.*$", "", script.replace("\\\n", " "), flags=re.MULTILINE)
    lexer = shlex.shlex(text, posix=True, punctuation_chars=f"{SEPARATORS}<>")
    lexer.whitespace, lexer.commenters, lexer.whitespace_split = " \t", "", True
    for separates, words in itertools.groupby(lexer, key=lambda word: set(word) <= set(SEPARATORS)):
        command = list(itertools.dropwhile(lambda word: word in BEFORE or "=" in word, words))
        if not separates and command and command[0] == "systemd-run":
            command = command[command.index("borg-vault") :]
        if not separates and command and Path(command[0]).name == "borg-vault":
            yield command[1:]


def finding_codes_of_the_product() -> Iterator[str]:
    """Give the codes with which the product makes findings: every literal, since the others are of the enumeration."""
    for path in [*(ROOT / "borg_vault_plugin").rglob("*.py"), *(ROOT / "hooks").rglob("*.py")]:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "Finding":
                yield from (str(one.value) for one in node.args[:1] if isinstance(one, ast.Constant))


def test_it_has_its_sections_in_their_order() -> None:
    assert re.findall(r"^## (.+)$", README, re.MULTILINE) == HEADINGS


def test_it_has_every_generated_part() -> None:
    assert sorted(names_in(README)) == sorted(PARTS)


@pytest.mark.parametrize("name", PARTS)
def test_a_generated_part_is_fresh(name: str) -> None:
    assert part(name) in README, "stale: run `make docs`"


def test_every_command_and_every_option_is_told() -> None:
    reference = section("Commands")
    for command in called():
        assert re.search(rf"^{re.escape(command.name or 'borg-vault')}\b", reference, re.MULTILINE), command
        assert all(one.written in reference for one in command.parameters), command


def test_every_setting_is_told() -> None:
    schema = Settings.model_json_schema()
    sections = [schema, *(one for name, one in schema["$defs"].items() if name != "SecretReference")]
    settings = {name for one in sections for name, what in one["properties"].items() if "$ref" not in str(what)}
    assert settings - set(re.findall(r"^\| `(\w+)` \|", section("Configuration"), re.MULTILINE)) == set()


def test_every_finding_that_the_product_makes_has_a_code_with_a_meaning() -> None:
    assert set(finding_codes_of_the_product()) <= set(Code)
    assert all(f"\n  {code} " in section("Exit codes") for code in Code)


def test_75_is_never_an_exit_code_because_borgmatic_takes_it_for_success() -> None:
    assert 75 not in EXIT_CODES


@pytest.mark.parametrize("block", blocks("toml"))
def test_every_configuration_is_valid(block: str, tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    path.write_text(block, encoding="utf-8")
    path.chmod(0o600)
    assert tomllib.loads(block)
    load_settings(path, {})


@pytest.mark.parametrize("block", blocks(*SHELLS))
def test_every_block_of_shell_is_one_and_calls_the_program_as_it_is(block: str) -> None:
    for script in typed(block):
        done = subprocess.run(["bash", "-n"], input=script, capture_output=True, text=True, check=False)
        assert (done.returncode, done.stderr) == (0, "")
        for words in calls(script):
            understood(words)


def test_a_command_line_that_is_wrong_is_found() -> None:
    script = (
        "cd / && A=1 sudo borg-vault create --keeps 7 # every night\nborg-vault list | grep 'a | b'; borg-vault stage"
    )
    assert list(calls(script)) == [["create", "--keeps", "7"], ["list"], ["stage"]]
    for words, understandable in zip(calls(script), (False, True, False), strict=True):
        with contextlib.nullcontext() if understandable else pytest.raises(typer.TyperException):
            understood(words)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_leads_somewhere(page: Path) -> None:
    for link in LINK.findall(page.read_text(encoding="utf-8")):
        place, _, anchor = link.partition("#")
        if not re.match(r"https?:", link):
            target = page.parent / place if place else page
            assert target.exists(), link
            if anchor:
                headings = re.findall(r"^#+ (.+)$", target.read_text(encoding="utf-8"), re.MULTILINE)
                assert anchor in {re.sub(r"[^\w -]", "", one).lower().replace(" ", "-") for one in headings}, link


def test_every_make_target_in_it_exists() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    named = set(re.findall(r"(?:`|\$ )make ([a-z-]+)", README))
    assert {"demo", "test"} <= named <= targets


def test_the_packages_that_it_tells_to_install_are_those_that_the_set_up_looks_for() -> None:
    command = next(line for line in README.splitlines() if line.startswith("$ apt install "))
    script = (ROOT / ".ci" / "system-packages").read_text(encoding="utf-8")
    assert all(package in script for package in command.split()[3:])


def test_the_borg_that_it_asks_for_is_the_one_that_is_found() -> None:
    assert find_borg().version.startswith("1.4.")


def test_every_command_has_its_panel_in_the_help() -> None:
    names = [name for names in PANELS.values() for name in names]
    assert sorted(names) == sorted(command.name for command in called() if command.name and " " not in command.name)
