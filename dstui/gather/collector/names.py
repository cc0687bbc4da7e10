"""RESOLVE and DNS: what names mean to this host, through NSS and by asking its servers directly.

Runs in children only, loaded when first needed.
"""

import os
import select
import socket
import struct
import time

from dstui.gather.collector.wire import errno_name, number, os_missing, string, strings

DNS_PORT = 53
AT_ONCE = 32
RESOLV_CONF = "/etc/resolv.conf"
UPLINK_CONF = "/run/systemd/resolve/resolv.conf"
STUB_PREFIX = "127.0.0.5"
RESOLVECTL_SECONDS = 2.0


def resolve(args: "dict[str, object]") -> "dict[str, object]":
    """RESOLVE: `{names, timeout}`; names still open after `timeout` seconds carry the error `timeout`."""
    import threading

    names = strings(args, "names")
    results: "dict[str, dict[str, object]]" = {}
    todo = list(names)
    done = threading.Semaphore(0)

    def work() -> None:
        while todo:
            try:
                name = todo.pop(0)
            except IndexError:
                return
            results[name] = _lookup(socket.gethostname() if name == "@self" else name)
            done.release()

    timeout = number(args, "timeout", 8.0)
    due = time.monotonic() + timeout
    for _ in range(min(AT_ONCE, len(names))):
        threading.Thread(target=work, daemon=True).start()
    for _ in names:
        if not done.acquire(timeout=max(0.0, due - time.monotonic())):
            break
    late: "dict[str, object]" = {"addresses": [], "ms": round(timeout * 1000, 1), "error": "timeout"}
    return {"value": {name: results.get(name, late) for name in names}}


def _lookup(name: str) -> "dict[str, object]":
    started = time.monotonic()
    addresses: "list[str]" = []
    error = None
    try:
        for info in socket.getaddrinfo(name, None, type=socket.SOCK_STREAM):
            address = str(info[4][0])
            if address not in addresses:
                addresses.append(address)
    except (OSError, UnicodeError) as failure:
        error = str(getattr(failure, "strerror", None) or failure)
    return {"addresses": addresses, "ms": round((time.monotonic() - started) * 1000, 3), "error": error}


def dns(args: "dict[str, object]") -> "dict[str, object]":
    """DNS: `{names, timeout}`, asked of every server that is configured."""
    names = strings(args, "names")
    _allow_sockets()
    try:
        servers = configured_servers(string(args, "resolv_conf", RESOLV_CONF))
    except OSError as error:
        return os_missing(error, RESOLV_CONF)
    port = int(number(args, "port", DNS_PORT))
    answers = query_all([server for server, _ in servers], names, number(args, "timeout", 3.0), port)
    return {"value": {"servers": [{"server": s, "via": via, "answers": answers[s]} for s, via in servers]}}


def _allow_sockets() -> None:
    import resource

    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def configured_servers(path: str) -> "list[tuple[str, str]]":
    """(address, `resolv.conf` or `resolvectl`) of each server: behind systemd's stub, the servers it forwards to.

    No file means no server. OSError when the file cannot be read.
    """
    try:
        servers = _nameservers(path)
    except FileNotFoundError:
        return []
    if servers and all(server.startswith(STUB_PREFIX) for server in servers):
        behind = _from_resolvectl()
        if not behind and os.path.exists(UPLINK_CONF):
            behind = _nameservers(UPLINK_CONF)
        if behind:
            return [(server, "resolvectl") for server in behind]
    return [(server, "resolv.conf") for server in servers]


def _nameservers(path: str) -> "list[str]":
    with open(path, errors="replace") as lines:
        words = [line.split() for line in lines]
    found = [line[1] for line in words if len(line) > 1 and line[0] == "nameserver"]
    return list(dict.fromkeys(found))


def _from_resolvectl() -> "list[str]":
    import subprocess

    from dstui.gather.collector.commands import environment, find

    program = find("resolvectl")
    if not program:
        return []
    try:
        output = subprocess.run(
            [program, "--no-pager", "dns"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=environment(),
            timeout=RESOLVECTL_SECONDS,
        ).stdout.decode("utf-8", "replace")
    except (OSError, subprocess.TimeoutExpired):
        return []
    return servers_in_resolvectl(output)


def servers_in_resolvectl(output: str) -> "list[str]":
    """The addresses in `Global: 192.0.2.1` and `Link 2 (eth0): 192.0.2.1#name fe80::1%2` lines."""
    servers = []
    for line in output.splitlines():
        if not line.startswith(("Global:", "Link ")):
            continue
        for word in line.partition("): " if line.startswith("Link ") else ": ")[2].split():
            address = word.partition("#")[0]
            if address.startswith("["):
                address = address[1:].partition("]")[0]
            elif address.count(":") == 1:
                address = address.partition(":")[0]
            if address and address not in servers:
                servers.append(address)
    return servers


def query_all(
    servers: "list[str]", names: "list[str]", timeout: float, port: int = DNS_PORT
) -> "dict[str, dict[str, dict[str, object]]]":
    """An A query for each name to each server at once: server → name → answer. A silent server has `timeout`."""
    answers: "dict[str, dict[str, dict[str, object]]]" = {server: {} for server in servers}
    poll = select.poll()
    asked: "dict[int, tuple[socket.socket, str, str, bytes]]" = {}
    started = time.monotonic()
    for server in servers:
        for name in names:
            # One socket, and so one random source port, for each question.
            channel = None
            try:
                query = _query(name)
                info = socket.getaddrinfo(server, port, type=socket.SOCK_DGRAM, flags=socket.AI_NUMERICHOST)[0]
                channel = socket.socket(info[0], socket.SOCK_DGRAM)
                channel.setblocking(False)
                channel.connect(info[4])
                channel.send(query)
            except (OSError, ValueError) as error:
                if channel:
                    channel.close()
                answers[server][name] = _answer([], None, started, _said(error))
                continue
            asked[channel.fileno()] = (channel, server, name, query)
            poll.register(channel, select.POLLIN)
    while asked:
        ready = poll.poll(max(0.0, started + timeout - time.monotonic()) * 1000)
        if not ready:
            break
        for fd, _ in ready:
            channel, server, name, query = asked[fd]
            try:
                reply = channel.recv(4096)
            except OSError as error:
                answer = _answer([], None, started, _said(error))
            else:
                if reply[:2] != query[:2] or not reply[2:3] >= b"\x80" or _question(reply) != query[12:].lower():
                    continue  # not the reply to this question: forged, or late from another
                answer = _reply(reply, len(query), started)
            answers[server][name] = answer
            poll.unregister(channel)
            channel.close()
            del asked[fd]
    for channel, server, name, _ in asked.values():
        answers[server][name] = _answer([], None, started, "timeout")
        channel.close()
    return answers


def _said(error: Exception) -> str:
    if isinstance(error, socket.gaierror):
        return "not an address"
    return errno_name(error) if isinstance(error, OSError) else str(error)


def _answer(addresses: "list[str]", rcode: "int | None", started: float, error: "str | None") -> "dict[str, object]":
    ms = round((time.monotonic() - started) * 1000, 3)
    return {"addresses": addresses, "rcode": rcode, "ms": ms, "error": error}


def _query(name: str) -> bytes:
    labels = name.rstrip(".").encode("idna").split(b".")
    if not all(0 < len(label) < 64 for label in labels):
        raise ValueError("not a host name")
    asked = b"".join(struct.pack("B", len(label)) + label for label in labels)
    return os.urandom(2) + struct.pack(">5H", 0x0100, 1, 0, 0, 0) + asked + struct.pack(">BHH", 0, 1, 1)


def _question(reply: bytes) -> bytes:
    end = reply.find(b"\0", 12)
    return reply[12 : end + 5].lower()


def _reply(reply: bytes, at: int, started: float) -> "dict[str, object]":
    """Parse the answer section, which starts at `at`."""
    rcode = reply[3] & 0x0F
    truncated = bool(reply[2] & 0x02)
    addresses = []
    try:
        for _ in range(struct.unpack(">H", reply[6:8])[0]):
            while reply[at] and reply[at] < 0xC0:
                at += reply[at] + 1
            at += 2 if reply[at] else 1
            kind, cls, _, length = struct.unpack(">HHIH", reply[at : at + 10])
            if kind == 1 and cls == 1 and length == 4:
                addresses.append(socket.inet_ntoa(reply[at + 10 : at + 14]))
            at += 10 + length
    except (IndexError, struct.error, OSError):
        return _answer(addresses, rcode, started, None if truncated and addresses else "malformed reply")
    return dict(_answer(addresses, rcode, started, None), truncated=truncated)
