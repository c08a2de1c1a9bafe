"""Where an archive is restored to: the server that `--to` names, and whom somebody at a terminal is asked about."""

from __future__ import annotations

import contextlib
import os
import pty
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from conftest import SMALL, wanted_distribution
from fix_cli import COMMAND, SECONDS, RunCli
from fix_repository import PlainRepository, announce
from fix_restore import CONFIG, LOGIN, OWNER, Rescue
from fix_standby import standby_of
from fix_vault import Vault, connect, digests, template_of

from borg_vault_plugin.cluster import Cluster, Distribution, throwaway_cluster
from borg_vault_plugin.database import source_from_url
from borg_vault_plugin.recovery.destination import look_at

pytest_plugins = ("fix_server", "fix_rescue")


@pytest.fixture(scope="module")
def elsewhere(newest: Distribution) -> Iterator[Cluster]:
    """Another server, which has never had anything of ours."""
    with throwaway_cluster(newest, settings=SMALL) as cluster:
        yield cluster


@pytest.fixture(params=["env", "file", "name"])
def new_server(
    request: pytest.FixtureRequest,
    elsewhere: Cluster,
    write_config: Callable[[str], Path],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> tuple[str, str]:
    """Each way to name another server, and the name of the database there."""
    name = f"server-{request.param}"
    monkeypatch.setenv("NEW_SERVER", elsewhere.url(name))
    (tmp_path / "url").write_text(f"{elsewhere.url(name)}\n", "utf-8")
    (tmp_path / "url").chmod(0o600)
    write_config(f'{CONFIG}[targets.new]\nurl = {{ env = "NEW_SERVER" }}\n')
    return {"env": "env:NEW_SERVER", "file": f"file:{tmp_path / 'url'}", "name": "new"}[request.param], name


def test_a_server_is_named_by_a_reference(
    rescue: Rescue, elsewhere: Cluster, run_cli: RunCli, new_server: tuple[str, str]
) -> None:
    target, name = new_server
    with rescue.untouched():
        document = run_cli("restore", "--to", target, "--swap", "--yes", "--json", exit_code=0).document
    assert (document["database"], document["swapped"]) == (name, True)
    assert elsewhere.password not in str(document)
    assert digests(elsewhere.conninfo(name)) == rescue.digests()
    assert set(document["roles_created"]) <= {OWNER, LOGIN, "agledger_app"}


def test_another_server_says_what_continuity_has_to_know(
    rescue: Rescue, elsewhere: Cluster, run_cli: RunCli, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NEW_SERVER", elsewhere.url("older"))
    words = ("restore", rescue.nights.older, "--to", "env:NEW_SERVER", "--accept-loss", "--json")
    document = run_cli(*words, "--swap", "--yes", exit_code=0).document
    assert rescue.history("rewound") == []
    assert document["next"][-1]["command"] == f"borg-vault accept-rewind {rescue.nights.older} --reason restored"
    again = run_cli(*words, "--database", "beside", exit_code=0).document
    assert again["next"][0]["command"] == (
        f"borg-vault restore {rescue.nights.older} --database beside --to env:NEW_SERVER --swap --accept-loss"
    )


def test_a_newer_server_takes_an_older_dump(
    repository: PlainRepository,
    run_cli: RunCli,
    latest_cluster: Cluster,
    write_config: Callable[[str], Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with throwaway_cluster(wanted_distribution("embedded-16"), settings=SMALL) as older:
        vault = Vault(older, "template_v2", template_of(older, "v2"))
        announce(monkeypatch, vault, repository)
        write_config(CONFIG)
        run_cli("create", exit_code=0)
        monkeypatch.setenv("NEWER", latest_cluster.url("from 16"))
        document = run_cli("restore", "--to", "env:NEWER", "--swap", "--yes", "--json", exit_code=0).document
        assert document["database"] == "from 16"
        assert digests(latest_cluster.conninfo("from 16")) == digests(older.conninfo("template_v2"))
    with connect(latest_cluster.conninfo()) as connection:
        connection.execute('DROP DATABASE "from 16"')


def test_a_standby_is_no_place_to_restore_to(
    rescue: Rescue, elsewhere: Cluster, run_cli: RunCli, monkeypatch: pytest.MonkeyPatch
) -> None:
    with standby_of(elsewhere) as standby:
        monkeypatch.setenv("STANDBY", standby.url("server"))
        said = run_cli("restore", "--to", "env:STANDBY", exit_code=7)
    assert "is a standby: restore to its primary" in said.stderr
    assert rescue.history("restored") == []


def test_a_server_is_reached_beside_the_live_database_where_it_lets_us(elsewhere: Cluster) -> None:
    assert look_at(source_from_url(elsewhere.url("server")), home=True).server.database == "postgres"
    in_postgres = look_at(source_from_url(elsewhere.url("postgres")), home=False)
    assert (in_postgres.server.database, in_postgres.is_aside, in_postgres.live.state) == ("template1", True, "empty")


def test_where_only_the_live_database_lets_us_in_nothing_is_swapped(
    rescue: Rescue, run_cli: RunCli, monkeypatch: pytest.MonkeyPatch
) -> None:
    rescue.execute(f"CREATE ROLE confined LOGIN PASSWORD '{rescue.vault.cluster.password}'")
    rescue.execute("REVOKE CONNECT ON DATABASE postgres, template1 FROM PUBLIC")
    monkeypatch.setenv("DATABASE_URL", rescue.vault.url.replace("//postgres:", "//confined:"))
    with rescue.untouched():
        said = run_cli("restore", "--swap", "--yes", exit_code=7)
    assert "no other database lets us in to rename it from: let us connect to postgres" in said.stderr
    rescue.execute("GRANT CONNECT ON DATABASE postgres, template1 TO PUBLIC")
    rescue.execute("DROP ROLE confined")


@contextlib.contextmanager
def terminal() -> Iterator[tuple[int, int]]:
    """A terminal: what a person holds of it, and what the program gets."""
    person, program = pty.openpty()
    yield person, program
    for descriptor in (person, program):
        with contextlib.suppress(OSError):
            os.close(descriptor)


def asked(answer: str, *words: str) -> subprocess.CompletedProcess[str]:
    """Run the command on a terminal where somebody answers."""
    with terminal() as (person, program):
        os.write(person, f"{answer}\n".encode())
        return subprocess.run(
            [str(COMMAND), *words], stdin=program, capture_output=True, text=True, timeout=SECONDS, check=False
        )


def test_on_a_terminal_the_databases_name_is_asked_for(rescue: Rescue) -> None:
    before = rescue.digests()
    with rescue.untouched():
        done = asked("yes", "restore", "--swap")
        assert done.returncode == 2
        assert f"that is not {rescue.live}: nothing was changed" in done.stderr
        assert f"every session of {rescue.live} is ended" in done.stderr
    rescue.vault.execute("DELETE FROM notes")
    done = asked(rescue.live, "restore", "--swap", "--json")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("{")
    assert rescue.digests() == before
