"""perf.max-batch: every replica really works on as many requests at once as its configuration says."""

from __future__ import annotations

import math
from collections.abc import Sequence

from dstui.facts.case import FleetCase, Params
from dstui.facts.ladder import BATCH, NEED, of_kind
from dstui.judge.perf_words import led, not_reached, stopped, taken, unseen, unsound
from dstui.judge.registry import FleetJudge
from dstui.judge.rulings import Causes, quoted
from dstui.load.ladder import StageKind
from dstui.load.result import StageResult
from dstui.load.window import ReplicaWindow
from dstui.model import Reason, Ruling, Text, Verdict, same

_FULL = 0.95
"""A KV cache that is as full as this takes no further request."""


def judge(case: FleetCase) -> Sequence[Ruling]:
    ratio, hold = case.params.number("reach_ratio"), case.params.number("hold_s")
    expected = Text(
        f"every replica runs {ratio:g} × max_num_seqs for {hold:g} s, no error, few preemptions",
        f"每个副本运行数达 max_num_seqs 的 {ratio:g} 倍并保持 {hold:g} 秒，无错误，抢占很少",
    )
    found = taken(case, BATCH, expected)
    if isinstance(found, Ruling):
        return [found]
    causes, stages = found.causes, of_kind(found.result, StageKind.BATCH)
    evidence = ("ladder.batch", "ladder.generator")
    if not stages:
        causes.unknown(Reason.NOT_RUN, not_reached(found.result, Text("the full batch", "满批阶段")))
        none = Text("not measured", "未测量")
        return [causes.ruling(none, none, evidence=evidence)]
    stage = stages[-1]
    _weigh_broken(stage, causes)
    if not unsound(stage, causes):
        _weigh(stage, case.params, causes)
    return [
        causes.ruling(
            _observed(stage),
            Text("the batch limit is reached and held", "达到并保持批上限"),
            material={"verdict": causes.verdict.value, "replicas": sorted(stage.window.replicas)},
            evidence=evidence,
        )
    ]


def _observed(stage: StageResult) -> Text:
    shown = [
        f"{quoted(name, 40)} {'?' if seen.running_peak is None else f'{seen.running_peak:.0f}'}"
        for name, seen in sorted(stage.window.replicas.items())[:4]
    ]
    peaks = ", ".join(shown) or "?"
    rate = stage.tokens_per_second or 0.0
    return Text(f"most running at once: {peaks}; {rate:.0f} tokens/s", f"最多同时运行：{peaks}；{rate:.0f} token/s")


def _weigh_broken(stage: StageResult, causes: Causes) -> None:
    """What fails whoever was the bottleneck: errors, memory that ran out, an engine that began anew."""
    errors = {kind: count for kind, count in stage.counts.errors.items() if count}
    ours = {kind for kind in errors if kind.startswith("http-4")}
    named = ", ".join(f"{count} × {kind[:30]}" for kind, count in sorted(errors.items())[:4])
    if errors.keys() - ours:
        causes.fail(Text(f"errors: {named}", f"错误：{named}"))
    elif errors:
        causes.unknown(Reason.CANNOT_TELL, Text(f"requests were not accepted: {named}", f"请求未被接受：{named}"))
    for name, replica in sorted(stage.window.replicas.items()):
        if replica.restarted:
            causes.fail(led(same(quoted(name, 60)), Text("the engine began anew", "引擎重启过")))
    for name, host in sorted(stage.window.hosts.items()):
        if host.oom:
            causes.fail(led(same(name), Text("the kernel killed for want of memory", "内核因内存不足杀死进程（OOM）")))
    if not stage.window.hosts:
        causes.note(Text("hosts were not watched: OOM kills would not be seen", "未观测主机：看不到 OOM"))
    if (why := stopped(stage)) is not None:
        if "health" in stage.stopped.lower():
            causes.fail(why)
        else:
            causes.unknown(Reason.CANNOT_TELL, why)


def _weigh(stage: StageResult, params: Params, causes: Causes) -> None:
    limit, replicas = params.optional_number("max_num_seqs"), stage.window.replicas
    if not limit:
        causes.unknown(
            Reason.CANNOT_TELL,
            Text("max_num_seqs is not known: set engine.max_num_seqs", "max_num_seqs 未知：请设置 engine.max_num_seqs"),
        )
        return
    if not replicas:
        why = quoted(stage.window.why, 120)
        causes.unknown(
            Reason.CANNOT_TELL, Text(f"no replica's metrics were seen: {why}", f"未看到任何副本的指标：{why}")
        )
        return
    wanted = params.optional_number("replicas_expected")
    if wanted is not None and len(replicas) < wanted:
        causes.unknown(
            Reason.CANNOT_TELL,
            Text(
                f"metrics of {len(replicas)} of {wanted:.0f} replicas were seen",
                f"只看到 {len(replicas)}/{wanted:.0f} 个副本的指标",
            ),
        )
    if not stage.counts.ok:
        causes.unknown(Reason.CANNOT_TELL, Text("no request was answered inside the window", "窗口内没有请求得到应答"))
    if stage.counts.aborted:
        causes.unknown(
            Reason.CANNOT_TELL,
            Text(
                f"{stage.counts.aborted} requests had no end and were cut off",
                f"{stage.counts.aborted} 个请求没有结束，被切断",
            ),
        )
    count = max(len(replicas), int(wanted or 0))
    asked = math.floor(params.number("users_factor") * limit * count)
    for name, replica in sorted(replicas.items()):
        part = Causes(causes.target, causes.expected)
        _weigh_replica(stage, replica, limit, enough=stage.stage.users >= asked, params=params, causes=part)
        for cause in part.found:
            causes.found.append(type(cause)(cause.verdict, led(same(quoted(name, 60)), cause.text), cause.reason))
    if stage.stage.users < asked and causes.verdict is not Verdict.PASS:
        causes.note(
            Text(
                f"{stage.stage.users} users were sent, {asked} fill every batch",
                f"发送 {stage.stage.users} 用户，填满需 {asked}",
            )
        )


def _weigh_replica(
    stage: StageResult, replica: ReplicaWindow, limit: float, *, enough: bool, params: Params, causes: Causes
) -> None:
    if (why := unseen(replica)) is not None:
        causes.unknown(Reason.CANNOT_TELL, why)
    peak, preempted = replica.running_peak, replica.preemptions
    if peak is None or preempted is None:
        causes.unknown(
            Reason.CANNOT_TELL, Text("running or preempted requests were not seen", "未观测到运行数或抢占数")
        )
        return
    most = params.number("preempt_max_per_min")
    a_minute = preempted * 60 / stage.seconds
    often = Text(
        f"{a_minute:.1f} preemptions a minute (at most {most:g})", f"每分钟抢占 {a_minute:.1f} 次（最多 {most:g}）"
    )
    if peak < params.number("reach_ratio") * limit:
        _weigh_short_of_it(replica, peak, limit, preempted, enough=enough, causes=causes)
        return
    if a_minute > most:
        causes.warn(
            Text(
                f"KV cache full: {often.en}; max_num_seqs is above what memory sustains",
                f"KV 缓存写满：{often.zh}；max_num_seqs 超出显存能力",
            )
        )
    hold = params.number("hold_s")
    if replica.at_limit is None or stage.seconds < hold:
        causes.unknown(
            Reason.CANNOT_TELL, Text(f"whether it held for {hold:g} s was not seen", f"未观测到是否保持 {hold:g} 秒")
        )
    elif replica.at_limit < hold:
        causes.warn(
            Text(
                f"reached the limit and held it for {replica.at_limit:.0f} s (at least {hold:g})",
                f"达到上限但只保持 {replica.at_limit:.0f} 秒（至少 {hold:g}）",
            )
        )


def _weigh_short_of_it(
    replica: ReplicaWindow, peak: float, limit: float, preempted: float, *, enough: bool, causes: Causes
) -> None:
    """Why the batch was not full: memory, something in front that holds back, or too few users."""
    ran = Text(f"at most {peak:.0f} of {limit:.0f} ran", f"最多运行 {peak:.0f}（上限 {limit:.0f}）")
    if preempted > 0 or (replica.waiting_peak or 0) > 0 or (replica.kv_peak or 0) >= _FULL:
        causes.warn(
            Text(
                f"KV cache full before the batch limit, {ran.en}: max_num_seqs is above what memory sustains",
                f"KV 缓存先于批上限写满，{ran.zh}：max_num_seqs 超出显存能力",
            )
        )
    elif not enough:
        causes.unknown(Reason.CANNOT_TELL, Text(f"{ran.en}: too few users were sent", f"{ran.zh}：发送的用户太少"))
    elif replica.waiting_peak is None:
        causes.unknown(
            Reason.CANNOT_TELL, Text(f"{ran.en}; whether any waited was not seen", f"{ran.zh}；未观测到是否有排队")
        )
    else:
        causes.warn(
            Text(
                f"{ran.en} and none waited: Serve (max_ongoing_requests) or the balancer throttles earlier",
                f"{ran.zh}，且无排队：Serve（max_ongoing_requests）或负载均衡先限流",
            )
        )


JUDGE = FleetJudge(BATCH, (), (), judge, (NEED,), recorded=True)
