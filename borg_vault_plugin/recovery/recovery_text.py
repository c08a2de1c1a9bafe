"""What a restore has to say to people: every function gives lines, none of them prints."""

from __future__ import annotations

from collections.abc import Iterator

from borg_vault_plugin.recovery.excerpt import Excerpt
from borg_vault_plugin.recovery.restore_report import Restored
from borg_vault_plugin.text import finding_line, size
from borg_vault_plugin.wording import plural

NOT_IN_A_BACKUP = (
    "What the database's archives do not contain, and a working Server needs as well:",
    "  - the customer-held encryption keys: without them encrypted records stay unreadable",
    "  - the config-as-code provisioning files (PROVISIONING_CONFIG_PATH)",
    "  - the Server's .env with its signing key and API secret",
)


def restored_lines(report: Restored) -> Iterator[str]:
    """Tell what became of a restore, what to do next, and what a backup does not contain."""
    yield f"{report.verdict.upper().replace('_', ' ')}: {report.archive} {_became(report)}"
    for check in report.checks:
        yield f"  {check.name}: {check.verdict.replace('_', ' ')}: {check.detail} ({check.seconds:.1f} s)"
    if report.roles_created:
        made = plural(len(report.roles_created), "role")
        yield f"  {made} made, which cannot log in: {', '.join(report.roles_created)}"
    if report.roles_without_password:
        yield f"  of these, give a password and LOGIN to: {', '.join(report.roles_without_password)}"
    if report.previous_database is not None:
        yield f"  what was there before is {report.previous_database} now, and takes no connections"
    if report.next:
        yield "Next:"
    for step in report.next:
        yield f"  {step.what}:"
        yield f"    {step.command}"
    yield from NOT_IN_A_BACKUP


def excerpt_lines(excerpt: Excerpt) -> Iterator[str]:
    """Tell which files were taken out of an archive, or why none was."""
    if excerpt.verdict != "passed":
        yield f"{excerpt.verdict.upper().replace('_', ' ')}: nothing of {excerpt.archive} was written"
        yield from map(finding_line, excerpt.findings)
        return
    yield f"{excerpt.directory} holds, of {excerpt.archive}, as its manifest has them:"
    for file in excerpt.files:
        yield f"  {file.path}  {size(file.size)}  sha256:{file.sha256}"


def _became(report: Restored) -> str:
    if report.database is None:
        return f"was not restored; nothing on {report.server} was changed"
    if report.swapped:
        return f"is {report.database} on {report.server} now"
    if any(check.name == "restore" and check.verdict == "not_applicable" for check in report.checks):
        return f"was held against {report.database} on {report.server}, which was there already"
    return f"was restored as {report.database} on {report.server}, beside"
