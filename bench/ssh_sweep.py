"""How much `Links` costs over bare asyncssh: connect + collector + facts against connect + `true`, same hosts.

The hosts are asyncssh servers in processes of their own on loopback (`--hosts`, spread over `--servers`), which run
commands for real. Reports wall seconds, the client's CPU seconds and the worst lag of its event loop.

    python bench/ssh_sweep.py --hosts 64
"""

from __future__ import annotations

import argparse
import asyncio
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

SERVER = """
import asyncio, sys, asyncssh
key, authorized = sys.argv[1:3]
async def pump(source, sink, close=False):
    while data := await source.read(65536):
        sink.write(data)
    if close: sink.close()
async def serve(process):
    child = await asyncio.create_subprocess_exec("/bin/sh", "-c", process.command, stdin=-1, stdout=-1, stderr=-1)
    feed = asyncio.create_task(pump(process.stdin, child.stdin, True))
    await asyncio.gather(pump(child.stdout, process.stdout), pump(child.stderr, process.stderr))
    process.exit(await child.wait())
    feed.cancel()
async def main():
    server = await asyncssh.listen("127.0.0.1", 0, server_host_keys=[key], authorized_client_keys=authorized,
                                   process_factory=serve, encoding=None, backlog=512)
    print(server.get_port(), flush=True)
    await asyncio.to_thread(sys.stdin.read)
asyncio.run(main())
"""


async def measured(what: Callable[[], Awaitable[object]]) -> tuple[float, float, float]:
    """(wall seconds, CPU seconds of this process, worst loop lag in seconds) of `what`."""
    worst = 0.0

    async def tick() -> None:
        nonlocal worst
        while True:
            due = time.perf_counter() + 0.002
            await asyncio.sleep(0.002)
            worst = max(worst, time.perf_counter() - due)

    ticking = asyncio.create_task(tick())
    await asyncio.sleep(0.01)
    worst = 0.0
    wall, cpu = time.perf_counter(), time.process_time()
    await what()
    result = time.perf_counter() - wall, time.process_time() - cpu, worst
    ticking.cancel()
    return result


async def compare(ports: list[int], folder: Path, hosts: int, parallel: int) -> None:
    import asyncssh

    from dstui.facts.case import HostSite
    from dstui.facts.raw import own_process, read, run
    from dstui.gather import dial, ship  # noqa: F401 - their import is start-up, measured elsewhere
    from dstui.gather.ssh import Links, SshSettings

    known = folder / "known_hosts"
    host_key = (folder / "host_key.pub").read_text()
    known.write_text("".join(f"[127.0.0.1]:{port} {host_key}" for port in ports))
    settings = {
        f"h{n}": SshSettings("127.0.0.1", "x", ports[n % len(ports)], folder / "id", False, known, connect_timeout=60)
        for n in range(hosts)
    }
    sites = [HostSite(n, frozenset(), "127.0.0.1", None, "127.0.0.1", 22, "x", False, None) for n in settings]
    ops = [own_process("self"), read("os", "/etc/os-release"), *(run(f"u{n}", "uname", "-a") for n in range(5))]

    async def bare(**options: object) -> None:
        gate = asyncio.Semaphore(parallel)

        async def one(port: int) -> None:
            async with (
                gate,
                asyncssh.connect(
                    "127.0.0.1", port, username="x", client_keys=[str(folder / "id")], config=None, **options
                ) as conn,
            ):
                await conn.run("true", check=True)

        await asyncio.gather(*(one(s.port) for s in settings.values()))

    links = Links(settings.__getitem__, max_parallel=parallel)

    async def connect() -> None:
        await asyncio.gather(*(links.link(site) for site in sites))

    async def facts() -> None:
        for link in [await links.link(site) for site in sites]:
            assert link.session.auth == "publickey"
        found = [await links.link(site) for site in sites]
        await asyncio.gather(*(link.facts(ops, deadline=60) for link in found))

    rows = [
        ("bare asyncssh: connect + true", lambda: bare(known_hosts=str(known))),
        ("bare asyncssh, no host key check", lambda: bare(known_hosts=None)),
        ("Links: connect + collector", connect),
        ("Links: facts (first)", facts),
        ("Links: facts again", facts),
    ]
    for name, what in rows:
        wall, cpu, lag = await measured(what)
        print(f"{name:36} {wall:6.2f} s wall {cpu:6.2f} s CPU  worst loop lag {lag * 1000:5.1f} ms")
    wall, cpu, lag = await measured(links.aclose)
    print(f"{'Links: close':36} {wall:6.2f} s wall {cpu:6.2f} s CPU  worst loop lag {lag * 1000:5.1f} ms")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--hosts", type=int, default=64)
    parser.add_argument("--servers", type=int, default=4)
    parser.add_argument("--parallel", type=int, default=16)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for key in ("host_key", "id"):
            subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", folder / key], check=True)
        command = [sys.executable, "-c", SERVER, str(folder / "host_key"), str(folder / "id.pub")]
        servers = [
            subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) for _ in range(args.servers)
        ]
        try:
            ports = [int(server.stdout.readline()) for server in servers if server.stdout]
            asyncio.run(compare(ports, folder, args.hosts, args.parallel))
        finally:
            for server in servers:
                server.kill()
                server.wait()


if __name__ == "__main__":
    main()
