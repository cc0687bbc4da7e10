"""One request to an endpoint and what came back, as judges see it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field

from dstui.facts.raw import Missing
from dstui.model import EVIDENCE_HEAD_BYTES, Evidence, Reason, Target


@dataclass(frozen=True, slots=True)
class Exchange:
    """Either `missing` is set (nothing came back, and why), or `status` and what follows.

    `curl` is the request as a person can repeat it, the key as a shell variable. Header names are in lower case.
    `body` holds at most the limit that was asked for; `cut` says that there was more. `seconds` is from sending to the
    end of the body, `first` to its first byte; `arrivals` are (seconds after sending, bytes) of each read, in order.
    """

    key: str
    method: str
    url: str
    curl: str
    status: int | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    cut: bool = False
    seconds: float = 0.0
    first: float | None = None
    arrivals: tuple[tuple[float, int], ...] = ()
    missing: Missing | None = None

    @property
    def text(self) -> str:
        """The body as text; what is no UTF-8 is replaced."""
        return self.body.decode("utf-8", "replace")

    @property
    def kind(self) -> str:
        """The media type of the body without its parameters, in lower case; empty when the server named none."""
        return self.headers.get("content-type", "").partition(";")[0].strip().lower()

    def json(self) -> object | Missing:
        """The body as JSON; Missing when there is none, when it was cut off or is no JSON."""
        if self.missing is not None:
            return self.missing
        if self.cut:
            return Missing(Reason.BUDGET, f"{self.url}: only the first {len(self.body)} bytes of the answer were read")
        try:
            found: object = json.loads(self.body)
        except (ValueError, RecursionError) as error:
            return Missing(Reason.PARSE_ERROR, f"{self.url}: the answer is no JSON ({type(error).__name__})")
        return found

    def evidence(self) -> Evidence:
        """Request, status and the head of the answer."""
        head = self.body[:EVIDENCE_HEAD_BYTES].decode("utf-8", "replace")
        return Evidence(
            key=self.key,
            source=self.curl,
            exit=self.status,
            output="" if self.missing else head,
            output_bytes=len(self.body),
            seconds=self.seconds,
            error=self.missing.why if self.missing else "",
        )


@dataclass(frozen=True, slots=True)
class Exchanges:
    """What a choreography that only asks gives its judge: exchanges by key. Subclass it with a name of its own."""

    by_key: Mapping[str, Exchange]

    def evidence(self, target: Target) -> tuple[Evidence, ...]:
        """All of them, as evidence; a ruling's `evidence_keys` pick those that it rests on."""
        return tuple(exchange.evidence() for exchange in self.by_key.values())

    def get(self, key: str) -> Exchange | Missing:
        """An exchange that came back; Missing when it did not, or was not made."""
        found = self.by_key.get(key)
        if found is None:
            return Missing(Reason.NOT_RUN, f"{key} was not asked")
        return found.missing or found

    def with_prefix(self, prefix: str) -> tuple[Exchange, ...]:
        """Those whose keys begin so, as they were made."""
        return tuple(found for key, found in self.by_key.items() if key.startswith(prefix))
