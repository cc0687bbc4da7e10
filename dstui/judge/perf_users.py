"""perf.concurrent-users: every level of users is served within its limits."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from dstui.facts.case import FleetCase
from dstui.facts.ladder import LEVELS, NEED
from dstui.judge.fleet import listed
from dstui.judge.perf_compare import sides, weigh_regressions
from dstui.judge.perf_levels import Level, highest, weighed
from dstui.judge.perf_words import led, level, seconds, taken
from dstui.judge.registry import FleetJudge
from dstui.judge.rulings import Cause, Causes
from dstui.load.knee import knee
from dstui.load.ladder import Prompts
from dstui.load.result import LadderResult
from dstui.model import Reason, Ruling, Text, Verdict

COLLAPSE = 0.8
"""CATALOGUE 057: throughput falls by more than 20 % from one level to the next."""
TOKENS_IN, TOKENS_OUT = 512, 128
"""The prompt mix of CATALOGUE's load method."""


def judge(case: FleetCase) -> Sequence[Ruling]:
    most, shed = case.params.number("error_rate_max"), case.params.number("shed_max")
    users = listed(sorted(set(case.params.counts("levels"))))
    expected = Text(
        f"levels {users}: errors at most {most:.0%}, turned away at most {shed:.0%}, TTFT p95 within its limit",
        f"{users} 用户：错误不超过 {most:.0%}，拒绝不超过 {shed:.0%}，TTFT p95 在上限内",
    )
    found = taken(case, LEVELS, expected, endpoint=True)
    if isinstance(found, Ruling):
        return [found]
    causes, levels = found.causes, weighed(found.seen, found.result, found.causes)
    if not levels:
        causes.unknown(Reason.NO_TARGETS, Text("levels is empty", "levels 为空"))
    top = highest(levels)
    for each in levels:
        name = level(each.users)
        causes.found += [Cause(c.verdict, led(name, c.text), c.reason, c.detail) for c in each.causes.found]
        causes.remarks += [led(name, note) for note in each.causes.remarks]
    _name_highest(causes, top)
    _weigh_collapse(levels, causes)
    for prompts in {e.stage.stage.prompts or found.result.ladder.prompts for e in levels if e.stage is not None}:
        weigh_mix(prompts, causes)
    weigh_regressions(found.seen, levels, causes)
    _note(found.result, levels, causes)
    return [
        causes.ruling(
            _observed(levels, top),
            Text("every level is within its limits", "各级别均在上限内"),
            material={"levels": {str(each.users): each.causes.verdict.value for each in levels}},
            evidence=("ladder.levels", "ladder.replicas", "ladder.generator"),
        )
    ]


def _name_highest(causes: Causes, top: Level | None) -> None:
    """The item names the highest passing level where it fails."""
    en, zh = ("none", "无") if top is None else (str(top.users), str(top.users))
    causes.found = [
        Cause(
            cause.verdict,
            Text(f"{cause.text.en}; highest passing level: {en}", f"{cause.text.zh}；通过的最高级别：{zh}"),
            cause.reason,
            cause.detail,
        )
        if cause.verdict is Verdict.FAIL
        else cause
        for cause in causes.found
    ]


def _weigh_collapse(levels: Sequence[Level], causes: Causes) -> None:
    rates = [(each.users, each.stage.tokens_per_second) for each in levels if each.stage is not None and each.told]
    for (users, rate), (more, fewer) in pairwise(rates):
        if rate and fewer is not None and fewer < COLLAPSE * rate:
            fall = 1 - fewer / rate
            causes.warn(
                Text(
                    f"throughput falls by {fall:.0%} from {users} to {more} users: congestion collapse",
                    f"从 {users} 到 {more} 用户吞吐下降 {fall:.0%}：拥塞崩溃",
                )
            )


def weigh_mix(prompts: Prompts, causes: Causes) -> None:
    """Warns where what was asked is lighter than the method asks for."""
    if not prompts.fresh:
        causes.warn(
            Text(
                "prompts were not fresh: a cache of prefixes flatters the times",
                "提示未加随机前缀：前缀缓存会让时间显得更好",
            )
        )
    short = prompts.tokens_in.mean < TOKENS_IN or prompts.tokens_out.mean < TOKENS_OUT
    if prompts.file is None and short:
        mix = f"{prompts.tokens_in.mean} + {prompts.tokens_out.mean}"
        causes.warn(
            Text(
                f"prompts of {mix} tokens are lighter than {TOKENS_IN} + {TOKENS_OUT}",
                f"提示为 {mix} token，轻于 {TOKENS_IN} + {TOKENS_OUT}",
            )
        )


def _note(result: LadderResult, levels: Sequence[Level], causes: Causes) -> None:
    measured = [each.stage for each in levels if each.stage is not None]
    bend = knee([(float(stage.stage.users), stage.tokens_per_second) for stage in measured])
    if bend is not None:
        users = measured[bend].stage.users
        causes.note(Text(f"knee at {users} users: more bring little", f"拐点在 {users} 用户：再多收益很小"))
    if measured and (told := sides(measured[-1])) is not None:
        causes.note(told)
    short = [
        stage
        for stage in measured
        if stage.counts.ok and stage.tokens_out < 0.9 * result.ladder.prompts.tokens_out.mean * stage.counts.ok
    ]
    if short and result.ladder.prompts.fixed:
        mean = short[0].tokens_out / short[0].counts.ok
        causes.note(
            Text(
                f"the server ends answers by itself: {mean:.0f} tokens on average",
                f"服务器自行结束回答：平均 {mean:.0f} token",
            )
        )


def _observed(levels: Sequence[Level], top: Level | None) -> Text:
    if top is None or top.stage is None:
        return Text("no level passes", "没有级别通过")
    p95, rate = seconds(top.stage.times.ttft.quantile(0.95)), top.stage.tokens_per_second or 0.0
    of = max(each.users for each in levels)
    return Text(
        f"{top.users} of {of} users pass: TTFT p95 {p95}, {rate:.0f} tokens/s",
        f"{top.users} 用户通过（最高 {of}）：TTFT p95 {p95}，{rate:.0f} token/s",
    )


JUDGE = FleetJudge(LEVELS, (), (), judge, (NEED,), recorded=True)
