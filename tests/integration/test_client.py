"""The client against real sockets: every end of a call, and what its error says."""

from __future__ import annotations

import gzip
import logging
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from shared.errors import (
    DeadlineError,
    NotSentError,
    OutcomeUnknownError,
    PermanentError,
    TaskError,
)
from shared.http_values import HttpRequest, HttpResponse
from tests.integration import deadline_matrix
from tests.integration import slow_server as slow
from workers.client import MAX_BODY_BYTES, HttpClient
from workers.deadline import Deadline

ROOT = Path(__file__).parents[2]
PATIENT_S = 30.0  #: for calls that must not meet their deadline, on a busy machine


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return slow.make_certificate(tmp_path_factory.mktemp("tls"))


@pytest.fixture
def client(certificate: Path) -> Iterator[HttpClient]:
    with deadline_matrix.made_client(certificate) as made:
        yield made


def send(client: HttpClient, url: str) -> HttpResponse:
    return client.send(HttpRequest("POST", url, body=b"{}"), Deadline(PATIENT_S))


def test_calls_end_at_their_deadline_on_threads(certificate: Path) -> None:
    assert deadline_matrix.run_all(certificate) == {}


@pytest.mark.parametrize("kind", ["gevent", "fork"])
def test_calls_end_at_their_deadline_in_a_process_of_kind(kind: str, certificate: Path) -> None:
    run = subprocess.run(
        [sys.executable, "-m", "tests.integration.deadline_matrix", kind, str(certificate)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert run.returncode == 0, run.stdout + run.stderr


def test_answer_has_status_lower_case_headers_and_body(client: HttpClient) -> None:
    reply = b"HTTP/1.1 404 Not Found\r\nX-Code: 7\r\nContent-Length: 3\r\n\r\nno!"
    with slow.serving(slow.sending(reply)) as server:
        response = send(client, server.url)
    assert response == HttpResponse(404, {"x-code": "7", "content-length": "3"}, b"no!")


def test_request_is_sent_as_it_was_built(client: HttpClient) -> None:
    seen: list[bytes] = []

    def record(sock: socket.socket) -> None:
        seen.append(slow.read_request(sock))
        sock.sendall(slow.OK)

    with slow.serving(record) as server:
        request = HttpRequest("POST", server.url, {"X-Trace-Id": "abc"}, "你好".encode())
        client.send(request, Deadline(PATIENT_S))
    head, _, body = seen[0].partition(b"\r\n\r\n")
    assert head.startswith(b"POST /send?access_token=secret-token HTTP/1.1\r\n")
    assert {b"X-Trace-Id: abc", b"Content-Length: 6"} <= set(head.split(b"\r\n"))
    assert body == "你好".encode()


def test_connection_is_kept_for_the_next_call(client: HttpClient) -> None:
    with slow.serving(slow.answer) as server:
        for _ in range(5):
            assert send(client, server.url).status == 200
        assert server.connections == 1


def test_connection_is_kept_after_a_stream_read_to_its_done_mark(
    client: HttpClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("workers.client.FINISH_S", PATIENT_S)
    with slow.serving(slow.streaming(b"data: [DONE]\n\n")) as server:
        for _ in range(3):
            with client.stream(HttpRequest("POST", server.url), Deadline(PATIENT_S)) as response:
                assert next(response.chunks()) == b"data: [DONE]\n\n"
                response.finish()
        assert server.connections == 1


def test_connection_of_an_abandoned_stream_is_closed(client: HttpClient) -> None:
    with slow.serving(slow.drip_chunks) as server:
        with client.stream(HttpRequest("POST", server.url), Deadline(PATIENT_S)) as response:
            next(response.chunks())
        assert server.closed.wait(10)


def test_keep_alive_connection_closed_by_the_server_is_replaced(client: HttpClient) -> None:
    def answer_and_close(sock: socket.socket) -> None:
        slow.read_request(sock)
        sock.sendall(slow.OK)

    with slow.serving(answer_and_close) as server:
        for _ in range(3):
            server.closed.clear()
            assert send(client, server.url).status == 200
            assert server.closed.wait(10)
        assert server.connections == 3


def test_deadline_of_a_finished_call_does_not_end_its_kept_connection(client: HttpClient) -> None:
    def answer_then_slowly(sock: socket.socket) -> None:
        slow.read_request(sock)
        sock.sendall(slow.OK)
        slow.read_request(sock)
        time.sleep(0.6)
        sock.sendall(slow.OK)

    with slow.serving(answer_then_slowly) as server:
        client.send(HttpRequest("POST", server.url), Deadline(0.3))
        assert send(client, server.url).status == 200
        assert server.connections == 1


def test_one_deadline_covers_several_calls(client: HttpClient) -> None:
    deadline = Deadline(0.6)
    with slow.serving(slow.answer) as good, slow.serving(slow.stall) as bad:
        assert client.send(HttpRequest("GET", good.url), deadline).status == 200
        started = time.monotonic()
        with pytest.raises(OutcomeUnknownError, match="deadline:total"):
            client.send(HttpRequest("GET", bad.url), deadline)
        assert time.monotonic() - started < 5
        with pytest.raises(DeadlineError):
            client.send(HttpRequest("GET", good.url), deadline)


def test_progress_lets_a_stream_go_on_past_the_stall_budget(client: HttpClient) -> None:
    with slow.serving(slow.drip_chunks) as server:
        deadline = Deadline(PATIENT_S, 1.0)
        started = time.monotonic()
        with client.stream(HttpRequest("POST", server.url), deadline) as response:
            for _ in response.chunks():
                deadline.progress()
                if time.monotonic() - started > 1.5:
                    break


def test_first_bytes_of_a_stream_are_seen_at_once(client: HttpClient) -> None:
    first_was_seen = threading.Event()

    def wait_for_reader(_: socket.socket) -> None:
        first_was_seen.wait(10)

    with (
        slow.serving(slow.streaming(b"data: 1\n\n", then=wait_for_reader)) as server,
        client.stream(HttpRequest("POST", server.url), Deadline(PATIENT_S)) as response,
    ):
        chunks = response.chunks()
        assert next(chunks) == b"data: 1\n\n"
        assert not server.closed.is_set()
        first_was_seen.set()
        with pytest.raises(OutcomeUnknownError):
            next(chunks)


@pytest.mark.parametrize(
    "behave", [slow.close_after_request, slow.cut_in_headers, slow.cut_in_body]
)
def test_connection_cut_after_the_request_leaves_the_outcome_unknown(
    behave: slow.Behaviour, client: HttpClient
) -> None:
    with slow.serving(behave) as server:
        with pytest.raises(OutcomeUnknownError) as caught:
            send(client, server.url)
        assert caught.value.code == "http:cut"
        assert server.connections == 1  # never repeated


def test_malformed_answer_leaves_the_outcome_unknown(client: HttpClient) -> None:
    reply = b"HTTP/1.1 200 OK\r\nContent-Length: 1, 2\r\n\r\n{}"
    with slow.serving(slow.sending(reply)) as server, pytest.raises(OutcomeUnknownError):
        send(client, server.url)


def test_answer_given_before_the_whole_request_was_taken_counts(client: HttpClient) -> None:
    def refuse(sock: socket.socket) -> None:
        sock.recv(1)
        sock.sendall(b"HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\n\r\n")

    with slow.serving(refuse) as server:
        request = HttpRequest("POST", server.url, body=deadline_matrix.BIG_BODY)
        assert client.send(request, Deadline(PATIENT_S)).status == 413
        assert server.connections == 1


def test_information_before_the_answer_is_passed_over(client: HttpClient) -> None:
    reply = b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n" + slow.OK
    with slow.serving(slow.sending(reply)) as server:
        response = send(client, server.url)
    assert (response.status, "link" in response.headers) == (200, False)


def test_connection_that_says_more_than_it_was_asked_is_not_kept(client: HttpClient) -> None:
    with slow.serving(slow.sending(slow.OK + slow.OK)) as server:
        for _ in range(2):
            assert send(client, server.url).status == 200
        assert server.connections == 2


@pytest.mark.parametrize(
    ("path", "target"),
    [
        ("/a b", b"/a%20b"),
        ("/a?q=%E4#part", b"/a?q=%E4"),
        ("/a/你", b"/a/%E4%BD%A0"),
        ("?q=1", b"/?q=1"),
        ("", b"/"),
    ],
)
def test_odd_addresses_are_made_fit_to_send(path: str, target: bytes, client: HttpClient) -> None:
    seen: list[bytes] = []

    def record(sock: socket.socket) -> None:
        seen.append(slow.read_request(sock))
        sock.sendall(slow.OK)

    with slow.serving(record) as server:
        origin = f"http://127.0.0.1:{server.port}"
        client.send(HttpRequest("GET", origin.replace("//", "//user:pw@") + path), Deadline(30))
    assert seen[0].startswith(
        b"GET " + target + b" HTTP/1.1\r\nHost: 127.0.0.1:%d\r\n" % server.port
    )


def test_answer_over_the_cap_is_not_read(client: HttpClient) -> None:
    def pour(sock: socket.socket) -> None:
        slow.read_request(sock)
        sock.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
        slow.drip(sock, bytes(MAX_BODY_BYTES // 4))

    with slow.serving(pour) as server:
        with pytest.raises(OutcomeUnknownError, match="http:too_large"):
            send(client, server.url)
        assert server.closed.wait(10)


def test_refused_connection_is_not_sent_after_three_tries(client: HttpClient) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    with pytest.raises(NotSentError) as caught:
        send(client, f"http://127.0.0.1:{port}/send?access_token=secret-token")
    assert caught.value.code == "http:connect"
    assert f"127.0.0.1:{port}: Connection refused" in caught.value.detail


def test_unsent_request_is_tried_again(certificate: Path) -> None:
    asked: list[str] = []

    def fails_once(host: str, port: int, **_: Any) -> list[Any]:
        asked.append(host)
        if len(asked) == 1:
            raise socket.gaierror("try again")
        return [(socket.AF_INET, socket.SOCK_STREAM, 0, "", ("127.0.0.1", port))]

    with (
        slow.serving(slow.answer) as server,
        deadline_matrix.made_client(certificate, getaddrinfo=fails_once) as client,
    ):
        url = server.url.replace("127.0.0.1", "bot.example")
        assert send(client, url).status == 200
        assert send(client, url).status == 200
    assert len(asked) == 2  # the second answer is remembered


def test_unknown_host_is_not_sent(certificate: Path) -> None:
    asked: list[str] = []

    def fail(host: str, *_: Any, **__: Any) -> list[Any]:
        asked.append(host)
        raise socket.gaierror("no such name")

    with (
        deadline_matrix.made_client(certificate, getaddrinfo=fail) as client,
        pytest.raises(NotSentError, match="http:dns"),
    ):
        send(client, "http://host.invalid/")
    assert asked == ["host.invalid"] * 3


def test_second_address_is_used_when_the_first_refuses(certificate: Path) -> None:
    def two(_: str, port: int, **__: Any) -> list[Any]:
        return [
            (socket.AF_INET, socket.SOCK_STREAM, 0, "", ("127.0.0.2", port)),
            (socket.AF_INET, socket.SOCK_STREAM, 0, "", ("127.0.0.1", port)),
        ]

    with (
        slow.serving(slow.answer) as server,
        deadline_matrix.made_client(certificate, getaddrinfo=two) as client,
    ):
        assert send(client, server.url.replace("127.0.0.1", "bot.example")).status == 200


def test_tls_is_verified(certificate: Path) -> None:
    client = HttpClient(concurrency=1)
    server = slow.Server(slow.over_tls(slow.answer, certificate))
    with pytest.raises(NotSentError, match="not trusted"):
        send(client, server.url.replace("http:", "https:"))
    server.close()
    client.close()


def test_name_in_the_certificate_is_verified(certificate: Path) -> None:
    def local(_: str, port: int, **__: Any) -> list[Any]:
        return [(socket.AF_INET, socket.SOCK_STREAM, 0, "", ("127.0.0.1", port))]

    with (
        slow.serving(slow.over_tls(slow.answer, certificate)) as server,
        deadline_matrix.made_client(certificate, getaddrinfo=local) as client,
        pytest.raises(NotSentError, match="not trusted"),
    ):
        send(client, f"https://other.example:{server.port}/")


def test_trusted_tls_is_answered_on_a_kept_connection(
    certificate: Path, client: HttpClient
) -> None:
    with slow.serving(slow.over_tls(slow.answer, certificate)) as server:
        for _ in range(3):
            assert send(client, server.url.replace("http:", "https:")).status == 200
        assert server.connections == 1


def test_ca_bundle_is_taken_from_the_environment(
    certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificate))
    client = HttpClient(concurrency=1)
    with slow.serving(slow.over_tls(slow.answer, certificate)) as server:
        assert send(client, server.url.replace("http:", "https:")).status == 200
    client.close()


def test_redirect_is_returned_and_not_followed(client: HttpClient) -> None:
    reply = b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n"
    with slow.serving(slow.sending(reply)) as server:
        assert send(client, server.url).status == 302


def test_endless_redirect_body_is_not_read(client: HttpClient) -> None:
    def redirect(sock: socket.socket) -> None:
        slow.read_request(sock)
        sock.sendall(b"HTTP/1.1 302 Found\r\nLocation: /\r\n\r\n")
        slow.drip(sock, bytes(MAX_BODY_BYTES // 4))

    with slow.serving(redirect) as server, pytest.raises(OutcomeUnknownError, match="too_large"):
        send(client, server.url)


def test_cookies_are_not_kept(client: HttpClient) -> None:
    seen: list[bytes] = []

    def set_cookie(sock: socket.socket) -> None:
        for _ in range(2):
            seen.append(slow.read_request(sock))
            sock.sendall(b"HTTP/1.1 200 OK\r\nSet-Cookie: a=b\r\nContent-Length: 2\r\n\r\n{}")

    with slow.serving(set_cookie) as server:
        for _ in range(2):
            send(client, server.url)
    assert len(seen) == 2
    assert b"Cookie" not in seen[1]


def test_encoded_body_is_unpacked(client: HttpClient) -> None:
    packed = gzip.compress(b'{"code":0}')
    head = b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n"
    with slow.serving(slow.sending(head % len(packed) + packed)) as server:
        assert send(client, server.url).json_object() == {"code": 0}


def test_proxy_of_the_environment_is_used_but_not_for_its_exceptions(
    certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    proxied: list[bytes] = []

    def proxy(sock: socket.socket) -> None:
        proxied.append(slow.read_request(sock))
        sock.sendall(slow.OK)

    def here(_: str, port: int, **__: Any) -> list[Any]:
        return [(socket.AF_INET, socket.SOCK_STREAM, 0, "", ("127.0.0.1", port))]

    with slow.serving(proxy) as server, slow.serving(slow.answer) as direct:
        monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{server.port}")
        monkeypatch.setenv("no_proxy", "near.example")
        with deadline_matrix.made_client(certificate, getaddrinfo=here) as client:
            near = direct.url.replace("127.0.0.1", "near.example")
            assert send(client, near).status == 200
            assert send(client, "http://bot.example/x").status == 200
    assert len(proxied) == 1
    assert proxied[0].startswith(b"POST http://bot.example/x HTTP/1.1\r\n")


def test_this_machine_is_not_asked_for_by_a_proxy(
    certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with slow.serving(slow.close_after_request) as server, slow.serving(slow.answer) as direct:
        monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{server.port}")
        with deadline_matrix.made_client(certificate) as client:
            assert send(client, direct.url).status == 200
            assert send(client, direct.url.replace("127.0.0.1", "localhost")).status == 200
    assert server.connections == 0


def test_hanging_proxy_tunnel_ends_at_the_deadline_with_nothing_sent(
    certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with slow.serving(slow.stall) as server:
        monkeypatch.setenv("https_proxy", f"http://127.0.0.1:{server.port}")
        with deadline_matrix.made_client(certificate) as client:
            wrong = deadline_matrix.timed(
                lambda: deadline_matrix.send(client, "https://bot.example/"), DeadlineError
            )
    assert wrong == ""


@pytest.mark.parametrize(
    "request_",
    [
        HttpRequest("POST", "ftp://127.0.0.1/"),
        HttpRequest("POST", "no address"),
        HttpRequest("POST", "http://127.0.0.1:1/", {"X-Bad": "a\r\nb"}),
    ],
    ids=["scheme", "address", "header"],
)
def test_request_that_cannot_be_sent_is_permanent(
    request_: HttpRequest, client: HttpClient
) -> None:
    with pytest.raises(PermanentError, match="http:request"):
        client.send(request_, Deadline(PATIENT_S))


@pytest.mark.parametrize(
    "behave",
    [
        slow.close_after_request,
        slow.cut_in_body,
        slow.sending(b"HTTP/1.1 200 OK\r\nbroken header line\r\n\r\n"),
        slow.sending(b"nonsense\r\n"),
    ],
)
def test_no_error_and_no_log_line_shows_the_address(
    behave: slow.Behaviour, client: HttpClient, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    with slow.serving(behave) as server, pytest.raises(TaskError) as caught:
        send(client, server.url)
    logging.getLogger("test").error("failed", exc_info=caught.value)
    assert "failed" in caplog.text
    assert "secret-token" not in caplog.text


def test_no_file_descriptor_is_left_open(certificate: Path) -> None:
    def open_files() -> int:
        return len(os.listdir("/proc/self/fd"))

    behaviours = (slow.answer, slow.close_after_request, slow.cut_in_body, slow.drip_until_close)
    before = open_files()
    for behave in behaviours:
        with slow.serving(behave) as server, deadline_matrix.made_client(certificate) as client:
            for _ in range(3):
                try:
                    client.send(HttpRequest("POST", server.url), Deadline(0.3))
                except OutcomeUnknownError:
                    continue
    give_up = time.monotonic() + 10
    while open_files() > before and time.monotonic() < give_up:
        time.sleep(0.01)  # the server's threads are still closing their ends
    assert open_files() <= before


def test_many_calls_at_once_each_end_at_their_own_deadline(certificate: Path) -> None:
    ended: list[type[BaseException]] = []

    def call(client: HttpClient, url: str) -> None:
        try:
            client.send(HttpRequest("POST", url), Deadline(0.5))
        except OutcomeUnknownError as error:
            ended.append(type(error))

    with (
        slow.serving(slow.drip_body) as server,
        deadline_matrix.made_client(certificate) as client,
    ):
        threads = [threading.Thread(target=call, args=(client, server.url)) for _ in range(50)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(20)
    assert ended == [OutcomeUnknownError] * 50
