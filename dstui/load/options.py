"""What a person may change of a ladder, on the command line or on the screen; None leaves it to the inventory."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from dstui.load.ladder import Loop


@dataclass(frozen=True, slots=True)
class LadderOptions:
    """Times in seconds. `rates` are requests/s of an open loop, one stage each, instead of levels of users.

    `single` and `batch` leave out the stages for perf.single-user-latency and perf.max-batch. `engine` is `local` or
    `ray:<host>`. `file` holds conversations, a JSON object a line.
    """

    levels: tuple[int, ...] | None = None
    rates: tuple[float, ...] = ()
    loop: Loop = Loop.CLOSED
    url: str | None = None
    model: str | None = None
    ramp: float | None = None
    warm: float | None = None
    window: float | None = None
    drain: float | None = None
    pause: float | None = None
    think: float | None = None
    timeout: float | None = None
    tokens_in: int | None = None
    tokens_out: int | None = None
    fresh: bool = True
    fixed: bool = True
    turns: int = 1
    file: Path | None = None
    workers: int = 0
    engine: str = "local"
    single: bool = True
    batch: bool = True
    seed: int = 0
    search: bool = False
    """Look for the most users within `slo.ttft_p95_s` between and beyond the levels."""
