"""Reads `/metrics` of vLLM's replicas and of Ray's nodes and gives Records: one sample per replica, or LOST and why."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NoReturn
from urllib.parse import urlsplit

import httpx

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
    """One page of metrics. `node_page`: a Ray node's, with any number of replicas. `headers` may hold a secret."""

    name: str
    url: str
    node_page: bool = False
    headers: Mapping[str, str] = field(default_factory=dict, repr=False, hash=False)


def replica_endpoints(backends: Iterable[str], hosts: Mapping[str, str] | None = None) -> tuple[Endpoint, ...]:
    """The pages of the inventory's `endpoints.backends`: `/metrics` at the root of each.

    `hosts` is address → inventory name. A replica is called as its host, with the port where a host has several.
    """
    places: list[tuple[str, int, str]] = []
    for backend in backends:
        parts = urlsplit(backend)
        host = parts.hostname or ""
        port = parts.port or (443 if parts.scheme == "https" else 80)
        literal = f"[{host}]" if ":" in host else host
        place = ((hosts or {}).get(host, host), port, f"{parts.scheme}://{literal}:{port}/metrics")
        if place not in places:
            places.append(place)
    count = Counter(name for name, _, _ in places)
    return tuple(Endpoint(name if count[name] == 1 else f"{name}:{port}", url) for name, port, url in places)


def node_endpoints(nodes: Iterable[tuple[str, str]], headers: Mapping[str, str] | None = None) -> tuple[Endpoint, ...]:
    """The pages of Ray's nodes, of (inventory name, URL as Ray's service discovery says). `headers` carry its token."""
    return tuple(Endpoint(name, url, True, dict(headers or {})) for name, url in nodes)


class Scraper:
    """Reads every endpoint in its own rhythm, so that a slow one holds up no other. Use it in `async with`.

    `endpoints` may be exchanged while it runs, as Ray nodes come and go. `clock` is seconds since the epoch.
    """

    def __init__(
        self,
        endpoints: Sequence[Endpoint],
        *,
        timeout: float = TIMEOUT_SECONDS,
        clock: Callable[[], float] = time.time,
        client: httpx.AsyncClient | None = None,
    ) -> None:
        self.endpoints = tuple(endpoints)
        self._timeout = timeout
        self._clock = clock
        self._client = client or http_client(timeout=timeout)
        self._room = asyncio.Semaphore(PARALLEL)
        self._seen: dict[Endpoint, dict[str, float]] = {}

    async def __aenter__(self) -> Scraper:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        await self._client.aclose()

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
                    self._forget(endpoint)
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
                samples = await _parsed(endpoint, text, at, "openmetrics" in content_type)
        except GatherError as error:
            at = self._clock()
            why = Text(str(error), f"{_shown(endpoint.url)}：{_ZH[error.reason]}")
            names = self._seen.get(endpoint) or {endpoint.name: at}
            return [_lost(name, at, error.reason, why) for name in sorted(names)]
        seen = self._seen.setdefault(endpoint, {})
        here = {sample.replica for sample in samples}
        seen.update(dict.fromkeys(here, at))
        for name in [name for name, last in seen.items() if at - last > GONE_SECONDS]:
            del seen[name]
        left = Text(
            f"its metrics are no longer on the page of {endpoint.name}", f"{endpoint.name} 的页面上已没有它的指标"
        )
        gone = [_lost(name, at, Reason.CANNOT_TELL, left) for name in sorted(seen.keys() - here)]
        return [*(record_of(sample) for sample in samples), *gone]

    def _forget(self, endpoint: Endpoint) -> None:
        self._seen.pop(endpoint, None)

    async def _page(self, endpoint: Endpoint) -> tuple[str, str]:
        """Content type and text of a page. Raises GatherError."""
        where = _shown(endpoint.url)
        headers = {**_ACCEPT, **endpoint.headers}
        try:
            async with (
                asyncio.timeout(self._timeout),
                self._client.stream("GET", where, headers=headers) as response,
            ):
                return await _body(response, where)
        except (httpx.TimeoutException, TimeoutError):
            raise GatherError(Reason.TIMEOUT, f"{where} did not answer within {self._timeout:g} s") from None
        except (httpx.LocalProtocolError, UnicodeError):
            # Their messages quote the header, which may be a secret.
            raise GatherError(Reason.NO_CREDENTIAL, f"{where}: the credential cannot be sent in a header") from None
        except httpx.ConnectError as error:
            raise GatherError(Reason.UNREACHABLE, f"{where}: {clean(str(error)) or 'connection failed'}") from None
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


def _lost(name: str, at: float, reason: Reason, why: Text) -> Record:
    return Record(at, SOURCE + name, RecordKind.LOST, {"reason": reason.value, "why": why.en, "zh": why.zh})
