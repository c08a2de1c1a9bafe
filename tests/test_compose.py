"""The bundled PostgreSQL in a container: backed up, restored, and every way in which that can fail."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest
from fix_cli import COMMAND, RunCli, RunCommand
from fix_project import SECONDS, Project
from fix_repository import PlainRepository

pytest_plugins = ("fix_server", "fix_compose")

Configure = Callable[..., None]


@pytest.fixture
def configure(
    project: Project,
    repository: PlainRepository,
    write_config: Callable[[str], Path],
    monkeypatch: pytest.MonkeyPatch,
) -> Configure:
    """Writer of the configuration of one service."""
    monkeypatch.setenv("BORG_REPO", str(repository.path))
    monkeypatch.setenv("BORG_PASSPHRASE", repository.passphrase)

    def configure(service: str = "postgres", directory: Path = project.directory) -> None:
        compose = f'[database.compose]\nproject_directory = "{directory}"\nservice = "{service}"\n'
        write_config(f'label = "prod"\n{compose}')

    configure()
    return configure


@pytest.fixture
def somebody(project: Project) -> Iterator[psycopg.Connection]:
    """A session of somebody else in service `postgres`, which must outlive whatever happens to a run."""
    with project.connect("postgres", "postgres") as connection:
        yield connection
        connection.execute("SELECT 1")


def until(happens: Callable[[], object]) -> None:
    deadline = time.monotonic() + SECONDS
    while not happens():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@contextlib.contextmanager
def pg_dump_after(project: Project, service: str, script: str) -> Iterator[None]:
    """Have something happen in a container whenever its pg_dump is started."""
    real = project.inside(service, "command -v pg_dump").strip()
    wrapper = f'#!/bin/sh\n{script}\nexec {real}.real "$@"\n'
    project.inside(service, f"mv {real} {real}.real; printf '%s' '{wrapper}' >{real}; chmod 755 {real}")
    try:
        yield
    finally:
        project.inside(service, f"mv {real}.real {real}")


@contextlib.contextmanager
def held_in_mid_dump(project: Project, service: str) -> Iterator[subprocess.Popen[str]]:
    """Start a run whose pg_dump writes into a pipe that nobody reads."""
    pipe = 'case "$*" in *--snapshot=*) mkfifo /run/held; exec 1<>/run/held;; esac'
    with contextlib.ExitStack() as stack:
        stack.enter_context(pg_dump_after(project, service, pipe))
        create = subprocess.Popen([COMMAND, "create"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        running = stack.enter_context(create)
        stack.callback(running.kill)
        stack.callback(project.inside, service, "rm -f /run/held")
        until(lambda: running.poll() is not None or "--snapshot=" in project.left(service))
        assert running.poll() is None, running.communicate()
        yield running


def commands() -> Iterator[bytes]:
    """Give what runs on this machine, in containers, too."""
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            yield path.read_bytes()


def descendants(pid: int) -> Iterator[int]:
    """Give a running process, and those under it."""
    yield pid
    with contextlib.suppress(OSError):
        for path in Path(f"/proc/{pid}/task").glob("*/children"):
            for child in path.read_text("utf-8").split():
                yield from descendants(int(child))


@pytest.mark.usefixtures("configure", "somebody")
def test_the_bundled_database_is_backed_up_whatever_limits_its_server_has(
    project: Project, bundled_database: str, repository: PlainRepository, run_cli: RunCli
) -> None:
    said = run_cli("create", exit_code=0)
    place = f"service postgres of {project.directory}, at 127.0.0.1:{project.services.port_for('postgres', 5432)}"
    assert said.stdout.startswith(
        f"the database is {bundled_database} in the bundled {place}: the database URL leads to postgres\n"
    )
    (archive,) = repository.names()
    assert archive.startswith("prod-")
    assert repository.read(archive, "db.dump").startswith(b"PGDMP")
    assert project.left("postgres") == ""


def test_a_service_that_publishes_nothing_is_reached_by_its_address(
    project: Project, configure: Configure, repository: PlainRepository, run_cli: RunCli
) -> None:
    configure("inside")
    address = next(iter(project.inspected("inside")["NetworkSettings"]["Networks"].values()))["IPAddress"]
    said = run_cli("create", exit_code=0)
    chosen = f"ledger in the bundled service inside of {project.directory}, at {address}:5432: no DATABASE_URL is set"
    assert chosen in said.stdout
    assert len(repository.names()) == 1


@pytest.mark.usefixtures("configure", "somebody")
def test_a_restore_goes_into_the_container_beside_the_live_database_and_takes_its_place(
    project: Project, bundled_database: str, run_cli: RunCli
) -> None:
    archive = run_cli("create", "--json", exit_code=0).document["archive"]
    document = run_cli("restore", "--json", exit_code=0).document
    assert document["verdict"] == "passed"
    assert document["server"] == f"service postgres of {project.directory}"
    restored = document["database"]
    swapped = run_cli("restore", archive, "--database", restored, "--swap", "--yes", "--json", exit_code=0).document
    assert (swapped["verdict"], swapped["swapped"], swapped["database"]) == ("passed", True, bundled_database)
    assert project.left("postgres") == ""


@pytest.mark.usefixtures("configure", "bundled_database")
def test_noise_ahead_of_the_dump_is_found_and_nothing_is_stored(
    project: Project, repository: PlainRepository, run_cli: RunCli
) -> None:
    with pg_dump_after(project, "postgres", 'echo "welcome to this machine"'):
        said = run_cli("create", exit_code=4)
    assert "db.dump does not begin as a dump of pg_dump does (that begins after 24 bytes): look at what" in said.stderr
    assert repository.names() == []


def test_a_container_that_is_restarted_in_mid_dump_fails_the_run_and_not_the_next(
    project: Project, configure: Configure, repository: PlainRepository, run_command: RunCommand
) -> None:
    configure("inside")
    with held_in_mid_dump(project, "inside") as running:
        restart = ["docker", "restart", "-t", "0", project.container("inside")]
        subprocess.run(restart, check=True, capture_output=True, timeout=SECONDS)
        _, stderr = running.communicate(timeout=SECONDS)
    assert running.returncode == 4, stderr
    assert stderr.count("\n") == 1
    assert repository.names() == []
    project.ready("inside")
    run_command("create", exit_code=0)
    assert len(repository.names()) == 1


@pytest.mark.usefixtures("configure", "bundled_database", "somebody")
def test_a_run_that_is_killed_leaves_no_program_and_no_password_in_the_container(project: Project) -> None:
    with held_in_mid_dump(project, "postgres") as running:
        running.kill()
        running.wait(SECONDS)
    until(lambda: project.left("postgres") == "")


@pytest.mark.usefixtures("configure", "bundled_database")
def test_the_password_is_in_no_argument_and_in_no_environment_of_ours(project: Project) -> None:
    with held_in_mid_dump(project, "postgres") as running:
        arguments = list(commands())
        ours = [Path(f"/proc/{pid}") for pid in descendants(running.pid)]
        environments = [(process / "environ").read_bytes() for process in ours]
        password_file = project.inside(
            "postgres", "stat -c %a /dev/shm/borg-vault.*/pgpass; cat /dev/shm/borg-vault.*/pgpass"
        )
        running.kill()
    assert any(b"docker\0exec" in command for command in arguments)
    assert len(environments) > 1
    assert not [text for text in (*arguments, *environments) if project.password.encode() in text]
    assert password_file == f"600\n*:*:*:*:{project.password}\n"


# What can be wrong with Docker or the service, and what the program says.
REFUSALS = {
    "made": (4, "service made of {} is not running (created): start it there with `docker compose up --detach made`"),
    "idle": (4, "service idle of {} has no container: start it there with `docker compose up --detach idle`"),
    "two": (4, "service two of {} has 2 running containers: a database has one: stop the others"),
    "db": (3, "database.compose.service: {} has no service 'db': name it"),
}


@pytest.mark.parametrize("service", REFUSALS)
def test_a_service_that_has_no_running_container_of_its_own_is_told(
    service: str, project: Project, configure: Configure, run_cli: RunCli
) -> None:
    configure(service)
    exit_code, told = REFUSALS[service]
    said = run_cli("create", exit_code=exit_code)
    assert said.stderr == f"borg-vault: {told.format(project.directory)}\n"


@pytest.mark.usefixtures("configure")
def test_a_daemon_that_does_not_answer_is_told(run_cli: RunCli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_HOST", "unix:///nowhere/docker.sock")
    said = run_cli("create", exit_code=4)
    assert said.stderr.startswith("borg-vault: Docker's daemon does not answer: ")
    assert said.stderr.endswith(": start it, or mend DOCKER_HOST\n")


@pytest.fixture
def path_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Maker of a PATH that leads to Docker, with Compose as a plugin of it, as a program of its own, or without."""
    docker, compose = shutil.which("docker"), shutil.which("docker-compose")
    real = f"{compose}" if compose else f"{docker} compose"
    directory = tmp_path / "bin"
    directory.mkdir()

    def script(name: str, text: str) -> None:
        (directory / name).write_text(f"#!/bin/sh\n{text}\n", "utf-8")
        (directory / name).chmod(0o755)

    def make(*, plugin: bool, program: bool) -> None:
        inner = f'shift; echo plugin >>{tmp_path}/used; exec {real} "$@"' if plugin else "exit 1"
        script("docker", f'case "$1" in compose) {inner};; esac; exec {docker} "$@"')
        if program:
            script("docker-compose", f'echo program >>{tmp_path}/used; exec {real} "$@"')
        monkeypatch.setenv("PATH", str(directory))

    return make


@pytest.mark.usefixtures("configure")
@pytest.mark.parametrize(("plugin", "used"), [(True, {"plugin"}), (False, {"program"})])
def test_compose_is_dockers_plugin_where_that_works_else_the_program(
    *, plugin: bool, used: set[str], path_to: Callable[..., None], tmp_path: Path, run_cli: RunCli
) -> None:
    path_to(plugin=plugin, program=True)
    run_cli("config", "validate", exit_code=0)
    assert set((tmp_path / "used").read_text("utf-8").split()) == used


@pytest.mark.usefixtures("configure")
def test_a_machine_without_compose_is_told_what_to_install(path_to: Callable[..., None], run_cli: RunCli) -> None:
    path_to(plugin=False, program=False)
    said = run_cli("config", "validate", exit_code=7)
    assert said.stderr == (
        "borg-vault: database.compose needs Docker Compose, which is not here: install docker-compose-plugin (Docker's"
        " packages) or docker-compose (Debian)\n"
    )
