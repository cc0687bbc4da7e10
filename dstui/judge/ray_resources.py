"""ray.resources: what Ray counts on each node is what NVML, the kernel and the inventory say is there."""

from __future__ import annotations

from collections.abc import Sequence

from dstui.facts.case import FleetCase, HostCase, HostSite
from dstui.facts.cpu import CpuFacts
from dstui.facts.gpu import GpuFacts
from dstui.facts.mem import MemFacts
from dstui.facts.raw import Missing
from dstui.facts.ray_look import GIB, PREFIX, RayLook
from dstui.facts.serve_processes import SHM, ServeProcesses
from dstui.judge.fleet import cluster_target, facts_of, listed
from dstui.judge.ray_words import addresses_of, without_ray
from dstui.judge.registry import FleetJudge
from dstui.judge.rulings import Causes, not_applicable, quoted, unknown
from dstui.model import Reason, Ruling, Text, host_target
from dstui.telemetry.ray import Resources
from dstui.telemetry.ray_compare import HostInRay, Joined, RayComparison, compare

_EVIDENCE = (f"{PREFIX}nodes", f"{PREFIX}demands")
_HOST_EVIDENCE = (f"{PREFIX}nodes", "gpu", "cpu.online", "mem.meminfo")
_ALIVE = (Joined.ALIVE, Joined.TWICE)
_ROUNDING = 1e-6


def judge(case: FleetCase) -> Sequence[Ruling]:
    cluster = cluster_target(case.site)
    expected = Text("Ray's GPUs are those of NVML and of the inventory", "Ray 的 GPU 数与 NVML 和清单一致")
    if (why := without_ray(case.params)) is not None:
        return [not_applicable(cluster, why)]
    if not any(host.in_ray for host in case.site.hosts):
        none = Missing(Reason.NO_TARGETS, "no host of the inventory has the role head, worker or ray")
        return [unknown(cluster, none, expected)]
    look = case.get(RayLook)
    if isinstance(look, Missing):
        return [unknown(cluster, look, expected)]
    if look.snapshot.nodes is None:
        return [unknown(cluster, look.why_not("nodes"), expected, evidence=_EVIDENCE)]
    known = {host.name: addresses_of(case, host) for host in case.site.hosts}
    counted = {host.name: _nvml(case, host) for host in case.site.hosts if host.gpu}
    nvml = {name: None if isinstance(count, Missing) else count for name, count in counted.items()}
    compared = compare(look.snapshot, case.site, nvml, known)
    rows = [_host(case, row, look, counted.get(row.host)) for row in compared.hosts]
    return [*rows, _cluster(case, look, compared, expected)]


def _nvml(case: FleetCase, host: HostSite) -> int | Missing:
    facts = facts_of(case, host.name, GpuFacts)
    if isinstance(facts, Missing):
        return facts
    if facts.fault is not None:
        return Missing(Reason.CANNOT_TELL, f"NVML would not start: {facts.fault.name}")
    return facts.devices if isinstance(facts.devices, Missing) else len(facts.devices)


def _host(case: FleetCase, row: HostInRay, look: RayLook, nvml: int | Missing | None) -> Ruling:
    host, gpus = case.site.host(row.host), row.gpus
    expected = Text(
        f"GPU {_shown(gpus.inventory)} (inventory), {_shown(gpus.nvml)} (NVML)",
        f"GPU {_shown(gpus.inventory)}（清单），{_shown(gpus.nvml)}（NVML）",
    )
    causes = Causes(host_target(host.name), expected)
    if row.joined not in _ALIVE:
        _weigh_absence(causes, row, look)
    else:
        _weigh_gpus(causes, row, nvml)
        if row.node is not None:
            _weigh_rest(case.case(host.name), causes, row.node.total)
    total = row.node.total if row.node is not None and row.joined in _ALIVE else Resources()
    words = f"GPU {_shown(gpus.ray)}, CPU {_shown(total.cpu)}, memory {_gib(total.memory)}"
    return causes.ruling(
        Text(f"Ray: {words}", f"Ray：{words}"),
        Text("the same everywhere, CPU and memory within tolerance", "处处一致，CPU 和内存在容差内"),
        material={"ray": gpus.ray, "nvml": gpus.nvml, "inventory": gpus.inventory, "cpu": total.cpu},
        evidence=_HOST_EVIDENCE,
    )


def _weigh_absence(causes: Causes, row: HostInRay, look: RayLook) -> None:
    if row.joined in (Joined.DEAD, Joined.ABSENT):
        causes.fail(Text("not in the cluster: Ray counts nothing of it", "不在集群中：Ray 没有计入它的任何资源"))
    else:
        causes.missing(look.why_not("nodes"), Text("what Ray counts of it", "Ray 计入的资源"))


def _weigh_gpus(causes: Causes, row: HostInRay, nvml: int | Missing | None) -> None:
    ray, found, declared = row.gpus.ray, row.gpus.nvml, row.gpus.inventory
    if ray is None:
        causes.unknown(Reason.CANNOT_TELL, Text("Ray does not tell its GPUs", "Ray 没有给出其 GPU 数"))
        return
    if found is not None and ray != found:
        way = (
            Text("declared by --num-gpus?", "是否由 --num-gpus 声明？")
            if ray > found
            else Text(
                "hidden by CUDA_VISIBLE_DEVICES, or --num-gpus?", "是否被 CUDA_VISIBLE_DEVICES 或 --num-gpus 隐藏？"
            )
        )
        causes.fail(
            Text(
                f"Ray counts {ray:g} GPUs, NVML finds {found}: {way.en}",
                f"Ray 计 {ray:g} 个 GPU，NVML 找到 {found} 个：{way.zh}",
            )
        )
    if declared is not None and ray != declared:
        causes.fail(
            Text(
                f"Ray counts {ray:g} GPUs, the inventory says {declared}",
                f"Ray 计 {ray:g} 个 GPU，清单为 {declared} 个",
            )
        )
    if isinstance(nvml, Missing):
        causes.missing(nvml, Text("the number of GPUs by NVML", "NVML 的 GPU 数"))
    if row.joined is Joined.TWICE:
        causes.fail(Text("two raylets count the same GPUs", "两个 raylet 重复计入同样的 GPU"))


def _weigh_rest(case: HostCase, causes: Causes, total: Resources) -> None:
    _weigh_cpu(case, causes, total.cpu)
    _weigh_memory(case, causes, total.memory)
    if case.params.flag("object_store_shm"):
        _weigh_store(case, causes, total.object_store)


def _weigh_cpu(case: HostCase, causes: Causes, ray: float | None) -> None:
    facts = case.facts.get(CpuFacts)
    real = facts if isinstance(facts, Missing) else facts.logical
    if isinstance(real, Missing):
        causes.missing(real, Text("the host's CPUs", "主机 CPU 数"))
    elif ray is None:
        causes.unknown(Reason.CANNOT_TELL, Text("Ray does not tell its CPUs", "Ray 没有给出其 CPU 数"))
    elif abs(ray - real) > real * case.params.number("cpu_tolerance_pct") / 100 + _ROUNDING:
        causes.warn(Text(f"Ray counts {ray:g} CPUs, the host has {real}", f"Ray 计 {ray:g} 个 CPU，主机有 {real} 个"))


def _weigh_memory(case: HostCase, causes: Causes, ray: float | None) -> None:
    facts, ratio = case.facts.get(MemFacts), case.params.number("mem_ratio_min")
    real = facts if isinstance(facts, Missing) else facts.total
    if isinstance(real, Missing):
        causes.missing(real, Text("the host's memory", "主机内存"))
    elif ray is None:
        causes.unknown(Reason.CANNOT_TELL, Text("Ray does not tell its memory", "Ray 没有给出其内存"))
    elif ray < real * ratio:
        causes.warn(
            Text(
                f"Ray has {_gib(ray)} of the host's {_gib(real)}, less than {ratio:.0%}",
                f"Ray 有 {_gib(ray)}，主机共 {_gib(real)}，低于 {ratio:.0%}",
            )
        )


def _weigh_store(case: HostCase, causes: Causes, ray: float | None) -> None:
    facts = case.facts.get(ServeProcesses)
    size = facts if isinstance(facts, Missing) else facts.shm_bytes
    if ray is None:
        causes.unknown(Reason.CANNOT_TELL, Text("Ray does not tell its object store", "Ray 没有给出对象存储大小"))
    elif isinstance(size, Missing):
        causes.missing(size, Text(f"the size of {SHM}", f"{SHM} 的大小"))
    elif ray > size:
        causes.warn(
            Text(
                f"the object store is {_gib(ray)}, {SHM} only {_gib(size)}: Ray falls back to slow disk",
                f"对象存储为 {_gib(ray)}，{SHM} 只有 {_gib(size)}：Ray 会退回到慢速磁盘",
            )
        )


def _cluster(case: FleetCase, look: RayLook, compared: RayComparison, expected: Text) -> Ruling:
    causes, gpus = Causes(cluster_target(case.site), expected), compared.gpus
    wanted = gpus.inventory if gpus.inventory is not None else gpus.nvml
    if gpus.ray is None:
        causes.missing(look.why_not("nodes"), Text("the sum of Ray's GPUs", "Ray 的 GPU 总数"))
    elif wanted is None:
        causes.unknown(
            Reason.NO_TARGETS,
            Text(
                "gpus_per_host is not set, and NVML did not count everywhere",
                "未设置 gpus_per_host，且 NVML 未能全部计数",
            ),
        )
    elif gpus.ray != wanted:
        source = Text("the inventory has", "清单为") if gpus.inventory is not None else Text("NVML finds", "NVML 找到")
        causes.fail(
            Text(
                f"Ray counts {gpus.ray:g} GPUs in all, {source.en} {wanted}",
                f"Ray 共计 {gpus.ray:g} 个 GPU，{source.zh} {wanted}",
            )
        )
    elif wanted == 0:
        causes.fail(Text("neither Ray nor the inventory has a single GPU", "Ray 和清单中都没有 GPU"))
    if compared.strangers:
        names = listed([node.ip or "?" for node in compared.strangers])
        causes.warn(Text(f"nodes that are not in the inventory: {quoted(names)}", f"清单之外的节点：{quoted(names)}"))
    _weigh_demands(causes, look)
    used = look.snapshot.used
    words = f"{_shown(gpus.ray)} GPU, {_shown(used.gpu if used else None)}"
    return causes.ruling(
        Text(f"{words} of them given out", f"{words} 个已分配"),
        Text("the sum is what should be there", "总数与应有的一致"),
        material={"ray": gpus.ray, "inventory": gpus.inventory, "nvml": gpus.nvml},
        evidence=_EVIDENCE,
    )


def _weigh_demands(causes: Causes, look: RayLook) -> None:
    demands, used, total = look.snapshot.demands, look.snapshot.used, look.snapshot.total
    if demands is None or not demands.waiting:
        return
    words = quoted("; ".join(demands.waiting), 160)
    full = used is not None and total is not None and used.gpu is not None and total.gpu and used.gpu >= total.gpu
    if full:
        causes.warn(
            Text(f"every GPU is given out and more is asked for: {words}", f"GPU 已全部分配，仍有等待的需求：{words}")
        )
    else:
        causes.note(Text(f"waiting for resources: {words}", f"等待资源：{words}"))


def _shown(count: float | None) -> str:
    return "?" if count is None else f"{count:g}"


def _gib(value: float | None) -> str:
    return "?" if value is None else f"{value / GIB:.1f} GiB"


JUDGE = FleetJudge("ray.resources", ("gpu", "cpu", "mem", "serve_processes", "addresses"), (), judge, needs=("ray",))
