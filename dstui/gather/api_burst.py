"""Proves a rate limit by a bounded burst of cheap requests at the public endpoint, and watches it recover."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from dstui.facts.api import ApiRateLimit, BurstStep, limited, size
from dstui.facts.exchange import Exchange
from dstui.facts.openai import chat
from dstui.facts.raw import Missing
from dstui.gather.api import CHAT, Asking, ask_each
from dstui.gather.caller import joined
from dstui.gather.observing import Observing
from dstui.model import Reason

BURST_SECONDS = 10.0
CAP_AT_MOST = 200
"""CATALOGUE 044: 200 cheap requests in 10 s, whatever a parameter says; more would be load (S3)."""
ANSWER_SECONDS = 5.0
RECOVERY_SECONDS = 30.0
RECOVERY_PAUSE_SECONDS = 1.0
IN_A_ROW = 3
RESERVED = 32
"""Requests of the cap that are kept for looking whether it recovers, and for the two that are refused by size."""
AT_ONCE = 20
RATES = (2.0, 10.0, 40.0)
STEP_SECONDS = 1.0
"""Requests a second of the first steps, and how long each lasts. What is left of the cap goes as fast as it can."""
BODY_SECONDS = 15.0
BODY_AT_MOST = 64 * 1024 * 1024


async def observe_api_rate_limit(o: Observing) -> object:
    """The burst, the recovery, one body that is too large, one answer that is too long."""
    params = o.params("api.rate-limit", None)
    method, _, path = params.text("burst_path").strip().partition(" ")
    if method not in ("GET", "HEAD") or not path.startswith("/"):
        why = f"api.rate-limit.burst_path is {params.text('burst_path')!r}: write a GET, such as GET /v1/models"
        return ApiRateLimit({}, (), {}, None, (), Missing(Reason.NOT_RUN, why), None, ())
    cap = min(params.count("burst_cap"), CAP_AT_MOST)
    expected, longest = params.optional_number("limit_expected_rps"), params.value("max_tokens_cap")
    body = size(params.text("body_max"))
    bursts: list[_Burst] = []

    async def work(asking: Asking) -> Sequence[Exchange]:
        burst = _Burst(asking, method, path, cap)
        bursts.append(burst)
        await burst.run(expected)
        await burst.recover()
        kept = [*burst.kept.values()]
        if body is not None and 0 < body < BODY_AT_MOST:
            kept.append(await _large_body(asking, body))
        if isinstance(longest, int):
            kept.append(await _long_answer(asking, longest))
        return kept

    asked = await ask_each(o, "api.rate-limit", work, public_only=True, connections=AT_ONCE)
    burst = bursts[0] if bursts else None
    return ApiRateLimit(
        asked.by_key,
        asked.endpoints,
        asked.approaches,
        asked.keyless,
        steps=tuple(burst.steps) if burst else (),
        not_made=None,
        recovered_s=burst.recovered if burst else None,
        retry_after=tuple(sorted(burst.retry_after)) if burst else (),
    )


@dataclass(slots=True)
class _Burst:
    """A burst under way. `kept` are the exchanges worth showing, by what they are."""

    asking: Asking
    method: str
    path: str
    cap: int
    steps: list[BurstStep] = field(default_factory=list)
    kept: dict[str, Exchange] = field(default_factory=dict)
    retry_after: set[str] = field(default_factory=set)
    recovered: float | None = None
    _sent: int = 0
    _limited: int | None = None
    _good: int = 0
    _trouble: int = 0

    async def run(self, expected: float | None) -> None:
        """Step by step, each faster than the one before, until one is limited, the cap is reached or time is up."""
        room = max(self.cap - RESERVED, self.cap // 2, 1)
        ends = time.monotonic() + BURST_SECONDS
        for rate in (*_rates(expected), None):
            left, seconds = room - self._sent, ends - time.monotonic()
            if left <= 0 or seconds <= 0 or self._limited is not None or (self.steps and not self._good):
                return
            count = left if rate is None else min(left, max(round(rate * STEP_SECONDS), 2))
            self.asking.o.told(f"{self._sent} of {self.cap} requests")
            await self._step(rate, count, seconds)

    async def _step(self, rate: float | None, count: int, seconds: float) -> None:
        gate = asyncio.Semaphore(AT_ONCE)
        began = time.monotonic()
        answers: Counter[str] = Counter()
        first: list[int] = []

        async def one(number: int) -> None:
            await asyncio.sleep(0 if rate is None else max(0.0, began + number / rate - time.monotonic()))
            async with gate:
                if time.monotonic() - began > seconds:
                    return
                self._sent += 1
                sent = self._sent
                exchange = await self._ask("burst")
            answers[_sort(exchange)] += 1
            if self._keep(exchange):
                first.append(sent)

        async with asyncio.TaskGroup() as tasks:
            for number in range(count):
                tasks.create_task(one(number))
        took = max(time.monotonic() - began, 0.001)
        done = answers.total()
        if first and self._limited is None:
            self._limited = min(first)
        self.steps.append(
            BurstStep(rate or done / took, done, done / took, dict(sorted(answers.items())), min(first, default=None))
        )

    async def recover(self) -> None:
        """Ask once a second until three answers in a row are good again, 30 s at most."""
        if not self._good or not self._trouble:
            return
        began = time.monotonic()
        good = 0
        while time.monotonic() - began < RECOVERY_SECONDS:
            await asyncio.sleep(RECOVERY_PAUSE_SECONDS)
            exchange = await self._ask("recovered")
            self.kept["recovered"] = exchange
            good = good + 1 if self._answered(exchange) else 0
            if good == IN_A_ROW:
                self.recovered = time.monotonic() - began
                return

    async def _ask(self, what: str) -> Exchange:
        return await self.asking.send(
            what, self.method, self.path, seconds=ANSWER_SECONDS, credential=self.asking.credential, patient=False
        )

    def _answered(self, exchange: Exchange) -> bool:
        """Whether it was served as in calm times. Without a key being turned away is that, too."""
        calm = (200,) if self.asking.credential is not None else (200, 401, 403)
        return exchange.missing is None and exchange.status in calm

    def _keep(self, exchange: Exchange) -> bool:
        """Keep the first of each sort; whether it was limited."""
        answered = self._answered(exchange)
        self._good += answered
        self._trouble += not answered
        refused = exchange.missing is None and limited(exchange.status)
        sort = "first" if answered else "limited" if refused else "bad"
        if sort not in self.kept:
            self.kept[sort] = replace(exchange, key=self.asking.endpoint.key(self.asking.check, sort))
        if refused:
            self.retry_after.add(exchange.headers.get("retry-after", "").strip()[:64])
        return refused


def _rates(expected: float | None) -> tuple[float, ...]:
    """The rates of the first steps. With an expected limit one well under it and one well over it are among them."""
    if expected is None:
        return RATES
    return tuple(sorted({*(rate for rate in RATES if rate < expected), max(expected * 0.5, 1.0), expected * 2}))


def _sort(exchange: Exchange) -> str:
    if exchange.missing is None:
        return str(exchange.status)
    return str(exchange.fault or "no-answer")


async def _large_body(asking: Asking, most: int) -> Exchange:
    """One byte more than allowed, as blanks before an empty object: cheap to refuse for whoever reads it all."""
    return await asking.caller.call(
        asking.endpoint.key(asking.check, "body"),
        "POST",
        joined(asking.endpoint.url, CHAT),
        seconds=BODY_SECONDS,
        credential=asking.credential,
        headers={"Content-Type": "application/json"},
        content=b" " * (most - 1) + b"{}",
    )


async def _long_answer(asking: Asking, most: int) -> Exchange:
    """An answer longer than allowed; left at its first piece when it is given after all."""
    body: Mapping[str, object] = chat(asking.model, "ping", max_tokens=most + 1, stream=True)
    return await asking.caller.call(
        asking.endpoint.key(asking.check, "max-tokens"),
        "POST",
        joined(asking.endpoint.url, CHAT),
        seconds=ANSWER_SECONDS,
        credential=asking.credential,
        data=body,
        stop_after=1,
        patient=True,
    )
