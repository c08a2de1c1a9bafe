"""What we ask of Borg: the arguments of its commands, and what an operator may add to them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from borg_vault_plugin.archive import TIME_FORMAT

# Measured on nightly dumps and NDJSON of a vault: 64 KiB chunks store a third to a half of what 2 MiB ones do.
CHUNKER_PARAMETERS = "buzhash,12,20,16,4095"
# Options of `borg create` that may follow `--`, with the number of words that each takes. All others could
# change what is stored or how it is named.
PASSED_ON = dict.fromkeys(
    ("-C", "--compression", "--chunker-params", "-c", "--checkpoint-interval", "--lock-wait", "--remote-path", "--rsh",
     "--upload-ratelimit", "--upload-buffer", "--files-cache", "--umask"), 1,
) | dict.fromkeys(
    ("--no-cache-sync", "--noacls", "--noatime", "--atime", "--noctime", "--nobirthtime", "--noflags", "--noxattrs",
     "--numeric-ids", "--stats", "--list", "--show-rc", "--debug", "--verbose", "--info", "-v"), 0,
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Storing:
    """One `borg create`: the archive's name, time and comment, and the paths below `directory`."""

    name: str
    time: datetime
    comment: str
    directory: Path
    paths: tuple[str, ...]
    options: tuple[str, ...] = ()


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
