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
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PlainSerializer, ValidationError, model_validator

from borg_vault_plugin.database import Source, source_from_environment, source_from_url
from borg_vault_plugin.errors import ConfigError
from borg_vault_plugin.history import History
from borg_vault_plugin.secret import SecretReference, refuse_if_others_may_write, reveal

LABEL = re.compile(r"[A-Za-z0-9_.-]+")
DURATION = re.compile(r"([0-9]+)\s*(s|m|h|d|w)")
UNIT = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
DEFAULT_KEEP = 7
PLAIN_VARIABLES = (
    "BORG_REPO",
    "BACKUP_DIR",
    "BORG_VAULT_CONFIG",
    "BORG_PASSCOMMAND",
    "XDG_STATE_HOME",
    "XDG_CONFIG_HOME",
)


def _duration(value: object) -> object:
    if isinstance(value, timedelta):
        return value
    match = DURATION.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        raise ValueError('a duration is a number and a unit, as in "90s", "5m", "26h", "7d", "4w"')
    return timedelta(**{UNIT[match[2]]: int(match[1])})


def _duration_text(value: timedelta) -> str:
    return f"{value // timedelta(seconds=1)}s"


Duration = Annotated[
    timedelta,
    BeforeValidator(_duration, json_schema_input_type=Annotated[str, Field(pattern=f"^{DURATION.pattern}$")]),
    PlainSerializer(_duration_text, return_type=str),
]


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class KeepRule(_Section):
    """How many archives to keep; the parts add up, as in `borg prune`. At least one of them is not 0."""

    keep: int | None = Field(None, ge=1, description="the newest N archives")
    keep_daily: int | None = Field(None, ge=1, description="the last archive of each of N days")
    keep_weekly: int | None = Field(None, ge=1, description="the last archive of each of N weeks")
    keep_monthly: int | None = Field(None, ge=1, description="the last archive of each of N months")
    keep_yearly: int | None = Field(None, ge=1, description="the last archive of each of N years")

    def counts(self) -> dict[str, int]:
        """Give the parts that are set, by their name in the configuration; the default rule when none is."""
        counts = {name: getattr(self, name) for name in KeepRule.model_fields if getattr(self, name)}
        return counts or {"keep": DEFAULT_KEEP}


class DatabaseSettings(_Section):
    """The database of one Server installation."""

    url: SecretReference | str | None = Field(None, description="reference to the URL, or a URL without a password")
    lock_timeout: Duration = Field(
        timedelta(seconds=60), description="how long to wait for a table lock, behind a migration"
    )
    timeout: Duration = Field(timedelta(hours=12), description="how long one hook, or one answer, may take")
    table_digests: bool = Field(
        default=True, description="count and hash every table, so that a drill can compare them"
    )

    @model_validator(mode="after")
    def _no_password_in_the_file(self) -> Self:
        if isinstance(self.url, str) and source_from_url(self.url).password is not None:
            raise ValueError('a URL with a password does not belong in the file: write url = { env = "DATABASE_URL" }')
        return self


class RepositorySettings(_Section):
    """One Borg repository."""

    path: str = Field(min_length=1, description="as Borg takes it: a directory, or ssh://user@host/./path")
    passphrase: SecretReference | None = Field(None, description="reference to the passphrase")
    compression: str = Field("zstd,3", description="as `borg create --compression` takes it")
    lock_wait: Duration = Field(timedelta(minutes=10), description="how long to wait for the repository's lock")
    timeout: Duration = Field(timedelta(hours=24), description="how long one Borg command may take")


class DatabaseSet(KeepRule):
    """Where the database's archives go and how long they are kept."""

    repositories: tuple[str, ...] = Field((), description="names of repositories; empty: all of them")
    max_age: Duration = Field(timedelta(hours=26), description="how old the last good archive may be")


class Sets(_Section):
    """The sets: three things that make a complete backup, each with its own place."""

    database: DatabaseSet = DatabaseSet()


class Settings(_Section):
    """Everything that a run needs to know; secrets are references."""

    label: str | None = Field(None, pattern=f"^{LABEL.pattern}$", description="name of this Server; default: database")
    state_directory: Path = Field(Path(), description="history, locks and staging; default: the user's state directory")
    staging_directory: Path | None = Field(None, description="where sets are written before Borg takes them")
    plugins: tuple[str, ...] = Field((), description="third-party plugins that may run, by entry-point name")
    database: DatabaseSettings = DatabaseSettings()
    repositories: dict[Annotated[str, Field(pattern=f"^{LABEL.pattern}$")], RepositorySettings] = Field(
        default_factory=dict, description="repositories by name"
    )
    sets: Sets = Sets()

    @property
    def staging_parent(self) -> Path:
        """The directory in which a run makes its private staging directory."""
        return self.staging_directory or self.state_directory / "staging"

    def history(self) -> History:
        """Give the history of this host."""
        return History(self.state_directory / "history.ndjson")

    def source(self) -> Source:
        """Say how to reach the database; raises ConfigError when nothing does."""
        return replace(self._found_source(), timeout=self.database.timeout)

    def _found_source(self) -> Source:
        if isinstance(self.database.url, str):
            return source_from_url(self.database.url)
        if self.database.url is not None:
            return source_from_url(reveal(self.database.url, "the database URL"))
        found = source_from_environment(os.environ)
        if found is None:
            raise ConfigError("no database is named: set DATABASE_URL, or PGHOST and PGDATABASE, or database.url")
        return found

    def label_for(self, source: Source) -> str:
        """Give the first part of archive names; raises ConfigError when the database's name cannot serve as one."""
        label = self.label or source.database
        if not LABEL.fullmatch(label):
            raise ConfigError(
                f"the database's name {label!r} cannot be a label: set label to letters, digits, _ . or -"
            )
        return label

    def repositories_named(self, names: tuple[str, ...]) -> dict[str, RepositorySettings]:
        """Give the repositories of these names, in this order; raises ConfigError for a name that is not there."""
        for name in names:
            if name not in self.repositories:
                known = ", ".join(self.repositories)
                raise ConfigError(f"there is no repository named {name!r}: the configuration has {known}")
        return {name: self.repositories[name] for name in names or tuple(self.repositories)}


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
    for name in settings.sets.database.repositories:
        if name not in (settings.repositories or ("default",)):
            raise ConfigError(f"configuration {path}: sets.database.repositories: no repository is named {name!r}")
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
    refuse_if_others_may_write(path, "configuration")
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
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
    return settings.model_copy(
        update={
            "database": database,
            "state_directory": _state_directory(settings.state_directory, environment),
            "repositories": {
                name: repository.model_copy(update={"passphrase": repository.passphrase or passphrase})
                for name, repository in repositories.items()
            },
        }
    )


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
