"""What a throwaway server runs as, so that neither it nor the code that an archive brings with it is root.

PostgreSQL refuses to run as root. Then the server gets a user number that no account has, inside a user
namespace in which that number is called `nobody`. (Mapping root itself would be shorter, and would leave the
server the owner of every file of root's.) Where user namespaces are refused, as in a chroot and in most
containers, it runs as the existing account `nobody`. No account is made and no directory's mode is changed;
what such an account cannot reach is copied to where it can.
"""

from __future__ import annotations

import os
import pwd
import secrets
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from borg_vault_plugin.errors import PreflightError
from borg_vault_plugin.process import TimeoutExpired, plain_environment, run

UNUSED_NUMBERS = range(1_879_048_192, 2_147_483_647)  # the end of systemd's table of UIDs and GIDs that is nobody's
SHARED_PLACES = (Path("/var/tmp"), Path("/tmp"))  # noqa: S108 (what is made there is made by mkdtemp)
PROBE_SECONDS = 20.0


@dataclass(frozen=True, slots=True)
class Account:
    """The command in front of a server, and the (user, group) that its files must belong to when not to us."""

    prefix: tuple[str, ...]
    owner: tuple[int, int] | None
    isolated_network: bool

    def command(self, *words: str | Path) -> list[str]:
        """Give the command that runs `words` under this account, with nothing to gain from set-user-id programs.

        A change of credentials makes the kernel forget that a child dies with its parent, so that is said again after
        the last change. On SIGQUIT a postmaster takes its children and its shared memory along, which SIGKILL forbids.
        """
        last = ("setpriv", "--pdeathsig", "QUIT", "--no-new-privs", "--") if self.prefix else ()
        return [*self.prefix, *last, *map(str, words)]

    def can(self, *words: str | Path) -> bool:
        """Say whether a command succeeds under this account."""
        command = self.command(*words)
        try:
            return run(command, env=plain_environment(), timeout=PROBE_SECONDS, cwd=Path("/")).returncode == 0
        except (OSError, TimeoutExpired):
            return False

    def give(self, path: Path) -> None:
        """Make a file or directory the account's own."""
        if self.owner is not None:
            os.chown(path, *self.owner, follow_symlinks=False)

    def let_through(self, directory: Path) -> None:
        """Let the account pass through a directory that stays ours to what is its own inside."""
        if self.owner is not None:
            os.chown(directory, -1, self.owner[1])
            directory.chmod(0o710)

    def reachable_place(self, wanted: Path) -> Path:
        """Give a directory to make files in that the account can reach: the wanted one if possible."""
        for place in (wanted, *SHARED_PLACES):
            if self.owner is None or self.can("test", "-x", place):
                return place
        raise PreflightError(f"PostgreSQL would run under an account that can reach neither {wanted} nor /tmp")

    def reachable_programs(self, programs: Path, copies: Path) -> Path:
        """Give where the account can run a distribution's programs: where they are, or copied below `copies`."""
        if not self.prefix or self.can(programs / "postgres", "--version"):
            return programs
        copy = _copy_distribution(programs.parent, copies)
        for path in (copies, *copies.rglob("*")):
            self.give(path)
        if not self.can(copy / programs.name / "postgres", "--version"):
            raise PreflightError(f"the PostgreSQL in {programs} runs under no account but root's: install another one")
        return copy / programs.name


def _copy_distribution(distribution: Path, copies: Path) -> Path:
    """Copy a distribution with the relative layout by which its programs find share, lib and their libraries."""
    package = distribution.parent
    copy = copies / package.name / distribution.name
    shutil.copytree(distribution, copy, symlinks=True, ignore=shutil.ignore_patterns("*.a", "include"))
    libraries = package.with_name(f"{package.name}.libs")  # where a wheel keeps the libraries it brings along
    if libraries.is_dir():
        shutil.copytree(libraries, copies / libraries.name, symlinks=True)
    return copy


def server_account(*, isolated_network: bool = False, as_nobody: bool = False) -> Account:
    """Give the best account that a server can run under here.

    Raises PreflightError when there is none.
    """
    for account in _accounts(isolated_network=isolated_network, as_nobody=as_nobody):
        if not account.prefix or account.can("true"):
            return account
    raise PreflightError(
        "PostgreSQL does not run as root, and root cannot become nobody here: run this as another user"
    )


def _accounts(*, isolated_network: bool, as_nobody: bool) -> Iterator[Account]:
    """List what might work here, best first: without a network before with one, our own number before nobody's."""
    for isolated in (True, False) if isolated_network else (False,):
        if os.geteuid() != 0:
            yield _own_account(isolated=isolated)
        elif as_nobody:
            yield _nobody_account(isolated=isolated)
        else:
            yield _unused_account(isolated=isolated)
            yield _nobody_account(isolated=isolated)


def _own_account(*, isolated: bool) -> Account:
    prefix = ("unshare", "--user", "--map-current-user", "--net", "--") if isolated else ()
    return Account(prefix, None, isolated)


def _unused_account(*, isolated: bool) -> Account:
    (user, group), number = _nobody(), secrets.choice(UNUSED_NUMBERS)
    become = ("setpriv", f"--reuid={number}", f"--regid={number}", "--clear-groups", "--")
    unshare = ("unshare", "--user", f"--map-user={user}", f"--map-group={group}")
    network = ("--net",) if isolated else ()
    return Account((*become, *unshare, *network, "--"), (number, number), isolated)


def _nobody_account(*, isolated: bool) -> Account:
    user, group = _nobody()
    network = ("unshare", "--net", "--") if isolated else ()
    become = ("setpriv", f"--reuid={user}", f"--regid={group}", "--clear-groups", "--")
    return Account((*network, *become), (user, group), isolated)


def _nobody() -> tuple[int, int]:
    try:
        nobody = pwd.getpwnam("nobody")
    except KeyError:
        raise PreflightError("PostgreSQL does not run as root, and there is no account nobody here") from None
    return nobody.pw_uid, nobody.pw_gid
