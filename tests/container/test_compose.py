"""compose.yaml on a real engine: it answers, it heals, it leaves nothing behind."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.container.stack import ComposeStack, get, post, wait_for

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900)]

CHATS = ("cid-demo-private-1", "cid-demo-group-1", "oc_demo-private-1", "oc_demo-group-1")

CONFIGURED = """\
CLAWDBOT_DINGTALK__APP_KEY=dingtest
CLAWDBOT_DINGTALK__APP_SECRET=["new", "old"]
CLAWDBOT_FEISHU__APP_ID=cli_test
CLAWDBOT_FEISHU__APP_SECRET=secret
CLAWDBOT_FEISHU__ENCRYPT_KEY=key
CLAWDBOT_ENDPOINT=https://model.invalid/v1
CLAWDBOT_AK_SECRET=sk-test
"""


def test_without_credentials_both_platforms_are_answered(stack: ComposeStack) -> None:
    status, body = get(f"{stack.ingress}/ready?deep=1")
    assert status == 200, body
    for chat in CHATS:
        stack.say(chat, f"hello {chat}")
    for chat in CHATS:
        wait_for(lambda chat=chat: bool(stack.replies(f"hello {chat}")), f"an answer in {chat}")


def test_flower_asks_for_a_password_and_the_simulators_page_does_not(stack: ComposeStack) -> None:
    assert get(stack.flower)[0] == 401
    assert get(stack.simulator)[0] == 200


@pytest.mark.parametrize("service", ["ingress", "worker-process", "worker-push", "beat", "flower"])
def test_a_killed_container_comes_back(stack: ComposeStack, service: str) -> None:
    before = stack.restarts(service)
    stack.kill(service)
    wait_for(lambda: stack.restarts(service) > before, f"a restart of {service}")
    wait_for(lambda: get(f"{stack.ingress}/ready?deep=1")[0] == 200, "ready again")
    stack.say("oc_demo-private-1", f"after {service}")
    wait_for(lambda: bool(stack.replies(f"after {service}")), "an answer after the kill")


def test_a_message_in_work_when_its_worker_is_killed_gets_one_answer(stack: ComposeStack) -> None:
    post(f"{stack.simulator}/control/model", {"latency_s": 3})
    stack.say("cid-demo-private-1", "killed in work")
    wait_for(lambda: _model_is_asked(stack), "the model to be asked")
    stack.kill("worker-process")
    post(f"{stack.simulator}/control/model", {"latency_s": 0})
    wait_for(lambda: bool(stack.replies("killed in work")), "an answer after the kill")
    stack.say("cid-demo-private-1", "behind it")
    wait_for(lambda: bool(stack.replies("behind it")), "an answer to the next message")
    assert len(stack.replies("killed in work")) == 1


def test_the_runtime_image_is_lean_and_without_rights(stack: ComposeStack) -> None:
    wanted = """
import errno, importlib.util, os
assert os.getuid() == 10001, os.getuid()
found = [n for n in ("pip", "setuptools", "pytest", "tests", "compose")
         if importlib.util.find_spec(n)]
assert not found, found
try:
    open("/app/file", "w")
except OSError as error:
    print(errno.errorcode[error.errno])
"""
    for service in ("ingress", "worker-process", "worker-push", "beat", "flower"):
        said = stack.compose("exec", "-T", service, "python", "-c", wanted)
        assert said.strip() == "EROFS", service


def test_the_operators_command_knows_the_stacks_settings(stack: ComposeStack) -> None:
    said = stack.compose("exec", "-T", "worker-process", "clawdbot", "queue")
    assert "dingtalk:" in said
    assert "feishu:" in said


def test_with_credentials_nothing_is_simulated_and_nothing_stays(
    engine: None, tmp_path: Path
) -> None:
    env_file = tmp_path / "env"
    env_file.write_text(CONFIGURED, "utf-8")
    stack = ComposeStack(f"clawdbot-real-{os.getpid()}", env_file)
    try:
        stack.up("ingress")
        assert get(f"{stack.ingress}/ready")[0] == 200
        assert get(stack.simulator)[0] == 0
        settings = stack.compose("exec", "-T", "ingress", "cat", ".run/env")
        assert "CLAWDBOT_" not in settings
        stack.compose("down", "--timeout", "5")
        assert not stack.leftovers("container")
        assert not stack.leftovers("network")
        assert stack.leftovers("volume"), "what Redis holds stays"
    finally:
        stack.remove()
    assert not stack.leftovers("volume")


def _model_is_asked(stack: ComposeStack) -> bool:
    return '"model_in_flight": 0' not in get(f"{stack.simulator}/control/stats?answers=0")[1]
