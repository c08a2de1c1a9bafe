"""References to secrets: where a secret is to be found, never the secret itself.

A reference names an environment variable, a file, a command or an inherited descriptor. It can be printed, compared
and stored; only `reveal` looks behind it, as late as possible, and nothing here ever logs what it found.
"""

from __future__ import annotations

import functools
import os
import shlex
import stat
from pathlib import Path
from typing import Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from borg_vault_plugin import process
from borg_vault_plugin.errors import ConfigError

COMMAND_SECONDS = 60.0
OUR_SECRETS = ("DATABASE_URL", "PGPASSWORD", "BORG_PASSPHRASE", "BORG_NEW_PASSPHRASE")


class SecretReference(BaseModel):
    """Where a secret is: exactly one of an environment variable, a file, a command, an open descriptor."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    env: str | None = Field(None, description="name of an environment variable that holds the secret")
    file: Path | None = Field(None, description="file whose content is the secret (one trailing newline is dropped)")
    command: str | None = Field(None, description="command whose standard output is the secret; run without a shell")
    descriptor: int | None = Field(None, exclude=True, description="inherited file descriptor, read once")

    @model_validator(mode="before")
    @classmethod
    def _never_the_secret_itself(cls, value: object) -> object:
        if isinstance(value, str):
            raise ValueError('write a reference such as { env = "NAME" } or { file = "/path" }, not the secret itself')
        return value

    @model_validator(mode="after")
    def _exactly_one(self) -> Self:
        if sum(value is not None for value in (self.env, self.file, self.command, self.descriptor)) != 1:
            raise ValueError("a secret needs exactly one of env, file, command")
        return self

    def __str__(self) -> str:
        kind, value = next((name, value) for name, value in self if value is not None)
        return f"{kind} {value}"


def reveal(reference: SecretReference, purpose: str) -> str:
    """Give the secret behind a reference.

    Raises ConfigError, naming `purpose` and the reference but never a value, when there is none or it is empty.
    """
    if reference.env is not None:
        secret = os.environ.get(reference.env, "")
    elif reference.file is not None:
        secret = _from_file(reference.file, purpose)
    elif reference.command is not None:
        secret = _from_command(reference.command, purpose)
    else:
        secret = _from_descriptor(reference.descriptor or 0, purpose)
    if not secret:
        raise ConfigError(f"{purpose}: {reference} gives nothing: put the secret there")
    if not secret.isprintable() and any("\ud800" <= letter <= "\udfff" for letter in secret):
        raise ConfigError(f"{purpose}: {reference} is not UTF-8: write it so")
    return secret


def refuse_if_others_may_write(path: Path, what: str) -> None:
    """Refuse a file that somebody other than root or us owns, or that others may write.

    Raises ConfigError when the file cannot be trusted or is not there.
    """
    try:
        found = path.stat()
    except OSError as error:
        raise ConfigError(f"{what} {path} cannot be read: {error.strerror}") from error
    if found.st_uid not in (0, os.geteuid()):
        raise ConfigError(f"{what} {path} belongs to user {found.st_uid}: make root or yourself its owner")
    if found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise ConfigError(f"{what} {path} can be written by others: run chmod go-w {shlex.quote(str(path))}")


def _from_file(path: Path, purpose: str) -> str:
    refuse_if_others_may_write(path, f"{purpose}: secret file")
    try:
        return path.read_text(encoding="utf-8").removesuffix("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{purpose}: secret file {path} cannot be read: {error}") from error


def _from_command(command: str, purpose: str) -> str:
    try:
        words = shlex.split(command)
        finished = process.run(words, env=_command_environment(), timeout=COMMAND_SECONDS)
    except (OSError, ValueError, IndexError, process.TimeoutExpired) as error:
        raise ConfigError(f"{purpose}: secret command {command!r} cannot be run: {error}") from error
    if finished.returncode:
        raise ConfigError(
            f"{purpose}: secret command {command!r} failed with {process.ending(finished.returncode)}: run it by hand"
        )
    return finished.stdout.decode("utf-8", "replace").removesuffix("\n")


def _command_environment() -> dict[str, str]:
    """Give a secret's command its operator's environment, which it may need, without our other secrets."""
    return {name: value for name, value in os.environ.items() if name not in OUR_SECRETS}


@functools.cache  # a descriptor can be read once, and several repositories may share it
def _from_descriptor(descriptor: int, purpose: str) -> str:
    try:
        with os.fdopen(descriptor, "rb") as stream:
            return stream.read().decode("utf-8", "replace").removesuffix("\n")
    except OSError as error:
        raise ConfigError(f"{purpose}: descriptor {descriptor} cannot be read: {error.strerror}") from error
