"""Secrets stay where they are: in no command line, no child's environment, no log, no error, no file, no archive."""

from __future__ import annotations

import http.server
import os
import re
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from fix_cli import RunCli
from fix_plugin import InstallPlugin
from fix_repository import PASSPHRASE, PlainRepository
from fix_secrets import Seen, files_with
from fix_shelf import Shelf, passphrase, variable
from fix_vault import Vault

pytest_plugins = ("fix_server", "fix_sets")

CUSTOMERS_KEY = "AGE-SECRET-KEY-1QQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQ"
PING = "5f2d7f0c-ping-secret"

CONFIG = """
[database]
url = {{ env = "SERVER_URL" }}
[sets.database]
repositories = ["nas"]
[sets.provisioning]
path = "{tree}"
repositories = ["nas"]
[sets.keys]
paths = ["{keys}"]
repositories = ["escrow"]
[monitoring.healthchecks]
url = {{ env = "PING_URL" }}
[repositories.escrow]
path = "{escrow}"
passphrase = {{ command = "sh -c 'sleep 0.3; cat {place}/of-escrow'" }}
"""


class Listener(http.server.BaseHTTPRequestHandler):
    """Takes pings."""

    bodies: list[bytes]

    def do_POST(self) -> None:
        self.bodies.append(self.rfile.read(int(self.headers["Content-Length"])))
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def listener(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[bytes]]:
    """What was sent to the ping URL."""
    Listener.bodies = []
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Listener) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setenv("PING_URL", f"http://127.0.0.1:{server.server_port}/{PING}")
        yield Listener.bodies
        server.shutdown()


@pytest.fixture
def installation(
    latest_vault: Vault, shelf: Shelf, tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[dict[str, str]]:
    """A Server with all three sets, whose secrets come from everywhere; gives the secrets by what they are."""
    (tmp_path / "keys").mkdir(mode=0o700)
    (tmp_path / "keys" / "customer.key").write_text(CUSTOMERS_KEY, "utf-8")
    (tmp_path / "of-escrow").write_text(passphrase("escrow"), "utf-8")
    places = {"tree": tree, "keys": tmp_path / "keys", "escrow": shelf["escrow"].path, "place": tmp_path}
    shelf.configure(CONFIG.format(**places), nas="", second="")
    monkeypatch.setenv("SERVER_URL", latest_vault.url)
    for name in ("DATABASE_URL", variable("escrow"), variable("third")):
        monkeypatch.delenv(name)
    with tempfile.TemporaryDirectory(prefix="bv-secrets-") as temporary:
        monkeypatch.setenv("TMPDIR", temporary)
        yield {
            "database": latest_vault.cluster.password,
            **{name: passphrase(name) for name in ("nas", "second", "escrow")},
            "ping": PING,
            "customer's key": CUSTOMERS_KEY,
        }
        assert list(Path(temporary).iterdir()) == []
    server = latest_vault.cluster.conninfo()
    with psycopg.connect(server, autocommit=True) as connection:
        query = "SELECT datname FROM pg_database WHERE starts_with(datname, %s)"
        for (name,) in connection.execute(query, [f"{latest_vault.database}_before_"]).fetchall():
            connection.execute(f'DROP DATABASE "{name}"'.encode())


def test_whole_runs_show_no_secret(
    installation: dict[str, str], shelf: Shelf, listener: list[bytes], tmp_path: Path
) -> None:
    seen, out = Seen(), tmp_path / "out"
    out.mkdir()
    seen.run("init", "-r", "nas", "--key-out", out / "key", exit_code=0)
    for name in ("provisioning", "keys", "database"):
        seen.run("create", "--set", name, "--keep", "1", exit_code=0)
    seen.run("stage", out / "staged", exit_code=0)
    seen.run("verify", "--report", out / "verify.html", exit_code=0)
    seen.run("drill", "--evidence", out / "evidence", exit_code=0)
    seen.run("export", "latest", out / "server.tar.gz", exit_code=0)
    seen.run("import", "-r", "second", out / "server.tar.gz", exit_code=0)
    seen.run("restore", "--swap", "--yes", exit_code=0)
    seen.run("dump-chain", out / "chain", exit_code=0)
    for words in (("check",), ("list",), ("history",), ("config", "show"), ("prune", "--keep", "1", "--dry-run")):
        seen.run(*words, exit_code=0)
    seen.run("status", exit_code=13)

    programs = b"\n".join(seen.commands)
    assert all(program in programs for program in (b"pg_dump", b"pg_restore", b"borg", b"of-escrow"))
    assert any("run: " in text for text in seen.said)
    assert listener
    archives = {name: contents(shelf[name]) for name in ("nas", "second", "escrow")}
    theirs = [tmp_path / "of-escrow", tmp_path / "keys" / "customer.key"]
    for what, secret in installation.items():
        told = secret.encode()
        assert told not in seen.everything(), what
        assert not any(told in body for body in listener), what
        assert told not in archives["nas"] + archives["second"], what
        assert (told in archives["escrow"]) == (secret == CUSTOMERS_KEY), what
        assert [path for path in files_with(tmp_path, told) if path not in theirs] == [], what
    for named in (b"SERVER_URL=", b"PING_URL=", b"PGPASSWORD=", b"BORG_PASSPHRASE=", b"PASSPHRASE_OF_"):
        assert not any(named in environment for environment in seen.environments), named


def contents(repository: PlainRepository) -> bytes:
    """Give all that is in the archives of a repository, and what is said about them."""
    whole = [repository.borg("info", "--json", "--glob-archives=*")]
    return b"".join(whole + [repository.borg("export-tar", f"::{name}", "-") for name in repository.names()])


TALKATIVE = {
    "hook that tells its environment": "raise SourceError(f'no: {dict(os.environ)}')",
    "hook that breaks on it": "raise KeyError(dict(os.environ))",
    "hook that tells the URL": "raise SourceError('cannot reach ' + os.environ['DATABASE_URL'])",
}


@pytest.mark.parametrize("name", TALKATIVE)
@pytest.mark.usefixtures("repository")
def test_a_failing_hook_does_not_tell_our_secrets(
    name: str, server: Vault, run_cli: RunCli, install_plugin: InstallPlugin, write_config: object
) -> None:
    install_plugin(f"import os\n@hookimpl\ndef collect_artifacts(snapshot, staging):\n    {TALKATIVE[name]}\n")
    assert callable(write_config)
    write_config('label = "prod"\nplugins = ["badge"]\n')
    for words in (("-v", "create"), ("create", "--json")):
        said = run_cli(*words, exit_code=4)
        assert "hook badge" in said.stderr
        for secret in (server.cluster.password, PASSPHRASE):
            assert secret not in said.stdout + said.stderr


def test_failing_runs_do_not_tell_the_password(
    server: Vault, run_cli: RunCli, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    wrong = server.url.replace(server.cluster.password, "hunter2-hunter2")
    refused = re.sub(r"host=[^&]*", "host=127.0.0.1&port=9", server.url)
    assert refused != server.url
    absent = server.url.replace(f"/{server.database}", "/nobody")
    for url, words in ((wrong, "authentication failed"), (refused, "refused"), (absent, "does not exist")):
        monkeypatch.setenv("DATABASE_URL", url)
        said = run_cli("-v", "create", exit_code=4)
        assert words in said.stderr
        assert "hunter2" not in said.stdout + said.stderr
        assert server.cluster.password not in said.stdout + said.stderr
    monkeypatch.setenv("DATABASE_URL", server.url)
    monkeypatch.setenv("BORG_PASSPHRASE", "open sesame, it is wrong")
    assert "sesame" not in everything_of(run_cli, "-v", "create", exit_code=5)
    monkeypatch.setenv("BORG_REPO", str(tmp_path / "nowhere"))
    assert "sesame" not in everything_of(run_cli, "-v", "list", exit_code=5)
    monkeypatch.delenv("BORG_PASSPHRASE")
    monkeypatch.setenv("BORG_PASSCOMMAND", "sh -c 'echo sesame-sesame; env >&2; exit 3'")
    told = everything_of(run_cli, "-v", "list", exit_code=3)
    assert server.cluster.password not in told
    assert "sesame-sesame\n" not in told


def everything_of(run_cli: RunCli, *words: str, exit_code: int) -> str:
    said = run_cli(*words, exit_code=exit_code)
    return said.stdout + said.stderr


def test_the_command_of_one_secret_gets_no_other_secret(
    shelf: Shelf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPERATORS_OWN", "kept")
    seen = tmp_path / "seen"
    script = tmp_path / "passphrase"
    script.write_text(f"#!/bin/sh\nenv >{seen}\necho '{passphrase('second')}'\n", "utf-8")
    script.chmod(0o700)
    shelf.configure(nas="")
    (config := Path(os.environ["BORG_VAULT_CONFIG"])).write_text(
        config.read_text("utf-8")
        + f"[repositories.second]\npath = '{shelf['second'].path}'\npassphrase = {{ command = '{script}' }}\n",
        "utf-8",
    )
    shelf.run("list", "-r", "second", exit_code=0)
    environment = seen.read_text("utf-8")
    assert "OPERATORS_OWN=kept" in environment
    assert passphrase("nas") not in environment
    assert "DATABASE_URL=" not in environment
