"""Judging hosts against each other: facts by host name, and many pairs folded into one ruling per source host."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Sequence
from typing import TypeVar

from dstui.facts.addresses import AddressFacts
from dstui.facts.case import FleetCase, HostSite, Site
from dstui.facts.raw import Missing
from dstui.judge.rulings import Causes
from dstui.model import Reason, Target, TargetKind, Text

F = TypeVar("F")

PAIRS_UP_TO = 16
"""Hosts up to which every ordered pair is a finding of its own; beyond, one finding per source host."""
LISTED = 8
"""How many names or numbers a sentence lists before it says how many more there are."""


def cluster_target(site: Site) -> Target:
    return Target(TargetKind.CLUSTER, site.name)


def facts_of(case: FleetCase, name: str, kind: type[F]) -> F | Missing:
    """The facts of one host, or why there are none."""
    found = case.facts.get(name)
    return Missing(Reason.NOT_RUN, f"{name} was not looked at") if found is None else found.get(kind)


def own_address(case: FleetCase, name: str, ip: str) -> bool:
    """Whether an address of a peer leads back to the host itself, so that reaching it proves nothing."""
    try:
        if ipaddress.ip_address(ip).is_loopback:
            return True
    except ValueError:
        return False
    held = facts_of(case, name, AddressFacts)
    return not isinstance(held, Missing) and held.holding(ip) is not None


def share_hosts(site: Site) -> tuple[HostSite, ...]:
    """The hosts that use the shared storage or serve it: head, worker and storage."""
    return tuple(h for h in site.hosts if h.in_ray or "storage" in h.roles)


def listed(items: Sequence[object]) -> str:
    """`a, b, c (+4)`: a list that stays on one line."""
    more = f" (+{len(items) - LISTED})" if len(items) > LISTED else ""
    return ", ".join(str(item) for item in items[:LISTED]) + more


def absorb(whole: Causes, part: Causes, name: str) -> None:
    """Take over what speaks against one peer, with its name before it."""
    for cause in part.found:
        text = Text(f"{name}: {cause.text.en}", f"{name}：{cause.text.zh}")
        whole.found.append(type(cause)(cause.verdict, text, cause.reason, cause.detail))


def joined(texts: Iterable[Text]) -> Text:
    """Several short texts as one line."""
    parts = list(texts)
    return Text("; ".join(t.en for t in parts), "；".join(t.zh for t in parts))
