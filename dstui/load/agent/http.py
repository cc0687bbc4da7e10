"""HTTP/1.1 as a load generator needs it: every piece of an answer stamped when the event loop got it, and no more.

An HTTP library wakes a coroutine for every piece of every stream, some 30 to 250 µs of a core each: at 500 streams the
client's own queue would then be most of what it measures. Here a piece costs one call of `data_received`; the only
coroutine of a request wakes when its answer is whole. All connections read into one buffer: asyncio's own reads make
room for 256 KiB each time, which costs five times as much as the read.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Mapping, Sequence
from time import perf_counter
from typing import cast

HEAD_LIMIT = 64 * 1024
BODY_LIMIT = 64 * 1024 * 1024
CONNECT_SECONDS = 10.0
_END = b"\r\n\r\n"
_BUFFER = bytearray(64 * 1024)
_VIEW = memoryview(_BUFFER)
"""Shared: what is read into it is taken out before anything else runs."""


class HttpError(Exception):
    """`kind` is a word for counting: `refused`, `broke-off`, `garbled`, `timeout`."""

    def __init__(self, kind: str, why: str) -> None:
        super().__init__(why)
        self.kind = kind


class Answer:
    """One answer. `pieces` are (seconds of `perf_counter`, bytes of the body), one for each read that brought any.

    `sent` is when its request was given to the connection, which was open then.
    """

    __slots__ = ("ended", "headers", "pieces", "sent", "size", "status")

    def __init__(self) -> None:
        self.sent = perf_counter()
        self.status = 0
        self.headers: dict[str, str] = {}
        self.pieces: list[tuple[float, bytes]] = []
        self.size = 0
        self.ended = 0.0


class Connection(asyncio.BufferedProtocol):
    """One connection, one request at a time. `used` once an answer came whole over it."""

    def __init__(self) -> None:
        self.transport: asyncio.Transport | None = None
        self.used = False
        self.heard = False
        self._answer = Answer()
        self._waiter: asyncio.Future[Answer] | None = None
        self._rest = b""
        self._left: int | None = None
        """Bytes to come of the body or of the chunk that has begun; None while a line is waited for."""
        self._state = "idle"
        self._keep = True

    @property
    def open(self) -> bool:
        return self.transport is not None and not self.transport.is_closing() and self._keep

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's are no subclass of it, and Ray runs its actors on uvloop.
        self.transport = cast("asyncio.Transport", transport)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._state == "until-close" and exc is None:
            self._finish(perf_counter())
        else:
            self._fail(HttpError("broke-off", str(exc) if exc else "the connection was closed"))
        self.transport = None

    def send(self, request: bytes) -> asyncio.Future[Answer]:
        """Sends a whole request. The future gets the Answer, or an HttpError."""
        assert self.transport is not None
        self._answer, self._rest, self._left, self.heard = Answer(), b"", None, False
        self._state = "head"
        self._waiter = asyncio.get_running_loop().create_future()
        self.transport.write(request)
        return self._waiter

    def close(self) -> None:
        """At once; a request under way ends with `broke-off`."""
        if self.transport is not None:
            self.transport.abort()

    def expire(self, seconds: float) -> None:
        """The request under way has had its time."""
        self._fail(HttpError("timeout", f"no whole answer within {seconds:g} s"))
        self.close()

    def get_buffer(self, sizehint: int) -> memoryview:
        return _VIEW

    def buffer_updated(self, nbytes: int) -> None:
        self.data_received(bytes(_VIEW[:nbytes]))

    def data_received(self, data: bytes) -> None:
        now = perf_counter()
        self.heard = True
        if self._state == "idle":
            # Something that nobody asked for: the connection cannot be trusted any more.
            self.close()
            return
        try:
            self._take(data, now)
        except (ValueError, IndexError) as error:
            self._fail(HttpError("garbled", f"the server's answer is no HTTP ({error})"))
            self.close()

    def _take(self, data: bytes, now: float) -> None:
        rest = self._rest + data if self._rest else data
        if self._state == "head":
            end = rest.find(_END)
            if end < 0:
                if len(rest) > HEAD_LIMIT:
                    raise ValueError("its head is too long")
                self._rest = rest
                return
            self._head(rest[:end])
            rest = rest[end + 4 :]
            if self._state == "head":
                # 1xx: the real answer follows.
                self._rest = b""
                if rest:
                    self._take(rest, now)
                return
        self._rest = b""
        if self._state == "chunks":
            self._chunks(rest, now)
        elif self._state == "trailer":
            self._rest = rest
            self._trailer(now)
        elif rest or self._left == 0:
            self._plain(rest, now)

    def _head(self, head: bytes) -> None:
        first, *lines = head.decode("latin-1").split("\r\n")
        words = first.split(" ", 2)
        if not words[0].startswith("HTTP/1.") or not words[1].isdigit():
            raise ValueError(f"it begins with {first[:40]!r}")
        status = int(words[1])
        if 100 <= status < 200:
            return
        answer = self._answer
        answer.status = status
        for line in lines:
            name, _, value = line.partition(":")
            answer.headers[name.strip().lower()] = value.strip()
        headers = answer.headers
        self._keep = headers.get("connection", "").lower() != "close" and words[0] != "HTTP/1.0"
        if "chunked" in headers.get("transfer-encoding", "").lower():
            self._state = "chunks"
        elif status in (204, 304):
            self._state, self._left = "plain", 0
        elif "content-length" in headers:
            self._state, self._left = "plain", int(headers["content-length"])
        else:
            self._state, self._keep = "until-close", False

    def _plain(self, rest: bytes, now: float) -> None:
        if self._left is not None:
            rest = rest[: self._left]
            self._left -= len(rest)
        self._add(rest, now)
        if self._left == 0:
            self._finish(now)

    def _chunks(self, rest: bytes, now: float) -> None:
        parts: list[bytes] = []
        at, size = 0, len(rest)
        while True:
            if self._left is None:
                end = rest.find(b"\r\n", at)
                if end < 0:
                    self._rest = rest[at:]
                    if len(self._rest) > HEAD_LIMIT:
                        raise ValueError("a chunk's size is too long")
                    break
                length = int(rest[at:end].split(b";", 1)[0], 16)
                if length == 0:
                    self._state, self._rest = "trailer", rest[end:]
                    break
                # The line's end behind it counts with the chunk.
                self._left, at = length + 2, end + 2
            take = min(self._left, size - at)
            body = min(take, self._left - 2)
            if body > 0:
                parts.append(rest[at : at + body])
            at += take
            self._left -= take
            if self._left:
                break
            self._left = None
        if parts:
            self._add(parts[0] if len(parts) == 1 else b"".join(parts), now)
        if self._state == "trailer":
            self._trailer(now)

    def _trailer(self, now: float) -> None:
        if _END in self._rest:
            self._finish(now)
        elif len(self._rest) > HEAD_LIMIT:
            raise ValueError("its trailer is too long")

    def _add(self, body: bytes, now: float) -> None:
        if not body:
            return
        self._answer.size += len(body)
        if self._answer.size > BODY_LIMIT:
            raise ValueError("its body is too long")
        self._answer.pieces.append((now, body))

    def _finish(self, now: float) -> None:
        self._answer.ended = now
        self._state, self._rest, self.used = "idle", b"", True
        waiter, self._waiter = self._waiter, None
        if waiter is not None and not waiter.done():
            waiter.set_result(self._answer)
        if not self._keep:
            self.close()

    def _fail(self, error: HttpError) -> None:
        self._keep = False
        self._state = "idle"
        waiter, self._waiter = self._waiter, None
        if waiter is not None and not waiter.done():
            waiter.set_exception(error)


class Target:
    """Where requests go: `socket` is a Unix socket (a tunnel's near end) instead of the address. `tls` verifies.

    Addresses are looked up once; connections take them in turn.
    """

    def __init__(self, host: str, port: int, *, tls: ssl.SSLContext | None = None, socket: str | None = None) -> None:
        self.host = host
        self.port = port
        self.tls = tls
        self.socket = socket
        self._addresses: list[str] = []
        self._turn = 0
        self._idle: list[Connection] = []

    async def resolve(self) -> None:
        """Raises HttpError(refused) when the name is unknown."""
        if self.socket is not None:
            return
        try:
            found = await asyncio.get_running_loop().getaddrinfo(self.host, self.port, type=1)
        except OSError as error:
            raise HttpError("refused", f"{self.host}: {error.strerror or error}") from error
        self._addresses = list(dict.fromkeys(str(row[4][0]) for row in found))

    async def ask(self, request: bytes, seconds: float) -> Answer:
        """One request over an idle connection or a new one, its answer at most `seconds` later. Raises HttpError.

        A kept connection that the server closed just then gets a second one, as with every HTTP client.
        """
        while self._idle:
            kept = self._idle.pop()
            if not kept.open:
                continue
            try:
                return await self._over(kept, request, seconds)
            except HttpError as error:
                if kept.heard or error.kind != "broke-off":
                    raise
        return await self._over(await self._connect(), request, seconds)

    async def _over(self, connection: Connection, request: bytes, seconds: float) -> Answer:
        # A timer and no wait_for: that would make a task of every request.
        timer = asyncio.get_running_loop().call_later(seconds, connection.expire, seconds)
        try:
            answer = await connection.send(request)
        except BaseException:
            connection.close()
            raise
        finally:
            timer.cancel()
        if connection.open:
            self._idle.append(connection)
        return answer

    async def _connect(self) -> Connection:
        loop = asyncio.get_running_loop()
        try:
            if self.socket is not None:
                opening = loop.create_unix_connection(
                    Connection, self.socket, ssl=self.tls, server_hostname=self.host if self.tls else None
                )
            else:
                if not self._addresses:
                    await self.resolve()
                address = self._addresses[self._turn % len(self._addresses)]
                self._turn += 1
                opening = loop.create_connection(
                    Connection, address, self.port, ssl=self.tls, server_hostname=self.host if self.tls else None
                )
            _, connection = await asyncio.wait_for(opening, CONNECT_SECONDS)
        except asyncio.TimeoutError:  # noqa: UP041 - another class before Python 3.11
            raise HttpError("timeout", f"no connection within {CONNECT_SECONDS:g} s") from None
        except ssl.SSLError as error:
            raise HttpError("tls", error.reason or str(error)) from error
        except OSError as error:
            raise HttpError("refused", error.strerror or str(error)) from error
        return connection

    def close(self) -> None:
        """Every idle connection; those in use belong to their requests."""
        for connection in self._idle:
            connection.close()
        self._idle.clear()


def request(method: str, host: str, path: str, headers: Mapping[str, str], body: bytes) -> bytes:
    """A whole request. ValueError for a header that would begin another line."""
    lines = [f"{method} {path} HTTP/1.1", f"Host: {host}", *(f"{name}: {value}" for name, value in headers.items())]
    if any("\r" in line or "\n" in line for line in lines):
        raise ValueError("a header has a line break")
    lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join(lines).encode("latin-1") + _END + body


def ends(pieces: Sequence[tuple[float, bytes]]) -> list[tuple[int, float]]:
    """How many bytes had come by when: one row for each piece."""
    found, size = [], 0
    for at, piece in pieces:
        size += len(piece)
        found.append((size, at))
    return found
