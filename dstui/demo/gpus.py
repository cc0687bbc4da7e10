"""Eight H100 per host, as NVML, nvidia-smi, the PCI bus and the kernel module show them."""

from __future__ import annotations

import uuid

from dstui.demo.cast import Character, share
from dstui.demo.commands import Ran, Tool, choosing
from dstui.demo.tree import Entries, Entry, link
from dstui.facts.gpu import SMI_FIELDS

GPUS = 8
NAME = "NVIDIA H100 80GB HBM3"
_BUS = ("1b", "43", "52", "61", "9d", "c3", "d1", "df")
_NVSWITCHES = ("05", "06", "07", "08")
MEMORY = 85_520_809_984
"""Bytes of one GPU, as NVML counts them."""
_OPEN_MODULE_SINCE = 560
"""Driver branch from which on the open kernel module is the usual one."""
_CUDA = {"580": (13, 0), "535": (12, 2)}
"""The newest CUDA that a driver branch supports (NVIDIA CUDA Compatibility)."""
_LINKS = 18


def serial(host: Character, gpu: int) -> str:
    """The UUID of a GPU, the same in every run."""
    return f"GPU-{uuid.uuid5(uuid.NAMESPACE_DNS, f'{host.name}.demo.dstui.invalid/{gpu}')}"


def pci_address(gpu: int) -> str:
    """The bus id of a GPU as NVML writes it."""
    return f"00000000:{_BUS[gpu].upper()}:00.0"


def _ceiling(host: Character) -> tuple[int, int]:
    return _CUDA[host.traits.driver.partition(".")[0]]


def nvml(host: Character) -> dict[str, object]:
    """The value of the operation NVML."""
    major, minor = _ceiling(host)
    return {
        "error": None,
        "driver": host.traits.driver,
        "cuda": major * 1000 + minor * 10,
        "nvml": f"{major}.{host.traits.driver}",
        "gpus": [_gpu(host, n) for n in range(host.traits.gpus_answering)],
    }


def _gpu(host: Character, n: int) -> dict[str, object]:
    warmth = share(f"{host.name} gpu {n}")
    return {
        "index": n, "uuid": serial(host, n), "name": NAME, "memory_total": MEMORY, "memory_used": 548_405_248,
        "pci_bus_id": pci_address(n), "mig": 0, "cc": "9.0", "util": 0, "mem_util": 0,
        "temp": 27 + round(9 * warmth), "power_mw": 68_000 + round(9_000 * warmth), "power_limit_mw": 700_000,
        "clock_sm": 345, "clock_mem": 2_619, "event_reasons": 1, "ecc_mode": 1, "ecc_uncorrected_volatile": 0,
        "ecc_corrected_volatile": 0, "ecc_uncorrected_aggregate": 0,
        "remapped": {"corr": 0, "uncorr": 0, "pending": 0, "failure": 0},
        "pcie_gen": 5, "pcie_gen_max": 5, "pcie_width": 16, "pcie_width_max": 16,
        "persistence": 1, "nvlinks": [1] * _LINKS, "processes": [], "errors": {},
    }  # fmt: skip


def files(host: Character) -> Entries:
    driver = host.traits.driver
    opened = int(driver.partition(".")[0]) >= _OPEN_MODULE_SINCE
    kind = "NVIDIA UNIX Open Kernel Module for x86_64" if opened else "NVIDIA UNIX x86_64 Kernel Module"
    entries: dict[str, Entry | str] = {
        "/proc/driver/nvidia/version": f"NVRM version: {kind}  {driver}  Release Build\n"
        "GCC version:  gcc version 13.3.0 (Ubuntu 13.3.0-6ubuntu2~24.04)\n",
        "/sys/module/nvidia/version": f"{driver}\n",
        "/sys/module/nvidia/refcnt": "412\n",
    }
    for n, bus in enumerate(_BUS):
        entries[f"/dev/nvidia{n}"] = Entry(mode=0o020666)
        entries |= _pci(f"0000:{bus}:00.0", "0x10de", "0x030200", "nvidia")
        if n < host.traits.gpus_answering:
            entries[f"/proc/driver/nvidia/gpus/0000:{bus}:00.0/information"] = f"Model: \t\t {NAME}\n"
    for bus in _NVSWITCHES:
        entries |= _pci(f"0000:{bus}:00.0", "0x10de", "0x068000", "nvidia-nvswitch")
    return entries | _pci("0000:00:00.0", "0x8086", "0x060000", "") | _pci("0000:03:00.0", "0x1a03", "0x030000", "ast")


def _pci(address: str, vendor: str, kind: str, driver: str) -> dict[str, Entry | str]:
    place = f"/sys/bus/pci/devices/{address}"
    held: dict[str, Entry | str] = {f"{place}/driver": link(f"../../../../bus/pci/drivers/{driver}")} if driver else {}
    return {f"{place}/vendor": f"{vendor}\n", f"{place}/class": f"{kind}\n"} | held


def tools(host: Character) -> dict[str, Tool]:
    major, minor = _ceiling(host)
    driver = host.traits.driver
    rows = "".join(
        f"{n}, {serial(host, n)}, {NAME}, {MEMORY >> 20}, {pci_address(n)}, Disabled, 9.0, {driver}\n"
        for n in range(host.traits.gpus_answering)
    )
    banner = (
        f"+{'-' * 91}+\n| NVIDIA-SMI {driver:<21}  Driver Version: {driver:<15} CUDA Version: {major}.{minor:<5}|\n"
        f"+{'-' * 41}+{'-' * 24}+{'-' * 24}+\n"
    )
    smi = {f"--query-gpu={SMI_FIELDS} --format=csv,noheader,nounits": Ran(rows, seconds=0.31)}
    return {
        "nvidia-smi": choosing({**smi, "": Ran(banner, seconds=0.42)}),
        "modinfo": choosing({"-F version nvidia": Ran(f"{driver}\n")}),
    }
