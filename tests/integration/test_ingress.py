"""The webhook over real HTTP and a real Redis: what is let in, what it leaves, what is answered."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import io
import json
import logging
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest
import redis

from ingress.inbox import Inbox
from shared.config import load_settings
from shared.messages import digest
from shared.state import keys
from shared.state.keys import BotKeys
from tests.integration.gateway import (
    CREDENTIALS,
    HERE,
    Gateway,
    build,
    encrypt,
    environ_for,
    plain_body,
    running,
    settings_for,
    sign,
)
from tests.redis_server import RedisServer
from tests.simulator import credentials as names
from tests.simulator.events import Request

PLATFORMS = ["dingtalk", "feishu"]
BOTS = {
    "dingtalk": BotKeys("dingtalk", CREDENTIALS[names.DINGTALK_APP_KEY]),
    "feishu": BotKeys("feishu", CREDENTIALS[names.FEISHU_APP_ID]),
}
HELP = {
    "BOTS__HELP__PLATFORM": "feishu",
    "BOTS__HELP__APP_ID": "cli_help",
    "BOTS__HELP__APP_SECRET": "help-app-secret",
    "BOTS__HELP__VERIFICATION_TOKEN": "help-token",
}


@pytest.fixture
async def gateway(redis_server: RedisServer, redis_client: redis.Redis) -> AsyncIterator[Gateway]:
    async with running(settings_for(redis_server.url)) as served:
        yield served


def lane(platform: str, conversation: str = "c1") -> str:
    return BOTS[platform].inbox(conversation)


def counts(client: redis.Redis, platform: str) -> dict[str, str]:
    return client.hgetall(BOTS[platform].counts)


def events_in(client: redis.Redis) -> list[str]:
    return client.keys("*:event:*")


@pytest.mark.parametrize("platform", PLATFORMS)
async def test_a_message_is_acknowledged_and_on_its_lane(
    platform: str, gateway: Gateway, redis_client: redis.Redis
) -> None:
    request = build(platform, message_id="om_1")

    answer = await gateway.post(request)

    trace_id = digest(platform, BOTS[platform].app_id, "om_1")
    assert (answer.status, answer.json()) == (200, {})
    assert answer.headers["X-Trace-Id"] == trace_id
    assert redis_client.lrange(lane(platform), 0, -1) == [trace_id]
    assert redis_client.llen("process") == 1
    assert await gateway.outcome(platform, "accepted") == 1


@pytest.mark.parametrize("platform", PLATFORMS)
async def test_a_redelivered_message_is_answered_200_and_not_enqueued(
    platform: str, gateway: Gateway, redis_client: redis.Redis
) -> None:
    statuses = [(await gateway.post(build(platform, message_id="om_1"))).status for _ in range(3)]

    assert statuses == [200, 200, 200]
    assert redis_client.llen(lane(platform)) == 1
    assert redis_client.llen("process") == 1
    assert counts(redis_client, platform) == {"accepted": "1", "duplicate": "2"}
    assert await gateway.outcome(platform, "duplicate") == 2


async def test_an_event_id_seen_before_is_a_duplicate_whatever_the_message_id(
    gateway: Gateway, redis_client: redis.Redis
) -> None:
    for message_id in ("om_1", "om_2"):
        request = build("feishu", message_id=message_id, event_id="ev_1")
        assert (await gateway.post(request)).status == 200

    assert redis_client.llen(lane("feishu")) == 1


async def test_messages_of_one_conversation_keep_their_order(
    gateway: Gateway, redis_client: redis.Redis
) -> None:
    for n in range(20):
        await gateway.post(build("feishu", message_id=f"om_{n}"))

    traces = [digest("feishu", BOTS["feishu"].app_id, f"om_{n}") for n in range(20)]
    assert redis_client.lrange(lane("feishu"), 0, -1) == traces


@pytest.mark.parametrize("is_signed", [True, False])
async def test_an_address_check_is_echoed_and_leaves_nothing(
    is_signed: bool, gateway: Gateway, redis_client: redis.Redis
) -> None:
    token = CREDENTIALS[names.FEISHU_VERIFICATION_TOKEN]
    check = {"type": "url_verification", "token": token, "challenge": "ajls384"}
    path, headers, body = sign("feishu", check)

    answer = await gateway.post((path, headers if is_signed else {}, body))

    assert (answer.status, answer.json()) == (200, {"challenge": "ajls384"})
    assert redis_client.keys() == []
    assert await gateway.outcome("feishu", "challenge") == 1


def feishu_event(**changes: Any) -> Request:
    body = plain_body("feishu")
    for place, value in changes.items():
        branch: Any = body
        *way, last = place.split("__")
        for name in way:
            branch = branch[name]
        branch[last] = value
    return sign("feishu", body)


def dingtalk_event(**changes: Any) -> Request:
    return sign("dingtalk", {**plain_body("dingtalk"), **changes})


IGNORED = [
    ("feishu", "not_a_message", {"header__event_type": "im.chat.updated_v1"}),
    ("feishu", "from_bot", {"event__sender__sender_type": "app"}),
    ("feishu", "not_mentioned", {"event__message__chat_type": "group"}),
    ("feishu", "unsupported_message", {"event__message__message_type": "image"}),
    ("feishu", "empty_text", {"event__message__content": '{"text":" "}'}),
    ("feishu", "malformed_event", {"event__message__content": "not json"}),
    ("feishu", "malformed_event", {"event__message": None}),
    ("dingtalk", "quota_notice", {"errorCode": "20001"}),
    ("dingtalk", "unsupported_message", {"msgtype": "picture"}),
    ("dingtalk", "empty_text", {"text": {"content": " "}}),
    ("dingtalk", "malformed_event", {"text": 3}),
]


@pytest.mark.parametrize(("platform", "reason", "changes"), IGNORED)
async def test_what_is_authentic_but_not_for_us_is_answered_200_and_counted(
    platform: str,
    reason: str,
    changes: dict[str, Any],
    gateway: Gateway,
    redis_client: redis.Redis,
) -> None:
    make = feishu_event if platform == "feishu" else dingtalk_event

    answer = await gateway.post(make(**changes))

    assert (answer.status, answer.json()) == (200, {})
    assert await gateway.outcome(platform, reason) == 1
    assert redis_client.keys() == []


def wrong_secret(platform: str) -> Request:
    path, headers, body = build(platform)
    name = "sign" if platform == "dingtalk" else "X-Lark-Signature"
    return path, {**headers, name: headers[name][::-1]}, body


def other_body(_: str) -> Request:
    path, headers, _body = build("feishu")
    return path, headers, build("feishu")[2]


REFUSED = [
    ("dingtalk", "signature", wrong_secret),
    ("dingtalk", "timestamp", lambda p: build(p, now=time.time() - 3700)),
    ("dingtalk", "timestamp", lambda p: build(p, now=time.time() + 3700)),
    ("dingtalk", "timestamp", lambda p: (build(p)[0], {}, build(p)[2])),
    ("dingtalk", "robot_code", lambda _: dingtalk_event(robotCode="another")),
    ("feishu", "signature", wrong_secret),
    ("feishu", "signature", other_body),
    ("feishu", "signature", lambda p: (build(p)[0], {}, build(p)[2])),
    ("feishu", "timestamp", lambda p: build(p, now=time.time() - 9 * 3600)),
    ("feishu", "verification_token", lambda _: feishu_event(header__token="guessed")),
    ("feishu", "app_id", lambda _: feishu_event(header__app_id="cli_other")),
    ("feishu", "not_encrypted", lambda p: sign(p, json.dumps(plain_body(p)).encode())),
]


@pytest.mark.parametrize(("platform", "reason", "make"), REFUSED)
async def test_what_is_not_authentic_is_refused_and_leaves_nothing(
    platform: str,
    reason: str,
    make: Any,
    gateway: Gateway,
    redis_client: redis.Redis,
    caplog: pytest.LogCaptureFixture,
) -> None:
    with caplog.at_level(logging.DEBUG):
        answer = await gateway.post(make(platform))

    assert (answer.status, answer.json()) == (401, {"error": reason})
    assert await gateway.outcome(platform, reason) == 1
    assert redis_client.keys() == []
    assert "hello" not in caplog.text


@pytest.mark.parametrize(
    "body", [b"", b"not json", b"[]", b"null", b'"x"', b"\xff\xfe", b'{"a":' * 40_000, b"{"]
)
@pytest.mark.parametrize("platform", PLATFORMS)
async def test_an_unreadable_body_is_answered_400(
    platform: str, body: bytes, gateway: Gateway, redis_client: redis.Redis
) -> None:
    answer = await gateway.post(sign(platform, body))

    assert (answer.status, answer.json()) == (400, {"error": "json"})
    assert redis_client.keys() == []


async def test_ciphertext_around_rubbish_is_answered_400(gateway: Gateway) -> None:
    answer = await gateway.post(sign("feishu", encrypt(b"not json")))

    assert answer.status == 400


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/webhook",
        "/wecom/webhook",
        "/feishu/webhook/nobody",
        "/feishu/webhook/",
        "/feishu/webhook/default/more",
        "/FEISHU/webhook",
        "/feishu/../dingtalk/webhook/x",
    ],
)
async def test_an_unknown_bot_or_path_is_answered_404(
    path: str, gateway: Gateway, redis_client: redis.Redis
) -> None:
    answer = await gateway.post(build("feishu"), path)

    assert answer.status == 404
    assert redis_client.keys() == []
    assert b'bot="nobody"' not in (await gateway.get("/metrics")).body


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "HEAD", "OPTIONS", "PATCH"])
async def test_a_webhook_takes_post_alone(method: str, gateway: Gateway) -> None:
    assert (await gateway.call(method, "/feishu/webhook")).status == 405


@pytest.mark.parametrize("path", ["/health", "/ready", "/metrics"])
async def test_probes_take_get_alone(path: str, gateway: Gateway) -> None:
    assert (await gateway.call("POST", path, data=b"{}")).status == 405


async def chunked(body: bytes) -> AsyncIterator[bytes]:
    for start in range(0, len(body), 65_536):
        yield body[start : start + 65_536]


def padded(size: int) -> Request:
    body = {**plain_body("dingtalk"), "padding": ""}
    missing = size - len(json.dumps(body, ensure_ascii=False).encode())
    return sign("dingtalk", {**body, "padding": "x" * missing})


@pytest.mark.parametrize("is_chunked", [False, True])
async def test_a_body_over_one_mebibyte_is_refused(
    is_chunked: bool, gateway: Gateway, redis_client: redis.Redis
) -> None:
    path, headers, body = padded((1 << 20) + 1)

    data = chunked(body) if is_chunked else io.BytesIO(body)
    answer = await gateway.call("POST", path, data=data, headers=headers)

    assert (answer.status, answer.json()) == (413, {"error": "too_large"})
    assert answer.headers["Connection"] == "close"
    assert redis_client.keys() == []
    assert await gateway.outcome("dingtalk", "too_large") == 1


@pytest.mark.parametrize("is_chunked", [False, True])
async def test_a_body_of_one_mebibyte_is_taken_and_its_text_capped(
    is_chunked: bool, gateway: Gateway, redis_client: redis.Redis
) -> None:
    path, headers, body = padded(1 << 20)

    data = chunked(body) if is_chunked else body
    answer = await gateway.call("POST", path, data=data, headers=headers)

    assert answer.status == 200
    assert redis_client.hstrlen(events_in(redis_client)[0], "event") < 70_000


async def test_calls_above_the_qps_limit_are_answered_429(redis_server: RedisServer) -> None:
    client = redis_server.client()
    client.flushall()
    async with running(settings_for(redis_server.url, SECURITY__QPS="2")) as gateway:
        answers = [await gateway.post(build("feishu")) for _ in range(12)]

    refused = [answer for answer in answers if answer.status == 429]
    assert len(refused) >= 4  # a second may end meanwhile
    assert {answer.headers["Retry-After"] for answer in refused} == {"1"}
    assert int(counts(client, "feishu")["accepted"]) == 12 - len(refused)
    client.close()


@pytest.fixture
async def narrow(redis_server: RedisServer, redis_client: redis.Redis) -> AsyncIterator[Gateway]:
    changes = {"DINGTALK__BUSY_REPLY": "true", "FEISHU__BUSY_REPLY": "true"}
    settings = settings_for(redis_server.url, ASYNC_PROCESSING__QUEUE_CAPACITY="2", **changes)
    async with running(settings) as served:
        yield served


async def test_a_full_bot_is_answered_503_and_the_other_goes_on(
    narrow: Gateway, redis_client: redis.Redis
) -> None:
    answers = [await narrow.post(build("feishu", conversation=f"c{n}")) for n in range(3)]

    assert [answer.status for answer in answers] == [200, 200, 503]
    assert answers[2].headers["Retry-After"] == "2"
    assert answers[2].json() == {"error": "queue_full"}
    assert counts(redis_client, "feishu") == {"accepted": "2", "queue_full": "1"}
    assert (await narrow.post(build("dingtalk"))).status == 200


async def test_a_busy_dingtalk_bot_asks_to_send_again_and_counts_the_refusal(
    narrow: Gateway, redis_client: redis.Redis
) -> None:
    answers = [await narrow.post(build("dingtalk")) for _ in range(3)]

    assert [answer.status for answer in answers] == [200, 200, 200]
    assert answers[2].json()["msgtype"] == "text"
    assert "resend" in answers[2].json()["text"]["content"]
    assert redis_client.llen(lane("dingtalk")) == 2
    assert await narrow.outcome("dingtalk", "queue_full") == 1


async def test_who_was_perhaps_recorded_is_not_asked_to_send_again(
    narrow: Gateway, redis_client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Redis did it and its reply is lost; another message waited for the next call."""
    sent = Inbox._send

    async def lose_the_reply(inbox: Inbox, batch: Any) -> None:
        await sent(inbox, batch)
        while not inbox._waiting:
            await asyncio.sleep(0.01)
        raise TimeoutError

    monkeypatch.setattr("ingress.inbox.MAX_BATCH_EVENTS", 1)
    monkeypatch.setattr("ingress.inbox.DEADLINE_S", 30)
    monkeypatch.setattr(Inbox, "_send", lose_the_reply)
    answers = await asyncio.gather(*(narrow.post(build("dingtalk")) for _ in range(2)))

    waited, perhaps = sorted(answers, key=lambda answer: answer.status)
    assert (perhaps.status, perhaps.json()) == (503, {"error": "unavailable"})
    assert perhaps.headers["Retry-After"] == "2"
    assert waited.status == 200
    assert "resend" in waited.json()["text"]["content"]
    assert redis_client.llen(lane("dingtalk")) == 1
    assert await narrow.outcome("dingtalk", "unavailable") == 2


async def test_a_full_conversation_is_refused_and_others_go_on(
    redis_server: RedisServer, redis_client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ingress.inbox.CONVERSATION_CAPACITY", 1)
    async with running(settings_for(redis_server.url)) as gateway:
        conversations = ("a", "a", "b")
        answers = [await gateway.post(build("feishu", conversation=c)) for c in conversations]

    assert [answer.status for answer in answers] == [200, 503, 200]
    assert answers[1].json() == {"error": "conversation_full"}


@pytest.fixture
async def guided(redis_server: RedisServer, redis_client: redis.Redis) -> AsyncIterator[Gateway]:
    changes = {"DINGTALK__SIGNATURE_SCHEME": "guide", "FEISHU__SIGNATURE_SCHEME": "guide"}
    async with running(settings_for(redis_server.url, **changes)) as served:
        yield served


def guide_signed(platform: str) -> Request:
    """The deployment guide's formula: HMAC-SHA256 over timestamp, line feed and secret."""
    path, headers, body = build(platform)
    if platform == "dingtalk":
        secret = CREDENTIALS[names.DINGTALK_APP_SECRET]
        timestamp, name = headers["timestamp"], "sign"
    else:
        secret = CREDENTIALS[names.FEISHU_ENCRYPT_KEY]
        timestamp, name = headers["X-Lark-Request-Timestamp"], "X-Lark-Signature"
    mac = hmac.new(secret.encode(), f"{timestamp}\n{secret}".encode(), hashlib.sha256)
    is_hex = platform == "dingtalk"
    signature = mac.hexdigest() if is_hex else base64.b64encode(mac.digest()).decode()
    return path, {**headers, name: signature}, body


@pytest.mark.parametrize("platform", PLATFORMS)
async def test_a_bot_of_the_guides_scheme_takes_the_guides_formula_alone(
    platform: str, guided: Gateway, redis_client: redis.Redis
) -> None:
    assert (await guided.post(build(platform))).status == 401
    assert (await guided.post(guide_signed(platform))).status == 200
    assert redis_client.llen(lane(platform)) == 1


@pytest.mark.parametrize("platform", PLATFORMS)
async def test_a_bot_of_the_platforms_scheme_refuses_the_guides_formula(
    platform: str, gateway: Gateway
) -> None:
    assert (await gateway.post(guide_signed(platform))).status == 401


async def test_the_guides_spelling_of_the_event_type_is_accepted(
    gateway: Gateway, redis_client: redis.Redis
) -> None:
    answer = await gateway.post(feishu_event(header__event_type="im.message.received_v1"))

    assert answer.status == 200
    assert redis_client.llen(lane("feishu")) == 1


def for_help_bot() -> Request:
    body = plain_body("feishu", message_id="om_1")
    body["header"] |= {"token": "help-token", "app_id": "cli_help"}
    return "/feishu/webhook/help", {}, json.dumps(body).encode()


async def test_a_named_bot_has_its_own_route_and_keys(
    redis_server: RedisServer, redis_client: redis.Redis
) -> None:
    async with running(settings_for(redis_server.url, **HELP)) as gateway:
        assert (await gateway.post(for_help_bot())).status == 200
        assert (await gateway.post(build("feishu", message_id="om_1"))).status == 200
        assert await gateway.outcome("feishu", "accepted", bot="help") == 1
        assert await gateway.outcome("feishu", "accepted") == 1

    assert redis_client.llen(BotKeys("feishu", "cli_help").inbox("c1")) == 1
    assert redis_client.llen(lane("feishu")) == 1


async def test_the_bot_comes_from_the_route_never_from_the_body(
    redis_server: RedisServer, redis_client: redis.Redis
) -> None:
    async with running(settings_for(redis_server.url, **HELP)) as gateway:
        at_default = await gateway.post(for_help_bot(), "/feishu/webhook")
        at_help = await gateway.post(build("feishu"), "/feishu/webhook/help")
        elsewhere = await gateway.post(build("dingtalk"), "/dingtalk/webhook/help")

    assert (at_default.status, at_help.status, elsewhere.status) == (401, 401, 404)
    left = redis_client.scan_iter()
    assert [key for key in left if not key.startswith("clawdbot:audit:")] == []


async def test_every_key_of_a_bot_names_its_platform_and_app(
    redis_server: RedisServer, redis_client: redis.Redis
) -> None:
    async with running(settings_for(redis_server.url, **HELP)) as gateway:
        for request in (for_help_bot(), build("feishu"), build("dingtalk")):
            await gateway.post(request)
            await gateway.post(request)

    prefixes = (*(f"{bot.prefix}:" for bot in BOTS.values()), "feishu:cli_help:")
    shared_keys = {keys.DUE, keys.HINTS, keys.PROBE, "process"}
    found = {key for key in redis_client.scan_iter() if not key.startswith(keys.QPS_PREFIX)}
    assert found - shared_keys
    assert all(key.startswith(prefixes) for key in found - shared_keys)
    assert {bot for bot in prefixes if any(key.startswith(bot) for key in found)} == set(prefixes)


async def test_neither_text_nor_session_webhook_leaves_the_record(
    gateway: Gateway, redis_client: redis.Redis, caplog: pytest.LogCaptureFixture
) -> None:
    request = build("dingtalk", text="very private words")
    webhook = json.loads(request[2])["sessionWebhook"]

    with caplog.at_level(logging.DEBUG):
        await gateway.post(request)

    record = redis_client.hget(events_in(redis_client)[0], "event")
    assert "very private words" in record
    assert webhook not in record  # sealed
    hint = redis_client.lindex("process", 0)
    for secret in ("very private words", webhook, webhook.partition("session=")[2]):
        assert secret not in hint
        assert secret not in caplog.text


async def test_odd_ids_and_texts_are_recorded_as_they_are(
    gateway: Gateway, redis_client: redis.Redis
) -> None:
    odd = 'oc"\\{}:群*?[x]$LANE$%1'

    answer = await gateway.post(build("dingtalk", text='$TRACE$ \\ " \x00 👋', conversation=odd))

    assert answer.status == 200
    message = json.loads(redis_client.lindex("process", 0))
    assert json.loads(message["body"])[0][0] == lane("dingtalk", odd)
    event = json.loads(redis_client.hget(events_in(redis_client)[0], "event"))
    assert event["conversation_id"] == odd
    assert event["text"] == '$TRACE$ \\ " \x00 👋'


async def test_a_caller_that_hangs_up_gets_the_same_answer_as_one_that_stays(
    gateway: Gateway,
) -> None:
    staying = await gateway.post(build("feishu", "one"))
    path, headers, body = build("feishu", "two")
    leaving = await gateway.post((path, {**headers, "Connection": "close"}, body))

    for answer in (staying, leaving):
        assert answer.status == 200
        assert answer.body == b"{}"
        assert len(answer.headers["X-Trace-Id"]) == 24
    assert set(leaving.headers) - set(staying.headers) == {"Connection"}
    assert set(staying.headers) <= set(leaving.headers)
    assert staying.headers["Content-Type"] == leaving.headers["Content-Type"]


async def test_an_old_client_is_answered_in_its_own_version(gateway: Gateway) -> None:
    path, headers, body = build("feishu")
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
    head = f"POST {path} HTTP/1.0\r\nHost: x\r\n{lines}Content-Length: {len(body)}\r\n\r\n"
    writer.write(head.encode() + body)

    answer = await reader.read()  # to the end: the connection is closed

    writer.close()
    assert answer.startswith(b"HTTP/1.0 200 OK\r\n")
    assert answer.endswith(b"\r\n\r\n{}")


async def test_message_text_is_logged_only_when_asked_for(
    redis_server: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "ingress")
    asked = load_settings({**environ_for(redis_server.url), "LOG_CONTENT": "true"}, cwd=HERE)
    for settings in (settings_for(redis_server.url), asked):
        async with running(settings) as gateway:
            await gateway.post(build("feishu", "a word"))

    silent, open_ = [r.metadata for r in caplog.records if r.msg == "event.received"]
    assert silent == {"platform": "feishu", "bot": "default", "outcome": "accepted"}
    assert open_ == {**silent, "text": "a word"}


async def test_messages_proved_by_an_old_secret_are_counted(
    redis_server: RedisServer, redis_client: redis.Redis
) -> None:
    """When the count rests, the old secret may go."""
    rotated = settings_for(
        redis_server.url,
        DINGTALK__APP_SECRET=json.dumps(["new", CREDENTIALS[names.DINGTALK_APP_SECRET]]),
        FEISHU__ENCRYPT_KEY=json.dumps(["new", CREDENTIALS[names.FEISHU_ENCRYPT_KEY]]),
    )
    async with running(rotated) as gateway:
        for platform in PLATFORMS:
            metric = {"platform": platform, "bot": "default"}
            assert await gateway.metric("clawdbot_ingress_old_secret_total", **metric) == 0
            assert (await gateway.post(build(platform))).status == 200
            assert await gateway.metric("clawdbot_ingress_old_secret_total", **metric) == 1
