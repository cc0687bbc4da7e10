"""perf.single-user-latency: one user alone, asking again and again, waits less than a second."""

from __future__ import annotations

from collections.abc import Sequence

from dstui.facts.case import FleetCase, Params
from dstui.facts.ladder import NEED, SINGLE, of_kind
from dstui.judge.perf_compare import sides
from dstui.judge.perf_words import FEW, faults, led, not_reached, seconds, stopped, taken, unsound
from dstui.judge.registry import FleetJudge
from dstui.judge.rulings import Causes, quoted
from dstui.load.agent.histogram import Histogram
from dstui.load.ladder import Prompts, StageKind
from dstui.load.result import LadderResult, StageResult
from dstui.model import Reason, Ruling, Text

LB_ADDS_MAX_S = 0.1
TAIL_MAX = 3.0
"""CATALOGUE 055: p99 above three times p50."""
_SHARES = {"p50": 0.5, "p90": 0.9, "p95": 0.95, "p99": 0.99}
_AS_LONG = (0.9, 1.1)
"""Answers of this part of the length that was meant are taken for such."""
_NAMES = {
    "ttft": Text("TTFT", "首 token 时间"),
    "e2e_short": Text("short answer", "短答"),
    "e2e": Text("whole answer", "完整回答"),
}


def judge(case: FleetCase) -> Sequence[Ruling]:
    metric, quantile, limit = case.params.text("metric"), case.params.text("quantile"), case.params.number("limit_s")
    name, samples = _NAMES[metric], case.params.count("samples")
    expected = Text(
        f"{name.en} {quantile} below {limit:g} s over at least {samples} answers, no error",
        f"{name.zh} {quantile} 低于 {limit:g} 秒，至少 {samples} 次成功，无错误",
    )
    found = taken(case, SINGLE, expected, endpoint=True)
    if isinstance(found, Ruling):
        return [found]
    causes, stages = found.causes, of_kind(found.result, StageKind.SINGLE)
    evidence = ("ladder.single", "ladder.generator")
    if not stages:
        causes.unknown(Reason.NOT_RUN, not_reached(found.result, Text("the single user", "单用户阶段")))
        none = Text("not measured", "未测量")
        return [causes.ruling(none, none, evidence=evidence)]
    stage = stages[-1]
    if not unsound(stage, causes) and not _others(stage, causes):
        _weigh(found.result, stage, case.params, causes)
    value = _metric(found.result, stage, metric, case.params)
    shown = seconds(None if value is None else value.quantile(_SHARES[quantile]))
    return [
        causes.ruling(
            Text(
                f"{name.en} {quantile} {shown} over {stage.counts.ok} answers, {stage.counts.failed} errors",
                f"{name.zh} {quantile} {shown}，{stage.counts.ok} 次成功，{stage.counts.failed} 次错误",
            ),
            Text("one user alone does not wait", "单用户无需等待"),
            material={"errors": stage.counts.failed > 0, "enough": stage.counts.ok >= samples},
            evidence=evidence,
        )
    ]


def _others(stage: StageResult, causes: Causes) -> bool:
    """Whether the engines worked for others as well: a single user can only be one request at a time."""
    window = stage.window
    # Two looks can fall into one second and are summed there: only what two seconds show is there.
    start = [point.running for point in window.timeline if point.running is not None][:2]
    first = min(start, default=None)
    peaks = [each.running_peak for each in window.replicas.values() if each.running_peak is not None]
    means = [each.running_mean for each in window.replicas.values() if each.running_mean is not None]
    if (first is not None and first > 1) or max(peaks, default=0.0) > 1 or sum(means) > 1:
        most = max([*peaks, first or 0.0])
        causes.unknown(
            Reason.CANNOT_TELL,
            Text(
                f"other traffic: {most:.0f} requests were running at once; run it when nobody else asks",
                f"有其他流量：同时运行 {most:.0f} 个请求；请在无人使用时运行",
            ),
        )
        return True
    if not peaks and first is None:
        why = quoted(window.why, 100)
        causes.note(Text(f"whether others asked meanwhile was not seen: {why}", f"未观测到是否有其他流量：{why}"))
    return False


def _weigh(result: LadderResult, stage: StageResult, params: Params, causes: Causes) -> None:
    counts, samples = stage.counts, params.count("samples")
    if counts.failed:
        kinds = ", ".join(f"{count} × {kind[:30]}" for kind, count in sorted(counts.errors.items())[:3] if count)
        causes.fail(Text(f"{counts.failed} errors: {kinds}", f"{counts.failed} 次错误：{kinds}"))
    if (why := stopped(stage)) is not None:
        causes.unknown(Reason.CANNOT_TELL, why)
    if counts.shed:
        causes.warn(
            Text(
                f"{counts.shed} requests of a single user were turned away (429/503)",
                f"单用户有 {counts.shed} 个请求被拒绝（429/503）",
            )
        )
    if counts.ok < FEW:
        causes.unknown(
            Reason.CANNOT_TELL,
            Text(f"only {counts.ok} answers (at least {FEW})", f"只有 {counts.ok} 次成功（至少 {FEW}）"),
        )
        return
    if counts.ok < samples:
        causes.warn(Text(f"{counts.ok} answers, {samples} are asked for", f"{counts.ok} 次成功，要求 {samples} 次"))
    if counts.aborted:
        causes.unknown(
            Reason.CANNOT_TELL,
            Text(f"{counts.aborted} requests had no end and were cut off", f"{counts.aborted} 个请求没有结束，被切断"),
        )
    prompts = stage.stage.prompts or result.ladder.prompts
    _weigh_prompts(prompts, params, causes)
    _weigh_metric(result, stage, params, causes)
    _weigh_balancer(result, stage, causes)
    if (told := sides(stage)) is not None:
        causes.note(told)


def _weigh_prompts(prompts: Prompts, params: Params, causes: Causes) -> None:
    wanted = params.count("prompt_tokens")
    if prompts.file is None and prompts.tokens_in.mean < wanted:
        mean = prompts.tokens_in.mean
        causes.warn(Text(f"prompts of {mean} tokens are shorter than {wanted}", f"提示为 {mean} token，短于 {wanted}"))
    if not prompts.fresh:
        causes.warn(
            Text(
                "prompts were not fresh: a cache of prefixes flatters the times",
                "提示未加随机前缀：前缀缓存会让时间显得更好",
            )
        )


def _weigh_metric(result: LadderResult, stage: StageResult, params: Params, causes: Causes) -> None:
    metric, quantile, limit = params.text("metric"), params.text("quantile"), params.number("limit_s")
    times, name = _metric(result, stage, metric, params), _NAMES[metric]
    value = None if times is None else times.quantile(_SHARES[quantile])
    if times is None or value is None or times.whole < stage.counts.ok:
        causes.unknown(
            Reason.CANNOT_TELL,
            Text(f"{name.en}: answers of that length were not measured", f"{name.zh}：未测量该长度的回答"),
        )
        return
    if value >= limit:
        causes.fail(
            Text(
                f"{name.en} {quantile} {seconds(value)} (below {limit:g} s)",
                f"{name.zh} {quantile} {seconds(value)}（应低于 {limit:g} 秒）",
            )
        )
    p50, p99 = times.quantile(0.5), times.quantile(0.99)
    if p50 is not None and p99 is not None and p99 > TAIL_MAX * p50:
        causes.warn(
            Text(
                f"{name.en} p99 {seconds(p99)} is more than {TAIL_MAX:g} × p50 {seconds(p50)}",
                f"{name.zh} p99 {seconds(p99)} 超过 p50 {seconds(p50)} 的 {TAIL_MAX:g} 倍",
            )
        )
    if metric == "ttft":
        _weigh_short(result, stage, params, causes)


def _metric(result: LadderResult, stage: StageResult, metric: str, params: Params) -> Histogram | None:
    """The times that a metric means; None when answers were of another length."""
    if metric == "ttft":
        return stage.times.ttft
    meant = params.count("short_tokens") if metric == "e2e_short" else result.ladder.prompts.tokens_out.mean
    return stage.times.e2e if _as_long(stage, meant) else None


def _as_long(stage: StageResult, tokens: int) -> bool:
    low, high = _AS_LONG
    ok = stage.counts.ok
    return ok > 0 and low * tokens <= stage.tokens_out / ok <= high * tokens


def _weigh_short(result: LadderResult, stage: StageResult, params: Params, causes: Causes) -> None:
    """The short answer as measured, else by what its tokens would have taken."""
    tokens, limit, quantile = params.count("short_tokens"), params.number("limit_s"), params.text("quantile")
    measured = _metric(result, stage, "e2e_short", params)
    if measured is not None:
        value, how = measured.quantile(_SHARES[quantile]), Text("", "")
    else:
        first, each = (times.quantile(_SHARES[quantile]) for times in (stage.times.ttft, stage.times.tpot))
        value = None if first is None or each is None else first + max(0, tokens - 1) * each
        how = Text(", by estimate", "（估算）")
    if value is None:
        causes.note(Text(f"an answer of {tokens} tokens was not measured", f"未测量 {tokens} token 短答"))
        return
    text = Text(
        f"an answer of {tokens} tokens takes {seconds(value)} at {quantile}{how.en}",
        f"{tokens} token 短答 {quantile} 为 {seconds(value)}{how.zh}",
    )
    if value >= limit:
        causes.warn(text)
    else:
        causes.note(text)


def _weigh_balancer(result: LadderResult, stage: StageResult, causes: Causes) -> None:
    """What the balancer adds: the difference of the medians, through it and straight to a backend."""
    name = Text("straight to a backend", "直连后端")
    direct = of_kind(result, StageKind.DIRECT)
    if not direct:
        causes.note(led(name, Text("not measured", "未测量")))
        return
    lame = next(faults(direct[-1]), None) or stopped(direct[-1])
    here, there = stage.times.ttft.quantile(0.5), direct[-1].times.ttft.quantile(0.5)
    if lame is not None or here is None or there is None:
        causes.note(led(name, lame or Text("no answer", "没有应答")))
        return
    text = Text(
        f"the balancer adds {seconds(max(0.0, here - there))} to the first token",
        f"负载均衡使首 token 增加 {seconds(max(0.0, here - there))}",
    )
    if here - there > LB_ADDS_MAX_S:
        causes.warn(text)
    else:
        causes.note(text)


JUDGE = FleetJudge(SINGLE, (), (), judge, (NEED,), recorded=True)
