"""GPUs: what NVML says (or nvidia-smi where NVML does not answer), what sits on the PCI bus, which driver is loaded."""

from __future__ import annotations

import re
from dataclasses import dataclass

from dstui.facts.case import Group, HostSite, Site
from dstui.facts.gpu_devices import Gpu, devices_of_nvml, devices_of_smi
from dstui.facts.numbers import by_directory, garbled
from dstui.facts.raw import Answer, Missing, Op, Raw, glob, links, listing, nvml, read, run
from dstui.model import Reason

SMI_FIELDS = "index,uuid,name,memory.total,pci.bus_id,mig.mode.current,compute_cap,driver_version"

_PCI = re.compile(r"/sys/bus/pci/devices/([^/]+)/(vendor|class)")
_DRIVER_VERSION = re.compile(r"\b(\d{3}\.\d+(?:\.\d+)?)\b", re.ASCII)
_BANNER_CUDA = re.compile(r"CUDA(?: \w+)? Version:\s*(\d{1,3})\.(\d{1,3})", re.ASCII)
"""`CUDA Version: 12.2`, and `CUDA UMD Version: 13.3` from driver 610 on."""
_MISMATCH = "Driver/library version mismatch"


@dataclass(frozen=True, slots=True)
class NvmlFault:
    """NVML (or nvidia-smi) is there and would not start: `LIB_RM_VERSION_MISMATCH`, `DRIVER_NOT_LOADED`, …"""

    name: str
    message: str


@dataclass(frozen=True, slots=True)
class PciGpu:
    """An NVIDIA display controller on the bus; `driver` is the kernel driver that holds it, empty when none does."""

    address: str
    driver: str


@dataclass(frozen=True, slots=True)
class GpuFacts:
    """`devices` is empty when NVML or nvidia-smi says that there are none; `source` names which of the two spoke."""

    devices: tuple[Gpu, ...] | Missing
    source: str
    fault: NvmlFault | None
    pci: tuple[PciGpu, ...] | Missing
    device_files: bool | Missing
    """Whether /dev/nvidia0 or another one is there; a container without them cannot see its host's GPUs."""
    nvml_driver: str | Missing
    cuda_capability: tuple[int, int] | Missing
    """The newest CUDA that the driver supports: a ceiling, not an installation."""
    loaded_driver: str | Missing
    """NVML's, else nvidia-smi's, else the kernel module's own."""
    module_loaded: bool | Missing
    proc_version: str | Missing
    """First line of /proc/driver/nvidia/version."""
    disk_driver: str | Missing
    """Version of the module that the next load will take (`modinfo`)."""

    @property
    def open_module(self) -> bool | None:
        """Whether the loaded module is NVIDIA's open one; None when it is not loaded."""
        return None if isinstance(self.proc_version, Missing) else "Open Kernel Module" in self.proc_version


def ops(host: HostSite, site: Site) -> tuple[Op, ...]:
    if not host.gpu:
        return ()
    return (
        nvml("gpu.nvml"),
        glob("gpu.pci", "/sys/bus/pci/devices/*/vendor", "/sys/bus/pci/devices/*/class", each=32, files=32_768),
        links("gpu.pci-driver", "/sys/bus/pci/devices/*/driver"),
        listing("gpu.marks", "/dev/nvidia[0-9]*", "/sys/module/nvidia", "/sys/module/[a-z]*/refcnt"),
        read("gpu.proc-version", "/proc/driver/nvidia/version", limit=1024),
        read("gpu.module-version", "/sys/module/nvidia/version", limit=64),
        run("gpu.modinfo", "modinfo", "-F", "version", "nvidia", timeout=5.0),
    )


def more(host: HostSite, site: Site, raw: Raw) -> tuple[Op, ...]:
    """nvidia-smi, only where NVML did not answer: without persistence mode it takes seconds."""
    if not host.gpu or not isinstance(_nvml(raw), Missing):
        return ()
    return (
        run("gpu.smi", "nvidia-smi", f"--query-gpu={SMI_FIELDS}", "--format=csv,noheader,nounits", timeout=20.0),
        run("gpu.banner", "nvidia-smi", timeout=20.0),
    )


def _nvml(raw: Raw) -> dict[str, object] | Missing:
    value = raw.value("gpu.nvml")
    if isinstance(value, Missing):
        return value
    if not isinstance(value, dict) or not isinstance(value.get("gpus", []), list):
        return Missing(Reason.PARSE_ERROR, "NVML's answer is not a table of GPUs")
    return {str(key): field for key, field in value.items()}


def _fault_of_nvml(answer: dict[str, object]) -> NvmlFault | None:
    error = answer.get("error")
    if error is None:
        return None
    if not isinstance(error, dict):
        return NvmlFault("UNKNOWN", str(error)[:200])
    name = str(error.get("name") or "UNKNOWN").removeprefix("NVML_").removeprefix("ERROR_")
    return NvmlFault(name, str(error.get("message") or "")[:200])


def _fault_of_smi(answer: Answer) -> NvmlFault | None:
    said = f"{answer.output}\n{answer.error}"
    if _MISMATCH in said:
        return NvmlFault("LIB_RM_VERSION_MISMATCH", _MISMATCH)
    if "couldn't communicate with the NVIDIA driver" in said:
        return NvmlFault("DRIVER_NOT_LOADED", "nvidia-smi cannot talk to the NVIDIA driver")
    if "Insufficient Permissions" in said:
        return NvmlFault("NO_PERMISSION", "Insufficient Permissions")
    return None


def _pci(raw: Raw) -> tuple[PciGpu, ...] | Missing:
    files, drivers = raw.files("gpu.pci"), raw.files("gpu.pci-driver")
    if isinstance(files, Missing):
        return files
    by_address = by_directory(files, _PCI)
    if not by_address:
        return Missing(Reason.CANNOT_TELL, "no PCI device is listed")
    half = next((address for address, row in by_address.items() if len(row) < 2), None)
    if half is not None:
        return Missing(Reason.CANNOT_TELL, f"PCI device {half} does not tell both vendor and class")
    held = {} if isinstance(drivers, Missing) else drivers
    return tuple(
        PciGpu(address, held.get(f"/sys/bus/pci/devices/{address}/driver", "").rsplit("/", 1)[-1])
        for address, row in sorted(by_address.items())
        # 0x0300 VGA controller, 0x0302 3D controller; NVSwitch (0x0680) and audio functions are other classes
        if row.get("vendor") == "0x10de" and row.get("class", "")[:6] in ("0x0300", "0x0302")
    )


@dataclass(frozen=True, slots=True)
class _Told:
    devices: tuple[Gpu, ...] | Missing
    source: str
    fault: NvmlFault | None = None
    driver: str | Missing = Missing(Reason.CANNOT_TELL, "no driver version in the answer")  # noqa: RUF009 - frozen
    cuda: tuple[int, int] | Missing = Missing(Reason.CANNOT_TELL, "no CUDA version in the answer")  # noqa: RUF009


def _told_by_nvml(answer: dict[str, object]) -> _Told:
    fault = _fault_of_nvml(answer)
    driver, cuda = answer.get("driver"), answer.get("cuda")
    found = Missing(Reason.CANNOT_TELL, f"NVML: {fault.name}: {fault.message}") if fault else None
    return _Told(
        devices=found or devices_of_nvml(answer.get("gpus")),
        source="NVML",
        fault=fault,
        driver=driver if isinstance(driver, str) and driver else Missing(Reason.CANNOT_TELL, "NVML names no driver"),
        cuda=(cuda // 1000, cuda % 1000 // 10)
        if isinstance(cuda, int) and not isinstance(cuda, bool) and cuda >= 1000
        else Missing(Reason.CANNOT_TELL, "NVML names no CUDA version"),
    )


def _told_by_smi(raw: Raw, without: Missing) -> _Told:
    """nvidia-smi's word; `without` is why there is none of NVML, and is what remains when both are silent."""
    answer, banner = raw.answer("gpu.smi"), raw.text("gpu.banner")
    if isinstance(answer, Missing):
        silent = without if answer.reason in (Reason.NOT_RUN, Reason.TOOL_MISSING) else answer
        return _Told(silent, "nvidia-smi", driver=silent, cuda=silent)
    fault = _fault_of_smi(answer)
    devices, driver = devices_of_smi(answer)
    ceiling = None if isinstance(banner, Missing) else _BANNER_CUDA.search(banner)
    if isinstance(banner, Missing):
        cuda: tuple[int, int] | Missing = banner
    else:
        cuda = (int(ceiling[1]), int(ceiling[2])) if ceiling else garbled("nvidia-smi banner", banner)
    if fault:
        devices = Missing(Reason.CANNOT_TELL, f"nvidia-smi: {fault.message}")
    return _Told(devices, "nvidia-smi", fault, driver, cuda)


def _version_in(source: str, text: str | Missing) -> str | Missing:
    if isinstance(text, Missing):
        return text
    found = _DRIVER_VERSION.search(text)
    return found[1] if found else garbled(source, text)


def parse(raw: Raw) -> GpuFacts:
    answer = _nvml(raw)
    told = _told_by_smi(raw, answer) if isinstance(answer, Missing) else _told_by_nvml(answer)
    marks, proc = raw.stats("gpu.marks"), raw.text("gpu.proc-version")
    kernel = _version_in("/proc/driver/nvidia/version", proc)
    if isinstance(kernel, Missing):
        kernel = _version_in("/sys/module/nvidia/version", raw.text("gpu.module-version"))
    loaded = told.driver if isinstance(told.driver, str) else kernel
    module = marks if isinstance(marks, Missing) else "/sys/module/nvidia" in marks
    if module is False and marks == {}:
        module = Missing(Reason.CANNOT_TELL, "/sys/module lists nothing")
    return GpuFacts(
        devices=told.devices,
        source=told.source,
        fault=told.fault,
        pci=_pci(raw),
        device_files=marks if isinstance(marks, Missing) else any(path.startswith("/dev/nvidia") for path in marks),
        nvml_driver=told.driver,
        cuda_capability=told.cuda,
        loaded_driver=loaded,
        module_loaded=True if isinstance(kernel, str) else module,
        proc_version=proc if isinstance(proc, Missing) else proc.strip().partition("\n")[0],
        disk_driver=_version_in("modinfo nvidia", raw.text("gpu.modinfo")),
    )


GROUP = Group("gpu", GpuFacts, ops, parse, more)
