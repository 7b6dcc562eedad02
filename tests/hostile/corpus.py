"""All of it, by platform and family."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from tests.hostile import contents, forms, hosts, mutants, proofs, protocol, sealed
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
_ONE: Mapping[str, Mapping[str, Callable[[], Iterator[Case]]]] = {
    "dingtalk": {
        "content at the top": forms.at_the_top,
    },
    "feishu": {
        "ciphertexts": sealed.ciphertexts,
        "words": sealed.words,
        "address checks": sealed.checks,
        "group fields": forms.in_groups,
        "old envelopes": forms.old_envelopes,
    },
}
FAMILIES = tuple(
    (platform, family) for platform in PLATFORMS for family in (*_BOTH, *_ONE[platform])
)


def cases(platform: str, family: str) -> list[Case]:
    """Made now: signatures don't keep."""
    if family in _BOTH:
        return list(_BOTH[family](platform))
    return list(_ONE[platform][family]())
