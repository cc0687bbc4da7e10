"""Asks the API what the functional checks judge: one answer plain and streamed, long prompts, languages, many."""

from __future__ import annotations

import asyncio
import json
import secrets
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace

from dstui.facts import openai
from dstui.facts.exchange import Exchange
from dstui.facts.func import (
    BasicInference,
    Concurrent,
    ConcurrentAnswer,
    FillLevel,
    FuncTarget,
    Languages,
    LongText,
)
from dstui.facts.func_cases import LANGUAGE_CASES
from dstui.facts.raw import Missing
from dstui.gather.caller import Caller, Credential
from dstui.gather.observing import Observing
from dstui.model import Reason

BASIC_SECONDS = 30.0
LONG_SECONDS = 300.0
OVERLONG_SECONDS = 30.0
LANGUAGE_SECONDS = 30.0
LANGUAGES_AT_ONCE = 4
ROOM_TOKENS = 32
"""Left free for the answer and the chat template."""

_SAMPLE_CHARACTERS = 1_000
_FILLER = "The operator looked at rack {n} and wrote down that all fans, links and lamps were as they should be. "
_STEADY = {"temperature": 0, "seed": 1}


@dataclass(frozen=True, slots=True)
class Api:
    """The API that is asked. `base` has no path of the OpenAI API in it."""

    caller: Caller
    base: str
    of: FuncTarget
    credential: Credential | None

    def url(self, path: str) -> str:
        return self.base + path

    async def post(self, key: str, path: str, data: object, seconds: float) -> Exchange:
        return await self.caller.call(
            key, "POST", self.url(path), seconds=seconds, credential=self.credential, data=data, patient=True
        )

    async def chat(self, key: str, content: str, seconds: float, *, max_tokens: int, **more: object) -> Exchange:
        """One chat completion, steady unless `more` says otherwise."""
        body = openai.chat(self.of.model, content, max_tokens=max_tokens, **{**_STEADY, **more})
        return await self.post(key, "/v1/chat/completions", body, seconds)


def target_of(o: Observing) -> FuncTarget:
    """The public endpoint and the model of the inventory."""
    document = o.inventory.document
    url = str(document.endpoints.api).rstrip("/") if document.endpoints is not None else None
    model = o.params("func.basic-inference", None).text("model_served_name")
    return FuncTarget(url, model)


@asynccontextmanager
async def api(o: Observing, *, seconds: float, connections: int = 100) -> AsyncIterator[Api | None]:
    """The API of `endpoints.api`; None when the inventory names none."""
    of = target_of(o)
    if of.url is None:
        yield None
        return
    found = await o.credential()
    credential = None if isinstance(found, Missing) else found
    of = replace(of, keyless=found if isinstance(found, Missing) else None)
    base = of.url.removesuffix("/v1") if of.url is not None else ""
    async with o.caller(seconds=seconds, connections=connections) as caller:
        yield Api(caller, base, of, credential)


async def observe_func_basic(o: Observing) -> BasicInference:
    """The document's request, plain and streamed."""
    params = o.params("func.basic-inference", None)
    prompt, most = params.text("prompt"), params.count("max_tokens")
    async with api(o, seconds=BASIC_SECONDS) as asked:
        if asked is None:
            return BasicInference({}, target_of(o))
        plain = await asked.chat("plain", prompt, BASIC_SECONDS, max_tokens=most)
        stream = await asked.chat(
            "stream", prompt, BASIC_SECONDS, max_tokens=most, stream=True, stream_options={"include_usage": True}
        )
        return BasicInference({"plain": plain, "stream": stream}, asked.of)


async def observe_func_languages(o: Observing) -> Languages:
    """Every language case plain and streamed, and through the tokenizer and back where the server lets one."""
    async with api(o, seconds=LANGUAGE_SECONDS) as asked:
        if asked is None:
            return Languages({}, target_of(o))
        bound = asyncio.Semaphore(LANGUAGES_AT_ONCE)
        found: dict[str, Exchange] = {}

        async def one(case_id: str, text: str) -> None:
            for mode in ("plain", "stream"):
                async with bound:
                    found[f"{case_id}/{mode}"] = await _said(asked, f"{case_id}/{mode}", text, stream=mode == "stream")
            async with bound:
                await _round_trip(asked, case_id, text, found)

        async with asyncio.TaskGroup() as tasks:
            for number, case in enumerate(LANGUAGE_CASES, 1):
                o.told(f"{number}/{len(LANGUAGE_CASES)}")
                tasks.create_task(one(case.id, case.text))
        order = {case.id: number for number, case in enumerate(LANGUAGE_CASES)}
        return Languages(dict(sorted(found.items(), key=lambda item: order[item[0].partition("/")[0]])), asked.of)


async def _said(asked: Api, key: str, text: str, *, stream: bool) -> Exchange:
    more = {"stream": True} if stream else {}
    body = openai.chat(asked.of.model, f"Repeat exactly: {text}", max_tokens=48, **_STEADY, **more)
    return await asked.caller.call(
        key,
        "POST",
        asked.url("/v1/chat/completions"),
        seconds=LANGUAGE_SECONDS,
        credential=asked.credential,
        # Escaped: a lone surrogate has no other way to be sent, and the server has to undo it for all the others.
        content=json.dumps(body, ensure_ascii=True).encode("ascii"),
        headers={"Content-Type": "application/json"},
        patient=True,
    )


async def _round_trip(asked: Api, case_id: str, text: str, found: dict[str, Exchange]) -> None:
    if "\ud800" in text:
        return
    prompt = {"model": asked.of.model, "prompt": text, "add_special_tokens": False}
    there = await asked.post(f"{case_id}/tokenize", "/tokenize", prompt, LANGUAGE_SECONDS)
    found[there.key] = there
    answer = there.json()
    tokens = answer.get("tokens") if isinstance(answer, dict) else None
    if there.status == 200 and isinstance(tokens, list):
        back = {"model": asked.of.model, "tokens": tokens}
        found[f"{case_id}/detokenize"] = await asked.post(
            f"{case_id}/detokenize", "/detokenize", back, LANGUAGE_SECONDS
        )


async def observe_func_concurrent(o: Observing) -> Concurrent:
    """`n` requests at the same moment, each with a word of its own to find again."""
    params = o.params("func.concurrent", None)
    count, seconds = params.count("n"), params.number("timeout_s")
    streamed = round(count * params.number("stream_share"))
    async with api(o, seconds=seconds, connections=count + 4) as asked:
        if asked is None:
            return Concurrent(target_of(o))
        began = time.monotonic()
        answers = await asyncio.gather(
            *(
                _with_nonce(asked, number, stream=number < streamed, most=params.count("max_tokens"), seconds=seconds)
                for number in range(count)
            )
        )
        return Concurrent(asked.of, tuple(answers), time.monotonic() - began)


async def _with_nonce(asked: Api, number: int, *, stream: bool, most: int, seconds: float) -> ConcurrentAnswer:
    nonce = f"zq{secrets.token_hex(5)}"
    prompt = f"Start your answer with {nonce}, then compute 17+{number}."
    body = openai.chat(asked.of.model, prompt, max_tokens=most, **_STEADY, **({"stream": True} if stream else {}))
    # Not patient: a limiter's answer is what is to be seen.
    exchange = await asked.caller.call(
        f"request {number}",
        "POST",
        asked.url("/v1/chat/completions"),
        seconds=seconds,
        credential=asked.credential,
        data=body,
    )
    return ConcurrentAnswer(nonce, stream, exchange)


async def observe_func_long(o: Observing) -> LongText:
    """Prompts that fill the context to some shares, then one that is too long."""
    params = o.params("func.long-text", None)
    async with api(o, seconds=LONG_SECONDS) as asked:
        if asked is None:
            return LongText(target_of(o), Missing(Reason.NO_TARGETS, "no endpoint"))
        limit, source = await _limit(o, asked)
        if isinstance(limit, Missing):
            return LongText(asked.of, limit)
        text = await _sized(asked)
        if isinstance(text, Missing):
            return LongText(asked.of, text, source)
        cap = params.count("long_tokens_cap")
        positions = [float(str(each)) for each in params.texts("needle_positions")] or [0.5]
        levels = []
        for number, share in enumerate(float(str(each)) for each in params.texts("fill")):
            wanted = max(1, int(limit * share) - ROOM_TOKENS)
            size = min(wanted, cap)
            o.told(f"{size:,} tokens")
            levels.append(
                await text.level(asked, share, size, positions[number % len(positions)], capped=size < wanted)
            )
        o.told("too long")
        too_many = limit + params.count("overlong_by")
        overlong = await text.overlong(asked, too_many)
        health = await asked.caller.call("health", "GET", asked.url(_health_path(o)), seconds=BASIC_SECONDS)
        return LongText(asked.of, limit, source, tuple(levels), overlong, too_many, health)


def _health_path(o: Observing) -> str:
    endpoints = o.inventory.document.endpoints
    return (endpoints.health_path if endpoints is not None else None) or "/health"


async def _limit(o: Observing, asked: Api) -> tuple[int | Missing, str]:
    """max_model_len as the server says it, else as the inventory has it."""
    exchange = await asked.caller.call(
        "models", "GET", asked.url("/v1/models"), seconds=BASIC_SECONDS, credential=asked.credential, patient=True
    )
    if exchange.missing is not None and exchange.status is None:
        return exchange.missing, ""
    if exchange.status in (401, 403) and asked.of.keyless is not None:
        return asked.of.keyless, ""
    cards = openai.models(exchange.json())
    for card in () if isinstance(cards, Missing) else cards:
        if card.id == asked.of.model and card.max_model_len is not None:
            return card.max_model_len, "/v1/models"
    told = o.inventory.document.engine.max_model_len
    if told is not None:
        return told, "inventory engine.max_model_len"
    why = "/v1/models gives no max_model_len for the model, and the inventory has no engine.max_model_len"
    return Missing(Reason.CANNOT_TELL, why), ""


@dataclass(frozen=True, slots=True)
class _Sized:
    """Makes prompts of a known number of tokens. `per_character` tokens; `overhead` is the chat template's."""

    per_character: float
    overhead: int
    tokenizes: bool

    def prompt(self, tokens: int, needle: str, position: float) -> str:
        characters = max(int((tokens - self.overhead) / self.per_character), len(needle) + 40)
        hidden = f" The code word is {needle}. "
        filler = _filler(characters - len(hidden))
        place = int(len(filler) * position)
        return filler[:place] + hidden + filler[place:]

    async def level(self, asked: Api, share: float, size: int, position: float, *, capped: bool) -> FillLevel:
        needle = f"zq{secrets.token_hex(4)}"
        prompt = self.prompt(size, needle, position)
        counted = await _count(asked, prompt) if self.tokenizes else None
        if counted is not None and abs(counted + self.overhead - size) > size * 0.02:
            # The filler's tokens are not as even as the sample's: once more with what was counted.
            better = replace(self, per_character=counted / len(prompt))
            prompt = better.prompt(size, needle, position)
            counted = await _count(asked, prompt)
        question = f"{prompt}\nWhat is the code word?"
        exchange = await asked.chat(f"fill {share:g}", question, LONG_SECONDS, max_tokens=16)
        expected = size if counted is None else counted + self.overhead
        return FillLevel(share, expected, counted is not None, needle, exchange, capped)

    async def overlong(self, asked: Api, tokens: int) -> Exchange:
        # Surely too long: what one token more or less is does not matter here.
        prompt = _filler(int(tokens / self.per_character * 1.02))
        return await asked.chat("too long", prompt, OVERLONG_SECONDS, max_tokens=16)


async def _sized(asked: Api) -> _Sized | Missing:
    """Tokens for each character of the filler, and of the chat template, as this server counts."""
    sample = _filler(_SAMPLE_CHARACTERS)
    counted = await _count(asked, sample)
    answer = await asked.chat("sample", sample, BASIC_SECONDS, max_tokens=1)
    if answer.missing is not None:
        return answer.missing
    said = openai.completion(answer.json())
    usage = said.usage if isinstance(said, openai.Completion) else None
    if usage is None:
        status = "no status" if answer.status is None else f"HTTP {answer.status}"
        if answer.status in (401, 403) and asked.credential is None:
            return Missing(Reason.NO_CREDENTIAL, f"the API wants a key (HTTP {answer.status}); set auth.key_ref")
        return Missing(Reason.CANNOT_TELL, f"a prompt of {_SAMPLE_CHARACTERS} characters: {status}, no usage")
    if counted is not None:
        return _Sized(counted / _SAMPLE_CHARACTERS, max(usage.prompt - counted, 0), tokenizes=True)
    return _Sized(usage.prompt / _SAMPLE_CHARACTERS, 0, tokenizes=False)


async def _count(asked: Api, text: str) -> int | None:
    """Tokens of a text by the server's own tokenizer; None where it lets nobody use that."""
    body = {"model": asked.of.model, "prompt": text, "add_special_tokens": False}
    exchange = await asked.post("tokenize", "/tokenize", body, BASIC_SECONDS)
    answer = exchange.json() if exchange.status == 200 else None
    count = answer.get("count") if isinstance(answer, dict) else None
    return count if isinstance(count, int) and not isinstance(count, bool) and count > 0 else None


def _filler(characters: int) -> str:
    parts, length, number = [], 0, 0
    while length < characters:
        parts.append(_FILLER.format(n=number))
        length += len(parts[-1])
        number += 1
    return "".join(parts)[: max(characters, 0)]
