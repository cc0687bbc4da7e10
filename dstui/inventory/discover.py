"""`dstui init`: a starter inventory from ~/.ssh/config, from a list of hosts, or from a Ray dashboard."""

from __future__ import annotations

import getpass
import json
import re
import socket
import threading
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from ipaddress import ip_address
from pathlib import Path
from urllib.parse import urlsplit

from dstui.inventory.secrets import SecretStore
from dstui.inventory.ssh_config import ConfiguredHop, ConfiguredHost, read_ssh_config
from dstui.inventory.starter import (
    Starter,
    StarterHop,
    StarterHost,
    host_name,
    render,
    with_roles,
    without_twins,
    yaml_text,
)
from dstui.model import GatherError, Reason, UsageError

Resolver = Callable[[Sequence[str]], Mapping[str, str]]
"""Names → addresses, without those that have none."""

Fetch = Callable[[str, Mapping[str, str]], Awaitable[tuple[int, str]]]
"""URL and headers → status and body; raises GatherError when nothing answers."""

RESOLVE_SECONDS = 10.0
NODES_PATH = "/api/v0/nodes?detail=1&limit=10000"
FETCH_SECONDS = 15.0

_LOGIN = re.compile(r"[A-Za-z_][A-Za-z0-9_.@-]{0,63}\$?")


def resolve_names(names: Sequence[str]) -> Mapping[str, str]:
    """One address for each name that has one, all looked up at once, at most RESOLVE_SECONDS in all.

    The look-ups run in daemon threads: a resolver that hangs cannot be stopped, only left behind.
    """
    found: dict[str, str] = {}

    def look_up(name: str) -> None:
        try:
            answers = socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError):
            return
        addresses = [str(answer[4][0]) for answer in sorted(answers, key=lambda answer: answer[0] != socket.AF_INET)]
        if addresses:
            found[name] = addresses[0]

    threads = [threading.Thread(target=look_up, args=(name,), daemon=True) for name in dict.fromkeys(names)]
    deadline = time.monotonic() + RESOLVE_SECONDS
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(max(0.0, deadline - time.monotonic()))
    return dict(found)


def starter_from_hosts(lines: Iterable[str], *, resolve: Resolver = resolve_names, login: str | None = None) -> str:
    """YAML text for lines of `name` or `name=ip`; UsageError names the line that is neither."""
    written = [_host_of_line(number, line) for number, line in enumerate(lines, 1)]
    named = [(name, dial, ip) for item in written if item is not None for name, dial, ip in (item,)]
    if not named:
        raise UsageError("no hosts were named; write `dstui init gpu-01=10.0.0.11 gpu-02=10.0.0.12`")
    addresses = resolve([dial for _, dial, ip in named if ip is None])
    hosts: list[StarterHost] = []
    left_out: list[tuple[str, str]] = []
    for name, dial, ip in named:
        address = ip or _usable(addresses.get(dial))
        if address is None:
            left_out.append(_unresolved(name, addresses.get(dial)))
        else:
            hosts.append(StarterHost(name, address, dial=dial if ip is None else None))
    return _written("a list of hosts", hosts, left_out, login or _login())


def _host_of_line(number: int, line: str) -> tuple[str, str, str | None] | None:
    """(name, what to dial, address if it is known) of a line; None for an empty one and a comment."""
    text = line.split("#", 1)[0].strip()
    if not text:
        return None
    said, equals, ip = (part.strip() for part in text.partition("="))
    name = host_name(said)
    if name is None:
        raise UsageError(f"host {number}: `{_shown(text)}` is not a host; write gpu-01 or gpu-01=10.0.0.11")
    address = _address(ip if equals else said)
    if equals and address is None:
        raise UsageError(f"host {number}: `{_shown(ip)}` is not an IP address; write {name}=10.0.0.11")
    return name, said, address


def starter_from_ssh_config(
    path: Path, *, resolve: Resolver = resolve_names, login: str | None = None, home: Path | None = None
) -> str:
    """YAML text for the hosts that an SSH client configuration names; UsageError when there is none."""
    config = read_ssh_config(path, home=home)
    configured, jumps = config.hosts(), config.jump_aliases()
    if not configured:
        raise UsageError(f"{path}: names no host without a wildcard; use `dstui init gpu-01=10.0.0.11`")
    addresses = resolve([host.hostname for host in configured if _address(host.hostname) is None])
    hosts: list[StarterHost] = []
    left_out: list[tuple[str, str]] = []
    for host in configured:
        name = host_name(host.alias)
        address = _address(host.hostname) or _usable(addresses.get(host.hostname))
        if name is None:
            left_out.append((f"{{name: {host.alias}}}", "this alias cannot be a host's name"))
        elif host.alias in jumps:
            left_out.append((f"{{name: {name}, data_ip: {address or ''}}}", "others use it as jump host"))
        elif address is None:
            left_out.append(_unresolved(name, addresses.get(host.hostname)))
        elif _is_plain(host):
            hosts.append(_configured(name, address, host))
        else:
            left_out.append((f"{{name: {name}}}", "its HostName, User or ProxyJump is not plain text"))
    return _written(str(path), hosts, left_out, login or _login())


_DIAL = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.:-]{0,252}")


def _is_plain(host: ConfiguredHost) -> bool:
    hops: tuple[ConfiguredHop, ...] = host.jump
    users = [host.user, *(hop.user for hop in hops)]
    dials = [host.hostname, *(hop.host for hop in hops)]
    return all(user is None or _LOGIN.fullmatch(user) for user in users) and all(map(_DIAL.fullmatch, dials))


def _configured(name: str, address: str, host: ConfiguredHost) -> StarterHost:
    return StarterHost(
        name=name,
        data_ip=address,
        dial=None if _address(host.hostname) else host.hostname,
        port=host.port,
        user=host.user,
        identity=host.identity,
        jump=tuple(StarterHop(hop.host, hop.port, hop.user, hop.identity) for hop in host.jump),
    )


def starter_from_ray(
    nodes: object, dashboard_url: str, *, token_ref: str | None = None, login: str | None = None
) -> str:
    """YAML text for the nodes that a Ray dashboard lists (the JSON of `/api/v0/nodes?detail=1`), the head first.

    GPU counts are what Ray declares, which is what somebody told `ray start`; the checks compare them with NVML.
    """
    url = _dashboard(dashboard_url)
    listed = _ray_nodes(nodes)
    alive = [node for node in listed if node.get("state") == "ALIVE"]
    hosts: list[StarterHost] = []
    left_out: list[tuple[str, str]] = []
    workers = 0
    for node in sorted(alive, key=lambda node: (node.get("is_head_node") is not True, _order(node))):
        head = node.get("is_head_node") is True
        workers += not head
        address = _address(str(node.get("node_ip")))
        name = _node_name(node) or ("head" if head else f"worker-{workers:02d}")
        if address is None:
            left_out.append((f"{{name: {name}}}", "Ray gives no usable address for it"))
        else:
            hosts.append(StarterHost(name, address, role="head" if head else "worker", gpus=_gpus(node)))
    known = {host.data_ip for host in hosts}
    gone = dict.fromkeys(_address(str(node.get("node_ip"))) for node in listed if node not in alive)
    left_out += [
        (f"{{name: dead-{address.replace(':', '-')}, data_ip: {yaml_text(address)}}}", "Ray says it is dead")
        for address in gone
        if address is not None and address not in known
    ]
    starter = _starter(f"the Ray dashboard {url}", hosts, left_out, login or _login())
    return render(replace(starter, dashboard_url=url, token_ref=token_ref, gpu_models=_gpu_models(alive)))


async def fetch_ray_nodes(dashboard_url: str, token: str | None = None, fetch: Fetch | None = None) -> object:
    """The dashboard's list of nodes as JSON. `token` is a reference such as `env:RAY_AUTH_TOKEN`, never a value.

    UsageError when the URL cannot be one, GatherError when the dashboard does not give the list.
    """
    url = _dashboard(dashboard_url) + NODES_PATH
    headers = {"Accept": "application/json"}
    if token is not None:
        headers["Authorization"] = f"Bearer {SecretStore().resolve(token).reveal()}"
    status, body = await (fetch or _fetch)(url, headers)
    if status in (401, 403):
        hint = "it refused this token" if token else "it wants a token: add --ray-token env:RAY_AUTH_TOKEN"
        raise GatherError(Reason.NO_CREDENTIAL, f"{url}: {hint} (status {status})")
    if status != 200:
        raise GatherError(Reason.CANNOT_TELL, f"{url}: answered with status {status}; is this a Ray dashboard?")
    try:
        answer: object = json.loads(body)
    except (ValueError, RecursionError):
        raise GatherError(Reason.PARSE_ERROR, f"{url}: answered with something else than JSON") from None
    return answer


async def _fetch(url: str, headers: Mapping[str, str]) -> tuple[int, str]:
    from dstui.gather import http

    async with http.client(timeout=FETCH_SECONDS) as client:
        answer = await http.request("ray.nodes", "GET", url, headers=headers, timeout=FETCH_SECONDS, client=client)
    if answer.missing is not None:
        raise GatherError(answer.missing.reason, answer.missing.why)
    return answer.exit or 0, answer.output


def _written(origin: str, hosts: Sequence[StarterHost], left_out: Sequence[tuple[str, str]], login: str) -> str:
    return render(_starter(origin, hosts, left_out, login))


def _starter(origin: str, hosts: Sequence[StarterHost], left_out: Sequence[tuple[str, str]], login: str) -> Starter:
    kept, twins = without_twins(hosts)
    return Starter(origin, with_roles(kept), login, (*left_out, *twins))


def _dashboard(written: str) -> str:
    try:
        parts = urlsplit(written)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port or 1) > 0
    except ValueError:
        usable = False
    if not usable or any(c.isspace() or not c.isprintable() for c in written):
        raise UsageError(f"`{_shown(written)}` is not a dashboard's URL; write one such as http://10.0.0.1:8265")
    if parts.username is not None or parts.password is not None:
        raise UsageError("the dashboard's URL has a login in it; leave it out and use --ray-token env:NAME")
    return f"{parts.scheme}://{parts.netloc}{parts.path}".rstrip("/")


def _ray_nodes(answer: object) -> list[Mapping[str, object]]:
    found = answer
    for key in ("data", "result", "result"):
        found = found.get(key) if isinstance(found, Mapping) else None
    if not isinstance(found, list):
        raise UsageError("this is not a Ray dashboard's list of nodes; is the URL the dashboard's (port 8265)?")
    return [node for node in found if isinstance(node, Mapping)]


def _order(node: Mapping[str, object]) -> tuple[int, int]:
    address = _address(str(node.get("node_ip")))
    parsed = ip_address(address) if address else None
    return (parsed.version, int(parsed)) if parsed else (0, 0)


def _node_name(node: Mapping[str, object]) -> str | None:
    said = node.get("node_name")
    return host_name(said) if isinstance(said, str) and _address(said) is None else None


def _resources(node: Mapping[str, object]) -> Mapping[str, object]:
    found = node.get("resources_total")
    return found if isinstance(found, Mapping) else {}


def _gpus(node: Mapping[str, object]) -> int:
    count = _resources(node).get("GPU", 0)
    return int(count) if isinstance(count, int | float) and 0 <= count < 1024 else 0


def _gpu_models(nodes: Iterable[Mapping[str, object]]) -> tuple[str, ...]:
    keys = (key for node in nodes for key in _resources(node) if isinstance(key, str))
    models = {match[1] for key in keys if (match := re.fullmatch(r"accelerator_type:([A-Za-z0-9-]{1,32})", key))}
    return tuple(sorted(models))


def _address(written: str) -> str | None:
    try:
        address = ip_address(written.strip("[]"))
    except ValueError:
        return None
    return None if address.is_unspecified or address.is_multicast or "%" in written else str(address)


def _usable(address: str | None) -> str | None:
    """A resolved address that can be a host's: a name that means loopback here says nothing of the host."""
    found = _address(address) if address else None
    return found if found and not ip_address(found).is_loopback else None


def _unresolved(name: str, address: str | None) -> tuple[str, str]:
    why = f"the name means {address} on this machine" if address else "the name has no address here"
    return f"{{name: {name}, roles: [worker], data_ip: }}", why


def _login() -> str:
    try:
        name = getpass.getuser()
    except (OSError, KeyError):
        name = ""
    return name if _LOGIN.fullmatch(name) else "dstui"


def _shown(text: str) -> str:
    return "".join(c if c.isprintable() else "?" for c in text)[:60]
