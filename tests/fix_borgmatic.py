"""borgmatic as an operator has it, with the example's configuration: a Server, two repositories, and real nights.

The first night is made once; `site` is a test's own copy of what it left behind.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from fix_cli import COMMAND, Said, checked
from fix_repository import PASSPHRASE, PlainRepository

from borg_vault_plugin.history import Event, History
from borg_vault_plugin.process import plain_environment

EXAMPLE = Path(__file__).parent.parent / "examples" / "borgmatic"
BORGMATIC = Path(sys.executable).with_name("borgmatic")
NAMES = ("nas", "offsite")
SECONDS = 300.0
# borgmatic's spot check hashes with a program of this name, which is in Debian's package xxhash.
XXH64SUM = """#!{python}
import sys
from pathlib import Path
from borg.algorithms.checksums import xxh64
for path in sys.argv[1:]:
    print(f"{{xxh64(Path(path).read_bytes()).hex()}}  {{path}}")
"""


@dataclass(frozen=True, slots=True)
class Site:
    """A directory with all that borgmatic and borg-vault need: configuration, repositories, the staged set, state."""

    place: Path

    @property
    def staged(self) -> Path:
        """The directory with the staged set."""
        return self.place / "set"

    def repository(self, name: str) -> PlainRepository:
        """Give one of the two repositories."""
        return PlainRepository(self.place / name, self.place / "plain-borg")

    def names(self) -> dict[str, list[str]]:
        """Give the archives of both repositories."""
        return {name: self.repository(name).names() for name in NAMES}

    def events(self, happening: str) -> list[Event]:
        """Give what happened of one kind, oldest first."""
        history = History(self.place / "state" / "history.ndjson")
        return [event for event in history.events() if event.event == happening]

    def alarm(self) -> str:
        """Give what the error hook was told."""
        path = self.place / "alarm"
        return path.read_text("utf-8") if path.exists() else ""

    def change(self, *changes: tuple[str, str], file: str = "vault.yaml") -> None:
        """Replace parts of a configuration; each must be there."""
        path = self.place / file
        text = path.read_text("utf-8")
        for old, new in changes:
            assert old in text, old
            text = text.replace(old, new)
        path.write_text(text, "utf-8")

    def environment(self) -> Mapping[str, str]:
        """Give what the programs run in; those of the project are found first."""
        own = {
            "PATH": f"{self.place / 'bin'}:{COMMAND.parent}:{os.environ['PATH']}",
            "HOME": str(self.place),
            "XDG_CONFIG_HOME": str(self.place / "xdg"),
            "XDG_CACHE_HOME": str(self.place / "xdg"),
            "BORG_BASE_DIR": str(self.place / "borg"),
            "BORG_VAULT_CONFIG": str(self.place / "config.toml"),
        }
        return plain_environment(own)

    def borgmatic(self, *words: object, exit_code: int) -> Said:
        """Run borgmatic with the site's configuration; a success writes nothing to standard error."""
        command = [BORGMATIC, "--config", self.place / "vault.yaml", *words]
        return self.run(*command, exit_code=exit_code)

    def vault(self, *words: object, exit_code: int) -> Said:
        """Run borg-vault as a hook does."""
        return self.run(COMMAND, *words, exit_code=exit_code)

    def run(self, *command: object, exit_code: int) -> Said:
        """Run a program."""
        done = subprocess.run(
            [str(word) for word in command],
            check=False,
            capture_output=True,
            text=True,
            timeout=SECONDS,
            env=self.environment(),
            cwd=self.place,
        )
        return checked(Said(done.stdout, done.stderr), done.returncode, exit_code)


def installed(place: Path, url: str) -> Site:
    """Install the example at a place of its own, for a Server at this URL and two empty repositories."""
    for name, text in {"database-url": url, "passphrase": PASSPHRASE}.items():
        (place / name).write_text(text, "utf-8")
        (place / name).chmod(0o600)
    (place / "bin").mkdir()
    for file in ("vault.yaml", "config.toml"):
        shutil.copyfile(EXAMPLE / file, place / file)
        (place / file).chmod(0o600)
    site = Site(place)
    everywhere = (
        ("ssh://backup@nas/./vault.borg", str(place / "nas")),
        ("ssh://backup@offsite/./vault.borg", str(place / "offsite")),
        ("/etc/borg-vault/passphrase", str(place / "passphrase")),
    )
    site.change(
        *everywhere,
        ("/var/lib/borg-vault/set", str(site.staged)),
        ("lock_wait: 600", "lock_wait: 1"),
        ("retries: 2", "retries: 0"),
        ("retry_wait: 60", "retry_wait: 0"),
        ("logger -t borg-vault -p daemon.err", f"cat >> {place}/alarm"),
    )
    site.change(
        *everywhere,
        ('state_directory = "/var/lib/borg-vault"', f'state_directory = "{place}/state"'),
        ("/etc/borg-vault/database-url", str(place / "database-url")),
        ('passphrase" }', 'passphrase" }\nlock_wait = "5s"'),
        file="config.toml",
    )
    return site


def xxh64sum(program: Path) -> Path:
    """Write the program with which borgmatic's spot check hashes."""
    program.write_text(XXH64SUM.format(python=sys.executable), "utf-8")
    program.chmod(0o755)
    return program


def moved(site: Site, place: Path) -> Site:
    """Copy a site to another place."""
    shutil.copytree(site.place, place, dirs_exist_ok=True, ignore=shutil.ignore_patterns("borg", "plain-borg"))
    copy = Site(place)
    for file in ("vault.yaml", "config.toml"):
        copy.change((str(site.place), str(place)), file=file)
    return copy
