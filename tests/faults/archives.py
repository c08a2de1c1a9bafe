"""What must hold of a repository's archives.

Whole means: plain `borg extract`, then `sha256sum --check` over exactly the files that are there.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from fix_fault_run import PLAIN_NAME
from fix_repository import PlainRepository

from borg_vault_plugin.borg import find_borg
from faults.ground import KEEP, Site

NOT_WHOLE = (5, 10, 11)


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


def betrayed(secrets: Iterable[str], paths: Iterable[Path]) -> Iterator[str]:
    """Name the files that hold a secret."""
    wanted = [secret.encode() for secret in secrets]
    for path in paths:
        if path.is_file() and not path.is_symlink() and any(secret in path.read_bytes() for secret in wanted):
            yield path.name


def check_archives(site: Site, after: Aftermath, *, damaged: bool) -> set[str]:
    """Check every archive that is there: names, wholeness, and that `verify` says the same; give the whole ones."""
    names = site.repository.names()
    odd = [name for name in names if not PLAIN_NAME.fullmatch(name)]
    after.demand(damaged or not odd, f"archives without a plain name: {odd}")
    plain = set(filter(PLAIN_NAME.fullmatch, names))
    whole = _agreeing(site, plain, after, damaged=False)
    after.demand(damaged or whole == plain, f"not whole: {sorted(plain - whole)}")
    newest = max(plain, default=None)
    after.demand(newest in whole, f"the newest archive, {newest}, is not whole")
    return whole


def check_damaged(site: Site, after: Aftermath) -> set[str]:
    """Check that nothing which is not whole passes, and give what is whole as long as the damage is there."""
    done = subprocess.run(
        [repository_borg(), "list", "--short"],
        check=False,
        capture_output=True,
        text=True,
        env=site.repository.environment(),
    )
    return _agreeing(site, set(filter(PLAIN_NAME.fullmatch, done.stdout.split())), after, damaged=True)


def check_new(site: Site, names: set[str], after: Aftermath) -> None:
    """Check archives that the next run may prune, and leave it the state that the struck one has left."""
    with _state_kept(site):
        whole = _agreeing(site, names, after, damaged=False)
    after.demand(whole == names, f"newly made, but not whole: {sorted(names - whole)}")


@contextmanager
def _state_kept(site: Site) -> Iterator[None]:
    """Let whatever is run meanwhile work with a copy of the state directory."""
    copy = site.place / "copied-state"
    subprocess.run(["cp", "-a", site.state, copy], check=True)
    site.configure(state=copy)
    yield
    site.configure()
    subprocess.run(["rm", "-rf", copy], check=True)


def _agreeing(site: Site, names: set[str], after: Aftermath, *, damaged: bool) -> set[str]:
    """Check that `verify` passes exactly the archives that are whole and none holds a secret; give the whole ones.

    In a damaged repository it may refuse one that plain Borg extracts: it reads more than that.
    """
    whole: set[str] = set()
    extracted = site.place / "extracted"
    secrets = (site.vault.cluster.password, site.repository.passphrase)
    for name in sorted(names):
        if is_whole(site.repository, name, extracted):
            whole.add(name)
        told = list(betrayed(secrets, extracted.rglob("*")))
        after.demand(not told, f"a secret in {', '.join(told)} of {name}")
        done = site.run("verify", name)
        code = done.returncode
        expected = NOT_WHOLE if name not in whole else (0, *NOT_WHOLE) if damaged else (0,)
        after.demand(code in expected, f"verify {name}: exit code {code}, not {expected}: {done.stderr.strip()[-300:]}")
    return whole
