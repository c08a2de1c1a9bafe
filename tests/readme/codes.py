"""Exit codes, and the codes of findings with what to do about them."""

from __future__ import annotations

from collections.abc import Iterator

from borg_vault_plugin.chain.codes import MEANINGS
from borg_vault_plugin.errors import EXIT_CODES
from readme.layout import block, entry, folded, table


def exit_codes() -> Iterator[str]:
    """Give the table of exit codes."""
    return table(("code", "means"), ((str(code), meaning) for code, meaning in EXIT_CODES.items()))


def findings() -> Iterator[str]:
    """Give every code of a finding below what is to be done about it."""
    return folded(f"The {len(MEANINGS)} codes of findings, by what to do next", block(_by_next_step()))


def _by_next_step() -> Iterator[str]:
    for number, step in enumerate(dict.fromkeys(meaning.next_step for meaning in MEANINGS.values())):
        yield from ([""] if number else [])
        yield step
        for code, meaning in MEANINGS.items():
            if meaning.next_step == step:
                yield from entry(f"  {code}", meaning.means)
