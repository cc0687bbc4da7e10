"""A client of vLLM that streams, and counts what it got: tokens as `usage` says, how each answer ended, and when."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import httpx

from reallab.vllm_server import MODEL

ANSWER_SECONDS = 120.0
END_OF_SEQUENCE = 1


@dataclass
class Answer:
    """`finish` None: the stream was left before its end. Seconds are from the request on; `gaps` between chunks."""

    prompt: int | None = None
    completion: int | None = None
    finish: str | None = None
    first: float | None = None
    seconds: float = 0.0
    gaps: list[float] = field(default_factory=list)

    @property
    def counted(self) -> tuple[int, int]:
        """Tokens generated, tokens of the prompt."""
        assert self.completion is not None and self.prompt is not None
        return self.completion, self.prompt


async def ask(
    client: httpx.AsyncClient,
    base: str,
    *,
    tokens: int,
    words: str = "hello",
    ends: str = "length",
    key: str | None = None,
) -> Answer:
    """One streamed chat answer of `tokens`. `ends`: length, stop (at the first token), abort (left at the first)."""
    body: dict[str, object] = {
        "model": MODEL,
        "messages": [{"role": "user", "content": words}],
        "max_tokens": tokens,
        "stream": True,
        "stream_options": {"include_usage": True},
        "ignore_eos": ends != "stop",
    }
    if ends == "stop":
        body["logit_bias"] = {str(END_OF_SEQUENCE): 100}
    headers = {} if key is None else {"Authorization": f"Bearer {key}"}
    answer, began, last = Answer(), time.monotonic(), None
    async with client.stream("POST", f"{base}/v1/chat/completions", json=body, headers=headers) as response:
        if response.status_code != httpx.codes.OK:
            raise RuntimeError(f"{response.status_code}: {(await response.aread())[:500]!r}")
        async for event in _events(response):
            now = time.monotonic()
            choices = event.get("choices")
            if not isinstance(choices, list):
                raise RuntimeError(f"the stream ended with {event}")
            for choice in choices:
                # The first chunk tells the role and comes with, or before, the first token.
                if choice["delta"].get("content") or choice["finish_reason"]:
                    answer.first = answer.first or now - began
                    answer.gaps += [now - last] if last is not None else []
                    last = now
                answer.finish = choice["finish_reason"] or answer.finish
            if ends == "abort" and answer.first is not None:
                return Answer(first=answer.first)
            if isinstance(usage := event.get("usage"), dict):
                answer.prompt, answer.completion = usage["prompt_tokens"], usage["completion_tokens"]
    answer.seconds = time.monotonic() - began
    return answer


async def _events(response: httpx.Response) -> AsyncIterator[dict[str, object]]:
    async for line in response.aiter_lines():
        said = line.removeprefix("data: ")
        if said and said != "[DONE]":
            yield json.loads(said)


def client() -> httpx.AsyncClient:
    return httpx.AsyncClient(timeout=ANSWER_SECONDS, trust_env=False, limits=httpx.Limits(max_connections=100))


async def burst(base: str, *, key: str | None = None, **counts: int) -> list[Answer]:
    """Answers at once: so many for each way to end (`length=6, stop=2, abort=1`)."""
    async with client() as http:
        return await asyncio.gather(
            *(
                ask(http, base, tokens=24 + 8 * number, words="hello " * (number + 1), ends=ends, key=key)
                for ends, count in counts.items()
                for number in range(count)
            )
        )


@asynccontextmanager
async def streaming(base: str, count: int, *, tokens: int, key: str | None = None) -> AsyncIterator[Load]:
    """So many long answers at a time, a new one for each that ends, while the block runs; then all are left."""
    load = Load()
    async with client() as http:
        tasks = [asyncio.create_task(load.keep_asking(http, base, number, tokens, key)) for number in range(count)]
        try:
            yield load
            for task in tasks:
                if task.done():
                    task.result()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


class Load:
    """`answers` are those that came to their end."""

    def __init__(self) -> None:
        self.answers: list[Answer] = []

    async def keep_asking(self, http: httpx.AsyncClient, base: str, number: int, tokens: int, key: str | None) -> None:
        while True:
            self.answers.append(await ask(http, base, tokens=tokens, words=f"question {number}", key=key))


def finished(answers: list[Answer]) -> dict[str, int]:
    """How many ended in which way, those that were left as `abort`."""
    found: dict[str, int] = {}
    for reason in _reasons(answers):
        found[reason] = found.get(reason, 0) + 1
    return found


def _reasons(answers: list[Answer]) -> Iterator[str]:
    for answer in answers:
        yield answer.finish or "abort"
