"""Sends single requests to endpoints and keeps what came back as an Exchange; also as a curl line to repeat it."""

from __future__ import annotations

import asyncio
import json
import re
import shlex
import ssl
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import httpx

from dstui.facts.exchange import Exchange, Fault
from dstui.facts.raw import Missing
from dstui.gather import http
from dstui.gather.call_faults import broke_off, connect_fault
from dstui.inventory.secrets import Secret
from dstui.model import Reason

BODY_LIMIT = http.BODY_LIMIT
PATIENT_TRIES = 4
PATIENT_PAUSE_SECONDS = 1.0
PATIENT_LONGEST_PAUSE_SECONDS = 3.0
"""How a patient call waits when the server says that it is asked too often: four tries, a second or what Retry-After
says between them, three seconds at most."""

_CURL_BODY_LIMIT = 2_000
"""A body longer than this is not repeated in the curl line, which says how many bytes there are instead."""
_KEEP_SECONDS = 2.0
"""Idle connections are not used again after this. uvicorn closes them at 5 s; writing just then looks like a crash."""
_FIELD_VALUE = re.compile(r"[\x21-\x7e](?:[\t\x20-\x7e]*[\x21-\x7e])?")
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9-]*")


@dataclass(frozen=True, slots=True)
class Credential:
    """What goes into the Authorization header. `shown` is what stands in its place in the curl line."""

    secret: Secret
    scheme: str = "Bearer"
    shown: str = "$DSTUI_API_KEY"

    @classmethod
    def of(cls, secret: Secret, scheme: str = "Bearer") -> Credential:
        """Shown as the environment variable or file that it comes from, else as a variable called after its name."""
        source, _, place = secret.label.partition(":")
        if source == "env":
            return cls(secret, scheme, f"${place}")
        if source == "file":
            return cls(secret, scheme, f"$(cat {shlex.quote(place)})")
        name = re.sub(r"[^A-Z0-9_]", "_", secret.label.removeprefix("secrets.").upper())
        return cls(secret, scheme, f"${name}" if secret.label.startswith("secrets.") else "$DSTUI_API_KEY")

    @classmethod
    def made_up(cls, value: str, scheme: str = "Bearer") -> Credential:
        """One that is no secret, such as a key that is meant to be wrong; the curl line holds its value."""
        return cls(
            Secret(value, "made up"), scheme, value.replace("\\", "\\\\").replace("$", "\\$").replace("`", "\\`")
        )

    def fault(self) -> Missing | None:
        """Why it cannot be sent as a header; None when it can. Names the reference, never the value."""
        value = self.secret.reveal()
        if _SCHEME.fullmatch(self.scheme) and (not value or _FIELD_VALUE.fullmatch(value)):
            return None
        why = "it has characters that no header may hold (a line break, a blank at an end, letters beyond ASCII)"
        return Missing(Reason.NO_CREDENTIAL, f"{self.secret.label}: {why}; store the bare key")


@dataclass(slots=True)
class Caller:
    """Requests over one client. `headers` go with every request, and stand in every curl line.

    `via` is the host whose SSH connection the client goes through. `spent` is set while patience has led to nothing:
    where a limiter lets nobody through, a hundred requests need not each find that out by waiting.
    """

    client: httpx.AsyncClient
    headers: Mapping[str, str] = field(default_factory=dict)
    via: str | None = None
    spent: bool = False

    async def call(
        self,
        key: str,
        method: str,
        url: str,
        *,
        seconds: float,
        credential: Credential | None = None,
        headers: Mapping[str, str] | None = None,
        data: object = None,
        content: bytes | None = None,
        limit: int = BODY_LIMIT,
        stop_after: int | None = None,
        patient: bool = False,
    ) -> Exchange:
        """One request, `seconds` at most in all; `data` is sent as JSON, `content` as it is.

        `stop_after` closes the connection after so many reads of the body, as a client that goes away. `patient`
        asks again when a rate limiter says so (`PATIENT_TRIES`), each time with its own `seconds`. Never raises but
        when cancelled: whatever goes wrong is the exchange's `missing` and `fault`.
        """
        sent = {**self.headers, **(headers or {})}
        body = content
        if data is not None:
            body = json.dumps(data, ensure_ascii=False).encode("utf-8", "surrogatepass")
            sent.setdefault("Content-Type", "application/json")
        blank = Exchange(
            key, method, url, curl_line(method, url, sent, body, credential, seconds, self.via), via=self.via
        )
        # What is not asked for compressed is measured and limited as it travels.
        sent.setdefault("Accept-Encoding", "identity")
        if credential is not None:
            fault = credential.fault()
            if fault is not None:
                return replace(blank, missing=fault, fault=Fault.NOT_SENT)
            sent["Authorization"] = f"{credential.scheme} {credential.secret.reveal()}".rstrip()
        asked = _Asked(self.client, blank, sent, body, seconds, limit, stop_after)
        exchange = await asked.once()
        while patient and not self.spent and exchange.tries < PATIENT_TRIES and _comes_too_often(exchange):
            await asyncio.sleep(_pause(exchange))
            exchange = replace(await asked.once(), tries=exchange.tries + 1)
        if patient:
            self.spent = _comes_too_often(exchange)
        return exchange


@dataclass(slots=True)
class _Asked:
    """A request that can be sent; `blank` is its exchange before anything came back."""

    client: httpx.AsyncClient
    blank: Exchange
    headers: Mapping[str, str]
    body: bytes | None
    seconds: float
    limit: int
    stop_after: int | None

    async def once(self) -> Exchange:
        answer = _Answer(time.monotonic())
        found: tuple[Fault, Missing] | None = None
        url = self.blank.url
        try:
            async with asyncio.timeout(self.seconds):
                await self._receive(answer)
        except TimeoutError:
            what = "did not answer" if answer.status is None else "did not finish its answer"
            found = Fault.TIMEOUT, Missing(Reason.TIMEOUT, f"{url} {what} within {self.seconds:g} s")
        except (httpx.ConnectTimeout, httpx.ConnectError) as error:
            found = connect_fault(url, error, _connect_seconds(self.seconds))
        except httpx.TimeoutException:
            found = Fault.TIMEOUT, Missing(Reason.TIMEOUT, f"{url} did not answer in time")
        except (httpx.LocalProtocolError, httpx.UnsupportedProtocol, httpx.InvalidURL, UnicodeError, ValueError):
            # The library quotes the header that it does not like, and that may be the key.
            found = (
                Fault.NOT_SENT,
                Missing(Reason.CANNOT_TELL, f"{url}: the request cannot be sent; look at the address"),
            )
        except (httpx.HTTPError, OSError) as error:
            found = broke_off(url, error)
        except ExceptionGroup as error:
            # anyio connects in a group, and a port that is none is an OverflowError in it.
            found = connect_fault(url, error, self.seconds)
        return answer.exchange(self.blank, self.limit, found)

    async def _receive(self, answer: _Answer) -> None:
        limits = httpx.Timeout(self.seconds, connect=_connect_seconds(self.seconds))
        request = self.client.stream(
            self.blank.method, self.blank.url, headers=dict(self.headers), content=self.body, timeout=limits
        )
        async with request as response:
            answer.status = response.status_code
            answer.headers = {name.lower(): value for name, value in response.headers.items()}
            async for chunk in response.aiter_raw():
                answer.take(chunk)
                stopped = self.stop_after is not None and len(answer.arrivals) >= self.stop_after
                if len(answer.body) > self.limit or stopped:
                    answer.cut = True
                    break


@dataclass(slots=True)
class _Answer:
    """What has come of an answer so far."""

    began: float
    status: int | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytearray = field(default_factory=bytearray)
    arrivals: list[tuple[float, int]] = field(default_factory=list)
    cut: bool = False

    def take(self, chunk: bytes) -> None:
        self.arrivals.append((time.monotonic() - self.began, len(chunk)))
        self.body += chunk

    def exchange(self, blank: Exchange, limit: int, found: tuple[Fault, Missing] | None) -> Exchange:
        fault, missing = found or (None, None)
        return replace(
            blank,
            status=self.status,
            headers=self.headers,
            body=bytes(self.body[:limit]),
            cut=self.cut,
            seconds=time.monotonic() - self.began,
            first=self.arrivals[0][0] if self.arrivals else None,
            arrivals=tuple(self.arrivals),
            missing=missing,
            fault=fault,
        )


def _connect_seconds(seconds: float) -> float:
    """For TCP, and again for TLS: both fit into the whole. httpcore leaks a socket that is cancelled in a handshake."""
    return min(http.CONNECT_SECONDS, 0.45 * seconds)


def _comes_too_often(exchange: Exchange) -> bool:
    """Whether this is a rate limiter speaking: 429, a 503 that says when to come back, or nginx's own 503 page."""
    if exchange.missing is not None:
        return False
    if exchange.status == httpx.codes.TOO_MANY_REQUESTS:
        return True
    own_page = exchange.headers.get("server", "").startswith("nginx") and exchange.kind == "text/html"
    return exchange.status == httpx.codes.SERVICE_UNAVAILABLE and ("retry-after" in exchange.headers or own_page)


def _pause(exchange: Exchange) -> float:
    said = exchange.headers.get("retry-after", "").strip()
    wanted = float(said) if said.isascii() and said.isdigit() and len(said) < 6 else PATIENT_PAUSE_SECONDS
    return min(max(wanted, 0.1), PATIENT_LONGEST_PAUSE_SECONDS)


def joined(base: str, path: str) -> str:
    """The address of a path of an API: `https://host/llm/` and `/v1/models` make `https://host/llm/v1/models`.

    A base that already ends in `/v1`, as OpenAI clients write it, is taken for the address before that. A path that
    is a whole address stays as it is.
    """
    if "://" in path:
        return path
    parts = urlsplit(base)
    root = parts.path.rstrip("/").removesuffix("/v1")
    return urlunsplit((parts.scheme, parts.netloc, f"{root}/{path.lstrip('/')}", "", ""))


def curl_line(
    method: str,
    url: str,
    headers: Mapping[str, str],
    body: bytes | None,
    credential: Credential | None,
    seconds: float,
    via: str | None = None,
) -> str:
    """The request for a shell. The key is a variable in it, never a value."""
    parts = ["curl", "-sS", "-i", "-m", f"{seconds:g}"]
    if method != "GET" or body is not None:
        parts += ["-X", method] if method != "HEAD" else ["--head"]
    if credential is not None:
        # In double quotes, so that the shell fills the key in.
        parts += ["-H", f'"Authorization: {f"{credential.scheme} {credential.shown}".rstrip()}"']
    for name, value in headers.items():
        parts += ["-H", shlex.quote(f"{name}: {value}")]
    remarks = []
    if body is not None:
        if len(body) <= _CURL_BODY_LIMIT:
            parts += ["--data-binary", shlex.quote(body.decode("utf-8", "backslashreplace"))]
        else:
            parts += ["--data-binary", "@body"]
            remarks.append(f"{len(body)} bytes")
    if via is not None:
        remarks.append(f"from {via}")
    line = " ".join([*parts, shlex.quote(url)])
    return f"{line}  # {', '.join(remarks)}" if remarks else line


@asynccontextmanager
async def caller(
    *,
    seconds: float,
    headers: Mapping[str, str] | None = None,
    verify: ssl.SSLContext | bool = True,
    socket: Path | None = None,
    connections: int = 100,
    via: str | None = None,
) -> AsyncIterator[Caller]:
    """A Caller with a client of its own. `verify` False is for where trust is judged elsewhere (`lb.tls`).

    With `socket` every request goes through that Unix socket, the near end of a tunnel from the host `via`.
    """
    transport = httpx.AsyncHTTPTransport(
        verify=verify,
        uds=None if socket is None else str(socket),
        limits=httpx.Limits(
            max_connections=connections, max_keepalive_connections=connections, keepalive_expiry=_KEEP_SECONDS
        ),
        trust_env=False,
    )
    async with httpx.AsyncClient(
        transport=transport,
        timeout=httpx.Timeout(seconds, connect=min(http.CONNECT_SECONDS, seconds)),
        follow_redirects=False,
        trust_env=False,
        headers={"User-Agent": http.USER_AGENT},
    ) as client:
        yield Caller(client, headers or {}, via)
