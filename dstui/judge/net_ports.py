"""net.ports: are Ray's ports free before it starts, held by it afterwards, and reachable between all nodes."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from dstui.facts.case import FleetCase, HostSite
from dstui.facts.choreography import Listener, PortMatrix, PortTry
from dstui.facts.listeners import ListenerFacts
from dstui.facts.raw import Missing
from dstui.judge.fleet import PAIRS_UP_TO, absorb, cluster_target, facts_of, listed, own_address
from dstui.judge.net_port_setup import weigh_setup
from dstui.judge.registry import FleetJudge
from dstui.judge.rulings import Causes, quoted, unknown, why_missing
from dstui.model import Reason, Ruling, Text, Verdict, host_target, pair_target, same

GCS_PORT = 6379
_PASSED_PRE = Text("the ports are free and every connect carried the nonce", "端口空闲，且所有连接均带回校验串")
_PASSED_LIVE = Text("Ray holds its ports and every port tried is reachable", "Ray 占用其端口，测试的端口均可访问")
_OCCUPIED_WARN_PCT = 5.0
"""Share of sampled ports that may be occupied (document catalogue, net.ports)."""


@dataclass(frozen=True, slots=True)
class _Ports:
    """What the judge needs of the matrix, looked up by host and port."""

    matrix: PortMatrix
    listeners: Mapping[tuple[str, int], Listener]
    tries: Mapping[tuple[str, str], Mapping[int, PortTry]]
    live: bool | None
    """None when the phase is to be found out and the holder of 6379 cannot be seen."""


def judge(case: FleetCase) -> Sequence[Ruling]:
    nodes = tuple(h for h in case.site.hosts if h.in_ray)
    target = cluster_target(case.site)
    matrix = case.get(PortMatrix)
    if not nodes:
        return [unknown(target, Missing(Reason.NO_TARGETS, "no head or worker in the inventory"), _expected(False))]
    if isinstance(matrix, Missing):
        return [unknown(target, matrix, _expected(False))]
    ports = _index(case, matrix)
    setup = weigh_setup(case, matrix, nodes)
    if len(nodes) == 1:
        return [_alone(case, ports, nodes[0]), setup]
    pairs = [(a, b) for a in nodes for b in nodes if a.name != b.name and _due(ports, a, b)]
    if len(nodes) <= PAIRS_UP_TO:
        return [*(_pair_ruling(case, ports, a, b) for a, b in pairs), setup]
    return [*(_source_ruling(case, ports, a, [b for s, b in pairs if s == a]) for a in nodes), setup]


def _due(ports: _Ports, a: HostSite, b: HostSite) -> bool:
    """In a sample only the pairs that were tried count, and those that a missing host kept from being tried."""
    out = a.name in ports.matrix.missing or b.name in ports.matrix.missing
    return ports.matrix.all_pairs or out or (a.name, b.name) in ports.tries


def _expected(live: bool | None) -> Text:
    if live:
        return Text("the head's ports held by Ray; all ports reachable", "头节点端口由 Ray 占用，所有端口可访问")
    return Text("ports free, and reachable from every node", "端口空闲，且所有节点可访问")


def _index(case: FleetCase, matrix: PortMatrix) -> _Ports:
    tries: dict[tuple[str, str], dict[int, PortTry]] = defaultdict(dict)
    for attempt in matrix.tries:
        tries[attempt.source, attempt.destination][attempt.port] = attempt
    listeners = {(item.host, item.port): item for item in matrix.listeners}
    return _Ports(matrix, listeners, tries, _live(case, listeners))


def _live(case: FleetCase, listeners: Mapping[tuple[str, int], Listener]) -> bool | None:
    """The phase as decided, else live when a head's GCS port is held by gcs_server."""
    if case.site.phase in {"pre", "live"}:
        return case.site.phase == "live"
    hidden = False
    for host in case.site.hosts:
        held = listeners.get((host.name, _gcs_port(case)))
        if "head" in host.roles and held is not None and held.state == "busy":
            holder = _holder(case, held)
            if holder and holder.startswith("gcs_server"):
                return True
            hidden = hidden or holder is None
    return None if hidden else False


def _holder(case: FleetCase, listener: Listener) -> str | None:
    """Who holds a busy port: as the bind attempt saw it, else as the host's own list of listeners names it."""
    if listener.holder:
        return quoted(listener.holder, 40)
    facts = facts_of(case, listener.host, ListenerFacts)
    if isinstance(facts, Missing):
        return None
    return next((quoted(s.process, 40) for s in facts.on(listener.port) if s.process), None)


def _gcs_port(case: FleetCase) -> int:
    """Ray's GCS: 6379, or the first of the head's ports where the inventory names another (`ray.gcs_port`)."""
    ports = case.params.counts("ports_head")
    return GCS_PORT if GCS_PORT in ports or not ports else ports[0]


def _fits(port: int, holder: str, gcs: int) -> bool:
    """Whether this is the process that Ray keeps on a head port; its dashboard and client server are Python."""
    name = holder.lower()
    if port == gcs:
        return name.startswith("gcs_server")
    return name.startswith(("ray", "python", "dashboard", "gcs_server"))


def _fixed(case: FleetCase, host: HostSite) -> tuple[int, ...]:
    return case.params.counts("ports_head") if "head" in host.roles else ()


def _weigh_holders(case: FleetCase, ports: _Ports, host: HostSite, causes: Causes) -> None:
    """Who is on the ports of one host: free before Ray, Ray's own after."""
    fixed = _fixed(case, host)
    for port in fixed:
        listener = ports.listeners.get((host.name, port))
        if listener is None:
            causes.unknown(
                Reason.NOT_RUN, Text(f"{port} on {host.name} was not looked at", f"未查看 {host.name} 的 {port}")
            )
        elif listener.state == "busy":
            _weigh_busy(case, ports, listener, causes)
        elif listener.state == "listening" and ports.live:
            causes.fail(Text(f"nothing listens on {host.name}:{port}", f"{host.name}:{port} 无监听"))
        elif listener.state != "listening":
            _weigh_unbound(listener, causes)
    others = [item for item in ports.matrix.listeners if item.host == host.name and item.port not in fixed]
    for item in others:
        if item.state not in {"listening", "busy"}:
            _weigh_unbound(item, causes)
    _weigh_occupied(case, ports, host, [item for item in others if item.port in ports.matrix.samples], causes)
    _weigh_extra(case, ports, [item for item in others if item.port not in ports.matrix.samples], causes)


def _weigh_busy(case: FleetCase, ports: _Ports, listener: Listener, causes: Causes) -> None:
    holder = _holder(case, listener)
    where = f"{listener.host}:{listener.port}"
    if ports.live is None:
        causes.unknown(
            Reason.PERMISSION,
            Text(
                f"{where} is held by a process that cannot be seen: Ray, or something in its way. "
                "Set cluster.phase to pre or live in the inventory",
                f"{where} 被无法识别的进程占用：可能是 Ray，也可能是冲突进程。"
                "请在清单中将 cluster.phase 设为 pre 或 live",
            ),
        )
    elif not ports.live:
        by = holder or "?"
        causes.fail(Text(f"{where} is occupied by {by}", f"{where} 已被 {by} 占用"))
    elif holder is None:
        causes.warn(
            Text(
                f"{where} is held, by whom cannot be seen (needs root)", f"{where} 已占用，但看不到进程名（需要 root）"
            )
        )
    elif not _fits(listener.port, holder, _gcs_port(case)):
        causes.fail(Text(f"{where} is held by {holder}, not by Ray", f"{where} 被 {holder} 占用，而非 Ray"))


def _weigh_unbound(listener: Listener, causes: Causes) -> None:
    why = quoted(listener.why, 100) or listener.state
    denied = any(word in why.upper() for word in ("EACCES", "EPERM", "PERMISSION", "NOT PERMITTED"))
    where = f"{listener.host}:{listener.port}"
    causes.unknown(
        Reason.PERMISSION if denied else Reason.CANNOT_TELL,
        Text(f"could not listen on {where}: {why}", f"无法在 {where} 上监听：{why}"),
    )


def _weigh_occupied(case: FleetCase, ports: _Ports, host: HostSite, samples: list[Listener], causes: Causes) -> None:
    busy = [(item, _holder(case, item)) for item in samples if item.state == "busy"]
    if ports.live is not False:
        busy = [(item, holder) for item, holder in busy if holder and not _fits(item.port, holder, _gcs_port(case))]
    if not busy:
        return
    shown = listed([f"{item.port} {holder or '?'}" for item, holder in busy])
    text = Text(
        f"{host.name}: {len(busy)} of {len(samples)} sampled ports are occupied: {shown}",
        f"{host.name}：抽样的 {len(samples)} 个端口中 {len(busy)} 个被占用：{shown}",
    )
    if 100.0 * len(busy) / len(samples) > _OCCUPIED_WARN_PCT:
        causes.warn(text)
    else:
        causes.note(text)


def _weigh_extra(case: FleetCase, ports: _Ports, extra: list[Listener], causes: Causes) -> None:
    """Ports of `ports_extra` and pinned Ray ports: before Ray starts they have to be free too."""
    if ports.live is not False:
        return
    for item in extra:
        if item.state == "busy":
            _weigh_busy(case, ports, item, causes)


def _weigh_tries(case: FleetCase, ports: _Ports, a: HostSite, b: HostSite, causes: Causes) -> None:
    tried = ports.tries.get((a.name, b.name), {})
    wanted = dict.fromkeys((*_fixed(case, b), *ports.matrix.samples))
    untried = [port for port in wanted if port not in tried]
    if untried or not wanted:
        causes.unknown(
            Reason.NOT_RUN,
            Text(f"not tried: {listed(untried) or 'any port'}", f"未测试：{listed(untried) or '任何端口'}"),
        )
    by_outcome: dict[str, list[int]] = defaultdict(list)
    for port, attempt in sorted(tried.items()):
        listener = ports.listeners.get((b.name, port))
        by_outcome[_meaning(attempt.outcome, listener, port in _fixed(case, b))].append(port)
    for meaning, numbers in by_outcome.items():
        _weigh_outcome(meaning, listed(numbers), causes)


def _meaning(outcome: str, listener: Listener | None, fixed: bool) -> str:
    """What an outcome says, given what was on the port at the other end."""
    state = listener.state if listener else ""
    if outcome in {"timeout", "unreach"}:
        return outcome
    if outcome == "ok":
        return "ok" if state in {"listening", "busy"} else "unproven"
    if state == "busy":
        if outcome == "wrong-nonce":
            return "ok"
        # A socket that only dials out also keeps a port busy; of a sample nothing follows from its refusal.
        return ("closed" if outcome == "refused" else "error") if fixed else "held"
    if state != "listening":
        return "unproven"
    return {"refused": "rejected", "wrong-nonce": "stranger"}.get(outcome, "error")


def _weigh_outcome(meaning: str, numbers: str, causes: Causes) -> None:
    match meaning:
        case "timeout":
            causes.fail(
                Text(f"no answer, packets are dropped on the way: {numbers}", f"无应答，数据包在途中被丢弃：{numbers}")
            )
        case "unreach":
            causes.fail(Text(f"host unreachable: {numbers}", f"主机不可达：{numbers}"))
        case "rejected":
            causes.fail(
                Text(
                    f"refused although the listener was up (a REJECT rule): {numbers}",
                    f"监听已开启仍被拒绝（REJECT 规则）：{numbers}",
                )
            )
        case "stranger":
            causes.fail(Text(f"something else answers: {numbers}", f"应答的不是本机监听：{numbers}"))
        case "closed":
            causes.fail(Text(f"held, but connects are refused: {numbers}", f"端口已占用，但连接被拒绝：{numbers}"))
        case "held":
            causes.note(Text(f"in use, so no proof of the path: {numbers}", f"端口在用，无法证明连通：{numbers}"))
        case "unproven":
            causes.unknown(
                Reason.CANNOT_TELL,
                Text(f"no listener to prove the path: {numbers}", f"无监听，无法证明连通：{numbers}"),
            )
        case "error":
            causes.unknown(
                Reason.PROBE_ERROR, Text(f"the connect failed locally: {numbers}", f"连接在本地出错：{numbers}")
            )


def _weigh_pair(case: FleetCase, ports: _Ports, a: HostSite, b: HostSite, causes: Causes) -> None:
    gone = [(name, ports.matrix.missing[name]) for name in (a.name, b.name) if name in ports.matrix.missing]
    for name, missing in gone:
        causes.missing(missing, same(name))
    if b.name not in ports.matrix.missing:
        _weigh_holders(case, ports, b, causes)
    if own_address(case, a.name, b.data_ip):
        causes.unknown(
            Reason.CANNOT_TELL,
            Text(
                f"{b.data_ip} is an address of {a.name} itself: correct {b.name} in the inventory",
                f"{b.data_ip} 是 {a.name} 自己的地址：请更正清单中的 {b.name}",
            ),
        )
    if not gone:
        _weigh_tries(case, ports, a, b, causes)


def _counts(ports: _Ports, a: HostSite, b: HostSite) -> dict[str, int]:
    counts: dict[str, int] = defaultdict(int)
    for attempt in ports.tries.get((a.name, b.name), {}).values():
        counts[attempt.outcome] += 1
    return dict(sorted(counts.items()))


def _pair_ruling(case: FleetCase, ports: _Ports, a: HostSite, b: HostSite) -> Ruling:
    causes = Causes(pair_target(a.name, b.name), _expected(ports.live))
    _weigh_pair(case, ports, a, b, causes)
    counts = _counts(ports, a, b)
    shown = ", ".join(f"{count} {quoted(outcome, 20)}" for outcome, count in counts.items())
    return causes.ruling(
        same(shown) if shown else _nothing_tried(ports, a, b),
        _PASSED_LIVE if ports.live else _PASSED_PRE,
        material=_material(case, ports, a, b),
        evidence=("listeners",),
    )


def _material(case: FleetCase, ports: _Ports, a: HostSite, b: HostSite) -> dict[str, object]:
    """What went wrong by port, and who holds the head's. Which samples are in use by chance changes from run to run."""
    fixed = _fixed(case, b)
    meanings = {
        port: _meaning(attempt.outcome, ports.listeners.get((b.name, port)), port in fixed)
        for port, attempt in sorted(ports.tries.get((a.name, b.name), {}).items())
    }
    return {
        "faults": {str(port): meaning for port, meaning in meanings.items() if meaning not in ("ok", "held")},
        "holders": _fixed_holders(case, ports, b),
    }


def _fixed_holders(case: FleetCase, ports: _Ports, host: HostSite) -> dict[str, str]:
    fixed = {str(port) for port in _fixed(case, host)}
    return {port: holder for port, holder in _holders(case, ports, host.name).items() if port in fixed}


def _nothing_tried(ports: _Ports, a: HostSite, b: HostSite) -> Text:
    for name in (a.name, b.name):
        if name in ports.matrix.missing:
            why = why_missing(ports.matrix.missing[name])
            return Text(f"{name}: {why.en}", f"{name}：{why.zh}")
    return Text("not tried", "未测试")


def _holders(case: FleetCase, ports: _Ports, name: str) -> dict[str, str]:
    busy = [item for item in ports.matrix.listeners if item.host == name and item.state == "busy"]
    return {str(item.port): _holder(case, item) or "?" for item in sorted(busy, key=lambda item: item.port)}


def _source_ruling(case: FleetCase, ports: _Ports, a: HostSite, peers: Sequence[HostSite]) -> Ruling:
    causes = Causes(host_target(a.name), _expected(ports.live))
    clean = 0
    for b in peers:
        part = Causes(pair_target(a.name, b.name), causes.expected)
        _weigh_pair(case, ports, a, b, part)
        clean += part.verdict is Verdict.PASS
        absorb(causes, part, b.name)
    if not peers:
        causes.unknown(Reason.NOT_RUN, Text(f"no connect was tried from {a.name}", f"未从 {a.name} 发起连接"))
    return causes.ruling(
        Text(f"{clean} of {len(peers)} peers without fault", f"{len(peers)} 个对端中 {clean} 个正常"),
        _PASSED_LIVE if ports.live else _PASSED_PRE,
        material={b.name: _material(case, ports, a, b) for b in peers},
        evidence=("listeners",),
    )


def _alone(case: FleetCase, ports: _Ports, host: HostSite) -> Ruling:
    """A single node: nothing to reach, but its ports have to be free or Ray's."""
    causes = Causes(host_target(host.name), _expected(ports.live))
    if host.name in ports.matrix.missing:
        causes.missing(ports.matrix.missing[host.name], same(host.name))
    else:
        _weigh_holders(case, ports, host, causes)
        if not ports.matrix.samples:
            causes.unknown(Reason.NOT_RUN, Text("no port of the range was tried", "未测试端口范围"))
    busy = _holders(case, ports, host.name)
    shown = ", ".join(f"{port} {holder}" for port, holder in busy.items())
    observed = same(shown) if shown else Text("no port occupied", "无端口被占用")
    passed = _PASSED_LIVE if ports.live else _PASSED_PRE
    material = {"holders": _fixed_holders(case, ports, host)}
    return causes.ruling(observed, passed, material=material, evidence=("listeners",))


JUDGE = FleetJudge("net.ports", ("listeners", "addresses"), ("listeners",), judge, needs=("ports",))
