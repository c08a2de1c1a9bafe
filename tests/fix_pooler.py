"""A real PgBouncer before a cluster, in a mode that the test says."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from fix_port import free_port, until_it_listens
from fix_vault import Vault

PGBOUNCER = shutil.which("pgbouncer", path=f"{os.environ.get('PATH', os.defpath)}:/usr/sbin")
SECONDS = 30.0


@contextlib.contextmanager
def pooler_before(vault: Vault, mode: str) -> Iterator[str]:
    """Run a pooler in this mode and give the URL that leads through it."""
    if PGBOUNCER is None:
        pytest.skip("no pgbouncer here: apt-get install pgbouncer")
    account, port = vault.cluster.account, free_port()
    with tempfile.TemporaryDirectory(prefix="pooler-", dir="/tmp") as name:
        place = Path(name)
        account.let_through(place)
        server = f"host={vault.cluster.socket_directory} port={vault.cluster.port} dbname={vault.database}"
        lines = [
            "[databases]",
            f"pooled = {server} user={vault.cluster.user} password={vault.cluster.password}",
            "[pgbouncer]",
            f"listen_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\nauth_type = any\npool_mode = {mode}",
        ]
        configuration = place / "pgbouncer.ini"
        configuration.write_text("\n".join(lines) + "\n", "utf-8")
        account.give(configuration)
        log = place / "log"
        with log.open("wb") as stream:
            command = account.command(PGBOUNCER, configuration)
            pooler = subprocess.Popen(command, stdout=stream, stderr=stream, cwd="/", start_new_session=True)
        try:
            until_it_listens(pooler, port, log)
            yield f"postgresql://{vault.cluster.user}@127.0.0.1:{port}/pooled"
        finally:
            pooler.terminate()
            pooler.wait(SECONDS)
