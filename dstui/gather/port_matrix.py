"""Ports between hosts: every host holds some open, the others connect and check a nonce (CATALOGUE 015)."""

from __future__ import annotations

import asyncio
import hashlib
import secrets
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from dstui.facts.case import HostSite, Site
from dstui.facts.choreography import Listener, PortMatrix, PortTry
from dstui.facts.raw import Missing
from dstui.gather.company import Company, cleaned
from dstui.gather.link import HostLink
from dstui.gather.wording import clean
from dstui.model import Reason

LISTEN_SECONDS = 20.0
"""How long a host holds a port open."""

TRUSTED_SECONDS = LISTEN_SECONDS - 2.0
"""An answer that comes later may be about a listener that has closed itself, and is not waited for."""

ALL_PAIRS_HOSTS = 16
RANDOM_PEERS = 3
_ALWAYS_SAMPLED = 10002
_BUSY_SECONDS = 8.0
_CONNECT_MARGIN = 6.0
_CONNECTS_AT_ONCE = 256
_OUTCOMES = frozenset({"ok", "wrong-nonce", "refused", "timeout", "unreach", "error"})


def sample_ports(port_range: tuple[int, int], count: int, seed: str) -> tuple[int, ...]:
    """`count` ports of a range: both ends, 10002 (Ray's first worker port), and one from each of equal parts between.

    The same seed gives the same ports, so that runs can be compared.
    """
    low, high = port_range
    chosen = {low, high} | ({_ALWAYS_SAMPLED} if low <= _ALWAYS_SAMPLED <= high else set())
    inner = range(low + 1, high)
    parts = min(max(0, count - len(chosen)), len(inner) - len(chosen & set(inner)))
    for part in range(parts):
        start = part * len(inner) // parts
        width = max(1, (part + 1) * len(inner) // parts - start)
        offset = _number(f"{seed}:{low}-{high}:{part}") % width
        port = inner[start + offset]
        while port in chosen:
            port = low + 1 + (port - low) % len(inner)
        chosen.add(port)
    return tuple(sorted(chosen))


def pair_plan(names: Sequence[str], heads: Iterable[str], seed: str) -> tuple[tuple[tuple[str, str], ...], bool]:
    """The ordered pairs to try, and whether that is all of them.

    All for up to 16 hosts; above, every host with every head in both directions, and to three random peers.
    """
    if len(names) <= ALL_PAIRS_HOSTS:
        return tuple((a, b) for a in names for b in names if a != b), True
    centres = [name for name in names if name in set(heads)] or list(names[:1])
    star = [(centre, name) for centre in centres for name in names if name != centre]
    pairs = {*star, *((name, centre) for centre, name in star)}
    for name in names:
        others = [peer for peer in names if peer != name and peer not in centres]
        drawn = sorted((_number(f"{seed}:{name}>{peer}"), peer) for peer in others)
        pairs.update((name, peer) for _, peer in drawn[:RANDOM_PEERS])
    return tuple(sorted(pairs)), False


def _number(text: str) -> int:
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")


@dataclass(slots=True)
class _Ports:
    company: Company
    wanted: Mapping[str, tuple[int, ...]]
    momentary: frozenset[tuple[str, int]]
    live: bool
    connect_timeout: float
    nonces: dict[tuple[str, int], str]
    listeners: dict[tuple[str, int], Listener]
    opened_at: float

    async def open(self, host: HostSite) -> None:
        await asyncio.gather(*(self._listen(host, port) for port in self.wanted[host.name]))

    async def _listen(self, host: HostSite, port: int) -> None:
        key = (host.name, port)
        self.nonces[key] = secrets.token_hex(16)
        answer = await self.company.ask(
            host.name,
            "listen",
            _BUSY_SECONDS,
            address=host.data_ip,
            port=port,
            nonce=self.nonces[key],
            seconds=LISTEN_SECONDS,
        )
        if answer is None:
            return
        state, holder = answer.get("state"), answer.get("holder")
        self.listeners[key] = Listener(
            host.name,
            port,
            state if state in ("listening", "busy") else "failed",
            clean(holder) if isinstance(holder, str) else None,
            clean(str(answer.get("why") or "")),
        )
        if state == "listening" and key in self.momentary:
            # Ray itself may be about to take this port: knowing that it is free is all that is wanted.
            await self.company.tidy(host.name, "close", port=port)

    async def connect(self, source: HostSite, peers: Sequence[HostSite]) -> list[PortTry]:
        endpoints: list[tuple[str, int, str | None]] = []
        for peer in peers:
            for port in self.wanted[peer.name]:
                listener = self.listeners.get((peer.name, port))
                if listener is not None and self._worth_trying(listener):
                    nonce = self.nonces[peer.name, port] if listener.state == "listening" else None
                    endpoints.append((peer.data_ip, port, nonce))
        if not endpoints:
            return []
        left = TRUSTED_SECONDS - (time.monotonic() - self.opened_at)
        rounds = 1 + len(endpoints) // _CONNECTS_AT_ONCE
        within = min(max(left, 0.1), self.connect_timeout * rounds + _CONNECT_MARGIN)
        answer = await self.company.ask(
            source.name, "connect", within, endpoints=endpoints, timeout_=self.connect_timeout
        )
        if answer is None:
            return []
        names = {peer.data_ip: peer.name for peer in peers}
        asked = {(address, port) for address, port, _ in endpoints}
        said = answer.get("tries")
        rows = [row for row in said if _is_try(row, asked)] if isinstance(said, list) else []
        tries = [self._try(source.name, names, row) for row in rows]
        if len({(t.destination, t.port) for t in tries}) < len(endpoints):
            self.company.hole(source.name, Reason.PARSE_ERROR, "did not answer for every port it was asked")
        return tries

    def _worth_trying(self, listener: Listener) -> bool:
        if listener.state == "failed":
            return False
        return listener.state == "busy" or (listener.host, listener.port) not in self.momentary

    def _try(self, source: str, names: Mapping[str, str], row: Sequence[object]) -> PortTry:
        destination, port, outcome = names[str(row[0])], int(str(row[1])), str(row[2])
        if outcome == "ok" and self.listeners[destination, port].state == "busy" and not self.live:
            # Before Ray runs nothing is meant to listen there, so this shows no open path to a port of ours.
            outcome = "wrong-nonce"
        milliseconds = float(row[3]) if len(row) > 3 and isinstance(row[3], int | float) else 0.0
        return PortTry(source, destination, port, outcome, milliseconds)

    async def close(self, host: HostSite) -> None:
        """Close all of a host's listeners; a host that cannot confirm that becomes a hole."""
        closing = [port for port in self.wanted[host.name] if (host.name, port) not in self.momentary]
        closed = await asyncio.gather(*(self.company.tidy(host.name, "close", port=port) for port in closing))
        if not all(closed):
            self.company.hole(host.name, Reason.UNREACHABLE, "was lost while its ports were tried")


def _is_try(row: object, asked: set[tuple[str, int]]) -> bool:
    if not (isinstance(row, list) and len(row) >= 3 and isinstance(row[0], str) and isinstance(row[1], int)):
        return False
    return (row[0], row[1]) in asked and isinstance(row[2], str) and row[2] in _OUTCOMES


async def port_matrix(
    site: Site,
    links: Mapping[str, HostLink],
    missing: Mapping[str, Missing],
    *,
    head_ports: Sequence[int],
    port_range: tuple[int, int],
    samples: int,
    extra: Sequence[int],
    phase: str,
    connect_timeout: float,
    seed: str,
) -> PortMatrix:
    """Every Ray host holds ports open on its data address, the others connect and check the nonce.

    `head_ports` are asked of hosts with the role head; `samples` ports of `port_range` and `extra` of every host. In
    phase `live` a port held by a service counts as reached when it connects, and a free head port is looked at and let
    go at once, so that a starting Ray is not kept out. A host takes at most 30 s. Sides that failed are in `missing`;
    tries towards a host that was lost meanwhile are left out unless they succeeded.
    """
    company = Company.of(site, links, missing)
    heads = [host.name for host in company.hosts if "head" in host.roles]
    sampled = sample_ports(port_range, samples, seed)
    wanted = {
        host.name: tuple(dict.fromkeys([*(head_ports if host.name in heads else ()), *sampled, *extra]))
        for host in company.hosts
    }
    pairs, all_pairs = pair_plan([host.name for host in company.hosts], heads, seed)
    planned = set(pairs)
    momentary = frozenset((name, port) for name in heads for port in head_ports) if phase == "live" else frozenset()
    ports = _Ports(company, wanted, momentary, phase == "live", connect_timeout, {}, {}, time.monotonic())
    took_part = company.present
    tries: list[PortTry] = []
    try:
        await company.each(took_part, ports.open)
        listening = company.present
        peers = {a.name: [b for b in listening if (a.name, b.name) in planned] for a in listening}
        for found in await company.each(listening, lambda host: ports.connect(host, peers[host.name])):
            tries.extend(found)
    finally:
        await cleaned(company.each(took_part, ports.close))
    return PortMatrix(
        seed=seed,
        samples=sampled,
        range_low=port_range[0],
        range_high=port_range[1],
        all_pairs=all_pairs,
        listeners=tuple(ports.listeners[key] for key in sorted(ports.listeners)),
        tries=tuple(t for t in tries if t.outcome == "ok" or t.destination not in company.missing),
        missing=company.missing,
    )
