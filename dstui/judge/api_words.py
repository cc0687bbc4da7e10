"""What endpoints answered, in a few words of both languages, and what all checks of the API have in common."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

from dstui.facts.api import Approach, Endpoint, EndpointExchanges
from dstui.facts.case import FleetCase
from dstui.facts.exchange import Exchange, Fault
from dstui.facts.openai import error_of
from dstui.facts.raw import Missing
from dstui.judge.fleet import cluster_target
from dstui.judge.rulings import quoted, unknown
from dstui.model import Reason, Ruling, Text, same

E = TypeVar("E", bound=EndpointExchanges)

FAULTS: Mapping[Fault, Text] = {
    Fault.NAME: Text("the name does not resolve", "域名无法解析"),
    Fault.REFUSED: Text("connection refused", "连接被拒绝"),
    Fault.ROUTE: Text("no route", "网络不可达"),
    Fault.CONNECT_TIMEOUT: Text("no connection in time", "连接超时"),
    Fault.TLS: Text("TLS failed", "TLS 握手失败"),
    Fault.TIMEOUT: Text("no whole answer in time", "未在时限内返回完整应答"),
    Fault.BROKE_OFF: Text("connection broken off", "连接中断"),
    Fault.NOT_SENT: Text("request could not be sent", "请求无法发送"),
}


def outcome(exchange: Exchange) -> Text:
    """`500 (EngineCore encountered an issue)`, `connection refused`: an answer in a few words."""
    if exchange.missing is not None:
        words = FAULTS.get(exchange.fault) if exchange.fault is not None else None
        why = quoted(exchange.missing.why.removeprefix(exchange.url).lstrip(": "), 120)
        if exchange.fault in (Fault.TLS, Fault.NOT_SENT) and words is not None:
            return Text(f"{words.en} ({why})", f"{words.zh}（{why}）")
        return words or same(why)
    said = error_of(exchange)
    if said is None or (exchange.status or 0) < 400:
        return same(str(exchange.status))
    words_of_it = quoted(said.message, 90)
    return Text(f"{exchange.status} ({words_of_it})", f"{exchange.status}（{words_of_it}）")


def why_not(exchange: Exchange) -> Missing:
    """The Missing of an exchange that did not come, or came as something that answers no question."""
    if exchange.missing is not None:
        return exchange.missing
    return Missing(Reason.CANNOT_TELL, f"{exchange.url}: HTTP {exchange.status}")


def not_asked(endpoint: Endpoint, what: str) -> Missing:
    return Missing(Reason.NOT_RUN, f"{endpoint.url}: {what} was not asked")


def milliseconds(exchange: Exchange) -> str:
    return f"{exchange.seconds * 1000:.0f} ms"


def out_of_sight(exchange: Exchange, endpoint: Endpoint, approach: Approach) -> bool:
    """Whether a failed connection says nothing: a backend may be closed to the controller, and nobody inside looked."""
    return (
        not endpoint.public
        and not approach.inside
        and exchange.fault in (Fault.REFUSED, Fault.ROUTE, Fault.CONNECT_TIMEOUT)
    )


def from_where(approach: Approach) -> Text:
    """` (seen from gpu-01)` where it was not seen from the controller."""
    via = approach.via
    return Text(f" (seen from {via})", f"（从 {via} 访问）") if via else same("")


def per_endpoint(
    case: FleetCase, seen: E | Missing, expected: Text, rule: Callable[[E, Endpoint], Ruling]
) -> Sequence[Ruling]:
    """One ruling for each endpoint; UNKNOWN when there was no look, or when the inventory has no endpoint."""
    if isinstance(seen, Missing):
        return [unknown(cluster_target(case.site), seen, expected)]
    if not seen.endpoints:
        why = "the inventory has no endpoint of the API; set endpoints.api and endpoints.backends"
        return [unknown(cluster_target(case.site), Missing(Reason.NO_TARGETS, why), expected)]
    return [rule(seen, endpoint) for endpoint in seen.endpoints]


def outside(case: FleetCase) -> bool | None:
    """Whether the controller is outside the cluster's networks; None when that cannot be told."""
    sessions = [facts.session for facts in case.facts.values() if facts.session is not None]
    address = next((s.controller_ip for s in sessions if s.controller_ip and not s.via_jump), None)
    if address is None or not case.site.cluster_cidrs:
        return None
    try:
        own = ipaddress.ip_address(address)
        return not any(own in ipaddress.ip_network(network, strict=False) for network in case.site.cluster_cidrs)
    except ValueError:
        return None
