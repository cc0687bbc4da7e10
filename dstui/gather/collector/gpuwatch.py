"""The GPUs of a host, sample after sample: NVML through pynvml, else nvidia-smi. Lives in a Companion: it may hang."""

import ctypes
import time

from dstui.gather.collector import gpus
from dstui.gather.collector.wire import errno_name

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import ModuleType

SLOW_SECONDS = 5.0
"""How often what hardly changes or costs milliseconds is read: power limit and processes."""
RETRY_SECONDS = 15.0
"""After NVML would not start: a driver update takes minutes."""
REOPEN_SECONDS = 60.0
"""While a GPU is lost, NVML is started afresh this often: it never sees a GPU come back otherwise."""
MOST_GPUS = 64
MOST_PROCESSES = 64
TX, RX = 0, 1

REASONS = (
    "gpu_idle",
    "applications_clocks_setting",
    "sw_power_cap",
    "hw_slowdown",
    "sync_boost",
    "sw_thermal_slowdown",
    "hw_thermal_slowdown",
    "hw_power_brake_slowdown",
    "display_clock_setting",
)
"""nvmlClocksEventReason* of nvml.h, by bit."""

_HARMLESS = ("NOT_SUPPORTED", "FUNCTION_NOT_FOUND", "NO_PERMISSION", "INVALID_ARGUMENT", "NO_DATA", "DEPRECATED")
"""Errors of a call that say nothing against the GPU."""
_GONE = ("GPU_IS_LOST", "UNINITIALIZED", "RESET_REQUIRED", "DRIVER_NOT_LOADED", "GPU_NOT_FOUND")
"""Errors after which the other calls need not be tried."""

EMPTY = (
    "index uuid name util mem_util mem_used mem_total temp power power_limit sm_mhz mem_mhz reasons "
    "ecc_uncorrected pcie_gen pcie_width pcie_rx pcie_tx procs error pci"
).split()


def words(bits: object) -> "list[str] | None":
    """The clock event reasons as words; a bit that nvml.h does not name yet as `bit_0x200`."""
    if not isinstance(bits, int):
        return None
    named = [word for place, word in enumerate(REASONS) if bits >> place & 1]
    left = bits >> len(REASONS)
    place = len(REASONS)
    while left:
        if left & 1:
            named.append("bit_%#x" % (1 << place))
        left >>= 1
        place += 1
    return named


def nothing(reason: str, why: str) -> "dict[str, object]":
    """The GPU part of a sample that has no GPUs to show, and why."""
    return {"gpu_source": None, "gpu_missing": {"reason": reason, "why": why}, "gpus": []}


class Nvml:
    """NVML while it is open. Raises OSError when the library cannot be loaded, ImportError without pynvml."""

    def __init__(self, pcie: bool) -> None:
        ctypes.CDLL(gpus.LIBRARY)
        import pynvml  # type: ignore[import-untyped]

        self._pynvml: "ModuleType" = pynvml
        self._pcie = pcie
        self._turn = 0
        self._opened_at = None  # type: float | None
        self._refused: "tuple[float, dict[str, object]] | None" = None
        self._count = 0
        self._handles: "dict[int, object]" = {}
        self._known: "dict[int, dict[str, object]]" = {}
        self._slow_at = None  # type: float | None
        self._reopen = False

    def read(self) -> "dict[str, object]":
        """All GPUs now. `slow_age` is how many seconds ago power limits and processes were read."""
        now = time.monotonic()
        if self._refused and now - self._refused[0] < RETRY_SECONDS:
            return self._refused[1]
        if self._opened_at is None or (self._reopen and now - self._opened_at > REOPEN_SECONDS):
            said = self._open(now)
            self._refused = (now, said) if said else None
            if said:
                return said
        if self._slow_at is None or now - self._slow_at >= SLOW_SECONDS:
            self._slow_at = now
        self._reopen = False
        rows = [self._gpu(index, now) for index in range(self._count)]
        self._turn = (self._turn + 1) % max(1, self._count)
        return {"gpu_source": "nvml", "gpu_missing": None, "slow_age": round(now - self._slow_at, 1), "gpus": rows}

    def _open(self, now: float) -> "dict[str, object] | None":
        pynvml = self._pynvml
        system = gpus.Asking(pynvml)
        if self._opened_at is not None:
            system.ask("nvmlShutdown")
        self._opened_at = self._slow_at = None
        self._handles.clear()
        try:
            pynvml.nvmlInit()
        except pynvml.NVMLError as error:
            name = gpus.error_name(pynvml, error)
            reason = "permission" if name == "NO_PERMISSION" else "cannot-tell"
            return nothing(reason, "NVML does not start: %s: %s" % (name, error))
        self._opened_at = now
        count = system.ask("nvmlDeviceGetCount")
        if not isinstance(count, int):
            said = system.errors.get("nvmlDeviceGetCount", "")
            return nothing("cannot-tell", "NVML cannot count the GPUs: %s" % said)
        self._count = min(count, MOST_GPUS)
        return None

    def _gpu(self, index: int, now: float) -> "dict[str, object]":
        asking = gpus.Asking(self._pynvml)
        known = self._known.setdefault(index, {})
        row: "dict[str, object]" = dict.fromkeys(EMPTY)
        row["index"] = index
        handle = self._handles.get(index)
        if handle is None:
            handle = self._handles[index] = asking.ask("nvmlDeviceGetHandleByIndex", index)
        if handle is not None:
            if self._slow_at == now or "uuid" not in known:
                self._slowly(asking, handle, known)
            self._fill(row, asking, handle, index, now)
        for name in ("uuid", "name", "pci", "power_limit", "procs"):
            row[name] = known.get(name)
        errors: "list[str | None]" = [error for error in asking.errors.values() if error not in _HARMLESS]
        gone = [error for error in errors if error in _GONE]
        row["error"] = (gone + errors + [None])[0]
        if gone or handle is None:
            # Who it was is still true; what it did is not.
            row["power_limit"] = row["procs"] = None
            row["error"] = row["error"] or "UNKNOWN"
            self._reopen = True
        return row

    def _slowly(self, asking: gpus.Asking, handle: object, known: "dict[str, object]") -> None:
        uuid = asking.ask("nvmlDeviceGetUUID", handle)
        if uuid is None:
            return
        known["uuid"], known["name"] = uuid, asking.ask("nvmlDeviceGetName", handle)
        if known.get("pci") is None:
            bus = getattr(asking.ask("nvmlDeviceGetPciInfo", handle), "busId", None)
            known["pci"] = bus.decode("ascii", "replace") if isinstance(bus, bytes) else bus
        known["power_limit"] = _thousandth(asking.ask("nvmlDeviceGetEnforcedPowerLimit", handle))
        running = asking.ask("nvmlDeviceGetComputeRunningProcesses", handle)
        known["procs"] = None
        if isinstance(running, list):
            known["procs"] = [{"pid": one.pid, "mem": one.usedGpuMemory} for one in running[:MOST_PROCESSES]]

    def _fill(self, row: "dict[str, object]", asking: gpus.Asking, handle: object, index: int, now: float) -> None:
        ask = asking.ask
        use = ask("nvmlDeviceGetUtilizationRates", handle)
        row["util"], row["mem_util"] = getattr(use, "gpu", None), getattr(use, "memory", None)
        if any(error in _GONE for error in asking.errors.values()):
            return
        row["mem_total"], row["mem_used"] = gpus.memory(asking, handle, self._pynvml)
        row["temp"] = ask("nvmlDeviceGetTemperature", handle, 0)
        row["power"] = _thousandth(ask("nvmlDeviceGetPowerUsage", handle))
        row["sm_mhz"] = ask("nvmlDeviceGetClockInfo", handle, gpus.CLOCK_SM)
        row["mem_mhz"] = ask("nvmlDeviceGetClockInfo", handle, gpus.CLOCK_MEM)
        row["reasons"] = words(gpus.event_reasons(asking, handle))
        row["ecc_uncorrected"] = ask("nvmlDeviceGetTotalEccErrors", handle, gpus.UNCORRECTED, gpus.VOLATILE)
        row["pcie_gen"] = ask("nvmlDeviceGetCurrPcieLinkGeneration", handle)
        row["pcie_width"] = ask("nvmlDeviceGetCurrPcieLinkWidth", handle)
        if self._pcie:
            self._throughput(row, asking, handle, index, now)

    def _throughput(
        self, row: "dict[str, object]", asking: gpus.Asking, handle: object, index: int, now: float
    ) -> None:
        # NVML measures each over 20 ms, so only one GPU has its turn in a sample.
        known = self._known[index]
        if index == self._turn:
            known["pcie_rx"] = asking.ask("nvmlDeviceGetPcieThroughput", handle, RX)
            known["pcie_tx"] = asking.ask("nvmlDeviceGetPcieThroughput", handle, TX)
            known["pcie_at"] = None if known["pcie_rx"] is None and known["pcie_tx"] is None else now
        at = known.get("pcie_at")
        if isinstance(at, float):
            row["pcie_rx"], row["pcie_tx"] = known["pcie_rx"], known["pcie_tx"]
            row["pcie_age"] = round(now - at, 1)


def _thousandth(value: object) -> "float | None":
    return round(value / 1000.0, 1) if isinstance(value, int) else None


class GpuWatch:
    """NVML if its library can be loaded, else nvidia-smi, else nothing and why."""

    def __init__(self, pcie: bool) -> None:
        self._pcie = pcie
        self._nvml: "Nvml | None" = None
        self._why = ""
        self._tried_at = None  # type: float | None
        self._smi = None  # type: object

    def look(self) -> "dict[str, object]":
        """The GPU part of a sample; `read_at` is monotonic."""
        now = time.monotonic()
        if self._nvml is None and (self._tried_at is None or now - self._tried_at > REOPEN_SECONDS):
            self._tried_at = now
            self._try()
        if self._nvml is not None:
            return dict(self._nvml.read(), read_at=now)
        from dstui.gather.collector.smiwatch import SmiWatch

        if not isinstance(self._smi, SmiWatch):
            self._smi = SmiWatch()
        return self._smi.look(self._why)

    def _try(self) -> None:
        try:
            self._nvml = Nvml(self._pcie)
        except OSError as error:
            self._why = "%s cannot be loaded: %s" % (gpus.LIBRARY, error.strerror or error)
            if error.errno:
                self._why += " (%s)" % errno_name(error)
        except ImportError as error:
            self._why = "pynvml cannot be used: %s" % error
