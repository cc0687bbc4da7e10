"""Group `service`: the processes that serve the model on a host, and who keeps them alive: systemd, Docker, nobody."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from dstui.facts.case import Group, HostSite, Site
from dstui.facts.raw import Missing, Op, Raw, glob, read, run
from dstui.facts.units import parse_units
from dstui.model import Reason

_SERVING = re.compile(r"vllm$|VLLM::|ray::Serve|ray::Proxy|ray::LLM")
"""Names as the kernel cuts them to 15 characters: `vllm`, `VLLM::EngineCor`, `ray::ServeRepli`, `ray::ProxyActor`."""
_COMM = re.compile(r"/proc/(\d{1,10})/comm")
_SERVICE = re.compile(r"[A-Za-z0-9:_.\\@-]{1,200}\.service")
_CONTAINER = re.compile(r"(?:docker|libpod|cri-containerd|crio)-([0-9a-f]{12,64})\.scope|/docker/([0-9a-f]{12,64})")
_UNITS_AT_MOST = 8
_UNIT_PROPERTIES = "Id,ActiveState,SubState,NRestarts,Restart,ExecMainStartTimestampMonotonic"


@dataclass(frozen=True, slots=True)
class ServiceProcess:
    """`unit` is the system service it belongs to, `container` its container's id, `session` the scope of a login."""

    pid: int
    name: str
    unit: str | None
    container: str | None
    session: str | None


@dataclass(frozen=True, slots=True)
class ServiceUnit:
    """A systemd unit: restarts that systemd made itself, and seconds since its main process began."""

    state: str
    restarts: int | None
    restart_policy: str
    running_for: float | None


@dataclass(frozen=True, slots=True)
class ServiceContainer:
    """A container: Docker's restart policy (`no`, `always` …) and how often it restarted it."""

    policy: str
    restarts: int


@dataclass(frozen=True, slots=True)
class ServiceFacts:
    """Processes of vLLM and Ray Serve; units by name, containers by id, of those that they belong to."""

    processes: tuple[ServiceProcess, ...] | Missing
    units: Mapping[str, ServiceUnit] | Missing
    containers: Mapping[str, ServiceContainer] | Missing


def ops(host: HostSite, site: Site) -> tuple[Op, ...]:
    return (
        glob("service.comm", "/proc/[0-9]*/comm", each=64, files=65_536),
        glob("service.cgroup", "/proc/[0-9]*/cgroup", each=2048, files=65_536),
        read("service.uptime", "/proc/uptime", limit=256),
    )


def more(host: HostSite, site: Site, raw: Raw) -> tuple[Op, ...]:
    """The units and containers that the processes belong to."""
    processes = _processes(raw)
    if isinstance(processes, Missing):
        return ()
    units = list(dict.fromkeys(p.unit for p in processes if p.unit))[:_UNITS_AT_MOST]
    containers = list(dict.fromkeys(p.container for p in processes if p.container))[:_UNITS_AT_MOST]
    wanted: list[Op] = []
    if units:
        wanted.append(run("service.units", "systemctl", "show", "-p", _UNIT_PROPERTIES, "--", *units))
    if containers:
        shape = "{{.Id}} {{.HostConfig.RestartPolicy.Name}} {{.RestartCount}}"
        wanted.append(run("service.docker", "docker", "inspect", "--format", shape, *containers, timeout=5.0))
    return tuple(wanted)


def _processes(raw: Raw) -> tuple[ServiceProcess, ...] | Missing:
    names = raw.files("service.comm")
    if isinstance(names, Missing):
        return names
    if "/proc/1/comm" not in names:
        return Missing(Reason.PERMISSION, "other users' processes are hidden (hidepid on /proc)")
    groups = raw.files("service.cgroup")
    found: list[ServiceProcess] = []
    for path, content in sorted(names.items()):
        number = _COMM.fullmatch(path)
        name = content.strip()[:15]
        if number is None or not _SERVING.match(name):
            continue
        group = "" if isinstance(groups, Missing) else groups.get(f"/proc/{number[1]}/cgroup", "")
        found.append(_process(int(number[1]), name, group))
    return tuple(found)


def _process(pid: int, name: str, cgroup: str) -> ServiceProcess:
    paths = [line.split(":", 2)[2] for line in cgroup.splitlines() if line.count(":") >= 2]
    # Version 1 has a line for each controller; the one of systemd names the unit, in version 2 the only one does.
    path = max(paths, key=len, default="")
    container = _CONTAINER.search(path)
    parts = [part for part in path.split("/") if part]
    services = [part for part in parts if _SERVICE.fullmatch(part)]
    by_user = any(part.startswith("user@") for part in parts)
    session = next((p for p in parts if p.startswith("session-") or (by_user and p.startswith("user@"))), None)
    inside = (container[1] or container[2]) if container else None
    return ServiceProcess(
        pid=pid,
        name=name,
        unit=services[-1] if services and not by_user and inside is None else None,
        container=inside,
        session=session,
    )


def _units(raw: Raw) -> Mapping[str, ServiceUnit] | Missing:
    if "service.units" not in raw.answers:
        return {}
    shown, uptime = raw.text("service.units"), raw.text("service.uptime")
    if isinstance(shown, Missing):
        return shown
    units = parse_units(shown)
    if units is None:
        return Missing(Reason.PARSE_ERROR, "systemctl show: no units")
    up = None if isinstance(uptime, Missing) else _number(uptime.split(" ")[0])
    return {name: _unit(properties, up) for name, properties in units.items()}


def _unit(properties: Mapping[str, str], up: float | None) -> ServiceUnit:
    began = _number(properties.get("ExecMainStartTimestampMonotonic", ""))
    restarts = _number(properties.get("NRestarts", ""))
    return ServiceUnit(
        state=properties.get("ActiveState", ""),
        restarts=None if restarts is None else int(restarts),
        restart_policy=properties.get("Restart", ""),
        running_for=max(0.0, up - began / 1e6) if up is not None and began else None,
    )


def _containers(raw: Raw) -> Mapping[str, ServiceContainer] | Missing:
    if "service.docker" not in raw.answers:
        return {}
    shown = raw.text("service.docker")
    if isinstance(shown, Missing):
        return shown
    found: dict[str, ServiceContainer] = {}
    for line in shown.splitlines():
        words = line.split()
        if len(words) == 3 and words[2].isascii() and words[2].isdigit() and len(words[2]) < 10:
            found[words[0]] = ServiceContainer(words[1], int(words[2]))
    return found


def _number(word: str) -> float | None:
    return float(word) if re.fullmatch(r"\d{1,18}(?:\.\d{1,9})?", word.strip(), re.ASCII) else None


def parse(raw: Raw) -> ServiceFacts:
    return ServiceFacts(_processes(raw), _units(raw), _containers(raw))


GROUP = Group("service", ServiceFacts, ops, parse, more)
