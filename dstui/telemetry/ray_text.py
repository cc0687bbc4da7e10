"""Tolerant readers for what a dashboard sends: a value of the right shape, or None; text that is fit to keep."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

from dstui.redact import clean

LABEL_CHARS = 256
MESSAGE_BYTES = 1024
"""What is kept of a message that Ray sends (a traceback of 20 kB is usual): its first line and its end."""

_MESSAGE_READ = 65_536
_FIRST_LINE_BYTES = 240
_MASK = "‹runtime_env›"

_ENVIRONMENTS = re.compile(r"env_?vars|.*(?:token|secret|passw|api_?key|credential).*", re.IGNORECASE | re.DOTALL)
_SHORTEST_HIDDEN = 6
_MAX_HIDDEN = 2000
_DEEPEST = 40
_LONGEST_NUMBER = 40


def table(value: object) -> Mapping[str, object]:
    """The object, or an empty one."""
    return value if isinstance(value, dict) else {}


def rows(value: object) -> list[Mapping[str, object]]:
    """The objects of a list."""
    return [each for each in value if isinstance(each, dict)] if isinstance(value, list) else []


def number(value: object) -> float | None:
    """A finite number; Ray writes 64-bit integers as text."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    if isinstance(value, str) and len(value) > _LONGEST_NUMBER:
        return None
    try:
        found = float(value)
    except (ValueError, OverflowError):
        return None
    return found if math.isfinite(found) else None


def whole(value: object) -> int | None:
    found = number(value)
    return int(found) if found is not None and found == int(found) else None


def port(value: object) -> int | None:
    found = whole(value)
    return found if found is not None and 0 < found < 65_536 else None


def moment(value: object, per_second: int = 1) -> float | None:
    """A time since the epoch in seconds; 0 is how Ray says that there is none yet."""
    found = number(value)
    return found / per_second if found is not None and found > 0 else None


def flag(value: object) -> bool | None:
    return value if isinstance(value, bool) else None


def secret_values(document: object) -> Iterator[str]:
    """Values of environment variables, and of whatever is named like a secret: a message of Ray might repeat them.

    Paths and short switches are none, and messages are easier to read with them.
    """
    for value in _texts_below(document, inside=False, depth=0):
        if len(value) >= _SHORTEST_HIDDEN and not value.startswith(("/", "./", "~")):
            yield value


def _texts_below(value: object, *, inside: bool, depth: int) -> Iterator[str]:
    if depth > _DEEPEST:
        return
    if isinstance(value, str):
        if inside:
            yield value
    elif isinstance(value, dict):
        for key, item in value.items():
            below = inside or (len(key) < LABEL_CHARS and _ENVIRONMENTS.fullmatch(key) is not None)
            yield from _texts_below(item, inside=below, depth=depth + 1)
    elif isinstance(value, list):
        for item in value:
            yield from _texts_below(item, inside=inside, depth=depth + 1)


class Scrubber:
    """Makes remote text fit to keep: secrets masked, controls gone, short. `redact` masks what dstui itself knows."""

    def __init__(self, redact: Callable[[str], str], hidden: Iterable[str] = ()) -> None:
        self._redact = redact
        forms: set[str] = set()
        for value in hidden:
            if len(forms) >= _MAX_HIDDEN:
                break
            forms |= {value, json.dumps(value)[1:-1], repr(value)[1:-1]}
        self._hidden = sorted(forms, key=lambda form: (-len(form), form))

    def label(self, value: object) -> str | None:
        """One short line: an id, a name, an address, a state of Ray that this version of dstui need not know."""
        if not isinstance(value, str) or not value:
            return None
        return " ".join(self._redact(clean(value[: LABEL_CHARS * 4])).split())[:LABEL_CHARS] or None

    def name(self, value: object) -> str:
        """A label that may be missing."""
        return self.label(value) or ""

    def line(self, value: object) -> str:
        """One line of at most 1 KiB."""
        flat = " ".join(self._masked(value[:_MESSAGE_READ]).split()) if isinstance(value, str) else ""
        return cut(flat, MESSAGE_BYTES)

    def message(self, value: object) -> str:
        """At most 1 KiB: all of it, or the first line and the end, where a traceback says what happened."""
        if not isinstance(value, str):
            return ""
        head = self._masked(value[:_MESSAGE_READ]).strip()
        whole_text = len(value) <= _MESSAGE_READ
        if whole_text and len(head.encode()) <= MESSAGE_BYTES:
            return head
        end = head if whole_text else self._masked(value[-_MESSAGE_READ:]).strip()
        first = cut(head.split("\n", 1)[0], _FIRST_LINE_BYTES)
        return f"{first}\n{cut(end, MESSAGE_BYTES - len(first.encode()) - 1, end=True)}"

    def first_line(self, value: object) -> str:
        """The first line of a message that goes on with somebody's log."""
        return self.line(value.lstrip().split("\n", 1)[0]) if isinstance(value, str) else ""

    def _masked(self, text: str) -> str:
        for form in self._hidden:
            if form in text:
                text = text.replace(form, _MASK)
        return self._redact(clean(text))


def cut(text: str, limit: int, *, end: bool = False) -> str:
    """At most `limit` bytes of UTF-8 of the beginning, or of the end, marked where something is left out."""
    raw = text.encode()
    if len(raw) <= limit:
        return text
    keep = limit - len("…".encode())
    kept = (raw[-keep:] if end else raw[:keep]).decode(errors="ignore")
    return f"…{kept}" if end else f"{kept}…"


def counts(words: Sequence[str | None]) -> dict[str, int]:
    """How many of each word, the unknown ones left out."""
    found: dict[str, int] = {}
    for word in words:
        if word is not None:
            found[word] = found.get(word, 0) + 1
    return dict(sorted(found.items()))
