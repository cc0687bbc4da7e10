"""Numbers and lists of numbers as the kernel writes them; anything else becomes Missing, never an exception."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from dstui.facts.raw import Missing
from dstui.model import Reason

_WHOLE = re.compile(r"-?\d{1,20}", re.ASCII)
_RANGE = re.compile(r"(\d{1,6})(?:-(\d{1,6}))?", re.ASCII)
_MOST_CPUS = 65_536


def garbled(source: str, text: str) -> Missing:
    """The Missing of an answer that is not what it should be; at most 60 characters of it are quoted."""
    return Missing(Reason.PARSE_ERROR, f"{source}: not understood: {text.strip()[:60]!r}")


def whole(source: str, text: str | Missing | None) -> int | Missing:
    """A file that holds one decimal number; None (the file is not in the answer) is Missing(cannot-tell)."""
    if text is None:
        return Missing(Reason.CANNOT_TELL, f"{source} is not there or not readable")
    if isinstance(text, Missing):
        return text
    stripped = text.strip()
    return int(stripped) if _WHOLE.fullmatch(stripped) else garbled(source, text)


def whole_or_none(text: str | None) -> int | None:
    """A decimal number, or None for anything else."""
    stripped = (text or "").strip()
    return int(stripped) if _WHOLE.fullmatch(stripped) else None


def cpu_list(source: str, text: str | Missing) -> frozenset[int] | Missing:
    """The kernel's list format: `0-3,8,10-11`; an empty line is the empty set."""
    if isinstance(text, Missing):
        return text
    found: set[int] = set()
    for part in text.strip().split(","):
        if not part:
            continue
        match = _RANGE.fullmatch(part.strip())
        if match is None:
            return garbled(source, text)
        low, high = int(match[1]), int(match[2] or match[1])
        if high < low or high >= _MOST_CPUS:
            return garbled(source, text)
        found.update(range(low, high + 1))
    return frozenset(found)


def by_directory(files: Mapping[str, str], pattern: re.Pattern[str]) -> dict[str, dict[str, str]]:
    """Files grouped by the pattern's first group (the device), then by its second (the attribute)."""
    grouped: dict[str, dict[str, str]] = {}
    for path, content in files.items():
        if match := pattern.fullmatch(path):
            grouped.setdefault(match[1], {})[match[2]] = content.strip()
    return grouped


def least(values: Iterable[int | None]) -> int | None:
    """The smallest of those that are set; None when none is."""
    return min((value for value in values if value is not None), default=None)
