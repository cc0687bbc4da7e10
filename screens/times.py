"""Moments, spans and sizes in the operator's words. Times are local; the zone is named once, in the header."""

from __future__ import annotations

import re
import time
from datetime import datetime, timedelta

from dstui.attest import DAY, WAIVER_DAYS_MAX
from dstui.model import Lang, Text
from screens import words


def clock_time(at: float) -> str:
    """`12:04:31`, local."""
    return time.strftime("%H:%M:%S", time.localtime(at))


def zone(at: float) -> str:
    """The local zone's short name, `CST`."""
    return time.localtime(at).tm_zone


def moment(at: float, now: float, lang: Lang) -> str:
    """`12:04:31` today, `yesterday 18:20`, else `2025-11-03 18:20`."""
    then, today = datetime.fromtimestamp(at), datetime.fromtimestamp(now)
    days = (today.date() - then.date()).days
    if days == 0:
        return then.strftime("%H:%M:%S")
    if days == 1:
        return words.YESTERDAY[lang].format(time=then.strftime("%H:%M"))
    return then.strftime("%Y-%m-%d %H:%M")


def day(at: float) -> str:
    """`2025-11-03`, local."""
    return time.strftime("%Y-%m-%d", time.localtime(at))


def span(seconds: float) -> str:
    """`80 ms`, `3.2 s`, `48 s`, `3 min 20 s`, `5 h 10 min`, `12 d`; the units read the same in both languages."""
    if seconds < 0:
        seconds = 0
    if seconds < 0.0995:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s" if whole % 60 else f"{whole // 60} min"
    if whole < 86_400:
        minutes = whole % 3600 // 60
        return f"{whole // 3600} h {minutes} min" if minutes else f"{whole // 3600} h"
    return f"{whole // 86_400} d"


def clock_left(seconds: float) -> str:
    """`1:12`, `1:02:12`; 0:00 when it is over."""
    whole = max(0, round(seconds))
    if whole < 3600:
        return f"{whole // 60}:{whole % 60:02}"
    return f"{whole // 3600}:{whole % 3600 // 60:02}:{whole % 60:02}"


def size(count: int) -> str:
    """`812 B`, `1.2 KiB`, `3.4 MiB`."""
    if count < 1024:
        return f"{count} B"
    if count < 1024**2:
        return f"{count / 1024:.1f} KiB"
    return f"{count / 1024**2:.1f} MiB"


_AHEAD = re.compile(r"\+\s*(\d{1,4})\s*([dwhDWH天周小]?)时?")
_DATE = re.compile(r"(\d{4})-(\d{1,2})-(\d{1,2})")
_SECONDS = {"d": 86_400, "天": 86_400, "w": 604_800, "周": 604_800, "h": 3600, "小": 3600, "": 86_400}


def expiry(written: str, now: float) -> float | Text:
    """When a waiver ends: `2025-12-24` (the end of that local day), `+30d`, `+2w`, `+12h`; else what is wrong."""
    written = written.strip()
    if not written:
        return words.EXPIRY_NEEDED
    if ahead := _AHEAD.fullmatch(written):
        return _in_reach(now + int(ahead[1]) * _SECONDS[ahead[2].lower()], now)
    date = _DATE.fullmatch(written)
    if date is None:
        return words.EXPIRY_FORM
    try:
        end = (datetime(int(date[1]), int(date[2]), int(date[3])) + timedelta(days=1)).timestamp()
    except (ValueError, OverflowError):
        return words.EXPIRY_NO_SUCH_DAY
    return _in_reach(end, now)


def _in_reach(end: float, now: float) -> float | Text:
    if end <= now:
        return words.EXPIRY_PAST
    return end if end <= now + WAIVER_DAYS_MAX * DAY else words.EXPIRY_TOO_FAR
