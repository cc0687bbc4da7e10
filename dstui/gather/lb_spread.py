"""Sends short requests at once through the load balancer and reads from the backends' own counters who got them."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace

from dstui.facts import openai
from dstui.facts.exchange import Exchange
from dstui.facts.lb_seen import ALGORITHM, LbSpread, Share
from dstui.facts.raw import Missing
from dstui.gather.lb import CHAT_SECONDS, Asking, Fronting, fronting
from dstui.gather.observing import Observing
from dstui.model import GatherError, Reason
from dstui.telemetry.vllm import parse_metrics
from dstui.telemetry.windows import Present

MOST_REQUESTS = 200
"""CATALOGUE 0.3: S2 is at most 200 light requests."""
TOKENS = 8
REQUEST_SECONDS = 30.0
SETTLE_SECONDS = 5.0
PAUSE_SECONDS = 0.5
MOST_REST_SECONDS = 10.0
PAGE_LIMIT = 16 * 1024 * 1024


async def observe_lb_spread(o: Observing) -> object:
    """Counters before, the requests, counters after as soon as they have all of them."""
    at = await fronting(o, ALGORITHM)
    count = min(o.params(ALGORITHM, None).count("spread_requests"), MOST_REQUESTS)
    not_made = _no_use(at, count)
    if not_made is not None:
        return LbSpread({}, at.front, {}, 0, {}, (), not_made)
    before = await _counts(at)
    o.told(f"{count} requests")
    async with at.at_front(seconds=REQUEST_SECONDS, connections=count + 2) as asking:
        first = await _one(at, asking)
        if first.status != 200:
            # Sixty more of these would only be noise.
            kept = {f"{ALGORITHM}.front.{_what(first)}": replace(first, key=f"{ALGORITHM}.front.{_what(first)}")}
            shares = await _shares(at, before, before)
            return LbSpread(kept, at.front, at.approaches, 1, _answers([first]), shares, None)
        answers = [first, *await asyncio.gather(*(_one(at, asking) for _ in range(count - 1)))]
    served = sum(exchange.status == 200 for exchange in answers)
    after = await _settled(at, before, served)
    await asyncio.sleep(_rest(o, count))
    kept_by = {f"{ALGORITHM}.front.{_what(exchange)}": exchange for exchange in reversed(answers)}
    exchanges = {key: replace(exchange, key=key) for key, exchange in kept_by.items()}
    shares = await _shares(at, before, after)
    return LbSpread(exchanges, at.front, at.approaches, count, _answers(answers), shares, None)


def _rest(o: Observing, count: int) -> float:
    """Seconds in which a limiter gives back what the requests took, so that they limit nobody else's."""
    rate = o.params("api.rate-limit", None).optional_number("limit_expected_rps")
    return min(MOST_REST_SECONDS, count / rate) if rate else 0.0


def _no_use(at: Fronting, count: int) -> Missing | None:
    if at.front.url is None:
        return Missing(Reason.NO_TARGETS, "the inventory has no address of the balancer")
    if len(at.front.backends) < 2:
        return Missing(Reason.NOT_RUN, "endpoints.backends names fewer than two")
    return Missing(Reason.NOT_RUN, "spread_requests is below 2") if count < 2 else None


async def _one(at: Fronting, asking: Asking) -> Exchange:
    # Each its own words, so that no cache of prefixes or answers serves it.
    body = openai.chat(at.model, f"zq{secrets.token_hex(6)}", max_tokens=TOKENS, temperature=0)
    return await asking.chat("request", body, seconds=REQUEST_SECONDS)


def _what(exchange: Exchange) -> str:
    return str(exchange.status if exchange.missing is None else exchange.fault or exchange.missing.reason)


def _answers(exchanges: Sequence[Exchange]) -> Mapping[str, int]:
    return dict(Counter(map(_what, exchanges)))


async def _counts(at: Fronting) -> list[float | Missing]:
    """Finished requests of each backend since it started."""
    gate = asyncio.Semaphore(8)

    async def one(number: int) -> float | Missing:
        async with gate, at.at_backend(number, seconds=CHAT_SECONDS) as asking:
            return _finished(await _page(asking))

    async with asyncio.TaskGroup() as tasks:
        asked = [tasks.create_task(one(number)) for number in range(1, len(at.front.backends) + 1)]
    return [task.result() for task in asked]


async def _page(asking: Asking) -> Exchange:
    url = f"{asking.url.rstrip('/').removesuffix('/v1')}/metrics"
    return await asking.caller.call("metrics", "GET", url, seconds=CHAT_SECONDS, limit=PAGE_LIMIT)


def _finished(page: Exchange) -> float | Missing:
    if page.missing is not None or page.status != 200:
        return page.missing or Missing(Reason.CANNOT_TELL, f"{page.url}: HTTP {page.status}")
    try:
        samples = parse_metrics(page.text, at=time.time(), replica=page.url, cut=page.cut)
    except GatherError as error:
        return Missing(error.reason, str(error))
    engines = [engine for sample in samples for engine in sample.engines]
    if not engines:
        return Missing(Reason.CANNOT_TELL, f"{page.url} has no metrics of vLLM")
    total = 0.0
    for engine in engines:
        if not isinstance(engine.finished, Present):
            return Missing(Reason.CANNOT_TELL, f"{page.url} has no vllm:request_success_total")
        total += sum(engine.finished.value.values())
    return total


async def _settled(at: Fronting, before: Sequence[float | Missing], served: int) -> list[float | Missing]:
    """The counters once they hold all that was served, or after `SETTLE_SECONDS`."""
    deadline = time.monotonic() + SETTLE_SECONDS
    while True:
        after = await _counts(at)
        grown = [_grown(old, new) for old, new in zip(before, after, strict=True)]
        lost = any(isinstance(each, Missing) for each in grown)
        if lost or sum(g for g in grown if not isinstance(g, Missing)) >= served or time.monotonic() > deadline:
            return after
        await asyncio.sleep(PAUSE_SECONDS)


def _grown(old: float | Missing, new: float | Missing) -> float | Missing:
    if isinstance(old, Missing) or isinstance(new, Missing):
        return old if isinstance(old, Missing) else new
    return new - old if new >= old else Missing(Reason.CANNOT_TELL, "the engine was restarted meanwhile")


async def _shares(
    at: Fronting, before: Sequence[float | Missing], after: Sequence[float | Missing]
) -> tuple[Share, ...]:
    health = await at.each_backend("health", at.health_path)
    return tuple(
        Share(url, _grown(old, new), well.status == 200)
        for url, old, new, well in zip(at.front.backends, before, after, health, strict=True)
    )
