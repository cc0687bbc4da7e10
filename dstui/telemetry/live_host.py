"""One host as it streams: the latest sample, its history, what stands out of it, and the changes worth a line."""

from __future__ import annotations

from dataclasses import dataclass, replace

from dstui.facts.case import HostSite
from dstui.model import Text
from dstui.telemetry import host as host_sample
from dstui.telemetry.host import GpuSample, HostSample
from dstui.telemetry.live_host_changes import HostChanges, gpu_gone, is_odd
from dstui.telemetry.live_log import LiveEvent, Severity
from dstui.telemetry.live_rings import HostRings
from dstui.telemetry.live_status import Loss, Pulse, loss_of
from dstui.telemetry.record import Record

STEADY_SHARE = 0.2
"""Weight of a new sample in the steady use: some five samples, because decoding goes up and down within seconds."""

SLOWEST_SECONDS = 10.0
"""No host is asked to speak less often; one that says so is not believed."""


@dataclass(frozen=True, slots=True)
class HostTotals:
    """Sums and extremes over the GPUs that gave the value: use and power as they are, `steady` use levelled.

    `seen` are the GPUs that work, without those that NVML lists as lost.
    `steady_low` and the others are (value, GPU index); None when no GPU gave one.
    """

    seen: int = 0
    used: int = 0
    use: float = 0.0
    use_low: float | None = None
    use_high: float | None = None
    steady_low: tuple[float, int] | None = None
    steady_high: tuple[float, int] | None = None
    temp_low: tuple[float, int] | None = None
    temp_high: tuple[float, int] | None = None
    memory: float | None = None
    power: float | None = None
    odd: bool = False
    """Some GPU has an error, is hot or is slowed down; see `is_odd`."""

    @property
    def mean_use(self) -> float | None:
        """% over the GPUs that tell."""
        return self.use / self.used if self.used else None


class HostFold:
    """Feed it the records of one host in order. `version` counts them; what it holds may be old: see `pulse`."""

    __slots__ = ("_changes", "lost_samples", "name", "pulse", "rings", "sample", "site", "steady", "totals", "version")

    def __init__(self, name: str, site: HostSite | None, interval: float) -> None:
        self.name = name
        self.site = site
        self.pulse = Pulse(interval)
        self.sample: HostSample | None = None
        self.rings = HostRings(interval)
        self.steady: dict[int, float] = {}
        self.totals = HostTotals()
        self.lost_samples = 0
        self.version = 0
        self._changes = HostChanges(name, site.gpus_per_host if site is not None and site.gpu else None)

    @property
    def expected_gpus(self) -> int | None:
        """How many GPUs the inventory declares; None when it does not say."""
        if self.site is None:
            return None
        return self.site.gpus_per_host if self.site.gpu else 0

    def sampled(self, record: Record) -> list[LiveEvent]:
        """A SAMPLE. ValueError when it is none at all."""
        sample = host_sample.parse(record.data)
        totals = self._level(sample.gpus)
        events = self._changes.sampled(record.at, self.sample, sample, self.pulse, totals.odd)
        self.totals = totals
        self.pulse.sampled(record.at)
        if sample.hz:
            self.pulse.interval = min(SLOWEST_SECONDS, 1.0 / sample.hz)
        self.version += 1
        self.sample = sample
        self.lost_samples += sample.lost
        self.rings.add(record.at, sample)
        return events

    def lost(self, record: Record) -> list[LiveEvent]:
        """A LOST. The time at which it began to be lost is kept while it goes on."""
        loss = loss_of(record.at, record.data)
        loss = replace(loss, why=_without(self.name, loss.why))
        before = self.pulse.loss
        self.pulse.lost(loss if before is None else Loss(before.at, loss.reason, loss.why))
        self.version += 1
        if before is not None:
            return []
        what = Text(f"stopped answering: {loss.why.en}", f"停止应答：{loss.why.zh}")
        if self.sample is None:
            what = Text(f"does not answer: {loss.why.en}", f"无应答：{loss.why.zh}")
        return [LiveEvent(record.at, record.source, Severity.FAIL, self.name, what)]

    def _level(self, gpus: tuple[GpuSample, ...]) -> HostTotals:
        steady = self.steady
        used, use, power, held, room = 0, 0.0, 0.0, 0.0, 0.0
        powered = odd = False
        working = len(gpus)
        use_low = use_high = steady_low = steady_high = temp_low = temp_high = None
        for gpu in gpus:
            index, util, temp = gpu.index, gpu.util, gpu.temp
            if util is not None:
                used += 1
                use += util
                if use_low is None or util < use_low:
                    use_low = util
                if use_high is None or util > use_high:
                    use_high = util
                before = steady.get(index)
                level = steady[index] = util if before is None else before + STEADY_SHARE * (util - before)
                if steady_low is None or level < steady_low[0]:
                    steady_low = (level, index)
                if steady_high is None or level > steady_high[0]:
                    steady_high = (level, index)
            else:
                steady.pop(index, None)
            if temp is not None:
                if temp_low is None or temp < temp_low[0]:
                    temp_low = (temp, index)
                if temp_high is None or temp > temp_high[0]:
                    temp_high = (temp, index)
            if is_odd(gpu):
                odd = True
                working -= gpu_gone(gpu)
            if gpu.power is not None:
                powered = True
                power += gpu.power
            if gpu.mem_used is not None and gpu.mem_total:
                held += gpu.mem_used
                room += gpu.mem_total
        if len(steady) > len(gpus):
            for index in steady.keys() - {gpu.index for gpu in gpus}:
                del steady[index]
        return HostTotals(
            working, used, use, use_low, use_high, steady_low, steady_high, temp_low, temp_high,
            held / room if room else None, power if powered else None, odd,
        )  # fmt: skip


def _without(name: str, why: Text) -> Text:
    """The reason without the host's name before it, so that hosts lost for the same reason are alike."""
    return Text(why.en.removeprefix(f"{name}: "), why.zh.removeprefix(f"{name}: ").removeprefix(f"{name}："))
