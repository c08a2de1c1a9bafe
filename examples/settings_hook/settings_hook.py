"""server-settings.csv: how the database server was configured at the moment of the backup.

A worked example of a third-party hook. Install it beside borg-vault and name it in the configuration:

    pip install ./examples/settings_hook

    plugins = ["server-settings"]
"""

from __future__ import annotations

from collections.abc import Iterator

from borg_vault_plugin import Artifact, Snapshot, Staging, hookimpl

QUERY = b"""COPY (SELECT name, setting, unit, source FROM pg_settings
 WHERE source NOT IN ('default', 'session', 'client') ORDER BY name) TO STDOUT (FORMAT csv, HEADER)"""


@hookimpl
def collect_artifacts(snapshot: Snapshot, staging: Staging) -> Iterator[Artifact]:
    """Write one more artifact: the settings that differ from PostgreSQL's defaults."""
    with (
        staging.write("server-settings.csv") as csv,
        snapshot.connection() as connection,
        connection.cursor() as cursor,
        cursor.copy(QUERY) as copy,
    ):
        for line in copy:
            csv.write(bytes(line))
    yield csv.artifact()
