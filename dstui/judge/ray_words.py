"""What the checks of Ray and Serve share: whether there is a Ray at all, addresses of hosts, ages in words."""

from __future__ import annotations

import ipaddress

from dstui.facts.addresses import AddressFacts
from dstui.facts.case import FleetCase, HostSite, Params
from dstui.facts.raw import Missing
from dstui.facts.ray_look import RayLook
from dstui.facts.serve_processes import Role, ServeProcesses
from dstui.judge.fleet import facts_of
from dstui.judge.rulings import quoted
from dstui.judge.versions import compare, version
from dstui.model import Text
from dstui.telemetry.ray import RayNode

WITHOUT_RAY = ("vllm",)
"""Ways to serve (`serving.mode`) in which there is no Ray."""


def without_ray(params: Params) -> Text | None:
    """Why there is no Ray to look at here; None when there should be one."""
    mode = params.text("serving_mode")
    if mode in WITHOUT_RAY:
        return Text(f"serving.mode is {mode}: there is no Ray cluster", f"serving.mode 为 {mode}：没有 Ray 集群")
    if mode == "docker" and params.optional_text("ray_dashboard_url") is None:
        return Text(
            "serving.mode is docker and the inventory names no ray.dashboard_url: there is no Ray cluster",
            "serving.mode 为 docker，且清单没有 ray.dashboard_url：没有 Ray 集群",
        )
    return None


def addresses_of(case: FleetCase, host: HostSite) -> frozenset[str]:
    """Every address that a host is known to have, loopback left out."""
    found = {ip for ip in (host.data_ip, host.mgmt_ip, host.address) if ip}
    facts = facts_of(case, host.name, AddressFacts)
    if not isinstance(facts, Missing) and not isinstance(facts.interfaces, Missing):
        found |= {address.ip for interface in facts.interfaces for address in interface.addresses}
    return frozenset(ip for ip in found if not loopback(ip))


def loopback(ip: str | None) -> bool:
    try:
        return ipaddress.ip_address(ip or "").is_loopback
    except ValueError:
        return ip == "localhost"


def processes_of(case: FleetCase, host: HostSite) -> ServeProcesses | Missing:
    return facts_of(case, host.name, ServeProcesses)


def raylet_runs(case: FleetCase, host: HostSite) -> bool | None:
    """Whether a raylet runs on the host, as its own /proc shows; None when that cannot be told."""
    found = processes_of(case, host)
    return None if isinstance(found, Missing) else found.runs(Role.RAYLET)


def older(found: str | None, floor: str) -> bool | None:
    """Whether a version is below another; None when it is not known."""
    parts, least = version(found or ""), version(floor)
    return None if parts is None or least is None else compare(parts, least) < 0


def at_head(look: RayLook) -> float:
    """The time at the head when it answered, by its own clock where it told."""
    return look.snapshot.head_time or look.snapshot.at


def age(seconds: float) -> Text:
    """`4 min`, `3 h`, `12 d`."""
    if seconds < 120:
        return Text(f"{seconds:.0f} s", f"{seconds:.0f} 秒")
    if seconds < 7200:
        return Text(f"{seconds / 60:.0f} min", f"{seconds / 60:.0f} 分钟")
    if seconds < 172_800:
        return Text(f"{seconds / 3600:.0f} h", f"{seconds / 3600:.0f} 小时")
    return Text(f"{seconds / 86_400:.0f} d", f"{seconds / 86_400:.0f} 天")


def node_words(node: RayNode) -> str:
    """A node for one line: its address and the beginning of its id."""
    return f"{quoted(node.ip or '?', 60)} ({quoted(node.node_id, 80)[:8]})"
