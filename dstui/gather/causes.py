"""Why a connection was not made, from behind an HTTP library's own words ("All connection attempts failed")."""

from __future__ import annotations

import errno
import socket
import ssl
from collections.abc import Iterator

from dstui.gather.wording import clean


def causes(error: BaseException) -> Iterator[BaseException]:
    """The error and what stands behind it: HTTP libraries wrap the socket's own error several times."""
    seen: set[int] = set()
    waiting: list[BaseException | None] = [error]
    while waiting:
        cause = waiting.pop()
        if cause is None or id(cause) in seen:
            continue
        seen.add(id(cause))
        yield cause
        waiting += [cause.__cause__, cause.__context__]
        if isinstance(cause, BaseExceptionGroup):
            waiting += cause.exceptions


def not_connected(error: BaseException) -> str:
    """What kept the connection from being made, in a few words."""
    found = list(causes(error))
    if any(isinstance(cause, socket.gaierror) for cause in found):
        return "the name does not resolve here"
    for cause in found:
        if isinstance(cause, ssl.SSLError):
            return f"TLS failed: {clean(str(cause))}"
    numbers = {cause.errno for cause in found if isinstance(cause, OSError)}
    if errno.ECONNREFUSED in numbers:
        return "connection refused: nothing listens there"
    if numbers & {errno.EHOSTUNREACH, errno.ENETUNREACH}:
        return "there is no route to it"
    return clean(str(error)) or "connection failed"
