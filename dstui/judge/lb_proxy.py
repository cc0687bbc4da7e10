"""lb.reverse-proxy: the API's path goes to every backend, with room and time, and streams come as they are made."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from dstui.facts.api import answer_of
from dstui.facts.case import FleetCase
from dstui.facts.exchange import Exchange, Fault
from dstui.facts.lb import LbFacts
from dstui.facts.lb_seen import PROXY, Flow, LbProxy, flow
from dstui.facts.openai import Completion, models
from dstui.facts.raw import Missing
from dstui.judge.api_words import outcome
from dstui.judge.fleet import cluster_target, facts_of, listed
from dstui.judge.lb_proxy_config import weigh_config
from dstui.judge.lb_words import HOST_EVIDENCE, no_address, routed
from dstui.judge.registry import FleetJudge, Lane
from dstui.judge.rulings import Causes, quoted, unknown, why_missing
from dstui.model import Reason, Ruling, Text, Verdict, host_target, same

FEWEST_PIECES = 10
"""A stream of fewer pieces tells nothing of how they travel."""
BLOCKS_FOLD = 4
"""A stream of which so many pieces each come together comes in blocks."""
LAST_PART = 0.8
"""A stream whose first piece comes after this part of the whole time comes at its end."""
LEAST_SECONDS = 0.3
"""A stream over sooner may come at once because it was made at once."""
GAP_SECONDS = 0.25
"""A gap that is longer than straight by less than this is the network's, or the machine's."""
_EXPECTED_FRONT = Text("as straight from a backend, streams piece by piece", "与直连后端一致，流式逐块到达")
_EXPECTED_HOST = Text(
    "/v1/ to all backends, no buffering, enough time and room", "/v1/ 转发到所有后端，不缓冲，超时和请求体够大"
)
_PASSED_FRONT = Text("the balancer answers as the backends do", "经负载均衡的回答与直连一致")
_PASSED_HOST = Text("the API's path is passed on as it should be", "API 路径的转发配置正确")


def judge(case: FleetCase) -> Sequence[Ruling]:
    seen = case.get(LbProxy)
    if isinstance(seen, Missing):
        return [unknown(cluster_target(case.site), seen, _EXPECTED_FRONT)]
    if seen.front.url is None:
        return no_address(case, _EXPECTED_FRONT)
    front = _front(case, seen)
    works = front.verdict in (Verdict.PASS, Verdict.WARN)
    return [*(_host(case, seen, name, works=works) for name in case.site.balancers), front]


def _host(case: FleetCase, seen: LbProxy, name: str, *, works: bool) -> Ruling:
    target = host_target(name)
    facts = facts_of(case, name, LbFacts)
    found = routed(case, name, seen.front)
    if isinstance(found, Missing):
        # Behaviour that was seen to be good stands in for a configuration that was not; a host that was not does not.
        if isinstance(facts, Missing) or not works:
            return unknown(target, found, _EXPECTED_HOST)
        causes = Causes(target, _EXPECTED_HOST)
        why = why_missing(found)
        causes.warn(
            Text(f"configuration not seen, though requests come through: {why.en}", f"未见配置，但请求能通过：{why.zh}")
        )
        return causes.ruling(why, _PASSED_HOST, material={"config": None}, evidence=("lb.version",))
    causes = Causes(target, _EXPECTED_HOST)
    weigh_config(case, found, causes)
    where, to = quoted(found.place.label, 60), "–"
    if not isinstance(found.upstream, Missing):
        to = quoted(f"{found.upstream.name} ({listed(found.upstream.members)})", 120)
    return causes.ruling(
        Text(f"{where} → {to}", f"{where} → {to}"),
        _PASSED_HOST,
        material={"location": found.place.label, "upstream": to},
        evidence=("lb.version",),
    )


def _front(case: FleetCase, seen: LbProxy) -> Ruling:
    causes = Causes(seen.front.target, _EXPECTED_FRONT)
    _weigh_models(seen, causes)
    _weigh_chat(seen, causes)
    _weigh_nowhere(seen, causes)
    through, straight = _stream(seen, "front"), _stream(seen, f"backend-{seen.direct}")
    _weigh_stream(case, seen, through, straight, causes)
    _weigh_members(seen, causes)
    if not case.site.balancers:
        causes.warn(Text("configuration not seen: no host is known to balance", "未见配置：不知道哪台主机是负载均衡"))
    models_seen = seen.asked(PROXY, "front", "models")
    said = outcome(models_seen) if models_seen is not None else same("–")
    shown = _flow_words(through), _flow_words(straight)
    return causes.ruling(
        Text(
            f"models {said.en}; stream {shown[0].en}, straight {shown[1].en}",
            f"模型列表 {said.zh}；流式 {shown[0].zh}，直连 {shown[1].zh}",
        ),
        _PASSED_FRONT,
        material={"models": models_seen.status if models_seen is not None else None, "streams": through is not None},
        evidence=(PROXY,),
    )


def _stream(seen: LbProxy, label: str) -> Flow | None:
    exchange = seen.asked(PROXY, label, "stream")
    return flow(exchange) if exchange is not None else None


def _flow_words(found: Flow | None) -> Text:
    if found is None or not found.moments:
        return Text("not seen", "未见")
    first, last, gap = found.moments[0], found.moments[-1], found.longest_gap
    count, pieces = len(found.moments), found.said.pieces
    return Text(
        f"{pieces} chunks in {count} pieces from {first:.2f} to {last:.2f} s, longest gap {gap:.2f} s",
        f"{pieces} 块分 {count} 次到达，{first:.2f} 至 {last:.2f} 秒，最大间隔 {gap:.2f} 秒",
    )


def _names(exchange: Exchange | None) -> frozenset[str] | None:
    """The ids that a list of models has; None when it is none."""
    if exchange is None or exchange.missing is not None or exchange.status != 200:
        return None
    value = exchange.json()
    cards = value if isinstance(value, Missing) else models(value)
    return None if isinstance(cards, Missing) else frozenset(card.id for card in cards)


def _weigh_models(seen: LbProxy, causes: Causes) -> None:
    through = seen.asked(PROXY, "front", "models")
    straight = None if seen.direct is None else seen.backend(PROXY, seen.direct, "models")
    if through is None or through.missing is not None:
        _weigh_lost(through, "/v1/models", causes, works=straight is not None)
        return
    if through.status in (401, 403) and seen.front.keyless is not None:
        causes.missing(seen.front.keyless, same("/v1/models"))
        return
    if through.status == 429:
        causes.unknown(Reason.CANNOT_TELL, Text("rate limited (429), asked again in vain", "被限流（429），重试无果"))
        return
    if straight is None:
        causes.unknown(
            Reason.CANNOT_TELL,
            Text("no backend could be asked straight, so there is nothing to compare", "没有后端可直连，无从比对"),
        )
        if through.status in (404, 500, 502, 503, 504):
            said = outcome(through)
            causes.fail(Text(f"/v1/models is answered {said.en}", f"/v1/models 返回 {said.zh}"))
        return
    if through.status != straight.status:
        _weigh_status(through, "/v1/models", causes)
    elif _names(through) is None or _names(through) != _names(straight):
        listed_there = quoted(listed(sorted(_names(through) or ())), 80) or "–"
        listed_here = quoted(listed(sorted(_names(straight) or ())), 80) or "–"
        causes.fail(
            Text(
                f"other models than straight: {listed_there} instead of {listed_here}",
                f"模型列表与直连不同：{listed_there}，直连为 {listed_here}",
            )
        )


def _weigh_status(through: Exchange, path: str, causes: Causes) -> None:
    said = outcome(through)
    hint = " (is the path doubled or dropped?)" if through.status == 404 else ""
    hint_zh = "（路径是否重复或丢失？）" if through.status == 404 else ""
    causes.fail(
        Text(f"{path} is answered {said.en}{hint}, straight 200", f"{path} 返回 {said.zh}{hint_zh}，直连为 200")
    )


def _weigh_lost(exchange: Exchange | None, path: str, causes: Causes, *, works: bool) -> None:
    """An answer that did not come through the balancer; a failure where it does straight."""
    if exchange is None or exchange.missing is None:
        causes.unknown(Reason.NOT_RUN, Text(f"{path} was not asked", f"未请求 {path}"))
    elif works and exchange.fault in (Fault.REFUSED, Fault.TIMEOUT, Fault.BROKE_OFF):
        said = outcome(exchange)
        causes.fail(Text(f"{path}: {said.en}, while it works straight", f"{path}：{said.zh}，而直连正常"))
    else:
        causes.missing(exchange.missing, same(path))


def _weigh_chat(seen: LbProxy, causes: Causes) -> None:
    through = seen.asked(PROXY, "front", "chat")
    straight = None if seen.direct is None else seen.backend(PROXY, seen.direct, "chat")
    if through is None or straight is None:
        return
    good = straight.missing is None and isinstance(answer_of(straight), Completion)
    if not good:
        said = outcome(straight)
        causes.unknown(
            Reason.CANNOT_TELL, Text(f"straight chat does not work: {said.en}", f"直连的对话请求失败：{said.zh}")
        )
    elif through.missing is not None:
        _weigh_lost(through, "/v1/chat/completions", causes, works=True)
    elif through.status == 429 or (through.status == 503 and through.tries > 1):
        causes.unknown(Reason.CANNOT_TELL, Text("chat is rate limited", "对话请求被限流"))
    elif through.status != 200:
        _weigh_status(through, "/v1/chat/completions", causes)
    elif not isinstance(answer_of(through), Completion):
        causes.fail(Text("a chat answer that is none comes through", "经负载均衡得到的对话回答不是有效回答"))


def _weigh_nowhere(seen: LbProxy, causes: Causes) -> None:
    through = seen.asked(PROXY, "front", "unknown")
    straight = None if seen.direct is None else seen.backend(PROXY, seen.direct, "unknown")
    if through is None or straight is None or through.missing is not None or straight.missing is not None:
        return
    if straight.status == 404 and through.status in (502, 504):
        _path_differs(through, causes.fail)
    elif straight.status == 404 and through.status != 404 and through.status not in (401, 403, 429):
        _path_differs(through, causes.warn)


def _path_differs(through: Exchange, weigh: Callable[[Text], None]) -> None:
    said = outcome(through)
    weigh(
        Text(f"a path that is not there is answered {said.en}, straight 404", f"不存在的路径返回 {said.zh}，直连为 404")
    )


def _weigh_stream(case: FleetCase, seen: LbProxy, through: Flow | None, straight: Flow | None, causes: Causes) -> None:
    exchange = seen.asked(PROXY, "front", "stream")
    if through is None:
        if exchange is not None and straight is not None and exchange.missing is None and exchange.status == 200:
            kind = quoted(exchange.kind, 40) or "–"
            causes.fail(Text(f"the stream comes as {kind}", f"流式回答的类型变成了 {kind}"))
        elif exchange is not None and straight is not None and exchange.status in (404, 502, 504):
            _weigh_status(exchange, "stream", causes)
        elif exchange is not None and exchange.missing is not None:
            _weigh_lost(exchange, "stream", causes, works=straight is not None)
        elif causes.verdict is not Verdict.FAIL:
            said = outcome(exchange) if exchange is not None else same("–")
            causes.unknown(Reason.CANNOT_TELL, Text(f"no stream was seen: {said.en}", f"没有看到流：{said.zh}"))
        return
    if straight is None:
        _weigh_stream_alone(through, causes)
    elif straight.said.pieces < FEWEST_PIECES or through.said.pieces < FEWEST_PIECES:
        pieces = min(straight.said.pieces, through.said.pieces)
        causes.unknown(
            Reason.CANNOT_TELL,
            Text(f"the stream has only {pieces} chunks: too few to tell", f"流只有 {pieces} 块：太少，无法判断"),
        )
    elif _whole(straight):
        causes.unknown(
            Reason.CANNOT_TELL,
            Text(
                "straight from the backend, too, the stream comes at once: nothing to compare",
                "直连后端时流也是一次性到达：无从比对",
            ),
        )
    else:
        _weigh_against(case, through, straight, causes)


def _whole(found: Flow) -> bool:
    """Whether a stream that took its time came in one block."""
    return len(found.moments) <= max(1, found.said.pieces // (2 * FEWEST_PIECES))


def _weigh_stream_alone(through: Flow, causes: Causes) -> None:
    late = bool(through.moments) and through.moments[0] >= LAST_PART * through.seconds
    if through.said.pieces >= FEWEST_PIECES and through.seconds >= LEAST_SECONDS and late and _whole(through):
        causes.fail(Text("the stream comes in one block at the end", "流式内容到最后一次性到达"))
    elif len(through.moments) < FEWEST_PIECES:
        causes.unknown(Reason.CANNOT_TELL, _coarse(len(through.moments)))


def _coarse(count: int) -> Text:
    return Text(f"the stream came in {count} pieces: too few to tell", f"流分 {count} 次到达：太少，无法判断")


def _weigh_against(case: FleetCase, through: Flow, straight: Flow, causes: Causes) -> None:
    most = case.params.number("sse_gap_ratio_max")
    longer = through.longest_gap - straight.longest_gap
    ratio = through.longest_gap / max(straight.longest_gap, 0.001)
    counts = len(through.moments), len(straight.moments)
    if _whole(through):
        causes.fail(
            Text(
                f"the stream comes in one block at the end (straight in {counts[1]} pieces)",
                f"流式内容到最后一次性到达（直连分 {counts[1]} 次）",
            )
        )
    elif counts[0] * BLOCKS_FOLD <= counts[1]:
        causes.fail(
            Text(
                f"the stream comes in {counts[0]} blocks (straight in {counts[1]} pieces): short answers come at "
                "once, at their end",
                f"流式内容攒成 {counts[0]} 块到达（直连分 {counts[1]} 次）：短回答会到最后一次性到达",
            )
        )
    elif max(counts) < FEWEST_PIECES:
        causes.unknown(Reason.CANNOT_TELL, _coarse(counts[0]))
    elif ratio > most and longer > GAP_SECONDS:
        causes.warn(
            Text(
                f"the longest gap in the stream is {ratio:.1f} times that of straight ({through.longest_gap:.2f} s)",
                f"流中最大间隔是直连的 {ratio:.1f} 倍（{through.longest_gap:.2f} 秒）",
            )
        )


def _weigh_members(seen: LbProxy, causes: Causes) -> None:
    """Backends that do not answer as the first one does."""
    dead = []
    for number, url in enumerate(seen.front.backends, 1):
        exchange = seen.backend(PROXY, number, "models")
        if exchange is None or exchange.status == 200:
            continue
        if exchange.missing is not None and seen.out_of_sight(number):
            causes.note(Text(f"{quoted(url, 80)} could not be seen", f"看不到 {quoted(url, 80)}"))
        elif seen.direct is not None:
            said = outcome(exchange)
            dead.append(Text(f"{quoted(url, 80)}: {said.en}", f"{quoted(url, 80)}：{said.zh}"))
    for text in dead:
        causes.warn(Text(f"a backend does not answer: {text.en}", f"有后端无应答：{text.zh}"))


JUDGE = FleetJudge(PROXY, ("lb",), (*HOST_EVIDENCE, PROXY), judge, ("lb-proxy",), lane=Lane.WORK)
