"""Reads a page of metrics in the plainest way, for comparison with what dstui makes of it. Shares no code with it."""

from __future__ import annotations

import re
import urllib.request
from math import inf

_LINE = re.compile(r"^([a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{(.*)\})? (\S+)(?: \d+)?$")
_LABEL = re.compile(r'([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\]|\\.)*)"')

Labels = dict[str, str]


class Page:
    """`rows` are (name, labels, value) in the page's order."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.rows: list[tuple[str, Labels, float]] = []
        for line in text.splitlines():
            if line and not line.startswith("#"):
                found = _LINE.match(line)
                assert found, line
                self.rows.append((found[1], dict(_LABEL.findall(found[2] or "")), float(found[3])))

    def values(self, name: str, **labels: str) -> list[float]:
        return [value for row, own, value in self.rows if row == name and labels.items() <= own.items()]

    def has(self, name: str) -> bool:
        return bool(self.values(name))

    def total(self, name: str, **labels: str) -> float:
        """The sum over all series of a name. KeyError when it has none."""
        found = self.values(name, **labels)
        if not found:
            raise KeyError(name)
        return sum(found)

    def by(self, name: str, label: str) -> dict[str, float]:
        found: dict[str, float] = {}
        for row, own, value in self.rows:
            if row == name:
                found[own[label]] = found.get(own[label], 0.0) + value
        return found

    def buckets(self, name: str) -> dict[float, float]:
        """Upper bound → cumulative count."""
        return {float(bound): count for bound, count in self.by(f"{name}_bucket", "le").items()}


def page(url: str) -> Page:
    """What a server says now."""
    with urllib.request.urlopen(url, timeout=10) as response:
        return Page(response.read().decode())


def bucket_of(q: float, older: dict[float, float], newer: dict[float, float]) -> tuple[float, float]:
    """The bounds between which the `q` quantile of what came in between lies."""
    grown = [(bound, newer[bound] - older.get(bound, 0.0)) for bound in sorted(newer)]
    lower = 0.0
    for bound, count in grown:
        if count >= q * grown[-1][1]:
            return lower, bound
        lower = bound
    return lower, inf
