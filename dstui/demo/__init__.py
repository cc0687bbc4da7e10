"""The embedded fleet: a real SSH server on loopback with made-up hosts behind it, marked as simulated everywhere.

Everything between the server's sockets and the report is the real thing: connections, the collector's protocol,
parsers, judges, journal. Only the machines are invented. They run nothing: they answer from a made-up file system
and made-up commands.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from dstui.engine import Engine


async def open_demo(hosts: int, *, clock: Callable[[], float] | None = None) -> Engine:
    """An engine over `hosts` (1 to 64) made-up hosts, with its server running; `Engine.aclose` ends all of it.

    The journal, keys and inventory are in a directory of their own that is removed with it; nothing of the operator's
    is read or written. `clock` gives seconds since the epoch; the present by default. Raises UsageError.
    """
    import asyncio
    import time

    from dstui.demo.stage import set_stage

    return await asyncio.to_thread(set_stage, hosts, clock or time.time)
