"""What vLLM's own page says beside what dstui made of it, value by value; and one that is read all the time."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from math import inf

from dstui.telemetry.aliases import HISTOGRAMS, Thing
from dstui.telemetry.vllm import EngineSample
from dstui.telemetry.windows import Absent, Present, Why

from reallab.pages import Page, page

SECONDS_OF_A_LOOK = 1.0
"""Longer than dstui takes to read a page on a busy machine."""

_POLL_SECONDS = 0.25


def differences(engine: EngineSample, said: Page, prefix: str) -> list[str]:
    """Where a look and a page of the same moment do not say the same. Absent must not be on the page under any name."""
    wrong = []
    for thing, number in engine.numbers.items():
        if isinstance(number, Present):
            if not said.has(number.name) or said.total(number.name) != number.value:
                wrong.append(f"{thing}: {number}, {said.values(number.name)}")
        elif (why := _wrongly_absent(number, said)) is not None:
            wrong.append(f"{thing}: {why}")
    for thing, held in engine.histograms.items():
        if isinstance(held, Absent):
            wrong += [f"{thing}: {name}" for name in HISTOGRAMS[thing] if said.has(f"{prefix}{name}_count")]
        else:
            shown = dict(zip((*held.value.bounds, inf), held.value.counts, strict=True))
            if shown != said.buckets(held.name):
                wrong.append(f"{thing}: {shown}, {said.buckets(held.name)}")
    if isinstance(engine.finished, Absent):
        wrong += ["finished"] if said.has(f"{prefix}request_success_total") else []
    elif dict(engine.finished.value) != said.by(engine.finished.name, "finished_reason"):
        wrong.append(f"finished: {engine.finished}")
    return wrong


def _wrongly_absent(value: Absent, said: Page) -> str | None:
    if value.why is not Why.NOT_EXPORTED:
        return f"absent because {value.why}"
    names = [word.strip(",") for word in value.detail.split()]
    there = [name for name in names if said.has(name)]
    return f"absent, and {there} on the page" if there else None


def absent(engine: EngineSample) -> set[Thing]:
    values = (*engine.numbers.items(), *engine.histograms.items())
    return {thing for thing, value in values if isinstance(value, Absent)}


@dataclass
class Pages:
    """Pages as they were read, each with when the reading began and ended, seconds since the epoch."""

    read: list[tuple[float, float, Page]] = field(default_factory=list)

    def around(self, at: float) -> tuple[Page, Page]:
        """The last one that is surely older than a look that arrived at `at`, and the first that is newer."""
        older = [said for _, ended, said in self.read if ended <= at - SECONDS_OF_A_LOOK]
        newer = [said for began, _, said in self.read if began >= at]
        return older[-1], newer[0]

    def has_around(self, at: float) -> bool:
        return bool(self.read) and self.read[0][1] <= at - SECONDS_OF_A_LOOK and self.read[-1][0] >= at


@asynccontextmanager
async def reading(url: str) -> AsyncIterator[Pages]:
    """Reads a page some times a second while the block runs."""
    pages = Pages()

    async def keep_reading() -> None:
        while True:
            began = time.time()
            said = await asyncio.to_thread(page, url)
            pages.read.append((began, time.time(), said))
            await asyncio.sleep(_POLL_SECONDS)

    task = asyncio.create_task(keep_reading())
    try:
        yield pages
        if task.done():
            task.result()
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
