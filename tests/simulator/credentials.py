"""The simulator's secrets and addresses, as the lines the gateway reads from its environment."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterable, Mapping
from pathlib import Path

PARTS = ("dingtalk", "feishu", "model")

_DINGTALK = "CLAWDBOT_DINGTALK__"
_FEISHU = "CLAWDBOT_FEISHU__"

DINGTALK_APP_KEY = _DINGTALK + "APP_KEY"
DINGTALK_APP_SECRET = _DINGTALK + "APP_SECRET"
DINGTALK_ROBOT_CODE = _DINGTALK + "ROBOT_CODE"
FEISHU_APP_ID = _FEISHU + "APP_ID"
FEISHU_APP_SECRET = _FEISHU + "APP_SECRET"
FEISHU_VERIFICATION_TOKEN = _FEISHU + "VERIFICATION_TOKEN"
FEISHU_ENCRYPT_KEY = _FEISHU + "ENCRYPT_KEY"
MODEL_KEY = "CLAWDBOT_AK_SECRET"
MODEL_NAME = "CLAWDBOT_MODEL__NAME"

#: Secret name → the prefix that makes it look like the platform's own. The rest is hexadecimal:
#: safe in a shell, in an env file, and never mistaken for a JSON list of secrets.
_SECRETS: Mapping[str, Mapping[str, str]] = {
    "dingtalk": {DINGTALK_APP_KEY: "ding", DINGTALK_APP_SECRET: "", DINGTALK_ROBOT_CODE: "robot"},
    "feishu": {
        FEISHU_APP_ID: "cli_",
        FEISHU_APP_SECRET: "",
        FEISHU_VERIFICATION_TOKEN: "",
        FEISHU_ENCRYPT_KEY: "",
    },
    "model": {MODEL_KEY: "sk-"},
}


class CredentialsError(Exception):
    """A credentials file can't be used; the text is for the person at the terminal."""


def read_env(path: Path) -> dict[str, str]:
    """The KEY=VALUE lines of a file the simulator wrote; empty when there is no such file.

    Raises:
        CredentialsError: the file is there but can't be read, or is something else.
    """
    try:
        lines = path.read_text("utf-8").splitlines()
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeDecodeError) as error:
        raise CredentialsError(f"can't read {path}: {error}") from error
    values = {}
    for number, line in enumerate(lines, 1):
        if not line.strip() or line.startswith("#"):
            continue
        name, equals, value = line.partition("=")
        if not equals:
            raise CredentialsError(f"{path}, line {number}: expected KEY=VALUE; delete the file")
        values[name.strip()] = value.strip()
    return values


def complete(known: Mapping[str, str], parts: Iterable[str], base_url: str) -> dict[str, str]:
    """All variables of `parts`: secrets from `known` where it has them, else new random ones.

    Addresses always follow `base_url`, so that a restart on another port stays consistent.
    """
    values: dict[str, str] = {}
    for part in parts:
        for name, prefix in _SECRETS[part].items():
            values[name] = known.get(name) or prefix + secrets.token_hex(16)
        values.update(_addresses(part, base_url))
    return values


def write_env(path: Path, values: Mapping[str, str]) -> None:
    """Write the file in one step, readable by its owner only.

    Raises:
        CredentialsError: the place can't be written.
    """
    text = "# Made by tests.simulator for this machine only.\n"
    text += "".join(f"{name}={value}\n" for name, value in values.items())
    draft = path.with_name(f"{path.name}.{os.getpid()}.draft")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        draft.unlink(missing_ok=True)
        with open(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(text)
        draft.replace(path)
    except OSError as error:
        raise CredentialsError(f"can't write {path}: {error}") from error


def _addresses(part: str, base_url: str) -> dict[str, str]:
    if part == "dingtalk":
        return {
            _DINGTALK + "API_BASE": f"{base_url}/dingtalk/api",
            _DINGTALK + "OAPI_BASE": f"{base_url}/dingtalk/oapi",
            _DINGTALK + "WEBHOOK_HOSTS": base_url.removeprefix("http://"),
        }
    if part == "feishu":
        return {_FEISHU + "API_BASE": f"{base_url}/feishu"}
    return {"CLAWDBOT_ENDPOINT": f"{base_url}/model/v1", MODEL_NAME: "clawdbot-demo"}
