"""What the checks of a dump's signed rows have in common: its era, its registry, and which keys are trusted why."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal, Protocol

from borg_vault_plugin.chain.keys import RegistryKey, registry_key
from borg_vault_plugin.chain.rows import Era, RegistryRow

Standing = Literal["anchored", "unanchored", "undecided"]


@dataclass(frozen=True, slots=True)
class Window:
    """When a key may sign, in milliseconds since 1970, both ends inclusive; None: no bound."""

    activated: int | None
    retired: int | None


class Trust(Protocol):
    """What follows from the pinned keys and the signed key statements; it can be sent to another process."""

    def standing(self, key_id: str) -> Standing:
        """Say whether statements lead from the pinned keys to this one."""

    def window(self, key_id: str) -> Window | None:
        """Give the signed window of an anchored key; None when no statement gives one."""

    @property
    def signing_since(self) -> int | None:
        """The earliest signed activation of an anchored key, in milliseconds since 1970."""


@dataclass(frozen=True, slots=True)
class Context:
    """What every check of an entry, checkpoint, leaf or tree head needs beside the row."""

    era: Era
    keys: Mapping[str, RegistryKey]
    signing_since: int | None
    """From this instant on, in milliseconds since 1970, nothing may be without a signature; None: never."""
    trust: Trust | None = None
    """None when no key is pinned."""


def registry_keys(rows: Iterable[RegistryRow]) -> dict[str, RegistryKey]:
    """Parse the registry; of two rows with one key id the later counts."""
    keys = (registry_key(row) for row in rows)
    return {key.key_id: key for key in keys if key is not None}


def context_of(era: Era, keys: Mapping[str, RegistryKey], trust: Trust | None = None) -> Context:
    """Put together what the checks need: signing began with the earliest activation, as listed or as signed."""
    activations = [key.activated for key in keys.values()]
    activations.append(trust.signing_since if trust is not None else None)
    return Context(era, keys, min((at for at in activations if at is not None), default=None), trust)
