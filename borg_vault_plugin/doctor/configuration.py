"""Probes of what the operator has said: references, plugins, sets, the split, and what has not been said."""

from __future__ import annotations

import os
import shlex
import shutil
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path

from borg_vault_plugin import plugins
from borg_vault_plugin.archive import SETS, SetName
from borg_vault_plugin.config import Settings
from borg_vault_plugin.database import source_from_environment
from borg_vault_plugin.doctor.checks import Check, found, ok, refused
from borg_vault_plugin.errors import ConfigError, Error, SourceError
from borg_vault_plugin.file_tree import files_below
from borg_vault_plugin.secret import SecretReference, refuse_if_others_may_write
from borg_vault_plugin.sections import DUMP_PLUGIN, Section
from borg_vault_plugin.split import refuse_together
from borg_vault_plugin.wording import plural

FIRST = (
    "set DATABASE_URL, BORG_REPO and BORG_PASSPHRASE (or write a configuration file), then run `borg-vault init` and"
    " `borg-vault create`"
)


def names_database(settings: Settings) -> bool:
    """Say whether anything tells where the database is."""
    named = settings.database.url is not None or settings.database.compose is not None
    return named or source_from_environment(os.environ) is not None


def names_nothing(settings: Settings, file: Path | None) -> bool:
    """Say whether nobody has said anything yet."""
    return file is None and not names_database(settings) and not settings.names_repositories


def backed_up(settings: Settings) -> tuple[SetName, ...]:
    """Name the sets that this host backs up: without a database only the others, if there are any."""
    others = tuple(name for name in settings.sets.configured if name != "database")
    return settings.sets.configured if names_database(settings) or not others else others


def configuration(settings: Settings, file: Path | None) -> Iterator[Check]:
    """Say where the settings come from, or that there are none."""
    place = str(file or "the environment")
    if names_nothing(settings, file):
        yield found("configuration.nothing", place, "neither a database nor a repository is named", FIRST)
        return
    try:
        source = settings.source() if names_database(settings) and not settings.label else None
    except Error:
        yield ok("configuration", place, "can be read")  # what is wrong with the database stands in its own row
        return
    if settings.label or source is not None:
        yield ok("configuration", place, f"archives are called {settings.label_for(source)}-…")
    else:
        yield found("label.unusable", place, "nothing says what archives are called", "set label")


def split(settings: Settings) -> Iterator[Check]:
    """Ask whether keys and database would come together."""
    try:
        refuse_together(settings)
    except ConfigError as error:
        yield refused("split.broken", "keys and database", error)
    else:
        yield ok("split", "keys and database", "no place and no passphrase in common")


def secrets(settings: Settings) -> Iterator[Check]:
    """Look at the files that references name: who may write them decides, who may read them should not be everybody."""
    for what, reference in _references(settings):
        if reference.file is None:
            continue
        try:
            refuse_if_others_may_write(reference.file, what)
        except ConfigError as error:
            yield refused("secrets.unusable", what, error)
            continue
        mode = stat.S_IMODE(reference.file.stat().st_mode)
        if mode & 0o007:
            said = f"{reference.file} can be read by everybody (mode {mode:04o})"
            yield found("secrets.readable", what, said, f"run chmod o-rwx {shlex.quote(str(reference.file))}")
        else:
            yield ok("secrets", what, f"{reference.file}, mode {mode:04o}")


def anchors(settings: Settings) -> Iterator[Check]:
    """Ask whether any signing key is trusted by anything but the dump itself."""
    if settings.trust_anchors:
        yield ok("anchors", "signatures", f"{plural(len(settings.trust_anchors), 'key')} pinned")
    else:
        said = "none is pinned: signatures prove that nothing was changed since, and nothing about who signed"
        yield found("anchors.none", "signatures", said, "set trust_anchors, from records of your own")


def plugin(settings: Settings) -> Iterator[Check]:
    """Load all plugins; when that fails, each of the named ones by itself, so that none hides another."""
    try:
        plugins.load_plugins(settings)
    except ConfigError as error:
        rows = [_plugin(settings, name) for name in settings.plugins]
        yield from rows
        if all(row.state == "ok" for row in rows):
            yield refused("plugin.unusable", "all", error)
    else:
        yield ok("plugin", ", ".join(settings.plugins) or "built-in", "all load, and hook something")


def sets(settings: Settings) -> Iterator[Check]:
    """Ask for what belongs to a complete backup and is not configured."""
    for name in SETS:
        if name not in settings.sets.configured:
            said = "nothing says where they are backed up, and no complete backup is without them"
            yield found("set.unconfigured", name, said, f"add [sets.{name}] to the configuration")


def provisioning(settings: Settings) -> Iterator[Check]:
    """Read every provisioning file's name, and open it."""
    rule = settings.sets.provisioning
    if rule is None:
        return
    directory = rule.directory
    try:
        count = sum(1 for _ in files_below(directory))
    except SourceError as error:
        yield refused("provisioning.unreadable", str(directory), error)
        return
    if count:
        yield ok("provisioning", str(directory), f"{plural(count, 'file')}, all readable")
    else:
        yield found("provisioning.unreadable", str(directory), "there is no file in it", "mend its path")


def keys(settings: Settings) -> Iterator[Check]:
    """Look for the files and commands of the keys; no command is run, since its output would be the keys."""
    rule = settings.sets.keys
    if rule is None:
        return
    for path in rule.paths:
        yield _key_file(path)
    for word, command in (("command", rule.command), ("attest", rule.attest)):
        if command is not None:
            yield _command(word, command)


def _plugin(settings: Settings, name: str) -> Check:
    database = settings.database.model_copy(update={"dump": DUMP_PLUGIN})
    alone = {"plugins": (name,), "database": database, "monitoring": type(settings.monitoring)()}
    try:
        plugins.load_plugins(settings.model_copy(update=alone))
    except ConfigError as error:
        return refused("plugin.unusable", name, error)
    return ok("plugin", name, "loads, and hooks something")


def _references(value: object, name: str = "") -> Iterator[tuple[str, SecretReference]]:
    """Give every reference to a secret in the settings, with where it stands."""
    if isinstance(value, SecretReference):
        yield name, value
    elif isinstance(value, Section):
        for part, inner in value:
            yield from _references(inner, f"{name}.{part}".lstrip("."))
    elif isinstance(value, Mapping):
        for part, inner in value.items():
            yield from _references(inner, f"{name}.{part}")
    elif isinstance(value, tuple):
        for inner in value:
            yield from _references(inner, name)


def _key_file(path: Path) -> Check:
    try:
        if path.is_dir():
            return ok("keys", str(path), f"{plural(sum(1 for _ in files_below(path)), 'file')}, all readable")
        with path.open("rb"):
            return ok("keys", str(path), "readable")
    except SourceError as error:
        return refused("keys.unreadable", str(path), error)
    except OSError as error:
        return found("keys.unreadable", str(path), f"cannot be read: {error.strerror}", "mend sets.keys.paths")


def _command(word: str, command: str) -> Check:
    try:
        program = shlex.split(command)[0]
    except (ValueError, IndexError):
        return found("keys.unreadable", command, "is no command", f"mend sets.keys.{word}")
    where = shutil.which(program)
    if where is None:
        return found("keys.unreadable", command, f"there is no program {program}", f"mend sets.keys.{word}")
    return ok("keys", command, f"{where} is there; it was not run")
