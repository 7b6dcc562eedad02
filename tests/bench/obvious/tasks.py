"""The obvious build's worker: one Celery task with default settings, plain `requests`."""

from __future__ import annotations

import json
import os
import time

import requests
from celery import Celery

ENDPOINT = os.environ["CLAWDBOT_ENDPOINT"]
FEISHU = os.environ["CLAWDBOT_FEISHU__API_BASE"]
TIMEOUT_S = 5

app = Celery("obvious", broker=os.environ["OBVIOUS_REDIS_URL"])
token = {"value": "", "expires": 0.0}


@app.task(autoretry_for=(requests.RequestException,), retry_backoff=True)
def answer(message_id: str, text: str) -> None:
    reply(message_id, ask(text))


def ask(text: str) -> str:
    response = requests.post(
        f"{ENDPOINT}/chat/completions",
        headers={"Authorization": f"Bearer {os.environ['CLAWDBOT_AK_SECRET']}"},
        json={"model": "bench", "messages": [{"role": "user", "content": text}]},
        timeout=TIMEOUT_S,
    )
    response.raise_for_status()
    return response.json()["choices"][0]["message"]["content"]


def reply(message_id: str, text: str) -> None:
    response = requests.post(
        f"{FEISHU}/open-apis/im/v1/messages/{message_id}/reply",
        headers={"Authorization": f"Bearer {tenant_token()}"},
        json={"msg_type": "text", "content": json.dumps({"text": text})},
        timeout=TIMEOUT_S,
    )
    response.raise_for_status()


def tenant_token() -> str:
    if token["expires"] < time.time():
        response = requests.post(
            f"{FEISHU}/open-apis/auth/v3/tenant_access_token/internal",
            json={
                "app_id": os.environ["CLAWDBOT_FEISHU__APP_ID"],
                "app_secret": os.environ["CLAWDBOT_FEISHU__APP_SECRET"],
            },
            timeout=TIMEOUT_S,
        )
        body = response.json()
        token.update(value=body["tenant_access_token"], expires=time.time() + body["expire"] - 60)
    return token["value"]
