"""The models, and a bot's chain of them: the first that can answer does."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from shared.errors import PermanentError
from workers.deadline import Deadline
from workers.model.chat import Answer, OnText
from workers.model.endpoint import Endpoint


class Models:
    """All models, by name. Thread-safe."""

    def __init__(self, endpoints: Mapping[str, Endpoint]) -> None:
        self._endpoints = endpoints

    def answer(
        self,
        chain: Sequence[str],
        messages: list[dict[str, str]],
        deadline: Deadline,
        trace_id: str,
        on_text: OnText = None,
    ) -> Answer:
        """Ask the models of `chain` in turn. Raises: as `Endpoint.answer`. on_text: as there."""
        endpoint = self._endpoints.get(chain[0])
        if endpoint is None:
            raise PermanentError("model:none", "no model is configured: set CLAWDBOT_ENDPOINT")
        return endpoint.answer(messages, deadline, trace_id, on_text)
