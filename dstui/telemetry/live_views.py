"""What screens and `dstui watch` look at: pure functions of the live view and of `now`."""

from __future__ import annotations

from dstui.telemetry import live_grid, live_log, live_ray, live_strip, live_trail
from dstui.telemetry.live import Live
from dstui.telemetry.live_grid import GridRow, GridSort, GridView
from dstui.telemetry.live_log import EventRow
from dstui.telemetry.live_ray import RayView
from dstui.telemetry.live_strip import StripView
from dstui.telemetry.live_trail import Trail
from dstui.telemetry.vllm_panel import VllmPanel


def strip(live: Live, now: float) -> StripView:
    """The line under the checklist."""
    rows = _rows(live, now)
    ray = ray_view(live, now)
    return StripView(
        live_strip.gpu_line(rows),
        live_strip.ray_line(ray),
        live_strip.serve_line(ray.serve),
        live_strip.vllm_line(vllm_view(live, now), live.watched),
    )


def _rows(live: Live, now: float) -> list[GridRow]:
    return live.grid_cache.all_rows(live.hosts.values(), live.version, now)


def grid(
    live: Live,
    now: float,
    sort: GridSort = GridSort.TROUBLE,
    filter: str = "",
    *,
    fold: bool = True,
    only_marked: bool = False,
) -> GridView:
    """Hosts × GPUs. `fold` puts hosts that are alike into one row; `only_marked` leaves those out that are as usual."""
    return live_grid.build(_rows(live, now), live.grid_cache.norm, sort, filter, fold=fold, only_marked=only_marked)


def ray_view(live: Live, now: float) -> RayView:
    """The Ray panel."""
    return live_ray.build(live.ray, now, lambda: live.gpu_counts(now), live.losses(now))


def vllm_view(live: Live, now: float) -> VllmPanel:
    """The vLLM panel."""
    return live.vllm.panel(now)


def events(live: Live, count: int = 200) -> list[EventRow]:
    """The newest lines of the event log, the newest first; what happened to many at once is one line."""
    return live_log.rows(live.log.newest(), count)


def trail(live: Live, replica: str, now: float) -> Trail:
    """From a replica to its GPUs, and what stands against each on the way."""
    return live_trail.follow(live, replica, vllm_view(live, now), ray_view(live, now), now)
