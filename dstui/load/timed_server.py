"""A server whose times are exactly known: what a load generator says beyond them is the generator's own.

    python -m dstui.load.timed_server --port 0 --first 0.05 --gap 0.02 --tokens 100

Prints its URL as the first line and ends when its input does. It listens on 127.0.0.1 only and answers as vLLM does:
POST /v1/chat/completions, GET /v1/models and /health. The head goes out at once, the first piece `first` seconds
after the last byte of the request arrived, each further one `gap` seconds after the one before was due, so that
lateness never adds up. `--gap 0` sends as fast as the reader takes. GET /lateness tells how late the server was.

One thread, one selector and one heap for all streams: an event loop's tasks and transports would cost as much as the
clients that are to be measured. On Linux the arrival is the kernel's own stamp, so a request that waited for its turn
here is not answered late for it.
"""

from __future__ import annotations

import argparse
import contextlib
import heapq
import json
import os
import resource
import selectors
import socket
import struct
import sys
import threading
import time
from collections import deque
from dataclasses import dataclass
from itertools import count

from dstui.load.agent.histogram import Histogram
from dstui.load.timed_http import (
    DONE,
    MODELS,
    REQUEST_LIMIT,
    Request,
    RequestError,
    Spoken,
    answer,
    next_request,
    stream_head,
)

UNREAD_LIMIT = 4 * 1024 * 1024
"""Bytes kept for a reader who does not read; then the connection ends."""
MOST_TOKENS = 1_000_000
_BATCH = 64
"""Pieces sent between two looks at the sockets: under a millisecond."""
_BURST = 64
"""Pieces in one write when there is no gap, so that the server is not what limits a ceiling."""
_SPIN = 0.001
"""Seconds: `epoll` waits whole milliseconds. What is due sooner is waited for awake."""
_STAMP = 35 if sys.platform == "linux" else None
"""SO_TIMESTAMPNS, which the socket module has no name for."""
_TIMESPEC = struct.Struct("qq")


@dataclass(frozen=True, slots=True)
class Timing:
    """Seconds to the first piece and between two, and how many there are when a request wants no fewer."""

    first: float = 0.05
    gap: float = 0.02
    tokens: int = 100


class _Connection:
    """One client. `first`, `event` and `last` are the bytes of an answer's pieces; `left` are to be sent."""

    __slots__ = ("closed", "closing", "event", "first", "last", "left", "outgoing", "peer", "received", "serial")

    def __init__(self, peer: socket.socket, serial: int) -> None:
        self.peer, self.serial = peer, serial
        self.received = b""
        self.outgoing = b""
        self.first: bytes | None = None
        self.event = self.last = b""
        self.left = 0
        self.closing = self.closed = False

    @property
    def busy(self) -> bool:
        return self.left > 0 or bool(self.outgoing)


class TimedServer:
    """Listens from the start; `run` serves until `stop`, which may be called from any thread."""

    def __init__(self, timing: Timing, port: int = 0) -> None:
        """OSError when the port is taken."""
        self.timing = timing
        self.lateness, self.first_lateness = Histogram(), Histogram()
        self.unread = 0
        """Pieces that found the reader's window full."""
        self._began = time.monotonic()
        self._serials = count()
        self._heap: list[tuple[float, int, _Connection]] = []
        self._eager: deque[_Connection] = deque()
        self._connections: set[_Connection] = set()
        self._ended = False
        self._selector = selectors.DefaultSelector()
        self._listener = socket.create_server(("127.0.0.1", port), backlog=4096)
        self._listener.setblocking(False)
        if _STAMP is not None:
            with contextlib.suppress(OSError):
                self._listener.setsockopt(socket.SOL_SOCKET, _STAMP, 1)
        self._wake, self._woken = socket.socketpair()
        self._selector.register(self._listener, selectors.EVENT_READ)
        self._selector.register(self._woken, selectors.EVENT_READ)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._listener.getsockname()[1]}"

    def stop(self) -> None:
        self._ended = True
        with contextlib.suppress(OSError):
            self._wake.send(b"x")

    def run(self) -> None:
        """Serves, then closes everything."""
        try:
            while not self._ended:
                self._fire(time.monotonic())
                self._pour()
                for key, events in self._selector.select(self._patience()):
                    if key.data is not None:
                        self._ready(key.data, events)
                    elif key.fileobj is self._listener:
                        self._accept()
        finally:
            for connection in list(self._connections):
                self._drop(connection)
            self._selector.close()
            for each in (self._listener, self._wake, self._woken):
                each.close()

    def _patience(self) -> float | None:
        if self._eager:
            return 0.0
        if not self._heap:
            return None
        left = self._heap[0][0] - time.monotonic()
        # Half a millisecond less than a whole number of them: the selector rounds up.
        return 0.0 if left < _SPIN else int(left * 1000) / 1000 - 0.0005

    def _accept(self) -> None:
        for _ in range(_BATCH):
            try:
                peer, _ = self._listener.accept()
            except OSError:
                return
            peer.setblocking(False)
            peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            connection = _Connection(peer, next(self._serials))
            self._connections.add(connection)
            self._selector.register(peer, selectors.EVENT_READ, connection)

    def _ready(self, connection: _Connection, events: int) -> None:
        if connection.closed:
            return
        if events & selectors.EVENT_WRITE:
            self._drain(connection)
        if events & selectors.EVENT_READ and not connection.closed:
            self._read(connection)

    def _read(self, connection: _Connection) -> None:
        stamps: list[tuple[int, int, bytes]] = []
        try:
            if _STAMP is None:
                data = connection.peer.recv(256 * 1024)
            else:
                data, stamps, _, _ = connection.peer.recvmsg(256 * 1024, 64)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._drop(connection)
            return
        connection.received += data
        if len(connection.received) > REQUEST_LIMIT:
            self._drop(connection)
        elif not connection.busy:
            self._take(connection, _arrival(stamps))

    def _take(self, connection: _Connection, arrived: float) -> None:
        """Answers the requests that are there as a whole, one after the other."""
        while not connection.busy and not connection.closed:
            if connection.closing:
                self._drop(connection)
                return
            try:
                found = next_request(connection.received) if connection.received else None
            except RequestError as error:
                connection.received, connection.closing = b"", True
                self._send(connection, answer(error.status, {"detail": str(error)}, close=True))
                continue
            if found is None:
                return
            connection.received = connection.received[found.size :]
            connection.closing = found.last
            self._route(connection, found, arrived)

    def _route(self, connection: _Connection, request: Request, arrived: float) -> None:
        match request.method, request.path:
            case "POST", "/v1/chat/completions":
                self._chat(connection, request.body, arrived)
            case "GET", "/v1/models":
                self._send(connection, answer(200, MODELS))
            case "GET", "/health":
                self._send(connection, answer(200, None))
            case "GET", "/lateness":
                self._send(connection, answer(200, self.report()))
            case _, "/v1/chat/completions" | "/v1/models" | "/health" | "/lateness":
                self._send(connection, answer(405, {"detail": "Method Not Allowed"}))
            case _:
                self._send(connection, answer(404, {"detail": "Not Found"}))

    def report(self) -> dict[str, float | int | None]:
        """How late pieces were written, in seconds, and what that cost; quantiles are None before the first."""
        late, first = self.lateness, self.first_lateness
        return {
            "pieces": late.whole,
            "p50": late.quantile(0.5),
            "p99": late.quantile(0.99),
            "max": late.quantile(1.0),
            "first_p50": first.quantile(0.5),
            "first_p99": first.quantile(0.99),
            "unread": self.unread,
            "cpu_seconds": time.process_time(),
            "seconds": time.monotonic() - self._began,
        }

    def _chat(self, connection: _Connection, body: bytes, arrived: float) -> None:
        try:
            asked = json.loads(body)
        except (ValueError, RecursionError):
            asked = None
        if not isinstance(asked, dict) or not isinstance(asked.get("messages"), list):
            message = "messages must be a list" if isinstance(asked, dict) else "JSON decode error"
            error = {"message": message, "type": "BadRequestError", "param": None, "code": 400}
            self._send(connection, answer(400, {"error": error}))
            return
        wanted = asked.get("max_completion_tokens") or asked.get("max_tokens")
        tokens = self.timing.tokens
        if isinstance(wanted, int) and wanted > 0:
            tokens = min(tokens, wanted)
        spoken = Spoken(f"chatcmpl-{connection.serial:08x}{time.monotonic_ns() & 0xFFFFFFFF:08x}", asked, len(body))
        due = arrived + self.timing.first
        if asked.get("stream"):
            options = asked.get("stream_options")
            usage = isinstance(options, dict) and bool(options.get("include_usage"))
            connection.event = spoken.event(None)
            connection.last = spoken.event("length") + (spoken.usage(tokens) if usage else b"") + DONE
            connection.first = spoken.role()
            connection.left = tokens
            self._send(connection, stream_head())
        else:
            connection.first, connection.left = None, 1
            connection.last = answer(200, spoken.whole(tokens))
            due += self.timing.gap * (tokens - 1)
        if not connection.closed:
            heapq.heappush(self._heap, (due, connection.serial, connection))

    def _fire(self, now: float) -> None:
        """Sends what is due, but not so much that nobody is heard meanwhile."""
        heap = self._heap
        for _ in range(_BATCH):
            if not heap or heap[0][0] > now:
                return
            due, serial, connection = heap[0]
            if connection.closed:
                heapq.heappop(heap)
                continue
            first = connection.first is not None
            if self.timing.gap or connection.left == 1:
                self._send(connection, _pieces(connection, 1))
            else:
                self._eager.append(connection)
                heapq.heappop(heap)
                continue
            late = time.monotonic() - due
            self.lateness.add(late)
            if first:
                self.first_lateness.add(late)
            if connection.left:
                heapq.heapreplace(heap, (due + self.timing.gap, serial, connection))
            else:
                # First out of the heap: a request that waits puts the connection in again.
                heapq.heappop(heap)
                self._take(connection, time.monotonic())

    def _pour(self) -> None:
        """Without a gap: a burst for each reader that takes more, in turn."""
        for _ in range(min(len(self._eager), _BATCH)):
            connection = self._eager.popleft()
            if connection.closed:
                continue
            self._send(connection, _pieces(connection, _BURST))
            if connection.left and not connection.outgoing:
                self._eager.append(connection)
            else:
                self._take(connection, time.monotonic())

    def _send(self, connection: _Connection, data: bytes) -> None:
        if connection.closed:
            return
        if connection.outgoing:
            self.unread += 1
            connection.outgoing += data
            if len(connection.outgoing) > UNREAD_LIMIT:
                self._drop(connection)
            return
        try:
            sent = connection.peer.send(data)
        except BlockingIOError:
            sent = 0
        except OSError:
            self._drop(connection)
            return
        if sent < len(data):
            self.unread += 1
            connection.outgoing = data[sent:]
            self._selector.modify(connection.peer, selectors.EVENT_READ | selectors.EVENT_WRITE, connection)

    def _drain(self, connection: _Connection) -> None:
        try:
            sent = connection.peer.send(connection.outgoing)
        except BlockingIOError:
            return
        except OSError:
            self._drop(connection)
            return
        connection.outgoing = connection.outgoing[sent:]
        if connection.outgoing:
            return
        self._selector.modify(connection.peer, selectors.EVENT_READ, connection)
        if not connection.left:
            self._take(connection, time.monotonic())
        elif not self.timing.gap and connection.first is None:
            self._eager.append(connection)

    def _drop(self, connection: _Connection) -> None:
        if connection.closed:
            return
        connection.closed = True
        connection.left, connection.outgoing = 0, b""
        self._connections.discard(connection)
        self._selector.unregister(connection.peer)
        connection.peer.close()


def _pieces(connection: _Connection, most: int) -> bytes:
    """The next pieces, at most so many. The role goes with the first of them, as vLLM sends it; the last one brings
    how it ended, usage and the mark of the end."""
    number = min(most, connection.left)
    connection.left -= number
    data = connection.event * (number if connection.left else number - 1)
    if not connection.left:
        data += connection.last
    if connection.first is not None:
        data, connection.first = connection.first + data, None
    return data


def _arrival(stamps: list[tuple[int, int, bytes]]) -> float:
    """When the last bytes came, by the monotonic clock; now where the kernel does not say."""
    now = time.monotonic()
    for level, kind, data in stamps:
        if level == socket.SOL_SOCKET and kind == _STAMP and len(data) == _TIMESPEC.size:
            seconds, nanoseconds = _TIMESPEC.unpack(data)
            age: float = (time.time_ns() - (seconds * 1_000_000_000 + nanoseconds)) / 1e9
            # A wall clock that was set meanwhile says nothing.
            if 0 <= age < 5:
                return now - age
    return now


def _timing(argv: list[str] | None) -> tuple[Timing, int]:
    parser = argparse.ArgumentParser(prog="python -m dstui.load.timed_server", description=__doc__.splitlines()[0])
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--first", type=float, default=0.05, help="seconds to the first token")
    parser.add_argument("--gap", type=float, default=0.02, help="seconds between tokens; 0: as fast as they are read")
    parser.add_argument("--tokens", type=int, default=100)
    given = parser.parse_args(argv)
    if not (0 <= given.first < 3600 and 0 <= given.gap < 3600 and 1 <= given.tokens <= MOST_TOKENS):
        parser.error("times are 0 to 3600 s, tokens 1 to 1,000,000")
    return Timing(given.first, given.gap, given.tokens), given.port


def main(argv: list[str] | None = None) -> int:
    """Serves until the input ends. 1 when the port is taken."""
    timing, port = _timing(argv)
    with contextlib.suppress(OSError, ValueError):
        _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    try:
        server = TimedServer(timing, port)
    except OSError as error:
        sys.stderr.write(f"port {port} cannot be had: {error.strerror or error}\n")
        return 1
    sys.stdout.write(server.url + "\n")
    sys.stdout.flush()

    def wait_for_the_end() -> None:
        while os.read(0, 4096):
            pass
        server.stop()

    threading.Thread(target=wait_for_the_end, daemon=True).start()
    with contextlib.suppress(KeyboardInterrupt):
        server.run()
    return 0


if __name__ == "__main__":
    sys.exit(main())
