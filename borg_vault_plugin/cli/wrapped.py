"""The commands for people whose archives another program makes: borgmatic, or a script around `borg create`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from borg_vault_plugin import confirm as confirmation
from borg_vault_plugin import narration, prune_guard, text
from borg_vault_plugin.borg import pruning
from borg_vault_plugin.borgmatic import borgmatic_pruning
from borg_vault_plugin.cli.options import Json, app, complain, exit_codes, print_lines, settings_of, tell_unchecked
from borg_vault_plugin.errors import UsageError
from borg_vault_plugin.monitoring.watch import refresh
from borg_vault_plugin.report import as_json
from borg_vault_plugin.repositories import repository_at

RepositoryAt = Annotated[
    str,
    typer.Option("--repository", "-r", metavar="NAME|PATH", help="Its name, or its path as the other program has it."),
]


@app.command(epilog=exit_codes(5, 7, 10, 11))
def confirm(
    context: typer.Context,
    repository: RepositoryAt,
    directory: Annotated[
        Path, typer.Option("--from", metavar="DIR", help="What `stage` sealed and the archive holds.")
    ],
    as_document: Json = False,
) -> None:
    """Check that the newest archive of another program holds exactly the set sealed in DIR, and remember it."""
    with narration.muted(mute=as_document):
        settings = settings_of(context)
        done = confirmation.confirm(settings, repository, directory)
        if done.repository_id is not None:
            refresh(settings, {done.repository: done.repository_id})
    print_lines([as_json(done)] if as_document else text.confirmed_lines(done))
    tell_unchecked(done.reasons)
    raise typer.Exit(done.exit_code)


@app.command("prune-guard", epilog=exit_codes(5, 7, 12))
def prune_guard_(
    context: typer.Context,
    repository: RepositoryAt,
    options: Annotated[
        list[str],
        typer.Argument(metavar="[-- KEEP OPTIONS]", help="What that `borg prune` is called with.", show_default=False),
    ] = [],  # noqa: B006
    borgmatic: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Read from borgmatic's configuration what it would prune.")
    ] = None,
    as_document: Json = False,
) -> None:
    """Say whether another program's `borg prune` would hurt, before it runs; changes nothing in the repository."""
    if bool(options) == (borgmatic is not None):
        raise UsageError("say what would be pruned: borg prune's own options after --, or --borgmatic FILE")
    settings = settings_of(context)
    name = repository_at(settings, repository)
    with narration.muted(mute=as_document):
        asked = pruning(options)
        if borgmatic is not None:
            asked = borgmatic_pruning(borgmatic, settings.repositories[name].path)
        done = prune_guard.guard(settings, name, asked)
    print_lines([as_json(done)] if as_document else text.guarded_lines(done))
    for line in (*done.reasons, *(text.finding_line(finding).strip() for finding in done.findings)):
        complain(f"prune in {name} is refused: {line}")
    raise typer.Exit(done.exit_code)
