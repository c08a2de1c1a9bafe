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
from borg_vault_plugin.redaction import remember_secret, remember_secret_url

COMMAND_SECONDS = 60.0
LARGEST_BYTES = 1 << 20
OUR_SECRETS = ("DATABASE_URL", "PGPASSWORD", "BORG_PASSPHRASE", "BORG_NEW_PASSPHRASE")
_variables: set[str] = set()
"""Environment variables that references have named: what is in them is for us alone."""


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
        if self.env is not None:
            _variables.add(self.env)
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
    remember_secret(secret)
    return secret


def secret_url(reference: SecretReference, purpose: str) -> str:
    """Give the URL behind a reference; every longer piece of it is a secret. Raises ConfigError as `reveal` does."""
    url = reveal(reference, purpose).strip()
    remember_secret_url(url)
    return url


def read_trusted(path: Path, what: str) -> str:
    """Read a small file that only root or we could have written. `what` says what it is, for the error.

    What is looked at is what is read, whoever puts another file in its place meanwhile.
    Raises ConfigError when it cannot be trusted or read, OSError and UnicodeDecodeError when reading fails.
    """
    try:
        # Without O_NONBLOCK opening a pipe would wait for its other end.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise ConfigError(f"{what} {path} cannot be read: {error.strerror}") from error
    os.set_blocking(descriptor, True)
    with open(descriptor, "rb") as file:  # noqa: PTH123 - a descriptor has no path
        _refuse_others(os.fstat(descriptor), path, what)
        data = file.read(LARGEST_BYTES + 1)
    if len(data) > LARGEST_BYTES:
        raise ConfigError(f"{what} {path} is longer than {LARGEST_BYTES} bytes: name the right file")
    return data.decode()


def refuse_if_others_may_write(path: Path, what: str) -> None:
    """Refuse a file that somebody other than root or us owns, or that others may write or replace.

    Raises ConfigError when the file cannot be trusted or is not there.
    """
    try:
        _refuse_others(path.stat(), path, what)
    except OSError as error:
        raise ConfigError(f"{what} {path} cannot be read: {error.strerror}") from error


def _refuse_others(found: os.stat_result, path: Path, what: str) -> None:
    if found.st_uid not in (0, os.geteuid()):
        raise ConfigError(f"{what} {path} belongs to user {found.st_uid}: make root or yourself its owner")
    if found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise ConfigError(f"{what} {path} can be written by others: run chmod go-w {shlex.quote(str(path))}")
    parent = path.absolute().parent
    if parent.stat().st_mode & (stat.S_IWOTH | stat.S_ISVTX) == stat.S_IWOTH:
        raise ConfigError(f"{what} {path} can be replaced by others: run chmod o-w {shlex.quote(str(parent))}")


def _from_file(path: Path, purpose: str) -> str:
    try:
        return read_trusted(path, f"{purpose}: secret file").removesuffix("\n")
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
    return finished.stdout.decode("utf-8", "surrogateescape").removesuffix("\n")


def _command_environment() -> dict[str, str]:
    """Give a secret's command its operator's environment, which it may need, without our other secrets."""
    return {name: value for name, value in os.environ.items() if name not in {*OUR_SECRETS, *_variables}}


def _from_descriptor(descriptor: int, purpose: str) -> str:
    try:
        return _read_once(descriptor)
    except OSError as error:
        raise ConfigError(f"{purpose}: descriptor {descriptor} cannot be read: {error.strerror}") from error


@functools.cache  # a descriptor can be read once, and several repositories may share it
def _read_once(descriptor: int) -> str:
    # A standard stream stays open: the next pipe would have its number, and a child /dev/null in its place.
    with os.fdopen(descriptor, "rb", closefd=descriptor > 2) as stream:
        return stream.read().decode("utf-8", "surrogateescape").removesuffix("\n")
