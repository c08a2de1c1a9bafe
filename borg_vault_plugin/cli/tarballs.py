"""The way in and out: from the tarballs of the Server's own backup script to archives, and back."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from borg_vault_plugin import narration
from borg_vault_plugin.cli.options import Json, RepositoryNames, app, exit_codes, print_lines, settings_of
from borg_vault_plugin.lookup import LATEST
from borg_vault_plugin.monitoring.watch import refresh
from borg_vault_plugin.report import as_json
from borg_vault_plugin.tarballs import handback, intake, tarball_text


@app.command("import", epilog=exit_codes(4, 5, 6, 7, 10, 11))
def import_(
    context: typer.Context,
    files: Annotated[list[Path], typer.Argument(metavar="FILE.tar.gz", help="Tarballs of the Server's backup script.")],
    repository: RepositoryNames = [],  # noqa: B006 - typer reads it, nobody changes it
    as_document: Json = False,
) -> None:
    """Turn tarballs of the Server's own backup script into verified archives, dated as they were."""
    with narration.muted(mute=as_document), narration.progress() as progress:
        settings = settings_of(context)
        report = intake.bring_in(settings, tuple(files), tuple(repository), progress)
        refresh(settings)
    print_lines([as_json(report)] if as_document else tarball_text.imports_lines(report))
    raise typer.Exit(report.exit_code)


@app.command(epilog=exit_codes(4, 5, 7, 10, 11))
def export(
    context: typer.Context,
    archive: Annotated[str, typer.Argument(metavar="ARCHIVE", help=f"Its name, or {LATEST}: the newest good one.")],
    file: Annotated[Path, typer.Argument(metavar="FILE.tar.gz", help="What to write; there must be no such file.")],
    repository: RepositoryNames = [],  # noqa: B006
    as_document: Json = False,
) -> None:
    """Write an archive as a tarball that the Server's own restore script takes."""
    with narration.muted(mute=as_document), narration.progress() as progress:
        report = handback.hand_back(settings_of(context), archive, file, tuple(repository), progress)
    print_lines([as_json(report)] if as_document else tarball_text.handed_back_lines(report))
    raise typer.Exit(report.exit_code)
