"""What the model of the lanes is made of: lives of events, lanes, heads. Times are flags."""

from __future__ import annotations

from dataclasses import dataclass, field

from shared.messages import Event
from shared.state.keys import BotKeys
from workers.claim import Claim


@dataclass
class Life:
    """One accepted event. `place`: inbox, outbox, dead, or as what it ended.

    is_waiting: a notice that it takes longer is to come. fate: what it ends as when its reply was
    delivered. reserved: tokens that its quota has for it; None: it was not admitted yet. is_unsure:
    it died, and was perhaps sent before.
    """

    event: Event
    place: str = "inbox"
    has_died: bool = False
    has_notice: bool = False
    is_waiting: bool = False
    died_in: str = ""
    parts: tuple[str, ...] = ()
    next_part: int = 0
    written_back: int = 0
    fate: str = "answered"
    reserved: int | None = None
    is_unsure: bool = False

    @property
    def bot(self) -> BotKeys:
        return BotKeys(self.event.platform, self.event.app_id)

    @property
    def inbox(self) -> str:
        return self.bot.inbox(self.event.conversation_id)

    @property
    def is_record(self) -> bool:
        return self.place in ("inbox", "outbox", "dead")


@dataclass
class Head:
    """What is known about a lane's first entry; a new head starts anew."""

    claim: Claim | None = None
    has_lapsed: bool = False
    is_turn: bool = False
    owner_was_stopping: bool = False
    waits: bool = False
    tries: int = 0
    losses: int = 0
    own_losses: int = 0
    is_unsure: bool = False

    @property
    def is_live(self) -> bool:
        return self.claim is not None and not self.has_lapsed


@dataclass
class Lane:
    """A queue of event ids, or marked ones, and what is known about the first one."""

    name: str
    entries: list[str] = field(default_factory=list)
    head: Head = field(default_factory=Head)

    @property
    def is_outbox(self) -> bool:
        return self.name.endswith(":outbox")

    def advance(self) -> None:
        self.entries.pop(0)
        self.head = Head()


@dataclass(frozen=True)
class Expected:
    """What a claim has to bring."""

    lane: str
    entry: str
    attempt: int
    is_unsure: bool
    is_poison: bool
    next_part: int
