"""What an operator sees when something fails: one line, what it was, what to do; never a traceback, never a secret."""

from __future__ import annotations

import inspect
import os
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest
from fix_cli import RunCli, RunCommand
from fix_plugin import InstallPlugin
from fix_repository import PASSPHRASE, PlainRepository, announce, initialised
from fix_vault import Vault, copied, role, url_of

from borg_vault_plugin import errors
from borg_vault_plugin.borg import find_borg
from borg_vault_plugin.cluster import Cluster
from borg_vault_plugin.lock import run_lock
from borg_vault_plugin.sample import SampleVault

pytest_plugins = ("fix_server",)

WriteConfig = Callable[[str], Path]

# The contract with scripts: what each code means to them never changes.
CODES = {
    0: "ok",
    1: "a bug",
    2: "usage",
    3: "configuration",
    4: "the source or a hook",
    5: "a repository",
    6: "locked by another run",
    7: "preflight",
    10: "verification failed",
    11: "could not verify",
    12: "retention safety",
    13: "stale",
    130: "SIGINT",
    143: "SIGTERM",
}
CODES_OF_ERRORS = {
    "UsageError": 2,
    "ConfigError": 3,
    "SourceError": 4,
    "ContendedError": 4,
    "RepositoryError": 5,
    "RepositoryAwayError": 5,
    "RepositoryLockedError": 5,
    "LockedError": 6,
    "PreflightError": 7,
    "RefusedError": 12,
}
SECRET = "hunter2-do-not-tell"


def test_every_exit_code_has_its_meaning_for_ever() -> None:
    assert list(errors.EXIT_CODES) == list(CODES)
    for code, words in CODES.items():
        assert words in errors.EXIT_CODES[code]
    assert 75 not in errors.EXIT_CODES


def test_every_error_has_its_exit_code_for_ever() -> None:
    classes = {
        name: found.exit_code
        for name, found in inspect.getmembers(errors, inspect.isclass)
        if issubclass(found, errors.Error) and found is not errors.Error
    }
    assert classes == CODES_OF_ERRORS


@pytest.mark.parametrize(
    ("codes", "code"), [([], 0), ([0, 0], 0), ([0, 5], 5), ([12, 10, 5], 5), ([11, 4], 4), ([10, 0, 11], 10)]
)
def test_of_several_codes_the_smallest_wins(codes: list[int], code: int) -> None:
    assert errors.smallest_exit_code(codes) == code


@dataclass
class World:
    """A Server and all around it, in which a case breaks one thing."""

    server: Vault
    repository: PlainRepository
    place: Path
    patch: pytest.MonkeyPatch
    configure: WriteConfig
    install: InstallPlugin
    stack: ExitStack

    def url(self, url: str) -> None:
        """Let the program use another URL."""
        self.patch.setenv("DATABASE_URL", url)

    def repository_path(self, path: object) -> None:
        """Let the program use another repository."""
        self.patch.setenv("BORG_REPO", str(path))

    def hook(self, body: str) -> None:
        """Install a hook that does this, and name it in the configuration."""
        self.install(f"@hookimpl\ndef collect_artifacts(snapshot, staging):\n    {body}\n")
        self.configure('plugins = ["badge"]\n[database]\ntimeout = "1s"\n')


@pytest.fixture(scope="module")
def shared_server(latest_cluster: Cluster, latest_template: SampleVault) -> Iterator[Vault]:
    """One Server for all cases: what a case changes, it changes back."""
    with copied(latest_cluster, "v2", latest_template) as vault:
        yield vault


@pytest.fixture
def world(
    shared_server: Vault,
    repository: PlainRepository,
    monkeypatch: pytest.MonkeyPatch,
    write_config: WriteConfig,
    install_plugin: InstallPlugin,
) -> Iterator[World]:
    """The world, whole."""
    announce(monkeypatch, shared_server, repository)
    with ExitStack() as stack:
        yield World(shared_server, repository, repository.path.parent, monkeypatch, write_config, install_plugin, stack)


@dataclass(frozen=True)
class Case:
    """What is broken, what is run then, how it ends, and words that must be in its one line."""

    breaking: Callable[[World], object]
    command: str
    exit_code: int
    words: tuple[str, ...]


def server_is_down(world: World) -> None:
    world.url(f"postgresql://app:{SECRET}@/app?host={world.place}")


def nobody_listens(world: World) -> None:
    world.url(f"postgresql://app:{SECRET}@127.0.0.1:1/app")


def host_does_not_resolve(world: World) -> None:
    world.url(f"postgresql://app:{SECRET}@no-such-host.invalid/app")


def password_is_wrong(world: World) -> None:
    world.url(world.server.url.replace(world.server.cluster.password, SECRET))


def no_password(world: World) -> None:
    world.url(world.server.url.replace(f":{world.server.cluster.password}@", "@"))


def no_such_database(world: World) -> None:
    world.url(world.server.cluster.url("no-such-database"))


def no_such_role(world: World) -> None:
    world.url(url_of(world.server, "no-such-role"))


def not_a_server(world: World) -> None:
    world.url(world.server.cluster.url("postgres"))


def one_table_is_forbidden(world: World) -> None:
    name = world.stack.enter_context(role(world.server, grant=False))
    world.server.execute(
        f"GRANT USAGE ON SCHEMA public, pgboss TO {name}",
        f"GRANT SELECT ON ALL TABLES IN SCHEMA public, pgboss TO {name}",
        f"GRANT SELECT ON ALL SEQUENCES IN SCHEMA public TO {name}",
        f"REVOKE SELECT ON org_admin_reads FROM {name}",
    )
    world.url(url_of(world.server, name))


def a_policy_hides_rows(world: World) -> None:
    name = world.stack.enter_context(role(world.server))
    world.server.execute("ALTER TABLE records ENABLE ROW LEVEL SECURITY", "CREATE POLICY few ON records USING (false)")
    world.stack.callback(
        world.server.execute, "DROP POLICY few ON records", "ALTER TABLE records DISABLE ROW LEVEL SECURITY"
    )
    world.url(url_of(world.server, name))


def a_migration_holds_a_table(world: World) -> None:
    migration = world.stack.enter_context(world.server.connect())
    world.stack.enter_context(migration.transaction(force_rollback=True))
    migration.execute("LOCK TABLE vault_checkpoints IN ACCESS EXCLUSIVE MODE")
    world.configure('[database]\nlock_timeout = "1s"')


def repository_is_missing(world: World) -> None:
    world.repository_path(world.place / "nowhere")


def repository_is_locked(world: World) -> None:
    command = [str(find_borg().program), "with-lock", "::", "sleep", "600"]
    holder = world.stack.enter_context(subprocess.Popen(command, env=world.repository.environment()))
    world.stack.callback(holder.terminate)
    deadline = time.monotonic() + 30
    while not (world.repository.path / "lock.exclusive").exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    world.configure(f"[repositories.nas]\npath = '{world.repository.path}'\nlock_wait = '1s'")


def passphrase_is_wrong(world: World) -> None:
    world.patch.setenv("BORG_PASSPHRASE", SECRET)


def passphrase_is_missing(world: World) -> None:
    world.patch.delenv("BORG_PASSPHRASE")


def passphrase_command_fails(world: World) -> None:
    world.patch.delenv("BORG_PASSPHRASE")
    world.patch.setenv("BORG_PASSCOMMAND", f"sh -c 'echo {SECRET[:4]}\"\"{SECRET[4:]}; exit 3'")


def repository_is_not_encrypted(world: World) -> None:
    bare = initialised(world.place / "bare", world.place / "bare-base", encryption="none")
    world.repository_path(bare.path)


def repository_was_moved(world: World) -> None:
    found = world.repository.path
    command = [str(find_borg().program), "list"]
    own = {"BORG_BASE_DIR": os.environ["BORG_BASE_DIR"]}
    subprocess.run(command, env={**world.repository.environment(), **own}, check=True, timeout=60)
    world.repository_path(found.rename(world.place / "moved"))


def key_file_is_elsewhere(world: World) -> None:
    other = initialised(world.place / "other", world.place / "other-base", encryption="keyfile")
    world.repository_path(other.path)


def no_repository_is_there(world: World) -> None:
    (world.place / "pictures").mkdir()
    (world.place / "pictures" / "holiday.jpg").write_bytes(b"x")
    world.repository_path(world.place / "pictures")


def a_file_is_there(world: World) -> None:
    (world.place / "file").write_bytes(b"x")
    world.repository_path(world.place / "file")


def repository_is_of_a_newer_format(world: World) -> None:
    config = world.repository.path / "config"
    config.write_text(config.read_text("utf-8").replace("version = 1", "version = 2"), "utf-8")


def its_configuration_is_empty(world: World) -> None:
    (world.repository.path / "config").write_bytes(b"")


def repository_host_does_not_resolve(world: World) -> None:
    world.repository_path("ssh://backup@no-such-host.invalid/./vault.borg")


def another_run_is_busy(world: World) -> None:
    world.stack.enter_context(run_lock(world.place / "xdg_state_home" / "borg-vault", world.server.database))


def others_may_write_the_configuration(world: World) -> None:
    world.configure("label = 'prod'").chmod(0o666)


def a_setting_is_unknown(world: World) -> None:
    world.configure("[database]\ntable_digest = true")


def the_configuration_is_torn(world: World) -> None:
    world.configure(f"[repositories.nas]\npassphrase = '{SECRET}")


def a_secret_stands_in_the_configuration(world: World) -> None:
    world.configure(f"[repositories.nas]\npath = '/x'\npassphrase = '{SECRET}'")


def a_password_stands_in_the_configuration(world: World) -> None:
    world.configure(f"[database]\nurl = 'postgresql://app:{SECRET}@/app'")


def a_plugin_ends_the_program(world: World) -> None:
    world.install("import sys\nsys.exit(0)")
    world.configure('plugins = ["badge"]')


def a_plugin_fails_in_two_lines(world: World) -> None:
    world.install("raise ValueError('first\\nsecond')")
    world.configure('plugins = ["badge"]')


def a_verifying_plugin_ends_the_program(world: World) -> None:
    world.install("import sys\n@hookimpl\ndef verify_staging(staging):\n    sys.exit(75)\n")
    world.configure('plugins = ["badge"]')


WRITE = "with staging.write({path!r}) as file: file.write(b'x')\n    return [file.artifact()]"
NO_HOST = "no-such-host.invalid"

CASES = {
    # the source
    "the server is down": Case(server_is_down, "create", 4, ("database app on ", "start the server")),
    "nobody listens": Case(nobody_listens, "create", 4, ("database app on 127.0.0.1:1", "start the server")),
    "the host does not resolve": Case(host_does_not_resolve, "create", 4, (NO_HOST, "mend the host's name")),
    "the password is wrong": Case(password_is_wrong, "create", 4, ("password authentication failed", "give the right")),
    "there is no password": Case(no_password, "create", 4, ("no password supplied", "give the password in")),
    "there is no such database": Case(no_such_database, "create", 4, ('"no-such-database" does not exist', "mend")),
    "there is no such role": Case(no_such_role, "create", 4, ("no-such-role",)),
    "the database is no Server's": Case(not_a_server, "create", 4, ("public.",)),
    "one table is forbidden": Case(
        one_table_is_forbidden, "create", 7, ("public.org_admin_reads (no SELECT)", "grant")
    ),
    "one table of a chain dump is forbidden": Case(
        one_table_is_forbidden,
        "dump-chain chain",
        4,
        ("table public.org_admin_reads: permission denied", "grant SELECT"),
    ),
    "a policy hides rows": Case(a_policy_hides_rows, "create", 7, ("public.records (row-level security)", "BYPASSRLS")),
    "a migration holds a table": Case(
        a_migration_holds_a_table, "create", 4, ("table public.vault_checkpoints: ", "raise database.lock_timeout")
    ),
    "a migration holds a table of a chain dump": Case(
        a_migration_holds_a_table, "dump-chain chain", 4, ("table public.vault_checkpoints: ", "database.lock_timeout")
    ),
    # the repository
    "the repository is missing": Case(repository_is_missing, "prune", 5, ("/nowhere", "borg-vault init")),
    "the repository of a backup is missing": Case(repository_is_missing, "create", 5, ("/nowhere", "borg-vault init")),
    "the repository is locked": Case(
        repository_is_locked, "prune", 5, ("repository nas", "another Borg holds its lock")
    ),
    "the passphrase is wrong": Case(passphrase_is_wrong, "create", 5, ("/repository", "give the right passphrase")),
    "there is no passphrase": Case(passphrase_is_missing, "create", 3, ("repository default", "set BORG_PASSPHRASE")),
    "the passphrase's command fails": Case(passphrase_command_fails, "list", 3, ("exit code 3", "run it by hand")),
    "the repository is not encrypted": Case(
        repository_is_not_encrypted, "create", 7, ("not encrypted", "borg-vault init")
    ),
    "the repository was moved": Case(repository_was_moved, "list", 5, ("/moved", "it was moved")),
    "the key file is elsewhere": Case(key_file_is_elsewhere, "list", 5, ("/other", "borg key import")),
    "no repository is there": Case(no_repository_is_there, "list", 5, ("/pictures", "mend its path")),
    "a file is there": Case(a_file_is_there, "list", 5, ("/file", "mend its path")),
    "the repository is of a newer format": Case(
        repository_is_of_a_newer_format, "list", 5, ("/repository", "newer Borg")
    ),
    "the repository's configuration is empty": Case(its_configuration_is_empty, "prune", 5, ("/repository", "mend")),
    "the repository's host does not resolve": Case(repository_host_does_not_resolve, "list", 5, (NO_HOST, "ssh")),
    # this host
    "another run is busy": Case(another_run_is_busy, "create", 6, (f"process {os.getpid()} since", "wait for it")),
    "others may write the configuration": Case(
        others_may_write_the_configuration, "create", 3, ("borg-vault.toml", "chmod")
    ),
    "a setting is unknown": Case(
        a_setting_is_unknown, "create", 3, ("database.table_digest is not a setting", "remove")
    ),
    "the configuration is torn": Case(the_configuration_is_torn, "create", 3, ("borg-vault.toml cannot be read",)),
    "a secret stands in the configuration": Case(
        a_secret_stands_in_the_configuration, "create", 3, ("repositories.nas.passphrase", "not the secret itself")
    ),
    "a password stands in the configuration": Case(
        a_password_stands_in_the_configuration, "create", 3, ("a URL with a password", 'url = { env = "DATABASE_URL" }')
    ),
    "the passphrase is not UTF-8": Case(
        lambda world: world.patch.setenv("BORG_PASSPHRASE", f"{SECRET}\udcff"), "list", 3, ("BORG_PASSPHRASE", "UTF-8")
    ),
    "the URL is not UTF-8": Case(
        lambda world: world.url(f"postgresql://a:{SECRET}\udcff@/app"), "create", 3, ("DATABASE_URL", "UTF-8")
    ),
    "the repository's path is not UTF-8": Case(
        lambda world: world.repository_path("/x\udcff"), "list", 3, ("BORG_REPO",)
    ),
    # hooks
    "a hook raises": Case(
        lambda world: world.hook("raise RuntimeError('first\\nsecond')"), "create", 4, ("hook badge", "first second")
    ),
    "a hook hangs": Case(
        lambda world: world.hook("import time; time.sleep(3); return []"), "create", 4, ("badge", "database.timeout")
    ),
    "a hook writes nothing": Case(
        lambda world: world.hook("return []"), "create", 4, ("hook badge", "wrote nothing", "must not be configured")
    ),
    "a hook writes outside of staging": Case(
        lambda world: world.hook(WRITE.format(path="../../x")), "create", 4, ("hook badge", "'../../x'", "stay inside")
    ),
    "a hook ends the program": Case(lambda world: world.hook("raise SystemExit(0)"), "create", 4, ("hook badge",)),
    "a plugin ends the program": Case(a_plugin_ends_the_program, "create", 3, ("plugin badge cannot be loaded",)),
    "a plugin fails in two lines": Case(a_plugin_fails_in_two_lines, "create", 3, ("plugin badge", "first second")),
    "a verifying plugin ends the program": Case(a_verifying_plugin_ends_the_program, "create", 4, ("hook badge",)),
    # the command line
    "a command is unknown": Case(lambda _: None, "restart", 2, ("restart", "--help")),
    "an option is unknown": Case(lambda _: None, "create --set secrets", 2, ("secrets", "--help")),
    "a repository is unknown": Case(lambda _: None, "create -r nas", 3, ("no repository named 'nas'", "default")),
}


@pytest.mark.parametrize("what", CASES)
def test_an_error_is_one_line_that_says_what_and_what_to_do(what: str, world: World, run_cli: RunCli) -> None:
    case = CASES[what]
    case.breaking(world)
    world.patch.chdir(world.place)
    said = run_cli("-v", *case.command.split(), exit_code=case.exit_code)
    assert len(said.stderr.splitlines()) == 1, said.stderr
    assert said.stderr.startswith("borg-vault: ")
    for word in case.words:
        assert word in said.stderr
    everything = said.stdout + said.stderr
    assert "Traceback" not in everything
    for secret in (SECRET, PASSPHRASE, world.server.cluster.password):
        assert secret not in everything
    world.stack.close()
    left = world.repository.names() if world.repository.path.exists() and case.exit_code != 5 else []
    assert left == []


def test_a_notification_cannot_change_how_a_backup_ends(world: World, run_cli: RunCli) -> None:
    for name, ending in {"badge": "raise SystemExit(75)", "siren": "raise RuntimeError('first\\nsecond')"}.items():
        world.install(f"@hookimpl\ndef backup_finished(report):\n    {ending}\n", name=name)
    world.configure('plugins = ["badge", "siren"]')
    said = run_cli("create", "--no-prune", exit_code=0, warning="plugin badge could not announce the backup")
    assert "plugin siren could not announce the backup: first second" in said.stderr
    assert len(said.stderr.splitlines()) == 2
    assert len(world.repository.names()) == 1
    assert world.repository.names()[0] in said.stdout


def test_a_bug_has_exit_code_1_and_a_traceback(world: World, run_command: RunCommand) -> None:
    # Nothing that an operator can do should show one: here somebody else's plugin breaks the program from inside.
    breaking = "import borg_vault_plugin.backup\nborg_vault_plugin.backup.run_lock = None\n"
    world.install(f"{breaking}@hookimpl\ndef backup_finished(report): ...\n")
    world.configure('plugins = ["badge"]')
    world.patch.setenv("PYTHONPATH", str(world.place / "site"))
    said = run_command("create", exit_code=1)
    assert "Traceback (most recent call last)" in said.stderr
    assert "TypeError" in said.stderr
    for secret in (PASSPHRASE, world.server.cluster.password):
        assert secret not in said.stdout + said.stderr
    assert world.repository.names() == []


def test_the_help_of_every_command_ends_with_its_exit_codes(run_cli: RunCli) -> None:
    for command in (["create"], ["prune"], ["list"], ["init"], ["dump-chain"], ["demo"], ["config", "show"]):
        said = run_cli(*command, "--help", exit_code=0).stdout
        assert "Exit codes: 0 ok" in " ".join(said.split())
        assert "143" in said.rpartition("Exit codes:")[2]
