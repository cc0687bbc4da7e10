"""One request to an endpoint and what came back, as judges see it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from dstui.facts.raw import Missing
from dstui.model import EVIDENCE_HEAD_BYTES, Evidence, Reason, Target

_SHOWN_HEADERS = (
    "server", "via", "date", "content-type", "content-length", "transfer-encoding", "content-encoding", "location",
    "allow", "www-authenticate", "retry-after", "cache-control", "age", "x-cache", "x-accel-buffering", "x-request-id",
    "strict-transport-security",
)  # fmt: skip
"""Headers that are kept as evidence. A list of what may be shown, so that no cookie or token ever is."""
_SHOWN_HEADER_LENGTH = 200


class Fault(StrEnum):
    """What kept an answer from coming, or from coming whole."""

    NAME = "name"
    """The host name does not resolve."""
    REFUSED = "refused"
    ROUTE = "route"
    CONNECT_TIMEOUT = "connect-timeout"
    TLS = "tls"
    TIMEOUT = "timeout"
    """Connected, but no (whole) answer in time."""
    BROKE_OFF = "broke-off"
    """Connected, but the other side closed or reset the connection, or spoke no HTTP."""
    NOT_SENT = "not-sent"
    """The request itself cannot be sent: an impossible URL or header, a key that is no header value."""

    @property
    def connected(self) -> bool:
        """Whether something at the address took the connection, so that it is not merely out of reach."""
        return self in (Fault.TIMEOUT, Fault.BROKE_OFF)


@dataclass(frozen=True, slots=True)
class Exchange:
    """Either the whole answer came, and `status` and what follows are it; or `missing` says why not, `fault` what sort.

    With `missing`, `status`, `headers`, `body` and `arrivals` are what had come until then; `status` is None when
    that was nothing. `curl` is the request as a person can repeat it, the key as a shell variable. Header names are in
    lower case. `body` holds at most the limit that was asked for; `cut` says that there was more. `seconds` is from
    sending to the end of the body, `first` to its first byte; `arrivals` are (seconds after sending, bytes) of each
    read, in order. `via` is the host through whose SSH connection it went, None when straight from the controller.
    `tries` counts requests: more than one when the server said to come back later, and the last one is shown.
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
    fault: Fault | None = None
    via: str | None = None
    tries: int = 1

    @property
    def text(self) -> str:
        """The body as text; what is no UTF-8 is replaced."""
        return self.body.decode("utf-8", "replace")

    @property
    def kind(self) -> str:
        """The media type of the body without its parameters, in lower case; empty when the server named none."""
        return self.headers.get("content-type", "").partition(";")[0].strip().lower()

    @property
    def encoding(self) -> str:
        """How the body is compressed, although nobody asked for that; empty when it is not."""
        named = self.headers.get("content-encoding", "").strip().lower()
        return "" if named == "identity" else named

    def when(self, offset: int) -> float | None:
        """Seconds after sending until so many bytes of the body were there; None when they never were."""
        came = 0
        for at, size in self.arrivals:
            came += size
            if came >= offset:
                return at
        return None

    def json(self) -> object | Missing:
        """The body as JSON; Missing when there is none, when it was cut off or is no JSON in UTF-8."""
        if self.missing is not None:
            return self.missing
        if self.cut:
            return Missing(Reason.BUDGET, f"{self.url}: only the first {len(self.body)} bytes of the answer were read")
        if self.encoding:
            return Missing(Reason.PARSE_ERROR, f"{self.url}: the answer is compressed ({self.encoding[:20]}), unasked")
        try:
            found: object = json.loads(self.body.decode("utf-8-sig"))
        except (ValueError, RecursionError) as error:
            return Missing(Reason.PARSE_ERROR, f"{self.url}: the answer is no JSON ({type(error).__name__})")
        return found

    def evidence(self) -> Evidence:
        """Request, status, headers worth showing, and the head of the body."""
        error = self.missing.why if self.missing else ""
        if self.status is None:
            return Evidence(self.key, self.curl, None, "", 0, self.seconds, error)
        shown = [f"{name}: {value[:_SHOWN_HEADER_LENGTH]}" for name in _SHOWN_HEADERS if (value := self._header(name))]
        head = "\n".join(
            (f"HTTP {self.status}", *shown, "", self.body[:EVIDENCE_HEAD_BYTES].decode("utf-8", "replace"))
        )
        return Evidence(
            key=self.key,
            source=self.curl,
            exit=self.status,
            output=head[:EVIDENCE_HEAD_BYTES],
            output_bytes=max(len(self.body), min(len(head.encode("utf-8", "surrogatepass")), EVIDENCE_HEAD_BYTES)),
            seconds=self.seconds,
            error=error,
        )

    def _header(self, name: str) -> str:
        return " ".join(self.headers.get(name, "").split())


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
