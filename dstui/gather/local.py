"""The machine that dstui runs on, as a host: the same collector over a child process instead of SSH."""

from __future__ import annotations

import asyncio
import getpass
from collections.abc import Awaitable, Callable
from typing import cast

from dstui.facts.case import Session
from dstui.gather.link import HELLO_SECONDS, Link
from dstui.model import GatherError, Reason

_STDOUT = 1


async def open_local(name: str, *, become: str, release: Callable[[], Awaitable[None]] | None = None) -> Link:
    """Start the collector here. GatherError when it cannot be started or does not say hello."""
    from dstui.gather import ship

    payload = await asyncio.to_thread(ship.bootstrap_payload)
    link = Link(name, Session(user=getpass.getuser(), auth=None, local=True), become=become, release=release)
    wire = _ProcessWire(name, link)
    try:
        # Its own session, so that ctrl-c on the terminal is dstui's to handle.
        await asyncio.get_running_loop().subprocess_exec(lambda: wire, *ship.local_argv(), start_new_session=True)
    except OSError as error:
        raise GatherError(
            Reason.UNREACHABLE, f"{name}: the collector cannot be started on this machine ({error.strerror})"
        ) from error
    except BaseException:
        wire.abort()
        raise
    await link.greet(wire, payload, seconds=HELLO_SECONDS)
    return link


class _ProcessWire(asyncio.SubprocessProtocol):
    """A Link's wire over the pipes of a child process."""

    def __init__(self, name: str, link: Link) -> None:
        self._name = name
        self._link = link
        self._transport: asyncio.SubprocessTransport | None = None
        self._gone = asyncio.Event()
        self._lingering: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.SubprocessTransport, transport)

    def pipe_data_received(self, fd: int, data: bytes) -> None:
        if fd == _STDOUT:
            self._link.feed(data)
        else:
            self._link.feed_error(data)

    def process_exited(self) -> None:
        # What it printed last is still in the pipes, which a child of its own may hold open for ever.
        self._lingering = asyncio.get_running_loop().call_later(0.5, self.abort)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._lingering is not None:
            self._lingering.cancel()
        self._gone.set()
        code = self._transport.get_returncode() if self._transport else None
        ending = f"by signal {-code}" if code is not None and code < 0 else f"with exit code {code}"
        self._link.lost(
            GatherError(Reason.UNREACHABLE, f"{self._name}: the collector ended {ending}{self._link.last_words}")
        )

    def write(self, data: bytes) -> None:
        if (pipe := self._stdin()) is not None and not pipe.is_closing():
            pipe.write(data)

    def end_input(self) -> None:
        if (pipe := self._stdin()) is not None:
            pipe.close()

    def abort(self) -> None:
        if self._transport is not None:
            self._transport.close()

    async def ended(self) -> None:
        await self._gone.wait()

    def _stdin(self) -> asyncio.WriteTransport | None:
        pipe = self._transport.get_pipe_transport(0) if self._transport is not None else None
        return cast(asyncio.WriteTransport, pipe) if pipe is not None else None
