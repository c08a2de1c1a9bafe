"""Borg: the only module that knows its command line.

Borg has no stable Python API; its command line, its JSON and its exit codes are the interface (Borg 1.4 documentation,
"All about JSON: How to develop frontends"). Every call runs with modern exit codes, UTC, a UTF-8 locale, the passphrase
over a descriptor, and "no" as the answer to every question about unencrypted or relocated repositories.
"""

from __future__ import annotations

import contextlib
import functools
import json
import logging
import os
import re
import shutil
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from borg_vault_plugin import process
from borg_vault_plugin.archive import TIME_FORMAT, Archive
from borg_vault_plugin.config import RepositorySettings
from borg_vault_plugin.errors import ConfigError, PreflightError, RepositoryError
from borg_vault_plugin.progress import Advance
from borg_vault_plugin.secret import reveal

logger = logging.getLogger(__name__)

# Operators steer Borg with these; the ones that hold secrets or weaken a safety question are not among them.
BORG_VARIABLES = (
    "BORG_BASE_DIR", "BORG_CACHE_DIR", "BORG_CONFIG_DIR", "BORG_FILES_CACHE_TTL", "BORG_HOST_ID", "BORG_KEYS_DIR",
    "BORG_KEY_FILE", "BORG_REMOTE_PATH", "BORG_RSH", "BORG_SECURITY_DIR", "BORG_USE_CHUNKS_ARCHIVE",
)  # fmt: skip
FIXED_VARIABLES = {
    "BORG_EXIT_CODES": "modern",
    "BORG_UNKNOWN_UNENCRYPTED_REPO_ACCESS_IS_OK": "no",
    "BORG_RELOCATED_REPO_ACCESS_IS_OK": "no",
    "BORG_DISPLAY_PASSPHRASE": "no",
    "TZ": "UTC",
}
# Measured on nightly dumps and NDJSON of a vault: 64 KiB chunks store a third to a half of what 2 MiB ones do.
CHUNKER_PARAMETERS = "buzhash,12,20,16,4095"
# Borg writes segments of up to this size; `compact` needs room for one before it frees any.
SEGMENT_BYTES = 500 << 20
LEAST_RESERVED_BYTES = 10_000_000  # Borg takes no smaller additional_free_space
NOT_ENCRYPTED = ("none", "authenticated", "authenticated-blake2")
ENCRYPTION_MODES = ("repokey", "repokey-blake2", "keyfile", "keyfile-blake2")
# Options of `borg create` that may follow `--`, with the number of words that each takes. All others could
# change what is stored or how it is named.
PASSED_ON = dict.fromkeys(
    ("-C", "--compression", "--chunker-params", "-c", "--checkpoint-interval", "--lock-wait", "--remote-path", "--rsh",
     "--upload-ratelimit", "--upload-buffer", "--files-cache", "--umask"), 1,
) | dict.fromkeys(
    ("--no-cache-sync", "--noacls", "--noatime", "--atime", "--noctime", "--nobirthtime", "--noflags", "--noxattrs",
     "--numeric-ids", "--stats", "--list", "--show-rc", "--debug", "--verbose", "--info", "-v"), 0,
)  # fmt: skip
VERSION = re.compile(rb"borg (\d+)\.(\d+)\.(\S+)")
PLAN_LINE = re.compile(r"(?:Keeping archive \(rule: (?P<rule>[^)]*)\)|Would prune):.*\[(?P<id>[0-9a-f]{64})\]$")
CHECKPOINT = re.compile(r"\.checkpoint(\.\d+)?")  # what Borg adds to the names of archives that it did not finish
PROBE_SECONDS = 60.0

ADVICE = {
    10: "it exists already",
    13: "create it with `borg-vault init`, or mend its path",
    14: "its disk is full: free space there, then run `borg-vault prune`",
    15: "that path holds something that is no repository: mend its path",
    20: "its storage quota is used up",
    30: "an archive of that name is there already: try again in a second",
    42: "its key file is not on this host: import it with `borg key import`",
    44: "its key file is not on this host: import it with `borg key import`",
    50: "give the right passphrase",
    52: "give the right passphrase",
    60: "run `borg check` and see Borg's documentation",
    64: "the repository is older than this host remembers: it was rolled back or replaced; see Borg's documentation",
    73: "another Borg holds its lock: wait, or see `borg break-lock` when you are sure that nobody does",
    80: "look at the network and at ssh",
    81: "look at the network and at ssh",
}


@dataclass(frozen=True, slots=True)
class Borg:
    """The borg program of this host."""

    program: Path
    version: str


@dataclass(frozen=True, slots=True)
class Answer:
    """What one Borg command said: its standard output and the messages in its JSON log."""

    stdout: bytes
    messages: tuple[str, ...]

    def document(self) -> dict[str, object]:
        """Give the JSON document on standard output."""
        document: dict[str, object] = json.loads(self.stdout)
        return document


@dataclass(frozen=True, slots=True)
class Storing:
    """One `borg create`: the archive's name, time and comment, and the paths below `directory`."""

    name: str
    time: datetime
    comment: str
    directory: Path
    paths: tuple[str, ...]
    options: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Sizes:
    """What `borg create` counted, in bytes."""

    original: int
    compressed: int
    deduplicated: int


@dataclass(frozen=True, slots=True)
class Inventory:
    """What is in a repository, and the repository's id in hex."""

    repository_id: str
    archives: tuple[Archive, ...]


@dataclass(frozen=True, slots=True)
class Planned:
    """What a prune would do with one archive: keep it by this rule, or (no rule) remove it."""

    kept_by: str | None


@dataclass(frozen=True)
class Repository:
    """One Borg repository and how to open it."""

    name: str
    settings: RepositorySettings
    borg: Borg
    passphrase: str = field(repr=False)
    pass_fds: tuple[int, ...] = ()

    @property
    def directory(self) -> Path | None:
        """Where a local repository is; None for one on another host."""
        return None if _is_remote(self.settings.path) else Path(self.settings.path).expanduser().absolute()

    def stored_bytes(self) -> int:
        """Give the size of a local repository on disk."""
        data = (self.directory or Path()) / "data"
        return sum(path.stat().st_size for path in data.rglob("*") if path.is_file()) if self.directory else 0

    def create(self, encryption: str) -> None:
        """Make the repository, encrypted, with space reserved for deleting and compacting when its disk is full.

        Raises RepositoryError, ConfigError for a mode that does not encrypt.
        """
        if encryption not in ENCRYPTION_MODES:
            raise ConfigError(f"encryption mode {encryption!r} is refused: choose one of {', '.join(ENCRYPTION_MODES)}")
        if self.directory is not None:
            self.directory.parent.mkdir(parents=True, exist_ok=True)
        self._run("cannot be created", "init", f"--encryption={encryption}")
        if self.directory is not None:
            reserved = min(SEGMENT_BYTES, shutil.disk_usage(self.directory).total // 20)
            if reserved >= LEAST_RESERVED_BYTES:
                self._run("cannot be configured", "config", "::", "additional_free_space", str(reserved))

    def export_key(self, path: Path) -> None:
        """Write the repository's key, still locked by its passphrase, to a new file of mode 0600."""
        # Borg would write through a symlink and keep an existing file's mode.
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        try:
            os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
        except FileExistsError:
            raise ConfigError(f"key file {path} exists already: name another one with --key-out") from None
        self._run("its key cannot be exported", "key", "export", "::", str(path))
        path.chmod(0o600)

    def id(self) -> str:
        """Give the repository's id, in hex."""
        return str(_mapping(self._run("cannot be read", "info", "--json").document()["repository"])["id"])

    def inventory(self, *, glob: str | None = None) -> Inventory:
        """List the archives, oldest first, those of cut-short runs included; `glob` as Borg's --glob-archives has it.

        Raises RepositoryError, PreflightError for a repository that is not encrypted.
        """
        selection = [f"--glob-archives={glob}"] if glob else []
        arguments = ["--json", "--consider-checkpoints", "--format={comment}", *selection]
        document = self._run("cannot be listed", "list", *arguments).document()
        self._refuse_unencrypted(document)
        archives = tuple(_archive(entry) for entry in _sequence(document["archives"]))
        return Inventory(str(_mapping(document["repository"])["id"]), archives)

    def described_archives(self, *, glob: str) -> list[Archive]:
        """List archives with their original sizes."""
        document = self._run("cannot be listed", "info", "--json", f"--glob-archives={glob}").document()
        return [_archive(entry) for entry in _sequence(document["archives"])]

    def store(self, storing: Storing, advance: Advance | None = None) -> Sizes:
        """Store files as one archive, telling `advance` how many bytes were read.

        Any exit code of Borg but 0 is a RepositoryError: the archive may be incomplete.
        """
        arguments = create_arguments(storing, self.settings.compression)
        answer = self._run(
            "did not take the archive",
            *(["--progress"] if advance else []),
            *arguments,
            cwd=storing.directory,
            on_message=_following(advance) if advance else None,
        )
        stats = _mapping(_mapping(answer.document()["archive"])["stats"])
        return Sizes(*(int(str(stats[f"{name}_size"])) for name in ("original", "compressed", "deduplicated")))

    def listing(self, archive: str) -> dict[str, int]:
        """Give the size of every file in an archive by its path; what is no regular file has size -1."""
        lines = self._run(f"cannot list {archive}", "list", "--json-lines", f"::{archive}").stdout.splitlines()
        entries = [json.loads(line) for line in lines]
        return {entry["path"]: entry["size"] if entry["type"] == "-" else -1 for entry in entries}

    def extract(self, archive: str, directory: Path, paths: Iterable[str] = ()) -> None:
        """Extract an archive, or some paths of it, into a directory."""
        self._run(f"cannot extract {archive}", "extract", f"::{archive}", *paths, cwd=directory)

    def rename(self, archive: str, name: str) -> None:
        """Give an archive another name; Borg gives it another id, too."""
        self._run(f"cannot rename {archive}", "rename", f"::{archive}", name)

    def delete(self, archives: Iterable[str]) -> None:
        """Delete archives by their names."""
        self._run("cannot delete archives", "delete", "::", *archives)

    def prune_plan(self, glob: str, keep: Mapping[str, int]) -> dict[str, Planned]:
        """Give what Borg's own prune would do, by the ids of the archives."""
        answer = self._run(
            "cannot plan its pruning", "prune", "--dry-run", "--list", f"--glob-archives={glob}", *keep_options(keep)
        )
        matches = [match for message in answer.messages if (match := PLAN_LINE.match(message))]
        return {match["id"]: Planned(match["rule"]) for match in matches}

    def prune(self, glob: str, keep: Mapping[str, int]) -> None:
        """Let Borg prune."""
        self._run("cannot be pruned", "prune", f"--glob-archives={glob}", *keep_options(keep))

    def compact(self) -> None:
        """Free the space of what was deleted."""
        self._run("cannot be compacted", "compact")

    def _refuse_unencrypted(self, document: Mapping[str, object]) -> None:
        mode = _mapping(document["encryption"])["mode"]
        if mode in NOT_ENCRYPTED:
            raise PreflightError(
                f"repository {self.name} is not encrypted (mode {mode}): make a new one with `borg-vault init`"
            )

    def _run(
        self,
        what_failed: str,
        *arguments: str,
        cwd: Path | None = None,
        on_message: Callable[[bytes], None] | None = None,
    ) -> Answer:
        started = time.monotonic()
        with _readable_once(self.passphrase) as descriptor:
            environment = process.plain_environment(
                {name: os.environ[name] for name in BORG_VARIABLES if name in os.environ}
                | FIXED_VARIABLES
                | {"BORG_REPO": self._location(), "BORG_PASSPHRASE_FD": str(descriptor)}
            )
            environment.setdefault("BORG_RSH", "ssh -oBatchMode=yes")
            lock_wait = f"--lock-wait={self.settings.lock_wait.total_seconds():.0f}"
            try:
                finished = process.run(
                    [self.borg.program, "--log-json", lock_wait, *arguments],
                    env=environment,
                    timeout=self.settings.timeout.total_seconds(),
                    cwd=cwd,
                    pass_fds=(descriptor, *self.pass_fds),
                    on_message=on_message,
                )
            except (OSError, process.TimeoutExpired) as error:
                raise RepositoryError(f"repository {self.name} {what_failed}: {error}") from error
        logger.debug("borg %s: %.2f s", arguments[0], time.monotonic() - started)
        messages = _messages(finished.stderr)
        if finished.returncode:
            raise RepositoryError(self._failure(what_failed, finished.returncode, messages))
        return Answer(finished.stdout, messages)

    def _location(self) -> str:
        # Relative to where we were started, although `borg create` runs inside staging.
        return self.settings.path if self.directory is None else str(self.directory)

    def _failure(self, what_failed: str, returncode: int, messages: tuple[str, ...]) -> str:
        said = " ".join(messages[-1].split()) if messages else process.ending(returncode)
        advice = ADVICE.get(returncode, f"see Borg's exit code {returncode}" if returncode > 0 else "run it again")
        return f"repository {self.name} ({self.settings.path}) {what_failed}: {said.rstrip('.')}: {advice}"


@functools.cache
def find_borg() -> Borg:
    """Find borg 1.4, beside this program's Python or in PATH. Raises PreflightError when there is none."""
    found = []
    for candidate in (str(Path(sys.executable).with_name("borg")), shutil.which("borg")):
        if candidate is None or not os.access(candidate, os.X_OK):
            continue
        finished = process.run([candidate, "--version"], env=process.plain_environment(), timeout=PROBE_SECONDS)
        match = VERSION.search(finished.stdout)
        if match and (int(match[1]), int(match[2])) == (1, 4):
            return Borg(Path(candidate), match[0].decode().removeprefix("borg "))
        found.append(f"{candidate} ({finished.stdout.decode('utf-8', 'replace').strip() or 'says nothing'})")
    raise PreflightError(
        f"Borg 1.4 is needed, found {', '.join(found) or 'none'}: run pip install 'borg-vault-plugin[borg]'"
    )


def open_repository(name: str, settings: RepositorySettings, *, pass_fds: Iterable[int] = ()) -> Repository:
    """Get ready to talk to a repository; raises ConfigError without a passphrase, PreflightError without Borg."""
    if settings.passphrase is None:
        raise ConfigError(
            f"repository {name} has no passphrase: set BORG_PASSPHRASE, BORG_PASSCOMMAND or BORG_PASSPHRASE_FD, "
            f"or repositories.{name}.passphrase"
        )
    passphrase = reveal(settings.passphrase, f"passphrase of repository {name}")
    return Repository(name, settings, find_borg(), passphrase, tuple(pass_fds))


def create_arguments(storing: Storing, compression: str) -> list[str]:
    """Build the arguments of `borg create`; what the operator adds comes before what must hold."""
    return [
        "create",
        "--json",
        f"--compression={compression}",
        f"--chunker-params={CHUNKER_PARAMETERS}",
        "--files-cache=disabled",
        *storing.options,
        f"--timestamp={storing.time.astimezone(UTC).strftime(TIME_FORMAT).removesuffix('Z')}",
        f"--comment={storing.comment}",
        f"::{storing.name}",
        *storing.paths,
    ]


def refused_option(options: Iterable[str]) -> str | None:
    """Give the first word after `--` that is not an option which may be passed on to `borg create`, or None."""
    words = iter(options)
    for word in words:
        name, has_value, _ = word.partition("=")
        if name not in PASSED_ON or (has_value and not PASSED_ON[name]):
            return word
        if PASSED_ON[name] and not has_value and next(words, None) is None:
            return word
    return None


def keep_options(keep: Mapping[str, int]) -> list[str]:
    """Give the options of `borg prune` for a rule as `KeepRule.counts` gives it."""
    names = {"keep": "--keep-last"} | {
        f"keep_{unit}": f"--keep-{unit}" for unit in ("daily", "weekly", "monthly", "yearly")
    }
    return [f"{names[name]}={count}" for name, count in keep.items()]


def _is_remote(path: str) -> bool:
    """Borg's rule: a scheme other than file, or host:path (Borg 1.4 documentation, Repository URLs)."""
    return "://" in path or ":" in path.partition("/")[0]


@contextlib.contextmanager
def _readable_once(secret: str) -> Iterator[int]:
    """Give a descriptor from which one child can read a secret: it is in no environment and on no command line."""
    reading, writing = os.pipe()
    try:
        with os.fdopen(writing, "wb") as stream:
            stream.write(secret.encode() + b"\n")
        yield reading
    finally:
        os.close(reading)


def _following(advance: Advance) -> Callable[[bytes], None]:
    """Give what listens to Borg's JSON log and reports the bytes that it has read."""

    def listen(line: bytes) -> None:
        with contextlib.suppress(ValueError):
            entry = json.loads(line)
            if entry.get("type") == "archive_progress" and "original_size" in entry:
                advance(entry["original_size"])

    return listen


def _messages(log: bytes) -> tuple[str, ...]:
    """Give the messages of a JSON log; lines that are no JSON (argument errors, ssh) count as they are."""
    messages = []
    for line in log.decode("utf-8", "replace").splitlines():
        try:
            entry = json.loads(line)
            if entry["type"] == "log_message":
                messages.append(str(entry["message"]))
        except (ValueError, TypeError, KeyError):
            messages.append(line)
    return tuple(message for message in messages if message.strip())


def _archive(entry: Mapping[str, object]) -> Archive:
    stats = entry.get("stats")
    size = int(str(_mapping(stats)["original_size"])) if stats is not None else None
    started = datetime.fromisoformat(str(entry["start"])).replace(tzinfo=UTC)
    return Archive(str(entry["name"]), str(entry["id"]), started, str(entry.get("comment", "")), size)


def _mapping(value: object) -> dict[str, object]:
    if not isinstance(value, dict):
        raise RepositoryError("Borg's JSON has changed: use the Borg version that this program asks for")
    return value


def _sequence(value: object) -> list[dict[str, object]]:
    if not isinstance(value, list):
        raise RepositoryError("Borg's JSON has changed: use the Borg version that this program asks for")
    return [_mapping(entry) for entry in value]
