"""A link's wire over an SSH channel. Imports asyncssh: only `dial` imports this."""

from __future__ import annotations

import asyncio

import asyncssh

from dstui.gather.faults import Attempt, explain
from dstui.gather.link import Link
from dstui.model import GatherError, Reason


class ChannelWire(asyncssh.SSHClientSession[bytes]):
    """A Link's wire over an SSH channel."""

    def __init__(self, link: Link, attempt: Attempt) -> None:
        self._link = link
        self._attempt = attempt
        self._channel: asyncssh.SSHClientChannel[bytes] | None = None
        self._exit = ""
        self._gone = asyncio.Event()
        self._lingering: asyncio.TimerHandle | None = None

    def connection_made(self, chan: asyncssh.SSHClientChannel[bytes]) -> None:
        self._channel = chan

    def data_received(self, data: bytes, datatype: asyncssh.DataType) -> None:
        if datatype == asyncssh.EXTENDED_DATA_STDERR:
            self._link.feed_error(data)
        else:
            self._link.feed(data)

    def eof_received(self) -> bool:
        self._linger()
        return True

    def exit_status_received(self, status: int) -> None:
        self._exit = f" with exit code {status}"
        self._linger()

    def exit_signal_received(self, signal: str, core_dumped: bool, msg: str, lang: str) -> None:
        self._exit = f" by signal {signal}"
        self._linger()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._lingering is not None:
            self._lingering.cancel()
        self._gone.set()
        self._link.lost(self._why(exc))

    def write(self, data: bytes) -> None:
        if self._channel is not None and not self._channel.is_closing():
            self._channel.write(data)

    def end_input(self) -> None:
        if self._channel is not None and not self._channel.is_closing():
            self._channel.write_eof()

    def abort(self) -> None:
        if self._channel is not None:
            self._channel.abort()

    async def ended(self) -> None:
        await self._gone.wait()

    def _linger(self) -> None:
        # End of output and exit code come in either order, and a background child may hold the output open for ever.
        if self._lingering is None:
            self._lingering = asyncio.get_running_loop().call_later(0.5, self.abort)

    def _why(self, exc: Exception | None) -> GatherError:
        if exc is not None and not self._exit:
            return explain(exc, self._attempt, session_open=True)
        return GatherError(
            Reason.UNREACHABLE,
            f"{self._attempt.label}: the collector's session ended{self._exit}{self._link.last_words}",
        )
