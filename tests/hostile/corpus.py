"""All of it, by platform and family."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from tests.hostile import contents, hosts, mutants, proofs, protocol, sealed
from tests.hostile.case import Case

PLATFORMS = ("dingtalk", "feishu")

_BOTH: Mapping[str, Callable[[str], Iterator[Case]]] = {
    "methods": protocol.methods,
    "paths": protocol.paths,
    "headers": protocol.headers,
    "lengths": protocol.lengths,
    "pipelines": protocol.pipelines,
    "cuts": protocol.cuts,
    "signatures": proofs.signatures,
    "secrets": proofs.secrets,
    "timestamps": proofs.timestamps,
    "replays": proofs.replays,
    "fields": contents.fields,
    "texts": contents.texts,
    "encodings": contents.encodings,
    "shapes": contents.shapes,
    "attachments": hosts.attachments,
    "mutants": mutants.on_the_wire,
    "signed mutants": mutants.under_the_signature,
}
_FEISHU: Mapping[str, Callable[[], Iterator[Case]]] = {
    "ciphertexts": sealed.ciphertexts,
    "words": sealed.words,
    "address checks": sealed.checks,
}
FAMILIES = (
    *((platform, family) for platform in PLATFORMS for family in _BOTH),
    *(("feishu", family) for family in _FEISHU),
)


def cases(platform: str, family: str) -> list[Case]:
    """Made now: signatures don't keep."""
    if family in _BOTH:
        return list(_BOTH[family](platform))
    return list(_FEISHU[family]())
