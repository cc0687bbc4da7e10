"""What a host's charts are drawn from: some fifteen minutes of its GPUs and of itself, in memory taken once."""

from __future__ import annotations

from collections.abc import Iterable
from enum import IntEnum

from dstui.telemetry.host import HostSample, Traffic
from dstui.telemetry.rings import Rings

HISTORY_SECONDS = 900.0
MOST_MOMENTS = 900
"""Of a stream faster than 1 Hz fewer minutes are kept, so that a host never takes more than about 140 kB."""


class GpuColumn(IntEnum):
    """%, share of memory (0 to 1), °C, W."""

    UTIL = 0
    MEMORY = 1
    TEMP = 2
    POWER = 3


class HostColumn(IntEnum):
    """CPU %, share of memory (0 to 1), bytes/s over all interfaces and over all RDMA ports."""

    CPU = 0
    MEMORY = 1
    NET_RX = 2
    NET_TX = 3
    RDMA_RX = 4
    RDMA_TX = 5


_PER_GPU = len(GpuColumn)
_NO_GPU = (None,) * _PER_GPU


class HostRings:
    """`host` and `gpus` with one moment per sample. GPUs are by index; one that says nothing leaves a gap."""

    __slots__ = ("_capacity", "gpus", "host")

    def __init__(self, interval: float) -> None:
        self._capacity = max(2, min(MOST_MOMENTS, round(HISTORY_SECONDS / interval)))
        self.host = Rings(len(HostColumn), self._capacity)
        self.gpus: Rings | None = None

    def add(self, at: float, sample: HostSample) -> None:
        """One moment."""
        total, free = sample.mem_total, sample.mem_available
        memory = (total - free) / total if total and free is not None and free <= total else None
        rx, tx = _sums(sample.net.values())
        rdma_rx, rdma_tx = _sums(sample.rdma.values()) if sample.rdma else (None, None)
        self.host.append(at, (sample.cpu, memory, rx, tx, rdma_rx, rdma_tx))
        self._add_gpus(at, sample)

    def gpu_column(self, index: int, column: GpuColumn) -> tuple[Rings, int] | None:
        """The ring and the column of one GPU's series; None when there is none."""
        if self.gpus is None or not 0 <= index < self.gpus.columns // _PER_GPU:
            return None
        return self.gpus, index * _PER_GPU + column

    def _add_gpus(self, at: float, sample: HostSample) -> None:
        gpus = sample.gpus
        rings = self.gpus
        count = 0 if rings is None else rings.columns // _PER_GPU
        if gpus and gpus[-1].index >= count:
            count = max(gpu.index for gpu in gpus) + 1
            rings = self.gpus = self._wider(rings, count)
        if rings is None:
            return None
        values: list[float | None] = []
        for gpu in gpus:
            if len(values) == gpu.index * _PER_GPU:
                total, used = gpu.mem_total, gpu.mem_used
                values += (gpu.util, used / total if total and used is not None else None, gpu.temp, gpu.power)
            else:
                return rings.append(at, _by_index(sample, count))
        values += _NO_GPU * (count - len(gpus))
        return rings.append(at, values)

    def _wider(self, before: Rings | None, count: int) -> Rings:
        """Room for more GPUs; what was kept of the others is copied, once."""
        rings = Rings(count * _PER_GPU, self._capacity)
        if before is not None:
            columns = [[value for _, value in before.points(column)] for column in range(before.columns)]
            rest: list[float | None] = [None] * (count * _PER_GPU - before.columns)
            for moment, (at, _) in enumerate(before.points(0)):
                rings.append(at, [*(column[moment] for column in columns), *rest])
        return rings


def _by_index(sample: HostSample, count: int) -> list[float | None]:
    """The values of GPUs that do not come as 0, 1, 2 …"""
    values: list[float | None] = [None] * (count * _PER_GPU)
    for gpu in sample.gpus:
        if gpu.index < count:
            total, used = gpu.mem_total, gpu.mem_used
            share = used / total if total and used is not None else None
            start = gpu.index * _PER_GPU
            values[start : start + _PER_GPU] = (gpu.util, share, gpu.temp, gpu.power)
    return values


def _sums(links: Iterable[Traffic]) -> tuple[float | None, float | None]:
    """Bytes/s received and sent over all links that tell; None when none does."""
    rx = tx = None
    for link in links:
        if link.rx is not None:
            rx = link.rx if rx is None else rx + link.rx
        if link.tx is not None:
            tx = link.tx if tx is None else tx + link.tx
    return rx, tx
