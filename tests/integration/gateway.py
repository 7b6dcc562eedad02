"""What the tests of the ingress and of the stages share: settings, signed calls, running parts."""

from __future__ import annotations

import asyncio
import itertools
import json
import secrets
import socket
import threading
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
from aiohttp import web
from prometheus_client.parser import text_string_to_metric_families

from ingress.__main__ import make_runner
from shared.config import Settings, load_settings
from shared.config.follow import Follower
from tests.simulator import credentials as names
from tests.simulator.app import build_app
from tests.simulator.client import SignedClient
from tests.simulator.events import Request
from tests.simulator.signing import dingtalk_sign, feishu_encrypt, feishu_signature
from tests.simulator.world import World

HERE = Path(__file__).parent  #: a folder without `.env`
NOWHERE = "http://127.0.0.1:9"  #: where the platforms live for tests that send nothing

#: The same secrets in every run: a failure can be repeated.
KNOWN = {
    names.DINGTALK_APP_KEY: "dingtest1",
    names.DINGTALK_APP_SECRET: "dingtalk-app-secret-1",
    names.DINGTALK_ROBOT_CODE: "robottest1",
    names.FEISHU_APP_ID: "cli_test1",
    names.FEISHU_APP_SECRET: "feishu-app-secret-1",
    names.FEISHU_VERIFICATION_TOKEN: "feishu-verification-token-1",
    names.FEISHU_ENCRYPT_KEY: "feishu-encrypt-key-1",
    names.MODEL_KEY: "sk-test-1",
}
CREDENTIALS = names.complete(KNOWN, names.PARTS, NOWHERE)

_numbers = itertools.count(1)


def environ_for(redis_url: str, base_url: str = NOWHERE, **changes: str) -> dict[str, str]:
    """The environment of a gateway; `changes` are without `CLAWDBOT_`."""
    changed = {f"CLAWDBOT_{name}": value for name, value in changes.items()}
    parts = names.complete(KNOWN, names.PARTS, base_url)
    return {**parts, "CLAWDBOT_REDIS__URL": redis_url, **changed}


def settings_for(redis_url: str, base_url: str = NOWHERE, **changes: str) -> Settings:
    """The settings of that environment."""
    return load_settings(environ_for(redis_url, base_url, **changes), cwd=HERE)


def build(platform: str, text: str = "hello", **more: Any) -> Request:
    """A signed call as the platform makes it."""
    client = SignedClient(more.pop("credentials", CREDENTIALS), "", more.pop("simulator", NOWHERE))
    return client.build(platform, conversation=more.pop("conversation", "c1"), text=text, **more)


def plain_body(platform: str, text: str = "hello", **more: Any) -> dict[str, Any]:
    """What the platform would say in that call, before it is encrypted."""
    unsealed = {**CREDENTIALS, names.FEISHU_ENCRYPT_KEY: ""}
    body: dict[str, Any] = json.loads(build(platform, text, credentials=unsealed, **more)[2])
    return body


def sign(platform: str, body: bytes | Mapping[str, Any], path: str = "") -> Request:
    """`body` signed as the platform does; a mapping is encrypted first where it encrypts."""
    if isinstance(body, Mapping):
        body = json.dumps(body, ensure_ascii=False).encode("utf-8", "surrogatepass")
        if platform == "feishu":
            body = encrypt(body)
    path = path or f"/{platform}/webhook"
    if platform == "dingtalk":
        timestamp = str(int(time.time() * 1000))
        signature = dingtalk_sign(timestamp, CREDENTIALS[names.DINGTALK_APP_SECRET])
        return path, {"timestamp": timestamp, "sign": signature}, body
    timestamp, nonce = str(int(time.time())), str(next(_numbers))
    key = CREDENTIALS[names.FEISHU_ENCRYPT_KEY]
    headers = {
        "X-Lark-Request-Timestamp": timestamp,
        "X-Lark-Request-Nonce": nonce,
        "X-Lark-Signature": feishu_signature(timestamp, nonce, key, body),
    }
    return path, headers, body


def encrypt(plain: bytes) -> bytes:
    """A Feishu body around `plain`."""
    key = CREDENTIALS[names.FEISHU_ENCRYPT_KEY]
    return json.dumps({"encrypt": feishu_encrypt(key, plain, secrets.token_bytes(16))}).encode()


@dataclass(frozen=True)
class Answer:
    """A whole HTTP answer of the gateway."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class Gateway:
    """A running ingress. app: None for one in another process."""

    port: int
    session: aiohttp.ClientSession
    app: web.Application | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def post(self, request: Request, path: str = "", **options: Any) -> Answer:
        given, headers, body = request
        return await self.call("POST", path or given, data=body, headers=headers, **options)

    async def get(self, path: str) -> Answer:
        return await self.call("GET", path)

    async def call(self, method: str, path: str, **options: Any) -> Answer:
        async with self.session.request(method, self.url + path, **options) as response:
            return Answer(response.status, response.headers.copy(), await response.read())

    async def metric(self, name: str, **labels: str) -> float | None:
        """One sample of /metrics; None when it is not there."""
        for family in text_string_to_metric_families((await self.get("/metrics")).body.decode()):
            for sample in family.samples:
                if sample.name == name and sample.labels == labels:
                    return sample.value
        return None

    async def outcome(self, platform: str, outcome: str, bot: str = "default") -> float | None:
        """How many webhook calls ended so."""
        labels = {"platform": platform, "bot": bot, "outcome": outcome}
        return await self.metric("clawdbot_ingress_requests_total", **labels)


@contextmanager
def listener(
    family: socket.AddressFamily = socket.AF_INET, address: Any = ("127.0.0.1", 0)
) -> Iterator[socket.socket]:
    """A socket to listen on. One of IPv6 takes IPv4, too, where its address allows it."""
    with socket.socket(family, socket.SOCK_STREAM) as made:
        if family == socket.AF_INET6:
            made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        made.bind(address)
        yield made


@asynccontextmanager
async def serving(
    settings: Settings, on: socket.socket, follower: Follower | None = None
) -> AsyncIterator[Gateway]:
    """The ingress of `settings` on this socket, in this loop. follower: holds them, if given."""
    runner = make_runner(settings, follower)
    await runner.setup()
    try:
        await web.SockSite(runner, on).start()
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=10)) as session:
            yield Gateway(_port(on), session, runner.app)
    finally:
        await runner.cleanup()


@asynccontextmanager
async def running(settings: Settings, follower: Follower | None = None) -> AsyncIterator[Gateway]:
    """Likewise on a free port."""
    with listener() as free:
        async with serving(settings, free, follower) as gateway:
            yield gateway


def _port(on: socket.socket) -> int:
    return 0 if on.family == socket.AF_UNIX else int(on.getsockname()[1])


@contextmanager
def simulator(port: int) -> Iterator[World]:
    """Platforms and model on `port`, in a thread of their own: stages are synchronous."""
    base_url = f"http://127.0.0.1:{port}"
    world = World(names.complete(KNOWN, names.PARTS, base_url), names.PARTS, NOWHERE, base_url)
    loop = asyncio.new_event_loop()
    runner = web.AppRunner(build_app(world), handler_cancellation=True, shutdown_timeout=0.1)
    loop.run_until_complete(runner.setup())
    loop.run_until_complete(web.TCPSite(runner, "127.0.0.1", port).start())
    thread = threading.Thread(target=loop.run_forever, name="simulator", daemon=True)
    thread.start()
    try:
        yield world
    finally:
        asyncio.run_coroutine_threadsafe(runner.cleanup(), loop).result(10)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)
        loop.close()
