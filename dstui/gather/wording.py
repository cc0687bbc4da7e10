"""What hosts print, made fit for a sentence that an operator reads on a terminal."""

from __future__ import annotations

import re

from dstui.model import Reason

TAIL_BYTES = 2048

_ESCAPES = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)?|[@-Z\\-_])")
_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]+")


def clean(text: str, *, limit: int = 300) -> str:
    """One line without escape sequences, control or direction characters; the last `limit` characters of it."""
    flat = " ".join(_UNPRINTABLE.sub(" ", _ESCAPES.sub("", text)).split())
    return flat if len(flat) <= limit else "…" + flat[-limit:]


def reason_of(value: object) -> Reason:
    """The Reason a host names; CANNOT_TELL when it is not one."""
    try:
        return Reason(str(value))
    except ValueError:
        return Reason.CANNOT_TELL


class Tail:
    """The last 2 kB of a stream that nobody parses, and how many bytes there were in all."""

    def __init__(self) -> None:
        self.total = 0
        self._kept = b""

    def add(self, data: bytes) -> None:
        self.total += len(data)
        self._kept = (self._kept + data[-TAIL_BYTES:])[-TAIL_BYTES:]

    def text(self) -> str:
        """Its last 300 printable characters, quoted; empty when there are none."""
        said = clean(self._kept.decode("utf-8", "replace"))
        return f"“{said}”" if said else ""
