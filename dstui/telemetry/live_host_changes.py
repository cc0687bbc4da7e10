"""Changes of one host between two samples: throttling, heat, ECC errors, processes killed, GPUs gone and back."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Iterator, Mapping

from dstui.model import Text
from dstui.telemetry.host import GpuSample, HostSample
from dstui.telemetry.live_log import LiveEvent, Severity
from dstui.telemetry.live_status import Pulse
from dstui.telemetry.live_xids import gpu_of, severity, told

SAME_XID_SECONDS = 5.0
"""A stream that begins anew reckons the times of the kernel's log anew; they differ by what the clock was set since."""

_XIDS_REMEMBERED = 128

HARMLESS_REASONS = frozenset({"gpu_idle", "applications_clocks_setting"})
"""Clock event reasons that say nothing against a GPU (x.throttle: idle and application clocks)."""

_HARD = frozenset({"hw_slowdown", "hw_thermal_slowdown", "hw_power_brake_slowdown"})
_SOFT = frozenset({"sw_thermal_slowdown"})

HOT_CELSIUS, COOL_CELSIUS = 84.0, 80.0
"""3 °C before 87, where NVML's slowdown threshold of an H100 stands; cool again from 80 on. The stream has no limit."""

ENDED_SECONDS = 10.0
"""A throttle reason that was not seen for so long has ended: at the power limit it comes and goes with every sample."""

GONE_ERRORS = frozenset({"GPU_IS_LOST", "UNINITIALIZED", "RESET_REQUIRED", "DRIVER_NOT_LOADED", "GPU_NOT_FOUND"})
"""NVML errors of a GPU that does not work any more, whatever else is still known of it."""

REASON_WORDS: Mapping[str, Text] = {
    "sw_power_cap": Text("power cap", "功率上限"),
    "hw_slowdown": Text("hardware slowdown", "硬件降频"),
    "sync_boost": Text("sync boost", "同步加速"),
    "sw_thermal_slowdown": Text("software thermal slowdown", "软件过热降频"),
    "hw_thermal_slowdown": Text("hardware thermal slowdown", "硬件过热降频"),
    "hw_power_brake_slowdown": Text("power brake", "供电制动降频"),
    "display_clock_setting": Text("display clocks", "显示时钟设置"),
}


def reason_severity(reason: str) -> Severity:
    """FAIL for what the hardware does to save itself, WARN for software's heat, INFO for the rest, such as the cap."""
    if reason in _HARD:
        return Severity.FAIL
    return Severity.WARN if reason in _SOFT else Severity.INFO


def reason_text(reason: str) -> Text:
    """A clock event reason in words."""
    return REASON_WORDS.get(reason, Text(reason.replace("_", " "), reason.replace("_", " ")))


def gpu_gone(gpu: GpuSample) -> bool:
    """NVML lists it and it does not work: it says so, or gives an error and nothing else."""
    if gpu.error is None:
        return False
    return gpu.error in GONE_ERRORS or (gpu.util is None and gpu.temp is None and gpu.mem_used is None)


def is_odd(gpu: GpuSample) -> bool:
    """Whether anything but its use stands against it: an error, heat, or a clock event reason that is not harmless."""
    reasons, temp = gpu.reasons, gpu.temp
    if gpu.error is not None or (temp is not None and temp >= HOT_CELSIUS):
        return True
    return bool(reasons) and not HARMLESS_REASONS.issuperset(reasons or ())


def gpu_names(host: str, indexes: Iterable[int]) -> str:
    """`gpu-03:5`, `gpu-03:0-3,7`."""
    return f"{host}:{index_ranges(indexes)}"


def index_ranges(indexes: Iterable[int]) -> str:
    """`5`, `0-3,7`."""
    runs: list[list[int]] = []
    for index in sorted(indexes):
        if runs and index == runs[-1][-1] + 1:
            runs[-1].append(index)
        else:
            runs.append([index])
    return ",".join(str(run[0]) if len(run) == 1 else f"{run[0]}-{run[-1]}" for run in runs)


class HostChanges:
    """What was told already. `sampled` gives each change once; what one sample does to several GPUs is one change."""

    __slots__ = (
        "_ecc",
        "_expected",
        "_hot",
        "_name",
        "_oom",
        "_source",
        "_throttled",
        "_uuids",
        "_working",
        "_xids_told",
    )

    def __init__(self, name: str, expected_gpus: int | None) -> None:
        self._name = name
        self._source = f"host:{name}"
        self._expected = expected_gpus
        self._throttled: dict[tuple[int, str], float] = {}
        self._hot: set[int] = set()
        self._ecc: dict[str, float] = {}
        self._oom: float | None = None
        self._uuids: dict[int, str] = {}
        self._working: dict[str, int] | None = None
        self._xids_told: dict[tuple[str, int], float] = {}

    def sampled(
        self, at: float, before: HostSample | None, now: HostSample, pulse: Pulse, odd: bool
    ) -> list[LiveEvent]:
        """The changes that a sample shows. `pulse` is as it was before it; `odd` is `is_odd` of any of its GPUs."""
        xids = self._xids(at, now) if now.xids else ()
        return [*self._host(at, now, pulse), *self._gpus(at, before, now, odd), *xids]

    def _event(self, at: float, severity: Severity, what: Text, gpus: Iterable[int] | None = None) -> LiveEvent:
        subject = self._name if gpus is None else gpu_names(self._name, gpus)
        return LiveEvent(at, self._source, severity, subject, what)

    def _host(self, at: float, now: HostSample, pulse: Pulse) -> Iterator[LiveEvent]:
        if pulse.loss is not None:
            seconds = max(0.0, at - pulse.loss.at)
            what = Text(f"answers again after {seconds:.0f} s", f"{seconds:.0f} 秒后恢复应答")
            yield self._event(at, Severity.INFO, what)
        oom, before = now.oom_kill, self._oom
        if oom is not None:
            self._oom = oom
            if before is not None and oom > before:
                grown = oom - before
                what = Text(
                    f"ran out of memory: the kernel killed {grown:.0f} process{'es' if grown > 1 else ''}",
                    f"内存耗尽：内核终止了 {grown:.0f} 个进程",
                )
                yield self._event(at, Severity.FAIL, what)

    def _xids(self, at: float, now: HostSample) -> Iterator[LiveEvent]:
        """The driver's errors that were not told yet; those of the hour before the stream began are told as well."""
        for xid in now.xids or ():
            before = self._xids_told.get((xid.pci, xid.number), -math.inf)
            if xid.at <= before + SAME_XID_SECONDS:
                continue
            self._xids_told[xid.pci, xid.number] = xid.at
            if len(self._xids_told) > _XIDS_REMEMBERED:
                del self._xids_told[min(self._xids_told, key=self._xids_told.__getitem__)]
            gpu = gpu_of(xid, now.gpus)
            words = told(xid)
            when = time.strftime("%H:%M:%S", time.localtime(xid.at))
            what = Text(f"{words.en} ({when}, {xid.pci})", f"{words.zh}（{when}，{xid.pci}）")
            yield self._event(at, severity(xid), what, None if gpu is None else (gpu.index,))

    def _gpus(self, at: float, before: HostSample | None, now: HostSample, odd: bool) -> Iterator[LiveEvent]:
        told, then = now.gpu_missing, before.gpu_missing if before is not None else None
        if told is not None and not now.gpus:
            if then is None:
                what = Text(f"GPUs cannot be read: {told.why}", f"无法读取 GPU：{told.why}")
                yield self._event(at, Severity.FAIL if before is not None else Severity.WARN, what)
            # Not seen is not the same as gone: what was known of the GPUs is compared when they can be read again.
            return
        if then is not None and told is None:
            yield self._event(at, Severity.INFO, Text("GPUs can be read again", "GPU 已可读取"))
        yield from self._who_works(at, now.gpus)
        if odd or self._throttled or self._hot:
            yield from self._throttling(at, now.gpus)
            yield from self._heat(at, now.gpus)
        yield from self._errors(at, now.gpus)

    def _who_works(self, at: float, gpus: tuple[GpuSample, ...]) -> Iterator[LiveEvent]:
        uuids = self._uuids
        for gpu in gpus:
            if gpu.uuid is not None:
                uuids[gpu.index] = gpu.uuid
        # One that cannot tell its UUID for a moment is still the one that was there.
        working = {
            gpu.uuid or uuids.get(gpu.index, f"index {gpu.index}"): gpu.index for gpu in gpus if not gpu_gone(gpu)
        }
        known = self._working
        if working == known:
            return
        self._working = working
        if known is None:
            if self._expected is not None and len(working) < self._expected:
                what = Text(
                    f"has {len(working)} of {self._expected} GPUs", f"只有 {len(working)}/{self._expected} 个 GPU"
                )
                yield self._event(at, Severity.FAIL, what)
            return
        gone = {uuid: index for uuid, index in known.items() if uuid not in working}
        errors = {gpu.index: gpu.error for gpu in gpus if gpu_gone(gpu)}
        for uuid, index in gone.items():
            self._ecc.pop(uuid, None)
            said = errors.get(index)
            because = f", NVML says {said}" if said else ""
            why = f"，NVML 报 {said}" if said else ""
            yield self._event(at, Severity.FAIL, Text(f"is gone{because} ({uuid})", f"消失{why}（{uuid}）"), (index,))
        for uuid, index in working.items():
            if uuid not in known:
                yield self._event(at, Severity.INFO, Text(f"is there now ({uuid})", f"已出现（{uuid}）"), (index,))

    def _throttling(self, at: float, gpus: tuple[GpuSample, ...]) -> Iterator[LiveEvent]:
        throttled = self._throttled
        began: dict[str, list[int]] = {}
        for gpu in gpus:
            for reason in gpu.reasons or ():
                if reason in HARMLESS_REASONS:
                    continue
                if (gpu.index, reason) not in throttled:
                    began.setdefault(reason, []).append(gpu.index)
                throttled[gpu.index, reason] = at
        for reason, indexes in began.items():
            words = reason_text(reason)
            what = Text(f"{words.en} began", f"{words.zh}开始")
            yield self._event(at, reason_severity(reason), what, indexes)
        ended: dict[str, list[int]] = {}
        for (index, reason), seen_at in list(throttled.items()):
            if not 0 <= at - seen_at < ENDED_SECONDS:
                del throttled[index, reason]
                ended.setdefault(reason, []).append(index)
        for reason, indexes in ended.items():
            words = reason_text(reason)
            yield self._event(at, Severity.INFO, Text(f"{words.en} ended", f"{words.zh}结束"), indexes)

    def _heat(self, at: float, gpus: tuple[GpuSample, ...]) -> Iterator[LiveEvent]:
        heated = [
            gpu for gpu in gpus if gpu.temp is not None and gpu.temp >= HOT_CELSIUS and gpu.index not in self._hot
        ]
        cooled = [gpu for gpu in gpus if gpu.temp is not None and gpu.temp <= COOL_CELSIUS and gpu.index in self._hot]
        self._hot |= {gpu.index for gpu in heated}
        self._hot -= {gpu.index for gpu in cooled}
        if heated:
            most = max(gpu.temp or 0.0 for gpu in heated)
            what = Text(f"{most:.0f} °C, close to the slowdown", f"{most:.0f} °C，接近降频温度")
            yield self._event(at, Severity.WARN, what, [gpu.index for gpu in heated])
        if cooled:
            what = Text(f"cooled down to {COOL_CELSIUS:.0f} °C", f"已降至 {COOL_CELSIUS:.0f} °C")
            yield self._event(at, Severity.INFO, what, [gpu.index for gpu in cooled])

    def _errors(self, at: float, gpus: tuple[GpuSample, ...]) -> Iterator[LiveEvent]:
        counted = self._ecc
        for gpu in gpus:
            errors = gpu.ecc_uncorrected
            if errors is None:
                continue
            key = gpu.uuid or f"index {gpu.index}"
            before = counted.get(key)
            if before != errors:
                counted[key] = errors
                if before is not None and errors > before:
                    what = Text(
                        f"uncorrectable ECC errors: {errors - before:.0f} more, {errors:.0f} by now ({key})",
                        f"新增 {errors - before:.0f} 个不可纠正 ECC 错误，累计 {errors:.0f}（{key}）",
                    )
                    yield self._event(at, Severity.FAIL, what, (gpu.index,))
