"""The reference of the configuration, from the models that read it."""

from __future__ import annotations

import json
import types
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic.fields import FieldInfo

from borg_vault_plugin.config import Settings
from borg_vault_plugin.secret import SecretReference
from borg_vault_plugin.sections import Section
from readme.layout import table

# What stands for a type; the shape of a duration and of a reference is told once, in the text around the tables.
WORDS: dict[object, str] = {
    str: "text", int: "number", bool: "true or false", Path: "path", timedelta: "duration",
    SecretReference: "reference", type(None): "",
}  # fmt: skip
NAME = "NAME"


def settings() -> Iterator[str]:
    """Give a table for every section: each setting with its type, its default and its meaning."""
    for number, (heading, section) in enumerate(sections()):
        yield from ([""] if number else [])
        yield from (f"**{heading}** {_promise(section)}", "")
        rows = ((f"`{name}`", words_for(field.annotation), _default(field), field.description or "")
                for name, field in own_settings(section).items())  # fmt: skip
        yield from table(("setting", "type", "default", "meaning"), rows)


def sections() -> Iterator[tuple[str, type[Section]]]:
    """List the sections that have settings of their own, each with its heading; what several share stands once."""
    shared: dict[type[Section], list[str]] = {}
    for path, section in _below("", Settings):
        for one in section.__mro__:
            if issubclass(one, Section) and one is not Section and own_settings(one):
                shared.setdefault(one, []).append(path)
    return ((_heading(paths), section) for section, paths in shared.items())


def own_settings(section: type[Section]) -> dict[str, FieldInfo]:
    """Give the settings that a section defines itself, without the ones that are sections and those it inherits."""
    return {
        name: field
        for name, field in section.model_fields.items()
        if name in section.__annotations__ and not _section_in(field.annotation)
    }


def _below(path: str, section: type[Section]) -> Iterator[tuple[str, type[Section]]]:
    yield path, section
    for name, field in section.model_fields.items():
        inner = _section_in(field.annotation)
        if inner is not None:
            named = f"{name}.{NAME}" if get_origin(field.annotation) is dict else name
            inside = f"{path}.{named}".removeprefix(".")
            yield from _below(f"[{inside}]" if get_origin(field.annotation) is tuple else inside, inner)


def _section_in(annotation: Any) -> type[Section] | None:
    if isinstance(annotation, type) and issubclass(annotation, Section):
        return annotation
    return next((found for found in map(_section_in, get_args(annotation)) if found), None)


def _heading(paths: list[str]) -> str:
    return ", ".join(f"`[{path}]`" for path in paths) if paths != [""] else "At the top"


def _promise(section: type[Section]) -> str:
    return " ".join((section.__doc__ or "").split())


def words_for(annotation: Any) -> str:
    """Say in words what a setting takes."""
    if annotation in WORDS:
        return WORDS[annotation]
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return words_for(arguments[0])
    if origin in {Union, types.UnionType}:
        return " or ".join(filter(None, map(words_for, arguments)))
    if origin is Literal:
        return " or ".join(f'`"{choice}"`' for choice in arguments)
    if origin is tuple:
        return f"list of {words_for(arguments[0])}s"
    raise TypeError(f"there is no word for {annotation}: add one to WORDS")


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    default = field.default
    if default is None or default == Path():
        return ""
    return f"`{_as_toml(default)}`"


def _as_toml(value: object) -> str:
    if isinstance(value, SecretReference):
        return ", ".join(f'{{ {kind} = "{name}" }}' for kind, name in value if name is not None)
    if isinstance(value, timedelta):
        return f'"{_short(value)}"'
    return json.dumps(list(value) if isinstance(value, tuple) else value)


def _short(value: timedelta) -> str:
    for unit, length in (("d", timedelta(days=1)), ("h", timedelta(hours=1)), ("m", timedelta(minutes=1))):
        if value % length == timedelta() and value // length > 1:
            return f"{value // length}{unit}"
    return f"{value // timedelta(seconds=1)}s"
