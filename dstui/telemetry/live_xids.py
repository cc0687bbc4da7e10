"""XIDs: which weigh how much, and in words which GPU they speak of."""

from __future__ import annotations

from collections.abc import Iterable

from dstui.model import Text
from dstui.telemetry.host import GpuSample, HostSample, Xid
from dstui.telemetry.live_log import Severity

FATAL = frozenset({46, 48, 64, 74, 79, 95, 119, 120, 140})
DEGRADED = frozenset({63, 92, 94})
"""Catalogue item x.gpu-xid: 46 and 48 by NVIDIA's health validation, the others by its Xid catalogue as known in 2026.

Any other number is most often the program's own fault (13, 31, 43, 45).
"""

_WORDS = {
    48: Text("double-bit ECC error", "双比特 ECC 错误"),
    63: Text("row remapping recorded", "已记录行重映射"),
    64: Text("row remapping failed", "行重映射失败"),
    74: Text("NVLink error", "NVLink 错误"),
    79: Text("fell off the bus", "从总线上掉线"),
    92: Text("high rate of single-bit ECC errors", "单比特 ECC 错误率高"),
    94: Text("contained ECC error", "已隔离的 ECC 错误"),
    95: Text("uncontained ECC error", "未隔离的 ECC 错误"),
    119: Text("GSP does not answer", "GSP 无响应"),
    120: Text("GSP error", "GSP 错误"),
    13: Text("graphics engine exception", "图形引擎异常"),
    31: Text("memory page fault", "显存页错误"),
    43: Text("a program stopped", "程序停止"),
    45: Text("a program was cleaned up", "程序被清理"),
}


def severity(xid: Xid) -> Severity:
    """How bad it is."""
    if xid.number in FATAL:
        return Severity.FAIL
    return Severity.WARN if xid.number in DEGRADED else Severity.INFO


def told(xid: Xid) -> Text:
    """`XID 79, fell off the bus`."""
    words = _WORDS.get(xid.number)
    if words is None:
        return Text(f"XID {xid.number}", f"XID {xid.number}")
    return Text(f"XID {xid.number}, {words.en}", f"XID {xid.number}，{words.zh}")


def gpu_of(xid: Xid, gpus: Iterable[GpuSample]) -> GpuSample | None:
    """The GPU that it speaks of, while that is still listed."""
    return next((gpu for gpu in gpus if xid.is_of(gpu)), None)


def on_gpu(sample: HostSample, index: int) -> tuple[Xid, ...]:
    """Those of one GPU, the oldest first."""
    gpu = next((gpu for gpu in sample.gpus if gpu.index == index), None)
    return tuple(xid for xid in sample.xids or () if gpu is not None and xid.is_of(gpu))
