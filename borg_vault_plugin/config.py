"""Configuration: one TOML file, or none, parsed once into typed, frozen settings.

Without a file the environment is enough: DATABASE_URL (or libpq's PG*), BORG_REPO with BORG_PASSPHRASE,
BORG_PASSCOMMAND or BORG_PASSPHRASE_FD, BACKUP_DIR. With a file, what it does not say still comes from there.
"""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Annotated

from pydantic import (
    Field,
    PrivateAttr,
    ValidationError,
)

from borg_vault_plugin.archive import Series, SetName
from borg_vault_plugin.compose import chosen_source
from borg_vault_plugin.database import Source, source_from_environment, source_from_url
from borg_vault_plugin.errors import ConfigError
from borg_vault_plugin.history import History
from borg_vault_plugin.secret import SecretReference, read_trusted, reveal
from borg_vault_plugin.sections import (
    Allowed,
    DatabaseSettings,
    Monitoring,
    ProvisioningSet,
    RepositorySettings,
    Section,
    Sets,
    TargetSettings,
)

LABEL = re.compile(r"[A-Za-z0-9_.-]+")
SET_ENDINGS = ("-provisioning", "-keys")
PLAIN_VARIABLES = (
    "BORG_REPO",
    "BACKUP_DIR",
    "BORG_VAULT_CONFIG",
    "BORG_PASSCOMMAND",
    "XDG_STATE_HOME",
    "XDG_CONFIG_HOME",
)


class Settings(Section):
    """Everything that a run needs to know; secrets are references."""

    label: str | None = Field(None, pattern=f"^{LABEL.pattern}$", description="name of this Server; default: database")
    state_directory: Path = Field(Path(), description="history, locks and staging; default: the user's state directory")
    staging_directory: Path | None = Field(None, description="where sets are written before Borg takes them")
    plugins: tuple[str, ...] = Field((), description="third-party plugins that may run, by entry-point name")
    trust_anchors: tuple[Annotated[str, Field(pattern="^sha256:[0-9a-f]{64}$")], ...] = Field(
        (), description="signing keys that are trusted: SHA-256 of their SPKI; kept by you, never from a dump"
    )
    database: DatabaseSettings = DatabaseSettings()
    repositories: dict[Annotated[str, Field(pattern=f"^{LABEL.pattern}$")], RepositorySettings] = Field(
        default_factory=dict, description="repositories by name"
    )
    targets: dict[Annotated[str, Field(pattern=f"^{LABEL.pattern}$")], TargetSettings] = Field(
        default_factory=dict, description="servers for `restore --to` by name"
    )
    sets: Sets = Sets()
    monitoring: Monitoring = Monitoring()
    allow: tuple[Allowed, ...] = Field((), description="files that look like private keys and may be stored")
    _assumed: bool = PrivateAttr(default=False)
    _source: Source | None = PrivateAttr(default=None)

    @property
    def names_repositories(self) -> bool:
        """Whether somebody named a repository: the one that is assumed may not exist."""
        return not self._assumed

    @property
    def staging_parent(self) -> Path:
        """The directory in which a run makes its private staging directory."""
        return self.staging_directory or self.state_directory / "staging"

    @property
    def evidence_directory(self) -> Path:
        """Where this host keeps what the last archives prove."""
        return self.state_directory / "evidence"

    def history(self) -> History:
        """Give the history of this host."""
        return History(self.state_directory / "history.ndjson")

    def source(self) -> Source:
        """Say how to reach the database; raises ConfigError when nothing does.

        Asked for once: a container is looked for, and a command for the URL is run, no second time.
        """
        if self._source is None:
            self._source = replace(self._found_source(), timeout=self.database.timeout)
        return self._source

    def target(self, name: str) -> Source:
        """Say how to reach a server that archives can be restored to; raises ConfigError for an unknown name."""
        if name not in self.targets:
            known = ", ".join(self.targets) or "none"
            raise ConfigError(f"there is no target named {name!r}: the configuration has {known}")
        return replace(_source_of(self.targets[name].url, f"URL of target {name}"), timeout=self.database.timeout)

    def _found_source(self) -> Source:
        url, compose = self.database.url, self.database.compose
        if compose is not None:
            return chosen_source(compose, None if url is None else _url_text(url, "the database URL"))
        if url is not None:
            return _source_of(url, "the database URL")
        found = source_from_environment(os.environ)
        if found is None:
            raise ConfigError("no database is named: set DATABASE_URL, or PGHOST and PGDATABASE, or database.url")
        return found

    def label_for(self, source: Source | None) -> str:
        """Give the first part of archive names; raises ConfigError when the database's name cannot serve as one."""
        label = self.label or (source.database if source is not None else "")
        if label.endswith(SET_ENDINGS):
            raise ConfigError(
                f"the label {label!r} ends like a set's name, and its archives would look like that set's: set another"
            )
        if not LABEL.fullmatch(label):
            raise ConfigError(
                f"the database's name {label!r} cannot be a label: set label to letters, digits, _ . or -"
            )
        return label

    def series(self, set_name: SetName = "database") -> Series:
        """Give the archives of one set of this Server; raises ConfigError when its label is not known."""
        return Series(self.label_for(None if self.label else self.source()), set_name)

    def repository_names(self, set_name: SetName) -> tuple[str, ...]:
        """Name the repositories that a set goes to; raises ConfigError when it is not configured."""
        return self.sets.rule(set_name).repositories or tuple(self.repositories)

    def keep_rule(self, set_name: SetName, repository: str) -> dict[str, int]:
        """Give the retention rule of a set in one repository: the repository's own, else the set's."""
        own = self.repositories[repository]
        return (own if own.has_counts else self.sets.rule(set_name)).counts()

    def repositories_named(self, names: tuple[str, ...]) -> dict[str, RepositorySettings]:
        """Give the repositories of these names, in this order; raises ConfigError for a name that is not there."""
        for name in names:
            if name not in self.repositories:
                known = ", ".join(self.repositories)
                raise ConfigError(f"there is no repository named {name!r}: the configuration has {known}")
        return {name: self.repositories[name] for name in names or tuple(self.repositories)}


def _source_of(url: SecretReference | str, what: str) -> Source:
    return source_from_url(_url_text(url, what))


def _url_text(url: SecretReference | str, what: str) -> str:
    return url if isinstance(url, str) else reveal(url, what)


def load_settings(path: Path | None, environment: Mapping[str, str]) -> Settings:
    """Read the configuration file, if there is one, and complete it from the environment.

    `path` is what the command line named. Raises ConfigError for a file that is missing, not ours, writable by
    others, not TOML, or that says something unknown.
    """
    for name in PLAIN_VARIABLES:
        _refuse_other_encodings(name, environment.get(name, ""))
    path = path or _first_existing(environment)
    document = _read_toml(path) if path else {}
    try:
        settings = Settings.model_validate(document)
    except ValidationError as error:
        raise ConfigError(f"configuration {path}: {_first_problem(error)}") from None
    for set_name, rule in settings.sets:
        for name in rule.repositories if rule is not None else ():
            if name not in (settings.repositories or ("default",)):
                raise ConfigError(
                    f"configuration {path}: sets.{set_name}.repositories: no repository is named {name!r}"
                )
    return _completed(settings, environment)


def search_path(environment: Mapping[str, str]) -> list[Path]:
    """List where a configuration file is looked for: never the current directory, which anybody may choose."""
    named = environment.get("BORG_VAULT_CONFIG")
    if named:
        return [Path(named)]
    home = Path(environment.get("XDG_CONFIG_HOME") or Path.home() / ".config")
    return [home / "borg-vault" / "config.toml", Path("/etc/borg-vault/config.toml")]


def _refuse_other_encodings(name: str, value: str) -> None:
    try:
        value.encode()
    except UnicodeEncodeError:
        raise ConfigError(f"the environment's {name} is not UTF-8: write it so") from None


def _first_existing(environment: Mapping[str, str]) -> Path | None:
    if environment.get("BORG_VAULT_CONFIG"):
        return Path(environment["BORG_VAULT_CONFIG"])
    return next((path for path in search_path(environment) if path.exists()), None)


def _read_toml(path: Path) -> dict[str, object]:
    try:
        return tomllib.loads(read_trusted(path, "configuration"))
    except (OSError, ValueError, RecursionError) as error:  # no UTF-8, no TOML, a number or nesting without end
        raise ConfigError(f"configuration {path} cannot be read: {error}") from error


def _first_problem(error: ValidationError) -> str:
    problem = error.errors(include_url=False, include_input=False)[0]
    where = ".".join(str(part) for part in problem["loc"] if part not in ("SecretReference", "str"))
    if problem["type"] == "extra_forbidden":
        return f"{where} is not a setting: remove it, or see `borg-vault config schema`"
    return f"{where}: {problem['msg'].removeprefix('Value error, ')}"


def _completed(settings: Settings, environment: Mapping[str, str]) -> Settings:
    database = settings.database
    if database.url is None and environment.get("DATABASE_URL"):
        database = database.model_copy(update={"url": SecretReference(env="DATABASE_URL")})
    passphrase = _passphrase_from(environment)
    repositories = settings.repositories or {"default": RepositorySettings(path=_default_path(environment))}
    sets = settings.sets
    if sets.provisioning is None and environment.get("PROVISIONING_CONFIG_PATH"):
        provisioning = ProvisioningSet(path=SecretReference(env="PROVISIONING_CONFIG_PATH"))
        sets = sets.model_copy(update={"provisioning": provisioning})
    completed = settings.model_copy(
        update={
            "database": database,
            "sets": sets,
            "state_directory": _state_directory(settings.state_directory, environment),
            "repositories": {
                name: repository.model_copy(update={"passphrase": repository.passphrase or passphrase})
                for name, repository in repositories.items()
            },
        }
    )
    completed._assumed = not settings.repositories and not environment.get("BORG_REPO")  # noqa: SLF001 - its maker
    return completed


def _default_path(environment: Mapping[str, str]) -> str:
    return environment.get("BORG_REPO") or f"{environment.get('BACKUP_DIR') or './backup'}/borg-vault"


def _passphrase_from(environment: Mapping[str, str]) -> SecretReference | None:
    """Borg's own variables in Borg's own order of precedence (Borg 1.4 documentation, environment variables)."""
    if environment.get("BORG_PASSPHRASE"):
        return SecretReference(env="BORG_PASSPHRASE")
    if environment.get("BORG_PASSCOMMAND"):
        return SecretReference(command=environment["BORG_PASSCOMMAND"])
    descriptor = environment.get("BORG_PASSPHRASE_FD", "")
    return SecretReference(descriptor=int(descriptor)) if descriptor.isdecimal() else None


def _state_directory(configured: Path, environment: Mapping[str, str]) -> Path:
    if configured != Path():
        return configured
    given_by_systemd = environment.get("STATE_DIRECTORY", "").split(":")[0]
    if given_by_systemd:
        return Path(given_by_systemd)
    return Path(environment.get("XDG_STATE_HOME") or Path.home() / ".local" / "state") / "borg-vault"
