"""What another program tells `borg prune`: its options for what to keep, and for which archives it looks at."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from borg_vault_plugin.errors import UsageError

# Each takes one word (Borg 1.4 documentation, borg prune).
COUNTS = frozenset(
    f"--keep-{unit}"
    for unit in (
        "last", "secondly", "minutely", "hourly", "daily", "weekly", "monthly", "13weekly", "3monthly", "yearly",
    )
)  # fmt: skip
FILTERS = frozenset(("--glob-archives", "--prefix"))
KNOWN = COUNTS | FILTERS | {"--keep-within"}
SHORT = {
    "-H": "--keep-hourly",
    "-d": "--keep-daily",
    "-w": "--keep-weekly",
    "-m": "--keep-monthly",
    "-y": "--keep-yearly",
    "-a": "--glob-archives",
    "-P": "--prefix",
}


@dataclass(frozen=True, slots=True)
class Pruning:
    """Options of one `borg prune`, by their long names."""

    options: tuple[tuple[str, str], ...]

    @property
    def keeps_nothing(self) -> bool:
        """Whether no archive at all would be kept, which Borg itself refuses."""
        kept = [value for name, value in self.options if name not in FILTERS]
        return not any(value.strip("+-0") for value in kept)

    def words(self) -> list[str]:
        """Give the options as Borg takes them."""
        return [f"{name}={value}" for name, value in self.options]


def pruning(words: Iterable[str]) -> Pruning:
    """Read the options of `borg prune`. Raises UsageError for one that is not known here, or that has no value."""
    options: list[tuple[str, str]] = []
    rest = iter(words)
    for word in rest:
        name, equals, value = word.partition("=") if word.startswith("--") else (word[:2], word[2:], word[2:])
        name = SHORT.get(name, name)
        if name not in KNOWN:
            raise UsageError(f"{word} says neither what borg prune keeps nor which archives it looks at: leave it out")
        found = value if equals else next(rest, None)
        if found is None or not _fits(name, found):
            raise UsageError(f"{word} needs {'a number' if name in COUNTS else 'a value'}, as borg prune has it")
        options.append((name, found))
    return Pruning(tuple(options))


def _fits(name: str, value: str) -> bool:
    return value.removeprefix("-").isdecimal() if name in COUNTS else bool(value)
