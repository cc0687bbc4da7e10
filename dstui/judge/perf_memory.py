"""perf.memory: under load neither the hosts' memory nor the KV caches run full."""

from __future__ import annotations

from collections.abc import Sequence

from dstui.facts.case import FleetCase
from dstui.facts.ladder import MEMORY, NEED
from dstui.judge.perf_ride import Ride, hosts, ride
from dstui.judge.perf_words import led, percent, unseen
from dstui.judge.registry import FleetJudge
from dstui.judge.rulings import Causes, quoted
from dstui.load.result import StageResult
from dstui.load.window import HostWindow
from dstui.model import Reason, Ruling, Text, same

GPU_MAX = 0.9
OVER_CONFIGURED = 0.03
"""CATALOGUE 059: GPU memory at 90 % where that is judged; 3 points above what vLLM was given."""
_MB = 1e6


def judge(case: FleetCase) -> Sequence[Ruling]:
    host, kv = case.params.number("host_mem_max_pct"), case.params.number("kv_cache_max_pct")
    expected = Text(
        f"hosts' peak below {host:g} %, KV cache p95 below {kv:g} %, no OOM, no swap-in",
        f"主机峰值低于 {host:g} %，KV 缓存 p95 低于 {kv:g} %，无 OOM、无换入",
    )
    found = ride(case, MEMORY, expected)
    if isinstance(found, Ruling):
        return [found]
    causes, stage = found.causes, found.stage
    _weigh_killed(found, causes)
    if stage is not None:
        for site, window in hosts(case.site, stage, causes):
            part = Causes(causes.target, causes.expected)
            _weigh_host(case, window, part)
            if site.gpu:
                _weigh_gpus(case, window, part)
            causes.found += [type(c)(c.verdict, led(same(site.name), c.text), c.reason) for c in part.found]
            causes.remarks += [led(same(site.name), note) for note in part.remarks]
        _weigh_caches(case, stage, causes)
        if case.params.optional_number("gpu_memory_configured") is None:
            causes.note(
                Text(
                    "engine.gpu_memory_utilization is not set: GPU memory is not compared",
                    "未设置 engine.gpu_memory_utilization：不比对显存",
                )
            )
    return [
        causes.ruling(
            _observed(found),
            Text("memory stays below its limits", "内存低于上限"),
            material={"verdict": causes.verdict.value},
            evidence=("ladder.memory", "ladder.replicas", "ladder.gpu"),
        )
    ]


def _observed(found: Ride) -> Text:
    if found.stage is None:
        return Text("not measured", "未测量")
    window = found.stage.window
    peak = max((each.memory_peak for each in window.hosts.values() if each.memory_peak is not None), default=None)
    kv = max((each.kv_p95 for each in window.replicas.values() if each.kv_p95 is not None), default=None)
    memory, cache = ("?" if value is None else percent(value) for value in (peak, kv))
    users = found.stage.stage.users
    return Text(
        f"at {users} users: hosts' peak {memory}, KV cache p95 {cache}",
        f"{users} 用户时：主机峰值 {memory}，KV 缓存 p95 {cache}",
    )


def _weigh_killed(found: Ride, causes: Causes) -> None:
    """The OOM killer is a failure at whatever stage it came."""
    for stage in found.result.stages:
        killed = [name for name, host in sorted(stage.window.hosts.items()) if host.oom]
        if killed:
            names = ", ".join(killed[:8])
            causes.fail(
                Text(
                    f"{stage.stage.name}: the kernel killed for want of memory on {names}",
                    f"{stage.stage.name}：{names} 发生 OOM",
                )
            )


def _weigh_host(case: FleetCase, window: HostWindow, causes: Causes) -> None:
    most = case.params.number("host_mem_max_pct")
    if window.memory_peak is None or window.oom is None or window.swap_in is None:
        causes.unknown(
            Reason.CANNOT_TELL,
            Text("memory, OOM kills or swap-in were not seen", "未观测到内存、OOM 或换入"),
        )
    if window.memory_peak is not None and not window.memory_peak * 100 < most:
        peak = percent(window.memory_peak)
        causes.fail(Text(f"memory peak {peak} (below {most:g} %)", f"内存峰值 {peak}（应低于 {most:g} %）"))
    if window.swap_in:
        pages = window.swap_in
        causes.warn(Text(f"{pages:.0f} pages were swapped in", f"换入 {pages:.0f} 页"))
    limit = case.params.number("growth_mb_per_h_warn")
    if window.growth is None:
        causes.note(Text("too short to see whether memory grows", "窗口太短，看不出内存是否增长"))
    elif window.growth / _MB > limit:
        growth = window.growth / _MB
        causes.warn(
            Text(
                f"memory grows by {growth:.0f} MB/h (at most {limit:g})",
                f"内存每小时增长 {growth:.0f} MB（最多 {limit:g}）",
            )
        )


def _weigh_gpus(case: FleetCase, window: HostWindow, causes: Causes) -> None:
    strict = case.params.text("gpu_mem_rule") == "strict"
    given = case.params.optional_number("gpu_memory_configured")
    unsaid = window.gpu_why or not window.gpus or any(gpu.memory_peak is None for gpu in window.gpus.values())
    if unsaid and (strict or given is not None):
        why = quoted(window.gpu_why, 100)
        text = Text(f"GPU memory was not seen {why}".rstrip(), f"未观测到显存 {why}".rstrip())
        if strict:
            causes.unknown(Reason.CANNOT_TELL, text)
        else:
            causes.note(text)
    for index, gpu in sorted(window.gpus.items()):
        peak = gpu.memory_peak
        if peak is None or gpu.serving is False:
            continue
        if strict and peak >= GPU_MAX:
            causes.fail(
                Text(
                    f"GPU {index}: memory {percent(peak)} (below {GPU_MAX:.0%})",
                    f"GPU {index}：显存 {percent(peak)}（应低于 {GPU_MAX:.0%}）",
                )
            )
        if given is not None and peak > given + OVER_CONFIGURED:
            causes.warn(
                Text(
                    f"GPU {index}: memory {percent(peak)}, vLLM was given {percent(given)}: something else lives there",
                    f"GPU {index}：显存 {percent(peak)}，配置为 {percent(given)}：卡上还有别的进程",
                )
            )


def _weigh_caches(case: FleetCase, stage: StageResult, causes: Causes) -> None:
    most, replicas = case.params.number("kv_cache_max_pct"), stage.window.replicas
    wanted = case.params.optional_number("replicas_expected") or 1
    if len(replicas) < wanted:
        why = quoted(stage.window.why, 100)
        causes.unknown(
            Reason.CANNOT_TELL,
            Text(
                f"KV caches of {len(replicas)} of {wanted:.0f} replicas were seen {why}".rstrip(),
                f"只看到 {len(replicas)}/{wanted:.0f} 个副本的 KV 缓存 {why}".rstrip(),
            ),
        )
    for name, replica in sorted(replicas.items()):
        where, why_not = same(quoted(name, 60)), unseen(replica)
        if why_not is not None or replica.kv_p95 is None:
            causes.unknown(Reason.CANNOT_TELL, led(where, why_not or Text("KV cache not seen", "未观测到 KV 缓存")))
        if replica.kv_p95 is not None and not replica.kv_p95 * 100 < most:
            p95 = percent(replica.kv_p95)
            causes.warn(
                led(where, Text(f"KV cache p95 {p95} (below {most:g} %)", f"KV 缓存 p95 {p95}（应低于 {most:g} %）"))
            )


JUDGE = FleetJudge(MEMORY, (), (), judge, (NEED,), recorded=True)
