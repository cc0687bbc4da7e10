"""One host's samples as plain numbers, and the window that they make."""

from __future__ import annotations

import math
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from statistics import fmean

from dstui.load.window import GpuWindow, HostWindow, LinkWindow, quantile_of
from dstui.telemetry.host import GpuSample, HostSample, Traffic

GROWTH_SECONDS = 60.0
"""A window shorter than this does not tell growth of memory."""
IDLE_REASONS = frozenset({"gpu_idle", "applications_clocks_setting", "none"})
"""Clock event reasons that slow nothing down; a cap of power under full load is said, but is how GPUs work."""


class Series:
    """Moments and values, 16 bytes each; a value that is not there is kept as such."""

    __slots__ = ("_at", "_value")

    def __init__(self) -> None:
        self._at = array("d")
        self._value = array("d")

    def add(self, at: float, value: float | None) -> None:
        self._at.append(at)
        self._value.append(math.nan if value is None else value)

    def moments(self, begin: float, end: float) -> list[float]:
        """Those that lie between, with or without a value."""
        return [at for at in self._at if begin <= at <= end]

    def between(self, begin: float, end: float) -> Iterator[tuple[float, float]]:
        """Those that are there."""
        for at, value in zip(self._at, self._value, strict=False):
            if begin <= at <= end and not math.isnan(value):
                yield at, value

    def values(self, begin: float, end: float) -> list[float]:
        return [value for _, value in self.between(begin, end)]


@dataclass(slots=True)
class _GpuSeen:
    use: Series = field(default_factory=Series)
    memory: Series = field(default_factory=Series)
    uuid: str | None = None
    serving: bool | None = None
    reasons: set[str] = field(default_factory=set)

    def take(self, at: float, row: GpuSample) -> None:
        self.uuid = self.uuid or row.uuid
        self.use.add(at, row.util)
        self.memory.add(at, row.mem_used / row.mem_total if row.mem_used is not None and row.mem_total else None)
        if row.procs is not None:
            self.serving = bool(row.procs) or bool(self.serving)
        self.reasons.update(row.reasons or ())

    def window(self, begin: float, end: float, step: float) -> GpuWindow:
        use = self.use.values(begin, end)
        return GpuWindow(
            uuid=self.uuid,
            samples=seen_at([at for at, _ in self.use.between(begin, end)], step),
            use_mean=fmean(use) if use else None,
            use_p5=quantile_of(use, 0.05),
            use_min=min(use, default=None),
            memory_peak=max(self.memory.values(begin, end), default=None),
            serving=self.serving,
            throttled=tuple(sorted(self.reasons - IDLE_REASONS)),
        )


@dataclass(slots=True)
class _LinkSeen:
    busy: Series = field(default_factory=Series)
    speed: float | None = None

    def take(self, at: float, row: Traffic) -> None:
        self.busy.add(at, 8 * max(row.rx, row.tx) if row.rx is not None and row.tx is not None else None)
        self.speed = row.speed or self.speed

    def window(self, begin: float, end: float, step: float) -> LinkWindow:
        busy = self.busy.values(begin, end)
        samples = seen_at([at for at, _ in self.busy.between(begin, end)], step)
        return LinkWindow(
            samples, self.speed, fmean(busy) if busy else None, quantile_of(busy, 0.95), max(busy, default=None)
        )


@dataclass(slots=True)
class HostSeen:
    """`take` samples; `why` is the last reason for which one did not come."""

    why: str = ""
    _used: Series = field(default_factory=Series)
    _share: Series = field(default_factory=Series)
    _swap: Series = field(default_factory=Series)
    _oom: Series = field(default_factory=Series)
    _gpus: dict[int, _GpuSeen] = field(default_factory=dict)
    _links: dict[str, _LinkSeen] = field(default_factory=dict)
    _gpu_why: str = ""

    def take(self, at: float, sample: HostSample) -> None:
        total, available = sample.mem_total, sample.mem_available
        known = bool(total) and total is not None and available is not None
        used = total - available if known and total is not None and available is not None else None
        self._used.add(at, used)
        self._share.add(at, min(1.0, max(0.0, used / total)) if used is not None and total else None)
        self._swap.add(at, sample.swap_in)
        self._oom.add(at, sample.oom_kill)
        for gpu in sample.gpus:
            self._gpus.setdefault(gpu.index, _GpuSeen()).take(at, gpu)
        for name, traffic in (*sample.net.items(), *(sample.rdma or {}).items()):
            self._links.setdefault(name, _LinkSeen()).take(at, traffic)
        if sample.gpu_missing is not None:
            self._gpu_why = sample.gpu_missing.why

    def window(self, begin: float, end: float, step: float) -> HostWindow:
        """What it was between two moments, of a sample every `step` seconds; with `why` where nothing came."""
        expected = max(1, math.floor((end - begin) / step))
        samples = seen_at(self._used.moments(begin, end), step)
        if not samples:
            return HostWindow(0, expected, why=self.why or "no sample came in the window")
        shares, swap = self._share.values(begin, end), self._swap.values(begin, end)
        oom = self._oom.values(begin, end)
        return HostWindow(
            samples=samples,
            expected=expected,
            memory_mean=fmean(shares) if shares else None,
            memory_peak=max(shares, default=None),
            growth=_growth(list(self._used.between(begin, end))),
            swap_in=sum(swap) if swap else None,
            oom=max(0.0, oom[-1] - oom[0]) if oom else None,
            gpus={index: gpu.window(begin, end, step) for index, gpu in sorted(self._gpus.copy().items())},
            links={name: link.window(begin, end, step) for name, link in sorted(self._links.copy().items())},
            why=self.why,
            gpu_why=self._gpu_why,
        )


def seen_at(moments: Sequence[float], step: float) -> int:
    """How many samples there are of one every `step` seconds: many in a short time do not stand for those missing."""
    lasted = sum(min(later - earlier, 1.5 * step) for earlier, later in pairwise(moments))
    return min(len(moments), round(lasted / step) + 1) if moments else 0


def _growth(used: Sequence[tuple[float, float]]) -> float | None:
    """Bytes/hour by which used memory grows: from the mean of the first third to that of the last."""
    third = len(used) // 3
    if third < 1 or used[-1][0] - used[0][0] < GROWTH_SECONDS:
        return None
    early, late = used[:third], used[-third:]
    seconds = fmean(at for at, _ in late) - fmean(at for at, _ in early)
    return (fmean(v for _, v in late) - fmean(v for _, v in early)) / seconds * 3600 if seconds > 0 else None
