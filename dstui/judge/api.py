"""Section `api`: api.started (the model is listed at every endpoint), and the table of the section's judges."""

from __future__ import annotations

from collections.abc import Sequence

from dstui.facts.api import ApiStarted, Endpoint
from dstui.facts.case import FleetCase, HostSite
from dstui.facts.exchange import Exchange, Fault
from dstui.facts.listeners import ListenerFacts
from dstui.facts.openai import models
from dstui.facts.raw import Missing
from dstui.facts.service import ServiceFacts
from dstui.facts.untyped import table
from dstui.facts.untyped import text as text_of
from dstui.judge import api_auth, api_docs, api_health, api_limit
from dstui.judge.api_words import from_where, milliseconds, not_asked, out_of_sight, outcome, outside, per_endpoint
from dstui.judge.fleet import facts_of, listed
from dstui.judge.registry import FleetJudge
from dstui.judge.rulings import Causes, quoted, why_missing
from dstui.model import Reason, Ruling, Text, same

CHECK = "api.started"
RESTARTS_PER_DAY = 2
"""CATALOGUE 040: more than 2 restarts in 24 h."""
_DAY_SECONDS = 86_400.0
_PASSED = Text("the endpoint lists the model", "端点列出该模型")
_EVERYWHERE = ("0.0.0.0", "::", "*")  # noqa: S104 - what is looked for, not listened on


def judge(case: FleetCase) -> Sequence[Ruling]:
    served = quoted(case.params.text("model_served_name"), 80)
    expected = Text(f"200, listing {served}", f"返回 200 且列出 {served}")
    return per_endpoint(
        case, case.get(ApiStarted), expected, lambda seen, endpoint: _ruling(case, seen, endpoint, expected)
    )


def _ruling(case: FleetCase, seen: ApiStarted, endpoint: Endpoint, expected: Text) -> Ruling:
    causes = Causes(endpoint.target, expected)
    exchange = seen.by_key.get(endpoint.key(CHECK, "models"))
    found: tuple[str, ...] | None = None
    if exchange is None:
        causes.missing(not_asked(endpoint, "/v1/models"), same("/v1/models"))
    else:
        found = _weigh(case, seen, endpoint, exchange, causes)
    _weigh_host(case, seen, endpoint, exchange, causes)
    version = _version(seen, endpoint)
    return causes.ruling(
        _observed(seen, endpoint, exchange, found, version),
        _PASSED,
        material={"status": exchange.status if exchange else None, "models": sorted(found or ()), "version": version},
        evidence=(endpoint.key(CHECK), *(() if endpoint.public else ("service.units", "service.docker"))),
    )


def _observed(
    seen: ApiStarted, endpoint: Endpoint, exchange: Exchange | None, found: tuple[str, ...] | None, version: str | None
) -> Text:
    if exchange is None:
        return same("–")
    said, where = outcome(exchange), from_where(seen.approach(endpoint))
    names = quoted(listed(found), 160) if found else ""
    more = f", {names}" if names else ""
    more += f", vLLM {version}" if version else ""
    took = f", {milliseconds(exchange)}" if exchange.status is not None else ""
    return Text(f"{said.en}{took}{more}{where.en}", f"{said.zh}{took}{more}{where.zh}")


def _version(seen: ApiStarted, endpoint: Endpoint) -> str | None:
    found = seen.get(endpoint.key(CHECK, "version"))
    answer = table(found.json()) if isinstance(found, Exchange) and found.status == 200 else None
    version = text_of(answer.get("version")) if answer is not None else None
    return quoted(version, 40) if version else None


def _listed(exchange: Exchange) -> tuple[str, ...] | Missing:
    """The ids of the models that an endpoint lists."""
    if exchange.missing is not None:
        return exchange.missing
    if exchange.status != 200:
        return Missing(Reason.CANNOT_TELL, f"HTTP {exchange.status}")
    value = exchange.json()
    found = value if isinstance(value, Missing) else models(value)
    return found if isinstance(found, Missing) else tuple(card.id for card in found)


def _public_works(case: FleetCase, seen: ApiStarted) -> bool:
    """Whether users get the model all the same."""
    served = case.params.text("model_served_name")
    for endpoint in seen.endpoints:
        exchange = seen.by_key.get(endpoint.key(CHECK, "models")) if endpoint.public else None
        found = _listed(exchange) if exchange is not None else ()
        if not isinstance(found, Missing) and served in found:
            return True
    return False


def _weigh(
    case: FleetCase, seen: ApiStarted, endpoint: Endpoint, exchange: Exchange, causes: Causes
) -> tuple[str, ...] | None:
    """The models listed; None when there is no list."""
    said = outcome(exchange)
    if exchange.missing is not None and exchange.fault in (None, Fault.TLS, Fault.NOT_SENT):
        causes.missing(exchange.missing, same("/v1/models"))
        return None
    if out_of_sight(exchange, endpoint, seen.approach(endpoint)):
        causes.unknown(
            Reason.UNREACHABLE,
            Text(
                f"{said.en} from the controller, and it could not be asked from inside the cluster: no host is up, or "
                "their sshd forbids tunnels (AllowTcpForwarding)",
                f"从控制端访问：{said.zh}；也无法从集群内查看：没有可用主机，或其 sshd 禁止隧道（AllowTcpForwarding）",
            ),
        )
        return None
    if exchange.missing is not None or (exchange.status or 0) >= 500:
        _weigh_down(case, seen, endpoint, exchange, causes)
        return None
    if exchange.status in (401, 403):
        _weigh_refused(seen, exchange, causes)
        return None
    if exchange.status == 429:
        causes.unknown(Reason.CANNOT_TELL, Text("rate limited (429), asked again in vain", "被限流（429），重试无果"))
        return None
    if exchange.status != 200:
        to = quoted(exchange.headers.get("location", ""), 120)
        hint = (
            Text(f", it redirects to {to}: write that address", f"，重定向到 {to}：请改写为该地址") if to else same("")
        )
        causes.fail(Text(f"/v1/models answers {said.en}{hint.en}", f"/v1/models 返回 {said.zh}{hint.zh}"))
        return None
    return _weigh_models(case, exchange, causes)


def _weigh_models(case: FleetCase, exchange: Exchange, causes: Causes) -> tuple[str, ...] | None:
    found, served = _listed(exchange), case.params.text("model_served_name")
    if isinstance(found, Missing):
        if found.reason is Reason.BUDGET:
            causes.missing(found, same("/v1/models"))
        else:
            why = quoted(found.why.removeprefix(exchange.url).lstrip(": "), 100)
            causes.fail(
                Text(
                    f"200, but no list of models: another service answers ({why})",
                    f"200 但不是模型列表：应答的是别的服务（{why}）",
                )
            )
        return None
    if served not in found:
        name, names = quoted(served, 80), quoted(listed(found), 120) or "–"
        causes.fail(
            Text(
                f"{name} is not among the models: {names}; clients must send the name of --served-model-name",
                f"模型列表里没有 {name}：{names}；客户端发送的名称必须与 --served-model-name 一致",
            )
        )
    return found


def _weigh_refused(seen: ApiStarted, exchange: Exchange, causes: Causes) -> None:
    if seen.keyless is None:
        causes.fail(
            Text(
                f"{exchange.status}: the key of auth.key_ref is refused",
                f"{exchange.status}：auth.key_ref 的密钥被拒绝",
            )
        )
        return
    why = why_missing(seen.keyless)
    causes.unknown(
        Reason.NO_CREDENTIAL,
        Text(f"{exchange.status}, and there is no key: {why.en}", f"{exchange.status}，且没有密钥：{why.zh}"),
    )


def _weigh_down(case: FleetCase, seen: ApiStarted, endpoint: Endpoint, exchange: Exchange, causes: Causes) -> None:
    said = outcome(exchange)
    host = _host(case, endpoint)
    service = facts_of(case, host.name, ServiceFacts) if host is not None else None
    loading = same("")
    if service is not None and not isinstance(service, Missing) and not isinstance(service.processes, Missing):
        if service.processes and exchange.fault is Fault.REFUSED:
            names = ", ".join(dict.fromkeys(process.name for process in service.processes))
            loading = Text(
                f"; {quoted(names, 60)} runs there, so it may still be loading weights",
                f"；主机上有 {quoted(names, 60)}，可能仍在加载权重",
            )
        elif not service.processes:
            loading = Text("; no process of vLLM or Ray Serve runs there", "；主机上没有 vLLM 或 Ray Serve 进程")
    text = Text(f"down: {said.en}{loading.en}", f"不可用：{said.zh}{loading.zh}")
    if not endpoint.public and _public_works(case, seen):
        causes.warn(Text(f"{text.en}; the public endpoint works", f"{text.zh}；对外端点正常"))
    else:
        causes.fail(text)


def _host(case: FleetCase, endpoint: Endpoint) -> HostSite | None:
    """The host of the inventory that a backend is on."""
    name = endpoint.host
    return next((h for h in case.site.hosts if name in (h.data_ip, h.mgmt_ip, h.address, h.name)), None)


def _weigh_host(
    case: FleetCase, seen: ApiStarted, endpoint: Endpoint, exchange: Exchange | None, causes: Causes
) -> None:
    """What the backend's host shows of it: who restarts it, and who can reach its port."""
    host = None if endpoint.public else _host(case, endpoint)
    if host is None:
        return
    _weigh_exposure(case, seen, endpoint, host, exchange, causes)
    service = facts_of(case, host.name, ServiceFacts)
    if isinstance(service, Missing) or isinstance(service.processes, Missing):
        why = service if isinstance(service, Missing) else service.processes
        assert isinstance(why, Missing)
        words = why_missing(why)
        causes.note(Text(f"who restarts it is not known: {words.en}", f"无法得知由谁拉起：{words.zh}"))
        return
    for process in service.processes[:1]:
        if process.session is not None and process.container is None:
            causes.warn(
                Text(
                    f"{process.name} was started from a login ({process.session}): nobody restarts it",
                    f"{process.name} 是登录会话里启动的（{process.session}）：没人会拉起它",
                )
            )
    _weigh_units(service, causes)


def _weigh_units(service: ServiceFacts, causes: Causes) -> None:
    for lost in (service.units, service.containers):
        if isinstance(lost, Missing):
            words = why_missing(lost)
            causes.note(Text(f"how often it restarted is not known: {words.en}", f"无法得知重启次数：{words.zh}"))
    for name, unit in ({} if isinstance(service.units, Missing) else service.units).items():
        shown = quoted(name, 60)
        if unit.restarts is not None and unit.restarts > RESTARTS_PER_DAY and (unit.running_for or 0) < _DAY_SECONDS:
            causes.warn(
                Text(
                    f"{shown} was restarted {unit.restarts} times by systemd, the last time within 24 h",
                    f"{shown} 被 systemd 重启了 {unit.restarts} 次，最近一次在 24 小时内",
                )
            )
        if unit.restart_policy == "no":
            causes.warn(Text(f"{shown} has Restart=no: nobody restarts it", f"{shown} 设了 Restart=no：没人会拉起它"))
    for name, container in ({} if isinstance(service.containers, Missing) else service.containers).items():
        shown = f"container {name[:12]}"
        if container.policy in ("no", ""):
            causes.warn(Text(f"{shown} has no restart policy", f"容器 {name[:12]} 没有重启策略"))
        if container.restarts > RESTARTS_PER_DAY:
            causes.warn(
                Text(
                    f"{shown} was restarted {container.restarts} times",
                    f"容器 {name[:12]} 重启了 {container.restarts} 次",
                )
            )


def _weigh_exposure(
    case: FleetCase,
    seen: ApiStarted,
    endpoint: Endpoint,
    host: HostSite,
    exchange: Exchange | None,
    causes: Causes,
) -> None:
    """A plain backend that listens on every address and was reached from outside the cluster."""
    if exchange is None or exchange.status is None or endpoint.encrypted or seen.approach(endpoint).via is not None:
        return
    listening = facts_of(case, host.name, ListenerFacts)
    sockets = () if isinstance(listening, Missing) else listening.on(endpoint.port)
    if any(socket.address in _EVERYWHERE for socket in sockets) and outside(case) is True:
        causes.warn(
            Text(
                f"port {endpoint.port} listens on every address without TLS and is reachable from outside the cluster",
                f"端口 {endpoint.port} 在所有地址上明文监听，且从集群外可访问",
            )
        )


JUDGES = (
    FleetJudge(CHECK, ("listeners", "service"), (CHECK, "service"), judge, needs=("api-started",)),
    api_docs.JUDGE,
    api_health.JUDGE,
    api_auth.JUDGE,
    api_limit.JUDGE,
)
