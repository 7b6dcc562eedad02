"""Every Redis key, built here and nowhere else (`lua/_keys.lua` is its mirror for the scripts).

A bot's keys begin with platform and app id, so two bots never meet. W = written by, R = read by;
"scripts" are those of `lua/`.

| key | type | TTL | what |
|---|---|---|---|
| `{bot}:event:{id}` | hash | none | an unfinished or dead event: wire form, reply, times |
| the same | string | 24 h | after the end: fate and times in a line; what stays for deduplication |
| `{bot}:seen:{day}` | set | 3 days | digests of the platform's event ids accepted that day |
| `{bot}:conv:{c}:inbox` | list | none | lane: events to process, oldest first |
| `{bot}:conv:{c}:outbox` | list | none | lane: replies to push; `!id`, `~id`: notices (the marks) |
| `{lane}:state` | hash | none | the head's claim, lease, attempts, due time; hint sequence |
| `{bot}:conv:{c}:history` | list | conversation.ttl_s | `u` and a question, `a` and its answer |
| `{bot}:conv:{c}:noticed` | string | 60 s | a notice was queued: at most one a minute |
| `{bot}:conv:{c}:told` | string | 60 s | the word that it takes longer was queued: likewise |
| `{bot}:counts` | hash | none | accepted, answered, rejected, cancelled, dead, dropped, refusals |
| `{bot}:dead` | zset | none | dead letters: event id by time of death |
| `{bot}:usage:{day}` | hash | 40 days | by consumer, `kind:id`: requests and tokens of that day |
| `{bot}:talks:{id}` | set | conversation.ttl_s × turns | lanes of conversations they wrote in |
| `{bot}:quota:{kind}:{id}` | hash | 1 h, or 2 days | used by a consumer, by minute and day |
| `clawdbot:quota:{platform}:{id}` | hash | as above | the same of a company, by all its bots |
| `{bot}:token` | hash | expiry | platform access token: sealed value, version, ms it was fetched |
| `{bot}:token:lock` | string | a fetch's + 5 s | one worker fetches a token |
| `clawdbot:keys:{model}` | string | none | the model's key ring: JSON, its pairs sealed |
| `clawdbot:keys:{model}:refused` | zset | 5 min | refused of late: id by the ms until then |
| `clawdbot:keys:{model}:bearer:{pair}` | hash | expiry | the key given for it; as `{bot}:token` |
| `clawdbot:keys:{model}:bearer:{pair}:lock` | string | a fetch's + 5 s | one worker exchanges it |
| `clawdbot:keys:{model}:warned:{what}` | string | 1 day | an operator was warned of this key |
| `clawdbot:keys:{model}:making` | string | 4 min | a command has the hook make a pair |
| `clawdbot:config` | hash | none | the configuration centre: dotted path of a setting to its text |
| `clawdbot:due` | zset | none | every unfinished lane, by the ms when somebody has to look |
| `clawdbot:waiting` | zset | none | events without a word of an answer, by the ms of their notice |
| `clawdbot:hints` | hash | none | per queue: last sequence number issued and claimed |
| `clawdbot:qps:{second}` | string | 2 s | events accepted in this second |
| `clawdbot:suspect` | string | 15 s | the one suspect whose turn it is: lane and claim |
| `clawdbot:suspects` | zset | none | lanes whose suspect waits for its turn |
| `clawdbot:taken:{claim}` | string | 30 s | the lane claimed in the call that ended this claim |
| `clawdbot:sweeper` | string | 5 s | which worker sweeps |
| `clawdbot:stopping:{owner}` | string | 1 h | was asked to stop: its lost claims don't count |
| `clawdbot:words:{day}` | hash | 3 days | numbers of names in the lines of events that ended then |
| `clawdbot:workers` | hash | none | worker name: JSON `{queues, pool, limits, metrics, seen_ms}` |
| `clawdbot:workers:active` | hash | none | worker name: ms of its last claim, renewal or settling |
| `clawdbot:breaker:{model}` | hash | 1 h | a model's failed calls; open until when; its probe |
| `clawdbot:slots` | zset | 200 s | calls under way, by the end of their lease |
| `clawdbot:slots:{model}` | zset | 200 s | those of the account whose first model this is |
| `clawdbot:audit:refused:{day}` | hash | 40 days | refused calls: sums by kind and by address |
| `clawdbot:audit:actions` | stream | none | what operators did: the newest 10,000 |
| `clawdbot:audit:sent:{name}` | string | 10 min | a call of the audit's was made: it counts once |
| `clawdbot:audit:week` | string | none | the week whose report was written last |
| `clawdbot:probe` | string | 1 s | `/ready` proved that Redis takes writes |

W accept: ingress. W events, lanes, counts, due, hints, suspects: scripts, called by ingress and
workers. W config: `clawdbot config`. W tokens: workers. W keys: `clawdbot keys`, workers.
W workers: workers. W refused: ingress. W actions: `clawdbot`, workers.
R: all of them, the CLI and `/metrics`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from shared.messages import digest

CONFIG = "clawdbot:config"
DUE = "clawdbot:due"
WAITING = "clawdbot:waiting"
HINTS = "clawdbot:hints"
SUSPECT = "clawdbot:suspect"
SUSPECTS = "clawdbot:suspects"
SWEEPER = "clawdbot:sweeper"
WORKERS = "clawdbot:workers"
ACTIVE = "clawdbot:workers:active"
PROBE = "clawdbot:probe"
QPS_PREFIX = "clawdbot:qps:"
STOPPING_PREFIX = "clawdbot:stopping:"
TAKEN_PREFIX = "clawdbot:taken:"
SLOTS = "clawdbot:slots"
COMPANY_QUOTA_PREFIX = "clawdbot:quota:"
REFUSED_PREFIX = "clawdbot:audit:refused:"
AUDIT_ACTIONS = "clawdbot:audit:actions"
AUDIT_SENT_PREFIX = "clawdbot:audit:sent:"
AUDIT_WEEK = "clawdbot:audit:week"

#: Marks of an outbox's entries that are not a reply but a notice about the event.
FAILED_MARK = "!"  #: that it failed: the event is dead
WORKING_MARK = "~"  #: that it takes longer: the reply, when there is one, stands behind it

FINISHED_TTL_S = 24 * 3600  #: Feishu repeats for 7 h 5 min 15 s; a day is comfortable
USAGE_DAYS = 40  #: how long what was used on a day is kept
REFUSED_DAYS = 40  #: likewise, what was refused

# A lane's name stands inside JSON inside JSON, unescaped; "~" marks a digest.
_PLAIN = re.compile(r"[A-Za-z0-9_.=+/@-]{1,100}")


def event_id_of(entry: str) -> str:
    """The id of the event that a lane's entry speaks of."""
    return entry.lstrip(FAILED_MARK + WORKING_MARK)


def breaker(model: str) -> str:
    return f"clawdbot:breaker:{model}"


def words(day: int) -> str:
    """day: of Unix time, in which the events ended."""
    return f"clawdbot:words:{day}"


def slots(account: str) -> str:
    """account: the name of its first model."""
    return f"{SLOTS}:{account}"


@dataclass(frozen=True, slots=True)
class BotKeys:
    """The keys of one bot: an app on one platform."""

    platform: str
    app_id: str

    @property
    def prefix(self) -> str:
        return f"{self.platform}:{self.app_id}"

    @property
    def counts(self) -> str:
        return f"{self.prefix}:counts"

    @property
    def dead(self) -> str:
        return f"{self.prefix}:dead"

    @property
    def token(self) -> str:
        return f"{self.prefix}:token"

    def event(self, trace_id: str) -> str:
        return f"{self.prefix}:event:{trace_id}"

    def seen(self, day: int) -> str:
        """day: of Unix time."""
        return f"{self.prefix}:seen:{day}"

    def conversation(self, conversation_id: str) -> str:
        return f"{self.prefix}:conv:{_plain(conversation_id)}"

    def inbox(self, conversation_id: str) -> str:
        return f"{self.conversation(conversation_id)}:inbox"

    def usage(self, day: int) -> str:
        """day: of Unix time, by the clocks of `settings.timezone`."""
        return f"{self.prefix}:usage:{day}"

    def talks(self, sender_id: str) -> str:
        return f"{self.prefix}:talks:{_plain(sender_id)}"

    def quota(self, kind: str, consumer_id: str) -> str:
        """kind: `user`, `group`, `bot` (its app id) or `tenant`.

        A company has one account with all its bots of a platform; other ids belong to one bot.
        """
        if kind == "tenant":
            return f"{COMPANY_QUOTA_PREFIX}{self.platform}:{_plain(consumer_id)}"
        return f"{self.prefix}:quota:{kind}:{_plain(consumer_id)}"


@dataclass(frozen=True, slots=True)
class LaneKeys:
    """The keys around one lane, from the lane's name alone (all that a hint carries)."""

    lane: str

    @property
    def bot(self) -> BotKeys:
        platform, app_id, _ = self.lane.split(":", 2)
        return BotKeys(platform, app_id)

    @property
    def conversation(self) -> str:
        return self.lane.rpartition(":")[0]

    @property
    def state(self) -> str:
        return f"{self.lane}:state"

    @property
    def outbox(self) -> str:
        return f"{self.conversation}:outbox"

    @property
    def is_outbox(self) -> bool:
        return self.lane == self.outbox

    @property
    def history(self) -> str:
        return f"{self.conversation}:history"

    @property
    def noticed(self) -> str:
        return f"{self.conversation}:noticed"

    @property
    def told(self) -> str:
        return f"{self.conversation}:told"


@dataclass(frozen=True, slots=True)
class RingKeys:
    """The keys around one model's key ring."""

    model: str

    @property
    def ring(self) -> str:
        return f"clawdbot:keys:{self.model}"

    @property
    def refused(self) -> str:
        return f"{self.ring}:refused"

    @property
    def making(self) -> str:
        return f"{self.ring}:making"

    def bearer(self, pair: str) -> str:
        """pair: a digest of the pair and of all that its bearer depends on."""
        return f"{self.ring}:bearer:{pair}"

    def warned(self, what: str) -> str:
        return f"{self.ring}:warned:{what}"


def _plain(name: str) -> str:
    """`name`, or its digest where it has characters that a key of ours must not have."""
    return name if _PLAIN.fullmatch(name) else "~" + digest(name)
