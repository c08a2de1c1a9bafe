"""Metrics for Prometheus, in a file that node_exporter's textfile collector reads."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from borg_vault_plugin import METRICS, METRICS_PREFIX, Figure, Monitoring, hookimpl, write_whole

READABLE = 0o644  # node_exporter is another user


class Figures(Collector):
    """All figures as the client library takes them."""

    def __init__(self, figures: Sequence[Figure]) -> None:
        order = list(METRICS)
        self._figures = sorted(figures, key=lambda figure: order.index(figure.name))

    def collect(self) -> Iterator[Metric]:
        """Give one gauge for each metric that has a figure."""
        for name, figures in groupby(self._figures, key=lambda figure: figure.name):
            told, own = METRICS[name]
            labels = ("label", *own)
            gauge = GaugeMetricFamily(METRICS_PREFIX + name, told, labels=labels)
            for figure in figures:
                gauge.add_metric([figure.labels.get(label, "") for label in labels], figure.value)
            yield gauge


@hookimpl
def figures_changed(figures: Sequence[Figure], monitoring: Monitoring) -> None:
    """Write the file anew; whoever reads it meanwhile reads a whole one."""
    if monitoring.prometheus is not None:
        registry = CollectorRegistry()
        registry.register(Figures(figures))
        write_whole(monitoring.prometheus.textfile, generate_latest(registry), mode=READABLE)
