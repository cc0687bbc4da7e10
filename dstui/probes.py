"""Every fact group and every judge that this dstui has, by name. The one place that knows them all."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from functools import cache

from dstui.facts.case import Group
from dstui.judge.registry import Judge

FACT_GROUPS = (
    "addresses", "agents", "clock", "cloud", "cpu", "disk", "dns", "firewall", "gpu", "lb", "links", "listeners", "mem",
    "os", "outbound", "ping", "serve_packages", "serve_processes", "service", "sshd", "storage", "sw", "versions",
)  # fmt: skip
"""Modules of `dstui.facts` that hold a `GROUP`."""


@cache
def groups() -> Mapping[str, Group]:
    """Fact groups by name."""
    found: dict[str, Group] = {}
    for name in FACT_GROUPS:
        group = importlib.import_module(f"dstui.facts.{name}").GROUP
        assert isinstance(group, Group)
        found[group.name] = group
    return found


@cache
def judges() -> Mapping[str, Judge]:
    """Judges by check id."""
    from dstui.judge import api, func, hard, hw, lb, model, net, perf, ray, stor, sw, vllm

    return {
        judge.check_id: judge
        for module in (hw, sw, net, stor, hard, model, ray, vllm, api, lb, func, perf)
        for judge in module.JUDGES
    }
