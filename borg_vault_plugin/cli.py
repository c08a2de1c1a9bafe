"""The command line: parse, call one function, print, exit. The only place that prints and the only error boundary."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Iterable, Sequence
from enum import StrEnum
from pathlib import Path
from types import FrameType
from typing import Annotated, NoReturn
from uuid import UUID

import typer

from borg_vault_plugin import backup, borg, chain_dump, demo, narration, repositories, text
from borg_vault_plugin import verify as verification
from borg_vault_plugin.config import KeepRule, Settings, load_settings
from borg_vault_plugin.errors import EXIT_CODES, Error, UsageError
from borg_vault_plugin.manifest import program_version
from borg_vault_plugin.report import as_json


class SetChoice(StrEnum):
    """The sets that `create` and `prune` can be told to work on."""

    database = "database"


class EraChoice(StrEnum):
    """The two eras of the format."""

    v1 = "v1"
    v2 = "v2"


def exit_codes(*codes: int) -> str:
    """Give the lines that end a command's help."""
    return "Exit codes: " + " · ".join(f"{code} {EXIT_CODES[code]}" for code in (0, 1, 2, 3, *codes, 130, 143))


app = typer.Typer(
    name="borg-vault",
    help="Backups of systems whose history must be provable, in a Borg repository.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
config_app = typer.Typer(help="Show and check the configuration.", no_args_is_help=True)
app.add_typer(config_app, name="config")

RepositoryNames = Annotated[
    list[str], typer.Option("--repository", "-r", metavar="NAME", help="Only this repository; may be repeated.")
]
SetOption = Annotated[SetChoice, typer.Option("--set", help="Which of the three things.")]
Keep = Annotated[int | None, typer.Option("--keep", min=1, help="Keep the newest N archives.")]
DryRun = Annotated[bool, typer.Option("--dry-run", "-n", help="Change nothing; say what would be done.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document, and nothing else, to stdout.")]


class Terminated(BaseException):
    """SIGTERM arrived: every `with` on the way out ends what it started."""


def _print_version(asked: bool) -> None:
    if asked:
        print(program_version())
        raise typer.Exit


@app.callback()
def _global_options(
    context: typer.Context,
    config: Annotated[Path | None, typer.Option("--config", "-c", metavar="FILE", help="Configuration file.")] = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Only warnings and errors.")] = False,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Also the commands that are run.")] = False,
    _version: Annotated[
        bool, typer.Option("--version", help="Print the version and exit.", is_eager=True, callback=_print_version)
    ] = False,
) -> None:
    context.obj = config
    narration.begin(quiet=quiet, verbose=verbose)


@app.command(epilog=exit_codes(5, 7))
def init(
    context: typer.Context,
    repository: RepositoryNames = [],  # noqa: B006 - typer reads it, nobody changes it
    encryption: Annotated[str, typer.Option(help=f"One of {', '.join(borg.ENCRYPTION_MODES)}.")] = "repokey",
    key_out: Annotated[Path | None, typer.Option(metavar="FILE", help="Where to write the exported key.")] = None,
) -> None:
    """Create the repository, encrypted, and export its key for escrow."""
    created = repositories.initialise(_settings(context), tuple(repository), encryption, key_out)
    _print(text.initialised_lines(created))


@app.command(epilog=exit_codes(4, 5, 6, 7))
def create(
    context: typer.Context,
    options: Annotated[list[str], typer.Argument(metavar="[-- BORG CREATE OPTIONS]", show_default=False)] = [],  # noqa: B006
    set_name: SetOption = SetChoice.database,
    keep: Keep = None,
    no_prune: Annotated[bool, typer.Option("--no-prune", help="Remove no old archives.")] = False,
    repository: RepositoryNames = [],  # noqa: B006
    dry_run: DryRun = False,
    as_document: Json = False,
) -> None:
    """Back up: hooks, staging, one archive per repository, then retention."""
    refused = borg.refused_option(options)
    if refused is not None:
        raise UsageError(
            f"{refused} cannot be passed on to borg create: it could change what is stored or how it is named"
        )
    request = backup.Request(
        set_name=set_name.value,
        repositories=tuple(repository),
        keep={"keep": keep} if keep else None,
        prune=not no_prune,
        dry_run=dry_run,
        borg_options=tuple(options),
    )
    with narration.muted(mute=as_document), narration.progress() as progress:
        report = backup.create(_settings(context), request, progress)
    _print([as_json(report)] if as_document else text.backup_lines(report))
    raise typer.Exit(report.exit_code)


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
    request = backup.Request(set_name=set_name.value, repositories=tuple(repository), keep=given, dry_run=dry_run)
    with narration.muted(mute=as_document):
        report = backup.prune(_settings(context), request)
    _print([as_json(report)] if as_document else text.pruning_lines(report, dry_run=dry_run))
    raise typer.Exit(report.exit_code)


@app.command("list", epilog=exit_codes(5, 7))
def list_(
    context: typer.Context,
    repository: RepositoryNames = [],  # noqa: B006
    as_document: Json = False,
) -> None:
    """List our archives with time, size, verdict and last drill."""
    with narration.muted(mute=as_document):
        listing = repositories.list_archives(_settings(context), tuple(repository))
    _print([as_json(listing)] if as_document else text.listing_lines(listing))


@app.command("dump-chain", epilog=exit_codes(4, 7))
def dump_chain(
    context: typer.Context,
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="Where to write the files.")],
    org: Annotated[UUID | None, typer.Option(metavar="ID", help="Only this organisation's records and reads.")] = None,
) -> None:
    """Write only the chain's NDJSON files, from one snapshot."""
    with narration.muted(mute=True):
        dumped = chain_dump.dump_chain(_settings(context), directory, org)
    _print([as_json(dumped)])


@app.command(epilog=exit_codes(10, 11))
def verify(
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="A dump of the chain, or an extracted set.")],
    trust_anchor: Annotated[
        list[str], typer.Option(metavar="sha256:HEX", help="A key that you trust, by its SPKI; may be repeated.")
    ] = [],  # noqa: B006
    era: Annotated[EraChoice | None, typer.Option(help="Override what the files say.")] = None,
    jobs: Annotated[int | None, typer.Option(min=1, help="Number of processes; default: one a processor.")] = None,
    as_document: Json = False,
) -> None:
    """Verify a chain offline: every hash, link and signature, without the Server."""
    with narration.muted(mute=as_document), narration.progress() as progress:
        report, reasons = verification.verify(
            directory, era=era.value if era else None, anchors=trust_anchor, jobs=jobs, progress=progress
        )
    _print([as_json(report)] if as_document else text.verified_lines(report))
    for reason in reasons:
        print(f"borg-vault: not checked: {reason}", file=sys.stderr)
    raise typer.Exit(report.exit_code)


@config_app.command("schema", epilog=exit_codes())
def config_schema() -> None:
    """Print the JSON schema of the configuration file."""
    _print([json.dumps(Settings.model_json_schema(), indent=2)])


@config_app.command("validate", epilog=exit_codes())
def config_validate(context: typer.Context) -> None:
    """Check the configuration and everything that it refers to by name."""
    settings = _settings(context)
    settings.label_for(settings.source())
    _print(["the configuration is valid"])


@config_app.command("show", epilog=exit_codes())
def config_show(context: typer.Context) -> None:
    """Print the effective settings; secrets stand there as references."""
    _print([json.dumps(_settings(context).model_dump(mode="json", exclude_none=True), indent=2)])


@app.command("demo", epilog=exit_codes(4, 5, 7))
def demo_(
    keep_files: Annotated[bool, typer.Option("--keep-files", help="Leave the demo's files where they are.")] = False,
) -> None:
    """Tell the whole story on an embedded PostgreSQL and a local repository."""
    with narration.muted(mute=True):
        demo.tell(_say, keep_files=keep_files)


def main(argv: Sequence[str] | None = None) -> NoReturn:
    """Run the program: an Error becomes one line on stderr and its exit code, anything else is a bug."""
    os.umask(0o077)
    previous = signal.signal(signal.SIGTERM, _terminate)
    words = list(sys.argv[1:] if argv is None else argv)
    try:
        code = app(args=words, prog_name="borg-vault", standalone_mode=False)
    except Error as error:
        _fail(str(error), error.exit_code, as_document="--json" in words)
    except typer.TyperException as error:
        _fail(f"{error.format_message()} (see borg-vault --help)", error.exit_code, as_document="--json" in words)
    except Terminated:
        print("borg-vault: ended by SIGTERM; nothing is left behind", file=sys.stderr)
        sys.exit(128 + signal.SIGTERM)
    finally:
        signal.signal(signal.SIGTERM, previous)
    sys.exit(code)


def _settings(context: typer.Context) -> Settings:
    return load_settings(context.obj, os.environ)


def _print(lines: Iterable[str]) -> None:
    for line in lines:
        print(line, flush=True)


def _say(line: demo.Line) -> None:
    if line.heading:
        typer.secho(f"\n{line.text}", bold=True)
    else:
        _print([line.text])


def _fail(message: str, exit_code: int, *, as_document: bool) -> NoReturn:
    if as_document:
        print(as_json({"error": message, "exit_code": exit_code}))
    print(f"borg-vault: {message}", file=sys.stderr)
    sys.exit(exit_code)


def _terminate(_signal: int, _frame: FrameType | None) -> NoReturn:
    raise Terminated
