"""Whether a pair works: one call of one token."""

from __future__ import annotations

import secrets
from collections.abc import Callable

from shared.config.models import NamedModel
from shared.errors import KeyRefusedError, TaskError
from shared.trace_context import Trace
from workers.client import HttpClient
from workers.deadline import Deadline
from workers.keys.bearers import Bearers
from workers.keys.pair import KeyPair
from workers.model.chat import Model

_MESSAGES = [{"role": "user", "content": "ping"}]

#: The key was accepted, though one token gave no word to show.
_ACCEPTED = frozenset({"model:empty", "model:content_filter"})


class Verifier:
    """Asks one model. new_deadline: of one call, the exchange of the pair included."""

    def __init__(
        self,
        model: NamedModel,
        bearers: Bearers,
        http: HttpClient,
        new_deadline: Callable[[], Deadline],
    ) -> None:
        self._bearers = bearers
        self._new_deadline = new_deadline
        self._model = Model(
            http, endpoint=model.endpoint, name=model.name, stream=model.stream, max_tokens=1
        )

    def verify(self, pair: KeyPair) -> None:
        """Returns when the model answers to this pair.

        Raises:
            KeyRefusedError: the pair, or what it was exchanged for, is not accepted
            TaskError: it can't be told: the endpoint failed otherwise
        """
        deadline = self._new_deadline()
        key = self._bearers.of(pair, deadline)
        try:
            self._ask(key.bearer, deadline)
        except KeyRefusedError:
            if not self._bearers.drop(key):
                raise
            self._ask(self._bearers.of(pair, deadline).bearer, deadline)

    def _ask(self, bearer: str, deadline: Deadline) -> None:
        try:
            self._model.answer(_MESSAGES, bearer, deadline, Trace(secrets.token_hex(12)))
        except TaskError as error:
            if error.code not in _ACCEPTED:
                raise
