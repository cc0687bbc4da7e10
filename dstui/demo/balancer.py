"""The made-up load balancer before all replicas: it wants the key, counts who asks too often, and gives work away."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from dstui.demo import api_words
from dstui.demo.api import ReplicaApi, Wicket
from dstui.demo.api_words import PATHS
from dstui.demo.web import Request, Response

RATE, BURST = 30.0, 100.0
"""Requests/s of one key in the long run, and how many may come at once."""
RETRY_AFTER = "1"
_PRIVATE = frozenset({"/metrics", "/load"})
"""What users have no business with."""
_FREE = frozenset({"/health", "/version", "/docs", "/openapi.json"})
"""What wants no key."""
_LIMITED = api_words.refused("Too many requests, come back later", None, 429, "RateLimitError")
_NOBODY = Response(
    b"<html>\r\n<head><title>502 Bad Gateway</title></head>\r\n<body>\r\n<center><h1>502 Bad Gateway</h1></center>\r\n"
    b"</body>\r\n</html>\r\n",
    "text/html",
    502,
)


@dataclass(slots=True)
class Bucket:
    """Full of `BURST` permits, it gets `RATE` new ones a second. `clock` never goes back."""

    clock: Callable[[], float]
    left: float = BURST
    at: float | None = None

    def take(self) -> bool:
        """Whether there was a permit."""
        now = self.clock()
        self.left = min(BURST, self.left + RATE * (now - (now if self.at is None else self.at)))
        self.at = now
        if self.left < 1.0:
            return False
        self.left -= 1.0
        return True


@dataclass(slots=True)
class Balancer:
    """`monotonic` gives seconds that never go back. Those without a key share a bucket."""

    replicas: Sequence[ReplicaApi]
    wicket: Wicket
    monotonic: Callable[[], float]
    _buckets: dict[bool, Bucket] = field(default_factory=dict)

    async def answer(self, request: Request) -> Response:
        """As the replica that has least to do answers; 502 when none is there. Raises as that does."""
        path, known = request.path, self.wicket.passes(request.headers)
        if path in _PRIVATE or not (path in PATHS or path.startswith("/v1/")):
            return api_words.NOT_FOUND
        if not known and path not in _FREE:
            return api_words.UNAUTHORIZED
        if path not in _FREE and not self._bucket(known).take():
            return Response(_LIMITED.body, _LIMITED.content_type, 429, {"Retry-After": RETRY_AFTER})
        if request.body is None:
            return api_words.too_large()
        ready = [each for each in self.replicas if each.copy.engine is not None]
        if not ready:
            return _NOBODY
        return await min(ready, key=_load).answer(request)

    def _bucket(self, known: bool) -> Bucket:
        return self._buckets.setdefault(known, Bucket(self.monotonic))


def _load(replica: ReplicaApi) -> tuple[int, int]:
    """Fewest requests of its own first, then of all."""
    engine = replica.copy.engine
    assert engine is not None
    return len(engine.guests), engine.waiting + engine.running
