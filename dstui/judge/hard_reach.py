"""What the outside view says of a host: which ports that must not be open to the world could be reached."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from dstui.facts.case import FleetCase
from dstui.facts.choreography import VantageReach
from dstui.facts.listeners import ListenerFacts
from dstui.facts.raw import Missing
from dstui.model import Reason

OPEN = frozenset({"ok", "wrong-nonce"})
CLOSED = frozenset({"refused", "timeout", "unreach"})
RAY_PORTS = (8265, 10001, 6379)
"""Open to the world they hand out a shell: job submission and Ray's client need no password unless a token is set."""


@dataclass(frozen=True, slots=True)
class OutsideView:
    """Port → outcome of one host, seen from a vantage that lies outside the cluster."""

    vantage: str
    outcomes: Mapping[int, str]

    def reachable(self, ports: Iterable[int]) -> tuple[int, ...]:
        """Ports that answered, Ray's first."""
        return by_danger(port for port in ports if self.outcomes.get(port) in OPEN)

    def untold(self, ports: Iterable[int]) -> tuple[int, ...]:
        """Ports that were not tried, or whose try failed for a reason of the vantage's own."""
        return by_danger(port for port in ports if self.outcomes.get(port) not in OPEN | CLOSED)


def standing(view: OutsideView) -> dict[str, str]:
    """What a signature rests on: open, closed or untold; whether a closed port refuses or is silent is no matter."""
    words = ((OPEN, "open"), (CLOSED, "closed"))
    return {
        str(port): next((word for outcomes, word in words if outcome in outcomes), "untold")
        for port, outcome in sorted(view.outcomes.items())
    }


def by_danger(ports: Iterable[int]) -> tuple[int, ...]:
    """Each port once, Ray's before the others."""
    return tuple(sorted(set(ports), key=lambda port: (port not in RAY_PORTS, port)))


def port_list(ports: Iterable[int]) -> str:
    return ", ".join(str(port) for port in ports)


def _within(address: str, networks: Iterable[str]) -> bool:
    try:
        ip = ipaddress.ip_address(address)
        return any(ip in ipaddress.ip_network(network, strict=False) for network in networks)
    except ValueError:
        # An address or network that is not understood cannot show that the vantage is outside.
        return True


def outside_view(case: FleetCase, name: str, cidrs: Iterable[str] = ()) -> OutsideView | Missing:
    """The view of one host from outside; Missing when the vantage is not known to be outside, or did not look."""
    reach = case.get(VantageReach)
    if isinstance(reach, Missing):
        return reach
    networks = {*case.site.cluster_cidrs, *cidrs}
    if case.site.host(name).local:
        return Missing(Reason.CANNOT_TELL, f"the vantage {reach.vantage} is this host itself")
    if not networks:
        return Missing(Reason.CANNOT_TELL, "network.cluster_cidrs is not set, so it is not known what is outside")
    if reach.address is None:
        return Missing(Reason.CANNOT_TELL, f"the address of the vantage {reach.vantage} is not known")
    if reach.inside or _within(reach.address, networks):
        return Missing(Reason.CANNOT_TELL, f"the vantage {reach.vantage} ({reach.address}) lies inside the cluster")
    if name not in reach.outcomes:
        return Missing(Reason.NOT_RUN, f"the vantage {reach.vantage} did not try this host")
    return OutsideView(reach.vantage, reach.outcomes[name])


def exposed_ports(listeners: ListenerFacts | Missing, sensitive: Iterable[int]) -> tuple[int, ...] | Missing:
    """Sensitive ports that something listens on, other than on loopback only."""
    if isinstance(listeners, Missing):
        return listeners
    if isinstance(listeners.listening, Missing):
        return listeners.listening
    held = {socket.port for socket in listeners.listening if not _loopback(socket.address)}
    return by_danger(port for port in sensitive if port in held)


def _loopback(address: str) -> bool:
    try:
        ip = ipaddress.ip_address(address)
    except ValueError:
        return False
    mapped = ip.ipv4_mapped if isinstance(ip, ipaddress.IPv6Address) else None
    return (mapped or ip).is_loopback
