"""Whether the raylets that Ray counts as alive still run, seen on their hosts over the links that are open anyway.

Ray 2.60 notices after 12 s that a raylet was killed. Its process is gone from the host's /proc at once.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace

from dstui.facts.case import HostSite
from dstui.facts.raw import Missing, Op, glob
from dstui.gather.hoststream import LinkPool
from dstui.model import GatherError
from dstui.telemetry.ray import RayNode

PERIOD_SECONDS = 2.0
HOSTS_PER_SECOND = 250
"""More hosts are asked less often: one answer costs the controller about 0.3 ms."""

FIND_AGAIN_SECONDS = 30.0
"""To find a raylet every process of a host is looked at, so where none was found it is not tried again at once."""

ANSWER_SECONDS = 2.0
PARALLEL = 32

_COMMAND = "raylet"
_ENDED_STATES = frozenset("ZX")


@dataclass(frozen=True, slots=True)
class _Process:
    """A process of a host; `started` is in clock ticks since its boot, so that another one with its id is another."""

    pid: str
    started: int


class Raylets:
    """What was seen of raylets. `gone`: node id → when its process was first not there any more, `clock` seconds.

    Only a raylet that was seen running can be gone: where none was found (other users' processes are hidden, Ray runs
    in another network) nothing is said.
    """

    def __init__(
        self,
        links: LinkPool,
        host_of: Callable[[str], HostSite | None],
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.gone: dict[str, float] = {}
        self._links = links
        self._host_of = host_of
        self._clock = clock
        self._nodes: dict[str, HostSite] = {}
        self._running: dict[str, _Process] = {}
        self._sought: dict[str, float] = {}
        self._room = asyncio.Semaphore(PARALLEL)

    def expect(self, nodes: Iterable[RayNode]) -> None:
        """These are Ray's nodes now; of those that are not alive any more nothing is kept."""
        alive = {node.node_id: self._host_of(node.ip) for node in nodes if node.alive and node.ip}
        self._nodes = {node_id: host for node_id, host in alive.items() if host is not None}
        for kept in (self.gone, self._running, self._sought):
            for node_id in kept.keys() - self._nodes.keys():
                del kept[node_id]

    async def run(self, answering: Callable[[str], bool]) -> None:
        """Until cancelled. Only hosts that are `answering`, by name, are asked: nobody is dialled for this."""
        while True:
            await self.look(answering)
            await asyncio.sleep(max(PERIOD_SECONDS, len(self._nodes) / HOSTS_PER_SECOND))

    async def look(self, answering: Callable[[str], bool]) -> None:
        """Every raylet once."""
        asked = [
            self._see(node_id, host)
            for node_id, host in self._nodes.items()
            if node_id not in self.gone and answering(host.name)
        ]
        await asyncio.gather(*asked)

    async def _see(self, node_id: str, host: HostSite) -> None:
        async with self._room:
            try:
                async with asyncio.timeout(ANSWER_SECONDS):
                    if (known := self._running.get(node_id)) is not None:
                        ended = await self._ended(host, known)
                    else:
                        ended = False
                        await self._find(node_id, host)
            except (GatherError, TimeoutError):
                # Whether the host answers is the host stream's to tell.
                return
        if ended and node_id in self._nodes:
            self.gone.setdefault(node_id, self._clock())

    async def _find(self, node_id: str, host: HostSite) -> None:
        now = asyncio.get_running_loop().time()
        if now - self._sought.get(node_id, -FIND_AGAIN_SECONDS) < FIND_AGAIN_SECONDS:
            return
        self._sought[node_id] = now
        link = await self._links.link(host)
        names = (await link.facts([glob("comm", "/proc/[0-9]*/comm", each=16)], deadline=ANSWER_SECONDS)).files("comm")
        if isinstance(names, Missing):
            return
        pids = [path.split("/")[2] for path, name in names.items() if name.strip() == _COMMAND]
        if not pids:
            return
        lines = glob("lines", *(f"/proc/{pid}/cmdline" for pid in pids), each=4096)
        raw = await link.facts([lines, _stats(*pids)], deadline=ANSWER_SECONDS)
        said, stats = raw.files("lines"), raw.files("stats")
        if isinstance(said, Missing) or isinstance(stats, Missing):
            return
        for pid in pids:
            state, started = _read_stat(stats.get(f"/proc/{pid}/stat", ""))
            # Its command line names the node; it is not kept.
            mine = node_id in said.get(f"/proc/{pid}/cmdline", "")
            if mine and started is not None and state not in _ENDED_STATES:
                self._running[node_id] = _Process(pid, started)

    async def _ended(self, host: HostSite, known: _Process) -> bool:
        link = await self._links.link(host)
        raw = await link.facts([_stats(known.pid)], deadline=ANSWER_SECONDS)
        stats = raw.files("stats")
        if isinstance(stats, Missing):
            return False
        if not stats:
            return True
        state, started = _read_stat(stats.get(f"/proc/{known.pid}/stat", ""))
        return started is not None and (started != known.started or state in _ENDED_STATES)


def _stats(*pids: str) -> Op:
    return glob("stats", *(f"/proc/{pid}/stat" for pid in pids), each=1024)


def _read_stat(text: str) -> tuple[str, int | None]:
    """State and start of a /proc/PID/stat; its second field, the name in brackets, may hold anything."""
    fields = text.rpartition(")")[2].split()
    if len(fields) < 20 or not fields[19].isdecimal():
        return "", None
    return fields[0], int(fields[19])


def with_gone(nodes: Iterable[RayNode], gone: Mapping[str, float]) -> tuple[RayNode, ...]:
    """The nodes with what was seen of their raylets."""
    return tuple(
        replace(node, raylet_gone_at=gone[node.node_id]) if node.alive and node.node_id in gone else node
        for node in nodes
    )
