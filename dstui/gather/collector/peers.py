"""What hosts show only together: ports held open for the others, and connects to theirs. Loaded when first needed."""

import errno
import os
import select
import socket
import time

from dstui.gather.collector.facts import AT_ONCE
from dstui.gather.collector.loop import Loop
from dstui.gather.collector.wire import errno_name, number, string

TYPE_CHECKING = False
if TYPE_CHECKING:
    from dstui.gather.collector.loop import Timer

NONCE_BYTES = 256
MOST_SECONDS = 120.0
"""A listener never outlives this, whatever it was asked."""


class Listeners:
    """Ports that this host holds open. Each connection gets one nonce line and is closed."""

    def __init__(self, loop: Loop) -> None:
        self._loop = loop
        self._open: "dict[int, tuple[socket.socket, Timer]]" = {}

    def open(self, request: "dict[str, object]") -> "dict[str, object]":
        """Listen on exactly the `address` that was given, for `seconds`; never on all addresses."""
        address, port = string(request, "address"), int(number(request, "port", 0))
        nonce = string(request, "nonce").encode("utf-8") + b"\n"
        if address in ("", "0.0.0.0", "::", "*") or len(nonce) > NONCE_BYTES:
            return _state("failed", "refused: the address must be one of the host's own, the nonce short")
        self.close(port)
        listener = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_STREAM)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind((address, port))
            listener.listen(128)
        except OSError as error:
            listener.close()
            if error.errno == errno.EADDRINUSE:
                return _state("busy", "")
            return _state("failed", "%s: %s" % (errno_name(error), error.strerror))
        except OverflowError:
            listener.close()
            return _state("failed", "no such port: %d" % port)
        listener.setblocking(False)
        port = listener.getsockname()[1]
        seconds = min(number(request, "seconds", 20.0), MOST_SECONDS)
        self._open[port] = (listener, self._loop.after(seconds, lambda: self.close(port)))
        self._loop.watch(listener.fileno(), lambda: _answer(listener, nonce))
        return dict(_state("listening", ""), port=port)

    def close(self, port: int) -> None:
        """Fine when it is not open."""
        if port in self._open:
            listener, timer = self._open.pop(port)
            self._loop.cancel(timer)
            self._loop.forget(listener.fileno())
            listener.close()

    def close_all(self) -> None:
        for port in list(self._open):
            self.close(port)


def _state(state: str, why: str) -> "dict[str, object]":
    return {"state": state, "holder": None, "why": why}


def _answer(listener: socket.socket, nonce: bytes) -> None:
    try:
        connection = listener.accept()[0]
    except OSError:
        return
    try:
        connection.setblocking(False)
        connection.send(nonce)
        connection.shutdown(socket.SHUT_WR)
    except OSError:
        pass
    connection.close()


def busy(request: "dict[str, object]") -> "dict[str, object]":
    """Who holds a port, for a child: reading every process's files can take long on a big host."""
    holder, why = _holder(int(number(request, "port", 0)))
    return {"state": "busy", "holder": holder, "why": why}


def _holder(port: int) -> "tuple[str | None, str]":
    sockets = {}
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        try:
            with open(table) as rows:
                for row in rows:
                    words = row.split()
                    if len(words) > 9 and words[3] == "0A" and words[1].endswith(":%04X" % port):
                        sockets["socket:[%s]" % words[9]] = words[7]
        except OSError:
            continue
    if not sockets:
        return None, "no listener found in /proc/net/tcp; perhaps it is in another network namespace or just went away"
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            for fd in os.listdir("/proc/%s/fd" % pid):
                if os.readlink("/proc/%s/fd/%s" % (pid, fd)) in sockets:
                    with open("/proc/%s/comm" % pid, errors="replace") as comm:
                        return comm.read().strip(), ""
        except OSError:
            continue
    return None, "held by uid %s; its name needs root" % ", ".join(sorted(set(sockets.values())))


def connect(args: "dict[str, object]") -> "dict[str, object]":
    """CONNECT: `{endpoints: [[address, port]], timeout}`."""
    return {"value": _connect_all(args)}


def tries(args: "dict[str, object]") -> "dict[str, object]":
    """The verb `connect`: `{endpoints: [[address, port, nonce or null]], timeout}`."""
    return {"tries": _connect_all(args)}


class _Try:
    def __init__(self, address: str, port: int, nonce: "str | None", timeout: float) -> None:
        self.address = address
        self.port = port
        self.outcome = ""
        self.ms = 0.0
        self._nonce = nonce
        self._heard = b""
        self._connected = False
        self._started = time.monotonic()
        self.due = self._started + timeout
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        self.socket = socket.socket(family, socket.SOCK_STREAM)
        self.socket.setblocking(False)
        try:
            # A name is looked up here too, which may block: addresses are what is meant to be asked.
            code = self.socket.connect_ex((address, port))
        except (OSError, OverflowError):
            self.end("error")
            return
        if code == 0:
            self.connected()
        elif code != errno.EINPROGRESS:
            self.failed(code)

    def end(self, outcome: str) -> None:
        self.outcome = outcome
        self.ms = round((time.monotonic() - self._started) * 1000, 3)
        self.socket.close()

    def failed(self, code: int) -> None:
        unreach = (errno.EHOSTUNREACH, errno.ENETUNREACH, errno.EHOSTDOWN, errno.ENETDOWN)
        known = dict.fromkeys(unreach, "unreach")
        known[errno.ECONNREFUSED] = "refused"
        known[errno.ETIMEDOUT] = "timeout"
        self.end(known.get(code, "error"))

    def connected(self) -> None:
        self._connected = True
        if self._nonce is None:
            self.end("ok")

    def wanted(self) -> int:
        return select.POLLIN if self._connected else select.POLLOUT

    def ready(self) -> None:
        if not self._connected:
            code = self.socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            return self.failed(code) if code else self.connected()
        try:
            chunk = self.socket.recv(NONCE_BYTES)
        except BlockingIOError:
            return None
        except OSError:
            return self.end("wrong-nonce")
        self._heard += chunk
        if not chunk or b"\n" in self._heard or len(self._heard) > NONCE_BYTES:
            heard = self._heard.partition(b"\n")[0]
            self.end("ok" if self._nonce is not None and heard == self._nonce.encode("utf-8") else "wrong-nonce")
        return None

    def late(self) -> None:
        # Connected, but what is there did not say our nonce: it is not our listener.
        self.end("wrong-nonce" if self._connected else "timeout")


def _connect_all(args: "dict[str, object]") -> "list[list[object]]":
    endpoints = args["endpoints"]
    assert isinstance(endpoints, list)
    timeout = number(args, "timeout", 2.0)
    waiting = list(endpoints)
    every: "list[_Try]" = []
    going: "dict[int, _Try]" = {}
    while waiting or going:
        while waiting and len(going) < AT_ONCE:
            address, port, nonce = (list(waiting.pop(0)) + [None])[:3]
            attempt = _Try(address, port, nonce, timeout)
            every.append(attempt)
            if not attempt.outcome:
                going[attempt.socket.fileno()] = attempt
        if not going:
            continue
        poll = select.poll()
        for fd, attempt in going.items():
            poll.register(fd, attempt.wanted())
        soonest = min(attempt.due for attempt in going.values()) - time.monotonic()
        for fd, _ in poll.poll(max(0.0, soonest) * 1000):
            going[fd].ready()
        now = time.monotonic()
        for fd, attempt in list(going.items()):
            if not attempt.outcome and attempt.due <= now:
                attempt.late()
            if attempt.outcome:
                del going[fd]
    return [[attempt.address, attempt.port, attempt.outcome, attempt.ms] for attempt in every]
