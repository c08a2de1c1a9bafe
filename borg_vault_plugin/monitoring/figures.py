"""All that can be measured, from history and the last run of each set; names and units as Prometheus has them.

Every figure has the label `label`, the Server's, so that several Servers can share one node_exporter.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from borg_vault_plugin.archive import Series, SetName, time_of
from borg_vault_plugin.config import Settings
from borg_vault_plugin.history import Event
from borg_vault_plugin.monitoring.runs import LastRun, last_run, repository_ids

PREFIX = "borg_vault_"
# By name without the prefix: what it says, and its labels beside `label`. README has the same table.
METRICS: dict[str, tuple[str, tuple[str, ...]]] = {
    "last_success_timestamp_seconds": ("Instant of the last good archive", ("set", "repository")),
    "last_attest_success_timestamp_seconds": ("When the keys were last attested to be in their place", ("set",)),
    "last_verify_success_timestamp_seconds": ("When an archive was last verified and passed", ("set", "repository")),
    "last_drill_success_timestamp_seconds": ("When a drill last passed", ("set", "repository")),
    "last_check_success_timestamp_seconds": ("When a repository last passed Borg's check", ("repository",)),
    "last_run_timestamp_seconds": ("When the last run ended, well or not", ("set",)),
    "last_run_exit_code": ("The exit code of the last run", ("set",)),
    "max_age_seconds": ("How old the last good archive, or attestation, may be", ("set",)),
    "up_to_date": ("Whether it was no older when this was written: 1 or 0", ("set",)),
    "phase_duration_seconds": ("How long each phase of the last run took", ("set", "phase")),
    "archive_original_bytes": ("Size of the last archive", ("set", "repository")),
    "archive_compressed_bytes": ("The same, compressed", ("set", "repository")),
    "archive_deduplicated_bytes": ("What the last archive added to its repository", ("set", "repository")),
    "archive_growth_bytes": ("How much larger the last archive is than the one before", ("set", "repository")),
    "entries": ("Rows of each of the vault's tables in the last archive", ("set", "table")),
    "findings": ("Findings of the last run that nobody has accepted, by code", ("set", "code")),
    "drill_rpo_seconds": ("Of the last drill: the work that a restore would have lost", ("set",)),
    "drill_rto_seconds": ("Of the last drill: how long the recovery took", ("set",)),
}


@dataclass(frozen=True, slots=True)
class Figure:
    """One number: its metric's name without the prefix, its labels, and its value."""

    name: str
    labels: Mapping[str, str]
    value: float


@dataclass(frozen=True, slots=True)
class Sight:
    """What is known of one set of this Server."""

    settings: Settings
    series: Series
    events: Sequence[Event]
    names: Mapping[str, str]
    """The names of repositories by their ids."""
    run: LastRun | None
    now: datetime

    def figure(self, name: str, value: float, **labels: str) -> Figure:
        """Make a figure of this set."""
        return Figure(name, {"label": self.series.label, "set": self.series.set_name, **labels}, value)


def figures(settings: Settings, now: datetime) -> tuple[Figure, ...]:
    """Give every figure of every configured set. Raises ConfigError."""
    events = tuple(settings.history().events())
    found: list[Figure] = []
    for set_name in settings.sets.configured:
        found += _of_set(_sight(settings, set_name, events, now))
    return (*found, *_checks(settings, events))


def _sight(settings: Settings, set_name: SetName, events: Sequence[Event], now: datetime) -> Sight:
    series = settings.series(set_name)
    run = last_run(settings, series)
    return Sight(settings, series, events, _names(settings, events), run, now)


def _names(settings: Settings, events: Sequence[Event]) -> dict[str, str]:
    """Name repositories by their ids, by what history tells and what the last runs have seen."""
    told = {event.archive: event.repository for event in events if event.event in ("checked", "key_exported")}
    return {repository: name for name, repository in (told | repository_ids(settings)).items()}


def _of_set(sight: Sight) -> Iterator[Figure]:
    good, attested = _last_good(sight), _last_attested(sight)
    yield from _timestamps(sight, "last_success", good)
    if attested is not None:
        yield sight.figure("last_attest_success_timestamp_seconds", attested.timestamp())
    for verb, event in (("verify", "verified"), ("drill", "drilled")):
        yield from _timestamps(sight, f"last_{verb}_success", _last_passed(sight, event))
    yield from _age(sight, max((*good.values(), *((attested,) if attested else ())), default=None))
    if sight.run is not None:
        yield from _of_run(sight, sight.run)
    drills = [one for one in _events(sight, "drilled") if one.rpo_seconds is not None]
    if drills:
        last = max(drills, key=lambda one: one.time)
        yield sight.figure("drill_rpo_seconds", last.rpo_seconds or 0.0)
        if last.rto_seconds is not None:
            yield sight.figure("drill_rto_seconds", last.rto_seconds)


def _age(sight: Sight, last: datetime | None) -> Iterator[Figure]:
    """Say whether the set is up to date, but not on a host that only drills and knows nothing of the nights."""
    if sight.series.set_name == "database" and last is None and sight.run is None:
        return
    longest = sight.settings.sets.rule(sight.series.set_name).max_age
    yield sight.figure("max_age_seconds", longest.total_seconds())
    yield sight.figure("up_to_date", float(last is not None and sight.now - last <= longest))


def _of_run(sight: Sight, run: LastRun) -> Iterator[Figure]:
    yield sight.figure("last_run_timestamp_seconds", run.time.timestamp())
    yield sight.figure("last_run_exit_code", run.exit_code)
    for phase, seconds in run.seconds.items():
        yield sight.figure("phase_duration_seconds", seconds, phase=phase)
    for repository, sizes in run.sizes.items():
        yield sight.figure("archive_original_bytes", sizes.original, repository=repository)
        yield sight.figure("archive_compressed_bytes", sizes.compressed, repository=repository)
        yield sight.figure("archive_deduplicated_bytes", sizes.deduplicated, repository=repository)
        if sizes.growth is not None:
            yield sight.figure("archive_growth_bytes", sizes.growth, repository=repository)
    for table, rows in run.counts.items():
        yield sight.figure("entries", rows, table=table)
    for code, count in run.findings.items():
        yield sight.figure("findings", count, code=code)


def _timestamps(sight: Sight, name: str, last: Mapping[str, datetime]) -> Iterator[Figure]:
    for repository, time in last.items():
        yield sight.figure(f"{name}_timestamp_seconds", time.timestamp(), repository=repository)


def _last_good(sight: Sight) -> dict[str, datetime]:
    """Give the instant of the last good archive by its repository, whether or not retention has removed it since."""
    good = (one for one in _events(sight, "created", "confirmed") if one.verdict == "good")
    return _last(sight, ((one.repository, time_of(one.holds or one.archive)) for one in good))


def _last_passed(sight: Sight, happening: str) -> dict[str, datetime]:
    passed = (one for one in _events(sight, happening) if one.verdict == "passed")
    return _last(sight, ((one.repository, one.time) for one in passed))


def _last_attested(sight: Sight) -> datetime | None:
    ours = (one for one in sight.events if one.event == "attested" and one.archive == sight.series.prefix)
    return max((one.time for one in ours), default=None)


def _last(sight: Sight, times: Iterator[tuple[str, datetime]]) -> dict[str, datetime]:
    """Give the last time by the repository's name; of those that are not known by name, the last of all."""
    last: dict[str, datetime] = {}
    for repository, time in times:
        name = sight.names.get(repository, "")
        last[name] = max(time, last.get(name, time))
    return {name: time for name, time in last.items() if not name or name in sight.settings.repositories}


def _events(sight: Sight, *happenings: str) -> Iterator[Event]:
    """Give the events of this set's archives, whatever the archives are called where others made them."""
    held = {one.archive_id: one.holds for one in sight.events if one.event == "confirmed" and one.archive_id}
    for event in sight.events:
        title = held.get(event.archive_id or "") or event.holds or event.archive
        if event.event in happenings and sight.series.owns(title):
            yield event


def _checks(settings: Settings, events: Sequence[Event]) -> Iterator[Figure]:
    passed = (one for one in events if one.event == "checked" and one.verdict == "passed")
    label = settings.series().label
    for name, time in {one.archive: one.time for one in passed}.items():
        if name in settings.repositories:
            labels = {"label": label, "repository": name}
            yield Figure("last_check_success_timestamp_seconds", labels, time.timestamp())
