"""One stage in one worker: users that ask, what became of every request, and how late the event loop was."""

from __future__ import annotations

import asyncio
import gc
import random
import resource
import ssl
import time
from collections.abc import Callable
from time import perf_counter

from dstui.load.agent.asked import ABORTED, OK, SHED, Asked, ask
from dstui.load.agent.histogram import Histogram
from dstui.load.agent.http import Target, request
from dstui.load.agent.prompts import Talk
from dstui.load.agent.spec import Spec

LAG_SECONDS = 0.01
"""How often it is looked how late the loop is."""
_SETTLE_SECONDS = 1.0
_MOST_SAMPLES = 8


class Stage:
    """Runs a Spec. `said` gets what happened so far, every `tick` seconds; `run` gives the whole."""

    def __init__(self, spec: Spec, said: Callable[[dict[str, object]], None]) -> None:
        self._spec = spec
        self._said = said
        self._target = _target(spec)
        self._stopping = asyncio.Event()
        self._began = 0.0
        self._window = (0.0, 0.0)
        self._cut_at: float | None = None
        self._under_way: dict[int, float] = {}
        self._next = 0
        self._begun = 0
        self._books = Books(spec.slo_ttft)
        self._early: list[Asked] = []
        self._lag = Histogram()
        self._cpu = (0.0, 0.0)
        self._clock = 0.0

    def stop(self) -> None:
        """No request begins any more, those under way are cut off, and the window ends now."""
        self._stopping.set()

    async def run(self) -> dict[str, object]:
        """The stage from now on. Raises HttpError when the name of the server is not known."""
        spec = self._spec
        await self._target.resolve()
        self._began = perf_counter()
        self._clock = time.time() - self._began
        begin = self._began + (0.0 if spec.requests else spec.ramp + spec.warm)
        self._window = begin, begin + spec.window
        gc.collect()
        gc.freeze()
        gc.set_threshold(100_000, 50, 50)
        watching = [asyncio.ensure_future(each) for each in (self._watch_lag(), self._tick())]
        try:
            await self._users()
        finally:
            for task in watching:
                task.cancel()
            await asyncio.gather(*watching, return_exceptions=True)
            self._target.close()
        return self._told(final=True)

    async def _users(self) -> None:
        spec = self._spec
        if spec.requests:
            work = [asyncio.ensure_future(self._row())]
        elif spec.rate:
            work = [asyncio.ensure_future(self._arrivals())]
        else:
            work = [asyncio.ensure_future(self._user(number)) for number in spec.users]
        stopping = asyncio.ensure_future(self._stopping.wait())
        whole = asyncio.ensure_future(asyncio.wait(work))
        # A row of requests begins to count when it has warmed up, so its end moves.
        deadline = self._window[1] + spec.drain + (2 * spec.timeout if spec.requests else 0.0) - perf_counter()
        try:
            await asyncio.wait({whole, stopping}, timeout=max(0.0, deadline), return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._cut_at = perf_counter()
            if self._stopping.is_set():
                self._window = min(self._window[0], self._cut_at), min(self._window[1], self._cut_at)
            for task in (*work, stopping, whole):
                task.cancel()
            ended = await asyncio.gather(*work, return_exceptions=True)
            await asyncio.gather(stopping, whole, return_exceptions=True)
        for each in ended:
            if isinstance(each, Exception):
                # A user that is gone without a word would be load that is missing without a word.
                raise RuntimeError(f"a user ended: {type(each).__name__}: {each}")

    async def _user(self, number: int) -> None:
        """Asks, waits for the answer, thinks, asks again, until the window ends."""
        spec = self._spec
        talk = Talk(spec, number)
        await self._until(self._began + spec.ramp * number / max(1, spec.all_users))
        while perf_counter() < self._window[1]:
            asked = await self._one(talk, perf_counter())
            if asked.outcome != OK:
                # Whoever is refused at once must not ask a thousand times a second.
                await asyncio.sleep(_SETTLE_SECONDS)
            if spec.think:
                await asyncio.sleep(spec.think)

    async def _row(self) -> None:
        """One request after the other; the first two only warm up."""
        spec, talk = self._spec, Talk(self._spec, 0)
        for _ in range(2):
            await self._one(talk, perf_counter())
        now = perf_counter()
        self._window = now, now + spec.window
        self._start_counting()
        for _ in range(spec.requests):
            if perf_counter() >= self._window[1]:
                break
            if (await self._one(talk, perf_counter())).outcome != OK:
                await asyncio.sleep(_SETTLE_SECONDS)
        self._window = self._window[0], perf_counter()

    async def _arrivals(self) -> None:
        """Requests that come when they are due, whether or not others were answered; at most one per user at once."""
        spec = self._spec
        draw = random.Random(spec.seed + 7 * (spec.users[0] if spec.users else 0))  # noqa: S311 - arrivals, no secret
        free = asyncio.Semaphore(max(1, len(spec.users)))
        talks = [Talk(spec, number) for number in spec.users]
        tasks: set[asyncio.Task[None]] = set()

        async def one(due: float, number: int) -> None:
            try:
                await self._one(talks[number % len(talks)], due, alone=True)
            finally:
                free.release()

        due, number = self._began, 0
        try:
            while due < self._window[1]:
                await self._until(due)
                await free.acquire()
                task = asyncio.ensure_future(one(due, number))
                tasks.add(task)
                task.add_done_callback(tasks.discard)
                number += 1
                due += draw.expovariate(spec.rate) if spec.poisson else 1 / spec.rate
            if tasks:
                await asyncio.wait(tasks)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _until(self, when: float) -> None:
        if (left := when - perf_counter()) > 0:
            await asyncio.sleep(left)

    async def _one(self, talk: Talk, due: float, *, alone: bool = False) -> Asked:
        """One request, booked. With `alone` it is no turn of a conversation that others wait for."""
        spec = self._spec
        body = talk.body()
        if alone:
            talk.answered(None)
        number, self._next = self._next, self._next + 1
        headers = {
            "Content-Type": "application/json",
            "Accept": "text/event-stream",
            "User-Agent": "dstui-ladder",
            "X-Request-Id": f"dstui-ladder-{random.getrandbits(48):012x}",
        }
        if spec.key:
            headers["Authorization"] = f"Bearer {spec.key}"
        whole = request("POST", spec.authority or spec.host, spec.path, headers, body)
        self._begun += 1
        self._under_way[number] = perf_counter()
        try:
            asked = await ask(
                self._target, whole, due=due, seconds=spec.timeout, keep_text=spec.turns > 1 or bool(spec.conversations)
            )
        except asyncio.CancelledError:
            sent = self._under_way[number]
            self._keep(Asked(due, sent, perf_counter(), ABORTED, "cut off when the drain was over"))
            raise
        finally:
            self._under_way.pop(number, None)
        self._keep(asked)
        if not alone:
            talk.answered(asked.said if asked.outcome == OK else None)
        return asked

    def _keep(self, asked: Asked) -> None:
        if asked.why and self._spec.key:
            # A server may quote what it was sent.
            asked.why = asked.why.replace(self._spec.key, "***")
        self._books.book(asked, self._window)

    def _start_counting(self) -> None:
        self._books.restart()
        self._lag = Histogram()
        self._cpu = time.process_time(), perf_counter()

    async def _watch_lag(self) -> None:
        """Lateness of a timer, as every answer is late by; only what falls into the window is kept."""
        counting = False
        while True:
            due = perf_counter() + LAG_SECONDS
            await asyncio.sleep(LAG_SECONDS)
            now = perf_counter()
            inside = self._window[0] <= now <= self._window[1]
            if inside and not counting:
                counting = True
                self._cpu = time.process_time(), now
            if inside:
                self._lag.add(max(0.0, now - due))

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(self._spec.tick)
            self._said(self._told(final=False))

    def _told(self, *, final: bool) -> dict[str, object]:
        now = perf_counter()
        used, since = self._cpu
        over = min(now, self._cut_at or now) - since if since else 0.0
        return {
            **self._books.plain(self._begun, len(self._under_way), final=final),
            "in_flight": len(self._under_way),
            "window": [max(0.0, edge - self._began) for edge in self._window],
            "seconds": max(0.0, min(now, self._window[1]) - self._window[0]),
            "lag": self._lag.plain(),
            "cpu": (time.process_time() - used) / over if over > 0 else None,
            "nofile": resource.getrlimit(resource.RLIMIT_NOFILE)[0],
            "clock_jump": abs(time.time() - now - self._clock),
        }


class Books:
    """Every request counted once. What ended before the window's end is known then; the window may still be cut."""

    def __init__(self, slo_ttft: float) -> None:
        self._slo = slo_ttft
        self.restart()

    def restart(self) -> None:
        """Forgets all that was booked but the requests themselves: they count as outside."""
        outside = getattr(self, "ok", 0) + getattr(self, "shed", 0) + getattr(self, "aborted", 0)
        outside += sum(getattr(self, "errors", {}).values()) + getattr(self, "outside", 0)
        self.ok, self.shed, self.aborted, self.outside, self.outside_errors = 0, 0, 0, outside, 0
        self.errors: dict[str, int] = {}
        self.times = {name: Histogram() for name in ("ttft", "late", "itl", "tpot", "e2e")}
        self.tokens_in, self.tokens_out, self.unmetered, self.good = 0, 0, 0, 0
        self.samples: dict[str, str] = {}

    def book(self, asked: Asked, window: tuple[float, float]) -> None:
        begin, end = window
        inside = begin <= asked.sent and (asked.ended <= end or (asked.outcome == ABORTED and asked.sent <= end))
        wrong = asked.failed or asked.outcome == SHED
        if wrong and asked.outcome not in self.samples and len(self.samples) < _MOST_SAMPLES:
            self.samples[asked.outcome] = asked.why
        if not inside:
            self.outside += 1
            self.outside_errors += asked.failed
        elif asked.outcome == OK:
            self._ok(asked)
        elif asked.outcome == SHED:
            self.shed += 1
        elif asked.outcome == ABORTED:
            self.aborted += 1
        else:
            self.errors[asked.outcome] = self.errors.get(asked.outcome, 0) + 1

    def _ok(self, asked: Asked) -> None:
        self.ok += 1
        assert asked.first is not None and asked.last is not None
        ttft, e2e = asked.first - asked.sent, asked.last - asked.sent
        self.times["ttft"].add(ttft)
        self.times["late"].add(asked.first - asked.due)
        self.times["e2e"].add(e2e)
        for gap in asked.gaps:
            self.times["itl"].add(gap)
        tokens = asked.tokens_out if asked.tokens_out is not None else asked.pieces
        self.unmetered += asked.tokens_out is None
        self.tokens_out += tokens
        self.tokens_in += asked.tokens_in or 0
        if tokens > 1:
            self.times["tpot"].add((e2e - ttft) / (tokens - 1))
        self.good += self._slo > 0 and ttft <= self._slo

    def plain(self, begun: int, under_way: int, *, final: bool) -> dict[str, object]:
        return {
            "counts": {
                "begun": begun - (0 if final else under_way),
                "ok": self.ok,
                "shed": self.shed,
                "errors": dict(self.errors),
                "aborted": self.aborted,
                "outside": self.outside,
                "outside_errors": self.outside_errors,
            },
            "times": {name: each.plain() for name, each in self.times.items()},
            "tokens_in": self.tokens_in,
            "tokens_out": self.tokens_out,
            "unmetered": self.unmetered,
            "good": self.good if self._slo > 0 else None,
            "samples": dict(self.samples),
        }


def _target(spec: Spec) -> Target:
    tls: ssl.SSLContext | None = None
    if spec.tls:
        tls = ssl.create_default_context(cadata=spec.ca or None)
        if not spec.verify:
            tls.check_hostname, tls.verify_mode = False, ssl.CERT_NONE
    return Target(spec.host, spec.port, tls=tls, socket=spec.socket or None)
