"""What the load balancer's public address and the backends behind it showed, check by check."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

from dstui.facts.api import Approach, bare
from dstui.facts.exchange import Exchange, Exchanges
from dstui.facts.openai import Streamed, streamed
from dstui.facts.raw import Missing
from dstui.facts.sse import MEDIA_TYPE, events
from dstui.model import Evidence, Target, TargetKind

DEPLOYED, TLS, PROXY = "lb.deployed", "lb.tls", "lb.reverse-proxy"
ALGORITHM, CACHE = "lb.algorithm", "lb.static-cache"

_ONE_MOMENT_SECONDS = 0.001
"""Pieces that come closer together than this came at once."""


@dataclass(frozen=True, slots=True)
class Front:
    """The balancer's address, and the backends that it should pass to. `url` None: the inventory names none.

    `keyless` says why no API key could be sent; None when there was one.
    """

    url: str | None
    backends: tuple[str, ...] = ()
    keyless: Missing | None = None

    @property
    def target(self) -> Target:
        return Target(TargetKind.ENDPOINT, self.url or "endpoints.api")

    @property
    def host(self) -> str:
        return urlsplit(self.url or "").hostname or ""

    @property
    def port(self) -> int:
        parts = urlsplit(self.url or "")
        return parts.port or (443 if parts.scheme == "https" else 80)

    @property
    def encrypted(self) -> bool:
        return (self.url or "").startswith("https:")

    def path(self, path: str) -> str:
        """A path of the API as the balancer sees it: below the address's own."""
        root = urlsplit(self.url or "").path.rstrip("/").removesuffix("/v1")
        return f"{root}{path}"

    @property
    def straight(self) -> bool:
        """Whether the address is that of a backend itself, so that nothing balances."""
        return self.url is not None and bare(self.url).removesuffix("/v1") in {
            bare(each).removesuffix("/v1") for each in self.backends
        }


@dataclass(frozen=True, slots=True)
class FrontExchanges(Exchanges):
    """Exchanges with the balancer's address and with backends, these under `….backend-N.…` with N from 1."""

    front: Front
    approaches: Mapping[str, Approach]

    def asked(self, check: str, label: str, what: str) -> Exchange | None:
        return self.by_key.get(f"{check}.{label}.{what}")

    def backend(self, check: str, number: int, what: str) -> Exchange | None:
        return self.asked(check, f"backend-{number}", what)

    def out_of_sight(self, number: int) -> bool:
        """Whether a backend that did not connect may be merely closed to the controller."""
        return not self.approaches.get(f"backend-{number}", Approach()).inside


@dataclass(frozen=True, slots=True)
class LbDeployed(FrontExchanges):
    """Keys `lb.deployed.front.health` (asked without a key, certificate not verified), `.front.models`, and
    `.backend-N.health`."""


@dataclass(frozen=True, slots=True)
class LbProxy(FrontExchanges):
    """Keys `lb.reverse-proxy.<front|backend-N>.models`, `.chat`, `.stream`, `.unknown`.

    `chat`, `stream` and `unknown` are asked of the balancer and of one backend, `direct` counted from 1 (None: none of
    them could be).
    """

    direct: int | None


@dataclass(frozen=True, slots=True)
class LbCache(FrontExchanges):
    """Keys `lb.static-cache.front.post-1` and `post-2` (two equal prompts), `.models` (with the key), `.models-wrong`
    and `.models-fresh` (with a wrong key, the second with a query that nobody has asked before), and for static assets
    `.static-N.first`, `.second`, `.again` (conditional)."""

    assets: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Share:
    """What one backend got of the requests: by its own counter of finished requests. `healthy` by its health path."""

    url: str
    got: float | Missing
    healthy: bool


@dataclass(frozen=True, slots=True)
class LbSpread(FrontExchanges):
    """`sent` short requests at once through the balancer. `answers` counts them by status or fault; the first exchange
    of each sort is kept under `lb.algorithm.front.<status>`. `not_made` says why nothing was sent, else None."""

    sent: int
    answers: Mapping[str, int]
    shares: tuple[Share, ...]
    not_made: Missing | None

    def evidence(self, target: Target) -> tuple[Evidence, ...]:
        """A table of the shares, then the exchanges kept."""
        lines = [f"{self.sent} requests: " + ", ".join(f"{count} × {what}" for what, count in self.answers.items())]
        lines += [
            f"{share.url}: {share.got.why if isinstance(share.got, Missing) else f'{share.got:g}'}"
            for share in self.shares
        ]
        table = "\n".join(lines)
        kept = tuple(exchange.evidence() for exchange in self.by_key.values())
        return (Evidence(f"{ALGORITHM}.shares", "vllm:request_success_total", None, table, len(table), 0.0), *kept)


@dataclass(frozen=True, slots=True)
class Flow:
    """How a streamed answer came: `moments` when its pieces did, seconds after sending; `said` what it was."""

    said: Streamed
    moments: tuple[float, ...]
    seconds: float

    @property
    def longest_gap(self) -> float:
        """The longest wait before a piece, the wait for the first included."""
        return max((b - a for a, b in zip((0.0, *self.moments), self.moments, strict=False)), default=0.0)


def flow(exchange: Exchange) -> Flow | None:
    """None when the answer is no event stream, or did not come whole."""
    if exchange.missing is not None or exchange.status != 200 or exchange.kind != MEDIA_TYPE:
        return None
    moments: list[float] = []
    for at, _ in exchange.arrivals:
        if not moments or at - moments[-1] > _ONE_MOMENT_SECONDS:
            moments.append(at)
    return Flow(streamed(events(exchange.body)), tuple(moments), exchange.seconds)
