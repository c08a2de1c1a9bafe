"""What must hold after a run to which something happened, and after the next one."""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Sequence
from pathlib import Path

from fix_fault_run import Run
from fix_vault import digests

from borg_vault_plugin.errors import LockedError
from borg_vault_plugin.lock import run_lock
from faults.archives import (
    Aftermath,
    betrayed,
    check_archives,
    check_damaged,
    check_new,
    lost,
    plain_names,
    repair,
)
from faults.ground import LABEL, Contents, Site
from faults.injections import Injection
from faults.moments import Scene

SCRATCH = re.compile(r"(/[^\s':]*?/bv-[a-z0-9_]{8})")
FINDING = re.compile(r"\[id ([0-9a-f]+)\]")
REFUSED = 12
UNEXPECTED = "where that came from"
"""What -v tells, with a traceback, of a refusal of the operating system that nobody expected there."""
LONG_AGO_SECONDS, GONE_SECONDS = 3600, 10


def look_after(scene: Scene, injection: Injection, codes: Sequence[int]) -> Aftermath:
    """Check the end of the runs, do what an operator would, run once more, and check everything again."""
    after, site = Aftermath(), scene.site
    _check_end(scene, injection, codes, after)
    swaps = scene.case.command == "restore --swap"
    held = _held(scene, injection, codes)
    _check_source(site, after, held)
    before = set(scene.ground.nights.archives)
    if injection.damages:
        whole = check_damaged(site, after)
        repair(site.repository)
        _go_on(scene, injection, ["create"], after)
    else:
        whole = plain_names(site.repository)
        check_new(site, whole - before, after)
        after.lost += lost(scene.case.command, before, whole)
    let_time_pass(scene)
    if not (injection.damages and scene.case.command == "create"):
        _go_on(scene, injection, site.words(scene.case.command)[1:], after)
    _check_left(scene, after)
    # After a repair an archive is made of what is live, and that is restored.
    _check_source(site, after, [scene.ground.archived] if swaps and not injection.damages else held)
    left = check_archives(site, after, damaged=injection.damages)
    pruned_by = "create" if injection.damages and scene.case.command != "prune" else scene.case.command
    after.lost += lost(pruned_by, whole, left)
    return after


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


def _check_end(scene: Scene, injection: Injection, codes: Sequence[int], after: Aftermath) -> None:
    allowed = scene.codes or injection.codes[scene.case.command]
    for run, code in zip(scene.runs, codes, strict=True):
        said = run.said()
        words = said.stderr.strip().splitlines()
        after.demand(code in allowed, f"exit code {code}, not one of {sorted(allowed)}: {words[-1:]}")
        after.demand(scene.says in said.stderr, f"it does not say {scene.says!r}: {words[-1:]}")
        after.demand("Traceback" not in said.stderr, f"a traceback: {words[-1:]}")
        expected = injection.refuses or UNEXPECTED not in said.stdout
        after.demand(expected, f"refused where nobody expected it: {words[-1:]}")
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


def _held(scene: Scene, injection: Injection, codes: Sequence[int]) -> list[Contents]:
    """Give what may be live: a swap that ended with 0 was made, one that failed was not.

    Whoever was killed, or lost the server, may have lost the answer to the COMMIT.
    """
    live, archived = scene.ground.live, scene.ground.archived
    if scene.case.command != "restore --swap":
        return [live]
    if 0 in codes:
        return [archived]
    return [live, archived] if injection.severs or min(codes) < 0 else [live]


def _check_source(site: Site, after: Aftermath, expected: Sequence[Contents]) -> None:
    """Check that the live database is open and holds one of these."""
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
    places = site.repository.path, site.place / "borg"
    # Borg makes a lock under a temporary name: one that is killed meanwhile leaves it, and it locks nobody out.
    locks = [path for place in places for path in place.rglob("lock.*") if path.suffix != ".tmp"]
    after.demand(not locks, f"Borg's locks are left: {', '.join(path.name for path in locks)}")
    try:
        with run_lock(site.state, LABEL):
            pass
    except LockedError as error:
        after.problems.append(str(error))
    after.demand(not list(betrayed(scene.runs[0].secrets, site.state.rglob("*"))), "a secret in the state directory")
