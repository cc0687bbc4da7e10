"""What the functional checks observed of the API: exchanges by key, and what only the client knows of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from dstui.facts.exchange import Exchange, Exchanges
from dstui.facts.raw import Missing
from dstui.model import Evidence, Target, TargetKind


@dataclass(frozen=True, slots=True)
class FuncTarget:
    """What was asked: the API's URL without anything secret, the model, and whether a key was sent.

    `url` None: the inventory names no endpoint. `keyless` says why no key was sent.
    """

    url: str | None
    model: str
    keyless: Missing | None = None

    @property
    def target(self) -> Target:
        return Target(TargetKind.ENDPOINT, self.url or "endpoints.api")


@dataclass(frozen=True, slots=True)
class BasicInference(Exchanges):
    """Keys `plain` and `stream`."""

    of: FuncTarget = FuncTarget(None, "")


@dataclass(frozen=True, slots=True)
class FillLevel:
    """One prompt of a known size. `expected` tokens; `counted` says whether the server's own tokenizer counted them."""

    share: float
    expected: int
    counted: bool
    needle: str
    exchange: Exchange
    capped: bool = False


@dataclass(frozen=True, slots=True)
class LongText:
    """`limit` is max_model_len in tokens, from where `limit_from` says; Missing when nobody tells."""

    of: FuncTarget
    limit: int | Missing
    limit_from: str = ""
    levels: tuple[FillLevel, ...] = ()
    overlong: Exchange | None = None
    overlong_tokens: int = 0
    health: Exchange | None = None

    def evidence(self, target: Target) -> tuple[Evidence, ...]:
        """Every exchange, the prompts cut short as always."""
        asked = [level.exchange for level in self.levels]
        asked += [exchange for exchange in (self.overlong, self.health) if exchange is not None]
        return tuple(exchange.evidence() for exchange in asked)


@dataclass(frozen=True, slots=True)
class Languages(Exchanges):
    """Keys `<case>/plain`, `<case>/stream`; `<case>/tokenize` and `<case>/detokenize` where the server has these."""

    of: FuncTarget = FuncTarget(None, "")


@dataclass(frozen=True, slots=True)
class ConcurrentAnswer:
    """One of the requests that were under way together."""

    nonce: str
    streamed: bool
    exchange: Exchange


@dataclass(frozen=True, slots=True)
class Concurrent:
    """All of them. `seconds` is from the first sent to the last answered."""

    of: FuncTarget
    answers: tuple[ConcurrentAnswer, ...] = ()
    seconds: float = 0.0

    def evidence(self, target: Target) -> tuple[Evidence, ...]:
        return tuple(answer.exchange.evidence() for answer in self.answers)


@dataclass(frozen=True, slots=True)
class Abort:
    """A stream that the client left. `before` and `after` are requests running by the backends' own metrics; `settled`
    seconds until they were back, None when they never were in time. Missing when the metrics could not be read."""

    exchange: Exchange
    before: float | Missing
    after: float | Missing
    settled: float | None = None


@dataclass(frozen=True, slots=True)
class ErrorSuite(Exchanges):
    """Keys are ids of `ERROR_CASES`; `health` is a completion asked for at the end."""

    of: FuncTarget = FuncTarget(None, "")
    abort: Abort | None = None
    big_body_limit: int | None = None
    skipped: Mapping[str, Missing] = field(default_factory=dict)
