"""What stands out of a host: lost, GPUs missing or in trouble, use or temperature far from the fleet's."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from itertools import islice
from statistics import median_low

from dstui.model import Text
from dstui.telemetry import live_xids
from dstui.telemetry.host import GpuSample, HostSample, Xid
from dstui.telemetry.live_host import HostFold
from dstui.telemetry.live_host_changes import (
    HARMLESS_REASONS,
    HOT_CELSIUS,
    gpu_gone,
    index_ranges,
    reason_severity,
    reason_text,
)
from dstui.telemetry.live_log import Severity
from dstui.telemetry.live_status import NOTHING_YET, Shown, Status

FAR_USE = 30.0
"""% points between a GPU's levelled use and the fleet's median from which on it is an outlier."""

FAR_CELSIUS = 15.0
"""°C between a GPU and the fleet's median."""

_NORM_HOSTS = 256
_USE_STEP, _CELSIUS_STEP = 5.0, 2.0

KIND_TEXTS: Mapping[str, Text] = {
    "gpus-missing": Text("GPUs are missing", "缺少 GPU"),
    "gpus-unreadable": Text("GPUs cannot be read", "无法读取 GPU"),
    "gpu-gone": Text("GPUs are gone", "GPU 已丢失"),
    "gpu-error": Text("NVML reports errors", "NVML 报错"),
    "hot": Text("close to the slowdown temperature", "接近降频温度"),
    "use-low": Text("use far below the fleet's", "利用率远低于全体"),
    "use-high": Text("use far above the fleet's", "利用率远高于全体"),
    "temp-high": Text("far warmer than the fleet", "温度远高于全体"),
    "temp-low": Text("far cooler than the fleet", "温度远低于全体"),
}
"""The kinds of mark whose own text has numbers, in words for many hosts at once."""

_RANK = {Severity.INFO: 1, Severity.WARN: 2, Severity.FAIL: 3}


@dataclass(frozen=True, slots=True)
class Norm:
    """The fleet's medians, in steps so that they rarely change: levelled use in %, temperature in °C."""

    use: float | None = None
    temp: float | None = None


@dataclass(frozen=True, slots=True)
class Mark:
    """One thing that stands out. `gpus` are indexes, empty when it is the host; `kind` is the same for alike ones."""

    kind: str
    severity: Severity
    text: Text
    gpus: tuple[int, ...] = ()


def norm_of(folds: Collection[HostFold], now: float) -> Norm:
    """The medians over the GPUs of the hosts that are live; of every second, third … host where there are many."""
    use: list[float] = []
    temps: list[float] = []
    for fold in islice(folds, 0, None, 1 + len(folds) // _NORM_HOSTS):
        if fold.sample is not None and fold.pulse.status(now) is Status.LIVE:
            use += fold.steady.values()
            temps += [gpu.temp for gpu in fold.sample.gpus if gpu.temp is not None]
    return Norm(_stepped(use, _USE_STEP), _stepped(temps, _CELSIUS_STEP))


def _stepped(values: list[float], step: float) -> float | None:
    return round(median_low(values) / step) * step if values else None


def rank(marks: tuple[Mark, ...]) -> int:
    """0 without marks, up to 3 with a FAIL."""
    return max((_RANK[mark.severity] for mark in marks), default=0)


def marks_of(fold: HostFold, how: Shown, norm: Norm) -> tuple[Mark, ...]:
    """What stands out, the worst first. Of a host that is UNKNOWN only that it is."""
    sample = fold.sample
    if not how.known or sample is None:
        return (_unseen(how),)
    found: list[Mark] = []
    if how.status is Status.LOST and how.why is not None:
        text = Text(f"stopped answering: {how.why.en}", f"停止应答：{how.why.zh}")
        found.append(Mark("lost", Severity.FAIL, text))
    elif how.status is Status.LATE:
        found.append(Mark("late", Severity.WARN, Text("no new sample", "没有新采样")))
    found += _missing(fold, sample)
    totals = fold.totals
    if totals.odd:
        found += _trouble(sample.gpus)
    if sample.xids:
        found += _xids(sample)
    if norm.use is not None and totals.steady_low is not None and totals.steady_high is not None:
        low, high = norm.use - FAR_USE, norm.use + FAR_USE
        if totals.steady_low[0] < low or totals.steady_high[0] > high:
            found += _far_use(fold.steady, low, high, norm.use)
    if norm.temp is not None and totals.temp_low is not None and totals.temp_high is not None:
        cold, hot = norm.temp - FAR_CELSIUS, norm.temp + FAR_CELSIUS
        if totals.temp_low[0] < cold or totals.temp_high[0] > hot:
            found += _far_temp(sample.gpus, cold, hot, norm.temp)
    if len(found) > 1:
        found.sort(key=lambda mark: -_RANK[mark.severity])
    return tuple(found)


def _unseen(how: Shown) -> Mark:
    why = how.why or Text("unknown", "未知")
    if why == NOTHING_YET:
        return Mark("unseen", Severity.WARN, why)
    if how.age is None:
        return Mark("silent", Severity.FAIL, Text(f"does not answer: {why.en}", f"无应答：{why.zh}"))
    return Mark("unknown", Severity.FAIL, Text(f"unknown: {why.en}", f"未知：{why.zh}"))


def _missing(fold: HostFold, sample: HostSample) -> list[Mark]:
    told = sample.gpu_missing
    if told is not None and not sample.gpus:
        expected = fold.expected_gpus
        if expected == 0:
            return []
        severity = Severity.FAIL if expected else Severity.WARN
        text = Text(f"GPUs cannot be read: {told.why}", f"无法读取 GPU：{told.why}")
        return [Mark("gpus-unreadable", severity, text)]
    expected, seen = fold.expected_gpus, len(sample.gpus)
    if not expected or seen >= expected:
        return []
    because = f": {told.why}" if told is not None else ""
    text = Text(f"{seen} of {expected} GPUs{because}", f"只有 {seen}/{expected} 个 GPU{because}")
    return [Mark("gpus-missing", Severity.FAIL, text)]


def _xids(sample: HostSample) -> list[Mark]:
    """Errors of the driver within the last hour, one mark for each number; what a program did to itself is none."""
    by_number: dict[int, list[Xid]] = {}
    for xid in sample.xids or ():
        if live_xids.severity(xid) is not Severity.INFO:
            by_number.setdefault(xid.number, []).append(xid)
    found = []
    for xids in by_number.values():
        gpus = {gpu.index for xid in xids if (gpu := live_xids.gpu_of(xid, sample.gpus)) is not None}
        found.append(Mark("xid", live_xids.severity(xids[0]), live_xids.told(xids[-1]), tuple(sorted(gpus))))
    return found


def _trouble(gpus: tuple[GpuSample, ...]) -> list[Mark]:
    found = []
    gone = [gpu for gpu in gpus if gpu_gone(gpu)]
    for gpu in gone:
        text = Text(f"gone, NVML says {gpu.error}", f"已丢失，NVML 报 {gpu.error}")
        found.append(Mark("gpu-gone", Severity.FAIL, text, (gpu.index,)))
    errors: dict[str, list[int]] = {}
    reasons: dict[str, list[int]] = {}
    for gpu in gpus:
        if gpu.error is not None and gpu not in gone:
            errors.setdefault(gpu.error, []).append(gpu.index)
        for reason in gpu.reasons or ():
            if reason not in HARMLESS_REASONS:
                reasons.setdefault(reason, []).append(gpu.index)
    for error, indexes in errors.items():
        text = Text(f"NVML says {error}", f"NVML 报 {error}")
        found.append(Mark("gpu-error", Severity.WARN, text, tuple(indexes)))
    for reason, indexes in reasons.items():
        found.append(Mark(reason, reason_severity(reason), reason_text(reason), tuple(indexes)))
    hot = {gpu.index: gpu.temp for gpu in gpus if gpu.temp is not None and gpu.temp >= HOT_CELSIUS}
    if hot:
        text = Text(f"{max(hot.values()):.0f} °C", f"{max(hot.values()):.0f} °C")
        found.append(Mark("hot", Severity.WARN, text, tuple(hot)))
    return found


def _far_use(steady: dict[int, float], low: float, high: float, norm: float) -> list[Mark]:
    found = []
    under = {index: use for index, use in steady.items() if use < low}
    over = {index: use for index, use in steady.items() if use > high}
    if under:
        least = min(under.values())
        text = Text(f"use {least:.0f}%, fleet {norm:.0f}%", f"利用率 {least:.0f}%，全体 {norm:.0f}%")
        found.append(Mark("use-low", Severity.WARN, text, tuple(under)))
    if over:
        most = max(over.values())
        text = Text(f"use {most:.0f}%, fleet {norm:.0f}%", f"利用率 {most:.0f}%，全体 {norm:.0f}%")
        found.append(Mark("use-high", Severity.INFO, text, tuple(over)))
    return found


def _far_temp(gpus: tuple[GpuSample, ...], cold: float, hot: float, norm: float) -> list[Mark]:
    found = []
    under = {gpu.index: gpu.temp for gpu in gpus if gpu.temp is not None and gpu.temp < cold}
    over = {gpu.index: gpu.temp for gpu in gpus if gpu.temp is not None and gpu.temp > hot}
    if over:
        most = max(over.values())
        text = Text(f"{most:.0f} °C, fleet {norm:.0f} °C", f"{most:.0f} °C，全体 {norm:.0f} °C")
        found.append(Mark("temp-high", Severity.WARN, text, tuple(over)))
    if under:
        least = min(under.values())
        text = Text(f"{least:.0f} °C, fleet {norm:.0f} °C", f"{least:.0f} °C，全体 {norm:.0f} °C")
        found.append(Mark("temp-low", Severity.INFO, text, tuple(under)))
    return found


def mark_text(mark: Mark) -> Text:
    """The mark with the GPUs that it is about: `GPU 5: hardware thermal slowdown`."""
    if not mark.gpus:
        return mark.text
    which = index_ranges(mark.gpus)
    return Text(f"GPU {which}: {mark.text.en}", f"GPU {which}：{mark.text.zh}")
