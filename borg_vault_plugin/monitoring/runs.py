"""Runs as plugins hear of them, and what is remembered of each set's last one, for its figures."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import msgspec

from borg_vault_plugin.acceptance import still_open
from borg_vault_plugin.archive import Series, SetName
from borg_vault_plugin.config import Settings
from borg_vault_plugin.report import Attested, Backup, FilesBackup, Finding, Stored
from borg_vault_plugin.whole_file import write_whole

DIRECTORY = "last-runs"
NAMES = "@repositories.json"  # no label: it is no set's


@dataclass(frozen=True, slots=True)
class Begun:
    """A run that begins: of which set of which Server, and when. The label is empty where nothing tells it."""

    label: str
    set: SetName
    time: datetime


@dataclass(frozen=True, slots=True)
class Failed:
    """A run that came to no report: what the operator is told, and the exit code."""

    set: SetName
    error: str
    exit_code: int


Ended = Backup | FilesBackup | Attested | Failed


class Sizes(msgspec.Struct, frozen=True):
    """Bytes of the last archive in one repository; growth is the difference to the one before."""

    original: int
    compressed: int
    deduplicated: int
    growth: int | None = None


class LastRun(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How the last run of a set ended, and the numbers of the last one that made an archive."""

    time: datetime
    exit_code: int
    seconds: dict[str, float] = {}
    counts: dict[str, int] = {}
    findings: dict[str, int] = {}
    sizes: dict[str, Sizes] = {}
    """By the repository's name."""


def last_run(settings: Settings, series: Series) -> LastRun | None:
    """Give what is remembered of the last run; None when nothing is, or when it cannot be read."""
    try:
        return msgspec.json.decode(_path(settings, series).read_bytes(), type=LastRun)
    except (OSError, msgspec.DecodeError):
        return None


def remember_run(settings: Settings, series: Series, report: Ended, time: datetime) -> None:
    """Remember how a run ended; one that made no archive leaves the numbers as they were. Raises OSError."""
    path = _path(settings, series)
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    write_whole(path, msgspec.json.encode(_after(last_run(settings, series), report, time)))


def repository_ids(settings: Settings) -> dict[str, str]:
    """Give the ids of the repositories that archives were stored in, by their names."""
    try:
        return msgspec.json.decode((settings.state_directory / DIRECTORY / NAMES).read_bytes(), type=dict[str, str])
    except (OSError, msgspec.DecodeError):
        return {}


def remember_ids(settings: Settings, ids: Mapping[str, str]) -> None:
    """Remember ids of repositories by their names. Raises OSError."""
    known = repository_ids(settings)
    if known | dict(ids) != known:
        place = settings.state_directory / DIRECTORY
        place.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_whole(place / NAMES, msgspec.json.encode(known | dict(ids)))


def _path(settings: Settings, series: Series) -> Path:
    return settings.state_directory / DIRECTORY / f"{series.prefix}.json"


def _after(before: LastRun | None, report: Ended, time: datetime) -> LastRun:
    before = before or LastRun(time=time, exit_code=0)
    if isinstance(report, Attested | Failed):
        return msgspec.structs.replace(before, time=time, exit_code=report.exit_code)
    stored = [one for one in report.repositories if one.status == "stored"]
    return LastRun(
        time=time,
        exit_code=report.exit_code,
        seconds=report.seconds,
        counts=report.counts if isinstance(report, Backup) else {},
        findings=dict(Counter(finding.code for finding in still_open(tuple(_findings(report))))),
        sizes=before.sizes | {one.repository: _sizes(one, before.sizes.get(one.repository)) for one in stored},
    )


def _findings(report: Backup | FilesBackup) -> Iterator[Finding]:
    if isinstance(report, Backup):
        yield from report.chain.findings
        yield from report.continuity.findings
    for pruned in report.pruned:
        yield from pruned.refused or ()


def _sizes(stored: Stored, before: Sizes | None) -> Sizes:
    original = stored.original_size or 0
    growth = None if before is None else original - before.original
    return Sizes(original, stored.compressed_size or 0, stored.deduplicated_size or 0, growth)
