"""One poll loop for everything that the collector waits for: its own input, children, listeners, timers."""

import os
import select
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

READ_BYTES = 65536


class Ended(BaseException):
    """The session is over: end of input, `bye`, or a signal."""


class Timer:
    """One call that is due at a monotonic time, unless cancelled."""

    def __init__(self, due: float, call: "Callable[[], None]") -> None:
        self.due = due
        self.call = call


class Loop:
    """Callbacks by file descriptor and by time. Nothing that it calls may block."""

    def __init__(self) -> None:
        self._poll = select.poll()
        self._calls: "dict[int, Callable[[], None]]" = {}
        self._timers: "list[Timer]" = []

    def watch(self, fd: int, call: "Callable[[], None]", events: int = select.POLLIN) -> None:
        """Call `call()` whenever `fd` has one of `events`, an error, or has been hung up."""
        self._calls[fd] = call
        self._poll.register(fd, events)

    def forget(self, fd: int) -> None:
        """Stop watching `fd`; fine when it is not watched."""
        if self._calls.pop(fd, None):
            self._poll.unregister(fd)

    def after(self, seconds: float, call: "Callable[[], None]") -> Timer:
        """Call `call()` once after `seconds`, unless the timer is cancelled."""
        timer = Timer(time.monotonic() + seconds, call)
        self._timers.append(timer)
        return timer

    def cancel(self, timer: Timer) -> None:
        """Fine when it has fired already."""
        if timer in self._timers:
            self._timers.remove(timer)

    def close_watched(self) -> None:
        """In a forked child: give up what belongs to the parent, so that a stuck child holds no port or pipe open."""
        for fd in self._calls:
            try:
                os.close(fd)
            except OSError:
                pass

    def turn(self) -> None:
        """Wait for the next thing to happen and call back."""
        wait = None
        if self._timers:
            wait = max(0.0, min(timer.due for timer in self._timers) - time.monotonic()) * 1000
        for fd, _ in self._poll.poll(wait):
            call = self._calls.get(fd)
            if call:
                call()
        now = time.monotonic()
        for timer in [timer for timer in self._timers if timer.due <= now]:
            if timer in self._timers:
                self._timers.remove(timer)
                timer.call()


def read_some(fd: int) -> "bytes | None":
    """What there is on `fd`: bytes, `b""` at end of file, None when it was a false alarm."""
    try:
        return os.read(fd, READ_BYTES)
    except BlockingIOError:
        return None
    except OSError:
        return b""


def reap(pid: int) -> "int | None":
    """The wait status of a child that has ended (0 when somebody else took it), None while it runs. Never waits."""
    try:
        done, status = os.waitpid(pid, os.WNOHANG)
    except ChildProcessError:
        return 0
    return status if done else None


_strays: "list[int]" = []


def abandon(pid: int) -> None:
    """Kill a child and what it started in its process group, without waiting.

    One in state D or of another user does not die; it is left alone, and taken off the process table when it ends.
    """
    for send in (os.killpg, os.kill):
        try:
            send(pid, 9)
            break
        except OSError:
            continue
    _strays.append(pid)
    _strays[:] = [stray for stray in _strays if reap(stray) is None]
