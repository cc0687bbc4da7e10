"""One sample of one host, typed, and its JSON in a Record. What a host or a file says is hostile until it was parsed.

A value that is null, absent, of the wrong type, negative, not finite or beyond what it can be is None: not there.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from dstui.gather.wording import clean, reason_of
from dstui.model import Reason

MOST_GPUS = 64
MOST_INTERFACES = 64
MOST_PROCESSES = 64
MOST_REASONS = 32
MOST_CHARS = 200
MOST_XIDS = 16
_LARGEST = 1e18


@dataclass(frozen=True, slots=True)
class Traffic:
    """A network interface or RDMA port: bytes/s received and sent, link speed in bit/s."""

    rx: float | None = None
    tx: float | None = None
    speed: float | None = None

    @property
    def busiest(self) -> float | None:
        """Share of the link speed in the busier direction, 0 to 1; None while speed or rates are not known."""
        if not self.speed or self.rx is None or self.tx is None:
            return None
        return max(self.rx, self.tx) * 8 / self.speed


@dataclass(frozen=True, slots=True)
class GpuProcess:
    """A compute process on a GPU; `mem` in bytes."""

    pid: int
    mem: float | None


@dataclass(frozen=True, slots=True)
class GpuSample:
    """One GPU: %, bytes, °C, W, MHz, KB/s. `error` is NVML's name for why values are not there (`GPU_IS_LOST`).

    `reasons` are the clock event reasons as words of nvml.h (`hw_thermal_slowdown`), None when they cannot be read.
    `procs` and `power_limit` are `HostSample.slow_age` seconds older than the rest, PCIe throughput `pcie_age`.
    """

    index: int
    uuid: str | None = None
    name: str | None = None
    util: float | None = None
    mem_util: float | None = None
    mem_used: float | None = None
    mem_total: float | None = None
    temp: float | None = None
    power: float | None = None
    power_limit: float | None = None
    sm_mhz: float | None = None
    mem_mhz: float | None = None
    reasons: tuple[str, ...] | None = None
    ecc_uncorrected: float | None = None
    pcie_gen: float | None = None
    pcie_width: float | None = None
    pcie_rx: float | None = None
    pcie_tx: float | None = None
    pcie_age: float | None = None
    procs: tuple[GpuProcess, ...] | None = None
    error: str | None = None
    pci: str | None = None
    """The bus id, `00000000:4E:00.0`, by which the kernel's log names it."""


@dataclass(frozen=True, slots=True)
class Xid:
    """One error of the NVIDIA driver in the kernel's log: when by the host's clock, on which PCI device, its number."""

    at: float
    pci: str
    number: int
    text: str = ""

    def is_of(self, gpu: GpuSample) -> bool:
        """Whether it happened on this GPU. The log writes the domain with four digits, NVML with eight."""
        return gpu.pci is not None and _bus(gpu.pci) == _bus(self.pci)


def _bus(pci: str) -> tuple[str, ...]:
    """Domain, bus and device, however wide each is written; without the function."""
    return tuple(part.lstrip("0").lower() for part in pci.partition(".")[0].split(":"))


@dataclass(frozen=True, slots=True)
class GpuMissing:
    """Why a host's GPUs, or some of them, cannot be seen. `seconds` is for how long, where that is known."""

    reason: Reason
    why: str
    seconds: float | None = None


@dataclass(frozen=True, slots=True)
class HostSample:
    """One moment of a host. `lost` counts samples between the one before and this that never got here.

    `cpu` %, memory and swap in bytes, swap traffic in pages/s, `oom_kill` the kernel's counter since it started.
    `late` is how many seconds it was on its way beyond the usual; Record.at already takes it off. `rdma` None means
    that the ports cannot be read, empty that there are none. `gpu_missing` may stand beside GPUs that can be seen.
    """

    seq: int
    lost: int = 0
    hz: float | None = None
    late: float | None = None
    cpu: float | None = None
    load1: float | None = None
    cpus: float | None = None
    mem_total: float | None = None
    mem_available: float | None = None
    swap_used: float | None = None
    swap_in: float | None = None
    swap_out: float | None = None
    oom_kill: float | None = None
    net: Mapping[str, Traffic] = field(default_factory=dict)
    rdma: Mapping[str, Traffic] | None = None
    gpu_source: str | None = None
    gpu_missing: GpuMissing | None = None
    gpu_age: float | None = None
    slow_age: float | None = None
    gpus: tuple[GpuSample, ...] = ()
    xids: tuple[Xid, ...] | None = None
    """Those of the last hour, the oldest first; None when the kernel's log cannot be read, and `xid_missing` why."""
    xid_missing: GpuMissing | None = None


def parse(value: object) -> HostSample:
    """A sample from a host or a recording. ValueError when it is none at all: no table, or no `seq`."""
    if not isinstance(value, dict):
        raise ValueError("a sample is a table")
    seq = value.get("seq")
    if type(seq) is not int or not 0 <= seq < _LARGEST:
        raise ValueError("a sample has a sequence number")
    get = value.get
    lost = get("lost")
    gpus = get("gpus")
    return HostSample(
        seq=seq,
        lost=lost if type(lost) is int and 0 <= lost < _LARGEST else 0,
        hz=_number(get("hz")),
        late=_number(get("late")),
        cpu=_percent(get("cpu")),
        load1=_number(get("load1")),
        cpus=_number(get("cpus")),
        mem_total=_number(get("mem_total")),
        mem_available=_number(get("mem_available")),
        swap_used=_number(get("swap_used")),
        swap_in=_number(get("swap_in")),
        swap_out=_number(get("swap_out")),
        oom_kill=_number(get("oom_kill")),
        net=_links(get("net")) or {},
        rdma=_links(get("rdma")),
        gpu_source=_text(get("gpu_source")),
        gpu_missing=_missing(get("gpu_missing")),
        gpu_age=_number(get("gpu_age")),
        slow_age=_number(get("slow_age")),
        gpus=tuple(_gpu(row) for row in gpus[:MOST_GPUS] if _is_gpu(row)) if isinstance(gpus, list) else (),
        xids=_xids(get("xids")),
        xid_missing=_missing(get("xid_missing")),
    )


def to_json(sample: HostSample) -> dict[str, object]:
    """The data of a SAMPLE record; `parse` of it gives the same sample."""
    missing = sample.gpu_missing
    return {
        "seq": sample.seq,
        "lost": sample.lost,
        "hz": sample.hz,
        "late": sample.late,
        "cpu": sample.cpu,
        "load1": sample.load1,
        "cpus": sample.cpus,
        "mem_total": sample.mem_total,
        "mem_available": sample.mem_available,
        "swap_used": sample.swap_used,
        "swap_in": sample.swap_in,
        "swap_out": sample.swap_out,
        "oom_kill": sample.oom_kill,
        "net": _rows(sample.net),
        "rdma": None if sample.rdma is None else _rows(sample.rdma),
        "gpu_source": sample.gpu_source,
        "gpu_missing": missing and {"reason": missing.reason.value, "why": missing.why, "for": missing.seconds},
        "gpu_age": sample.gpu_age,
        "slow_age": sample.slow_age,
        "gpus": [_gpu_row(gpu) for gpu in sample.gpus],
        "xids": None
        if sample.xids is None
        else [{"at": xid.at, "pci": xid.pci, "xid": xid.number, "text": xid.text} for xid in sample.xids],
        "xid_missing": sample.xid_missing
        and {"reason": sample.xid_missing.reason.value, "why": sample.xid_missing.why, "for": None},
    }


def _number(value: object) -> float | None:
    # `type` instead of isinstance: true and false are no numbers.
    if (type(value) is int or type(value) is float) and 0 <= value <= _LARGEST:
        return value
    return None


def _percent(value: object) -> float | None:
    number = _number(value)
    return None if number is None or number > 100 else number


def _text(value: object) -> str | None:
    if not isinstance(value, str) or not value:
        return None
    if len(value) <= MOST_CHARS and value.isascii() and value.isprintable():
        return value
    # A text that is cut gets one character more, which says so.
    return clean(value[: 4 * MOST_CHARS], limit=MOST_CHARS - (len(value) > MOST_CHARS)) or None


def _links(value: object) -> dict[str, Traffic] | None:
    if not isinstance(value, dict):
        return None
    found: dict[str, Traffic] = {}
    for name, row in value.items():
        label = _text(name)
        if label is not None and isinstance(row, dict) and len(found) < MOST_INTERFACES:
            found[label] = Traffic(_number(row.get("rx")), _number(row.get("tx")), _number(row.get("speed")) or None)
    return found


def _rows(links: Mapping[str, Traffic]) -> dict[str, object]:
    return {name: {"rx": link.rx, "tx": link.tx, "speed": link.speed} for name, link in links.items()}


def _missing(value: object) -> GpuMissing | None:
    if not isinstance(value, dict):
        return None
    why = _text(value.get("why")) or "the host gave no reason"
    return GpuMissing(reason_of(value.get("reason")), why, _number(value.get("for")))


def _is_gpu(row: object) -> bool:
    return isinstance(row, dict) and type(row.get("index")) is int and 0 <= row["index"] < MOST_GPUS


def _gpu(row: dict[str, object]) -> GpuSample:
    get = row.get
    index = get("index")
    assert isinstance(index, int)
    return GpuSample(
        index,
        _text(get("uuid")),
        _text(get("name")),
        _percent(get("util")),
        _percent(get("mem_util")),
        _number(get("mem_used")),
        _number(get("mem_total")),
        _number(get("temp")),
        _number(get("power")),
        _number(get("power_limit")),
        _number(get("sm_mhz")),
        _number(get("mem_mhz")),
        _reasons(get("reasons")),
        _number(get("ecc_uncorrected")),
        _number(get("pcie_gen")),
        _number(get("pcie_width")),
        _number(get("pcie_rx")),
        _number(get("pcie_tx")),
        _number(get("pcie_age")),
        _processes(get("procs")),
        _text(get("error")),
        _text(get("pci")),
    )


def _xids(value: object) -> tuple[Xid, ...] | None:
    if not isinstance(value, list):
        return None
    found = []
    for row in value[-MOST_XIDS:]:
        get = row.get if isinstance(row, dict) else {}.get
        at, pci, number = _number(get("at")), _text(get("pci")), get("xid")
        if at is not None and pci is not None and type(number) is int and 0 <= number < 10_000:
            found.append(Xid(at, pci, number, _text(get("text")) or ""))
    return tuple(found)


def _reasons(value: object) -> tuple[str, ...] | None:
    if not isinstance(value, list):
        return None
    words = [_text(word) for word in value[:MOST_REASONS]]
    return tuple(word for word in words if word is not None)


def _processes(value: object) -> tuple[GpuProcess, ...] | None:
    if not isinstance(value, list):
        return None
    return tuple(
        GpuProcess(row["pid"], _number(row.get("mem")))
        for row in value[:MOST_PROCESSES]
        if isinstance(row, dict) and type(row.get("pid")) is int and 0 <= row["pid"] < _LARGEST
    )


def _gpu_row(gpu: GpuSample) -> dict[str, object]:
    return {
        "index": gpu.index,
        "uuid": gpu.uuid,
        "name": gpu.name,
        "util": gpu.util,
        "mem_util": gpu.mem_util,
        "mem_used": gpu.mem_used,
        "mem_total": gpu.mem_total,
        "temp": gpu.temp,
        "power": gpu.power,
        "power_limit": gpu.power_limit,
        "sm_mhz": gpu.sm_mhz,
        "mem_mhz": gpu.mem_mhz,
        "reasons": None if gpu.reasons is None else list(gpu.reasons),
        "ecc_uncorrected": gpu.ecc_uncorrected,
        "pcie_gen": gpu.pcie_gen,
        "pcie_width": gpu.pcie_width,
        "pcie_rx": gpu.pcie_rx,
        "pcie_tx": gpu.pcie_tx,
        "pcie_age": gpu.pcie_age,
        "procs": None if gpu.procs is None else [{"pid": one.pid, "mem": one.mem} for one in gpu.procs],
        "error": gpu.error,
        "pci": gpu.pci,
    }
