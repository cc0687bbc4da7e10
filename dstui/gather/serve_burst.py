"""Sends requests at the same moment to Serve's proxy, past the load balancer, and reads which replicas took them."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from urllib.parse import urlsplit

from dstui.facts import openai, serve_burst
from dstui.facts.exchange import Exchange
from dstui.facts.raw import Missing
from dstui.facts.serve_burst import ALONE, MODELS, PREFIX, REQUEST, SINGLES, WARM_UP, Burst, Sent
from dstui.facts.serve_config import AppConfig
from dstui.gather import ray_checks
from dstui.gather.caller import Caller, Credential, joined
from dstui.gather.observing import Observing, Way
from dstui.model import GatherError, Reason
from dstui.telemetry.ray import MetricsTarget, RaySnapshot

CHAT = "/v1/chat/completions"
REQUEST_SECONDS = 60.0
"""CATALOGUE 039: timeout 60 s."""
ASK_SECONDS = 5.0
MOST_REQUESTS = 198
"""Side effect S2 is at most 200 light requests, the two single ones among them."""
SETTLE_SECONDS = 25.0
LOOK_AGAIN_SECONDS = 2.0
"""Ray sends the counters of its processes every 10 s by default, and the page may be 10 s older still."""
PAGE_LIMIT = 8 << 20
MOST_PAGES = 64

_PROMPT = "Request {nonce}. Count upwards from one, a number in each line, and do not stop: 1 2 3"


async def observe_serve_concurrency(o: Observing) -> Burst:
    """One request to warm up, one alone, then `n` at once with a code in each; then the replicas' own counters."""
    params = o.params("vllm.serve-concurrency", None)
    url = _endpoint(o)
    nothing = Burst({}, url, None, None, None, (), (), None, Missing(Reason.NOT_RUN, "no burst was made"))
    if url is None:
        return replace(nothing, not_made=Missing(Reason.NO_TARGETS, "endpoints.serve is not set"))
    key = await o.credential()
    credential = key if isinstance(key, Credential) else None
    way = await o.way_to(url)
    count = min(params.count("n"), MOST_REQUESTS)
    serve = await _ServeView.open(o)
    async with o.caller(seconds=REQUEST_SECONDS, connections=count + 2, through=way) as caller:
        asking = _Asking(caller, url, await _model(o, caller, url, credential), credential, params.count("max_tokens"))
        found = {} if asking.model.exchange is None else {asking.model.exchange.key: asking.model.exchange}
        sent: list[Sent] = []
        not_made, before = asking.model.missing, None
        if not_made is None:
            # Ray's counters come seconds late, so those that are not of the burst would be counted with it anyway.
            before = await serve.counts()
            for name in (WARM_UP, ALONE):
                o.told(f"{url}: {name}")
                single, exchange = await asking.one(name, time.monotonic())
                found[exchange.key] = exchange
                not_made = serve_burst.answered(exchange, single).fault
                if not_made is not None:
                    break
        if not_made is None:
            o.told(f"{url}: {count} requests")
            made = await asking.burst(count)
            found |= {exchange.key: exchange for _, exchange in made}
            sent = [one for one, _ in made]
    spread = await serve.spread(before, len(sent) + SINGLES) if before is not None and sent else nothing.spread
    return Burst(
        by_key=found,
        url=url,
        via=way.via,
        keyless=key if isinstance(key, Missing) else None,
        not_made=not_made,
        sent=tuple(sent),
        configs=serve.configs,
        replicas=serve.replicas,
        spread=spread,
    )


def _endpoint(o: Observing) -> str | None:
    """Serve's proxy; without Serve the first backend."""
    params, endpoints = o.params("vllm.serve-concurrency", None), o.inventory.document.endpoints
    named = params.optional_text("endpoint")
    if named is None and params.text("serving_mode") != "ray-serve" and endpoints is not None and endpoints.backends:
        named = str(endpoints.backends[0])
    if named is None:
        return None
    parts = urlsplit(named)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2], query="", fragment="").geturl().rstrip("/")


@dataclass(frozen=True, slots=True)
class _Model:
    """The model to ask for, or why it is not known; the exchange that told it."""

    name: str
    exchange: Exchange | None
    missing: Missing | None = None


async def _model(o: Observing, caller: Caller, url: str, credential: Credential | None) -> _Model:
    """The inventory's, else the first one listed."""
    params = o.params("vllm.serve-concurrency", None)
    exchange = await caller.call(
        PREFIX + MODELS, "GET", joined(url, "/v1/models"), seconds=ASK_SECONDS, credential=credential, patient=True
    )
    if exchange.missing is not None:
        return _Model("", exchange, exchange.missing)
    if params.origin("model_served_name") != "document":
        return _Model(params.text("model_served_name"), exchange)
    value = exchange.json()
    cards = value if isinstance(value, Missing) else openai.models(value)
    if isinstance(cards, Missing) or not cards:
        why = cards if isinstance(cards, Missing) else Missing(Reason.CANNOT_TELL, f"{exchange.url} lists no model")
        reason = Reason.NO_CREDENTIAL if exchange.status in (401, 403) else why.reason
        return _Model("", exchange, Missing(reason, why.why))
    return _Model(cards[0].id, exchange)


@dataclass(frozen=True, slots=True)
class _Asking:
    caller: Caller
    url: str
    model: _Model
    credential: Credential | None
    max_tokens: int

    async def one(self, name: str, zero: float) -> tuple[Sent, Exchange]:
        """One streamed chat answer; its text differs from the first word on, so that no cache of prefixes helps."""
        sent = Sent(PREFIX + name, time.monotonic() - zero, secrets.token_hex(6))
        body = openai.chat(
            self.model.name,
            _PROMPT.format(nonce=sent.nonce),
            max_tokens=self.max_tokens,
            temperature=0,
            stream=True,
            stream_options={"include_usage": True},
        )
        exchange = await self.caller.call(
            sent.key, "POST", joined(self.url, CHAT), seconds=REQUEST_SECONDS, credential=self.credential, data=body
        )
        return sent, exchange

    async def burst(self, count: int) -> list[tuple[Sent, Exchange]]:
        zero = time.monotonic()
        return list(await asyncio.gather(*(self.one(f"{REQUEST}{number:02}", zero) for number in range(1, count + 1))))


@dataclass(slots=True)
class _ServeView:
    """What Ray says of the application, and where its replicas' counters are. Without Serve nothing of it is known."""

    o: Observing
    configs: tuple[AppConfig, ...] = ()
    replicas: tuple[str, ...] | None = None
    pages: tuple[MetricsTarget, ...] = ()
    token: Credential | None = None
    missing: Missing | None = None

    @classmethod
    async def open(cls, o: Observing) -> _ServeView:
        params = o.params("vllm.serve-concurrency", None)
        view = cls(o)
        if params.text("serving_mode") != "ray-serve":
            view.missing = Missing(Reason.NOT_RUN, "Ray Serve does not run the model")
            return view
        look = await ray_checks.look_at(o, ("version", "nodes", "serve", "targets"))
        name = params.optional_text("serving_app_name")
        view.configs = tuple(app for app in look.configs or () if name is None or app.name == name)
        token = await ray_checks.token_of(o)
        view.token = token if isinstance(token, Credential) else None
        if look.snapshot.serve is None:
            view.missing = look.why_not("serve")
            return view
        view.replicas, nodes = _running(look.snapshot, view.configs)
        view.pages = tuple(t for t in look.snapshot.targets or () if t.node_id in nodes)[:MOST_PAGES]
        if not view.pages:
            view.missing = Missing(Reason.CANNOT_TELL, "Ray does not tell where its replicas' metrics are")
        return view

    async def counts(self) -> dict[str, float] | Missing:
        """Requests so far by replica."""
        if self.missing is not None:
            return self.missing
        wanted = {(app.name, each.name): None for app in self.configs for each in app.engine_deployments}
        found: dict[str, float] = {}
        for page in self.pages:
            exchange = await self._page(page)
            if exchange.missing is not None or exchange.status != 200:
                return exchange.missing or Missing(Reason.CANNOT_TELL, f"{page.url}: HTTP {exchange.status}")
            for replica, count in serve_burst.request_counts(exchange.body, wanted).items():
                found[replica] = found.get(replica, 0.0) + count
        return found

    async def _page(self, page: MetricsTarget) -> Exchange:
        try:
            way = await self._way(page)
            async with self.o.caller(seconds=ASK_SECONDS, connections=2, through=way) as caller:
                return await caller.call(
                    f"{PREFIX}metrics", "GET", page.url, seconds=ASK_SECONDS, credential=self.token, limit=PAGE_LIMIT
                )
        except GatherError as error:
            missing = Missing(error.reason, str(error))
            return Exchange(f"{PREFIX}metrics", "GET", page.url, page.url, missing=missing)

    async def _way(self, page: MetricsTarget) -> Way:
        """Over the node's own connection where there is one: its port is closed to the outside."""
        host = next((h for h in self.o.site.hosts if page.ip in (h.data_ip, h.mgmt_ip, h.address)), None)
        if host is not None and self.o.forward is not None and host.name in self.o.links:
            socket = await self.o.forward(host, page.ip, page.port)
            return Way(None if socket is None else host.name, socket)
        return await self.o.way_to(page.url)

    async def spread(self, before: Mapping[str, float] | Missing, sent: int) -> Mapping[str, int] | Missing:
        """Requests of the burst by replica, once all of them are counted or the counters have had their time."""
        if isinstance(before, Missing):
            return before
        end = time.monotonic() + SETTLE_SECONDS
        while True:
            now = await self.counts()
            if isinstance(now, Missing):
                return now
            grown = {replica: round(count - before.get(replica, 0.0)) for replica, count in now.items()}
            taken = {replica: count for replica, count in grown.items() if count > 0}
            if sum(taken.values()) >= sent or (self.replicas is not None and len(self.replicas) < 2):
                return taken
            if time.monotonic() >= end:
                return taken or Missing(Reason.TIMEOUT, f"no counter moved within {SETTLE_SECONDS:g} s")
            self.o.told("the replicas' counters")
            await asyncio.sleep(LOOK_AGAIN_SECONDS)


def _running(snapshot: RaySnapshot, configs: tuple[AppConfig, ...]) -> tuple[tuple[str, ...], set[str]]:
    """Running replicas of the model's deployments, and the ids of the nodes that they are on."""
    wanted = {(app.name, each.name) for app in configs for each in app.engine_deployments}
    replicas = [
        replica
        for app in (snapshot.serve.applications if snapshot.serve else ())
        for deployment in app.deployments
        for replica in deployment.replicas
        if (app.name, deployment.name) in wanted and replica.state == "RUNNING"
    ]
    return tuple(r.replica_id for r in replicas), {r.node_id for r in replicas if r.node_id is not None}
