"""The verb `sample`: one line per interval until it is stopped. Whatever could block is asked of companions."""

import time

from dstui.gather.collector.companion import Companion
from dstui.gather.collector.loop import Loop
from dstui.gather.collector.rates import HostReading
from dstui.gather.collector.wire import dumps, number

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from dstui.gather.collector.companion import Look

FASTEST, SLOWEST = 0.2, 10.0
"""Seconds between two samples, at least and at most."""
FIRST_SECONDS = 0.5
"""The first sample comes after this, so that it has rates; or after one interval when that is shorter."""
WAIT_SHARE = 0.8
"""How long a sample waits for GPUs and cards: this share of the interval."""
OLD_SECONDS = 3.0
"""An answer older than this is no value any more, however late the next one is."""


class Sampler:
    """One stream. `post(text)` sends a line and says False when the controller has not taken the one before yet.

    Then the newest sample is kept until `drained()` is called, and those that it replaces are counted in `lost`.
    """

    def __init__(
        self, loop: Loop, number_: object, request: "dict[str, object]", post: "Callable[[str], bool]"
    ) -> None:
        self.interval = min(SLOWEST, max(FASTEST, number(request, "interval", 1.0)))
        self._loop = loop
        self._post = post
        self._head = '{"id":%s,"sample":' % dumps([number_])[1:-1]
        pcie = bool(request.get("pcie"))
        self._gpus = Companion(loop, lambda: _gpu_look(pcie), self._heard) if request.get("gpus", True) else None
        self._devices = Companion(loop, _device_look, self._heard)
        self._host = HostReading()
        self._row: "dict[str, object] | None" = None
        self._kept = ""
        self._seq = 0
        self._lost = 0
        self._started_at = self._read_at = time.monotonic()
        self._due = self._started_at + min(FIRST_SECONDS, self.interval)
        self._host.read(self._started_at)
        for companion in self._companions():
            companion.ask()
        self._tick_timer = loop.after(self._due - self._started_at, self._tick)
        self._wait_timer = self._tick_timer

    def drop(self) -> None:
        """End the stream and its children."""
        self._loop.cancel(self._tick_timer)
        self._loop.cancel(self._wait_timer)
        self._row, self._kept = None, ""
        for companion in self._companions():
            companion.drop()

    def drained(self) -> None:
        """The controller has taken everything: the sample that was kept may go."""
        kept, self._kept = self._kept, ""
        if kept:
            self._send(kept)

    def _companions(self) -> "list[Companion]":
        return [self._devices] + ([self._gpus] if self._gpus else [])

    def _tick(self) -> None:
        if self._row is not None:
            self._finish()
        now = time.monotonic()
        # A collector that was stopped for a while has lost those samples too.
        skipped = max(0, int((now - self._due) / self.interval))
        self._due += self.interval * (skipped + 1)
        self._seq += skipped + 1
        self._lost += skipped
        self._tick_timer = self._loop.after(max(0.0, self._due - now), self._tick)
        self._read_at = now
        self._row = self._host.read(now)
        late = [companion for companion in self._companions() if companion.owes]
        for companion in self._companions():
            companion.ask()
        waited_for = [one for one in self._companions() if one.owes and one not in late]
        if waited_for:
            self._wait_timer = self._loop.after(WAIT_SHARE * self.interval, self._finish)
        else:
            self._finish()

    def _heard(self) -> None:
        if self._row is None:
            return
        # One that owes since an earlier sample is not waited for.
        if not any(one.owes and (one.owing_since or 0.0) >= self._read_at for one in self._companions()):
            self._finish()

    def _finish(self) -> None:
        row, self._row = self._row, None
        self._loop.cancel(self._wait_timer)
        if row is None:
            return
        now = time.monotonic()
        sample: "dict[str, object]" = {
            "seq": self._seq,
            "t": round(self._read_at, 3),
            "hz": round(1.0 / self.interval, 3),
        }
        sample.update(row)
        self._add_devices(sample, now)
        self._add_gpus(sample, now)
        self._send(dumps(sample))

    def _send(self, sample: str) -> None:
        if self._kept:
            self._lost += 1
            self._kept = ""
        # Counted when it leaves: what is lost while it was kept belongs to it.
        if self._post('%s{"lost":%d,%s}' % (self._head, self._lost, sample[1:])):
            self._lost = 0
        else:
            self._kept = sample

    def _add_devices(self, sample: "dict[str, object]", now: float) -> None:
        answer = self._devices.answer
        if answer is None or "missing" in answer or now - self._devices.answered_at > OLD_SECONDS:
            sample.update(rdma=None, xids=None, xid_missing=None)
            return
        sample["rdma"] = answer["rdma"]
        sample["xids"], sample["xid_missing"] = answer.get("xids"), answer.get("xid_missing")
        speeds, net = answer["speeds"], sample["net"]
        if isinstance(speeds, dict) and isinstance(net, dict):
            for name, way in net.items():
                way["speed"] = speeds.get(name)

    def _add_gpus(self, sample: "dict[str, object]", now: float) -> None:
        if self._gpus is None:
            sample.update(gpu_source=None, gpu_missing=None, gpus=[])
            return
        answer, heard_at = self._gpus.answer, self._gpus.answered_at
        if answer is not None and "missing" in answer:
            missing = {"reason": answer["missing"], "why": answer["why"]}
            sample.update(gpu_source=None, gpu_missing=missing, gpus=[])
        elif answer is not None and now - heard_at <= OLD_SECONDS:
            read_at = answer.get("read_at")
            sample.update((key, value) for key, value in answer.items() if key != "read_at")
            sample["gpu_age"] = round(max(0.0, now - read_at), 2) if isinstance(read_at, float) else None
        else:
            silent = now - (heard_at if answer is not None else self._started_at)
            since = time.strftime("%H:%M:%S", time.gmtime(time.time() - silent))
            why = "the GPU driver has not answered since %s UTC by the host's clock" % since
            missing = {"reason": "timeout", "why": why, "for": round(silent, 1)}
            sample.update(gpu_source=None, gpu_missing=missing, gpus=[])


def _gpu_look(pcie: bool) -> "Look":
    from dstui.gather.collector.gpuwatch import GpuWatch

    return GpuWatch(pcie).look


def _device_look() -> "Look":
    from dstui.gather.collector.kmsg import XidWatch
    from dstui.gather.collector.rates import Devices

    devices, xids = Devices(), XidWatch()

    def look() -> "dict[str, object]":
        return dict(devices.look(), **xids.look())

    return look
