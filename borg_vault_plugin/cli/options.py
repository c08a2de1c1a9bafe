"""What the commands have in common: the application, options, the settings, and printing."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterable
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from borg_vault_plugin import narration
from borg_vault_plugin.config import Settings, load_settings
from borg_vault_plugin.errors import EXIT_CODES
from borg_vault_plugin.manifest import program_version
from borg_vault_plugin.report import Document
from borg_vault_plugin.wording import visible


class SetChoice(StrEnum):
    """The sets that `create` and `prune` can be told to work on."""

    database = "database"
    provisioning = "provisioning"
    keys = "keys"


class EraChoice(StrEnum):
    """The two eras of the format."""

    v1 = "v1"
    v2 = "v2"


class AllowChoice(StrEnum):
    """The verdicts that `stage` can be told to put up with."""

    suspect = "suspect"
    unverified = "unverified"


def exit_codes(*codes: int) -> str:
    """Give the lines that end a command's help."""
    everywhere = (0, 1, 2, 3, 7, 130, 143)
    return "Exit codes: " + " · ".join(f"{code} {EXIT_CODES[code]}" for code in sorted({*everywhere, *codes}))


app = typer.Typer(
    name="borg-vault",
    help="Backups of systems whose history must be provable, in a Borg repository.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

RepositoryNames = Annotated[
    list[str], typer.Option("--repository", "-r", metavar="NAME", help="Only this repository; may be repeated.")
]
SetOption = Annotated[SetChoice, typer.Option("--set", help="Which of the three things that make a complete backup.")]
Keep = Annotated[int | None, typer.Option("--keep", min=1, help="Keep the newest N archives.")]
DryRun = Annotated[bool, typer.Option("--dry-run", "-n", help="Change nothing; say what would be done.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document, and nothing else, to stdout.")]
Reason = Annotated[str, typer.Option("--reason", metavar="TEXT", help="Why; it stands in history and in reports.")]


def _print_version(asked: bool) -> None:
    if asked:
        say(program_version())
        raise typer.Exit


@app.callback()
def _global_options(
    context: typer.Context,
    config: Annotated[
        Path | None,
        typer.Option(
            "--config",
            "-c",
            metavar="FILE",
            help="Default: ~/.config/borg-vault/config.toml, then /etc/borg-vault/config.toml.",
        ),
    ] = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Only warnings and errors.")] = False,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Also the commands that are run.")] = False,
    _version: Annotated[
        bool, typer.Option("--version", help="Print the version and exit.", is_eager=True, callback=_print_version)
    ] = False,
) -> None:
    context.obj = config
    narration.begin(quiet=quiet, verbose=verbose)


def settings_of(context: typer.Context) -> Settings:
    """Load the configuration that this call of the program uses."""
    return load_settings(context.obj, os.environ)


def print_lines(lines: Iterable[str]) -> None:
    """Print results; what somebody else named or wrote does not steer the terminal."""
    for line in lines:
        say(line if isinstance(line, Document) else visible(line))


def say(text: str) -> None:
    """Print one line as it is; when standard output does not take it the program goes on, and tells that at its end."""
    try:
        print(text, flush=True)
    except OSError as error:
        narration.unprinted.append(error)


def say_styled(text: str, *, colour: str | None = None, bold: bool = False) -> None:
    """Print one line as it is, on a terminal with emphasis."""
    say(typer.style(text, fg=colour, bold=bold or None) if sys.stdout.isatty() else text)


def complain(message: str) -> None:
    """Print one line of a warning or an error."""
    with contextlib.suppress(OSError):  # nobody is left who could be told
        print(f"borg-vault: {visible(message)}", file=sys.stderr)


def tell_unchecked(reasons: Iterable[str]) -> None:
    """Print why something was not checked, a line for each reason."""
    for reason in reasons:
        complain(f"not checked: {reason}")
