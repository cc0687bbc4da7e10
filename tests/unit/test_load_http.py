"""The generator's HTTP: any answer, cut anywhere, comes to the same; nonsense is an error of that request alone."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dstui.load.agent.http import Answer, Connection, HttpError, Target, ends, request

BODY = b"data: one\n\ndata: two\n\n"


class Wire(asyncio.Transport):
    """Takes what is written; says when it was closed."""

    def __init__(self) -> None:
        super().__init__()
        self.sent = b""
        self.closed = False

    def write(self, data: object) -> None:
        assert isinstance(data, bytes)
        self.sent += data

    def abort(self) -> None:
        self.closed = True

    def is_closing(self) -> bool:
        return self.closed


def chunked(body: bytes, sizes: Sequence[int], *, extra: bytes = b"", trailer: bytes = b"") -> bytes:
    out, at = b"", 0
    for size in sizes:
        part = body[at : at + size]
        at += size
        if part:
            out += b"%x%s\r\n%s\r\n" % (len(part), extra, part)
    if body[at:]:
        out += b"%x\r\n%s\r\n" % (len(body[at:]), body[at:])
    return out + b"0\r\n" + trailer + b"\r\n"


async def answered(raw: bytes, cuts: Sequence[int], *, closes: bool = False) -> tuple[Answer, Connection]:
    connection, wire = Connection(), Wire()
    connection.connection_made(wire)
    waiter = connection.send(b"GET / HTTP/1.1\r\n\r\n")
    edges = sorted({0, len(raw), *(cut % (len(raw) + 1) for cut in cuts)})
    for begin, end in pairwise(edges):
        connection.data_received(raw[begin:end])
    if closes:
        connection.connection_lost(None)
    return await waiter, connection


def body_of(answer: Answer) -> bytes:
    return b"".join(piece for _, piece in answer.pieces)


@settings(max_examples=200, deadline=None)
@given(
    body=st.binary(max_size=400),
    sizes=st.lists(st.integers(1, 60), max_size=12),
    cuts=st.lists(st.integers(0, 2000), max_size=12),
    extra=st.sampled_from([b"", b";name=value", b" "]),
    trailer=st.sampled_from([b"", b"Checksum: x\r\n"]),
)
def test_chunks_come_to_the_same_however_they_are_cut(
    body: bytes, sizes: list[int], cuts: list[int], extra: bytes, trailer: bytes
) -> None:
    raw = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + chunked(body, sizes, extra=extra, trailer=trailer)
    answer, connection = asyncio.run(answered(raw, cuts))
    assert (answer.status, body_of(answer)) == (200, body)
    assert connection.open and connection.used
    assert [size for size, _ in ends(answer.pieces)][-1:] == ([len(body)] if body else [])


@settings(max_examples=100, deadline=None)
@given(body=st.binary(max_size=200), cuts=st.lists(st.integers(0, 2000), max_size=8), length=st.booleans())
def test_a_length_or_the_end(body: bytes, cuts: list[int], length: bool) -> None:
    head = b"HTTP/1.1 200 OK\r\n" + (b"Content-Length: %d\r\n" % len(body) if length else b"") + b"\r\n"
    answer, connection = asyncio.run(answered(head + body, cuts, closes=not length))
    assert body_of(answer) == body
    assert connection.open is length


def test_a_word_before_the_answer_is_passed_over() -> None:
    raw = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n"
    answer, _ = asyncio.run(answered(raw, [3, 30]))
    assert answer.status == 204


@pytest.mark.parametrize(
    "raw",
    [
        b"SSH-2.0-OpenSSH_9.2\r\n\r\n",
        b"HTTP/1.1 two OK\r\n\r\n",
        b"HTTP/1.1\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: many\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n",
        b"x" * 70_000,
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + b"1" * 70_000,
    ],
)
def test_what_is_no_http_is_garbled(raw: bytes) -> None:
    with pytest.raises(HttpError) as error:
        asyncio.run(answered(raw, []))
    assert error.value.kind == "garbled"


@pytest.mark.parametrize(
    "raw", [b"", b"HTTP/1.1 200", b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab"]
)  # fmt: skip
def test_a_connection_that_ends_in_the_middle_broke_off(raw: bytes) -> None:
    with pytest.raises(HttpError) as error:
        asyncio.run(answered(raw, [], closes=True))
    assert error.value.kind == "broke-off"


def test_words_that_nobody_asked_for_end_the_connection() -> None:
    async def unasked() -> bool:
        raw = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
        _, connection = await answered(raw, [])
        connection.data_received(raw)
        return connection.open

    assert asyncio.run(unasked()) is False


def test_no_header_begins_another_line() -> None:
    with pytest.raises(ValueError, match="line break"):
        request("GET", "h", "/", {"X": "a\r\nY: b"}, b"")
    assert request("POST", "h:1", "/p", {"A": "b"}, b"xy") == (
        b"POST /p HTTP/1.1\r\nHost: h:1\r\nA: b\r\nContent-Length: 2\r\n\r\nxy"
    )


Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def server(serve: Serve) -> AsyncIterator[int]:
    tasks: set[asyncio.Task[None]] = set()

    async def served(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        await serve(reader, writer)
        writer.close()
        with suppress(OSError):
            await writer.wait_closed()

    running = await asyncio.start_server(served, "127.0.0.1", 0)
    try:
        yield running.sockets[0].getsockname()[1]
    finally:
        running.close()
        await asyncio.gather(*tasks)


async def test_a_connection_is_kept_and_replaced_when_the_server_closed_it() -> None:
    connections = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        # Two answers, then the connection is closed without a word, as after a keep-alive's time.
        with suppress(asyncio.IncompleteReadError, OSError):
            for _ in range(2):
                await reader.readuntil(b"\r\n\r\n")
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")

    async with server(serve) as port:
        target = Target("127.0.0.1", port)
        for _ in range(5):
            answer = await target.ask(request("GET", "h", "/", {}, b""), 5.0)
            assert body_of(answer) == b"ok"
        target.close()
    assert connections == 3


async def test_nobody_there_is_refused() -> None:
    async with server(lambda _reader, _writer: asyncio.sleep(0)) as port:
        pass
    with pytest.raises(HttpError) as error:
        await Target("127.0.0.1", port).ask(request("GET", "h", "/", {}, b""), 5.0)
    assert error.value.kind == "refused"


async def test_a_name_that_is_unknown_is_refused() -> None:
    with pytest.raises(HttpError) as error:
        await Target("no-such-host.invalid", 80).resolve()
    assert error.value.kind == "refused"
