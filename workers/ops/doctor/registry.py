"""Every check, in the order of the report. One line each, and one file in `checks/`."""

from __future__ import annotations

from workers.ops.config_desk import LOOK_S
from workers.ops.doctor.check import Check
from workers.ops.doctor.checks import (
    clock,
    credentials,
    flower,
    ingress,
    key_ages,
    limits,
    memory,
    models,
    persistence,
    public_url,
    redis_server,
    rehearsal,
    settings,
    signatures,
    worker_processes,
)

CHECKS = (
    Check("settings", "warnings of the settings in force", 2, settings.look),
    Check("clock", "this machine's clock against platforms, Redis and NTP", 10, clock.look),
    Check("redis", "is it reachable, which version, how fast", 10, redis_server.look),
    Check("persistence", "does Redis keep what it was told", 10, persistence.look),
    Check("memory", "how full Redis is, and what it does when it is", 10, memory.look),
    Check("workers", "who lives, for which queues", 10, worker_processes.look),
    Check("limits", "the workers' time limits and pools against the settings", 10, limits.look),
    Check("signatures", "verifying calls: known answers, a call of our own", 5, signatures.look),
    Check("credentials", "an access token from every bot's platform", 15, credentials.look),
    Check("models", "a call of one token to every model of every chain", 25, models.look),
    Check("keys", "until when the models' keys are good", 10, key_ages.look),
    Check("ingress", "who answers on its port, and is it ready", 10, ingress.look),
    Check("public", "does CLAWDBOT_PUBLIC_URL lead to the ingress", 15, public_url.look),
    Check("flower", "does Flower answer, with a password", 8, flower.look),
    Check("rehearsal", "a signed message through the whole pipeline", 25, rehearsal.look),
)

NAMES = tuple(check.name for check in CHECKS)
#: The settings, then all checks side by side.
BOUND_S = LOOK_S + max(check.timeout_s for check in CHECKS)
