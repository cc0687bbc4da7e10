"""One SSH connection and one exec per host, kept for re-runs; jump connections shared; the jump host itself locally.

Importing this module is cheap: asyncssh comes in with the first connection.
"""

from __future__ import annotations

import asyncio
import importlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from dstui.facts.case import HostSite, Session
from dstui.gather.clientkeys import ClientKeys
from dstui.gather.faults import LoginRefusedError
from dstui.gather.forward import Tunnels
from dstui.gather.hostkeys import HostKeys
from dstui.gather.link import HELLO_SECONDS, HostLink, Link
from dstui.model import GatherError, Reason

if TYPE_CHECKING:
    from dstui.gather.dial import Dialled, Dialler, Endpoint
    from dstui.gather.remote import RemoteProcess

__all__ = ["HostLink", "JumpHop", "Links", "SshSettings"]

ROOT_ATTEMPT_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class JumpHop:
    """One host on the way. `user` and `identity` are filled in: nothing is inherited here."""

    address: str
    port: int
    user: str
    identity: Path | None = None


@dataclass(frozen=True, slots=True)
class SshSettings:
    """How one host is reached. Timeouts in seconds; `known_hosts` None is ~/.ssh/known_hosts; no key is ever a value.

    `identity` None means the keys in ~/.ssh as ssh itself would take them; `agent` says whether the agent is asked.
    `jump` is the chain of hosts on the way, the nearest first. `become` is `none` or `sudo-n`.
    """

    address: str
    user: str
    port: int = 22
    identity: Path | None = None
    agent: bool = True
    known_hosts: Path | None = None
    jump: tuple[JumpHop, ...] = ()
    connect_timeout: float = 8.0
    command_timeout: float = 10.0
    host_timeout: float = 60.0
    become: str = "none"


@dataclass(slots=True)
class _Seat:
    """What the pool keeps of a host or a jump host. A failure is shared with all who were waiting for it."""

    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    dialled: Dialled | None = None
    link: Link | None = None
    failure: GatherError | None = None
    failed_at: float = 0.0

    def fresh_failure(self, asked_at: float) -> GatherError | None:
        return self.failure if self.failure is not None and self.failed_at >= asked_at else None

    def fail(self, error: GatherError, now: float) -> None:
        self.failure, self.failed_at = error, now


class Links:
    """The pool of links. All methods belong to one event loop; `aclose` ends everything that was opened.

    `max_parallel` bounds how many connections are exchanging keys, logging in and starting their collector at once;
    hosts that do not answer, and hosts that take longer than two seconds, keep no one else from starting.
    """

    def __init__(
        self,
        settings: Callable[[str], SshSettings],
        *,
        max_parallel: int = 16,
        accept_new_host_keys: bool = False,
    ) -> None:
        self._settings = settings
        self._max_parallel = max(1, max_parallel)
        self._host_keys = HostKeys(accept_new_host_keys)
        self._client_keys = ClientKeys()
        self._dialler: Dialler | None = None
        self._seats: dict[str, _Seat] = {}
        self._jumps: dict[tuple[Endpoint, ...], _Seat] = {}
        self._tunnels = Tunnels()
        self._closed = False

    async def link(self, host: HostSite) -> HostLink:
        """The host's link: the one that is open, else a new collector on its connection, else a new connection.

        GatherError(UNREACHABLE) says what went wrong and what to do. Being cancelled leaves nothing open that was not
        open before.
        """
        now = asyncio.get_running_loop().time
        seat = self._seats.setdefault(host.name, _Seat())
        asked_at = now()
        async with seat.lock:
            self._refuse_when_closed(host.name)
            if seat.link is not None and seat.link.alive:
                return seat.link
            if (known := seat.fresh_failure(asked_at)) is not None:
                raise GatherError(known.reason, str(known))
            try:
                link = await (self._local(host) if host.local else self._remote(host, seat))
            except GatherError as error:
                seat.fail(error, now())
                raise
            if self._closed:
                await link.close()
                self._refuse_when_closed(host.name)
            seat.link = link
            return link

    async def try_root(self, host: HostSite) -> str:
        """One real login as root with the operator's own keys and no password, within five seconds.

        `refused`, `succeeded` (root was let in; nothing is run), `unreachable`, or `not-tried` for the local host and
        when dstui logs in as root anyway. The host key must be known already. Leaves a line in the host's auth log.
        The session of an open link gets the result too.
        """
        outcome = await self._root_login(host)
        seat = self._seats.get(host.name)
        if seat is not None and seat.link is not None:
            seat.link.session = replace(seat.link.session, root_attempt=outcome)
        return outcome

    async def forward(self, host: HostSite, address: str, port: int) -> Path | None:
        """The Unix socket of a tunnel to `address:port` as the host sees it, over the host's kept connection.

        Asked again before every use, it gives the same socket, or a new one when the connection had to be opened
        again. None for this machine itself: connect directly. The socket is closed with the pool. GatherError when
        the host is not reached, does not forward, or cannot connect there.
        """
        await self.link(host)
        if host.local:
            return None
        dialled = self._seats[host.name].dialled
        if dialled is None:
            raise GatherError(Reason.UNREACHABLE, f"{host.name}: the connection was lost; it is opened again next time")
        path = await self._tunnels.through(dialled, host.name, address, port)
        if self._closed:
            self._tunnels.close()
            self._refuse_when_closed(host.name)
        return path

    async def process(self, host: HostSite, argv: Sequence[str]) -> RemoteProcess:
        """A program on the host, over its kept connection. GatherError when there is none, or for this machine."""
        await self.link(host)
        dialled = self._seats[host.name].dialled
        if dialled is None:
            raise GatherError(Reason.UNREACHABLE, f"{host.name}: there is no SSH connection to it")
        from dstui.gather.remote import remote_process

        return await remote_process(dialled, host.name, argv)

    async def aclose(self) -> None:
        """End every collector, then every connection, jump hosts last. Takes a few seconds at most."""
        self._closed = True
        self._tunnels.close()
        links = [seat.link for seat in self._seats.values() if seat.link is not None]
        await asyncio.gather(*(link.close() for link in links))
        seats = [*self._seats.values(), *(self._jumps[chain] for chain in sorted(self._jumps, key=len, reverse=True))]
        for seat in seats:
            if seat.dialled is not None:
                await seat.dialled.aclose()
                seat.dialled = None

    async def _root_login(self, host: HostSite) -> str:
        settings = None if host.local else self._settings(host.name)
        if settings is None or settings.user == "root":
            return "not-tried"
        try:
            dialler = await self._ready()
            via = await self._via(host.name, settings)
            end = replace(_endpoint(host.name, settings), user="root")
            dialled = await dialler.dial(end, via=via, timeout=ROOT_ATTEMPT_SECONDS, accept=False)
        except LoginRefusedError:
            return "refused"
        except GatherError:
            return "unreachable"
        await dialled.aclose()
        return "succeeded"

    def _refuse_when_closed(self, name: str) -> None:
        if self._closed:
            raise GatherError(Reason.NOT_RUN, f"{name}: dstui is closing its connections")

    async def _ready(self) -> Dialler:
        if self._dialler is None:
            dial = await asyncio.to_thread(importlib.import_module, "dstui.gather.dial")
            if self._dialler is None:
                self._dialler = dial.Dialler(self._host_keys, self._client_keys, dial.Slots(self._max_parallel))
        assert self._dialler is not None
        return self._dialler

    async def _local(self, host: HostSite) -> Link:
        from dstui.gather.local import open_local

        return await open_local(host.name, become=self._settings(host.name).become)

    async def _remote(self, host: HostSite, seat: _Seat) -> Link:
        settings = self._settings(host.name)
        dialler = await self._ready()
        if seat.dialled is not None and seat.dialled.alive:
            try:
                return await self._exec(host.name, settings, seat, seat.dialled)
            except GatherError:
                # Half-dead connections look alive; one fresh attempt tells whether it is the host.
                await self._drop(seat)
            except BaseException:
                await self._drop(seat)
                raise
        await self._drop(seat)
        via = await self._via(host.name, settings)
        dialled = await dialler.dial(_endpoint(host.name, settings), via=via, timeout=settings.connect_timeout)
        try:
            link = await self._exec(host.name, settings, seat, dialled)
        except BaseException:
            await dialled.aclose()
            raise
        seat.dialled = dialled
        return link

    async def _exec(self, name: str, settings: SshSettings, seat: _Seat, dialled: Dialled) -> Link:
        from dstui.gather import ship

        key = dialled.key
        session = Session(
            user=settings.user,
            auth=dialled.auth,
            key_type=key.type if key else None,
            key_fingerprint=key.fingerprint if key else None,
            key_bits=key.bits if key else None,
            host_key_fingerprint=dialled.host_key_fingerprint,
            controller_ip=dialled.controller_ip,
            via_jump=dialled.jumped,
        )
        link = Link(name, session, become=settings.become, release=lambda: self._drop(seat))
        payload = await asyncio.to_thread(ship.bootstrap_payload)
        assert self._dialler is not None
        async with self._dialler.slots.hold():
            await dialled.open_link(link, ship.exec_command(), payload, seconds=HELLO_SECONDS)
        return link

    async def _via(self, name: str, settings: SshSettings) -> Dialled | None:
        from dstui.gather.dial import Endpoint

        via: Dialled | None = None
        chain: tuple[Endpoint, ...] = ()
        for hop in settings.jump:
            label = f"jump host {hop.address}"
            chain += (
                Endpoint(label, hop.address, hop.port, hop.user, hop.identity, settings.agent, settings.known_hosts),
            )
            via = await self._hop(name, chain, via, settings.connect_timeout)
        return via

    async def _hop(self, name: str, chain: tuple[Endpoint, ...], via: Dialled | None, seconds: float) -> Dialled:
        now = asyncio.get_running_loop().time
        seat = self._jumps.setdefault(chain, _Seat())
        asked_at = now()
        async with seat.lock:
            self._refuse_when_closed(name)
            if seat.dialled is not None and seat.dialled.alive:
                return seat.dialled
            failure = seat.fresh_failure(asked_at)
            if failure is None:
                await self._drop(seat)
                try:
                    dialler = await self._ready()
                    seat.dialled = await dialler.dial(chain[-1], via=via, timeout=seconds)
                except GatherError as error:
                    seat.fail(error, now())
                    failure = error
            if failure is not None:
                raise GatherError(failure.reason, f"{name}: not tried, because its jump host failed: {failure}")
            assert seat.dialled is not None
            if self._closed:
                await self._drop(seat)
                self._refuse_when_closed(name)
            return seat.dialled

    async def _drop(self, seat: _Seat) -> None:
        dialled, seat.dialled = seat.dialled, None
        if dialled is not None:
            await dialled.aclose()


def _endpoint(name: str, settings: SshSettings) -> Endpoint:
    from dstui.gather.dial import Endpoint

    return Endpoint(
        name,
        settings.address,
        settings.port,
        settings.user,
        settings.identity,
        settings.agent,
        settings.known_hosts,
    )
