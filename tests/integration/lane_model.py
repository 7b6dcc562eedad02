"""What lanes promise, in plain Python: no Redis, no time, no hints. The machine compares the two.

Times are flags here: a lease has `lapsed` or not, a retry `waits` or not.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from shared.messages import Event, seen_id
from shared.state.keys import FAILED_MARK, WORKING_MARK, LaneKeys, event_id_of
from tests.integration.lane_parts import Expected, Head, Lane, Life
from workers.claim import Claim

BOT_CAPACITY = 12
CONVERSATION_CAPACITY = 6
SUSPECT_LOSSES, POISON_LOSSES = 2, 3


class Model:
    """Every lane and every event. Methods tell what happened or what must happen."""

    def __init__(self) -> None:
        self.lives: dict[str, Life] = {}
        self.lanes: dict[str, Lane] = {}
        self.counts: Counter[tuple[str, str]] = Counter()
        self.noticed: set[str] = set()
        self.told: set[str] = set()
        self.turn: tuple[str, str] | None = None
        self._seen: set[tuple[str, bytes]] = set()

    def lane(self, name: str) -> Lane:
        return self.lanes.setdefault(name, Lane(name))

    def life(self, entry: str) -> Life:
        return self.lives[event_id_of(entry)]

    def accept(self, event: Event, *, is_waiting: bool) -> str:
        """The answer that `event` must get; an accepted one is in its inbox from now on."""
        life = Life(event, is_waiting=is_waiting)
        answer = self._refusal(life) or "accepted"
        self.counts[life.bot.prefix, answer] += 1
        if answer == "accepted":
            self.lives[event.trace_id] = life
            if seen_id(event):
                self._seen.add((life.bot.prefix, seen_id(event)))
            self.lane(life.inbox).entries.append(event.trace_id)
        return answer

    def _refusal(self, life: Life) -> str:
        event = life.event
        if event.trace_id in self.lives or (life.bot.prefix, seen_id(event)) in self._seen:
            return "duplicate"
        of_bot = [each for each in self.lives.values() if each.bot == life.bot]
        if sum(each.place in ("inbox", "outbox") for each in of_bot) >= BOT_CAPACITY:
            return "queue_full"
        lanes = (self.lane(life.inbox), self.lane(LaneKeys(life.inbox).outbox))
        if sum(len(lane.entries) for lane in lanes) >= CONVERSATION_CAPACITY:
            return "conversation_full"
        return ""

    def claim(self, name: str, *, is_stopping: bool) -> Expected | None:
        """What a claim of the lane must bring; None: nothing. `granted` is told its id."""
        lane = self.lane(name)
        self._put_orphans_away(lane)
        head = lane.head
        if not lane.entries or head.is_live or head.waits:
            return None
        is_loss = head.claim is not None and not head.owner_was_stopping
        losses = head.losses + is_loss
        own_losses = head.own_losses + (is_loss and head.is_turn)
        is_poison = own_losses >= POISON_LOSSES
        takes_turn = losses >= SUSPECT_LOSSES and not is_poison
        if takes_turn and self.turn:
            return None
        entry = lane.entries[0]
        was_unsure = self._take_unsure(lane)
        lane.head = Head(
            is_turn=takes_turn,
            owner_was_stopping=is_stopping,
            tries=head.tries + 1,
            losses=losses,
            own_losses=own_losses,
            is_unsure=head.is_unsure or was_unsure or (lane.is_outbox and head.claim is not None),
        )
        next_part = 0 if entry != event_id_of(entry) else self.life(entry).next_part
        return Expected(name, entry, lane.head.tries, lane.head.is_unsure, is_poison, next_part)

    def _put_orphans_away(self, lane: Lane) -> None:
        while lane.entries and self._is_orphan(lane.entries[0]) and not lane.head.is_live:
            lane.advance()

    def _take_unsure(self, lane: Lane) -> bool:
        """What the head's letter kept, once; notices leave it to the reply."""
        life = self.life(lane.entries[0])
        if not lane.is_outbox or lane.entries[0] != life.event.trace_id:
            return False
        was_unsure, life.is_unsure = life.is_unsure, False
        return was_unsure

    def granted(self, claim: Claim) -> None:
        head = self.lane(claim.lane).head
        head.claim = claim
        if head.is_turn:
            self.turn = (claim.lane, claim.id)

    def _is_orphan(self, entry: str) -> bool:
        life = self.life(entry)
        if entry.startswith(WORKING_MARK):
            return life.place != "inbox" or life.written_back > 0
        return entry.startswith(FAILED_MARK) and not (life.is_record and life.has_notice)

    def holds(self, claim: Claim) -> bool:
        """Nobody else claimed since, and the head is still there; the lease may have lapsed."""
        held = self.lane(claim.lane).head.claim
        return held is not None and held.id == claim.id

    def renewed(self, claim: Claim) -> None:
        """A turn whose time had run out begins again, unless it is somebody else's by now."""
        head = self.lane(claim.lane).head
        head.has_lapsed = False
        if head.is_turn:
            self.turn = self.turn or (claim.lane, claim.id)
            head.is_turn = self.turn == (claim.lane, claim.id)

    def lapsed(self, claim: Claim) -> None:
        self.lane(claim.lane).head.has_lapsed = True
        self.turn_ended(claim)

    def turn_ended(self, claim: Claim) -> None:
        if self.turn == (claim.lane, claim.id):
            self.turn = None

    def stopping(self, claim: Claim) -> None:
        if self.holds(claim):
            self.lane(claim.lane).head.owner_was_stopping = True

    def written_back(self, claim: Claim, parts: tuple[str, ...], tokens: int) -> None:
        life = self.life(claim.head)
        if life.reserved is not None:
            life.reserved = tokens
        life.parts, life.place = parts, "outbox"
        life.written_back += 1
        life.is_waiting = False
        self.lane(claim.keys.outbox).entries.append(claim.head)
        self._finished(claim)

    def admitted(self, claim: Claim, tokens: int) -> None:
        """It counts once, by what was reserved first."""
        life = self.life(claim.head)
        life.reserved = tokens if life.reserved is None else life.reserved

    def rejected(self, claim: Claim) -> None:
        """With a notice, which is its reply, unless the conversation had one a minute ago."""
        life, conversation = self.life(claim.head), claim.keys.conversation
        life.is_waiting = False
        if conversation in self.noticed:
            self._end(life, "rejected")
        else:
            self.noticed.add(conversation)
            life.parts, life.place, life.fate = ("no",), "outbox", "rejected"
            self.lane(claim.keys.outbox).entries.append(claim.head)
        self._finished(claim)

    def _end(self, life: Life, fate: str) -> None:
        life.place = fate
        self.counts[life.bot.prefix, fate] += 1

    def settled(self, claim: Claim) -> None:
        life, lane = self.life(claim.head), self.lane(claim.lane)
        if claim.is_notice:
            self._told(claim)
            return
        life.next_part += 1
        if life.next_part < len(life.parts):
            self.turn_ended(claim)
            lane.head = Head()
            return
        self._end(life, life.fate)
        self._finished(claim)

    def given_back(
        self, claim: Claim, *, waits: bool, is_unsure: bool = False, is_attempt: bool = True
    ) -> None:
        head = self.lane(claim.lane).head
        head.tries -= not is_attempt
        head.claim, head.has_lapsed, head.is_turn = None, False, False
        head.waits = waits
        head.is_unsure = head.is_unsure or is_unsure
        self.turn_ended(claim)

    def buried(self, claim: Claim, *, wants_notice: bool, is_unsure: bool = False) -> None:
        life, lane = self.life(claim.head), self.lane(claim.lane)
        if claim.is_notice:
            self._told(claim)
            return
        life.is_waiting = False
        if life.fate == "rejected":
            self._end(life, "rejected")
            self._finished(claim)
            return
        self._end(life, "dead")
        life.has_died, life.died_in = True, "push" if lane.is_outbox else "process"
        life.is_unsure = lane.is_outbox and (lane.head.is_unsure or is_unsure)
        if life.died_in == "process" and life.reserved is not None:
            life.reserved = 0
        conversation = claim.keys.conversation
        speaks = wants_notice and conversation not in self.noticed
        if speaks:
            self.noticed.add(conversation)
            life.has_notice = True
            outbox = self.lane(claim.keys.outbox).entries
            outbox.insert(1 if lane.is_outbox else len(outbox), FAILED_MARK + claim.head)
        self._finished(claim)

    def _told(self, claim: Claim) -> None:
        if not claim.is_working_notice:
            self.life(claim.head).has_notice = False
        self._finished(claim)

    def tell_waiting(self, event_ids: Iterable[str]) -> tuple[int, int]:
        """Their time has come; how many are still without a word, and how many get one."""
        told_before = len(self.told)
        waiting = sorted({each for each in event_ids if self.lives[each].is_waiting})
        for event_id in waiting:
            life = self.lives[event_id]
            lane = LaneKeys(life.inbox)
            if lane.conversation not in self.told:
                life.is_waiting = False
                self.told.add(lane.conversation)
                self.lane(lane.outbox).entries.append(WORKING_MARK + event_id)
        return len(waiting), len(self.told) - told_before

    def _finished(self, claim: Claim) -> None:
        self.turn_ended(claim)
        self.lane(claim.lane).advance()

    def replay(self, event_id: str) -> bool:
        life = self.lives[event_id]
        if life.place != "dead":
            return False
        self.counts[life.bot.prefix, "dead"] -= 1
        life.place = "outbox" if life.died_in == "push" else "inbox"
        life.has_notice = False
        outbox = self.lane(LaneKeys(life.inbox).outbox)
        self._put_orphans_away(outbox)
        lane = outbox if life.place == "outbox" else self.lane(life.inbox)
        lane.entries.append(event_id)
        return True

    def cancel(self, event_id: str) -> bool:
        """Its lane goes on; what somebody does with it meanwhile comes to nothing."""
        life = self.lives[event_id]
        if life.place not in ("inbox", "outbox"):
            return False
        if life.place == "inbox" and life.reserved is not None:
            life.reserved = 0
        lane = self.lane(LaneKeys(life.inbox).outbox if life.place == "outbox" else life.inbox)
        if lane.entries[0] == event_id:
            if lane.head.claim:
                self.turn_ended(lane.head.claim)
            lane.advance()
        else:
            lane.entries.remove(event_id)
        life.is_waiting = False
        self._end(life, "rejected" if life.fate == "rejected" else "cancelled")
        return True

    def drop(self, event_id: str) -> bool:
        life = self.lives[event_id]
        if life.place != "dead":
            return False
        self.counts[life.bot.prefix, "dead"] -= 1
        self.counts[life.bot.prefix, "dropped"] += 1
        life.place = "dropped"
        return True
