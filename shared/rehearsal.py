"""A rehearsal: a message of our own that goes the whole way and reaches nobody (`clawdbot doctor`).

The ingress takes it for a person's: it is signed with the bot's secrets. Its conversation is none
of a platform's, and its text is a proof, sealed with the bot's keys for this very message. A worker
that reads it asks no model, counts no use, remembers nothing and sends nothing. Whoever names such
a conversation without the proof gets nothing past anybody: the message dies.
"""

from __future__ import annotations

from collections.abc import Sequence

from shared.errors import PermanentError
from shared.messages import Event
from shared.vault import Vault

PREFIX = "clawdbot-rehearsal-"  #: of its message and of its conversation, both named the same
REPLY = "rehearsal"  #: what is written back in a model's place


def rehearsal_vault(
    master_keys: Sequence[str], bot_secrets: Sequence[str], bot_prefix: str
) -> Vault:
    """What seals one bot's proofs, and nothing else."""
    return Vault.for_bot(master_keys, bot_secrets, f"{bot_prefix} rehearsal")


def proof(vault: Vault, name: str) -> str:
    """The text that makes the message `name` a rehearsal."""
    return vault.seal(name)


def is_rehearsal(event: Event, vault: Vault) -> bool:
    """Whether `event` reaches nobody.

    Raises:
        PermanentError: it says so and doesn't prove it.
    """
    if not event.conversation_id.startswith(PREFIX):
        return False
    if vault.open(event.text) != event.message_id:
        raise PermanentError("rehearsal:unproved", "its proof was made for another message")
    return True
