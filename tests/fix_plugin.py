"""Third-party plugins: small distributions that a test installs where Python finds them."""

from __future__ import annotations

import itertools
from typing import Protocol

numbers = itertools.count(1)

HEADER = """\
from borg_vault_plugin import Artifact, SourceError, hookimpl
"""


class InstallPlugin(Protocol):
    """Installs a plugin."""

    def __call__(self, source: str, *, name: str = "badge") -> None:
        """Install a distribution with one module of this source and an entry point of this name."""
        ...
