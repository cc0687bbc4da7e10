"""A ladder while it runs, as the screen and the command line look at it; what runs it fills it in."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

from dstui.load.ladder import Ladder, Stage
from dstui.load.result import Counts, LadderResult, StageResult, Times
from dstui.load.window import Window


class Phase(StrEnum):
    """Where a stage is. WAITING: its turn has not come, PAUSE: the rest before it."""

    WAITING = "waiting"
    PAUSE = "pause"
    RAMP = "ramp"
    WARM = "warm"
    WINDOW = "window"
    DRAIN = "drain"
    DONE = "done"


@dataclass(slots=True)
class LiveStage:
    """`since` is when the phase began, `until` when it is due to end (seconds since the epoch; 0: not known).

    Counts, times and tokens are of the window so far (of the whole stage while that has not begun), and are the
    result's once there is one. `cluster` is the window as far as it was seen.
    """

    stage: Stage
    phase: Phase = Phase.WAITING
    since: float = 0.0
    until: float = 0.0
    in_flight: int = 0
    counts: Counts = field(default_factory=Counts)
    times: Times = field(default_factory=Times)
    tokens_out: int = 0
    window_seconds: float = 0.0
    lag_p99: float | None = None
    cpu: float | None = None
    cluster: Window = field(default_factory=Window)
    result: StageResult | None = None


@dataclass(slots=True)
class LiveLadder:
    """`version` changes with every change."""

    ladder: Ladder
    stages: list[LiveStage]
    started_at: float = 0.0
    version: int = 0
    result: LadderResult | None = None

    @classmethod
    def of(cls, ladder: Ladder) -> LiveLadder:
        return cls(ladder, [LiveStage(stage) for stage in ladder.stages])

    @property
    def now_on(self) -> LiveStage | None:
        """The stage that runs, or rests before it does."""
        busy = (s for s in self.stages if s.phase not in (Phase.WAITING, Phase.DONE))
        return next(busy, None)


class LadderRun(Protocol):
    """One run of a ladder. `run` ends with the result, also when it was stopped; it raises DstuiError only when it
    could not begin."""

    live: LiveLadder

    async def run(self) -> LadderResult: ...

    def stop(self, why: str) -> None:
        """Ends it in good order: what was measured stays. May be called at any time, from the loop."""
        ...

    def subscribe(self, listener: Callable[[], None]) -> Callable[[], None]:
        """Calls the listener after changes, a few times a second; gives what ends that."""
        ...
