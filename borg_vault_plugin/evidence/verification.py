"""The page about a verification: its verdict, what that rests on, what was looked at and what nobody could see.

It is written for an auditor who knows neither the program nor the Server, and takes nobody's word.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime

from borg_vault_plugin.chain.profile import KeyUse, Profile
from borg_vault_plugin.evidence.blocks import (
    WORDS,
    Column,
    banner,
    bullets,
    facts,
    heading,
    mark,
    note,
    paragraph,
    points,
    section,
    table,
)
from borg_vault_plugin.evidence.charts import bars, key_timeline
from borg_vault_plugin.evidence.coverage import NEVER_SEEN, SIGNATURES, Kind, kinds_of, looked_at, outcome
from borg_vault_plugin.evidence.findings import findings_section
from borg_vault_plugin.evidence.glossary import CHAIN_WORDS, glossary
from borg_vault_plugin.evidence.markup import Markup, code, element, value
from borg_vault_plugin.evidence.page import page
from borg_vault_plugin.evidence.quantities import instant
from borg_vault_plugin.report import Verified
from borg_vault_plugin.wording import plural

MOST_REASONS = 100
MOST_KEYS = 200
TITLE = "Verification of an audit chain"
ERAS = {"v1": "v1 (Server 0.25 to 1.x)", "v2": "v2 (Server 2.x)"}

PINNED = (
    "The verifier was given the fingerprint of a key from outside this dump. Signed statements, each made with a key"
    " that was already trusted, lead from there to the keys that signed the entries. Whoever has none of these private"
    " keys cannot have made this dump."
)
NOT_PINNED = (
    "The keys were taken from the dump itself. So this verification shows that everything in the dump fits together and"
    " was signed by the keys that are listed in it. It does not show that these are the Server's keys: whoever could"
    " replace the whole dump could have signed all of it anew, with other keys."
)
PIN_ONE = (
    "To rule that out, have the operator give you the fingerprint of a signing key in another way than this dump, and"
    " verify again with that key pinned."
)
NO_STATEMENTS = (
    "A vault of the first era has no signed statements about keys, so no key can be pinned: compare the key registry"
    " with what the operator has given you in another way."
)
NOT_SHOWN = (
    "That is shown only by a verification that has no finding at all, with a key that is pinned from outside the dump."
)
REPEAT = (
    "This page proves nothing by itself: whoever made it could have written anything into it. The proof is in the dump,"
    " and verifying that takes neither the Server nor its database, its network or its operators."
)


def verification_page(
    report: Verified, reasons: Sequence[str], profile: Profile | None, *, made: datetime, program: str
) -> str:
    """Give the page about a verification that was made then, by that program.

    `reasons` say why there is no verdict; without a profile there are no charts.
    """
    return page(
        f"{WORDS[report.verdict]}: {TITLE.lower()}",
        heading("Report for auditors", TITLE),
        _verdict(report),
        _facts(report, profile),
        *_reasons(report, reasons),
        *findings_section(report),
        *((_unchecked(report),) if report.verdict == "not_checked" else (_trust(report), _checked(report))),
        section("What no verification of one dump can see", points(NEVER_SEEN)),
        *(() if profile is None else (_keys(profile), _days(profile))),
        _again(report),
        glossary(CHAIN_WORDS),
        element("footer", f"Made {instant(made)} by ", value(program), ". This page loads nothing and runs nothing."),
    )


def _verdict(report: Verified) -> Markup:
    entries = plural(report.counts.get("audit_vault", 0), "entry", "entries")
    if report.verdict == "not_checked":
        return banner(
            "not_checked",
            "Not checked",
            "There is no verdict: something that verification needs is missing or cannot be read.",
            "That is no evidence of tampering. It is no pass, either.",
        )
    if report.verdict == "failed":
        return banner(
            "failed",
            "Failed",
            f"{plural(report.failure_count, 'finding')}: not all in this dump is what was signed, or fits together.",
            "The findings below say where. Until each is explained, take it that somebody changed the vault.",
        )
    return banner("passed", "Passed", *_passed(report, entries))


def _passed(report: Verified, entries: str) -> Iterator[str]:
    held = len(report.findings)
    but = f" but for {plural(held, 'finding')} that an operator has accepted" if held else ""
    signed = "unchanged since they were signed" if looked_at(SIGNATURES, report) else "though none of it is signed"
    yield f"Every check held{but}: {entries} in unbroken chains, {signed}."
    if report.anchored:
        yield "The keys that signed them lead back to a key that was pinned from outside this dump."
    elif held:
        yield "Whose keys signed them, this verification does not show."
    else:
        yield "The keys were taken from the dump itself: whose keys they are, this verification does not show."


def _facts(report: Verified, profile: Profile | None) -> Markup:
    told: list[tuple[str, str]] = [
        ("Dump or archive", value(report.target)),
        ("Era of the vault", ERAS.get(report.era or "", "not known")),
    ]
    if profile is not None:
        told.append(("Entries", _entries(profile)))
    if report.verdict != "not_checked":
        carried = f", {report.signatures_carried:,} more carried over" if report.signatures_carried else ""
        pinned = "lead back to a pinned key" if report.anchored else "not shown to lead back to a pinned key"
        told += [("Signatures", f"{report.signatures_checked:,} verified{carried}"), ("Keys", pinned)]
    return facts(told)


def _entries(profile: Profile) -> str:
    if profile.first is None:
        return f"{profile.entries:,}"
    return f"{profile.entries:,}, from {instant(profile.first)} to {instant(profile.last)}"


def _reasons(report: Verified, reasons: Sequence[str]) -> Iterator[Markup]:
    title = "Why there is no verdict" if report.verdict == "not_checked" else "Why not everything was checked"
    if reasons:
        more = len(reasons) - MOST_REASONS
        rest = [note(f"{plural(more, 'more reason')} not shown.")] if more > 0 else []
        yield section(title, bullets(map(value, reasons[:MOST_REASONS])), *rest)


def _trust(report: Verified) -> Markup:
    if report.anchored:
        told: tuple[str, ...] = (PINNED,)
    elif report.findings:
        told = (NOT_SHOWN,)
    else:
        told = (NOT_PINNED, NO_STATEMENTS if report.era == "v1" else PIN_ONE)
    return section("Whose keys these are", *map(paragraph, told))


def _checked(report: Verified) -> Markup:
    columns = (Column("Check"), Column("What it shows"), Column("Looked at", number=True), Column("Outcome"))
    rows = (
        (kind.name, kind.shows, _looked_at(kind, report), mark(*outcome(kind, report))) for kind in kinds_of(report)
    )
    caption = "Each kind of check, how many rows or signatures it looked at, and how it came out"
    carried = (
        "A signature is carried over when an earlier verification found it valid and the links show that nothing before"
        " that point has changed since. Everything else is checked anew."
    )
    content = table(caption, columns, rows)
    return section("What was checked", content, *([note(carried)] if report.signatures_carried else []))


def _unchecked(report: Verified) -> Markup:
    told = paragraph("None of this has an outcome, whatever part of it was done before the verification ended:")
    return section("What was not checked", told, points({kind.name: kind.shows for kind in kinds_of(report)}))


def _looked_at(kind: Kind, report: Verified) -> str:
    return f"{looked_at(kind, report):,}" if kind.table or kind is SIGNATURES else ""


def _keys(profile: Profile) -> Markup:
    columns = (
        *(Column("Key id"), Column("Algorithm"), Column("Status"), Column("Valid from"), Column("Valid until")),
        Column("Entries", number=True),
    )
    title = "Validity and use of each key"
    shown = profile.keys[-MOST_KEYS:]
    left_out = len(profile.keys) - len(shown) + profile.other_keys
    notes = (
        (left_out, f"{plural(left_out, 'more row')} of the registry: not shown here."),
        (profile.unnamed, f"{plural(profile.unnamed, 'entry', 'entries')} without a key: only links hold them."),
        (profile.unknown, f"{plural(profile.unknown, 'entry', 'entries')} with a key that is not among these."),
    )
    return section(
        "Signing keys",
        paragraph("As the registry in the dump states it, and as the entries name them."),
        key_timeline(title, profile.keys, until=profile.last),
        table("The key registry, oldest activation first", columns, map(_key_row, shown)),
        *(note(told) for count, told in notes if count),
    )


def _key_row(key: KeyUse) -> tuple[str, ...]:
    begin = "not stated" if key.activated is None else instant(key.activated)
    end = "not retired" if key.retired is None else instant(key.retired)
    return code(key.key_id), value(key.algorithm), value(key.status), begin, end, f"{key.entries:,}"


def _days(profile: Profile) -> Markup:
    notes = (
        (profile.other_days, f"{plural(profile.other_days, 'entry', 'entries')} of yet other days: not drawn."),
        (profile.undated, f"{plural(profile.undated, 'entry', 'entries')} without a readable time: not drawn."),
    )
    return section(
        "When entries were written",
        paragraph(
            "By the times that the entries state. A day without entries is no fault by itself; a gap where work was"
            " done is worth a question."
        ),
        bars("Entries over time", profile.days, "entry", "entries"),
        *(note(told) for count, told in notes if count),
    )


def _again(report: Verified) -> Markup:
    pinned = report.era != "v1"
    how = ", with the fingerprint of a key that you were given in another way than the dump" if pinned else ""
    return section(
        "Do not take this page's word for it",
        paragraph(REPEAT),
        paragraph(
            "Run ",
            code(f"borg-vault verify DIR{' --trust-anchor sha256:…' if pinned else ''}"),
            f" over a copy of the dump on a machine that you trust{how}. The verdict, the counts and the findings must"
            " be those of this page.",
        ),
    )
