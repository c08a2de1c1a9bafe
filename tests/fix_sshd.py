"""A real sshd on the loopback interface, whose one key may run `borg serve`, append-only, on one directory."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from fix_port import free_port, until_it_listens
from fix_repository import SECONDS
from fix_shelf import Sshd

from borg_vault_plugin.borg import find_borg

SSHD = "/usr/sbin/sshd"  # it insists on being started by its whole path
PRIVILEGE_SEPARATION = Path("/run/sshd")


def key(path: Path) -> Path:
    """Make a key."""
    command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(path)]
    subprocess.run(command, check=True, capture_output=True, timeout=SECONDS)
    return path


def configuration(place: Path, port: int, served: Path) -> Path:
    """Write what sshd needs to know; the key's command is forced, and Borg's own."""
    serve = f"{find_borg().program} serve --append-only --restrict-to-path {served}"
    public = key(place / "client").with_suffix(".pub").read_text("utf-8")
    (place / "authorized_keys").write_text(f'command="{serve}",restrict {public}', "utf-8")
    lines = {
        "ListenAddress": f"127.0.0.1:{port}", "HostKey": key(place / "host"), "PidFile": "none", "UsePAM": "no",
        "AuthorizedKeysFile": place / "authorized_keys", "StrictModes": "no", "PasswordAuthentication": "no",
        "PermitRootLogin": "yes", "LogLevel": "VERBOSE",
    }  # fmt: skip
    path = place / "sshd_config"
    path.write_text("".join(f"{name} {value}\n" for name, value in lines.items()), "utf-8")
    return path


@pytest.fixture
def sshd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Sshd]:
    """A running server, and an environment in which Borg reaches it."""
    if not Path(SSHD).exists() or shutil.which("ssh") is None:
        pytest.skip("no sshd here: apt-get install openssh-server")
    if os.geteuid() == 0:
        PRIVILEGE_SEPARATION.mkdir(mode=0o755, exist_ok=True)
    place, port = tmp_path / "sshd", free_port()
    served = place / "served"
    served.mkdir(parents=True)
    options = (
        f"-F none -i {place}/client -o BatchMode=yes -o StrictHostKeyChecking=no -o UserKnownHostsFile={place}/known"
    )
    monkeypatch.setenv("BORG_RSH", f"ssh {options} -o LogLevel=ERROR")
    config, log = configuration(place, port, served), place / "log"
    with log.open("wb") as stream:
        server = subprocess.Popen([SSHD, "-D", "-e", "-f", str(config)], stderr=stream, start_new_session=True)
    try:
        until_it_listens(server, port, log)
        yield Sshd(port, served, os.environ["BORG_RSH"], log)
    finally:
        server.terminate()
        server.wait(SECONDS)
