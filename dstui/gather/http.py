"""The one place where an HTTP client of the controller is made, and where a response becomes an Answer."""

from __future__ import annotations

import ssl
import time
from collections.abc import Mapping
from pathlib import Path

import httpx

from dstui import __version__
from dstui.facts.raw import Answer, Missing
from dstui.model import Reason

BODY_LIMIT = 1024 * 1024
"""Bytes of a body that are read (CATALOGUE 0.4); what lies beyond is counted as cut, not judged."""

CONNECT_SECONDS = 3.0

USER_AGENT = f"dstui/{__version__}"


def client(*, timeout: float, verify: ssl.SSLContext | bool = True, socket: Path | None = None) -> httpx.AsyncClient:
    """A client for probes: no redirects, no proxy or credentials from the environment, `timeout` seconds to read.

    With `socket` every request goes through that Unix socket (`Links.forward`), whatever host its URL names.
    """
    return httpx.AsyncClient(
        transport=None if socket is None else httpx.AsyncHTTPTransport(uds=str(socket), verify=verify),
        timeout=httpx.Timeout(timeout, connect=min(CONNECT_SECONDS, timeout)),
        follow_redirects=False,
        trust_env=False,
        verify=verify,
        headers={"User-Agent": USER_AGENT},
    )


async def request(
    key: str,
    method: str,
    url: str,
    *,
    headers: Mapping[str, str],
    timeout: float,  # noqa: ASYNC109 - of each read, handed to httpx
    client: httpx.AsyncClient,
) -> Answer:
    """One request as an Answer: `exit` is the status, `output` the body. Whatever goes wrong is a Missing."""
    source = f"{method} {url}"
    began = time.monotonic()
    try:
        async with client.stream(method, url, headers=dict(headers), timeout=timeout) as response:
            body = bytearray()
            async for chunk in response.aiter_bytes():
                body += chunk
                if len(body) > BODY_LIMIT:
                    break
    except httpx.TimeoutException:
        return _missing(key, source, began, Reason.TIMEOUT, f"{url} did not answer within {timeout:g} s")
    except httpx.ConnectError as error:
        return _missing(key, source, began, Reason.UNREACHABLE, f"{url}: {error or 'connection failed'}")
    except (httpx.HTTPError, httpx.InvalidURL, OSError) as error:
        said = str(error) or type(error).__name__
        return _missing(key, source, began, Reason.CANNOT_TELL, f"{url}: {said}")
    text = bytes(body[:BODY_LIMIT]).decode("utf-8", "replace")
    seconds = time.monotonic() - began
    return Answer(key, source, text, exit=response.status_code, output_bytes=len(body), seconds=seconds)


def _missing(key: str, source: str, began: float, reason: Reason, why: str) -> Answer:
    return Answer(key, source, seconds=time.monotonic() - began, missing=Missing(reason, why))
