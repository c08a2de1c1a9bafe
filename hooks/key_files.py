"""keys/: the customer-held encryption keys and the Server's .env, from files or from a command."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from borg_vault_plugin import Artifact, FoundFile, SourceError, Staging, files_below, hookimpl, output_of


@hookimpl
def collect_keys(paths: Sequence[Path], command: str | None, staging: Staging) -> Iterator[Artifact]:
    """Store the named files, everything below the named directories, and what the command prints."""
    for name, found in _files(paths):
        with staging.write(f"keys/{name}") as file, found.path.open("rb") as source:
            shutil.copyfileobj(source, file)
        yield file.artifact()
    if command is not None:
        output = output_of(command, "the command of the keys")
        if not output.strip():
            raise SourceError(f"the command of the keys, {command!r}, prints nothing: run it by hand")
        with staging.write("keys/command-output") as file:
            file.write(output)
        yield file.artifact()


def _files(paths: Sequence[Path]) -> Iterator[tuple[str, FoundFile]]:
    """Give every file with its name below keys/: the last part of a path or, where two end alike, all of it."""
    endings = Counter(path.name for path in paths)
    for path in paths:
        name = path.name if endings[path.name] == 1 else str(path.absolute()).lstrip("/")
        if path.is_dir():
            yield from ((f"{name}/{found.relative}", found) for found in files_below(path))
        elif path.is_file():
            yield name, FoundFile(path.name, path)
        else:
            raise SourceError(f"{path} is no file: mend sets.keys.paths")
