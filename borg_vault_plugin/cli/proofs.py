"""The commands that prove something, and those by which an operator answers."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated
from uuid import UUID

import typer

from borg_vault_plugin import acceptance, chain_dump, narration, text
from borg_vault_plugin import verify as verification
from borg_vault_plugin.cli.options import (
    EraChoice,
    Json,
    Reason,
    app,
    exit_codes,
    print_lines,
    settings_of,
    tell_unchecked,
)
from borg_vault_plugin.lookup import LATEST, find_archive
from borg_vault_plugin.monitoring.watch import refresh
from borg_vault_plugin.report import as_json


@app.command("dump-chain", epilog=exit_codes(4, 7))
def dump_chain(
    context: typer.Context,
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="Where to write the files.")],
    org: Annotated[UUID | None, typer.Option(metavar="ID", help="Only this organisation's records and reads.")] = None,
) -> None:
    """Write only the chain's NDJSON files, from one snapshot."""
    with narration.muted(mute=True):
        dumped = chain_dump.dump_chain(settings_of(context), directory, org)
    print_lines([as_json(dumped)])


@app.command(epilog=exit_codes(5, 7, 10, 11))
def verify(
    context: typer.Context,
    target: Annotated[
        str,
        typer.Argument(metavar="[TARGET]", help="A directory, the name of an archive, or latest.", show_default=False),
    ] = LATEST,
    trust_anchor: Annotated[
        list[str], typer.Option(metavar="sha256:HEX", help="A key that you trust, by its SPKI; may be repeated.")
    ] = [],  # noqa: B006 - typer reads it, nobody changes it
    era: Annotated[EraChoice | None, typer.Option(help="Read the files as of this era, whatever they say.")] = None,
    jobs: Annotated[int | None, typer.Option(min=1, help="Number of processes; default: one a processor.")] = None,
    report: Annotated[Path | None, typer.Option(metavar="FILE.html", help="Write a page for auditors, too.")] = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print the verdict alone.")] = False,
    as_document: Json = False,
) -> None:
    """Verify a chain offline: every hash, link and signature, without the Server."""
    request = verification.Request(target, era.value if era else None, trust_anchor, jobs, report)
    with narration.muted(mute=as_document or quiet), narration.progress() as progress:
        settings = settings_of(context)
        outcome = verification.verify(settings, request, progress)
        refresh(settings)
    lines = text.verified_lines(outcome.report)
    print_lines([as_json(outcome.report)] if as_document else [next(lines)] if quiet else lines)
    tell_unchecked(outcome.reasons)
    raise typer.Exit(outcome.report.exit_code)


@app.command(epilog=exit_codes())
def accept(
    context: typer.Context,
    findings: Annotated[list[str], typer.Argument(metavar="FINDING...", help="Ids, as reports print them.")],
    reason: Reason,
) -> None:
    """Acknowledge exactly these findings: they stay in every report and no longer make a set suspect."""
    accepted = acceptance.accept(settings_of(context).history(), findings, reason)
    print_lines(f"accepted {event.code} at {event.where}: {event.reason}" for event in accepted)


@app.command("accept-rewind", epilog=exit_codes(5, 7))
def accept_rewind(
    context: typer.Context,
    archive: Annotated[str, typer.Argument(metavar="ARCHIVE", help="The archive whose state was restored.")],
    reason: Reason,
) -> None:
    """Say that an older state was restored: from now on history is compared with that archive."""
    settings = settings_of(context)
    name = find_archive(settings, archive).archive.title
    acceptance.rewind(settings.history(), settings.series(), name, reason)
    print_lines([f"from now on history is compared with {name}: {reason}"])
