"""net.outbound: does each host reach at least one source for every kind of thing it has to pull."""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import urlsplit

from dstui.facts.case import HostCase
from dstui.facts.outbound import Fetch, OutboundFacts
from dstui.facts.raw import Missing
from dstui.judge.registry import HostJudge
from dstui.judge.rulings import Causes, not_applicable, quoted, unknown
from dstui.model import Reason, Ruling, Text, host_target, same

SLOW_DNS_MS = 1000.0
"""A name lookup that takes longer is a WARN (document catalogue, net.outbound)."""

_EXPECTED = Text("at least one reachable URL in every group", "每组至少有一个可访问的 URL")
_PASSED = Text("every group has a reachable URL", "每组都有可访问的 URL")
_FORBIDDEN = 403


def judge(case: HostCase) -> Ruling:
    target = host_target(case.host.name)
    if case.params.flag("offline") and not case.params.table("internal_mirrors"):
        return not_applicable(
            target,
            Text(
                "network.offline is true and there are no internal mirrors",
                "network.offline 为 true，且未配置内部镜像",
            ),
        )
    if not case.site.outbound:
        return unknown(target, Missing(Reason.NO_TARGETS, "no URL is configured"), _EXPECTED)
    facts = case.facts.get(OutboundFacts)
    if isinstance(facts, Missing):
        return unknown(target, facts, _EXPECTED)
    causes = Causes(target, _EXPECTED)
    for group, urls in case.site.outbound.items():
        _weigh_group(facts, group, urls, causes)
    for group in () if case.site.offline else _wanted(case):
        if group not in case.site.outbound:
            causes.unknown(
                Reason.NOT_RUN,
                Text(
                    f"{group}: outbound_groups of this host only is not asked; set it for the whole cluster",
                    f"{group}：仅为本机设置的 outbound_groups 不会被测试，请为整个集群设置",
                ),
            )
    groups = [(group, _best(facts.via.get(group))) for group in case.site.outbound]
    return causes.ruling(
        same("; ".join(f"{group}: {_shown(fetch)}" for group, fetch in groups)),
        _PASSED,
        material={group: _material(facts.via.get(group)) for group in case.site.outbound},
    )


def _wanted(case: HostCase) -> tuple[str, ...]:
    """The groups that this host's parameters name."""
    named = next((t.value for t in case.params.thresholds if t.param == "outbound_groups"), None)
    return tuple(named) if isinstance(named, Mapping) else ()


def _weigh_group(facts: OutboundFacts, group: str, urls: tuple[str, ...], causes: Causes) -> None:
    via = facts.via.get(group, Missing(Reason.NOT_RUN, f"group {group} was not asked"))
    if isinstance(via, Missing):
        causes.missing(via, same(group))
        return
    _weigh_names(group, via, causes)
    reached = [fetch for fetch in via.values() if fetch.reached]
    direct = facts.direct.get(group)
    directly = [] if direct is None or isinstance(direct, Missing) else [f for f in direct.values() if f.reached]
    if reached:
        _weigh_way(group, reached, direct, directly, causes)
    elif any(fetch.reached_unverified for fetch in via.values()):
        causes.warn(
            Text(
                f"{group}: reachable only with certificate checks off (a proxy that opens TLS?)",
                f"{group}：仅在关闭证书校验时可访问（可能有解密 TLS 的代理）",
            )
        )
    elif directly:
        causes.warn(
            Text(
                f"{group}: the configured proxy fails ({_first_error(via)}), without it {_host(directly[0])} answers",
                f"{group}：配置的代理不可用（{_first_error(via)}），直连 {_host(directly[0])} 可访问",
            )
        )
    elif unanswered := [url for url in urls if url not in via]:
        causes.unknown(
            Reason.BUDGET,
            Text(
                f"{group}: {len(unanswered)} URLs were not tried in time", f"{group}：{len(unanswered)} 个 URL 未及测试"
            ),
        )
    else:
        causes.fail(
            Text(
                f"{group}: none of {len(via)} URLs is reachable ({_first_error(via)})",
                f"{group}：{len(via)} 个 URL 均无法访问（{_first_error(via)}）",
            )
        )


def _weigh_way(
    group: str,
    reached: list[Fetch],
    direct: Mapping[str, Fetch] | Missing | None,
    directly: list[Fetch],
    causes: Causes,
) -> None:
    if direct is not None and not isinstance(direct, Missing) and not directly:
        causes.warn(
            Text(
                f"{group}: reachable only through the proxy; systemd services and sudo often run without it",
                f"{group}：只能通过代理访问；systemd 服务与 sudo 通常不带代理变量",
            )
        )
    if all(f.via_proxy and f.status == _FORBIDDEN and f.url.startswith("http:") for f in reached):
        causes.warn(
            Text(
                f"{group}: the proxy answered 403, which may be its own refusal",
                f"{group}：代理返回 403，可能是代理自身拒绝",
            )
        )


def _weigh_names(group: str, via: Mapping[str, Fetch], causes: Causes) -> None:
    slow = max((f.dns_ms for f in via.values() if f.reached and f.dns_ms is not None), default=0.0)
    if slow > SLOW_DNS_MS:
        causes.warn(
            Text(
                f"{group}: a name lookup took {slow / 1000:.1f} s (more than {SLOW_DNS_MS / 1000:g} s)",
                f"{group}：域名解析耗时 {slow / 1000:.1f} 秒（超过 {SLOW_DNS_MS / 1000:g} 秒）",
            )
        )


def _host(fetch: Fetch) -> str:
    try:
        return quoted(urlsplit(fetch.url).hostname or fetch.url, 80)
    except ValueError:
        return quoted(fetch.url, 80)


def _first_error(via: Mapping[str, Fetch]) -> str:
    for fetch in via.values():
        said = quoted(fetch.error, 60) or fetch.kind or ""
        return f"{_host(fetch)}: " + (f"HTTP {fetch.status}" if fetch.status is not None else quoted(said, 80) or "?")
    return "-"


def _best(via: Mapping[str, Fetch] | Missing | None) -> Fetch | Missing | None:
    if via is None or isinstance(via, Missing):
        return via
    return next((f for f in via.values() if f.reached), next(iter(via.values()), None))


def _shown(fetch: Fetch | Missing | None) -> str:
    if fetch is None:
        return "?"
    if isinstance(fetch, Missing):
        return str(fetch.reason)
    how = " via proxy" if fetch.via_proxy else ""
    if fetch.status is None:
        return f"{_host(fetch)} {quoted(fetch.kind or '?', 20)}{how}"
    took = f", {fetch.ms:.0f} ms" if fetch.ms is not None else ""
    return f"{_host(fetch)} {fetch.status}{took}{how}"


def _material(via: Mapping[str, Fetch] | Missing | None) -> object:
    if via is None or isinstance(via, Missing):
        return str(via.reason) if via else None
    # One reachable URL is enough: which of the others answered in time today is no change.
    return {"reached": any(f.reached for f in via.values()), "proxy": any(f.via_proxy for f in via.values())}


JUDGE = HostJudge("net.outbound", ("outbound",), ("outbound",), judge)
