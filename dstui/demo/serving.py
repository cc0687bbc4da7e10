"""What the fleet's thread runs: SSH on every host, Ray's dashboard, the replicas' pages; and who answers now."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial

import asyncssh

from dstui.demo import readings
from dstui.demo.api import ReplicaApi, Wicket
from dstui.demo.balancer import Balancer
from dstui.demo.life import Copy, Life
from dstui.demo.machine import Machine
from dstui.demo.ray_pages import Dashboard
from dstui.demo.session import Exec
from dstui.demo.system import LOGIN
from dstui.demo.together import Together
from dstui.demo.tokens import Tokenizer
from dstui.demo.web import Response, Web, still

Clock = Callable[[], float]
TEND_SECONDS = 0.25
"""How often it is looked who has begun or ceased to answer."""


@dataclass(frozen=True, slots=True)
class Sockets:
    """Bound sockets: `ssh` in the order of the machines, `replicas` by host name. `assets` only keeps its address."""

    ssh: Sequence[socket.socket]
    dashboard: socket.socket
    balancer: socket.socket
    assets: socket.socket
    replicas: Mapping[str, socket.socket]

    def close(self) -> None:
        for sock in (*self.ssh, self.dashboard, self.balancer, self.assets, *self.replicas.values()):
            sock.close()


@dataclass(frozen=True, slots=True)
class Doors:
    """Who gets in: SSH's keys, the API's. `assets` is the address that the documentation page loads scripts from."""

    server_key: asyncssh.SSHKey
    client_key: asyncssh.SSHKey
    api_key: str
    revoked_key: str
    assets: str


@dataclass(slots=True)
class Gate:
    """SSH of one host: open while the host has power. Hosts whose story is to refuse SSH never open it."""

    machine: Machine
    sock: socket.socket
    options: asyncssh.SSHServerConnectionOptions
    acceptor: asyncssh.SSHAcceptor | None = None

    async def open(self) -> None:
        if self.acceptor is None and self.machine.character.traits.ssh_answers:
            self.acceptor = await asyncssh.listen(sock=self.sock.dup(), options=self.options)

    def close(self) -> None:
        acceptor, self.acceptor = self.acceptor, None
        if acceptor is not None:
            acceptor.close()
            still(self.sock)


class Serving:
    """All servers of the fleet: `furnish` it, then `run` it. Everything else is called on its loop."""

    def __init__(self, life: Life, doors: Doors, clock: Clock) -> None:
        self.life = life
        self.doors = doors
        self.clock = clock
        self.loop: asyncio.AbstractEventLoop | None = None
        self.together = Together()
        self.connections: dict[asyncssh.SSHServerConnection, str] = {}
        """Each open connection, and the name of the host that it came to."""
        self.machines: dict[str, Machine] = {}
        """By the address at which the host's SSH server is."""
        self._gates: dict[str, Gate] = {}
        self._dashboard: Web | None = None
        self._balancer: Web | None = None
        self._pages: list[tuple[Copy, Web]] = []
        self._sockets: Sockets | None = None
        self._turn = asyncio.Lock()

    def furnish(self, machines: Mapping[str, Machine], sockets: Sockets) -> None:
        """What is served, by host name, and where. The sockets are closed when `run` ends."""
        self._sockets = sockets
        self.machines = {machine.character.ssh_ip: machine for machine in machines.values()}
        options = self._options()
        named = zip(machines.items(), sockets.ssh, strict=True)
        self._gates = {name: Gate(machine, sock, options) for (name, machine), sock in named}
        self._dashboard = Web(sockets.dashboard, Dashboard(self.life, self.clock).answer, self.clock)
        tokenizer = Tokenizer()
        apis = [self._api(copy, tokenizer) for copy in self.life.copies]
        balancer = Balancer(apis, Wicket(self.doors.api_key), time.monotonic)
        self._balancer = Web(sockets.balancer, _nothing, self.clock, balancer.answer)
        self._pages = [
            (api.copy, Web(sockets.replicas[api.copy.host.name], _nothing, self.clock, api.answer)) for api in apis
        ]

    async def run(self, ready: Future[Callable[[], None]]) -> None:
        """Until the function that `ready` gets is called, from any thread."""
        loop, over = asyncio.get_running_loop(), asyncio.Event()
        self.loop = loop
        tending: asyncio.Task[None] | None = None
        try:
            for gate in self._gates.values():
                await gate.open()
            assert self._balancer is not None
            await self._balancer.open()
            await self._tend()
            tending = asyncio.create_task(self._keep_tending())
        except BaseException as error:
            ready.set_exception(error)
        else:

            def end() -> None:
                with contextlib.suppress(RuntimeError):  # the loop is closed already
                    loop.call_soon_threadsafe(over.set)

            ready.set_result(end)
            await over.wait()
        finally:
            if tending is not None:
                tending.cancel()
            await self._end()

    async def kill(self, host: str) -> None:
        """KeyError for a host that is not of the fleet, as with all that follows."""
        async with self._turn:
            self.life.kill(host, self.clock())
            self._gates[host].close()
            await self._tend()
            await self._cut([connection for connection, to in self.connections.items() if to == host])

    async def revive(self, host: str) -> None:
        async with self._turn:
            self.life.revive(host, self.clock())
            await self._gates[host].open()

    async def down(self) -> tuple[str, ...]:
        return tuple(name for name in self.life.bodies if self.life.down(name))

    async def busiest(self) -> str | None:
        """Rather one that is watched, rather one that serves, rather one with many requests; never the head."""
        self.life.advance(self.clock())
        return max(
            (name for name in list(self.life.bodies)[1:] if not self.life.down(name)), key=self._worth, default=None
        )

    def read(self, host: str, with_gpus: bool, pcie: bool) -> dict[str, object]:
        """What the collector of a host reads now."""
        return readings.reading(self.life, host, self.clock(), with_gpus=with_gpus, pcie=pcie)

    def _worth(self, host: str) -> tuple[bool, int, int]:
        body, copy = self.life.bodies[host], self.life.copy_on(host)
        watched = body.host.traits.ssh_answers and body.host.traits.python3
        running = copy.engine.running if copy is not None and copy.engine is not None else -1
        return watched, running, -body.host.number

    def _api(self, copy: Copy, tokenizer: Tokenizer) -> ReplicaApi:
        revoked = self.doors.revoked_key if copy.host.traits.takes_revoked_key else ""
        wicket = Wicket(self.doors.api_key, revoked)
        return ReplicaApi(self.life, copy, self.clock, wicket, tokenizer, self.doors.assets)

    async def _keep_tending(self) -> None:
        while True:
            await asyncio.sleep(TEND_SECONDS)
            # What cannot be opened now, for want of descriptors perhaps, is tried again.
            with contextlib.suppress(OSError):
                async with self._turn:
                    await self._tend()

    async def _tend(self) -> None:
        """Opens and closes what answers by how things stand."""
        self.life.advance(self.clock())
        head = next(iter(self.life.bodies.values()))
        answering = [(web, copy.engine is not None) for copy, web in self._pages]
        assert self._dashboard is not None
        for web, answers in ((self._dashboard, head.node is not None), *answering):
            await (web.open() if answers else web.close())

    async def _end(self) -> None:
        for gate in self._gates.values():
            gate.close()
        for web in (self._dashboard, self._balancer, *(web for _, web in self._pages)):
            if web is not None:
                await web.close()
        if self._sockets is not None:
            self._sockets.close()
        await self._cut(list(self.connections))

    async def _cut(self, ending: Sequence[asyncssh.SSHServerConnection]) -> None:
        for connection in ending:
            connection.abort()
        for connection in ending:
            await connection.wait_closed()

    def _options(self) -> asyncssh.SSHServerConnectionOptions:
        return asyncssh.SSHServerConnectionOptions(
            server_factory=lambda: _Door(self),
            server_host_keys=[self.doors.server_key],
            encoding=None,
            server_version="dstui-demo",
            gss_host=None,
            allow_scp=False,
            agent_forwarding=False,
            x11_forwarding=False,
            line_editor=False,
            compression_algs=None,
            login_timeout=30,
        )


def _nothing(path: str, query: str) -> Response:
    return Response(b"", "text/plain", 404)


class _Door(asyncssh.SSHServer):
    """One connection: which host it came to, and who may log in there."""

    def __init__(self, serving: Serving) -> None:
        self._serving = serving
        self._machine: Machine | None = None
        self._connection: asyncssh.SSHServerConnection | None = None

    def connection_made(self, conn: asyncssh.SSHServerConnection) -> None:
        self._connection = conn
        self._machine = self._serving.machines.get(str(conn.get_extra_info("sockname")[0]))
        self._serving.connections[conn] = "" if self._machine is None else self._machine.character.name

    def connection_lost(self, exc: Exception | None) -> None:
        if self._connection is not None:
            self._serving.connections.pop(self._connection, None)

    def begin_auth(self, username: str) -> bool:
        return True

    def public_key_auth_supported(self) -> bool:
        return True

    def validate_public_key(self, username: str, key: asyncssh.SSHKey) -> bool:
        if self._machine is None or key != self._serving.doors.client_key.convert_to_public():
            return False
        return username == LOGIN or (username == "root" and self._machine.character.traits.root_login)

    def session_requested(self) -> asyncssh.SSHServerSession[bytes] | bool:
        if self._machine is None:
            return False
        return Exec(self._machine, self._serving.together, partial(self._serving.read, self._machine.character.name))
