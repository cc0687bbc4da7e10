"""Processors: cores and threads that are online, what the session may use of them, NUMA nodes, virtual or not."""

from __future__ import annotations

import re
from dataclasses import dataclass

from dstui.facts import cgroup
from dstui.facts.case import Group, HostSite, Site
from dstui.facts.numbers import by_directory, cpu_list, garbled, whole_or_none
from dstui.facts.raw import Missing, Op, Raw, glob, own_process, read, run
from dstui.model import Reason

_TOPOLOGY = re.compile(r"/sys/devices/system/cpu/cpu(\d+)/topology/(physical_package_id|die_id|core_id)", re.ASCII)
_NODE = re.compile(r"/sys/devices/system/node/node(\d+)/(cpulist)", re.ASCII)


@dataclass(frozen=True, slots=True)
class Topology:
    """Online CPUs by core: `physical` cores in `sockets` packages; `source` says where it was read."""

    physical: int
    sockets: int
    source: str


@dataclass(frozen=True, slots=True)
class CpuFacts:
    """Counts are of online CPUs. `hypervisor` is the CPU's own flag; `session_quota` in CPUs, None when unlimited."""

    topology: Topology | Missing
    logical: int | Missing
    online: str
    present: int | Missing
    affinity: int | Missing
    session_quota: float | Missing | None
    hypervisor: bool | Missing
    model: str
    nodes: int | Missing
    """NUMA nodes that have CPUs."""
    governor: str | Missing
    """`cpu0`'s scaling governor; Missing on most virtual machines."""


def ops(host: HostSite, site: Site) -> tuple[Op, ...]:
    topology = "/sys/devices/system/cpu/cpu[0-9]*/topology/"
    return (
        glob("cpu.topology", *(topology + name for name in ("physical_package_id", "die_id", "core_id")), each=64),
        read("cpu.online", "/sys/devices/system/cpu/online", limit=4096),
        read("cpu.present", "/sys/devices/system/cpu/present", limit=4096),
        read("cpu.info", "/proc/cpuinfo", limit=16_384),
        glob("cpu.nodes", "/sys/devices/system/node/node[0-9]*/cpulist"),
        read("cpu.governor", "/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor", limit=64),
        read("cpu.cgroup", "/proc/self/cgroup"),
        own_process("cpu.self"),
    )


def more(host: HostSite, site: Site, raw: Raw) -> tuple[Op, ...]:
    wanted: list[Op] = []
    own = raw.text("cpu.cgroup")
    if not isinstance(own, Missing) and (limits := cgroup.ancestors(own, "cpu", "cpu.max", "cpu.cfs_quota_us")):
        periods = tuple(p.replace("cfs_quota", "cfs_period") for p in limits if p.endswith("cpu.cfs_quota_us"))
        wanted.append(glob("cpu.limits", *limits, *periods, each=64))
    if isinstance(_topology_of_sysfs(raw), Missing):
        wanted.append(run("cpu.lscpu", "lscpu", "-p=CPU,CORE,SOCKET", timeout=5.0))
    return tuple(wanted)


def _online(raw: Raw) -> frozenset[int] | Missing:
    online = cpu_list("/sys/devices/system/cpu/online", raw.text("cpu.online"))
    if not isinstance(online, Missing) and not online:
        return Missing(Reason.PARSE_ERROR, "/sys/devices/system/cpu/online is empty")
    return online


def _topology_of_sysfs(raw: Raw) -> Topology | Missing:
    files, online = raw.files("cpu.topology"), _online(raw)
    if isinstance(files, Missing):
        return files
    if isinstance(online, Missing):
        return online
    cores: set[tuple[int, int, int]] = set()
    by_cpu = by_directory(files, _TOPOLOGY)
    for cpu in online:
        row = by_cpu.get(str(cpu), {})
        package, core = whole_or_none(row.get("physical_package_id")), whole_or_none(row.get("core_id"))
        if package is None or core is None:
            return Missing(Reason.CANNOT_TELL, f"sysfs does not tell the core of online CPU {cpu}")
        # core_id is unique within a die, and kernels before 5.2 know no dies
        cores.add((package, whole_or_none(row.get("die_id")) or 0, core))
    return Topology(len(cores), len({package for package, _, _ in cores}), "sysfs")


def _topology_of_lscpu(raw: Raw) -> tuple[Topology, int] | Missing:
    text = raw.text("cpu.lscpu")
    if isinstance(text, Missing):
        return text
    rows = [line.split(",") for line in text.splitlines() if line.strip() and not line.startswith("#")]
    if not rows or not all(len(row) == 3 and row[0].isdecimal() and row[1].isdecimal() for row in rows):
        return garbled("lscpu -p", text)
    cores = {(socket or "0", core) for _, core, socket in rows}
    return Topology(len(cores), len({socket for socket, _ in cores}), "lscpu"), len({cpu for cpu, _, _ in rows})


def _cpuinfo(raw: Raw) -> tuple[str, bool | Missing]:
    """Model name, and whether the CPU says that it is virtual. ARM has no such flag: no `flags` line, cannot tell."""
    text = raw.head("cpu.info")
    if isinstance(text, Missing):
        return "", text
    first = text.split("\n\n", 1)[0].splitlines()
    fields = {key.strip(): value.strip() for key, colon, value in (line.partition(":") for line in first) if colon}
    if "flags" not in fields:
        return fields.get("model name", ""), Missing(Reason.CANNOT_TELL, "/proc/cpuinfo has no flags line")
    return fields.get("model name", ""), "hypervisor" in fields["flags"].split()


def _affinity(raw: Raw) -> int | Missing:
    value = raw.value("cpu.self")
    if isinstance(value, Missing):
        return value
    mask = value.get("affinity") if isinstance(value, dict) else None
    if not isinstance(mask, list) or not mask:
        return Missing(Reason.CANNOT_TELL, "the session does not tell its CPU affinity")
    return len(mask)


def _nodes(raw: Raw) -> int | Missing:
    files = raw.files("cpu.nodes")
    if isinstance(files, Missing):
        return files
    return sum(1 for row in by_directory(files, _NODE).values() if row["cpulist"]) or Missing(
        Reason.CANNOT_TELL, "no NUMA node is listed"
    )


def parse(raw: Raw) -> CpuFacts:
    topology: Topology | Missing = _topology_of_sysfs(raw)
    online = _online(raw)
    logical: int | Missing = online if isinstance(online, Missing) else len(online)
    if isinstance(topology, Missing) and not isinstance(told := _topology_of_lscpu(raw), Missing):
        topology, count = told
        logical = count if isinstance(logical, Missing) else logical
    present = cpu_list("/sys/devices/system/cpu/present", raw.text("cpu.present"))
    limits = raw.files("cpu.limits")
    model, hypervisor = _cpuinfo(raw)
    text, governor = raw.text("cpu.online"), raw.text("cpu.governor")
    return CpuFacts(
        topology=topology,
        logical=logical,
        online="" if isinstance(text, Missing) else text.strip(),
        present=present if isinstance(present, Missing) else len(present),
        affinity=_affinity(raw),
        session_quota=limits if isinstance(limits, Missing) else cgroup.cpu_limit(limits),
        hypervisor=hypervisor,
        model=model,
        nodes=_nodes(raw),
        governor=governor if isinstance(governor, Missing) else governor.strip(),
    )


GROUP = Group("cpu", CpuFacts, ops, parse, more)
