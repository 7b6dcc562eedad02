"""`clawdbot doctor` on what a network reaches: clocks, platforms, models, the ingress's port."""

from __future__ import annotations

import json
import socket
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import redis
from click.testing import CliRunner

from shared.cli import cli
from shared.state.key_ring import DAY_MS, Entry, KeyRing
from shared.state.keys import RingKeys
from tests.integration.doctor import Doctor, http
from tests.integration.gateway import KNOWN, environ_for, simulator
from tests.integration.slow_server import sending, serving, stall
from tests.redis_server import RedisServer, free_port
from tests.simulator import credentials as names
from tests.simulator.world import World

MASTER = "a master key of tests"
NTP_EPOCH_S = 2_208_988_800


@pytest.fixture(scope="module")
def simulated() -> Iterator[World]:
    with simulator(free_port()) as running:
        yield running


@pytest.fixture
def world(simulated: World) -> Iterator[World]:
    simulated.keys.keys = {KNOWN[names.MODEL_KEY]}
    yield simulated
    simulated.faults.clear()
    simulated.date_offset_s = 0


@pytest.fixture
def doctor(
    redis_server: RedisServer,
    redis_client: redis.Redis,
    world: World,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Doctor:
    monkeypatch.chdir(tmp_path)  # no `.env` lies there
    return Doctor(environ_for(redis_server.url, world.base_url, MASTER_KEY=MASTER))


# --- clocks -------------------------------------------------------------------------------------


def test_a_right_clock_is_well(doctor: Doctor) -> None:
    report = doctor.look("clock")

    assert report.exit_code == 0
    seen = {f["seen"].rpartition(" ")[2] for f in report.findings("clock") if f["status"] == "ok"}
    assert "Redis" in seen
    assert len(seen) == 2  # both platforms are one host here


@pytest.mark.parametrize(
    ("offset_s", "status", "words"),
    [
        (60, "warning", "behind"),
        (-60, "warning", "ahead of"),
        (3600, "failed", "refused as stale"),
        (-3600, "failed", "refused as stale"),
    ],
)
def test_a_clock_that_differs_from_a_platforms_is_told(
    offset_s: float, status: str, words: str, doctor: Doctor, world: World
) -> None:
    world.date_offset_s = offset_s

    report = doctor.look("clock")

    assert report.exit_code == (1 if status == "failed" else 0)
    assert words in json.dumps(report.only("clock", status))


@contextmanager
def ntp_server(answer: bytes) -> Iterator[str]:
    """Answers every packet so."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))

        def serve() -> None:
            packet, sender = sock.recvfrom(512)
            if answer and len(packet) == 48:
                sock.sendto(answer, sender)

        threading.Thread(target=serve, daemon=True).start()
        yield f"127.0.0.1:{sock.getsockname()[1]}"


def ntp_answer(offset_s: float, *, stratum: int = 2) -> bytes:
    seconds = int(time.time() + offset_s) + NTP_EPOCH_S
    return struct.pack("!BB38xII", 0b00_100_100, stratum, seconds, 0)


@pytest.mark.parametrize(
    ("offset_s", "status"), [(0, "ok"), (60, "warning"), (-900, "failed")], ids=str
)
def test_a_time_server_is_asked(offset_s: float, status: str, doctor: Doctor) -> None:
    with ntp_server(ntp_answer(offset_s)) as server:
        report = doctor.look("clock", more=("--ntp", server))

    (finding,) = [f for f in report.findings("clock") if f"server {server}" in f["seen"]]
    assert finding["status"] == status


@pytest.mark.parametrize("answer", [b"", b"x", ntp_answer(0, stratum=0), bytes(48)], ids=len)
def test_a_time_server_that_says_nothing_useful_is_left_out(answer: bytes, doctor: Doctor) -> None:
    with ntp_server(answer) as server:
        report = doctor.look("clock", more=("--ntp", server))

    (finding,) = [f for f in report.findings("clock") if f"server {server}" in f["seen"]]
    assert finding["status"] == "skipped"
    assert report.exit_code == 0


def test_a_name_server_that_keeps_silent_costs_no_other_clock(
    doctor: Doctor, monkeypatch: pytest.MonkeyPatch
) -> None:
    known, over = socket.getaddrinfo, threading.Event()

    def look_up(host: str, *more: Any, **options: Any) -> Any:
        if host == "ntp.example":
            over.wait()
        return known(host, *more, **options)

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    report = doctor.look("clock", more=("--ntp", "ntp.example"))
    over.set()

    assert report.exit_code == 0
    assert "NTP server ntp.example gives no time" in json.dumps(report.findings("clock"))


# --- signatures and credentials -----------------------------------------------------------------


def test_every_bot_tells_calls_apart_and_has_its_token(doctor: Doctor) -> None:
    report = doctor.look("signatures", "credentials")

    assert report.exit_code == 0
    assert report.statuses("signatures") == report.statuses("credentials") == ["ok", "ok"]


def test_a_broken_signature_is_seen(doctor: Doctor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shared.platforms.dingtalk.caller.SIGNATURE", "another")

    finding = doctor.look("signatures").only("signatures", "failed")

    assert "other than the published example" in finding["seen"]


@pytest.mark.parametrize("platform", ["DINGTALK", "FEISHU"])
def test_a_wrong_secret_is_the_platforms_word(platform: str, doctor: Doctor) -> None:
    report = doctor.look("credentials", **{f"{platform}__APP_SECRET": "not-the-secret"})

    finding = report.only("credentials", "failed")
    assert finding["seen"].startswith(platform.lower())
    assert "id and secret" in finding["cure"]
    assert "not-the-secret" not in json.dumps(report.value)


@pytest.mark.parametrize("platform", ["DINGTALK", "FEISHU"])
def test_a_rotation_before_its_change_in_the_console_is_a_warning(
    platform: str, doctor: Doctor
) -> None:
    known = doctor.environ[f"CLAWDBOT_{platform}__APP_SECRET"]
    listed = json.dumps(["coming-secret", known])

    report = doctor.look("credentials", **{f"{platform}__APP_SECRET": listed})

    finding = report.only("credentials", "warning")
    assert finding["seen"].endswith("for secret 2 of the list; refused before it: 1")
    assert not {"coming-secret", known} & set(json.dumps(report.value).split('"'))


STRANGERS = [
    ("DINGTALK", http("404 Not Found")),
    ("FEISHU", http("404 Not Found")),
    ("FEISHU", http("403 Forbidden", "<html>")),  # DingTalk itself says so to who calls too often
]


@pytest.mark.parametrize(("platform", "answer"), STRANGERS)
def test_what_is_not_the_platform_says_nothing_of_the_secret(
    platform: str, answer: bytes, doctor: Doctor
) -> None:
    with serving(sending(answer)) as server:
        base = f"http://127.0.0.1:{server.port}"
        report = doctor.look("credentials", **{f"{platform}__API_BASE": base})

    finding = report.only("credentials", "failed")
    assert "is not the platform" in finding["means"]
    assert "API_BASE" in finding["cure"]


def test_a_platform_that_can_not_be_reached_is_told(doctor: Doctor) -> None:
    report = doctor.look("credentials", FEISHU__API_BASE=f"http://127.0.0.1:{free_port()}")

    assert "firewall" in report.only("credentials", "failed")["cure"]


def test_without_bots_there_is_nothing_to_look_at(doctor: Doctor) -> None:
    bare = {n: "" for n in doctor.environ if n.startswith(("CLAWDBOT_DING", "CLAWDBOT_FEISHU"))}
    report = Doctor({**doctor.environ, **bare}).look("signatures", "credentials", "rehearsal")

    for check in ("signatures", "credentials", "rehearsal"):
        assert report.statuses(check) == ["skipped"]


# --- models and keys ----------------------------------------------------------------------------


def test_a_model_is_asked_for_one_token(doctor: Doctor, world: World) -> None:
    before = len(world.ledger.since(0))
    report = doctor.look("models")

    assert "default answered in" in report.only("models", "ok")["seen"]
    assert len(world.ledger.since(0)) == before + 1


def test_a_refused_key_is_told(doctor: Doctor, world: World) -> None:
    world.keys.keys = {"another"}

    finding = doctor.look("models").only("models", "failed")

    assert "model:401" in finding["seen"]
    assert "clawdbot keys verify --model default" in finding["fix"]


def test_a_model_that_is_not_there_is_told(doctor: Doctor) -> None:
    finding = doctor.look("models", MODEL__NAME="nonsense").only("models", "failed")

    assert "CLAWDBOT_MODEL__NAME" in finding["cure"]


def test_an_endpoint_that_can_not_be_reached_is_told(doctor: Doctor) -> None:
    finding = doctor.look("models", ENDPOINT=f"http://127.0.0.1:{free_port()}/v1").only(
        "models", "failed"
    )
    assert "can't be reached" in finding["means"]


def test_a_failing_endpoint_is_told(doctor: Doctor, world: World) -> None:
    world.faults.order({"target": "model", "kind": "status", "status": 500, "times": 9})

    assert "status page" in doctor.look("models").only("models", "failed")["cure"]


def test_an_endpoint_that_fails_for_long_is_told(doctor: Doctor, world: World) -> None:
    gone = {"status": 503, "headers": {"Retry-After": "300"}, "times": 9}
    world.faults.order({"target": "model", "kind": "status", **gone})

    finding = doctor.look("models").only("models", "failed")
    assert "dead letters" in finding["means"]
    assert "status page" in finding["cure"]


def test_without_redis_the_settings_own_key_is_tried(doctor: Doctor) -> None:
    report = doctor.look("models", REDIS__URL=f"redis://127.0.0.1:{free_port()}/0")

    assert report.statuses("models") == ["ok"]


def test_every_model_of_a_chain_is_asked(doctor: Doctor, world: World) -> None:
    backup = {
        "MODELS__BACKUP__ENDPOINT": f"{world.base_url}/backup/v1",
        "MODELS__BACKUP__NAME": "clawdbot-demo",
        "MODELS__BACKUP__AK_SECRET": "wrong",
        "MODEL__CHAIN": "default,backup",
    }
    report = doctor.look("models", **backup)

    assert sorted(report.statuses("models")) == ["failed", "ok"]
    assert report.only("models", "failed")["seen"].startswith("backup: ")


def rotated(doctor: Doctor, world: World) -> None:
    """The model's ring has a key that works."""
    world.keys.keys.add("sk-ring")
    rotate = ["keys", "rotate", "--stdin"]
    done = CliRunner(env=doctor.environ).invoke(cli, rotate, input="sk-ring")
    assert done.exit_code == 0, done.output


def test_keys_of_the_settings_have_no_date_and_those_of_a_ring_do(
    doctor: Doctor, world: World
) -> None:
    assert "know no date" in doctor.look("keys").only("keys", "ok")["seen"]
    rotated(doctor, world)

    report = doctor.look("keys", "models")

    active, replaced = (each["seen"] for each in report.findings("keys"))
    assert "active, good for 90 days" in active
    assert "replaced, good for 7 days" in replaced
    assert report.statuses("models") == ["ok"]


@pytest.mark.parametrize(
    ("days", "words"), [(3, "ends in 3.0 days"), (-2, "ended 2.0 days ago")], ids=str
)
def test_a_key_at_its_end_is_warned_of(
    days: int, words: str, doctor: Doctor, world: World, redis_client: redis.Redis
) -> None:
    rotated(doctor, world)
    entry = KeyRing.from_json(redis_client.get(RingKeys("default").ring)).active
    assert entry is not None
    ends_ms = int(redis_client.time()[0]) * 1000 + days * DAY_MS
    aged = Entry(entry.id, entry.state, entry.sealed, entry.created_ms, ends_ms)
    redis_client.set(RingKeys("default").ring, KeyRing((aged,)).to_json())

    assert words in doctor.look("keys").only("keys", "warning")["seen"]


def test_a_key_that_no_master_key_opens_is_told(doctor: Doctor, world: World) -> None:
    rotated(doctor, world)

    report = doctor.look("keys", MASTER_KEY="another master key")

    active, replaced = report.findings("keys")
    for each in (active, replaced):
        assert each["status"] == "failed"
        assert "CLAWDBOT_MASTER_KEY" in each["cure"]


# --- the ingress's port -------------------------------------------------------------------------


def test_an_ingress_that_is_not_there_is_told(doctor: Doctor) -> None:
    report = doctor.look("ingress", "rehearsal", PORT=str(free_port()))

    assert "nobody answers" in report.only("ingress", "failed")["seen"]
    assert set(report.statuses("rehearsal")) == {"skipped"}


FOREIGN = [
    http("200 OK", '{"ok":true,"status":"live"}', "Server: openclaw"),
    http("404 Not Found", "<html>", "Server: nginx"),
    http("200 OK", '{"status":"ready"}'),
]


@pytest.mark.parametrize("answer", FOREIGN, ids=["openclaw", "nginx", "look_alike"])
def test_another_program_on_the_port_is_told(answer: bytes, doctor: Doctor) -> None:
    with serving(sending(answer)) as server:
        finding = doctor.look("ingress", PORT=str(server.port)).only("ingress", "failed")

    assert "another program answers" in finding["seen"]
    assert any("ss -ltnp" in line for line in finding["fix"])


def test_another_host_may_be_named(doctor: Doctor) -> None:
    ready = http("200 OK", '{"status":"ready","reasons":[],"workers":{}}')
    with serving(sending(ready)) as server:
        named = ("--ingress", f"http://127.0.0.1:{server.port}")
        report = doctor.look("ingress", more=named)

    assert report.statuses("ingress") == ["ok"]


@pytest.mark.parametrize(
    ("why", "status"),
    [("no live worker for queue push", "warning"), ("redis: TimeoutError", "failed")],
)
def test_an_ingress_that_is_not_ready_says_why(why: str, status: str, doctor: Doctor) -> None:
    unready = http(
        "503 Service Unavailable", json.dumps({"status": "unavailable", "reasons": [why]})
    )
    with serving(sending(unready)) as server:
        report = doctor.look("ingress", PORT=str(server.port))

    assert why in report.only("ingress", status)["seen"]


def test_a_bot_without_room_is_a_warning(doctor: Doctor) -> None:
    body = '{"status":"ready","reasons":[],"full":["feishu/default"],"workers":{}}'
    with serving(sending(http("200 OK", body))) as server:
        report = doctor.look("ingress", PORT=str(server.port))

    assert "feishu/default" in report.only("ingress", "warning")["seen"]


# --- never hanging ------------------------------------------------------------------------------


@pytest.mark.matrix
def test_it_ends_in_its_time_when_everything_takes_connections_and_says_nothing(
    doctor: Doctor,
) -> None:
    with serving(stall) as silent, ntp_server(b"") as ntp:
        url = f"http://127.0.0.1:{silent.port}"
        started = time.monotonic()
        report = doctor.look(
            more=("--flower", url, "--ntp", ntp),
            PORT=str(silent.port),
            REDIS__URL=f"redis://127.0.0.1:{silent.port}/0",
            REDIS__SOCKET_TIMEOUT_S="30",
            ENDPOINT=f"{url}/v1",
            DINGTALK__API_BASE=url,
            FEISHU__API_BASE=url,
            PUBLIC_URL=url,
        )
        took_s = time.monotonic() - started

    assert took_s < 35  # 29 promised, and a busy machine
    assert report.exit_code == 1
    for check in ("redis", "ingress", "credentials", "models", "public"):
        assert "failed" in report.statuses(check)
