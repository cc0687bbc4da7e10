"""A run whose result is in the journal before anybody is told that it has ended."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from dstui.load.live import LiveLadder
from dstui.load.result import LadderResult
from dstui.load.runner import Runner


@dataclass(slots=True)
class RecordedRun:
    """A LadderRun."""

    runner: Runner
    record: Callable[[LadderResult], Awaitable[object]]
    live: LiveLadder = field(init=False)

    def __post_init__(self) -> None:
        self.live = self.runner.live

    async def run(self) -> LadderResult:
        result = await self.runner.run()
        # Whoever waited may go away now; what was measured must not.
        await asyncio.shield(asyncio.ensure_future(self.record(result)))
        return result

    def stop(self, why: str) -> None:
        self.runner.stop(why)

    def subscribe(self, listener: Callable[[], None]) -> Callable[[], None]:
        return self.runner.subscribe(listener)
