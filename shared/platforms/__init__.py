"""The registry: one line per platform, loaded only when a bot uses it."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from types import MappingProxyType
from typing import Any, NamedTuple


class Room(NamedTuple):
    """Where a platform's four classes live, each as "module:Class", and what explains refusals."""

    settings: str
    inbound: str
    outbound: str
    caller: str
    explain: str

    @classmethod
    def of(cls, folder: str, prefix: str) -> Room:
        """The room in `shared/platforms/<folder>/`, its classes named `<prefix>Settings` etc."""
        base = f"{__name__}.{folder}"
        return cls(
            f"{base}.settings:{prefix}Settings",
            f"{base}.inbound:{prefix}Inbound",
            f"{base}.outbound:{prefix}Outbound",
            f"{base}.caller:{prefix}Caller",
            f"{base}.explain:explain",
        )


PLATFORMS: Mapping[str, Room] = MappingProxyType(
    {
        "dingtalk": Room.of("dingtalk", "DingTalk"),
        "feishu": Room.of("feishu", "Feishu"),
    }
)


def load(path: str) -> Any:
    """The object that "module:name" names; imports the module."""
    module, _, name = path.partition(":")
    return getattr(import_module(module), name)
