"""At LOG_LEVEL=DEBUG a refused call is explained: a line for each of its checks, failed or not."""

from __future__ import annotations

import logging
import secrets

from ingress.bots import IngressBot
from shared.http_values import RawRequest
from shared.logs import log
from shared.platforms import PLATFORMS, load

logger = logging.getLogger(__name__)


def explain(bot: IngressBot, request: RawRequest, *, now: float) -> None:
    """Log what was looked at, never a secret or a signature. `call` tells the calls apart.

    now: the time at which the call was refused. At other levels nothing is worked out.
    """
    if not logger.isEnabledFor(logging.DEBUG):
        return
    call = secrets.token_hex(4)
    for step in load(PLATFORMS[bot.platform].explain)(bot.settings, request, now=now):
        log(
            logger,
            logging.DEBUG,
            "refusal.explained",
            platform=bot.platform,
            bot=bot.name,
            call=call,
            step=step.name,
            passed=step.passed,
            facts=dict(step.facts),
        )
