"""Looks at Ray once, for the checks: the dashboard over HTTP by the operators' way, else through the head.

The live view has a poller of its own (`gather/ray.py`); the answers are understood by the same parsers.
"""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from email.utils import parsedate_to_datetime
from pathlib import PurePosixPath
from urllib.parse import urljoin, urlsplit, urlunsplit

from dstui.facts import ray_look
from dstui.facts.case import HostSite
from dstui.facts.exchange import Exchange
from dstui.facts.raw import Answer, Missing, Op, run
from dstui.facts.ray_look import DIRECT, PREFIX, RayLook
from dstui.facts.serve_config import AppConfig, app_configs
from dstui.gather.caller import Caller, Credential
from dstui.gather.observing import Observing, Way
from dstui.model import GatherError, Reason
from dstui.redact import Redactor
from dstui.telemetry import ray_answers
from dstui.telemetry.lost_words import lost_text
from dstui.telemetry.ray import Fault, RaySnapshot
from dstui.telemetry.ray_answers import ENDPOINTS, MIB, Endpoint, RayAnswer, snapshot_of
from dstui.telemetry.ray_text import counts

DASHBOARD_PORT = 8265
SECONDS = 5.0
"""CATALOGUE 031-034: timeout 5 s."""
DIRECT_SECONDS = 3.0
STATUS_SECONDS = 15.0
"""`ray status` takes 4 s; against an address where nothing answers it does not give up by itself."""

SECTIONS = ("version", "auth", "nodes", "serve", "demands", "usage", "groups")
_FIRST = ("version", "auth", ray_look.HEALTH)
_PATHS = {
    ray_look.HEALTH: "/api/gcs_healthz",
    ray_look.PAGE: "/",
    ray_look.PROMETHEUS: "/api/prometheus_health",
    ray_look.GRAFANA: "/api/grafana_health",
}
_SCRIPT = re.compile(rb"""src=["']?((?:\./|/)?[\w./-]{0,100}static/js/[\w./-]{1,200})""", re.ASCII)
_WITHHELD = "what came is not shown: it could hold environment variables"


@dataclass(frozen=True, slots=True)
class DashboardWay:
    """How the dashboard is got to. `base` is what requests are for, `url` what it is called to people."""

    url: str
    base: str
    access: str
    way: Way = field(default_factory=Way)
    off_path: bool = False
    closed: Missing | None = None
    refused: bool = False


async def observe_ray(o: Observing) -> RayLook:
    """Everything that the checks of `ray` and those of Serve need; never raises for what Ray does."""
    return await look_at(o, (*SECTIONS, *_PATHS))


async def look_at(o: Observing, names: Sequence[str]) -> RayLook:
    """Some sections of the snapshot, and pages by their names. The page stands for a look at the dashboard as such."""
    o.told("Ray dashboard")
    seat = await dashboard_way(o)
    token = await token_of(o)
    found = {} if seat.closed else await _ask(o, seat, token, names)
    if seat.access == "tunnel" and ray_look.PAGE in names:
        found |= await _directly(o, seat)
    look = await _look(o, seat, token, found)
    return look if look.answered or ray_look.HEALTH not in names else replace(look, status=await _status(o))


def head_of(o: Observing) -> HostSite | None:
    """The first host with the role head."""
    return next((host for host in o.site.hosts if "head" in host.roles), None)


async def dashboard_way(o: Observing) -> DashboardWay:
    """The operators' way, and where that is shut the head's own SSH connection."""
    params = o.params("ray.dashboard", None)
    written, access, head = params.optional_text("ray_dashboard_url"), params.text("dashboard_access"), head_of(o)
    own = f"http://127.0.0.1:{DASHBOARD_PORT}"
    if written is not None:
        url, bases = _bare(written), [_bare(written)]
    elif head is not None:
        url = f"http://{_in_url(head.data_ip)}:{DASHBOARD_PORT}"
        bases = [own, url] if access == "tunnel" else [url, own]
    else:
        why = "the inventory has neither ray.dashboard_url nor a host with the role head"
        return DashboardWay("", "", access, closed=Missing(Reason.NO_TARGETS, why))
    if access == "direct":
        way = await o.way_to(bases[0])
        if way.via is not None or not way.inside:
            return DashboardWay(url, bases[0], access, way, off_path=way.via is not None)
        # Nobody gets to that address. On the head itself it may listen on 127.0.0.1 alone.
        inner = await _tunnelled(o, head, url, bases[1:], access)
        return replace(inner, off_path=True) if inner.closed is None else DashboardWay(url, bases[0], access, way)
    return await _tunnelled(o, head, url, bases, access)


async def _tunnelled(o: Observing, head: HostSite | None, url: str, bases: Sequence[str], access: str) -> DashboardWay:
    if head is None:
        closed = Missing(Reason.NO_TARGETS, "no host has the role head, so there is none to open a tunnel through")
        return DashboardWay(url, url, access, closed=closed)
    if head.name not in o.links or o.forward is None:
        closed = o.missing.get(head.name) or Missing(Reason.UNREACHABLE, f"{head.name}: no SSH connection")
        return DashboardWay(url, url, access, closed=closed)
    closed = Missing(Reason.UNREACHABLE, f"{url} was not tried")
    for base in bases:
        parts = urlsplit(base)
        try:
            socket = await o.forward(head, parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80))
        except GatherError as error:
            closed = Missing(error.reason, str(error))
        else:
            return DashboardWay(url, base, access, Way(None if socket is None else head.name, socket, inside=True))
    return DashboardWay(url, url, access, closed=closed, refused=True)


async def token_of(o: Observing) -> Credential | Missing | None:
    """Ray's token; None when the inventory names none."""
    reference = o.inventory.document.ray.token_ref
    return None if reference is None else await o.credential_of(reference, "ray.token_ref")


async def _ask(
    o: Observing, seat: DashboardWay, token: Credential | Missing | None, names: Sequence[str]
) -> dict[str, Exchange]:
    """The exchanges by key. The first answers decide whether there is any use in asking for the rest."""
    credential = token if isinstance(token, Credential) else None
    try:
        async with o.caller(seconds=SECONDS, connections=16, through=seat.way) as caller:
            found = await _get_all(caller, seat.base, [n for n in _FIRST if n in names], credential)
            if all(exchange.status is None for exchange in found.values()):
                return found
            rest = [name for name in names if PREFIX + name not in found]
            found |= await _get_all(caller, seat.base, rest, credential)
            page = found.get(PREFIX + ray_look.PAGE)
            script = None if page is None else _SCRIPT.search(page.body)
            if script is not None:
                where = urljoin(f"{seat.base}/", script[1].decode("ascii", "replace"))
                key = PREFIX + ray_look.SCRIPT
                found[key] = await caller.call(key, "GET", where, seconds=SECONDS, credential=credential, stop_after=1)
            return found
    except GatherError as error:
        blank = Exchange(f"{PREFIX}version", "GET", seat.base, seat.base)
        return {blank.key: replace(blank, missing=Missing(error.reason, str(error)))}


async def _get_all(
    caller: Caller, base: str, names: Sequence[str], credential: Credential | None
) -> dict[str, Exchange]:
    made = await asyncio.gather(*(_get(caller, base, name, credential) for name in names))
    return {exchange.key: exchange for exchange in made}


async def _get(caller: Caller, base: str, name: str, credential: Credential | None) -> Exchange:
    endpoint = endpoint_of(name)
    path = _PATHS[name] if endpoint is None else endpoint.path
    limit = MIB if endpoint is None else endpoint.limit
    return await caller.call(
        PREFIX + name, "GET", base + path, seconds=SECONDS, credential=credential, limit=limit,
        headers={"Accept": "*/*" if endpoint is None else "application/json"},
    )  # fmt: skip


def endpoint_of(section: str) -> Endpoint | None:
    """The endpoint of a section of the snapshot; None for what is none."""
    return next((endpoint for endpoint in ENDPOINTS if endpoint.section == section), None)


async def _directly(o: Observing, seat: DashboardWay) -> dict[str, Exchange]:
    """Whether the dashboard is open to the controller without its tunnel. Nobody's token is sent there."""
    head, named = head_of(o), urlsplit(seat.url)
    if o.site.simulated or head is None:
        return {}
    addresses = dict.fromkeys(a for a in (named.hostname, head.data_ip, head.mgmt_ip, head.address) if a)
    outside = [
        address for address in addresses if not address.startswith("127.") and address not in ("localhost", "::1")
    ]
    port = named.port or DASHBOARD_PORT
    async with o.caller(seconds=DIRECT_SECONDS, connections=8) as caller:
        made = await asyncio.gather(
            *(
                caller.call(
                    DIRECT + address, "GET", f"http://{_in_url(address)}:{port}/api/authentication_mode",
                    seconds=DIRECT_SECONDS,
                )
                for address in outside
            )
        )  # fmt: skip
    return {exchange.key: exchange for exchange in made}


async def _look(
    o: Observing, seat: DashboardWay, token: Credential | Missing | None, found: Mapping[str, Exchange]
) -> RayLook:
    redact = Redactor(o.inventory.secrets).text
    own = {key: exchange for key, exchange in found.items() if not key.startswith(DIRECT)}
    snapshot, configs = await asyncio.to_thread(_understood, own, token, redact, seat.closed)
    return RayLook(
        by_key={key: _shown(exchange, snapshot, configs) for key, exchange in found.items()},
        url=seat.url,
        access=seat.access,
        via=seat.way.via,
        off_path=seat.off_path,
        closed=seat.closed,
        refused=seat.refused,
        snapshot=snapshot,
        configs=configs,
        token=token.secret.label if isinstance(token, Credential) else None,
        tokenless=token if isinstance(token, Missing) else None,
    )


def _understood(
    found: Mapping[str, Exchange],
    token: Credential | Missing | None,
    redact: Callable[[str], str],
    closed: Missing | None,
) -> tuple[RaySnapshot, tuple[AppConfig, ...] | None]:
    at = time.time()
    answers = {
        endpoint.section: answer_of(endpoint, exchange, at)
        for endpoint in ENDPOINTS
        if (exchange := found.get(PREFIX + endpoint.section)) is not None
    }
    credential = ray_answers.Credential(
        token.secret.label if isinstance(token, Credential) else None,
        lost_text(token.reason, token.why) if isinstance(token, Missing) else None,
    )
    if closed is not None:
        fault = Fault("version", "", closed.reason, lost_text(closed.reason, closed.why))
        return RaySnapshot(at, faults=(fault,), lost=fault), None
    snapshot = snapshot_of(answers, at, redact, credential)
    serve = found.get(f"{PREFIX}serve")
    if snapshot.serve is None or serve is None:
        return snapshot, None
    return snapshot, app_configs(json.loads(serve.body))


def answer_of(endpoint: Endpoint, exchange: Exchange, at: float) -> RayAnswer:
    """An exchange as the parsers of Ray's answers take it."""
    if exchange.missing is not None:
        why = lost_text(exchange.missing.reason, exchange.missing.why)
        return RayAnswer(endpoint, at, failure=Fault(endpoint.section, endpoint.path, exchange.missing.reason, why))
    return RayAnswer(
        endpoint,
        at,
        status=exchange.status or 0,
        body=b"" if exchange.cut else exchange.body,
        cut=exchange.cut,
        date=_seconds(exchange.headers.get("date")),
        size=len(exchange.body),
    )


def _shown(exchange: Exchange, snapshot: RaySnapshot, configs: tuple[AppConfig, ...] | None) -> Exchange:
    """An exchange as it may be kept: Serve's answer has environments in clear text, so a table stands in its place."""
    if exchange.status != 200:
        return exchange
    if exchange.key == f"{PREFIX}serve":
        text = _WITHHELD
        if snapshot.serve is not None:
            proxies = counts([proxy.status for proxy in snapshot.serve.proxies])
            text = ray_look.serve_table(snapshot.serve.applications, configs or (), proxies)
        return replace(exchange, body=text.encode())
    if exchange.key == f"{PREFIX}nodes" and snapshot.nodes is not None:
        return replace(exchange, body=ray_look.nodes_table(snapshot.nodes).encode())
    return exchange


async def _status(o: Observing) -> Answer | None:
    """`ray status` on the head, where there is one to ask."""
    head = head_of(o)
    if head is None or head.name not in o.links:
        return None
    port = o.params("ray.head-started", None).count("ray_gcs_port")
    if o.site.runtime_python is None:
        why = "runtime.python is not set, so where Ray's command line is, is not known"
        return Answer("ray.status", "ray status", missing=Missing(Reason.TOOL_MISSING, why))
    binary = str(PurePosixPath(o.site.runtime_python).parent / "ray")
    op: Op = run("ray.status", binary, "status", "--address", f"{head.data_ip}:{port}", timeout=STATUS_SECONDS)
    try:
        raw = await o.links[head.name].facts([op], deadline=STATUS_SECONDS + 5.0)
    except GatherError as error:
        return Answer("ray.status", op.source, missing=Missing(error.reason, str(error)))
    return raw.answers.get("ray.status")


def _bare(url: str) -> str:
    parts = urlsplit(url)
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path.rstrip("/"), "", ""))


def _in_url(address: str) -> str:
    return f"[{address}]" if ":" in address else address


def _seconds(date: str | None) -> float | None:
    """The dashboard's own clock, to the second."""
    try:
        return None if date is None else parsedate_to_datetime(date).timestamp()
    except (ValueError, TypeError, OverflowError):
        return None
