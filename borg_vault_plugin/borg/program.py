"""The borg program of this host, and the environment in which every call of it runs.

Modern exit codes, UTC, a UTF-8 locale, the passphrase over a descriptor, and "no" as the answer to every question about
unencrypted or relocated repositories.
"""

from __future__ import annotations

import base64
import contextlib
import functools
import hashlib
import os
import re
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from borg_vault_plugin import process
from borg_vault_plugin.errors import PreflightError

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
VERSION = re.compile(rb"borg (\d+)\.(\d+)\.(\S+)")
PROBE_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Borg:
    """The borg program of this host."""

    program: Path
    version: str


@functools.cache
def find_borg() -> Borg:
    """Find borg 1.4, beside this program's Python or in PATH. Raises PreflightError when there is none."""
    installed = _installed_here()
    if installed is not None:
        return installed
    found = []
    for candidate in (str(Path(sys.executable).with_name("borg")), shutil.which("borg")):
        if candidate is None or not os.access(candidate, os.X_OK):
            continue
        try:
            finished = process.run([candidate, "--version"], env=process.plain_environment(), timeout=PROBE_SECONDS)
        except (OSError, process.TimeoutExpired) as error:
            found.append(f"{candidate} (cannot be run: {error})")
            continue
        match = VERSION.search(finished.stdout)
        if match and (int(match[1]), int(match[2])) == (1, 4):
            return Borg(Path(candidate), match[0].decode().removeprefix("borg "))
        found.append(f"{candidate} ({finished.stdout.decode('utf-8', 'replace').strip() or 'says nothing'})")
    raise PreflightError(
        f"Borg 1.4 is needed, found {', '.join(found) or 'none'}: run pip install 'borg-vault-plugin[borg]'"
    )


def _installed_here() -> Borg | None:
    """Give the borg 1.4 that was installed with this program, when it is as it was installed.

    Its version is read, not asked for: to start Borg takes a quarter of a second.
    """
    program = Path(sys.executable).with_name("borg")
    try:
        installed = distribution("borgbackup")
        digest = base64.urlsafe_b64encode(hashlib.sha256(program.read_bytes()).digest()).rstrip(b"=").decode()
        scripts = [file.locate() for file in installed.files or () if file.hash and file.hash.value == digest]
        is_whole = any(program.samefile(script) for script in scripts)
    except (PackageNotFoundError, OSError):
        return None
    fits = is_whole and installed.version.startswith("1.4.") and os.access(program, os.X_OK)
    return Borg(program, installed.version) if fits else None


def environment(location: str, passphrase_descriptor: int, *, local_time: bool = False) -> dict[str, str]:
    """Build the environment of one call, for the repository at this location; its times are UTC, or this host's."""
    steering = {name: os.environ[name] for name in BORG_VARIABLES if name in os.environ}
    built = process.plain_environment(
        {"BORG_RSH": "ssh -oBatchMode=yes"}
        | steering
        | FIXED_VARIABLES
        | {"BORG_REPO": location, "BORG_PASSPHRASE_FD": str(passphrase_descriptor)}
    )
    if local_time:
        del built["TZ"]
        built |= {"TZ": os.environ["TZ"]} if "TZ" in os.environ else {}
    return built


@contextlib.contextmanager
def readable_once(secret: str) -> Iterator[int]:
    """Give a descriptor from which one child can read a secret: it is in no environment and on no command line."""
    reading, writing = os.pipe()
    try:
        with os.fdopen(writing, "wb") as stream:
            stream.write(secret.encode() + b"\n")
        yield reading
    finally:
        os.close(reading)
