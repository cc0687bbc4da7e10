"""Network links of a host: interfaces, bonds, RDMA ports, and the interface by which each Ray peer is reached."""

from __future__ import annotations

import ipaddress
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise

from dstui.facts.case import Group, HostSite, Site
from dstui.facts.numbers import by_directory, garbled, whole_or_none
from dstui.facts.raw import Missing, Op, Raw, glob, links, listing, read, run
from dstui.facts.untyped import command
from dstui.model import Reason

MOST_PEERS = 128
"""Routes asked for per host: each costs a process there. Further peers are counted as not looked at."""

_NET = "/sys/class/net/*/"
_ATTRIBUTES = ("speed", "operstate", "carrier", "mtu", "type", "bonding/slaves", "bonding/mode", "bonding/active_slave")
_RDMA_ATTRIBUTES = ("rate", "state", "link_layer")
_FILE = re.compile(r"/sys/class/net/([^/]+)/(.+)")
_LOWER = re.compile(r"/sys/class/net/([^/]+)/lower_(.+)")
_RDMA_FILE = re.compile(r"/sys/class/infiniband/([^/]+/ports/\d+)/(.+)", re.ASCII)
_RDMA_NETDEV = re.compile(r"/sys/class/infiniband/([^/]+)/device/net/([^/]+)")
_RATE = re.compile(r"(\d{1,5}(?:\.\d)?) Gb/sec", re.ASCII)
_LINK_MODE = re.compile(r"\b(\d{2,7})base", re.ASCII)
_UNKNOWN_SPEEDS = frozenset({-1, 0, 65_535, 4_294_967_295})
_RTNETLINK_ANSWERED = 2
_INTERFACE_NAME = re.compile(r"[^\s/]{1,15}")


@dataclass(frozen=True, slots=True)
class RdmaPort:
    """One port of an RDMA device; `gbps` is None when the rate cannot be read; `state` such as `4: ACTIVE`."""

    device: str
    port: int
    gbps: float | None
    state: str
    link_layer: str
    netdevs: frozenset[str]

    @property
    def active(self) -> bool:
        return self.state.startswith("4:")


@dataclass(frozen=True, slots=True)
class Interface:
    """As in /sys/class/net. `mbps` is None where the kernel says -1, EINVAL or 4294967295: it does not know either.

    `supported_mbps` is the fastest mode that ethtool lists. `driver` is empty for what has no device behind it.
    """

    name: str
    mbps: int | None
    operstate: str
    carrier: bool | None
    mtu: int | None
    link_type: int | None
    driver: str
    physical: bool
    bond_mode: str
    bond_members: tuple[str, ...]
    bond_active: str
    lowers: tuple[str, ...]
    supported_mbps: int | None


@dataclass(frozen=True, slots=True)
class Route:
    """The kernel's choice for one destination; `gateway` is empty on the same link, `source` the address sent from."""

    dev: str
    gateway: str
    source: str


@dataclass(frozen=True, slots=True)
class NoRoute:
    """The kernel has no way to the destination; `why` in its own words."""

    why: str


@dataclass(frozen=True, slots=True)
class LinkFacts:
    """`routes` by the peer's `data_ip`; a peer beyond MOST_PEERS is not in it."""

    interfaces: Mapping[str, Interface] | Missing
    rdma: tuple[RdmaPort, ...]
    routes: Mapping[str, Route | NoRoute | Missing]


@dataclass(frozen=True, slots=True)
class LinkMeasurement:
    """Throughput from one host to another: gigabits per second over `streams` TCP streams for `seconds`."""

    source: str
    destination: str
    gbps: float
    streams: int
    seconds: float


@dataclass(frozen=True, slots=True)
class LinkMeasurements:
    """An observation for `FleetCase.observed`: what was measured, and per host why nothing was."""

    measured: tuple[LinkMeasurement, ...]
    missing: Mapping[str, Missing]

    def between(self, source: str, destination: str) -> LinkMeasurement | None:
        pair = (source, destination)
        return next((m for m in self.measured if (m.source, m.destination) == pair), None)


def ray_peers(host: HostSite, site: Site) -> tuple[HostSite, ...]:
    """The other Ray hosts, in the order in which routes to them are asked for: the next ones in the list first."""
    ray = [other for other in site.hosts if other.in_ray]
    names = [other.name for other in ray]
    start = names.index(host.name) + 1 if host.name in names else 0
    return tuple(other for other in (*ray[start:], *ray[:start]) if other.name != host.name)


def ops(host: HostSite, site: Site) -> tuple[Op, ...]:
    if not host.in_ray:
        return ()
    routes = (
        run(f"links.route.{peer.data_ip}", "ip", "-j", "route", "get", peer.data_ip, timeout=5.0)
        for peer in ray_peers(host, site)[:MOST_PEERS]
    )
    return (
        glob("links.net", *(_NET + name for name in _ATTRIBUTES), each=1024),
        links("links.device", _NET + "device", _NET + "device/driver"),
        listing("links.lower", _NET + "lower_*"),
        glob("links.rdma", *(f"/sys/class/infiniband/*/ports/*/{name}" for name in _RDMA_ATTRIBUTES), each=128),
        listing("links.rdma-net", "/sys/class/infiniband/*/device/net/*"),
        read("links.table", "/proc/net/route"),
        *routes,
    )


def more(host: HostSite, site: Site, raw: Raw) -> tuple[Op, ...]:
    """The plain `ip route get` where the JSON one failed, and ethtool for what has a device behind it."""
    facts = parse(raw)
    if not host.in_ray or isinstance(facts.interfaces, Missing):
        return ()
    texts = tuple(
        run(f"links.plain.{ip}", "ip", "route", "get", ip, timeout=5.0)
        for ip in _asked(raw)
        if isinstance(_route_of_json(raw, ip), Missing)
    )
    speeds = tuple(
        run(f"links.ethtool.{name}", "ethtool", name, timeout=5.0)
        for name, interface in sorted(facts.interfaces.items())
        if interface.physical and interface.operstate != "down" and _INTERFACE_NAME.fullmatch(name)
    )
    return (*texts, *speeds[:64])


def _asked(raw: Raw) -> tuple[str, ...]:
    prefix = "links.route."
    return tuple(key.removeprefix(prefix) for key in raw.answers if key.startswith(prefix))


def _route_of_json(raw: Raw, ip: str) -> Route | NoRoute | Missing:
    answer = command(raw, f"links.route.{ip}")
    if isinstance(answer, Missing):
        return answer
    if answer.exit == _RTNETLINK_ANSWERED and "RTNETLINK" in answer.error:
        return NoRoute(answer.error.strip().splitlines()[0][:120])
    try:
        rows = json.loads(answer.output)
    except (ValueError, RecursionError):
        return garbled(answer.source, answer.output or answer.error)
    row = rows[0] if isinstance(rows, list) and rows and isinstance(rows[0], dict) else {}
    kind, dev = row.get("type"), row.get("dev")
    if kind in ("unreachable", "blackhole", "prohibit"):
        return NoRoute(str(kind))
    if not isinstance(dev, str) or not dev:
        return garbled(answer.source, answer.output)
    return Route(dev, str(row.get("gateway") or ""), str(row.get("prefsrc") or ""))


def _route_of_text(raw: Raw, ip: str) -> Route | Missing:
    answer = command(raw, f"links.plain.{ip}")
    if isinstance(answer, Missing):
        return answer
    words = answer.output.split()
    pairs = dict(pairwise(words))
    if answer.exit not in (None, 0) or "dev" not in pairs:
        return garbled(answer.source, answer.output or answer.error)
    return Route(pairs["dev"], pairs.get("via", ""), pairs.get("src", ""))


def _route_of_table(raw: Raw, ip: str) -> Route | Missing:
    """The longest matching prefix of /proc/net/route (IPv4, main table, little-endian hex)."""
    text = raw.text("links.table")
    if isinstance(text, Missing):
        return text
    try:
        wanted = int.from_bytes(ipaddress.IPv4Address(ip).packed, "little")
    except ValueError:
        return Missing(Reason.CANNOT_TELL, f"/proc/net/route knows no {ip}")
    best: tuple[int, int, str, int] | None = None
    for line in text.splitlines()[1:]:
        cells = line.split()
        try:
            destination, gateway, flags, metric, mask = (
                int(cells[1], 16), int(cells[2], 16), int(cells[3], 16), int(cells[6]), int(cells[7], 16),
            )  # fmt: skip
        except (ValueError, IndexError):
            continue
        candidate = (mask.bit_count(), -metric, cells[0], gateway)
        if flags & 1 and wanted & mask == destination and (best is None or candidate > best):
            best = candidate
    if best is None:
        return Missing(Reason.CANNOT_TELL, f"/proc/net/route has no entry for {ip}")
    gateway_bytes = best[3].to_bytes(4, "little") if best[3] < 1 << 32 else b"\0\0\0\0"
    return Route(best[2], str(ipaddress.IPv4Address(gateway_bytes)) if best[3] else "", "")


def _route(raw: Raw, ip: str) -> Route | NoRoute | Missing:
    told = _route_of_json(raw, ip)
    if not isinstance(told, Missing):
        return told
    for fallback in (_route_of_text, _route_of_table):
        if not isinstance(found := fallback(raw, ip), Missing):
            return found
    return told


def _supported(raw: Raw, name: str) -> int | None:
    text = raw.text(f"links.ethtool.{name}")
    if isinstance(text, Missing):
        return None
    modes = text.partition("Supported link modes:")[2].partition("Supported pause frame use:")[0]
    return max((int(mode) for mode in _LINK_MODE.findall(modes)), default=None)


def _interfaces(raw: Raw) -> Mapping[str, Interface] | Missing:
    files, devices, lower = raw.files("links.net"), raw.files("links.device"), raw.stats("links.lower")
    if isinstance(files, Missing):
        return files
    if isinstance(devices, Missing):
        return devices
    lowers: dict[str, list[str]] = {}
    for path in [] if isinstance(lower, Missing) else sorted(lower):
        if match := _LOWER.fullmatch(path):
            lowers.setdefault(match[1], []).append(match[2])
    found: dict[str, Interface] = {}
    for name, row in by_directory(files, _FILE).items():
        speed, here = whole_or_none(row.get("speed")), f"/sys/class/net/{name}/device"
        found[name] = Interface(
            name=name,
            mbps=None if speed is None or speed in _UNKNOWN_SPEEDS or speed < 0 else speed,
            operstate=row.get("operstate", ""),
            carrier={"0": False, "1": True}.get(row.get("carrier", "")),
            mtu=whole_or_none(row.get("mtu")),
            link_type=whole_or_none(row.get("type")),
            driver=devices.get(f"{here}/driver", "").rsplit("/", 1)[-1],
            physical=here in devices,
            bond_mode=row.get("bonding/mode", "").partition(" ")[0],
            bond_members=tuple(row.get("bonding/slaves", "").split()),
            bond_active=row.get("bonding/active_slave", ""),
            lowers=tuple(lowers.get(name, ())),
            supported_mbps=_supported(raw, name),
        )
    return found or Missing(Reason.CANNOT_TELL, "/sys/class/net lists no interface")


def _rdma(raw: Raw) -> tuple[RdmaPort, ...]:
    files, nets = raw.files("links.rdma"), raw.stats("links.rdma-net")
    if isinstance(files, Missing):
        return ()
    netdevs: dict[str, set[str]] = {}
    for path in [] if isinstance(nets, Missing) else nets:
        if match := _RDMA_NETDEV.fullmatch(path):
            netdevs.setdefault(match[1], set()).add(match[2])
    ports: list[RdmaPort] = []
    for place, row in sorted(by_directory(files, _RDMA_FILE).items()):
        device, _, port = place.partition("/ports/")
        rate = _RATE.match(row.get("rate", ""))
        ports.append(
            RdmaPort(
                device=device,
                port=int(port),
                gbps=float(rate[1]) if rate else None,
                state=row.get("state", ""),
                link_layer=row.get("link_layer", ""),
                netdevs=frozenset(netdevs.get(device, ())),
            )
        )
    return tuple(ports)


def parse(raw: Raw) -> LinkFacts:
    return LinkFacts(_interfaces(raw), _rdma(raw), {ip: _route(raw, ip) for ip in _asked(raw)})


GROUP = Group("links", LinkFacts, ops, parse, more)
