"""What a plugin can do: the hooks, in the order in which a run calls them.

A plugin is a module (or any object) behind an entry point of the group `borg_vault_plugin`, with functions marked
`@hookimpl`. A function may take fewer arguments than its specification.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import pluggy

if TYPE_CHECKING:
    from pathlib import Path

    from borg_vault_plugin.monitoring.figures import Figure
    from borg_vault_plugin.monitoring.runs import Begun, Ended
    from borg_vault_plugin.report import Finding
    from borg_vault_plugin.sections import Monitoring
    from borg_vault_plugin.snapshot import Snapshot
    from borg_vault_plugin.staging import Artifact, Staging

GROUP = "borg_vault_plugin"
hookspec = pluggy.HookspecMarker(GROUP)
hookimpl = pluggy.HookimplMarker(GROUP)


@hookspec
def collect_artifacts(snapshot: Snapshot, staging: Staging) -> Iterable[Artifact]:
    """Write what this plugin protects into staging, from the given snapshot, and return (or yield) its artifacts.

    Called once per run, in a thread of its own beside the other plugins'. `snapshot.connection()` opens a connection
    that sees the snapshot's instant; `staging.write(path)` gives a file that is hashed while it is written. Any
    exception ends the run before Borg is started, and so does one that takes longer than `database.timeout`.
    """
    raise NotImplementedError


@hookspec
def collect_provisioning(directory: Path, staging: Staging) -> Iterable[Artifact]:
    """Write the provisioning files below a directory into staging and return (or yield) their artifacts.

    Called once per run of the set `provisioning`, in a thread of its own and for no longer than `database.timeout`, as
    the next two. What looks like a private key in the files ends the run.
    """
    raise NotImplementedError


@hookspec
def collect_keys(paths: Sequence[Path], command: str | None, staging: Staging) -> Iterable[Artifact]:
    """Write the keys, from files or from a command's output, into staging and return (or yield) their artifacts.

    Called once per run of the set `keys`, unless the keys are only attested.
    """
    raise NotImplementedError


@hookspec
def verify_staging(staging: Staging) -> Iterable[Finding]:
    """Look at the complete staged set and return (or yield) what is wrong with it.

    Called once per run, after every artifact is written and before the set is sealed and named. Any finding makes the
    set suspect; a plugin can add findings and never remove one. An exception ends the run, as in `collect_artifacts`.
    """
    raise NotImplementedError


@hookspec
def backup_started(begun: Begun, monitoring: Monitoring) -> None:
    """Hear that the backup of a set begins; `monitoring` is that section of the configuration.

    An exception here is reported, as is one that takes longer than 12 seconds, and neither changes anything about the
    backup; so in the next two.
    """
    raise NotImplementedError


@hookspec
def backup_finished(report: Ended, begun: Begun, log: Sequence[str], monitoring: Monitoring) -> None:
    """Hear how the run of a set ended, after its archives are stored and old ones are pruned, or why it failed.

    Every report has an `exit_code`. `log` are the last lines that were told, without any secret.
    """
    raise NotImplementedError


@hookspec
def figures_changed(figures: Sequence[Figure], monitoring: Monitoring) -> None:
    """Hear all that can be measured, after every run and whenever a verification, drill or check adds to it."""
    raise NotImplementedError
