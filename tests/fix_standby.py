"""A hot standby of a throwaway cluster, for what behaves differently on one."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from pathlib import Path

from borg_vault_plugin.cluster import Cluster, empty_cluster
from borg_vault_plugin.process import run


@contextlib.contextmanager
def standby_of(primary: Cluster, *, settings: Mapping[str, str] | None = None) -> Iterator[Cluster]:
    """Run a hot standby that streams from `primary` over its socket; it has the same roles, password and account."""
    with empty_cluster(primary.distribution, primary.account, primary.password) as standby:
        options = ["--write-recovery-conf", "--checkpoint=fast", "--no-sync"]
        command = primary.account.command(primary.programs / "pg_basebackup", "--pgdata", standby.data, *options)
        # The password by value, because pg_basebackup writes the connection it used into the standby's settings.
        done = run(command, env=primary.environment() | {"PGPASSWORD": primary.password}, timeout=120, cwd=Path("/"))
        assert done.returncode == 0, done.last_words()
        standby.configure({"hot_standby": "on"} | dict(settings or {}))
        standby.start()
        yield standby
