"""Group `dns`: which name servers are configured, whether each answers, and what names resolve to on this host."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass

from dstui.facts.case import Group, HostSite, Site
from dstui.facts.ping import tried_peers
from dstui.facts.raw import Missing, Op, Raw, dns, read, resolve, run
from dstui.facts.untyped import command, garbled, real, rows, table, text, whole

SELF = "@self"
"""The host's own hostname, as `socket.gethostname()` gives it."""
STUB = "127.0.0.53"
"""systemd-resolved's local stub: not a server, but the way to those that `resolvectl dns` names."""

NOERROR, NXDOMAIN = 0, 3
_QUERIES = 3
"""Names asked of each server directly; a dead server costs its timeout for each."""


@dataclass(frozen=True, slots=True)
class Lookup:
    """getaddrinfo of one name: addresses in order, milliseconds, the error's text when it failed."""

    addresses: tuple[str, ...]
    ms: float | None
    error: str


@dataclass(frozen=True, slots=True)
class Query:
    """One name asked of one server. `rcode` is None when no answer came, and `error` says why."""

    addresses: tuple[str, ...]
    rcode: int | None
    ms: float | None
    error: str


@dataclass(frozen=True, slots=True)
class Server:
    """A configured name server and its direct answers by name."""

    ip: str
    answers: Mapping[str, Query]

    @property
    def answering(self) -> bool:
        """It answered at least one name with an address or "no such name"; SERVFAIL and REFUSED are no answers."""
        return any(q.rcode in {NOERROR, NXDOMAIN} for q in self.answers.values())

    @property
    def silent(self) -> bool:
        """Nothing came back for any name."""
        return all(q.rcode is None for q in self.answers.values())

    @property
    def ms(self) -> float | None:
        """The slowest answer in milliseconds."""
        return max((q.ms for q in self.answers.values() if q.rcode is not None and q.ms is not None), default=None)


@dataclass(frozen=True, slots=True)
class DnsFacts:
    """`configured` are the server addresses as files and resolvectl name them, `servers` what each answered.

    `hosts` is /etc/hosts as name → addresses.
    """

    configured: tuple[str, ...] | Missing
    servers: tuple[Server, ...] | Missing
    lookups: Mapping[str, Lookup] | Missing
    hosts: Mapping[str, tuple[str, ...]] | Missing


def inventory_names(host: HostSite, site: Site) -> tuple[str, ...]:
    """The inventory hostnames that a host must resolve: its own and those of the peers that it also pings."""
    return (host.name, *(peer.name for peer in tried_peers(host, site)))


def ops(host: HostSite, site: Site) -> tuple[Op, ...]:
    external = () if site.offline or not site.dns_external else (site.dns_external,)
    wanted = tuple(dict.fromkeys((SELF, *inventory_names(host, site), *site.dns_names, *external)))
    asked = tuple(dict.fromkeys((*external, *site.dns_names, host.name)))[:_QUERIES]
    return (
        read("dns.resolv", "/etc/resolv.conf"),
        run("dns.resolvectl", "resolvectl", "dns", timeout=5.0),
        read("dns.hosts", "/etc/hosts", limit=262_144),
        dns("dns.query", *asked),
        resolve("dns.names", *wanted),
    )


def nameservers(resolv_conf: str) -> tuple[str, ...]:
    """The `nameserver` addresses of a resolv.conf."""
    words = (line.split() for line in resolv_conf.splitlines())
    return tuple(dict.fromkeys(w[1] for w in words if len(w) >= 2 and w[0] == "nameserver" and _is_ip(w[1])))


def resolvectl_servers(output: str) -> tuple[str, ...]:
    """The addresses in `resolvectl dns`: `Link 2 (eth0): 10.0.0.2 fe80::1%2 1.1.1.1#cloudflare-dns.com`."""
    words = (w.partition("#")[0] for line in output.splitlines() for w in line.partition("): ")[2].split())
    plain = (w for line in output.splitlines() if line.startswith("Global:") for w in line.split()[1:])
    return tuple(dict.fromkeys(w for w in (*plain, *words) if _is_ip(w)))


def hosts_file(content: str) -> Mapping[str, tuple[str, ...]]:
    """/etc/hosts as lower-case name → addresses in order."""
    names: dict[str, tuple[str, ...]] = {}
    for line in content.splitlines():
        words = line.partition("#")[0].split()
        if words and _is_ip(words[0]):
            for name in words[1:]:
                names[name.lower()] = (*names.get(name.lower(), ()), words[0])
    return names


def _is_ip(word: str) -> bool:
    try:
        ipaddress.ip_address(word)
    except ValueError:
        return False
    return True


def _configured(raw: Raw) -> tuple[str, ...] | Missing:
    content = raw.text("dns.resolv")
    if isinstance(content, Missing):
        return content
    listed = nameservers(content)
    if STUB not in listed:
        return listed
    upstream = command(raw, "dns.resolvectl")
    if isinstance(upstream, Missing) or upstream.exit not in (0, None):
        return listed
    return resolvectl_servers(upstream.output)


def _texts(value: object) -> tuple[str, ...] | None:
    cells = rows(value)
    return None if cells is None else tuple(c for c in cells if isinstance(c, str))


def _servers(raw: Raw) -> tuple[Server, ...] | Missing:
    value = raw.value("dns.query")
    if isinstance(value, Missing):
        return value
    answer = table(value)
    listed = rows(answer.get("servers")) if answer else None
    if listed is None:
        return garbled(raw, "dns.query", "the answer is not a list of servers")
    servers: list[Server] = []
    for entry in listed:
        cells = table(entry) or {}
        ip, answers = text(cells.get("server")), table(cells.get("answers"))
        if ip is None or answers is None:
            return garbled(raw, "dns.query", "a server without address or answers")
        servers.append(Server(ip, {name: _query(got) for name, got in answers.items()}))
    return tuple(servers)


def _query(value: object) -> Query:
    cells = table(value)
    if cells is None:
        return Query((), None, None, "answer not understood")
    found = _texts(cells.get("addresses")) or ()
    return Query(found, whole(cells.get("rcode")), real(cells.get("ms")), text(cells.get("error")) or "")


def _lookups(raw: Raw) -> Mapping[str, Lookup] | Missing:
    value = raw.value("dns.names")
    if isinstance(value, Missing):
        return value
    answers = table(value)
    if answers is None:
        return garbled(raw, "dns.names", "the answer is not a table of names")
    lookups: dict[str, Lookup] = {}
    for name, got in answers.items():
        cells = table(got)
        addresses = _texts(cells.get("addresses")) if cells else None
        if cells is None or addresses is None:
            return garbled(raw, "dns.names", f"no addresses for {name[:100]}")
        lookups[name] = Lookup(addresses, real(cells.get("ms")), text(cells.get("error")) or "")
    return lookups


def parse(raw: Raw) -> DnsFacts:
    content = raw.text("dns.hosts")
    hosts = content if isinstance(content, Missing) else hosts_file(content)
    return DnsFacts(_configured(raw), _servers(raw), _lookups(raw), hosts)


GROUP = Group("dns", DnsFacts, ops, parse)
