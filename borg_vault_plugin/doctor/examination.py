"""The whole examination: what is probed, on what, in which order, and what becomes of it when something is missing."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import cast

from borg_vault_plugin import preflight
from borg_vault_plugin.archive import Series
from borg_vault_plugin.borg import find_borg
from borg_vault_plugin.config import Settings, load_settings, search_path
from borg_vault_plugin.database import Source
from borg_vault_plugin.doctor import configuration, host, repositories, source, standing
from borg_vault_plugin.doctor.checks import Check, Diagnosis, diagnosis, not_checked, refused
from borg_vault_plugin.doctor.probes import probed
from borg_vault_plugin.doctor.repositories import Inventories
from borg_vault_plugin.errors import ConfigError, Error
from borg_vault_plugin.preflight import Estimate
from borg_vault_plugin.secret import reveal
from borg_vault_plugin.side_by_side import side_by_side
from borg_vault_plugin.status import Look

# A run may wait for an answer for hours, and for a connection half a minute; nobody waits so long for a diagnosis.
ANSWER, CONNECT_SECONDS = timedelta(seconds=20), "10"
ALL_TOGETHER = timedelta(minutes=30)  # every probe has its own time; this only bounds them all

SOURCE_PROBES: Mapping[str, Callable[[Source], Iterator[Check]]] = {
    "clients": source.clients,
    "rights": source.rights,
    "vault": source.vault,
    "timeouts": source.timeouts,
    "limits": source.limits,
    "connections": source.connections,
    "standby": source.standby,
    "leftovers": source.drill_databases,
}


@dataclass(slots=True)
class Known:
    """What the database told that other probes build upon; None where it did not."""

    source: Source | None = None
    major: int | None = None
    estimate: Estimate | None = None


def diagnose(named: Path | None, environment: Mapping[str, str]) -> Diagnosis:
    """Look at everything that tonight's run and the bad day need; what cannot be looked at is a row, and no error."""
    try:
        settings = load_settings(named, environment)
    except ConfigError as error:
        unusable = refused("configuration.unusable", str(named or "configuration"), error)
        return diagnosis((unusable, not_checked("everything else", "", "there is no configuration to go by")))
    file = named or next((path for path in search_path(environment) if path.exists()), None)
    return diagnosis(tuple(examine(settings, file)))


def examine(settings: Settings, file: Path | None) -> Iterator[Check]:
    """Give all rows: of the configuration, the database, this host, the repositories, and of what is stored there."""
    yield from _said(settings, file)
    yield from probed("borg", "this host", repositories.borg, weight="borg.none")
    if configuration.names_nothing(settings, file):
        yield not_checked("everything else", "", "nothing is named that could be looked at")
        return
    known = Known()
    yield from _database(settings, known)
    inventories: Inventories = {}
    _read_descriptors(settings)
    tasks: dict[str, Callable[[], object]] = {"": partial(_here, settings, known)}
    tasks |= {name: partial(_repository, settings, name, known, inventories) for name in _examined(settings)}
    for rows in side_by_side(tasks, timeout=ALL_TOGETHER, abandon=lambda: None).values():
        yield from cast(list[Check], rows)
    yield from _ages(settings, inventories)


def _said(settings: Settings, file: Path | None) -> Iterator[Check]:
    """Look at what the operator has said."""
    place, probe = str(file or "the environment"), partial(configuration.configuration, settings, file)
    yield from probed("configuration", place, probe, weight="label.unusable")
    yield from probed("secrets", "references", partial(configuration.secrets, settings))
    yield from probed("split", "keys and database", partial(configuration.split, settings))
    yield from probed("plugin", "all", partial(configuration.plugin, settings))
    yield from probed("anchors", "signatures", partial(configuration.anchors, settings))
    yield from probed("set", "all", partial(configuration.sets, settings))
    yield from probed("provisioning", "its directory", partial(configuration.provisioning, settings))
    yield from probed("keys", "files and commands", partial(configuration.keys, settings))


def _database(settings: Settings, known: Known) -> Iterator[Check]:
    """Look at the database; when it cannot be reached, or not by sessions of our own, nothing else is asked."""
    if "database" not in configuration.backed_up(settings):
        yield not_checked("server", "the database", "none is named: this host backs up other sets")
        return
    reached = probed("server", "the database", partial(_server, settings, known), weight="server.unreachable")
    yield from reached
    why = "the database could not be asked"
    if known.source is not None and reached[-1].state == "ok":
        address = known.source.address
        yield from probed("clock", address, partial(source.clock, known.source))
        between = probed("pooler", address, partial(source.pooler, known.source))
        yield from between
        if between[-1].state != "failed":
            yield from _asked(settings, known, known.source)
            return
        why = "nothing is asked through a pooler that mixes sessions"
    for name in SOURCE_PROBES:
        yield not_checked(name, reached[-1].subject, why)


def _server(settings: Settings, known: Known) -> Iterator[Check]:
    known.source = _impatient(settings.source())
    yield from source.server(known.source)


def _asked(settings: Settings, known: Known, asked: Source) -> Iterator[Check]:
    """Ask a database that can be asked."""
    _ask(asked, known, dumps=settings.database.dumps)
    for name, probe in SOURCE_PROBES.items():
        if name != "clients" or settings.database.dumps:
            yield from probed(name, asked.address, partial(probe, asked))


def _ask(asked: Source, known: Known, *, dumps: bool) -> None:
    """Ask what other probes build upon; an error here shows in the rows of those that fail alike."""

    def ask() -> Iterator[Check]:
        with source.prepared_session(asked) as connection:
            known.major = connection.info.server_version // 10000
            known.estimate = preflight.estimate_of(connection, dumps=dumps)
        yield from ()

    probed("estimate", asked.address, ask)


def _here(settings: Settings, known: Known) -> list[Check]:
    """Look at this host."""
    rows = probed("account", "this user", host.account)
    rows += probed("state", str(settings.state_directory), partial(host.state_directory, settings))
    staging = str(settings.staging_parent)
    rows += probed("staging", staging, partial(host.staging_directory, settings, known.estimate))
    try:
        series: Series = settings.series()
    except Error:
        series = Series("unknown", "database")
    rows += probed("run", series.prefix, partial(host.run_lock, settings, series))
    rows += probed("leftovers", series.prefix, partial(host.leftovers, settings, series))
    rows += probed("drill", "this host", partial(host.drill_ground, settings, known.major, known.estimate))
    return rows


def _repository(settings: Settings, name: str, known: Known, inventories: Inventories) -> list[Check]:
    """Look at one repository."""
    rows = probed("lock", name, partial(repositories.lock, settings, name))
    rows += probed(
        "repository", name, partial(repositories.repository, settings, name, inventories), weight="repository.unusable"
    )
    inventory = inventories.get(name, "it was not looked into")
    rows += probed("repository", name, partial(repositories.writable, settings, name))
    rows += probed("room", name, partial(repositories.room, settings, name, inventory, known.estimate))
    rows += probed("leftovers", name, partial(repositories.leftovers, settings, name, inventory))
    rows += probed("split", name, partial(repositories.apart, settings, name, inventory))
    rows += probed("retention", name, partial(repositories.rules, settings, name))
    return rows


def _ages(settings: Settings, inventories: Inventories) -> Iterator[Check]:
    """Look at how old everything is."""
    looked_into = {name: inventories.get(name, "it was not looked into") for name in settings.repositories}
    looks: list[Look] = []
    path = str(settings.history().path)
    yield from probed("history", path, partial(standing.look, settings, looked_into, looks), weight="state.unusable")
    if not looks:
        yield not_checked("backup", "all sets", "history cannot be read")
        return
    look = looks[0]
    for set_name in configuration.backed_up(settings):
        yield from probed("backup", set_name, partial(standing.age, look, set_name))
        if set_name == "database":
            yield from probed("drill", "database", partial(standing.drilled, look))
    for name in _examined(settings):
        yield from probed("key", name, partial(standing.key, look, name))
        yield from probed("check", name, partial(standing.checked, look, name))


def _examined(settings: Settings) -> tuple[str, ...]:
    """Name the repositories to look into: without Borg there is nothing to look with."""
    try:
        find_borg()
    except Error:
        return ()
    return tuple(settings.repositories)


def _impatient(asked: Source) -> Source:
    return replace(asked, parameters={"connect_timeout": CONNECT_SECONDS, **asked.parameters}, timeout=ANSWER)


def _read_descriptors(settings: Settings) -> None:
    """Read passphrases that can be read only once, before several threads want them."""
    for name, repository in settings.repositories.items():
        if repository.passphrase is not None and repository.passphrase.descriptor is not None:
            with contextlib.suppress(Error):  # which stands in the repository's row
                reveal(repository.passphrase, f"passphrase of repository {name}")
