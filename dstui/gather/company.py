"""Hosts that do something together: who takes part, who drops out and why, and cleaning up after them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping
from dataclasses import dataclass
from typing import TypeVar

from dstui.facts.case import HostSite, Site
from dstui.facts.raw import Missing
from dstui.gather.link import HostLink
from dstui.model import GatherError, Reason

T = TypeVar("T")

CLEAN_SECONDS = 5.0


@dataclass(slots=True)
class Company:
    """The hosts that take part, and the holes: those that do not, or no longer."""

    hosts: tuple[HostSite, ...]
    links: Mapping[str, HostLink]
    missing: dict[str, Missing]

    @classmethod
    def of(cls, site: Site, links: Mapping[str, HostLink], missing: Mapping[str, Missing]) -> Company:
        """Ray's hosts: the document asks for ports and shared storage of the nodes, not of the load balancer."""
        hosts = tuple(host for host in site.hosts if host.in_ray)
        holes = {host.name: missing[host.name] for host in hosts if host.name in missing}
        for host in hosts:
            if host.name not in links and host.name not in holes:
                holes[host.name] = Missing(Reason.NOT_RUN, f"{host.name}: was not connected in this run")
        return cls(hosts, links, holes)

    @property
    def present(self) -> tuple[HostSite, ...]:
        return tuple(host for host in self.hosts if host.name not in self.missing)

    def hole(self, host: str, reason: Reason, why: str) -> None:
        """The host drops out; the first reason stays."""
        self.missing.setdefault(host, Missing(reason, f"{host}: {why}"))

    async def ask(self, host: str, verb: str, within: float, /, **args: object) -> Mapping[str, object] | None:
        """The answer, or None and a hole when it has not come `within` seconds or says no."""
        try:
            return await self.links[host].call(verb, timeout=within, **args)
        except GatherError as error:
            self.missing.setdefault(host, Missing(error.reason, str(error)))
            return None

    async def tidy(self, host: str, verb: str, /, **args: object) -> bool:
        """Ask for a clean-up; whether the host did it. A link that is gone has already made the host do so."""
        try:
            await self.links[host].call(verb, timeout=CLEAN_SECONDS, **args)
        except GatherError:
            return False
        return True

    async def each(self, hosts: Iterable[HostSite], task: Callable[[HostSite], Coroutine[None, None, T]]) -> list[T]:
        """One task per host, all at once; all are gone when this returns or is cancelled."""
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(task(host)) for host in hosts]
        return [done.result() for done in tasks]


async def cleaned(cleaning: Awaitable[object]) -> None:
    """Wait for a clean-up, but not long: a host that is gone closes its listeners and removes its files by itself."""
    try:
        async with asyncio.timeout(CLEAN_SECONDS):
            await cleaning
    except TimeoutError:
        pass
