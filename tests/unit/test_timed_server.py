"""The server with known times: what it says is what vLLM says, and nobody who misbehaves ends more than himself."""

from __future__ import annotations

import http.client
import json
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from dstui.load.timed_http import REQUEST_LIMIT, RequestError, next_request
from dstui.load.timed_server import TimedServer, Timing

FAST = Timing(first=0.0, gap=0.0005, tokens=20)
STREAM = {"model": "m", "messages": [{"role": "user", "content": "hi"}], "stream": True}


@contextmanager
def served(timing: Timing = FAST) -> Iterator[TimedServer]:
    server = TimedServer(timing)
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        yield server
    finally:
        server.stop()
        thread.join(10)
    assert not thread.is_alive()


@contextmanager
def opened(url: str) -> Iterator[http.client.HTTPConnection]:
    connection = http.client.HTTPConnection(url.removeprefix("http://"), timeout=10)
    try:
        yield connection
    finally:
        connection.close()


def events(connection: http.client.HTTPConnection, asked: object = STREAM) -> list[dict[str, object] | str]:
    connection.request("POST", "/v1/chat/completions", json.dumps(asked), {"Content-Type": "application/json"})
    answer = connection.getresponse()
    assert answer.status == 200
    assert answer.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert answer.headers["transfer-encoding"] == "chunked"
    return parsed(answer.read())


def parsed(body: bytes) -> list[dict[str, object] | str]:
    assert body.endswith(b"\n\n")
    said = [event.removeprefix("data: ") for event in body.decode().split("\n\n")[:-1]]
    return [each if each == "[DONE]" else json.loads(each) for each in said]


def content(found: list[dict[str, object] | str]) -> list[str]:
    return [c["delta"]["content"] for e in found if isinstance(e, dict) for c in e["choices"]]  # type: ignore[attr-defined]


def get(connection: http.client.HTTPConnection, path: str) -> dict[str, object]:
    connection.request("GET", path)
    answer = connection.getresponse()
    assert answer.status == 200
    found = json.loads(answer.read())
    assert isinstance(found, dict)
    return found


def raw(server: TimedServer, *sent: bytes) -> bytes:
    """All that comes back until the server ends the connection."""
    with socket.create_connection(("127.0.0.1", int(server.url.rsplit(":", 1)[1])), timeout=10) as peer:
        for each in sent:
            peer.sendall(each)
        received = b""
        while piece := peer.recv(65536):
            received += piece
    return received


def request(asked: object, headers: str = "") -> bytes:
    body = json.dumps(asked).encode()
    return (
        f"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\n{headers}Content-Length: {len(body)}\r\n\r\n".encode() + body
    )


def test_an_answer_is_role_pieces_end_usage_done() -> None:
    with served() as server, opened(server.url) as connection:
        found = events(connection, {**STREAM, "stream_options": {"include_usage": True}})
    assert found[-1] == "[DONE]"
    role, *pieces, usage = [each for each in found if isinstance(each, dict)]
    assert role["choices"][0]["delta"] == {"role": "assistant", "content": ""}  # type: ignore[index]
    assert [p["choices"][0]["finish_reason"] for p in pieces] == [None] * 19 + ["length"]  # type: ignore[index]
    assert usage["choices"] == []
    assert usage["usage"]["completion_tokens"] == 20  # type: ignore[index]
    assert len({each["id"] for each in (role, *pieces, usage)}) == 1


def test_no_usage_unless_it_is_wanted() -> None:
    with served() as server, opened(server.url) as connection:
        found = events(connection)
    assert found[-1] == "[DONE]"
    assert not any("usage" in each for each in found if isinstance(each, dict))


@pytest.mark.parametrize("timing", [FAST, Timing(0.0, 0.0, 20), Timing(0.001, 0.0, 20)])
@pytest.mark.parametrize("tokens", [1, 2, 20])
def test_fewer_tokens_when_fewer_are_wanted(timing: Timing, tokens: int) -> None:
    with served(timing) as server, opened(server.url) as connection:
        assert content(events(connection, {**STREAM, "max_tokens": tokens})) == ["", *[" token"] * tokens]
        assert content(events(connection, {**STREAM, "max_completion_tokens": tokens + 100}))[1:] == [" token"] * 20


def test_a_connection_is_kept_and_counted() -> None:
    with served() as server, opened(server.url) as connection:
        assert get(connection, "/v1/models")["data"][0]["id"] == "timed"  # type: ignore[index]
        kept = connection.sock
        for _ in range(3):
            assert len(content(events(connection))) == 21
        late = get(connection, "/lateness")
        connection.request("GET", "/health")
        assert connection.getresponse().read() == b""
        assert connection.sock is kept
    assert late["pieces"] == 60
    assert 0 <= float(str(late["p50"])) <= float(str(late["p99"])) <= float(str(late["max"]))


def test_without_a_piece_there_is_no_lateness() -> None:
    with served() as server, opened(server.url) as connection:
        late = get(connection, "/lateness")
    assert (late["pieces"], late["p50"], late["first_p99"]) == (0, None, None)


def test_a_whole_answer_when_no_stream_is_wanted() -> None:
    with served() as server, opened(server.url) as connection:
        connection.request("POST", "/v1/chat/completions", json.dumps({**STREAM, "stream": False, "max_tokens": 3}))
        found = json.loads(connection.getresponse().read())
    assert found["choices"][0]["message"]["content"] == " token token token"
    assert found["usage"]["completion_tokens"] == 3


def test_two_requests_at_once_are_answered_in_turn() -> None:
    with served() as server:
        received = raw(server, request(STREAM) + request({**STREAM, "max_tokens": 2}, "Connection: close\r\n"))
    first, second = received.split(b"HTTP/1.1 200 OK\r\n")[1:]
    assert (first.count(b'"content":" token"'), second.count(b'"content":" token"')) == (20, 2)
    assert received.endswith(b"data: [DONE]\n\n\r\n0\r\n\r\n")


def test_a_request_may_come_byte_by_byte() -> None:
    with served() as server:
        whole = request(STREAM, "Connection: close\r\n")
        received = raw(server, *(whole[at : at + 1] for at in range(len(whole))))
    assert received.count(b'"content":" token"') == 20


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"\x16\x03\x01\x02\x00\x01", b"400"),
        (b"hello\r\n\r\n", b"400"),
        (b"GET / HTTP/1.0\r\n\r\n", b"400"),
        (b"GET http://x/ HTTP/1.1\r\n\r\n", b"400"),
        (b"GET /" + b"a" * 70_000, b"400"),
        (b"POST /v1/chat/completions HTTP/1.1\r\nContent-Length: 999999999\r\n\r\n", b"400"),
        (b"POST /v1/chat/completions HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n", b"411"),
    ],
)
def test_garbage_ends_its_own_connection_only(sent: bytes, status: bytes) -> None:
    with served() as server, opened(server.url) as other:
        assert len(content(events(other))) == 21
        assert raw(server, sent).startswith(b"HTTP/1.1 " + status)
        assert len(content(events(other))) == 21


@pytest.mark.parametrize("asked", ["{", "[]", "null", "{}", '{"messages": "hi"}', "[" * 100_000])
def test_a_body_that_is_no_request_is_told_so(asked: str) -> None:
    with served() as server, opened(server.url) as connection:
        connection.request("POST", "/v1/chat/completions", asked)
        answer = connection.getresponse()
        assert answer.status == 400
        assert json.loads(answer.read())["error"]["code"] == 400
        assert len(content(events(connection))) == 21


@pytest.mark.parametrize(("method", "path", "status"), [("GET", "/nothing", 404), ("POST", "/health", 405)])
def test_what_is_not_there(method: str, path: str, status: int) -> None:
    with served() as server, opened(server.url) as connection:
        connection.request(method, path)
        answer = connection.getresponse()
        assert (answer.status, "detail" in json.loads(answer.read())) == (status, True)


@pytest.mark.parametrize("timing", [Timing(0.0, 0.001, 10_000), Timing(0.0, 0.0, 1_000_000), Timing(60.0, 1.0, 5)])
def test_a_client_that_leaves_takes_nothing_with_it(timing: Timing) -> None:
    with served(timing) as server, opened(server.url) as other:
        assert get(other, "/lateness")["pieces"] == 0
        for _ in range(5):
            with socket.create_connection(("127.0.0.1", int(server.url.rsplit(":", 1)[1])), timeout=10) as peer:
                peer.sendall(request(STREAM))
                assert peer.recv(100).startswith(b"HTTP/1.1 200 OK")
        assert "pieces" in get(other, "/lateness")


def test_a_reader_that_does_not_read_gets_all_when_it_does() -> None:
    """More than the sockets hold, as fast as it is taken: the server waits for the reader."""
    tokens = 60_000
    with served(Timing(0.0, 0.0, tokens)) as server, socket.create_connection(
        ("127.0.0.1", int(server.url.rsplit(":", 1)[1])), timeout=20
    ) as peer:  # fmt: skip
        peer.sendall(request(STREAM, "Connection: close\r\n"))
        with opened(server.url) as other:
            while not get(other, "/lateness")["unread"]:
                pass
        received = bytearray()
        while piece := peer.recv(1 << 20):
            received += piece
    assert received.count(b'"content":" token"') == tokens
    assert received.endswith(b"0\r\n\r\n")


@pytest.mark.parametrize("timing", [Timing(0.01, 0.001, 30), Timing(0.0, 0.0, 300)])
def test_many_streams_get_all_their_tokens(timing: Timing) -> None:
    with served(timing) as server:
        peers = [
            socket.create_connection(("127.0.0.1", int(server.url.rsplit(":", 1)[1])), timeout=20) for _ in range(200)
        ]
        for peer in peers:
            peer.sendall(request(STREAM, "Connection: close\r\n"))
        for peer in peers:
            received = b""
            while piece := peer.recv(65536):
                received += piece
            peer.close()
            assert received.count(b'"content":" token"') == timing.tokens
            assert received.endswith(b"0\r\n\r\n")


def test_a_request_that_is_too_long_is_refused_before_it_is_there() -> None:
    head = b"POST / HTTP/1.1\r\nContent-Length: %d\r\n\r\n"
    with pytest.raises(RequestError):
        next_request(head % REQUEST_LIMIT)
    assert next_request(head % 10 + b"123456789") is None
    found = next_request(head % 10 + b"0123456789rest")
    assert found is not None
    assert (found.body, found.last) == (b"0123456789", False)


def test_as_a_process_it_says_where_it_is_and_ends_with_its_input() -> None:
    argv = [sys.executable, "-m", "dstui.load.timed_server", "--first", "0", "--gap", "0.0001", "--tokens", "5"]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None and process.stdout is not None
        url = process.stdout.readline().strip()
        with opened(url) as connection:
            assert len(content(events(connection))) == 6
        port = url.rsplit(":", 1)[1]
        second = subprocess.run([*argv, "--port", port], stdin=subprocess.DEVNULL, capture_output=True, text=True)
        assert second.returncode == 1
        assert second.stderr.startswith(f"port {port} cannot be had: Address already in use")
        process.stdin.close()
        assert process.wait(10) == 0


@pytest.mark.parametrize("argument", [["--tokens", "0"], ["--gap", "-1"], ["--first", "nan"], ["--port", "x"]])
def test_times_that_are_none(argument: list[str]) -> None:
    argv = [sys.executable, "-m", "dstui.load.timed_server", *argument]
    done = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    assert done.returncode == 2
