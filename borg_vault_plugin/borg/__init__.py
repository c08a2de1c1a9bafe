"""Borg: the only package that knows its command line.

Borg has no stable Python API; its command line, its JSON and its exit codes are the interface (Borg 1.4 documentation,
"All about JSON: How to develop frontends").
"""

from borg_vault_plugin.borg.answers import CHECKPOINT, Inventory, Planned, Sizes
from borg_vault_plugin.borg.arguments import Storing, refused_option
from borg_vault_plugin.borg.holders import Holder, lock_holders
from borg_vault_plugin.borg.program import Borg, find_borg
from borg_vault_plugin.borg.pruning import Pruning, pruning
from borg_vault_plugin.borg.repository import (
    ENCRYPTION_MODES,
    SEGMENT_BYTES,
    Repository,
    local_directory,
    open_repository,
)

__all__ = [
    "CHECKPOINT",
    "ENCRYPTION_MODES",
    "SEGMENT_BYTES",
    "Borg",
    "Holder",
    "Inventory",
    "Planned",
    "Pruning",
    "Repository",
    "Sizes",
    "Storing",
    "find_borg",
    "local_directory",
    "lock_holders",
    "open_repository",
    "pruning",
    "refused_option",
]
