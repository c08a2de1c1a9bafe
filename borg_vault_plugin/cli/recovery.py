"""The command that brings a database back."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from borg_vault_plugin import narration
from borg_vault_plugin.cli.options import Json, app, exit_codes, print_lines, settings_of, tell_unchecked
from borg_vault_plugin.errors import UsageError
from borg_vault_plugin.lookup import LATEST
from borg_vault_plugin.recovery import excerpt, recovery_text
from borg_vault_plugin.recovery import restore as restoration
from borg_vault_plugin.report import as_json
from borg_vault_plugin.wording import visible


class PartChoice(StrEnum):
    """The parts of an archive that can be had as files."""

    registry = "registry"
    chain = "chain"
    dump = "dump"


@app.command(epilog=exit_codes(4, 5, 6, 7, 10, 11, 12))
def restore(
    context: typer.Context,
    archive: Annotated[
        str, typer.Argument(metavar="[ARCHIVE]", help="Its name, or latest: the newest good one.", show_default=False)
    ] = LATEST,
    database: Annotated[str | None, typer.Option(metavar="NAME", help="What the new database is called.")] = None,
    to: Annotated[
        str | None,
        typer.Option(metavar="TARGET", help="A server: its name in the configuration, env:NAME or file:PATH."),
    ] = None,
    swap: Annotated[bool, typer.Option("--swap", help="Let it take the live database's place, once proven.")] = False,
    accept_loss: Annotated[
        bool, typer.Option("--accept-loss", help="Restore it although newer entries would be lost.")
    ] = False,
    only: Annotated[
        tuple[PartChoice, Path] | None,
        typer.Option("--only", metavar="registry|chain|dump DIR", help="Only write these files, into a new directory."),
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Swap without asking.")] = False,
    as_document: Json = False,
) -> None:
    """Restore an archive beside the live database and prove it; with --swap it then takes the live one's place."""
    if only is not None:
        if database or to or swap or accept_loss:
            raise UsageError(
                "--only writes files and restores nothing: leave --database, --to, --swap, --accept-loss out"
            )
        _write(context, archive, only, as_document=as_document)
    if swap and not yes and not sys.stdin.isatty():
        raise UsageError("--swap asks before it does anything, and there is no terminal to ask on: add --yes")
    call = ("borg-vault", *(("--config", str(context.obj)) if context.obj else ()))
    request = restoration.Request(archive, database, to, swap, accept_loss, call)
    with narration.muted(mute=as_document), narration.progress() as progress:
        report = restoration.restore(settings_of(context), request, _unasked if yes else _ask, progress)
    print_lines([as_json(report)] if as_document else recovery_text.restored_lines(report))
    raise typer.Exit(report.exit_code)


def _write(context: typer.Context, archive: str, only: tuple[PartChoice, Path], *, as_document: bool) -> NoReturn:
    part, directory = only
    with narration.muted(mute=as_document):
        written = excerpt.write_excerpt(settings_of(context), archive, part.value, directory)
    print_lines([as_json(written)] if as_document else recovery_text.excerpt_lines(written))
    tell_unchecked(written.reasons)
    raise typer.Exit(written.exit_code)


def _unasked(_database: str, _plan: Sequence[str]) -> None:
    """Go on: whoever called the program has answered already."""


def _ask(database: str, plan: Sequence[str]) -> None:
    """Ask on the terminal; stdout may be somebody's document."""
    for line in plan:
        print(visible(line), file=sys.stderr)
    print(f"To go on, type the name of the database, {visible(database)}: ", end="", file=sys.stderr, flush=True)
    if sys.stdin.readline().rstrip("\r\n") != database:
        raise UsageError(f"that is not {database}: nothing was changed")
