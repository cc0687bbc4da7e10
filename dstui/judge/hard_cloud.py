"""hard.security-group: what the outside view suggests about the cloud's rules. A person decides; this proposes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from dstui.facts.case import FleetCase
from dstui.facts.cloud import CloudFacts, Machine
from dstui.facts.raw import Missing
from dstui.judge.hard_reach import OutsideView, by_danger, outside_view, port_list
from dstui.judge.registry import FleetJudge
from dstui.judge.rulings import Causes, not_applicable, quoted, why_missing
from dstui.model import Reason, Ruling, Target, TargetKind, Text

_EXPECTED = Text(
    "nothing but 443 (80) open to the world, no sensitive port reachable from outside",
    "仅 443（80）对公网开放，外部无法访问敏感端口",
)
_PUBLIC = frozenset({22, 80, 443})
"""Not sensitive by themselves; 22 answers every vantage that dstui itself comes from."""


@dataclass(frozen=True, slots=True)
class _Fleet:
    """Hosts by what their firmware says; `untold` are those that could not be asked, with the reason."""

    clouds: Mapping[str, str]
    elsewhere: tuple[str, ...]
    unrecognised: tuple[str, ...]
    untold: Mapping[str, Missing]

    @property
    def providers(self) -> tuple[str, ...]:
        return tuple(sorted(set(self.clouds.values())))


def _fleet(case: FleetCase) -> _Fleet:
    clouds: dict[str, str] = {}
    elsewhere, unrecognised, untold = list[str](), list[str](), dict[str, Missing]()
    for name, host in case.facts.items():
        facts = host.get(CloudFacts)
        machine = facts if isinstance(facts, Missing) else facts.machine
        if isinstance(facts, Missing) or isinstance(machine, Missing):
            untold[name] = machine if isinstance(machine, Missing) else Missing(Reason.NOT_RUN, "")
        elif machine is Machine.CLOUD:
            clouds[name] = facts.provider or "?"
        elif machine is Machine.UNRECOGNISED:
            unrecognised.append(name)
        else:
            elsewhere.append(name)
    return _Fleet(clouds, tuple(elsewhere), tuple(unrecognised), untold)


def judge_security_group(case: FleetCase) -> Sequence[Ruling]:
    target = Target(TargetKind.ORGANISATION, case.site.name)
    causes = Causes(target, _EXPECTED)
    declared = case.params.text("cloud_provider")
    fleet = _fleet(case)
    if declared == "none" and fleet.elsewhere and not (fleet.clouds or fleet.unrecognised or fleet.untold):
        return [_no_cloud(target, fleet)]
    if case.params.flag("cloud_cli"):
        causes.note(
            Text(
                "cloud.cli is on, but this dstui asks no provider's CLI: attach an export of the rules when signing",
                "cloud.cli 已开启，但当前 dstui 不调用云厂商 CLI：签署时请附上规则导出",
            )
        )
    if declared in ("none", "auto") and not fleet.clouds:
        _judge_no_cloud_seen(causes, declared, fleet)
        views: dict[str, OutsideView] = {}
    else:
        views = _judge_reach(case, causes)
    if declared == "none" and fleet.clouds:
        names = ", ".join(f"{name} ({provider})" for name, provider in sorted(fleet.clouds.items()))
        causes.unknown(
            Reason.CANNOT_TELL,
            Text(
                f"cloud.provider is none, but these are cloud instances: {names}",
                f"cloud.provider 为 none，但以下主机是云实例：{names}",
            ),
        )
    return [
        causes.ruling(
            _observed(declared, fleet, views),
            Text("rules gathered and nothing sensitive open", "已取得规则且无敏感端口开放"),
            material={
                "provider": declared,
                "machines": {**fleet.clouds, **dict.fromkeys(fleet.elsewhere, "own")},
                # Refused and timeout stay apart: what is refused got through the group.
                "reach": {
                    name: {str(port): outcome for port, outcome in sorted(view.outcomes.items())}
                    for name, view in sorted(views.items())
                },
            },
            evidence=("cloud",),
        )
    ]


def _no_cloud(target: Target, fleet: _Fleet) -> Ruling:
    count = len(fleet.elsewhere)
    return not_applicable(
        target,
        Text(
            f"cloud.provider is none, and the firmware of all {count} hosts says own hardware or hypervisor",
            f"cloud.provider 为 none，且全部 {count} 台主机的固件显示为自有硬件或虚拟化平台",
        ),
    )


def _judge_no_cloud_seen(causes: Causes, declared: str, fleet: _Fleet) -> None:
    """No cloud was recognised: not applicable only where the inventory and every host's firmware agree."""
    if not (fleet.elsewhere or fleet.unrecognised or fleet.untold):
        causes.unknown(Reason.NO_TARGETS, Text("no host was looked at", "没有查看任何主机"))
    for name, missing in sorted(fleet.untold.items()):
        causes.missing(missing, Text(f"firmware of {name}", f"{name} 的固件信息"))
    if fleet.unrecognised:
        names = quoted(", ".join(fleet.unrecognised))
        causes.unknown(
            Reason.CANNOT_TELL,
            Text(f"whose machines these are is not recognised: {names}", f"无法识别以下主机的归属：{names}"),
        )
    if declared == "auto" and fleet.elsewhere:
        causes.unknown(
            Reason.CANNOT_TELL,
            Text(
                "no cloud recognised; set cloud.provider to none to say that there is none",
                "未识别到云环境；请将 cloud.provider 设为 none 加以确认",
            ),
        )


def _judge_reach(case: FleetCase, causes: Causes) -> dict[str, OutsideView]:
    views: dict[str, OutsideView] = {}
    unseen: dict[str, Missing] = {}
    for name in case.facts:
        view = outside_view(case, name)
        if isinstance(view, Missing):
            unseen[name] = view
        else:
            views[name] = view
    for name, view in sorted(views.items()):
        ports = view.reachable(port for port in view.outcomes if port not in _PUBLIC)
        if ports:
            causes.fail(
                Text(
                    f"{name}: open from outside ({view.vantage}): {port_list(ports)}",
                    f"{name}：外部（{view.vantage}）可访问：{port_list(ports)}",
                )
            )
        untold = view.untold(port for port in view.outcomes if port not in _PUBLIC)
        if untold:
            ports_text = port_list(untold)
            causes.unknown(
                Reason.CANNOT_TELL,
                Text(f"{name}: could not be tried from outside: {ports_text}", f"{name}：无法从外部尝试：{ports_text}"),
            )
        if not view.outcomes:
            unseen[name] = Missing(Reason.NOT_RUN, f"the vantage {view.vantage} tried no port")
    for name, missing in sorted(unseen.items()):
        why = why_missing(missing)
        causes.unknown(
            missing.reason,
            Text(
                f"{name}: nothing gathered on its rules, and no view from outside ({why.en})",
                f"{name}：未取得其规则，也没有外部视角（{why.zh}）",
            ),
        )
    seen = {name: view for name, view in views.items() if name not in unseen}
    if not (seen or unseen):
        causes.unknown(Reason.NO_TARGETS, Text("no host was looked at", "没有查看任何主机"))
    if seen:
        causes.warn(
            Text(
                "the rules themselves were not gathered, only what can be reached",
                "未取得规则本身，仅有可达性结果",
            )
        )
    return seen


def _observed(declared: str, fleet: _Fleet, views: Mapping[str, OutsideView]) -> Text:
    providers = ", ".join(fleet.providers)
    cloud = providers or (declared if declared not in ("auto", "none") else "")
    opened = by_danger(
        port
        for view in views.values()
        for port in view.reachable(port for port in view.outcomes if port not in _PUBLIC)
    )
    ports = port_list(opened)
    reach = Text(f"open from outside: {ports or 'none'}", f"外部可达：{ports or '无'}") if views else None
    return Text(
        f"provider {cloud or 'none seen'}" + (f"; {reach.en}" if reach else "; no outside view"),
        f"云厂商：{cloud or '未发现'}" + (f"；{reach.zh}" if reach else "；缺少外部视角"),
    )


JUDGES = (FleetJudge("hard.security-group", ("cloud",), ("cloud",), judge_security_group, ("vantage",)),)
