"""Archives: how ours are named, recognised and described in a repository.

`<label>-<time>` for the database set, `<label>-<set>-<time>` for the others, where time is the snapshot's, in UTC, as
in `prod-2026-05-26T01:33:27Z`. A name says the verdict: plain when good, `.suspect`, `.unverified`; `.partial` until
then. Ours are recognised by the whole pattern with the digits spelled out, so that `prod` never matches `prod-eu`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal, get_args

SetName = Literal["database", "provisioning", "keys"]
SETS: tuple[SetName, ...] = get_args(SetName)
Verdict = Literal["good", "suspect", "unverified"]

PARTIAL = ".partial"
SUFFIX: dict[Verdict, str] = {"good": "", "suspect": ".suspect", "unverified": ".unverified"}
TIME_FORMAT = "%Y-%m-%dT%H:%M:%SZ"
TIME_PATTERN = r"\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}Z"
TIME_GLOB = "[0-9][0-9][0-9][0-9]-[0-9][0-9]-[0-9][0-9]T[0-9][0-9]:[0-9][0-9]:[0-9][0-9]Z"


@dataclass(frozen=True, slots=True)
class Series:
    """The archives of one set of one Server."""

    label: str
    set_name: SetName

    @property
    def prefix(self) -> str:
        """What every name of this series begins with."""
        return self.label if self.set_name == "database" else f"{self.label}-{self.set_name}"

    @property
    def glob(self) -> str:
        """Borg's pattern for exactly the plainly named archives of this series."""
        return f"{self.prefix}-{TIME_GLOB}"

    def name(self, time: datetime) -> str:
        """Name the archive of a snapshot taken at this time."""
        return f"{self.prefix}-{time.astimezone(UTC).strftime(TIME_FORMAT)}"

    def owns(self, name: str) -> bool:
        """Say whether a finished archive of this name belongs to the series."""
        pattern = f"{re.escape(self.prefix)}-{TIME_PATTERN}({'|'.join(map(re.escape, SUFFIX.values()))})"
        return re.fullmatch(pattern, name, re.ASCII) is not None

    def is_good(self, archive: Archive) -> bool:
        """Say whether an archive of this series is a good one: named so, and said so."""
        return self.owns(archive.title) and archive.title.endswith("Z") and archive.verdict == "good"

    def time_in(self, name: str) -> datetime:
        """Read the snapshot's time in the name of one of our archives. Raises ValueError for another name."""
        if not self.owns(name):
            raise ValueError(f"{name} is no archive of {self.prefix}")
        return time_of(name)


@dataclass(frozen=True, slots=True)
class Archive:
    """One archive in a repository, as Borg lists it; time is aware, UTC."""

    name: str
    id: str
    time: datetime
    comment: str
    original_size: int | None = None
    holds: str | None = None
    """What an archive of ours with the same set would be called, when another program made this one."""
    root: str = ""
    """The directory in it that is the set."""

    @property
    def title(self) -> str:
        """What it says of itself by its name, whoever gave it one."""
        return self.holds or self.name

    @property
    def verdict(self) -> str | None:
        """The verdict of its set as its comment says; None when it does not."""
        return self.described.get("verdict")

    @property
    def described(self) -> dict[str, str]:
        """The comment's words by their names."""
        return dict(word.split("=", 1) for word in self.comment.split() if "=" in word)


def time_of(title: str) -> datetime:
    """Read the snapshot's time in an archive's title. Raises ValueError when there is none."""
    found = re.search(rf"-({TIME_PATTERN})(?:{'|'.join(map(re.escape, SUFFIX.values()))})$", title, re.ASCII)
    if found is None:
        raise ValueError(f"{title} does not end with a time")
    return datetime.strptime(found[1], TIME_FORMAT).replace(tzinfo=UTC)


def comment(verdict: Verdict, manifest_sha256: str, set_name: SetName, tarball: str | None = None) -> str:
    """Describe an archive, for Borg's comment; it holds no braces, which Borg would expand.

    `tarball` is the SHA-256, in hex, of what an archive was imported from.
    """
    imported = f" tarball=sha256:{tarball}" if tarball is not None else ""
    return f"verdict={verdict} manifest=sha256:{manifest_sha256} set={set_name}{imported}"
