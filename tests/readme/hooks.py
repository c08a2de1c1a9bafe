"""The hooks that a plugin can have, from their specifications."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator

from borg_vault_plugin import hookspecs
from readme.layout import wrapped

Hook = Callable[..., object]


def specified() -> dict[str, Hook]:
    """Give every hook by its name, in the order in which they are specified."""
    return {name: hook for name, hook in vars(hookspecs).items() if hasattr(hook, f"{hookspecs.GROUP}_spec")}


def hooks() -> Iterator[str]:
    """Give the list of hooks: how each is called, what it is for, and when."""
    for name, hook in specified().items():
        called = f"{name}({', '.join(inspect.signature(hook).parameters)})"
        told = " ".join((inspect.getdoc(hook) or "").split())
        yield from wrapped(f"`{called}`: {told}", first="- ", following="  ")
