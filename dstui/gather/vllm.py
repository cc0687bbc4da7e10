"""Reads `/metrics` of vLLM's replicas and of Ray's nodes and gives Records: one sample per replica, or LOST and why."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import NoReturn
from urllib.parse import urlsplit

import httpx

from dstui.gather.causes import not_connected
from dstui.gather.http import client as http_client
from dstui.gather.wording import clean
from dstui.model import GatherError, Reason, Text
from dstui.telemetry.record import Record, RecordKind
from dstui.telemetry.vllm import VllmSample, parse_metrics
from dstui.telemetry.vllm_records import SOURCE, record_of

BODY_LIMIT = 8 * 1024 * 1024
"""Bytes of a page. A Ray head's was 0.6 MB, vLLM with 16 engines has about 1 MB."""

TIMEOUT_SECONDS = 5.0
"""For a whole page, from dialling to its last byte."""

PARALLEL = 64
"""Pages that are read at the same time."""

BACK_OFF_SECONDS = 5.0
"""An endpoint that let its time run out is asked again after this, so that many of them leave room for the others."""

GONE_SECONDS = 60.0
"""For how long a replica that left its Ray node's page is reported as lost."""

_ACCEPT = {"Accept": "text/plain;version=0.0.4", "Accept-Encoding": "identity"}
_PERMISSION = (401, 403)


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One page of metrics. `node_page`: a Ray node's, with any number of replicas. `headers` may hold a secret.

    `health` is where the same server says whether it works. Once its engine is dead vLLM answers 503 there, while the
    page goes on giving the last values: for seconds, or for ever where VLLM_KEEP_ALIVE_ON_ENGINE_DEATH is set.
    """

    name: str
    url: str
    node_page: bool = False
    headers: Mapping[str, str] = field(default_factory=dict, repr=False, hash=False)
    health: str | None = None


def replica_endpoints(backends: Iterable[str], hosts: Mapping[str, str] | None = None) -> tuple[Endpoint, ...]:
    """The pages of the inventory's `endpoints.backends`: `/metrics` at the root of each, and `/health` beside it.

    `hosts` is address → inventory name. A replica is called as its host, with the port where a host has several.
    """
    places: list[tuple[str, int, str]] = []
    for backend in backends:
        parts = urlsplit(backend)
        host = parts.hostname or ""
        port = parts.port or (443 if parts.scheme == "https" else 80)
        literal = f"[{host}]" if ":" in host else host
        place = ((hosts or {}).get(host, host), port, f"{parts.scheme}://{literal}:{port}")
        if place not in places:
            places.append(place)
    count = Counter(name for name, _, _ in places)
    return tuple(
        Endpoint(name if count[name] == 1 else f"{name}:{port}", f"{base}/metrics", health=f"{base}/health")
        for name, port, base in places
    )


def node_endpoints(nodes: Iterable[tuple[str, str]], headers: Mapping[str, str] | None = None) -> tuple[Endpoint, ...]:
    """The pages of Ray's nodes, of (inventory name, URL as Ray's service discovery says). `headers` carry its token."""
    return tuple(Endpoint(name, url, True, dict(headers or {})) for name, url in nodes)


class Scraper:
    """Reads every endpoint in its own rhythm, so that a slow one holds up no other. Use it in `async with`.

    `endpoints` may be exchanged while it runs, as Ray nodes come and go. `clock` is seconds since the epoch. `way`
    opens the way to a node's page, or sees that it is open: the Unix socket to speak through, None to go directly;
    GatherError when there is none.
    """

    def __init__(
        self,
        endpoints: Sequence[Endpoint],
        *,
        timeout: float = TIMEOUT_SECONDS,
        clock: Callable[[], float] = time.time,
        client: httpx.AsyncClient | None = None,
        way: Callable[[Endpoint], Awaitable[Path | None]] | None = None,
    ) -> None:
        self.endpoints = tuple(endpoints)
        self._timeout = timeout
        self._clock = clock
        self._client = client or http_client(timeout=timeout)
        self._way = way
        self._tunnelled: dict[Endpoint, tuple[Path, httpx.AsyncClient]] = {}
        self._room = asyncio.Semaphore(PARALLEL)
        self._seen: dict[Endpoint, dict[str, float]] = {}

    async def __aenter__(self) -> Scraper:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        tunnelled, self._tunnelled = self._tunnelled, {}
        for client in (self._client, *(client for _, client in tunnelled.values())):
            await client.aclose()

    async def once(self) -> tuple[Record, ...]:
        """Every endpoint once."""
        found = await asyncio.gather(*(self._look(endpoint) for endpoint in self.endpoints))
        return tuple(record for records in found for record in records)

    async def run(self, feed: Callable[[Record], None], *, interval: float = 1.0) -> NoReturn:
        """Feeds records until it is cancelled; each endpoint is asked every `interval` seconds, once at a time."""
        readers: dict[Endpoint, asyncio.Task[None]] = {}
        try:
            while True:
                for endpoint in set(readers) - set(self.endpoints):
                    readers.pop(endpoint).cancel()
                    await self._forget(endpoint)
                for endpoint in self.endpoints:
                    if endpoint not in readers:
                        readers[endpoint] = asyncio.create_task(self._keep_looking(endpoint, feed, interval))
                ended, _ = await asyncio.wait(readers.values(), timeout=interval) if readers else (set(), set())
                for task in ended:
                    task.result()
                if not readers:
                    await asyncio.sleep(interval)
        finally:
            for task in readers.values():
                task.cancel()
            await asyncio.gather(*readers.values(), return_exceptions=True)

    async def _keep_looking(self, endpoint: Endpoint, feed: Callable[[Record], None], interval: float) -> None:
        loop = asyncio.get_running_loop()
        due = loop.time()
        while True:
            records = await self._look(endpoint)
            for record in records:
                feed(record)
            late = any(record.data.get("reason") == Reason.TIMEOUT.value for record in records)
            due = max(due + interval, loop.time() + (BACK_OFF_SECONDS if late else 0.0))
            await asyncio.sleep(due - loop.time())

    async def _look(self, endpoint: Endpoint) -> list[Record]:
        try:
            async with self._room:
                content_type, text = await self._page(endpoint)
                at = self._clock()
                # After the page: health that was well before it says nothing of the moment of the page.
                status = await self._health(endpoint)
                samples = await _parsed(endpoint, text, at, "openmetrics" in content_type)
        except GatherError as error:
            at = self._clock()
            why = Text(str(error), f"{_shown(endpoint.url)}：{_ZH[error.reason]}")
            names = self._seen.get(endpoint) or {endpoint.name: at}
            return [_lost(name, at, error.reason, why) for name in sorted(names)]
        if httpx.codes.is_server_error(status):
            return [_lost(endpoint.name, at, Reason.UNREACHABLE, _unhealthy(endpoint, status))]
        seen = self._seen.setdefault(endpoint, {})
        here = {sample.replica for sample in samples}
        seen.update(dict.fromkeys(here, at))
        for name in [name for name, last in seen.items() if at - last > GONE_SECONDS]:
            del seen[name]
        # Ray drops gauges that are not renewed, and they are all that a replica has before its first request.
        left = Text(
            f"its metrics are no longer on the page of {endpoint.name}: it is gone, or was never asked anything",
            f"{endpoint.name} 的页面上已没有它的指标：它已不在，或从未收到请求",
        )
        gone = [_lost(name, at, Reason.CANNOT_TELL, left) for name in sorted(seen.keys() - here)]
        return [*(record_of(sample) for sample in samples), *gone]

    async def _forget(self, endpoint: Endpoint) -> None:
        self._seen.pop(endpoint, None)
        if (tunnelled := self._tunnelled.pop(endpoint, None)) is not None:
            await tunnelled[1].aclose()

    async def _client_for(self, endpoint: Endpoint) -> httpx.AsyncClient:
        """The client that speaks through the endpoint's present tunnel. GatherError when there is no way."""
        socket = await self._way(endpoint) if self._way is not None and endpoint.node_page else None
        if socket is None:
            return self._client
        known = self._tunnelled.get(endpoint)
        if known is not None and known[0] == socket:
            return known[1]
        made = self._tunnelled[endpoint] = (socket, http_client(timeout=self._timeout, socket=socket))
        if known is not None:
            await known[1].aclose()
        return made[1]

    async def _page(self, endpoint: Endpoint) -> tuple[str, str]:
        """Content type and text of a page. Raises GatherError."""
        where = _shown(endpoint.url)
        async with self._asked(endpoint, where) as response:
            return await _body(response, where)

    async def _health(self, endpoint: Endpoint) -> int:
        """The HTTP status of a server's health; 200 where it has no such place to ask. Raises GatherError."""
        if endpoint.health is None:
            return httpx.codes.OK
        async with self._asked(endpoint, _shown(endpoint.health)) as response:
            async for _ in response.aiter_raw():
                # vLLM's answer is empty, and once it is read to its end the connection is used again.
                break
            return response.status_code

    @asynccontextmanager
    async def _asked(self, endpoint: Endpoint, where: str) -> AsyncIterator[httpx.Response]:
        """The answer to a GET, its body still to be read. Raises GatherError."""
        headers = {**_ACCEPT, **endpoint.headers}
        try:
            async with (
                asyncio.timeout(self._timeout),
                (await self._client_for(endpoint)).stream("GET", where, headers=headers) as response,
            ):
                yield response
        except (httpx.TimeoutException, TimeoutError):
            raise GatherError(Reason.TIMEOUT, f"{where} did not answer within {self._timeout:g} s") from None
        except (httpx.LocalProtocolError, UnicodeError):
            # Their messages quote the header, which may be a secret.
            raise GatherError(Reason.NO_CREDENTIAL, f"{where}: the credential cannot be sent in a header") from None
        except httpx.ConnectError as error:
            raise GatherError(Reason.UNREACHABLE, f"{where}: {not_connected(error)}") from None
        except (httpx.HTTPError, httpx.InvalidURL, OSError) as error:
            said = clean(str(error)) or type(error).__name__
            raise GatherError(Reason.CANNOT_TELL, f"{where}: {said}") from None


_ZH = dict.fromkeys(Reason, "无法获取指标") | {
    Reason.TIMEOUT: "超时未应答",
    Reason.UNREACHABLE: "无法连接",
    Reason.NO_CREDENTIAL: "需要凭据",
    Reason.PERMISSION: "凭据被拒绝",
    Reason.PARSE_ERROR: "返回内容不是完整的指标页面",
}


async def _body(response: httpx.Response, where: str) -> tuple[str, str]:
    status = response.status_code
    if status in _PERMISSION:
        asked = "Authorization" in response.request.headers
        reason = Reason.PERMISSION if asked else Reason.NO_CREDENTIAL
        said = "refused the credential" if asked else "asks for a credential"
        raise GatherError(reason, f"{where} {said} (HTTP {status})")
    if status != httpx.codes.OK:
        raise GatherError(Reason.CANNOT_TELL, f"{where} answered HTTP {status}, not a page of metrics")
    if response.headers.get("Content-Encoding", "identity").lower() != "identity":
        raise GatherError(Reason.PARSE_ERROR, f"{where} sent a compressed page that was not asked for")
    body = bytearray()
    async for chunk in response.aiter_raw():
        body += chunk
        if len(body) > BODY_LIMIT:
            raise GatherError(Reason.PARSE_ERROR, f"{where} has a page of more than {BODY_LIMIT // 1024 // 1024} MiB")
    return response.headers.get("Content-Type", "").lower(), body.decode("utf-8", "replace")


async def _parsed(endpoint: Endpoint, text: str, at: float, openmetrics: bool) -> tuple[VllmSample, ...]:
    """Off the loop: 5,000 lines cost 100 ms."""
    try:
        return await asyncio.to_thread(
            parse_metrics, text, at=at, replica=endpoint.name, node_page=endpoint.node_page, openmetrics=openmetrics
        )
    except GatherError as error:
        raise GatherError(error.reason, f"{_shown(endpoint.url)}: {error}") from None


def _shown(url: str) -> str:
    """A URL without a login in it: that would be a secret in clear text, and httpx would prefer it to the header."""
    parts = urlsplit(url)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()


def _unhealthy(endpoint: Endpoint, status: int) -> Text:
    where = _shown(endpoint.health or endpoint.url)
    return Text(
        f"{where} says HTTP {status}: its engine is not well, and the values on its page may be old",
        f"{where} 返回 HTTP {status}：引擎异常，其指标页面上的数值可能已过期",
    )


def _lost(name: str, at: float, reason: Reason, why: Text) -> Record:
    return Record(at, SOURCE + name, RecordKind.LOST, {"reason": reason.value, "why": why.en, "zh": why.zh})
