"""Asks the same of the load balancer and of a backend straight, and lets both stream."""

from __future__ import annotations

from dstui.facts import openai
from dstui.facts.exchange import Exchange
from dstui.facts.lb_seen import PROXY, LbProxy, flow
from dstui.gather.lb import MODELS, Asking, Fronting, by_key, fronting
from dstui.gather.observing import Observing

STREAM_SECONDS = 20.0
STREAM_TOKENS = 96
"""Enough pieces to tell one block from many: a piece of vLLM's is some 230 bytes, a buffer of nginx's 4 KiB."""
STREAM_TRIES = 3
_COARSER = 2
"""A stream that comes in so many times fewer pieces than straight is looked at again: what a busy machine reads late
comes in fewer, too, but not every time."""
_PROMPT = "Count from 1 to 100, a number on each line, and nothing else."


async def observe_lb_proxy(o: Observing) -> object:
    """The models everywhere; a plain answer, a stream and a path that is not there at one backend and the balancer."""
    at = await fronting(o, PROXY)
    if at.front.url is None:
        return LbProxy({}, at.front, {}, None)
    found = await at.each_backend("models", MODELS, key=True)
    direct = next((number for number, exchange in enumerate(found, 1) if exchange.status == 200), None)
    straight: Exchange | None = None
    if direct is not None:
        o.told(at.front.backends[direct - 1])
        async with at.at_backend(direct, seconds=STREAM_SECONDS) as asking:
            found += await _compared(at, asking)
            straight = found[-1]
    o.told(at.front.url)
    async with at.at_front(seconds=STREAM_SECONDS) as asking:
        found.append(await asking.get("models", MODELS, key=True))
        found += await _compared(at, asking)
        found[-1] = await _finest(at, asking, found[-1], straight)
    return LbProxy(by_key(found), at.front, at.approaches, direct)


async def _compared(at: Fronting, asking: Asking) -> list[Exchange]:
    plain = openai.chat(at.model, "ping", max_tokens=4, temperature=0, seed=1)
    return [
        await asking.get("unknown", f"/v1/dstui-{at.o.run}-nothing", key=True),
        await asking.chat("chat", plain),
        await _stream(at, asking),
    ]


async def _stream(at: Fronting, asking: Asking) -> Exchange:
    body = openai.chat(
        at.model,
        _PROMPT,
        max_tokens=STREAM_TOKENS,
        temperature=0,
        seed=1,
        stream=True,
        stream_options={"include_usage": True},
    )
    return await asking.chat("stream", body, seconds=STREAM_SECONDS)


async def _finest(at: Fronting, asking: Asking, through: Exchange, straight: Exchange | None) -> Exchange:
    """The stream through the balancer that came in the most pieces, of a few where the first came in few."""
    wanted = flow(straight) if straight is not None else None
    for _ in range(STREAM_TRIES - 1):
        found = flow(through)
        if wanted is None or found is None or len(found.moments) * _COARSER > len(wanted.moments):
            break
        again = await _stream(at, asking)
        other = flow(again)
        if other is not None and len(other.moments) > len(found.moments):
            through = again
    return through
