"""The obvious build's webhook: verify, `SET NX`, `task.delay`."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import os

import redis.asyncio
from aiohttp import web
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import CBC
from cryptography.hazmat.primitives.padding import PKCS7

from tests.bench.obvious.tasks import answer

ENCRYPT_KEY = os.environ["CLAWDBOT_FEISHU__ENCRYPT_KEY"]
DAY_S = 24 * 3600

client = redis.asyncio.from_url(os.environ["OBVIOUS_REDIS_URL"])


async def webhook(request: web.Request) -> web.Response:
    body = await request.read()
    if not is_signed(request, body):
        raise web.HTTPUnauthorized
    message = decrypt(json.loads(body)["encrypt"])["event"]["message"]
    if await client.set(f"seen:{message['message_id']}", 1, nx=True, ex=DAY_S):
        answer.delay(message["message_id"], json.loads(message["content"])["text"])
    return web.json_response({})


def is_signed(request: web.Request, body: bytes) -> bool:
    timestamp = request.headers["X-Lark-Request-Timestamp"]
    nonce = request.headers["X-Lark-Request-Nonce"]
    signature = hashlib.sha256(f"{timestamp}{nonce}{ENCRYPT_KEY}".encode() + body).hexdigest()
    return hmac.compare_digest(signature, request.headers["X-Lark-Signature"])


def decrypt(text: str) -> dict:
    raw = base64.b64decode(text)
    key = hashlib.sha256(ENCRYPT_KEY.encode()).digest()
    decryptor = Cipher(AES(key), CBC(raw[:16])).decryptor()
    unpadder = PKCS7(128).unpadder()
    padded = decryptor.update(raw[16:]) + decryptor.finalize()
    return json.loads(unpadder.update(padded) + unpadder.finalize())


if __name__ == "__main__":
    app = web.Application()
    app.router.add_post("/feishu/webhook", webhook)
    web.run_app(app, host="127.0.0.1", port=int(os.environ["CLAWDBOT_PORT"]), print=None)
