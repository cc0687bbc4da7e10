"""Everything that is watched of an inventory, put together: host streams, Ray's dashboard, vLLM's pages of metrics."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from dstui.facts.case import HostSite
from dstui.gather import vllm
from dstui.gather.hoststream import SOURCE as HOST_SOURCE
from dstui.gather.hoststream import HostStreams
from dstui.gather.ray_raylets import Raylets, with_gone
from dstui.inventory import Inventory
from dstui.inventory.secrets import Secret
from dstui.model import GatherError, Reason, SecretError
from dstui.redact import Redactor
from dstui.telemetry import ray
from dstui.telemetry.live_ray import host_by_address
from dstui.telemetry.ray import MetricsTarget, RaySnapshot
from dstui.telemetry.record import Record, RecordKind
from dstui.telemetry.watched import DEFAULT_INTERVALS, HOST, RAY, VLLM, Watched

if TYPE_CHECKING:
    from dstui.gather.ray import RaySource, Tunnel
    from dstui.gather.ssh import Links

NODE_PAGE_SECONDS = 5.0
"""Between two looks at a Ray node's page: Ray renews vLLM's values there every 10 s, and a page has half a megabyte."""

_TUNNELLED_URL = "http://127.0.0.1:8265"
_STOP_SECONDS = 5.0

Emit = Callable[[Record], None]


def watched_of(inventory: Inventory, *, interval: float | None = None, simulated: bool = False) -> Watched:
    """What of an inventory can be watched. `interval` is seconds between two samples of a host, 1 by default."""
    document = inventory.document
    intervals = {HOST: interval or DEFAULT_INTERVALS[HOST]}
    if dashboard_url(inventory) is not None:
        intervals[RAY] = DEFAULT_INTERVALS[RAY]
    if _asks_backends(inventory):
        intervals[VLLM] = DEFAULT_INTERVALS[VLLM]
    elif RAY in intervals:
        intervals[VLLM] = NODE_PAGE_SECONDS
    return Watched(
        cluster=document.cluster.name,
        hosts=inventory.site().hosts,
        simulated=simulated,
        intervals=intervals,
        max_num_seqs=document.engine.max_num_seqs,
    )


def dashboard_url(inventory: Inventory) -> str | None:
    """Where Ray's dashboard is; through a tunnel it is the head's own port 8265 unless the inventory says otherwise."""
    told = inventory.document.ray
    if told.dashboard_url is not None:
        return str(told.dashboard_url)
    return _TUNNELLED_URL if told.dashboard_access == "tunnel" else None


def _asks_backends(inventory: Inventory) -> bool:
    """Whether vLLM has pages of its own. Under Ray Serve the backends are Serve's proxies, which have none."""
    document = inventory.document
    backends = document.endpoints.backends if document.endpoints is not None else None
    return bool(backends) and document.serving.mode != "ray-serve"


class Sources:
    """Emits the Records of everything that is watched while `run` runs. The links belong to whoever made them.

    Raises UsageError for an interval that no collector gives. `clock` is seconds since the epoch.
    """

    def __init__(
        self,
        inventory: Inventory,
        watched: Watched,
        links: Links,
        emit: Emit,
        *,
        redactor: Redactor | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._inventory = inventory
        self._watched = watched
        self._links = links
        self._emit = emit
        self._redactor = redactor or Redactor(inventory.secrets)
        self._clock = clock
        self._names = host_by_address(watched)
        self._by_name = {host.name: host for host in watched.hosts}
        self._hosts = HostStreams(links, watched.hosts, watched.interval(HOST), self._host_said, clock=clock)
        self._answering: set[str] = set()
        self._raylets = Raylets(links, self._host_at, clock=clock)
        self._targets: tuple[MetricsTarget, ...] | None = None
        self._pages: tuple[vllm.Endpoint, ...] = ()
        self._pages_known = asyncio.Event()
        self._scraper: vllm.Scraper | None = None

    def set_interval(self, seconds: float) -> None:
        """Seconds between two samples of a host, at once. UsageError outside of 0.2 to 10."""
        self._hosts.set_interval(seconds)

    async def run(self) -> None:
        """Until it is cancelled; all streams and requests are ended then."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._hosts.run())
            if self._watched.watches(RAY):
                group.create_task(self._watch_ray())
                group.create_task(self._raylets.run(self._answering.__contains__))
            if self._watched.watches(VLLM):
                group.create_task(self._watch_vllm())

    def _host_said(self, record: Record) -> None:
        name = record.source.removeprefix(HOST_SOURCE)
        if record.kind is RecordKind.SAMPLE:
            self._answering.add(name)
        else:
            self._answering.discard(name)
        self._emit(record)

    def _host_at(self, address: str) -> HostSite | None:
        return self._by_name.get(self._names.get(address, ""))

    async def _watch_ray(self) -> None:
        source, interval = self._ray_source(), self._watched.interval(RAY)
        now = asyncio.get_running_loop().time
        try:
            while True:
                began = now()
                snapshot = await source.look()
                if snapshot.nodes is not None:
                    self._raylets.expect(snapshot.nodes)
                    snapshot = replace(snapshot, nodes=with_gone(snapshot.nodes, self._raylets.gone))
                self._emit(ray.record(snapshot))
                await self._take_targets(snapshot)
                await asyncio.sleep(max(interval / 4, began + interval - now()))
        finally:
            await asyncio.wait_for(source.aclose(), _STOP_SECONDS)

    def _ray_source(self) -> RaySource:
        from dstui.gather.ray import RaySource

        url = dashboard_url(self._inventory)
        assert url is not None
        return RaySource(
            url, token=self._ray_token, tunnel=self._tunnel(url), redact=self._redactor.text, clock=self._clock
        )

    def _tunnel(self, url: str) -> Tunnel | None:
        if self._inventory.document.ray.dashboard_access != "tunnel":
            return None
        head = self._head()
        if head is None:

            async def nowhere() -> None:
                why = "no host of the inventory has the role head, so there is none to open a tunnel to Ray through"
                raise GatherError(Reason.NO_TARGETS, why)

            return nowhere
        from dstui.gather.ray import head_tunnel

        return head_tunnel(self._links, head, url)

    def _head(self) -> HostSite | None:
        return next((host for host in self._watched.hosts if "head" in host.roles), None)

    async def _way(self, endpoint: vllm.Endpoint) -> Path | None:
        """To a node's page where Ray is looked at through tunnels: over the node's own connection, else the head's.

        A node of Ray that is no host of the inventory is reached through the head; so is one that does not forward.
        """
        parts = urlsplit(endpoint.url)
        address, port = parts.hostname or "", parts.port or 80
        hosts = [host for host in dict.fromkeys((self._host_at(address), self._head())) if host is not None]
        fault = GatherError(Reason.NO_TARGETS, f"{address} is no host of the inventory, and no host has the role head")
        for host in hosts:
            try:
                return await self._links.forward(host, address, port)
            except GatherError as error:
                fault = error
        raise fault

    def _ray_token(self) -> Secret | None:
        """Ray's token. Raises SecretError; may run a command, so it is called in a thread."""
        reference = self._inventory.document.ray.token_ref
        return None if reference is None else self._inventory.secrets.resolve(reference)

    async def _watch_vllm(self) -> None:
        if not _asks_backends(self._inventory):
            await self._pages_known.wait()
        tunnelled = self._inventory.document.ray.dashboard_access == "tunnel"
        pages, way = self._backends() or self._pages, self._way if tunnelled else None
        async with vllm.Scraper(pages, clock=self._clock, way=way) as scraper:
            self._scraper = scraper
            try:
                await scraper.run(self._emit, interval=self._watched.interval(VLLM))
            finally:
                self._scraper = None

    def _backends(self) -> tuple[vllm.Endpoint, ...]:
        endpoints = self._inventory.document.endpoints
        if endpoints is None or not _asks_backends(self._inventory):
            return ()
        return vllm.replica_endpoints([str(url) for url in endpoints.backends or ()], self._names)

    async def _take_targets(self, snapshot: RaySnapshot) -> None:
        """The pages of Ray's nodes, as Ray's service discovery names them, where vLLM has no pages of its own."""
        targets = snapshot.targets
        if targets is None or targets == self._targets or _asks_backends(self._inventory):
            return
        self._targets = targets
        self._pages = vllm.node_endpoints(self._named(targets), await self._headers())
        self._pages_known.set()
        if self._scraper is not None:
            self._scraper.endpoints = self._pages

    def _named(self, targets: Iterable[MetricsTarget]) -> list[tuple[str, str]]:
        """Name and URL of each page; a second one on the same host is called with its port."""
        found: dict[str, str] = {}
        for target in targets:
            name = self._names.get(target.ip, target.ip)
            found[name if name not in found else f"{name}:{target.port}"] = target.url
        return list(found.items())

    async def _headers(self) -> Mapping[str, str]:
        try:
            token = await asyncio.to_thread(self._ray_token)
        except SecretError:
            # The pages will say that they want one; the Ray panel says what is wrong with it.
            return {}
        return {} if token is None else {"Authorization": f"Bearer {token.reveal().strip()}"}
