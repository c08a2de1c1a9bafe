"""The errors that an operator sees: one line each, saying what failed, on what, and what to do.

Each class stands for one exit code of the program. When several errors happen in one run,
the smallest of 4, 5, 10, 11 and 12 wins, because the earliest thing that broke is the one to mend.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar


class Error(Exception):
    """Something that the operator can mend; its text is one line and holds no secret."""

    exit_code: ClassVar[int] = 1


class UsageError(Error):
    """The command line asks for something that makes no sense."""

    exit_code = 2


class ConfigError(Error):
    """The configuration is missing something, contradicts itself, or cannot be trusted."""

    exit_code = 3


class SourceError(Error):
    """The database or a hook could not deliver what is to be backed up."""

    exit_code = 4


class ContendedError(SourceError):
    """A migration came between the snapshot's locks and the hooks': it waits for us and we for it, so start over."""


class RepositoryError(Error):
    """Borg could not do what was asked of one repository."""

    exit_code = 5


class RepositoryAwayError(RepositoryError):
    """A repository could not be reached just now: that says nothing about what it holds."""


class RepositoryLockedError(RepositoryAwayError):
    """Another Borg held a repository's lock for as long as we wait."""


class LockedError(Error):
    """Another run holds the lock."""

    exit_code = 6


class PreflightError(Error):
    """A check made before the first byte says that this run would fail."""

    exit_code = 7


class RefusedError(Error):
    """What is good would be lost, and nobody has said that it may."""

    exit_code = 12


def smallest_exit_code(codes: Iterable[int]) -> int:
    """Give the exit code of a run in which several things went wrong: the smallest that is not 0."""
    return min((code for code in codes if code), default=0)


# The contract with scripts. 75 is never used: borgmatic takes it for success.
EXIT_CODES = {
    0: "ok",
    1: "a bug, with a traceback; or standard output could not be written",
    2: "usage: the command line is wrong",
    3: "configuration: something is missing, contradictory or not trustworthy",
    4: "the source or a hook failed",
    5: "a repository failed",
    6: "locked by another run",
    7: "preflight refused, or doctor found: space, versions or permissions would make a run fail, or made it fail",
    10: "verification failed",
    11: "could not verify",
    12: "refused by retention safety, or because restoring an older state would lose something",
    13: "status: stale or incomplete",
    130: "interrupted (SIGINT)",
    143: "interrupted (SIGTERM)",
}
