"""Where several stacks run at once (`-n`): which tests stay together on one.

xdist's own `loadgroup` does nothing with pytest 9.2: it writes a node id that is no longer read.
"""

from __future__ import annotations

import re

from xdist.scheduler import LoadScopeScheduling

#: One after the other: on one stack a later one reads what an earlier one made it write; of the
#: containers there is one set on a machine.
_WHOLE = re.compile(r"tests/e2e/test_(outage|failover|metrics|watching)\.py|tests/container/")
#: The cases of one pool and layout share a stack, which takes some seconds to start.
_SETUP = re.compile(r"test_kill_matrix\.py::\w+\[(\w+-\w+)")


class StackScheduling(LoadScopeScheduling):  # type: ignore[misc]
    """Gives a free process the next group of tests."""

    def _split_scope(self, nodeid: str) -> str:
        return group_of(nodeid)


def group_of(nodeid: str) -> str:
    """What a test must not be parted from: itself, as a rule."""
    if whole := _WHOLE.search(nodeid):
        return whole[0]
    setup = _SETUP.search(nodeid)
    return setup[1] if setup else nodeid
