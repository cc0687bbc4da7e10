"""The embedded fleet for `dstui watch`: its live view without the app and without a journal."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from dstui.watch import Emit, Watching


def watching(hosts: int, *, interval: float = 1.0) -> Callable[[], Awaitable[Watching]]:
    """What `watch.watch_opened` opens: a fleet of `hosts` (1 to 64), sampled every `interval` seconds (0.2 to 10).

    The opening raises UsageError. The fleet ends with the watching.
    """

    async def opening() -> Watching:
        return await asyncio.to_thread(_open, hosts, interval)

    return opening


def _open(hosts: int, interval: float) -> Watching:
    from dstui.demo.stage import Stage
    from dstui.gather.hoststream import FASTEST, SLOWEST
    from dstui.model import UsageError
    from dstui.telemetry.sources import Sources, watched_of

    if not FASTEST <= interval <= SLOWEST:
        raise UsageError(f"--interval {interval:g}: hosts give a sample every {FASTEST:g} to {SLOWEST:g} s")
    stage = Stage()
    try:
        inventory = stage.furnish(hosts)
        watched = watched_of(inventory, interval=interval, simulated=True)
    except BaseException:
        stage.strike()
        raise
    links = stage.links(inventory)

    def run(emit: Emit) -> Awaitable[None]:
        return Sources(inventory, watched, links, emit).run()

    async def aclose() -> None:
        await links.aclose()
        await stage.aclose()

    return Watching(watched, run, aclose)
