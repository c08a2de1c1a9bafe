"""Other people's plugins: they run when the configuration names them, and every failure has their name."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from fix_cli import RunCli
from fix_plugin import InstallPlugin
from fix_repository import PlainRepository
from fix_vault import Vault

from borg_vault_plugin.redaction import remember_secret

pytest_plugins = ("fix_server",)

WriteConfig = Callable[[str], Path]
NAMED = 'plugins = ["badge"]\n'

BADGE = """
@hookimpl
def collect_artifacts(snapshot, staging):
    with snapshot.connection() as connection, staging.write("badge/name.txt") as file:
        file.write(connection.execute("SELECT current_database()").fetchone()[0].encode())
        file.rows = 1
    return [file.artifact()]
"""

# What is wrong with a plugin before anything runs, and the words that say it.
UNFIT = {
    "it cannot be imported": ("import no_such_module", "plugin badge cannot be loaded: ModuleNotFoundError"),
    "it fails while it is imported": ("1 / 0", "plugin badge cannot be loaded: ZeroDivisionError"),
    "it hooks nothing": ("def collect_artifacts(snapshot, staging): ...", "plugin badge hooks nothing"),
    "it misspells a hook": (
        "@hookimpl\ndef collect_artefacts(snapshot, staging): ...",
        "plugin badge does not fit: unknown hook 'collect_artefacts'",
    ),
    "it misspells an argument": (
        "@hookimpl\ndef collect_artifacts(snapshot, stagings): ...",
        "'stagings'",
    ),
}

APPENDING = """
    with staging.write('a') as file:
        file.write(b'x')
    (staging.directory / 'a').write_bytes(b'xx')
    return [file.artifact()]"""

# What a plugin does wrong while it runs.
MISBEHAVING = {
    "it raises": ("raise ValueError('no\\n such thing')", "hook badge failed: ValueError: no such thing"),
    "it says what the operator can do": ("raise SourceError('plug it in')", "hook badge: plug it in"),
    "it returns nothing": ("return None", "hook badge wrote nothing"),
    "it returns an empty list": ("return []", "hook badge wrote nothing"),
    "it returns something else": ("return ['badge.txt']", "hook badge"),
    "it writes above staging": (
        "with staging.write('../badge.txt') as file: file.write(b'x')\n    return [file.artifact()]",
        "hook badge: artifact path '../badge.txt' is not a plain path below staging",
    ),
    "it writes to an absolute path": (
        "with staging.write('/tmp/badge.txt') as file: file.write(b'x')\n    return [file.artifact()]",
        "hook badge: artifact path '/tmp/badge.txt' is not a plain path below staging",
    ),
    "it writes the manifest": (
        "with staging.write('manifest.json') as file: file.write(b'x')\n    return [file.artifact()]",
        "hook badge: artifact path 'manifest.json' is not a plain path",
    ),
    "it keeps a file for itself": (
        "for name in 'ab':\n        with staging.write(name) as file: file.write(b'x')\n    return [file.artifact()]",
        "staging holds a, which no hook returned",
    ),
    "it returns a file that it did not write": (
        "return [Artifact('badge.txt', 1, '00', 'badge')]",
        "hook badge returned badge.txt, but no such regular file is in staging",
    ),
    "it returns a symbolic link": (
        "(staging.directory / 'a').symlink_to('/etc/passwd')\n    return [Artifact('a', 11, '00', 'badge')]",
        "hook badge returned a, but no such regular file is in staging",
    ),
    "it goes on writing": (
        APPENDING,
        "hook badge returned a with 1 bytes, but it has 2",
    ),
    "it writes a path twice": (
        "for _ in range(2):\n        with staging.write('a') as file: file.write(b'x')\n    return [file.artifact()]",
        "hook badge: artifact a is written twice",
    ),
    "it returns a file twice": (
        "with staging.write('a') as file: file.write(b'x')\n    return [file.artifact(), file.artifact()]",
        "hook badge",
    ),
    "it changes what it does not know": (
        "with snapshot.connection() as connection: connection.execute('DELETE FROM public.records')",
        "hook badge: cannot execute DELETE in a read-only transaction",
    ),
}


@pytest.fixture
def failing(
    server: Vault,
    repository: PlainRepository,
    run_cli: RunCli,
    install_plugin: InstallPlugin,
    write_config: WriteConfig,
) -> Callable[..., str]:
    """A run with a plugin, which fails before anything is stored; gives what it says."""

    def run(source: str, *, exit_code: int, config: str = "") -> str:
        assert server.database
        install_plugin(source)
        write_config(NAMED + config)
        said = run_cli("create", exit_code=exit_code).stderr
        assert repository.names() == []
        return said

    return run


@pytest.mark.usefixtures("server")
def test_a_plugin_adds_its_artifact(
    repository: PlainRepository, run_cli: RunCli, install_plugin: InstallPlugin, write_config: WriteConfig
) -> None:
    install_plugin(BADGE)
    write_config(NAMED)
    document = run_cli("create", "--json", "--no-prune", exit_code=0).document
    (artifact,) = [one for one in document["artifacts"] if one["producer"] == "badge"]
    assert (artifact["path"], artifact["rows"]) == ("badge/name.txt", 1)
    name = repository.read(document["archive"], "badge/name.txt").decode()
    assert name == document["snapshot"]["database"]
    assert "  badge/name.txt\n" in repository.read(document["archive"], "SHA256SUMS").decode()


@pytest.mark.usefixtures("server")
def test_a_plugin_that_is_not_named_stays_out(run_cli: RunCli, install_plugin: InstallPlugin) -> None:
    install_plugin("raise SystemExit('somebody imported it')")
    run_cli("create", "--dry-run", exit_code=0)


def test_a_plugin_that_is_not_installed_is_named(run_cli: RunCli, write_config: WriteConfig) -> None:
    write_config(NAMED + "[database]\nurl = 'postgresql:///app'")
    said = run_cli("create", exit_code=3).stderr
    assert "plugin 'badge' is not installed: third-party plugins found here: none" in said


@pytest.mark.parametrize("wrong", UNFIT)
def test_an_unfit_plugin_is_named_before_anything_runs(
    wrong: str, run_cli: RunCli, install_plugin: InstallPlugin, write_config: WriteConfig
) -> None:
    source, words = UNFIT[wrong]
    install_plugin(source)
    write_config(NAMED + "[database]\nurl = 'postgresql:///app'")
    said = run_cli("create", exit_code=3).stderr
    assert len(said.splitlines()) == 1
    assert "badge" in said
    assert words in said


@pytest.mark.parametrize("wrong", MISBEHAVING)
def test_a_misbehaving_hook_ends_the_run_with_its_name(wrong: str, failing: Callable[..., str]) -> None:
    body, words = MISBEHAVING[wrong]
    said = failing(f"@hookimpl\ndef collect_artifacts(snapshot, staging):\n    {body}\n", exit_code=4)
    assert len(said.splitlines()) == 1
    assert words in said


def test_a_hook_that_replaces_a_built_in_artifact_ends_the_run(failing: Callable[..., str]) -> None:
    body = "with staging.write('db.dump') as file: file.write(b'x')\n    return [file.artifact()]"
    said = failing(f"@hookimpl\ndef collect_artifacts(staging):\n    {body}\n", exit_code=4)
    assert "artifact db.dump is written twice" in said


def test_a_hook_that_hangs_is_ended_and_named(failing: Callable[..., str]) -> None:
    body = "with snapshot.connection() as connection: connection.execute('SELECT pg_sleep(600)')"
    source = f"@hookimpl\ndef collect_artifacts(snapshot, staging):\n    {body}\n"
    said = failing(source, exit_code=4, config='[database]\ntimeout = "2s"\n')
    assert "badge" in said
    assert "did not finish within" in said
    assert "raise database.timeout" in said


@pytest.fixture
def late_over_files(
    repository: PlainRepository,
    run_cli: RunCli,
    install_plugin: InstallPlugin,
    write_config: WriteConfig,
    tmp_path: Path,
) -> Callable[[str], Path]:
    """A run of the set `provisioning` with a hook that takes longer than its second; gives the staging directory."""

    def run(source: str) -> Path:
        staging, files = tmp_path / "staging", tmp_path / "files"
        files.mkdir()
        (files / "a.yaml").write_text("a: 1\n", "utf-8")
        install_plugin(source)
        places = f'label = "prod"\nstaging_directory = "{staging}"\n[sets.provisioning]\npath = "{files}"\n'
        write_config(NAMED + places + '[database]\ntimeout = "1s"\n')
        said = run_cli("create", "--set", "provisioning", exit_code=4).stderr
        assert said == "borg-vault: hook badge did not finish within 0:00:01: mend it, or raise database.timeout\n"
        assert repository.names() == []
        return staging

    return run


@pytest.mark.usefixtures("server")
def test_a_hook_that_is_late_leaves_nothing_in_staging(late_over_files: Callable[[str], Path]) -> None:
    """It goes on writing for as long as it is let, in directories of its own; it is stopped and all of it is gone."""
    staging = late_over_files(
        "import itertools\n@hookimpl\ndef collect_provisioning(staging):\n"
        "    for number in itertools.count():\n"
        "        with staging.write(f'more/{number}/file') as file:\n"
        "            file.write(b'secret')\n        yield file.artifact()\n"
    )
    assert [path for path in staging.rglob("*") if path.is_file()] == []
    time.sleep(0.5)
    assert list(staging.glob("*/*")) == []


@pytest.mark.usefixtures("server")
def test_a_hook_that_hangs_over_files_is_named(late_over_files: Callable[[str], Path]) -> None:
    body = "import time\n    time.sleep(600)\n    yield"
    late_over_files(f"@hookimpl\ndef collect_provisioning(directory, staging):\n    {body}\n")


def test_a_secret_with_blanks_is_found_before_they_are_made_one(failing: Callable[..., str]) -> None:
    remember_secret("correct  horse\tbattery")
    body = "raise ValueError('no login with correct  horse\\tbattery')"
    said = failing(f"@hookimpl\ndef collect_artifacts(staging):\n    {body}\n", exit_code=4)
    assert said == "borg-vault: hook badge failed: ValueError: no login with ***\n"


def test_what_verifies_returns_findings(failing: Callable[..., str]) -> None:
    said = failing("@hookimpl\ndef verify_staging(staging):\n    return ['no finding']\n", exit_code=4)
    assert said.startswith("borg-vault: hook badge: it returned str for a finding: ")


def test_a_hook_that_hangs_while_it_verifies_is_named(failing: Callable[..., str]) -> None:
    source = "import time\n@hookimpl\ndef verify_staging(staging):\n    time.sleep(600)\n"
    said = failing(source, exit_code=4, config='[database]\ntimeout = "2s"\n')
    assert said == "borg-vault: hook badge did not finish within 0:00:02: mend it, or raise database.timeout\n"


@pytest.mark.usefixtures("server")
def test_a_notification_that_fails_does_not_fail_the_backup(
    repository: PlainRepository, run_cli: RunCli, install_plugin: InstallPlugin, write_config: WriteConfig
) -> None:
    install_plugin("@hookimpl\ndef backup_finished(report):\n    raise RuntimeError(report.archive)\n")
    write_config(NAMED)
    run_cli("create", "--no-prune", exit_code=0, warning="plugin badge could not announce the backup")
    assert len(repository.names()) == 1


@pytest.mark.usefixtures("server")
def test_a_plugin_hears_how_the_backup_ended(
    run_cli: RunCli, install_plugin: InstallPlugin, write_config: WriteConfig, tmp_path: Path
) -> None:
    heard = tmp_path / "heard.json"
    install_plugin(
        "import json, pathlib\n@hookimpl\ndef backup_finished(report):\n"
        "    heard = json.dumps([report.archive, report.verdict, report.exit_code])\n"
        f"    pathlib.Path({str(heard)!r}).write_text(heard)\n"
    )
    write_config(NAMED)
    document = run_cli("create", "--json", "--no-prune", exit_code=0).document
    assert json.loads(heard.read_text("utf-8")) == [document["archive"], document["verdict"], 0]
