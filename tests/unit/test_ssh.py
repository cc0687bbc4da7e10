"""Links against a real SSH server on loopback: it runs commands for real, or has one of the bad habits of hosts."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import stat
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import asyncssh
import pytest

from dstui.facts.case import HostSite
from dstui.facts.raw import own_process, read, run
from dstui.gather import dial, link, ssh
from dstui.gather.ssh import JumpHop, Links, SshSettings
from dstui.model import GatherError, Reason

Process = asyncssh.SSHServerProcess[bytes]
Source = asyncio.StreamReader | asyncssh.SSHReader[bytes]
Sink = asyncio.StreamWriter | asyncssh.SSHWriter[bytes]
HELLO = b'\x1e{"id":0,"ok":true,"mode":"python","python":"3.11.2","version":1}\n'


async def run_for_real(process: Process) -> None:
    """What sshd does with an exec: the login shell runs the command."""
    assert process.command is not None
    child = await asyncio.create_subprocess_exec(
        "/bin/sh",
        "-c",
        process.command,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={"PATH": os.environ["PATH"], "HOME": "/", "SSH_CONNECTION": "192.0.2.9 5 192.0.2.1 22"},
    )
    assert child.stdin is not None and child.stdout is not None and child.stderr is not None
    pumps = [
        asyncio.create_task(pump(process.stdin, child.stdin, close=True)),
        asyncio.create_task(pump(child.stdout, process.stdout)),
        asyncio.create_task(pump(child.stderr, process.stderr)),
    ]
    try:
        await asyncio.gather(*pumps[1:])
        process.exit(await child.wait())
    finally:
        for task in pumps:
            task.cancel()
        await asyncio.gather(*pumps, return_exceptions=True)
        if child.returncode is None:
            child.kill()
            await child.wait()


async def pump(source: Source, sink: Sink, *, close: bool = False) -> None:
    with contextlib.suppress(ConnectionError):
        while data := await source.read(65536):
            sink.write(data)
            await sink.drain()
        if close:
            sink.close()


async def answer(process: Process, reply: Callable[[dict[str, object]], bytes | None]) -> None:
    """A made-up collector: hello, then `reply` to every request, until end of input."""
    process.stdout.write(HELLO)
    async for line in process.stdin:
        if line.startswith(b'{"id": '):  # the rest is the collector that was sent
            said = reply(json.loads(line))
            if said is not None:
                process.stdout.write(said)
    process.exit(0)


def echo(request: dict[str, object]) -> bytes:
    return b"\x1e" + json.dumps({"ok": True, **request}).encode() + b"\n"


@dataclass
class Host:
    """One SSH server and what it saw."""

    port: int
    key: asyncssh.SSHKey
    logins: list[str] = field(default_factory=list)
    connections: set[asyncssh.SSHServerConnection] = field(default_factory=set)
    forwards: list[tuple[str, int]] = field(default_factory=list)
    sessions: set[asyncio.Task[None]] = field(default_factory=set)
    execs: int = 0
    tunnels: bool = True


@dataclass
class Lab:
    """Client keys, a known_hosts file, and servers that are gone when the test ends."""

    folder: Path
    client_key: asyncssh.SSHKey
    stack: contextlib.AsyncExitStack
    users: frozenset[str] = frozenset({"ops"})

    @property
    def identity(self) -> Path:
        return self.folder / "id"

    @property
    def known_hosts(self) -> Path:
        return self.folder / "known_hosts"

    async def host(
        self,
        process: Callable[[Process], Awaitable[None]] = run_for_real,
        *,
        known: bool = True,
        methods: tuple[str, ...] = ("publickey",),
        host_key_alg: str = "ssh-ed25519",
        authorized: asyncssh.SSHKey | None = None,
    ) -> Host:
        key = asyncssh.generate_private_key(host_key_alg)
        host = Host(0, key)
        lab = self

        class Server(asyncssh.SSHServer):
            def connection_made(self, conn: asyncssh.SSHServerConnection) -> None:
                self.conn = conn
                host.connections.add(conn)

            def connection_lost(self, exc: Exception | None) -> None:
                host.connections.discard(self.conn)

            def begin_auth(self, username: str) -> bool:
                self.user = username
                if "none" in methods:
                    host.logins.append(username)
                return "none" not in methods

            def public_key_auth_supported(self) -> bool:
                return "publickey" in methods

            def validate_public_key(self, username: str, offered: asyncssh.SSHKey) -> bool:
                wanted = authorized or lab.client_key
                return username in lab.users and offered == wanted.convert_to_public()

            def auth_completed(self) -> None:
                host.logins.append(self.user)

            def password_auth_supported(self) -> bool:
                return "password" in methods

            def kbdint_auth_supported(self) -> bool:
                return False

            def connection_requested(self, dest_host: str, dest_port: int, orig_host: str, orig_port: int) -> bool:
                host.forwards.append((dest_host, dest_port))
                if not host.tunnels:
                    raise asyncssh.ChannelOpenError(asyncssh.OPEN_ADMINISTRATIVELY_PROHIBITED, "open failed")
                return True

        async def serve(channel: Process) -> None:
            host.execs += 1
            task = asyncio.create_task(process(channel))  # type: ignore[arg-type]
            for own in (task, asyncio.current_task()):
                assert own is not None
                host.sessions.add(own)
                own.add_done_callback(host.sessions.discard)
            await asyncio.wait([task])

        server = await asyncssh.listen(
            "127.0.0.1", 0, server_factory=Server, server_host_keys=[key], process_factory=serve, encoding=None
        )
        self.stack.push_async_callback(self._stop, server, host)
        host.port = server.get_port()
        if known:
            self.trust(host.port, key)
        return host

    @staticmethod
    async def _stop(server: asyncssh.SSHAcceptor, host: Host) -> None:
        server.close()
        for conn in list(host.connections):
            conn.abort()
            await conn.wait_closed()
        await server.wait_closed()
        sessions = tuple(host.sessions)
        for task in sessions:
            task.cancel()
        await asyncio.gather(*sessions, return_exceptions=True)

    def trust(self, port: int, key: asyncssh.SSHKey, *, marker: str = "") -> None:
        line = f"{marker}[127.0.0.1]:{port} {key.export_public_key().decode()}"
        with self.known_hosts.open("a") as file:
            file.write(line)

    async def lock_identity(self, passphrase: str) -> None:
        process = await asyncio.create_subprocess_exec(
            "ssh-keygen", "-q", "-p", "-a", "1", "-P", "", "-N", passphrase, "-f", str(self.identity), stdout=-3
        )
        assert await process.wait() == 0

    async def raw(self, talk: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]) -> int:
        """A TCP server that is no SSH server; its port."""

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            try:
                await talk(reader, writer)
            except ConnectionError:
                pass
            finally:
                writer.close()

        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        self.stack.callback(server.close)
        return int(server.sockets[0].getsockname()[1])

    def settings(self, port: int, **changes: object) -> SshSettings:
        base = SshSettings(
            address="127.0.0.1",
            user="ops",
            port=port,
            identity=self.identity,
            agent=False,
            known_hosts=self.known_hosts,
            connect_timeout=5.0,
        )
        return replace(base, **changes)  # type: ignore[arg-type]

    def links(self, *ports: int, max_parallel: int = 16, accept: bool = False, **changes: object) -> Links:
        """A pool for hosts named h0, h1 … on these ports."""
        table = {f"h{number}": self.settings(port, **changes) for number, port in enumerate(ports)}
        return self.pool(table, max_parallel=max_parallel, accept=accept)

    def pool(self, table: dict[str, SshSettings], *, max_parallel: int = 16, accept: bool = False) -> Links:
        links = Links(table.__getitem__, max_parallel=max_parallel, accept_new_host_keys=accept)
        self.stack.push_async_callback(links.aclose)
        return links


@pytest.fixture(scope="session")
def client_key() -> asyncssh.SSHKey:
    return asyncssh.generate_private_key("ssh-ed25519")


@pytest.fixture
async def lab(tmp_path: Path, client_key: asyncssh.SSHKey) -> AsyncIterator[Lab]:
    identity = tmp_path / "id"
    identity.write_bytes(client_key.export_private_key())
    identity.chmod(0o600)
    before = asyncio.all_tasks()
    async with contextlib.AsyncExitStack() as stack:
        yield Lab(tmp_path, client_key, stack)
    left = asyncio.all_tasks() - before - {asyncio.current_task()}
    assert not left, "tasks were left behind"


def site(name: str = "h0", *, local: bool = False) -> HostSite:
    return HostSite(
        name=name,
        roles=frozenset({"worker"}),
        data_ip="127.0.0.1",
        mgmt_ip=None,
        address="127.0.0.1",
        port=22,
        user="ops",
        gpu=False,
        gpus_per_host=None,
        local=local,
    )


async def until(true: Callable[[], object]) -> None:
    """Let the loop turn until something has become true."""
    async with asyncio.timeout(5):
        while not true():  # noqa: ASYNC110 - the servers' state changes without telling
            await asyncio.sleep(0)


async def refused(links: Links, name: str = "h0") -> str:
    """Why the host could not be reached."""
    with pytest.raises(GatherError) as caught:
        await links.link(site(name))
    assert caught.value.reason is Reason.UNREACHABLE
    assert str(caught.value).startswith(f"{name}: ")
    return str(caught.value)


OPS = (own_process("self"), run("kernel", "uname", "-r"), read("os", "/etc/os-release"), read("none", "/nonexistent"))


async def test_facts_from_the_real_collector_over_one_exec(lab: Lab) -> None:
    host = await lab.host()
    links = lab.links(host.port)
    first = await links.link(site())
    raw = await first.facts(OPS, deadline=10)
    assert raw.text("kernel") == os.uname().release + "\n"
    assert "ID=" in str(raw.text("os"))
    assert raw.answers["none"].missing is not None
    again = await links.link(site())
    await asyncio.gather(again.facts(OPS, deadline=10), again.facts(OPS, deadline=10))
    assert again is first
    assert (host.execs, host.logins) == (1, ["ops"])


async def test_the_session_tells_how_the_operator_got_in(lab: Lab) -> None:
    host = await lab.host()
    session = (await lab.links(host.port).link(site())).session
    assert (session.user, session.auth, session.key_type, session.key_bits) == ("ops", "publickey", "ssh-ed25519", 256)
    assert session.key_fingerprint == lab.client_key.get_fingerprint()
    assert session.host_key_fingerprint == host.key.get_fingerprint()
    assert (session.controller_ip, session.via_jump, session.local) == ("127.0.0.1", False, False)


async def test_a_server_that_asks_for_no_key_is_not_a_public_key_login(lab: Lab) -> None:
    host = await lab.host(methods=("none",))
    session = (await lab.links(host.port).link(site())).session
    assert (session.auth, session.key_fingerprint) == ("none", None)


async def test_a_collector_that_died_is_started_again_on_the_same_connection(lab: Lab) -> None:
    host = await lab.host()
    links = lab.links(host.port)
    first = await links.link(site())
    await first.call("bye", timeout=5)
    await until(lambda: not first.alive)  # type: ignore[attr-defined]
    second = await links.link(site())
    assert (await second.facts(OPS, deadline=10)).text("kernel")
    assert (host.execs, len(host.logins)) == (2, 1)


async def test_a_connection_that_died_is_made_again(lab: Lab) -> None:
    host = await lab.host()
    links = lab.links(host.port)
    first = await links.link(site())
    waiting = asyncio.create_task(first.facts((run("slow", "sleep", "30", timeout=40),), deadline=30))
    await asyncio.sleep(0)
    for conn in list(host.connections):
        conn.abort()
    with pytest.raises(GatherError, match="was lost") as caught:
        await waiting
    assert caught.value.reason is Reason.UNREACHABLE
    assert await (await links.link(site())).facts(OPS, deadline=10)
    assert len(host.logins) == 2


async def test_one_dead_request_leaves_the_others_alone(lab: Lab) -> None:
    def reply(request: dict[str, object]) -> bytes | None:
        return None if request.get("mute") else echo(request)

    host = await lab.host(lambda process: answer(process, reply))
    one = await lab.links(host.port).link(site())
    mute = asyncio.create_task(one.call("x", timeout=0.05, mute=True))
    assert (await one.call("x", timeout=5, n=7))["n"] == 7
    with pytest.raises(GatherError, match=r"h0: no answer to x within 0\.05 s") as caught:
        await mute
    assert caught.value.reason is Reason.TIMEOUT
    assert (await one.call("x", timeout=5, n=8))["n"] == 8


async def test_a_host_that_stops_mid_run_times_out_alone(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    good = await lab.host(lambda process: answer(process, echo))
    frozen = await lab.host(lambda process: answer(process, lambda request: None))
    links = lab.links(good.port, frozen.port)
    healthy = await links.link(site("h0"))
    monkeypatch.setattr(dial, "KEEPALIVE_SECONDS", 0.1)
    stopped = await links.link(site("h1"))
    pending = [asyncio.create_task(stopped.call("x", timeout=30)) for _ in range(3)]
    await asyncio.sleep(0)
    for conn in frozen.connections:  # as after SIGSTOP: the kernel keeps the connection, nobody reads it
        conn._transport.pause_reading()
    results = await asyncio.gather(*pending, return_exceptions=True)
    assert {(type(r), getattr(r, "reason", None)) for r in results} == {(GatherError, Reason.TIMEOUT)}
    assert "keepalive" in str(results[0])
    assert (await healthy.call("x", timeout=5, n=1))["n"] == 1


async def test_a_host_that_closes_mid_answer_fails_everything_pending_at_once(lab: Lab) -> None:
    async def half(process: Process) -> None:
        process.stdout.write(HELLO)
        while not (await process.stdin.readline()).startswith(b'{"id": '):
            pass
        process.stdout.write(b'\x1e{"id":1,"ok":tr')
        process.stderr.write(b"\x1b[31mKilled\x1b[0m\n")
        process.exit(137)

    host = await lab.host(half)
    one = await lab.links(host.port).link(site())
    results = await asyncio.gather(*(one.call("x", timeout=30) for _ in range(3)), return_exceptions=True)
    assert {str(r) for r in results} == {"h0: the collector's session ended with exit code 137; it printed: “Killed”"}


async def test_noise_before_hello_is_not_an_answer(lab: Lab) -> None:
    async def noisy(process: Process) -> None:
        process.stdout.write(b"Welcome\xff\xfe\x1b[2J\r\n*** \x1e{not json}\nlast words without newline")
        await answer(process, echo)

    host = await lab.host(noisy)
    one = await lab.links(host.port).link(site())
    assert (await one.call("x", timeout=5, n=1))["n"] == 1


async def test_a_login_shell_that_says_no(lab: Lab) -> None:
    async def nologin(process: Process) -> None:
        process.stdout.write(b"This account is currently not available.\n")
        process.exit(1)

    why = await refused(lab.links((await lab.host(nologin)).port))
    assert why == (
        "h0: the collector's session ended with exit code 1; it printed: “This account is currently not available.”"
    )


async def test_a_login_shell_that_never_starts_the_collector(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ssh, "HELLO_SECONDS", 0.1)

    async def asleep(process: Process) -> None:
        process.stdout.write(b"Loading modules ...")
        await process.stdin.read()

    host = await lab.host(asleep)
    why = await refused(lab.links(host.port))
    assert "the collector did not start within 0.1 s; it printed: “Loading modules ...”" in why
    await until(lambda: not host.connections)


@pytest.mark.parametrize(
    ("garbage", "why"),
    [
        (b"\x1e{}}\n", "sent a message that cannot be read"),
        (b'\x1e{"id":"1","ok":true}\n', "sent a message that cannot be read"),
        (b"\x1e[" * 2000 + b"\n", "sent a message that cannot be read"),
        (b"\x1e" + b'{"id":77,"ok":true}\n\x1e' * 1002, "answers that nobody asked for"),
        (b"yes\n" * 1_100_000, "text that is not an answer"),
        (b"\x1e" + b"x" * 3_000_000, "a message of more than 2 MiB"),
    ],
    ids=["not JSON", "wrong id", "nested", "strays", "noise", "long"],
)
async def test_hosts_that_talk_nonsense_are_cut_off(
    lab: Lab, monkeypatch: pytest.MonkeyPatch, garbage: bytes, why: str
) -> None:
    monkeypatch.setattr(link, "MAX_MESSAGE_BYTES", 2 * 1024 * 1024)

    def reply(request: dict[str, object]) -> bytes:
        return garbage

    host = await lab.host(lambda process: answer(process, reply))
    one = await lab.links(host.port).link(site())
    with pytest.raises(GatherError, match=why) as caught:
        await one.call("x", timeout=20)
    assert caught.value.reason is Reason.PARSE_ERROR


async def test_a_big_answer_arrives_whole(lab: Lab) -> None:
    def reply(request: dict[str, object]) -> bytes:
        return b"\x1e" + json.dumps({"id": request["id"], "ok": True, "text": "line\n" * 400_000}).encode() + b"\n"

    host = await lab.host(lambda process: answer(process, reply))
    one = await lab.links(host.port).link(site())
    assert len(str((await one.call("x", timeout=20))["text"])) == 2_000_000


async def test_without_python_facts_come_from_the_shell(lab: Lab) -> None:
    from dstui.gather import ship

    async def no_python(process: Process) -> None:
        command = str(process.command)
        for name in ship.PYTHONS:
            command = command.replace(f"{name} ", "no-such-python ", 1).replace(f"{name};", "no-such-python;", 1)

        class Renamed:
            def __getattr__(self, name: str) -> object:
                return command if name == "command" else getattr(process, name)

        await run_for_real(Renamed())  # type: ignore[arg-type]

    host = await lab.host(no_python)
    one = await lab.links(host.port).link(site())
    for _ in range(2):
        raw = await one.facts(OPS, deadline=20)
        assert raw.text("kernel") == os.uname().release + "\n"
        assert raw.answers["none"].missing is not None
    with pytest.raises(GatherError, match=r"python3 \(3.6 or newer\) is not on the host") as caught:
        await one.call("listen", timeout=5, port=1)
    assert caught.value.reason is Reason.TOOL_MISSING
    assert host.execs == 1
    late = await one.facts((own_process("self"), run("slow", "sleep", "1.5", timeout=5)), deadline=0.5)
    assert late.answers["self"].missing is None
    assert late.answers["slow"].missing is not None
    assert (await (await lab.links(host.port).link(site())).facts(OPS, deadline=20)).text("kernel")


async def test_refused_logins_say_what_was_tried(lab: Lab) -> None:
    stranger = asyncssh.generate_private_key("ssh-ed25519")
    host = await lab.host(methods=("publickey", "password"), authorized=stranger)
    why = await refused(lab.links(host.port))
    assert "does not let ops in. It offers publickey, password; it took none of ssh-ed25519 SHA256:" in why
    assert lab.client_key.get_fingerprint() in why
    assert f"ssh-copy-id -p {host.port} ops@127.0.0.1" in why


async def test_password_only_hosts(lab: Lab) -> None:
    host = await lab.host(methods=("password",))
    assert "It offers password; dstui only uses keys" in await refused(lab.links(host.port))


async def test_a_locked_identity_asks_for_the_agent(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    host = await lab.host()
    await lab.lock_identity("let me in")
    why = await refused(lab.links(host.port, agent=True))
    assert f"locked by a passphrase and not in the agent: run `ssh-add {lab.identity}`" in why
    assert "SSH_AUTH_SOCK is not set" in why
    assert "let me in" not in why


@pytest.fixture
async def agent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[None]:
    """A real ssh-agent, empty."""
    sock = tmp_path / "agent"
    process = await asyncio.create_subprocess_exec(
        "ssh-agent", "-D", "-a", str(sock), stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL
    )
    assert process.stdout is not None
    await process.stdout.readline()
    monkeypatch.setenv("SSH_AUTH_SOCK", str(sock))
    yield
    process.terminate()
    await process.communicate()


@pytest.mark.usefixtures("agent")
async def test_the_agent_holds_the_locked_identity(lab: Lab) -> None:
    host = await lab.host()
    others = [asyncssh.generate_private_key("ssh-ed25519") for _ in range(8)]
    async with asyncssh.connect_agent() as client:
        await client.add_keys([*others, lab.client_key])
    await lab.lock_identity("let me in")
    session = (await lab.links(host.port, agent=True).link(site())).session
    assert (session.auth, session.key_fingerprint) == ("publickey", lab.client_key.get_fingerprint())


@pytest.mark.usefixtures("agent")
async def test_the_agent_is_asked_when_the_identity_is_not_wanted(lab: Lab) -> None:
    other = asyncssh.generate_private_key("ecdsa-sha2-nistp384")
    host = await lab.host(authorized=other)
    async with asyncssh.connect_agent() as client:
        await client.add_keys([other])
    session = (await lab.links(host.port, agent=True).link(site())).session
    assert (session.key_type, session.key_bits) == ("ecdsa-sha2-nistp384", 384)


async def test_identities_that_cannot_be_used(lab: Lab) -> None:
    host = await lab.host()
    assert "cannot be read (No such file" in await refused(lab.links(host.port, identity=lab.folder / "absent"))
    lab.identity.chmod(0o644)
    assert "chmod 600" in await refused(lab.links(host.port))
    lab.identity.chmod(0o600)
    lab.identity.write_text("-----BEGIN OPENSSH PRIVATE KEY-----\nc2VjcmV0\n-----END OPENSSH PRIVATE KEY-----\n")
    why = await refused(lab.links(host.port))
    assert "holds no private key" in why
    assert "c2VjcmV0" not in why


async def test_an_unknown_host_key_is_refused_with_its_fingerprint_and_the_way_out(lab: Lab) -> None:
    host = await lab.host(known=False)
    why = await refused(lab.links(host.port))
    assert f"the host key of 127.0.0.1:{host.port} is not known" in why
    assert f"ssh-ed25519 {host.key.get_fingerprint()}" in why
    assert "which does not exist yet" in why
    assert "`dstui run --accept-new-host-keys`" in why
    assert f"`ssh-keyscan -p {host.port} -t ed25519 127.0.0.1 >> {lab.known_hosts}`" in why
    assert host.logins == []
    assert not lab.known_hosts.exists()


async def test_accepting_new_keys_writes_each_once_and_then_checks_it(lab: Lab) -> None:
    hosts = [await lab.host(known=False) for _ in range(3)]
    pool = lab.links(*(h.port for h in hosts), hosts[0].port, accept=True)
    await asyncio.gather(*(pool.link(site(f"h{n}")) for n in range(4)))
    lines = lab.known_hosts.read_text().splitlines()
    assert sorted(line.split()[0] for line in lines) == sorted(f"[127.0.0.1]:{h.port}" for h in hosts)
    assert stat.S_IMODE(lab.known_hosts.stat().st_mode) == 0o600
    await lab.links(hosts[0].port).link(site())


async def test_a_changed_host_key_is_never_accepted(lab: Lab) -> None:
    host = await lab.host(known=False)
    lab.trust(host.port, asyncssh.generate_private_key("ssh-ed25519"))
    before = lab.known_hosts.read_text()
    why = await refused(lab.links(host.port, accept=True))
    assert "HAS CHANGED" in why
    assert host.key.get_fingerprint() in why
    assert f"`ssh-keygen -f {lab.known_hosts} -R '[127.0.0.1]:{host.port}'`" in why
    assert lab.known_hosts.read_text() == before
    assert host.logins == []


async def test_another_type_of_host_key_is_a_change_too(lab: Lab) -> None:
    host = await lab.host(known=False, host_key_alg="ecdsa-sha2-nistp256")
    lab.trust(host.port, asyncssh.generate_private_key("ssh-ed25519"))
    why = await refused(lab.links(host.port, accept=True))
    assert "HAS CHANGED" in why
    assert f"ecdsa-sha2-nistp256 {host.key.get_fingerprint()}" in why


@pytest.mark.parametrize("known", [True, False])
async def test_a_revoked_host_key_is_never_accepted(lab: Lab, known: bool) -> None:
    host = await lab.host(known=known)
    lab.trust(host.port, host.key, marker="@revoked ")
    why = await refused(lab.links(host.port, accept=True))
    assert "marks as @revoked" in why
    assert host.key.get_fingerprint() in why


async def test_nothing_listens(lab: Lab) -> None:
    host = await lab.raw(hang)
    for close in lab.stack._exit_callbacks.pop()[1:]:  # type: ignore[attr-defined]
        close(None, None, None)
    assert f"h0: 127.0.0.1:{host} refuses connections" in await refused(lab.links(host))


async def hang(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Accepts, and says nothing: sshd after SIGSTOP."""
    await reader.read()


async def test_a_server_without_a_greeting(lab: Lab) -> None:
    why = await refused(lab.links(await lab.raw(hang), connect_timeout=0.5))
    assert "accepts connections but sent no SSH greeting within 0.5 s" in why


async def test_a_server_that_hangs_up_or_speaks_something_else(lab: Lab) -> None:
    async def close(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        return

    async def http(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"SSH-1.5-ancient\r\n")
        await reader.read()

    async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"SSH-2.0-sleepy\r\n")
        await reader.read()

    assert "closed the connection before its SSH greeting" in await refused(lab.links(await lab.raw(close)))
    assert "does not speak SSH properly" in await refused(lab.links(await lab.raw(http)))
    why = await refused(lab.links(await lab.raw(greet), connect_timeout=1.0))
    assert "did not finish the key exchange within 1 s" in why


async def test_names_that_do_not_resolve(lab: Lab) -> None:
    why = await refused(lab.links(22, address="no-such-host.invalid"))
    assert "the name no-such-host.invalid does not resolve here" in why


async def test_hosts_that_hang_do_not_keep_the_others_waiting(lab: Lab) -> None:
    deaf = await lab.raw(hang)
    host = await lab.host()
    pool = lab.links(*[deaf] * 10, host.port, max_parallel=1, connect_timeout=30.0)
    waiting = [asyncio.create_task(pool.link(site(f"h{n}"))) for n in range(10)]
    async with asyncio.timeout(5):
        await pool.link(site("h10"))
    for task in waiting:
        task.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)


async def test_through_jump_hosts(lab: Lab) -> None:
    outer, inner, first, second = [await lab.host() for _ in range(4)]
    hops = tuple(JumpHop("127.0.0.1", jump.port, "ops", lab.identity) for jump in (outer, inner))
    pool = lab.links(first.port, second.port, jump=hops)
    one, two = await asyncio.gather(pool.link(site("h0")), pool.link(site("h1")))
    assert (one.session.via_jump, one.session.controller_ip) == (True, None)
    await asyncio.gather(one.facts(OPS, deadline=10), two.facts(OPS, deadline=10))
    assert one.session.controller_ip == "192.0.2.9"
    assert len(outer.logins) == len(inner.logins) == 1
    assert outer.forwards == [("127.0.0.1", inner.port)]
    assert sorted(inner.forwards) == sorted([("127.0.0.1", first.port), ("127.0.0.1", second.port)])


async def test_a_jump_host_that_cannot_be_used_is_named_and_tried_once(lab: Lab) -> None:
    stranger = asyncssh.generate_private_key("ssh-ed25519")
    jump = await lab.host(authorized=stranger)
    pool = lab.links(1, 2, 3, jump=(JumpHop("127.0.0.1", jump.port, "ops", lab.identity),))
    results = await asyncio.gather(*(pool.link(site(f"h{n}")) for n in range(3)), return_exceptions=True)
    for number, error in enumerate(results):
        assert str(error).startswith(f"h{number}: not tried, because its jump host failed: jump host 127.0.0.1: ")
        assert "does not let ops in" in str(error)


async def test_behind_a_jump_host_nothing_listens(lab: Lab) -> None:
    jump = await lab.host()
    closed = await lab.raw(hang)
    lab.stack._exit_callbacks.pop()[1](None, None, None)  # type: ignore[attr-defined]
    why = await refused(lab.links(closed, jump=(JumpHop("127.0.0.1", jump.port, "ops", lab.identity),)))
    assert f"the jump host 127.0.0.1 cannot connect to 127.0.0.1:{closed}" in why


async def test_the_root_attempt(lab: Lab) -> None:
    closed = await lab.host()
    wide_open = await lab.host()
    deaf = await lab.raw(hang)
    unknown = await lab.host(known=False)
    pool = lab.links(closed.port, deaf, unknown.port, accept=True)
    ours = await pool.link(site("h0"))
    assert await pool.try_root(site("h0")) == "refused"
    assert ours.session.root_attempt == "refused"
    assert await pool.try_root(site("h2")) == "unreachable"
    assert not unknown.logins
    lab.users = frozenset({"ops", "root"})
    assert await lab.links(wide_open.port).try_root(site()) == "succeeded"
    assert wide_open.logins == ["root"]
    assert wide_open.execs == 0
    assert await pool.try_root(site(local=True)) == "not-tried"
    assert await lab.links(closed.port, user="root").try_root(site()) == "not-tried"


async def test_the_root_attempt_gives_up(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ssh, "ROOT_ATTEMPT_SECONDS", 0.05)
    assert await lab.links(await lab.raw(hang)).try_root(site()) == "unreachable"


@pytest.mark.parametrize("after_ms", range(0, 30, 3))
async def test_cancelling_leaves_nothing_open(lab: Lab, after_ms: int) -> None:
    host = await lab.host()
    before = asyncio.all_tasks()
    pool = lab.links(host.port)
    task = asyncio.create_task(pool.link(site()))
    await asyncio.wait([task], timeout=after_ms / 1000)
    if not task.done():
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await until(lambda: not host.connections)
    await pool.aclose()
    await until(lambda: not (host.connections or host.sessions or asyncio.all_tasks() - before))


async def test_cancelling_through_a_jump_host_closes_the_tunnel(lab: Lab) -> None:
    reached, closed = asyncio.Event(), asyncio.Event()

    async def behind(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        reached.set()
        await reader.read()
        closed.set()

    jump = await lab.host()
    hops = (JumpHop("127.0.0.1", jump.port, "ops", lab.identity),)
    pool = lab.links(await lab.raw(behind), jump=hops)
    task = asyncio.create_task(pool.link(site()))
    async with asyncio.timeout(5):
        await reached.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await closed.wait()
    assert jump.connections
    await pool.aclose()
    await until(lambda: not jump.connections)


async def test_cancelled_facts_leave_the_link_usable(lab: Lab) -> None:
    host = await lab.host()
    one = await lab.links(host.port).link(site())
    slow = asyncio.create_task(one.facts((run("slow", "sleep", "20", timeout=30),), deadline=30))
    await asyncio.sleep(0)
    slow.cancel()
    with pytest.raises(asyncio.CancelledError):
        await slow
    assert (await one.facts(OPS, deadline=10)).text("kernel")


async def test_closing_ends_the_collector_the_connection_and_what_is_pending(lab: Lab) -> None:
    host = await lab.host()
    pool = lab.links(host.port)
    one = await pool.link(site())
    slow = asyncio.create_task(one.facts((run("slow", "sleep", "20", timeout=30),), deadline=30))
    await asyncio.sleep(0)
    await pool.aclose()
    with pytest.raises(GatherError, match="closed by dstui") as caught:
        await slow
    assert caught.value.reason is Reason.NOT_RUN
    await until(lambda: not host.connections)
    with pytest.raises(GatherError, match="closing"):
        await pool.link(site())


async def test_the_machine_itself_needs_no_ssh(lab: Lab) -> None:
    pool = lab.links(1)
    one = await pool.link(site(local=True))
    raw = await one.facts(OPS, deadline=10)
    assert raw.text("kernel") == os.uname().release + "\n"
    assert one.session.local
    assert await pool.link(site(local=True)) is one


async def shout(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Says every line back in capitals."""
    while line := await reader.readline():
        writer.write(line.upper())
    writer.close()


async def shouted(path: Path | None) -> bytes:
    assert path is not None
    reader, writer = await asyncio.open_unix_connection(path)
    writer.write(b"hello\n")
    answer = await reader.readline()
    writer.close()
    await writer.wait_closed()
    return answer


async def test_a_tunnel_over_the_kept_connection(lab: Lab) -> None:
    host, port = await lab.host(), await lab.raw(shout)
    pool = lab.links(host.port)
    path, same = await asyncio.gather(*(pool.forward(site(), "127.0.0.1", port) for _ in range(2)))
    assert path is not None and same == path
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert [await shouted(path) for _ in range(2)] == [b"HELLO\n"] * 2
    assert (len(host.logins), set(host.forwards)) == (1, {("127.0.0.1", port)})
    assert await pool.forward(site(), "localhost", port) != path
    await pool.aclose()
    assert not path.parent.exists()


async def test_a_tunnel_is_opened_again_with_its_connection(lab: Lab) -> None:
    host, port = await lab.host(), await lab.raw(shout)
    pool = lab.links(host.port)
    path = await pool.forward(site(), "127.0.0.1", port)
    assert path is not None
    one = await pool.link(site())
    for conn in list(host.connections):
        conn.abort()
    await until(lambda: not getattr(one, "alive", True))
    again = await pool.forward(site(), "127.0.0.1", port)
    assert again != path and not path.exists()
    assert await shouted(again) == b"HELLO\n"
    assert len(host.logins) == 2


async def test_a_tunnel_through_jump_hosts(lab: Lab) -> None:
    jump, host, port = await lab.host(), await lab.host(), await lab.raw(shout)
    pool = lab.links(host.port, jump=(JumpHop("127.0.0.1", jump.port, "ops", lab.identity),))
    assert await shouted(await pool.forward(site(), "127.0.0.1", port)) == b"HELLO\n"
    assert ("127.0.0.1", port) in host.forwards and ("127.0.0.1", port) not in jump.forwards


async def test_tunnels_that_do_not_open(lab: Lab) -> None:
    host, port = await lab.host(), await lab.raw(shout)
    lab.stack._exit_callbacks.pop()[1](None, None, None)  # type: ignore[attr-defined]
    pool = lab.links(host.port, 1)
    with pytest.raises(GatherError, match=rf"h0: it cannot connect to 127.0.0.1:{port} \(.*\); does something listen"):
        await pool.forward(site(), "127.0.0.1", port)
    host.tunnels = False
    with pytest.raises(GatherError, match=r"h0: its sshd forbids tunnels \(AllowTcpForwarding"):
        await pool.forward(site(), "127.0.0.1", port)
    with pytest.raises(GatherError, match=r"h1: 127\.0\.0\.1:1 refuses connections"):
        await pool.forward(site("h1"), "127.0.0.1", port)
    await pool.aclose()
    with pytest.raises(GatherError, match="closing"):
        await pool.forward(site(), "127.0.0.1", port)


async def test_the_machine_itself_needs_no_tunnel(lab: Lab) -> None:
    assert await lab.links(1).forward(site(local=True), "127.0.0.1", 1) is None


def test_importing_the_transport_does_not_import_asyncssh() -> None:
    modules = "dstui.gather.ssh, dstui.gather.local, dstui.gather.choreography, dstui.gather.ray"
    code = f"import sys, {modules}; sys.exit('asyncssh' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
