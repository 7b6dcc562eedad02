"""The simulator keeps its promises: real signatures, documented answers, faults, a true ledger."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
import os
import socket
import stat
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from cryptography.hazmat.primitives import padding
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from tests.redis_server import free_port
from tests.simulator import signing
from tests.simulator.app import build_app
from tests.simulator.client import SignedClient
from tests.simulator.credentials import PARTS, complete, read_env, write_env
from tests.simulator.ledger import Ledger, Posted, Send
from tests.simulator.world import World

ROOT = Path(__file__).parents[2]
DEADLINE_S = 10.0


def vectors(platform: str, kind: str) -> list[Any]:
    document = json.loads((ROOT / f"tests/vectors/{platform}.json").read_text("utf-8"))
    found = [v for v in document["vectors"] if v["kind"] == kind]
    assert found, f"no {kind} vectors"
    return [pytest.param(v["input"], v["expect"], id=v["id"]) for v in found]


async def wait_until(condition: Callable[[], Awaitable[Any]], what: str) -> Any:
    deadline = time.monotonic() + DEADLINE_S
    while not (value := await condition()):
        assert time.monotonic() < deadline, f"waited in vain: {what}"
        await asyncio.sleep(0.01)
    return value


# --- signing, against the golden vectors -------------------------------------------------------


@pytest.mark.parametrize(("given", "expect"), vectors("dingtalk", "dingtalk_signature"))
def test_dingtalk_sign_equals_the_vector(given: Any, expect: Any) -> None:
    assert signing.dingtalk_sign(given["timestamp"], given["app_secret"]) == expect["sign"]


@pytest.mark.parametrize(("given", "expect"), vectors("feishu", "feishu_signature"))
def test_feishu_signature_equals_the_vector(given: Any, expect: Any) -> None:
    body = base64.b64decode(given["body_b64"])
    signature = signing.feishu_signature(
        given["timestamp"], given["nonce"], given["encrypt_key"], body
    )
    assert signature == expect["signature"]


@pytest.mark.parametrize(
    ("given", "expect"),
    [p for p in vectors("feishu", "feishu_decrypt") if p.values[1]["ok"]],
)
def test_feishu_encryption_gives_the_vectors_ciphertext(given: Any, expect: Any) -> None:
    initial = base64.b64decode(given["encrypt"])[:16]
    sealed = signing.feishu_encrypt(given["encrypt_key"], expect["plaintext"].encode(), initial)
    assert sealed == given["encrypt"]


def test_a_seal_opens_only_with_its_secret_and_unchanged() -> None:
    sealed = signing.seal("secret", "session", "会话 1", 12)
    assert signing.unseal("secret", sealed) == ["session", "会话 1", 12]
    assert signing.unseal("other", sealed) is None
    assert signing.unseal("secret", "x" + sealed) is None
    assert signing.unseal("secret", "") is None


# --- credentials ------------------------------------------------------------------------------


def test_credentials_are_kept_over_a_restart_and_readable_by_the_owner_only(tmp_path: Path) -> None:
    path = tmp_path / "run" / "simulator.env"
    first = complete(read_env(path), PARTS, "http://127.0.0.1:1")
    write_env(path, first)
    again = complete(read_env(path), PARTS, "http://127.0.0.1:2")
    moved = {name for name in first if first[name] != again[name]}
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert read_env(path) == first
    assert moved == {
        "CLAWDBOT_DINGTALK__API_BASE",
        "CLAWDBOT_DINGTALK__OAPI_BASE",
        "CLAWDBOT_DINGTALK__WEBHOOK_HOSTS",
        "CLAWDBOT_FEISHU__API_BASE",
        "CLAWDBOT_ENDPOINT",
    }


def run_simulator(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tests.simulator", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=30)


def test_env_file_holds_only_the_chosen_parts_and_the_seed_file_all(tmp_path: Path) -> None:
    env, seed = str(tmp_path / "env"), str(tmp_path / "seed")
    common = ("--port", "9", "--env-out", env, "--seed-file", seed, "--write-env-only")
    assert run_simulator(*common).returncode == 0
    everything = read_env(tmp_path / "env")
    assert run_simulator(*common, "--only", "feishu").returncode == 0
    feishu = read_env(tmp_path / "env")
    assert {name.split("__")[0] for name in feishu} == {"CLAWDBOT_FEISHU"}
    assert feishu.items() <= everything.items()
    assert run_simulator(*common).returncode == 0
    assert read_env(tmp_path / "env") == everything


def test_a_taken_port_is_one_sentence_and_exit_code_2(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        ended = run_simulator("--port", port, "--env-out", str(tmp_path / "env"))
    assert ended.returncode == 2
    assert f"port {port} on 127.0.0.1 is already in use" in ended.stderr
    assert len(ended.stderr.splitlines()) == 1
    assert not (tmp_path / "env").exists()


def test_the_process_writes_its_file_serves_and_stops_on_sigterm(tmp_path: Path) -> None:
    path, port = tmp_path / "env", free_port()
    command = [sys.executable, "-m", "tests.simulator", "--port", str(port), "--env-out", str(path)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert f"http://127.0.0.1:{port}/" in process.stdout.readline()
        assert read_env(path)["CLAWDBOT_ENDPOINT"] == f"http://127.0.0.1:{port}/model/v1"
        process.terminate()
        assert process.wait(DEADLINE_S) == 0


# --- a gateway of forty lines, written apart ---------------------------------------------------


class FakeGateway:
    """Checks signatures with its own code, asks the model and answers in the chat."""

    def __init__(self, credentials: dict[str, str]) -> None:
        self.env = credentials
        self.bodies: list[dict[str, Any]] = []
        self.answers = True
        self.status = 200
        self.ack: Any = {}
        self.tasks: set[asyncio.Task[None]] = set()

    def app(self) -> web.Application:
        app = web.Application()
        app.add_routes([web.post("/dingtalk/webhook", self.dingtalk)])
        app.add_routes([web.post("/feishu/webhook", self.feishu)])
        app.add_routes([web.get("/ready", self.ready)])
        return app

    async def ready(self, _: web.Request) -> web.Response:
        return web.json_response({"ok": True})

    async def dingtalk(self, request: web.Request) -> web.Response:
        secret = self.env["CLAWDBOT_DINGTALK__APP_SECRET"]
        text = request.headers["timestamp"] + "\n" + secret
        sign = base64.b64encode(
            hmac.new(secret.encode(), text.encode(), hashlib.sha256).digest()
        ).decode()
        late_ms = abs(time.time() * 1000 - int(request.headers["timestamp"]))
        if sign != request.headers["sign"] or late_ms > 3_600_000:
            return web.json_response({"error": "signature"}, status=401)
        body = await request.json()
        return self.take(body, self.answer_dingtalk(body))

    async def feishu(self, request: web.Request) -> web.Response:
        raw, key = await request.read(), self.env["CLAWDBOT_FEISHU__ENCRYPT_KEY"]
        signed = request.headers["X-Lark-Request-Timestamp"].encode()
        signed += request.headers["X-Lark-Request-Nonce"].encode() + key.encode() + raw
        if hashlib.sha256(signed).hexdigest() != request.headers["X-Lark-Signature"]:
            return web.json_response({"error": "signature"}, status=401)
        body = decrypt_feishu(key, json.loads(raw)["encrypt"])
        if body["header"]["token"] != self.env["CLAWDBOT_FEISHU__VERIFICATION_TOKEN"]:
            return web.json_response({"error": "token"}, status=401)
        return self.take(body, self.answer_feishu(body["event"]["message"]))

    def take(self, body: dict[str, Any], work: Any) -> web.Response:
        self.bodies.append(body)
        if self.answers and self.status == 200:
            task = asyncio.get_running_loop().create_task(work)
            self.tasks.add(task)
            task.add_done_callback(self.tasks.discard)
        else:
            work.close()
        return web.json_response(self.ack, status=self.status)

    async def answer_dingtalk(self, body: dict[str, Any]) -> None:
        answer = await ask_model(self.env, body["text"]["content"].strip())
        value = {"msgtype": "text", "text": {"content": answer}}
        async with aiohttp.ClientSession() as http:
            await (await http.post(body["sessionWebhook"], json=value)).read()

    async def answer_feishu(self, message: dict[str, Any]) -> None:
        text = json.loads(message["content"])["text"].replace("@_user_1", "").strip()
        await reply_feishu(self.env, message["message_id"], await ask_model(self.env, text))


def decrypt_feishu(key: str, encrypted: str) -> Any:
    raw = base64.b64decode(encrypted)
    mode = modes.CBC(raw[:16])
    cipher = Cipher(algorithms.AES(hashlib.sha256(key.encode()).digest()), mode).decryptor()
    remover = padding.PKCS7(128).unpadder()
    return json.loads(remover.update(cipher.update(raw[16:])) + remover.finalize())


async def post_json(url: str, value: Any, headers: dict[str, str] | None = None) -> tuple[int, Any]:
    async with (
        aiohttp.ClientSession() as http,
        http.post(url, json=value, headers=headers) as answer,
    ):
        return answer.status, await answer.json()


async def stream_model(env: dict[str, str], text: str, *earlier: str) -> str:
    """The raw event stream."""
    messages = [{"role": "user", "content": said} for said in (*earlier, text)]
    value = {"model": env["CLAWDBOT_MODEL__NAME"], "messages": messages, "stream": True}
    headers = {"Authorization": f"Bearer {env['CLAWDBOT_AK_SECRET']}"}
    url = env["CLAWDBOT_ENDPOINT"] + "/chat/completions"
    async with (
        aiohttp.ClientSession() as http,
        http.post(url, json=value, headers=headers) as answer,
    ):
        return await answer.text()


async def ask_model(env: dict[str, str], text: str, *earlier: str) -> str:
    events = (await stream_model(env, text, *earlier)).split("\n\n")
    values = [json.loads(e.removeprefix("data: ")) for e in events if e and "[DONE]" not in e]
    return "".join(v["choices"][0]["delta"].get("content", "") for v in values)


async def feishu_token(env: dict[str, str]) -> str:
    value = {
        "app_id": env["CLAWDBOT_FEISHU__APP_ID"],
        "app_secret": env["CLAWDBOT_FEISHU__APP_SECRET"],
    }
    path = "/open-apis/auth/v3/tenant_access_token/internal"
    status, answer = await post_json(env["CLAWDBOT_FEISHU__API_BASE"] + path, value)
    assert (status, answer["code"]) == (200, 0)
    return str(answer["tenant_access_token"])


async def reply_feishu(
    env: dict[str, str], message_id: str, text: str, uuid: str = "", token: str = ""
) -> tuple[int, Any]:
    headers = {"Authorization": f"Bearer {token or await feishu_token(env)}"}
    value = {"msg_type": "text", "content": json.dumps({"text": text}), "uuid": uuid}
    path = f"/open-apis/im/v1/messages/{message_id}/reply"
    return await post_json(env["CLAWDBOT_FEISHU__API_BASE"] + path, value, headers)


async def dingtalk_token(env: dict[str, str]) -> str:
    value = {
        "appKey": env["CLAWDBOT_DINGTALK__APP_KEY"],
        "appSecret": env["CLAWDBOT_DINGTALK__APP_SECRET"],
    }
    url = env["CLAWDBOT_DINGTALK__API_BASE"] + "/v1.0/oauth2/accessToken"
    return str((await post_json(url, value))[1]["accessToken"])


async def send_robot(
    env: dict[str, str], path: str, token: str, content: str, **where: Any
) -> tuple[int, Any]:
    value = {
        "robotCode": env["CLAWDBOT_DINGTALK__ROBOT_CODE"],
        "msgKey": "sampleText",
        "msgParam": json.dumps({"content": content}, ensure_ascii=False),
        **where,
    }
    headers = {"x-acs-dingtalk-access-token": token}
    return await post_json(
        f"{env['CLAWDBOT_DINGTALK__API_BASE']}/v1.0/robot/{path}", value, headers
    )


class Stage:
    """A simulator and a fake gateway on free ports."""

    def __init__(self, world: World, gateway: FakeGateway, client: SignedClient) -> None:
        self.world, self.gateway, self.client = world, gateway, client
        self.env = dict(world.credentials)
        self.now_shift_s = 0.0

    async def answer_to(self, message_id: str) -> dict[str, Any]:
        async def visible() -> Any:
            records = await self.client.ledger()
            answers = [r for r in records if r["kind"] == "send" and r["outcome"] == "visible"]
            return next((r for r in answers if r["message_id"] == message_id), None)

        answer: dict[str, Any] = await wait_until(visible, f"an answer to {message_id}")
        return answer

    async def quiet_send(self, platform: str, text: str = "hello", **more: Any) -> dict[str, Any]:
        """Write without the gateway answering; returns what reached it."""
        self.gateway.answers = False
        status, _ = await self.client.send(platform, conversation="c1", text=text, **more)
        assert status == 200
        return self.gateway.bodies[-1]


@pytest.fixture
async def stage() -> AsyncIterator[Stage]:
    port, gateway_port = free_port(), free_port()
    url, ingress = f"http://127.0.0.1:{port}", f"http://127.0.0.1:{gateway_port}"
    env = complete({}, PARTS, url)
    world, gateway = World(env, PARTS, ingress, url), FakeGateway(env)
    runners = []
    for app, at in ((build_app(world), port), (gateway.app(), gateway_port)):
        runner = web.AppRunner(app, access_log=None, handler_cancellation=True, shutdown_timeout=1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", at).start()
        runners.append(runner)
    async with SignedClient(env, ingress, url) as client:
        made = Stage(world, gateway, client)
        world.clock = lambda: time.time() + made.now_shift_s
        yield made
    for task in list(gateway.tasks):
        task.cancel()
    for runner in runners:
        await runner.cleanup()


# --- the whole way ----------------------------------------------------------------------------


@pytest.mark.parametrize("platform", ["dingtalk", "feishu"])
@pytest.mark.parametrize("group", [False, True])
async def test_a_message_is_signed_answered_and_linked_to_its_answer(
    stage: Stage, platform: str, group: bool
) -> None:
    status, message_id = await stage.client.send(
        platform, conversation="c1", text="早上好 7f3a", group=group
    )
    answer = await stage.answer_to(message_id)
    stats = await stage.client.stats()
    assert status == 200
    assert answer["text"].startswith("你说：早上好 7f3a\n")
    assert answer["conversation"] == "c1"
    assert answer["route"] == ("session" if platform == "dingtalk" else "reply")
    assert stats["answers"] == {message_id: 1}
    assert (stats["events"], stats["acknowledged"], stats["unanswered"]) == (1, 1, 0)
    assert (stats["duplicates"], stats["repeats"], stats["model_calls"]) == (0, 0, 1)


async def test_a_group_message_mentions_the_bot_the_way_each_platform_does(stage: Stage) -> None:
    dingtalk = await stage.quiet_send("dingtalk", "hi", group=True)
    feishu = await stage.quiet_send("feishu", "hi", group=True)
    message = feishu["event"]["message"]
    assert (dingtalk["conversationType"], dingtalk["text"]["content"]) == ("2", " hi")
    assert dingtalk["atUsers"] == [{"dingtalkId": dingtalk["chatbotUserId"]}]
    assert (message["chat_type"], json.loads(message["content"])["text"]) == (
        "group",
        "@_user_1 hi",
    )
    token = await feishu_token(stage.env)
    url = stage.env["CLAWDBOT_FEISHU__API_BASE"] + "/open-apis/bot/v3/info"
    async with (
        aiohttp.ClientSession() as http,
        http.get(url, headers={"Authorization": f"Bearer {token}"}) as answer,
    ):
        bot = (await answer.json())["bot"]
    assert message["mentions"][0]["id"]["open_id"] == bot["open_id"]


async def test_a_redelivery_keeps_the_ids_and_is_counted_once_as_event(stage: Stage) -> None:
    first = await stage.quiet_send("feishu")
    message_id = first["event"]["message"]["message_id"]
    await stage.client.redeliver(message_id)
    await stage.client.redeliver(message_id, event_id="another")
    ids = [body["header"]["event_id"] for body in stage.gateway.bodies]
    stats = await stage.client.stats()
    assert ids[0] == ids[1] != ids[2] == "another"
    assert {b["event"]["message"]["message_id"] for b in stage.gateway.bodies} == {message_id}
    assert (stats["events"], stats["deliveries"], stats["unanswered"]) == (1, 3, 1)
    assert stats["unanswered_ids"] == [message_id]


async def test_built_requests_can_be_stale(stage: Stage) -> None:
    path, headers, body = stage.client.build(
        "dingtalk", conversation="c", text="t", now=time.time() - 7200
    )
    async with (
        aiohttp.ClientSession(stage.world.ingress_url) as http,
        http.post(path, data=body, headers=headers) as answer,
    ):
        assert answer.status == 401


async def test_a_gateway_that_is_away_is_status_0(stage: Stage) -> None:
    nowhere = f"http://127.0.0.1:{free_port()}"
    async with SignedClient(stage.env, nowhere, stage.world.base_url) as client:
        status, _ = await client.send("feishu", conversation="c", text="t")
        assert status == 0
        assert (await client.stats())["acknowledged"] == 0


# --- platform behaviour -----------------------------------------------------------------------


async def test_feishu_shows_one_message_per_uuid_within_an_hour(stage: Stage) -> None:
    first = (await reply_feishu(stage.env, "om_1", "a", "job-1"))[1]["data"]["message_id"]
    again = (await reply_feishu(stage.env, "om_1", "a", "job-1"))[1]["data"]["message_id"]
    stage.now_shift_s = 3601
    later = (await reply_feishu(stage.env, "om_1", "a", "job-1"))[1]["data"]["message_id"]
    stats = await stage.client.stats()
    assert first == again != later
    assert (stats["visible"], stats["repeats"], stats["duplicates"]) == (2, 1, 1)


async def test_tokens_end_for_the_platform_that_is_named(stage: Stage) -> None:
    good = await feishu_token(stage.env)
    await stage.client.control("tokens/expire?platform=dingtalk")
    assert await feishu_token(stage.env) == good
    with pytest.raises(ValueError, match="platform must be one of dingtalk, feishu"):
        await stage.client.control("tokens/expire?platform=wecom")


async def test_feishu_refuses_what_the_platform_refuses(stage: Stage) -> None:
    old = await feishu_token(stage.env)
    await stage.client.control("tokens/expire")
    assert (await reply_feishu(stage.env, "om_1", "a", token=old))[1]["code"] == 99991663
    assert (await reply_feishu(stage.env, "om_1", ""))[1]["code"] == 230001
    assert (await reply_feishu(stage.env, "om_1", "a", "u" * 51))[1]["code"] == 230001
    assert (await reply_feishu(stage.env, "om_1", "a" * 153_601))[1]["code"] == 230025
    assert (await reply_feishu(stage.env, "job-1", "a"))[0] == 400
    assert (await stage.client.stats())["refused"] == 5


async def test_tokens_are_given_again_until_they_end(stage: Stage) -> None:
    feishu, dingtalk = await feishu_token(stage.env), await dingtalk_token(stage.env)
    stage.now_shift_s = 5300
    assert (await feishu_token(stage.env), await dingtalk_token(stage.env)) == (feishu, dingtalk)
    stage.now_shift_s = 5500  # less than half an hour left: Feishu makes a new one
    assert await feishu_token(stage.env) != feishu
    assert await dingtalk_token(stage.env) == dingtalk
    assert (await reply_feishu(stage.env, "om_1", "a", token=feishu))[0] == 200
    stage.now_shift_s = 7300
    assert (await reply_feishu(stage.env, "om_1", "a", token=feishu))[1]["code"] == 99991663


async def say_by_session(body: dict[str, Any], text: str) -> Any:
    value = {"msgtype": "text", "text": {"content": text}}
    return (await post_json(body["sessionWebhook"], value))[1]


async def test_a_session_webhook_ends_at_its_time_or_by_order(stage: Stage) -> None:
    body = await stage.quiet_send("dingtalk", webhook_expires_in_s=60)
    assert body["sessionWebhookExpiredTime"] == body["createAt"] + 60_000
    assert (await say_by_session(body, "a"))["errcode"] == 0
    stage.now_shift_s = 61
    assert (await say_by_session(body, "b"))["code"] == "session.expired"
    fresh = await stage.quiet_send("dingtalk")
    stage.now_shift_s = 62
    await stage.client.control("sessions/expire")
    assert "session.expired" in (await say_by_session(fresh, "c"))["errmsg"]
    assert (await stage.client.stats())["visible"] == 1


async def test_a_session_webhook_refuses_bad_content_and_forged_sessions(stage: Stage) -> None:
    body = await stage.quiet_send("dingtalk")
    assert (await say_by_session(body, " "))["errcode"] == 40035
    assert (await say_by_session(body, "字" * 6667))["errcode"] == 40035
    assert (await say_by_session(body, "字" * 6666))["errcode"] == 0
    forged = {"sessionWebhook": body["sessionWebhook"] + "x"}
    assert (await say_by_session(forged, "a"))["errcode"] == 300005


async def test_dingtalk_has_no_idempotency(stage: Stage) -> None:
    body = await stage.quiet_send("dingtalk")
    await say_by_session(body, "the same")
    await say_by_session(body, "the same")
    stats = await stage.client.stats()
    assert (stats["answers"][body["msgId"]], stats["duplicates"]) == (2, 1)


async def test_a_robot_send_finds_the_chat_and_the_question(stage: Stage) -> None:
    body = await stage.quiet_send("dingtalk", "question 91c2")
    path, token = "oToMessages/batchSend", await dingtalk_token(stage.env)
    users = [body["senderStaffId"]]
    status, answer = await send_robot(
        stage.env, path, token, "You said: question 91c2", userIds=users
    )
    send = await stage.answer_to(body["msgId"])
    assert (status, answer["invalidStaffIdList"]) == (200, [])
    assert (send["route"], send["conversation"]) == ("robot", "c1")


async def test_the_robot_api_refuses_what_the_platform_refuses(stage: Stage) -> None:
    env, token, path = stage.env, await dingtalk_token(stage.env), "groupMessages/send"
    where = {"openConversationId": "g1"}
    ok, _ = await send_robot(env, path, token, "fine", **where)
    _, no_token = await send_robot(env, path, "stale", "a", **where)
    robot, _ = await send_robot(env, path, token, "a", **where, robotCode="other")
    _, long = await send_robot(env, path, token, "字" * 5000, **where)
    no_json, _ = await send_robot(env, path, token, "", **where, msgParam="not json")
    _, nobody = await send_robot(env, "oToMessages/batchSend", token, "a", userIds=["stranger"])
    assert (ok, robot, no_json) == (200, 400, 400)
    assert no_token["code"] == "InvalidAuthentication"
    assert long["code"] == "invalidParameter.msgParam.tooLong"
    assert nobody["invalidStaffIdList"] == ["stranger"]
    assert (await stage.client.stats())["visible"] == 1


# --- the model --------------------------------------------------------------------------------


async def test_the_model_streams_in_the_language_of_the_question(stage: Stage) -> None:
    assert (await ask_model(stage.env, "hi")).startswith("You said: hi\n")
    assert "2 轮" in await ask_model(stage.env, "你好", "一", "二")
    raw = await stream_model(stage.env, "a longer question for several tokens")
    assert raw.count("data: ") > 10
    assert raw.endswith("data: [DONE]\n\n")


async def test_the_model_answers_whole_and_checks_its_key(stage: Stage) -> None:
    url = stage.env["CLAWDBOT_ENDPOINT"] + "/chat/completions"
    value = {
        "model": stage.env["CLAWDBOT_MODEL__NAME"],
        "messages": [{"role": "user", "content": "hi"}],
    }
    key = {"Authorization": f"Bearer {stage.env['CLAWDBOT_AK_SECRET']}"}
    status, whole = await post_json(url, value, key)
    assert (status, whole["choices"][0]["finish_reason"]) == (200, "stop")
    assert (await post_json(url, value, {"Authorization": "Bearer sk-no"}))[0] == 401
    assert (await post_json(url, {**value, "model": "other"}, key))[0] == 404


async def test_the_pace_of_the_model_can_be_set(stage: Stage) -> None:
    await stage.client.control("model", {"tokens": 3, "latency_s": 0.01, "token_interval_s": 0.01})
    raw = await stream_model(stage.env, "hello")
    assert raw.count('"content"') == 3
    with pytest.raises(ValueError, match="numbers from 0"):
        await stage.client.control("model", {"latency_s": "soon"})


# --- faults -----------------------------------------------------------------------------------


async def order(stage: Stage, target: str, kind: str, **more: Any) -> None:
    await stage.client.control("faults", {"target": target, "kind": kind, **more})


async def test_a_fault_strikes_the_matching_text_as_often_as_ordered(stage: Stage) -> None:
    await order(stage, "model", "status", status=503, body="busy", times=2, match="poison")
    assert await stream_model(stage.env, "harmless") != "busy"
    assert [await stream_model(stage.env, "a poison pill") for _ in range(2)] == ["busy"] * 2
    assert await stream_model(stage.env, "a poison pill") != "busy"


async def test_faults_last_until_cleared_with_times_0(stage: Stage) -> None:
    await order(stage, "dingtalk.session", "errcode", code=130101, message="too fast", times=0)
    body = await stage.quiet_send("dingtalk")
    assert [(await say_by_session(body, "a"))["errcode"] for _ in range(3)] == [130101] * 3
    await stage.client.control("faults", method="DELETE")
    assert (await say_by_session(body, "a"))["errcode"] == 0
    stats = await stage.client.stats()
    assert (stats["faults"], stats["visible"]) == (3, 1)


async def test_a_fault_matches_the_question_an_answer_belongs_to(stage: Stage) -> None:
    body = await stage.quiet_send("dingtalk", "question 55d0")
    await stage.client.tell()
    await order(stage, "dingtalk.session", "status", status=500, match="question 55d0")
    with pytest.raises(aiohttp.ContentTypeError):
        await say_by_session(body, "a notice that does not repeat it")


async def test_a_lost_response_shows_the_message_all_the_same(stage: Stage) -> None:
    await order(stage, "feishu.reply", "lose_response")
    with pytest.raises(aiohttp.ClientConnectionError):
        await reply_feishu(stage.env, "om_1", "a", "job-1")
    status, _ = await reply_feishu(stage.env, "om_1", "a", "job-1")
    stats = await stage.client.stats()
    assert status == 200
    assert (stats["visible"], stats["repeats"]) == (1, 1)


async def test_a_dropped_send_shows_nothing(stage: Stage) -> None:
    await order(stage, "feishu.reply", "drop")
    with pytest.raises(aiohttp.ClientConnectionError):
        await reply_feishu(stage.env, "om_1", "a", "job-1")
    assert (await stage.client.stats())["visible"] == 0


@pytest.mark.parametrize("kind", ["cut", "drip", "slow"])
async def test_a_spoiled_answer_comes_after_the_work(stage: Stage, kind: str) -> None:
    await order(stage, "feishu.reply", kind, bytes_per_s=1000.0, delay_s=0.05)
    if kind == "cut":
        with pytest.raises(aiohttp.ClientPayloadError):
            await reply_feishu(stage.env, "om_1", "a")
    else:
        assert (await reply_feishu(stage.env, "om_1", "a"))[1]["code"] == 0
    assert (await stage.client.stats())["visible"] == 1


async def test_an_order_to_expire_tokens_refuses_that_call(stage: Stage) -> None:
    token = await feishu_token(stage.env)
    await order(stage, "feishu.reply", "expire_tokens")
    assert (await reply_feishu(stage.env, "om_1", "a", token=token))[1]["code"] == 99991663
    assert (await reply_feishu(stage.env, "om_1", "a"))[0] == 200


async def test_a_model_stream_can_break_off_or_report_an_error(stage: Stage) -> None:
    await order(stage, "model", "cut", after_tokens=2)
    with pytest.raises(aiohttp.ClientPayloadError):
        await stream_model(stage.env, "a question of some length")
    await order(stage, "model", "error_event", after_tokens=2, code="overloaded")
    raw = await stream_model(stage.env, "a question of some length")
    assert raw.count('"content"') == 2
    assert '"code": "overloaded"' in raw
    assert "[DONE]" not in raw


async def test_a_model_answer_can_be_empty_long_or_ordered(stage: Stage) -> None:
    await order(stage, "model", "empty")
    await order(stage, "model", "long", chars=5000)
    await order(stage, "model", "long", answer_text="as ordered")
    assert await ask_model(stage.env, "hi") == ""
    assert len(await ask_model(stage.env, "hi")) >= 5000
    assert await ask_model(stage.env, "hi") == "as ordered"


async def test_a_hanging_model_call_counts_as_in_flight_until_the_caller_leaves(
    stage: Stage,
) -> None:
    await order(stage, "model", "hang", after_tokens=1)
    call = asyncio.create_task(stream_model(stage.env, "hi"))

    async def in_flight(count: int) -> bool:
        return bool((await stage.client.stats())["model_in_flight"] == count)

    await wait_until(lambda: in_flight(1), "the call to start")
    call.cancel()
    await wait_until(lambda: in_flight(0), "the call to end")
    calls = [r for r in await stage.client.ledger() if r["kind"] == "model"]
    assert [c["outcome"] for c in calls] == ["abandoned"]


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"target": "moon", "kind": "status"}, "unknown target"),
        ({"target": "feishu.reply", "kind": "long"}, "has no kind"),
        ({"target": "feishu.token", "kind": "hang", "match": "x"}, "carries no text"),
        ({"target": "model", "kind": "hang", "tmies": 1}, "tmies"),
        ({"target": "model", "kind": "hang", "times": "1"}, "times"),
    ],
)
async def test_an_order_that_makes_no_sense_is_refused(
    stage: Stage, fields: dict[str, Any], reason: str
) -> None:
    with pytest.raises(ValueError, match=reason):
        await stage.client.control("faults", fields)


# --- the ledger -------------------------------------------------------------------------------


def test_an_answer_is_linked_when_its_question_is_told_late() -> None:
    ledger = Ledger()
    ledger.add_send(Send("dingtalk", "robot", "c1", "You said: question 4"))
    ledger.add_send(Send("feishu", "reply", "", "hi", message_id="om_1"))
    assert (ledger.stats()["answers"], ledger.stats()["unlinked"]) == ({"om_1": 1}, 1)
    ledger.add_event(Posted("dingtalk", "c1", "m1", "question 4", status=200))
    ledger.add_event(Posted("feishu", "c2", "om_1", "hello", status=200))
    assert ledger.stats()["answers"] == {"om_1": 1, "m1": 1}
    assert ledger.stats()["unlinked"] == ledger.stats()["unanswered"] == 0
    assert [r.kind for r in ledger.since(0, "c2")] == ["send", "event"]


def test_numbers_go_on_after_a_reset() -> None:
    ledger = Ledger()
    ledger.add_event(Posted("feishu", "c", "om_1", "a"))
    ledger.reset()
    ledger.add_event(Posted("feishu", "c", "om_2", "b"))
    assert [r.seq for r in ledger.since(0)] == [2]
    assert [r.seq for r in ledger.since(1)] == [2]
    assert ledger.since(2) == []


# --- the page ---------------------------------------------------------------------------------


async def page_records(stage: Stage, enough: Callable[[list[Any]], bool]) -> list[Any]:
    """Records as a page that is opened now sees them, read until there are enough."""
    records: dict[int, Any] = {}
    async with (
        asyncio.timeout(DEADLINE_S),
        aiohttp.ClientSession(stage.world.base_url) as http,
        http.get("/chat/stream") as stream,
    ):
        async for line in stream.content:
            if not line.startswith(b"data: "):
                continue
            value = json.loads(line.removeprefix(b"data: "))
            for record in value.get("records", [value]):
                records[record.get("seq", 0)] = record
            if enough(list(records.values())):
                break
    return list(records.values())


async def chat(stage: Stage, conversation: str, text: str) -> tuple[int, Any]:
    value = {"conversation": conversation, "text": text}
    return await post_json(stage.world.base_url + "/chat/send", value)


@pytest.mark.parametrize(
    "conversation",
    ["cid-demo-private-1", "cid-demo-group-1", "oc_demo-private-1", "oc_demo-group-1"],
)
async def test_the_page_writes_signed_messages_and_sees_the_answer(
    stage: Stage, conversation: str
) -> None:
    status, ack = await chat(stage, conversation, "<b>hello</b>")
    records = await page_records(stage, lambda rs: any(r.get("kind") == "send" for r in rs))
    event, send = records[-2:]
    assert (status, ack["status"], ack["reason"]) == (200, 200, "")
    assert (event["status"], send["message_id"]) == (200, event["message_id"])
    assert "<b>hello</b>" in send["text"]


async def test_the_page_says_why_a_message_was_not_accepted(stage: Stage) -> None:
    stage.gateway.status = 503
    _, ack = await chat(stage, "oc_demo-private-1", "hello")
    assert ack["status"] == 503
    assert "Redis" in ack["reason"]
    assert (await chat(stage, "oc_demo-private-1", " "))[0] == 400
    assert (await chat(stage, "nowhere", "hello"))[0] == 400


async def test_the_page_shows_what_dingtalk_is_answered_at_once(stage: Stage) -> None:
    stage.gateway.answers = False
    stage.gateway.ack = {"msgtype": "text", "text": {"content": "busy, please send again"}}
    await chat(stage, "cid-demo-private-1", "hello")
    sends = [r for r in await stage.client.ledger() if r["kind"] == "send"]
    assert [(s["route"], s["text"]) for s in sends] == [("ack", "busy, please send again")]


async def test_the_page_is_self_contained_and_other_origins_are_refused(stage: Stage) -> None:
    async with aiohttp.ClientSession(stage.world.base_url) as http:
        for path in ("/", "/page.css", "/page.js"):
            async with http.get(path) as answer:
                text = await answer.text()
                assert answer.status == 200
                assert "default-src 'none'" in answer.headers["Content-Security-Policy"]
                assert "https://" not in text
                assert "innerHTML" not in text
        foreign = {"Origin": "http://evil.example"}
        async with http.post("/control/reset", headers=foreign) as answer:
            assert answer.status == 400
        async with http.get("/chat/gateway") as answer:
            assert (await answer.json())["status"] == 200


async def test_new_conversations_are_numbered(stage: Stage) -> None:
    url = stage.world.base_url + "/chat/conversations"
    _, added = await post_json(url, {"platform": "feishu", "group": True})
    assert added == {
        "id": "oc_demo-group-2",
        "platform": "feishu",
        "group": True,
        "number": 2,
    }
    assert (await post_json(url, {"platform": "telegram"}))[0] == 400


def test_the_simulator_imports_nothing_of_the_gateway() -> None:
    code = (
        "import sys, tests.simulator.__main__, tests.simulator.client\n"
        "print([m for m in sys.modules if m.split('.')[0] in ('ingress', 'workers', 'shared')])"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    shown = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True
    )
    assert shown.stdout.strip() == "[]", shown.stderr
