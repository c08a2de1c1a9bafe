"""README is true: its tables name what the program has, and its blocks parse."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

from borg_vault_plugin import hookspecs
from borg_vault_plugin.borg import find_borg
from borg_vault_plugin.cli import app, config_app
from borg_vault_plugin.config import load_settings
from borg_vault_plugin.errors import EXIT_CODES

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    """Give the code blocks of one language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)


def section(heading: str) -> str:
    """Give the text below one heading."""
    found = re.search(rf"^## {re.escape(heading)}\n(.*?)(?=^## |\Z)", README, re.MULTILINE | re.DOTALL)
    assert found, f"README has no section {heading!r}"
    return found[1]


def test_the_table_of_exit_codes_is_the_programs() -> None:
    rows = re.findall(r"^\| (\d+) \| (.+) \|$", section("Exit codes"), re.MULTILINE)
    assert {int(code): meaning for code, meaning in rows} == EXIT_CODES


def test_75_is_never_an_exit_code_because_borgmatic_takes_it_for_success() -> None:
    assert 75 not in EXIT_CODES


def test_every_command_stands_in_the_table_of_commands() -> None:
    named = set(re.findall(r"`borg-vault ([a-z-]+)`", section("Commands")))
    assert {
        str(command.name or command.callback.__name__) for command in app.registered_commands if command.callback
    } | {str(group.name) for group in app.registered_groups} == named


def test_every_subcommand_of_config_is_named() -> None:
    assert all(f"`{command.name}`" in section("Commands") for command in config_app.registered_commands)


def test_every_hook_stands_there_with_exactly_its_arguments() -> None:
    specified = {
        f"{name}({', '.join(function.__code__.co_varnames[: function.__code__.co_argcount])})"
        for name, function in vars(hookspecs).items()
        if hasattr(function, f"{hookspecs.GROUP}_spec")
    }
    assert set(re.findall(r"^\| `(\w+\(.*?\))` \|", section("Writing a hook"), re.MULTILINE)) == specified


@pytest.mark.parametrize("block", blocks("toml"))
def test_every_configuration_in_it_is_valid(block: str, tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    path.write_text(block, encoding="utf-8")
    path.chmod(0o600)
    assert tomllib.loads(block)
    assert load_settings(path, {}).label == "prod"


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
