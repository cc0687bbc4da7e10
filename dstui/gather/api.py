"""The endpoints of the API, how they are got to, and the first look at them: `observe_api_started`."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from dstui.facts.api import ApiStarted, Approach, Endpoint, endpoints
from dstui.facts.exchange import Exchange
from dstui.facts.openai import chat
from dstui.facts.raw import Missing
from dstui.gather.caller import Caller, Credential, joined
from dstui.gather.observing import Observing, Way

AT_ONCE = 8
"""Endpoints that are asked at the same time."""
MODELS, CHAT, VERSION = "/v1/models", "/v1/chat/completions", "/version"
STARTED_SECONDS = 5.0
"""CATALOGUE 040: timeout 5 s."""


@dataclass(frozen=True, slots=True)
class Asking:
    """One endpoint being asked for one check."""

    o: Observing
    check: str
    endpoint: Endpoint
    caller: Caller
    credential: Credential | None

    async def get(
        self, what: str, path: str, *, seconds: float, credential: Credential | None = None, patient: bool = True
    ) -> Exchange:
        return await self.send(what, "GET", path, seconds=seconds, credential=credential, patient=patient)

    async def send(
        self,
        what: str,
        method: str,
        path: str,
        *,
        seconds: float,
        credential: Credential | None = None,
        data: object = None,
        patient: bool = True,
    ) -> Exchange:
        """A request with the check's evidence key; asked again when a rate limiter says so."""
        return await self.caller.call(
            self.endpoint.key(self.check, what),
            method,
            joined(self.endpoint.url, path),
            seconds=seconds,
            credential=credential,
            data=data,
            patient=patient,
        )

    @property
    def model(self) -> str:
        return served_name(self.o)

    async def one_token(self, what: str, *, seconds: float, credential: Credential | None) -> Exchange:
        """One token from the chat endpoint."""
        body = chat(self.model, "ping", max_tokens=1, temperature=0)
        return await self.send(what, "POST", CHAT, seconds=seconds, credential=credential, data=body)


Work = Callable[[Asking], Awaitable[Sequence[Exchange]]]


@dataclass(frozen=True, slots=True)
class Asked:
    """What came of asking: the parts of an `EndpointExchanges`."""

    by_key: dict[str, Exchange]
    endpoints: tuple[Endpoint, ...]
    approaches: dict[str, Approach]
    keyless: Missing | None


def endpoints_of(o: Observing) -> tuple[Endpoint, ...]:
    """The public endpoint and the backends, as the parameters of `api.started` have them."""
    params = o.params("api.started", None)
    return endpoints(params.optional_text("endpoints_api"), params.texts("endpoints_backends"))


def served_name(o: Observing) -> str:
    """The model that requests are for."""
    return o.params("api.started", None).text("model_served_name")


async def ask_each(o: Observing, check: str, work: Work, *, public_only: bool = False, connections: int = 10) -> Asked:
    """Do the work at every endpoint, some at a time. The public one is asked from here, as its users do.

    Raises GatherError when the CA bundle cannot be read.
    """
    asked = tuple(e for e in endpoints_of(o) if e.public or not public_only)
    key = await o.credential() if asked else None
    trust = await o.trust()
    gate = asyncio.Semaphore(AT_ONCE)
    found: dict[str, list[Exchange]] = {endpoint.label: [] for endpoint in asked}
    approaches: dict[str, Approach] = {}

    async def one(endpoint: Endpoint) -> None:
        async with gate:
            o.told(endpoint.url)
            way = Way() if endpoint.public else await o.way_to(endpoint.url)
            approaches[endpoint.label] = Approach(way.via, way.inside)
            async with o.caller(through=way, connections=connections, trust=trust) as caller:
                credential = key if isinstance(key, Credential) else None
                found[endpoint.label] += await work(Asking(o, check, endpoint, caller, credential))

    async with asyncio.TaskGroup() as tasks:
        for endpoint in asked:
            tasks.create_task(one(endpoint))
    return Asked(
        by_key={exchange.key: exchange for endpoint in asked for exchange in found[endpoint.label]},
        endpoints=asked,
        approaches=approaches,
        keyless=key if isinstance(key, Missing) else None,
    )


async def observe_api_started(o: Observing) -> object:
    """`GET /v1/models` with the key and `GET /version` at every endpoint."""

    async def work(asking: Asking) -> Sequence[Exchange]:
        return (
            await asking.get("models", MODELS, seconds=STARTED_SECONDS, credential=asking.credential),
            await asking.get("version", VERSION, seconds=STARTED_SECONDS),
        )

    asked = await ask_each(o, "api.started", work)
    return ApiStarted(asked.by_key, asked.endpoints, asked.approaches, asked.keyless)
