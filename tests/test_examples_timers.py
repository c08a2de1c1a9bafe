"""The examples of timers: units, cron lines and a CronJob are clean, and every command line in them runs."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped]
from fix_repository import PlainRepository
from fix_vault import Vault

from borg_vault_plugin.config import load_settings

pytest_plugins = ("fix_server",)

ROOT = Path(__file__).parent.parent
TIMERS, DRILL = ROOT / "examples" / "timers", ROOT / "examples" / "drill"
SERVICES = {
    f"borg-vault-create@{name}.service": TIMERS / "borg-vault-create@.service"
    for name in ("database", "provisioning", "keys")
} | {
    "borg-vault-check.service": TIMERS / "borg-vault-check.service",
    "borg-vault-drill.service": DRILL / "borg-vault-drill.service",
    "borg-vault-overdue.service": DRILL / "borg-vault-overdue.service",
}
PROGRAM = Path(sys.executable).with_name("borg-vault")
SECONDS = 120.0
EXPOSURE = 2.5  # of 10, as systemd-analyze counts; without any hardening it says 9.6
needs_systemd = pytest.mark.skipif(
    shutil.which("systemd-creds") is None, reason="no systemd here: apt-get install systemd"
)


def run_line(command: str, environment: dict[str, str]) -> str:
    """Run a command line without more rights than a service has, with this environment alone; give what it said."""
    path = f"{PROGRAM.parent}:{os.environ['PATH']}"
    words = ["setpriv", "--no-new-privs", "--", "sh", "-c", command]
    variables = {"PATH": path, "LC_ALL": "C.UTF-8"} | environment
    done = subprocess.run(words, check=False, capture_output=True, text=True, timeout=SECONDS, env=variables)
    assert (done.returncode, done.stderr) == (0, ""), (command, done.stdout)
    return done.stdout


def settings_in(path: Path, name: str) -> list[str]:
    """Give the values of one setting of a unit."""
    return re.findall(rf"^{name}=(.*)$", path.read_text("utf-8"), re.MULTILINE)


def told(text: str, repository: PlainRepository, place: Path) -> str:
    """Give an example's configuration with a repository that is here, and the other sets."""
    (place / "provisioning").mkdir()
    (place / "provisioning" / "orgs.yaml").write_text("orgs: []\n", "utf-8")
    here = re.sub(r'path = "ssh://[^"]*"', f'path = "{repository.path}"', text)
    assert here != text
    return f'{here}\n[sets.provisioning]\npath = "{place}/provisioning"\n[sets.keys]\nattest = "true"\n'


def written(path: Path, text: str) -> Path:
    """Write a file that only we can read."""
    path.parent.mkdir(exist_ok=True)
    path.write_text(text, "utf-8")
    path.chmod(0o400)
    return path


@pytest.fixture
def host(server: Vault, repository: PlainRepository, tmp_path: Path) -> dict[str, str]:
    """What a service finds in its environment; its configuration is the README's."""
    (block,) = re.findall(r"^```toml\n(.*?)^```$", (TIMERS / "README.md").read_text("utf-8"), re.MULTILINE | re.DOTALL)
    written(tmp_path / "config.toml", told(block, repository, tmp_path))
    written(tmp_path / "credentials" / "database-url", server.url)
    written(tmp_path / "credentials" / "borg-passphrase", repository.passphrase)
    (tmp_path / "credentials").chmod(0o500)
    state = tmp_path / "state"
    return {
        "HOME": str(state),
        "STATE_DIRECTORY": str(state),
        "BORG_BASE_DIR": str(state / "borg"),
        "CREDENTIALS_DIRECTORY": str(tmp_path / "credentials"),
        "CONFIG": str(tmp_path / "config.toml"),
    }


@needs_systemd
def test_units_are_clean_and_hardened(tmp_path: Path) -> None:
    for directory in (TIMERS, DRILL):
        for path in directory.glob("borg-vault-*"):
            text = path.read_text("utf-8").replace("ExecStart=borg-vault", f"ExecStart={PROGRAM}")
            (tmp_path / path.name).write_text(text, "utf-8")
    units = [str(tmp_path / name) for name in (*SERVICES, *(name.replace(".service", ".timer") for name in SERVICES))]
    for unit in units:
        if "@" in unit:
            shutil.copy(re.sub(r"@\w+", "@", unit), unit)
    verify = ["systemd-analyze", "verify", "--man=no", *units]
    done = subprocess.run(verify, check=False, capture_output=True, text=True, timeout=SECONDS)
    assert (done.returncode, [line for line in done.stderr.splitlines() if "borg-vault" in line]) == (0, [])
    services = units[: len(SERVICES)]
    limit = [
        "systemd-analyze",
        "security",
        "--offline=yes",
        "--no-pager",
        f"--threshold={EXPOSURE * 10:.0f}",
        *services,
    ]
    done = subprocess.run(limit, check=False, capture_output=True, text=True, timeout=SECONDS)
    assert done.returncode == 0, done.stdout


def test_a_service_that_fails_raises_the_alarm_and_none_waits_for_ever() -> None:
    for path in SERVICES.values():
        assert settings_in(path, "OnFailure") == ["borg-vault-alarm@%n.service"]
        assert settings_in(path, "NoNewPrivileges") == ["yes"]
        assert settings_in(path, "TimeoutStartSec") != []
        assert settings_in(path, "User") == ["borg-vault"]
    assert (DRILL / "borg-vault-alarm@.service").exists()
    namespaces = {path.name: settings_in(path, "RestrictNamespaces") for path in SERVICES.values()}
    assert namespaces.pop("borg-vault-drill.service") == ["user net"]  # its server is cut off by them
    assert set(map(str, namespaces.values())) == {"['yes']"}


@needs_systemd
def test_the_units_commands_run_with_nothing_but_their_credentials(
    host: dict[str, str], repository: PlainRepository, tmp_path: Path
) -> None:
    said = ""
    for name, path in SERVICES.items():
        (command,) = settings_in(path, "ExecStart")
        command = command.replace("%i", name.partition("@")[2].partition(".")[0])
        command = command.replace("/etc/borg-vault/config.toml", shlex.quote(host["CONFIG"]))
        if name == "borg-vault-overdue.service":
            key_is_elsewhere(host, tmp_path)
        loaded = {one.partition(":")[0] for one in settings_in(path, "LoadCredential")}
        credentials = tmp_path / "credentials of" / name
        credentials.mkdir(parents=True)
        for credential in loaded:
            shutil.copy(tmp_path / "credentials" / credential, credentials)
        said = run_line(command, host | {"CREDENTIALS_DIRECTORY": str(credentials)})
    assert said.startswith("complete backup: yes")
    assert (tmp_path / "state" / "evidence" / "drill.html").exists()
    assert [name for name in repository.names() if "provisioning" in name]


def key_is_elsewhere(host: dict[str, str], place: Path) -> None:
    """Export the repository's key, and take it away."""
    run_line(f"borg-vault --config {host['CONFIG']} init -r nas --key-out {place}/key", host)
    (place / "key").unlink()


def test_cron_lines_run_and_a_good_night_is_silent(
    host: dict[str, str], server: Vault, repository: PlainRepository, tmp_path: Path
) -> None:
    written(tmp_path / "files" / "passphrase", repository.passphrase)
    written(tmp_path / "files" / "url", server.url)
    config = tmp_path / "config.toml"
    text = config.read_text("utf-8")
    for credential, name in (("borg-passphrase", "passphrase"), ("database-url", "url")):
        text = text.replace(f'command = "systemd-creds cat {credential}"', f'file = "{tmp_path}/files/{name}"')
    config.unlink()
    written(config, text)
    lines = (TIMERS / "crontab").read_text("utf-8").splitlines()
    assert "BORG_VAULT_CONFIG=/etc/borg-vault/config.toml" in lines
    jobs = [line for line in lines if re.match(r"[\d*]", line)]
    for job in jobs:
        (user, command) = job.split(maxsplit=6)[5:]
        assert user == "borg-vault"
        environment = {"HOME": host["HOME"], "BORG_VAULT_CONFIG": str(config)}
        assert run_line(command.replace("/usr/local/bin/borg-vault", str(PROGRAM)), environment) == ""
    assert len(jobs) == 4
    assert len(repository.names()) == 2  # the keys are attested


def manifests() -> dict[str, Any]:
    """Give the objects in the CronJob's file by their kind."""
    return {one["kind"]: one for one in yaml.safe_load_all((TIMERS / "cronjob.yaml").read_text("utf-8"))}


def test_the_cronjob_keeps_its_state_and_has_no_rights() -> None:
    found = manifests()
    job = found["CronJob"]["spec"]
    assert (job["concurrencyPolicy"], job["timeZone"]) == ("Forbid", "Etc/UTC")
    assert re.fullmatch(r"\d+ \d+ \* \* \*", job["schedule"])
    assert job["jobTemplate"]["spec"]["activeDeadlineSeconds"] < 86_400
    pod = job["jobTemplate"]["spec"]["template"]["spec"]
    assert pod["restartPolicy"] == "Never"
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["automountServiceAccountToken"] is False
    (container,) = pod["containers"]
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert {"cpu", "memory"} <= set(container["resources"]["requests"])
    volumes = {one["name"]: one for one in pod["volumes"]}
    claim = volumes["state"]["persistentVolumeClaim"]["claimName"]
    assert claim == found["PersistentVolumeClaim"]["metadata"]["name"]
    assert volumes["secrets"]["secret"]["secretName"] == found["Secret"]["metadata"]["name"]
    assert volumes["secrets"]["secret"]["defaultMode"] == 0o440
    assert {one["name"] for one in container["volumeMounts"]} == set(volumes)
    writable = {one["mountPath"] for one in container["volumeMounts"] if not one.get("readOnly")}
    variables = {one["name"]: one["value"] for one in container["env"]}
    for name in ("HOME", "XDG_STATE_HOME", "BORG_BASE_DIR"):
        assert any(variables[name].startswith(path) for path in writable), name


def test_the_cronjobs_command_runs_as_it_is_mounted(server: Vault, repository: PlainRepository, tmp_path: Path) -> None:
    secrets = manifests()["Secret"]["stringData"]
    assert tomllib.loads(secrets["config.toml"])
    mounted = tmp_path / "secrets"
    mounted.mkdir()
    config = told(secrets["config.toml"].replace("/secrets/", f"{mounted}/"), repository, tmp_path)
    for name, text in {
        "config.toml": config,
        "database-url": server.url + "\n",
        "borg-passphrase": repository.passphrase + "\n",
    }.items():
        written(mounted / name, text).chmod(0o440)
    mounted.chmod(0o1777)  # as a Secret's directory is
    assert load_settings(mounted / "config.toml", {}).label == "prod"
    (container,) = manifests()["CronJob"]["spec"]["jobTemplate"]["spec"]["template"]["spec"]["containers"]
    variables = {one["name"]: one["value"] for one in container["env"]}
    here = {
        name: value.replace("/state", f"{tmp_path}/state").replace("/secrets", str(mounted))
        for name, value in variables.items()
    }
    said = run_line(shlex.join([*container["command"], *container["args"]]), here)
    assert ": GOOD" in said
    assert (tmp_path / "state" / "borg-vault" / "history.ndjson").exists()
