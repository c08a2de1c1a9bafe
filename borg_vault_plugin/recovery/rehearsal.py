"""`drill`: which archive is rehearsed and where, what it is held against, and what is kept of the result."""

from __future__ import annotations

import contextlib
import secrets
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from borg_vault_plugin.acceptance import Word, word_of
from borg_vault_plugin.borg import Inventory
from borg_vault_plugin.chain.source import NotCheckedError
from borg_vault_plugin.config import Settings
from borg_vault_plugin.confirmed import recognised
from borg_vault_plugin.errors import PreflightError, RepositoryAwayError, RepositoryError, UsageError
from borg_vault_plugin.evidence.drill import PastDrill, drill_page
from borg_vault_plugin.evidence.page import write_page
from borg_vault_plugin.history import Event, History
from borg_vault_plugin.lookup import LATEST, Stored, find_archive, good_archives, scratch_place
from borg_vault_plugin.predecessor import Evidence, Predecessors, find_predecessors
from borg_vault_plugin.progress import Progress, unseen
from borg_vault_plugin.recovery.destination import server_named
from borg_vault_plugin.recovery.drill import Extraction, NamedServer, Rehearsal, drill
from borg_vault_plugin.recovery.drill_evidence import drill_evidence
from borg_vault_plugin.recovery.drill_report import Drill, DrillVerdict
from borg_vault_plugin.report import as_json
from borg_vault_plugin.sealed_set import open_set
from borg_vault_plugin.stopwatch import seconds_since

Pick = Literal["latest", "oldest", "random"]


@dataclass(frozen=True, slots=True)
class Request:
    """Which archive to drill and where; evidence goes to a directory if one is named."""

    archive: str | None = None
    pick: Pick = "latest"
    directory: Path | None = None
    """A set that somebody else extracted."""
    target: str | None = None
    """A server that the operator names, as `restore --to` takes it; a throwaway one without it."""
    evidence: Path | None = None


@dataclass(frozen=True, slots=True)
class Chosen:
    """What is drilled, and what it must extend."""

    extraction: Extraction
    predecessors: Predecessors
    stored: Stored | None = None


def rehearse(settings: Settings, request: Request, progress: Progress = unseen) -> Drill:
    """Drill an archive, or a set in a directory, remember the result, and write the evidence.

    Raises UsageError, RepositoryError, PreflightError, SourceError as `drill` does.
    """
    if request.directory is not None and (request.archive is not None or not request.directory.is_dir()):
        raise UsageError(f"--from takes a directory with an extracted set, and no archive: {request.directory}")
    if request.evidence is not None:
        _make(request.evidence)
    history = settings.history()
    word = word_of(history, settings.series()) if request.directory is None else Word()
    with _chosen(settings, request, word) as chosen:
        rehearsal = Rehearsal(
            staging=settings.staging_parent,
            anchors=settings.trust_anchors,
            accepted=word.accepted,
            predecessors=chosen.predecessors,
            server=_server(settings, request),
            progress=progress,
        )
        done = drill(chosen.extraction, rehearsal)
    event = _event(done, chosen.stored)
    past = past_drills(history)
    history.append(event)
    if request.evidence is not None:
        write_evidence(request.evidence, done, event, past)
    return done


def past_drills(history: History) -> tuple[PastDrill, ...]:
    """Give the drills that history knows, those of other hosts among them."""
    verdicts: dict[str | None, DrillVerdict] = {"passed": "passed", "failed": "failed", "not_checked": "not_checked"}
    return tuple(
        PastDrill(event.time, event.archive, verdicts[event.verdict], event.rpo_seconds, event.rto_seconds)
        for event in history.events()
        if event.event == "drilled" and event.verdict in verdicts
    )


def write_evidence(directory: Path, done: Drill, event: Event, past: tuple[PastDrill, ...]) -> None:
    """Write what a drill has to show: its document, a page, and the line that `history add` takes in elsewhere."""
    write_page(directory / "drill.json", as_json(done) + "\n")
    write_page(directory / "history.ndjson", event.line().decode())
    write_page(directory / "drill.html", drill_page(drill_evidence(done, past)))


def _make(directory: Path) -> None:
    """Have a directory for the evidence before anything takes long. Raises PreflightError."""
    try:
        directory.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=directory):
            pass
    except OSError as error:
        raise PreflightError(f"{directory} cannot be written: {error.strerror}: choose another place") from error


@contextlib.contextmanager
def _chosen(settings: Settings, request: Request, word: Word) -> Iterator[Chosen]:
    if request.directory is not None:
        yield Chosen(Extraction(_name(request.directory), request.directory), Predecessors())
        return
    stored = _picked(settings, request)
    with scratch_place(settings, stored) as scratch:
        directory, private = scratch / "set", scratch / "before"
        directory.mkdir(mode=0o700)
        private.mkdir(mode=0o700)
        begun, problem = time.monotonic(), None
        try:
            stored.extract(directory)
        except RepositoryAwayError:
            raise
        except RepositoryError as error:
            problem = str(error)
        extraction = Extraction(stored.archive.name, directory, seconds_since(begun), problem, stored.archive)
        yield Chosen(extraction, _before(settings, stored, private, word), stored)


def _picked(settings: Settings, request: Request) -> Stored:
    if request.archive is not None:
        return find_archive(settings, request.archive)
    if request.pick == LATEST:
        return find_archive(settings, LATEST)
    good = good_archives(settings)
    return secrets.choice(good) if request.pick == "random" else good[0]


def _before(settings: Settings, stored: Stored, private: Path, word: Word) -> Predecessors:
    """Find the good archive before this one, in the same repository; one that cannot be read is a reason."""
    try:
        inventory = recognised(stored.repository.inventory(), settings.history())
    except RepositoryError as error:
        return Predecessors(reasons=(str(error),))
    older = tuple(archive for archive in inventory.archives if archive.time < stored.archive.time)
    looked_into = [(stored.repository, Inventory(inventory.repository_id, older))]
    rewound = word.rewind is not None and stored.archive.time <= word.rewind.time
    heard = replace(word, rewind=None) if rewound else word
    evidence = Evidence(settings.evidence_directory)
    return find_predecessors(looked_into, settings.series(), evidence, private, heard)


def _server(settings: Settings, request: Request) -> NamedServer | None:
    if request.target is None:
        return None
    return NamedServer(server_named(settings, request.target), f"borg_vault_drill_{secrets.token_hex(6)}")


def _name(directory: Path) -> str:
    try:
        return open_set(directory).manifest.archive
    except NotCheckedError:  # the drill says so itself
        return str(directory)


def _event(done: Drill, stored: Stored | None) -> Event:
    return Event(
        time=done.time,
        event="drilled",
        archive=done.archive,
        repository="" if stored is None else stored.repository_id,
        archive_id=None if stored is None else stored.archive.id,
        verdict=done.verdict,
        rpo_seconds=done.rpo_seconds,
        rto_seconds=done.rto_seconds,
    )
