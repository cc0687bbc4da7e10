"""What perf.gpu-util, perf.memory and perf.network ride on: the highest level that passes, as the cluster lived it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from dstui.facts.case import FleetCase, HostSite, Site
from dstui.judge.perf_levels import Level, highest, weighed
from dstui.judge.perf_words import Taken, enough, level, taken
from dstui.judge.rulings import Causes, quoted
from dstui.load.result import LadderResult, StageResult
from dstui.load.window import HostWindow
from dstui.model import Reason, Ruling, Text, Verdict


@dataclass(frozen=True, slots=True)
class Ride:
    """`stage` is the level's result, None when none can be ridden on; `saturating`: more users are not served."""

    result: LadderResult
    levels: Sequence[Level]
    stage: StageResult | None
    saturating: bool
    causes: Causes

    @property
    def name(self) -> Text:
        return Text("no level", "无级别") if self.stage is None else level(self.stage.stage.users)


def ride(case: FleetCase, check: str, expected: Text) -> Ride | Ruling:
    """The highest passing level of the newest ladder; UNKNOWN is among the causes when there is none."""
    found = taken(case, check, expected)
    if isinstance(found, Ruling):
        return found
    levels = weighed(found.seen, found.result, found.causes)
    top = highest(levels)
    if top is None or top.stage is None:
        _nothing(found, Text("no level of perf.concurrent-users passed", "perf.concurrent-users 没有通过的级别"))
        return Ride(found.result, levels, None, saturating=False, causes=found.causes)
    if top.users < 2:
        _nothing(found, Text("only the level of one user passed, which is no load", "只有单用户级别通过，不算负载"))
        return Ride(found.result, levels, None, saturating=False, causes=found.causes)
    above = [each for each in levels if each.users > top.users]
    saturating = not above or any(each.causes.verdict is Verdict.FAIL for each in above)
    return Ride(found.result, levels, top.stage, saturating, found.causes)


def _nothing(found: Taken, text: Text) -> None:
    found.causes.unknown(Reason.CANNOT_TELL, text)


def hosts(
    site: Site, stage: StageResult, causes: Causes, *, also: Sequence[str] = ()
) -> Iterator[tuple[HostSite, HostWindow]]:
    """The Ray nodes, and `also`, that were seen in a window; the others are UNKNOWN. Nobody at all is, too."""
    wanted = [host for host in site.hosts if host.in_ray]
    if not wanted:
        causes.unknown(Reason.NO_TARGETS, Text("the inventory has no node of Ray", "清单中没有 Ray 节点"))
    for host in (*wanted, *(each for each in site.hosts if each.name in also and not each.in_ray)):
        seen = stage.window.hosts.get(host.name)
        if seen is None:
            why = quoted(stage.window.why, 100)
            causes.unknown(
                Reason.CANNOT_TELL,
                Text(f"{host.name} was not watched in the window: {why}", f"窗口内没有观测 {host.name}：{why}"),
            )
        elif not enough(seen.samples, seen.expected):
            why = quoted(seen.why, 100)
            causes.unknown(
                Reason.CANNOT_TELL,
                Text(
                    f"{host.name}: {seen.samples} of {seen.expected} samples came {why}".rstrip(),
                    f"{host.name}：只有 {seen.samples}/{seen.expected} 个样本 {why}".rstrip(),
                ),
            )
        else:
            yield host, seen
