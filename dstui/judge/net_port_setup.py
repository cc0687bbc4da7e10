"""The part of net.ports that concerns the cluster as a whole: coverage, Ray's other ports, ephemeral ports."""

from __future__ import annotations

import re
from collections.abc import Sequence

from dstui.facts.case import FleetCase, HostSite
from dstui.facts.choreography import PortMatrix
from dstui.facts.listeners import ListenerFacts
from dstui.facts.raw import Missing
from dstui.judge.fleet import cluster_target, facts_of, listed
from dstui.judge.rulings import Causes
from dstui.model import Reason, Ruling, Text, same

PINNED = ("node_manager", "object_manager", "runtime_env_agent", "dashboard_agent_grpc", "metrics_export")
"""Ray's ports that are random unless pinned (document catalogue, D2), by their names in the inventory's ray.ports."""

_RANGE = re.compile(r"\s*(\d{1,5})\s*-\s*(\d{1,5})\s*", re.ASCII)
_EXPECTED = Text(
    "all pairs tried, Ray's ports pinned, ephemeral range apart", "测试全部节点对，Ray 端口固定，临时端口不重叠"
)
_PASSED = Text("coverage is complete and no range overlaps", "覆盖完整，端口范围不重叠")


def port_range(text: str) -> tuple[int, int] | None:
    """`10001-19999` as its ends; None when it is no range."""
    found = _RANGE.fullmatch(text)
    if found is None:
        return None
    low, high = int(found[1]), int(found[2])
    return (low, high) if low <= high <= 65_535 else None


def weigh_setup(case: FleetCase, matrix: PortMatrix, nodes: Sequence[HostSite]) -> Ruling:
    causes = Causes(cluster_target(case.site), _EXPECTED)
    span = port_range(case.params.text("port_range"))
    wanted = len(nodes) * (len(nodes) - 1)
    pairs = len({(t.source, t.destination) for t in matrix.tries})
    if span is None:
        causes.unknown(Reason.PARSE_ERROR, Text("port_range is not a range of ports", "port_range 不是端口范围"))
    else:
        _weigh_pins(case, span, causes)
        _weigh_ephemeral(case, span, nodes, causes)
    if not matrix.all_pairs:
        causes.warn(
            Text(f"not all pairs: {pairs} of {wanted} were tried", f"并非全部节点对：{wanted} 对中测试了 {pairs} 对")
        )
    asked = case.params.count("range_samples")
    if len(matrix.samples) < asked:
        causes.warn(
            Text(
                f"only {len(matrix.samples)} of {asked} sample ports were tried",
                f"{asked} 个抽样端口中只测试了 {len(matrix.samples)} 个",
            )
        )
    causes.note(same("samples: " + ", ".join(map(str, matrix.samples)) + f"; seed {matrix.seed}"))
    every = matrix.range_high - matrix.range_low + 1
    return causes.ruling(
        Text(
            f"{len(matrix.samples)} of {every} ports sampled, {pairs} of {wanted} pairs",
            f"抽样 {every} 个端口中的 {len(matrix.samples)} 个，{wanted} 对中的 {pairs} 对",
        ),
        _PASSED,
        material={
            "samples": list(matrix.samples),
            "seed": matrix.seed,
            "pairs": pairs,
            "pins": dict(case.site.ray_ports),
        },
        evidence=("listeners.range", "listeners.reserved"),
    )


def _weigh_pins(case: FleetCase, span: tuple[int, int], causes: Causes) -> None:
    pins = case.site.ray_ports
    opened = set(case.params.counts("ports_extra"))
    loose = [name for name in PINNED if name not in pins]
    outside = [
        f"{name} {pins[name]}"
        for name in PINNED
        if name in pins and not span[0] <= pins[name] <= span[1] and pins[name] not in opened
    ]
    if loose:
        causes.warn(
            Text(f"Ray ports not pinned, so random: {listed(loose)}", f"Ray 端口未固定，将随机分配：{listed(loose)}")
        )
    if outside:
        causes.warn(
            Text(
                f"Ray ports pinned outside {span[0]}-{span[1]}: {listed(outside)}",
                f"Ray 端口固定在 {span[0]}-{span[1]} 之外：{listed(outside)}",
            )
        )


def _weigh_ephemeral(case: FleetCase, span: tuple[int, int], nodes: Sequence[HostSite], causes: Causes) -> None:
    overlapping: list[str] = []
    for host in nodes:
        facts = facts_of(case, host.name, ListenerFacts)
        ephemeral = facts if isinstance(facts, Missing) else facts.ephemeral
        if isinstance(ephemeral, Missing):
            # An unreachable host already makes its pairs UNKNOWN.
            if ephemeral.reason is not Reason.UNREACHABLE:
                causes.missing(ephemeral, Text(f"{host.name} ephemeral ports", f"{host.name} 临时端口范围"))
            continue
        assert isinstance(facts, ListenerFacts)
        low, high = max(span[0], ephemeral[0]), min(span[1], ephemeral[1])
        reserved = () if isinstance(facts.reserved, Missing) else facts.reserved
        if low <= high and not _covered(low, high, reserved):
            overlapping.append(f"{host.name} {ephemeral[0]}-{ephemeral[1]}")
    if overlapping:
        causes.warn(
            Text(
                f"ephemeral ports overlap {span[0]}-{span[1]}: {listed(overlapping)}",
                f"临时端口与 {span[0]}-{span[1]} 重叠：{listed(overlapping)}",
            )
        )


def _covered(low: int, high: int, reserved: Sequence[tuple[int, int]]) -> bool:
    """Whether every port from `low` to `high` is reserved, so that the kernel does not hand it out."""
    at = low
    for first, last in sorted(reserved):
        if first <= at <= last:
            at = last + 1
    return at > high
