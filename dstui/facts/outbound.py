"""Group `outbound`: whether this host reaches package, model and image sources, by its own proxy and directly."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from dstui.facts.case import Group, HostSite, Site
from dstui.facts.raw import Missing, Op, Raw, http
from dstui.facts.untyped import garbled, real, table, text, whole

_VIA = "outbound.via."
_DIRECT = "outbound.direct."

PROXY_AUTHENTICATION = 407
SERVER_ERROR = 500


@dataclass(frozen=True, slots=True)
class Fetch:
    """One GET. `status` is the HTTP status; without one `kind` says where it ended (dns, connect, timeout, tls, http).

    `insecure_status` is the status with certificate verification off, tried only after a certificate error.
    """

    url: str
    status: int | None
    ms: float | None
    dns_ms: float | None
    via_proxy: bool
    kind: str | None
    error: str
    insecure_status: int | None

    @property
    def reached(self) -> bool:
        """Any status below 500 comes from the other end, but 407: there the proxy itself refused."""
        return _from_the_far_end(self.status)

    @property
    def reached_unverified(self) -> bool:
        return _from_the_far_end(self.insecure_status)


def _from_the_far_end(status: int | None) -> bool:
    return status is not None and 100 <= status < SERVER_ERROR and status != PROXY_AUTHENTICATION


@dataclass(frozen=True, slots=True)
class OutboundFacts:
    """Group of URLs → what came of each, `via` the proxy that the host's own files name.

    `direct` is the same without the proxy, for groups where one was used.
    """

    via: Mapping[str, Mapping[str, Fetch] | Missing]
    direct: Mapping[str, Mapping[str, Fetch] | Missing]


def ops(host: HostSite, site: Site) -> tuple[Op, ...]:
    return tuple(http(_VIA + group, *urls) for group, urls in site.outbound.items() if urls)


def more(host: HostSite, site: Site, raw: Raw) -> tuple[Op, ...]:
    """The same without the proxy, where one was used: only both show a proxy that is broken or that is needed."""
    asked: list[Op] = []
    for group, urls in site.outbound.items():
        fetches = _fetches(raw, _VIA + group)
        if not isinstance(fetches, Missing) and any(fetch.via_proxy for fetch in fetches.values()):
            asked.append(http(_DIRECT + group, *urls, proxy="-"))
    return tuple(asked)


def _fetches(raw: Raw, key: str) -> Mapping[str, Fetch] | Missing:
    value = raw.value(key)
    if isinstance(value, Missing):
        return value
    answers = table(value)
    if answers is None:
        return garbled(raw, key, "the answer is not a table of URLs")
    fetches: dict[str, Fetch] = {}
    for url, answer in answers.items():
        got = table(answer)
        if got is None or "status" not in got:
            return garbled(raw, key, f"no status for {url[:100]}")
        fetches[url] = Fetch(
            url=url,
            status=whole(got["status"]),
            ms=real(got.get("ms")),
            dns_ms=real(got.get("dns_ms")),
            via_proxy=got.get("via_proxy") is True,
            kind=text(got.get("kind")),
            error=text(got.get("error")) or "",
            insecure_status=whole(got.get("insecure_status")),
        )
    return fetches


def parse(raw: Raw) -> OutboundFacts:
    def by_group(prefix: str) -> Mapping[str, Mapping[str, Fetch] | Missing]:
        return {key[len(prefix) :]: _fetches(raw, key) for key in raw.answers if key.startswith(prefix)}

    return OutboundFacts(via=by_group(_VIA), direct=by_group(_DIRECT))


GROUP = Group("outbound", OutboundFacts, ops, parse, more)
