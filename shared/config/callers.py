"""Who may call: lists of addresses and networks, one for each platform of the registry."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

from pydantic import AfterValidator, BeforeValidator, create_model

from shared.config.fields import Group, setting
from shared.networks import read_network
from shared.platforms import PLATFORMS
from shared.platforms.settings import string_list


def _networks(values: tuple[str, ...]) -> tuple[str, ...]:
    """Every entry as a network, 192.0.2.1 as 192.0.2.1/32. Names entries by their place alone."""
    found = []
    for place, text in enumerate(values, 1):
        try:
            found.append(str(read_network(text)))
        except ValueError as error:
            raise ValueError(f"entry {place} of {len(values)} {error}") from error
    return tuple(found)


Cidrs = Annotated[tuple[str, ...], BeforeValidator(string_list), AfterValidator(_networks)]


class _PerPlatform(Group):
    def of(self, platform: str) -> tuple[str, ...]:
        """The networks that this platform's webhooks are let in from; none: all."""
        networks: tuple[str, ...] = getattr(self, platform)
        return networks


if TYPE_CHECKING:
    AllowCidrs = _PerPlatform
else:
    _HELP = "Addresses and networks that its webhooks are let in from; unset: any."
    _fields: dict[str, Any] = {name: (Cidrs, setting((), _HELP)) for name in PLATFORMS}
    AllowCidrs = create_model("AllowCidrs", __base__=_PerPlatform, **_fields)
