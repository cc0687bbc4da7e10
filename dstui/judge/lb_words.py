"""What the checks of the load balancer have in common: its configuration for the API's path, who its members are."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

from dstui.facts.addresses import normal_ip
from dstui.facts.case import FleetCase
from dstui.facts.lb import LbFacts
from dstui.facts.lb_seen import Front
from dstui.facts.nginx_config import NginxConfig
from dstui.facts.nginx_routes import Member, Place, Server, Upstream, passed_to, place_of, server_for, upstream_of
from dstui.facts.raw import Missing
from dstui.judge.fleet import absorb, cluster_target, facts_of
from dstui.judge.rulings import Causes, unknown
from dstui.model import Reason, Ruling, Text

CHAT = "/v1/chat/completions"
HOST_EVIDENCE = ("lb.version", "lb.units", "lb.certificate")
"""Answers of the host that are shown. Not the dump, nor cron's files: people put keys into those."""
NO_ADDRESS = Missing(
    Reason.NO_TARGETS, "the inventory has no address of the balancer; set lb.endpoint or endpoints.api"
)


@dataclass(frozen=True, slots=True)
class Routed:
    """How one balancer handles a path of the API. `upstream` is Missing when where it goes depends on the request."""

    name: str
    config: NginxConfig
    server: Server
    place: Place
    address: str | Missing | None
    upstream: Upstream | Missing


def no_address(case: FleetCase, expected: Text) -> Sequence[Ruling]:
    return [unknown(cluster_target(case.site), NO_ADDRESS, expected)]


def routed(case: FleetCase, name: str, front: Front, path: str = CHAT) -> Routed | Missing:
    """The balancer's configuration for a path of the API; Missing when it was not seen, or has no server for it."""
    facts = facts_of(case, name, LbFacts)
    if isinstance(facts, Missing):
        return facts
    config = facts.config
    if isinstance(config, Missing):
        return config
    server = server_for(config, front.host, front.port)
    if server is None:
        return Missing(Reason.CANNOT_TELL, f"{name}: nginx has no server for {front.host}:{front.port}")
    place = place_of(server, front.path(path))
    if isinstance(place, Missing):
        return place
    address = passed_to(place)
    if address is None:
        upstream: Upstream | Missing = Missing(Reason.CANNOT_TELL, f"{place.where}: {place.label} passes nothing on")
    else:
        upstream = address if isinstance(address, Missing) else upstream_of(config, address)
    return Routed(name, config, server, place, address, upstream)


def identity(case: FleetCase, host: str, on: str) -> str:
    """Which machine a name or an address is: an inventory host's name, else as it stands. `on` is who names it."""
    name = normal_ip(host.strip("[]").lower())
    if name == "localhost" or _loopback(name):
        return on
    for site in case.site.hosts:
        if name in {normal_ip(a.lower()) for a in (site.name, site.data_ip, site.mgmt_ip, site.address) if a}:
            return site.name
    return name


def _loopback(name: str) -> bool:
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


def placed(case: FleetCase, host: str, on: str) -> bool:
    """Whether it is known which machine a name means."""
    found = identity(case, host, on)
    if found in {site.name for site in case.site.hosts}:
        return True
    try:
        ipaddress.ip_address(found)
    except ValueError:
        return False
    return True


def member_key(case: FleetCase, member: Member, on: str) -> tuple[str, int]:
    return identity(case, member.host, on), member.port


def backend_key(case: FleetCase, url: str) -> tuple[str, int]:
    parts = urlsplit(url)
    host = parts.hostname or ""
    # A backend written as loopback means the machine where dstui runs, which no balancer's loopback is known to be.
    found = host if _loopback(normal_ip(host)) else identity(case, host, "")
    return found, parts.port or (443 if parts.scheme == "https" else 80)


def is_member(case: FleetCase, url: str, member: Member, on: str) -> bool:
    """Whether a member of an upstream is a backend of the inventory."""
    parts = urlsplit(url)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    if member.port != port:
        return False
    return member.host.lower() == (parts.hostname or "") or member_key(case, member, on) == backend_key(case, url)


def all_of(whole: Causes, parts: Sequence[tuple[str, Causes]], *, several: bool) -> None:
    """Take over what speaks against each balancer; with its name where there are several."""
    for name, part in parts:
        if several:
            absorb(whole, part, name)
        else:
            whole.found += part.found
        whole.remarks += part.remarks
