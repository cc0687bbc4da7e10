"""Every host's samples as Records: one stream per host over the links that are there, begun again when it breaks.

What arrives is only noted; it is decoded in batches between two turns of the event loop. A host that was heard twice
meanwhile is decoded once: the latest wins, and `lost` says how many never got further.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Protocol

from dstui.facts.case import HostSite
from dstui.gather.answers import decode
from dstui.gather.link import HostLink, Sampling
from dstui.gather.wording import clean
from dstui.model import GatherError, Reason, Text, UsageError
from dstui.telemetry.host import parse, to_json
from dstui.telemetry.lost_words import lost_text
from dstui.telemetry.record import Record, RecordKind

SOURCE = "host:"
FASTEST, SLOWEST = 0.2, 10.0
"""Seconds between two samples that a collector gives."""
ASK_SECONDS = 20.0
STOP_SECONDS = 2.0
SILENT_SECONDS, SILENT_INTERVALS = 5.0, 3
"""Silence over an open connection is LOST after the longer of both."""
STUCK_SECONDS = 60.0
"""After this a silent collector is replaced. Nothing else on its link could still be waited for: facts take less."""
FIRST_RETRY_SECONDS, MOST_RETRY_SECONDS = 1.0, 30.0
WATCH_SECONDS = 0.5
BATCH = 32
"""Samples decoded at a time, a few milliseconds: then keys and other hosts have their turn."""
MOST_BYTES = 128 * 1024
"""A sample of 16 GPUs with 64 processes each has half of this."""
DRIFT = 0.001
"""Seconds per second that two clocks may run apart before it counts as delay; real ones differ by a tenth of it."""


class LinkPool(Protocol):
    """Where links come from: `Links`."""

    async def link(self, host: HostSite) -> HostLink: ...


class HostStreams:
    """The streams of `hosts`, `interval` seconds (0.2 to 10) between two samples. `emit` gets every Record.

    `pcie` has PCIe throughput measured as well. `silent` and `stuck` are in seconds, see SILENT_SECONDS.
    Raises UsageError for an interval that no collector gives.
    """

    def __init__(
        self,
        links: LinkPool,
        hosts: Sequence[HostSite],
        interval: float,
        emit: Callable[[Record], None],
        *,
        pcie: bool = False,
        clock: Callable[[], float] = time.time,
        silent: float = SILENT_SECONDS,
        stuck: float = STUCK_SECONDS,
    ) -> None:
        self.links = links
        self.emit = emit
        self.clock = clock
        self.pcie = pcie
        self.interval = _checked(interval)
        self._silent = silent
        self.stuck = stuck
        self._streams = [_Stream(self, host) for host in hosts]
        self._due: deque[_Stream] = deque()
        self._draining = False

    async def run(self) -> None:
        """Keep all streams until cancelled; they are stopped then, the links stay open for others."""
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._watch())
                for stream in self._streams:
                    group.create_task(stream.keep())
        finally:
            await asyncio.gather(*(stream.stop() for stream in self._streams))

    def set_interval(self, seconds: float) -> None:
        """Change it for all hosts, at once where a stream runs. UsageError as at the start."""
        self.interval = _checked(seconds)
        for stream in self._streams:
            stream.ask_again()

    def due(self, stream: _Stream) -> None:
        """A stream has something new to decode."""
        self._due.append(stream)
        if not self._draining:
            self._draining = True
            asyncio.get_running_loop().call_soon(self._drain)

    @property
    def silent_after(self) -> float:
        """Seconds without a sample after which a host is LOST."""
        return max(self._silent, SILENT_INTERVALS * self.interval)

    def _drain(self) -> None:
        self._draining = len(self._due) > BATCH
        if self._draining:
            asyncio.get_running_loop().call_soon(self._drain)
        for _ in range(min(BATCH, len(self._due))):
            self._due.popleft().take()

    async def _watch(self) -> None:
        now = asyncio.get_running_loop().time
        while True:
            await asyncio.sleep(min(WATCH_SECONDS, self.silent_after / 4))
            for stream in self._streams:
                stream.look(now(), self.silent_after, self.stuck)


class _Stream:
    """One host's stream: the Listener of its link, and the task that begins it again."""

    def __init__(self, streams: HostStreams, host: HostSite) -> None:
        self._streams = streams
        self._host = host
        self._source = SOURCE + host.name
        self._link: HostLink | None = None
        self._wake: asyncio.Future[GatherError | None] | None = None
        self._latest: bytes | None = None
        self._heard_at = 0.0
        self._alive_at = 0.0
        self._heard_any = False
        self._seq: int | None = None
        self._offset: float | None = None
        self._taken_at = 0.0
        self._said: tuple[Reason, str] | None = None

    async def keep(self) -> None:
        """Begin the stream, and again whenever it ends, with pauses that grow while the host gives no sample."""
        now = asyncio.get_running_loop().time
        pause = FIRST_RETRY_SECONDS
        while True:
            self._heard_any = False
            try:
                link = await self._streams.links.link(self._host)
                if link is not self._link:
                    self._link, self._alive_at = link, now()
                while (error := await self._stream(link)) is None:
                    pass
            except GatherError as refusal:
                error = refusal
            self._lose(error.reason, str(error))
            if self._heard_any:
                pause = FIRST_RETRY_SECONDS
            # Hosts that were lost together come back one by one.
            await asyncio.sleep(pause * random.uniform(0.75, 1.25))  # noqa: S311 - no secret
            pause = min(2 * pause, MOST_RETRY_SECONDS)

    async def _stream(self, link: HostLink) -> GatherError | None:
        """Until the stream ends, and why; None when it is to be asked for with another interval."""
        loop = asyncio.get_running_loop()
        wake: asyncio.Future[GatherError | None] = loop.create_future()
        self._wake, self._heard_at = wake, loop.time()
        self._seq = self._offset = None
        error: GatherError | None
        try:
            asked = Sampling(self._streams.interval, self._host.gpu, self._streams.pcie)
            await link.sample(self, asked, timeout=ASK_SECONDS)
            self._heard_at = self._alive_at = loop.time()
            error = await wake
        except GatherError as refusal:
            error = refusal
        finally:
            self._wake = None
        if error is not None and error.reason is Reason.TIMEOUT and loop.time() - self._alive_at > self._streams.stuck:
            # The connection may be in order while the collector will never answer again.
            await link.close()
        return error

    async def stop(self) -> None:
        """Ask the host to stop; one that does not answer stops when its link ends."""
        link, self._link, self._latest = self._link, None, None
        if link is not None:
            try:
                await link.sample_stop(timeout=STOP_SECONDS)
            except GatherError:
                return

    def heard(self, sample: bytes) -> None:
        self._heard_at = self._alive_at = asyncio.get_running_loop().time()
        self._heard_any = True
        waiting, self._latest = self._latest is not None, sample
        if not waiting:
            self._streams.due(self)

    def ended(self, error: GatherError) -> None:
        if self._wake is not None and not self._wake.done():
            self._wake.set_result(error)

    def ask_again(self) -> None:
        """The interval has changed."""
        if self._wake is not None and not self._wake.done():
            self._wake.set_result(None)

    def look(self, now: float, silent: float, stuck: float) -> None:
        """Called every now and then: says LOST when nothing was heard for `silent` seconds, ends it after `stuck`."""
        if self._wake is None or now - self._heard_at <= silent:
            return
        said = _silence(self._host.name, silent)
        self._lose(Reason.TIMEOUT, said.en, said.zh)
        if now - self._alive_at > stuck:
            self.ended(GatherError(Reason.TIMEOUT, said.en))

    def take(self) -> None:
        """Decode the latest sample and emit it."""
        raw, self._latest = self._latest, None
        if raw is None:
            return None
        try:
            if len(raw) > MOST_BYTES:
                raise ValueError(f"of {len(raw)} bytes")
            value = decode(raw)
            sample = parse(value)
        except ValueError as error:
            return self._lose(Reason.PARSE_ERROR, f"{self._host.name}: sent a sample that cannot be read ({error})")
        lost = sample.lost if self._seq is None else sample.seq - self._seq - 1
        self._seq = sample.seq
        now = asyncio.get_running_loop().time()
        late = self._late(value.get("t") if isinstance(value, dict) else None)
        at = self._streams.clock() - (now - self._heard_at) - (late or 0.0)
        self._said = None
        sample = replace(sample, lost=max(0, lost), late=None if late is None else round(late, 3))
        return self._streams.emit(Record(at, self._source, RecordKind.SAMPLE, to_json(sample)))

    def _late(self, taken_at: object) -> float | None:
        """How much longer than the quickest one a sample was on its way; None when it does not say when it was taken.

        Only differences of the host's monotonic clock count, so its time of day does not matter.
        """
        if type(taken_at) not in (int, float):
            return None
        assert isinstance(taken_at, int | float)
        lag = self._heard_at - taken_at
        if self._offset is None or lag < self._offset:
            self._offset = lag
        else:
            self._offset += min(lag - self._offset, DRIFT * max(0.0, taken_at - self._taken_at))
        self._taken_at = taken_at
        return lag - self._offset

    def _lose(self, reason: Reason, why: str, zh: str | None = None) -> None:
        if self._said == (reason, why):
            return
        self._said = (reason, why)
        said = clean(why, limit=600)
        told = Text(said, zh) if zh is not None else lost_text(reason, said, self._host.name)
        data = {"reason": reason.value, "why": told.en, "zh": told.zh}
        self._streams.emit(Record(self._streams.clock(), self._source, RecordKind.LOST, data))


def _silence(host: str, seconds: float) -> Text:
    return Text(
        f"{host}: no sample for {seconds:g} s, though the connection is open. Its collector was stopped or the host "
        "hangs; look at its load and its mounts",
        f"{host}：连接仍在，但已 {seconds:g} 秒没有采样。采集进程被暂停或主机卡住；请查看其负载与挂载",
    )


def _checked(interval: float) -> float:
    if not FASTEST <= interval <= SLOWEST:
        raise UsageError(f"a sample every {interval:g} s cannot be had; the interval is {FASTEST:g} to {SLOWEST:g} s")
    return float(interval)
