"""Genuine sample vaults of both eras, for demonstrations, tests and measurements."""

from borg_vault_plugin.sample.audit import Rows, write_rows
from borg_vault_plugin.sample.plan import VaultShape
from borg_vault_plugin.sample.rows import Checkpoint, Entry, KeyStatement, Read, RegisteredKey, TreeHead
from borg_vault_plugin.sample.vault import SampleVault

__all__ = [
    "Checkpoint",
    "Entry",
    "KeyStatement",
    "Read",
    "RegisteredKey",
    "Rows",
    "SampleVault",
    "TreeHead",
    "VaultShape",
    "write_rows",
]
