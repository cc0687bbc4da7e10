"""How many requests the made-up users send: a day that lasts ten minutes, a slow swell, and bursts without warning."""

from __future__ import annotations

import math
from functools import lru_cache

from dstui.demo.cast import share

DAY_SECONDS = 600.0
NOON = 180.0
"""Seconds after the fleet began at which its first day is at its busiest."""
MEAN_RATE = 4.2
"""Requests/s for each replica that the application was built for; eight H100 could serve three times as many."""

_SWING = 0.35
_SLOT_SECONDS = 50.0
_BURST_LEAST, _BURST_MOST = 8.0, 18.0
"""Seconds that a burst lasts. Every other slot of time has one."""
_BURST_HEIGHT = 0.5


def rate(seed: int, at: float) -> float:
    """Requests/s for each replica, `at` seconds after the fleet began (before that too): the same for a seed always."""
    day = 1.0 + _SWING * math.cos(2 * math.pi * (at - NOON) / DAY_SECONDS)
    swell = 1.0 + 0.08 * math.sin(at / 11.0) + 0.05 * math.sin(at / 4.3 + seed)
    return MEAN_RATE * day * swell * (1.0 + _burst(seed, at))


def _burst(seed: int, at: float) -> float:
    slot = math.floor(at / _SLOT_SECONDS)
    begin, seconds, height = _of_slot(seed, slot)
    into = at - slot * _SLOT_SECONDS - begin
    return height if 0.0 <= into < seconds else 0.0


@lru_cache(maxsize=64)
def _of_slot(seed: int, slot: int) -> tuple[float, float, float]:
    """When in its slot a burst begins, how long it lasts, and its height; 0 for none."""
    name = f"{seed} burst {slot}"
    seconds = _BURST_LEAST + (_BURST_MOST - _BURST_LEAST) * share(f"{name} length")
    begin = (_SLOT_SECONDS - seconds) * share(f"{name} begin")
    height = _BURST_HEIGHT * (0.4 + 0.6 * share(f"{name} height")) if share(name) < 0.5 else 0.0
    return begin, seconds, height
