"""borg-vault: backups of systems whose history must be provable.

The names exported here are what plugin authors may import; everything else is internal.
"""

from borg_vault_plugin.chain_export import ChainTable, Heads, export_table, exported_tables
from borg_vault_plugin.database import Connection
from borg_vault_plugin.errors import SourceError
from borg_vault_plugin.hookspecs import hookimpl
from borg_vault_plugin.registry import export_registry
from borg_vault_plugin.report import Backup
from borg_vault_plugin.snapshot import Facts, Snapshot
from borg_vault_plugin.staging import Artifact, ArtifactFile, Staging

__all__ = [
    "Artifact",
    "ArtifactFile",
    "Backup",
    "ChainTable",
    "Connection",
    "Facts",
    "Heads",
    "Snapshot",
    "SourceError",
    "Staging",
    "export_registry",
    "export_table",
    "exported_tables",
    "hookimpl",
]
