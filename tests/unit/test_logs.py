"""Logs: one JSON object a line, with the trace id, without secrets."""

from __future__ import annotations

import json
import logging
import re
import threading
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared import logs

logger = logging.getLogger("ingress.test")


@pytest.fixture
def configure():
    """`logs.configure`, undone afterwards. pytest's own handlers come and go with each phase."""
    root = logging.getLogger()
    flags = logging.logThreads, logging.logProcesses, logging.logMultiprocessing

    def call(service: str = "ingress", **options) -> None:
        root.handlers.clear()  # unclosed: pytest goes on with them
        logs.configure(service, level="INFO", **options)

    yield call
    for handler in [h for h in root.handlers if isinstance(h.formatter, logs.LineFormatter)]:
        root.removeHandler(handler)
        handler.close()
    logging.captureWarnings(False)
    logging.logThreads, logging.logProcesses, logging.logMultiprocessing = flags


@pytest.fixture
def lines(configure, capsys):
    """Called first, starts logging; afterwards, gives the lines."""

    def call() -> list[dict]:
        if not any(isinstance(h.formatter, logs.LineFormatter) for h in logging.root.handlers):
            configure()
        return [json.loads(line) for line in capsys.readouterr().out.splitlines()]

    return call


def formatted(message: str, **metadata) -> str:
    record = logging.LogRecord("ingress", logging.INFO, "", 0, message, (), None)
    record.metadata = metadata
    return logs.LineFormatter("ingress").format(record)


def test_a_line_has_exactly_the_six_fields(lines):
    lines()
    with logs.bind_trace("t1"):
        logs.log(logger, logging.INFO, "event.accepted", bot="default", waiting=3)

    (line,) = lines()

    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", line.pop("timestamp"))
    assert line == {
        "level": "INFO",
        "service": "ingress",
        "trace_id": "t1",
        "message": "event.accepted",
        "metadata": {"bot": "default", "waiting": 3},
    }


def test_the_usual_way_of_logging_makes_the_same_line(lines):
    lines()
    logger.info("event.%s", "accepted", extra={"metadata": {"bot": "b"}, "attempt": 2})

    (line,) = lines()

    assert (line["message"], line["trace_id"]) == ("event.accepted", "")
    assert line["metadata"] == {"bot": "b", "attempt": 2}


def test_the_timestamp_is_the_records_time_in_utc():
    record = logging.LogRecord("ingress", logging.INFO, "", 0, "x", (), None)
    record.created, record.msecs = 1_700_000_000.0625, 62.0

    line = json.loads(logs.LineFormatter("ingress").format(record))

    assert line["timestamp"] == "2023-11-14T22:13:20.062Z"


def test_a_trace_ends_with_its_block_and_stays_in_its_thread(lines):
    lines()

    def elsewhere():
        logger.info("elsewhere")

    with logs.bind_trace("outer"):
        with logs.bind_trace("inner"):
            logger.info("inside")
        thread = threading.Thread(target=elsewhere)
        thread.start()
        thread.join()
        logger.info("after")

    assert [line["trace_id"] for line in lines()] == ["inner", "", "outer"]


def test_a_prepared_line_is_the_same_line(lines):
    lines()
    line = logs.Line(logger, logging.WARNING, "x.seen", bot="群", token="t0p", url="http://h/?s=1")
    line.log("t1")
    line.log("t2")
    with logs.bind_trace("t1"):
        logs.log(logger, logging.WARNING, "x.seen", bot="群", token="t0p", url="http://h/?s=1")

    first, second, usual = lines()

    assert list(first) == list(usual)
    assert {**first, "timestamp": ""} == {**usual, "timestamp": ""}
    assert second["trace_id"] == "t2"
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", first["timestamp"])
    assert first["metadata"] == {"bot": "群", "token": "***", "url": "http://h/"}


def test_a_prepared_line_below_the_level_shows_nothing(lines):
    lines()
    logs.Line(logger, logging.DEBUG, "x.seen").log("t1")

    assert lines() == []


def test_lines_below_the_level_cost_nothing_and_show_nothing(lines):
    lines()
    logs.log(logger, logging.DEBUG, "x.seen")

    assert lines() == []


def test_values_json_does_not_know_become_text(lines):
    lines()
    logs.log(
        logger,
        logging.INFO,
        "x.seen",
        error_class=ValueError,
        raw=b"ab",
        many={1},
        pair=(1, None),
        nan=float("nan"),
        inner={3: {"deep": [True, 1.5]}},
    )

    assert lines()[0]["metadata"] == {
        "error_class": "<class 'ValueError'>",
        "raw": "b'ab'",
        "many": [1],
        "pair": [1, None],
        "nan": "nan",
        "inner": {"3": {"deep": [True, 1.5]}},
    }


def test_metadata_that_holds_itself_ends_somewhere(lines):
    lines()
    loop: dict = {}
    loop["again"] = loop

    logs.log(logger, logging.INFO, "x.seen", loop=loop)

    assert lines()[0]["metadata"]["loop"]


def test_an_exception_stands_in_metadata_on_the_same_line(lines):
    lines()
    try:
        raise ValueError("two\nlines")
    except ValueError as error:
        logs.log(logger, logging.ERROR, "x.failed", error=error)
        logger.exception("y.failed")

    first, second = lines()

    assert first["metadata"]["exception"].endswith("ValueError: two\nlines")
    assert second["metadata"]["exception"] == first["metadata"]["exception"]


@given(st.text(st.characters(), max_size=60), st.dictionaries(st.text(max_size=8), st.text()))
def test_whatever_is_logged_is_one_line_of_json(message, metadata):
    line = formatted(message, **{f"x{key}": value for key, value in metadata.items()})

    assert len(line.splitlines()) == 1
    assert json.loads(line)["service"] == "ingress"


_TRICKY = st.lists(
    st.sampled_from(
        [
            *("token", "sign", "'", '"', "\\", "=", ":", " ", "https://", "@", "?", "/", "a"),
            *("session=", "'secret': '", '"token":"', "\n", "Authorization: ", "Bearer ", ","),
        ]
    ),
    max_size=25,
).map("".join)


@given(_TRICKY, _TRICKY, _TRICKY)
def test_scrubbing_never_breaks_the_json(message, one, two):
    line = json.loads(formatted(message, one=one, two=[two], end="kept"))

    assert set(line) == {"timestamp", "level", "service", "trace_id", "message", "metadata"}
    assert line["metadata"]["end"] == "kept"


def test_a_long_text_without_a_url_costs_no_more_than_its_length() -> None:
    started = time.process_time()
    logs.scrub(f"{'a' * 65_536} ://")

    assert time.process_time() - started < 1  # each letter as a scheme's first: 8 s


@pytest.mark.parametrize(
    "name",
    [
        *("secret", "token", "sign", "signature", "authorization", "password", "webhook"),
        *("ak_secret", "app_secret", "encrypt_key", "master_key", "akSecret", "appSecret"),
        *("encryptKey", "sessionWebhook", "session_webhook", "X-Lark-Signature", "accessToken"),
        *("tenant_access_token", "verification_token", "Authorization", "APP_SECRET"),
    ],
)
def test_values_under_telling_names_are_hidden_at_any_depth(name):
    line = formatted("x", **{name: "hush"}, inner={"list": [{name: ["hush"]}]})

    assert "hush" not in line
    assert json.loads(line)["metadata"] == {name: "***", "inner": {"list": [{name: "***"}]}}


@pytest.mark.parametrize("name", ["design", "assigned", "tokens", "app_key", "signal", "session"])
def test_innocent_names_are_shown(name):
    assert json.loads(formatted("x", **{name: "v"}))["metadata"] == {name: "v"}


def test_numbers_are_no_secrets():
    assert json.loads(formatted("x", token=5, signature=None))["metadata"]["token"] == 5


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("GET https://h:1/p?a=hush done", "GET https://h:1/p done"),
        ("redis://u:hush@h:6379/0", "redis://h:6379/0"),
        ("https://h/a@b#hush", "https://h/a@b"),
        ("to https://oapi.dingtalk.com/robot/sendBySession?session=hush now", "to *** now"),
        (
            "POST /robot/sendBySession?session=hush HTTP/1.1",
            "POST /robot/sendBySession?session=***",
        ),
        ("?access_token=hush&x=1", "?access_token=***&x=1"),
        ("Authorization: Bearer hush", "Authorization: Bearer ***"),
        ("authorization: Basic hush", "authorization: Basic ***"),
        ("BEARER hush", "BEARER ***"),
        ("{'app_secret': 'hush', 'a': 1}", "{'app_secret': '***', 'a': 1}"),
        ('{"accessToken": "hush"}', '{"accessToken": "***"}'),
        ('{"sessionWebhook":"https://h/hush"}', '{"sessionWebhook":"***"}'),
        (r'{"x": "{\"encryptKey\": \"hush\"}"}', r'{"x": "{\"encryptKey\": \"***\"}"}'),
    ],
)
def test_text_loses_what_is_secret_wherever_it_stands(text, shown):
    def fail():
        raise ValueError(text)

    try:
        fail()
    except ValueError as error:
        record = logging.LogRecord("x", 40, "", 0, text, (), (type(error), error, None))
        record.metadata = {"note": text, "list": [text]}
        line = logs.LineFormatter("ingress").format(record)

    assert "hush" not in line
    parsed = json.loads(line)
    assert parsed["message"].startswith(shown)
    assert parsed["metadata"]["note"] == parsed["message"]


def test_foreign_loggers_come_out_in_the_same_shape(lines):
    lines()
    names = ["celery.worker", "aiohttp.access", "kombu.connection", "redis.connection"]
    for name in names:
        logging.getLogger(name).warning("%s?session=hush", name)

    found = lines()

    assert [line["metadata"] for line in found] == [{"logger": name} for name in names]
    assert [line["message"] for line in found] == [f"{name}?session=***" for name in names]


def test_arguments_that_do_not_fit_the_message_do_not_stop_the_line(lines):
    lines()
    logger.info("%d and %d", "one")

    assert lines()[0]["message"] == "%d and %d"


def test_the_file_has_the_same_lines_and_survives_logrotate(tmp_path, configure, capsys):
    configure("worker", directory=tmp_path / "logs")
    file = tmp_path / "logs/worker.log"

    logger.info("first 中文 \udc80")
    file.rename(tmp_path / "old.log")
    logger.info("second")

    old, new = (tmp_path / "old.log").read_text("utf-8"), file.read_text("utf-8")
    assert old + new == capsys.readouterr().out
    assert json.loads(old)["message"] == "first 中文 \udc80"
    assert json.loads(new)["message"] == "second"
