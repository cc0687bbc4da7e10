"""Versions as tuples of integers (CATALOGUE 0.2): the leading `\\d+(\\.\\d+)*`, missing parts are 0."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from itertools import zip_longest

from dstui.facts.case import Params
from dstui.facts.raw import Missing
from dstui.model import Reason

_LEADING = re.compile(r"\s*[vV]?(\d{1,9}(?:\.\d{1,9})*)", re.ASCII)
_PRE_RELEASE = re.compile(r"^[~.\-_+]?\s*(?:rc|alpha|beta|a|b|pre|dev)[.\-]?\d*(?![a-z])", re.ASCII | re.IGNORECASE)


def version(text: str) -> tuple[int, ...] | None:
    """The leading numeric part as integers: `28.2.2+dfsg1` → (28, 2, 2); None when there is none.

    Comparing as text says 535.104.05 < 535.54.03, which is wrong.
    """
    found = _LEADING.match(text)
    return tuple(int(part) for part in found[1].split(".")) if found else None


def compare(left: tuple[int, ...], right: tuple[int, ...]) -> int:
    """-1, 0 or 1; missing parts count as 0, so (24,) equals (24, 0, 0)."""
    for one, other in zip_longest(left, right, fillvalue=0):
        if one != other:
            return -1 if one < other else 1
    return 0


def at_least(found: tuple[int, ...], floor: tuple[int, ...]) -> bool:
    return compare(found, floor) >= 0


def pre_release(text: str) -> bool:
    """Whether a release-candidate or similar mark directly follows the numeric part: `24.0.0~rc1`, `24.0.0-beta.2`."""
    found = _LEADING.match(text)
    return bool(found and _PRE_RELEASE.match(text[found.end() :]))


def dotted(parts: tuple[int, ...]) -> str:
    return ".".join(str(part) for part in parts)


def bound(params: Params, name: str) -> tuple[int, ...] | Missing:
    """A version that is a parameter; Missing when what somebody wrote there is none, so that nothing passes by it."""
    text = params.text(name)
    parts = version(text)
    if parts is None:
        return Missing(Reason.CANNOT_TELL, f"{name} is {text!r} ({params.origin(name)}): not a version")
    return parts


def odd_ones(values: Mapping[str, str]) -> frozenset[str]:
    """The names whose value is not the commonest; all of them on a tie, none when all are equal."""
    counts = Counter(values.values()).most_common(2)
    if len(counts) < 2:
        return frozenset()
    if counts[0][1] == counts[1][1]:
        return frozenset(values)
    return frozenset(name for name, value in values.items() if value != counts[0][0])
