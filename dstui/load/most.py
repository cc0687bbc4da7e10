"""The most users that a service serves within its objective, and how sure that is."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from dstui.load.ladder import StageKind
from dstui.load.result import StageResult
from dstui.load.validity import limits

ATTAINED = 0.95
"""The part of the requests that must be good; the objective is of the 95th percentile (`slo.ttft_p95_s`)."""
Z = 1.959964
"""Of the normal distribution, for a confidence of 95 %."""
CLOSE = 0.1
"""The search ends when the lowest failing level is within this part of the highest passing one."""
MOST_STEPS = 8


@dataclass(frozen=True, slots=True)
class Attained:
    """The good part of a level's requests, with its Wilson interval at 95 %. Failed and shed ones are not good."""

    users: int
    share: float
    low: float
    high: float
    requests: int

    @property
    def passes(self) -> bool | None:
        """None: with so few requests it may be either."""
        if self.low >= ATTAINED:
            return True
        return False if self.high < ATTAINED else None


@dataclass(frozen=True, slots=True)
class Most:
    """`users` passes and is the highest that does below `failing`, the lowest level that does not; None without."""

    attained: Attained
    failing: Attained | None


def attained(result: StageResult) -> Attained | None:
    """None where nothing can be said: no objective, no requests, or the generator was the bottleneck."""
    counts = result.counts
    whole = counts.ok + counts.failed + counts.shed
    if result.good is None or not whole or limits(result.generator, result.stage.users):
        return None
    low, high = wilson(result.good, whole)
    return Attained(result.stage.users, result.good / whole, low, high, whole)


def wilson(good: int, whole: int) -> tuple[float, float]:
    """The interval that the true share lies in, at 95 %."""
    share = good / whole
    middle = (share + Z * Z / (2 * whole)) / (1 + Z * Z / whole)
    half = Z * math.sqrt(share * (1 - share) / whole + Z * Z / (4 * whole * whole)) / (1 + Z * Z / whole)
    return max(0.0, middle - half), min(1.0, middle + half)


def most(stages: Sequence[StageResult]) -> Most | None:
    """Of all levels of a ladder; None when no level is sure to pass.

    A level above one that fails does not count, whatever it did: a service that fails at 100 users fails at 200.
    """
    seen = _seen(stages)
    failing = min((each for each in seen if each.passes is False), key=lambda each: each.users, default=None)
    passing = [each for each in seen if each.passes and (failing is None or each.users < failing.users)]
    best = max(passing, key=lambda each: each.users, default=None)
    return None if best is None else Most(best, failing)


def next_level(stages: Sequence[StageResult], ceiling: int) -> int | None:
    """The users to try next, up to `ceiling`; None when it is known closely enough or cannot be known.

    Doubles while everything passes, then halves the distance. A level that says neither is no border.
    """
    seen = _seen(stages)
    tried = {each.users for each in seen} | {r.stage.users for r in stages if r.stage.kind is StageKind.LEVEL}
    failing = min((each.users for each in seen if each.passes is False), default=None)
    passing = max((e.users for e in seen if e.passes and (failing is None or e.users < failing)), default=0)
    if failing is None:
        wanted = min(ceiling, max(1, 2 * passing))
        return wanted if passing and wanted not in tried else None
    if failing - passing <= max(1.0, CLOSE * passing):
        return None
    wanted = (passing + failing) // 2
    return wanted if wanted not in tried and wanted > 0 else None


def _seen(stages: Sequence[StageResult]) -> list[Attained]:
    levels = (r for r in stages if r.stage.kind is StageKind.LEVEL and r.stage.rate is None and not r.stopped)
    return [found for each in levels if (found := attained(each)) is not None]
