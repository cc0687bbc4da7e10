"""HTTP for the fleet's pages: GET on loopback, bounded in size and time, and no more of HTTP than that."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable
from dataclasses import dataclass, field
from email.utils import formatdate

HEAD_BYTES = 16 * 1024
"""Of a request; whoever sends more is cut off."""
ASK_SECONDS = 75.0
"""An open connection on which nothing is asked for so long is closed."""
TAKE_SECONDS = 10.0
_MOST_OPEN = 64
_BACKLOG = 128
_REASONS = {200: "OK", 404: "Not Found", 405: "Method Not Allowed", 503: "Service Unavailable"}


@dataclass(frozen=True, slots=True)
class Response:
    """What is answered to one request."""

    body: bytes
    content_type: str
    status: int = 200


Site = Callable[[str, str], Response]
"""Path and query of a GET → what is answered."""

_NO_SUCH_METHOD = Response(b"only GET is answered here\n", "text/plain", 405)


@dataclass(slots=True)
class Web:
    """One site on one socket that is bound already; it listens while it is open, and connects are refused otherwise.

    Belongs to one event loop. The socket stays the caller's.
    """

    sock: socket.socket
    site: Site
    clock: Callable[[], float]
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
        method, _, rest = head.split(b"\r\n", 1)[0].decode("ascii", "replace").partition(" ")
        path, _, query = rest.rpartition(" ")[0].partition("?")
        found = self.site(path, query) if method == "GET" else _NO_SUCH_METHOD
        keep = method == "GET" and b"connection: close" not in head.lower()
        writer.write(_head(found, self.clock(), keep=keep) + found.body)
        async with asyncio.timeout(TAKE_SECONDS):
            await writer.drain()
        return keep


def _head(found: Response, now: float, *, keep: bool) -> bytes:
    return (
        f"HTTP/1.1 {found.status} {_REASONS[found.status]}\r\nDate: {formatdate(now, usegmt=True)}\r\n"
        f"Server: dstui-demo (simulated)\r\nContent-Type: {found.content_type}\r\n"
        f"Content-Length: {len(found.body)}\r\nConnection: {'keep-alive' if keep else 'close'}\r\n\r\n"
    ).encode("ascii")


def still(sock: socket.socket) -> None:
    """Ends listening and keeps the address: from now on connects are refused, until somebody listens again."""
    with contextlib.suppress(OSError):
        sock.shutdown(socket.SHUT_RDWR)
