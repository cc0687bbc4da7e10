"""One SSH connection: reach the host, check its key, log in with the operator's keys, open the collector's exec.

Imports asyncssh, which takes a quarter of a second: import this module late and in a thread.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import asyncssh

from dstui.gather.algorithms import CIPHERS, KEY_EXCHANGES, MACS, host_key_algorithms
from dstui.gather.channel import ChannelWire
from dstui.gather.clientkeys import ClientKeys, Offer, PublicKeyFacts
from dstui.gather.faults import Attempt, Stage, explain
from dstui.gather.hostkeys import HostKeys, HostTrust, Trusted, refusal
from dstui.gather.link import Link
from dstui.gather.reach import reach
from dstui.gather.wording import clean
from dstui.model import GatherError, Reason

KEEPALIVE_SECONDS = 5
KEEPALIVES_LOST = 3
"""A peer that has been silent for 5 × (3 + 1) seconds is gone."""

SLOT_SECONDS = 2.0
"""A slot is given back after this time even when its host is not ready: by then it is the host that is slow."""


FORWARD_SECONDS = 5.0
"""For a host to connect to a port behind it."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where one SSH connection goes. `label` is the host's name for messages."""

    label: str
    address: str
    port: int
    user: str
    identity: Path | None
    agent: bool
    known_hosts: Path | None


REACHING_AT_ONCE = 256
"""TCP connections being made at once: they cost nothing but file descriptors, of which there are usually 1024."""


class Slots:
    """A bound on how many connections are in the expensive part of their start at once."""

    def __init__(self, count: int) -> None:
        self._free = asyncio.Semaphore(count)

    @asynccontextmanager
    async def hold(self) -> AsyncIterator[None]:
        await self._free.acquire()
        held = True

        def give_back() -> None:
            nonlocal held
            if held:
                held = False
                self._free.release()

        timer = asyncio.get_running_loop().call_later(SLOT_SECONDS, give_back)
        try:
            yield
        finally:
            timer.cancel()
            give_back()


class _Witness(asyncssh.SSHClient):
    """Sees what happens while a connection starts, decides on the host key, and hands out the client keys."""

    def __init__(self, attempt: Attempt, trust: HostTrust, host_keys: HostKeys, offer: Offer, accept: bool) -> None:
        self.attempt = attempt
        self.offer = offer
        self.refused_key: asyncssh.SSHKey | None = None
        self.accepted_key: asyncssh.SSHKey | None = None
        self._trust = trust
        self._host_keys = host_keys
        self._accept = accept

    def connection_made(self, conn: asyncssh.SSHClientConnection) -> None:
        self.attempt.stage = Stage.KEX

    def validate_host_public_key(self, host: str, addr: str, port: int, key: asyncssh.SSHKey) -> bool:
        verdict = self._trust.judge(key)
        if verdict is Trusted.KNOWN:
            return True
        if self._accept and self._host_keys.may_accept(self._trust, key):
            self.accepted_key = key
            return True
        self.refused_key = key
        return False

    def begin_auth(self, username: str) -> None:
        self.attempt.stage = Stage.AUTH

    def auth_banner_received(self, msg: str, lang: str) -> None:
        self.attempt.banner = msg[-2000:]

    async def public_key_auth_requested(self) -> asyncssh.SSHKeyPair | None:
        self.attempt.saw_method("publickey")
        return await self.offer.next()

    def password_auth_requested(self) -> None:
        self.attempt.saw_method("password")

    def kbdint_auth_requested(self) -> None:
        self.attempt.saw_method("keyboard-interactive")

    def auth_completed(self) -> None:
        self.attempt.stage = Stage.OPEN


@dataclass(slots=True)
class Dialled:
    """An open, authenticated connection. `key` is the client key that the server took, None when it asked for none."""

    conn: asyncssh.SSHClientConnection
    attempt: Attempt
    key: PublicKeyFacts | None
    jumped: bool
    _late: set[asyncio.Task[object]] = field(default_factory=set)

    @property
    def alive(self) -> bool:
        return not self.conn.is_closed()

    @property
    def auth(self) -> str:
        """The method that let the operator in."""
        return "publickey" if self.key else "none"

    @property
    def host_key_fingerprint(self) -> str | None:
        key = self.conn.get_server_host_key()
        return key.get_fingerprint() if key else None

    @property
    def controller_ip(self) -> str | None:
        """The local address of the connection; None through a jump host, where only the host knows."""
        name = None if self.jumped else self.conn.get_extra_info("sockname")
        return str(name[0]) if name else None

    async def create_connection(
        self, session_factory: Callable[[], asyncssh.SSHTCPSession[bytes]], host: str, port: int
    ) -> tuple[asyncssh.SSHTCPChannel[bytes], asyncssh.SSHTCPSession[bytes]]:
        """A tunnel through this connection, as asyncssh wants it. Being cancelled leaves no open channel behind."""
        opening = asyncio.get_running_loop().create_task(self.conn.create_connection(session_factory, host, port))
        try:
            return await asyncio.shield(opening)
        except asyncio.CancelledError:
            self._late.add(opening)
            opening.add_done_callback(self._close_late)
            raise

    def _close_late(self, opening: asyncio.Task[tuple[object, object]]) -> None:
        self._late.discard(opening)
        if not opening.cancelled() and opening.exception() is None:
            channel = opening.result()[0]
            assert isinstance(channel, asyncssh.SSHTCPChannel)
            channel.abort()

    def close(self) -> None:
        """Ask for the end; asyncssh calls this on tunnels."""
        self.conn.close()

    async def wait_closed(self) -> None:
        await self.conn.wait_closed()

    async def aclose(self) -> None:
        """Close at once; never raises."""
        for task in self._late:
            task.cancel()
        self.conn.abort()
        await self.conn.wait_closed()

    async def try_port(self, address: str, port: int) -> None:
        """See whether the host connects to `address:port` for us. GatherError(UNREACHABLE) says why it does not."""
        label = self.attempt.label
        try:
            async with asyncio.timeout(FORWARD_SECONDS):
                channel, _ = await self.create_connection(asyncssh.SSHTCPSession, address, port)
        except TimeoutError:
            why = f"{label}: it did not connect to {address}:{port} for us within {FORWARD_SECONDS:g} s"
            raise GatherError(Reason.TIMEOUT, why) from None
        except asyncssh.ChannelOpenError as error:
            raise GatherError(Reason.UNREACHABLE, no_forward(label, f"{address}:{port}", error)) from error
        except (OSError, asyncssh.Error) as error:
            raise explain(error, self.attempt, session_open=True) from error
        channel.abort()

    async def listen_on(self, path: Path, address: str, port: int) -> asyncssh.SSHListener:
        """A Unix socket of which every connection ends at `address:port` as the host sees it."""
        try:
            return await self.conn.forward_local_path_to_port(str(path), address, port)
        except (OSError, asyncssh.Error) as error:
            why = f"{self.attempt.label}: a tunnel cannot be opened at {path}: {error}"
            raise GatherError(Reason.UNREACHABLE, why) from error

    async def open_link(self, link: Link, command: str, payload: bytes, *, seconds: float) -> None:
        """Start the collector in one exec and wait for its hello. GatherError; the channel is gone then."""
        session = ChannelWire(link, self.attempt)
        try:
            async with asyncio.timeout(seconds):
                await self.conn.create_session(lambda: session, command, encoding=None, request_pty=False)
        except TimeoutError:
            session.abort()
            raise GatherError(
                Reason.UNREACHABLE, f"{self.attempt.label}: logged in, but no session was opened within {seconds:g} s"
            ) from None
        except (OSError, asyncssh.Error) as error:
            raise explain(error, self.attempt) from error
        except BaseException:
            session.abort()
            raise
        await link.greet(session, payload, seconds=seconds)


@dataclass(slots=True)
class Dialler:
    """Makes connections. Files are parsed once for all of them; the slots bound how many start at once."""

    host_keys: HostKeys
    client_keys: ClientKeys
    slots: Slots
    reaching: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(REACHING_AT_ONCE))

    async def dial(self, end: Endpoint, *, via: Dialled | None, timeout: float, accept: bool = True) -> Dialled:  # noqa: ASYNC109
        """Connect and log in within `timeout` seconds, waiting for a slot not counted. GatherError(UNREACHABLE)."""
        loop = asyncio.get_running_loop()
        attempt = Attempt(end.label, end.address, end.port, end.user, timeout, via.attempt.address if via else None)
        trust = await asyncio.to_thread(self.host_keys.trust, end.known_hosts, end.address, end.port)
        identities = await asyncio.to_thread(self.client_keys.load, end.label, end.identity)
        started = loop.time()
        sock = None
        if via is None:
            async with self.reaching:
                started = loop.time()
                sock = await reach(attempt)
        left = max(1.0, timeout - (loop.time() - started))
        offer = Offer(identities, end.identity is not None, end.agent)
        witness = _Witness(attempt, trust, self.host_keys, offer, accept)
        try:
            async with self.slots.hold(), asyncio.timeout(left):
                conn = await _connect(end, witness, trust, sock, via)
        except TimeoutError as error:
            raise explain(error, attempt) from None
        except (OSError, asyncssh.Error, ValueError) as error:
            if witness.refused_key is not None:
                words = refusal(end.label, end.address, end.port, trust, witness.refused_key, jumped=via is not None)
                raise GatherError(Reason.UNREACHABLE, words) from None
            attempt.offered = tuple(offer.offered)
            attempt.remarks = offer.remarks()
            raise explain(error, attempt) from error
        finally:
            if attempt.stage is not Stage.OPEN and sock is not None:
                sock.close()
            offer.close()
        dialled = Dialled(conn, attempt, offer.offered[-1] if offer.offered else None, via is not None)
        if witness.accepted_key is not None:
            await self._record(dialled, trust, witness.accepted_key)
        return dialled

    async def _record(self, dialled: Dialled, trust: HostTrust, key: asyncssh.SSHKey) -> None:
        # Accepting without writing it down would accept any other key the next time.
        try:
            await asyncio.to_thread(self.host_keys.record, trust, key)
        except OSError as error:
            await dialled.aclose()
            raise GatherError(
                Reason.UNREACHABLE,
                f"{dialled.attempt.label}: its new host key was accepted but could not be written to {trust.path} "
                f"({error.strerror}); make the file writable",
            ) from error
        except BaseException:
            await dialled.aclose()
            raise


def no_forward(label: str, target: str, error: asyncssh.ChannelOpenError) -> str:
    """Why a host did not open a tunnel, and what to do."""
    if error.code == asyncssh.OPEN_ADMINISTRATIVELY_PROHIBITED:
        return f"{label}: its sshd forbids tunnels (AllowTcpForwarding, PermitOpen); allow {target} for this user"
    return f"{label}: it cannot connect to {target} ({clean(error.reason)}); does something listen there?"


async def _connect(
    end: Endpoint, witness: _Witness, trust: HostTrust, sock: socket.socket | None, via: Dialled | None
) -> asyncssh.SSHClientConnection:
    known = [name.decode("ascii") for key in trust.keys for name in key.sig_algorithms]
    algorithms = host_key_algorithms(known, certificates=bool(trust.authorities))
    # With an authority asyncssh itself must know the revoked keys; without one `_Witness` sees them and can name them.
    revoked = trust.revoked if trust.authorities else ()
    return await asyncssh.connect(
        end.address,
        end.port,
        sock=sock,
        tunnel=via,
        config=None,
        username=end.user,
        client_factory=lambda: witness,
        known_hosts=lambda _host, _addr, _port: (trust.keys, trust.authorities, revoked),
        server_host_key_algs=algorithms,
        x509_trusted_certs=None,
        client_keys=None,
        agent_path=None,
        agent_forwarding=False,
        gss_host=None,
        host_based_auth=False,
        preferred_auth=("publickey", "keyboard-interactive", "password"),
        kex_algs=KEY_EXCHANGES,
        encryption_algs=CIPHERS,
        mac_algs=MACS,
        compression_algs=None,
        connect_timeout=None,
        keepalive_interval=KEEPALIVE_SECONDS,
        keepalive_count_max=KEEPALIVES_LOST,
        utf8_decode_errors="replace",
    )
