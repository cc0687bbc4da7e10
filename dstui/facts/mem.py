"""Memory: what is installed, what the kernel has, NUMA nodes, huge pages, limits of the session and of Ray."""

from __future__ import annotations

import re
from dataclasses import dataclass

from dstui.facts import cgroup
from dstui.facts.case import Group, HostSite, Site
from dstui.facts.numbers import by_directory, cpu_list, garbled
from dstui.facts.raw import Missing, Op, Raw, glob, read, run
from dstui.facts.sudoers import DMIDECODE, privileged
from dstui.model import Reason

_BLOCK = re.compile(r"/sys/devices/system/memory/memory\d+/online", re.ASCII)
_NODE = re.compile(r"/sys/devices/system/node/node(\d+)/(cpulist|meminfo)", re.ASCII)
_FIELD = re.compile(r"^(?:Node \d+ )?([\w()]+):\s+(\d{1,18})(?: kB)?\s*$", re.ASCII | re.MULTILINE)
_MODULE = re.compile(r"^(?=\s*Size:)", re.ASCII | re.MULTILINE)
_SIZE = r":\s*(\d{1,9}) (MB|GB|TB|kB)\s*$"
_DIMM = re.compile(r"^\s*Size" + _SIZE, re.ASCII | re.MULTILINE)
_VOLATILE = re.compile(r"^\s*Volatile Size" + _SIZE, re.ASCII | re.MULTILINE)
_PERSISTENT = re.compile(r"^\s*Non-Volatile Size" + _SIZE, re.ASCII | re.MULTILINE)
_UNIT = {"kB": 1 << 10, "MB": 1 << 20, "GB": 1 << 30, "TB": 1 << 40}

MOST_BLOCKS = 65_536
"""Memory blocks asked for: 8 TiB in the smallest blocks of 128 MiB; machines above 64 GiB mostly use 2 GiB blocks."""


@dataclass(frozen=True, slots=True)
class NodeMemory:
    """One NUMA node: its MemTotal, and whether it has CPUs (nodes without are device memory or empty by design)."""

    node: int
    total_bytes: int
    has_cpus: bool


@dataclass(frozen=True, slots=True)
class MemFacts:
    """All sizes in bytes. `online_blocks_bytes` counts memory blocks, `dimms` are the modules that SMBIOS lists."""

    total: int | Missing
    available: int | Missing
    online_blocks_bytes: int | Missing
    dimms: tuple[int, ...] | Missing
    hugepages_total: int | Missing
    hugepages_free: int | Missing
    hugepage_bytes: int | Missing
    swap_total: int | Missing
    swap_free: int | Missing
    nodes: tuple[NodeMemory, ...] | Missing
    session_limit: int | Missing | None
    ray_limit: int | Missing | None
    """The smallest `memory.max` above a running raylet; None without a limit, Missing when no raylet runs."""
    thp: str | Missing

    @property
    def installed(self) -> int | Missing:
        """The larger of memory blocks and modules: firmware takes part of the modules away from the blocks."""
        known = [self.online_blocks_bytes] if isinstance(self.online_blocks_bytes, int) else []
        if not isinstance(self.dimms, Missing):
            known.append(sum(self.dimms))
        if known:
            return max(known)
        return self.online_blocks_bytes


def ops(host: HostSite, site: Site) -> tuple[Op, ...]:
    return (
        read("mem.meminfo", "/proc/meminfo"),
        read("mem.block-size", "/sys/devices/system/memory/block_size_bytes", limit=64),
        glob("mem.blocks", "/sys/devices/system/memory/memory[0-9]*/online", each=8, files=MOST_BLOCKS),
        glob("mem.nodes", "/sys/devices/system/node/node[0-9]*/meminfo", "/sys/devices/system/node/node[0-9]*/cpulist"),
        read("mem.thp", "/sys/kernel/mm/transparent_hugepage/enabled", limit=256),
        read("mem.cgroup", "/proc/self/cgroup"),
        run("mem.raylets", "pgrep", "-x", "raylet", timeout=5.0),
        run("mem.dimms", *DMIDECODE, timeout=5.0, root=True),
    )


def raylet_pids(raw: Raw) -> tuple[int, ...]:
    found = raw.answer("mem.raylets")
    words = [] if isinstance(found, Missing) else found.output.split()
    return tuple(int(word) for word in words if re.fullmatch(r"\d{1,9}", word, re.ASCII))[:8]


def more(host: HostSite, site: Site, raw: Raw) -> tuple[Op, ...]:
    wanted: list[Op] = []
    own = raw.text("mem.cgroup")
    if not isinstance(own, Missing) and (limits := _limit_files(own)):
        wanted.append(glob("mem.limits", *limits, each=64))
    if pids := raylet_pids(raw):
        roots = ("/sys/fs/cgroup", "/sys/fs/cgroup/memory")
        depths = ("/*", "/*/*", "/*/*/*", "/*/*/*/*")
        files = (
            f"{root}{depth}/memory.{name}"
            for root, name in zip(roots, ("max", "limit_in_bytes"), strict=True)
            for depth in depths
        )
        wanted.append(glob("mem.ray-cgroup", *(f"/proc/{pid}/cgroup" for pid in pids)))
        wanted.append(glob("mem.ray-limits", *files, each=64))
    return tuple(wanted)


def _limit_files(own: str) -> tuple[str, ...]:
    return cgroup.ancestors(own, "memory", "memory.max", "memory.limit_in_bytes")


def _fields(source: str, text: str | Missing) -> dict[str, int] | Missing:
    """Fields of a meminfo file: kB values as written, counts as they are."""
    if isinstance(text, Missing):
        return text
    found = {name: int(value) for name, value in _FIELD.findall(text)}
    return found if "MemTotal" in found else garbled(source, text)


def _bytes(fields: dict[str, int] | Missing, name: str, unit: int = 1024) -> int | Missing:
    if isinstance(fields, Missing):
        return fields
    value = fields.get(name)
    return Missing(Reason.CANNOT_TELL, f"/proc/meminfo has no {name}") if value is None else value * unit


def _installed(raw: Raw) -> int | Missing:
    size, blocks = raw.text("mem.block-size"), raw.files("mem.blocks")
    if isinstance(size, Missing):
        return size
    if isinstance(blocks, Missing):
        return blocks
    if not re.fullmatch(r"[0-9a-fA-F]{1,12}", size.strip(), re.ASCII):
        return garbled("block_size_bytes", size)
    online = sum(1 for path, state in blocks.items() if _BLOCK.fullmatch(path) and state.strip() == "1")
    if not online:
        return Missing(Reason.CANNOT_TELL, "no memory block is listed as online")
    return online * int(size.strip(), 16)


def _dimms(raw: Raw) -> tuple[int, ...] | Missing:
    answer = privileged(raw, "mem.dimms")
    if isinstance(answer, Missing):
        return answer
    sizes: list[int] = []
    for module in _MODULE.split(answer.output):
        # A module of persistent memory (Optane) is storage; only its volatile part, if it has one, is memory.
        found = (_VOLATILE if _PERSISTENT.search(module) else _DIMM).search(module)
        if found:
            sizes.append(int(found[1]) * _UNIT[found[2]])
    return tuple(sizes) or Missing(Reason.CANNOT_TELL, "dmidecode lists no memory module")


def _nodes(raw: Raw) -> tuple[NodeMemory, ...] | Missing:
    files = raw.files("mem.nodes")
    if isinstance(files, Missing):
        return files
    found: list[NodeMemory] = []
    for node, row in by_directory(files, _NODE).items():
        fields = _fields(f"node{node}/meminfo", row.get("meminfo", ""))
        cpus = cpu_list(f"node{node}/cpulist", row.get("cpulist", ""))
        if isinstance(fields, Missing):
            return fields
        if isinstance(cpus, Missing):
            return cpus
        found.append(NodeMemory(int(node), fields["MemTotal"] * 1024, bool(cpus)))
    return tuple(sorted(found, key=lambda n: n.node)) or Missing(Reason.CANNOT_TELL, "no NUMA node is listed")


def _ray_limit(raw: Raw) -> int | Missing | None:
    if not raylet_pids(raw):
        return Missing(Reason.CANNOT_TELL, "no raylet runs")
    groups, limits = raw.files("mem.ray-cgroup"), raw.files("mem.ray-limits")
    if isinstance(groups, Missing):
        return groups
    if isinstance(limits, Missing):
        return limits
    wanted = {path for own in groups.values() for path in _limit_files(own)}
    return cgroup.byte_limit({path: limit for path, limit in limits.items() if path in wanted})


def parse(raw: Raw) -> MemFacts:
    fields = _fields("/proc/meminfo", raw.text("mem.meminfo"))
    limits, thp = raw.files("mem.limits"), raw.text("mem.thp")
    chosen = None if isinstance(thp, Missing) else re.search(r"\[(\w+)\]", thp)
    return MemFacts(
        total=_bytes(fields, "MemTotal"),
        available=_bytes(fields, "MemAvailable"),
        online_blocks_bytes=_installed(raw),
        dimms=_dimms(raw),
        hugepages_total=_bytes(fields, "HugePages_Total", 1),
        hugepages_free=_bytes(fields, "HugePages_Free", 1),
        hugepage_bytes=_bytes(fields, "Hugepagesize"),
        swap_total=_bytes(fields, "SwapTotal"),
        swap_free=_bytes(fields, "SwapFree"),
        nodes=_nodes(raw),
        session_limit=limits if isinstance(limits, Missing) else cgroup.byte_limit(limits),
        ray_limit=_ray_limit(raw),
        thp=thp if isinstance(thp, Missing) else (chosen[1] if chosen else garbled("transparent_hugepage", thp)),
    )


GROUP = Group("mem", MemFacts, ops, parse, more)
