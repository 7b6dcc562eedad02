"""CPU and memory of a program on its /metrics, and how much of them it may have."""

from __future__ import annotations

import os
from collections.abc import Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from shared import metrics, process_tree
from shared.cgroup import limits

_Family = CounterMetricFamily | GaugeMetricFamily


class Resources(Collector):
    """Of the process that makes it, and of all it started. Without a /proc it shows nothing."""

    def __init__(self) -> None:
        self._pid = os.getpid()
        self._cpu_s = 0.0

    def collect(self) -> Iterator[_Family]:
        used = process_tree.usage(self._pid)
        if used is None:
            return
        # A child that ends between two reads is missing once: a counter must not go back.
        self._cpu_s = max(self._cpu_s, used.cpu_s)
        yield CounterMetricFamily(metrics.CPU.name, metrics.CPU.help, value=self._cpu_s)
        allowed = limits()
        yield _gauge(metrics.MEMORY, used.memory_bytes)
        yield _gauge(metrics.PROCESSES, used.processes)
        # A Python process runs on one core at a time (GIL).
        yield _gauge(metrics.CPU_LIMIT, min(allowed.cores, used.processes))
        if allowed.memory_bytes:
            yield _gauge(metrics.MEMORY_LIMIT, allowed.memory_bytes)
        if allowed.memory_used_bytes:
            yield _gauge(metrics.MEMORY_LIMIT_USED, allowed.memory_used_bytes)


def _gauge(metric: metrics.Metric, value: float) -> GaugeMetricFamily:
    return GaugeMetricFamily(metric.name, metric.help, value=value)
