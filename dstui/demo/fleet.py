"""The SSH server of the fleet, in a thread with an event loop of its own: one address of 127.0.0.0/8 per host."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field

import asyncssh

from dstui.demo.cast import Character
from dstui.demo.machine import Machine, build
from dstui.demo.session import Exec
from dstui.demo.system import LOGIN
from dstui.demo.together import Together
from dstui.model import UsageError

START_SECONDS = 10.0
STOP_SECONDS = 5.0
_TRIES = 16
_BACKLOG = 128


@dataclass(frozen=True, slots=True)
class Keys:
    """Keys that exist only as long as the fleet does."""

    server: asyncssh.SSHKey
    client: asyncssh.SSHKey

    @classmethod
    def fresh(cls) -> Keys:
        return cls(asyncssh.generate_private_key("ssh-ed25519"), asyncssh.generate_private_key("ssh-ed25519"))

    @property
    def authorized(self) -> str:
        return self.client.export_public_key().decode("ascii").strip() + f" {LOGIN}@demo\n"


@dataclass(slots=True)
class Fleet:
    """A running server. `machines` by host name; `port` is the same on every host's address."""

    characters: tuple[Character, ...]
    keys: Keys
    port: int = 0
    machines: Mapping[str, Machine] = field(default_factory=dict)
    _thread: threading.Thread | None = None
    _end: Callable[[], None] = lambda: None

    def start(self) -> None:
        """Returns when every host can be connected to. Raises UsageError when that cannot be had here."""
        sockets = _bound([(host.ssh_ip, host.traits.ssh_answers) for host in self.characters])
        self.port = int(sockets[0].getsockname()[1])
        self.machines = {
            host.name: build(host, self.characters, ssh_port=self.port, authorized_key=self.keys.authorized)
            for host in self.characters
        }
        ready: Future[Callable[[], None]] = Future()
        serving = _Serving({m.character.ssh_ip: m for m in self.machines.values()}, self.keys, sockets, ready)
        self._thread = threading.Thread(target=asyncio.run, args=(serving.run(),), name="dstui-demo", daemon=True)
        self._thread.start()
        try:
            self._end = ready.result(timeout=START_SECONDS)
        except (OSError, TimeoutError, asyncssh.Error) as error:
            raise UsageError(f"the demo's SSH server did not start ({error or type(error).__name__})") from error

    def stop(self) -> None:
        """Ends every connection, closes every socket and waits for the thread. May be called again."""
        self._end()
        if self._thread is not None:
            self._thread.join(STOP_SECONDS)
            self._thread = None


def _bound(places: Sequence[tuple[str, bool]]) -> list[socket.socket]:
    """A socket on each address, all with the same port; those that shall not answer are bound all the same.

    Without a listener the kernel refuses connections, and as long as it is bound nothing else can answer there.
    """
    for _ in range(_TRIES):
        with contextlib.ExitStack() as opened:
            port = 0
            try:
                sockets = []
                for ip, answers in places:
                    sock = opened.enter_context(socket.socket(socket.AF_INET, socket.SOCK_STREAM))
                    sock.bind((ip, port))
                    port = sock.getsockname()[1]
                    if answers:
                        sock.listen(_BACKLOG)
                    sock.setblocking(False)
                    sockets.append(sock)
            except OSError as error:
                if port == 0:
                    raise UsageError(
                        f"the demo needs loopback addresses such as {places[0][0]}, which cannot be had here "
                        f"({error.strerror}). It runs on Linux, where all of 127.0.0.0/8 is loopback."
                    ) from None
                continue
            opened.pop_all()
            return sockets
    raise UsageError("the demo found no port that is free on all of its loopback addresses; try again")


@dataclass(slots=True)
class _Serving:
    """What the server's thread runs. `ready` gets the function that ends it."""

    machines: Mapping[str, Machine]
    keys: Keys
    sockets: Sequence[socket.socket]
    ready: Future[Callable[[], None]]
    together: Together = field(default_factory=Together)
    connections: set[asyncssh.SSHServerConnection] = field(default_factory=set)

    async def run(self) -> None:
        loop, over = asyncio.get_running_loop(), asyncio.Event()
        acceptors: list[asyncssh.SSHAcceptor] = []
        try:
            options = self._options()
            for sock in self.sockets:
                machine = self.machines[str(sock.getsockname()[0])]
                if machine.character.traits.ssh_answers:
                    acceptors.append(await asyncssh.listen(sock=sock, options=options))
        except BaseException as error:
            self.ready.set_exception(error)
        else:

            def end() -> None:
                with contextlib.suppress(RuntimeError):  # the loop is closed already
                    loop.call_soon_threadsafe(over.set)

            self.ready.set_result(end)
            await over.wait()
        finally:
            for acceptor in acceptors:
                acceptor.close()
            for sock in self.sockets:
                sock.close()
            ending = list(self.connections)
            for connection in ending:
                connection.abort()
            for connection in ending:
                await connection.wait_closed()

    def _options(self) -> asyncssh.SSHServerConnectionOptions:
        return asyncssh.SSHServerConnectionOptions(
            server_factory=lambda: _Door(self),
            server_host_keys=[self.keys.server],
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


class _Door(asyncssh.SSHServer):
    """One connection: which host it came to, and who may log in there."""

    def __init__(self, serving: _Serving) -> None:
        self._serving = serving
        self._machine: Machine | None = None
        self._connection: asyncssh.SSHServerConnection | None = None

    def connection_made(self, conn: asyncssh.SSHServerConnection) -> None:
        self._connection = conn
        self._machine = self._serving.machines.get(str(conn.get_extra_info("sockname")[0]))
        self._serving.connections.add(conn)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._connection is not None:
            self._serving.connections.discard(self._connection)

    def begin_auth(self, username: str) -> bool:
        return True

    def public_key_auth_supported(self) -> bool:
        return True

    def validate_public_key(self, username: str, key: asyncssh.SSHKey) -> bool:
        if self._machine is None or key != self._serving.keys.client.convert_to_public():
            return False
        return username == LOGIN or (username == "root" and self._machine.character.traits.root_login)

    def session_requested(self) -> asyncssh.SSHServerSession[bytes] | bool:
        return Exec(self._machine, self._serving.together) if self._machine is not None else False
