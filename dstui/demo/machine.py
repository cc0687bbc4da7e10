"""One made-up host: carries out the collector's operations on a file system and commands that do not exist.

Answers have the shape that `gather/protocol.py` describes, and the collector's words where something is missing.
"""

from __future__ import annotations

import errno
import os
import stat
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from dstui.demo import gpus, hardware, network, nginx, processes, software, storage, system, trees, weights
from dstui.demo.cast import Character, share
from dstui.demo.commands import Tool
from dstui.demo.life import Work
from dstui.demo.network import NAME_SERVERS, Neighbourhood
from dstui.demo.nginx import Proxy
from dstui.demo.tree import LOGIN_UID, Entry, Layer, Tree
from dstui.facts.raw import OpKind
from dstui.gather.collector.wire import crashed, missing, number, os_missing, string, strings

Answer = dict[str, object]

COLLECTOR_PYTHON = "3.12.3"
_CONTROLLER_IP = "127.0.0.1"


@dataclass(frozen=True, slots=True)
class Machine:
    """A host of the fleet as its collector would find it."""

    character: Character
    tree: Tree
    tools: Mapping[str, Tool]
    mounts: tuple[storage.Mount, ...]
    around: Neighbourhood

    def answers(self, ops: Sequence[Mapping[str, object]]) -> dict[str, Answer]:
        """The answers to the operations of one `facts` request, by key."""
        return {string(dict(op), "key"): self._guarded(op) for op in ops}

    def _guarded(self, op: Mapping[str, object]) -> Answer:
        try:
            return self.answer(string(dict(op), "kind"), _args(op))
        except (TypeError, ValueError, KeyError, IndexError) as error:
            # One bad operation must not lose the others.
            return crashed(error)

    def answer(self, kind: str, args: Mapping[str, object]) -> Answer:
        """One operation. Raises TypeError for arguments of the wrong type."""
        asked = dict(args)
        match kind:
            case OpKind.READ:
                return self._read(string(asked, "path"), int(number(asked, "limit", 65_536)))
            case OpKind.GLOB:
                return self._glob(strings(asked, "patterns"), int(number(asked, "each", 4096)))
            case OpKind.LISTING:
                rows = {path: self._entry(path).row for path in self._matches(strings(asked, "patterns"))}
                return {"value": rows, "s": 0.002}
            case OpKind.LINKS:
                targets = {path: self._entry(path).target for path in self._matches(strings(asked, "patterns"))}
                return {"value": {path: target for path, target in targets.items() if target is not None}, "s": 0.002}
            case OpKind.RUN:
                return self._run(strings(asked, "argv"), int(number(asked, "limit", 262_144)))
            case OpKind.PATHS:
                return {"value": {path: self._look(path) for path in strings(asked, "paths")}, "s": 0.003}
            case OpKind.SELF:
                return {"value": self._own()}
            case OpKind.NVML:
                return {"value": gpus.nvml(self.character), "s": 0.35}
            case OpKind.RESOLVE:
                return {"value": {name: self.around.resolve(name) for name in strings(asked, "names")}, "s": 0.02}
            case OpKind.DNS:
                names = strings(asked, "names")
                servers = [self._server(ip, names) for ip in NAME_SERVERS]
                return {"value": {"servers": servers}, "s": 0.02}
            case OpKind.HTTP:
                return {"value": {url: self._get(url) for url in strings(asked, "urls")}, "s": 0.4}
            case OpKind.CONNECT:
                return {"value": self._connects(asked.get("endpoints")), "s": 0.01}
            case OpKind.TREE:
                return {"value": trees.tree(self.tree, self._mount, string(asked, "path")), "s": 0.02}
            case OpKind.PIECES:
                return {"value": trees.pieces(self.tree, asked.get("pieces")), "s": 0.05}
            case OpKind.SHA256:
                return trees.sha256(self.tree, string(asked, "path"))
        return missing("probe-error", f"the collector does not know the operation {kind}")

    def _entry(self, path: str) -> Entry:
        found = self.tree.entry(path)
        assert found is not None
        return found

    def _matches(self, patterns: Sequence[str]) -> list[str]:
        return self.tree.glob([_home(pattern) for pattern in patterns])

    def _read(self, path: str, limit: int) -> Answer:
        path = _home(path)
        entry = self.tree.entry(path)
        if entry is None:
            return os_missing(OSError(errno.ENOENT, os.strerror(errno.ENOENT)), path)
        if not entry.readable:
            return os_missing(OSError(errno.EACCES, os.strerror(errno.EACCES)), path)
        if stat.S_ISDIR(entry.mode):
            return os_missing(OSError(errno.EISDIR, os.strerror(errno.EISDIR)), path)
        return {"output": entry.content[:limit], "bytes": len(entry.content.encode()), "s": 0.001}

    def _glob(self, patterns: Sequence[str], each: int) -> Answer:
        contents: dict[str, str] = {}
        denied: list[str] = []
        for path in self._matches(patterns):
            entry = self._entry(path)
            if stat.S_ISREG(entry.mode) and entry.readable:
                contents[path] = entry.content[:each]
            elif not entry.readable:
                denied.append(f"EACCES: {path}")
        said = "\n".join(denied)
        if denied and not contents:
            return missing("permission", said)
        return {"value": contents, "error": said, "s": 0.004}

    def _run(self, argv: Sequence[str], limit: int) -> Answer:
        tool = self.tools.get(argv[0].rpartition("/")[2])
        if tool is None:
            return missing("tool-missing", f"{argv[0]} is not on the host")
        ran = tool(tuple(argv[1:]))
        length = len(ran.output.encode())
        return {"output": ran.output[:limit], "error": ran.error, "exit": ran.exit, "bytes": length, "s": ran.seconds}

    def _mount(self, path: str) -> storage.Mount:
        above = (m for m in self.mounts if path == m.point or path.startswith(m.point.rstrip("/") + "/"))
        return max(above, key=lambda mount: len(mount.point))

    def _look(self, path: str) -> Answer:
        path = _home(path)
        entry = self.tree.entry(path)
        if entry is None:
            error = {"call": "lstat", "errno": "ENOENT", "message": os.strerror(errno.ENOENT)}
            return {"lstat": None, "stat": None, "dev": None, "parent_dev": None, "real": None, "access": "",
                    "statvfs": None, "error": error}  # fmt: skip
        parent, mount = path.rpartition("/")[0] or "/", self._mount(path)
        return {
            "lstat": entry.row, "stat": entry.row, "dev": mount.device, "parent_dev": self._mount(parent).device,
            "real": path, "access": "rx" if entry.readable else "", "statvfs": mount.statvfs, "error": None,
        }  # fmt: skip

    def _own(self) -> Answer:
        return {
            "uid": LOGIN_UID, "user": system.LOGIN, "groups": [system.LOGIN, "docker"], "home": system.HOME,
            "hostname": self.character.name, "kernel": system.KERNEL, "machine": "x86_64",
            "affinity": list(range(hardware.THREADS)), "time": time.time(),
            "adjtimex": {"state": 0, "status": 8193, "offset_us": 12.5, "maxerror_us": 1830},
            "python": COLLECTOR_PYTHON, "controller_ip": _CONTROLLER_IP, "mode": "python",
        }  # fmt: skip

    def _server(self, ip: str, names: Sequence[str]) -> Answer:
        return {"server": ip, "via": "resolvectl", "answers": {name: self.around.query(ip, name) for name in names}}

    def _get(self, url: str) -> Answer:
        local = url.removeprefix("http://127.0.0.1:").removesuffix("/metrics")
        body = system.metrics(self.character, int(local)) if local.isdecimal() else ""
        ms = round(2 + 3 * share(f"{self.character.name} {url}") if local.isdecimal() else 40 + 200 * share(url), 1)
        got: Answer = {"status": 200, "ms": ms, "dns_ms": None, "via_proxy": False, "kind": None, "error": None,
                       "insecure_status": None, "body": body}  # fmt: skip
        if body is None:
            return got | {"status": None, "kind": "connect", "error": "Connection refused", "body": ""}
        if not local.isdecimal():
            # Registries answer an anonymous look with 401, which proves the way all the same.
            got |= {"status": 401 if "docker.io" in url else 200, "dns_ms": round(ms / 8, 1)}
        return got

    def _connects(self, endpoints: object) -> list[list[object]]:
        if not isinstance(endpoints, list):
            raise TypeError("endpoints is not a list")
        return [self.around.connect(str(ip), int(port)) for ip, port in endpoints]

    def seen_from_outside(self, ports: Sequence[int]) -> dict[int, str]:
        """What a stranger's connects meet: the firewall drops them; without one, whatever listens answers."""
        if self.character.traits.firewall or self.around.down(self.character.name):
            return dict.fromkeys(ports, "timeout")
        listening = {9100, 9400}
        return {port: "ok" if port in listening else "refused" for port in ports}


def _args(op: Mapping[str, object]) -> Mapping[str, object]:
    args = op.get("args", {})
    if not isinstance(args, dict):
        raise TypeError("args is not an object")
    return args


def _home(path: str) -> str:
    return system.HOME + path[1:] if path == "~" or path.startswith("~/") else path


def build(
    host: Character,
    fleet: tuple[Character, ...],
    *,
    ssh_port: int,
    authorized_key: str,
    down: Callable[[str], bool] = lambda _: False,
    work: Work = Work.SERVING,
    proxy: Proxy | None = None,
) -> Machine:
    """The machine that a character is; `authorized_key` is what stands in its authorized_keys.

    `down` says of another host, by name, whether it has no power now. `work` is what it is there for;
    `proxy` is the nginx on it.
    """
    balancing = [] if proxy is None else nginx.listening(proxy)
    around = Neighbourhood(host, fleet, ssh_port, down, (*processes.listening(host, work), *balancing))
    own = Layer(
        {
            **hardware.disks(host),
            **gpus.files(host),
            **storage.files(host),
            **network.files(host),
            **software.files(host),
            **system.files(host, authorized_key),
            **processes.files(host, work),
            **({} if proxy is None else nginx.files(proxy)),
        }
    )
    tools = {
        **hardware.tools(host),
        **gpus.tools(host),
        **storage.tools(host),
        **around.tools(),
        **software.tools(host),
        **processes.tools(host),
        **system.tools(host, work, proxy),
        **({} if proxy is None else nginx.tools(proxy)),
    }
    same = (hardware.processors(), hardware.memory(host.traits.memory_gib), network.interfaces(), weights.layer())
    return Machine(host, Tree((*same, own)), tools, (*storage.mounts(host), storage.shm(host)), around)
