"""Whether the corpus has cases of every field that the rooms read."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from tests.hostile.contents import FIELDS
from tests.hostile.corpus import PLATFORMS
from tests.hostile.forms import CONTENT_AT_THE_TOP, GROUP, OLD

ROOMS = Path(__file__).parents[2] / "shared" / "platforms"
FORMS = {"dingtalk": [CONTENT_AT_THE_TOP], "feishu": [GROUP, OLD]}
#: Of sealed.py: `ciphertexts`, and `words`, which stand in JSON of their own.
SEALED = {"dingtalk": set[str](), "feishu": {"encrypt", "text"}}


def fields_read(platform: str) -> set[str]:
    """Every name that is asked of a mapping, but for those asked of headers."""
    found = set()
    for path in (ROOMS / platform / name for name in ("inbound.py", "message.py")):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))) if path.exists() else ():
            match node:
                case ast.Call(
                    func=ast.Attribute(value=asked, attr="get"), args=[ast.Constant(str(name)), *_]
                ) if ast.unparse(asked) != "headers":
                    found.add(name)
    return found


@pytest.mark.parametrize("platform", PLATFORMS)
def test_every_field_that_is_read_has_its_cases(platform: str) -> None:
    has_cases = {
        path[-1] for table in (FIELDS[platform], *FORMS[platform]) for path in table
    } | SEALED[platform]

    assert len(fields_read(platform)) > 10
    assert fields_read(platform) - has_cases == set()
