"""What a ladder found, stage by stage: counts that add up, times as histograms, the generator's health, the cluster."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from dstui.load.agent.histogram import Histogram
from dstui.load.ladder import Ladder, Stage
from dstui.load.window import Window


@dataclass(frozen=True, slots=True)
class Counts:
    """Every request that was begun is in exactly one of these: `begun` is their sum.

    `ok` to `aborted` are those that began and ended inside the window; `errors` by kind (`http-500`, `refused`,
    `timeout`, `cut`, `broke-off`, `error-event`, `no-tokens`, `garbled`), `shed` answers 429 and 503, `aborted` were
    cut off by dstui. `outside` began before the window or ended after it; `outside_errors` of those went wrong.
    """

    begun: int = 0
    ok: int = 0
    shed: int = 0
    errors: Mapping[str, int] = field(default_factory=dict)
    aborted: int = 0
    outside: int = 0
    outside_errors: int = 0

    @property
    def failed(self) -> int:
        return sum(self.errors.values())

    @property
    def inside(self) -> int:
        return self.ok + self.shed + self.failed + self.aborted

    @property
    def error_rate(self) -> float | None:
        """Of those that ended inside, shed apart; None of none."""
        ended = self.ok + self.failed
        return self.failed / ended if ended else None

    @property
    def shed_rate(self) -> float | None:
        ended = self.ok + self.failed + self.shed
        return self.shed / ended if ended else None

    @property
    def adds_up(self) -> bool:
        return self.begun == self.inside + self.outside


@dataclass(frozen=True, slots=True)
class Times:
    """Seconds of the requests that count, and are ok. `ttft` from sending to the first token, `late` from when it was
    due to the first token, `itl` the gaps between pieces of an answer, `tpot` (e2e - ttft) / (tokens - 1), `e2e` from
    sending to the last token."""

    ttft: Histogram = field(default_factory=Histogram)
    late: Histogram = field(default_factory=Histogram)
    itl: Histogram = field(default_factory=Histogram)
    tpot: Histogram = field(default_factory=Histogram)
    e2e: Histogram = field(default_factory=Histogram)


@dataclass(frozen=True, slots=True)
class Generator:
    """How well the generator itself did. `lag` is the event loops' lateness in seconds, `cpu` the busiest worker's
    share of a core, 0 to 1, `nofile` the lowest limit of open files, `clock_jump` how far the wall clock moved against
    the steady one (seconds). `lost` are workers that ended by themselves, with why."""

    workers: int = 0
    lag: Histogram = field(default_factory=Histogram)
    cpu: float | None = None
    nofile: int | None = None
    clock_jump: float = 0.0
    lost: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class StageResult:
    """`began` and `ended` are the window, seconds since the epoch. Tokens are of the requests that are ok and count:
    `tokens_in` and `tokens_out` by the server's `usage`, `unmetered` requests had none (their pieces are counted).

    `stopped` says why the stage ended before its time; empty when it did not. `good` counts ok requests within the
    ladder's `slo_ttft`, None without one.
    """

    stage: Stage
    began: float
    ended: float
    counts: Counts
    times: Times
    tokens_in: int = 0
    tokens_out: int = 0
    unmetered: int = 0
    good: int | None = None
    generator: Generator = field(default_factory=Generator)
    window: Window = field(default_factory=Window)
    stopped: str = ""
    samples: tuple[str, ...] = ()
    """What went wrong or was shed, in the server's words: the first of each kind, shortened, without secrets."""

    @property
    def seconds(self) -> float:
        return max(0.0, self.ended - self.began)

    @property
    def tokens_per_second(self) -> float | None:
        return self.tokens_out / self.seconds if self.seconds else None

    @property
    def requests_per_second(self) -> float | None:
        return self.counts.ok / self.seconds if self.seconds else None


@dataclass(frozen=True, slots=True)
class LadderResult:
    """`at` is when it ended, seconds since the epoch. `stopped` says why not all stages ran; empty when they did."""

    ladder: Ladder
    stages: tuple[StageResult, ...]
    at: float
    stopped: str = ""
    simulated: bool = False
