"""Many accepted events in a moment: the ingress's own `Inbox`, without HTTP and signatures."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from pathlib import Path

import uvloop

from ingress.bots import build_bots
from ingress.inbox import Inbox, Limits
from ingress.redis_client import connect
from shared.config import load_settings
from shared.envelope import hint_templates
from shared.messages import Event
from tests.bench.world import TEXT
from tests.simulator.events import new_message_id

AT_ONCE = 512


def fill(environment: Mapping[str, str], directory: Path, conversations: Sequence[str]) -> None:
    """Have one event accepted for the default Feishu bot in each of `conversations`."""
    uvloop.run(_fill(environment, directory, conversations))


async def _fill(
    environment: Mapping[str, str], directory: Path, conversations: Sequence[str]
) -> None:
    settings = load_settings(environment, cwd=directory)
    bot = build_bots(settings)["feishu", "default"]
    client = connect(settings)
    inbox = Inbox(
        client, hint_templates(), Limits(qps=lambda: 0, queue_capacity=len(conversations) * 2)
    )
    try:
        for start in range(0, len(conversations), AT_ONCE):
            batch = conversations[start : start + AT_ONCE]
            events = [_event(bot.keys.app_id, name) for name in batch]
            outcomes = await asyncio.gather(*(inbox.accept(bot, event) for event in events))
            if set(outcomes) != {"accepted"}:
                raise RuntimeError(f"not accepted: {set(outcomes)}")
    finally:
        await client.aclose()


def _event(app_id: str, conversation: str) -> Event:
    message_id = new_message_id("feishu")
    return Event(
        platform="feishu",
        app_id=app_id,
        message_id=message_id,
        event_id=message_id,
        conversation_id=conversation,
        text=TEXT,
        reply_address={"message_id": message_id},
    )
