"""What the tests of faults may ask for, beside vaults and repositories: runs to stop and end, and ways to fail."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest
from fix_cli import COMMAND, RunCli
from fix_fault_disk import Disk, MountDisk, mounted
from fix_fault_phases import (
    BORG_PHASES,
    BULK_BYTES,
    MID_COPY,
    PLUGIN,
    SMALL_BYTES,
    Gate,
    Pause,
    Paused,
    stopped,
    storing,
)
from fix_fault_proxy import DUMP, Proxy, proxy_before
from fix_fault_run import (
    PLAIN_NAME,
    LeftClean,
    Run,
    StartRun,
    adopt_orphans,
    finish,
    launched,
    segments,
    staged,
    whole_archives,
)
from fix_plugin import InstallPlugin
from fix_repository import PlainRepository
from fix_vault import Vault, digests

from borg_vault_plugin.lock import run_lock

WriteConfig = Callable[[str], Path]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[StartRun]:
    """Starter of runs; what is left of them after the test is killed, process by process."""
    runs: list[Run] = []
    adopt_orphans(adopt=True)

    def begin(*words: object) -> Run:
        place = tmp_path / f"run-{len(runs)}"
        place.mkdir()
        command = ["env", "--default-signal=INT", str(COMMAND), *(str(word) for word in words)]
        with (place / "stdout").open("wb") as stdout, (place / "stderr").open("wb") as stderr:
            runs.append(launched(command, place, stdout, stderr, plugins=tmp_path / "site"))
        return runs[-1]

    yield begin
    for run in runs:
        finish(run)
    adopt_orphans(adopt=False)


@pytest.fixture
def state(tmp_path: Path) -> Path:
    """Where runs of the test keep history, locks and staging."""
    return tmp_path / "xdg_state_home" / "borg-vault"


@pytest.fixture
def recovers(
    server: Vault, repository: PlainRepository, run_cli: RunCli, state: Path, tmp_path: Path
) -> Callable[[], list[str]]:
    """What must hold after any fault: the next run goes well, clears up, and every plain archive is a whole one.

    Gives the names of all archives, of which the last one is the new one.
    """

    def check() -> list[str]:
        made = run_cli("create", "--no-prune", "--json", exit_code=0).document["archive"]
        assert staged(state) == []
        with run_lock(state, server.database):
            pass
        names = whole_archives(repository, tmp_path)
        assert all(map(PLAIN_NAME.fullmatch, names)), names
        assert names[-1] == made
        return names

    return check


@pytest.fixture
def untouched_source(server: Vault) -> Iterator[None]:
    """A source that holds the same before and after the test."""
    before = digests(server.cluster.conninfo(server.database))
    yield
    assert digests(server.cluster.conninfo(server.database)) == before


@pytest.fixture
def proxy(server: Vault, monkeypatch: pytest.MonkeyPatch) -> Iterator[Proxy]:
    """The only way from a run to its server."""
    with proxy_before(server.cluster) as proxy:
        monkeypatch.setenv("DATABASE_URL", proxy.url(server))
        yield proxy


@pytest.fixture
def gate(
    server: Vault, repository: PlainRepository, install_plugin: InstallPlugin, write_config: WriteConfig, tmp_path: Path
) -> Iterator[Gate]:
    """The gate, open, and the plugin that waits there before a backup of the server goes into the repository."""
    assert server.database
    with closing(Gate(tmp_path / "gate")) as gate:
        install_plugin(PLUGIN.format(place=str(gate.place)))
        # Borg looks at a lock ten times while it waits for it.
        write_config(f'plugins = ["badge"]\n[repositories.default]\npath = "{repository.path}"\nlock_wait = "5s"\n')
        yield gate


@pytest.fixture
def pause(gate: Gate, proxy: Proxy, repository: PlainRepository, start: StartRun) -> Pause:
    """Starter of runs that stand still."""

    def at(phase: str, *words: str) -> Paused:
        if phase == "dumping":
            proxy.hold(DUMP, after=MID_COPY)
            run = start("create", *words)
            run.until(proxy.reached.is_set, "the dump is held back")
            return Paused(run, proxy.release, run.child("--format=custom"))
        if phase == "verifying":
            gate.shut()
            run = start("create", *words)
            run.until(lambda: gate.has(run), "at the gate")
            assert run.children() == []
            return Paused(run, gate.open)
        if phase == "storing":
            gate.stage(BULK_BYTES)
            run = start("create", *words)
            paused = stopped(run, storing(run, repository))
            gate.stage(SMALL_BYTES)
            return paused
        run = start("create", *words)
        if phase == "looking at what was renamed":
            run.child(*BORG_PHASES["renaming"])
        return stopped(run, run.child(*BORG_PHASES[phase]))

    return at


@pytest.fixture
def left_clean(server: Vault, repository: PlainRepository, state: Path) -> LeftClean:
    """What a run that failed must leave at once: no staging, no lock, and the repository's files as they were."""
    before = segments(repository)

    def check(*, repository_too: bool = True) -> None:
        assert staged(state) == []
        with run_lock(state, server.database):
            assert not repository_too or segments(repository) == before

    return check


@pytest.fixture
def mount_disk(tmp_path: Path) -> Iterator[MountDisk]:
    """Mounter of small disks; they are gone after the test."""
    with ExitStack() as disks:

        def mount(name: str, *, size: str, files: int = 1000) -> Disk:
            return disks.enter_context(mounted(tmp_path / name, size=size, files=files))

        yield mount
