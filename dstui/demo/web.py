"""HTTP for the fleet's pages and its API: on loopback, bounded in size and time, and no more of HTTP than that."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from email.utils import formatdate
from http import HTTPStatus

HEAD_BYTES = 16 * 1024
"""Of a request; whoever sends more is cut off."""
BODY_BYTES = 10 * 1024 * 1024
"""Of a request to a service; a longer one is read to its end, as nginx does, and refused."""
ASK_SECONDS = 75.0
"""An open connection on which nothing is asked for so long is closed."""
TAKE_SECONDS = 10.0
_BODY_SECONDS = 20.0
_LONGEST_BODY = 4 * BODY_BYTES
"""A body that is announced to be longer than this is not waited for."""
_READ_BYTES = 256 * 1024
_MOST_OPEN = 256
_BACKLOG = 256


@dataclass(frozen=True, slots=True)
class Request:
    """What is asked; names of headers are in lower case. `body` is None when it was too long."""

    method: str
    path: str
    query: str
    headers: Mapping[str, str]
    body: bytes | None = b""


@dataclass(frozen=True, slots=True)
class Response:
    """What is answered to one request. With `parts` the body is what they give, sent as it comes."""

    body: bytes
    content_type: str
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    parts: AsyncGenerator[bytes, None] | None = None


Site = Callable[[str, str], Response]
"""Path and query of a GET → what is answered."""
Service = Callable[[Request], Awaitable[Response]]
"""Any request → what is answered. An OSError ends the connection without an answer."""

_NO_SUCH_METHOD = Response(b"only GET is answered here\n", "text/plain", 405)


@dataclass(slots=True)
class Web:
    """One site on one socket that is bound already; it listens while it is open, and connects are refused otherwise.

    With a `service` that answers everything, and `site` nothing. Belongs to one event loop. The socket stays the
    caller's.
    """

    sock: socket.socket
    site: Site
    clock: Callable[[], float]
    service: Service | None = None
    _server: asyncio.Server | None = None
    _writers: set[asyncio.StreamWriter] = field(default_factory=set)

    async def open(self) -> None:
        """Nothing happens when it is open."""
        if self._server is None:
            self.sock.listen(_BACKLOG)
            # The server closes its own descriptor; with this one the address stays bound when it has gone.
            self._server = await asyncio.start_server(self._talk, sock=self.sock.dup(), limit=HEAD_BYTES)

    async def close(self) -> None:
        """Ends every connection. Nothing happens when it is closed."""
        server, self._server = self._server, None
        if server is None:
            return
        server.close()
        still(self.sock)
        for writer in list(self._writers):
            writer.transport.abort()
        await server.wait_closed()

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        try:
            # The other side goes away, talks nonsense or falls asleep: in every case this connection ends.
            with contextlib.suppress(OSError, TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
                while len(self._writers) <= _MOST_OPEN and await self._one(reader, writer):
                    pass
        finally:
            self._writers.discard(writer)
            writer.close()

    async def _one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """One request and its answer; whether another may follow."""
        async with asyncio.timeout(ASK_SECONDS):
            head = await reader.readuntil(b"\r\n\r\n")
        request = _understood(head)
        keep = request.headers.get("connection", "").lower() != "close"
        if self.service is None:
            found = self.site(request.path, request.query) if request.method == "GET" else _NO_SUCH_METHOD
            keep = keep and request.method == "GET"
        else:
            async with asyncio.timeout(_BODY_SECONDS):
                request, whole = await _with_body(reader, request)
            keep = keep and whole
            found = await self.service(request)
        writer.write(_head(found, self.clock(), keep=keep) + found.body)
        if found.parts is not None:
            await _send_parts(reader, writer, found.parts)
        async with asyncio.timeout(TAKE_SECONDS):
            await writer.drain()
        return keep


def _understood(head: bytes) -> Request:
    first, *lines = head.decode("latin-1").split("\r\n")
    method, _, rest = first.partition(" ")
    path, _, query = rest.rpartition(" ")[0].partition("?")
    named = (line.partition(":") for line in lines if line)
    return Request(method, path, query, {name.strip().lower(): value.strip() for name, _, value in named})


async def _with_body(reader: asyncio.StreamReader, request: Request) -> tuple[Request, bool]:
    """The request with its body, and whether all of that was read. One that does not say its length has none."""
    said = request.headers.get("content-length", "0")
    length = int(said) if said.isascii() and said.isdigit() and len(said) < 16 else 0
    whole = length <= _LONGEST_BODY and "transfer-encoding" not in request.headers
    if not whole:
        return Request(request.method, request.path, request.query, request.headers, None), False
    if length <= BODY_BYTES:
        body = await reader.readexactly(length)
        return Request(request.method, request.path, request.query, request.headers, body), True
    while length > 0:
        piece = await reader.read(min(length, _READ_BYTES))
        if not piece:
            raise ConnectionAbortedError
        length -= len(piece)
    return Request(request.method, request.path, request.query, request.headers, None), True


async def _send_parts(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, parts: AsyncGenerator[bytes, None]
) -> None:
    """In chunks, until they end or the other side has gone: then they are ended, too."""
    try:
        async for part in parts:
            if reader.at_eof() or writer.is_closing():
                raise ConnectionAbortedError
            writer.write(b"%x\r\n%s\r\n" % (len(part), part))
            async with asyncio.timeout(TAKE_SECONDS):
                await writer.drain()
        writer.write(b"0\r\n\r\n")
    finally:
        await parts.aclose()


def _head(found: Response, now: float, *, keep: bool) -> bytes:
    size = f"Content-Length: {len(found.body)}" if found.parts is None else "Transfer-Encoding: chunked"
    more = "".join(f"{name}: {value}\r\n" for name, value in found.headers.items())
    return (
        f"HTTP/1.1 {found.status} {HTTPStatus(found.status).phrase}\r\nDate: {formatdate(now, usegmt=True)}\r\n"
        f"Server: dstui-demo (simulated)\r\nContent-Type: {found.content_type}\r\n"
        f"{size}\r\n{more}Connection: {'keep-alive' if keep else 'close'}\r\n\r\n"
    ).encode("ascii")


def still(sock: socket.socket) -> None:
    """Ends listening and keeps the address: from now on connects are refused, until somebody listens again."""
    with contextlib.suppress(OSError):
        sock.shutdown(socket.SHUT_RDWR)
