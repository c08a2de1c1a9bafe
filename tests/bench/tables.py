"""bench.md: the numbers as Markdown, every one with its ratio to the floor where that is measured, too."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from bench.contenders import FLOOR, OURS
from bench.figures import (
    MEGABYTE,
    NOT_MEASURED,
    TIMES,
    Budget,
    Figure,
    added,
    budgets,
    contenders_in,
    middle,
    nights,
    of_part,
    phases,
    rate,
    ratio,
    seconds,
    sized,
    verifications,
)
from bench.results import Results, Sample
from borg_vault_plugin.wording import plural

SERIES = {
    "youngest": "half of the new entries on new records, half on the youngest twentieth",
    "everywhere": "new entries spread over all records",
}
COSTS: tuple[tuple[str, Figure, str], ...] = (
    ("time", seconds, "{:.2f} s"),
    ("processor", lambda one: one.cost.cpu_seconds, "{:.2f} s"),
    ("processor, server", lambda one: one.cost.server_cpu_seconds, "{:.2f} s"),
    ("memory, program", lambda one: one.cost.program_bytes / MEGABYTE, "{:.0f} MB"),
    ("memory, children", lambda one: one.cost.children_bytes / MEGABYTE, "{:.0f} MB"),
    ("temporary disk", lambda one: one.cost.temporary_bytes / MEGABYTE, "{:.0f} MB"),
)
ADDED: tuple[str, Figure, str] = ("added", lambda one: added(one) / MEGABYTE, "{:.2f} MB")
Row = Sequence[str]
TEN = 10


def markdown(results: Results) -> str:
    """Write the whole of bench.md."""
    lines = ["# What a night costs", "", *_about(results), "", *_budgets(results)]
    for series, told in SERIES.items():
        if nights(results, series, OURS):
            lines += ["", f"## Following nights: {told}", "", *_costs(results, series)]
    lines += ["", "## The first night", "", *_costs(results, "youngest", first=True)]
    lines += ["", "## Time by phase", "", *_phases(results)]
    lines += ["", "## The way back", "", *_restores(results)]
    lines += ["", "## Verification and export", "", *_verification(results)]
    lines += ["", "## The drill", "", *_drill(results)]
    if results.sizes:
        lines += ["", "## By size", "", *_sizes(results)]
    return "\n".join(lines) + "\n"


def summary(results: Results) -> list[str]:
    """Give the lines of the short table, of contenders and of budgets, that a README shows."""
    return [*_summary(results), "", *_budget_table(results)]


def table(head: Row, rows: Iterable[Row], *, words: int = 1) -> Iterator[str]:
    """Write a Markdown table; after so many columns of words come those of numbers."""
    yield f"| {' | '.join(head)} |"
    yield f"|{'|'.join([*['---'] * words, *['--:'] * (len(head) - words)])}|"
    yield from (f"| {' | '.join(row)} |" for row in rows)


def cell(value: float | None, floor: float | None, form: str) -> str:
    """Write a value, and beside it how many times the floor it is."""
    if value is None:
        return NOT_MEASURED
    times = ratio(value, floor)
    beside = "" if times is None else f" ({times:.2g}{TIMES})" if times < TEN else f" ({times:,.0f}{TIMES})"
    return form.format(value) + beside


def _about(results: Results) -> Iterator[str]:
    machine = results.machine
    programs = ", ".join(f"{name} {version}" for name, version in results.versions.items())
    yield f"Written by `make bench` on {results.time:%Y-%m-%d}, in {results.seconds / 60:.0f} minutes."
    yield ""
    yield (
        f"{results.vault['entries']:,} entries at first, {results.vault['database_bytes'] / MEGABYTE:,.0f} MB of"
        f" database; every night 1 % of entries is new and 1 % of records is updated. Medians of"
        f" {plural(results.rounds, 'round')} of {plural(results.nights, 'night')} after the first, contenders in turn;"
        " nothing is old enough to be pruned. In parentheses: how many times the floor."
    )
    yield ""
    yield (
        f"{machine.processor}, {machine.cores} processors ({', '.join(machine.instructions)}),"
        f" {machine.memory_bytes / 1e9:.0f} GB, {machine.system}; {programs}. Repositories: {results.encryption},"
        f" {results.compression}. Load before: {machine.load_before}."
    )
    yield ""
    yield (
        "The floor is the least that must be done: `pg_dump -Fc -Z0` to a file and beside it the chain by one COPY of"
        " `psql`, then one plain `borg create` into a repository that already holds yesterday's. Nothing in it is"
        " hashed, verified, compared or pruned. borgmatic stores the dump alone, without the chain."
    )
    for name in results.missing:
        yield ""
        yield f"Not measured, because it is not installed: {name}."
    if results.failures:
        yield from ("", f"**{len(results.failures)} parts failed and are incomplete: see bench.json.**")


def _budgets(results: Results) -> Iterator[str]:
    yield from ("## Budgets", "")
    yield from _budget_table(results)


def _budget_table(results: Results) -> Iterator[str]:
    yield from table(("what", "budget", "measured", ""), map(_budget_row, budgets(results)))


def _budget_row(budget: Budget) -> Row:
    met = {True: "met", False: "**not met**", None: "not measured"}[budget.is_met]
    return (budget.what, budget.demanded, budget.measured, met)


def _summary(results: Results) -> Iterator[str]:
    floor = nights(results, "youngest", FLOOR)
    columns = (COSTS[0], COSTS[1], COSTS[3], ADDED)
    head = ("a night", *(name for name, _, _ in columns), "time to restore")
    yield from table(
        head,
        (
            (
                name,
                *_row(nights(results, "youngest", name), floor, columns),
                cell(
                    middle(of_part(results, "restore", name), seconds),
                    middle(of_part(results, "restore", FLOOR), seconds),
                    "{:.2f} s",
                ),
            )
            for name in contenders_in(results)
        ),
    )


def _costs(results: Results, series: str, *, first: bool = False) -> Iterator[str]:
    floor = nights(results, series, FLOOR, first=first)
    columns = (*COSTS, ADDED)
    yield from table(
        ("", *(name for name, _, _ in columns)),
        ((name, *_row(nights(results, series, name, first=first), floor, columns)) for name in contenders_in(results)),
    )


def _row(samples: list[Sample], floor: list[Sample], columns: Iterable[tuple[str, Figure, str]]) -> list[str]:
    return [cell(middle(samples, figure), middle(floor, figure), form) for _, figure, form in columns]


def _phases(results: Results) -> Iterator[str]:
    rows = [(name, _told(phases(nights(results, "youngest", name)))) for name in contenders_in(results)]
    rows.append((f"{OURS} stage, without Borg, every signature verified", _told(phases(of_part(results, "stage")))))
    yield from table(("a following night", "phases"), rows, words=2)


def _told(seconds_of: dict[str, float]) -> str:
    return ", ".join(f"{name} {spent:.2f} s" for name, spent in seconds_of.items()) or NOT_MEASURED


def _restores(results: Results) -> Iterator[str]:
    floor = of_part(results, "restore", FLOOR)
    yield "borg-vault's includes the proof: every file, signature, table and export compared before it says passed."
    yield ""
    yield from table(
        ("", *(name for name, _, _ in COSTS), "phases"),
        (
            (name, *_row(samples, floor, COSTS), _told(phases(samples)))
            for name in contenders_in(results)
            if (samples := of_part(results, "restore", name))
        ),
    )


def _verification(results: Results) -> Iterator[str]:
    jobs = sorted({one.jobs for one in of_part(results, "verification")})
    rows = [
        (mode, f"{count}", *_verified(verifications(results, mode, count)))
        for mode in ("full", "nightly")
        for count in jobs
    ]
    exports = of_part(results, "export")
    rows.append(("export of the chain", "1", *_verified(exports)))
    yield from table(("", "processes", "entries/s", "time", "processor", "memory, all processes"), rows)


def _verified(samples: list[Sample]) -> list[str]:
    shown: tuple[tuple[Figure, str], ...] = (
        (rate, "{:,.0f}"),
        (seconds, "{:.2f} s"),
        (lambda one: one.cost.cpu_seconds, "{:.2f} s"),
        (lambda one: one.cost.tree_bytes / MEGABYTE, "{:.0f} MB"),
    )
    return [cell(middle(samples, figure), None, form) for figure, form in shown]


def _drill(results: Results) -> Iterator[str]:
    drills = of_part(results, "drill")
    rows = ((name, f"{spent:.2f} s") for name, spent in phases(drills).items())
    yield from table(("phase", "time"), [*rows, ("the whole drill", cell(middle(drills, seconds), None, "{:.2f} s"))])


def _sizes(results: Results) -> Iterator[str]:
    head = (
        "entries", "floor", "`create`", "... memory, program", "... memory, children", "... added", "export",
        "full verification", "... memory", "drill", "restore",
    )  # fmt: skip
    yield from table(head, (_size_row(results, entries) for entries in results.sizes))


def _size_row(results: Results, entries: int) -> Row:
    floor, ours = (sized(results, "night", name, entries) for name in (FLOOR, OURS))
    verified = sized(results, "verification", OURS, entries)
    return (
        f"{entries:,}",
        cell(middle(floor, seconds), None, "{:.2f} s"),
        cell(middle(ours, seconds), middle(floor, seconds), "{:.2f} s"),
        cell(middle(ours, lambda one: one.cost.program_bytes / MEGABYTE), None, "{:.0f} MB"),
        cell(middle(ours, lambda one: one.cost.children_bytes / MEGABYTE), None, "{:.0f} MB"),
        *_row(ours, floor, [ADDED]),
        cell(middle(sized(results, "export", OURS, entries), seconds), None, "{:.2f} s"),
        cell(middle(verified, rate), None, "{:,.0f}/s"),
        cell(middle(verified, lambda one: one.cost.tree_bytes / MEGABYTE), None, "{:.0f} MB"),
        *(
            cell(middle(sized(results, part, OURS, entries), seconds), None, "{:.2f} s")
            for part in ("drill", "restore")
        ),
    )
