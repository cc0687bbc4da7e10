"""What the API's endpoints showed: which there are, how they were got to, and the exchanges of each check."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit, urlunsplit

from dstui.facts.exchange import Exchange, Exchanges
from dstui.facts.openai import ApiError, Completion, completion
from dstui.facts.raw import Missing
from dstui.model import Evidence, Target, TargetKind

REFUSING = ("none", "empty", "wrong", "scheme")
"""Ways to ask without a right to: no header, `Bearer` alone, a random key, `Basic`."""
VARIANTS = (*REFUSING, "right")
LISTING, CHAT = "models", "chat"
"""What each variant is tried on: `GET /v1/models` and one token from `POST /v1/chat/completions`."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One address of the API. `label` is `public` or `backend-N` and names its evidence."""

    url: str
    label: str

    @property
    def public(self) -> bool:
        return self.label == "public"

    @property
    def target(self) -> Target:
        return Target(TargetKind.ENDPOINT, self.url)

    @property
    def host(self) -> str:
        return urlsplit(self.url).hostname or ""

    @property
    def port(self) -> int:
        parts = urlsplit(self.url)
        return parts.port or (443 if parts.scheme == "https" else 80)

    @property
    def encrypted(self) -> bool:
        return self.url.startswith("https:")

    def key(self, check: str, what: str = "") -> str:
        """The evidence key of something asked here; without `what` the prefix of all of a check."""
        return f"{check}.{self.label}.{what}"


def endpoints(api: str | None, backends: Sequence[str]) -> tuple[Endpoint, ...]:
    """The public endpoint and the backends, each address once; one that is both counts as public."""
    found: dict[str, Endpoint] = {}
    if api:
        found[bare(api)] = Endpoint(bare(api), "public")
    for number, url in enumerate(backends, 1):
        found.setdefault(bare(url), Endpoint(bare(url), f"backend-{number}"))
    return tuple(found.values())


def bare(url: str) -> str:
    """An address as a target is called: no query, no login, no slash at the end."""
    parts = urlsplit(url)
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path.rstrip("/"), "", ""))


@dataclass(frozen=True, slots=True)
class Approach:
    """How an endpoint was got to: `via` a host (None: straight from the controller).

    `inside` says that it was also tried from a host of the cluster.
    """

    via: str | None = None
    inside: bool = False


@dataclass(frozen=True, slots=True)
class EndpointExchanges(Exchanges):
    """Exchanges with some endpoints. `approaches` by label; `keyless` says why there is no API key, else None."""

    endpoints: tuple[Endpoint, ...]
    approaches: Mapping[str, Approach]
    keyless: Missing | None

    def approach(self, endpoint: Endpoint) -> Approach:
        return self.approaches.get(endpoint.label, Approach())


@dataclass(frozen=True, slots=True)
class ApiStarted(EndpointExchanges):
    """Keys `api.started.<label>.models` and `.version`."""


@dataclass(frozen=True, slots=True)
class ApiDocs(EndpointExchanges):
    """Of the public endpoint. Keys `api.docs.<label>.page`, `.schema`, `.spec` (what the page itself loads) and
    `.asset-N`; `.page-key` and `.schema-key` where it wanted the key.

    `addresses` are those that the page's host resolves to.
    """

    addresses: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ApiHealth(EndpointExchanges):
    """Keys `api.health.<label>.sample-N`, `.serve` (Ray Serve's own path, where the configured one is 404) and
    `.deep` (one token); no `.deep` when it was switched off or there is no key and one is wanted."""


@dataclass(frozen=True, slots=True)
class ApiAuth(EndpointExchanges):
    """Keys `api.auth.<label>.<variant>-<models|chat>`, `.revoked-models` and `.open-<name>` (paths without a key).

    `revoked` is why the revoked key was not tried; None when it was, or when the inventory names none.
    """

    revoked: Missing | None


@dataclass(frozen=True, slots=True)
class BurstStep:
    """Requests sent at about `rate` a second. `answers` counts them by status (`200`) or by fault (`timeout`).

    `first_limited` is the number of the first limited one within the whole burst, counted from 1. `achieved` is the
    rate that was reached.
    """

    rate: float
    sent: int
    achieved: float
    answers: Mapping[str, int]
    first_limited: int | None = None


@dataclass(frozen=True, slots=True)
class ApiRateLimit(EndpointExchanges):
    """A burst at the public endpoint. Keys `api.rate-limit.public.first`, `.limited`, `.bad` (the first of each sort),
    `.recovered` (the last look afterwards), `.body` and `.max-tokens`.

    `steps` are empty when the burst was not made, and `not_made` says why. `recovered_s` is how long after the burst
    three requests in a row were answered 200 again; None when that did not happen, or was not needed. `retry_after`
    are the distinct values that limited answers came with, `""` for none.
    """

    steps: tuple[BurstStep, ...]
    not_made: Missing | None
    recovered_s: float | None
    retry_after: tuple[str, ...]

    def evidence(self, target: Target) -> tuple[Evidence, ...]:
        """A table of the steps, then the exchanges kept."""
        rows = [
            f"about {step.rate:g}/s: {step.sent} sent, {step.achieved:.1f}/s reached: "
            + ", ".join(f"{count} × {what}" for what, count in step.answers.items())
            for step in self.steps
        ]
        table = "\n".join(rows)
        seconds = sum(step.sent / step.achieved for step in self.steps if step.achieved)
        first = self.by_key.get("api.rate-limit.public.first")
        source = first.curl if first is not None else "burst"
        burst = Evidence("api.rate-limit.public.burst", source, None, table, len(table), seconds)
        kept = tuple(exchange.evidence() for exchange in self.by_key.values())
        return (burst, *kept) if self.steps else kept


def limited(status: int | None) -> bool:
    """Whether a status is a clean refusal of one who asks too often."""
    return status in (429, 503)


def answer_of(exchange: Exchange) -> Completion | ApiError | Missing:
    """The completion that an exchange carries, the error in its place, or why it is neither."""
    value = exchange.json()
    return value if isinstance(value, Missing) else completion(value)


_SIZE = re.compile(r"(\d{1,12})\s*([kKmMgG]?)[bB]?")


def size(written: str) -> int | None:
    """Bytes of a size as nginx writes it (`10m`, `512k`, `1g`, `0`); None when it is none."""
    found = _SIZE.fullmatch(written.strip())
    return int(found[1]) << {"": 0, "k": 10, "m": 20, "g": 30}[found[2].lower()] if found else None
