"""How a ladder gets to the API: address, TLS, key, and the tunnel where a backend is closed to this machine."""

from __future__ import annotations

from dataclasses import dataclass, field
from urllib.parse import urlsplit

from dstui.load.local import LoadError


@dataclass(frozen=True, slots=True)
class Access:
    """`authority` is what the Host header says, `path` that of chat completions, `ca` certificates in PEM.

    The key is shown nowhere.
    """

    host: str
    port: int
    path: str
    authority: str
    tls: bool = False
    ca: str = ""
    socket: str = ""
    key: str = field(default="", repr=False)


def access(url: str, *, key: str = "", ca: str = "", socket: str = "") -> Access:
    """Of an API's base, with or without /v1. Raises LoadError for what is no http or https URL."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise LoadError(f"{url}: {error}") from error
    if parts.scheme not in ("http", "https") or not host:
        raise LoadError(f"{url}: write http://host:port or https://host")
    root = parts.path.rstrip("/").removesuffix("/v1")
    shown = f"[{host}]" if ":" in host else host
    return Access(
        host=host,
        port=port or (443 if parts.scheme == "https" else 80),
        path=f"{root}/v1/chat/completions",
        authority=shown if port is None else f"{shown}:{port}",
        tls=parts.scheme == "https",
        ca=ca,
        socket=socket,
        key=key,
    )
