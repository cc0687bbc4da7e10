"""The TCP half of an SSH connection: resolve, connect, and wait until the server has sent its greeting."""

from __future__ import annotations

import asyncio
import ipaddress
import socket

from dstui.gather.faults import Attempt, Stage, explain


async def reach(attempt: Attempt) -> socket.socket:
    """A TCP connection on which the server's greeting waits to be read. GatherError.

    All of this happens before a slot is taken, so that a dead host never makes another one wait.
    """
    loop = asyncio.get_running_loop()
    sock: socket.socket | None = None
    try:
        async with asyncio.timeout(attempt.timeout):
            addresses = await _resolve(attempt.address, attempt.port)
            for position, (family, address) in enumerate(addresses):
                sock = socket.socket(family, socket.SOCK_STREAM)
                sock.setblocking(False)
                try:
                    async with asyncio.timeout(attempt.timeout / (len(addresses) - position)):
                        await loop.sock_connect(sock, address)
                    break
                except (OSError, TimeoutError):
                    sock.close()
                    if position == len(addresses) - 1:
                        raise
            assert sock is not None
            attempt.stage = Stage.GREETING
            await _readable(sock)
            if not sock.recv(1, socket.MSG_PEEK):
                raise ConnectionResetError("closed before the greeting")
        return sock
    except (OSError, TimeoutError) as error:
        if sock is not None:
            sock.close()
        raise explain(error, attempt) from error
    except BaseException:
        if sock is not None:
            sock.close()
        raise


async def _resolve(address: str, port: int) -> list[tuple[int, tuple[object, ...]]]:
    try:
        version = ipaddress.ip_address(address).version
    except ValueError:
        found = await asyncio.get_running_loop().getaddrinfo(address, port, type=socket.SOCK_STREAM)
        return [(family, where) for family, _, _, _, where in found]
    return [(socket.AF_INET if version == 4 else socket.AF_INET6, (address, port))]


async def _readable(sock: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    ready: asyncio.Future[None] = loop.create_future()

    def notice() -> None:
        if not ready.done():
            ready.set_result(None)

    loop.add_reader(sock, notice)
    try:
        await ready
    finally:
        loop.remove_reader(sock)
