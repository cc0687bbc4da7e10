"""The clients that run inside one process of ours: each asks for so many streams at once and says what it measured.

    python bench/ladder_clients.py CLIENT URL STREAMS TOKENS MODULE

Prints `ready`, waits for a line, then prints one JSON object: `ttft` and `gaps` in seconds as the client itself takes
them, `failed`, `wall` from before the first request to after the last answer, `cpu` of that time. MODULE is the file of
vLLM's request function.
"""

from __future__ import annotations

import asyncio
import gc
import importlib.util
import json
import resource
import sys
import time
from collections.abc import Awaitable, Callable
from itertools import pairwise
from typing import Any

PROMPT = " ".join(f"word-{number}" for number in range(200))
PATH = "/v1/chat/completions"
Streams = Callable[[str, int, int], Awaitable[tuple[list[float], list[list[float]]]]]
"""(URL, streams, tokens) to the times to the first token and the gaps of every stream that was answered."""


def body(tokens: int) -> dict[str, Any]:
    return {
        "model": "timed",
        "messages": [{"role": "user", "content": PROMPT}],
        "max_completion_tokens": tokens,
        "stream": True,
        "stream_options": {"include_usage": True},
    }


async def ours(url: str, count: int, tokens: int) -> tuple[list[float], list[list[float]]]:
    from dstui.load.agent.asked import OK, ask
    from dstui.load.agent.http import Target, request

    host, port = url.removeprefix("http://").rsplit(":", 1)
    target = Target(host, int(port))
    await target.resolve()
    asked_for = json.dumps(body(tokens)).encode()

    async def one() -> Any:
        whole = request("POST", host, PATH, {"Content-Type": "application/json"}, asked_for)
        return await ask(target, whole, due=time.perf_counter(), seconds=600)

    done = [each for each in await asyncio.gather(*(one() for _ in range(count))) if each.outcome == OK]
    target.close()
    return [each.first - each.sent for each in done], [each.gaps for each in done]


async def vllm(url: str, count: int, tokens: int) -> tuple[list[float], list[list[float]]]:
    """vLLM's own request function in the session that `vllm bench serve` makes for it."""
    import aiohttp

    spec = importlib.util.spec_from_file_location("endpoint_request_func", sys.argv[5])
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    connector = aiohttp.TCPConnector(
        limit=0, limit_per_host=0, ttl_dns_cache=300, keepalive_timeout=60, enable_cleanup_closed=True, ssl=False
    )
    timeout = aiohttp.ClientTimeout(total=6 * 60 * 60)
    async with aiohttp.ClientSession(connector=connector, trust_env=True, timeout=timeout) as session:

        async def one() -> Any:
            asked = module.RequestFuncInput(PROMPT, url + PATH, 200, tokens, "timed", ignore_eos=True)
            return await module.async_request_openai_chat_completions(asked, session)

        done = [each for each in await asyncio.gather(*(one() for _ in range(count))) if each.success]
    return [each.ttft for each in done], [each.itl for each in done]


async def plain_aiohttp(url: str, count: int, tokens: int) -> tuple[list[float], list[list[float]]]:
    import aiohttp

    async def one(session: Any) -> list[float]:
        sent = time.perf_counter()
        async with session.post(url + PATH, json=body(tokens)) as response:
            return [sent, *[time.perf_counter() async for line in response.content if _speaks(line)]]

    connector, timeout = aiohttp.TCPConnector(limit=0), aiohttp.ClientTimeout(total=600)
    async with aiohttp.ClientSession(connector=connector, timeout=timeout) as session:
        return _apart(await asyncio.gather(*(one(session) for _ in range(count))), tokens)


async def plain_httpx(url: str, count: int, tokens: int) -> tuple[list[float], list[list[float]]]:
    import httpx

    async def one(client: httpx.AsyncClient) -> list[float]:
        sent = time.perf_counter()
        async with client.stream("POST", url + PATH, json=body(tokens)) as response:
            return [sent, *[time.perf_counter() async for line in response.aiter_lines() if _speaks(line)]]

    limits = httpx.Limits(max_connections=None, max_keepalive_connections=None)
    async with httpx.AsyncClient(limits=limits, timeout=600) as client:
        return _apart(await asyncio.gather(*(one(client) for _ in range(count))), tokens)


def _speaks(line: str | bytes) -> bool:
    """Parsed as JSON, as whoever counts tokens has to."""
    event = line.decode() if isinstance(line, bytes) else line
    if not event.startswith("data: ") or event.startswith("data: [DONE]"):
        return False
    choices = json.loads(event[6:])["choices"]
    return bool(choices and choices[0]["delta"].get("content"))


def _apart(rows: list[list[float]], tokens: int) -> tuple[list[float], list[list[float]]]:
    whole = [row for row in rows if len(row) == tokens + 1]
    return [row[1] - row[0] for row in whole], [[b - a for a, b in pairwise(row[1:])] for row in whole]


CLIENTS: dict[str, Streams] = {"ours": ours, "vllm": vllm, "aiohttp": plain_aiohttp, "httpx": plain_httpx}


async def measured(streams: Streams, url: str, count: int, tokens: int) -> dict[str, Any]:
    # Modules are loaded and code is warm before the clock runs; the connection is closed again.
    await streams(url, 1, min(tokens, 3))
    gc.collect()
    gc.freeze()
    print("ready", flush=True)
    sys.stdin.readline()
    wall, cpu = time.perf_counter(), time.process_time()
    ttft, gaps = await streams(url, count, tokens)
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    flat = [gap for row in gaps for gap in row]
    return {"ttft": ttft, "gaps": flat, "failed": count - len(ttft), "wall": wall, "cpu": cpu}


def main() -> int:
    """Measures one client."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    name, url, count, tokens = sys.argv[1:5]
    print(json.dumps(asyncio.run(measured(CLIENTS[name], url, int(count), int(tokens)))))
    return 0


if __name__ == "__main__":
    sys.exit(main())
