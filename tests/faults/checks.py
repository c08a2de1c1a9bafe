"""What must hold after a run to which something happened, and after the next one.

Whole means: plain `borg extract`, then `sha256sum --check` over exactly the files that are there.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from fix_fault_run import PLAIN_NAME, Run
from fix_repository import PlainRepository
from fix_vault import digests

from borg_vault_plugin.borg import find_borg
from borg_vault_plugin.errors import LockedError
from borg_vault_plugin.lock import run_lock
from faults.ground import KEEP, LABEL, Contents, Site
from faults.injections import Injection
from faults.moments import Scene

SCRATCH = re.compile(r"(/[^\s':]*?/bv-[a-z0-9_]{8})")
FINDING = re.compile(r"\[id ([0-9a-f]+)\]")
REFUSED = 12
NOT_WHOLE = (5, 10, 11)
LONG_AGO_SECONDS, GONE_SECONDS = 3600, 10


@dataclass(slots=True)
class Aftermath:
    """What came of one run: what does not hold, which archives are lost, how the next runs ended."""

    problems: list[str] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)
    next_codes: list[int] = field(default_factory=list)

    def demand(self, holds: object, problem: str) -> None:
        """Note what does not hold."""
        if not holds:
            self.problems.append(problem)


def look_after(scene: Scene, injection: Injection, codes: Sequence[int]) -> Aftermath:
    """Check the end of the runs, do what an operator would, run once more, and check everything again."""
    after, site = Aftermath(), scene.site
    _check_end(scene, injection, codes, after)
    swaps = scene.case.command == "restore --swap"
    held = [scene.ground.live, scene.ground.archived] if swaps else [scene.ground.live]
    _check_source(site, after, held)
    before = set(scene.ground.nights.archives)
    if injection.damages:
        whole = _check_damaged(site, after)
        repair(site.repository)
        _go_on(scene, injection, ["create"], after)
    else:
        whole = plain_names(site.repository)
        after.lost += lost(scene.case.command, before, whole)
    let_time_pass(scene)
    if not (injection.damages and scene.case.command == "create"):
        _go_on(scene, injection, site.words(scene.case.command)[1:], after)
    _check_left(scene, after)
    # After a repair an archive is made of what is live, whichever of the two that is.
    _check_source(site, after, held[1:] if swaps and not injection.damages else held)
    left = _check_archives(site, after, damaged=injection.damages)
    pruned_by = "create" if injection.damages and scene.case.command != "prune" else scene.case.command
    after.lost += lost(pruned_by, whole, left)
    return after


def lost(command: str, before: Iterable[str], now: Iterable[str]) -> list[str]:
    """Name the archives that are gone and should not be: retention may take what is not among the newest of `keep`.

    Only `create` and `prune` apply retention, and `create` only when it has stored something.
    """
    known, there = sorted({*before, *now}), set(now)
    gone = [name for name in known if name not in there]
    prunes = command == "prune" or (command == "create" and bool(there - set(before)))
    return [name for name in gone if not prunes or name in known[-KEEP[command] :]]


def plain_names(repository: PlainRepository) -> set[str]:
    """Give the archives with plain names."""
    return set(filter(PLAIN_NAME.fullmatch, repository.names()))


def is_whole(repository: PlainRepository, name: str, directory: Path) -> bool:
    """Say whether an archive is whole, with nothing but Borg and sha256sum."""
    subprocess.run(["rm", "-rf", directory], check=True)
    directory.mkdir()
    extracted = subprocess.run(
        [repository_borg(), "extract", f"::{name}"],
        check=False,
        capture_output=True,
        cwd=directory,
        env=repository.environment(),
    )
    command = ["sha256sum", "--check", "--strict", "--quiet", "SHA256SUMS"]
    if extracted.returncode or subprocess.run(command, check=False, capture_output=True, cwd=directory).returncode:
        return False
    listed = {line.split("  ", 1)[1] for line in (directory / "SHA256SUMS").read_text("utf-8").splitlines()}
    there = {path.relative_to(directory).as_posix() for path in directory.rglob("*") if path.is_file()}
    return there == listed | {"SHA256SUMS"}


def repository_borg() -> str:
    """Give the borg program."""
    return str(find_borg().program)


def repair(repository: PlainRepository) -> None:
    """Let Borg repair what it can, as its documentation says."""
    subprocess.run(
        [repository_borg(), "check", "--repair"],
        check=False,
        capture_output=True,
        env={**repository.environment(), "BORG_CHECK_I_KNOW_WHAT_I_AM_DOING": "YES"},
    )


def let_time_pass(scene: Scene) -> None:
    """Age what killed runs have left in shared places: the next run clears away what nobody has held for a minute."""
    long_ago = time.time() - LONG_AGO_SECONDS
    for path in scratch_of(scene):
        if path.exists():
            os.utime(path, (long_ago, long_ago))


def scratch_of(scene: Scene) -> set[Path]:
    """Give the scratch directories that the runs have named, and those in the run's own places."""
    named = {Path(found) for run in scene.runs for found in SCRATCH.findall(run.stdout.read_text("utf-8"))}
    own = (path for place in (scene.site.state, scene.site.staging) for path in place.rglob("bv-*"))
    return {*named, *own} - {scene.ground.cluster.directory}


def betrayed(secrets: Iterable[str], paths: Iterable[Path]) -> Iterator[str]:
    """Name the files that hold a secret."""
    wanted = [secret.encode() for secret in secrets]
    for path in paths:
        if path.is_file() and not path.is_symlink() and any(secret in path.read_bytes() for secret in wanted):
            yield path.name


def _check_end(scene: Scene, injection: Injection, codes: Sequence[int], after: Aftermath) -> None:
    allowed = injection.codes[scene.case.command]
    for run, code in zip(scene.runs, codes, strict=True):
        said = run.said()
        words = said.stderr.strip().splitlines()
        after.demand(code in allowed, f"exit code {code}, not one of {sorted(allowed)}: {words[-1:]}")
        after.demand("Traceback" not in said.stderr, f"a traceback: {words[-1:]}")
        after.demand(not list(betrayed(run.secrets, [run.stdout, run.stderr])), "a secret in what it said")
        after.demand(_is_gone(run), f"still running: {[one.words[:4] for one in run.survivors()]}")
    after.demand(not scene.runs or scene.case.fault[:3] not in ("two", "ten") or 0 in codes, "none of them went well")


def _is_gone(run: Run) -> bool:
    """Say whether every process of a run is gone, at once or soon."""
    deadline = time.monotonic() + GONE_SECONDS
    while run.survivors():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True


def _check_source(site: Site, after: Aftermath, expected: Sequence[Contents]) -> None:
    """Check that the live database is open and holds one of these: what it held or, swapped, what the archive holds."""
    try:
        there = digests(site.vault.cluster.conninfo(site.vault.database))
    except Exception as error:  # noqa: BLE001 - whatever it is, the database is not what it was
        after.problems.append(f"the live database cannot be read: {error}")
    else:
        after.demand(there in expected, "the live database is not what it was")


def _go_on(scene: Scene, injection: Injection, words: list[str], after: Aftermath) -> None:
    """Run again; where retention asks, as it must after some faults, answer once as an operator who knows."""
    done = scene.site.run(*words)
    after.next_codes.append(done.returncode)
    if done.returncode == REFUSED and _only_asks(scene.site, done.stderr, injection.accepted):
        findings = FINDING.findall(done.stderr)
        said = scene.site.run("accept", *findings, "--reason", "this was done on purpose")
        after.demand(said.returncode == 0, f"accept: exit code {said.returncode}: {said.stderr[-200:]}")
        done = scene.site.run(*words)
        after.next_codes.append(done.returncode)
    after.demand(done.returncode == 0, f"next {words[0]}: exit code {done.returncode}: {done.stderr.strip()[-400:]}")
    secrets = scene.runs[0].secrets
    after.demand(not any(secret in done.stdout + done.stderr for secret in secrets), "a secret in the next run's words")


def _only_asks(site: Site, said: str, accepted: frozenset[str]) -> bool:
    """Say whether everything that retention asks about is what it must ask about after this fault."""
    asked = set(FINDING.findall(said))
    events = map(json.loads, filter(_is_document, site.history.read_bytes().splitlines()))
    codes = {event["code"] for event in events if event["event"] == "found" and event["finding"] in asked}
    return bool(asked) and codes <= accepted


def _is_document(line: bytes) -> bool:
    """Whether a line of history was not torn."""
    return line.startswith(b"{") and line.endswith(b"}")


def _check_left(scene: Scene, after: Aftermath) -> None:
    """Check that nothing is left of any run: processes, locks, staging, scratch clusters, archives without a name."""
    site = scene.site
    for run in scene.runs:
        after.demand(not run.survivors(), "a process is left")
    shelf = [path for path in site.stage.parent.iterdir() if path != site.stage]
    left = [*site.staging.glob("*/*"), *shelf, *filter(Path.exists, scratch_of(scene))]
    after.demand(not left, f"left: {', '.join(str(path) for path in left)}")
    locks = [path for place in (site.repository.path, site.place / "borg") for path in place.rglob("lock.*")]
    after.demand(not locks, f"Borg's locks are left: {', '.join(path.name for path in locks)}")
    try:
        with run_lock(site.state, LABEL):
            pass
    except LockedError as error:
        after.problems.append(str(error))
    after.demand(not list(betrayed(scene.runs[0].secrets, site.state.rglob("*"))), "a secret in the state directory")


def _check_archives(site: Site, after: Aftermath, *, damaged: bool) -> set[str]:
    """Check every archive that is there: names, wholeness, and that `verify` says the same; give the whole ones."""
    names = site.repository.names()
    odd = [name for name in names if not PLAIN_NAME.fullmatch(name)]
    after.demand(damaged or not odd, f"archives without a plain name: {odd}")
    whole = _agreeing(site, sorted(filter(PLAIN_NAME.fullmatch, names)), after, damaged=False)
    for name in set(filter(PLAIN_NAME.fullmatch, names)) - whole:
        after.demand(damaged, f"{name} is not whole")
    newest = max(filter(PLAIN_NAME.fullmatch, names), default=None)
    after.demand(newest in whole, f"the newest archive, {newest}, is not whole")
    return whole


def _check_damaged(site: Site, after: Aftermath) -> set[str]:
    """Check that nothing which is not whole passes, and give what is whole as long as the damage is there."""
    done = subprocess.run(
        [repository_borg(), "list", "--short"],
        check=False,
        capture_output=True,
        text=True,
        env=site.repository.environment(),
    )
    return _agreeing(site, sorted(filter(PLAIN_NAME.fullmatch, done.stdout.split())), after, damaged=True)


def _agreeing(site: Site, names: Iterable[str], after: Aftermath, *, damaged: bool) -> set[str]:
    """Check that `verify` passes exactly the archives that are whole, and give those.

    In a damaged repository it may refuse one that plain Borg extracts: it reads more than that.
    """
    whole = {name for name in names if is_whole(site.repository, name, site.place / "extracted")}
    for name in names:
        done = site.run("verify", name)
        code = done.returncode
        expected = NOT_WHOLE if name not in whole else (0, *NOT_WHOLE) if damaged else (0,)
        after.demand(code in expected, f"verify {name}: exit code {code}, not {expected}: {done.stderr.strip()[-300:]}")
    secrets = (site.vault.cluster.password, site.repository.passphrase)
    after.demand(not list(betrayed(secrets, (site.place / "extracted").rglob("*"))), "a secret in an archive")
    return whole
