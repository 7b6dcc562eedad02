"""One model with all that stands around a call of it: its keys."""

from __future__ import annotations

import logging

from shared.errors import KeyRefusedError
from workers.deadline import Deadline
from workers.model.chat import Answer, Model, OnText
from workers.model.keys import KeySource

logger = logging.getLogger(__name__)


class Endpoint:
    """`name` is the model's in the settings. Thread-safe."""

    def __init__(self, name: str, model: Model, keys: KeySource) -> None:
        self.name = name
        self._model = model
        self._keys = keys

    def answer(
        self,
        messages: list[dict[str, str]],
        deadline: Deadline,
        trace_id: str,
        on_text: OnText = None,
    ) -> Answer:
        """Ask, with the next key when one is refused. Raises: as `Model.answer`."""
        refusal: KeyRefusedError | None = None
        for key in self._keys.usable(deadline):
            try:
                return self._model.answer(messages, key.bearer, deadline, trace_id, on_text)
            except KeyRefusedError as error:
                refusal = error
                metadata = {"model": self.name, "key": key.id, "code": error.code}
                logger.warning("key.refused", extra={"metadata": metadata})
                self._keys.refused(key)
        raise refusal or KeyRefusedError("model:no_key", f"the model {self.name} has no valid key")
