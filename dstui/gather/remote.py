"""A program on a host that is talked to line by line, over the SSH connection that is there anyway."""

from __future__ import annotations

import asyncio
import contextlib
import shlex
from collections.abc import Sequence
from typing import TYPE_CHECKING

import asyncssh

from dstui.model import GatherError, Reason

if TYPE_CHECKING:
    from dstui.gather.dial import Dialled

CLOSE_SECONDS = 5.0
COMPLAINT_BYTES = 400


class RemoteProcess:
    """Bytes in, lines out. `close` leaves nothing running: the host ends what has lost its session."""

    def __init__(self, process: asyncssh.SSHClientProcess[bytes]) -> None:
        self._process = process

    def write(self, data: bytes) -> None:
        """Raises OSError when it has ended."""
        self._process.stdin.write(data)

    def end_input(self) -> None:
        with contextlib.suppress(OSError):
            self._process.stdin.write_eof()

    async def readline(self) -> bytes:
        """The next line; empty at the end, also when the connection was lost."""
        try:
            return await self._process.stdout.readuntil(b"\n")
        except asyncio.IncompleteReadError as rest:
            return rest.partial
        except (OSError, asyncssh.Error):
            return b""

    async def complaint(self) -> str:
        """What it said on standard error, shortened."""
        try:
            async with asyncio.timeout(CLOSE_SECONDS):
                said = await self._process.stderr.read(64 * 1024)
        except (OSError, asyncssh.Error, TimeoutError):
            return ""
        return " ".join(said.decode("utf-8", "replace").split())[-COMPLAINT_BYTES:]

    async def close(self) -> None:
        self._process.close()
        with contextlib.suppress(TimeoutError, OSError, asyncssh.Error):
            async with asyncio.timeout(CLOSE_SECONDS):
                await self._process.wait_closed()


async def remote_process(dialled: Dialled, host: str, argv: Sequence[str]) -> RemoteProcess:
    """Starts a program. Raises GatherError."""
    try:
        made = await dialled.conn.create_process(shlex.join(argv), encoding=None)
    except (OSError, asyncssh.Error) as error:
        raise GatherError(Reason.UNREACHABLE, f"{host}: {argv[0]} was not started ({error})") from error
    return RemoteProcess(made)
