"""The commands for the days between: status, doctor, checks, pins."""

from __future__ import annotations

import os
import shutil
import sys
from datetime import timedelta
from typing import Annotated

import typer

from borg_vault_plugin import narration, text, upkeep
from borg_vault_plugin import status as standing
from borg_vault_plugin.cli.options import (
    Json,
    Reason,
    RepositoryNames,
    app,
    exit_codes,
    print_lines,
    say_styled,
    settings_of,
)
from borg_vault_plugin.doctor import table
from borg_vault_plugin.doctor.checks import State
from borg_vault_plugin.doctor.examination import diagnose
from borg_vault_plugin.errors import UsageError
from borg_vault_plugin.monitoring.watch import refresh
from borg_vault_plugin.report import as_json
from borg_vault_plugin.sections import parsed_duration
from borg_vault_plugin.wording import visible

COLOURS: dict[State | None, str] = {
    "ok": typer.colors.GREEN,
    "warning": typer.colors.YELLOW,
    "failed": typer.colors.RED,
}
ArchiveName = Annotated[str, typer.Argument(metavar="ARCHIVE", help="Its name, as `list` prints it.")]


@app.command(epilog=exit_codes(5, 7, 13))
def status(context: typer.Context, as_document: Json = False) -> None:
    """Say whether there is a complete, restorable backup: the three things, their age, and what is missing."""
    with narration.muted(mute=as_document):
        found = standing.status(settings_of(context))
    print_lines([as_json(found)] if as_document else text.status_lines(found))
    raise typer.Exit(found.exit_code)


@app.command(epilog=exit_codes(7))
def doctor(context: typer.Context, as_document: Json = False) -> None:
    """Look for everything that would make tonight's run or the bad day fail; nothing is changed."""
    with narration.muted(mute=True):
        found = diagnose(context.obj, os.environ)
    if as_document:
        print_lines([as_json(found)])
    else:
        width = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
        for line in table.lines(found, width):
            say_styled(visible(line.text), colour=COLOURS.get(line.state), bold=line.state == "failed")
    raise typer.Exit(found.exit_code)


@app.command(epilog=exit_codes(5, 7))
def check(
    context: typer.Context,
    repository: RepositoryNames = [],  # noqa: B006 - typer reads it, nobody changes it
    max_duration: Annotated[
        str | None, typer.Option(metavar="D", help='Stop after this long ("30m"), and go on from there the next time.')
    ] = None,
    as_document: Json = False,
) -> None:
    """Let Borg check its repositories, and remember when."""
    with narration.muted(mute=as_document):
        settings = settings_of(context)
        checks = upkeep.check(settings, tuple(repository), _duration(max_duration))
        refresh(settings)
    print_lines([as_json(checks)] if as_document else text.check_lines(checks))
    raise typer.Exit(checks.exit_code)


@app.command(epilog=exit_codes(5, 7))
def pin(context: typer.Context, archive: ArchiveName, reason: Reason) -> None:
    """Keep retention from an archive."""
    print_lines(f"{name}: {archive} is pinned" for name in upkeep.pin(settings_of(context), archive, reason))


@app.command(epilog=exit_codes(5, 7))
def unpin(context: typer.Context, archive: ArchiveName) -> None:
    """Leave a pinned archive to retention again."""
    print_lines(f"{name}: {archive} is not pinned any more" for name in upkeep.unpin(settings_of(context), archive))


def _duration(words: str | None) -> timedelta | None:
    if words is None:
        return None
    try:
        return parsed_duration(words)
    except ValueError as error:
        raise UsageError(f"--max-duration: {error}") from error
