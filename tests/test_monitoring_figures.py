"""Figures: what node_exporter reads is what happened, whatever fails in between; README and the table agree."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest
from fix_cli import RunCli
from fix_damage import cut
from fix_history import LABEL, Server, WriteConfig
from fix_shelf import Shelf
from prometheus_client.parser import text_string_to_metric_families

from borg_vault_plugin.archive import TIME_FORMAT
from borg_vault_plugin.monitoring.figures import METRICS, PREFIX

pytest_plugins = ("fix_server", "fix_good_night", "fix_sets")

ROOT = Path(__file__).parent.parent
Read = Callable[..., float | None]


@pytest.fixture
def textfile(tmp_path: Path) -> Path:
    """Where the metrics are written."""
    (tmp_path / "collector").mkdir()
    return tmp_path / "collector" / "borg-vault.prom"


@pytest.fixture
def section(textfile: Path) -> str:
    """The section that has them written."""
    return f"[monitoring.prometheus]\ntextfile = '{textfile}'\n"


@pytest.fixture
def value(textfile: Path) -> Read:
    """Reader of one sample, by the client library's own parser; None when it is not there."""

    def read(name: str, **labels: str) -> float | None:
        for family in text_string_to_metric_families(textfile.read_text("utf-8")):
            for sample in family.samples:
                told = {label: text for label, text in sample.labels.items() if text}
                if (sample.name, told) == (PREFIX + name, {"label": "prod", **labels}):
                    return float(sample.value)
        return None

    return read


@pytest.fixture
def measured(seasoned: Server, write_config: WriteConfig, section: str) -> Server:
    """A Server with a good night behind it, whose next nights are measured."""
    write_config(LABEL + section)
    return seasoned


def instant(archive: str) -> float:
    """Give the instant in the name of an archive of the label `prod`."""
    return datetime.strptime(archive, f"prod-{TIME_FORMAT}").replace(tzinfo=UTC).timestamp()


def test_a_good_night_is_in_the_file_with_its_sizes_and_seconds(measured: Server, textfile: Path, value: Read) -> None:
    document = measured.night()
    (stored,) = document["repositories"]
    here = {"set": "database", "repository": "default"}
    assert value("last_success_timestamp_seconds", **here) == instant(document["archive"])
    assert value("up_to_date", set="database") == 1
    assert value("max_age_seconds", set="database") == 26 * 3600
    assert value("last_run_exit_code", set="database") == 0
    for kind in ("original", "compressed", "deduplicated"):
        assert value(f"archive_{kind}_bytes", **here) == stored[f"{kind}_size"]
    for phase, seconds in document["seconds"].items():
        assert value("phase_duration_seconds", set="database", phase=phase) == seconds
    for table, rows in document["counts"].items():
        assert value("entries", set="database", table=table) == rows
    assert value("archive_growth_bytes", **here) is None
    assert textfile.stat().st_mode & 0o777 == 0o644
    assert [path.name for path in textfile.parent.iterdir()] == [textfile.name]


def test_the_next_night_says_how_much_the_archive_has_grown(measured: Server, value: Read) -> None:
    first = measured.night()["repositories"][0]["original_size"]
    measured.grow(entries=50)
    second = measured.night()["repositories"][0]["original_size"]
    grown = value("archive_growth_bytes", set="database", repository="default")
    assert grown == second - first
    assert second > first


def test_a_run_that_failed_erases_nothing_of_the_last_success(
    measured: Server, value: Read, monkeypatch: pytest.MonkeyPatch
) -> None:
    document = measured.night()
    ended = value("last_run_timestamp_seconds", set="database")
    monkeypatch.setenv("DATABASE_URL", measured.vault.url.replace(measured.vault.database, "gone"))
    measured.run("create", exit_code=4)
    assert value("last_run_exit_code", set="database") == 4
    assert (value("last_run_timestamp_seconds", set="database") or 0) > (ended or 0) > 0
    good = instant(document["archive"])
    assert value("last_success_timestamp_seconds", set="database", repository="default") == good
    assert value("entries", set="database", table="audit_vault") == document["counts"]["audit_vault"]


def test_findings_are_counted_by_their_codes_until_a_good_night(measured: Server, value: Read) -> None:
    measured.night()
    measured.damage(cut)
    document = measured.night(exit_code=10)
    codes = [one["code"] for one in (*document["chain"]["findings"], *document["continuity"]["findings"])]
    assert codes
    for code in set(codes):
        assert value("findings", set="database", code=code) == codes.count(code)
    assert value("last_run_exit_code", set="database") == 10
    measured.mend()
    measured.night()
    assert all(value("findings", set="database", code=code) is None for code in codes)


def test_verifying_and_checking_are_measured_too(measured: Server, value: Read) -> None:
    measured.night()
    here = {"set": "database", "repository": "default"}
    assert value("last_verify_success_timestamp_seconds", **here) is None
    before = datetime.now(UTC).timestamp()
    measured.run("verify", exit_code=0)
    measured.run("check", exit_code=0)
    assert (value("last_verify_success_timestamp_seconds", **here) or 0) >= before
    assert (value("last_check_success_timestamp_seconds", repository="default") or 0) >= before
    assert value("phase_duration_seconds", set="database", phase="total") is not None


def test_a_drill_is_measured_with_rpo_and_rto(measured: Server, value: Read) -> None:
    measured.night()
    document = measured.run("drill", "--json", exit_code=0).document
    assert value("drill_rpo_seconds", set="database") == document["rpo_seconds"]
    assert value("drill_rto_seconds", set="database") == document["rto_seconds"]
    drilled = value("last_drill_success_timestamp_seconds", set="database", repository="default")
    assert drilled == datetime.fromisoformat(document["time"]).timestamp()


def test_every_set_and_every_repository_has_figures_of_its_own(
    provisioned: Shelf, tree: Path, section: str, value: Read
) -> None:
    keys = "[sets.keys]\nattest = 'true'\nrepositories = ['escrow']"
    sets = f"[sets.provisioning]\npath = '{tree}'\nrepositories = ['nas', 'second']\n{keys}\n{section}"
    provisioned.configure(sets, nas="", second="", escrow="")
    provisioned.run("create", "--set", "provisioning", exit_code=0)
    assert (value("up_to_date", set="keys"), value("up_to_date", set="provisioning")) == (0, 1)
    assert value("up_to_date", set="database") is None, "other hosts may back it up"
    provisioned.run("create", "--set", "keys", exit_code=0)
    shutil.move(provisioned["second"].path, provisioned["second"].path.with_name("away"))
    provisioned.run("create", "--set", "provisioning", exit_code=5)
    nas, second = (
        value("last_success_timestamp_seconds", set="provisioning", repository=name) for name in ("nas", "second")
    )
    assert nas is not None
    assert second is not None
    assert nas >= second
    assert value("last_attest_success_timestamp_seconds", set="keys") is not None
    assert (value("up_to_date", set="keys"), value("up_to_date", set="provisioning")) == (1, 1)
    assert value("last_run_exit_code", set="provisioning") == 5


def test_a_file_that_cannot_be_written_fails_no_backup(
    provisioned: Shelf, tree: Path, section: str, textfile: Path
) -> None:
    textfile.parent.rmdir()
    provisioned.configure(f"[sets.provisioning]\npath = '{tree}'\n{section}", nas="")
    warning = "plugin prometheus-textfile could not pass the figures on: [Errno 2] No such file or directory"
    document = provisioned.run("create", "--set", "provisioning", "--json", exit_code=0, warning=warning).document
    assert [one["plugin"] for one in document["notifications"]] == ["prometheus-textfile"]


def test_a_set_staged_for_somebody_else_is_measured_too(
    measured: Server, value: Read, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = measured.vault.url
    monkeypatch.setenv("DATABASE_URL", url.replace(measured.vault.database, "gone"))
    measured.run("stage", tmp_path / "set", exit_code=4)
    assert value("last_run_exit_code", set="database") == 4
    monkeypatch.setenv("DATABASE_URL", url)
    counts = measured.run("stage", tmp_path / "set", "--json", exit_code=0).document["counts"]
    assert value("last_run_exit_code", set="database") == 0
    assert value("entries", set="database", table="audit_vault") == counts["audit_vault"]


def test_an_archive_that_another_program_made_counts_once_it_is_confirmed(
    measured: Server, value: Read, tmp_path: Path
) -> None:
    archive = measured.run("stage", tmp_path / "set", "--json", exit_code=0).document["archive"]
    here = {"set": "database", "repository": "default"}
    before = value("last_success_timestamp_seconds", set="database")
    measured.repository.borg("create", "::others", tmp_path / "set")
    measured.run("confirm", "-r", "default", "--from", tmp_path / "set", exit_code=0)
    assert value("last_success_timestamp_seconds", **here) == instant(archive)
    assert (before or 0) < instant(archive)


def test_what_is_not_remembered_is_not_told(measured: Server, state: Path, value: Read) -> None:
    measured.night()
    place = state / "last-runs"
    assert json.loads((place / "prod.json").read_bytes())["exit_code"] == 0
    (place / "prod.json").write_bytes(b"{")
    measured.run("verify", exit_code=0)
    assert value("last_run_exit_code", set="database") is None
    assert value("last_success_timestamp_seconds", set="database", repository="default") is not None
    # What history knows without a name for the repository is told without one.
    shutil.rmtree(place)
    measured.run("verify", exit_code=0)
    assert value("last_success_timestamp_seconds", set="database") is not None


def test_nothing_is_remembered_where_nobody_measures(provisioned: Shelf) -> None:
    provisioned.run("create", "--set", "provisioning", exit_code=0)
    assert not (provisioned.state / "last-runs").exists()


@pytest.mark.parametrize("name", ["/var/lib/metrics.txt", "metrics.prom"])
def test_a_file_that_node_exporter_would_not_read_is_refused(
    name: str, run_cli: RunCli, write_config: WriteConfig
) -> None:
    write_config(f'[monitoring.prometheus]\ntextfile = "{name}"\n')
    said = run_cli("config", "validate", exit_code=3).stderr
    assert "monitoring.prometheus.textfile: node_exporter reads only files whose names end in .prom" in said


def test_every_metric_stands_in_readme_with_its_labels_and_what_it_says() -> None:
    readme = (ROOT / "README.md").read_text("utf-8")
    rows = re.findall(rf"^\| `{PREFIX}(\w+)` \| ([^|]*) \| (.+) \|$", readme, re.MULTILINE)
    told = {name: (meaning, tuple(re.findall(r"`(\w+)`", labels))) for name, labels, meaning in rows}
    assert told == METRICS
