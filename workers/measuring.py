"""A worker's metrics: made before its pool forks, shown by its main process."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

from shared.config.groups import Metrics as MetricsSettings
from workers.exposition import registry_of, serve
from workers.metrics import Metrics
from workers.metrics_folder import count_apart, count_in_files, reserve_counts, share_counts

_EVERYWHERE = ("0.0.0.0", "::")

logger = logging.getLogger(__name__)


class Measuring:
    """Of one worker. `metrics` is what its tasks count with, shown or not."""

    def __init__(self, settings: MetricsSettings, bots: Sequence[tuple[str, str]] = ()) -> None:
        """bots: platform and name of each."""
        self._settings = settings
        self._bots = bots
        self._folder: Path | None = None
        self._is_shown = settings.port > 0

    @cached_property
    def metrics(self) -> Metrics:
        return Metrics(self._bots)

    def begin(self, *, forks: bool) -> None:
        """To be called in the main process, when the pool is known and before it forks."""
        if forks and self._is_shown:
            try:
                self._folder = share_counts()
            except OSError as error:  # the main process alone would show zeros
                self._is_shown = False
                _log_fault(f"no room for the counts of its processes: {error.strerror}")
        _ = self.metrics

    def begin_child(self) -> None:
        """To be called in each process that the pool forked, before it counts.

        The main process shows every bot at 0. A child has those alone whose messages it delivered:
        16 series a bot in each of many files would be more than what is reserved.
        """
        if self._folder is None:
            return
        try:
            reserve_counts(self._folder)
            count_in_files()
        except OSError as error:
            count_apart()
            _log_fault(f"no room for the counts of this process: {error.strerror}")
        self.metrics = Metrics()

    def show(self, machine: str) -> str:
        """Serve them; where to scrape, as `host:port`, "" for nowhere. A fault stops no worker.

        machine: this one's name, for when the address is every one that it has.
        """
        if not self._is_shown:
            return ""
        host = self._settings.host
        try:
            port = serve(registry_of(self.metrics, self._folder), host, self._settings.port)
        except OSError as error:
            _log_fault(f"can't listen on {host}:{self._settings.port}: {error.strerror or error}")
            return ""
        address = _address(machine if host in _EVERYWHERE else host, port)
        logger.info("metrics.shown", extra={"metadata": {"scraped_at": address}})
        return address


def _address(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _log_fault(fault: str) -> None:
    logger.error("metrics.unavailable", extra={"metadata": {"error": fault}})
