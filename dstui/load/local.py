"""Worker processes of the load generator on this machine, told what to do over their standard input."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

from dstui.facts.untyped import table, text
from dstui.model import DstuiError

READY_SECONDS = 20.0
END_SECONDS = 5.0
LINE_LIMIT = 64 * 1024 * 1024
Told = Mapping[str, object]


class LoadError(DstuiError):
    """The generator could not begin; says why."""


class Worker(Protocol):
    """One worker, wherever it is. `name` is for people."""

    name: str

    async def prepare(self, spec: Mapping[str, object]) -> None:
        """Gives it the next stage. Raises LoadError."""
        ...

    async def run(self, tick: Callable[[Told], None]) -> Told:
        """The stage from now on, until it is done. Raises LoadError when the worker ends by itself."""
        ...

    def stop(self) -> None:
        """Ends the stage early, in good order."""
        ...

    async def close(self) -> None: ...


@dataclass(slots=True)
class Pipe:
    """A worker's two ends: lines out, lines in. `ended` says how it ended, once it has."""

    name: str
    reader: asyncio.StreamReader
    write: Callable[[bytes], None]
    ended: Callable[[], str]
    ready_seconds: float = READY_SECONDS

    def say(self, **row: object) -> None:
        with contextlib.suppress(OSError, RuntimeError):
            self.write(json.dumps(row, separators=(",", ":")).encode() + b"\n")

    async def hear(self) -> Mapping[str, object]:
        """The next row. Raises LoadError when there is none any more."""
        try:
            line = await self.reader.readline()
        except ValueError as error:
            raise LoadError(f"{self.name}: a line that is too long") from error
        try:
            found = table(json.loads(line)) if line else None
        except ValueError:
            found = None
        if found is None:
            said = line[:120].decode("utf-8", "replace").strip()
            raise LoadError(f"{self.name}: {said or self.ended() or 'ended'}")
        return found

    async def prepare(self, spec: Mapping[str, object]) -> None:
        self.say(do="stage", spec=spec)
        try:
            async with asyncio.timeout(self.ready_seconds):
                while "ready" not in await self.hear():
                    pass
        except TimeoutError:
            raise LoadError(f"{self.name}: not ready within {self.ready_seconds:g} s") from None

    async def run(self, tick: Callable[[Told], None]) -> Told:
        self.say(do="go")
        while True:
            row = await self.hear()
            if (told := table(row.get("tick"))) is not None:
                tick(told)
            elif (done := table(row.get("done"))) is not None:
                return done
            elif (failed := text(row.get("failed"))) is not None:
                raise LoadError(f"{self.name}: {failed}")

    def stop(self) -> None:
        self.say(do="stop")

    async def close(self) -> None:
        """Only this end; whoever made the pipe ends the worker."""


@dataclass(slots=True)
class Local(Pipe):
    """A process of this machine."""

    process: asyncio.subprocess.Process | None = None

    async def close(self) -> None:
        """Standard input ends, and with it the worker; one that does not is killed."""
        process = self.process
        if process is None:
            return
        assert process.stdin is not None
        process.stdin.close()
        try:
            async with asyncio.timeout(END_SECONDS):
                await process.wait()
        except TimeoutError:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()


async def local_workers(count: int) -> list[Worker]:
    """So many processes, 0 for one per core that this process may use. Raises LoadError."""
    wanted = count or max(1, len(os.sched_getaffinity(0)))
    made: list[Worker] = []
    try:
        for number in range(1, wanted + 1):
            worker = await _local(f"worker {number}")
            made.append(worker)
    except OSError as error:
        for each in made:
            await each.close()
        raise LoadError(f"no worker process can be started: {error.strerror or error}") from error
    return made


async def _local(name: str) -> Local:
    # Isolated: a file called json.py where dstui was started is not what is to be run.
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-I", "-m", "dstui.load.agent",
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL,
        limit=LINE_LIMIT, start_new_session=True,
    )  # fmt: skip
    assert process.stdin is not None and process.stdout is not None

    def ended() -> str:
        code = process.returncode
        return "" if code is None else f"ended with {f'signal {-code}' if code < 0 else f'exit code {code}'}"

    return Local(name, process.stdout, process.stdin.write, ended, process=process)
