"""What Borg answers: its JSON documents, its JSON log, and its exit codes with what to do about each."""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TypeVar

import msgspec

from borg_vault_plugin import process
from borg_vault_plugin.archive import Archive
from borg_vault_plugin.errors import Error, PreflightError, RepositoryAwayError, RepositoryError, RepositoryLockedError
from borg_vault_plugin.foreign import UNREADABLE
from borg_vault_plugin.progress import Advance

Document = TypeVar("Document")

PLAN_LINE = re.compile(r"(?:Keeping archive \(rule: (?P<rule>[^)]*)\)|Would prune):.*\[(?P<id>[0-9a-f]{64})\]$")
CHECKPOINT = re.compile(r"\.checkpoint(\.\d+)?")  # what Borg adds to the names of archives that it did not finish

NO_SPACE, NEWER_FORMAT, NOT_ENCRYPTED_AND_NEW, LOCK_TIMEOUT, NO_CONNECTION = 14, 25, 60, 73, 80
# By Borg's modern exit codes (Borg 1.4 documentation, "Return codes").
ADVICE = {
    10: "choose another path, or use the repository that is there",
    12: "run `borg check`",
    13: "create it with `borg-vault init`, or mend its path",
    14: "free space on its disk, then run `borg-vault prune`",
    15: "mend its path: what is there is no Borg repository",
    16: "mend its config file, or its path",
    18: "make the directory above it, or mend its path",
    19: "choose an empty place",
    20: "raise its storage quota, or run `borg-vault prune`",
    21: "give this user access to its directory",
    25: "install the newer Borg that made it, or use another repository",
    26: "run `borg check`",
    30: "run again: one archive a second",
    42: "import its key file with `borg key import`",
    44: "import its key file with `borg key import`",
    50: "give the right passphrase",
    51: "give the right passphrase",
    52: "give the right passphrase",
    60: "it is not encrypted and new to this host: make an encrypted one with `borg-vault init`",
    61: "somebody replaced it: look at what is there before you go on",
    62: "it was moved: when that is right, run `borg info` on it once and answer yes",
    63: "two repositories share one id: see Borg's FAQ on copied repositories",
    64: "it was rolled back or replaced since this host last saw it: find out by whom",
    72: "give this user the right to write there",
    73: "another Borg holds its lock: wait for it, or `borg break-lock` when you are sure that nobody does",
    80: "look at the network, at ssh, and for borg on that host",
    81: "look at the network, at ssh, and for borg on that host",
    83: "`borg serve` there is restricted to other paths",
    87: "look at the network",
}
# What Borg tells only in words.
MEANT = {
    b"No space left on device": NO_SPACE,
    b"Disk quota exceeded": NO_SPACE,
    b"is not supported": NEWER_FORMAT,
    b"No such file or directory: 'ssh'": NO_CONNECTION,
}
# By the first letter of a mode as `borg list` prints it; a file and a directory are nothing strange.
KINDS = {
    "-": None,
    "d": None,
    "l": "a symbolic link",
    "h": "a hard link",
    "b": "a device",
    "c": "a device",
    "p": "a named pipe",
}
CONNECTION_CODES = (80, 81, 82, 85, 86, 87)
ERRORS: dict[int, type[Error]] = {
    NOT_ENCRYPTED_AND_NEW: PreflightError,
    LOCK_TIMEOUT: RepositoryLockedError,
    **dict.fromkeys(CONNECTION_CODES, RepositoryAwayError),
}


class RepositoryDocument(msgspec.Struct, frozen=True):
    """What Borg says of a repository."""

    id: str


class EncryptionDocument(msgspec.Struct, frozen=True):
    """How a repository is encrypted."""

    mode: str


class Sizes(msgspec.Struct, frozen=True):
    """What Borg counted, in bytes."""

    original_size: int
    compressed_size: int
    deduplicated_size: int


class ArchiveDocument(msgspec.Struct, frozen=True):
    """What Borg says of an archive; its times are naive, and UTC because we ask for that."""

    name: str
    id: str
    start: str
    comment: str = ""
    stats: Sizes | None = None

    def archive(self) -> Archive:
        """Give the archive."""
        size = self.stats.original_size if self.stats else None
        return Archive(self.name, self.id, datetime.fromisoformat(self.start).replace(tzinfo=UTC), self.comment, size)


class ListDocument(msgspec.Struct, frozen=True):
    """The document of `borg list --json`, and of `borg info --json` with a pattern."""

    repository: RepositoryDocument
    encryption: EncryptionDocument
    archives: list[ArchiveDocument] = []


class CreatedArchive(msgspec.Struct, frozen=True):
    """An archive that was just made."""

    stats: Sizes


class CreateDocument(msgspec.Struct, frozen=True):
    """The document of `borg create --json`."""

    archive: CreatedArchive


class FileDocument(msgspec.Struct, frozen=True):
    """A line of `borg list --json-lines`: `type` is - for a regular file, and for a hard link, whose `mode` tells."""

    type: str
    path: str
    size: int
    mode: str

    @property
    def strange(self) -> str | None:
        """What it is that has no business in a set, or None for a file or directory below the place of extraction."""
        kind = KINDS.get(self.mode[:1], "something unknown")
        outside = self.path.startswith("/") or ".." in self.path.split("/")
        return f"{self.path!r} outside of itself" if outside else kind and f"{kind} ({self.path!r})"


@dataclass(frozen=True, slots=True)
class Inventory:
    """What is in a repository, and the repository's id in hex."""

    repository_id: str
    archives: tuple[Archive, ...]


@dataclass(frozen=True, slots=True)
class Planned:
    """What a prune would do with one archive: keep it by this rule, or (no rule) remove it."""

    kept_by: str | None


@dataclass(frozen=True, slots=True)
class Answer:
    """What one Borg command said: its standard output and the messages in its JSON log."""

    stdout: bytes
    messages: tuple[str, ...]

    def document(self, kind: type[Document]) -> Document:
        """Read the document on standard output; raises RepositoryError when Borg's JSON is not what it was."""
        return read(self.stdout, kind)

    def plan(self) -> dict[str, Planned]:
        """Read the listing of a prune, by the ids of the archives."""
        matches = [match for message in self.messages if (match := PLAN_LINE.match(message))]
        return {match["id"]: Planned(match["rule"]) for match in matches}


def read(text: bytes, kind: type[Document]) -> Document:
    """Read one JSON document of Borg's; raises RepositoryError when it is not what it was."""
    try:
        return msgspec.json.decode(text, type=kind)
    except UNREADABLE as error:
        raise RepositoryError(f"Borg's JSON is not what Borg 1.4 prints: {error}: look at which borg runs") from error


def failure(returncode: int, log: bytes) -> tuple[type[Error], str]:
    """Say which error it is when Borg fails, what Borg said and what to do about it."""
    messages = log_messages(log)
    for sign, meant in MEANT.items():
        if sign in log:
            returncode = meant
    # What ssh said stands before what Borg makes of it.
    telling = messages if returncode in CONNECTION_CODES else messages[-1:]
    said = "; ".join(message.rstrip(".") for message in telling) or process.ending(returncode)
    advice = ADVICE.get(returncode, "run it again" if returncode < 0 else f"see Borg's return code {returncode}")
    return ERRORS.get(returncode, RepositoryError), f"{said}: {advice}"


def following(advance: Advance) -> Callable[[bytes], None]:
    """Give what listens to Borg's JSON log and reports the bytes that it has read."""

    def listen(line: bytes) -> None:
        with contextlib.suppress(ValueError):
            entry = json.loads(line)
            if entry.get("type") == "archive_progress" and "original_size" in entry:
                advance(entry["original_size"])

    return listen


def log_messages(log: bytes) -> tuple[str, ...]:
    """Give the first line of each message in a JSON log; lines that are no JSON (bad arguments, ssh) count as they are.

    Of an error that Borg reports with a traceback alone, the exception at its end.
    """
    messages = []
    for line in log.decode("utf-8", "replace").splitlines():
        try:
            entry = json.loads(line)
            message = str(entry["message"]) if entry["type"] == "log_message" else ""
        except (ValueError, TypeError, KeyError):
            message = line
        if message.strip():
            messages.append(_one_line(message.strip()))
    return tuple(messages)


def _one_line(message: str) -> str:
    before, traceback, after = message.partition("Traceback (most recent call last)")
    if not traceback:
        return message.splitlines()[0]
    # The exception is the last line before the blank one; what follows that is about the machine.
    exceptions = [line for line in after.partition("\n\n")[0].splitlines() if re.match(r"\w[\w.]*(:|$)", line)]
    words = before.strip().splitlines()
    return exceptions[-1] if exceptions and words in ([], ["Local Exception"]) else " ".join(words) or traceback
