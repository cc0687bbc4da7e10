"""What a ladder is to do: where, how many users, with which prompts, for how long. And what stops it."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

LEVELS = (1, 50, 100, 200, 500)
"""CATALOGUE 057."""


class Loop(StrEnum):
    """CLOSED: so many users, each asks again when it was answered. The others: requests come whether or not."""

    CLOSED = "closed"
    POISSON = "poisson"
    CONSTANT = "constant"


class StageKind(StrEnum):
    """SINGLE and DIRECT are one user after the other (perf.single-user-latency), BATCH is perf.max-batch."""

    SINGLE = "single"
    DIRECT = "direct"
    LEVEL = "level"
    BATCH = "batch"


@dataclass(frozen=True, slots=True)
class Lengths:
    """Tokens: `mean` within ± `spread` of it (a share, 0 to 1), evenly."""

    mean: int
    spread: float = 0.0


@dataclass(frozen=True, slots=True)
class Prompts:
    """What is asked. `file` holds conversations (ShareGPT-like or OpenAI messages, a JSON object a line) instead.

    With `fresh` every prompt begins with words of its own, so that no cache of prefixes flatters the times. `fixed`
    asks vLLM for exactly so many tokens (`ignore_eos`); a server that does not know it answers as long as it likes.
    `turns` is how many requests a conversation has, each with all before it.
    """

    tokens_in: Lengths = Lengths(512, 0.2)
    tokens_out: Lengths = Lengths(128)
    fresh: bool = True
    fixed: bool = True
    turns: int = 1
    file: str | None = None


@dataclass(frozen=True, slots=True)
class Phases:
    """Seconds: users come one after the other over `ramp`, `warm` is thrown away, only `window` counts.

    After it no request begins; those under way have `drain` to end, and are cut off then.
    """

    ramp: float = 10.0
    warm: float = 30.0
    window: float = 120.0
    drain: float = 60.0
    pause: float = 60.0
    """Between two stages."""


@dataclass(frozen=True, slots=True)
class Stage:
    """One step. `rate` is requests/s in all for an open loop, whose `users` are the most under way at once.

    `requests` ends a stage of kind SINGLE or DIRECT after so many; `url` and `prompts` stand for the ladder's own.
    """

    kind: StageKind
    users: int
    rate: float | None = None
    requests: int | None = None
    url: str | None = None
    prompts: Prompts | None = None
    window: float | None = None

    @property
    def name(self) -> str:
        """`level-50`, `single`, `direct`, `batch-282`; the same in results, journal and words."""
        if self.kind in (StageKind.SINGLE, StageKind.DIRECT):
            return self.kind.value
        return f"{self.kind.value}-{self.users}" if self.rate is None else f"{self.kind.value}-{self.rate:g}rps"


@dataclass(frozen=True, slots=True)
class Ladder:
    """`url` is the API's base, with or without /v1. `workers` 0 is as many as this machine has cores.

    `engine` is `local`, or `ray:<host>` where workers run as Ray actors. `think` is seconds a user waits between two
    requests. `ttft_limits` are seconds by users (perf.concurrent-users), `slo_ttft` the one for goodput.
    """

    url: str
    model: str
    stages: tuple[Stage, ...]
    prompts: Prompts = field(default_factory=Prompts)
    phases: Phases = field(default_factory=Phases)
    loop: Loop = Loop.CLOSED
    workers: int = 0
    engine: str = "local"
    think: float = 0.0
    request_timeout: float = 300.0
    seed: int = 0
    slo_ttft: float | None = None
    error_rate_stop: float = 0.2
    error_seconds_stop: float = 15.0
    """Beyond this rate of errors for so many seconds the ladder is stopped (CATALOGUE, load method)."""

    @property
    def most_users(self) -> int:
        return max((stage.users for stage in self.stages), default=0)

    @property
    def seconds(self) -> float:
        """About how long it takes, pauses included."""
        phases = self.phases
        whole = 0.0
        for stage in self.stages:
            window = stage.window if stage.window is not None else phases.window
            # A short request in a row takes about two seconds at the longest that is allowed.
            row = min(window, 2.0 * (stage.requests or 0))
            whole += row if stage.requests else phases.ramp + phases.warm + window
        return whole + phases.pause * max(0, len(self.stages) - 1)
