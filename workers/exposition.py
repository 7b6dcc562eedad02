"""A worker's /metrics: an HTTP server in its main process, on every pool."""

from __future__ import annotations

import errno
from pathlib import Path

from prometheus_client import CollectorRegistry, start_http_server

from shared.resources import Resources
from workers.forked_counts import ForkedCounts
from workers.metrics import Metrics

PORTS = 20  #: so many workers may be on one machine


def registry_of(metrics: Metrics, folder: Path | None) -> CollectorRegistry:
    """All that the worker shows. folder: where the processes of a forking pool count."""
    if folder is None:
        registry = metrics.registry
    else:
        registry = CollectorRegistry()
        counts = ForkedCounts(folder)
        counts.keep_folding()
        registry.register(counts)
    registry.register(Resources())
    return registry


def serve(registry: CollectorRegistry, host: str, first_port: int) -> int:
    """Serve until the process ends; returns the port: the first free one from `first_port` on.

    Raises:
        OSError: none is free, or `host` is no address of this machine
    """
    last = min(first_port + PORTS - 1, 65_535)
    for port in range(first_port, last + 1):
        try:
            start_http_server(port, host, registry)
        except OSError as error:
            if error.errno != errno.EADDRINUSE or port == last:
                raise
        else:
            return port
    raise AssertionError("the last port returns or raises")
