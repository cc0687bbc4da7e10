"""Group `agents`: exporters as they answer on the host itself, log shippers, journald, the size of logs."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from dstui.facts.case import Group, HostSite, Site
from dstui.facts.exposition import Exposition, parse_exposition
from dstui.facts.raw import Missing, Op, Raw, glob, http, listing, read, run
from dstui.facts.units import parse_units
from dstui.facts.untyped import command, real, table, text, whole
from dstui.model import Reason

METRICS_BYTES = 524_288
"""node_exporter writes 65 kB on a small machine and some 300 kB on one with 192 cores."""
DEFAULT_LOG_DIRS = ("/var/log", "/tmp/ray/session_latest/logs")  # noqa: S108 - where Ray writes
_CONFIG_BYTES = 65_536
_COMM_LENGTH = 15
"""The kernel cuts process names to this."""


@dataclass(frozen=True, slots=True)
class Agent:
    """Names under which an agent runs: systemd units, and process names as the kernel cuts them."""

    units: tuple[str, ...]
    processes: tuple[str, ...]


KNOWN: Mapping[str, Agent] = {
    "node_exporter": Agent(
        ("node_exporter", "prometheus-node-exporter", "node-exporter"), ("node_exporter", "prometheus-node")
    ),
    "dcgm-exporter": Agent(("dcgm-exporter", "nvidia-dcgm-exporter"), ("dcgm-exporter",)),
    "nvidia_gpu_exporter": Agent(
        ("nvidia_gpu_exporter", "nvidia-gpu-exporter"), ("nvidia_gpu_expo", "nvidia-gpu-expo")
    ),
    "promtail": Agent(("promtail",), ("promtail",)),
    "alloy": Agent(("alloy", "grafana-alloy"), ("alloy",)),
    "fluent-bit": Agent(("fluent-bit", "td-agent-bit"), ("fluent-bit", "td-agent-bit")),
    "filebeat": Agent(("filebeat",), ("filebeat",)),
    "vector": Agent(("vector",), ("vector",)),
    "otelcol": Agent(("otelcol", "otelcol-contrib", "opentelemetry-collector"), ("otelcol", "otelcol-contrib")),
    "rsyslog-remote": Agent(("rsyslog",), ("rsyslogd",)),
}
"""The agents that the checklist names."""


def agent(name: str) -> Agent:
    """The names of an agent; one that is not known runs under its own."""
    return KNOWN.get(name) or Agent((name,), (name[:_COMM_LENGTH],))


@dataclass(frozen=True, slots=True)
class MetricsAnswer:
    """`GET http://127.0.0.1:PORT/metrics`. Without an HTTP answer `status` is None and `kind` says how it failed.

    `cut` is set when the body reached the limit, so that what is not in it may still exist.
    """

    status: int | None
    kind: str | None
    error: str
    body: Exposition
    cut: bool


@dataclass(frozen=True, slots=True)
class Unit:
    """A systemd unit: its state, how often systemd restarted it by itself, and seconds since it became active."""

    active: bool
    state: str
    restarts: int | None
    active_for: float | None


@dataclass(frozen=True, slots=True)
class Journald:
    """`storage` as configured (`auto` by default), and whether /var/log/journal exists."""

    storage: str
    directory: bool

    @property
    def persistent(self) -> bool:
        return self.directory and self.storage in ("auto", "persistent")


@dataclass(frozen=True, slots=True)
class LogSizes:
    """Directory → bytes on disk. `partial` when some of it could not be read: then sizes are the least there is."""

    bytes: Mapping[str, int]
    partial: bool


@dataclass(frozen=True, slots=True)
class AgentFacts:
    """`metrics` by port; `forwards` where rsyslog sends to; `rotated` patterns of logrotate; `gpus` by the driver."""

    metrics: Mapping[int, MetricsAnswer] | Missing
    units: Mapping[str, Unit] | Missing
    processes: frozenset[str] | Missing
    forwards: tuple[str, ...] | Missing
    journald: Journald | Missing
    sizes: LogSizes | Missing
    rotated: tuple[str, ...] | Missing
    gpus: int | Missing

    def running(self, name: str) -> bool | None:
        """Whether an agent runs, as a unit or as a process; None when that cannot be told.

        An agent in a container is no unit, so only a complete list of processes can say that it does not run.
        """
        names = agent(name)
        units = {} if isinstance(self.units, Missing) else self.units
        if any(unit in units and units[unit].active for unit in names.units):
            return True
        if isinstance(self.processes, Missing):
            return None
        return not self.processes.isdisjoint(names.processes)

    def unit(self, name: str) -> tuple[str, Unit] | None:
        """The active unit of an agent."""
        units = {} if isinstance(self.units, Missing) else self.units
        return next(((unit, units[unit]) for unit in agent(name).units if unit in units and units[unit].active), None)


def url(port: int) -> str:
    return f"http://127.0.0.1:{port}/metrics"


def ops(host: HostSite, site: Site) -> tuple[Op, ...]:
    units = sorted({f"{unit}.service" for known in KNOWN.values() for unit in known.units})
    journald = [f"{place}/systemd/journald.conf{suffix}" for place in _PLACES for suffix in ("", ".d/*.conf")]
    return (
        http("agents.metrics", *map(url, site.exporter_ports), timeout=4.0, total=9.0, limit=METRICS_BYTES, proxy="-"),
        run(
            "agents.units",
            *("systemctl", "show", "-p", "Id,ActiveState,SubState,NRestarts,ActiveEnterTimestampMonotonic"),
            *units,
        ),
        glob("agents.processes", "/proc/[0-9]*/comm", each=64, files=65_536),
        read("agents.uptime", "/proc/uptime", limit=256),
        glob("agents.rsyslog", "/etc/rsyslog.conf", "/etc/rsyslog.d/*.conf", each=_CONFIG_BYTES),
        listing("agents.journal", "/var/log/journal", "/var/log"),
        glob("agents.journald", *journald, each=_CONFIG_BYTES),
        run("agents.sizes", "du", "-sxk", *(site.log_dirs or DEFAULT_LOG_DIRS)),
        glob("agents.logrotate", "/etc/logrotate.conf", "/etc/logrotate.d/*", each=_CONFIG_BYTES),
        listing("agents.gpus", "/proc/driver/nvidia/gpus/*", "/proc/driver/nvidia/version"),
    )


def _metrics(raw: Raw) -> Mapping[int, MetricsAnswer] | Missing:
    value = raw.value("agents.metrics")
    if isinstance(value, Missing):
        return value
    answers = table(value)
    if answers is None:
        return Missing(Reason.PARSE_ERROR, "GET /metrics: the host's answer is not understood")
    found: dict[int, MetricsAnswer] = {}
    for address, row in answers.items():
        answer, port = table(row), re.fullmatch(r"http://127\.0\.0\.1:(\d{1,5})/metrics", address)
        if answer is None or port is None:
            continue
        body = text(answer.get("body")) or ""
        cut = len(body.encode("utf-8", "replace")) >= METRICS_BYTES
        found[int(port[1])] = MetricsAnswer(
            status=whole(answer.get("status")),
            kind=text(answer.get("kind")),
            error=text(answer.get("error")) or "",
            body=parse_exposition(body, cut=cut),
            cut=cut,
        )
    return found


def _units(raw: Raw) -> Mapping[str, Unit] | Missing:
    shown = raw.text("agents.units")
    if isinstance(shown, Missing):
        return shown
    units = parse_units(shown)
    if units is None:
        return Missing(Reason.PARSE_ERROR, "systemctl show: no units")
    uptime = raw.text("agents.uptime")
    words = [] if isinstance(uptime, Missing) else uptime.split()
    now = _number(words[0]) if words else None
    found: dict[str, Unit] = {}
    for name, properties in units.items():
        restarts = properties.get("NRestarts", "")
        since = _number(properties.get("ActiveEnterTimestampMonotonic", ""))
        state = properties.get("ActiveState", "")
        found[name.removesuffix(".service")] = Unit(
            active=state == "active",
            state=f"{state} ({properties.get('SubState', '?')})",
            restarts=int(restarts) if restarts.isdecimal() and len(restarts) < 10 else None,
            active_for=now - since / 1e6 if now is not None and since else None,
        )
    return found


def _number(word: str) -> float | None:
    try:
        return real(float(word))
    except ValueError:
        return None


def _processes(raw: Raw) -> frozenset[str] | Missing:
    files = raw.files("agents.processes")
    if isinstance(files, Missing):
        return files
    if "/proc/1/comm" not in files:
        # With hidepid only the login user's own processes are listed.
        return Missing(Reason.PERMISSION, "/proc shows only the login user's processes (hidepid)")
    return frozenset(content.strip() for content in files.values())


_LEGACY_FORWARD = re.compile(r"^\s*[\w*,;.!=]+\.[\w*,;.!=]+\s+(@@?[^\s;]+)")
_ACTION = re.compile(r"action\s*\(([^)]*)\)", re.IGNORECASE | re.DOTALL)
_SENDS = re.compile(r"type\s*=\s*\"(?:omfwd|omrelp|omkafka|omelasticsearch|omhttp)\"", re.IGNORECASE)
_SENT_TO = re.compile(r"(?:target|server|broker)\s*=\s*\[?\s*\"([^\"]*)\"", re.IGNORECASE)


def parse_forwards(config: str) -> tuple[str, ...]:
    """Where an rsyslog configuration sends messages: `*.* @@host`, or actions that send over the network."""
    kept = "\n".join(line.partition("#")[0] for line in config.splitlines())
    found = [match[1].lstrip("@") for line in kept.splitlines() if (match := _LEGACY_FORWARD.match(line))]
    for action in _ACTION.finditer(kept):
        if _SENDS.search(action[1]):
            sent_to = _SENT_TO.search(action[1])
            found.append(sent_to[1] if sent_to else "?")
    return tuple(found)


def _forwards(raw: Raw) -> tuple[str, ...] | Missing:
    files = raw.files("agents.rsyslog")
    if isinstance(files, Missing):
        return files
    found = tuple(target for _, content in sorted(files.items()) for target in parse_forwards(content))
    answer = raw.answer("agents.rsyslog")
    if not found and not isinstance(answer, Missing) and answer.error:
        return Missing(Reason.PERMISSION, answer.error.splitlines()[0])
    return found


_PLACES = ("/usr/lib", "/run", "/etc")
"""Where journald's configuration lies, the weightier later."""
_STORAGE = re.compile(r"^\s*Storage\s*=\s*(\w*)\s*$", re.MULTILINE)


def parse_storage(files: Mapping[str, str]) -> str:
    """journald's Storage=: drop-ins after the main file, by name whatever their directory; the last one counts."""
    chosen: dict[tuple[int, str], str] = {}
    for place in _PLACES:
        for path, content in files.items():
            if path == f"{place}/systemd/journald.conf":
                chosen[0, ""] = content
            elif path.startswith(f"{place}/systemd/journald.conf.d/"):
                chosen[1, path.rpartition("/")[2]] = content
    storage = "auto"
    for _, content in sorted(chosen.items()):
        for found in _STORAGE.finditer(content):
            storage = found[1].lower() or "auto"
    return storage


def _journald(raw: Raw) -> Journald | Missing:
    files, names = raw.files("agents.journald"), raw.stats("agents.journal")
    if isinstance(names, Missing):
        return names
    if "/var/log" not in names:
        return Missing(Reason.CANNOT_TELL, "/var/log could not be looked at")
    if isinstance(files, Missing):
        return files
    answer = raw.answer("agents.journald")
    if not isinstance(answer, Missing) and answer.error:
        # A drop-in that may not be read can say Storage=volatile.
        return Missing(Reason.PERMISSION, answer.error.splitlines()[0])
    return Journald(parse_storage(files), "/var/log/journal" in names)


_SIZE = re.compile(r"(\d{1,15})\s+(/.*)")


def _sizes(raw: Raw) -> LogSizes | Missing:
    found = command(raw, "agents.sizes")
    if isinstance(found, Missing):
        return found
    sizes = {m[2]: int(m[1]) * 1024 for line in found.output.splitlines() if (m := _SIZE.fullmatch(line.strip()))}
    if not sizes:
        return Missing(Reason.CANNOT_TELL, f"{found.source}: no sizes")
    return LogSizes(sizes, partial=any("denied" in line.lower() for line in found.error.splitlines()))


def parse_rotated(config: str) -> tuple[str, ...]:
    """The paths and patterns that a logrotate configuration names before each `{`."""
    kept = "\n".join(line.partition("#")[0] for line in config.splitlines())
    heads = re.split(r"\{[^}]*\}?", kept)
    return tuple(word.strip("\"'") for head in heads for word in head.split() if word.strip("\"'").startswith("/"))


def _rotated(raw: Raw) -> tuple[str, ...] | Missing:
    files = raw.files("agents.logrotate")
    if isinstance(files, Missing):
        return files
    return tuple(pattern for _, content in sorted(files.items()) for pattern in parse_rotated(content))


def _gpus(raw: Raw) -> int | Missing:
    stats = raw.stats("agents.gpus")
    if isinstance(stats, Missing):
        return stats
    count = sum(path.startswith("/proc/driver/nvidia/gpus/") for path in stats)
    return count if stats else Missing(Reason.TOOL_MISSING, "no NVIDIA driver is loaded")


def parse(raw: Raw) -> AgentFacts:
    return AgentFacts(
        metrics=_metrics(raw),
        units=_units(raw),
        processes=_processes(raw),
        forwards=_forwards(raw),
        journald=_journald(raw),
        sizes=_sizes(raw),
        rotated=_rotated(raw),
        gpus=_gpus(raw),
    )


GROUP = Group("agents", AgentFacts, ops, parse)
