"""The verb `sample` of a made-up host: a line per interval, as the collector's `sample.py` sends them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping

from dstui.gather.collector.sample import FASTEST, FIRST_SECONDS, SLOWEST
from dstui.gather.collector.wire import number

Reading = Callable[[bool, bool], dict[str, object]]
"""Whether with GPUs, whether with PCIe throughput → what is read now."""


class SampleStream:
    """One stream, from its making to `drop`. `post(text)` sends a line and says False while the other side takes none.

    The newest sample is then kept until `drained`, and those that it replaces are counted. Raises TypeError for an
    interval that is no number.
    """

    def __init__(
        self, number_: object, request: Mapping[str, object], post: Callable[[str], bool], read: Reading
    ) -> None:
        self.interval = min(SLOWEST, max(FASTEST, number(dict(request), "interval", 1.0)))
        self._loop = asyncio.get_running_loop()
        self._asked = bool(request.get("gpus", True)), bool(request.get("pcie"))
        self._post = post
        self._read = read
        self._head = f'{{"id":{json.dumps(number_)},"sample":'
        self._kept = ""
        self._seq = self._lost = 0
        self._due = self._loop.time() + min(FIRST_SECONDS, self.interval)
        self._timer = self._loop.call_at(self._due, self._tick)

    def drop(self) -> None:
        """Ends it."""
        self._timer.cancel()
        self._kept = ""

    def drained(self) -> None:
        """The other side takes lines again."""
        kept, self._kept = self._kept, ""
        if kept:
            self._send(kept)

    def _tick(self) -> None:
        now = self._loop.time()
        skipped = max(0, int((now - self._due) / self.interval))
        self._due += self.interval * (skipped + 1)
        self._seq += skipped + 1
        self._lost += skipped
        self._timer = self._loop.call_at(self._due, self._tick)
        sample = {"seq": self._seq, "t": round(now, 3), "hz": round(1.0 / self.interval, 3), **self._read(*self._asked)}
        self._send(json.dumps(sample, separators=(",", ":")))

    def _send(self, sample: str) -> None:
        if self._kept:
            self._lost += 1
            self._kept = ""
        # Counted when it leaves: what is lost while it was kept belongs to it.
        if self._post(f'{self._head}{{"lost":{self._lost},{sample[1:]}}}'):
            self._lost = 0
        else:
            self._kept = sample
