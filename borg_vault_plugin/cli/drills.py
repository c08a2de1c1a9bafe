"""The command that rehearses a recovery, and the one that shows what is remembered."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from borg_vault_plugin import narration, text
from borg_vault_plugin.chain.source import NotCheckedError, open_regular
from borg_vault_plugin.cli.options import Json, app, exit_codes, print_lines, settings_of
from borg_vault_plugin.errors import UsageError
from borg_vault_plugin.monitoring.watch import refresh
from borg_vault_plugin.recovery import rehearsal
from borg_vault_plugin.report import as_json
from borg_vault_plugin.wording import plural

LARGEST_HISTORY_BYTES = 64 << 20
history_app = typer.Typer(help="Show what happened to our archives, and take in what other hosts found out.")


class PickChoice(StrEnum):
    """Which archive to drill when none is named."""

    latest = "latest"
    oldest = "oldest"
    random = "random"


@app.command(epilog=exit_codes(4, 5, 7, 10, 11))
def drill(
    context: typer.Context,
    archive: Annotated[
        str | None, typer.Argument(metavar="[ARCHIVE]", help="Its name, as `list` prints it.", show_default=False)
    ] = None,
    from_directory: Annotated[
        Path | None, typer.Option("--from", metavar="DIR", help="A set that was extracted by other means.")
    ] = None,
    pick: Annotated[PickChoice, typer.Option(help="Which archive, when none is named.")] = PickChoice.latest,
    to: Annotated[
        str | None,
        typer.Option(metavar="TARGET", help="A server instead of a throwaway one: its name, env:NAME or file:PATH."),
    ] = None,
    evidence: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Write drill.json and drill.html into this directory.")
    ] = None,
    as_document: Json = False,
) -> None:
    """Restore an archive into a throwaway cluster and prove that it gives back what was backed up."""
    if archive is not None and pick is not PickChoice.latest:
        raise UsageError("--pick chooses an archive, and one is named already: leave one of them out")
    request = rehearsal.Request(archive, pick.value, from_directory, to, evidence)
    with narration.muted(mute=as_document), narration.progress() as progress:
        settings = settings_of(context)
        done = rehearsal.rehearse(settings, request, progress)
        refresh(settings)
    print_lines([as_json(done)] if as_document else text.drill_lines(done))
    raise typer.Exit(done.exit_code)


@history_app.callback(invoke_without_command=True, epilog=exit_codes())
def history(context: typer.Context, as_document: Json = False) -> None:
    """Show what happened to our archives, oldest first; `history add FILE` takes in what other hosts found out."""
    if context.invoked_subcommand is None:
        events = list(settings_of(context).history().events())
        print_lines([as_json({"events": events})] if as_document else text.event_lines(events))


@history_app.command("add", epilog=exit_codes())
def history_add(
    context: typer.Context,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A history.ndjson, of a drill's evidence for example.")],
) -> None:
    """Take in results (verified, drilled, checked) from another host's history."""
    try:
        with open_regular(file) as opened:
            data = opened.read(LARGEST_HISTORY_BYTES + 1)
    except NotCheckedError as error:
        raise UsageError(f"{file}: {error}") from error
    if len(data) > LARGEST_HISTORY_BYTES:
        raise UsageError(f"{file} is longer than {LARGEST_HISTORY_BYTES} bytes, and no history of a drill")
    settings = settings_of(context)
    added = settings.history().add(data)
    refresh(settings)
    print_lines([f"{plural(added, 'new result')} from {file}"])


app.add_typer(history_app, name="history")
