"""The commands for the days between: status, checks, pins."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated

import typer

from borg_vault_plugin import narration, text, upkeep
from borg_vault_plugin import status as standing
from borg_vault_plugin.cli.options import Json, Reason, RepositoryNames, app, exit_codes, print_lines, settings_of
from borg_vault_plugin.errors import UsageError
from borg_vault_plugin.report import as_json
from borg_vault_plugin.sections import parsed_duration

ArchiveName = Annotated[str, typer.Argument(metavar="ARCHIVE", help="Its name, as `list` prints it.")]


@app.command(epilog=exit_codes(5, 7, 13))
def status(context: typer.Context, as_document: Json = False) -> None:
    """Say whether there is a complete, restorable backup: the three things, their age, and what is missing."""
    with narration.muted(mute=as_document):
        found = standing.status(settings_of(context))
    print_lines([as_json(found)] if as_document else text.status_lines(found))
    raise typer.Exit(found.exit_code)


@app.command(epilog=exit_codes(5, 7))
def check(
    context: typer.Context,
    repository: RepositoryNames = [],  # noqa: B006 - typer reads it, nobody changes it
    max_duration: Annotated[
        str | None, typer.Option(metavar="D", help='Go on where the last check stopped, for "30m" say.')
    ] = None,
    as_document: Json = False,
) -> None:
    """Let Borg check its repositories, and remember when."""
    with narration.muted(mute=as_document):
        checks = upkeep.check(settings_of(context), tuple(repository), _duration(max_duration))
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
