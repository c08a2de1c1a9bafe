"""Running probes: each has its time, and whatever becomes of it is rows of its own, so that none hides another."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from dataclasses import replace

import psycopg

from borg_vault_plugin.database import explain
from borg_vault_plugin.doctor.checks import Check, found, refused
from borg_vault_plugin.errors import Error

Probe = Callable[[], Iterable[Check]]

PROBE_SECONDS = 45.0


def probed(name: str, subject: str, probe: Probe, *, weight: str = "probe.error") -> list[Check]:
    """Run one probe and give its rows; an error, and silence for too long, is a row as well.

    `weight` is the key for an Error of ours. A probe that hangs is left behind in its thread: nothing waits for it.
    """
    rows: list[Check] = []
    thread = threading.Thread(target=_collect, args=(rows, name, subject, probe, weight), name=name, daemon=True)
    thread.start()
    thread.join(PROBE_SECONDS)
    if thread.is_alive():
        late = found("probe.late", subject, f"no answer within {PROBE_SECONDS:.0f} s", "find out what hangs there")
        return [*rows, replace(late, name=name)]
    return rows


def _collect(rows: list[Check], name: str, subject: str, probe: Probe, weight: str) -> None:
    try:
        for row in probe():
            rows.append(row)  # noqa: PERF402 - what was found before an error stands
    except psycopg.Error as error:
        rows.append(replace(refused(weight, subject, explain(error)), name=name))
    except Error as error:
        rows.append(replace(refused(weight, subject, error), name=name))
    except OSError as error:
        said = f"{error.filename or 'something'} cannot be read: {error.strerror or error}"
        rows.append(replace(found(weight, subject, said, "mend it, or its permissions"), name=name))
    except Exception as error:  # noqa: BLE001 - a bug in one probe must not hide what the others find
        said = f"{type(error).__name__}: {error}"
        rows.append(replace(found(weight, subject, said, "this is a bug: please report it"), name=name))
