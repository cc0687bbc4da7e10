"""How much load this machine can make: the generator against a built-in server whose times are exactly known."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

from dstui.load.access import Access, access
from dstui.load.ladder import Ladder, Lengths, Phases, Prompts, Stage, StageKind
from dstui.load.local import LoadError, Worker, local_workers
from dstui.load.result import StageResult
from dstui.load.runner import Emit, Means, Runner
from dstui.load.validity import limits
from dstui.telemetry.watched import Watched

FIRST, GAP, TOKENS = 0.05, 0.02, 100
"""Seconds to the first token and between two; tokens of an answer."""
STREAMS = (10, 100, 500, 1000)
ERROR_MAX = 0.01
"""Seconds by which the median may be off: a hundredth of the 1 s that a user may wait (CATALOGUE 055)."""
_PHASES = Phases(ramp=2.0, warm=2.5, window=6.0, drain=5.0, pause=0.0)
_START_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class Calibrated:
    """`off` is the median's error of the time to the first token (seconds), `gap_off` that of the gaps at p99.

    `chunks` are pieces/s over all workers. `reached` is whether so many streams are within this machine's reach.
    """

    streams: int
    off: float | None
    p99: float | None
    gap_off: float | None
    chunks: float
    result: StageResult

    @property
    def reached(self) -> bool:
        limited = limits(self.result.generator, self.streams)
        return not limited and self.off is not None and abs(self.off) <= ERROR_MAX and not self.result.counts.failed


@asynccontextmanager
async def timed_server() -> AsyncIterator[str]:
    """The built-in server in a process of its own; its URL. Raises LoadError."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-I", "-m", "dstui.load.timed_server", "--port", "0",
        "--first", str(FIRST), "--gap", str(GAP), "--tokens", str(TOKENS),
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL,
    )  # fmt: skip
    assert process.stdin is not None and process.stdout is not None
    try:
        try:
            async with asyncio.timeout(_START_SECONDS):
                url = (await process.stdout.readline()).decode().strip()
        except TimeoutError:
            url = ""
        if not url:
            raise LoadError("the built-in server did not start")
        yield url
    finally:
        process.stdin.close()
        try:
            async with asyncio.timeout(_START_SECONDS):
                await process.wait()
        except TimeoutError:
            process.kill()
            await process.wait()


async def calibrate(
    told: Callable[[Calibrated], None], *, streams: Sequence[int] = STREAMS, workers: int = 0
) -> Sequence[Calibrated]:
    """Level by level; `told` gets each as it is done. Raises LoadError."""
    async with timed_server() as url:
        ladder = Ladder(
            url, "timed", tuple(Stage(StageKind.LEVEL, count) for count in streams),
            prompts=Prompts(Lengths(64), Lengths(TOKENS)), phases=_PHASES, workers=workers,
        )  # fmt: skip
        run = Runner(ladder, _means(workers))
        found: list[Calibrated] = []

        def look() -> None:
            done = [stage.result for stage in run.live.stages if stage.result is not None]
            for result in done[len(found) :]:
                found.append(_calibrated(result))
                told(found[-1])

        run.subscribe(look)
        await run.run()
        return found


def cores() -> int:
    return len(os.sched_getaffinity(0))


def _means(workers: int) -> Means:
    async def way(url: str) -> Access:
        return access(url)

    async def started() -> Sequence[Worker]:
        # The server has a core of its own.
        return await local_workers(workers or max(1, cores() - 1))

    return Means(started, way, _nothing, _alone, Watched("calibration"), unwatched="no cluster is looked at")


@asynccontextmanager
async def _nothing(emit: Emit) -> AsyncIterator[None]:
    yield


@asynccontextmanager
async def _alone() -> AsyncIterator[None]:
    yield


def _calibrated(result: StageResult) -> Calibrated:
    times = result.times
    median, p99, gap = times.ttft.quantile(0.5), times.ttft.quantile(0.99), times.itl.quantile(0.99)
    seconds = result.seconds or 1.0
    return Calibrated(
        streams=result.stage.users,
        off=None if median is None else median - FIRST,
        p99=p99,
        gap_off=None if gap is None else gap - GAP,
        chunks=(times.itl.whole + result.counts.ok) / seconds,
        result=result,
    )
