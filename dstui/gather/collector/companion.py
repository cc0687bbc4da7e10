"""A child for as long as a stream lasts: asked once a sample, never waited for, replaced when it is stuck or gone.

What it looks at (NVML, a network card's firmware) may hang in the kernel; then only its own values are missing.
"""

import os
import time

from dstui.gather.collector.loop import Loop, abandon, read_some, reap
from dstui.gather.collector.wire import crashed, dumps, loads

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    Look = Callable[[], dict[str, object]]

STUCK_SECONDS = 30.0
"""A child that owes an answer for this long is killed; long enough for a driver that resets its GPUs."""
REPLACE_SECONDS = 10.0
"""Between the end of a child and the start of the next, so that one that always dies costs next to nothing."""


class Companion:
    """One question at a time to one child. `answer` is its last one, `answered_at` and `asked_at` are monotonic.

    `make()` is called in the child and gives the function that looks; `heard()` is called here with every answer.
    """

    def __init__(self, loop: Loop, make: "Callable[[], Look]", heard: "Callable[[], None]") -> None:
        self._loop = loop
        self._make = make
        self._heard = heard
        self._pid = 0
        self._socket = -1
        self._buffer = b""
        self._ended_at = None  # type: float | None
        self.answer: "dict[str, object] | None" = None
        self.answered_at = 0.0
        self.owing_since = None  # type: float | None

    @property
    def owes(self) -> bool:
        """Whether the child still has a question to answer."""
        return self.owing_since is not None

    def ask(self) -> None:
        """Ask it to look, unless it has not answered yet."""
        now = time.monotonic()
        if self.owing_since is not None:
            if now - self.owing_since > STUCK_SECONDS:
                self._replace(now)
            return
        if self._socket < 0:
            if self._ended_at is not None and now - self._ended_at < REPLACE_SECONDS:
                return
            self._start()
        try:
            os.write(self._socket, b"?")
            self.owing_since = now
        except OSError:
            self._end(now)

    def drop(self) -> None:
        """Kill the child without waiting for it."""
        self._close()
        if self._pid and reap(self._pid) is None:
            abandon(self._pid)
        self._pid = 0

    def _replace(self, now: float) -> None:
        # In state D it does not die; a second one beside it would get stuck as well, so there is never more than one.
        self._close()
        if self._pid and reap(self._pid) is None:
            try:
                os.kill(self._pid, 9)
            except OSError:
                pass
            return
        self._pid = 0
        self.owing_since = None
        self._ended_at = now - REPLACE_SECONDS

    def _start(self) -> None:
        # The C half: importing socket costs more than all else here.
        import _socket

        ours, theirs = _socket.socketpair()
        self._socket = ours.detach()
        child = theirs.detach()
        self._pid = os.fork()
        if not self._pid:
            self._work(child)
        os.close(child)
        self._buffer = b""
        self._loop.watch(self._socket, self._readable)

    def _work(self, pipe: int) -> None:
        try:
            os.setpgid(0, 0)
            self._loop.close_watched()
            os.close(self._socket)
            null = os.open("/dev/null", os.O_RDWR)
            for fd in (0, 1, 2):
                os.dup2(null, fd)
            look = None
            while os.read(pipe, 1):
                try:
                    look = look or self._make()
                    answer = look()
                except Exception as error:  # told, like every fault of the collector's own
                    answer = crashed(error)
                line = dumps(answer).encode("ascii") + b"\n"
                while line:
                    line = line[os.write(pipe, line) :]
        finally:
            os._exit(0)

    def _readable(self) -> None:
        chunk = read_some(self._socket)
        if chunk == b"":
            self._end(time.monotonic())
            return self._heard()
        lines = (self._buffer + (chunk or b"")).split(b"\n")
        self._buffer = lines.pop()
        for line in lines:
            answer = loads(line.decode("ascii"))
            assert isinstance(answer, dict)
            self.answer, self.answered_at, self.owing_since = answer, time.monotonic(), None
        return self._heard() if lines else None

    def _end(self, now: float) -> None:
        self.drop()
        self.answer = {"missing": "probe-error", "why": "the child that looks ended; another one starts in seconds"}
        self.answered_at = self._ended_at = now
        self.owing_since = None

    def _close(self) -> None:
        if self._socket >= 0:
            self._loop.forget(self._socket)
            os.close(self._socket)
            self._socket = -1
