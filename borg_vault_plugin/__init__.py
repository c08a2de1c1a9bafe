"""borg-vault: backups of systems whose history must be provable.

The names exported here are what plugin authors may import; everything else is internal.
"""

from borg_vault_plugin.archive import SetName
from borg_vault_plugin.chain_export import ChainTable, Heads, export_table, exported_tables
from borg_vault_plugin.database import Connection
from borg_vault_plugin.dump import check_dump
from borg_vault_plugin.errors import SourceError
from borg_vault_plugin.file_tree import FoundFile, files_below, output_of
from borg_vault_plugin.hookspecs import hookimpl
from borg_vault_plugin.monitoring.figures import METRICS, Figure
from borg_vault_plugin.monitoring.figures import PREFIX as METRICS_PREFIX
from borg_vault_plugin.monitoring.runs import Begun, Ended, Failed
from borg_vault_plugin.properties import database_sql, export_properties, read_properties, roles_sql
from borg_vault_plugin.registry import check_registry, export_registry, refuse_private_keys
from borg_vault_plugin.report import Attested, Backup, FilesBackup, Finding
from borg_vault_plugin.secret import secret_url
from borg_vault_plugin.sections import Monitoring
from borg_vault_plugin.snapshot import Facts, Snapshot
from borg_vault_plugin.staging import Artifact, ArtifactFile, Staging
from borg_vault_plugin.whole_file import write_whole

__all__ = [
    "METRICS",
    "METRICS_PREFIX",
    "Artifact",
    "ArtifactFile",
    "Attested",
    "Backup",
    "Begun",
    "ChainTable",
    "Connection",
    "Ended",
    "Facts",
    "Failed",
    "Figure",
    "FilesBackup",
    "Finding",
    "FoundFile",
    "Heads",
    "Monitoring",
    "SetName",
    "Snapshot",
    "SourceError",
    "Staging",
    "check_dump",
    "check_registry",
    "database_sql",
    "export_properties",
    "export_registry",
    "export_table",
    "exported_tables",
    "files_below",
    "hookimpl",
    "output_of",
    "read_properties",
    "refuse_private_keys",
    "roles_sql",
    "secret_url",
    "write_whole",
]
