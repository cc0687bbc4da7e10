"""Seconds counted in buckets of equal relative width, as HdrHistogram does, so that workers' counts add up."""

from __future__ import annotations

import math
from collections.abc import Mapping

STEPS = 64
"""Buckets in every doubling: neighbours are 1.1 % apart, so a quantile is at most 0.6 % off."""
SMALLEST = 1e-6
"""Seconds; everything below counts as this."""


class Histogram:
    """Counts by bucket, the exact sum, smallest and largest. Values in seconds."""

    __slots__ = ("counts", "high", "low", "total", "whole")

    def __init__(self) -> None:
        self.counts: dict[int, int] = {}
        self.whole = 0
        self.total = 0.0
        self.low = math.inf
        self.high = 0.0

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Histogram) and self.plain() == other.plain()

    __hash__ = None  # type: ignore[assignment]

    def add(self, seconds: float, times: int = 1) -> None:
        """Counts a value. Negative ones count as the smallest; what is not finite is refused with ValueError."""
        if not math.isfinite(seconds):
            raise ValueError("a time is a number")
        value = max(seconds, SMALLEST)
        bucket = math.floor(math.log2(value / SMALLEST) * STEPS)
        self.counts[bucket] = self.counts.get(bucket, 0) + times
        self.whole += times
        self.total += value * times
        self.low = min(self.low, value)
        self.high = max(self.high, value)

    def merge(self, other: Histogram) -> None:
        """Adds all that another one counted."""
        for bucket, count in other.counts.items():
            self.counts[bucket] = self.counts.get(bucket, 0) + count
        self.whole += other.whole
        self.total += other.total
        self.low = min(self.low, other.low)
        self.high = max(self.high, other.high)

    def quantile(self, share: float) -> float | None:
        """The value that `share` (0 to 1) of all do not exceed; None of nothing.

        The middle of its bucket, but never outside of what was counted.
        """
        if not self.whole:
            return None
        rank = max(1, math.ceil(share * self.whole))
        if rank >= self.whole:
            return self.high
        seen = 0
        for bucket in sorted(self.counts):
            seen += self.counts[bucket]
            if seen >= rank:
                middle = SMALLEST * 2 ** ((bucket + 0.5) / STEPS)
                return min(max(middle, self.low), self.high)
        return self.high

    @property
    def mean(self) -> float | None:
        return self.total / self.whole if self.whole else None

    def share_within(self, limit: float) -> float | None:
        """The share of values that are at most `limit` seconds, to the width of a bucket; None of nothing."""
        if not self.whole:
            return None
        if limit >= self.high:
            return 1.0
        last = math.floor(math.log2(max(limit, SMALLEST) / SMALLEST) * STEPS)
        return sum(count for bucket, count in self.counts.items() if bucket <= last) / self.whole

    def plain(self) -> dict[str, object]:
        """As JSON."""
        return {
            "counts": {str(bucket): count for bucket, count in sorted(self.counts.items())},
            "total": self.total,
            "low": self.low if self.whole else None,
            "high": self.high if self.whole else None,
        }


def histogram_of(value: object) -> Histogram:
    """What `plain` gave. ValueError for anything else."""
    if not isinstance(value, Mapping) or not isinstance(value.get("counts"), Mapping):
        raise ValueError("a histogram is a table with counts")
    found = Histogram()
    for bucket, count in value["counts"].items():
        if not isinstance(count, int) or isinstance(count, bool) or count < 1:
            raise ValueError("a count is a whole number above 0")
        found.counts[int(bucket)] = count
        found.whole += count
    if not found.whole:
        return found
    total, low, high = value.get("total"), value.get("low"), value.get("high")
    for number in (total, low, high):
        if isinstance(number, bool) or not isinstance(number, (int, float)) or not 0 <= number < math.inf:
            raise ValueError("total, low and high are seconds")
    assert isinstance(total, (int, float)) and isinstance(low, (int, float)) and isinstance(high, (int, float))
    found.total, found.low, found.high = float(total), float(low), float(high)
    return found
