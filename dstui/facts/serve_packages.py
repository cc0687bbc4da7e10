"""Group `serve_packages`: every Python distribution beside the interpreter of Ray and vLLM, and since when.

Names and versions are those of the `.dist-info` folders, whose lstat also tells when they were installed; nothing is
read, nothing imported. `versions` reads the METADATA of the few whose requirements matter.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from dstui.facts.case import Group, HostSite, Site
from dstui.facts.raw import Missing, Op, Raw, listing
from dstui.facts.versions import package_places, running_interpreter
from dstui.model import Reason

_FOLDER = re.compile(r".*/([A-Za-z0-9_.]{1,100})-([^/-]{1,60})\.dist-info", re.ASCII)


@dataclass(frozen=True, slots=True)
class Distribution:
    """`installed_at` is seconds since the epoch by the host's clock."""

    version: str
    installed_at: float


@dataclass(frozen=True, slots=True)
class ServePackages:
    """By distribution name in lower case with `_` for `-` and `.`."""

    distributions: Mapping[str, Distribution] | Missing

    def version(self, name: str) -> str | Missing:
        """The version of a distribution; Missing(tool-missing) when it is not installed there."""
        if isinstance(self.distributions, Missing):
            return self.distributions
        found = self.distributions.get(normal_name(name))
        return found.version if found else Missing(Reason.TOOL_MISSING, f"{name} is not installed")


def normal_name(name: str) -> str:
    return re.sub(r"[-_.]+", "_", name).lower()


def ops(host: HostSite, site: Site) -> tuple[Op, ...]:
    return _listing(site.runtime_python) if site.runtime_python else ()


def more(host: HostSite, site: Site, raw: Raw) -> tuple[Op, ...]:
    """Without a configured interpreter: beside the one of a running raylet (`versions.exe`)."""
    running = None if site.runtime_python else running_interpreter(raw)
    return _listing(running) if running else ()


def _listing(interpreter: str) -> tuple[Op, ...]:
    return (listing("packages.list", *(f"{place}/*.dist-info" for place in package_places(interpreter))),)


def parse(raw: Raw) -> ServePackages:
    found = raw.stats("packages.list")
    if isinstance(found, Missing):
        if "packages.list" not in raw.answers:
            found = Missing(Reason.CANNOT_TELL, "no runtime.python in the inventory, and no raylet runs to tell where")
        return ServePackages(found)
    if not found:
        return ServePackages(Missing(Reason.CANNOT_TELL, "no package was found beside the interpreter"))
    distributions: dict[str, Distribution] = {}
    for path, stat in sorted(found.items(), key=lambda item: item[1].mtime):
        if match := _FOLDER.fullmatch(path):
            distributions[normal_name(match[1])] = Distribution(match[2], stat.mtime)
    return ServePackages(distributions)


GROUP = Group("serve_packages", ServePackages, ops, parse, more)
