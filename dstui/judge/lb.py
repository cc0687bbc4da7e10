"""Section `lb`: lb.deployed (a balancer runs, listens, passes requests on), and the table of the section's judges."""

from __future__ import annotations

import time
from collections.abc import Sequence
from urllib.parse import urlsplit

from dstui.facts.addresses import AddressFacts
from dstui.facts.case import FleetCase
from dstui.facts.exchange import Exchange, Fault
from dstui.facts.lb import LbFacts
from dstui.facts.lb_seen import DEPLOYED, LbDeployed
from dstui.facts.listeners import ListenerFacts
from dstui.facts.nginx_routes import servers
from dstui.facts.raw import Missing
from dstui.judge import lb_algorithm, lb_cache, lb_proxy, lb_tls
from dstui.judge.api_words import outcome
from dstui.judge.fleet import cluster_target, facts_of, listed
from dstui.judge.lb_words import HOST_EVIDENCE, no_address, routed
from dstui.judge.registry import FleetJudge
from dstui.judge.rulings import Causes, quoted, unknown, why_missing
from dstui.model import Reason, Ruling, Text, Verdict, host_target, same

_EXPECTED_HOST = Text("running, listening, configuration loaded", "进程运行、端口监听、配置已加载")
_EXPECTED_FRONT = Text("a request passed on succeeds", "代理请求成功")
_PASSED_HOST = Text("the balancer runs and listens", "负载均衡在运行并监听")
_PASSED_FRONT = Text("requests are passed on", "请求能被转发")
_ADVICE = "set lb.hosts, or give its host the role lb"
_TOLERANCE_SECONDS = 1.0
"""Processes begin to a hundredth of a second, files change to a nanosecond, uptime and clock are read apart."""


def judge(case: FleetCase) -> Sequence[Ruling]:
    seen = case.get(LbDeployed)
    if isinstance(seen, Missing):
        return [unknown(cluster_target(case.site), seen, _EXPECTED_FRONT)]
    names = case.site.balancers
    if seen.front.url is None and not names:
        return no_address(case, _EXPECTED_FRONT)
    rulings = [_host(case, seen, name) for name in names]
    if seen.front.url is not None:
        rulings.append(_front(case, seen))
    if not names:
        rulings.append(_not_seen(case))
    return rulings


def _not_seen(case: FleetCase) -> Ruling:
    """Nothing shows how many members it has."""
    if case.params.text("lb_kind") == "cloud":
        missing = Missing(Reason.CANNOT_TELL, "a cloud load balancer; its members are seen in the provider's console")
    else:
        missing = Missing(Reason.NO_TARGETS, f"no host is known to balance; {_ADVICE}")
    return unknown(cluster_target(case.site), missing, _members_expected(case))


def _members_expected(case: FleetCase) -> Text:
    least = case.params.count("lb_min_upstreams")
    return Text(f"at least {least} members", f"至少 {least} 个上游成员")


def _host(case: FleetCase, seen: LbDeployed, name: str) -> Ruling:
    target = host_target(name)
    facts = facts_of(case, name, LbFacts)
    if isinstance(facts, Missing):
        return unknown(target, facts, _EXPECTED_HOST)
    causes = Causes(target, _EXPECTED_HOST)
    program = _weigh_program(case, facts, causes)
    ports = _weigh_listening(case, seen, name, facts, causes)
    members = _weigh_members(case, seen, name, program, causes)
    _weigh_config(facts, causes)
    _weigh_pair(case, seen, name, facts, causes)
    shown = f"{program} {facts.version}" if isinstance(facts.version, str) and program == "nginx" else program
    at = listed(ports) or "–"
    count = "?" if members is None else str(members)
    return causes.ruling(
        Text(
            f"{quoted(shown, 40)}, listening on {at}, {count} members",
            f"{quoted(shown, 40)}，监听 {at}，{count} 个上游成员",
        ),
        _PASSED_HOST,
        material={"program": program, "ports": list(ports), "members": members},
        evidence=("lb.version", "lb.units", "listeners"),
    )


def _weigh_program(case: FleetCase, facts: LbFacts, causes: Causes) -> str:
    """The program that balances here; what speaks against it that it runs is weighed."""
    kind = case.params.text("lb_kind")
    running = {} if isinstance(facts.programs, Missing) else dict(facts.programs)
    units = {} if isinstance(facts.units, Missing) else dict(facts.units)
    others = [name for name in running if name != "keepalived"]
    if case.params.origin("lb_kind") == "document" and kind not in running and others:
        kind = others[0]
    unit = units.get(kind) or (units.get("openresty") if kind == "nginx" else None)
    active = unit is not None and unit.state == "active"
    # What processes show goes before what systemd says of them.
    if not (active if isinstance(facts.programs, Missing) else running.get(kind)):
        if isinstance(facts.programs, Missing):
            causes.missing(facts.programs, Text("processes", "进程"))
        else:
            hint = f" ({listed(others)} does: set lb.kind)" if others else ""
            hint_zh = f"（运行的是 {listed(others)}：请设置 lb.kind）" if others else ""
            causes.fail(Text(f"{kind} does not run{hint}", f"{kind} 未运行{hint_zh}"))
        return kind
    if isinstance(facts.units, Missing):
        words = why_missing(facts.units)
        causes.note(Text(f"its unit is not known: {words.en}", f"无法得知其 systemd 单元：{words.zh}"))
    elif not active:
        state = unit.state if unit is not None else "not-found"
        causes.warn(
            Text(
                f"{kind} runs, but not as a unit of systemd ({state}): nobody restarts it",
                f"{kind} 在运行，但不由 systemd 管理（{state}）：没人会拉起它",
            )
        )
    elif unit is not None and unit.enabled in ("disabled", "masked"):
        causes.warn(Text(f"{kind} does not start at boot ({unit.enabled})", f"{kind} 不会开机自启（{unit.enabled}）"))
    return kind


def _weigh_listening(case: FleetCase, seen: LbDeployed, name: str, facts: LbFacts, causes: Causes) -> tuple[int, ...]:
    """The ports of the balancer that are listened on."""
    wanted = {seen.front.port} if seen.front.url is not None else {80, 443}
    if not isinstance(facts.config, Missing):
        wanted |= {listen.port for server in servers(facts.config) for listen in server.listens}
    listening = facts_of(case, name, ListenerFacts)
    sockets = listening if isinstance(listening, Missing) else listening.listening
    if isinstance(sockets, Missing):
        causes.missing(sockets, Text("listening ports", "监听端口"))
        return ()
    found = tuple(sorted({socket.port for socket in sockets} & (wanted | {80, 443})))
    if not set(found) & wanted:
        ports = listed(sorted(wanted))
        causes.fail(Text(f"nothing listens on {ports}", f"没有进程监听 {ports}"))
    return found


def _weigh_members(case: FleetCase, seen: LbDeployed, name: str, program: str, causes: Causes) -> int | None:
    """How many members take requests of the API; None when that is not known."""
    least = case.params.count("lb_min_upstreams")
    if program != "nginx":
        causes.warn(
            Text(
                f"how many members {program} has was not seen: only nginx's configuration is read",
                f"没看到 {program} 的上游成员数：只能读取 nginx 的配置",
            )
        )
        return None
    if seen.front.url is None:
        causes.unknown(Reason.NO_TARGETS, Text("members: endpoints.api is not set", "上游成员：未设置 endpoints.api"))
        return None
    found = routed(case, name, seen.front)
    upstream = found if isinstance(found, Missing) else found.upstream
    if isinstance(upstream, Missing):
        causes.missing(upstream, Text("members", "上游成员"))
        return None
    members = sum(not member.down and not member.backup for member in upstream.members)
    if members < least:
        causes.warn(
            Text(
                f"{quoted(upstream.name, 60)} has {members} members, at least {least} are expected",
                f"{quoted(upstream.name, 60)} 有 {members} 个成员，应至少 {least} 个",
            )
        )
    return members


def _weigh_config(facts: LbFacts, causes: Causes) -> None:
    if facts.config_fault:
        fault = quoted(facts.config_fault, 160)
        causes.warn(
            Text(f"the next reload will fail: {fault}", f"下一次 reload 会失败：{fault}"),
        )
    if isinstance(facts.changed, Missing) or isinstance(facts.loaded_at, Missing):
        return
    path, at = facts.changed
    if at > facts.loaded_at + _TOLERANCE_SECONDS:
        when = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(at))
        shown = quoted(path, 80)
        causes.warn(
            Text(
                f"{shown} was changed at {when}, after the configuration was loaded: reload it",
                f"{shown} 在 {when} 修改过，晚于上次加载配置：请 reload",
            )
        )


def _weigh_pair(case: FleetCase, seen: LbDeployed, name: str, facts: LbFacts, causes: Causes) -> None:
    """Whether a second one would take over."""
    if not case.params.flag("lb_ha"):
        return
    if len(case.site.balancers) < 2:
        causes.warn(Text("lb.ha is true, and this is the only balancer", "lb.ha 为 true，但只有这一台负载均衡"))
        return
    if isinstance(facts.programs, Missing):
        return
    if not facts.programs.get("keepalived"):
        causes.warn(
            Text(
                "keepalived does not run: nothing moves the address here when the other balancer fails",
                "keepalived 未运行：另一台故障时地址不会漂移到这里",
            )
        )
    held = facts_of(case, name, AddressFacts)
    if not isinstance(held, Missing) and held.holding(seen.front.host) is not None:
        causes.note(Text(f"holds {seen.front.host} now", f"当前持有 {seen.front.host}"))


def _front(case: FleetCase, seen: LbDeployed) -> Ruling:
    causes = Causes(seen.front.target, _EXPECTED_FRONT)
    health, models = seen.asked(DEPLOYED, "front", "health"), seen.asked(DEPLOYED, "front", "models")
    if seen.front.straight:
        causes.fail(
            Text(
                "no load balancer: this address is that of a backend itself",
                "没有负载均衡：该地址就是某个后端自己的地址",
            )
        )
    _weigh_passed(health, models, causes, passed=_health_is_passed(case, seen, health))
    alive = _weigh_alive(case, seen, causes)
    first = health if health is not None and health.status is not None else models
    server = quoted(first.headers.get("server", ""), 40) if first is not None else ""
    said = " / ".join(outcome(each).en for each in (health, models) if each is not None)
    said_zh = " / ".join(outcome(each).zh for each in (health, models) if each is not None)
    by, of = (f", {server}" if server else ""), len(seen.front.backends)
    return causes.ruling(
        Text(
            f"health / models: {said}{by}; {alive} of {of} backends answer",
            f"健康检查 / 模型列表：{said_zh}{by}；{of} 个后端中 {alive} 个应答",
        ),
        _PASSED_FRONT,
        material={
            "health": health.status if health is not None else None,
            "models": models.status if models is not None else None,
            "alive": alive,
        },
        evidence=(DEPLOYED,),
    )


def _health_is_passed(case: FleetCase, seen: LbDeployed, health: Exchange | None) -> bool:
    """Whether the configuration shows that the health path goes to a backend: nginx may as well answer it itself."""
    if health is None:
        return False
    path = urlsplit(health.url).path.removeprefix(seen.front.path(""))
    found = [routed(case, name, seen.front, path) for name in case.site.balancers]
    return bool(found) and not any(isinstance(each, Missing) or isinstance(each.upstream, Missing) for each in found)


def _weigh_passed(health: Exchange | None, models: Exchange | None, causes: Causes, *, passed: bool) -> None:
    asked = [each for each in (health, models) if each is not None]
    bad = next((each for each in asked if each.missing is None and each.status in (502, 503, 504)), None)
    if not asked:
        causes.unknown(Reason.NOT_RUN, Text("nothing was asked", "没有发出请求"))
    elif bad is not None:
        said = outcome(bad)
        if bad.status == 503 and bad.tries > 1:
            causes.unknown(
                Reason.CANNOT_TELL, Text("rate limited (503), asked again in vain", "被限流（503），重试无果")
            )
        else:
            causes.fail(Text(f"no backend takes the request: {said.en}", f"没有后端接受请求：{said.zh}"))
    elif not any(each.missing is None and each.status == 200 for each in asked):
        _weigh_nothing_passed(asked, causes)
    elif not passed and models is not None and (models.missing is not None or models.status != 200):
        _weigh_health_alone(models, causes)
    elif (lost := next((each for each in asked if each.missing is not None), None)) is not None:
        said = outcome(lost)
        causes.note(Text(f"{quoted(lost.url, 80)}: {said.en}", f"{quoted(lost.url, 80)}：{said.zh}"))


def _weigh_health_alone(models: Exchange, causes: Causes) -> None:
    said = outcome(models)
    reason = Reason.NO_CREDENTIAL if models.status in (401, 403) else Reason.CANNOT_TELL
    causes.unknown(
        models.missing.reason if models.missing is not None else reason,
        Text(
            f"only the health path answers, which the balancer may do itself; the list of models: {said.en}",
            f"只有健康检查路径有应答，可能是负载均衡自己返回的；模型列表：{said.zh}",
        ),
    )


def _weigh_nothing_passed(asked: Sequence[Exchange], causes: Causes) -> None:
    answered = next((each for each in asked if each.missing is None), None)
    lost = asked[0]
    if answered is not None:
        said = outcome(answered)
        if answered.status in (401, 403, 429):
            reason = Reason.CANNOT_TELL if answered.status == 429 else Reason.NO_CREDENTIAL
            causes.unknown(
                reason,
                Text(
                    f"only refusals ({said.en}), which the balancer may give itself",
                    f"只得到拒绝（{said.zh}），可能是负载均衡自己返回的",
                ),
            )
        else:
            causes.fail(Text(f"no request comes through: {said.en}", f"没有请求能通过：{said.zh}"))
    elif lost.missing is not None and lost.fault in (None, Fault.TLS, Fault.NOT_SENT):
        causes.missing(lost.missing, same("GET"))
    else:
        said = outcome(lost)
        causes.fail(Text(f"the balancer does not answer: {said.en}", f"负载均衡无应答：{said.zh}"))


def _weigh_alive(case: FleetCase, seen: LbDeployed, causes: Causes) -> int:
    """How many backends answer their health path."""
    least, alive, hidden = case.params.count("lb_min_upstreams"), 0, 0
    dead: list[str] = []
    for number, url in enumerate(seen.front.backends, 1):
        exchange = seen.backend(DEPLOYED, number, "health")
        if exchange is None or (exchange.missing is not None and seen.out_of_sight(number)):
            hidden += 1
        elif exchange.missing is None and (exchange.status or 0) < 500:
            alive += 1
        else:
            dead.append(url)
    if hidden:
        causes.note(Text(f"{hidden} backends could not be seen", f"有 {hidden} 个后端看不到"))
    if dead:
        names = quoted(listed(dead), 120)
        causes.warn(Text(f"does not answer: {names}", f"无应答：{names}"))
    if not hidden and alive < least and causes.verdict is not Verdict.FAIL:
        causes.warn(
            Text(
                f"{alive} backends are there to balance over, at least {least} are expected",
                f"可供均衡的后端有 {alive} 个，应至少 {least} 个",
            )
        )
    return alive


JUDGES = (
    FleetJudge(
        DEPLOYED, ("lb", "listeners", "addresses"), (*HOST_EVIDENCE, "listeners", DEPLOYED), judge, ("lb-deployed",)
    ),
    lb_tls.JUDGE,
    lb_proxy.JUDGE,
    lb_algorithm.JUDGE,
    lb_cache.JUDGE,
)
