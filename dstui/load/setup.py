"""A ladder for a cluster: planned by inventory and catalogue, run over its links, one at a time."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import hashlib
import os
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

from dstui.facts.case import HostSite, Params, Site
from dstui.inventory import Inventory
from dstui.load.access import Access, access
from dstui.load.conversations import conversations
from dstui.load.ladder import Ladder, Lengths, Loop, Phases, Prompts, Stage, StageKind
from dstui.load.local import LoadError, Worker, local_workers
from dstui.load.opening_hours import opens
from dstui.load.options import LadderOptions
from dstui.load.runner import Emit, Means, Runner
from dstui.model import GatherError, SecretError, UsageError

if TYPE_CHECKING:
    from dstui.gather.ssh import Links
    from dstui.telemetry.feed import LiveFeed
    from dstui.telemetry.watched import Watched

DIRECT_REQUESTS = 10
"""CATALOGUE 055: 10 of them at a backend, past the load balancer."""
SINGLE_SECONDS = 180.0
MOST_USERS = 20_000
RAY = "ray:"
_LONGEST_SECONDS = 86_400.0


@dataclass(slots=True)
class LoadSetup:
    """What the engine has ladders planned and run with. `feed` is what watches the cluster, made when there is none."""

    inventory: Inventory
    site: Site
    params: Callable[[str, str | None], Params]
    links: Links
    make_feed: Callable[[], LiveFeed]
    feed: LiveFeed | None = None
    clock: Callable[[], float] = time.time
    phases: Phases = field(default_factory=Phases)
    """Where nobody says otherwise."""

    def watch(self) -> LiveFeed:
        """Makes what watches the cluster, and remembers it, so that a ladder looks through the same eyes."""
        self.feed = self.make_feed()
        return self.feed

    def ladder_of(self, options: LadderOptions | None = None) -> Ladder:
        """The ladder that inventory, catalogue and options give. Raises UsageError in an operator's words."""
        given = options or LadderOptions()
        endpoints = self.inventory.document.endpoints
        url = given.url or (str(endpoints.api) if endpoints is not None else None)
        if url is None:
            raise UsageError("no address to put under load: set endpoints.api in the inventory")
        access(url)
        model = given.model or self.params("api.started", None).text("model_served_name")
        levels = given.levels or self.params("perf.concurrent-users", None).counts("levels")
        stages = (*self._single(given), *_levels(levels, given), *self._batch(given))
        slo = self.inventory.document.slo.ttft_p95_s
        ladder = Ladder(
            url=url,
            model=model,
            stages=stages,
            prompts=_prompts(given),
            phases=_phases(given, self.phases),
            loop=given.loop,
            workers=given.workers,
            engine=given.engine,
            think=given.think if given.think is not None else self._think(),
            request_timeout=given.timeout or 300.0,
            seed=given.seed,
            slo_ttft=slo,
        )
        self._allow(ladder)
        return ladder

    def runner(self, ladder: Ladder, *, search: bool = False) -> Runner:
        """A run of it. Raises UsageError for an engine that is none, or a file of prompts that cannot be read.

        With `search` the most users are looked for, up to `load.max_users`.
        """
        if search and ladder.slo_ttft is None:
            raise UsageError("a search needs an objective: set slo.ttft_p95_s in the inventory")
        file = ladder.prompts.file
        said = conversations(Path(file)) if file is not None else ()
        return Runner(
            ladder,
            Means(
                workers=self._workers_of(ladder),
                # Ray's nodes are inside already, and a tunnel's near end is here.
                access=partial(self._access, tunnel=ladder.engine == "local"),
                records=self._records,
                once=lambda: self._once(ladder.url),
                watched=self._watched(),
                conversations=said,
                clock=self.clock,
                simulated=self.site.simulated,
            ),
            self._most_users() if search else 0,
        )

    def _think(self) -> float:
        return self.params("perf.concurrent-users", None).number("think_time_s")

    def _single(self, given: LadderOptions) -> Sequence[Stage]:
        """One user at the public endpoint, and at the first backend where there is another address."""
        if not given.single:
            return ()
        params, endpoints = self.params("perf.single-user-latency", None), self.inventory.document.endpoints
        prompts = Prompts(
            Lengths(params.count("prompt_tokens")), Lengths(params.count("short_tokens")),
            fresh=given.fresh, fixed=given.fixed,
        )  # fmt: skip
        one = Stage(StageKind.SINGLE, 1, requests=params.count("samples"), prompts=prompts, window=SINGLE_SECONDS)
        backends = (endpoints.backends or ()) if endpoints is not None else ()
        if not backends or given.url is not None:
            return (one,)
        direct = replace(one, kind=StageKind.DIRECT, requests=DIRECT_REQUESTS, url=str(backends[0]))
        return one, direct

    def _batch(self, given: LadderOptions) -> Sequence[Stage]:
        """Slightly more users than all replicas batch; without max_num_seqs nobody knows how many that are.

        Not where `load.max_users` does not allow so many: fewer would not fill the batch.
        """
        limit, replicas = self.inventory.document.engine.max_num_seqs, self.inventory.document.serving.replicas
        endpoints = self.inventory.document.endpoints
        count = replicas or len((endpoints.backends or ()) if endpoints is not None else ()) or 1
        if not given.batch or limit is None or given.rates:
            return ()
        params = self.params("perf.max-batch", None)
        users = round(params.number("users_factor") * limit * count)
        if users > self._most_users():
            return ()
        # A limit that held for hold_s must have been reached before.
        return (Stage(StageKind.BATCH, users, window=2 * params.number("hold_s")),)

    def _most_users(self) -> int:
        return min(self.inventory.document.load.max_users or MOST_USERS, MOST_USERS)

    def _allow(self, ladder: Ladder) -> None:
        allowed = self._most_users()
        above = [stage for stage in ladder.stages if stage.users > allowed]
        if above:
            raise UsageError(
                f"{above[0].users} users: load.max_users of the inventory allows {allowed}; choose fewer (--levels)"
            )
        windows = self.inventory.document.load.windows or ()
        if windows and self.site.environment == "production":
            zone, now = self.inventory.cluster.timezone, self.clock()
            found = opens(windows, zone, now)
            if found is None or found[0] > now:
                when = "" if found is None else datetime.fromtimestamp(found[0], ZoneInfo(zone)).strftime(
                    ": the next opens on %a %Y-%m-%d at %H:%M %Z"
                )  # fmt: skip
                raise UsageError(f"no window for load is open (load.windows: {', '.join(windows)}){when}")
            if now + ladder.seconds > found[1]:
                left = (found[1] - now) / 60
                raise UsageError(
                    f"the ladder takes about {ladder.seconds / 60:.0f} min, and the window for load closes in "
                    f"{left:.0f} min; choose fewer levels or a shorter window"
                )

    async def _access(self, url: str, *, tunnel: bool) -> Access:
        """With the key of `load.key_ref`, else `auth.key_ref`; through a host where the address is closed to us."""
        document = self.inventory.document
        reference = document.load.key_ref or document.auth.key_ref
        key = ""
        if reference is not None:
            try:
                secret = await asyncio.to_thread(self.inventory.secrets.resolve, reference)
            except SecretError as error:
                raise LoadError(f"the API key cannot be had: {error}") from error
            key = secret.reveal().strip()
        here = access(url, key=key, ca=await asyncio.to_thread(self._ca))
        return replace(here, socket=await self._tunnel(here) if tunnel else "")

    def _ca(self) -> str:
        bundle = self.inventory.document.lb.ca_bundle
        if bundle in (None, "system"):
            return ""
        try:
            return Path(str(bundle)).read_text("ascii")
        except (OSError, UnicodeDecodeError) as error:
            raise LoadError(f"lb.ca_bundle {bundle}: {error}") from error

    async def _tunnel(self, here: Access) -> str:
        """The near end of a tunnel where the address takes no connection from here; empty where it does, or nobody."""
        from dstui.gather.observing import connects

        if await connects(here.host, here.port):
            return ""
        for host in self._gateways(here.host):
            try:
                path = await self.links.forward(host, here.host, here.port)
            except GatherError:
                continue
            if path is not None:
                return str(path)
        return ""

    def _gateways(self, address: str) -> Sequence[HostSite]:
        """Hosts that may be let through: the one that has the address, the load balancers, the head."""
        hosts = [host for host in self.site.hosts if not host.local]
        wanted = [
            *(h for h in hosts if address in (h.data_ip, h.mgmt_ip, h.address, h.name)),
            *(h for h in hosts if h.name in self.site.balancers),
            *(h for h in hosts if "head" in h.roles),
        ]
        return list({host.name: host for host in wanted}.values())[:3]

    def _workers_of(self, ladder: Ladder) -> Callable[[], Awaitable[Sequence[Worker]]]:
        if ladder.engine == "local":
            return lambda: local_workers(ladder.workers)
        name = ladder.engine.removeprefix(RAY) if ladder.engine.startswith(RAY) else None
        host = next((each for each in self.site.hosts if each.name == name), None)
        if host is None:
            known = ", ".join(each.name for each in self.site.hosts)
            raise UsageError(f"--engine {ladder.engine}: write local, or ray:HOST with a Ray host of: {known}")
        from dstui.load.ray import ray_workers

        python = self.site.runtime_python or "python3"
        return lambda: ray_workers(self.links, host, python, ladder.workers)

    def _watched(self) -> Watched:
        from dstui.telemetry.sources import watched_of

        return watched_of(self.inventory, simulated=self.site.simulated)

    @asynccontextmanager
    async def _records(self, emit: Emit) -> AsyncIterator[None]:
        """Of what watches already, or of something that watches for as long as the ladder runs."""
        running = self.feed if self.feed is not None and self.feed.running else None
        feed = running or self.make_feed()
        own = None if running is not None else asyncio.create_task(feed.run())
        with feed.tapped(emit):
            try:
                yield
            finally:
                if own is not None:
                    own.cancel()
                    await asyncio.gather(own, return_exceptions=True)

    @asynccontextmanager
    async def _once(self, url: str) -> AsyncIterator[None]:
        """Two ladders against one address at once would measure each other. Raises UsageError."""
        name = hashlib.sha256(url.encode()).hexdigest()[:16]
        place = Path(tempfile.gettempdir()) / f"dstui-ladder-{os.getuid()}-{name}.lock"
        descriptor = os.open(place, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(descriptor)
            raise UsageError(f"a ladder on {url} is under way on this machine; wait for it or stop it") from None
        try:
            yield
        finally:
            with contextlib.suppress(OSError):
                place.unlink()
            os.close(descriptor)


def _levels(levels: Sequence[int], given: LadderOptions) -> Sequence[Stage]:
    if given.rates:
        if given.loop is Loop.CLOSED:
            raise UsageError("rates of requests need an open loop: --loop poisson or constant")
        most = max(levels)
        return [Stage(StageKind.LEVEL, most, rate=rate) for rate in sorted(set(given.rates))]
    if given.loop is not Loop.CLOSED:
        raise UsageError(f"an open loop ({given.loop}) needs rates of requests: --rates 1,2,5")
    if not levels or min(levels) < 1:
        raise UsageError("levels are numbers of users, from 1")
    return [Stage(StageKind.LEVEL, users) for users in sorted(set(levels))]


def _prompts(given: LadderOptions) -> Prompts:
    usual = Prompts()
    return Prompts(
        tokens_in=usual.tokens_in if given.tokens_in is None else Lengths(given.tokens_in, usual.tokens_in.spread),
        tokens_out=usual.tokens_out if given.tokens_out is None else Lengths(given.tokens_out),
        fresh=given.fresh,
        fixed=given.fixed,
        turns=given.turns,
        file=None if given.file is None else str(given.file),
    )


def _phases(given: LadderOptions, usual: Phases) -> Phases:
    told = {name: getattr(given, name) for name in ("ramp", "warm", "window", "drain", "pause")}
    for name, value in told.items():
        if value is not None and not 0 <= value <= _LONGEST_SECONDS:
            raise UsageError(f"--{name} {value:g}: seconds, from 0 to {_LONGEST_SECONDS:g}")
    if told["window"] == 0:
        raise UsageError("--window 0: there would be nothing to measure")
    return replace(usual, **{name: value for name, value in told.items() if value is not None})
