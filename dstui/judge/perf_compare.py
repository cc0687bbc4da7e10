"""A ladder beside the last accepted one, and what the client saw beside what the servers counted."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median

from dstui.facts.ladder import LEVELS, LadderSeen, day, levels_of
from dstui.judge.perf_levels import Level
from dstui.judge.perf_words import level, seconds
from dstui.judge.rulings import Causes
from dstui.load.result import StageResult
from dstui.model import Text

WARN_PCT, LOUD_PCT = 10.0, 25.0
"""CATALOGUE 097: regression_warn_pct and regression_fail_pct of the monthly assessment."""
CLEARLY_S, CLEARLY_TIMES = 0.1, 1.5
"""CATALOGUE 055: a balancer may add 100 ms. vLLM's own buckets are up to twice as wide as what they hold."""


def weigh_regressions(seen: LadderSeen, levels: Sequence[Level], causes: Causes) -> None:
    """Warns of levels whose TTFT p95 or tokens/s are worse than on the last accepted ladder, the worst first."""
    before = seen.before(LEVELS)
    if before is None:
        causes.note(
            Text(
                "no earlier ladder of the same stages, prompts and loop to compare with",
                "没有相同阶段、提示和循环方式的更早压测可对比",
            )
        )
        return
    found: list[tuple[float, Text]] = []
    earlier, when = levels_of(before), day(before.at)
    for each in levels:
        old = earlier.get(each.users)
        if each.stage is None or old is None or not each.told:
            continue
        now, then = each.stage.times.ttft.quantile(0.95), old.times.ttft.quantile(0.95)
        if now is not None and then:
            words = Text(f"TTFT p95 {seconds(then)} → {seconds(now)}", f"TTFT p95 {seconds(then)} → {seconds(now)}")
            found.append(_change(each.users, (now / then - 1) * 100, words, when))
        rate, was = each.stage.tokens_per_second, old.tokens_per_second
        if rate is not None and was:
            words = Text(f"{was:.0f} → {rate:.0f} tokens/s", f"{was:.0f} → {rate:.0f} token/s")
            found.append(_change(each.users, (1 - rate / was) * 100, words, when))
    worse = sorted((row for row in found if row[0] > WARN_PCT), key=lambda row: -row[0])
    for _, text in worse:
        causes.warn(text)
    if not worse:
        causes.note(Text(f"no worse than the ladder of {when}", f"不差于 {when} 的压测"))


def _change(users: int, worse: float, words: Text, when: str) -> tuple[float, Text]:
    name, loud = level(users), worse > LOUD_PCT
    en, zh = ("REGRESSION: ", "严重退化：") if loud else ("", "")
    text = Text(
        f"{en}{name.en} is {worse:.0f} % worse than on {when}: {words.en}",
        f"{zh}{name.zh}比 {when} 差 {worse:.0f} %：{words.zh}",
    )
    return worse, text


def sides(stage: StageResult) -> Text | None:
    """Where the time goes that the client waits and vLLM does not know of; None: there is none, or it is not known."""
    client = stage.times.ttft.quantile(0.5)
    told = [replica.ttft_p50 for replica in stage.window.replicas.values() if replica.ttft_p50 is not None]
    if client is None or not told:
        return None
    server = median(told)
    more = client - server
    if not (more > CLEARLY_S and client > CLEARLY_TIMES * server):
        return None
    lag = stage.generator.lag.quantile(0.99)
    name = level(stage.stage.users)
    seen = f"{name.en}: TTFT p50 {seconds(client)} at the client, {seconds(server)} at vLLM"
    seen_zh = f"{name.zh}：客户端 TTFT p50 {seconds(client)}，vLLM 为 {seconds(server)}"
    if lag is not None and lag >= more / 2:
        return Text(f"{seen}; the generator itself is {seconds(lag)} late", f"{seen_zh}；压测机自身滞后 {seconds(lag)}")
    return Text(
        f"{seen}; the rest is queueing at the balancer or Serve's router",
        f"{seen_zh}；其余在负载均衡或 Serve 路由处排队",
    )
