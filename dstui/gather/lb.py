"""Asks the load balancer's address, and the backends behind it, what `lb.deployed` and `lb.static-cache` judge."""

from __future__ import annotations

import asyncio
import secrets
import ssl
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from urllib.parse import urlsplit

from dstui.facts import openai
from dstui.facts.api import Approach, bare
from dstui.facts.exchange import Exchange
from dstui.facts.lb_seen import CACHE, DEPLOYED, Front, LbCache, LbDeployed
from dstui.facts.raw import Missing
from dstui.gather.caller import Caller, Credential, caller, joined
from dstui.gather.observing import Observing

SECONDS = 8.0
"""CATALOGUE 045: timeout 8 s."""
CHAT_SECONDS = 15.0
AT_ONCE = 8
MOST_BACKENDS = 32
MOST_ASSETS = 10
MODELS, CHAT = "/v1/models", "/v1/chat/completions"


@dataclass(frozen=True, slots=True)
class Asking:
    """One address being asked for one check; `label` is `front` or `backend-N`."""

    check: str
    label: str
    url: str
    caller: Caller
    credential: Credential | None

    async def get(self, what: str, path: str, *, key: bool = False, seconds: float = SECONDS) -> Exchange:
        return await self.caller.call(
            f"{self.check}.{self.label}.{what}",
            "GET",
            joined(self.url, path),
            seconds=seconds,
            credential=self.credential if key else None,
            patient=True,
        )

    async def chat(
        self,
        what: str,
        data: object,
        *,
        seconds: float = CHAT_SECONDS,
        headers: Mapping[str, str] | None = None,
    ) -> Exchange:
        return await self.caller.call(
            f"{self.check}.{self.label}.{what}",
            "POST",
            joined(self.url, CHAT),
            seconds=seconds,
            credential=self.credential,
            headers=headers,
            data=data,
            patient=True,
        )


@dataclass(frozen=True, slots=True)
class Fronting:
    """The balancer being looked at. `approaches` fills as backends are asked."""

    o: Observing
    check: str
    front: Front
    credential: Credential | None
    trust: ssl.SSLContext
    approaches: dict[str, Approach]

    @property
    def model(self) -> str:
        return self.o.params("api.started", None).text("model_served_name")

    @property
    def health_path(self) -> str:
        return self.o.params("api.health", None).text("health_path")

    @asynccontextmanager
    async def at_front(self, *, seconds: float = SECONDS, connections: int = 10) -> AsyncIterator[Asking]:
        async with self.o.caller(seconds=seconds, connections=connections, trust=self.trust) as opened:
            yield Asking(self.check, "front", self.front.url or "", opened, self.credential)

    @asynccontextmanager
    async def unverified(self) -> AsyncIterator[Asking]:
        """For requests without a key whose answer does not rest on whom it comes from; trust is judged by `lb.tls`."""
        headers = {"X-Request-Id": f"dstui-{self.o.run}"}
        async with caller(seconds=SECONDS, headers=headers, verify=False) as opened:
            yield Asking(self.check, "front", self.front.url or "", opened, None)

    @asynccontextmanager
    async def at_backend(self, number: int, *, seconds: float = SECONDS) -> AsyncIterator[Asking]:
        """Backends count from 1."""
        url, label = self.front.backends[number - 1], f"backend-{number}"
        way = await self.o.way_to(url)
        self.approaches[label] = Approach(way.via, way.inside)
        async with self.o.caller(seconds=seconds, through=way, trust=self.trust) as opened:
            yield Asking(self.check, label, url, opened, self.credential)

    async def each_backend(self, what: str, path: str, *, key: bool = False) -> list[Exchange]:
        """The same question to every backend, some at a time."""
        gate = asyncio.Semaphore(AT_ONCE)

        async def one(number: int) -> Exchange:
            async with gate, self.at_backend(number) as asking:
                return await asking.get(what, path, key=key)

        async with asyncio.TaskGroup() as tasks:
            asked = [tasks.create_task(one(number)) for number in range(1, len(self.front.backends) + 1)]
        return [task.result() for task in asked]


async def fronting(o: Observing, check: str) -> Fronting:
    """The address that users call, with what it takes to ask it. Raises GatherError when the CA bundle cannot be read.

    `lb.endpoint`, else `endpoints.api`.
    """
    document = o.inventory.document
    api, named = document.endpoints, o.params("lb.deployed", None).optional_text("lb_endpoint")
    url = named or (str(api.api) if api is not None and api.api is not None else None)
    backends = [bare(str(each)) for each in (api.backends or ())] if api is not None else []
    key = await o.credential()
    front = Front(
        url=None if url is None else bare(url),
        backends=tuple(dict.fromkeys(backends))[:MOST_BACKENDS],
        keyless=key if isinstance(key, Missing) else None,
    )
    credential = key if isinstance(key, Credential) else None
    return Fronting(o, check, front, credential, await o.trust(), {})


def by_key(exchanges: Sequence[Exchange]) -> dict[str, Exchange]:
    return {exchange.key: exchange for exchange in exchanges}


async def observe_lb_deployed(o: Observing) -> object:
    """The health path and the list of models through the balancer, and each backend's health."""
    at = await fronting(o, DEPLOYED)
    found: list[Exchange] = []
    if at.front.url is not None:
        async with at.unverified() as asking:
            found.append(await asking.get("health", at.health_path))
        async with at.at_front() as asking:
            found.append(await asking.get("models", MODELS, key=True))
    found += await at.each_backend("health", at.health_path)
    return LbDeployed(by_key(found), at.front, at.approaches)


async def observe_lb_cache(o: Observing) -> object:
    """Two equal prompts, the models with a right and with a wrong key, and each static asset twice and once more."""
    at = await fronting(o, CACHE)
    assets = o.params(CACHE, None).texts("static_urls")[:MOST_ASSETS]
    if at.front.url is None:
        return LbCache({}, at.front, {}, assets)
    found: list[Exchange] = []
    async with at.at_front(seconds=CHAT_SECONDS) as asking:
        body = openai.chat(at.model, "ping", max_tokens=1, temperature=0, seed=1)
        for number in (1, 2):
            # vLLM makes the answer's id of the request's, so each request needs its own.
            headers = {"X-Request-Id": f"dstui-{o.run}-{number}"}
            found.append(await asking.chat(f"post-{number}", body, headers=headers))
        found.append(await asking.get("models", MODELS, key=True))
        wrong = Credential.made_up(f"dstui-wrong-{secrets.token_hex(8)}")
        for what, query in (("models-wrong", ""), ("models-fresh", f"?dstui={secrets.token_hex(8)}")):
            found.append(await _with_key(asking, what, f"{joined(asking.url, MODELS)}{query}", wrong))
        for number, asset in enumerate(assets, 1):
            found += await _asset(asking, f"{CACHE}.static-{number}", asset)
    return LbCache(by_key(found), at.front, at.approaches, assets)


async def _with_key(asking: Asking, what: str, url: str, credential: Credential) -> Exchange:
    key = f"{asking.check}.{asking.label}.{what}"
    return await asking.caller.call(key, "GET", url, seconds=SECONDS, credential=credential, patient=True)


async def _asset(asking: Asking, key: str, asset: str) -> list[Exchange]:
    """The asset twice, and then asked whether it has changed. No key is sent: assets are for everybody."""
    parts = urlsplit(asking.url)
    url = asset if "://" in asset else f"{parts.scheme}://{parts.netloc}/{asset.lstrip('/')}"

    async def get(what: str, headers: dict[str, str] | None = None) -> Exchange:
        return await asking.caller.call(f"{key}.{what}", "GET", url, seconds=SECONDS, headers=headers, patient=True)

    first, second = await get("first"), await get("second")
    condition = {}
    if (tag := second.headers.get("etag")) is not None:
        condition["If-None-Match"] = tag
    elif (changed := second.headers.get("last-modified")) is not None:
        condition["If-Modified-Since"] = changed
    return [first, second, await get("again", condition)] if condition else [first, second]
