"""Which limits nginx has for a path at the load balancers, as far as their configuration was seen."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from urllib.parse import urlsplit

from dstui.facts.api import Endpoint
from dstui.facts.case import FleetCase
from dstui.facts.lb import LbFacts
from dstui.facts.nginx_config import NginxConfig
from dstui.facts.nginx_routes import Place, place_of, server_for
from dstui.facts.raw import Missing
from dstui.judge.fleet import facts_of
from dstui.model import Reason

LIMITS = ("limit_req", "limit_conn")
_VARIABLE = re.compile(r"\$\{?([a-z_0-9]+)")
_SAME_FOR_ALL = frozenset(
    {"server_name", "host", "http_host", "server_addr", "server_port", "scheme", "hostname", "uri", "request_uri",
     "request_method", "server_protocol"}
)  # fmt: skip
"""Variables that say nothing about who asks."""


@dataclass(frozen=True, slots=True)
class Configured:
    """`found` are the limits that hold for the path, in nginx's words; `shared` their keys that all users share.

    `dry` are those of them that only write a log. `unknown` is why (some of) the configuration was not seen; None when
    all was, or when the inventory names no load balancer.
    """

    found: tuple[str, ...]
    shared: tuple[str, ...]
    dry: tuple[str, ...]
    unknown: Missing | None


def configured(case: FleetCase, endpoint: Endpoint, path: str) -> Configured:
    """The limits that the load balancers have for a path of the public endpoint."""
    found: dict[str, None] = {}
    shared: dict[str, None] = {}
    dry: dict[str, None] = {}
    unknown: Missing | None = None
    root = urlsplit(endpoint.url).path.rstrip("/").removesuffix("/v1")
    for name in case.site.balancers:
        facts = facts_of(case, name, LbFacts)
        config = facts if isinstance(facts, Missing) else facts.config
        place = config if isinstance(config, Missing) else _place(config, endpoint, f"{root}{path}")
        if isinstance(config, Missing) or isinstance(place, Missing):
            lost = config if isinstance(config, Missing) else place
            assert isinstance(lost, Missing)
            unknown = unknown or lost
            continue
        for limit in LIMITS:
            waits = place.value(f"{limit}_dry_run") == "on"
            for directive in place.all(limit):
                if directive.args and directive.first != "off":
                    (dry if waits else found)[f"{limit} {' '.join(directive.args)}"] = None
                    shared |= dict.fromkeys(_shared_keys(config, limit, _zone(directive.args)))
    return Configured(tuple(found), tuple(shared), tuple(dry), unknown)


def _place(config: NginxConfig, endpoint: Endpoint, path: str) -> Place | Missing:
    server = server_for(config, endpoint.host, endpoint.port)
    if server is None:
        return Missing(Reason.CANNOT_TELL, f"nginx has no server for {endpoint.host}:{endpoint.port}")
    return place_of(server, path)


def _zone(args: tuple[str, ...]) -> str:
    """`limit_req zone=users …` names it by a key, `limit_conn users 10` comes first."""
    return next((arg.removeprefix("zone=") for arg in args if arg.startswith("zone=")), args[0])


def _shared_keys(config: NginxConfig, limit: str, zone: str) -> Iterator[str]:
    for directive in config.every(f"{limit}_zone"):
        named = [arg.removeprefix("zone=").partition(":")[0] for arg in directive.args if arg.startswith("zone=")]
        if zone in named and set(_VARIABLE.findall(directive.first)) <= _SAME_FOR_ALL:
            yield directive.first
