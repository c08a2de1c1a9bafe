"""One Borg repository: every command that is run against it."""

from __future__ import annotations

import logging
import os
import shutil
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path, PurePosixPath

from borg_vault_plugin import process
from borg_vault_plugin.borg.answers import (
    LOCK_TIMEOUT,
    Answer,
    CreateDocument,
    FileDocument,
    Inventory,
    ListDocument,
    Planned,
    Sizes,
    failure,
    following,
    log_messages,
    read,
)
from borg_vault_plugin.borg.arguments import Storing, create_arguments, keep_options
from borg_vault_plugin.borg.program import Borg, environment, find_borg, readable_once
from borg_vault_plugin.errors import ConfigError, PreflightError, RepositoryError
from borg_vault_plugin.progress import Advance
from borg_vault_plugin.scratch import held
from borg_vault_plugin.secret import reveal
from borg_vault_plugin.sections import RepositorySettings

logger = logging.getLogger(__name__)

# Borg writes segments of up to this size; `compact` needs room for one before it frees any.
SEGMENT_BYTES = 500 << 20
LEAST_RESERVED_BYTES = 10_000_000  # Borg takes no smaller additional_free_space
# Borg looks for a lock ten times in all, so a long wait would be slept through after a dead Borg's lock is gone.
# It is asked for a short one and, when that is over and nothing has been done, asked again.
LOCK_WAIT_SECONDS = 10.0
NOT_ENCRYPTED = ("none", "authenticated", "authenticated-blake2")
ENCRYPTION_MODES = ("repokey", "repokey-blake2", "keyfile", "keyfile-blake2")


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
        return local_directory(self.name, self.settings)

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
        return self._run("cannot be read", "info", "--json").document(ListDocument).repository.id

    def inventory(self, *, glob: str | None = None) -> Inventory:
        """List the archives, oldest first, those of cut-short runs included; `glob` as Borg's --glob-archives has it.

        Raises RepositoryError, PreflightError for a repository that is not encrypted.
        """
        selection = [f"--glob-archives={glob}"] if glob else []
        arguments = ["--json", "--consider-checkpoints", "--format={comment}", *selection]
        document = self._run("cannot be listed", "list", *arguments).document(ListDocument)
        if document.encryption.mode in NOT_ENCRYPTED:
            raise PreflightError(
                f"repository {self.name} is not encrypted (mode {document.encryption.mode}): "
                "make a new one with `borg-vault init`"
            )
        return Inventory(document.repository.id, tuple(entry.archive() for entry in document.archives))

    def described_archives(self, *, glob: str) -> Inventory:
        """List archives with their original sizes."""
        answer = self._run("cannot be listed", "info", "--json", f"--glob-archives={glob}")
        document = answer.document(ListDocument)
        return Inventory(document.repository.id, tuple(entry.archive() for entry in document.archives))

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
            on_message=following(advance) if advance else None,
        )
        return answer.document(CreateDocument).archive.stats

    def listing(self, archive: str, *, root: str = "", pattern: str | None = None) -> dict[str, int]:
        """Give the size of every file in an archive by its path below `root`; what is no regular file has size -1.

        Directories are left out. `pattern` is one of Borg's, for the whole path (Borg 1.4 documentation, borg help
        patterns).
        """
        entries = self._entries(archive, pattern or (_below(root) if root else None))
        skipped = len(root) + 1 if root else 0
        return {one.path[skipped:]: one.size if one.mode[:1] == "-" else -1 for one in entries if one.type != "d"}

    def content(self, archive: str, path: str) -> bytes:
        """Give the content of one file in an archive; it is held in memory."""
        return self._run(f"cannot read {archive}", "extract", "--stdout", f"::{archive}", f"pf:{path}").stdout

    def extract(self, archive: str, directory: Path, paths: Iterable[str] = (), *, root: str = "") -> None:
        """Extract an archive, or some paths of it, into a directory; nothing is written outside.

        With `root` only what is below that directory of the archive is extracted, as if it were the whole.
        Raises RepositoryError, before anything is written, for an archive that holds more than files and directories
        there, or that does not fit.
        """
        below = f"{root}/" if root else ""
        wanted = tuple(f"{below}{path}" for path in paths) or ((root,) if root else ())
        entries = self._entries(archive, _below(root) if root else None)
        refusal = _refusal(entries, wanted, shutil.disk_usage(directory).free)
        if refusal is not None:
            raise RepositoryError(
                f"repository {self.name} ({self.settings.path}): {archive} is not extracted: {refusal}"
            )
        # What else an archive can give to a file is not ours to take: a file that nobody may remove, for one.
        plain = ("--noacls", "--noxattrs", "--noflags")
        strip = (f"--strip-components={len(PurePosixPath(root).parts)}",) if root else ()
        patterns = map(_below, wanted)
        what_failed = f"cannot extract {archive}"
        try:
            with held(directory) as place:
                self._run(what_failed, "extract", *plain, *strip, f"::{archive}", *patterns, cwd=place)
        except OSError as error:
            raise RepositoryError(
                f"repository {self.name} {what_failed} to {directory}: {error.strerror}: look who changed it"
            ) from error

    def rename(self, archive: str, name: str) -> None:
        """Give an archive another name; Borg gives it another id, too."""
        self._run(f"cannot rename {archive}", "rename", f"::{archive}", name)

    def delete(self, archives: Iterable[str]) -> None:
        """Delete archives by their names."""
        self._run("cannot delete archives", "delete", "::", *archives)

    def prune_plan(self, glob: str, keep: Mapping[str, int]) -> dict[str, Planned]:
        """Give what Borg's own prune would do, by the ids of the archives."""
        arguments = ["--dry-run", "--list", f"--glob-archives={glob}", *keep_options(keep)]
        return self._run("cannot plan its pruning", "prune", *arguments).plan()

    def prune_plan_of(self, options: Iterable[str]) -> dict[str, Planned]:
        """Give what another program's `borg prune` with these options would do, in this host's own time zone."""
        what = "cannot plan that pruning"
        return self._run(what, "prune", "--dry-run", "--list", *options, local_time=True).plan()

    def prune(self, glob: str, keep: Mapping[str, int]) -> None:
        """Let Borg prune."""
        self._run("cannot be pruned", "prune", f"--glob-archives={glob}", *keep_options(keep))

    def check(self, longest: timedelta | None = None) -> None:
        """Let Borg check everything or, for so long at most, go on with the segments where the last check stopped."""
        some = ["--repository-only", f"--max-duration={longest.total_seconds():.0f}"] if longest is not None else []
        self._run("does not pass Borg's check", "check", *some)

    def compact(self) -> None:
        """Free the space of what was deleted."""
        self._run("cannot be compacted", "compact")

    def _entries(self, archive: str, pattern: str | None = None) -> list[FileDocument]:
        selection = [pattern] if pattern else []
        listed = self._run(f"cannot list {archive}", "list", "--json-lines", f"::{archive}", *selection)
        return [read(line, FileDocument) for line in listed.stdout.splitlines()]

    def _run(
        self,
        what_failed: str,
        *arguments: str,
        cwd: Path | None = None,
        on_message: Callable[[bytes], None] | None = None,
        local_time: bool = False,
    ) -> Answer:
        deadline = time.monotonic() + self.settings.lock_wait.total_seconds()
        while True:
            finished = self._attempt(what_failed, arguments, cwd, on_message, local_time=local_time)
            if finished.returncode != LOCK_TIMEOUT or time.monotonic() >= deadline:
                break
        if finished.returncode:
            kind, said = failure(finished.returncode, finished.stderr)
            raise kind(f"repository {self.name} ({self.settings.path}) {what_failed}: {said}")
        return Answer(finished.stdout, log_messages(finished.stderr))

    def _attempt(
        self,
        what_failed: str,
        arguments: tuple[str, ...],
        cwd: Path | None,
        on_message: Callable[[bytes], None] | None,
        *,
        local_time: bool,
    ) -> process.Finished:
        started = time.monotonic()
        # Relative paths are relative to where we were started, although `borg create` runs inside staging.
        location = self.settings.path if self.directory is None else str(self.directory)
        lock_wait = min(self.settings.lock_wait.total_seconds(), LOCK_WAIT_SECONDS)
        with readable_once(self.passphrase) as descriptor:
            try:
                finished = process.run(
                    [self.borg.program, "--log-json", f"--lock-wait={lock_wait:.0f}", *arguments],
                    env=environment(location, descriptor, local_time=local_time),
                    timeout=self.settings.timeout.total_seconds(),
                    cwd=cwd,
                    pass_fds=(descriptor, *self.pass_fds),
                    on_message=on_message,
                )
            except (OSError, process.TimeoutExpired) as error:
                raise RepositoryError(f"repository {self.name} {what_failed}: {error}") from error
        logger.debug("borg %s: %.2f s", arguments[0], time.monotonic() - started)
        return finished


def _below(path: str) -> str:
    """Give Borg's pattern for a path of an archive and all that is below it."""
    return f"pp:{path}"


def _refusal(entries: Iterable[FileDocument], paths: tuple[str, ...], free: int) -> str | None:
    """Say why what is in an archive is not to be extracted, if so."""
    needed = 0
    for entry in entries:
        if entry.strange is not None:
            return f"it holds {entry.strange}, which no run of ours stores: find out who did"
        if not paths or any(entry.path == path or entry.path.startswith(f"{path}/") for path in paths):
            needed += entry.size
    return None if needed <= free else f"it needs {needed // 1_000_000:,} MB, and {free // 1_000_000:,} MB are free"


def open_repository(name: str, settings: RepositorySettings, *, pass_fds: Iterable[int] = ()) -> Repository:
    """Get ready to talk to a repository; raises ConfigError without a passphrase, PreflightError without Borg."""
    if settings.passphrase is None:
        raise ConfigError(
            f"repository {name} has no passphrase: set BORG_PASSPHRASE, BORG_PASSCOMMAND or BORG_PASSPHRASE_FD, "
            f"or repositories.{name}.passphrase"
        )
    passphrase = reveal(settings.passphrase, f"passphrase of repository {name}")
    return Repository(name, settings, find_borg(), passphrase, tuple(pass_fds))


def local_directory(name: str, settings: RepositorySettings) -> Path | None:
    """Say where a local repository is; None for one on another host."""
    if _is_remote(settings.path):
        return None
    try:
        return Path(settings.path.removeprefix("file://")).expanduser().absolute()
    except FileNotFoundError:
        raise ConfigError(
            f"repository {name}: {settings.path} is relative to the current directory, which is gone: "
            "change to another one"
        ) from None


def _is_remote(path: str) -> bool:
    """Borg's rule: a scheme other than file, or host:path (Borg 1.4 documentation, Repository URLs)."""
    return not path.startswith("file://") and ("://" in path or ":" in path.partition("/")[0])
