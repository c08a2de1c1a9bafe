"""The commands about the program itself: its configuration, and the demonstration."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from borg_vault_plugin import demo, narration
from borg_vault_plugin.cli.options import app, exit_codes, print_lines, settings_of
from borg_vault_plugin.config import Settings
from borg_vault_plugin.split import refuse_together

config_app = typer.Typer(help="Show and check the configuration.", no_args_is_help=True)
app.add_typer(config_app, name="config")


@config_app.command("schema", epilog=exit_codes())
def config_schema() -> None:
    """Print the JSON schema of the configuration file."""
    print_lines([json.dumps(Settings.model_json_schema(), indent=2)])


@config_app.command("validate", epilog=exit_codes())
def config_validate(context: typer.Context) -> None:
    """Check the configuration and everything that it refers to by name."""
    settings = settings_of(context)
    settings.label_for(settings.source())
    refuse_together(settings)
    print_lines(["the configuration is valid"])


@config_app.command("show", epilog=exit_codes())
def config_show(context: typer.Context) -> None:
    """Print the effective settings; secrets stand there as references."""
    print_lines([json.dumps(settings_of(context).model_dump(mode="json", exclude_none=True), indent=2)])


@app.command("demo", epilog=exit_codes(4, 5, 7))
def demo_(
    keep_files: Annotated[bool, typer.Option("--keep-files", help="Leave the demo's files where they are.")] = False,
) -> None:
    """Tell the whole story on an embedded PostgreSQL and a local repository."""
    with narration.muted(mute=True):
        demo.tell(_say, keep_files=keep_files)


def _say(line: demo.Line) -> None:
    if line.heading:
        typer.secho(f"\n{line.text}", bold=True)
    else:
        print_lines([line.text])
