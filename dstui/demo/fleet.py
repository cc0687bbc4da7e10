"""The servers of the fleet, in a thread with an event loop of its own: one address of 127.0.0.0/8 per host."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import socket
import threading
import time
from collections.abc import Callable, Coroutine, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import TypeVar

import asyncssh

from dstui.demo.cast import Character
from dstui.demo.life import Life
from dstui.demo.machine import Machine, build
from dstui.demo.nginx import Proxy
from dstui.demo.serving import Doors, Serving, Sockets
from dstui.demo.system import LOGIN
from dstui.model import UsageError

START_SECONDS = 10.0
STOP_SECONDS = 5.0
ACT_SECONDS = 2.0
DASHBOARD_IP = "127.0.0.9"
"""Of no host, like a proxy before the head: what the inventory says of the head's own ports stays as it is."""
BALANCER_IP = "127.0.0.8"
BALANCER_HOST = 1
"""The number of the host that it runs on; its address is one that moves, as with keepalived."""
ASSETS_IP = "127.0.0.7"
"""Where the documentation page loads its scripts from; nothing ever listens there, as behind a firewall."""
_TRIES = 16

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Keys:
    """Keys that exist only as long as the fleet does."""

    server: asyncssh.SSHKey
    client: asyncssh.SSHKey
    api: str = field(default_factory=lambda: f"sk-demo-{secrets.token_hex(16)}", repr=False)
    revoked: str = field(default_factory=lambda: f"sk-demo-{secrets.token_hex(16)}", repr=False)
    """Keys of the API: the one in force, and one that was in force before it."""

    @classmethod
    def fresh(cls) -> Keys:
        return cls(asyncssh.generate_private_key("ssh-ed25519"), asyncssh.generate_private_key("ssh-ed25519"))

    @property
    def authorized(self) -> str:
        return self.client.export_public_key().decode("ascii").strip() + f" {LOGIN}@demo\n"


@dataclass(slots=True)
class Fleet:
    """The running servers. `machines` by host name; `port` is the SSH port on every host's address.

    `dashboard_url` is Ray's, `api_url` the load balancer's, `backends` are the vLLM servers of the replicas; empty
    until `start`. `clock` gives seconds since the epoch: the fleet lives by it.
    """

    characters: tuple[Character, ...]
    keys: Keys
    clock: Callable[[], float] = time.time
    port: int = 0
    dashboard_url: str = ""
    api_url: str = ""
    backends: tuple[str, ...] = ()
    machines: Mapping[str, Machine] = field(default_factory=dict)
    _thread: threading.Thread | None = None
    _serving: Serving | None = None
    _end: Callable[[], None] = lambda: None

    def start(self) -> None:
        """Returns when every host can be connected to. Raises UsageError when that cannot be had here."""
        life = Life(self.characters, began=self.clock())
        ssh = _bound([(host.ssh_ip, host.traits.ssh_answers) for host in self.characters])
        replicas = [copy.host for copy in life.copies]
        with contextlib.ExitStack() as on_failure:
            on_failure.callback(_close, ssh)
            shared = (DASHBOARD_IP, BALANCER_IP, ASSETS_IP)
            web = _bound([(ip, ip != ASSETS_IP) for ip in (*shared, *(host.ssh_ip for host in replicas))])
            on_failure.pop_all()
        self.port, web_port = (int(sockets[0].getsockname()[1]) for sockets in (ssh, web))
        self.dashboard_url = f"http://{DASHBOARD_IP}:{web_port}"
        self.api_url = f"http://{BALANCER_IP}:{web_port}"
        self.backends = tuple(f"http://{host.ssh_ip}:{web_port}" for host in replicas)
        doors = Doors(
            self.keys.server, self.keys.client, self.keys.api, self.keys.revoked, f"http://{ASSETS_IP}:{web_port}"
        )
        serving = self._serving = Serving(life, doors, self.clock)
        proxy = Proxy(f"{BALANCER_IP}:{web_port}", self.backends)
        self.machines = {host.name: self._machine(host, life, proxy) for host in self.characters}
        named = dict(zip((host.name for host in replicas), web[len(shared) :], strict=True))
        serving.furnish(self.machines, Sockets(ssh, web[0], web[1], web[2], named))
        ready: Future[Callable[[], None]] = Future()
        self._thread = threading.Thread(target=asyncio.run, args=(serving.run(ready),), name="dstui-demo", daemon=True)
        self._thread.start()
        try:
            self._end = ready.result(timeout=START_SECONDS)
        except (OSError, TimeoutError, asyncssh.Error) as error:
            raise UsageError(f"the demo's servers did not start ({error or type(error).__name__})") from error

    def stop(self) -> None:
        """Ends every connection, closes every socket and waits for the thread. May be called again."""
        self._end()
        if self._thread is not None:
            self._thread.join(STOP_SECONDS)
            self._thread = None

    def kill(self, host: str) -> None:
        """The host loses power: its connections end and nothing answers there. From any thread but the fleet's own.

        Raises UsageError for a host that is not of the fleet, and when the fleet does not run.
        """
        self._ask(self._known(host).kill(host))

    def revive(self, host: str) -> None:
        """The host has power again, and joins the cluster by itself. As `kill`."""
        self._ask(self._known(host).revive(host))

    def down(self) -> tuple[str, ...]:
        """The hosts without power."""
        return self._ask(self._running().down())

    def busiest(self) -> str | None:
        """The host that has most to do of those that can die without taking all of Ray along; None: only the head."""
        return self._ask(self._running().busiest())

    @property
    def thread_id(self) -> int | None:
        """The fleet's own thread, while it runs: how much of a core the simulation takes is measured by it."""
        return self._thread.ident if self._thread is not None else None

    def _machine(self, host: Character, life: Life, proxy: Proxy) -> Machine:
        return build(
            host,
            self.characters,
            ssh_port=self.port,
            authorized_key=self.keys.authorized,
            down=life.down,
            work=life.bodies[host.name].work,
            proxy=proxy if host.number == BALANCER_HOST else None,
        )

    def _running(self) -> Serving:
        if self._serving is None or self._thread is None:
            raise UsageError("the demo's fleet does not run")
        return self._serving

    def _known(self, host: str) -> Serving:
        if host not in self.machines:
            raise UsageError(f"{host}: no host of the demo's fleet")
        return self._running()

    def _ask(self, act: Coroutine[None, None, _T]) -> _T:
        loop = self._running().loop
        assert loop is not None
        try:
            asked = asyncio.run_coroutine_threadsafe(act, loop)
        except RuntimeError:
            act.close()
            raise UsageError("the demo's fleet has ended") from None
        try:
            return asked.result(ACT_SECONDS)
        except TimeoutError:
            asked.cancel()
            raise UsageError("the demo's fleet does not react") from None


def _bound(places: Sequence[tuple[str, bool]]) -> list[socket.socket]:
    """A socket on each address, all with the same port; none of them listens. With each goes whether it ever will.

    Without a listener the kernel refuses connections, and as long as it is bound nothing else can answer there.
    """
    first = places[0][0]
    for _ in range(_TRIES):
        with contextlib.ExitStack() as opened:
            try:
                # A port that the kernel chose for a socket is given away when that stops listening; a named one stays.
                port = _free_port(first)
            except OSError as error:
                raise UsageError(
                    f"the demo needs loopback addresses such as {first}, which cannot be had here "
                    f"({error.strerror}). It runs on Linux, where all of 127.0.0.0/8 is loopback."
                ) from None
            try:
                sockets = []
                for ip, listens in places:
                    sock = opened.enter_context(socket.socket(socket.AF_INET, socket.SOCK_STREAM))
                    # To listen again while the kernel still remembers connections of before.
                    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, listens)
                    sock.bind((ip, port))
                    sock.setblocking(False)
                    sockets.append(sock)
            except OSError:
                continue
            opened.pop_all()
            return sockets
    raise UsageError("the demo found no port that is free on all of its loopback addresses; try again")


def _free_port(ip: str) -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as sock:
        sock.bind((ip, 0))
        return int(sock.getsockname()[1])


def _close(sockets: Sequence[socket.socket]) -> None:
    for sock in sockets:
        sock.close()
