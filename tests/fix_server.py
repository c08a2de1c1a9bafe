"""What the tests of whole runs may ask for: vaults, repositories, the program, plugins.

`vault` runs a test once on each PostgreSQL that is here, `latest_vault` once on the newest.
A vault and a repository are each made once and copied for every test, since making one takes longer than most tests.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import pytest
from fix_cli import COMMAND, SECONDS, RunCli, RunCommand, Said, checked
from fix_plugin import HEADER, InstallPlugin, numbers
from fix_repository import PlainRepository, announce, initialised
from fix_vault import Vault, copied, template_of

from borg_vault_plugin.cli import main
from borg_vault_plugin.cluster import Cluster
from borg_vault_plugin.sample import SampleVault


@pytest.fixture(scope="session")
def template(cluster: Cluster) -> SampleVault:
    """The vault of the second era, loaded into each cluster."""
    return template_of(cluster, "v2")


@pytest.fixture(scope="session")
def older_template(cluster: Cluster) -> SampleVault:
    """The vault of the first era, loaded into each cluster."""
    return template_of(cluster, "v1")


@pytest.fixture(scope="session")
def latest_template(latest_cluster: Cluster) -> SampleVault:
    """The vault of the second era, loaded into the newest cluster."""
    return template_of(latest_cluster, "v2")


@pytest.fixture
def vault(cluster: Cluster, template: SampleVault) -> Iterator[Vault]:
    """A vault of the second era, the test's own."""
    with copied(cluster, "v2", template) as vault:
        yield vault


@pytest.fixture
def older_vault(cluster: Cluster, older_template: SampleVault) -> Iterator[Vault]:
    """A vault of the first era, the test's own."""
    with copied(cluster, "v1", older_template) as vault:
        yield vault


@pytest.fixture
def latest_vault(latest_cluster: Cluster, latest_template: SampleVault) -> Iterator[Vault]:
    """A vault of the second era on the newest PostgreSQL, the test's own."""
    with copied(latest_cluster, "v2", latest_template) as vault:
        yield vault


@pytest.fixture(scope="session")
def latest_older_template(latest_cluster: Cluster) -> SampleVault:
    """The vault of the first era, loaded into the newest cluster."""
    return template_of(latest_cluster, "v1")


@pytest.fixture
def latest_older_vault(latest_cluster: Cluster, latest_older_template: SampleVault) -> Iterator[Vault]:
    """A vault of the first era on the newest PostgreSQL, the test's own."""
    with copied(latest_cluster, "v1", latest_older_template) as vault:
        yield vault


@pytest.fixture(scope="session")
def repository_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty encrypted repository, to be copied."""
    directory = tmp_path_factory.mktemp("repository")
    return initialised(directory / "repository", directory / "base").path


@pytest.fixture
def repository(repository_template: Path, tmp_path: Path) -> PlainRepository:
    """An empty encrypted repository, the test's own."""
    shutil.copytree(repository_template, tmp_path / "repository")
    return PlainRepository(tmp_path / "repository", tmp_path / "plain-borg")


@pytest.fixture
def server(latest_vault: Vault, repository: PlainRepository, monkeypatch: pytest.MonkeyPatch) -> Vault:
    """A Server whose environment says everything that a backup needs: database, repository, passphrase."""
    announce(monkeypatch, latest_vault, repository)
    return latest_vault


@pytest.fixture
def run_cli(capfd: pytest.CaptureFixture[str]) -> RunCli:
    """The program, run in this process."""

    def run(*words: object, exit_code: int, warning: str | None = None) -> Said:
        capfd.readouterr()
        with pytest.raises(SystemExit) as ended:
            main([str(word) for word in words])
        return checked(Said(*capfd.readouterr()), ended.value.code or 0, exit_code, warning)

    return run


@pytest.fixture
def run_command() -> RunCommand:
    """The installed command, run as a process of its own in the environment of the test."""

    def run(*words: object, exit_code: int, cwd: Path | None = None, pass_fds: Iterable[int] = ()) -> Said:
        command = [str(COMMAND), *(str(word) for word in words)]
        done = subprocess.run(
            command, check=False, capture_output=True, text=True, timeout=SECONDS, cwd=cwd, pass_fds=tuple(pass_fds)
        )
        return checked(Said(done.stdout, done.stderr), done.returncode, exit_code)

    return run


@pytest.fixture
def write_config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Path]:
    """Writer of a configuration file that the program then finds by itself."""

    def write(text: str) -> Path:
        path = tmp_path / "borg-vault.toml"
        path.write_text(text, "utf-8")
        path.chmod(0o600)
        monkeypatch.setenv("BORG_VAULT_CONFIG", str(path))
        return path

    return write


@pytest.fixture
def install_plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[InstallPlugin]:
    """Installer of plugins; they are gone after the test."""
    site = tmp_path / "site"
    site.mkdir()
    modules: list[str] = []

    def install(source: str, *, name: str = "badge") -> None:
        module = f"plugin_under_test_{next(numbers)}"
        modules.append(module)
        (site / f"{module}.py").write_text(HEADER + source, "utf-8")
        information = site / f"{module}-1.0.dist-info"
        information.mkdir()
        (information / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {module}\nVersion: 1.0\n", "utf-8")
        (information / "entry_points.txt").write_text(f"[borg_vault_plugin]\n{name} = {module}\n", "utf-8")
        monkeypatch.syspath_prepend(site)

    yield install
    for module in modules:
        sys.modules.pop(module, None)
