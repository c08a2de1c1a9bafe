"""provider-snapshot.json: which snapshot of its provider holds the database, in place of db.dump.

The operator's command takes the snapshot, or names one that was just taken, and prints its identity as one JSON object:
`provider`, `id` and `created` (RFC 3339, with its zone), and whatever else helps to find it, such as `arn` or `lsn`.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

from borg_vault_plugin import Artifact, Snapshot, SourceError, Staging, export_properties, hookimpl, output_of

COMMAND = "PROVIDER_SNAPSHOT_COMMAND"
COMMAND_SECONDS = 2 * 3600.0
DEMANDED = ("provider", "id", "created")
# Between the provider's instant and ours the Server goes on writing; what is older is another night's.
OLDEST, SKEW = timedelta(hours=1), timedelta(minutes=10)


@hookimpl
def collect_artifacts(snapshot: Snapshot, staging: Staging) -> Iterator[Artifact]:
    """Ask for the snapshot and record its identity; beside it, what a dump would leave out."""
    command = os.environ.get(COMMAND)
    if not command:
        raise SourceError(f"no command is named: set {COMMAND} to what takes a snapshot and prints its identity")
    yield from export_properties(snapshot, staging)
    output = output_of(command, "the command for a snapshot", seconds=COMMAND_SECONDS, kept=snapshot.keeping)
    identity = identity_in(output)
    refuse_other_nights(identity, snapshot.facts.time)
    with staging.write("provider-snapshot.json") as file:
        file.write((json.dumps(identity, indent=2, sort_keys=True) + "\n").encode())
        file.database_in = "{provider} snapshot {id}, created {created}".format(**identity)
    yield file.artifact()


def identity_in(output: bytes) -> dict[str, str]:
    """Read what the command printed: one JSON object of texts. Raises SourceError."""
    try:
        found = json.loads(output)
    except ValueError as error:
        raise SourceError(f"the command for a snapshot printed no JSON: {error}") from error
    if not isinstance(found, dict) or not all(
        isinstance(value, str) and value.isprintable() for value in found.values()
    ):
        raise SourceError("the command for a snapshot printed something else than one JSON object of texts")
    missing = [name for name in DEMANDED if not found.get(name)]
    if missing:
        raise SourceError(f"the snapshot has no {', '.join(missing)}: the command must print what identifies it")
    return found


def refuse_other_nights(identity: dict[str, str], ours: datetime) -> None:
    """Raise SourceError for a snapshot that is older than this run, or from the future."""
    try:
        created = datetime.fromisoformat(identity["created"])
    except ValueError as error:
        raise SourceError(f"the snapshot's time cannot be read: {error}") from error
    if created.tzinfo is None:
        raise SourceError(f"the snapshot's time, {identity['created']}, has no zone: print it as RFC 3339 has it")
    if not ours - OLDEST <= created <= datetime.now(UTC) + SKEW:
        raise SourceError(
            f"snapshot {identity['id']} was created at {identity['created']}, and this run is of"
            f" {ours:%Y-%m-%dT%H:%M:%SZ}: the command must print the snapshot of this run"
        )
