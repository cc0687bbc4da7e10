"""Sends single requests to endpoints and keeps what came back as an Exchange; also as a curl line to repeat it."""

from __future__ import annotations

import asyncio
import json
import shlex
import ssl
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from dstui.facts.exchange import Exchange
from dstui.facts.raw import Missing
from dstui.gather import http
from dstui.inventory.secrets import Secret
from dstui.model import Reason

BODY_LIMIT = http.BODY_LIMIT
_CURL_BODY_LIMIT = 2_000
"""A body longer than this is not repeated in the curl line, which says how many bytes there are instead."""


@dataclass(frozen=True, slots=True)
class Credential:
    """What goes into the Authorization header. `shown` is what stands in its place in the curl line."""

    secret: Secret
    scheme: str = "Bearer"
    shown: str = "$DSTUI_API_KEY"

    @classmethod
    def of(cls, secret: Secret, scheme: str = "Bearer") -> Credential:
        """Shown as the environment variable or file that it comes from."""
        source, _, place = secret.label.partition(":")
        if source == "env":
            return cls(secret, scheme, f"${place}")
        return cls(secret, scheme, f"$(cat {shlex.quote(place)})" if source == "file" else "$DSTUI_API_KEY")


@dataclass(slots=True)
class Caller:
    """Requests over one client. `headers` go with every request, and stand in every curl line."""

    client: httpx.AsyncClient
    headers: Mapping[str, str] = field(default_factory=dict)

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
    ) -> Exchange:
        """One request, `seconds` at most in all; `data` is sent as JSON, `content` as it is.

        `stop_after` closes the connection after so many reads of the body, as a client that goes away. Never raises
        but when cancelled: whatever goes wrong is the exchange's `missing`.
        """
        sent = {**self.headers, **(headers or {})}
        body = content
        if data is not None:
            body = json.dumps(data, ensure_ascii=False).encode("utf-8", "surrogatepass")
            sent.setdefault("Content-Type", "application/json")
        curl = curl_line(method, url, sent, body, credential, seconds)
        if credential is not None:
            sent["Authorization"] = f"{credential.scheme} {credential.secret.reveal()}".rstrip()
        began = time.monotonic()
        try:
            async with asyncio.timeout(seconds):
                return await self._sent(key, method, url, curl, sent, body, limit, stop_after, seconds)
        except TimeoutError:
            missing = Missing(Reason.TIMEOUT, f"{url} did not answer within {seconds:g} s")
        except httpx.TimeoutException:
            missing = Missing(Reason.TIMEOUT, f"{url} did not answer in time")
        except httpx.ConnectError as error:
            missing = Missing(Reason.UNREACHABLE, f"{url}: {error or 'connection failed'}")
        except httpx.RemoteProtocolError as error:
            missing = Missing(Reason.CANNOT_TELL, f"{url}: the server broke off ({error})")
        except (httpx.HTTPError, httpx.InvalidURL, OSError, UnicodeError, ValueError) as error:
            missing = Missing(Reason.CANNOT_TELL, f"{url}: {error or type(error).__name__}")
        return Exchange(key, method, url, curl, seconds=time.monotonic() - began, missing=missing)

    async def _sent(
        self,
        key: str,
        method: str,
        url: str,
        curl: str,
        headers: Mapping[str, str],
        body: bytes | None,
        limit: int,
        stop_after: int | None,
        seconds: float,
    ) -> Exchange:
        began = time.monotonic()
        received = bytearray()
        arrivals: list[tuple[float, int]] = []
        cut = False
        limits = httpx.Timeout(seconds, connect=min(http.CONNECT_SECONDS, seconds))
        request = self.client.stream(method, url, headers=dict(headers), content=body, timeout=limits)
        async with request as response:
            async for chunk in response.aiter_bytes():
                arrivals.append((time.monotonic() - began, len(chunk)))
                received += chunk
                if len(received) > limit or (stop_after is not None and len(arrivals) >= stop_after):
                    cut = True
                    break
        return Exchange(
            key=key,
            method=method,
            url=url,
            curl=curl,
            status=response.status_code,
            headers={name.lower(): value for name, value in response.headers.items()},
            body=bytes(received[:limit]),
            cut=cut,
            seconds=time.monotonic() - began,
            first=arrivals[0][0] if arrivals else None,
            arrivals=tuple(arrivals),
        )


def curl_line(
    method: str,
    url: str,
    headers: Mapping[str, str],
    body: bytes | None,
    credential: Credential | None,
    seconds: float,
) -> str:
    """The request for a shell. The key is a variable in it, never a value."""
    parts = ["curl", "-sS", "-i", "-m", f"{seconds:g}"]
    if method != "GET":
        parts += ["-X", method]
    if credential is not None:
        # In double quotes, so that the shell fills the key in.
        parts += ["-H", f'"Authorization: {credential.scheme} {credential.shown}"']
    for name, value in headers.items():
        parts += ["-H", shlex.quote(f"{name}: {value}")]
    if body is not None:
        if len(body) <= _CURL_BODY_LIMIT:
            parts += ["--data-binary", shlex.quote(body.decode("utf-8", "backslashreplace"))]
        else:
            parts += ["--data-binary", f"@body  # {len(body)} bytes"]
            return " ".join([*parts[:-1], shlex.quote(url), parts[-1]])
    return " ".join([*parts, shlex.quote(url)])


@asynccontextmanager
async def caller(
    *,
    seconds: float,
    headers: Mapping[str, str] | None = None,
    verify: ssl.SSLContext | bool = True,
    socket: Path | None = None,
    connections: int = 100,
) -> AsyncIterator[Caller]:
    """A Caller with a client of its own. `verify` False is for where trust is judged elsewhere (`lb.tls`)."""
    transport = httpx.AsyncHTTPTransport(
        verify=verify,
        uds=None if socket is None else str(socket),
        limits=httpx.Limits(max_connections=connections, max_keepalive_connections=connections),
        trust_env=False,
    )
    async with httpx.AsyncClient(
        transport=transport,
        timeout=httpx.Timeout(seconds, connect=min(http.CONNECT_SECONDS, seconds)),
        follow_redirects=False,
        trust_env=False,
        headers={"User-Agent": http.USER_AGENT},
    ) as client:
        yield Caller(client, headers or {})
