"""Who is measured: each keeps a night in its own way, and brings the newest one back.

All that use Borg use the same encryption and compression, those that `borg-vault` takes by default; each has a
repository and a cache of its own. Each is given a fresh database of the vault's name to restore to.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import msgspec

from bench.vaults import NAME, Source
from borg_vault_plugin.borg import find_borg
from borg_vault_plugin.chain.ranges import processors
from borg_vault_plugin.process import plain_environment, run
from borg_vault_plugin.sections import RepositorySettings

ENCRYPTION = "repokey"
COMPRESSION: str = RepositorySettings.model_fields["compression"].default
PASSPHRASE = "measured"
SETUP_SECONDS = 120.0
SCRIPT, FLOOR, BORGMATIC, BORGMATIC_0, OURS = (
    "shell script",
    "floor",
    "borgmatic",
    "borgmatic, compression 0",
    "borg-vault",
)
REGISTRY = "COPY (SELECT * FROM vault_signing_keys) TO STDOUT WITH CSV HEADER"
# What an auditor's file holds at least; in order, since verifiers read chain after chain.
CHAIN = r"""COPY (SELECT row_to_json(x) FROM (
SELECT id, record_id, coalesce(record_id::text, 'schema:' || coalesce(payload->>'orgId', '__platform__')) AS chain_key,
       entry_type, payload, payload_hash, previous_hash, chain_position,
       replace(encode(cose_sign1, 'base64'), E'\n', '') AS cose_sign1, signing_key_id, actor_key_id, actor_role,
       actor_owner_id, actor_oidc_iss, actor_oidc_sub, actor_oidc_synthesized, created_at
  FROM audit_vault v ORDER BY v.record_id, v.chain_position, v.id) x) TO STDOUT"""


@dataclass(frozen=True, slots=True)
class Step:
    """One command of a contender, and how its output tells of phases within."""

    name: str
    command: tuple[str | Path, ...]
    env: Mapping[str, str]
    phases: Callable[[bytes], dict[str, float]] | None = None


class Contender(Protocol):
    """Somebody's way to keep a night."""

    @property
    def name(self) -> str:
        """What it is called."""

    @property
    def work(self) -> Path:
        """Where its commands run, and what lies there is temporary."""

    @property
    def stored(self) -> Path:
        """Where its nights are kept."""

    def prepare(self) -> None:
        """Set up what an operator sets up once."""

    def night(self, number: int) -> list[Step]:
        """Give the commands that keep a night."""

    def restore(self) -> list[Step]:
        """Give the commands that bring the newest night back to the fresh server."""


@dataclass(frozen=True)
class Place:
    """A contender's own directory, and the servers it works with."""

    directory: Path
    source: Source

    @property
    def work(self) -> Path:
        """Where commands run."""
        return self.directory / "work"

    @property
    def repository(self) -> Path:
        """Where a Borg repository is."""
        return self.directory / "repository"

    def environment(self, postgres: Mapping[str, str] | None = None) -> dict[str, str]:
        """Build the environment of a command; `postgres` says which server its clients find."""
        borg = {
            "BORG_BASE_DIR": str(self.directory / "borg"),
            "BORG_REPO": str(self.repository),
            "BORG_PASSPHRASE": PASSPHRASE,
            "TMPDIR": str(self.work),
            "HOME": str(self.directory),
            "TZ": "UTC",
        }
        return plain_environment(dict(postgres or {}) | borg)

    def make(self) -> None:
        """Make the directories."""
        self.work.mkdir(parents=True)

    def make_repository(self) -> None:
        """Make a Borg repository."""
        self.run(find_borg().program, "init", f"--encryption={ENCRYPTION}")

    def run(self, *command: str | Path) -> None:
        """Run a command that is not measured; raises RuntimeError when it fails."""
        done = run(command, env=self.environment(), timeout=SETUP_SECONDS, cwd=self.work)
        if done.returncode:
            raise RuntimeError(f"{command[0]}: {done.last_words()}")

    def write(self, name: str, text: str) -> Path:
        """Write a configuration or secret that only we can read."""
        path = self.directory / name
        path.write_text(text)
        path.chmod(0o600)
        return path


@dataclass(frozen=True)
class ShellScript(Place):
    """`pg_dump -Fc` and the registry as CSV, packed by `tar -czf`."""

    name: str = SCRIPT

    @property
    def stored(self) -> Path:
        """Where its tarballs are."""
        return self.directory / "tarballs"

    def prepare(self) -> None:
        """Make the directory of the tarballs."""
        self.make()
        self.stored.mkdir()

    def night(self, number: int) -> list[Step]:
        """Dump, then pack."""
        dump = f'{self.source.program("pg_dump")} -Fc -f db.dump && {self.source.program("psql")} -qXc "$0" >keys.csv'
        return [
            Step("dump", ("sh", "-c", dump, REGISTRY), self.environment(self.source.environment)),
            Step("tar", ("tar", "-czf", self._tarball(number), "db.dump", "keys.csv"), self.environment()),
        ]

    def restore(self) -> list[Step]:
        """Unpack, then restore."""
        newest = max(self.stored.iterdir(), key=lambda path: path.name)
        return [
            Step("unpack", ("tar", "-xzf", newest), self.environment()),
            pg_restore(self, jobs=1),
        ]

    def _tarball(self, number: int) -> Path:
        return self.stored / f"{number:04}.tar.gz"


@dataclass(frozen=True)
class Floor(Place):
    """The least that must be done: an uncompressed dump, beside it the chain by one COPY, one plain `borg create`."""

    name: str = FLOOR

    @property
    def stored(self) -> Path:
        """Where Borg keeps its segments."""
        return self.repository / "data"

    def prepare(self) -> None:
        """Make the repository."""
        self.make()
        self.make_repository()

    def night(self, number: int) -> list[Step]:
        """Dump with the chain beside it, then store."""
        psql, pg_dump = self.source.program("psql"), self.source.program("pg_dump")
        dump = f'{psql} -qXc "$0" >chain.ndjson & copy=$!; {pg_dump} -Fc -Z0 -f db.dump && wait $copy'
        create = ("create", f"--compression={COMPRESSION}", f"::{number:04}", "db.dump", "chain.ndjson")
        return [
            Step("dump and chain", ("sh", "-c", dump, CHAIN), self.environment(self.source.environment)),
            Step("store", (find_borg().program, *create), self.environment()),
        ]

    def restore(self) -> list[Step]:
        """Extract the newest archive, then restore on all processors."""
        done = run(
            [find_borg().program, "list", "--short", "--last=1"], env=self.environment(), timeout=SETUP_SECONDS
        ).stdout.decode()
        return [
            Step("extract", (find_borg().program, "extract", f"::{done.strip()}"), self.environment()),
            pg_restore(self, jobs=processors()),
        ]


@dataclass(frozen=True)
class Borgmatic(Place):
    """borgmatic's PostgreSQL hook with `format: custom`: the dump alone, streamed into `borg create`."""

    name: str = BORGMATIC
    compression: int | None = None

    @property
    def stored(self) -> Path:
        """Where Borg keeps its segments."""
        return self.repository / "data"

    def prepare(self) -> None:
        """Make the repository, and write the configuration."""
        self.make()
        self.make_repository()
        # Where the server is stands in the environment: a socket's directory as `hostname` would become part of the
        # path of the dump's pipe, and borgmatic 2.1 fails.
        hook: dict[str, str | int] = {"name": NAME, "format": "custom"} | (
            {} if self.compression is None else {"compression": self.compression}
        )
        commands: dict[str, str | int] = {
            f"{name}_command": str(self.source.program(name)) for name in ("pg_dump", "pg_restore", "psql")
        }
        self.write("borgmatic.yaml", msgspec.json.encode(self._configuration(hook | commands)).decode())

    def night(self, number: int) -> list[Step]:  # noqa: ARG002 - it names archives by the time
        """Let borgmatic dump and store at once."""
        return [Step("create", (*self._borgmatic(), "create"), self.environment(self.source.environment))]

    def restore(self) -> list[Step]:
        """Let borgmatic restore."""
        environment = self.environment(self.source.fresh.environment(NAME))
        return [Step("restore", (*self._borgmatic(), "restore", "--archive", "latest"), environment)]

    def _borgmatic(self) -> tuple[str | Path, ...]:
        return (beside_python("borgmatic"), "--config", self.directory / "borgmatic.yaml")

    def _configuration(self, hook: Mapping[str, object]) -> dict[str, object]:
        """Build the configuration, as JSON, which is YAML."""
        return {
            "repositories": [{"path": str(self.repository)}],
            "local_path": str(find_borg().program),
            "compression": COMPRESSION,
            "encryption_passphrase": PASSPHRASE,
            "user_runtime_directory": str(self.directory),
            "user_state_directory": str(self.directory),
            "postgresql_databases": [hook],
        }


@dataclass(frozen=True)
class BorgVault(Place):
    """`borg-vault create`, everything included."""

    name: str = OURS

    @property
    def stored(self) -> Path:
        """Where Borg keeps its segments."""
        return self.repository / "data"

    def prepare(self) -> None:
        """Write the configuration, and let `init` make the repository."""
        self.make()
        self.write("url", self.source.cluster.url(NAME))
        self.write("fresh-url", self.source.fresh.url(NAME))
        self.write("passphrase", PASSPHRASE)
        self.write("config.toml", CONFIGURATION.format(place=self.directory))
        self.run(*self.program(), "init", f"--encryption={ENCRYPTION}")

    def program(self) -> tuple[str | Path, ...]:
        """Give the words that begin every call."""
        return (beside_python("borg-vault"), "--config", self.directory / "config.toml")

    def step(self, name: str, *words: str | Path, phases: Callable[[bytes], dict[str, float]] | None = None) -> Step:
        """Give a call of the program."""
        return Step(name, (*self.program(), *words), self.environment(), phases)

    def night(self, number: int) -> list[Step]:  # noqa: ARG002 - it names archives by the time
        """Let the program do all of it."""
        return [self.step("create", "create", "--json", phases=phases_of_create)]

    def restore(self) -> list[Step]:
        """Restore and prove."""
        return [self.step("restore", "restore", "--to", "fresh", "--json", phases=phases_of_checks)]


CONFIGURATION = """\
label = "{place.name}"
state_directory = "{place}/state"
staging_directory = "{place}/work"
[database]
url = {{ file = "{place}/url" }}
[repositories.local]
path = "{place}/repository"
passphrase = {{ file = "{place}/passphrase" }}
[targets.fresh]
url = {{ file = "{place}/fresh-url" }}
"""


class CreateDocument(msgspec.Struct, frozen=True):
    """What is read of `create --json`."""

    seconds: dict[str, float]


class CheckSeconds(msgspec.Struct, frozen=True):
    """How long one check took."""

    name: str
    seconds: float


class ChecksDocument(msgspec.Struct, frozen=True):
    """What is read of `restore --json` and `drill --json`."""

    checks: list[CheckSeconds]
    phases: dict[str, float] = {}


def phases_of_create(output: bytes) -> dict[str, float]:
    """Read the phases of `create --json`; looking into the repository and the source comes before the first."""
    seconds = msgspec.json.decode(output, type=CreateDocument).seconds
    total = seconds.pop("total")
    return {"look": total - sum(seconds.values())} | seconds


def phases_of_checks(output: bytes) -> dict[str, float]:
    """Read the checks of a restore or a drill, and the phases that are no checks."""
    document = msgspec.json.decode(output, type=ChecksDocument)
    return document.phases | {check.name: check.seconds for check in document.checks if check.seconds}


def pg_restore(place: Place, *, jobs: int) -> Step:
    """Restore db.dump to the fresh server."""
    words = (place.source.program("pg_restore"), f"--jobs={jobs}", f"--dbname={NAME}", "--exit-on-error", "db.dump")
    return Step("pg_restore", words, place.environment(place.source.fresh.environment(NAME)))


def beside_python(name: str) -> Path:
    """Give a program that was installed beside this Python."""
    return Path(sys.executable).with_name(name)


def contenders(directory: Path, source: Source) -> list[Contender]:
    """Give all contenders that are here, each with an empty directory of its own."""
    found: list[Contender] = [ShellScript(directory / "script", source), Floor(directory / "floor", source)]
    if beside_python("borgmatic").exists():
        found += [
            Borgmatic(directory / "borgmatic", source),
            Borgmatic(directory / "borgmatic-0", source, BORGMATIC_0, compression=0),
        ]
    return [*found, BorgVault(directory / "borg-vault", source)]


def tidy(contender: Contender) -> None:
    """Empty the working directory, as whoever calls a script does afterwards."""
    shutil.rmtree(contender.work)
    contender.work.mkdir()
