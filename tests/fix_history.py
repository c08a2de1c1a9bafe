"""Whole nights: a Server, a repository, and one good night behind them that is made once and copied for each test.

The next nights are the test's own. A database is a copy of the one that the good night backed up.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fix_cli import COMMAND, SECONDS, RunCli
from fix_damage import Ledger, ledger
from fix_repository import PASSPHRASE, PlainRepository
from fix_vault import Vault

from borg_vault_plugin.process import plain_environment
from borg_vault_plugin.sample import Rows, SampleVault
from borg_vault_plugin.sample.database import copy_rows

LABEL = 'label = "prod"\n'
WriteConfig = Callable[[str], Path]


@dataclass(frozen=True, slots=True)
class GoodNight:
    """What a good night left behind: a repository, what this host remembers, and the document of `create --json`."""

    repository: Path
    state: Path
    document: Any


@dataclass(frozen=True, slots=True)
class Server:
    """A Server with a good night behind it; `name` is that of the archive."""

    vault: Vault
    repository: PlainRepository
    first: Any
    run: RunCli

    @property
    def name(self) -> str:
        """The good archive's name."""
        return str(self.first["archive"])

    def night(self, *words: object, exit_code: int = 0, warning: str | None = None) -> Any:
        """Back up once more and give the document."""
        return self.run("create", "--json", *words, exit_code=exit_code, warning=warning).document

    def ledger(self) -> Ledger:
        """Give the rows of the vault as the sample has them, to be damaged."""
        return ledger(self.vault.sample)

    def damage(self, *damages: Callable[[Ledger], object]) -> None:
        """Damage the vault in the database, below everything that keeps an honest Server from doing so."""
        rows = self.ledger()
        for damage in damages:
            damage(rows)
        replace_rows(self.vault, rows.rows)

    def mend(self) -> None:
        """Bring the vault in the database back to what it was."""
        self.put(self.ledger())

    def roll_back(self) -> None:
        """Bring the database back to the state of the good night."""
        self.put(ledger(SampleVault(self.vault.sample.plan.shape)))

    def put(self, vault: Ledger) -> None:
        """Put other rows in the place of the vault's."""
        replace_rows(self.vault, vault.rows)

    def grow(self, **day: Any) -> None:
        """Let a day pass."""
        with self.vault.connect() as connection:
            self.vault.sample.grow(connection, **day)

    def good_archives(self) -> dict[str, str]:
        """Give the ids of the archives that are called good, by their names."""
        archives = self.repository.archives()
        return {one["name"]: one["id"] for one in archives if one["comment"].startswith("verdict=good ")}


def replace_rows(vault: Vault, rows: Rows) -> None:
    """Put other rows into the audit tables; a superuser can."""
    with vault.connect() as connection, connection.transaction():
        connection.execute("SET LOCAL session_replication_role = replica")
        for name in rows.tables():
            connection.execute(f"DELETE FROM public.{name}".encode())
        copy_rows(connection, vault.sample.plan, rows)


def found(document: Any) -> list[str]:
    """Give the codes of all findings in a document of `create`, those of continuity last."""
    return [one["code"] for one in (*document["chain"]["findings"], *document["continuity"]["findings"])]


def backed_up(vault: Vault, place: Path) -> Any:
    """Run the installed command with an environment of its own."""
    config = place / "config.toml"
    config.write_text(LABEL, "utf-8")
    config.chmod(0o600)
    own = {
        "DATABASE_URL": vault.url,
        "BORG_REPO": str(place / "repository"),
        "BORG_PASSPHRASE": PASSPHRASE,
        "BORG_BASE_DIR": str(place / "borg"),
        "BORG_VAULT_CONFIG": str(config),
        "XDG_STATE_HOME": str(place / "state"),
    }
    command = [str(COMMAND), "create", "--json", "--no-prune"]
    done = subprocess.run(
        command, env=plain_environment(own), check=False, capture_output=True, text=True, timeout=SECONDS
    )
    assert (done.returncode, done.stderr) == (0, "")
    return json.loads(done.stdout)


@contextlib.contextmanager
def forgotten(state: Path) -> Iterator[None]:
    """Take what this host keeps of earlier archives away for a while."""
    kept, elsewhere = state / "evidence", state / "elsewhere"
    kept.rename(elsewhere)
    yield
    shutil.rmtree(kept, ignore_errors=True)
    elsewhere.rename(kept)
