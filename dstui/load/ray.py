"""Workers of the load generator as actors of a Ray cluster, driven from one of its hosts over SSH.

The driver runs with the cluster's own Python and Ray, so no version has to match this machine's, Ray need not be
installed here, and no port has to be open. When the connection is lost, its standard input ends and it ends all
actors.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import TYPE_CHECKING

from dstui.facts.case import HostSite
from dstui.facts.untyped import rows, table, text, whole
from dstui.load.agent.ray_driver import PARTS
from dstui.load.local import LINE_LIMIT, LoadError, Pipe, Worker
from dstui.model import GatherError

if TYPE_CHECKING:
    from dstui.gather.remote import RemoteProcess
    from dstui.gather.ssh import Links

OPEN_SECONDS = 120.0
READY_SECONDS = 120.0
"""Ray starts a Python of its own for every actor, which takes its time on a busy node."""
END_SECONDS = 10.0

_BOOT = (
    "import sys,json;given=json.loads(sys.stdin.buffer.raw.readline());"
    "exec(compile(given['driver'],'<dstui.load.agent.ray_driver>','exec'));"
    "import asyncio;asyncio.run(main([tuple(each) for each in given['sources']],given['count']))"
)
"""Nothing but what comes over standard input is run: no file is written on the host."""


async def ray_workers(links: Links, host: HostSite, python: str, count: int) -> list[Worker]:
    """One worker on every node, or `count` over them. Raises LoadError with the reason in one sentence."""
    try:
        process = await links.process(host, [python, "-u", "-c", _BOOT])
    except GatherError as error:
        raise LoadError(str(error)) from error
    driver = _Driver(host.name, process)
    try:
        driver.send({"driver": _source("ray_driver"), "sources": [[p, _source(p)] for p in PARTS], "count": count})
        nodes = await driver.opened()
    except BaseException:
        await driver.close()
        raise
    driver.listen(len(nodes))
    return [driver.worker(number, node) for number, node in enumerate(nodes)]


def _source(part: str) -> str:
    return files("dstui.load.agent").joinpath(f"{part}.py").read_text("utf-8")


@dataclass(slots=True)
class _OfRay(Pipe):
    """One actor, by way of the driver that all share."""

    driver: _Driver | None = None

    async def close(self) -> None:
        """The first ends all."""
        if self.driver is not None:
            await self.driver.close()


class _Driver:
    """The process on the host, and the lines of its workers told apart."""

    def __init__(self, host: str, process: RemoteProcess) -> None:
        self._host = host
        self._process = process
        self._readers: list[asyncio.StreamReader] = []
        self._listening: asyncio.Task[None] | None = None
        self._why = ""

    def send(self, row: Mapping[str, object]) -> None:
        with contextlib.suppress(OSError, RuntimeError):
            self._process.write(json.dumps(row, separators=(",", ":")).encode() + b"\n")

    async def opened(self) -> Sequence[str]:
        """The nodes of the workers. Raises LoadError."""
        try:
            async with asyncio.timeout(OPEN_SECONDS):
                row = await self._row()
        except TimeoutError:
            raise LoadError(f"{self._host}: Ray does not answer within {OPEN_SECONDS:g} s") from None
        if row is None:
            raise LoadError(f"{self._host}: the driver ended: {await self._process.complaint() or 'without a word'}")
        if (refused := text(row.get("refused"))) is not None:
            raise LoadError(f"{self._host}: {refused}")
        opened = table(row.get("opened")) or {}
        nodes = [str(node) for node in rows(opened.get("nodes")) or []]
        if not nodes:
            raise LoadError(f"{self._host}: the Ray cluster has no node to make load on")
        return nodes

    def listen(self, count: int) -> None:
        self._readers = [asyncio.StreamReader(limit=LINE_LIMIT) for _ in range(count)]
        self._listening = asyncio.get_running_loop().create_task(self._listen())

    def worker(self, number: int, node: str) -> Worker:
        def write(line: bytes) -> None:
            row = table(json.loads(line)) or {}
            self.send({"to": number, **row})

        name = f"Ray worker {number + 1} on {node}"
        return _OfRay(name, self._readers[number], write, lambda: self._why, READY_SECONDS, self)

    async def _listen(self) -> None:
        """Until the driver ends, which ends every worker."""
        try:
            while (row := await self._row()) is not None:
                number = whole(row.get("from"))
                if number is None or not 0 <= number < len(self._readers):
                    continue
                plain = {name: value for name, value in row.items() if name != "from"}
                self._readers[number].feed_data(json.dumps(plain).encode() + b"\n")
            self._why = f"the way to {self._host} was lost, or Ray's driver there ended"
        finally:
            for reader in self._readers:
                reader.feed_eof()

    async def _row(self) -> Mapping[str, object] | None:
        """The next row; lines of others, such as Ray's own, are passed over."""
        while line := await self._process.readline():
            try:
                found = table(json.loads(line))
            except ValueError:
                continue
            if found is not None:
                return found
        return None

    async def close(self) -> None:
        """The driver is told by its standard input's end; it ends the actors."""
        listening, self._listening = self._listening, None
        self._process.end_input()
        if listening is not None:
            await asyncio.wait({listening}, timeout=END_SECONDS)
            listening.cancel()
            await asyncio.gather(listening, return_exceptions=True)
        await self._process.close()
