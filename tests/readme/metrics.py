"""The metrics of the Prometheus textfile."""

from __future__ import annotations

from collections.abc import Iterator

from borg_vault_plugin import METRICS, METRICS_PREFIX
from readme.layout import table


def metrics() -> Iterator[str]:
    """Give the table of metrics; the label that all have is told around it."""
    return table(
        ("metric", "labels", "says"),
        (
            (f"`{METRICS_PREFIX}{name}`", ", ".join(f"`{label}`" for label in labels), told)
            for name, (told, labels) in METRICS.items()
        ),
    )
