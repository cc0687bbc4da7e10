"""Looks at Ray through its dashboard, over HTTP alone: no `ray` package of exactly the cluster's version is needed."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from dstui.facts.case import HostSite
from dstui.inventory.secrets import Secret
from dstui.model import GatherError, Reason, SecretError, Text
from dstui.redact import Redactor
from dstui.telemetry import ray
from dstui.telemetry.lost_words import lost_text
from dstui.telemetry.ray import Fault, RaySnapshot
from dstui.telemetry.ray_answers import ENDPOINTS, Credential, Endpoint, RayAnswer, slimmed, snapshot_of
from dstui.telemetry.record import Record

if TYPE_CHECKING:
    import httpx

    from dstui.gather.ssh import Links

ASIDE_BYTES = 64 * 1024
"""More JSON than this is parsed in a thread, so that the loop is free meanwhile."""

TUNNEL_SECONDS = 30.0
CUT_AGAIN_SECONDS = 60.0
"""An answer that is too big is not asked for again before this time has passed."""

BYTES_PER_SECOND = 400 * 1024
"""Of one answer on average: the larger it is, the less often it is asked for. 4 MiB, 230 nodes, every 10 s."""

PATIENCE_SECONDS = 2.0
"""One slow endpoint does not hold up the others: after this time it is left to a later look."""

RIDE_SECONDS = 0.5
"""So long a look waits for an answer of which an older one is still good: a periodic one, in its second period."""

_FIRST = ("version", "auth")
LATE_SECONDS = 10.0
"""An answer that nobody has taken by then is thrown away; `RaySnapshot.as_of` says how old one is that was taken."""

Tunnel = Callable[[], Awaitable[Path | None]]
"""Opens the way to the dashboard, or sees that it is open: the Unix socket to speak through, None to go directly."""


def head_tunnel(links: Links, head: HostSite, dashboard_url: str) -> Tunnel:
    """Through SSH to the head and from there to the dashboard's address, for `ray.dashboard_access: tunnel`."""
    parts = urlsplit(dashboard_url)
    address, port = parts.hostname or "127.0.0.1", parts.port or (443 if parts.scheme == "https" else 80)
    return lambda: links.forward(head, address, port)


@dataclass(frozen=True, slots=True)
class _Token:
    """The token as it may be used in a header, or why there is none; `label` may be shown."""

    label: str | None = None
    value: str | None = None
    fault: Text | None = None

    @property
    def headers(self) -> dict[str, str]:
        return {} if self.value is None else {"Authorization": f"Bearer {self.value}"}


class RaySource:
    """A Ray dashboard. Belongs to one event loop; `aclose` ends its connections.

    `token` gives Ray's token, from a thread because it may run a command; it is asked once, and again after Ray
    refused it. `redact` masks the secrets that dstui knows in the messages that Ray sends. `endpoints` are asked at
    once.
    """

    def __init__(
        self,
        dashboard_url: str,
        *,
        token: Callable[[], Secret | None] | None = None,
        tunnel: Tunnel | None = None,
        redact: Callable[[str], str] | None = None,
        clock: Callable[[], float] = time.time,
        endpoints: Iterable[Endpoint] = ENDPOINTS,
    ) -> None:
        self._base = dashboard_url.rstrip("/")
        self._where = _where(dashboard_url)
        self._resolve = token
        self._tunnel = tunnel
        self._redact = redact or Redactor().text
        self._clock = clock
        self._endpoints = {endpoint.section: endpoint for endpoint in endpoints}
        self._token: _Token | None = None
        self._client: httpx.AsyncClient | None = None
        self._socket: Path | None = None
        self._kept: dict[str, RayAnswer] = {}
        self._session: str | None = None
        self._was_lost = True
        self._turn = asyncio.Lock()
        self._pending: dict[str, asyncio.Task[RayAnswer]] = {}

    async def poll(self) -> Record:
        """One look as a Record: SAMPLE, or LOST with the reason. Never raises for what the dashboard does."""
        return ray.record(await self.look())

    async def look(self) -> RaySnapshot:
        """One look; takes four seconds at most once the way is open.

        What an endpoint does not give is a Fault of its section, and the rest is there all the same.
        """
        async with self._turn:
            self._forget_overdue()
            token = await self._the_token()
            try:
                client = await self._connected()
            except GatherError as error:
                self._was_lost = True
                return self._unreached(error.reason, lost_text(error.reason, self._masked(str(error), token)))
            answers = await self._ask(client, token)
            snapshot = await self._read(answers, token)
            self._was_lost = snapshot.lost is not None
            if any(answer.status in (401, 403) for answer in answers.values()):
                self._token = None
            return snapshot

    async def aclose(self) -> None:
        """Close the connections; a tunnel belongs to whoever opened it."""
        await self._give_up()
        client, self._client = self._client, None
        if client is not None:
            await client.aclose()

    def _forget_overdue(self) -> None:
        """What was not waited for, came, and has become old meanwhile."""
        now = self._clock()
        for section, task in list(self._pending.items()):
            if task.done() and not 0 <= now - task.result().at < LATE_SECONDS:
                del self._pending[section]

    def _unreached(self, reason: Reason, why: Text) -> RaySnapshot:
        fault = Fault("version", "", reason, why)
        return RaySnapshot(self._clock(), faults=(fault,), lost=fault)

    async def _the_token(self) -> _Token:
        if self._token is None:
            self._token = _Token() if self._resolve is None else await asyncio.to_thread(_resolved, self._resolve)
        return self._token

    async def _connected(self) -> httpx.AsyncClient:
        """The client over the present tunnel. GatherError when there is no way."""
        socket = None
        if self._tunnel is not None:
            try:
                async with asyncio.timeout(TUNNEL_SECONDS):
                    socket = await self._tunnel()
            except TimeoutError:
                why = f"the tunnel to {self._where} was not open within {TUNNEL_SECONDS:g} s"
                raise GatherError(Reason.TIMEOUT, why) from None
        if self._client is None or socket != self._socket:
            await self.aclose()
            from dstui.gather import http

            self._client, self._socket = http.client(timeout=5.0, socket=socket), socket
        return self._client

    async def _ask(self, client: httpx.AsyncClient, token: _Token) -> dict[str, RayAnswer]:
        """The answers to what is due, and the kept ones to what is not. After a loss the first words come first."""
        now = self._clock()
        due = [endpoint for endpoint in self._endpoints.values() if self._due(endpoint, now)]
        if self._was_lost:
            first = await self._fetch_all([each for each in due if each.section in _FIRST], client, token)
            if first and all(_shut(answer) for section, answer in first.items() if section != "auth"):
                return first
            due = [endpoint for endpoint in due if endpoint.section not in first]
        else:
            first = {}
        answers = first | await self._fetch_all(due, client, token)
        if self._restarted(answers):
            self._kept.clear()
            rest = [endpoint for endpoint in self._endpoints.values() if endpoint.section not in answers]
            answers |= await self._fetch_all(rest, client, token)
        for section, answer in answers.items():
            if answer.failure is None and answer.status in (200, 404):
                self._kept[section] = answer
            else:
                self._kept.pop(section, None)
        merged = self._kept | answers
        return {section: merged[section] for section in self._endpoints if section in merged}

    def _due(self, endpoint: Endpoint, now: float) -> bool:
        kept = self._kept.get(endpoint.section)
        if kept is None:
            return True
        return not 0 <= now - kept.at < self._period(endpoint, kept)

    def _period(self, endpoint: Endpoint, kept: RayAnswer) -> float:
        if kept.cut:
            return max(endpoint.period, CUT_AGAIN_SECONDS)
        if endpoint.section == "reports" and "nodes" not in self._kept:
            # It stands in for the list of nodes, as recent as its size allows.
            return kept.size / BYTES_PER_SECOND
        return max(endpoint.period, kept.size / BYTES_PER_SECOND) if endpoint.period else 0.0

    def _still_good(self, endpoint: Endpoint) -> bool:
        """Whether there is an older answer that need not be missed yet while the next is on its way."""
        kept = self._kept.get(endpoint.section)
        if kept is None or kept.cut or not endpoint.period:
            return False
        return 0 <= self._clock() - kept.at < 2 * self._period(endpoint, kept)

    def _restarted(self, answers: dict[str, RayAnswer]) -> bool:
        """Whether this is another session of Ray than the one that the kept answers are of."""
        found = _session(answers.get("version"))
        before, self._session = self._session, found or self._session
        return None not in (found, before) and found != before

    async def _fetch_all(
        self, endpoints: list[Endpoint], client: httpx.AsyncClient, token: _Token
    ) -> dict[str, RayAnswer]:
        """What came within the patience; the rest goes on, and is a Fault for now."""
        for endpoint in endpoints:
            if endpoint.section not in self._pending:
                task = asyncio.create_task(self._fetch(endpoint, client, token))
                self._pending[endpoint.section] = task
        waiting = {endpoint: self._pending[endpoint.section] for endpoint in endpoints}
        if waiting:
            await asyncio.wait(waiting.values(), timeout=RIDE_SECONDS)
        missed = [task for endpoint, task in waiting.items() if not task.done() and not self._still_good(endpoint)]
        if missed:
            await asyncio.wait(missed, timeout=PATIENCE_SECONDS - RIDE_SECONDS)
        answers: dict[str, RayAnswer] = {}
        for endpoint, task in waiting.items():
            if task.done():
                answers[endpoint.section] = self._pending.pop(endpoint.section).result()
            elif not self._still_good(endpoint):
                answers[endpoint.section] = RayAnswer(endpoint, self._clock(), failure=self._slow(endpoint))
        return answers

    def _slow(self, endpoint: Endpoint) -> Fault:
        seconds = f"{PATIENCE_SECONDS:g}"
        why = Text(
            f"{self._where} has not answered within {seconds} s and is still waited for",
            f"{self._where} 在 {seconds} 秒内没有应答，仍在等待",
        )
        return Fault(endpoint.section, endpoint.path, Reason.TIMEOUT, why)

    async def _give_up(self) -> None:
        pending = list(self._pending.values())
        self._pending.clear()
        for task in pending:
            task.cancel()
        await asyncio.gather(*pending, return_exceptions=True)

    async def _fetch(self, endpoint: Endpoint, client: httpx.AsyncClient, token: _Token) -> RayAnswer:
        from dstui.gather import ray_http

        answer = await ray_http.fetch(client, self._base, endpoint, token.headers, self._where)
        if answer.size > ASIDE_BYTES:
            answer = await asyncio.to_thread(slimmed, answer)
        if answer.failure is not None:
            why = answer.failure.why
            masked = Text(self._masked(why.en, token), self._masked(why.zh, token))
            answer = replace(answer, failure=replace(answer.failure, why=masked))
        return replace(answer, at=self._clock())

    async def _read(self, answers: dict[str, RayAnswer], token: _Token) -> RaySnapshot:
        def redact(text: str) -> str:
            return self._masked(text, token)

        credential = Credential(token.label, token.fault)
        at = self._clock()
        if sum(len(answer.body) for answer in answers.values()) > ASIDE_BYTES:
            return await asyncio.to_thread(snapshot_of, answers, at, redact, credential)
        return snapshot_of(answers, at, redact, credential)

    def _masked(self, text: str, token: _Token) -> str:
        if token.value is not None:
            text = text.replace(token.value, f"‹{token.label}›")
        return self._redact(text)


def _resolved(resolve: Callable[[], Secret | None]) -> _Token:
    try:
        secret = resolve()
    except SecretError as error:
        return _Token(fault=lost_text(Reason.NO_CREDENTIAL, str(error)))
    if secret is None:
        return _Token()
    value = secret.reveal().strip()
    # An HTTP library quotes a header that it cannot send in its error message.
    if not value or not value.isascii() or not value.isprintable() or " " in value:
        why = Text(
            f"{secret.label} is no token: it has blanks or other characters that a header cannot carry",
            f"{secret.label} 不是令牌：含有空白或请求头不能携带的字符",
        )
        return _Token(secret.label, fault=why)
    return _Token(secret.label, value)


def _shut(answer: RayAnswer) -> bool:
    return answer.failure is not None or answer.status in (401, 403)


def _session(answer: RayAnswer | None) -> str | None:
    if answer is None or answer.status != 200 or answer.cut:
        return None
    try:
        document = json.loads(answer.body)
    except (ValueError, RecursionError):
        return None
    found = document.get("session_name") if isinstance(document, dict) else None
    return found if isinstance(found, str) else None


def _where(url: str) -> str:
    """The host and port of a URL, without a login that it may hold."""
    parts = urlsplit(url)
    return parts.netloc.rpartition("@")[2] or url
