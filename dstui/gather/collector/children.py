"""Children that may get stuck: they do jobs in order, and are given up rather than waited for.

A process on a dead network filesystem cannot be killed (state D) and keeps its pipes open, so the collector never waits
for such a child nor for end of file on its pipe. One fork serves all jobs as long as they finish; a job that takes
longer than PATIENCE is left behind with its child, and the jobs that wait behind it go to a new one.
"""

import os
import time

from dstui.gather.collector.loop import Loop, abandon, read_some, reap
from dstui.gather.collector.wire import crashed, dumps, missing

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

PATIENCE = 1.0
"""Seconds: long enough for a busy machine, short enough that three dead mounts do not use up a host's minute."""


class Job:
    """A blocking call for a child. `perform(args)` gives an answer; `deliver` gets it as JSON text.

    `timeout` is in seconds from the moment the job's turn comes.
    """

    def __init__(
        self,
        perform: "Callable[[dict[str, object]], dict[str, object]]",
        args: "dict[str, object]",
        timeout: float,
        deliver: "Callable[[str], None]",
    ) -> None:
        self.perform = perform
        self.args = args
        self.timeout = timeout
        self.deliver = deliver


class Sacrifice:
    """One child and the jobs that it still owes. It is in the set `family` while it lives."""

    def __init__(self, loop: Loop, jobs: "list[Job]", family: "set[Sacrifice]") -> None:
        self._loop = loop
        self._jobs = jobs
        self._family = family
        self._pieces = [b""]
        self._moved = time.monotonic()
        self._pipe, writer = os.pipe()
        self._pid = os.fork()
        if not self._pid:
            self._work(writer)
        os.close(writer)
        family.add(self)
        loop.watch(self._pipe, self._readable)
        self._timer = loop.after(self._limit(), self._late)

    def _work(self, writer: int) -> None:
        code = 1
        try:
            os.setpgid(0, 0)
            self._loop.close_watched()
            os.close(self._pipe)
            null = os.open("/dev/null", os.O_RDWR)
            for fd in (0, 1, 2):
                os.dup2(null, fd)
            for job in self._jobs:
                started = time.monotonic()
                try:
                    answer = job.perform(job.args)
                except Exception as error:  # whatever it was, the other operations still have to be done
                    answer = crashed(error)
                answer["s"] = round(time.monotonic() - started, 4)
                left = memoryview(dumps(answer).encode("ascii") + b"\n")
                while left:
                    left = left[os.write(writer, left) :]
            code = 0
        finally:
            os._exit(code)

    def _limit(self) -> float:
        timeout = self._jobs[0].timeout
        return min(PATIENCE, timeout) if len(self._jobs) > 1 else timeout

    def _readable(self) -> None:
        chunk = read_some(self._pipe)
        if chunk == b"":
            return self._ended()
        # Joined only at a line's end: a long answer comes in hundreds of pieces.
        self._pieces.append(chunk or b"")
        if b"\n" not in self._pieces[-1]:
            return None
        lines = b"".join(self._pieces).split(b"\n")
        self._pieces = [lines.pop()]
        for line in lines:
            if not self._jobs:
                # It was late, so what lay behind was given to another child; this one goes on without being needed.
                return self.drop()
            self._moved = time.monotonic()
            self._jobs.pop(0).deliver(line.decode("ascii"))
        return None

    def _ended(self) -> None:
        jobs = self._jobs
        self.drop()
        if jobs:
            jobs[0].deliver(dumps(missing("probe-error", "the child that looked ended before it could answer")))
        if jobs[1:]:
            Sacrifice(self._loop, jobs[1:], self._family)

    def _late(self) -> None:
        if not self._jobs:
            return self.drop()
        left = self._moved + self._limit() - time.monotonic()
        if left <= 0.001 and len(self._jobs) > 1:
            behind = self._jobs[1:]
            del self._jobs[1:]
            left = max(0.002, self._moved + self._limit() - time.monotonic())
            Sacrifice(self._loop, behind, self._family)
        if left > 0.001:
            self._timer = self._loop.after(left, self._late)
            return None
        job = self._jobs[0]
        self.drop()
        job.deliver(dumps(missing("timeout", "no answer within %g s, given up" % job.timeout)))
        return None

    def drop(self) -> None:
        """Kill the child, close its pipe, and never look at it again."""
        self._loop.cancel(self._timer)
        self._loop.forget(self._pipe)
        os.close(self._pipe)
        if reap(self._pid) is None:
            abandon(self._pid)
        self._family.discard(self)
