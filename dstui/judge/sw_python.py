"""sw.python: the interpreter of Ray and vLLM is new enough for both, and the same to the patch level on every node."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

from dstui.facts.case import FleetCase, HostCase
from dstui.facts.raw import Missing
from dstui.facts.versions import VersionFacts
from dstui.judge.registry import FleetJudge
from dstui.judge.rulings import Causes, not_applicable, quoted, unknown
from dstui.judge.versions import at_least, bound, compare, dotted, version
from dstui.model import Reason, Ruling, Text, host_target

END_OF_LIFE: Mapping[tuple[int, int], tuple[int, int]] = {
    (3, 8): (2024, 10),
    (3, 9): (2025, 10),
    (3, 10): (2026, 10),
    (3, 11): (2027, 10),
    (3, 12): (2028, 10),
    (3, 13): (2029, 10),
    (3, 14): (2030, 10),
}
"""Last month of security fixes, by minor version (devguide.python.org/versions)."""

_SPECIFIER = re.compile(r"\s*(>=|<=|==|!=|~=|>|<)\s*(\d+(?:\.\d+)*)(\.\*)?\s*", re.ASCII)

Version = tuple[int, int, int]


def python(fleet: FleetCase) -> Sequence[Ruling]:
    hosts = [host for host in fleet.site.hosts if host.name in fleet.facts]
    running = {
        host.name: facts.python.version
        for host in hosts
        if host.in_ray
        and isinstance(facts := fleet.facts[host.name].get(VersionFacts), VersionFacts)
        and facts.python.how != "system"
        and isinstance(facts.python.version, tuple)
    }
    reference = _reference(running, [host.name for host in hosts if "head" in host.roles])
    return [_judge_host(fleet.case(host.name), running, reference) for host in hosts]


def _reference(running: Mapping[str, Version], heads: Sequence[str]) -> Version | None:
    """The version that nodes are measured by: the head's, else the commonest; None when there is no commonest."""
    for head in heads:
        if head in running:
            return running[head]
    counts = Counter(running.values()).most_common(2)
    if not counts or (len(counts) == 2 and counts[0][1] == counts[1][1]):
        return None
    return counts[0][0]


def _judge_host(case: HostCase, running: Mapping[str, Version], reference: Version | None) -> Ruling:
    target, least = host_target(case.host.name), case.params.text("python_min")
    expected = Text(
        f"at least {least}, the same x.y.z on every Ray node", f"不低于 {least}，且各 Ray 节点的 x.y.z 一致"
    )
    if not case.host.in_ray:
        return not_applicable(target, Text("this host has no head or worker role", "该主机不是 head 或 worker"))
    floor, facts = bound(case.params, "python_min"), case.facts.get(VersionFacts)
    if isinstance(floor, Missing):
        return unknown(target, floor, expected)
    if isinstance(facts, Missing):
        return unknown(target, facts, expected)
    found, path = facts.python.version, quoted(facts.python.path, 80)
    if isinstance(found, Missing):
        return unknown(target, found, expected, detail=path)
    causes = Causes(target, expected)
    if not at_least(found, floor):
        causes.fail(Text(f"Python {dotted(found)} is older than {least}", f"Python {dotted(found)} 低于 {least}"))
    requires = _judge_requires(causes, facts, found)
    if facts.python.how == "system":
        causes.warn(
            Text(
                "only the system's python3 could be checked: set runtime.python in the inventory",
                "只能检查系统自带的 python3：请在清单中设置 runtime.python",
            )
        )
    else:
        _judge_equal(causes, case.host.name, found, running, reference)
    _judge_end_of_life(causes, found, case.now)
    return causes.ruling(
        Text(f"Python {dotted(found)} ({path})", f"Python {dotted(found)}（{path}）"),
        Text("new enough, and the same on every Ray node", "版本满足要求，且各 Ray 节点一致"),
        material={"version": dotted(found), "path": facts.python.path, "vllm_requires": requires},
    )


def _judge_requires(causes: Causes, facts: VersionFacts, found: Version) -> str | None:
    """vLLM's own `Requires-Python`, where its package lies beside the interpreter."""
    if isinstance(facts.packages, Missing) and facts.packages.reason not in (Reason.CANNOT_TELL, Reason.NOT_RUN):
        causes.missing(facts.packages, Text("packages beside the interpreter", "解释器旁的软件包"))
        return None
    vllm = None if isinstance(facts.packages, Missing) else facts.packages.get("vllm")
    if vllm is None or not vllm.requires_python:
        return None
    written = quoted(vllm.requires_python, 60)
    allowed = satisfies(found, vllm.requires_python)
    if allowed is None:
        causes.unknown(
            Reason.PARSE_ERROR,
            Text(
                f"vLLM's Requires-Python is not understood: {written}", f"无法解析 vLLM 的 Requires-Python：{written}"
            ),
        )
    elif allowed:
        causes.note(
            Text(
                f"vLLM {quoted(vllm.version, 30)} requires {written}", f"vLLM {quoted(vllm.version, 30)} 要求 {written}"
            )
        )
    else:
        causes.fail(
            Text(
                f"vLLM {quoted(vllm.version, 30)} requires Python {written}",
                f"vLLM {quoted(vllm.version, 30)} 要求 Python {written}",
            )
        )
    return written


def satisfies(found: tuple[int, ...], specifiers: str) -> bool | None:
    """Whether a version meets `>=3.11,<3.15`; None when a clause is not understood."""
    for clause in specifiers.split(","):
        match = _SPECIFIER.fullmatch(clause)
        parts = version(match[2]) if match else None
        if match is None or parts is None:
            return None
        if not _meets(found, match[1], parts, any_patch=bool(match[3])):
            return False
    return True


def _meets(found: tuple[int, ...], operator: str, parts: tuple[int, ...], *, any_patch: bool) -> bool:
    if operator == "~=":
        return compare(found, parts) >= 0 and found[: len(parts) - 1] == parts[:-1]
    if any_patch:
        same = found[: len(parts)] == parts
        return not same if operator == "!=" else same
    order = compare(found, parts)
    return {">=": order >= 0, "<=": order <= 0, "==": order == 0, "!=": order != 0, ">": order > 0, "<": order < 0}[
        operator
    ]


def _judge_equal(
    causes: Causes, name: str, found: Version, running: Mapping[str, Version], reference: Version | None
) -> None:
    others = {host: seen for host, seen in running.items() if seen != found}
    if not others:
        return
    listed = ", ".join(f"{host} {dotted(seen)}" for host, seen in sorted(others.items())[:4])
    if found == reference:
        causes.note(Text(f"other Ray nodes differ: {listed}", f"其他 Ray 节点版本不同：{listed}"))
    else:
        causes.fail(
            Text(
                f"Python {dotted(found)} differs from other Ray nodes ({listed}): Ray refuses to join them",
                f"Python {dotted(found)} 与其他 Ray 节点（{listed}）不一致，Ray 会拒绝加入",
            )
        )


def _judge_end_of_life(causes: Causes, found: Version, now: float) -> None:
    last = END_OF_LIFE.get(found[:2])
    today = datetime.fromtimestamp(now, UTC)
    if found < (3, 8) or (last and (today.year, today.month) > last):
        minor = dotted(found[:2])
        causes.warn(Text(f"Python {minor} gets no more security fixes", f"Python {minor} 已不再提供安全更新"))


JUDGE = FleetJudge("sw.python", ("versions",), ("versions",), python)
