"""Group `lb`: a load balancer as its host shows it: program, unit, configuration on disk and in use, certificates."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from dstui.facts.case import Group, HostSite, Site
from dstui.facts.nginx_config import DUMP_LIMIT, NginxConfig, parse_dump
from dstui.facts.raw import Missing, Op, Raw, glob, own_process, paths, read, run
from dstui.facts.sudoers import NGINX, granted, privileged
from dstui.facts.units import parse_units
from dstui.facts.untyped import command, real, rows, table
from dstui.model import Reason

PROGRAMS = ("nginx", "haproxy", "envoy", "traefik", "keepalived")
"""What balances, and what moves the address between two balancers."""
UNITS = ("nginx", "openresty", "haproxy", "envoy", "traefik", "keepalived")
RENEWALS = (
    "certbot.timer",
    "snap.certbot.renew.timer",
    "acme.timer",
    "acme.sh.timer",
    "lego.timer",
    "dehydrated.timer",
)
_CRON = ("/etc/crontab", "/etc/cron.d/*", "/etc/cron.daily/*", "/etc/cron.weekly/*", "/var/spool/cron/crontabs/root")
_RENEWER = re.compile(r"^[^#\n]*\b(certbot|acme\.sh|lego|dehydrated)\b", re.MULTILINE)
_COMM = re.compile(r"/proc/(\d{1,10})/comm")
_PID_FILE = re.compile(r"/proc/(\d{1,10})/(?:stat|cmdline|cgroup)")
_CONTAINER = re.compile(r"(?:docker|libpod|cri-containerd|crio)-[0-9a-f]{12,64}\.scope|/(?:docker|kubepods\S*)/")
_VERSION = re.compile(r"nginx version: \S+?/(\d+(?:\.\d+)*)", re.ASCII)
_FINGERPRINT = re.compile(r"sha256 Fingerprint=((?:[0-9A-F]{2}:){31}[0-9A-F]{2})", re.IGNORECASE)
_TICKS = 100.0
"""Clock ticks a second in /proc/PID/stat: Linux gives user programs this on every machine that GPUs are put into."""
_PROCESSES_AT_MOST = 256
_FILES_AT_MOST = 200
_CERTIFICATES_AT_MOST = 8


@dataclass(frozen=True, slots=True)
class LbUnit:
    """A systemd unit: `active`, `failed` …, and `enabled`, `disabled` …"""

    state: str
    enabled: str


@dataclass(frozen=True, slots=True)
class LbFacts:
    """`programs` counts processes by name; `units` are those that are installed.

    `config` is nginx's as it is on disk; `config_fault` is nginx's own complaint when it would not take it. `loaded_at`
    is when the running workers began, so when the configuration was last read; `changed` the file that was changed
    last, and when (seconds since the epoch). `certificates` are SHA-256 fingerprints of leaf certificates by file, as
    lower-case hex. `renewals` names what renews certificates: active timers, cron jobs.
    """

    programs: Mapping[str, int] | Missing
    units: Mapping[str, LbUnit] | Missing
    version: str | Missing
    config: NginxConfig | Missing
    config_fault: str
    loaded_at: float | Missing
    changed: tuple[str, float] | Missing
    certificates: Mapping[str, str | Missing]
    renewals: tuple[str, ...] | Missing


def ops(host: HostSite, site: Site) -> tuple[Op, ...]:
    if host.name not in site.balancers:
        return ()
    units = [f"{name}.service" for name in UNITS]
    return (
        run("lb.version", "nginx", "-v", timeout=5.0),
        run("lb.units", "systemctl", "show", "-p", "Id,LoadState,ActiveState,UnitFileState", "--", *units, *RENEWALS),
        granted("lb.dump", NGINX, timeout=15.0, limit=DUMP_LIMIT),
        glob("lb.comm", "/proc/[0-9]*/comm", each=64, files=65_536),
        glob("lb.cron", *_CRON, each=8192, files=64),
        own_process("lb.self"),
        read("lb.uptime", "/proc/uptime", limit=256),
    )


def more(host: HostSite, site: Site, raw: Raw) -> tuple[Op, ...]:
    """nginx's own processes, and the files that the configuration names."""
    wanted: list[Op] = []
    pids = _pids(raw)
    if not isinstance(pids, Missing) and pids.get("nginx"):
        files = [f"/proc/{pid}/{name}" for pid in pids["nginx"] for name in ("stat", "cmdline", "cgroup")]
        wanted.append(glob("lb.process", *files[: 3 * _PROCESSES_AT_MOST], each=2048, files=3 * _PROCESSES_AT_MOST))
    config = _config(raw)
    if isinstance(config, Missing):
        return tuple(wanted)
    wanted.append(paths("lb.files", *config.files[:_FILES_AT_MOST]))
    wanted += (
        # The fingerprint, not the file: some keep the key in the same one.
        run(f"lb.certificate.{number}", "openssl", "x509", "-in", path, "-noout", "-sha256", "-fingerprint")
        for number, path in enumerate(certificate_files(config))
    )
    return tuple(wanted)


def certificate_files(config: NginxConfig) -> tuple[str, ...]:
    """Files that `ssl_certificate` names, as far as they are named outright."""
    named = (directive.first for directive in config.every("ssl_certificate"))
    plain = [path for path in named if path.startswith("/") and "$" not in path]
    return tuple(dict.fromkeys(plain))[:_CERTIFICATES_AT_MOST]


def _pids(raw: Raw) -> dict[str, list[int]] | Missing:
    """Process ids by program."""
    names = raw.files("lb.comm")
    if isinstance(names, Missing):
        return names
    if "/proc/1/comm" not in names:
        return Missing(Reason.PERMISSION, "other users' processes are hidden (hidepid on /proc)")
    found: dict[str, list[int]] = {}
    for path, content in names.items():
        number = _COMM.fullmatch(path)
        if number is not None and (name := content.strip()) in PROGRAMS:
            found.setdefault(name, []).append(int(number[1]))
    return found


def _units(raw: Raw) -> Mapping[str, Mapping[str, str]] | Missing:
    shown = raw.text("lb.units")
    if isinstance(shown, Missing):
        return shown
    units = parse_units(shown)
    return Missing(Reason.PARSE_ERROR, "systemctl show: no units") if units is None else units


def _installed(units: Mapping[str, Mapping[str, str]] | Missing) -> Mapping[str, LbUnit] | Missing:
    if isinstance(units, Missing):
        return units
    return {
        name.removesuffix(".service"): LbUnit(found.get("ActiveState", ""), found.get("UnitFileState", ""))
        for name, found in units.items()
        if name.endswith(".service") and found.get("LoadState") != "not-found"
    }


def _version(raw: Raw) -> str | Missing:
    answer = command(raw, "lb.version")
    if isinstance(answer, Missing):
        return answer
    found = _VERSION.search(answer.error or answer.output)
    return found[1] if found else Missing(Reason.PARSE_ERROR, "nginx -v: no version in its answer")


def _config(raw: Raw) -> NginxConfig | Missing:
    dump = privileged(raw, "lb.dump")
    return dump if isinstance(dump, Missing) else parse_dump(dump.output)


def _config_fault(raw: Raw) -> str:
    """nginx's own words when it would not take the configuration; empty when it would, or when it was not asked."""
    answer = command(raw, "lb.dump")
    if isinstance(answer, Missing) or answer.exit == 0:
        return ""
    told = privileged(raw, "lb.dump")
    if isinstance(told, Missing) and told.reason is Reason.PERMISSION:
        return ""
    return next((line.strip() for line in answer.error.splitlines() if "[emerg]" in line), "")


@dataclass(frozen=True, slots=True)
class _Process:
    """One of nginx's. `began` is in seconds after boot."""

    title: str
    began: float
    contained: bool


def _processes(raw: Raw) -> tuple[_Process, ...] | Missing:
    files = raw.files("lb.process")
    if isinstance(files, Missing):
        return files
    found: list[_Process] = []
    for pid in sorted({match[1] for path in files if (match := _PID_FILE.fullmatch(path)) is not None}):
        stat, title = files.get(f"/proc/{pid}/stat", ""), files.get(f"/proc/{pid}/cmdline", "")
        # The name in brackets may hold blanks and brackets itself.
        words = stat.rpartition(")")[2].split()
        if len(words) < 20 or not words[19].isascii() or not words[19].isdigit() or len(words[19]) > 18:
            continue
        contained = _CONTAINER.search(files.get(f"/proc/{pid}/cgroup", "")) is not None
        found.append(_Process(title.replace("\0", " ").strip(), int(words[19]) / _TICKS, contained))
    return tuple(found) or Missing(Reason.CANNOT_TELL, "nginx's processes are gone again")


def _elsewhere(processes: Sequence[_Process], config: NginxConfig) -> Missing | None:
    """Why the running nginx may have another configuration than the one that was dumped."""
    masters = [process for process in processes if process.title.startswith("nginx: master")]
    for master in masters:
        if master.contained:
            return Missing(Reason.CANNOT_TELL, "nginx runs in a container; its configuration there was not read")
        words = master.title.split()
        given = words[words.index("-c") + 1] if "-c" in words[:-1] else None
        if given is not None and given.startswith("/") and given != config.files[0]:
            return Missing(Reason.CANNOT_TELL, f"nginx runs with -c {given}, but nginx -T shows {config.files[0]}")
    return None


def _loaded_at(raw: Raw, processes: Sequence[_Process] | Missing) -> float | Missing:
    if isinstance(processes, Missing):
        return processes
    own, uptime = table(raw.value("lb.self")), raw.text("lb.uptime")
    now = real(own.get("time")) if own is not None else None
    words = "" if isinstance(uptime, Missing) else uptime.split(" ")[0]
    if now is None or not re.fullmatch(r"\d{1,12}(?:\.\d{1,6})?", words, re.ASCII):
        return Missing(Reason.CANNOT_TELL, "the host does not tell its time and its uptime")
    workers = [p.began for p in processes if p.title.startswith("nginx: worker process") and "shutting" not in p.title]
    # A reload brings new workers. One that came later was started in the place of one that died, with the same
    # configuration, so it is the oldest that counts.
    began = min(workers, default=None) if workers else min((p.began for p in processes), default=None)
    if began is None:
        return Missing(Reason.CANNOT_TELL, "no process of nginx tells when it began")
    return now - float(words) + began


def _changed(raw: Raw) -> tuple[str, float] | Missing:
    seen = raw.value("lb.files")
    if isinstance(seen, Missing):
        return seen
    times: list[tuple[float, str]] = []
    for path, found in (table(seen) or {}).items():
        stat = rows((table(found) or {}).get("stat"))
        changed = real(stat[4]) if stat is not None and len(stat) == 5 else None
        if changed is None:
            return Missing(Reason.CANNOT_TELL, f"{path} does not tell when it was changed")
        times.append((changed, path))
    if not times:
        return Missing(Reason.CANNOT_TELL, "no file of the configuration was looked at")
    at, path = max(times)
    return path, at


def _certificates(raw: Raw, config: NginxConfig | Missing) -> Mapping[str, str | Missing]:
    if isinstance(config, Missing):
        return {}
    return {path: _fingerprint(raw, f"lb.certificate.{n}") for n, path in enumerate(certificate_files(config))}


def _fingerprint(raw: Raw, key: str) -> str | Missing:
    answer = command(raw, key)
    if isinstance(answer, Missing):
        return answer
    found = _FINGERPRINT.search(answer.output)
    if found:
        return found[1].replace(":", "").lower()
    if "permission denied" in answer.error.lower():
        return Missing(Reason.PERMISSION, "the file is closed to the login user")
    return Missing(Reason.CANNOT_TELL, f"openssl x509: exit {answer.exit}")


def _renewals(raw: Raw, units: Mapping[str, Mapping[str, str]] | Missing) -> tuple[str, ...] | Missing:
    cron = raw.files("lb.cron")
    if isinstance(cron, Missing) and isinstance(units, Missing):
        return cron
    jobs = [path for path, content in ({} if isinstance(cron, Missing) else cron).items() if _RENEWER.search(content)]
    known: Iterable[tuple[str, Mapping[str, str]]] = () if isinstance(units, Missing) else units.items()
    timers = [name for name, found in known if name.endswith(".timer") and found.get("ActiveState") == "active"]
    return (*timers, *sorted(jobs))


def parse(raw: Raw) -> LbFacts:
    pids, units, config, processes = _pids(raw), _units(raw), _config(raw), _processes(raw)
    loaded, changed = _loaded_at(raw, processes), _changed(raw)
    certificates = _certificates(raw, config)
    if not isinstance(config, Missing) and not isinstance(processes, Missing):
        config = _elsewhere(processes, config) or config
    return LbFacts(
        programs=pids if isinstance(pids, Missing) else {name: len(found) for name, found in pids.items()},
        units=_installed(units),
        version=_version(raw),
        config=config,
        config_fault=_config_fault(raw),
        loaded_at=loaded,
        changed=changed,
        certificates=certificates,
        renewals=_renewals(raw, units),
    )


GROUP = Group("lb", LbFacts, ops, parse, more)
