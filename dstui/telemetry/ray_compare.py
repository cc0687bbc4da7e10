"""Ray beside the inventory and beside NVML: who is missing, who is a stranger, and three GPU counts that must agree."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from dstui.facts.case import HostSite, Site
from dstui.model import Text
from dstui.telemetry.ray import ALIVE, DEAD, RayNode, RaySnapshot


class Joined(StrEnum):
    """What Ray knows of an inventory host. TWICE: two raylets at once on one machine. UNCLEAR: a state new to dstui."""

    ALIVE = "alive"
    DEAD = "dead"
    ABSENT = "absent"
    TWICE = "twice"
    UNCLEAR = "unclear"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class GpuCounts:
    """How many GPUs Ray counts, the inventory declares and NVML finds. None: not known, which agrees with nothing.

    A host that is declared to have none counts 0 for NVML unless NVML was asked there and found some.
    """

    ray: float | None
    inventory: int | None
    nvml: int | None

    @property
    def agree(self) -> bool | None:
        """False when two known numbers differ; True when all three are known and equal; else it cannot be told."""
        known = [count for count in (self.ray, self.inventory, self.nvml) if count is not None]
        if len(set(known)) > 1:
            return False
        return True if len(known) == 3 else None


@dataclass(frozen=True, slots=True)
class HostInRay:
    """One inventory host. `expected` says whether it should be in Ray; `node` is its ALIVE row, else the latest.

    `wrong_address` is where it joined when that is not its data_ip. `deaths` counts its DEAD rows.
    """

    host: str
    expected: bool
    joined: Joined
    node: RayNode | None
    deaths: int
    wrong_address: str | None
    gpus: GpuCounts


@dataclass(frozen=True, slots=True)
class RayComparison:
    """All inventory hosts that should be or are in Ray, and the nodes that are alive and belong to none of them."""

    hosts: tuple[HostInRay, ...]
    strangers: tuple[RayNode, ...]
    gpus: GpuCounts
    complete: bool
    """False when Ray's list may lack rows; then an absent host is UNKNOWN."""

    @property
    def expected(self) -> tuple[HostInRay, ...]:
        return tuple(host for host in self.hosts if host.expected)

    @property
    def alive(self) -> int:
        """How many of the expected hosts are alive."""
        return sum(host.joined in (Joined.ALIVE, Joined.TWICE) for host in self.expected)


def compare(
    snapshot: RaySnapshot,
    site: Site,
    nvml: Mapping[str, int | None],
    addresses: Mapping[str, frozenset[str]] | None = None,
) -> RayComparison:
    """`nvml` is the number of GPUs that NVML found, by host; `addresses` are all addresses a host is known to have.

    With nodes unknown every expected host is UNKNOWN, and no stranger is named.
    """
    owners = _Owners(site, addresses or {})
    rows: dict[str, list[RayNode]] = {}
    strangers: list[RayNode] = []
    for node in snapshot.nodes or ():
        host = owners.of(node)
        if host is not None:
            rows.setdefault(host, []).append(node)
        elif node.alive:
            strangers.append(node)
    complete = snapshot.nodes is not None and not any(fault.section == "nodes" for fault in snapshot.faults)
    wanted = [host for host in site.hosts if host.in_ray or any(node.alive for node in rows.get(host.name, ()))]
    hosts = tuple(_host(host, rows.get(host.name, []), nvml.get(host.name), complete) for host in wanted)
    total = snapshot.total
    declared = [_declared(host) for host in site.hosts if host.in_ray]
    found = [nvml.get(host.name) if host.gpu else 0 for host in site.hosts if host.in_ray]
    gpus = GpuCounts(total.gpu if total is not None else None, _whole(declared), _whole(found))
    return RayComparison(hosts, tuple(strangers), gpus, complete)


def _host(host: HostSite, rows: list[RayNode], nvml: int | None, complete: bool) -> HostInRay:
    alive = [node for node in rows if node.alive]
    latest = max(alive or rows, key=lambda node: (node.started_at or 0.0, node.ended_at or 0.0), default=None)
    wrong = next((node.ip for node in alive if node.ip is not None and node.ip != host.data_ip), None)
    ray: float | None = None
    if alive:
        counted = [node.total.gpu for node in alive]
        ray = None if None in counted else sum(count for count in counted if count is not None)
    elif complete and all(node.state == DEAD for node in rows):
        ray = 0.0
    return HostInRay(
        host=host.name,
        expected=host.in_ray,
        joined=_joined(rows, len(alive), complete),
        node=latest,
        deaths=sum(node.state == DEAD for node in rows),
        wrong_address=wrong,
        gpus=GpuCounts(ray, _declared(host), nvml if host.gpu else nvml or 0),
    )


def _joined(rows: list[RayNode], alive: int, complete: bool) -> Joined:
    if alive:
        return Joined.ALIVE if alive == 1 else Joined.TWICE
    if any(node.state != DEAD for node in rows):
        return Joined.UNCLEAR
    if not complete:
        return Joined.UNKNOWN
    return Joined.DEAD if rows else Joined.ABSENT


def _declared(host: HostSite) -> int | None:
    return host.gpus_per_host if host.gpu else 0


def _whole(counts: list[int | None]) -> int | None:
    known = [count for count in counts if count is not None]
    return sum(known) if counts and len(known) == len(counts) else None


class _Owners:
    """Which inventory host a node is: by its address, else by its name when the address is nobody's."""

    def __init__(self, site: Site, addresses: Mapping[str, frozenset[str]]) -> None:
        self._by_ip: dict[str, str] = {}
        for host in site.hosts:
            for ip in (host.mgmt_ip, host.address, *sorted(addresses.get(host.name, ()))):
                if ip and not ip.startswith("127.") and ip != "::1":
                    self._by_ip.setdefault(ip, host.name)
        self._by_ip.update({host.data_ip: host.name for host in site.hosts})
        self._names = {host.name for host in site.hosts}
        heads = [host.name for host in site.hosts if "head" in host.roles]
        self._head = heads[0] if len(heads) == 1 else None

    def of(self, node: RayNode) -> str | None:
        if node.ip is not None and node.ip in self._by_ip:
            return self._by_ip[node.ip]
        if node.hostname is not None and node.hostname.split(".")[0] in self._names:
            return node.hostname.split(".")[0]
        # A head that registered itself as 127.0.0.1 is still the head.
        if node.head and node.ip is not None and node.ip.startswith("127."):
            return self._head
        return None


@dataclass(frozen=True, slots=True)
class HostLoss:
    """What dstui sees of a host itself: its stream stopped (`silent`), or it still talks and has no raylet any more."""

    since: float
    silent: bool


def beliefs(compared: RayComparison, losses: Mapping[str, HostLoss], now: float) -> dict[str, Text]:
    """By host, what Ray still believes and dstui knows better.

    Ray calls a killed raylet ALIVE for 12 s and a cut-off host for 65 s (seen with 2.60) and counts their GPUs.
    """
    told: dict[str, Text] = {}
    for host in compared.hosts:
        loss = losses.get(host.host)
        if loss is None or host.node is None or host.node.state != ALIVE:
            continue
        seconds = max(0, round(now - loss.since))
        if loss.silent:
            told[host.host] = Text(
                f"Ray still counts {host.host} as alive; its host stopped answering {seconds} s ago",
                f"Ray 仍认为 {host.host} 存活；该主机在 {seconds} 秒前已停止应答",
            )
        else:
            told[host.host] = Text(
                f"Ray still counts {host.host} as alive; its raylet has been gone for {seconds} s, the host answers",
                f"Ray 仍认为 {host.host} 存活；其 raylet 已消失 {seconds} 秒，主机本身有应答",
            )
    return told
