"""Which archives tonight's must extend, and that what this host keeps of them counts only when it is exactly that."""

from __future__ import annotations

import copy
import shutil
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path

import pytest
from fix_damage import cut, ledger
from fix_judged import FIRST, SERIES, Night, night
from hypothesis import given
from hypothesis import strategies as st

from borg_vault_plugin.acceptance import Word, latest_rewind, word_of
from borg_vault_plugin.archive import SUFFIX, Archive, Series, Verdict, comment
from borg_vault_plugin.borg import Inventory, Repository, find_borg
from borg_vault_plugin.history import Event, History
from borg_vault_plugin.predecessor import EVIDENCE, KEPT, Evidence, Predecessors, find_predecessors, newest_good
from borg_vault_plugin.report import Rewind
from borg_vault_plugin.sample import SampleVault, VaultShape
from borg_vault_plugin.sections import RepositorySettings

VERDICTS: tuple[Verdict, ...] = ("good", "suspect", "unverified")
REASON = "restored after the fire"


@cache
def sample() -> SampleVault:
    return SampleVault(VaultShape(seed=7, records=3, reads_per_org=2, rotations=0))


@cache
def older(days: int) -> SampleVault:
    vault = copy.deepcopy(sample())
    for _ in range(days):
        vault.grow(None, entries=4)
    return vault


def good_night(directory: Path, number: int) -> Night:
    return night(directory, ledger(older(number - 1)), number=number)


def archive(found: Night) -> Archive:
    """Give a night's archive as a repository lists it."""
    manifest = found.sealed.manifest
    described = comment(manifest.verdict, found.sealed.manifest_sha256, "database")
    name, time = manifest.archive + SUFFIX[manifest.verdict], manifest.snapshot.time
    return Archive(name, f"id of {name}", time, described)


@pytest.fixture
def evidence(tmp_path: Path) -> Evidence:
    """An empty place for evidence."""
    return Evidence(tmp_path / "evidence")


class Lookup:
    """Looks for predecessors among archives of a repository that cannot be reached: all must be in the evidence."""

    def __init__(self, evidence: Evidence, private: Path) -> None:
        self.evidence, self.private = evidence, private
        settings = RepositorySettings(path=str(private / "nowhere"))
        self.repository = Repository("nas", settings, find_borg(), "a passphrase")

    def among(self, archives: Iterable[Archive], word: Word | None = None) -> Predecessors:
        """Give what is found."""
        looked_into = [(self.repository, Inventory("00", tuple(archives)))]
        return find_predecessors(looked_into, SERIES, self.evidence, self.private, word or Word())


@pytest.fixture
def lookup(evidence: Evidence, tmp_path: Path) -> Lookup:
    """Where predecessors are looked for."""
    private = tmp_path / "private"
    private.mkdir()
    return Lookup(evidence, private)


def names(found: Predecessors) -> list[str]:
    return [one.manifest.archive for one in found.sets]


def test_what_is_kept_is_found_by_its_digest(evidence: Evidence, tmp_path: Path) -> None:
    one = good_night(tmp_path / "1", 1)
    evidence.keep(one.directory)
    kept = evidence.find(one.sealed.manifest_sha256)
    assert kept is not None
    assert kept.manifest == one.sealed.manifest
    files = sorted(path.relative_to(kept.directory).as_posix() for path in kept.directory.rglob("*") if path.is_file())
    assert files == sorted(EVIDENCE)
    assert (evidence.directory.stat().st_mode & 0o777, kept.directory.stat().st_mode & 0o777) == (0o700, 0o700)


@pytest.mark.parametrize("path", EVIDENCE)
@pytest.mark.parametrize("change", ["a byte", "its end", "everything"])
def test_what_is_not_what_it_was_is_not_found(path: str, change: str, evidence: Evidence, tmp_path: Path) -> None:
    one = good_night(tmp_path / "1", 1)
    evidence.keep(one.directory)
    place = evidence.directory / one.sealed.manifest_sha256 / path
    data = place.read_bytes()
    changed = {"a byte": bytes([data[0] ^ 1]) + data[1:], "its end": data[:-1], "everything": b""}[change]
    place.write_bytes(changed)
    assert evidence.find(one.sealed.manifest_sha256) is None
    place.unlink()
    assert evidence.find(one.sealed.manifest_sha256) is None
    place.symlink_to(one.directory / path)
    assert evidence.find(one.sealed.manifest_sha256) is None


def test_another_archives_evidence_is_not_taken_for_this_ones(evidence: Evidence, tmp_path: Path) -> None:
    one, two = good_night(tmp_path / "1", 1), good_night(tmp_path / "2", 2)
    evidence.keep(one.directory)
    wanted = evidence.directory / two.sealed.manifest_sha256
    (evidence.directory / one.sealed.manifest_sha256).rename(wanted)
    assert evidence.find(two.sealed.manifest_sha256) is None


def test_only_some_are_kept_and_those_of_the_last_runs(evidence: Evidence, tmp_path: Path) -> None:
    sealed = [good_night(tmp_path / str(number), number).sealed for number in range(1, KEPT + 3)]
    for one in sealed:
        evidence.keep(one.directory)
    assert {path.name for path in evidence.directory.iterdir()} == {one.manifest_sha256 for one in sealed[-KEPT:]}


def test_what_cannot_be_kept_stops_nobody(evidence: Evidence, tmp_path: Path) -> None:
    one = good_night(tmp_path / "1", 1)
    evidence.directory.write_text("a file is in its place", "utf-8")
    evidence.keep(one.directory)
    assert evidence.find(one.sealed.manifest_sha256) is None


def test_the_newest_good_archive_is_extended_and_no_other(lookup: Lookup, tmp_path: Path) -> None:
    first, second = good_night(tmp_path / "1", 1), good_night(tmp_path / "2", 2)
    lookup.evidence.keep(second.directory)
    found = lookup.among([archive(first), archive(second)])
    assert (names(found), found.reasons) == ([second.sealed.manifest.archive], ())


@pytest.mark.parametrize("verdict", ["suspect", "unverified"])
def test_what_is_not_good_is_never_extended(verdict: Verdict, lookup: Lookup, tmp_path: Path) -> None:
    first = good_night(tmp_path / "1", 1)
    lookup.evidence.keep(first.directory)
    later = FIRST + timedelta(days=5)
    other = Archive(SERIES.name(later) + SUFFIX[verdict], "22", later, comment(verdict, "ab" * 32, "database"))
    plain = Archive(SERIES.name(later), "33", later, comment(verdict, "ab" * 32, "database"))
    silent = Archive(SERIES.name(later), "44", later, "")
    for one in (other, plain, silent):
        found = lookup.among([archive(first), one])
        assert (names(found), found.reasons) == ([first.sealed.manifest.archive], ())


def test_a_good_archive_that_cannot_be_read_is_a_reason(lookup: Lookup, tmp_path: Path) -> None:
    found = lookup.among([archive(good_night(tmp_path / "1", 1))])
    assert found.sets == ()
    (reason,) = found.reasons
    assert reason.startswith("the archive before, in nas: repository nas")


def damaged_night(directory: Path, before: Night) -> Night:
    """A night on which a chain is found to be cut."""
    vault = ledger(sample())
    cut(vault, 1, to=3)
    return night(directory, vault, before, number=2)


def test_a_suspect_set_whose_every_finding_was_accepted_is_extended_from_then_on(
    lookup: Lookup, tmp_path: Path
) -> None:
    first = good_night(tmp_path / "1", 1)
    second = damaged_night(tmp_path / "2", first)
    ids = [one.id for one in second.findings]
    for one in (first, second):
        lookup.evidence.keep(one.directory)
    archives = [archive(first), archive(second)]
    assert len(ids) > 1
    assert names(lookup.among(archives)) == [first.sealed.manifest.archive]
    assert names(lookup.among(archives, Word(dict.fromkeys(ids[1:], REASON)))) == [first.sealed.manifest.archive]
    assert names(lookup.among(archives, Word(dict.fromkeys(ids, REASON)))) == [second.sealed.manifest.archive]
    # Whatever else happened since is compared with a newer good one.
    third = night(tmp_path / "3", ledger(older(2)), first, number=3)
    lookup.evidence.keep(third.directory)
    newer = lookup.among([*archives, archive(third)], Word(dict.fromkeys(ids, REASON)))
    assert names(newer) == [third.sealed.manifest.archive]


def test_an_archive_between_a_restored_state_and_the_operators_word_is_not_extended(
    lookup: Lookup, tmp_path: Path
) -> None:
    nights = [good_night(tmp_path / str(number), number) for number in (1, 2, 3)]
    for one in nights:
        lookup.evidence.keep(one.directory)
    archives = [archive(one) for one in nights]
    rewind = Rewind(archives[0].name, archives[1].time + timedelta(hours=1), REASON)
    assert names(lookup.among(archives[:2], Word(rewind=rewind))) == [archives[0].name]
    assert names(lookup.among(archives, Word(rewind=rewind))) == [archives[2].name]


def test_an_archive_of_the_second_in_which_the_operator_spoke_is_extended(lookup: Lookup, tmp_path: Path) -> None:
    nights = [good_night(tmp_path / str(number), number) for number in (1, 2)]
    for one in nights:
        lookup.evidence.keep(one.directory)
    archives = [archive(one) for one in nights]
    rewind = Rewind(archives[0].name, archives[1].time + timedelta(microseconds=232_136), REASON)
    assert names(lookup.among(archives, Word(rewind=rewind))) == [archives[1].name]


moments = st.integers(0, 100).map(lambda hours: FIRST + timedelta(hours=hours))


@given(
    stored=st.lists(st.tuples(moments, st.sampled_from(VERDICTS), st.booleans()), max_size=12),
    restored=moments,
    said=moments,
    rewound=st.booleans(),
)
def test_the_newest_good_archive_follows_from_names_comments_and_the_operators_word(
    stored: list[tuple[datetime, Verdict, bool]], restored: datetime, said: datetime, *, rewound: bool
) -> None:
    archives = [
        Archive(SERIES.name(time) + ("" if plain else SUFFIX[verdict]), "00", time, comment(verdict, "00", "database"))
        for time, verdict, plain in stored
    ]
    said += timedelta(minutes=30)
    rewind = Rewind(SERIES.name(restored), said, REASON) if rewound else None
    good = [time for time, verdict, _ in stored if verdict == "good" and not (rewound and restored < time <= said)]
    found = newest_good(archives, SERIES, rewind)
    assert (found and found.time) == max(good, default=None)


def rewound(archive_name: str, day: int) -> Event:
    return Event(time=datetime(2026, 6, day, tzinfo=UTC), event="rewound", archive=archive_name, reason=f"day {day}")


def test_the_last_word_about_this_server_counts_and_no_word_about_another(tmp_path: Path) -> None:
    history = History(tmp_path / "history.ndjson")
    assert latest_rewind(history, SERIES) is None
    history.append(rewound("prod-2026-05-01T00:00:00Z", 1), rewound("prod-2026-05-02T00:00:00Z", 2))
    history.append(rewound("prod-eu-2026-05-03T00:00:00Z", 3), rewound("holiday pictures", 4))
    word = word_of(history, SERIES)
    assert word.rewind == Rewind("prod-2026-05-02T00:00:00Z", datetime(2026, 6, 2, tzinfo=UTC), "day 2")
    assert latest_rewind(history, Series("test", "database")) is None


def test_evidence_that_is_gone_is_no_error(lookup: Lookup, tmp_path: Path) -> None:
    first = good_night(tmp_path / "1", 1)
    lookup.evidence.keep(first.directory)
    shutil.rmtree(lookup.evidence.directory)
    assert lookup.among([archive(first)]).sets == ()
