"""lb.algorithm: the balancing suits answers of very different lengths, and no backend is left out."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean

from dstui.facts.case import FleetCase
from dstui.facts.lb_seen import ALGORITHM, LbSpread, Share
from dstui.facts.nginx_config import named
from dstui.facts.nginx_routes import Upstream
from dstui.facts.raw import Missing
from dstui.judge.fleet import cluster_target, listed
from dstui.judge.lb_words import HOST_EVIDENCE, Routed, all_of, no_address, routed
from dstui.judge.registry import FleetJudge, Lane
from dstui.judge.rulings import Causes, not_applicable, quoted, unknown, why_missing
from dstui.model import Reason, Ruling, Text, same

FAIL_OVER_MEAN = 3.0
"""CATALOGUE 048: a share of more than three times the mean."""
SERVED_PART = 0.8
"""Fewer answers than this part of what was sent say little of the spread."""
_COUNTING = ("least_conn", "random two least_conn", "least_time")
"""Algorithms that rest on what is under way, which worker processes know of each other only through a zone."""
_PASSED = Text("the algorithm suits, and the load is spread", "算法合适，负载分布均匀")


def judge(case: FleetCase) -> Sequence[Ruling]:
    most = case.params.number("spread_max_over_mean")
    expected = Text(
        f"{listed(case.params.texts('lb_algorithms_ok'))}; largest share at most {most:g} × the mean",
        f"{listed(case.params.texts('lb_algorithms_ok'))}；最大份额不超过平均的 {most:g} 倍",
    )
    seen = case.get(LbSpread)
    if isinstance(seen, Missing):
        return [unknown(cluster_target(case.site), seen, expected)]
    if seen.front.url is None:
        return no_address(case, expected)
    return [_ruling(case, seen, expected)]


def _ruling(case: FleetCase, seen: LbSpread, expected: Text) -> Ruling:
    target = seen.front.target
    found = [(name, routed(case, name, seen.front)) for name in case.site.balancers]
    known = [each for _, each in found if not isinstance(each, Missing)]
    upstreams = [each.upstream for each in known if not isinstance(each.upstream, Missing)]
    if upstreams and len(upstreams) == len(found) and all(_single(each) for each in upstreams):
        return not_applicable(target, Text("there is one upstream server only", "只有一个上游成员"))
    if not upstreams and len(seen.front.backends) == 1:
        return not_applicable(target, Text("endpoints.backends names one backend", "endpoints.backends 只有一个后端"))
    causes = Causes(target, expected)
    parts = []
    for name, each in found:
        part = Causes(target, expected)
        _weigh_config(case, each, part)
        parts.append((name, part))
    all_of(causes, parts, several=len(found) > 1)
    sticks = next((each for each in upstreams if each.key or each.algorithm == "sticky"), None)
    spread_seen = _weigh_spread(case, seen, sticks, causes)
    if not upstreams:
        _weigh_unseen(found, causes, spread_seen=spread_seen)
    algorithms = listed(sorted({each.algorithm for each in upstreams})) or "?"
    shares = quoted(listed([_share_words(share) for share in seen.shares]), 160) or "–"
    return causes.ruling(
        Text(f"{algorithms}; requests taken: {shares}", f"{algorithms}；各后端接到的请求：{shares}"),
        _PASSED,
        material={"algorithm": algorithms},
        evidence=(ALGORITHM, "lb.version"),
    )


def _single(upstream: Upstream) -> bool:
    return sum(not member.down and not member.backup for member in upstream.members) == 1


def _share_words(share: Share) -> str:
    got = "?" if isinstance(share.got, Missing) else f"{share.got:.0f}"
    return f"{share.url.partition('://')[2]} {got}"


def _weigh_config(case: FleetCase, found: Routed | Missing, causes: Causes) -> None:
    upstream = found if isinstance(found, Missing) else found.upstream
    if isinstance(found, Missing) or isinstance(upstream, Missing):
        assert isinstance(upstream, Missing)
        why = why_missing(upstream)
        causes.warn(Text(f"configuration not seen: {why.en}", f"未见配置：{why.zh}"))
        return
    fine, algorithm = case.params.texts("lb_algorithms_ok"), upstream.algorithm
    if algorithm not in fine:
        causes.warn(Text(f"{algorithm}: it does not look at how busy a backend is", f"{algorithm}：不考虑后端的忙闲"))
    if algorithm in _COUNTING and not upstream.zone and _workers(found) != "1":
        causes.warn(
            Text(
                f"{algorithm} without a zone: each worker process counts alone",
                f"{algorithm} 没有 zone：每个 worker 进程各数各的",
            )
        )
    careless = [str(member) for member in upstream.members if member.max_fails == "0"]
    if careless:
        names = quoted(listed(careless), 100)
        causes.warn(Text(f"max_fails=0: failures of {names} are not noticed", f"max_fails=0：{names} 失败不会被发现"))
    if not upstream.keepalive:
        causes.note(Text("no keepalive: a new connection for each request", "没有 keepalive：每个请求新建连接"))


def _workers(found: Routed) -> str:
    """nginx has one worker unless told otherwise."""
    told = list(named(found.config.directives, "worker_processes"))
    return told[-1].first if told else "1"


def _weigh_unseen(found: Sequence[tuple[str, Routed | Missing]], causes: Causes, *, spread_seen: bool) -> None:
    """No configuration at all: a good spread is then a warning, none at all is nothing known."""
    if not found:
        text = Text("configuration not seen: no host is known to balance", "未见配置：不知道哪台主机是负载均衡")
        causes.warn(text)
    first = next((each for _, each in found if isinstance(each, Missing)), None)
    if not spread_seen:
        reason = first.reason if first is not None else Reason.NO_TARGETS
        causes.unknown(reason, Text("neither the configuration nor the spread was seen", "既未见配置，也未见分布"))


def _weigh_spread(case: FleetCase, seen: LbSpread, sticks: Upstream | None, causes: Causes) -> bool:
    """Whether the spread was seen; what speaks against it is weighed."""
    if seen.not_made is not None:
        causes.missing(seen.not_made, Text("spread", "分布"))
        return False
    served = seen.answers.get("200", 0)
    if served < SERVED_PART * seen.sent or served < 2:
        _weigh_unserved(seen, causes)
        return False
    lost = next((share for share in seen.shares if isinstance(share.got, Missing)), None)
    if lost is not None and isinstance(lost.got, Missing):
        causes.missing(lost.got, Text("spread", "分布"))
        return False
    shares = [share.got for share in seen.shares if not isinstance(share.got, Missing)]
    if sum(shares) < SERVED_PART * served:
        causes.unknown(
            Reason.CANNOT_TELL,
            Text(
                f"the backends counted {sum(shares):.0f} of {served} requests: others take them, or counters come late",
                f"后端只计到 {served} 个请求中的 {sum(shares):.0f} 个：请求去了别处，或计数滞后",
            ),
        )
        return False
    part = Causes(causes.target, causes.expected)
    _weigh_shares(case, seen, shares, part)
    if part.found and sticks is not None:
        _weigh_sticky(sticks, case, causes)
    else:
        causes.found += part.found
    return True


def _weigh_shares(case: FleetCase, seen: LbSpread, shares: Sequence[float], causes: Causes) -> None:
    mean, largest = fmean(shares), max(shares)
    empty = [share.url for share in seen.shares if share.got == 0 and share.healthy]
    if empty:
        names = quoted(listed(empty), 120)
        causes.fail(Text(f"gets nothing although it is healthy: {names}", f"健康却没有接到请求：{names}"))
    over, most = largest / mean, case.params.number("spread_max_over_mean")
    text = Text(f"the largest share is {over:.1f} × the mean", f"最大份额是平均的 {over:.1f} 倍")
    if over > FAIL_OVER_MEAN:
        causes.fail(text)
    elif over > most:
        causes.warn(text)


def _weigh_sticky(sticks: Upstream, case: FleetCase, causes: Causes) -> None:
    """All of our requests are one client's: that they stay together is what was asked for."""
    key = quoted(sticks.key or "cookie", 60)
    text = Text(
        f"{sticks.algorithm} by {key} keeps one client together, so the spread over many was not seen",
        f"{sticks.algorithm} 按 {key} 固定同一客户端，因此看不到多客户端的分布",
    )
    if sticks.algorithm in case.params.texts("lb_algorithms_ok"):
        causes.unknown(Reason.CANNOT_TELL, text)
    else:
        causes.note(text)


def _weigh_unserved(seen: LbSpread, causes: Causes) -> None:
    counts = listed([f"{count} × {what}" for what, count in sorted(seen.answers.items())])
    refused = seen.answers.get("401", 0) + seen.answers.get("403", 0)
    if refused and seen.front.keyless is not None:
        causes.missing(seen.front.keyless, same("POST /v1/chat/completions"))
        return
    causes.unknown(
        Reason.CANNOT_TELL,
        Text(
            f"too few of {seen.sent} requests were served to see a spread: {counts}",
            f"{seen.sent} 个请求中得到服务的太少，看不出分布：{counts}",
        ),
    )


JUDGE = FleetJudge(ALGORITHM, ("lb",), (*HOST_EVIDENCE, ALGORITHM), judge, ("lb-spread",), lane=Lane.WORK)
