"""The set-up: what it asks of a machine, what it says when it may not help itself, and that it is done once.

The machine is a directory of small programs that stand for python3, cc, apt-get and so on; the scripts are real.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
LIBRARIES = "libssl-dev liblz4-dev libzstd-dev libxxhash-dev"
ALL_PACKAGES = f"python3-venv python3-dev build-essential libacl1-dev {LIBRARIES}"
INSTRUCTION = f"""The set-up needs packages that are not here. As root, run:
    apt-get update && apt-get install --yes {ALL_PACKAGES}
and then the same command again.
"""
# On the machine a capability is there when the file `installed` is; apt-get makes that file.
WHEN_INSTALLED = '[ -e "$MACHINE/installed" ]'
APT_GET = (
    'echo "apt-get $DEBIAN_FRONTEND $*" >>"$MACHINE/calls"; case "$*" in *install*) : >"$MACHINE/installed";; esac'
)
SUDO = 'echo sudo >>"$MACHINE/calls"; [ "$1" = -n ] && shift; exec "$@"'


class Machine:
    """A directory with the programs of a machine, on which the set-up's scripts run."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        (directory / "bin").mkdir(parents=True)
        for name in ("cat", "env", "mkdir", "rm", "sh", "test", "touch", "tr", "true"):
            (directory / "bin" / name).symlink_to(shutil.which(name) or name)
        self.program("python3", f'case "$2" in *version_info*) exit 0;; esac; {WHEN_INSTALLED}')
        self.program("cc", WHEN_INSTALLED)
        self.program("pkg-config", WHEN_INSTALLED)
        self.program("apt-get", APT_GET)
        self.program("id", "echo 0")

    def program(self, name: str, script: str) -> None:
        """Put a program on the machine."""
        path = self.directory / "bin" / name
        path.write_text(f"#!/bin/sh\n{script}\n", "utf-8")
        path.chmod(0o755)

    def run(self, *command: str | Path, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
        """Run a command there, without a terminal."""
        environment = {"PATH": str(self.directory / "bin"), "MACHINE": str(self.directory)}
        return subprocess.run(
            command, env=environment, cwd=cwd, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
        )

    def calls(self) -> list[str]:
        """Give what was called that changes a machine."""
        log = self.directory / "calls"
        return log.read_text("utf-8").splitlines() if log.exists() else []


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    """A machine that root uses, with apt, and with programs that can do nothing of what the set-up needs."""
    return Machine(tmp_path / "machine")


def system_packages(machine: Machine) -> subprocess.CompletedProcess[str]:
    """Run the check there."""
    return machine.run(ROOT / ".ci" / "system-packages")


def test_a_machine_that_has_everything_is_left_alone(machine: Machine) -> None:
    (machine.directory / "installed").touch()
    done = system_packages(machine)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert machine.calls() == []


def test_an_old_python_is_one_line(machine: Machine) -> None:
    machine.program("python3", 'case "$1" in --version) echo Python 3.9.2;; *) exit 1;; esac')
    done = system_packages(machine)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "borg-vault needs Python 3.11 or newer; python3 here is: Python 3.9.2\n"


def test_root_gets_what_is_missing(machine: Machine) -> None:
    done = system_packages(machine)
    assert (done.returncode, done.stdout) == (0, "")
    assert done.stderr == f"installing what the set-up needs: {ALL_PACKAGES}\n"
    options = "apt-get noninteractive -qq -o DPkg::Lock::Timeout=300"
    assert machine.calls() == [
        f"{options} update",
        f"{options} install --yes --no-install-recommends {ALL_PACKAGES}",
    ]


def test_no_library_is_found_without_pkg_config(machine: Machine) -> None:
    for name in ("python3", "cc", "apt-get"):
        machine.program(name, "exit 0")
    (machine.directory / "bin" / "pkg-config").unlink()
    assert f"apt-get install --yes pkg-config {LIBRARIES}\n" in system_packages(machine).stderr


def test_only_what_is_missing_is_asked_for(machine: Machine) -> None:
    machine.program("python3", "exit 0")
    machine.program("cc", "while read -r line; do case $line in *acl*) exit 1;; esac; done")
    machine.program("pkg-config", '[ "$2" != libzstd ]')
    machine.program("id", "echo 1000")
    done = system_packages(machine)
    assert done.returncode == 1
    assert "apt-get install --yes libacl1-dev libzstd-dev\n" in done.stderr


@pytest.mark.parametrize("sudo", [None, '[ "$1" = -n ] && { echo "sudo: a password is required" >&2; exit 1; }'])
def test_who_may_not_install_is_told_what_to_run_once(machine: Machine, sudo: str | None) -> None:
    machine.program("id", "echo 1000")
    if sudo:
        machine.program("sudo", sudo)
    done = system_packages(machine)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == INSTRUCTION
    assert machine.calls() == []


def test_a_sudo_that_does_not_ask_is_used(machine: Machine) -> None:
    machine.program("id", "echo 1000")
    machine.program("sudo", SUDO)
    assert system_packages(machine).returncode == 0
    assert [call.split()[0] for call in machine.calls()] == ["sudo", "sudo", "apt-get", "sudo", "apt-get"]


@pytest.mark.parametrize("apt_get", ["exit 100", "exit 0"], ids=["fails", "does not help"])
def test_an_installation_that_did_not_help_ends_in_the_instruction(machine: Machine, apt_get: str) -> None:
    machine.program("apt-get", apt_get)
    done = system_packages(machine)
    assert done.returncode == 1
    assert done.stderr.endswith(INSTRUCTION)


@pytest.fixture
def checkout(machine: Machine, tmp_path: Path) -> Path:
    """A checkout with the real Makefile, on a machine whose python3 makes a .venv that notes what is asked of it."""
    (machine.directory / "installed").touch()
    machine.program(
        "python3",
        """
        [ "$2" = venv ] || exit 0
        echo "venv" >>"$MACHINE/calls"
        mkdir -p .venv/bin
        echo '#!/bin/sh
              echo "pip" >>"$MACHINE/calls"; [ ! -e "$MACHINE/offline" ]' >.venv/bin/python
        echo '#!/bin/sh
              echo "tests ran"' >.venv/bin/pytest
        chmod +x .venv/bin/python .venv/bin/pytest
        """,
    )
    for name in ("chmod", "make"):
        (machine.directory / "bin" / name).symlink_to(shutil.which(name) or name)
    directory = tmp_path / "a checkout"
    (directory / ".ci").mkdir(parents=True)
    for name in ("Makefile", "pyproject.toml", ".ci/system-packages"):
        shutil.copy(ROOT / name, directory / name)
    return directory


def test_the_second_run_sets_nothing_up(machine: Machine, checkout: Path) -> None:
    first = machine.run("make", "test", cwd=checkout)
    assert first.returncode == 0, first.stderr
    assert machine.calls() == ["venv", "pip", "pip"]
    second = machine.run("make", "test", cwd=checkout)
    assert (second.returncode, second.stdout, second.stderr) == (0, "tests ran\n", "")
    assert machine.calls() == ["venv", "pip", "pip"]


def test_a_set_up_that_was_cut_short_is_begun_anew(machine: Machine, checkout: Path) -> None:
    (machine.directory / "offline").touch()
    assert machine.run("make", "test", cwd=checkout).returncode == 2
    (checkout / ".venv" / "left-behind").touch()
    (machine.directory / "offline").unlink()
    assert machine.run("make", "test", cwd=checkout).returncode == 0
    assert machine.calls() == ["venv", "pip", "venv", "pip", "pip"]
    assert not (checkout / ".venv" / "left-behind").exists()


def test_new_dependencies_are_installed_into_what_is_there(machine: Machine, checkout: Path) -> None:
    assert machine.run("make", "test", cwd=checkout).returncode == 0
    later = (checkout / ".venv" / ".complete").stat().st_mtime + 10
    os.utime(checkout / "pyproject.toml", (later, later))
    assert machine.run("make", "test", cwd=checkout).returncode == 0
    assert machine.calls() == ["venv", "pip", "pip", "pip", "pip"]


@pytest.mark.parametrize("place", ["test", "fixture", "module"])
def test_a_skip_is_a_failure_where_skips_are_forbidden(tmp_path: Path, place: str) -> None:
    skip = "pytest.skip('nothing there', allow_module_level=True)"
    (tmp_path / "test_it.py").write_text(
        f"import pytest\n\n{skip if place == 'module' else ''}\n"
        f"@pytest.fixture\ndef fixture():\n    {skip if place == 'fixture' else 'pass'}\n\n"
        f"def test_it(fixture):\n    {skip if place == 'test' else 'pass'}\n\n"
        "@pytest.mark.xfail\ndef test_known_bug():\n    raise ValueError\n",
        "utf-8",
    )
    shutil.copy(ROOT / "tests" / "conftest.py", tmp_path)
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-ra", f"--rootdir={tmp_path}", str(tmp_path)]
    for forbidden, expected in (("0", (0, 5)), ("1", (1, 2))):
        environment = os.environ | {"BORG_VAULT_FORBID_SKIPS": forbidden}
        done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert done.returncode in expected, done.stdout
        assert ("skips are forbidden here: " in done.stdout) == (forbidden == "1")
        assert "nothing there" in done.stdout
