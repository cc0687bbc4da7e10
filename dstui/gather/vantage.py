"""The view from outside the hosts: which of their ports answer the machine that dstui runs on (CATALOGUE 023)."""

from __future__ import annotations

import asyncio
import errno
import ipaddress
import socket
from collections.abc import Iterable, Mapping, Sequence

from dstui.facts.case import HostSite, Site
from dstui.facts.choreography import VantageReach

AT_ONCE = 128
HOST_SECONDS = 30.0
_UNREACHABLE = (errno.EHOSTUNREACH, errno.ENETUNREACH, errno.EHOSTDOWN)
_WORST_FIRST = ("ok", "error", "refused", "timeout", "unreach")
"""Open is open on any address; and where one could not be looked at, the others prove nothing."""


async def vantage_reach(
    site: Site,
    ports_by_host: Mapping[str, Sequence[int]],
    *,
    timeout: float,  # noqa: ASYNC109 - of each connect, not of this call
    cluster_cidrs: Sequence[str],
) -> VantageReach:
    """Connect from here to each host's data and management address, `timeout` seconds each, 128 at once.

    A port counts as the worst of what its addresses showed. A host that took longer than 30 s in all, and the
    local host, which cannot be seen from outside from here, have no outcomes. `inside` when this machine has an
    address in the cluster's networks, when it is one of Ray's hosts, or when its address cannot be told.
    """
    gate = asyncio.Semaphore(AT_ONCE)
    hosts = [host for host in site.hosts if ports_by_host.get(host.name) and not host.local]
    async with asyncio.TaskGroup() as group:
        tasks = {
            host.name: group.create_task(_reached(_addresses(host), ports_by_host[host.name], timeout, gate))
            for host in hosts
        }
    outcomes = {name: task.result() for name, task in tasks.items()}
    seen_from = [address for host in site.hosts if not host.local if (address := _own_address(host.data_ip))]
    among_them = any(host.local and host.in_ray for host in site.hosts)
    inside = among_them or not seen_from or any(_within(address, cluster_cidrs) for address in seen_from)
    return VantageReach(
        vantage="controller",
        address=seen_from[0] if seen_from else None,
        inside=inside,
        outcomes={name: found for name, found in outcomes.items() if found is not None},
    )


def _addresses(host: HostSite) -> tuple[str, ...]:
    return tuple(dict.fromkeys(address for address in (host.data_ip, host.mgmt_ip) if address))


async def _reached(
    addresses: Iterable[str], ports: Sequence[int], seconds: float, gate: asyncio.Semaphore
) -> dict[int, str] | None:
    async def best(port: int) -> str:
        found = [await _connect(address, port, seconds, gate) for address in addresses]
        return min(found, key=_WORST_FIRST.index)

    wanted = list(dict.fromkeys(ports))
    try:
        async with asyncio.timeout(HOST_SECONDS):
            return dict(zip(wanted, await asyncio.gather(*(best(port) for port in wanted)), strict=True))
    except TimeoutError:
        return None


async def _connect(address: str, port: int, seconds: float, gate: asyncio.Semaphore) -> str:
    async with gate:
        try:
            async with asyncio.timeout(seconds):
                _, writer = await asyncio.open_connection(address, port)
        except ConnectionRefusedError:
            return "refused"
        except TimeoutError:
            return "timeout"
        except OSError as error:
            return "unreach" if error.errno in _UNREACHABLE else "error"
        writer.transport.abort()
        return "ok"


def _own_address(target: str) -> str | None:
    """The address that this machine would use to reach `target`; connecting UDP sends nothing."""
    try:
        version = ipaddress.ip_address(target).version
        with socket.socket(socket.AF_INET if version == 4 else socket.AF_INET6, socket.SOCK_DGRAM) as sock:
            sock.connect((target, 9))
            return str(sock.getsockname()[0])
    except (OSError, ValueError):
        return None


def _within(address: str, networks: Sequence[str]) -> bool:
    own = ipaddress.ip_address(address)
    return any(own in ipaddress.ip_network(network, strict=False) for network in networks)
