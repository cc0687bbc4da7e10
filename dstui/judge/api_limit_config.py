"""Which limits are configured at the load balancers, as far as their configuration was seen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from dstui.facts.raw import Missing
from dstui.judge.fleet import listed
from dstui.model import Reason


@dataclass(frozen=True, slots=True)
class Configured:
    """`found` are the directives in words; `shared` the limiter keys that are the same for all users.

    `unknown` is why (some of) the configuration was not seen; None when there is none to see, or all was seen.
    """

    found: tuple[str, ...]
    shared: tuple[str, ...]
    unknown: Missing | None
    evidence: tuple[str, ...] = ()


def configured(balancers: Sequence[str]) -> Configured:
    """The limits of the load balancers, which are named."""
    if not balancers:
        return Configured((), (), None)
    return Configured((), (), Missing(Reason.NOT_RUN, f"the configuration of {listed(balancers)} was not read"))
