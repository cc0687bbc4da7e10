"""The error suite: what must be refused, a stream that its client leaves, and whether all still stands after."""

from __future__ import annotations

import asyncio
import json
import secrets
import time

from dstui.facts import openai
from dstui.facts.exchange import Exchange
from dstui.facts.func import Abort, ErrorSuite
from dstui.facts.func_cases import BIG_BODY, ERROR_CASES, ErrorCase
from dstui.facts.raw import Missing
from dstui.gather.caller import Credential
from dstui.gather.func import Api, api, target_of
from dstui.gather.observing import Observing
from dstui.model import GatherError, Reason
from dstui.telemetry.aliases import Thing
from dstui.telemetry.vllm import parse_metrics
from dstui.telemetry.windows import Present

CASE_SECONDS = 20.0
LONG_TOKENS = 4_000_000
"""Characters of a prompt that no model takes; less where the body limit is known to be lower."""
ABORT_TOKENS = 512
LOOK_SECONDS = 0.5
MIB = 1024 * 1024


async def observe_func_errors(o: Observing) -> ErrorSuite:
    """Every case once, then a stream that is left, then a completion to see that the service still works."""
    params = o.params("func.error-handling", None)
    limit = _bytes(o.params("api.rate-limit", None).text("body_max"))
    async with api(o, seconds=CASE_SECONDS) as asked:
        if asked is None:
            return ErrorSuite({}, target_of(o))
        found: dict[str, Exchange] = {}
        for case in (*ERROR_CASES, *((BIG_BODY,) if limit is not None else ())):
            o.told(case.id)
            found[case.id] = await _sent(asked, case, params.count("nesting_depth"), limit)
        abort = await _left(o, asked, params.number("abort_settle_s"))
        found["health"] = await asked.chat("health", "Hello", CASE_SECONDS, max_tokens=1)
        return ErrorSuite(found, asked.of, abort, limit)


async def _sent(asked: Api, case: ErrorCase, depth: int, limit: int | None) -> Exchange:
    credential = asked.credential
    if case.key == "none":
        credential = None
    elif case.key == "wrong":
        # Random, never a change of the real one, which would bring that into logs.
        credential = Credential.made_up(f"dstui-{secrets.token_hex(16)}")
    return await asked.caller.call(
        case.id,
        case.method,
        asked.url(case.path),
        seconds=CASE_SECONDS,
        credential=credential,
        content=_body(case, asked.of.model, depth, limit) if case.method == "POST" else None,
        headers={"Content-Type": case.content_type} if case.method == "POST" else None,
        patient=True,
    )


def _body(case: ErrorCase, model: str, depth: int, limit: int | None) -> bytes:
    chat = openai.chat(model, "Hello", max_tokens=1)
    if case.id == "malformed-json":
        return b'{"model": "'
    if case.id == "empty-body":
        return b""
    if case.id == "deep-nesting":
        return b'{"model":' + b"[" * depth + b"]" * depth + b"}"
    changes: dict[str, dict[str, object]] = {
        "wrong-type": {"temperature": "hot"},
        "negative-tokens": {"max_tokens": -1},
        "unknown-model": {"model": "dstui-no-such-model"},
        "too-long": {"messages": [{"role": "user", "content": "a b " * (_characters(limit) // 4)}]},
        "big-body": {"messages": [{"role": "user", "content": "a" * ((limit or 0) + MIB // 2)}]},
    }
    chat |= changes.get(case.id, {})
    if case.id == "no-messages":
        del chat["messages"]
    return json.dumps(chat).encode()


def _characters(limit: int | None) -> int:
    """As long as no model takes, but within the limit of bodies, which is another case."""
    return LONG_TOKENS if limit is None else min(LONG_TOKENS, int(limit * 0.8))


def _bytes(written: str) -> int | None:
    """`10m` as nginx writes sizes, in bytes; None when it is none."""
    number, unit = written.strip().lower().rstrip("b")[:-1], written.strip().lower().rstrip("b")[-1:]
    scale = {"k": 1024, "m": MIB, "g": 1024 * MIB}.get(unit)
    if scale is None:
        number, scale = number + unit, 1
    return int(number) * scale if number.isdecimal() and int(number) else None


async def _left(o: Observing, asked: Api, settle: float) -> Abort:
    """Opens a stream, goes away after three reads, and watches whether the engines go on working for nobody."""
    before = await _running(o)
    body = openai.chat(asked.of.model, "Count from one to a thousand.", max_tokens=ABORT_TOKENS, stream=True)
    exchange = await asked.caller.call(
        "abort",
        "POST",
        asked.url("/v1/chat/completions"),
        seconds=CASE_SECONDS,
        credential=asked.credential,
        data={**body, "ignore_eos": True},
        stop_after=3,
    )
    if not isinstance(before, Missing) and before > 0:
        # Other people's requests come and go meanwhile: a sum of all tells nothing of this one.
        before = Missing(Reason.CANNOT_TELL, f"{before:g} other requests were running, so nothing tells this one apart")
    if isinstance(before, Missing):
        return Abort(exchange, before, before)
    began = time.monotonic()
    while True:
        after = await _running(o)
        waited = time.monotonic() - began
        if isinstance(after, Missing) or after <= before:
            return Abort(exchange, before, after, None if isinstance(after, Missing) else waited)
        if waited >= settle:
            return Abort(exchange, before, after)
        await asyncio.sleep(LOOK_SECONDS)


async def _running(o: Observing) -> float | Missing:
    """Requests running on all backends, by their own metrics."""
    endpoints = o.inventory.document.endpoints
    backends = [str(url).rstrip("/") for url in (endpoints.backends or ())] if endpoints is not None else []
    if not backends:
        return Missing(Reason.NO_TARGETS, "the inventory has no endpoints.backends whose metrics would tell")
    total = 0.0
    for url in backends:
        async with o.caller(seconds=CASE_SECONDS, through=await o.way_to(url)) as caller:
            page = await caller.call("metrics", "GET", f"{url}/metrics", seconds=CASE_SECONDS, limit=16 * MIB)
        if page.missing is not None or page.status != 200:
            return page.missing or Missing(Reason.CANNOT_TELL, f"{url}/metrics: HTTP {page.status}")
        try:
            samples = parse_metrics(page.text, at=time.time(), replica=url, cut=page.cut)
        except GatherError as error:
            return Missing(error.reason, str(error))
        for engine in (engine for sample in samples for engine in sample.engines):
            running = engine.numbers[Thing.RUNNING]
            if not isinstance(running, Present):
                return Missing(Reason.CANNOT_TELL, f"{url}/metrics has no number of running requests")
            total += running.value
    return total
