"""How a judge announces itself: which check, which fact groups it reads, which answers are its evidence."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import IntEnum

from dstui.facts.case import FleetCase, HostCase
from dstui.model import Ruling


class Lane(IntEnum):
    """LOOK: all at once. WORK: after all looking, one at a time. BURST: after all work, alone."""

    LOOK = 0
    WORK = 1
    BURST = 2


@dataclass(frozen=True, slots=True)
class HostJudge:
    """Judges each host by itself, as soon as its facts are there. Groups and evidence are names and key prefixes.

    `needs` may hold `root-attempt`: one login as root with the operator's own key, made by the controller.
    """

    check_id: str
    groups: tuple[str, ...]
    evidence: tuple[str, ...]
    rule: Callable[[HostCase], Ruling]
    needs: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class FleetJudge:
    """Judges when every host has answered or failed: comparisons, pairs, the cluster.

    `needs` names choreography: `ports`, `nonce`, `vantage`, those of `gather/observing.py`, and `ladder`, which the
    engine has. Rulings carry their
    own targets. `lane` says beside what its needs may be met: what works the service hard must not spoil what others
    measure.
    """

    check_id: str
    groups: tuple[str, ...]
    evidence: tuple[str, ...]
    rule: Callable[[FleetCase], Sequence[Ruling]]
    needs: tuple[str, ...] = ()
    lane: Lane = Lane.LOOK
    deeper: bool = False
    """Whether it has a stage that runs only when asked for (`on_request` in the catalogue)."""
    recorded: bool = False
    """Whether it judges what was measured before and is in the journal, so that it makes no load itself."""


Judge = HostJudge | FleetJudge
