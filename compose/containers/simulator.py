"""The simulator's container: stands in for the platforms and the model that are not configured.

It writes the settings that the other containers need into a volume they share, as `make up` does
for the programs of one machine. When nothing is missing it writes none, and waits to be stopped.
"""

from __future__ import annotations

import signal
import sys
from pathlib import Path

from compose.local.programs import not_configured
from shared.config import settings_or_exit
from tests.simulator import __main__ as simulator

SHARED = Path("/simulated")  #: a volume; the other containers have it as .run
READY = Path("/tmp/ready")  #: in a file system that begins empty with every start
PORT = "18790"


def main() -> int:
    """Exit code of the simulator; 2 for wrong settings."""
    missing = not_configured(settings_or_exit())
    if missing:
        return _simulate(missing)
    _publish("# Everything is configured: nothing is simulated.\n")
    print("simulator: everything is configured, nothing to simulate", flush=True)
    signal.pause()
    return 0


def _simulate(parts: tuple[str, ...]) -> int:
    arguments = [
        *("--host", "0.0.0.0", "--port", PORT, "--ingress", "http://ingress:18789"),
        *("--only", ",".join(parts), "--seed-file", str(SHARED / "seed")),
        *("--env-out", str(SHARED / "simulator.env")),
    ]
    failed = simulator.main([*arguments, "--write-env-only"])
    if failed:
        return failed
    _publish((SHARED / "simulator.env").read_text("utf-8"))
    return simulator.main(arguments)


def _publish(settings: str) -> None:
    """In one step: a container that starts meanwhile reads the old settings or the new ones."""
    draft = SHARED / "env.draft"
    draft.touch(mode=0o600)
    draft.write_text(settings, "utf-8")
    draft.replace(SHARED / "env")
    READY.touch()


if __name__ == "__main__":
    sys.exit(main())
