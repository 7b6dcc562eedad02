"""Following the configuration centre in a running process: what is news, and what the logs say.

The file is read here; what Redis says is handed in by each side's own client.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path as FilePath
from typing import Any

from shared import audit
from shared.config.center import (
    REDIS_ORIGIN,
    SOURCES,
    Center,
    Source,
    Taken,
    redis_layer,
)
from shared.config.live import Live
from shared.config.load import Loaded
from shared.config.problems import label_of
from shared.config.sources import Layer, otherwise
from shared.config.written import read_written
from shared.config.yaml_file import YamlFile
from shared.errors import ConfigError

INTERVAL_S = 1.0  #: between two looks: in force within two seconds, within three from the file

logger = logging.getLogger(__name__)


class Follower:
    """One process's view of the centre. For one thread at a time.

    file: the one to watch, if any. variables: they answer the file's `${ENV:NAME}`.
    """

    def __init__(
        self, center: Center, *, file: FilePath | None, variables: Mapping[str, str]
    ) -> None:
        self._center = center
        self._file = file
        self._variables = variables
        self._seen: dict[Source, Any] = {}
        self._found = ""  #: in the file, at the last look
        self.away: set[Source] = set()  #: places that could not be read
        self.refused: dict[Source, tuple[str, ...]] = {}  #: what is wrong with those that could
        self.is_whole = False  #: the process is built of all that the places say
        self._why_away: dict[Source, str] = {}
        self._waiting: frozenset[str] = frozenset()
        self._layers: dict[Source, Layer] = {}  #: what is taken of each place
        self._untold: list[tuple[int, str, dict[str, Any]]] = []
        self._unaudited: list[tuple[str, dict[str, Any]]] = []

    @property
    def live(self) -> Live:
        return self._center.live

    @property
    def loaded(self) -> Loaded:
        """With which a process would start now."""
        return self._center.loaded

    @property
    def reads_file(self) -> bool:
        return self._file is not None

    @property
    def reads_redis(self) -> bool:
        return self.live.settings.config_center.redis

    @property
    def is_late(self) -> bool:
        """What Redis says, which was away when the process was built, has been taken since.

        The file was not away then; whatever became of it, what it said last holds.
        """
        has_redis = "redis" not in self.away and not self.refused.get("redis")
        return not self.is_whole and has_redis

    @property
    def waits_for_restart(self) -> bool:
        """Something that was taken is not in force in this process."""
        return bool(self._waiting)

    def begin(self) -> None:
        """The process is built now: from here on only what is live changes.

        Raises:
            ConfigError: what a place says can't be used, or the file is away. There are no last
                good values to go on with: without its lists, the centre's doors stand open.
        """
        if problems := self._faults_at_start():
            raise ConfigError(problems)
        self.is_whole = not self.away
        self._center.begin()

    def complete(self) -> None:
        """All that is late is in force in this process now."""
        self.is_whole = True

    def look_at_file(self) -> None:
        """Read the file, if there is one.

        Whole each time, so that no way of changing it escapes: written, replaced, or its folder's
        link swapped, as Kubernetes does. While the process runs, a text counts when two looks in a
        row found it: one that is being written is cut off anywhere, and may be good YAML.
        """
        if self._file is None:
            return
        try:
            text = self._file.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            self.miss("file", error)
            return
        found, self._found = self._found, text
        if self._center.is_running and text != found:
            return
        if self._is_news("file", text):
            problems: list[str] = []
            layer = YamlFile(self._file, self._variables.get, problems).parse(text)
            self._take("file", text, layer, problems)

    def take_hash(self, values: Mapping[str, str]) -> None:
        """What the hash in Redis holds now."""
        if self._is_news("redis", values):
            problems: list[str] = []
            layer = redis_layer(values, problems)
            self._take("redis", dict(values), layer, problems)

    def miss(self, source: Source, error: Exception) -> None:
        """A place could not be read: what it said last holds. Told once until it is back."""
        if source not in self.away:
            self.away.add(source)
            reason = getattr(error, "strerror", None) if source == "file" else None
            self._why_away[source] = reason or type(error).__name__
            facts = {"source": source, "error": type(error).__name__}
            self._untold.append((logging.WARNING, "config.unread", facts))

    def tell(self) -> None:
        """Log what has happened since the last time.

        What came of a change goes into the audit trail, too, which no log level silences: the
        change itself may be the level's, and whoever wrote it needed no command of ours.
        """
        untold, self._untold = self._untold, []
        for level, event, facts in untold:
            logger.log(level, event, extra={"metadata": facts})
        unaudited, self._unaudited = self._unaudited, []
        for event, facts in unaudited:
            audit.write(audit.ACTIONS, event, **facts)

    def forget(self) -> None:
        """Leave what has happened to another process to tell."""
        self._untold.clear()
        self._unaudited.clear()

    def _faults_at_start(self) -> list[str]:
        faults = [*self.refused.get("file", ())]
        if "file" in self.away:
            label = label_of(("config_center", "file"), dict(self.loaded.given))
            faults.append(f"{label}: {self._file} can't be read: {self._why_away['file']}")
        elif faults and "redis" in self.away:
            why = self._why_away["redis"]
            faults.append(f"{REDIS_ORIGIN} can't be read ({why}): what the file needs may be there")
        if in_redis := self.refused.get("redis"):
            faults += in_redis
            faults.append(
                f"to take a setting out of the configuration centre in {REDIS_ORIGIN}: "
                "clawdbot config unset NAME"
            )
        return faults

    def _is_news(self, source: Source, said: Any) -> bool:
        self.away.discard(source)
        return bool(self._seen.get(source, {}) != said)

    def _take(self, source: Source, said: Any, layer: Layer, problems: list[str]) -> None:
        taken = self._center.take(source, layer, problems)
        self.refused[source] = taken.problems
        for other in SOURCES if not taken.problems else ():
            if other != source and self.refused.get(other):
                self._seen[other] = None  # what it says may be usable now
        if "log.level" in taken.changed:
            logging.getLogger().setLevel(self.live.settings.log.level)
        self._note(taken)
        self._note_for_audit(taken, layer)
        self._seen[source] = said  # at the end: who is forked before it takes all of it once more

    def _note(self, taken: Taken) -> None:
        facts: dict[str, Any] = {"source": taken.source}
        if taken.problems:
            told = {**facts, "problems": list(taken.problems)}
            self._untold.append((logging.ERROR, "config.refused", told))
            return
        if taken.changed:
            told = {**facts, "settings": list(taken.changed)}
            self._untold.append((logging.INFO, "config.changed", told))
        if news := frozenset(taken.waiting) - self._waiting:
            told = {**facts, "settings": sorted(news)}
            self._untold.append((logging.WARNING, "config.restart_needed", told))
        self._waiting = frozenset(taken.waiting)

    def _note_for_audit(self, taken: Taken, layer: Layer) -> None:
        """Everything that the place says otherwise than before, by its name."""
        facts: dict[str, Any] = {"source": taken.source, "at_start": not self._center.is_running}
        if taken.problems:
            self._unaudited.append(("config.not_taken", {**facts, "problems": [*taken.problems]}))
            return
        before, self._layers[taken.source] = self._layers.get(taken.source, {}), layer
        if names := otherwise(before, layer):
            facts |= {"settings": names, "restart_needed": [*taken.waiting]}
            self._unaudited.append(("config.taken", facts))


def make_follower() -> Follower:
    """For the settings of this process. Raises: ConfigError."""
    written = read_written()
    center = Center(written)
    file = center.live.settings.config_center.file
    return Follower(
        center,
        file=written.here / file if file else None,
        variables=written.variables,
    )
