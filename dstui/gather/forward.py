"""Tunnels to a TCP port behind a host, over the SSH connection that is open to it anyway.

The near end is a Unix socket in a folder that only the operator may enter, not a loopback port: a Ray dashboard runs
code for whoever reaches it, and a port would open it to every user of the jump host.
"""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import asyncssh

    from dstui.gather.dial import Dialled

_LONGEST_PATH = 100
"""A socket's path fits into 108 bytes on Linux and 104 on macOS."""


@dataclass(slots=True)
class _Tunnel:
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    over: Dialled | None = None
    listener: asyncssh.SSHListener | None = None
    path: Path | None = None


class Tunnels:
    """The tunnels of a pool of connections, one for each (host, address, port)."""

    def __init__(self) -> None:
        self._folder: Path | None = None
        self._open: dict[tuple[str, str, int], _Tunnel] = {}
        self._count = 0

    async def through(self, dialled: Dialled, host: str, address: str, port: int) -> Path:
        """The socket of a tunnel over `dialled`; it is opened again when the connection is another one.

        GatherError(UNREACHABLE) when the host cannot connect to `address:port`, or does not forward.
        """
        tunnel = self._open.setdefault((host, address, port), _Tunnel())
        async with tunnel.lock:
            await dialled.try_port(address, port)
            if tunnel.path is None or tunnel.over is not dialled:
                self._drop(tunnel)
                path = self._free_path()
                tunnel.listener = await dialled.listen_on(path, address, port)
                tunnel.over, tunnel.path = dialled, path
            return tunnel.path

    def close(self) -> None:
        """End all tunnels. Their connections may be gone already."""
        for tunnel in self._open.values():
            self._drop(tunnel)
        self._open.clear()
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
            self._folder = None

    @staticmethod
    def _drop(tunnel: _Tunnel) -> None:
        if tunnel.listener is not None:
            tunnel.listener.close()
        if tunnel.path is not None:
            tunnel.path.unlink(missing_ok=True)
        tunnel.listener = tunnel.path = tunnel.over = None

    def _free_path(self) -> Path:
        if self._folder is None:
            self._folder = _private_folder()
        self._count += 1
        return self._folder / str(self._count)


def _private_folder() -> Path:
    """A new folder of mode 0700, at a path short enough for sockets."""
    made = Path(tempfile.mkdtemp(prefix="dstui-"))
    if len(str(made)) <= _LONGEST_PATH - 8:
        return made
    made.rmdir()
    return Path(tempfile.mkdtemp(prefix="dstui-", dir="/tmp"))
