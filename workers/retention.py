"""How long dead letters, and the texts in them, are kept. The sweeper's worker sees to it."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import redis

from shared.state.key_ring import DAY_MS
from shared.state.keys import BotKeys
from workers.store import Lanes

LETTERS_PER_TICK = 100
TEXTS_AGAIN_MS = 3_600_000  #: how long after the last look at all letters the next one begins

logger = logging.getLogger(__name__)


class Retention:
    """Drops letters that are too old, and before that removes their texts. 0 days: never."""

    def __init__(
        self,
        client: redis.Redis,
        lanes: Lanes,
        bots: Sequence[BotKeys],
        *,
        letter_days: int,
        text_days: int,
    ) -> None:
        self._client = client
        self._lanes = lanes
        self._bots = bots
        self._letter_ms = letter_days * DAY_MS
        watched = bots if text_days else ()
        self._texts = [_Texts(client, lanes, bot, text_days * DAY_MS) for bot in watched]

    def tick(self, now_ms: int) -> None:
        """A bounded step. now_ms: Redis's time."""
        if self._letter_ms:
            for bot in self._bots:
                self._drop_old(bot, now_ms - self._letter_ms)
        for texts in self._texts:
            texts.tick(now_ms)

    def _drop_old(self, bot: BotKeys, oldest_ms: int) -> None:
        ids = self._client.zrangebyscore(bot.dead, "-inf", oldest_ms, start=0, num=LETTERS_PER_TICK)
        if ids:
            metadata = {"bot": bot.prefix, "letters": self._lanes.drop(bot, ids)}
            logger.warning("dead_letters.expired", extra={"metadata": metadata})


class _Texts:
    """Goes through one bot's letters, a page a tick, then rests."""

    def __init__(self, client: redis.Redis, lanes: Lanes, bot: BotKeys, age_ms: int) -> None:
        self._client = client
        self._lanes = lanes
        self._bot = bot
        self._age_ms = age_ms
        self._next_ms = 0
        self._seen = 0  #: letters of this round; one that left meanwhile puts another off a round

    def tick(self, now_ms: int) -> None:
        if now_ms < self._next_ms:
            return
        page = self._client.zrangebyscore(
            self._bot.dead, "-inf", now_ms - self._age_ms, start=self._seen, num=LETTERS_PER_TICK
        )
        removed = self._lanes.remove_texts(self._bot, page) if page else 0
        if removed:
            metadata = {"bot": self._bot.prefix, "letters": removed}
            logger.info("dead_letters.texts_removed", extra={"metadata": metadata})
        self._seen += len(page)
        if len(page) < LETTERS_PER_TICK:
            self._next_ms, self._seen = now_ms + TEXTS_AGAIN_MS, 0
