"""`load.windows`: when a cluster may be put under load."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

_DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_WRITTEN = re.compile(r"(\w+) (\d\d):(\d\d)-(\d\d):(\d\d)")


def opens(windows: Sequence[str], zone: str, now: float) -> tuple[float, float] | None:
    """The window that is open at `now`, or the next one: its begin and end, seconds since the epoch. None of none.

    A window whose end is not after its begin ends on the next day.
    """
    here = datetime.fromtimestamp(now, ZoneInfo(zone))
    found: list[tuple[float, float]] = []
    for written in windows:
        match = _WRITTEN.fullmatch(written)
        if match is None:
            continue
        day, *clock = match.groups()
        first, last = (int(clock[0]), int(clock[1])), (int(clock[2]), int(clock[3]))
        for offset in range(-1, 8):
            date = here.date() + timedelta(days=offset)
            if day not in ("Daily", _DAYS[date.weekday()]):
                continue
            begin = datetime(date.year, date.month, date.day, first[0] % 24, first[1], tzinfo=here.tzinfo)
            end = datetime(date.year, date.month, date.day, last[0] % 24, last[1], tzinfo=here.tzinfo)
            if last <= first or last[0] == 24:
                end += timedelta(days=1)
            if end.timestamp() > now:
                found.append((begin.timestamp(), end.timestamp()))
    return min(found, default=None)
