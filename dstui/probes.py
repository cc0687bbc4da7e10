"""Every fact group and every judge that this dstui has, by name. The one place that knows them all."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache

from dstui.facts.case import Group
from dstui.judge.registry import Judge


@cache
def groups() -> Mapping[str, Group]:
    """Fact groups by name."""
    from dstui.facts import (
        addresses,
        agents,
        clock,
        cloud,
        cpu,
        disk,
        dns,
        firewall,
        gpu,
        links,
        listeners,
        mem,
        os,
        outbound,
        ping,
        sshd,
        storage,
        sw,
        versions,
    )

    modules = (
        addresses,
        agents,
        clock,
        cloud,
        cpu,
        disk,
        dns,
        firewall,
        gpu,
        links,
        listeners,
        mem,
        os,
        outbound,
        ping,
        sshd,
        storage,
        sw,
        versions,
    )
    return {module.GROUP.name: module.GROUP for module in modules}


@cache
def judges() -> Mapping[str, Judge]:
    """Judges by check id."""
    from dstui.judge import hard, hw, net, stor, sw

    return {judge.check_id: judge for module in (hw, sw, net, stor, hard) for judge in module.JUDGES}
