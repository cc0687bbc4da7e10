"""The live view as it was at one moment, to be looked at while the live one goes on."""

from __future__ import annotations

from copy import copy

from dstui.telemetry.live import Live
from dstui.telemetry.live_grid import GridCache
from dstui.telemetry.live_host import HostFold
from dstui.telemetry.live_log import EventLog
from dstui.telemetry.live_ray import RayFold
from dstui.telemetry.live_vllm import VllmFold


def still(live: Live, now: float) -> Live:
    """What `live` knows at `now`. Look at it with that `now` only: sorted, filtered and zoomed it stays what it was.

    Samples are never changed, so they are shared. Histories are shared too, being far too large to copy (140 MB for a
    thousand hosts) and looked up by time: after a quarter of an hour they no longer reach back to that moment and are
    blank, never newer.
    """
    held = copy(live)
    held.hosts = {name: _host(fold) for name, fold in live.hosts.items()}
    held.ray = _ray(live.ray)
    held.vllm = _vllm(live.vllm, now)
    held.log = _log(live.log)
    held.grid_cache = GridCache()
    return held


def _host(fold: HostFold) -> HostFold:
    held = copy(fold)
    held.pulse = copy(fold.pulse)
    held.steady = dict(fold.steady)
    return held


def _ray(fold: RayFold) -> RayFold:
    held = copy(fold)
    held.pulse = copy(fold.pulse)
    return held


def _vllm(fold: VllmFold, now: float) -> VllmFold:
    # The panel that is made here is the one that the copy gives from now on: it hears nothing, and its time stands.
    fold.panel(now)
    held = copy(fold)
    held.replicas = dict(fold.replicas)
    return held


def _log(log: EventLog) -> EventLog:
    held = EventLog()
    for event in reversed(log.newest()):
        held.add(event)
    return held
