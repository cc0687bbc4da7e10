"""Processors, memory and disks of the fleet: two Xeons, 2 TiB, ten NVMe drives, as /proc and /sys show them."""

from __future__ import annotations

import json
from functools import cache

from dstui.demo.cast import Character
from dstui.demo.commands import Ran, Tool, printing
from dstui.demo.tree import Entries, Entry, Layer, link

SOCKETS, CORES_PER_SOCKET = 2, 56
CORES = SOCKETS * CORES_PER_SOCKET
THREADS = 2 * CORES
_BLOCK_GIB = 2
_DIMM_GIB = {2048: 64, 128: 32}
_SECTOR = 512
_SYSTEM_DISK, _DATA_DISK = 3_750_748_848, 7_501_476_528
"""Sectors of the two system disks (RAID 1) and the eight data disks (RAID 0) of a DGX H100."""
_DISKS = (*((_SYSTEM_DISK, "SAMSUNG MZ1L21T9HCLS-00A07", "md0"),) * 2,
          *((_DATA_DISK, "SAMSUNG MZWLO3T8HCLS-00A07", "md1"),) * 8)  # fmt: skip


def cpus_of(socket: int) -> str:
    """A socket's threads in the kernel's list format."""
    first = socket * CORES_PER_SOCKET
    last = first + CORES_PER_SOCKET - 1
    return f"{first}-{last},{first + CORES}-{last + CORES}"


@cache
def processors() -> Layer:
    """The same in every host."""
    entries: dict[str, Entry | str] = {}
    for cpu in range(THREADS):
        topology = f"/sys/devices/system/cpu/cpu{cpu}/topology"
        entries[f"{topology}/physical_package_id"] = f"{cpu % CORES // CORES_PER_SOCKET}\n"
        entries[f"{topology}/die_id"] = "0\n"
        entries[f"{topology}/core_id"] = f"{cpu % CORES_PER_SOCKET}\n"
    described = "".join(
        f"processor\t: {cpu}\nvendor_id\t: GenuineIntel\ncpu family\t: 6\nmodel\t\t: 143\n"
        "model name\t: Intel(R) Xeon(R) Platinum 8480C\nstepping\t: 8\n"
        f"physical id\t: {cpu % CORES // CORES_PER_SOCKET}\n"
        "flags\t\t: fpu vme de pse tsc msr pae mce cx8 apic sep mtrr avx512f amx_bf16 amx_tile amx_int8\n\n"
        for cpu in range(THREADS)
    )
    return Layer(
        entries
        | {
            "/sys/devices/system/cpu/online": f"0-{THREADS - 1}\n",
            "/sys/devices/system/cpu/present": f"0-{THREADS - 1}\n",
            "/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor": "performance\n",
            "/proc/cpuinfo": described,
            **{f"/sys/devices/system/node/node{n}/cpulist": cpus_of(n) + "\n" for n in range(SOCKETS)},
            "/proc/self/cgroup": "0::/user.slice/user-1001.slice/session-4.scope\n",
            "/sys/fs/cgroup/user.slice/cpu.max": "max 100000\n",
            "/sys/fs/cgroup/user.slice/user-1001.slice/cpu.max": "max 100000\n",
            "/sys/fs/cgroup/user.slice/memory.max": "max\n",
            "/sys/fs/cgroup/user.slice/user-1001.slice/memory.max": "max\n",
        }
    )


def memory_total(gib: int) -> int:
    """MemTotal in bytes of a host with `gib` GiB of modules: the kernel keeps about 2 % of them to itself."""
    return gib * (1 << 20) * 983 // 1000 * 1024


@cache
def memory(gib: int) -> Layer:
    """`gib` GiB of modules."""
    total = memory_total(gib) // 1024
    per_node = total // SOCKETS
    meminfo = (
        f"MemTotal:       {total} kB\nMemFree:        {total * 9 // 10} kB\nMemAvailable:   {total * 95 // 100} kB\n"
        "Buffers:          524288 kB\nCached:         18874368 kB\nSwapCached:            0 kB\n"
        "SwapTotal:       8388604 kB\nSwapFree:        8388604 kB\nAnonHugePages:    204800 kB\n"
        "HugePages_Total:       0\nHugePages_Free:        0\nHugePages_Rsvd:        0\nHugepagesize:       2048 kB\n"
    )
    nodes = {
        f"/sys/devices/system/node/node{n}/meminfo": f"Node {n} MemTotal:       {per_node} kB\n"
        f"Node {n} MemFree:        {per_node * 9 // 10} kB\nNode {n} HugePages_Total:     0\n"
        for n in range(SOCKETS)
    }
    blocks = {f"/sys/devices/system/memory/memory{n}/online": "1\n" for n in range(gib // _BLOCK_GIB)}
    return Layer(
        {
            "/proc/meminfo": meminfo,
            "/sys/devices/system/memory/block_size_bytes": f"{_BLOCK_GIB << 30:x}\n",
            "/sys/kernel/mm/transparent_hugepage/enabled": "always [madvise] never\n",
            **nodes,
            **blocks,
        }
    )


def _dmidecode(gib: int) -> Ran:
    size = _DIMM_GIB[gib]
    modules = "".join(
        f"Handle 0x{0x1100 + n:04X}, DMI type 17, 92 bytes\nMemory Device\n\tTotal Width: 80 bits\n\tSize: {size} GB\n"
        f"\tForm Factor: DIMM\n\tLocator: P{n % 2}_DIMM_{chr(65 + n // 2)}0\n\tType: DDR5\n\tSpeed: 4800 MT/s\n\n"
        for n in range(gib // size)
    )
    return Ran(f"# dmidecode 3.5\nGetting SMBIOS data from sysfs.\nSMBIOS 3.5.0 present.\n\n{modules}", seconds=0.04)


def disks(host: Character) -> Entries:
    """Each host's drives have serial numbers of their own."""
    entries: dict[str, Entry | str] = {}
    for n, (sectors, model, array) in enumerate(_DISKS):
        block = f"/sys/block/nvme{n}n1"
        entries[block] = link(f"../devices/pci0000:20/0000:{0x20 + n:02x}:00.0/nvme/nvme{n}/nvme{n}n1")
        entries |= _block(block, sectors) | {
            f"{block}/device/model": f"{model}\n",
            f"{block}/device/transport": "pcie\n",
            f"{block}/wwid": f"eui.3634473054{host.number:02d}{n:02d}0025384\n",
        }
        part = f"/nvme{n}n1p2" if array == "md0" else ""
        entries[f"{block}{part}/holders/{array}"] = link(f"../../../{array}")
    for array, sectors in (("md0", _SYSTEM_DISK - 1_010_352), ("md1", 8 * (_DATA_DISK - 264_192))):
        entries[f"/sys/block/{array}"] = link(f"../devices/virtual/block/{array}")
        entries |= _block(f"/sys/block/{array}", sectors)
    return entries


def _block(place: str, sectors: int) -> dict[str, Entry | str]:
    off = ("queue/rotational", "removable", "ro")
    return {f"{place}/size": f"{sectors}\n", **{f"{place}/{name}": "0\n" for name in off}}


def _lsblk() -> Ran:
    rows = [
        {"name": f"nvme{n}n1", "type": "disk", "size": sectors * _SECTOR, "rota": False, "tran": "nvme", "model": model}
        for n, (sectors, model, _) in enumerate(_DISKS)
    ]
    return Ran(json.dumps({"blockdevices": rows}) + "\n", seconds=0.03)


def tools(host: Character) -> dict[str, Tool]:
    return {
        "lsblk": printing(_lsblk()),
        "dmidecode": printing(_dmidecode(host.traits.memory_gib)),
    }
