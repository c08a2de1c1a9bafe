"""The commands that make and remove archives, and list them."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

import typer

from borg_vault_plugin import backup, borg, delivery, file_set, handover, narration, repositories, text
from borg_vault_plugin.archive import Verdict
from borg_vault_plugin.cli.options import (
    AllowChoice,
    DryRun,
    Json,
    Keep,
    RepositoryNames,
    SetChoice,
    SetOption,
    app,
    exit_codes,
    print_lines,
    settings_of,
)
from borg_vault_plugin.config import Settings
from borg_vault_plugin.errors import UsageError
from borg_vault_plugin.progress import Progress
from borg_vault_plugin.report import Attested, Backup, FilesBackup, as_json
from borg_vault_plugin.sections import KeepRule

Created = Backup | FilesBackup | Attested


@app.command(epilog=exit_codes(5, 7))
def init(
    context: typer.Context,
    repository: RepositoryNames = [],  # noqa: B006 - typer reads it, nobody changes it
    encryption: Annotated[
        str, typer.Option(metavar="MODE", help=f"One of {', '.join(borg.ENCRYPTION_MODES)}.")
    ] = "repokey",
    key_out: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Where to write the exported key; default: keys/ in the state directory."),
    ] = None,
) -> None:
    """Create the repository, encrypted, and export its key for escrow."""
    created = repositories.initialise(settings_of(context), tuple(repository), encryption, key_out)
    print_lines(text.initialised_lines(created))


@app.command(epilog=exit_codes(4, 5, 6, 7, 10, 11))
def create(
    context: typer.Context,
    options: Annotated[
        list[str],
        typer.Argument(
            metavar="[-- BORG CREATE OPTIONS]",
            help="Passed on to Borg; those that could change what is stored, or its name, are refused.",
            show_default=False,
        ),
    ] = [],  # noqa: B006
    set_name: SetOption = SetChoice.database,
    keep: Keep = None,
    no_prune: Annotated[bool, typer.Option("--no-prune", help="Remove no old archives.")] = False,
    repository: RepositoryNames = [],  # noqa: B006
    dry_run: DryRun = False,
    as_document: Json = False,
) -> None:
    """Back up: hooks, staging, verification, one archive per repository, then retention."""
    refused = borg.refused_option(options)
    if refused is not None:
        raise UsageError(
            f"{refused} cannot be passed on to borg create: it could change what is stored or how it is named"
        )
    request = delivery.Request(
        set_name=set_name.value,
        repositories=tuple(repository),
        keep={"keep": keep} if keep else None,
        prune=not no_prune,
        dry_run=dry_run,
        borg_options=tuple(options),
    )
    settings = settings_of(context)
    with narration.muted(mute=as_document), narration.progress() as progress:
        report = _created(settings, request, progress)
    print_lines([as_json(report)] if as_document else _created_lines(report))
    raise typer.Exit(report.exit_code)


def _created(settings: Settings, request: delivery.Request, progress: Progress) -> Created:
    if request.set_name == "database":
        return backup.create(settings, request, progress)
    return file_set.create_files(settings, request, progress)


def _created_lines(report: Created) -> Iterable[str]:
    if isinstance(report, Backup):
        return text.backup_lines(report)
    return text.attested_lines(report) if isinstance(report, Attested) else text.files_lines(report)


@app.command(epilog=exit_codes(5, 6, 7))
def prune(
    context: typer.Context,
    set_name: SetOption = SetChoice.database,
    repository: RepositoryNames = [],  # noqa: B006
    keep: Keep = None,
    keep_daily: Annotated[int | None, typer.Option(min=1, help="Keep the last archive of each of N days.")] = None,
    keep_weekly: Annotated[int | None, typer.Option(min=1, help="... of each of N weeks.")] = None,
    keep_monthly: Annotated[int | None, typer.Option(min=1, help="... of each of N months.")] = None,
    keep_yearly: Annotated[int | None, typer.Option(min=1, help="... of each of N years.")] = None,
    dry_run: DryRun = False,
    as_document: Json = False,
) -> None:
    """Apply retention to our own archives only, then free the space."""
    rule = KeepRule(
        keep=keep, keep_daily=keep_daily, keep_weekly=keep_weekly, keep_monthly=keep_monthly, keep_yearly=keep_yearly
    )
    given = rule.counts() if rule != KeepRule() else None
    request = delivery.Request(set_name=set_name.value, repositories=tuple(repository), keep=given, dry_run=dry_run)
    with narration.muted(mute=as_document):
        report = backup.prune(settings_of(context), request)
    print_lines([as_json(report)] if as_document else text.pruning_lines(report, dry_run=dry_run))
    raise typer.Exit(report.exit_code)


@app.command("list", epilog=exit_codes(5, 7))
def list_(
    context: typer.Context,
    repository: RepositoryNames = [],  # noqa: B006
    as_document: Json = False,
) -> None:
    """List our archives with time, size, verdict and last drill."""
    with narration.muted(mute=as_document):
        listing = repositories.list_archives(settings_of(context), tuple(repository))
    print_lines([as_json(listing)] if as_document else text.listing_lines(listing))


@app.command(epilog=exit_codes(4, 5, 6, 7, 10, 11))
def stage(
    context: typer.Context,
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="What will be replaced by the new set, as a whole.")],
    allow: Annotated[list[AllowChoice], typer.Option(help="Take a set of this verdict as well; may be repeated.")] = [],  # noqa: B006
    as_document: Json = False,
) -> None:
    """Stage a verified, sealed set in a directory, for other people's `borg create`."""
    allowed: list[Verdict] = [choice.value for choice in allow]
    with narration.muted(mute=as_document), narration.progress() as progress:
        report = handover.stage_into(settings_of(context), directory, allowed, progress)
    print_lines([as_json(report)] if as_document else text.backup_lines(report))
    raise typer.Exit(0 if report.verdict in allowed else report.exit_code)
