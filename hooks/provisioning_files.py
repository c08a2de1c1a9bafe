"""provisioning/: the config-as-code files, as they lie in their directory."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

from borg_vault_plugin import Artifact, Staging, files_below, hookimpl


@hookimpl
def collect_provisioning(directory: Path, staging: Staging) -> Iterator[Artifact]:
    """Store every file below the directory."""
    for found in files_below(directory):
        with staging.write(f"provisioning/{found.relative}") as file, found.path.open("rb") as source:
            shutil.copyfileobj(source, file)
        yield file.artifact()
