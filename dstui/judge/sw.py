"""Software: the operating system here, driver, CUDA, Python, containers in their own modules; all `sw.*` judges."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime

from dstui.facts.case import HostCase
from dstui.facts.numbers import garbled
from dstui.facts.os import OsFacts
from dstui.facts.raw import Missing
from dstui.judge import sw_cuda, sw_docker, sw_driver, sw_python
from dstui.judge.registry import HostJudge, Judge
from dstui.judge.rulings import Causes, quoted, unknown
from dstui.judge.versions import at_least, bound, compare, version
from dstui.model import Ruling, Text, host_target

_YEAR_MONTH = re.compile(r"(\d{4})-(\d{1,2})", re.ASCII)


def os_version(case: HostCase) -> Ruling:
    target, params = host_target(case.host.name), case.params
    wanted, floor = params.text("os_id"), bound(params, "os_version_min")
    expected = Text(
        f"{wanted} {params.text('os_version_min')} or newer", f"{wanted} {params.text('os_version_min')} 或更高版本"
    )
    facts = case.facts.get(OsFacts)
    for needed in (floor, facts):
        if isinstance(needed, Missing):
            return unknown(target, needed, expected)
    assert isinstance(facts, OsFacts) and isinstance(floor, tuple)
    if isinstance(facts.id, Missing):
        return unknown(target, facts.id, expected)
    causes = Causes(target, expected)
    alternatives = {str(name): str(least) for name, least in params.table("os_alternatives").items()}
    if facts.id == wanted:
        _judge_release(causes, facts, floor, params.table("eol_table"), case.now)
    elif facts.id in alternatives:
        _judge_alternative(causes, facts, facts.id, alternatives[facts.id])
    else:
        causes.fail(Text(f"{quoted(facts.id, 30)} is not {wanted}", f"发行版是 {quoted(facts.id, 30)}，不是 {wanted}"))
    if facts.container:
        causes.note(
            Text(
                f"read inside a container ({facts.container}): this is the image's system, not the host's",
                f"读取于容器内（{facts.container}）：这是镜像的系统，不是宿主机的",
            )
        )
    if facts.reboot_required is True:
        causes.note(Text("a reboot is pending (/var/run/reboot-required)", "系统等待重启（/var/run/reboot-required）"))
    kernel = facts.kernel if isinstance(facts.kernel, str) else "?"
    name = quoted(facts.pretty_name, 60) or f"{facts.id} {facts.version_id}"
    return causes.ruling(
        Text(f"{name}, kernel {quoted(kernel, 40)}", f"{name}，内核 {quoted(kernel, 40)}"),
        Text(f"the distribution is {wanted} and new enough", f"发行版为 {wanted} 且版本满足要求"),
        material={"id": facts.id, "version_id": None if isinstance(facts.version_id, Missing) else facts.version_id},
    )


def _judge_release(
    causes: Causes, facts: OsFacts, floor: tuple[int, ...], eol_table: Mapping[str, object], now: float
) -> None:
    if isinstance(facts.version_id, Missing):
        causes.missing(facts.version_id, Text("version", "版本"))
        return
    found, shown = version(facts.version_id), quoted(facts.version_id, 20)
    if found is None:
        causes.missing(garbled("VERSION_ID", facts.version_id), Text("version", "版本"))
        return
    if not at_least(found, floor):
        causes.fail(Text(f"release {shown} is too old", f"版本 {shown} 过低"))
        return
    if _interim(found):
        causes.warn(Text(f"{shown} is an interim release, not an LTS", f"{shown} 是过渡版本，不是 LTS"))
    for release, until in eol_table.items():
        if (listed := version(str(release))) and compare(listed, found[:2]) == 0 and _past(str(until), now):
            causes.warn(Text(f"standard support of {shown} ended in {until}", f"{shown} 的标准支持已于 {until} 结束"))


def _interim(found: tuple[int, ...]) -> bool:
    """Ubuntu's LTS releases are those of April in even years."""
    major, minor = (*found, 0, 0)[:2]
    return major % 2 != 0 or minor != 4


def _past(month: str, now: float) -> bool:
    """Whether the month `YYYY-MM` is over at `now` (seconds since the epoch, UTC); what is no month is never past."""
    match, today = _YEAR_MONTH.match(month), datetime.fromtimestamp(now, UTC)
    return match is not None and (today.year, today.month) > (int(match[1]), int(match[2]))


def _judge_alternative(causes: Causes, facts: OsFacts, name: str, least: str) -> None:
    found = None if isinstance(facts.version_id, Missing) else version(facts.version_id)
    floor = version(least)
    if found is None or floor is None:
        why = (
            facts.version_id
            if isinstance(facts.version_id, Missing)
            else garbled("VERSION_ID or minimum", f"{facts.version_id} / {least}")
        )
        causes.missing(why, Text("version", "版本"))
    elif at_least(found, floor):
        causes.warn(
            Text(f"{name} is a listed alternative, not the documented system", f"{name} 是清单允许的替代发行版")
        )
    else:
        causes.fail(Text(f"{name} {facts.version_id} is older than {least}", f"{name} {facts.version_id} 低于 {least}"))


JUDGES: tuple[Judge, ...] = (
    HostJudge("sw.os-version", ("os",), ("os.etc-release", "os.usr-release", "os.self", "os.marks"), os_version),
    sw_driver.JUDGE,
    sw_cuda.JUDGE,
    sw_python.JUDGE,
    sw_docker.DOCKER,
    sw_docker.TOOLKIT,
)
