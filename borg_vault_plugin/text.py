"""Documents as text for people: every function gives lines, none of them prints."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from borg_vault_plugin.chain.codes import MEANINGS, Code
from borg_vault_plugin.report import Backup, Pruned, Pruning, Stored, Verified
from borg_vault_plugin.repositories import Initialised, Listing

UNITS = ("B", "kB", "MB", "GB", "TB")


def size(count: int | None) -> str:
    """Print a number of bytes with three or so digits."""
    if count is None:
        return "?"
    value, unit = float(count), 0
    while value >= 1000 and unit < len(UNITS) - 1:
        value, unit = value / 1000, unit + 1
    return f"{value:.0f} {UNITS[unit]}" if unit == 0 or value >= 100 else f"{value:.1f} {UNITS[unit]}"


def plural(count: int, noun: str, nouns: str | None = None) -> str:
    """Print a count with its noun."""
    return f"{count:,} {noun if count == 1 else nouns or noun + 's'}"


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
        yield f"{report.archive}: {verdict_words(report)}"
        yield f"  {plural(len(report.artifacts), 'artifact')}, {size(whole)}; {vault}, era {report.chain.era}"
        yield from (f"  {one.code} at {one.where}: {one.detail}" for one in report.chain.findings)
    yield from map(_stored_line, report.repositories)
    yield from pruned_lines(report.pruned, dry_run=rehearsed)
    yield f"  {report.seconds['total']:.1f} s"


def verdict_words(report: Backup) -> str:
    """Say the verdict, and plainly when nothing was verified."""
    if report.chain.verdict == "not_checked":
        return "nothing was verified: the chain in it was not checked"
    return report.verdict


def pruned_lines(pruned: Iterable[Pruned], *, dry_run: bool = False) -> Iterator[str]:
    """Tell what retention did in each repository."""
    for one in pruned:
        if not one.error:
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
        yield "no archives yet: make one with `borg-vault create`"
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
    yield f"{report.verdict.upper().replace('_', ' ')}: {report.target}" + (
        f" (era {report.era}; {keys})" if report.verdict == "passed" else ""
    )
    yield from (f"  {name}.ndjson: {plural(count, 'row')}" for name, count in report.counts.items())
    yield f"  {plural(report.signatures_checked, 'signature')} verified"
    if report.failure_count:
        yield f"  {plural(report.failure_count, 'finding')}:"
    for finding in report.findings:
        yield f"  {finding.code} at {finding.where}: {finding.detail}"
    for code in dict.fromkeys(finding.code for finding in report.findings):
        meaning = MEANINGS[Code(code)]
        yield f"  {code} means: {meaning.means}. {meaning.next_step}"


def initialised_lines(created: Iterable[Initialised]) -> Iterator[str]:
    """Tell which repositories were created, and what must happen with their keys."""
    for one in created:
        yield f"created repository {one.repository} at {one.path} (id {one.id})"
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
