"""The operating system: distribution, kernel, firmware's idea of the machine, container or not, reboot owed."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass

from dstui.facts.case import Group, HostSite, Site
from dstui.facts.numbers import garbled
from dstui.facts.raw import Missing, Op, Raw, glob, listing, own_process, read
from dstui.model import Reason

_DMI = ("sys_vendor", "product_name", "board_vendor", "bios_vendor", "chassis_asset_tag")


@dataclass(frozen=True, slots=True)
class OsFacts:
    """`id` and `version_id` as in os-release; `container` names the mark that was found when this is a container."""

    id: str | Missing
    version_id: str | Missing
    id_like: tuple[str, ...]
    version: str
    pretty_name: str
    kernel: str | Missing
    machine: str | Missing
    uptime_seconds: float | Missing
    dmi: Mapping[str, str] | Missing
    """`sys_vendor`, `product_name`, `board_vendor`, `bios_vendor`, `chassis_asset_tag`; only readable ones."""
    container: str | None
    reboot_required: bool | Missing


def ops(host: HostSite, site: Site) -> tuple[Op, ...]:
    return (
        read("os.etc-release", "/etc/os-release"),
        read("os.usr-release", "/usr/lib/os-release"),
        own_process("os.self"),
        read("os.uptime", "/proc/uptime", limit=256),
        glob("os.dmi", *(f"/sys/class/dmi/id/{name}" for name in _DMI), each=256),
        listing("os.marks", "/.dockerenv", "/run/.containerenv", "/run/systemd/container", "/var/run/reboot-required"),
    )


def parse_os_release(text: str) -> dict[str, str]:
    """`KEY=VALUE` lines with shell quoting; lines that are not are skipped."""
    found: dict[str, str] = {}
    for line in text.splitlines():
        key, equals, value = line.strip().partition("=")
        if not equals or not key.isidentifier():
            continue
        try:
            found[key] = " ".join(shlex.split(value))
        except ValueError:
            continue
    return found


def _named(release: Mapping[str, str] | Missing, key: str) -> str | Missing:
    if isinstance(release, Missing):
        return release
    return release.get(key) or Missing(Reason.PARSE_ERROR, f"os-release has no {key}")


def _own(raw: Raw, field: str) -> str | Missing:
    value = raw.value("os.self")
    if isinstance(value, Missing):
        return value
    found = value.get(field) if isinstance(value, dict) else None
    return (
        found if isinstance(found, str) and found else Missing(Reason.PARSE_ERROR, f"the session does not say {field}")
    )


def _uptime(raw: Raw) -> float | Missing:
    text = raw.text("os.uptime")
    if isinstance(text, Missing):
        return text
    try:
        return float(text.split()[0])
    except (ValueError, IndexError):
        return garbled("/proc/uptime", text)


def parse(raw: Raw) -> OsFacts:
    text = raw.first("os.etc-release", "os.usr-release")
    release = text if isinstance(text, Missing) else parse_os_release(text)
    shown: Mapping[str, str] = {} if isinstance(release, Missing) else release
    dmi = raw.files("os.dmi")
    marks = raw.stats("os.marks")
    return OsFacts(
        id=_named(release, "ID"),
        version_id=_named(release, "VERSION_ID"),
        id_like=tuple(shown.get("ID_LIKE", "").split()),
        version=shown.get("VERSION", ""),
        pretty_name=shown.get("PRETTY_NAME", ""),
        kernel=_own(raw, "kernel"),
        machine=_own(raw, "machine"),
        uptime_seconds=_uptime(raw),
        dmi=dmi
        if isinstance(dmi, Missing)
        else {path.rsplit("/", 1)[-1]: value.strip() for path, value in dmi.items()},
        container=None
        if isinstance(marks, Missing)
        else next((path for path in sorted(marks) if "reboot-required" not in path), None),
        reboot_required=marks if isinstance(marks, Missing) else any("reboot-required" in path for path in marks),
    )


GROUP = Group("os", OsFacts, ops, parse)
