"""Limits of control groups: of the session itself, or of a service, with every ancestor's (the smallest one counts)."""

from __future__ import annotations

from collections.abc import Mapping

from dstui.facts.numbers import whole_or_none

UNLIMITED_V1_BYTES = 1 << 60
"""cgroup v1 writes "no limit" as a page-rounded LONG_MAX; nothing near this is a limit."""


def ancestors(cgroup: str, controller: str, file_v2: str, file_v1: str) -> tuple[str, ...]:
    """The limit files to read for a `/proc/<pid>/cgroup`, innermost first, v2 and v1 alike.

    Lines are `0::/user.slice/…` (v2) and `4:memory:/…` (v1). In a container the path may lie outside of what is
    mounted; files that are not there are left out of the answer, and the root of what is mounted is always asked for.
    """
    found: list[str] = []
    for line in cgroup.splitlines():
        parts = line.strip().split(":", 2)
        if len(parts) != 3 or not parts[2].startswith("/") or ".." in parts[2].split("/"):
            continue
        if parts[0] == "0" and not parts[1]:
            root, file = "/sys/fs/cgroup", file_v2
        elif controller in parts[1].split(","):
            root, file = f"/sys/fs/cgroup/{controller}", file_v1
        else:
            continue
        names = [name for name in parts[2].split("/") if name][:32]
        found.extend("/".join([root, *names[:depth], file]) for depth in range(len(names), -1, -1))
    return tuple(dict.fromkeys(found))


def byte_limit(files: Mapping[str, str]) -> int | None:
    """The smallest limit in bytes; None when every file says `max` (v2) or the huge number that v1 writes instead."""
    limits = (whole_or_none(content) for content in files.values())
    return min((limit for limit in limits if limit is not None and 0 <= limit < UNLIMITED_V1_BYTES), default=None)


def cpu_limit(files: Mapping[str, str]) -> float | None:
    """The smallest `cpu.max` (`QUOTA PERIOD` in µs, `max` for none) as a number of CPUs; v1 quota files as well."""
    limits: list[float] = []
    for path, content in files.items():
        words = content.split()
        if path.endswith("cpu.cfs_quota_us"):
            words = [*words, (files.get(path.replace("cfs_quota", "cfs_period")) or "100000").strip()]
        if len(words) != 2:
            continue
        quota, period = whole_or_none(words[0]), whole_or_none(words[1])
        if quota is not None and quota > 0 and period is not None and period > 0:
            limits.append(quota / period)
    return min(limits, default=None)
