"""What several hosts show only together: port reachability, the shared-storage nonce, the view from outside."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from dstui.facts.raw import Answer, Missing
from dstui.model import Evidence, Target


@dataclass(frozen=True, slots=True)
class Asked:
    """How a need is to be met: `confirmed` are the checks whose deeper or heavier part a person asked for, `told`
    takes a word of progress such as `41 of 160 GB`."""

    confirmed: frozenset[str] = frozenset()
    told: Callable[[str], None] = lambda word: None


@dataclass(frozen=True, slots=True)
class Listener:
    """One port that a host was asked to hold open.

    `state`: `listening` (ours, answers the nonce), `busy` (something else holds it, `holder` names it where readable),
    `failed` (could not bind, `why`). `held_by_live` is set when the port is busy and was reached as a live service.
    """

    host: str
    port: int
    state: str
    holder: str | None = None
    why: str = ""


@dataclass(frozen=True, slots=True)
class PortTry:
    """One TCP connect from `source` to `destination:port`.

    `outcome`: `ok` (connected; our nonce came back, or the port is held by a service that is meant to listen),
    `wrong-nonce` (connected, but to something else than our listener), `refused`, `timeout`, `unreach`, `error`.
    """

    source: str
    destination: str
    port: int
    outcome: str
    ms: float


@dataclass(frozen=True, slots=True)
class PortMatrix:
    """Reachability between hosts. `seed` made `samples`; `all_pairs` is False when only a star plus peers was tried.

    `missing` holds hosts that could not take part, by name.
    """

    seed: str
    samples: tuple[int, ...]
    range_low: int
    range_high: int
    all_pairs: bool
    listeners: tuple[Listener, ...]
    tries: tuple[PortTry, ...]
    missing: Mapping[str, Missing]


@dataclass(frozen=True, slots=True)
class NonceWrite:
    """Whether a host wrote its nonce file; `error` is an errno name such as EACCES, empty on success."""

    host: str
    ok: bool
    error: str
    as_user: str
    ms: float
    leftovers: int = 0


@dataclass(frozen=True, slots=True)
class NonceRead:
    """Whether `reader` read `writer`'s file with the right SHA-256 and after how many seconds it became visible.

    `outcome`: `match`, `mismatch`, `absent`, `error`.
    """

    reader: str
    writer: str
    outcome: str
    error: str
    seconds: float


@dataclass(frozen=True, slots=True)
class NonceMatrix:
    """Every host wrote a nonce on the shared path, every host read all of them (N × N)."""

    run: str
    path: str
    writes: tuple[NonceWrite, ...]
    reads: tuple[NonceRead, ...]
    missing: Mapping[str, Missing]


@dataclass(frozen=True, slots=True)
class VantageReach:
    """TCP connects from outside the hosts (the controller): host → port → outcome as in PortTry.

    `inside` is True when the vantage's own address lies in the cluster's CIDRs, so that it proves nothing of outside.
    """

    vantage: str
    address: str | None
    inside: bool
    outcomes: Mapping[str, Mapping[int, str]]


@dataclass(frozen=True, slots=True)
class OwnAnswer:
    """What an operator's own check got from the controller or an endpoint."""

    answer: Answer

    def evidence(self, target: Target) -> Evidence:
        return self.answer.evidence()
