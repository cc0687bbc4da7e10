"""NVML: all that pynvml can tell of every GPU. Runs in a child, because a GPU that fell off the bus can hang NVML.

`pynvml` is shipped by the controller with the verb `module`; hosts need only the driver's libnvidia-ml.so.1.
"""

import ctypes

from dstui.gather.collector.wire import missing

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import ModuleType

LIBRARY = "libnvidia-ml.so.1"
MOST_LINKS = 18
CORRECTED, UNCORRECTED = 0, 1
VOLATILE, AGGREGATE = 0, 1
CLOCK_SM, CLOCK_MEM = 1, 2
NOT_INITIALISED = 1
_EMPTY = (
    "index uuid name memory_total memory_used pci_bus_id mig cc util mem_util temp power_mw power_limit_mw clock_sm "
    "clock_mem event_reasons ecc_mode ecc_uncorrected_volatile ecc_corrected_volatile ecc_uncorrected_aggregate "
    "remapped pcie_gen pcie_gen_max pcie_width pcie_width_max persistence processes"
).split()


def nvml(args: "dict[str, object]") -> "dict[str, object]":
    """NVML."""
    try:
        ctypes.CDLL(LIBRARY)
    except OSError as error:
        return missing("tool-missing", "%s cannot be loaded: %s" % (LIBRARY, error))
    try:
        import pynvml  # type: ignore[import-untyped]
    except ImportError:
        return missing("probe-error", "the controller has not shipped pynvml")
    value: "dict[str, object]" = {"error": None, "driver": "", "cuda": None, "nvml": "", "gpus": []}
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError as error:
        value["error"] = {"name": error_name(pynvml, error), "code": error.value, "message": str(error)}
        return {"value": value}
    system = Asking(pynvml)
    value["driver"] = system.ask("nvmlSystemGetDriverVersion") or ""
    value["nvml"] = system.ask("nvmlSystemGetNVMLVersion") or ""
    value["cuda"] = system.ask("nvmlSystemGetCudaDriverVersion")
    count = system.ask("nvmlDeviceGetCount")
    if not isinstance(count, int):
        said = system.errors.get("nvmlDeviceGetCount", "")
        value["error"] = {"name": said, "code": None, "message": "the GPUs could not be counted"}
        return {"value": value}
    value["gpus"] = [_gpu(pynvml, index) for index in range(count)]
    return {"value": value}


class Asking:
    """Calls of pynvml, each guarded: what fails is None, with the NVML error's name in `errors`."""

    def __init__(self, pynvml: "ModuleType") -> None:
        self._pynvml = pynvml
        self.errors: "dict[str, str]" = {}

    def ask(self, call: str, *args: object, **kwargs: object) -> object:
        function: "Callable[..., object] | None" = getattr(self._pynvml, call, None)
        if function is None:
            self.errors[call] = "FUNCTION_NOT_FOUND"
            return None
        try:
            answer = function(*args, **kwargs)
        except self._pynvml.NVMLError as error:
            self.errors[call] = error_name(self._pynvml, error)
            return None
        except Exception as error:  # pynvml lets ctypes and decoding errors through
            self.errors[call] = type(error).__name__
            return None
        return answer.decode("utf-8", "replace") if isinstance(answer, bytes) else answer


_error_names: "dict[object, str]" = {}


def error_name(pynvml: "ModuleType", error: Exception) -> str:
    """`GPU_IS_LOST` for an NVMLError."""
    if not _error_names:
        for name in dir(pynvml):
            if name.startswith("NVML_ERROR_"):
                _error_names.setdefault(getattr(pynvml, name), name[len("NVML_ERROR_") :])
    code = getattr(error, "value", None)
    return _error_names.get(code, str(code))


def _gpu(pynvml: "ModuleType", index: int) -> "dict[str, object]":
    asking = Asking(pynvml)
    gpu: "dict[str, object]" = dict.fromkeys(_EMPTY)
    gpu.update(index=index, nvlinks=[], errors=asking.errors)
    handle = asking.ask("nvmlDeviceGetHandleByIndex", index)
    if handle is None:
        return gpu

    def ask(call: str, *args: object) -> object:
        return asking.ask(call, handle, *args)

    def part(call: str, *fields: str) -> "list[object]":
        answer = ask(call)
        return [getattr(answer, field, None) for field in fields]

    def first(call: str) -> object:
        answer = ask(call)
        return answer[0] if isinstance(answer, (list, tuple)) else answer

    gpu["uuid"] = ask("nvmlDeviceGetUUID")
    gpu["name"] = ask("nvmlDeviceGetName")
    gpu["memory_total"], gpu["memory_used"] = memory(asking, handle, pynvml)
    bus = part("nvmlDeviceGetPciInfo", "busId")[0]
    gpu["pci_bus_id"] = bus.decode("ascii", "replace") if isinstance(bus, bytes) else bus
    gpu["mig"] = first("nvmlDeviceGetMigMode")
    capability = ask("nvmlDeviceGetCudaComputeCapability")
    gpu["cc"] = "%d.%d" % tuple(capability) if isinstance(capability, (list, tuple)) else None
    gpu["util"], gpu["mem_util"] = part("nvmlDeviceGetUtilizationRates", "gpu", "memory")
    gpu["temp"] = ask("nvmlDeviceGetTemperature", 0)
    gpu["power_mw"] = ask("nvmlDeviceGetPowerUsage")
    gpu["power_limit_mw"] = ask("nvmlDeviceGetEnforcedPowerLimit")
    gpu["clock_sm"] = ask("nvmlDeviceGetClockInfo", CLOCK_SM)
    gpu["clock_mem"] = ask("nvmlDeviceGetClockInfo", CLOCK_MEM)
    gpu["event_reasons"] = event_reasons(asking, handle)
    gpu["ecc_mode"] = first("nvmlDeviceGetEccMode")
    for name, kind, counter in (
        ("ecc_uncorrected_volatile", UNCORRECTED, VOLATILE),
        ("ecc_corrected_volatile", CORRECTED, VOLATILE),
        ("ecc_uncorrected_aggregate", UNCORRECTED, AGGREGATE),
    ):
        gpu[name] = ask("nvmlDeviceGetTotalEccErrors", kind, counter)
    rows = ask("nvmlDeviceGetRemappedRows")
    if isinstance(rows, (list, tuple)):
        gpu["remapped"] = dict(zip(("corr", "uncorr", "pending", "failure"), rows))  # noqa: B905 - newer than Python 3.6
    gpu["pcie_gen"] = ask("nvmlDeviceGetCurrPcieLinkGeneration")
    gpu["pcie_gen_max"] = ask("nvmlDeviceGetMaxPcieLinkGeneration")
    gpu["pcie_width"] = ask("nvmlDeviceGetCurrPcieLinkWidth")
    gpu["pcie_width_max"] = ask("nvmlDeviceGetMaxPcieLinkWidth")
    gpu["persistence"] = ask("nvmlDeviceGetPersistenceMode")
    gpu["nvlinks"] = _links(asking, handle)
    running = ask("nvmlDeviceGetComputeRunningProcesses")
    if isinstance(running, list):
        gpu["processes"] = [{"pid": process.pid, "memory": process.usedGpuMemory} for process in running]
    return gpu


def event_reasons(asking: Asking, handle: object) -> object:
    """Why the clocks are what they are, as bits; older drivers know the same call by an older name."""
    reasons = asking.ask("nvmlDeviceGetCurrentClocksEventReasons", handle)
    if reasons is None:
        reasons = asking.ask("nvmlDeviceGetCurrentClocksThrottleReasons", handle)
    return reasons


def memory(asking: Asking, handle: object, pynvml: "ModuleType") -> "tuple[object, object]":
    """Bytes in all and in use of one GPU."""
    # The second version leaves the driver's own reserve out of `used`, as nvidia-smi shows it.
    call = "nvmlDeviceGetMemoryInfo"
    answer = asking.ask(call, handle, version=getattr(pynvml, "nvmlMemory_v2", None))
    if answer is None:
        answer = asking.ask(call, handle)
        if answer is not None:
            del asking.errors[call]
    return getattr(answer, "total", None), getattr(answer, "used", None)


def _links(asking: Asking, handle: object) -> "list[object]":
    states: "list[object]" = []
    for link in range(MOST_LINKS):
        state = asking.ask("nvmlDeviceGetNvLinkState", handle, link)
        if state is None:
            if link and asking.errors.get("nvmlDeviceGetNvLinkState") == "INVALID_ARGUMENT":
                del asking.errors["nvmlDeviceGetNvLinkState"]  # past the last link that this GPU has
            break
        states.append(state)
    return states
