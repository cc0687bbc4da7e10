"""How fast a fleet is swept: dstui beside a bare SSH fan-out and beside other tools, same facts, same hosts, one run.

    python bench/sweep.py [--hosts 16 64] [--rounds 3] [--peers]

The floor is asyncssh `connect` + `true` on every host with the same bound. dstui connects, gathers the facts below,
parses them; "again" is the same on connections that are open. The peers (ansible-core, pyinfra, pytest-testinfra, in
a virtual environment of their own under .lab/) run one command for each of the same facts and give raw text back.
Medians of the rounds; ratios are within one run, on one machine, whatever its speed.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import os
import shlex
import statistics
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

import asyncssh

from dstui import probes
from dstui.facts.case import HostSite, Site
from dstui.facts.raw import Op, OpKind
from dstui.gather.ssh import Links, SshSettings
from dstui.sweep import _parse

from fleet import Fleet, sshd_fleet

PARALLEL = 16
GROUPS = ("os", "cpu", "mem", "disk", "listeners")
PEERS = Path(".lab/bench-peers")
PEER_PACKAGES = ("ansible-core", "pyinfra", "pytest-testinfra", "paramiko")


def _site(fleet: Fleet) -> Site:
    hosts = tuple(
        HostSite(f"h{n}", frozenset({"worker"}), a, None, a, fleet.port, "root", False, None)
        for n, a in enumerate(fleet.addresses)
    )
    return Site("bench", "lab", "pre", hosts, "/mnt", None, None, "bare-metal", False, "none")


def _settings(fleet: Fleet, site: Site) -> Callable[[str], SshSettings]:
    by_name = {
        h.name: SshSettings(
            address=h.address,
            user="root",
            port=fleet.port,
            identity=fleet.key,
            agent=False,
            known_hosts=fleet.known_hosts,
            jump=(),
            connect_timeout=30.0,
            command_timeout=30.0,
            host_timeout=60.0,
            become="none",
        )
        for h in site.hosts
    }
    return by_name.__getitem__


def _ops(site: Site) -> list[Op]:
    groups = probes.groups()
    return [op for name in GROUPS for op in groups[name].ops(site.hosts[0], site)]


async def _bare(fleet: Fleet) -> float:
    keys = [asyncssh.read_private_key(str(fleet.key))]
    known = asyncssh.read_known_hosts(str(fleet.known_hosts))
    gate = asyncio.Semaphore(PARALLEL)

    async def one(address: str) -> None:
        async with (
            gate,
            asyncssh.connect(
                address, fleet.port, username="root", client_keys=keys, known_hosts=known, config=None, agent_path=None
            ) as connection,
        ):
            await connection.run("true", check=True)

    began = time.perf_counter()
    await asyncio.gather(*(one(address) for address in fleet.addresses))
    return time.perf_counter() - began


async def _dstui(fleet: Fleet) -> tuple[float, float]:
    """Seconds of a first sweep and of one on open connections."""
    site = _site(fleet)
    groups = [probes.groups()[name] for name in GROUPS]
    links = Links(_settings(fleet, site), max_parallel=PARALLEL)

    async def one(host: HostSite) -> None:
        link = await links.link(host)
        raw = await link.facts([op for group in groups for op in group.ops(host, site)], deadline=60.0)
        parsed = _parse(groups, raw)
        assert len(parsed) == len(groups)

    async def sweep() -> float:
        began = time.perf_counter()
        await asyncio.gather(*(one(host) for host in site.hosts))
        return time.perf_counter() - began

    try:
        return await sweep(), await sweep()
    finally:
        await links.aclose()


def _commands(ops: Sequence[Op]) -> list[str]:
    """The same facts as shell commands for tools that know nothing else."""
    commands = []
    for op in ops:
        if op.kind is OpKind.READ:
            commands.append(f"head -c 65536 {shlex.quote(str(op.args['path']))}")
        elif op.kind is OpKind.RUN:
            commands.append(shlex.join(map(str, op.args["argv"])))  # type: ignore[call-overload]
        elif op.kind is OpKind.GLOB:
            commands.append("head -c 4096 " + " ".join(map(str, op.args["patterns"])))  # type: ignore[call-overload]
        elif op.kind in (OpKind.LISTING, OpKind.LINKS):
            commands.append("ls -ld " + " ".join(map(str, op.args["patterns"])))  # type: ignore[call-overload]
        elif op.kind is OpKind.PATHS:
            commands.append("stat " + " ".join(map(str, op.args["paths"])))  # type: ignore[call-overload]
        else:
            commands.append("id")
    return commands


def _prepare_peers() -> Path:
    python = PEERS / "bin" / "python"
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", str(PEERS)], check=True)
        subprocess.run([str(python), "-m", "pip", "install", "-q", *PEER_PACKAGES], check=True)
    return (PEERS / "bin").resolve()


def _timed(argv: Sequence[str], directory: Path, environment: dict[str, str]) -> tuple[float, int]:
    began = time.perf_counter()
    done = subprocess.run(argv, cwd=directory, env=environment, capture_output=True, timeout=900, check=False)
    (directory / "last-output").write_bytes(done.stdout[-20_000:] + b"\n---\n" + done.stderr[-20_000:])
    return time.perf_counter() - began, done.returncode


def _peer_runs(fleet: Fleet, commands: Sequence[str]) -> dict[str, tuple[float, int]]:
    """Whole-process seconds and exit code of each peer; a command that fails on a host does not end their run."""
    binaries = _prepare_peers()
    work = fleet.home / "peers"
    work.mkdir(exist_ok=True)
    tolerant = [f"{command} 2>/dev/null || true" for command in commands]
    ssh_options = f"-o UserKnownHostsFile={fleet.known_hosts} -o StrictHostKeyChecking=yes"
    inventory = "\n".join(
        f"h{n} ansible_host={a} ansible_port={fleet.port} ansible_user=root ansible_ssh_private_key_file={fleet.key} "
        f"ansible_ssh_common_args='{ssh_options}' ansible_python_interpreter=/usr/bin/python3"
        for n, a in enumerate(fleet.addresses)
    )
    (work / "hosts.ini").write_text(inventory + "\n")
    tasks = "".join(f"    - ansible.builtin.shell: {command!r}\n      changed_when: false\n" for command in tolerant)
    (work / "facts.yml").write_text(f"- hosts: all\n  gather_facts: false\n  tasks:\n{tasks}")
    pyinfra_hosts = [(a, {"ssh_port": fleet.port, "ssh_user": "root", "ssh_key": str(fleet.key),
                          "ssh_known_hosts_file": str(fleet.known_hosts)}) for a in fleet.addresses]  # fmt: skip
    (work / "inventory.py").write_text(f"hosts = {pyinfra_hosts!r}\n")
    shell_operations = "".join(f"server.shell(commands=[{command!r}])\n" for command in tolerant)
    (work / "deploy.py").write_text(f"from pyinfra.operations import server\n{shell_operations}")
    (work / "ssh_config").write_text(
        "".join(
            f"Host h{n}\n  HostName {a}\n  Port {fleet.port}\n  User root\n  IdentityFile {fleet.key}\n"
            f"  UserKnownHostsFile {fleet.known_hosts}\n"
            for n, a in enumerate(fleet.addresses)
        )
    )
    (work / "test_facts.py").write_text(
        f"import pytest\nCOMMANDS = {tolerant!r}\n"
        "@pytest.mark.parametrize('command', COMMANDS)\ndef test_fact(host, command):\n"
        "    assert host.run(command).rc == 0\n"
    )
    names = ",".join(f"ssh://h{n}" for n in range(len(fleet.addresses)))
    environment = {**os.environ, "PATH": f"{binaries}:{os.environ['PATH']}", "ANSIBLE_FORKS": str(PARALLEL)}
    pyinfra = [str(binaries / "pyinfra"), "-y", "--parallel", str(PARALLEL), "inventory.py", "deploy.py"]
    return {
        "ansible-core": _timed([str(binaries / "ansible-playbook"), "-i", "hosts.ini", "facts.yml"], work, environment),
        "pyinfra": _timed(pyinfra, work, environment),
        "pytest-testinfra": _timed(
            [str(binaries / "py.test"), "-q", f"--hosts={names}", "--ssh-config=ssh_config", "test_facts.py"],
            work,
            environment,
        ),
    }


def _median(call: Callable[[], Awaitable[float]], rounds: int) -> float:
    return statistics.median(asyncio.run(_awaited(call)) for _ in range(rounds))


async def _awaited(call: Callable[[], Awaitable[float]]) -> float:
    return await call()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hosts", type=int, nargs="+", default=[16, 64])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--peers", action="store_true", help="also the other tools (minutes; installs them once)")
    options = parser.parse_args()
    for count in options.hosts:
        with sshd_fleet(count) as fleet:
            ops = _ops(_site(fleet))
            print(f"{count} hosts, {len(ops)} facts each, {PARALLEL} at a time, medians of {options.rounds}")
            asyncio.run(_bare(fleet))
            floors, firsts, agains = [], [], []
            for _ in range(options.rounds):
                gc.collect()
                floors.append(asyncio.run(_bare(fleet)))
                first, again = asyncio.run(_dstui(fleet))
                firsts.append(first)
                agains.append(again)
            floor, first, again = map(statistics.median, (floors, firsts, agains))
            ratio = statistics.median(f / b for f, b in zip(firsts, floors, strict=True))
            print(f"  bare connect + true  {floor:8.2f} s")
            print(f"  dstui, first sweep   {first:8.2f} s   {ratio:5.2f} × bare")
            print(f"  dstui, again         {again:8.2f} s   {again / first:5.2f} × its first")
            if options.peers:
                for name, (seconds, code) in _peer_runs(fleet, _commands(ops)).items():
                    print(f"  {name:<20} {seconds:8.2f} s   {seconds / first:5.1f} × dstui  (exit {code})")


if __name__ == "__main__":
    main()
