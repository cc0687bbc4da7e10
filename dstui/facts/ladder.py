"""What the journal has of ladders: which of them each performance check rests on, or why on none."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from dstui.facts.case import Params
from dstui.facts.ladder_tables import tables
from dstui.load.ladder import Ladder, Loop, StageKind
from dstui.load.result import LadderResult, StageResult
from dstui.load.validity import limits
from dstui.load.wire import same_address
from dstui.model import Evidence, Finding, Reason, Target, Text, Verdict

NEED = "ladder"
"""The need of a judge that is met by LadderSeen."""

SINGLE, BATCH, LEVELS = "perf.single-user-latency", "perf.max-batch", "perf.concurrent-users"
GPU, MEMORY, NETWORK = "perf.gpu-util", "perf.memory", "perf.network"
_KINDS: Mapping[str, StageKind] = {SINGLE: StageKind.SINGLE, BATCH: StageKind.BATCH}

DAY = 86_400.0
_AHEAD_SECONDS = 300.0
"""As much as a finding may be ahead of the clock."""
_RUN = Text("run `dstui ladder` or press L", "运行 `dstui ladder` 或按 L")


@dataclass(frozen=True, slots=True)
class NoLadder:
    """Why there is no ladder to judge by, and what to do."""

    reason: Reason
    text: Text


@dataclass(frozen=True, slots=True)
class LadderSeen:
    """Every ladder in the journal, the newest last, and what one must fit: the inventory's `api` and `model`.

    `levels` are the parameters of perf.concurrent-users, by which a level passes. `ttl` is seconds by check, `fault`
    why the newest row could not be read. `simulated`: so is the cluster. `now` is seconds since the epoch.
    """

    ladders: tuple[LadderResult, ...]
    api: str | None
    model: str
    levels: Params
    ttl: Mapping[str, float]
    now: float
    simulated: bool = False
    fault: str = ""

    def newest(self, check: str) -> LadderResult | NoLadder:
        """The newest ladder of this API and model that set out to do the check's stages, whatever came of it."""
        if self.fault:
            return _none(Reason.PARSE_ERROR, self.fault, self.fault)
        if self.api is None:
            return NoLadder(Reason.NO_TARGETS, Text("endpoints.api is not set", "未设置 endpoints.api"))
        stages = _KINDS.get(check, StageKind.LEVEL)
        tried = [each for each in self.ladders if any(stage.kind is stages for stage in each.ladder.stages)]
        fitting = [each for each in tried if self._misfit(each) is None]
        if not fitting:
            misfit = self._misfit(tried[-1]) if tried else None
            nothing = f"no ladder with a stage `{stages}` is recorded", f"没有记录含 `{stages}` 阶段的压测"
            return _none(Reason.NOT_RUN, *(nothing if misfit is None else (misfit.en, misfit.zh)))
        return self._in_time(fitting[-1], check)

    def _in_time(self, result: LadderResult, check: str) -> LadderResult | NoLadder:
        age, most = self.now - result.at, self.ttl.get(check, 0.0)
        if age < -_AHEAD_SECONDS:
            return _none(Reason.CANNOT_TELL, "the ladder is from a time to come", "压测记录的时间在未来")
        if age > most:
            return _none(
                Reason.NOT_RUN,
                f"the ladder of {day(result.at)} is {age / DAY:.0f} days old (at most {most / DAY:.0f})",
                f"{day(result.at)} 的压测已有 {age / DAY:.0f} 天（最多 {most / DAY:.0f} 天）",
            )
        return result

    def _misfit(self, result: LadderResult) -> Text | None:
        asked = result.ladder
        if result.simulated and not self.simulated:
            return Text("the newest ladder is simulated", "最新的压测是模拟的")
        if self.api is None or not same_address(asked.url, self.api):
            url = asked.url[:120]
            return Text(
                f"the newest ladder was on {url}, endpoints.api is {self.api}",
                f"最新的压测针对 {url}，而 endpoints.api 是 {self.api}",
            )
        if asked.model != self.model:
            model = asked.model[:120]
            return Text(
                f"the newest ladder asked the model {model}, not {self.model}",
                f"最新的压测请求的模型是 {model}，而不是 {self.model}",
            )
        return None

    def before(self, check: str) -> LadderResult | None:
        """The last accepted ladder before the newest: of the same stages, prompts and loop, run to its end, and not
        limited by its generator."""
        newest = self.newest(check)
        if isinstance(newest, NoLadder):
            return None
        earlier = self.ladders[: next(i for i, each in enumerate(self.ladders) if each is newest)]
        return next((each for each in reversed(earlier) if self._accepted(each, newest)), None)

    def _accepted(self, result: LadderResult, newest: LadderResult) -> bool:
        whole = not result.stopped and not any(stage.stopped for stage in result.stages)
        alike = self._mix(result.ladder) == self._mix(newest.ladder)
        return alike and whole and self._misfit(result) is None and all(sound(stage) for stage in result.stages)

    def _mix(self, asked: Ladder) -> tuple[object, ...]:
        """What a ladder must have in common with another to be compared; a search's own levels do not count."""
        wanted = self.levels.counts("levels")
        stages = [each for each in asked.stages if each.kind is not StageKind.LEVEL or each.users in wanted]
        return stages, asked.prompts, asked.loop, asked.think

    def observed_at(self, check: str) -> float | None:
        """When what the check rests on was measured."""
        newest = self.newest(check)
        return None if isinstance(newest, NoLadder) else newest.at

    def outdates(self, check: str, findings: Iterable[Finding]) -> bool:
        """Whether there is a newer ladder than the one that findings rest on, or none any more."""
        newest = self.newest(check)
        if isinstance(newest, NoLadder):
            return any(finding.verdict is not Verdict.UNKNOWN for finding in findings)
        return any(finding.observed_at < newest.at for finding in findings)

    def evidence(self, target: Target) -> tuple[Evidence, ...]:
        """A table for each check, under `ladder.<name>`; and one of the generator's health."""
        chosen = {check: self.newest(check) for check in (SINGLE, BATCH, LEVELS)}
        single, batch, levels = (None if isinstance(each, NoLadder) else each for each in chosen.values())
        return tables(single, batch, levels)


def _none(reason: Reason, en: str, zh: str) -> NoLadder:
    return NoLadder(reason, Text(f"{en}: {_RUN.en}", f"{zh}：{_RUN.zh}"))


def sound(stage: StageResult) -> bool:
    """Whether the stage's counts add up and its generator was not the bottleneck."""
    return stage.counts.adds_up and not limits(stage.generator, stage.stage.users)


def of_kind(result: LadderResult, kind: StageKind) -> tuple[StageResult, ...]:
    """The stages of a kind, fewest users first; those sent elsewhere than to the API only for DIRECT."""
    url = result.ladder.url
    found = [
        each
        for each in result.stages
        if each.stage.kind is kind
        and (kind is StageKind.DIRECT or each.stage.url is None or same_address(each.stage.url, url))
    ]
    return tuple(sorted(found, key=lambda each: each.stage.users))


def levels_of(result: LadderResult) -> Mapping[int, StageResult]:
    """The levels by users: closed loop, at the API. One that was run twice counts as it was the last time."""
    if result.ladder.loop is not Loop.CLOSED:
        return {}
    return {each.stage.users: each for each in of_kind(result, StageKind.LEVEL) if each.stage.rate is None}


def day(at: float) -> str:
    """A moment as a date, UTC."""
    try:
        return time.strftime("%Y-%m-%d", time.gmtime(at))
    except (ValueError, OverflowError, OSError):
        return "?"
