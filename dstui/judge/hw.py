"""Hardware: processors and memory here, GPUs, disks and links in their own modules; all judges of `hw.*`."""

from __future__ import annotations

from dstui.facts.case import HostCase
from dstui.facts.cpu import CpuFacts, Topology
from dstui.facts.mem import MemFacts
from dstui.facts.raw import Missing
from dstui.judge import hw_disk, hw_gpu, hw_nic
from dstui.judge.registry import HostJudge, Judge
from dstui.judge.rulings import Causes, not_applicable, quoted, unknown
from dstui.model import Ruling, Text, host_target

GIB = 1 << 30

NO_RAY_ROLE = Text("this host has no head or worker role", "该主机不是 head 或 worker")


def cpu_cores(case: HostCase) -> Ruling:
    target, least = host_target(case.host.name), case.params.count("cpu_cores_min")
    if not case.host.in_ray:
        return not_applicable(target, NO_RAY_ROLE)
    expected = Text(f"at least {least} cores", f"至少 {least} 核")
    facts = case.facts.get(CpuFacts)
    if isinstance(facts, Missing):
        return unknown(target, facts, expected)
    if isinstance(facts.logical, Missing):
        return unknown(target, facts.logical, expected)
    topology, logical = facts.topology, facts.logical
    causes = Causes(target, expected)
    counted = _counted_cores(facts, case.params.text("cpu_count"))
    if logical < least:
        causes.fail(Text(f"{logical} CPUs online, fewer than {least}", f"在线逻辑 CPU 只有 {logical} 个，少于 {least}"))
    elif isinstance(counted, Missing):
        causes.missing(counted, Text("physical cores", "物理核数"))
    elif counted < least:
        causes.warn(
            Text(
                f"only hyper-threading reaches {least}: {logical} threads are {counted} physical cores",
                f"只靠超线程达到 {least}：{logical} 个线程对应 {counted} 个物理核",
            )
        )
    _cpu_remarks(causes, facts, logical, least)
    physical = topology.physical if isinstance(topology, Topology) else None
    return causes.ruling(
        _observed_cpu(facts, logical),
        Text(f"the count of cores reaches {least}", f"核数达到 {least}"),
        material={
            "physical": physical,
            "logical": logical,
            "online": facts.online,
            "count": case.params.text("cpu_count"),
        },
    )


def _counted_cores(facts: CpuFacts, how: str) -> int | Missing:
    """The count that decides: physical cores, except that a virtual machine hides them (`auto`)."""
    if how == "logical" or (how == "auto" and facts.hypervisor is True):
        return facts.logical
    return facts.topology if isinstance(facts.topology, Missing) else facts.topology.physical


def _cpu_remarks(causes: Causes, facts: CpuFacts, logical: int, least: int) -> None:
    if isinstance(facts.present, int) and facts.present > logical:
        offline = facts.present - logical
        causes.warn(
            Text(
                f"{offline} CPUs are offline (online: {facts.online})", f"{offline} 个 CPU 离线（在线：{facts.online}）"
            )
        )
    if logical < least:
        return
    if isinstance(facts.affinity, int) and facts.affinity < least:
        causes.warn(
            Text(
                f"the session may use only {facts.affinity} of {logical} CPUs (affinity)",
                f"当前会话只能使用 {logical} 个 CPU 中的 {facts.affinity} 个（亲和性）",
            )
        )
    if isinstance(facts.session_quota, float) and facts.session_quota < least:
        causes.warn(
            Text(
                f"the session's cgroup allows only {facts.session_quota:g} of {logical} CPUs (cpu.max)",
                f"会话所在 cgroup 只允许使用 {facts.session_quota:g} 个 CPU（共 {logical} 个，cpu.max）",
            )
        )


def _observed_cpu(facts: CpuFacts, logical: int) -> Text:
    model = quoted(facts.model, 60)
    virtual = facts.hypervisor is True
    en, zh = [f"{logical} CPUs online"], [f"{logical} 个逻辑 CPU 在线"]
    if isinstance(facts.topology, Topology):
        en.insert(0, f"{facts.topology.physical} cores in {facts.topology.sockets} sockets")
        zh.insert(0, f"{facts.topology.sockets} 路共 {facts.topology.physical} 核")
    if virtual:
        en.append("virtual machine")
        zh.append("虚拟机")
    if model:
        en.append(model)
        zh.append(model)
    return Text(", ".join(en), "，".join(zh))


def memory(case: HostCase) -> Ruling:
    target = host_target(case.host.name)
    if not case.host.in_ray:
        return not_applicable(target, NO_RAY_ROLE)
    wanted, tolerance = case.params.number("mem_min_gb"), case.params.number("mem_tolerance_pct")
    least = wanted * (1 - tolerance / 100)
    expected = Text(
        f"at least {wanted:g} GiB ({tolerance:g} % tolerance: {least:.1f} GiB)",
        f"至少 {wanted:g} GiB（容差 {tolerance:g} %：{least:.1f} GiB）",
    )
    facts = case.facts.get(MemFacts)
    if isinstance(facts, Missing):
        return unknown(target, facts, expected)
    if isinstance(facts.total, Missing):
        return unknown(target, facts.total, expected)
    total = facts.total / GIB
    installed = facts.installed / GIB if isinstance(facts.installed, int) else None
    most = max(total, installed or 0.0)
    causes = Causes(target, expected)
    if most < least:
        causes.fail(Text(f"{most:.1f} GiB is below {least:.1f} GiB", f"{most:.1f} GiB 低于 {least:.1f} GiB"))
    elif installed is not None and installed < wanted:
        causes.warn(
            Text(
                f"within tolerance, but only {installed:.1f} GiB of {wanted:g} GiB are installed",
                f"在容差之内，但只安装了 {installed:.1f} GiB，不足 {wanted:g} GiB",
            )
        )
    if most >= least > total:
        causes.warn(
            Text(
                f"the kernel uses only {total:.1f} GiB of {most:.1f} GiB (mirroring, mem=, ballooning or crashkernel)",
                f"内核只使用 {most:.1f} GiB 中的 {total:.1f} GiB（内存镜像、mem=、气球或 crashkernel）",
            )
        )
    _memory_remarks(causes, facts, least)
    en, zh = [f"{total:.1f} GiB MemTotal"], [f"MemTotal {total:.1f} GiB"]
    if installed is not None:
        en.append(f"{installed:g} GiB installed" if installed == round(installed) else f"{installed:.1f} GiB installed")
        zh.append(f"已安装 {installed:.1f} GiB")
    else:
        causes.note(Text("how much is installed cannot be read here", "无法读取已安装的容量"))
    return causes.ruling(
        Text(", ".join(en), "，".join(zh)),
        Text(
            "installed memory or MemTotal reaches the minimum less tolerance",
            "已安装容量或 MemTotal 达到下限（含容差）",
        ),
        material={
            "mem_total_bytes": facts.total,
            "installed_bytes": facts.installed if installed is not None else None,
        },
    )


def _memory_remarks(causes: Causes, facts: MemFacts, least: float) -> None:
    if not isinstance(facts.nodes, Missing):
        for node in facts.nodes:
            if node.has_cpus and node.total_bytes == 0:
                causes.warn(
                    Text(f"NUMA node {node.node} has CPUs but no memory", f"NUMA 节点 {node.node} 有 CPU 但没有内存")
                )
    for limit, of in (
        (facts.session_limit, Text("this session", "当前会话")),
        (facts.ray_limit, Text("Ray's service", "Ray 服务")),
    ):
        if isinstance(limit, int) and limit / GIB < least:
            causes.warn(
                Text(
                    f"the cgroup of {of.en} allows only {limit / GIB:.1f} GiB",
                    f"{of.zh}的 cgroup 只允许 {limit / GIB:.1f} GiB",
                )
            )
    if isinstance(facts.hugepages_total, int) and isinstance(facts.hugepage_bytes, int) and facts.hugepages_total:
        reserved = facts.hugepages_total * facts.hugepage_bytes / GIB
        causes.note(Text(f"{reserved:.1f} GiB are reserved as huge pages", f"{reserved:.1f} GiB 被预留为大页"))
    if isinstance(facts.dimms, tuple):
        sizes = ", ".join(f"{facts.dimms.count(s)} × {s / GIB:g} GiB" for s in sorted(set(facts.dimms)))
        causes.note(Text(f"memory modules: {sizes}", f"内存条：{sizes}"))


JUDGES: tuple[Judge, ...] = (
    HostJudge("hw.gpu-model", ("gpu", "os"), ("gpu.nvml", "gpu.smi", "gpu.pci", "gpu.marks"), hw_gpu.gpu_model),
    HostJudge("hw.cpu-cores", ("cpu",), ("cpu",), cpu_cores),
    HostJudge("hw.memory", ("mem",), ("mem",), memory),
    HostJudge("hw.ssd-capacity", ("disk",), ("disk",), hw_disk.ssd_capacity),
    hw_nic.JUDGE,
)
