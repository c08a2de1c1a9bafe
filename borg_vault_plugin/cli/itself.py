"""The commands about the program itself: its configuration, and the demonstration."""

from __future__ import annotations

from typing import Annotated

import typer

from borg_vault_plugin import demo, narration
from borg_vault_plugin.cli.options import app, exit_codes, print_lines, say_styled, settings_of
from borg_vault_plugin.config import Settings
from borg_vault_plugin.report import as_json
from borg_vault_plugin.split import refuse_together

config_app = typer.Typer(help="Show and check the configuration.", no_args_is_help=True)
app.add_typer(config_app, name="config")


@config_app.command("schema", epilog=exit_codes())
def config_schema() -> None:
    """Print the JSON schema of the configuration file."""
    print_lines([as_json(Settings.model_json_schema())])


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
    print_lines([as_json(settings_of(context).model_dump(mode="json", exclude_none=True))])


@app.command("demo", epilog=exit_codes(4, 5, 7))
def demo_(
    keep_files: Annotated[bool, typer.Option("--keep-files", help="Leave the demo's files where they are.")] = False,
) -> None:
    """Play the whole story on a PostgreSQL and a repository of its own; takes a minute and leaves nothing behind."""
    with narration.muted(mute=True):
        demo.tell(_say, keep_files=keep_files)


def _say(line: demo.Line) -> None:
    if line.heading:
        say_styled(f"\n{line.text}", bold=True)
    else:
        print_lines([line.text])
