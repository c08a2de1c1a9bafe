"""Documents that somebody else wrote or damaged: histories, manifests, configurations. No traceback, and no waiting."""

from __future__ import annotations

import contextlib
import csv
import gzip
import io
import json
import os
import shutil
import tarfile
import tempfile
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from fix_cli import RunCli
from fix_hostile import ESCAPES, is_harmless
from fix_judged import night, resealed_set
from fix_tamper import tampered
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from borg_vault_plugin.archive import Archive, Series
from borg_vault_plugin.borg import Inventory
from borg_vault_plugin.chain.source import NotCheckedError
from borg_vault_plugin.chain.times import milliseconds
from borg_vault_plugin.config import Settings
from borg_vault_plugin.errors import SourceError
from borg_vault_plugin.history import Event, events_in
from borg_vault_plugin.ledger import check
from borg_vault_plugin.predecessor import HEADS, REGISTRY, Predecessors, past_of, read_evidence, registry_rows
from borg_vault_plugin.report import as_json
from borg_vault_plugin.tarballs.dump_header import read_header
from borg_vault_plugin.tarballs.tar_members import open_members
from borg_vault_plugin.tarballs.tarball import read_metadata, timestamp_in
from borg_vault_plugin.text import event_lines
from borg_vault_plugin.verify import Request, verify
from borg_vault_plugin.wording import visible

pytest_plugins = ("fix_server",)

SERIES = Series("prod", "database")
NOW = datetime(2026, 6, 1, tzinfo=UTC)
# What JSON can hold: lone surrogates, numbers without end, times at the edges of the calendar and without a zone.
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-(10**30), 10**30)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters() | st.sampled_from("\0\x1b\x9b\u202e\ud800"), max_size=20)
    | st.sampled_from(["9999-12-31T23:59:59-23:59", "0001-01-01T00:00:00+23:59", "2026-05-26T00:00:00", "..", "/etc"])
)
JSON = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner, max_size=3)
)
EVENT = {
    "time": "2026-05-26T01:33:27Z",
    "event": "drilled",
    "archive": "prod-2026-05-26T01:33:27Z",
    "repository": "ab",
    "archive_id": "cd",
    "verdict": "passed",
    "rpo_seconds": 1.5,
}
DEEP = "[" * 100_000 + "]" * 100_000


def event(**changes: object) -> bytes:
    return json.dumps({**EVENT, **changes}).encode()


# Lines that are no events: each is passed over.
NO_EVENTS = {
    "nothing": b"",
    "a list": b"[]",
    "a torn line": event()[:-20],
    "no UTF-8": b'{"time": "2026-05-26T01:33:27Z", "event": "drilled", "archive": "\xff"}',
    "another type": event(archive=7),
    "another happening": event(event="destroyed"),
    "no zone": event(time="2026-05-26T01:33:27"),
    "beyond the calendar": event(time="9999-12-31T23:59:59-23:59"),
    "before the calendar": event(time="0001-01-01T00:00:00+23:59"),
    "a number without end": event(rpo_seconds=1)[:-1] + b"9" * 5_000 + b"}",
    "an infinite number": event(rpo_seconds=1)[:-1] + b"e999}",
    "half a character": event(archive="\ud800"),
    "deep": b'{"x": ' + DEEP.encode() + b"}",
    "deep objects": b'{"x":' * 100_000 + b"1" + b"}" * 100_000,
}
# Lines that are events, whatever they say.
EVENTS = {
    "the same key twice": event()[:-1] + b', "archive": "other"}',
    "escapes": event(archive=ESCAPES, reason=ESCAPES, where="<script>", server=ESCAPES),
    "a large number": event(rpo_seconds=1e308, rto_seconds=-1e308),
    "the end of time": event(time="9999-12-31T23:59:59Z"),
    "a long line": event(reason="x" * 1_000_000),
}


def mangled(document: dict[str, Any], draw: st.DataObject) -> dict[str, Any]:
    """Put any JSON in the place of one thing somewhere in a document."""
    copied: Any = json.loads(json.dumps(document))
    place: Any = copied
    for _ in range(draw.draw(st.integers(0, 4))):
        below = [one for one in (place.values() if isinstance(place, dict) else place) if isinstance(one, dict | list)]
        below = [one for one in below if one]
        if not below:
            break
        place = draw.draw(st.sampled_from(below))
    key = draw.draw(st.sampled_from(sorted(place) if isinstance(place, dict) else range(len(place))))
    place[key] = draw.draw(JSON)
    return dict(copied)


@given(st.data())
def test_no_value_in_a_history_makes_anything_crash(data: st.DataObject) -> None:
    line = json.dumps(mangled(EVENT, data)).encode()
    for found in events_in(line):
        assert list(events_in(found.line())) == [found]
        assert json.loads(as_json(found))["event"] == found.event
        assert all(visible(told).isprintable() for told in event_lines([found]))
        looked_at = Inventory(found.repository, (Archive(found.archive, "id", NOW, ""),))
        list(check(looked_at, SERIES, [found], NOW))


@given(st.binary(max_size=300))
def test_no_bytes_in_a_history_make_it_crash(data: bytes) -> None:
    assert all(isinstance(found, Event) for found in events_in(data))


@pytest.mark.parametrize("name", [*NO_EVENTS, *EVENTS])
def test_a_hostile_line_does_not_hide_the_lines_around_it(name: str) -> None:
    line = (NO_EVENTS | EVENTS)[name]
    found = list(events_in(b"\n".join((event(), line, event(archive="last")))))
    assert [one.archive for one in (found[0], found[-1])] == [EVENT["archive"], "last"]
    assert len(found) == (2 if name in NO_EVENTS else 3)


@pytest.fixture
def remembered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """Writer of this host's history, for a program that knows no more than a label."""
    path = tmp_path / "xdg_state_home" / "borg-vault" / "history.ndjson"
    path.parent.mkdir(mode=0o700, parents=True)
    monkeypatch.setenv("DATABASE_URL", "postgresql:///prod")

    def write(*lines: bytes) -> Path:
        path.write_bytes(b"\n".join(lines))
        return path

    return write


def test_a_hostile_history_is_shown_without_steering_the_terminal(
    remembered: Callable[..., Path], run_cli: RunCli
) -> None:
    remembered(*NO_EVENTS.values(), *EVENTS.values(), event()[:-5])
    said = run_cli("history", exit_code=0)
    assert is_harmless(said.stdout)
    assert len(said.stdout.splitlines()) == len(EVENTS)
    document = run_cli("history", "--json", exit_code=0)
    assert is_harmless(document.stdout)
    assert len(document.document["events"]) == len(EVENTS)


def test_a_history_that_cannot_be_read_is_told(remembered: Callable[..., Path], run_cli: RunCli) -> None:
    path = remembered(event())
    path.unlink()
    path.mkdir()
    assert f"history {path} cannot be read: Is a directory" in run_cli("history", exit_code=3).stderr


def test_what_is_taken_in_is_a_small_file_with_results_of_the_past(
    remembered: Callable[..., Path], run_cli: RunCli, tmp_path: Path
) -> None:
    remembered(event())
    file = tmp_path / "other.ndjson"
    later = (datetime.now(UTC) + timedelta(hours=1)).isoformat()
    others = (event(event=one) for one in ("accepted", "pinned", "removed", "rewound", "created", "attested"))
    file.write_bytes(
        b"\n".join([*NO_EVENTS.values(), *others, event(), event(time=later), *[event(archive="new")] * 2])
    )
    assert "1 new result from" in run_cli("history", "add", file, exit_code=0).stdout
    assert [one["archive"] for one in run_cli("history", "--json", exit_code=0).document["events"]][1:] == ["new"]


@pytest.mark.parametrize("what", ["a pipe", "a link", "nothing", "very long"])
def test_what_is_no_history_of_a_drill_is_not_taken_in(what: str, run_cli: RunCli, tmp_path: Path) -> None:
    file = tmp_path / "other.ndjson"
    if what == "a pipe":
        os.mkfifo(file)
    elif what == "a link":
        file.symlink_to("/dev/zero")
    elif what == "very long":
        with file.open("wb") as sparse:
            sparse.truncate(65 << 20)
    assert str(file) in run_cli("history", "add", file, exit_code=2).stderr


@cache
def genuine_set() -> Path:
    """A sealed set, made once."""
    directory = Path(tempfile.mkdtemp(prefix="borg-vault-test-"))
    night(directory, tampered("v2"))
    return directory


@pytest.fixture(scope="module", autouse=True)
def _tidy() -> Iterator[None]:
    yield
    if genuine_set.cache_info().currsize:
        shutil.rmtree(genuine_set())


@contextlib.contextmanager
def with_manifest(text: bytes) -> Iterator[Path]:
    """Give a sealed set whose manifest is another one."""
    with tempfile.TemporaryDirectory() as place:
        directory = shutil.copytree(genuine_set(), Path(place) / "set")
        (directory / "manifest.json").unlink()
        (directory / "manifest.json").write_bytes(text)
        yield directory


@settings(max_examples=30, suppress_health_check=[HealthCheck.too_slow])
@given(st.data())
def test_no_value_in_a_manifest_makes_verification_crash(data: st.DataObject) -> None:
    manifest = json.loads((genuine_set() / "manifest.json").read_text("utf-8"))
    with with_manifest(json.dumps(mangled(manifest, data)).encode()) as directory:
        outcome = verify(Settings(label="prod", state_directory=directory.parent), Request(str(directory), jobs=1))
        assert outcome.report.verdict in ("failed", "not_checked")
        with contextlib.suppress(NotCheckedError):
            past = read_evidence(directory)
            past_of(Predecessors((past,)), b"secret")
            assert past.manifest.time.astimezone(UTC).tzinfo is UTC


MANIFESTS = {
    "no UTF-8": (b'{"set": "database", "label": "\xff"}', "cannot be read"),
    "deep": (b'{"set": "database", "x": ' + DEEP.encode() + b"}", "cannot be read"),
    "another set": (b'{"set": "everything"}', "cannot be read"),
    "a list": (b"[]", "cannot be read"),
    "nothing": (b"", "cannot be read"),
}


@pytest.mark.parametrize("name", MANIFESTS)
def test_a_manifest_that_is_none_is_no_verdict(name: str, run_cli: RunCli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgresql:///prod")
    text, words = MANIFESTS[name]
    with with_manifest(text) as directory:
        said = run_cli("verify", directory, "--jobs", "1", exit_code=11)
        assert f"not checked: manifest.json {words}" in said.stderr
        assert len(said.stderr.splitlines()) == 1


@pytest.mark.parametrize("time", ["2026-05-26T01:33:27", "9999-12-31T23:59:59-23:59", "0001-01-01T00:00:00+23:59"])
def test_an_instant_that_cannot_be_compared_makes_a_manifest_unreadable(time: str) -> None:
    manifest = json.loads((genuine_set() / "manifest.json").read_text("utf-8"))
    manifest["snapshot"]["time"] = time
    with with_manifest(json.dumps(manifest).encode()) as directory, pytest.raises(NotCheckedError, match="manifest"):
        read_evidence(directory)


NO_EVIDENCE = {
    "a head nested deep": (HEADS, DEEP.encode()),
    "a head of another shape": (HEADS, b'{"chain_key": [], "position": 1, "hash": null}'),
    "a head before the first": (HEADS, b'{"chain_key": "a", "position": 0, "hash": null}'),
    "a head beyond all": (HEADS, b'{"chain_key": "a", "position": 100000000000000000000, "hash": null}'),
    "a head that is no UTF-8": (HEADS, b'{"chain_key": "\xff", "position": 1, "hash": null}'),
    "a head without end": (HEADS, b" " * (65 << 20)),
    "a key without end": (REGISTRY, b"key_id,public_key\n" + b"a" * 200_000 + b",x\n"),
    "a registry without end": (REGISTRY, b"x" * (65 << 20)),
}


@pytest.mark.parametrize("name", NO_EVIDENCE)
def test_evidence_of_another_shape_is_no_verdict(name: str, tmp_path: Path) -> None:
    path, data = NO_EVIDENCE[name]
    one = resealed_set(night(tmp_path / "set", tampered("v2")), path, data)
    limit = csv.field_size_limit(131_072)  # Python's own, which other parts of the program raise
    try:
        with pytest.raises(NotCheckedError):
            all_evidence(one.directory)
    finally:
        csv.field_size_limit(limit)


def all_evidence(directory: Path) -> None:
    past_of(Predecessors((read_evidence(directory),)), b"secret")
    registry_rows(directory)


CONFIGURATIONS = {
    "deep": ("x = " + "[" * 50_000 + "]" * 50_000, "cannot be read"),
    "deep tables": ("[" + ".".join("a" * 20_000) + "]", "a is not a setting"),
    "a number without end": ("[sets.database]\nkeep = " + "9" * 10_000, "cannot be read"),
    "a duration without end": (f"[sets.database]\nmax_age = '{'9' * 30}d'", "a duration is at most 999999999d"),
    "escapes": ('"\\u001b[2J" = 1', "is not a setting"),
    "half of a text": ("label = 'prod", "cannot be read"),
    "a list for a table": ("database = [1, 2]", "database"),
    "a table for a text": ("[label]\nx = 1", "label"),
    "a huge file": ("#" * (2 << 20), "is longer than 1048576 bytes"),
}


@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_a_hostile_configuration_is_refused_on_one_line(
    name: str, run_cli: RunCli, write_config: Callable[[str], Path]
) -> None:
    text, words = CONFIGURATIONS[name]
    write_config(text)
    said = run_cli("config", "show", exit_code=3)
    assert words in said.stderr
    assert is_harmless(said.stderr)
    assert len(said.stderr) < 400


def test_a_configuration_that_others_can_replace_is_refused(
    run_cli: RunCli, write_config: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_config('label = "prod"')
    tmp_path.chmod(0o777)
    assert f"can be replaced by others: run chmod o-w {tmp_path}" in run_cli("config", "show", exit_code=3).stderr
    tmp_path.chmod(0o1777)
    run_cli("config", "show", exit_code=0)
    link = tmp_path / "link.toml"
    link.symlink_to(path)
    monkeypatch.setenv("BORG_VAULT_CONFIG", str(link))
    run_cli("config", "show", exit_code=0)
    path.chmod(0o666)
    assert "can be written by others" in run_cli("config", "show", exit_code=3).stderr


@pytest.mark.parametrize("what", ["directory", "pipe"])
def test_what_is_no_configuration_is_never_waited_for(
    what: str, run_cli: RunCli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "config.toml"
    if what == "directory":
        path.mkdir()
    else:
        os.mkfifo(path, 0o600)
    monkeypatch.setenv("BORG_VAULT_CONFIG", str(path))
    run_cli("config", "show", exit_code=3 if what == "directory" else 0)


@given(st.text(max_size=60), st.text(st.sampled_from("prod-2026:TZ.suspect\n٣é"), max_size=40))
def test_no_comment_and_no_name_of_an_archive_makes_it_crash(comment: str, name: str) -> None:
    archive = Archive(name, "id", NOW, comment)
    assert archive.verdict is None or isinstance(archive.verdict, str)
    assert not SERIES.is_good(archive) or SERIES.owns(name)
    assert not SERIES.owns(name) or name.isascii()


@given(
    st.text(max_size=40) | st.from_regex(r"[0-9]{4}-[0-9]{2}-[0-9]{2}[T-][0-9:]{6,8}(\.[0-9]{3})?Z?", fullmatch=True)
)
def test_no_text_makes_reading_a_time_crash(text: str) -> None:
    assert milliseconds(text) is None or isinstance(milliseconds(text), int)
    found = timestamp_in(f"backup-{text}.tar.gz")
    assert found is None or found.tzinfo is not None


@given(st.binary(max_size=200))
def test_no_metadata_of_a_tarball_makes_reading_crash(data: bytes) -> None:
    assert all(isinstance(value, str) for value in read_metadata(data).values())


def tar_bytes() -> bytearray:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w", format=tarfile.GNU_FORMAT) as tar:
        for name in ("2026-06-12-013027/db.dump", "2026-06-12-013027/vault-public-keys.csv"):
            header = tarfile.TarInfo(name)
            header.size = 5
            tar.addfile(header, io.BytesIO(b"PGDMP"))
    return bytearray(packed.getvalue())


def summed(block: bytearray) -> None:
    """Write the sum of a header into it, as whoever makes a tar does."""
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block[:512])


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 511), st.integers(0, 255)), min_size=1, max_size=4))
def test_no_header_of_a_tar_makes_reading_crash(changes: list[tuple[int, int]]) -> None:
    data = tar_bytes()
    block = data[:512]
    for place, value in changes:
        block[place] = value
    summed(block)
    with tempfile.NamedTemporaryFile(suffix=".tar.gz") as file:
        Path(file.name).write_bytes(gzip.compress(bytes(block) + bytes(data[512:]), 1))
        with contextlib.suppress(SourceError), open_members(Path(file.name)) as members:
            assert all(sum(map(len, one.pieces)) == one.size for one in members)


@given(st.binary(max_size=120), st.booleans())
def test_no_head_of_a_dump_makes_reading_crash(data: bytes, named: bool) -> None:  # noqa: FBT001
    with tempfile.NamedTemporaryFile() as file:
        Path(file.name).write_bytes((b"PGDMP\x01\x10\x00\x04\x08\x01" if named else b"") + data)
        with contextlib.suppress(SourceError):
            assert read_header(Path(file.name)).major >= 0
