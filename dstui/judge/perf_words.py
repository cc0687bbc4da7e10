"""Shared words of perf.*: the ladder that a check rests on, whether a stage can be judged at all, times as text."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from dstui.facts.api import bare
from dstui.facts.case import FleetCase
from dstui.facts.ladder import LadderSeen, NoLadder
from dstui.facts.raw import Missing
from dstui.judge.fleet import cluster_target
from dstui.judge.rulings import Causes, quoted, unknown
from dstui.load.result import LadderResult, StageResult
from dstui.load.validity import limits
from dstui.load.window import ReplicaWindow
from dstui.load.wire import without_login
from dstui.model import Reason, Ruling, Target, TargetKind, Text, Verdict

MISSING_MAX = 0.05
"""CATALOGUE 058: more than 5 % of the samples missing."""
FEW = 20
"""CATALOGUE 055: fewer successes say nothing of a quantile."""


@dataclass(frozen=True, slots=True)
class Taken:
    """What a check is judged by, and what speaks against it so far."""

    seen: LadderSeen
    result: LadderResult
    causes: Causes


def taken(case: FleetCase, check: str, expected: Text, *, endpoint: bool = False) -> Taken | Ruling:
    """The ladder for a check; the UNKNOWN ruling when there is none."""
    target = cluster_target(case.site)
    seen = case.get(LadderSeen)
    if isinstance(seen, Missing):
        return unknown(target, seen, expected)
    if endpoint and seen.api is not None:
        target = Target(TargetKind.ENDPOINT, bare(without_login(seen.api)))
    newest = seen.newest(check)
    if isinstance(newest, NoLadder):
        return _without(target, newest, expected)
    return Taken(seen, newest, Causes(target, expected))


def _without(target: Target, why: NoLadder, expected: Text) -> Ruling:
    return Ruling(
        target=target,
        verdict=Verdict.UNKNOWN,
        observed=why.text,
        expected=expected,
        rule=Text("no ladder to judge by", "没有可供判断的压测"),
        reason=why.reason,
        material={"unknown": str(why.reason)},
    )


def not_reached(result: LadderResult, what: Text) -> Text:
    """A stage that the ladder set out to do and has no result of."""
    why = quoted(result.stopped, 120)
    if not why:
        return Text(f"{what.en} was not run", f"{what.zh}未运行")
    return Text(f"{what.en} was not reached: {why}", f"{what.zh}未到达：{why}")


def stopped(stage: StageResult) -> Text | None:
    """Why the stage ended before its time."""
    why = quoted(stage.stopped, 120)
    return Text(f"stopped: {why}", f"被停止：{why}") if stage.stopped else None


def faults(stage: StageResult) -> Iterator[Text]:
    """Why nothing can be told from a stage: the generator was the bottleneck, or the books are not in order."""
    counts = stage.counts
    if not counts.adds_up:
        sums = counts.inside + counts.outside
        yield Text(
            f"{counts.begun} requests begun, {sums} accounted for", f"发出 {counts.begun} 个请求，只交代了 {sums} 个"
        )
    if stage.seconds <= 0:
        yield Text("the window has no length", "测量窗口长度为零")
    for limit in limits(stage.generator, stage.stage.users):
        yield Text(f"generator: {limit.en}", f"压测机：{limit.zh}")


def unsound(stage: StageResult, causes: Causes, name: Text | None = None) -> bool:
    """Adds what `faults` finds as UNKNOWN, with the stage's name before it; whether there was anything."""
    found = list(faults(stage))
    for text in found:
        causes.unknown(Reason.CANNOT_TELL, text if name is None else led(name, text))
    return bool(found)


def led(name: Text, text: Text) -> Text:
    return Text(f"{name.en}: {text.en}", f"{name.zh}：{text.zh}")


def level(users: int) -> Text:
    return Text(f"level {users}", f"{users} 用户")


def seconds(value: float | None) -> str:
    """`0.42 s`, `85 ms`, `?`."""
    if value is None:
        return "?"
    return f"{value * 1000:.0f} ms" if value < 0.1 else f"{value:.2f} s"


def percent(share: float) -> str:
    return f"{share * 100:.3g} %"


def enough(samples: int, expected: int) -> bool:
    """Whether so many of the expected samples came that the window can be told by them."""
    return expected > 0 and samples >= (1 - MISSING_MAX) * expected


def unseen(replica: ReplicaWindow) -> Text | None:
    """Why a replica's samples are too few to tell; None when they are not."""
    if replica.why and not replica.samples:
        return Text(f"not seen: {quoted(replica.why, 100)}", f"未观测到：{quoted(replica.why, 100)}")
    if not enough(replica.samples, replica.expected):
        return Text(
            f"{replica.samples} of {replica.expected} samples came", f"只有 {replica.samples}/{replica.expected} 个样本"
        )
    return None
