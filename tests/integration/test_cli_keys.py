"""`clawdbot keys …` as an operator or a script runs it, against the simulated model."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import redis
from click.testing import CliRunner, Result

from shared.cli import cli
from shared.state.key_ring import DAY_MS, Entry, KeyRing
from shared.state.keys import RingKeys
from tests.integration.gateway import environ_for, simulator
from tests.integration.terminal import on_terminal
from tests.redis_server import RedisServer, free_port
from tests.simulator.world import World
from workers.keys.duty import KeyDuty
from workers.keys.pair import fingerprint
from workers.keys.ring_store import RingStore
from workers.ops import made_pair

OWN = "sk-test-1"  #: what the settings have
FIRST, SECOND, THIRD = "sk-first", "sk-second", "sk-third"
RING = RingKeys("default").ring


class Operator:
    """Somebody at a terminal that is none, as in a script."""

    def __init__(self, environ: dict[str, str]) -> None:
        self.environ = environ
        self._runner = CliRunner(env=environ)

    def run(self, *arguments: str, stdin: str = "") -> Result:
        result = self._runner.invoke(cli, ["keys", *arguments], input=stdin, catch_exceptions=False)
        assert not [secret for secret in (OWN, FIRST, SECOND, THIRD) if secret in result.output]
        return result

    def told(self, *arguments: str, stdin: str = "") -> str:
        """The output of a command that works."""
        result = self.run(*arguments, stdin=stdin)
        assert result.exit_code == 0, result.output
        return result.output

    def refused(self, *arguments: str, stdin: str = "", code: int = 1) -> str:
        result = self.run(*arguments, stdin=stdin)
        assert result.exit_code == code, result.output
        return result.output

    def states(self) -> dict[str, str]:
        rows = json.loads(self.told("list", "--json"))
        return {row["id"]: row["state"] for row in rows}


@pytest.fixture(scope="module")
def simulated() -> Iterator[World]:
    with simulator(free_port()) as running:
        yield running


@pytest.fixture
def world(simulated: World) -> Iterator[World]:
    simulated.keys.keys = {OWN, FIRST, SECOND, THIRD}
    simulated.keys.pairs.clear()
    yield simulated
    simulated.faults.clear()


@pytest.fixture
def operator(
    redis_server: RedisServer,
    redis_client: redis.Redis,
    world: World,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Operator:
    monkeypatch.chdir(tmp_path)  # no `.env` lies there
    master = "a master key of tests"
    return Operator(environ_for(redis_server.url, world.base_url, MASTER_KEY=master))


def ring(client: redis.Redis) -> KeyRing:
    return KeyRing.from_json(client.get(RING) or "")


# --- a whole rotation ---------------------------------------------------------------------------


def test_a_new_key_becomes_active_and_the_old_one_stays_through_the_overlap(
    operator: Operator, redis_client: redis.Redis
) -> None:
    operator.told("rotate", "--stdin", stdin=FIRST)
    operator.told("rotate", "--stdin", stdin=json.dumps({"akId": "AK-2", "akSecret": SECOND}))

    assert operator.states() == {
        fingerprint(SECOND): "active",
        fingerprint(FIRST): "replaced",
        fingerprint(OWN): "settings",
    }
    now_ms = int(redis_client.time()[0]) * 1000
    new, old = (ring(redis_client).find(fingerprint(secret)) for secret in (SECOND, FIRST))
    assert new is not None
    assert old is not None
    assert new.valid_until_ms == pytest.approx(now_ms + 90 * DAY_MS, abs=60_000)
    assert old.accepted_until_ms == pytest.approx(now_ms + 7 * DAY_MS, abs=60_000)
    assert "AK-2" in operator.told("list")


def test_the_settings_key_is_replaced_by_the_first_rotation(
    operator: Operator, redis_client: redis.Redis
) -> None:
    """It was accepted for ever: nobody ended it, and step 4 of a rotation is to revoke it."""
    operator.environ["CLAWDBOT_AK_ID"] = "AK-own"
    operator.told("rotate", "--stdin", stdin=FIRST)

    rows = json.loads(operator.told("list", "--json"))
    assert [(row["id"], row["state"], row["note"]) for row in rows] == [
        (fingerprint(FIRST), "active", ""),
        (fingerprint(OWN), "replaced", ""),
        (fingerprint(OWN), "settings", "in the ring: replaced"),
    ]
    assert rows[1]["ak_id"] == "AK-own"
    now_ms = int(redis_client.time()[0]) * 1000
    old = ring(redis_client).find(fingerprint(OWN))
    assert old is not None
    assert old.accepted_until_ms == pytest.approx(now_ms + 7 * DAY_MS, abs=60_000)
    operator.told("rotate", "--stdin", stdin=SECOND)
    assert ring(redis_client).find(fingerprint(OWN)) == old, "its window does not begin anew"


def test_the_settings_key_is_not_used_past_its_window_until_it_is_rotated_in_again(
    operator: Operator, redis_client: redis.Redis
) -> None:
    operator.told("rotate", "--stdin", stdin=FIRST)
    first, own = ring(redis_client).entries
    past = replace(own, accepted_until_ms=own.created_ms)
    redis_client.set(RING, KeyRing((first, past)).to_json())

    assert verified(operator) == [fingerprint(FIRST)], "whether or not it is archived yet"
    store = RingStore(redis_client, "default", [operator.environ["CLAWDBOT_MASTER_KEY"]])
    KeyDuty(redis_client, [store], warn_days=14).tick(own.created_ms)
    assert ring(redis_client).archived_ids == {fingerprint(OWN)}
    assert verified(operator) == [fingerprint(FIRST)]
    operator.told("rotate", "--stdin", stdin=OWN)
    assert verified(operator) == [fingerprint(OWN), fingerprint(FIRST)]
    redis_client.delete(RING)
    assert verified(operator) == [fingerprint(OWN)], "without a ring, the settings are enough"


def verified(operator: Operator) -> list[str]:
    """The keys that calls would use, in their order."""
    return [row["id"] for row in json.loads(operator.told("verify", "--json"))]


def test_a_rotation_that_is_undone_by_archiving_locks_nobody_out_days_later(
    operator: Operator, redis_client: redis.Redis
) -> None:
    operator.told("rotate", "--stdin", stdin=FIRST)
    operator.told("archive", fingerprint(FIRST), "--yes")
    assert verified(operator) == [fingerprint(OWN)]

    days_pass(operator, redis_client, 8)

    assert verified(operator) == [fingerprint(OWN)]
    operator.told("rotate", "--stdin", stdin=SECOND)
    assert verified(operator) == [fingerprint(SECOND), fingerprint(OWN)]


def test_a_rotation_is_taken_back_within_the_window(
    operator: Operator, redis_client: redis.Redis
) -> None:
    operator.told("rotate", "--stdin", stdin=FIRST)
    days_pass(operator, redis_client, 2)

    operator.told("rotate", "--stdin", stdin=OWN)

    assert verified(operator) == [fingerprint(OWN), fingerprint(FIRST)]
    days_pass(operator, redis_client, 8)
    assert verified(operator) == [fingerprint(OWN)]


def days_pass(operator: Operator, client: redis.Redis, days: int) -> None:
    """All that the ring holds is as much older; then its keeper looks at it."""
    names = [f"{name}_ms" for name in ("created", "valid_until", "accepted_until")]
    aged = [
        replace(entry, **{name: getattr(entry, name) - days * DAY_MS for name in names})
        for entry in ring(client).entries
    ]
    client.set(RING, KeyRing(tuple(aged)).to_json())
    store = RingStore(client, "default", [operator.environ["CLAWDBOT_MASTER_KEY"]])
    KeyDuty(client, [store], warn_days=14).tick(int(client.time()[0]) * 1000)


def test_a_model_that_wants_no_key_has_none_that_is_replaced(
    operator: Operator, redis_client: redis.Redis
) -> None:
    operator.environ["CLAWDBOT_AK_SECRET"] = ""

    operator.told("rotate", "--stdin", stdin=FIRST)

    assert [entry.id for entry in ring(redis_client).entries] == [fingerprint(FIRST)]


def test_a_backup_waits_and_is_promoted_by_a_rotation_without_a_pair(
    operator: Operator, tmp_path: Path, redis_client: redis.Redis
) -> None:
    (tmp_path / "pair.json").write_text(json.dumps({"ak_id": "AK-1", "ak_secret": FIRST}))
    told = json.loads(operator.told("add", "--file", "pair.json", "--json"))
    (waiting,) = ring(redis_client).entries

    assert (told["id"], told["state"]) == (fingerprint(FIRST), "next")
    assert waiting.valid_until_ms - waiting.created_ms == 180 * DAY_MS
    operator.told("rotate")
    assert operator.states()[fingerprint(FIRST)] == "active"


def test_a_second_backup_is_refused(operator: Operator) -> None:
    operator.told("add", "--stdin", stdin=FIRST)

    assert "already waits" in operator.refused("add", "--stdin", stdin=SECOND)
    operator.told("rotate", "--stdin", stdin=SECOND)
    assert operator.states()[fingerprint(FIRST)] == "next"


def test_a_backup_past_its_date_is_not_promoted_and_makes_room(
    operator: Operator, redis_client: redis.Redis
) -> None:
    operator.told("add", "--stdin", stdin=FIRST)
    redis_client.set(RING, KeyRing((ended(ring(redis_client)),)).to_json())

    assert "where is the new pair" in operator.refused("rotate", code=2)
    operator.told("add", "--stdin", stdin=SECOND)
    assert operator.states() == {
        fingerprint(SECOND): "next",
        fingerprint(FIRST): "archived",
        fingerprint(OWN): "settings",
    }


def ended(ring: KeyRing) -> Entry:
    """The ring's backup, as if its time had passed."""
    assert ring.next is not None
    return replace(ring.next, valid_until_ms=ring.next.created_ms)


@pytest.fixture
def made(operator: Operator, tmp_path: Path) -> Path:
    """The hook gives `FIRST` and notes here, with a letter each, how often it was run."""
    hook, made = tmp_path / "hook.py", tmp_path / "made"
    made.touch()
    hook.write_text(
        "import json, os\n"
        f"open({str(made)!r}, 'a').write('x')\n"
        f"print(json.dumps({{'akId': os.environ['KEYS_MODEL'], 'akSecret': '{FIRST}'}}))\n"
    )
    operator.environ["CLAWDBOT_KEYS__GENERATE_COMMAND"] = f"{sys.executable} {hook}"
    return made


@pytest.mark.usefixtures("made")
def test_the_hook_command_makes_the_pair(operator: Operator) -> None:
    operator.told("rotate")

    active, *_ = json.loads(operator.told("list", "--json"))
    assert (active["state"], active["ak_id"]) == ("active", "default")


@pytest.mark.usefixtures("made")
def test_a_pair_of_the_hook_is_valid_as_long_as_any_active_key(
    operator: Operator, redis_client: redis.Redis
) -> None:
    """It waits for a moment, but it is no backup."""
    operator.environ["CLAWDBOT_KEYS__BACKUP_DAYS"] = "30"

    operator.told("rotate")

    active = ring(redis_client).active
    assert active is not None
    assert active.valid_until_ms - active.created_ms == pytest.approx(90 * DAY_MS, abs=60_000)


def test_a_pair_of_the_hook_waits_when_it_can_not_be_verified_and_is_not_made_again(
    operator: Operator, world: World, made: Path
) -> None:
    """It was lost: it is in the cloud, and nobody had its secret."""
    world.faults.order({"target": "model", "kind": "status", "status": 503, "times": 1})

    told = operator.refused("rotate")

    assert "model:503" in told
    assert "It waits as the next key; run `clawdbot keys rotate` again" in told
    assert operator.states()[fingerprint(FIRST)] == "next"
    operator.told("rotate")
    assert operator.states()[fingerprint(FIRST)] == "active"
    assert made.read_text() == "x"


def test_a_pair_of_the_hook_that_is_refused_is_told_of_with_what_to_do(
    operator: Operator, world: World, made: Path
) -> None:
    """A cloud may not know it yet; if it never does, somebody has to take it out."""
    world.keys.keys.discard(FIRST)

    told = operator.refused("rotate")

    assert f"the new key {fingerprint(FIRST)} is refused: model:401" in told
    assert f"`clawdbot keys archive {fingerprint(FIRST)}`" in told
    assert operator.states()[fingerprint(FIRST)] == "next"
    world.keys.keys.add(FIRST)
    operator.told("rotate")
    assert made.read_text() == "x"


def failing(monkeypatch: pytest.MonkeyPatch, times: int, *, saved: bool = False) -> None:
    """The next changes of rings fail. saved: they are made, and the answer is lost."""
    left, change = [None] * times, RingStore.change
    monkeypatch.setattr(made_pair, "PAUSE_S", 0)

    def flaky(self: RingStore, step: Callable[[KeyRing, int], KeyRing]) -> KeyRing:
        if not left:
            return change(self, step)
        left.pop()
        if saved:
            change(self, step)
        raise redis.ConnectionError

    monkeypatch.setattr(RingStore, "change", flaky)


@pytest.mark.parametrize("saved", [False, True])
@pytest.mark.parametrize("command", ["rotate", "add"])
def test_a_pair_of_the_hook_outlives_a_redis_that_is_away_for_a_while(
    operator: Operator,
    made: Path,
    monkeypatch: pytest.MonkeyPatch,
    redis_client: redis.Redis,
    command: str,
    saved: bool,
) -> None:
    failing(monkeypatch, 2, saved=saved)

    operator.told(command, "--generate")

    assert operator.states()[fingerprint(FIRST)] == ("active" if command == "rotate" else "next")
    assert made.read_text() == "x"
    assert not redis_client.exists(RingKeys("default").making)


@pytest.mark.usefixtures("made")
def test_a_pair_of_the_hook_that_no_redis_takes_is_named_to_be_revoked(
    operator: Operator, monkeypatch: pytest.MonkeyPatch
) -> None:
    failing(monkeypatch, 2)
    monkeypatch.setattr(made_pair, "KEEP_S", 0)

    told = operator.refused("rotate")

    assert "Redis can't be used (ConnectionError). The new pair default was made" in told
    assert "revoke it there" in told


def test_a_pair_of_the_hook_whose_place_is_taken_meanwhile_is_named_to_be_revoked(
    operator: Operator, made: Path, redis_server: RedisServer, redis_client: redis.Redis
) -> None:
    operator.told("add", "--stdin", stdin=SECOND)
    taken = redis_client.getdel(RING)
    hook = made.with_name("hook.py")
    hook.write_text(
        f"import redis; redis.Redis.from_url({redis_server.url!r}).set({RING!r}, {taken!r})\n"
        + hook.read_text()
    )

    told = operator.refused("rotate")

    assert f"{fingerprint(SECOND)} already waits as the next key" in told
    assert "The new pair default was made in the cloud" in told
    assert operator.states()[fingerprint(SECOND)] == "next"


def test_one_command_at_a_time_has_a_pair_made(
    operator: Operator, made: Path, redis_client: redis.Redis
) -> None:
    redis_client.set(RingKeys("default").making, "somebody else's")

    assert "somebody else has a pair made" in operator.refused("rotate")
    assert made.read_text() == ""


@pytest.mark.parametrize("command", ["rotate", "add"])
def test_no_pair_is_made_that_would_find_no_room(
    operator: Operator, made: Path, command: str
) -> None:
    operator.told("add", "--stdin", stdin=SECOND)

    assert "already waits" in operator.refused(command, "--generate")
    assert made.read_text() == ""


@pytest.mark.parametrize(
    ("command", "told"),
    [
        ("", "--stdin or --file"),
        ("no-such-command", "can't be run"),
        (f"{sys.executable} -c 'print(1); raise SystemExit(3)'", "exit code 3"),
        (f"{sys.executable} -c 'print()'", "there is no secret"),
        ("'", "no command line"),
    ],
)
def test_a_hook_that_gives_no_pair_changes_nothing(
    operator: Operator, redis_client: redis.Redis, command: str, told: str
) -> None:
    operator.environ["CLAWDBOT_KEYS__GENERATE_COMMAND"] = command

    assert told in operator.refused("rotate", code=1 if command else 2)
    assert not redis_client.exists(RING)


# --- what must work before it is used -----------------------------------------------------------


def test_a_key_that_the_model_refuses_does_not_become_active(
    operator: Operator, redis_client: redis.Redis
) -> None:
    operator.told("rotate", "--stdin", stdin=FIRST)
    before = redis_client.get(RING)

    told = operator.refused("rotate", "--stdin", stdin="sk-not-accepted")

    assert "nothing was changed: model:401" in told
    assert "not-accepted" not in told
    assert redis_client.get(RING) == before


def test_a_model_that_is_away_stops_a_rotation(
    operator: Operator, world: World, redis_client: redis.Redis
) -> None:
    world.faults.order({"target": "model", "kind": "status", "status": 503, "times": 1})

    assert "model:503" in operator.refused("rotate", "--stdin", stdin=FIRST)
    assert not redis_client.exists(RING)


def test_one_token_is_asked_for(operator: Operator, world: World) -> None:
    world.ledger.reset()

    operator.told("rotate", "--stdin", stdin=FIRST)

    (call,) = world.ledger.since(0)
    assert (call.kind, getattr(call, "text", "")) == ("model", "ping")


def test_a_key_that_was_refused_before_it_was_let_in_is_tried_first_after_its_rotation(
    operator: Operator, redis_client: redis.Redis
) -> None:
    refused = RingKeys("default").refused
    redis_client.zadd(refused, {fingerprint(FIRST): 9_999_999_999_999})

    operator.told("rotate", "--stdin", stdin=FIRST)

    assert not redis_client.exists(refused)


def test_verify_says_which_keys_work(operator: Operator, world: World) -> None:
    operator.told("rotate", "--stdin", stdin=FIRST)
    assert operator.told("verify").count("works") == 2
    world.keys.keys.discard(OWN)

    results = json.loads(operator.refused("verify", "--json"))

    assert {r["id"]: r["works"] for r in results} == {
        fingerprint(FIRST): True,
        fingerprint(OWN): False,
    }
    assert "401" in operator.refused("verify")


def test_verify_tells_of_each_key_when_it_is_called_and_when_it_has_answered(
    operator: Operator, world: World
) -> None:
    operator.told("rotate", "--stdin", stdin=FIRST)

    lines = on_terminal(operator.environ, "keys", "verify").splitlines()

    assert lines == [
        f"calling with {fingerprint(FIRST)}, for 30 s at most",
        f"{fingerprint(FIRST)}  works",
        f"calling with {fingerprint(OWN)}, for 30 s at most",
        f"{fingerprint(OWN)}  works",
    ]


def test_a_pair_that_is_exchanged_is_verified_by_its_exchange(
    operator: Operator, world: World
) -> None:
    operator.environ |= {
        "CLAWDBOT_MODEL__AUTH": "baidu",
        "CLAWDBOT_MODEL__AUTH_ENDPOINT": f"{world.base_url}/baidu",
        "CLAWDBOT_AK_ID": "AK-1",
    }
    world.keys.pairs["AK-2"] = SECOND

    assert "not a secret alone" in operator.refused("rotate", "--stdin", stdin=SECOND)
    wrong = json.dumps({"akId": "AK-2", "akSecret": THIRD})
    assert "baidu:SignatureDoesNotMatch" in operator.refused("rotate", "--stdin", stdin=wrong)
    operator.told("rotate", "--stdin", stdin=json.dumps({"akId": "AK-2", "akSecret": SECOND}))
    assert operator.states()[fingerprint(SECOND)] == "active"


# --- out of use ---------------------------------------------------------------------------------


def test_archiving_deletes_the_secret_and_wants_a_yes(
    operator: Operator, redis_client: redis.Redis
) -> None:
    operator.told("rotate", "--stdin", stdin=FIRST)
    name = fingerprint(FIRST)

    assert "--yes" in operator.refused("archive", name, code=2)
    assert operator.states()[name] == "active"
    operator.told("archive", name, "--yes")
    assert operator.states()[name] == "archived"
    gone = ring(redis_client).find(name)
    assert gone is not None
    assert gone.sealed == ""
    assert "no key of this id" in operator.refused("archive", name, "--yes")


def test_a_key_of_the_settings_is_not_archived_but_taken_out_there(operator: Operator) -> None:
    told = operator.refused("archive", fingerprint(OWN), "--yes")

    assert "is from the settings: take it out of ak_secret there" in told


def test_an_archived_key_of_the_settings_is_told_to_be_the_last(operator: Operator) -> None:
    operator.told("rotate", "--stdin", stdin=OWN)
    operator.told("archive", fingerprint(OWN), "--yes")

    rows = json.loads(operator.told("list", "--json"))

    assert [(row["state"], row["note"]) for row in rows] == [
        ("archived", ""),
        ("settings", "archived: used only when no other is left"),
    ]


# --- the master key -----------------------------------------------------------------------------


def test_without_a_master_key_nothing_is_put_into_redis(
    operator: Operator, redis_client: redis.Redis
) -> None:
    del operator.environ["CLAWDBOT_MASTER_KEY"]

    for command in ("add", "rotate"):
        assert "CLAWDBOT_MASTER_KEY" in operator.refused(command, "--stdin", stdin=FIRST, code=2)
    assert operator.states() == {fingerprint(OWN): "settings"}
    assert not redis_client.exists(RING)


def test_the_master_key_is_rotated_by_sealing_anew(operator: Operator) -> None:
    operator.told("rotate", "--stdin", stdin=FIRST)
    old = operator.environ["CLAWDBOT_MASTER_KEY"]
    operator.environ["CLAWDBOT_MASTER_KEY"] = "another master key"

    assert "not listed" in operator.told("list")
    assert "not listed" in operator.refused("reseal")
    operator.environ["CLAWDBOT_MASTER_KEY"] = json.dumps(["another master key", old])
    operator.told("reseal")
    operator.environ["CLAWDBOT_MASTER_KEY"] = "another master key"
    assert "not listed" not in operator.told("list")
    operator.told("verify")


@pytest.mark.parametrize("days", [2, 8])
def test_after_a_lost_master_key_the_settings_key_is_used_until_another_is_rotated_in(
    operator: Operator, redis_client: redis.Redis, days: int
) -> None:
    operator.told("rotate", "--stdin", stdin=FIRST)
    operator.environ["CLAWDBOT_MASTER_KEY"] = "another master key"
    days_pass(operator, redis_client, days)
    assert verified(operator) == [fingerprint(OWN)]

    for entry in ring(redis_client).live:
        operator.told("archive", entry.id, "--yes")
        assert verified(operator) == [fingerprint(OWN)]
    assert operator.states() == {fingerprint(FIRST): "archived", fingerprint(OWN): "settings"}
    operator.told("rotate", "--stdin", stdin=SECOND)
    assert verified(operator)[0] == fingerprint(SECOND)


# --- wrong input --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("stdin", "told"),
    [
        ("", "there is no secret"),
        ('{"akSecret": "sk-first"', "starts like JSON"),
        ('{"akSecret": 5}', "must be texts"),
        ('{"secret": "sk-first"}', "there is no secret"),
        ("sk-first sk-second", "characters no key has"),
        ("sk-first\nsk-second", "characters no key has"),
    ],
)
def test_a_pair_that_can_not_be_read_is_told_without_repeating_it(
    operator: Operator, stdin: str, told: str
) -> None:
    assert told in operator.refused("rotate", "--stdin", stdin=stdin)


def test_wrong_usage_is_told_with_its_cure(operator: Operator) -> None:
    assert "the nearest is default" in operator.refused("list", "--model", "defualt", code=2)
    assert "give one of" in operator.refused("add", "--stdin", "--generate", code=2)
    assert "can't be read" in operator.refused("add", "--file", "no-such-file")


@pytest.mark.parametrize("command", ["list", "add", "rotate", "archive", "verify", "reseal"])
def test_every_command_has_an_example(operator: Operator, command: str) -> None:
    text = operator.told(command, "--help")

    assert f"Example: clawdbot keys {command}" in text
    assert "--json" in text
    assert "--model" in text
