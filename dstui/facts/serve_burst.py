"""Requests sent at the same moment straight to what serves the model, and how they were taken."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from dstui.facts import openai
from dstui.facts.exchange import Exchange, Exchanges
from dstui.facts.openai import ApiError, Streamed
from dstui.facts.raw import Missing
from dstui.facts.serve_config import AppConfig
from dstui.facts.sse import MEDIA_TYPE, events
from dstui.model import Reason

PREFIX = "concurrency."
MODELS, WARM_UP, ALONE, REQUEST = "models", "warm-up", "alone", "request-"
SINGLES = 2
"""Requests before the burst: the warm-up and the one alone."""

_COUNTER = re.compile(
    rb"^ray_serve_deployment_request_counter(?:_total)?\{([^}\n]{0,4000})\} ([0-9.e+]{1,24})\s*$", re.MULTILINE
)
_LABEL = re.compile(r'([A-Za-z_]\w{0,60})="((?:[^"\\]|\\.){0,300})"', re.ASCII)


@dataclass(frozen=True, slots=True)
class Sent:
    """One request of the burst: when it was sent, seconds after the first, and the code that only it holds."""

    key: str
    at: float
    nonce: str


@dataclass(frozen=True, slots=True)
class Answered:
    """What came of one request. `text` is everything said, thoughts as well. `fault` is why it is no good answer.

    `service` is when its words began and ended to come, in seconds after the first request of the burst was sent: what
    the server did for it alone. Waiting in a queue is not in it.
    """

    sent: Sent
    exchange: Exchange
    text: str
    tokens: int
    fault: Missing | None
    service: tuple[float, float] | None


@dataclass(frozen=True, slots=True)
class Burst(Exchanges):
    """The burst at one endpoint. Keys `concurrency.models`, `.warm-up`, `.alone` and `.request-NN`.

    `keyless` is why there is no API key. `sent` is empty when the burst was not made, and `not_made` says why.
    `replicas` are those that ran in the deployments of the model, None where that is not known; `spread` how many
    requests each got, by its own counter, the `SINGLES` before the burst included.
    """

    url: str | None
    via: str | None
    keyless: Missing | None
    not_made: Missing | None
    sent: tuple[Sent, ...]
    configs: tuple[AppConfig, ...]
    replicas: tuple[str, ...] | None
    spread: Mapping[str, int] | Missing

    def answers(self) -> tuple[Answered, ...]:
        return tuple(answered(self.by_key[sent.key], sent) for sent in self.sent if sent.key in self.by_key)


def answered(exchange: Exchange, sent: Sent) -> Answered:
    """A request's answer, streamed or not."""
    if exchange.missing is not None or exchange.status != 200:
        missing = exchange.missing or Missing(Reason.CANNOT_TELL, _said(exchange))
        return Answered(sent, exchange, "", 0, missing, None)
    if exchange.kind != MEDIA_TYPE:
        return _whole(exchange, sent)
    stream = openai.streamed(events(exchange.body))
    text = stream.text + stream.reasoning
    return Answered(
        sent, exchange, text, _tokens(stream), _stream_fault(exchange, stream), _service(exchange, sent, stream)
    )


def _whole(exchange: Exchange, sent: Sent) -> Answered:
    value = exchange.json()
    found = value if isinstance(value, Missing) else openai.completion(value)
    if isinstance(found, Missing):
        return Answered(sent, exchange, "", 0, found, None)
    if isinstance(found, ApiError):
        return Answered(sent, exchange, "", 0, Missing(Reason.CANNOT_TELL, found.message), None)
    said = "".join((choice.text or "") + (choice.reasoning or "") for choice in found.choices)
    return Answered(sent, exchange, said, found.tokens, None, None)


def _stream_fault(exchange: Exchange, stream: Streamed) -> Missing | None:
    if stream.error is not None:
        return Missing(Reason.CANNOT_TELL, stream.error.message)
    if stream.faults:
        return stream.faults[0]
    if not stream.done and stream.finish_reason is None:
        return Missing(Reason.CANNOT_TELL, f"{exchange.url}: the stream ended in the middle")
    return None


def _tokens(stream: Streamed) -> int:
    if stream.usage is not None:
        return stream.usage.completion
    return int(bool(stream.text or stream.reasoning))


def _service(exchange: Exchange, sent: Sent, stream: Streamed) -> tuple[float, float] | None:
    first = exchange.when(stream.first) if stream.first is not None else None
    return None if first is None else (sent.at + first, sent.at + exchange.seconds)


def _said(exchange: Exchange) -> str:
    found = openai.error_of(exchange)
    return f"HTTP {exchange.status}: {found.message if found else exchange.text[:200]}"


def request_counts(page: bytes, wanted: Mapping[tuple[str, str], object]) -> dict[str, float]:
    """Requests by replica on a Ray node's page of metrics; `wanted` are (application, deployment)."""
    found: dict[str, float] = {}
    for labels, value in _COUNTER.findall(page)[:20_000]:
        named = dict(_LABEL.findall(labels.decode("utf-8", "replace")))
        if (named.get("application"), named.get("deployment")) in wanted and "replica" in named:
            replica = named["replica"][:60]
            try:
                found[replica] = found.get(replica, 0.0) + float(value)
            except ValueError:
                continue
    return found
