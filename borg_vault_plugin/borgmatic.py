"""What borgmatic would prune, asked of borgmatic itself: it alone knows what its file includes, and what that means.

Its options become those of `borg prune` as borgmatic 2.1 makes them: every `keep_…`, and the filter that `prefix`,
`match_archives` or `archive_name_format` gives.
"""

from __future__ import annotations

import contextlib
import json
import re
import shlex
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from borg_vault_plugin import process
from borg_vault_plugin.borg import Pruning, pruning
from borg_vault_plugin.errors import ConfigError, PreflightError
from borg_vault_plugin.split import place_of

SECONDS = 120.0
EVERYTHING = ("*", "re:.*", "sh:*")
OF_THE_MOMENT = re.compile(r"\{(now|utcnow|pid)([:%\w.-]*)\}")
DEFAULT_NAMES = "{hostname}-{now:%Y-%m-%dT%H:%M:%S.%f}"
UNRESOLVED = re.compile(r"(?<!\\)\$\{")


def borgmatic_pruning(file: Path, repository: str) -> Pruning:
    """Say how borgmatic prunes the repository at a path, by one of its configuration files.

    Raises ConfigError when it does not know that repository or cannot read the file, PreflightError without borgmatic,
    UsageError for options of Borg's that are not known here.
    """
    configuration = _computed(file)
    for entry in configuration.get("repositories", []):
        path = str(entry.get("path", ""))
        if path == repository or place_of(path) == place_of(repository):
            return pruning(_words(configuration | entry, file))
    raise ConfigError(f"{file}: borgmatic has no repository {repository}: name it there, or the right file here")


def _computed(file: Path) -> dict[str, Any]:
    """Let borgmatic read its file, with whatever that includes."""
    # Without --dry-run it would run the file's hooks, of which we may be one.
    command: list[str | Path] = [
        _program(),
        "--config",
        file,
        "--no-environment-interpolation",
        "--dry-run",
        "config",
        "show",
        "--json",
    ]
    try:
        finished = process.run(command, env=process.plain_environment(), timeout=SECONDS)
    except (OSError, process.TimeoutExpired) as error:
        raise PreflightError(f"borgmatic cannot be asked what it prunes: {error}") from error
    # Its exit code says whether it found Borg and a passphrase, too, which are not needed for this.
    with contextlib.suppress(ValueError):
        for found in json.loads(finished.stdout):
            return dict(found)
    raise ConfigError(f"{file}: borgmatic cannot read it: run `borgmatic --config {file} config validate`")


def _program() -> Path:
    beside = Path(sys.executable).with_name("borgmatic")
    found = shutil.which("borgmatic") or (beside if beside.exists() else None)
    if found is None:
        raise PreflightError("borgmatic is not in PATH: add its directory, or give borg prune's options after --")
    return Path(found)


def _words(configuration: Mapping[str, Any], file: Path) -> list[str]:
    keep = {name: value for name, value in configuration.items() if name.startswith("keep_")}
    keep.pop("keep_exclude_tags", None)
    words = [f"--{name.replace('_', '-')}={value}" for name, value in keep.items()]
    selected = _filter(configuration)
    words += [] if selected is None else [f"--glob-archives={selected}"]
    for word in words:
        if UNRESOLVED.search(word):
            raise ConfigError(f"{file}: {word} depends on borgmatic's environment: write what it stands for")
    return words + shlex.split(configuration.get("extra_borg_options", {}).get("prune", ""))


def _filter(configuration: Mapping[str, Any]) -> str | None:
    """Give the names that borgmatic prunes, as Borg's pattern; None for all."""
    if configuration.get("prefix"):
        return f"{configuration['prefix']}*"
    selected = configuration.get("match_archives")
    if selected:
        return None if selected in EVERYTHING else str(selected).removeprefix("sh:")
    derived = OF_THE_MOMENT.sub("*", configuration.get("archive_name_format") or DEFAULT_NAMES)
    return None if derived == "*" else derived
