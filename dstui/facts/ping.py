"""Group `ping`: who this host reaches by ICMP, with jumbo frames, and by TCP on the peers' SSH port."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from dstui.facts import addresses
from dstui.facts.case import Group, HostSite, Site
from dstui.facts.raw import Answer, Missing, Op, Raw, connect, run
from dstui.facts.untyped import command, garbled, rows, text, whole
from dstui.model import Reason

PACKETS = 5
"""Echo requests per address (document catalogue, net.peer-ping)."""
ALL_PAIRS_UP_TO = 32
"""Hosts up to which every pair is tried; beyond, ring and star, because pings grow with the square of the hosts."""
STAR_SPOKES = 32
"""How many hosts a head tries when not all pairs are."""
JUMBO_MTU = 9000

_ICMP = "ping.icmp."
_JUMBO = "ping.jumbo."
_TCP = "ping.tcp"

_COUNTS = re.compile(r"(\d{1,9}) packets transmitted, (\d{1,9})(?: packets)? received")
_TIMES = re.compile(r"(?:rtt|round-trip) min/avg/max(?:/mdev)? = [\d.]{1,20}/([\d.]{1,20})/")
_ERRORS = re.compile(
    r"^(?:From \S+ (?:\S+ )?icmp_seq=\d+ |ping: (?:connect|sendmsg|sendto|local error): )(.*)$", re.MULTILINE
)
_DENIED = re.compile(r"operation not permitted|permission denied|are you root|lacking privilege", re.IGNORECASE)
_NO_ROUTE = re.compile(r"network is unreachable|no route to host|host is unreachable", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Ping:
    """Packets sent and answered, mean round trip in milliseconds, and what the network said instead of an answer."""

    sent: int
    received: int
    rtt_avg_ms: float | None
    trouble: str = ""

    @property
    def loss_pct(self) -> float:
        return 100.0 * (self.sent - self.received) / self.sent if self.sent else 100.0


@dataclass(frozen=True, slots=True)
class PingFacts:
    """Results by address. `tcp` has the outcome of a connect per (address, port): ok, refused, timeout, unreach, error.

    `jumbo` is a 9000-byte packet with "do not fragment", sent by hosts that have an interface of that MTU; it says
    something only of peers that have it too.
    """

    icmp: Mapping[str, Ping | Missing]
    jumbo: Mapping[str, Ping | Missing]
    tcp: Mapping[tuple[str, int], str] | Missing


def tried_peers(host: HostSite, site: Site) -> tuple[HostSite, ...]:
    """The peers that a host tries: all of them, or beyond `ALL_PAIRS_UP_TO` hosts a fixed ring and star.

    Ring: the neighbour before and after in the inventory. Star: everyone tries the heads, a head tries at most
    `STAR_SPOKES` hosts spread evenly over the inventory. The same inventory always gives the same sample.
    """
    if len(site.hosts) <= ALL_PAIRS_UP_TO:
        return site.peers(host.name)
    names = [h.name for h in site.hosts]
    at = names.index(host.name)
    chosen = {names[at - 1], names[(at + 1) % len(names)]}
    chosen.update(h.name for h in site.hosts if "head" in h.roles)
    if "head" in host.roles:
        chosen.update(names[i * len(names) // STAR_SPOKES] for i in range(STAR_SPOKES))
    return tuple(h for h in site.peers(host.name) if h.name in chosen)


def addresses_of(peer: HostSite) -> tuple[str, ...]:
    """The addresses on which a peer is tried: `data_ip`, and `mgmt_ip` if it is another."""
    return (peer.data_ip, peer.mgmt_ip) if peer.mgmt_ip and peer.mgmt_ip != peer.data_ip else (peer.data_ip,)


def ops(host: HostSite, site: Site) -> tuple[Op, ...]:
    peers = tried_peers(host, site)
    asked: dict[str, Op] = {}
    for peer in peers:
        for ip in addresses_of(peer):
            argv = ("ping", "-n", "-c", str(PACKETS), "-i", "0.2", "-W", "2", ip)
            asked.setdefault(_ICMP + ip, run(_ICMP + ip, *argv, timeout=15.0, limit=16_384))
    endpoints = dict.fromkeys((ip, peer.port) for peer in peers for ip in addresses_of(peer))
    tcp = (connect(_TCP, *endpoints, timeout=2.0),) if endpoints else ()
    return (*asked.values(), *tcp)


def more(host: HostSite, site: Site, raw: Raw) -> tuple[Op, ...]:
    """Jumbo frames to every peer's `data_ip`, from a host whose own `data_ip` is on an interface that takes them."""
    own = addresses.parse(raw).holding(host.data_ip)
    if own is None or (own[0].mtu or 0) < JUMBO_MTU:
        return ()
    asked = dict.fromkeys(peer.data_ip for peer in tried_peers(host, site))
    return tuple(
        run(
            _JUMBO + ip, "ping", "-n", "-M", "do", "-s", str(_jumbo_payload(ip)), "-c", "2", "-W", "2", ip, timeout=15.0
        )
        for ip in asked
    )


def evidence_keys(ips: tuple[str, ...]) -> tuple[str, ...]:
    """The answers that speak of these addresses."""
    return (*(key + ip for ip in ips for key in (_ICMP, _JUMBO)), _TCP)


def _jumbo_payload(ip: str) -> int:
    """Echo payload that fills a 9000-byte packet: less 20 (IPv4) or 40 (IPv6) bytes of IP and 8 of ICMP header."""
    return JUMBO_MTU - (48 if ":" in ip else 28)


def _ping(raw: Raw, key: str) -> Ping | Missing:
    found = command(raw, key)
    if isinstance(found, Missing):
        return found
    counts = _COUNTS.search(found.output)
    said = f"{found.output}\n{found.error}"
    if counts is None:
        return _no_counts(raw, key, found, said)
    sent, received = int(counts[1]), int(counts[2])
    if sent == 0 or received > sent or (received == 0 and found.exit == 0):
        return garbled(raw, key, f"exit {found.exit} with {received} answers to {sent} packets")
    times = _TIMES.search(found.output)
    trouble = _ERRORS.search(said)
    return Ping(sent, received, _milliseconds(times[1]) if times else None, trouble[1].strip()[:200] if trouble else "")


def _no_counts(raw: Raw, key: str, found: Answer, said: str) -> Ping | Missing:
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    last = lines[-1][:200] if lines else "no output"
    if _NO_ROUTE.search(said) and found.exit not in (0, None):
        return Ping(0, 0, None, last)
    if _DENIED.search(said):
        return Missing(Reason.PERMISSION, f"{found.source}: {last}")
    if found.exit not in (0, None):
        return Missing(Reason.CANNOT_TELL, f"{found.source}: exit {found.exit}, {last}")
    return garbled(raw, key, f"no packet counts in the output ({last})")


def _milliseconds(number: str) -> float | None:
    try:
        return float(number)
    except ValueError:
        return None


def _tcp(raw: Raw) -> Mapping[tuple[str, int], str] | Missing:
    if _TCP not in raw.answers:
        return Missing(Reason.NOT_RUN, "no peer was tried by TCP")
    value = raw.value(_TCP)
    if isinstance(value, Missing):
        return value
    tries = rows(value)
    if tries is None:
        return garbled(raw, _TCP, "the answer is not a list of connects")
    outcomes: dict[tuple[str, int], str] = {}
    for row in tries:
        cells = rows(row) or []
        address, port, outcome = (*cells, None, None, None)[:3]
        address, number, word = text(address), whole(port), text(outcome)
        if address is None or number is None or word is None:
            return garbled(raw, _TCP, "a connect without address, port or outcome")
        outcomes[address, number] = word
    return outcomes


def parse(raw: Raw) -> PingFacts:
    def by_address(prefix: str) -> Mapping[str, Ping | Missing]:
        return {key[len(prefix) :]: _ping(raw, key) for key in raw.answers if key.startswith(prefix)}

    return PingFacts(icmp=by_address(_ICMP), jumbo=by_address(_JUMBO), tcp=_tcp(raw))


GROUP = Group("ping", PingFacts, ops, parse, more)
