"""The settings: the only reader of the environment.

Defaults < YAML file named by CLAWDBOT_CONFIG < `.env` < `.run/env` < environment < secret files.
Above all of them stands the configuration centre, followed while a process runs (`follow.py`).
"""

from __future__ import annotations

from shared.config.load import load_settings, settings_or_exit
from shared.config.settings import Bot, Settings

__all__ = ["Bot", "Settings", "load_settings", "settings_or_exit"]
