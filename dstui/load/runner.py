"""Runs a ladder: one stage after the other over its workers, with the guard that ends one that only does harm."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field, replace
from functools import partial

from dstui.load.access import Access
from dstui.load.agent.spec import Spec
from dstui.load.ladder import Ladder, Loop, Stage, StageKind
from dstui.load.live import LiveLadder, LiveStage, Phase
from dstui.load.local import LoadError, Told, Worker
from dstui.load.most import MOST_STEPS, next_level
from dstui.load.result import Counts, Generator, LadderResult, StageResult, Times
from dstui.load.told import Sum, added
from dstui.load.watching import WindowFold
from dstui.load.wire import without_login
from dstui.telemetry.record import Record
from dstui.telemetry.watched import Watched

FEWEST_ENDED = 10
"""Requests that must have ended before their errors say anything."""
LOOK_SECONDS = 2.0
"""How often the cluster's side of a running window is looked at."""
_STOP_SECONDS = 10.0

Emit = Callable[[Record], None]


@dataclass(frozen=True, slots=True)
class Means:
    """What a run needs of the world.

    `workers` starts them; `access` says how to get to a URL; `records` gives the monitor's records to a function while
    it is entered; `once` is entered for as long as the ladder runs, and raises UsageError when another one does.
    `conversations` are those of the prompts file.
    """

    workers: Callable[[], Awaitable[Sequence[Worker]]]
    access: Callable[[str], Awaitable[Access]]
    records: Callable[[Emit], AbstractAsyncContextManager[None]]
    once: Callable[[], AbstractAsyncContextManager[None]]
    watched: Watched
    conversations: tuple[tuple[str, ...], ...] = ()
    clock: Callable[[], float] = time.time
    simulated: bool = False
    unwatched: str = ""


@dataclass(slots=True)
class Runner:
    """A LadderRun. With `search` the most users that are served well are looked for as well, up to so many."""

    ladder: Ladder
    means: Means
    search: int = 0
    live: LiveLadder = field(init=False)
    _listeners: list[Callable[[], None]] = field(default_factory=list)
    _why: str = ""
    _stopping: asyncio.Event = field(default_factory=asyncio.Event)
    _workers: Sequence[Worker] = ()
    _fold: WindowFold = field(init=False)
    _watching: bool = False

    def __post_init__(self) -> None:
        self.live = LiveLadder.of(self.ladder)
        self._fold = WindowFold(self.means.watched, why=self.means.unwatched)

    def subscribe(self, listener: Callable[[], None]) -> Callable[[], None]:
        self._listeners.append(listener)
        return lambda: self._listeners.remove(listener) if listener in self._listeners else None

    def stop(self, why: str) -> None:
        self._why = self._why or why
        self._stopping.set()
        for worker in self._workers:
            worker.stop()

    async def run(self) -> LadderResult:
        found: list[StageResult] = []
        async with self.means.once(), self.means.records(self._take):
            self.live.started_at = self.means.clock()
            async with self._opened():
                while (live := self._next(found)) is not None:
                    if self._stopping.is_set() or not await self._pause(live, first=not found):
                        break
                    try:
                        found.append(await self._stage(live))
                    except LoadError as error:
                        if not found:
                            raise
                        # What the stages before measured must not be lost with this one.
                        self.stop(str(error))
                        live.phase = Phase.WAITING
                    self._changed()
        stages = tuple(each.stage for each in self.live.stages)
        done = replace(self.ladder, url=without_login(self.ladder.url), stages=stages)
        result = LadderResult(done, tuple(found), self.means.clock(), self._why, self.means.simulated)
        self.live.result = result
        self._changed()
        return result

    def _next(self, found: Sequence[StageResult]) -> LiveStage | None:
        """The next stage that was planned, then those of the search for the most users."""
        if len(found) < len(self.live.stages):
            return self.live.stages[len(found)]
        searched = len(found) - len(self.ladder.stages)
        if not self.search or searched >= MOST_STEPS:
            return None
        users = next_level(found, self.search)
        if users is None:
            return None
        self.live.stages.append(LiveStage(Stage(StageKind.LEVEL, users)))
        self._changed()
        return self.live.stages[-1]

    @asynccontextmanager
    async def _opened(self) -> AsyncIterator[None]:
        self._workers = await self.means.workers()
        try:
            yield
        finally:
            workers, self._workers = self._workers, ()
            await asyncio.gather(*(worker.close() for worker in workers), return_exceptions=True)

    async def _pause(self, live: LiveStage, *, first: bool) -> bool:
        """Rests before a stage; whether it is to begin."""
        if first or not self.ladder.phases.pause:
            return True
        self._enter(live, Phase.PAUSE, self.ladder.phases.pause)
        try:
            async with asyncio.timeout(self.ladder.phases.pause):
                await self._stopping.wait()
        except TimeoutError:
            return True
        live.phase = Phase.WAITING
        return False

    async def _stage(self, live: LiveStage) -> StageResult:
        stage = live.stage
        access = await self.means.access(stage.url or self.ladder.url)
        specs = self._specs(stage, access)
        workers = list(self._workers[: len(specs)])
        pairs = zip(workers, specs, strict=True)
        ready = await asyncio.gather(*(w.prepare(spec.plain()) for w, spec in pairs), return_exceptions=True)
        for fault in ready:
            if fault is not None:
                raise fault
        self._fold.begin()
        guard = Guard(self.ladder.error_rate_stop, self.ladder.error_seconds_stop)
        ticks: dict[str, Told] = {}
        began = self.means.clock()

        def tick(name: str, told: Told) -> None:
            ticks[name] = told
            self._show(live, added(list(ticks.values())), guard)

        phases = asyncio.create_task(self._phases(live, specs[0]))
        looks = asyncio.create_task(self._looks(live))
        try:
            done = await asyncio.gather(
                *(worker.run(partial(tick, worker.name)) for worker in workers), return_exceptions=True
            )
        finally:
            for task in (phases, looks):
                task.cancel()
            await asyncio.gather(phases, looks, return_exceptions=True)
            self._watching = False
        lost = [str(each) for each in done if isinstance(each, BaseException)]
        for each in done:
            if isinstance(each, BaseException) and not isinstance(each, LoadError):
                raise each
        told = [each for each in done if not isinstance(each, BaseException)]
        return await self._result(live, began, told, lost)

    async def _result(self, live: LiveStage, began: float, told: Sequence[Told], lost: Sequence[str]) -> StageResult:
        if not told:
            why = self._why or f"no worker came through: {'; '.join(lost)}"
            self.stop(why)
            result = StageResult(
                live.stage, began, began, Counts(), Times(), generator=Generator(len(lost), lost=tuple(lost)),
                stopped=why,
            )  # fmt: skip
        else:
            whole = added(told, lost)
            begin = began + whole.window[0]
            end = max(begin, began + whole.window[1])
            window = await asyncio.to_thread(self._fold.window, begin, end)
            result = StageResult(
                live.stage, begin, end, whole.counts, whole.times, whole.tokens_in, whole.tokens_out, whole.unmetered,
                whole.good, whole.generator, window, self._why, whole.samples,
            )  # fmt: skip
        self._show_result(live, result)
        return result

    def _specs(self, stage: Stage, access: Access) -> list[Spec]:
        """A share of the users for every worker; no more workers than users."""
        ladder, phases = self.ladder, self.ladder.phases
        prompts = stage.prompts or ladder.prompts
        count = 1 if stage.requests else min(len(self._workers), stage.users)
        if not count:
            raise LoadError("there is no worker")
        return [
            Spec(
                host=access.host, port=access.port, path=access.path, authority=access.authority, tls=access.tls,
                ca=access.ca, socket=access.socket, key=access.key, model=ladder.model,
                users=tuple(range(number, stage.users, count)), all_users=stage.users,
                rate=(stage.rate or 0.0) / count, poisson=ladder.loop is Loop.POISSON, requests=stage.requests or 0,
                think=ladder.think, ramp=phases.ramp, warm=phases.warm,
                window=phases.window if stage.window is None else stage.window, drain=phases.drain,
                timeout=ladder.request_timeout,
                tokens_in=prompts.tokens_in.mean, tokens_in_spread=prompts.tokens_in.spread,
                tokens_out=prompts.tokens_out.mean, tokens_out_spread=prompts.tokens_out.spread,
                fresh=prompts.fresh, fixed=prompts.fixed, turns=prompts.turns,
                conversations=self.means.conversations if prompts.file else (),
                seed=ladder.seed, slo_ttft=ladder.slo_ttft or 0.0,
            )
            for number in range(count)
        ]  # fmt: skip

    async def _phases(self, live: LiveStage, spec: Spec) -> None:
        """What the screen says of the time; the workers keep their own."""
        steps = ((Phase.RAMP, spec.ramp), (Phase.WARM, spec.warm)) if not spec.requests else ()
        for phase, seconds in steps:
            if seconds:
                self._enter(live, phase, seconds)
                await asyncio.sleep(seconds)
        self._watching = True
        self._enter(live, Phase.WINDOW, spec.window)
        await asyncio.sleep(spec.window)
        self._watching = False
        self._enter(live, Phase.DRAIN, spec.drain)

    async def _looks(self, live: LiveStage) -> None:
        # A look at a thousand hosts takes a third of a second of a thread.
        pause = LOOK_SECONDS * max(1.0, len(self.means.watched.hosts) / 100)
        while True:
            await asyncio.sleep(pause)
            if live.phase is Phase.WINDOW:
                live.cluster = await asyncio.to_thread(self._fold.window, live.since, self.means.clock())
                self._changed()

    def _take(self, record: Record) -> None:
        # Only the window is judged; what is lost is noted at any time, since it may stay lost.
        if self._watching or record.kind.value == "lost":
            self._fold.feed(record)

    def _enter(self, live: LiveStage, phase: Phase, seconds: float) -> None:
        live.phase, live.since = phase, self.means.clock()
        live.until = live.since + seconds
        self._changed()

    def _show(self, live: LiveStage, whole: Sum, guard: Guard) -> None:
        live.counts, live.times, live.tokens_out = whole.counts, whole.times, whole.tokens_out
        live.in_flight, live.window_seconds = whole.in_flight, whole.seconds
        live.lag_p99, live.cpu = whole.generator.lag.quantile(0.99), whole.generator.cpu
        why = guard.look(self.means.clock(), whole.counts)
        if why and not self._stopping.is_set():
            self.stop(why)
        self._changed()

    def _show_result(self, live: LiveStage, result: StageResult) -> None:
        live.result, live.phase = result, Phase.DONE
        live.since = live.until = self.means.clock()
        live.counts, live.times, live.tokens_out = result.counts, result.times, result.tokens_out
        live.in_flight, live.window_seconds, live.cluster = 0, result.seconds, result.window
        live.lag_p99, live.cpu = result.generator.lag.quantile(0.99), result.generator.cpu

    def _changed(self) -> None:
        self.live.version += 1
        for listener in tuple(self._listeners):
            listener()


class Guard:
    """Ends a stage that only does harm: more than `rate` of its requests fail for `seconds` (CATALOGUE: 20 %, 15 s)."""

    def __init__(self, rate: float, seconds: float) -> None:
        self._rate = rate
        self._seconds = seconds
        self._looks: deque[tuple[float, int, int]] = deque()

    def look(self, now: float, counts: Counts) -> str:
        """Why to stop; empty when there is no reason."""
        failed = counts.failed + counts.outside_errors
        ended = counts.ok + counts.failed + counts.shed + counts.outside
        self._looks.append((now, ended, failed))
        while len(self._looks) > 1 and self._looks[1][0] <= now - self._seconds:
            self._looks.popleft()
        since, ended_then, failed_then = self._looks[0]
        if now - since < self._seconds or ended - ended_then < FEWEST_ENDED:
            return ""
        share = (failed - failed_then) / (ended - ended_then)
        if share <= self._rate:
            return ""
        return f"{share:.0%} of the requests failed for {now - since:.0f} s"
