"""Documents as text for people: every function gives lines, none of them prints."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime

import msgspec

from borg_vault_plugin.chain.codes import MEANINGS, Code
from borg_vault_plugin.confirm import Confirmation
from borg_vault_plugin.history import Event
from borg_vault_plugin.prune_guard import Guarded
from borg_vault_plugin.recovery.drill_report import Drill
from borg_vault_plugin.report import (
    Attested,
    Backup,
    Chain,
    Continuity,
    FilesBackup,
    Finding,
    Pruned,
    Pruning,
    Stored,
    Verified,
)
from borg_vault_plugin.repositories import Initialised, Listing
from borg_vault_plugin.status import SetStatus, Status
from borg_vault_plugin.upkeep import Checks
from borg_vault_plugin.wording import plural

UNITS = ("B", "kB", "MB", "GB", "TB")


def size(count: int | None) -> str:
    """Print a number of bytes with three or so digits."""
    if count is None:
        return "?"
    value, unit = float(count), 0
    while value >= 1000 and unit < len(UNITS) - 1:
        value, unit = value / 1000, unit + 1
    return f"{value:.0f} {UNITS[unit]}" if unit == 0 or value >= 100 else f"{value:.1f} {UNITS[unit]}"


def columns(header: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    """Lay rows out in columns as wide as they need."""
    table = [tuple(header), *map(tuple, rows)]
    widths = [max(len(row[place]) for row in table) for place in range(len(header))]
    for row in table:
        yield "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()


def backup_lines(report: Backup) -> Iterator[str]:
    """Tell how a backup ended, or how it would."""
    rehearsed = not report.artifacts
    if rehearsed:
        yield f"would make {report.archive}"
    else:
        whole = sum(artifact.size for artifact in report.artifacts)
        vault = f"{plural(report.chain.entries, 'entry', 'entries')} in {plural(report.chain.chains, 'chain')}"
        yield f"{report.archive}: {report.verdict.upper()}"
        yield f"  {plural(len(report.artifacts), 'artifact')}, {size(whole)}; {vault}, era {report.chain.era}"
        yield from (f"  the database is in {one.database_in}" for one in report.artifacts if one.database_in)
        yield from chain_lines(report.chain)
        yield from continuity_lines(report.continuity)
    yield from map(_stored_line, report.repositories)
    yield from pruned_lines(report.pruned, dry_run=rehearsed)
    yield f"  {report.seconds['total']:.1f} s"


def files_lines(report: FilesBackup) -> Iterator[str]:
    """Tell how the backup of a set of files ended, or how it would."""
    rehearsed = not report.artifacts
    revision = f", revision {report.revision}" if report.revision else ""
    if rehearsed:
        yield f"would make {report.archive}{revision}"
    else:
        whole = sum(artifact.size for artifact in report.artifacts)
        yield f"{report.archive}: {report.verdict.upper()}"
        yield f"  {plural(len(report.artifacts), 'file')}, {size(whole)}{revision}"
    yield from map(_stored_line, report.repositories)
    yield from pruned_lines(report.pruned, dry_run=rehearsed)
    yield f"  {report.seconds['total']:.1f} s"


def attested_lines(report: Attested) -> Iterator[str]:
    """Tell that the keys are where they should be."""
    when = f"attested at {report.attested:%Y-%m-%d %H:%M:%SZ}" if report.attested else "would be attested"
    yield f"{report.set}: {when} by {report.command}"


def chain_lines(chain: Chain) -> Iterator[str]:
    """Tell what the verification of a staged chain came to."""
    carried = f", {plural(chain.signatures_carried, 'more', 'more')} proved before" if chain.signatures_carried else ""
    accepted = f"; {plural(chain.accepted, 'accepted finding')}" if chain.accepted else ""
    verified = f"{plural(chain.signatures_checked, 'signature')} verified{carried}{accepted}"
    yield f"  chain {chain.verdict.replace('_', ' ')}: {chain.reason or verified}"
    yield from map(finding_line, chain.findings)
    if chain.failure_count and chain.failure_count > len(chain.findings):
        yield f"  ... {chain.failure_count:,} in all"


def continuity_lines(continuity: Continuity) -> Iterator[str]:
    """Tell how history compares with what is archived."""
    words = {
        "passed": f"continuity passed: everything in {continuity.previous} is still there",
        "not_applicable": "continuity: there is no earlier archive to compare with",
        "failed": f"continuity FAILED: this is not what {continuity.previous} holds, grown",
        "not_checked": f"continuity not checked: {continuity.reason or 'nothing was staged'}",
    }
    yield f"  {words[continuity.verdict]}"
    yield from map(finding_line, continuity.findings)
    if continuity.rewind:
        yield f"  compared with what was restored from {continuity.rewind.archive}: {continuity.rewind.reason}"


def finding_line(finding: Finding) -> str:
    """Tell one finding, with the id by which it can be accepted."""
    ending = f"accepted: {finding.accepted}" if finding.accepted is not msgspec.UNSET else f"id {finding.id}"
    return f"  {finding.code} at {finding.where}: {finding.detail} [{ending}]"


def pruned_lines(pruned: Iterable[Pruned], *, dry_run: bool = False) -> Iterator[str]:
    """Tell what retention did in each repository."""
    for one in pruned:
        if one.skipped:
            yield f"  {one.repository}: nothing is pruned: {one.skipped}"
        elif one.refused:
            count = plural(len(one.refused), "archive")
            yield f"  {one.repository}: retention REFUSED: history does not explain {count}"
            yield from (f"    {finding_line(finding).strip()}" for finding in one.refused)
        elif not one.error:
            would = "would remove" if dry_run else "removed"
            yield f"  {one.repository}: {would} {plural(len(one.removed), 'archive') if one.removed else 'nothing'}"
            yield from (f"    {name}" for name in one.removed)


def pruning_lines(report: Pruning, *, dry_run: bool) -> Iterator[str]:
    """Tell what retention does with every archive, and why, and what came of it."""
    if report.plan:
        rows = ((fate.archive, fate.repository, fate.action, fate.reason) for fate in report.plan)
        yield from columns(("ARCHIVE", "REPOSITORY", "FATE", "REASON"), rows)
    yield from pruned_lines(report.pruned, dry_run=dry_run)


def listing_lines(listing: Listing) -> Iterator[str]:
    """Lay our archives out in a table."""
    if not listing.archives:
        yield "no archives of this label yet: make one with `borg-vault create`"
        return
    yield from columns(
        ("ARCHIVE", "REPOSITORY", "TIME (UTC)", "SIZE", "VERDICT", "LAST DRILL"),
        (
            (one.name, one.repository, f"{one.time:%Y-%m-%d %H:%M:%S}", size(one.original_size), one.verdict or "?",
             f"{one.drilled:%Y-%m-%d}" if one.drilled else "never")
            for one in listing.archives
        ),
    )  # fmt: skip


def verified_lines(report: Verified) -> Iterator[str]:
    """Tell what a verification came to: the verdict first, then what was looked at, then every finding."""
    keys = "keys walked from a pinned one" if report.anchored else "the keys were taken from the dump itself"
    told = f" (era {report.era}; {keys})" if report.verdict == "passed" and report.era else ""
    yield f"{report.verdict.upper().replace('_', ' ')}: {report.target}{told}"
    yield from (f"  {name}.ndjson: {plural(count, 'row')}" for name, count in report.counts.items())
    if report.files:
        yield f"  {plural(report.files, 'file')} compared with the manifest"
    if report.era:
        yield f"  {plural(report.signatures_checked, 'signature')} verified"
    if report.failure_count:
        yield f"  {plural(report.failure_count, 'finding')}:"
    yield from map(finding_line, report.findings)
    yield from meaning_lines(report.findings)


def meaning_lines(findings: Iterable[Finding]) -> Iterator[str]:
    """Explain each code that was found; plugins may have codes of their own."""
    for code in dict.fromkeys(finding.code for finding in findings):
        if code in MEANINGS:
            meaning = MEANINGS[Code(code)]
            yield f"  {code} means: {meaning.means}. {meaning.next_step}"


def initialised_lines(created: Iterable[Initialised]) -> Iterator[str]:
    """Tell which repositories were created, and what must happen with their keys."""
    for one in created:
        did = "created" if one.created else "exported the key of"
        yield f"{did} repository {one.repository} at {one.path} (id {one.id})"
        yield f"  its key: {one.key_file}"
        yield "  move a copy of it off this machine: without key and passphrase nobody can read the backups"


def _stored_line(stored: Stored) -> str:
    if stored.status == "would_store":
        return f"  {stored.repository}: would store"
    if stored.status == "failed":
        return f"  {stored.repository}: FAILED: {stored.error}"
    return (
        f"  {stored.repository}: {size(stored.original_size)} stored, {size(stored.deduplicated_size)} of it new"
        f" ({stored.seconds:.1f} s)"
    )


def drill_lines(done: Drill) -> Iterator[str]:
    """Tell how a drill ended, check by check."""
    yield f"{done.verdict.upper().replace('_', ' ')}: {done.archive}"
    for check in done.checks:
        yield f"  {check.name:<11} {check.verdict.replace('_', ' '):<14} {check.seconds:6.1f} s  {check.detail}"
    yield from meaning_lines(done.findings)
    if done.head is not None:
        yield f"  it proves {done.head}"
    if done.rpo_seconds is not None:
        yield f"  the snapshot is {duration(done.rpo_seconds)} old: a restore would lose what came after it"
    if done.rto_seconds is not None:
        phases = ", ".join(f"{name} {seconds:.1f} s" for name, seconds in done.phases.items())
        yield f"  the recovery took {duration(done.rto_seconds)}: {phases}"


def event_lines(events: Iterable[Event]) -> Iterator[str]:
    """Tell what happened, an event a line."""
    for event in events:
        told = (event.verdict, event.code, event.where, event.database, event.reason)
        words = "; ".join(word for word in told if word)
        yield f"{event.time:%Y-%m-%d %H:%M:%SZ}  {event.event:<12}  {event.archive}{f'  {words}' if words else ''}"


def duration(seconds: float) -> str:
    """Print a duration with two units at most."""
    whole = round(seconds)
    days, hours, minutes = whole // 86_400, whole // 3600 % 24, whole // 60 % 60
    if days:
        return f"{plural(days, 'day')} {plural(hours, 'hour')}"
    if hours:
        return f"{plural(hours, 'hour')} {plural(minutes, 'minute')}"
    return f"{plural(minutes, 'minute')} {whole % 60} s" if minutes else f"{seconds:.1f} s"


def status_lines(found: Status) -> Iterator[str]:
    """Answer whether there is a complete, restorable backup, and lay out what is known."""
    yield f"complete backup: {'yes' if found.complete else 'NO'}"
    yield from columns(
        ("SET", "LAST GOOD", "AGE", "AT MOST", "WHERE", "LAST DRILL"),
        ((one.set, _last_good(one), _seconds(one.age_seconds), _seconds(one.max_age_seconds),
          ", ".join(one.repositories) or "-", _day(one.last_drill) if one.set == "database" else "-")
         for one in found.sets),
    )  # fmt: skip
    yield from columns(
        ("REPOSITORY", "LAST CHECK", "KEY EXPORTED"),
        ((one.repository, _day(one.last_check), _day(one.key_exported)) for one in found.repositories),
    )
    for problem in (f"{one.set}: {word}" for one in found.sets for word in one.problems):
        yield f"  {problem}"
    for problem in (f"repository {one.repository}: {word}" for one in found.repositories for word in one.problems):
        yield f"  {problem}"


def confirmed_lines(done: Confirmation) -> Iterator[str]:
    """Tell which archive holds a set, or what is wrong with the set itself."""
    if done.verdict == "passed":
        place = f", in {done.root}" if done.root else ""
        yield f"{done.repository}: {done.archive} holds {done.set} ({done.set_verdict}){place}"
    elif done.findings:
        yield f"FAILED: the directory is not what was sealed in it, {done.set}"
        yield from map(finding_line, done.findings)
    else:
        yield "NOT CHECKED: the set cannot be read"


def guarded_lines(done: Guarded) -> Iterator[str]:
    """Tell what a prune would do, and whether it may."""
    would = f"{len(done.removes):,} of {plural(done.looked_at, 'archive')} would go"
    yield f"{done.repository}: {'that prune hurts nothing' if done.allowed else 'that prune is REFUSED'}: {would}"


def check_lines(checks: Checks) -> Iterator[str]:
    """Tell what Borg's own checks came to."""
    for one in checks.repositories:
        how = "" if one.whole else ", as far as the time allowed"
        yield f"{one.repository}: {one.verdict}{how}{f': {one.error}' if one.error else ''}"


def _last_good(one: SetStatus) -> str:
    return one.archive or (f"attested {one.time:%Y-%m-%d}" if one.attested and one.time else "none")


def _seconds(seconds: float | None) -> str:
    return "-" if seconds is None else duration(seconds)


def _day(time: datetime | None) -> str:
    return "never" if time is None else f"{time:%Y-%m-%d}"
