"""Group `serve_processes`: what runs Ray and vLLM on a host, from /proc: flags, age, and who would start it again.

Command lines hold keys and tokens. Only the flags of `KEPT` ever leave the parser; the answers themselves are no
evidence.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import pairwise

from dstui.facts.case import Group, HostSite, Site
from dstui.facts.numbers import garbled
from dstui.facts.raw import Missing, Op, Raw, glob, paths, read
from dstui.facts.untyped import table, whole
from dstui.model import Reason

MOST_CANDIDATES = 512
"""Processes whose command line is read. A node runs some dozens of Python processes; workers are sorted out by name."""

SHM = "/dev/shm"  # noqa: S108 - where Ray keeps its object store
CLOCK_TICKS = 100
"""USER_HZ of Linux on every architecture that has GPUs: `/proc/<pid>/stat` counts in it."""

_PID = re.compile(r"/proc/(\d{1,10})/\w+", re.ASCII)
_SERVICE = re.compile(r"[^/]+\.service")
_CONTAINER = re.compile(r"(?:docker|libpod|crio|cri-containerd|nerdctl)[-/]([0-9a-f]{12,64})|/(?:kubepods)\b", re.ASCII)
_LOGIN_SERVICES = re.compile(r"(?:user@\d+|sshd?(?:@.*)?|getty@.*)\.service", re.ASCII)
_ENDED = frozenset("ZX")
_PYTHON = re.compile(r"python[\d.]*|pt_main_thread|uvicorn|vllm.*", re.ASCII)


class Role(StrEnum):
    """What a process is to Ray or vLLM."""

    GCS = "gcs_server"
    RAYLET = "raylet"
    DASHBOARD = "dashboard"
    REPLICA = "Serve replica"
    VLLM_SERVER = "vLLM API server"
    VLLM_ENGINE = "vLLM engine"


class Holder(StrEnum):
    """Who holds a process, by its control group: what will, or will not, start it again after a reboot."""

    SERVICE = "service"
    CONTAINER = "container"
    LOGIN = "login"
    NOBODY = "nobody"


@dataclass(frozen=True, slots=True)
class ServeProcess:
    """One process. `age` is seconds since it started; `holder_name` a unit or the beginning of a container's id.

    `flags` are those of `KEPT`, without their leading dashes and with `-` for `_`; a switch has the value `true`.
    """

    role: Role
    pid: int
    parent: int | None
    age: float | None
    holder: Holder | Missing
    holder_name: str
    flags: Mapping[str, str]


KEPT: Mapping[Role, frozenset[str]] = {
    Role.GCS: frozenset({"gcs-server-port", "node-ip-address", "session-name", "node-id"}),
    Role.RAYLET: frozenset(
        {
            "node-ip-address", "node-id", "gcs-address", "head", "object-manager-port", "node-manager-port",
            "min-worker-port", "max-worker-port", "metrics-export-port", "runtime-env-agent-port",
            "object-store-memory", "static-resource-list", "session-name",
        }
    ),
    Role.DASHBOARD: frozenset({"host", "port", "gcs-address", "node-ip-address", "minimal"}),
    Role.REPLICA: frozenset(),
    Role.VLLM_ENGINE: frozenset(),
    Role.VLLM_SERVER: frozenset(
        {
            "host", "port", "config", "model", "served-model-name", "distributed-executor-backend",
            "tensor-parallel-size", "pipeline-parallel-size", "data-parallel-size", "max-num-seqs",
            "max-num-batched-tokens", "max-model-len", "gpu-memory-utilization", "kv-cache-dtype", "quantization",
            "enable-prefix-caching", "no-enable-prefix-caching",
        }
    ),
}  # fmt: skip
"""What is kept of a command line. A list of what may be shown, so that no key or token ever is."""

_SHORT = {"tp": "tensor-parallel-size", "pp": "pipeline-parallel-size", "dp": "data-parallel-size", "q": "quantization"}
_VALUE_CHARS = 400


@dataclass(frozen=True, slots=True)
class ServeProcesses:
    """`whole` is whether other users' processes are visible: only then does an absent one mean that it does not run."""

    processes: tuple[ServeProcess, ...] | Missing
    whole: bool
    shm_bytes: int | Missing
    """Size of the filesystem on /dev/shm."""

    def of(self, role: Role) -> tuple[ServeProcess, ...]:
        """The processes of a role; none also when they could not be looked at."""
        return () if isinstance(self.processes, Missing) else tuple(p for p in self.processes if p.role is role)

    def runs(self, role: Role) -> bool | None:
        """Whether any process of a role runs; None when that cannot be told."""
        if self.of(role):
            return True
        return None if isinstance(self.processes, Missing) or not self.whole else False


def ops(host: HostSite, site: Site) -> tuple[Op, ...]:
    return (
        glob("processes.names", "/proc/[0-9]*/comm", each=32, files=65_536),
        read("processes.uptime", "/proc/uptime", limit=64),
        paths("processes.shm", SHM),
    )


def more(host: HostSite, site: Site, raw: Raw) -> tuple[Op, ...]:
    """Command line, parent, start and control group of what may be Ray or vLLM."""
    names = raw.files("processes.names")
    if isinstance(names, Missing):
        return ()
    pids = _candidates(names)
    if not pids:
        return ()
    return (
        # Ray's own are some 4 kB: they hold the command lines of what they start.
        glob("processes.lines", *(f"/proc/{pid}/cmdline" for pid in pids), each=16_384),
        glob("processes.stats", *(f"/proc/{pid}/stat" for pid in pids), each=1024),
        glob("processes.groups", *(f"/proc/{pid}/cgroup" for pid in pids), each=4096),
    )


def _candidates(names: Mapping[str, str]) -> list[int]:
    """Process ids worth a second look, the surest names first."""
    found: list[tuple[int, int]] = []
    for path, name in names.items():
        match = _PID.fullmatch(path)
        rank = _rank(name.strip())
        if match and rank is not None:
            found.append((rank, int(match[1])))
    return [pid for _, pid in sorted(found)[:MOST_CANDIDATES]]


def _rank(name: str) -> int | None:
    if name in ("gcs_server", "raylet"):
        return 0
    if name.startswith(("VLLM::", "ray::ServeRepli")):
        return 1
    return 2 if _PYTHON.fullmatch(name) else None


def parse(raw: Raw) -> ServeProcesses:
    names = raw.files("processes.names")
    if isinstance(names, Missing):
        return ServeProcesses(names, False, _shm(raw))
    whole_list = "/proc/1/comm" in names
    if not names:
        return ServeProcesses(Missing(Reason.CANNOT_TELL, "/proc shows no process at all"), False, _shm(raw))
    return ServeProcesses(_processes(raw, names), whole_list, _shm(raw))


def _processes(raw: Raw, names: Mapping[str, str]) -> tuple[ServeProcess, ...] | Missing:
    pids = _candidates(names)
    if not pids:
        return ()
    lines, stats, groups = (raw.files(f"processes.{name}") for name in ("lines", "stats", "groups"))
    if isinstance(lines, Missing):
        return lines
    if isinstance(stats, Missing):
        # Without its state a process that has ended would count as one that runs.
        return stats
    uptime = _uptime(raw)
    found: list[ServeProcess] = []
    for pid in pids:
        stat = stats.get(f"/proc/{pid}/stat")
        if stat is None:
            # Everyone may read it: the process ended after its name was listed.
            continue
        words = [word for word in lines.get(f"/proc/{pid}/cmdline", "").split("\0") if word]
        role = _ROLES_BY_NAME.get(names[f"/proc/{pid}/comm"].strip()) or role_of(words)
        if role is None:
            continue
        state, parent, started = _stat(stat)
        if state in _ENDED:
            continue
        age = None if uptime is None or started is None else max(0.0, uptime - started)
        group = groups if isinstance(groups, Missing) else groups.get(f"/proc/{pid}/cgroup")
        holder, name = _holder(group)
        found.append(ServeProcess(role, pid, parent, age, holder, name, kept_flags(role, words)))
    return tuple(sorted(found, key=lambda process: process.pid))


_ROLES_BY_NAME = {"gcs_server": Role.GCS, "raylet": Role.RAYLET}
"""Known by name alone, so that a command line that cannot be read hides neither."""


def role_of(words: Sequence[str]) -> Role | None:
    """What a command line is. vLLM's engine and Serve's replicas have titles in its place, and no flags."""
    if not words:
        return None
    program = words[0].rsplit("/", 1)[-1]
    if program in ("gcs_server", "raylet"):
        return Role(program)
    if words[0].startswith("ray::ServeReplica"):
        return Role.REPLICA
    if words[0].startswith("VLLM::"):
        return Role.VLLM_ENGINE if words[0].startswith(("VLLM::EngineCore", "VLLM::DPEngineCore")) else None
    early = words[:6]
    if any(word.endswith("/ray/dashboard/dashboard.py") for word in early):
        return Role.DASHBOARD
    if "vllm.entrypoints.openai.api_server" in early:
        return Role.VLLM_SERVER
    served = any(word.rsplit("/", 1)[-1] == "vllm" and after == "serve" for word, after in pairwise(early))
    return Role.VLLM_SERVER if served or ("vllm.entrypoints.cli.main" in early and "serve" in early) else None


def kept_flags(role: Role, words: Sequence[str]) -> dict[str, str]:
    """The flags of a command line that may be shown. vLLM's model stands without a flag behind `serve`."""
    found: dict[str, str] = {}
    for name, value in _flags(words):
        if name in KEPT[role]:
            found.setdefault(name, value[:_VALUE_CHARS])
    if role is Role.VLLM_SERVER and "model" not in found and "serve" in words:
        after = words[words.index("serve") + 1 :][:1]
        if after and not after[0].startswith("-"):
            found["model"] = after[0][:_VALUE_CHARS]
    return found


def _flags(words: Sequence[str]) -> Iterator[tuple[str, str]]:
    for position, word in enumerate(words):
        if not word.startswith("-"):
            continue
        name, equals, value = word.lstrip("-").partition("=")
        name = name.replace("_", "-")
        if not word.startswith("--"):
            name = _SHORT.get(name, name)
        if equals:
            yield name, value
        else:
            following = words[position + 1] if position + 1 < len(words) else "-"
            yield name, "true" if following.startswith("-") and not _negative(following) else following


def _negative(word: str) -> bool:
    return word[1:2].isdigit()


def _stat(text: str) -> tuple[str, int | None, float | None]:
    """State, parent and start in seconds since boot; the name in brackets may hold anything."""
    fields = text.rpartition(")")[2].split()
    if len(fields) < 20 or not (fields[1].isdecimal() and fields[19].isdecimal()):
        return "", None, None
    return fields[0], int(fields[1]), int(fields[19][:18]) / CLOCK_TICKS


def _uptime(raw: Raw) -> float | None:
    text = raw.text("processes.uptime")
    if isinstance(text, Missing):
        return None
    try:
        return float((text.split() or [""])[0])
    except ValueError:
        return None


def _holder(group: str | Missing | None) -> tuple[Holder | Missing, str]:
    """From `/proc/<pid>/cgroup`: the line of v2, or systemd's own of v1."""
    if group is None:
        return Missing(Reason.CANNOT_TELL, "the control group of the process was not seen"), ""
    if isinstance(group, Missing):
        return group, ""
    rows = [line.split(":", 2) for line in group.splitlines() if line.count(":") >= 2]
    # systemd's own hierarchy first: the others are often flatter.
    rows.sort(key=lambda row: row[1] not in ("name=systemd", ""))
    places = [place for _, _, place in rows]
    for place in places:
        if container := _CONTAINER.search(place):
            return Holder.CONTAINER, (container[1] or "")[:12]
    services = next((found for place in places if (found := _SERVICE.findall(place))), [])
    own = [service for service in services if not _LOGIN_SERVICES.fullmatch(service)]
    if own:
        return Holder.SERVICE, own[-1][:80]
    login = services or any("session-" in place for place in places)
    return (Holder.LOGIN if login else Holder.NOBODY), ""


def _shm(raw: Raw) -> int | Missing:
    value = raw.value("processes.shm")
    if isinstance(value, Missing):
        return value
    row = table((table(value) or {}).get(SHM)) or {}
    if row.get("hung"):
        return Missing(Reason.TIMEOUT, f"{SHM} does not answer")
    space = table(row.get("statvfs")) or {}
    blocks, size = whole(space.get("blocks")), whole(space.get("frsize"))
    if blocks is None or size is None:
        return garbled(SHM, "no size of the filesystem")
    return blocks * size


GROUP = Group("serve_processes", ServeProcesses, ops, parse, more)
