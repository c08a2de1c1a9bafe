"""The commands with every argument and option, from the application itself."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any, get_args

from typer.main import get_command

from borg_vault_plugin.cli import app
from borg_vault_plugin.cli.panels import PANELS
from readme.layout import entry

VALUES: dict[object, str] = {int: "N", str: "TEXT", bool: ""}
# Every program has these, and shells ask for the last two.
UNTOLD = {"help", "install_completion", "show_completion"}


@dataclass(frozen=True, slots=True)
class Parameter:
    """An argument or an option: how it is written, and what it is for."""

    written: str
    meaning: str
    is_option: bool

    @property
    def name(self) -> str:
        """An option without its value and its short form."""
        return next(word for word in self.written.replace(",", "").split() if word.startswith("--"))


@dataclass(frozen=True, slots=True)
class Command:
    """A command as it is called, what it does, and what it takes."""

    name: str
    does: str
    parameters: tuple[Parameter, ...]


def commands() -> Iterator[str]:
    """Give one block: the options of the program and of several commands, then each command with its own."""
    program, *all_commands = called()
    shared = _shared(all_commands)
    yield "```text"
    yield from entry("borg-vault [OPTIONS] COMMAND", program.does)
    yield from _told(program.parameters)
    yield from ("", "Options of several commands:")
    yield from _told(tuple(shared))
    for command in all_commands:
        own = tuple(one for one in command.parameters if one not in shared)
        arguments = " ".join(one.written for one in own if not one.is_option)
        yield from ("", *entry(f"{command.name} {arguments}".strip(), command.does))
        yield from _told(tuple(one for one in own if one.meaning))
        others = [one.name for one in command.parameters if one in shared]
        yield from ([f"  also {' '.join(others)}"] if others else [])
    yield "```"


def called() -> Sequence[Command]:
    """List the program itself, then every command with the commands below it, in the order of --help."""
    program, *commands = _below("", get_command(app))
    order = [name for names in PANELS.values() for name in names]
    return [program, *sorted(commands, key=lambda command: order.index(command.name.partition(" ")[0]))]


def _below(path: str, command: Any) -> Iterator[Command]:
    """Walk a command of Typer, whose own class is not public."""
    yield Command(path, _first_line(command.help), tuple(_parameters(command)))
    for name, inner in getattr(command, "commands", {}).items():
        yield from _below(f"{path} {name}".strip(), inner)


def _parameters(command: Any) -> Iterator[Parameter]:
    for one in command.params:
        if one.name not in UNTOLD:
            is_option = one.param_type_name == "option"
            names = ", ".join(sorted(one.opts, key=len)) if is_option else ""
            meaning = f"{one.help or ''}{_demand(one) if is_option else ''}"
            yield Parameter(f"{names} {_value(one)}".strip(), meaning, is_option)


def _value(parameter: Any) -> str:
    """Say what is written for a value: what the command says, or a word for the type."""
    annotation = parameter.type_descriptor.annotation
    of = next(iter(get_args(annotation)), annotation)
    if parameter.metavar:
        return str(parameter.metavar)
    if isinstance(of, type) and issubclass(of, Enum):
        return "|".join(_word(choice) for choice in of)
    return VALUES[of]


def _demand(option: Any) -> str:
    if option.required:
        return " Required."
    return f" Default: {_word(option.default)}." if option.default and option.default is not True else ""


def _word(value: object) -> str:
    return str(value.value if isinstance(value, Enum) else value)


def _first_line(text: str | None) -> str:
    return " ".join((text or "").partition("\n\n")[0].split())


def _shared(all_commands: list[Command]) -> list[Parameter]:
    """List the options that several commands have, one of each name: the one that most of them have."""
    counts = Counter(one for command in all_commands for one in command.parameters if one.is_option)
    rarest_first = {one.name: one for one, count in reversed(counts.most_common()) if count > 1}
    return [one for one in counts if one in rarest_first.values()]


def _told(parameters: tuple[Parameter, ...]) -> Iterator[str]:
    for one in parameters:
        yield from entry(f"  {one.written}", one.meaning)
