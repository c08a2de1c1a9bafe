"""What import and export have to say to people: every function gives lines, none of them prints."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from borg_vault_plugin.tarballs.handback import HandedBack
from borg_vault_plugin.tarballs.intake import Imported, Imports
from borg_vault_plugin.text import backup_lines, finding_line, size
from borg_vault_plugin.wording import plural

UNKNOWN = {
    "database_token": "which database it is from is not known, so a restore reads no revocations from the present one",
    "agledger_version": "the Server's version is not known, so a restore stays on the one that is installed",
}


def imports_lines(report: Imports) -> Iterator[str]:
    """Tell what became of every tarball, and of all of them."""
    for one in report.files:
        yield from _imported_lines(one)
    verdicts = Counter(one.backup.verdict for one in report.files if one.backup is not None)
    there = sum(one.status == "there" for one in report.files)
    failed = sum(one.status == "failed" for one in report.files)
    told = [f"{count} {verdict}" for verdict, count in verdicts.items()]
    told += [f"{there} there already"] if there else []
    told += [f"{failed} FAILED"] if failed else []
    yield f"{plural(len(report.files), 'tarball')}: {', '.join(told)}"


def handed_back_lines(report: HandedBack) -> Iterator[str]:
    """Tell what was written and what it lacks, or why nothing was."""
    if report.verdict != "passed":
        yield f"{report.verdict.upper().replace('_', ' ')}: nothing of {report.archive} was written"
        yield from map(finding_line, report.findings)
        yield from (f"  {reason}" for reason in report.reasons)
        return
    yield f"{report.file} holds {report.archive}, {size(report.size)}"
    for name, meaning in UNKNOWN.items():
        if not (report.metadata or {}).get(name):
            yield f"  {meaning}"


def _imported_lines(one: Imported) -> Iterator[str]:
    if one.backup is not None:
        yield f"{one.file}"
        yield from (f"  {line}" for line in backup_lines(one.backup))
    elif one.status == "there":
        yield f"{one.file} is there already, as {one.archive}"
    else:
        yield f"{one.file} FAILED: {one.error}"
