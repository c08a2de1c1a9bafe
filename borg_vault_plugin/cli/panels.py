"""The panels of --help: what the commands are for, in the order in which somebody needs them."""

from __future__ import annotations

import typer
from typer.models import CommandInfo, TyperInfo

PANELS = {
    "Every night": ("init", "create", "prune", "list", "status", "doctor"),
    "Proof": ("verify", "drill", "check", "accept", "accept-rewind", "dump-chain"),
    "The bad day": ("restore",),
    "Beside other programs": ("stage", "confirm", "prune-guard", "import", "export"),
    "What is remembered": ("pin", "unpin", "history"),
    "The program itself": ("config", "demo"),
}


def arrange(app: typer.Typer) -> None:
    """Put every command into its panel; one that has none comes last, in a panel of Typer's own."""
    panels = {name: panel for panel, names in PANELS.items() for name in names}
    order = list(panels)
    registered: list[CommandInfo | TyperInfo] = [*app.registered_commands, *app.registered_groups]
    for one in registered:
        one.rich_help_panel = panels.get(_name(one))
    app.registered_commands.sort(key=lambda one: order.index(_name(one)) if _name(one) in panels else len(order))


def _name(registered: CommandInfo | TyperInfo) -> str:
    return str(registered.name or getattr(registered.callback, "__name__", ""))
