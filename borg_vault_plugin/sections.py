"""The sections of the configuration: typed, frozen, unknown keys are errors, secrets are references."""

from __future__ import annotations

import re
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    field_validator,
    model_validator,
)

from borg_vault_plugin.archive import SETS, SetName
from borg_vault_plugin.database import source_from_url
from borg_vault_plugin.errors import ConfigError
from borg_vault_plugin.secret import SecretReference, reveal

DURATION = re.compile(r"([0-9]+)\s*(s|m|h|d|w)")
UNIT = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
DEFAULT_KEEP = 7
DUMP_PLUGIN = "database-dump"


def parsed_duration(value: object) -> timedelta:
    """Read a duration. Raises ValueError that says what one looks like."""
    if isinstance(value, timedelta):
        return value
    match = DURATION.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        raise ValueError('a duration is a number and a unit, as in "90s", "5m", "26h", "7d", "4w"')
    try:
        return timedelta(**{UNIT[match[2]]: int(match[1])})
    except (ValueError, OverflowError):
        raise ValueError("a duration is at most 999999999d") from None


def _duration_text(value: timedelta) -> str:
    return f"{value // timedelta(seconds=1)}s"


Duration = Annotated[
    timedelta,
    BeforeValidator(parsed_duration, json_schema_input_type=Annotated[str, Field(pattern=f"^{DURATION.pattern}$")]),
    PlainSerializer(_duration_text, return_type=str),
]


class Section(BaseModel):
    """A part of the configuration."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class KeepRule(Section):
    """How many archives to keep; the parts add up, as in `borg prune`. At least one of them is not 0."""

    keep: int | None = Field(None, ge=1, description="the newest N archives")
    keep_daily: int | None = Field(None, ge=1, description="the last archive of each of N days")
    keep_weekly: int | None = Field(None, ge=1, description="the last archive of each of N weeks")
    keep_monthly: int | None = Field(None, ge=1, description="the last archive of each of N months")
    keep_yearly: int | None = Field(None, ge=1, description="the last archive of each of N years")

    @property
    def has_counts(self) -> bool:
        """Whether any part is set."""
        return any(getattr(self, name) for name in KeepRule.model_fields)

    def counts(self) -> dict[str, int]:
        """Give the parts that are set, by their name in the configuration; the default rule when none is."""
        counts = {name: getattr(self, name) for name in KeepRule.model_fields if getattr(self, name)}
        return counts or {"keep": DEFAULT_KEEP}


def _without_password(url: SecretReference | str) -> SecretReference | str:
    if isinstance(url, str) and source_from_url(url).password is not None:
        raise ValueError('a URL with a password does not belong in the file: write url = { env = "DATABASE_URL" }')
    return url


class ComposeSettings(Section):
    """The bundled PostgreSQL: a Docker Compose service, as the Server ships it."""

    project_directory: Path = Field(description="of the Compose files and the .env beside them")
    service: str = Field("postgres", min_length=1, description="the service that runs PostgreSQL")


class DatabaseSettings(Section):
    """The database of one Server installation."""

    compose: ComposeSettings | None = Field(None, description="the bundled database, unless a URL leads elsewhere")
    url: SecretReference | str | None = Field(None, description="reference to the URL, or a URL without a password")
    lock_timeout: Duration = Field(
        timedelta(seconds=60), description="how long to wait for a table lock, behind a migration"
    )
    timeout: Duration = Field(timedelta(hours=12), description="how long one hook, or one answer, may take")
    dump: str = Field(
        DUMP_PLUGIN, description="plugin that backs up the database itself; another one is in plugins, too"
    )
    table_digests: bool = Field(
        default=True, description="count and hash every table, so that a drill can compare them"
    )

    @property
    def dumps(self) -> bool:
        """Whether the database is dumped, and nothing stands in for that."""
        return self.dump == DUMP_PLUGIN

    @field_validator("url")
    @classmethod
    def _no_password_in_the_file(cls, url: SecretReference | str | None) -> SecretReference | str | None:
        return url if url is None else _without_password(url)


class TargetSettings(Section):
    """A server that archives can be restored to."""

    url: SecretReference | str = Field(description="reference to the URL, or a URL without a password")

    @field_validator("url")
    @classmethod
    def _no_password_in_the_file(cls, url: SecretReference | str) -> SecretReference | str:
        return _without_password(url)


class RepositorySettings(KeepRule):
    """One Borg repository; a retention rule here takes the place of the set's."""

    path: str = Field(min_length=1, description="as Borg takes it: a directory, or ssh://user@host/./path")
    passphrase: SecretReference | None = Field(None, description="reference to the passphrase")
    compression: str = Field("zstd,3", description="as `borg create --compression` takes it")
    lock_wait: Duration = Field(timedelta(minutes=10), description="how long to wait for the repository's lock")
    timeout: Duration = Field(timedelta(hours=24), description="how long one Borg command may take")
    append_only: bool = Field(
        default=False, description="archives cannot be removed from here: no retention; Borg itself cannot tell"
    )


class SetRule(KeepRule):
    """Where a set's archives go, how long they are kept, how old the last one may be."""

    repositories: tuple[str, ...] = Field((), description="names of repositories; empty: all of them")
    max_age: Duration = Field(timedelta(hours=26), description="how old the last good archive may be")


class DatabaseSet(SetRule):
    """The database: records, chain, key registry."""

    max_drill_age: Duration | None = Field(
        None, description="how long ago the last drill that passed may be, for `status`; not set: it is not asked"
    )


class ProvisioningSet(SetRule):
    """The config-as-code provisioning files."""

    path: SecretReference | Path = Field(
        SecretReference(env="PROVISIONING_CONFIG_PATH"), description="their directory, or a reference to its name"
    )
    max_age: Duration = Field(timedelta(days=8), description="how old the last good archive may be")

    @property
    def directory(self) -> Path:
        """Where the files are; raises ConfigError when a reference leads nowhere."""
        return self.path if isinstance(self.path, Path) else Path(reveal(self.path, "the provisioning directory"))


class KeysSet(SetRule):
    """The customer-held encryption keys and the Server's .env: files, a command's output, or only an attestation."""

    paths: tuple[Path, ...] = Field((), description="files and directories")
    command: str | None = Field(None, description="command whose standard output is stored; run without a shell")
    attest: str | None = Field(None, description="command that succeeds when the keys are where they should be")
    max_age: Duration = Field(timedelta(days=32), description="how old the last archive or attestation may be")

    @model_validator(mode="after")
    def _one_kind(self) -> Self:
        if bool(self.paths or self.command) == bool(self.attest):
            raise ValueError("the set needs either paths or a command, whose files are stored, or attest")
        return self


class Sets(Section):
    """The sets: three things that make a complete backup, each with its own place."""

    database: DatabaseSet = DatabaseSet()
    provisioning: ProvisioningSet | None = None
    keys: KeysSet | None = None

    @property
    def configured(self) -> tuple[SetName, ...]:
        """The sets that are configured."""
        return tuple(name for name in SETS if getattr(self, name) is not None)

    def rule(self, name: SetName) -> SetRule:
        """Give the rule of one set; raises ConfigError when it is not configured."""
        found: SetRule | None = getattr(self, name)
        if found is None:
            raise ConfigError(f"the set {name} is not configured: add [sets.{name}] to the configuration")
        return found


class HealthchecksSettings(Section):
    """A check that is pinged when a run begins, succeeds or fails, as Healthchecks takes it."""

    url: SecretReference = Field(description="reference to the ping URL; {set} in it stands for the set's name")


class AppriseSettings(Section):
    """Notifications through Apprise; needs the extra `apprise`."""

    urls: tuple[SecretReference, ...] = Field(min_length=1, description="references to URLs as Apprise takes them")
    when: Literal["failure", "always"] = Field(
        "failure", description="failure: only of runs that do not end with exit code 0"
    )


class PrometheusSettings(Section):
    """Metrics for node_exporter's textfile collector; needs the extra `prometheus`."""

    textfile: Path = Field(description="file in the collector's directory; its name ends in .prom")

    @field_validator("textfile")
    @classmethod
    def _one_that_is_read(cls, textfile: Path) -> Path:
        if textfile.suffix != ".prom" or not textfile.is_absolute():
            raise ValueError("node_exporter reads only files whose names end in .prom: write the whole path of one")
        return textfile


class Monitoring(Section):
    """Who hears of runs; a section here turns its plugin on."""

    healthchecks: HealthchecksSettings | None = None
    apprise: AppriseSettings | None = None
    prometheus: PrometheusSettings | None = None


class Allowed(Section):
    """One file that may hold what looks like a private key."""

    path: str = Field(description="of the artifact, as in the archive")
    sha256: str = Field(pattern="^[0-9a-f]{64}$", description="of its content: another content is not allowed")
    reason: str = Field(min_length=1, description="why that is no private key, or why it may be there")
