"""Which levels of users pass (CATALOGUE 057); the other checks ride on the highest that does."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from dstui.facts.case import Params
from dstui.facts.ladder import LadderSeen, levels_of
from dstui.judge.perf_words import FEW, not_reached, percent, seconds, stopped, unsound
from dstui.judge.rulings import Causes
from dstui.load.ladder import Loop
from dstui.load.result import LadderResult, StageResult
from dstui.model import Reason, Text, Verdict

BUSY_MIN = 0.8
"""Of a closed loop's users so many are always waiting for an answer; fewer were not the load that was asked for."""
FEW_ALONE = 5
"""One user alone is not answered often in a window; the largest of so few stands for the p95."""
_SERVICES_OWN = ("backpressure", "max_queued_requests", "overloaded", "queue is full")
"""Words by which Serve or a server says itself that it takes no more; a limiter before it has others."""
TAIL_MAX = 5.0
"""CATALOGUE 057: p99 above five times p50."""


@dataclass(frozen=True, slots=True)
class Level:
    """A level that is wanted. `stage` is None when it has no result; `causes` what speaks against it."""

    users: int
    stage: StageResult | None
    causes: Causes

    @property
    def passes(self) -> bool:
        return self.stage is not None and self.causes.verdict in (Verdict.PASS, Verdict.WARN)

    @property
    def told(self) -> bool:
        """Whether it shows anything, good or bad."""
        return self.stage is not None and self.causes.verdict is not Verdict.UNKNOWN


def weighed(seen: LadderSeen, result: LadderResult, causes: Causes) -> tuple[Level, ...]:
    """Every level that is wanted, fewest users first. `causes` lends target and expectation only."""
    found, params = levels_of(result), seen.levels
    levels = []
    for users in sorted(set(params.counts("levels"))):
        part = Causes(causes.target, causes.expected)
        stage = found.get(users)
        if stage is None:
            part.unknown(Reason.NOT_RUN, _why_not(result, users))
        else:
            _weigh(result, stage, params, part)
        levels.append(Level(users, stage, part))
    return tuple(levels)


def highest(levels: Sequence[Level]) -> Level | None:
    """The highest level that passes."""
    return next((each for each in reversed(levels) if each.passes), None)


def _why_not(result: LadderResult, users: int) -> Text:
    if result.ladder.loop is not Loop.CLOSED:
        return Text("requests came at a rate: levels of users need a closed loop", "按到达率发送：并发级别需要闭环压测")
    return not_reached(result, Text("it", "该级"))


def _weigh(result: LadderResult, stage: StageResult, params: Params, causes: Causes) -> None:
    if unsound(stage, causes):
        return
    if (why := stopped(stage)) is not None:
        causes.unknown(Reason.CANNOT_TELL, why)
        if stage.counts.ok + stage.counts.failed >= FEW:
            _weigh_errors(stage, params, causes)
        return
    think = params.number("think_time_s")
    if result.ladder.think > think:
        pause = result.ladder.think
        causes.unknown(
            Reason.CANNOT_TELL,
            Text(
                f"users paused {pause:g} s between requests (think_time_s {think:g})",
                f"用户两次请求间停顿 {pause:g} 秒（think_time_s 为 {think:g}）",
            ),
        )
    _weigh_errors(stage, params, causes)
    _weigh_shed(stage, params, causes)
    _weigh_load(result, stage, params, causes)
    _weigh_times(stage, params, causes)


def _weigh_errors(stage: StageResult, params: Params, causes: Causes) -> None:
    rate, most = stage.counts.error_rate, params.number("error_rate_max")
    if rate is None or rate <= most:
        return
    kinds = sorted(stage.counts.errors.items(), key=lambda row: (-row[1], row[0]))
    named = ", ".join(f"{count} × {kind[:30]}" for kind, count in kinds[:3] if count)
    causes.fail(
        Text(
            f"{percent(rate)} errors (at most {percent(most)}): {named}",
            f"错误率 {percent(rate)}（最多 {percent(most)}）：{named}",
        )
    )


def _weigh_shed(stage: StageResult, params: Params, causes: Causes) -> None:
    rate, most = stage.counts.shed_rate, params.number("shed_max")
    if rate is None or rate == 0:
        return
    text = Text(f"{percent(rate)} turned away (429/503)", f"{percent(rate)} 被拒绝（429/503）")
    if rate <= most:
        causes.note(text)
    elif _services_own(stage):
        causes.fail(
            Text(f"{text.en} by the service, at most {percent(most)}", f"服务自身{text.zh}，最多 {percent(most)}")
        )
    else:
        causes.unknown(
            Reason.CANNOT_TELL,
            Text(
                f"{text.en}, not seen to be the service's doing: give the generator its own rate-limit zone or key",
                f"{text.zh}，不能确认是服务所为：给压测机单独的限流区或密钥",
            ),
        )


def _services_own(stage: StageResult) -> bool:
    """Whether it was the service that had enough: it says so, or its engines had requests waiting."""
    said = " ".join(stage.samples).lower()
    waited = any((replica.waiting_peak or 0) > 0 for replica in stage.window.replicas.values())
    return waited or any(word in said for word in _SERVICES_OWN)


def _weigh_load(result: LadderResult, stage: StageResult, params: Params, causes: Causes) -> None:
    """Whether so many users were really there, and were answered."""
    counts, users = stage.counts, stage.stage.users
    ended = counts.ok + counts.failed + counts.shed
    if ended < max(users, FEW if users > 1 else FEW_ALONE):
        causes.unknown(
            Reason.CANNOT_TELL,
            Text(
                f"only {ended} requests lay inside the window: make it longer",
                f"窗口内只有 {ended} 个完整请求：请加长窗口",
            ),
        )
    elif counts.aborted > params.number("error_rate_max") * counts.inside:
        causes.unknown(
            Reason.CANNOT_TELL,
            Text(
                f"{counts.aborted} of {counts.inside} requests had no end and were cut off",
                f"{counts.inside} 个请求中 {counts.aborted} 个没有结束，被切断",
            ),
        )
    elif (busy := _busy(result, stage)) < BUSY_MIN:
        causes.unknown(
            Reason.CANNOT_TELL,
            Text(
                f"of {users} users only {busy:.0%} were always being answered: some hang, or the window is short",
                f"{users} 个用户中只有 {busy:.0%} 一直在被应答：有请求挂起，或窗口太短",
            ),
        )
    if counts.outside_errors:
        causes.warn(
            Text(
                f"{counts.outside_errors} requests went wrong at the window's edges, where they do not count",
                f"窗口边缘有 {counts.outside_errors} 个请求出错（不计入）",
            )
        )


def _busy(result: LadderResult, stage: StageResult) -> float:
    """The share of all users' time that lies in requests that count; one request of each user lies on the edges."""
    took, count = stage.times.e2e, stage.counts.ok
    mean = (took.mean or 0.0) + result.ladder.think
    whole = stage.stage.users * stage.seconds
    return (took.total + result.ladder.think * count) / whole + mean / stage.seconds if whole else 0.0


def _weigh_times(stage: StageResult, params: Params, causes: Causes) -> None:
    times, users = stage.times, stage.stage.users
    p50, p95, p99 = (times.ttft.quantile(share) for share in (0.5, 0.95, 0.99))
    if p50 is None or p95 is None or p99 is None or times.ttft.whole < stage.counts.ok:
        causes.unknown(Reason.CANNOT_TELL, Text("the time to the first token was not measured", "未测到首 token 时间"))
        return
    if not stage.tokens_out:
        causes.unknown(Reason.CANNOT_TELL, Text("no tokens were counted", "没有统计到 token"))
    most = limit_of(params.table("ttft_p95_max_s"), users)
    if most is None:
        causes.unknown(
            Reason.CANNOT_TELL,
            Text(f"ttft_p95_max_s has no limit for {users} users", f"ttft_p95_max_s 没有 {users} 用户的上限"),
        )
    elif p95 > most:
        causes.fail(
            Text(f"TTFT p95 {seconds(p95)} (at most {most:g} s)", f"TTFT p95 {seconds(p95)}（最多 {most:g} 秒）")
        )
    if p99 > TAIL_MAX * p50:
        causes.warn(
            Text(
                f"TTFT p99 {seconds(p99)} is more than {TAIL_MAX:g} × p50 {seconds(p50)}",
                f"TTFT p99 {seconds(p99)} 超过 p50 {seconds(p50)} 的 {TAIL_MAX:g} 倍",
            )
        )


def limit_of(table: Mapping[str, object], users: int) -> float | None:
    """The limit of one level in seconds; None when the table has none that is a time.

    Between two levels of the table that of the lower one holds: fewer users may not wait longer than more.
    """
    known = {int(level): value for level, value in table.items() if level.isascii() and level.isdigit()}
    below = [level for level in known if level <= users]
    value = known[max(below)] if below else None
    if isinstance(value, bool) or not isinstance(value, int | float) or not value > 0:
        return None
    return float(value)
