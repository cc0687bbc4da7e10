"""api.auth: who has no right is refused everywhere, who has one is served, and no other door stands open."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from dstui.facts.api import CHAT, LISTING, REFUSING, ApiAuth, Endpoint, answer_of
from dstui.facts.case import FleetCase
from dstui.facts.exchange import Exchange
from dstui.facts.openai import Completion
from dstui.facts.untyped import table
from dstui.judge.api_words import from_where, not_asked, outcome, outside, per_endpoint, why_not
from dstui.judge.fleet import listed
from dstui.judge.registry import FleetJudge
from dstui.judge.rulings import Causes, unknown, why_missing
from dstui.model import Reason, Ruling, Text

CHECK = "api.auth"
_EXPECTED = Text("every wrong credential refused, the right key served", "错误凭据一律被拒，正确密钥可用")
_PASSED = Text("every wrong credential is refused and the right key served", "错误凭据全部被拒，正确密钥可用")
VARIANTS: Mapping[str, Text] = {
    "none": Text("no key", "无密钥"),
    "empty": Text("an empty key", "空密钥"),
    "wrong": Text("a wrong key", "错误密钥"),
    "scheme": Text("another scheme (Basic)", "其他方案（Basic）"),
    "right": Text("the right key", "正确密钥"),
    "revoked": Text("the revoked key", "已吊销的密钥"),
}
_PATHS: Mapping[str, str] = {LISTING: "GET /v1/models", CHAT: "POST /v1/chat/completions"}
_ACTING: Mapping[str, str] = {
    "server-info": "/server_info",
    "is-sleeping": "/is_sleeping",
    "sleep": "/sleep",
    "collective-rpc": "/collective_rpc",
    "reset-prefix-cache": "/reset_prefix_cache",
    "scale-elastic-ep": "/scale_elastic_ep",
}
"""Routes that steer the server or show its insides; all but the last come with VLLM_SERVER_DEV_MODE=1."""


@dataclass(frozen=True, slots=True)
class _Door:
    """An endpoint before the judge. `near` says that only hosts of the cluster get to it, as far as was seen."""

    case: FleetCase
    seen: ApiAuth
    endpoint: Endpoint
    causes: Causes

    @property
    def near(self) -> bool:
        return not self.endpoint.public and self.seen.approach(self.endpoint).via is not None

    def asked(self, what: str) -> Exchange | None:
        return self.seen.by_key.get(self.endpoint.key(CHECK, what))

    @property
    def may_be_open(self) -> bool:
        """A backend that the inventory lets be open, and that nobody outside the cluster was seen to reach."""
        allowed = not self.endpoint.public and self.case.params.flag("backends_may_be_open")
        return allowed and (self.near or outside(self.case) is not True)


def judge(case: FleetCase) -> Sequence[Ruling]:
    return per_endpoint(case, case.get(ApiAuth), _EXPECTED, lambda seen, endpoint: _ruling(case, seen, endpoint))


def _ruling(case: FleetCase, seen: ApiAuth, endpoint: Endpoint) -> Ruling:
    asked = seen.with_prefix(endpoint.key(CHECK))
    if asked and all(exchange.missing is not None and exchange.status is None for exchange in asked):
        return unknown(endpoint.target, why_not(asked[0]), _EXPECTED, evidence=(endpoint.key(CHECK),))
    door = _Door(case, seen, endpoint, Causes(endpoint.target, _EXPECTED))
    _weigh_bad(door)
    _weigh_revoked(door)
    _weigh_right(door)
    _weigh_inference(door)
    _weigh_acting(door)
    _weigh_lesser(door)
    shown = [(name, door.asked(f"{name}-{CHAT}"), door.asked(f"{name}-{LISTING}")) for name in (*REFUSING, "right")]
    shown.append(("revoked", None, door.asked("revoked-models")))
    told = [(VARIANTS[name], _codes(listing, chat)) for name, chat, listing in shown if listing or chat]
    where = from_where(seen.approach(endpoint))
    return door.causes.ruling(
        Text(
            ", ".join(f"{name.en} {codes}" for name, codes in told) + where.en,
            "，".join(f"{name.zh} {codes}" for name, codes in told) + where.zh,
        ),
        _PASSED,
        material={exchange.key: exchange.status for exchange in asked},
        evidence=(endpoint.key(CHECK),),
    )


def _codes(*exchanges: Exchange | None) -> str:
    """`401`, or `200/401` when listing and chat differ; `–` for no answer."""
    found = dict.fromkeys(str(e.status) if e.missing is None else "–" for e in exchanges if e is not None)
    return "/".join(found) or "–"


def _weigh_bad(door: _Door) -> None:
    """The variants that have to be refused, on both paths."""
    accepted: list[Text] = []
    odd: list[str] = []
    unadvertised = False
    for variant in REFUSING:
        for what, path in _PATHS.items():
            exchange = door.asked(f"{variant}-{what}")
            name = VARIANTS[variant]
            if exchange is None:
                door.causes.missing(
                    not_asked(door.endpoint, path), Text(f"{path} with {name.en}", f"{path}（{name.zh}）")
                )
                continue
            if _is_accepted(exchange):
                accepted.append(Text(f"{name.en} on {path}", f"{path}（{name.zh}）"))
            else:
                _weigh_refusal(door, exchange, Text(f"{path} with {name.en}", f"{path}（{name.zh}）"), odd)
                unadvertised = unadvertised or (exchange.status == 401 and "www-authenticate" not in exchange.headers)
    if accepted:
        _open(
            door,
            Text(
                f"served without a right to: {listed([text.en for text in accepted])}",
                f"未授权也被放行：{listed([text.zh for text in accepted])}",
            ),
        )
    if odd:
        codes = listed(list(dict.fromkeys(odd)))
        door.causes.warn(Text(f"refused with {codes} where 401 is proper", f"应返回 401，实际用 {codes} 拒绝"))
    if unadvertised:
        door.causes.warn(Text("the 401 comes without WWW-Authenticate", "401 缺少 WWW-Authenticate"))


def _is_accepted(exchange: Exchange) -> bool:
    """Anything of the 200s, also when the answer then broke off: it was let in."""
    return exchange.status is not None and 200 <= exchange.status < 300


def _weigh_refusal(door: _Door, exchange: Exchange, what: Text, odd: list[str]) -> None:
    said = outcome(exchange)
    if exchange.missing is not None:
        door.causes.missing(exchange.missing, what)
    elif exchange.status in door.case.params.counts("unauth_codes"):
        if exchange.status != 401:
            odd.append(str(exchange.status))
    elif exchange.status == 500:
        door.causes.fail(
            Text(
                f"{what.en} is answered {said.en}: an error, not a refusal", f"{what.zh} 返回 {said.zh}：是出错而非拒绝"
            )
        )
    else:
        door.causes.unknown(
            Reason.CANNOT_TELL,
            Text(
                f"{what.en} is answered {said.en}: neither served nor refused",
                f"{what.zh} 返回 {said.zh}：既未放行也未拒绝",
            ),
        )


def _open(door: _Door, text: Text) -> None:
    """FAIL; a WARN at a backend that may be open inside the cluster."""
    if door.may_be_open:
        door.causes.warn(Text(f"{text.en}; backends_may_be_open is true", f"{text.zh}；backends_may_be_open 为 true"))
    else:
        door.causes.fail(text)


def _weigh_revoked(door: _Door) -> None:
    exchange, name = door.asked("revoked-models"), VARIANTS["revoked"]
    if door.seen.revoked is not None:
        door.causes.missing(door.seen.revoked, name)
    if exchange is None:
        return
    if not _is_accepted(exchange):
        _weigh_refusal(door, exchange, name, [])
    elif not _everything_is_served(door):
        door.causes.fail(Text("the revoked key still works", "已吊销的密钥仍然可用"))


def _everything_is_served(door: _Door) -> bool:
    """Whether no key is looked at at all, so that a single key says nothing further."""
    exchange = door.asked(f"none-{LISTING}")
    return exchange is not None and _is_accepted(exchange)


def _weigh_right(door: _Door) -> None:
    if door.seen.keyless is not None:
        words = why_missing(door.seen.keyless)
        door.causes.unknown(
            Reason.NO_CREDENTIAL,
            Text(f"whether a right key is served is not known: {words.en}", f"无法得知正确密钥是否可用：{words.zh}"),
        )
        return
    for what, path in _PATHS.items():
        exchange = door.asked(f"right-{what}")
        name = Text(f"{path} with the right key", f"{path}（正确密钥）")
        if exchange is None:
            door.causes.missing(not_asked(door.endpoint, path), name)
        elif exchange.missing is not None:
            door.causes.missing(exchange.missing, name)
        elif exchange.status in (401, 403):
            door.causes.fail(
                Text(f"{path} refuses the right key ({exchange.status})", f"{path} 拒绝正确密钥（{exchange.status}）")
            )
        elif exchange.status != 200:
            door.causes.missing(why_not(exchange), name)


def _weigh_inference(door: _Door) -> None:
    """vLLM's key check covers /v1 only: /invocations answers prompts for everybody."""
    exchange = door.asked("open-invocations")
    if exchange is None or not _is_accepted(exchange) or not isinstance(answer_of(exchange), Completion):
        return
    text = Text(
        "POST /invocations answers prompts without any key: vLLM's check leaves it out, let the proxy pass /v1 only",
        "POST /invocations 无需密钥即可推理：vLLM 的密钥检查不管它，代理应只放行 /v1",
    )
    _as_far(door, text)


def _weigh_acting(door: _Door) -> None:
    """Routes that steer the server: they answer, or say 405 where a path that is not there says 404."""
    absent = door.asked("open-absent")
    if absent is None or absent.missing is not None or absent.status != 404:
        return
    found = [path for name, path in _ACTING.items() if _is_there(door.asked(f"open-{name}"))]
    if found:
        _as_far(
            door,
            Text(
                f"routes that steer the server need no key: {listed(found)}; let the proxy pass /v1 only, and unset "
                "VLLM_SERVER_DEV_MODE",
                f"控制服务器的路由无需密钥：{listed(found)}；代理只放行 /v1，并取消 VLLM_SERVER_DEV_MODE",
            ),
        )


def _is_there(exchange: Exchange | None) -> bool:
    return exchange is not None and exchange.missing is None and exchange.status in (200, 405, 422)


def _as_far(door: _Door, text: Text) -> None:
    """FAIL where users or strangers get to it; WARN where only hosts of the cluster do, or where it may be open."""
    if door.near or door.may_be_open:
        door.causes.warn(text)
    else:
        door.causes.fail(text)


def _weigh_lesser(door: _Door) -> None:
    """What costs or tells something without a key: the tokenizer, metrics, load."""
    tokenize = door.asked("open-tokenize")
    answer = table(tokenize.json()) if tokenize is not None and _is_accepted(tokenize) else None
    leaks: list[str] = []
    if answer is not None and "tokens" in answer:
        leaks.append("POST /tokenize")
    metrics = door.asked("open-metrics")
    if metrics is not None and metrics.status == 200 and ("vllm:" in metrics.text or "# TYPE" in metrics.text):
        leaks.append("/metrics")
    load = door.asked("open-load")
    described = table(load.json()) if load is not None and load.status == 200 else None
    if described is not None and "server_load" in described:
        leaks.append("/load")
    if not leaks:
        return
    text = Text(f"open without a key: {', '.join(leaks)}", f"无需密钥即可访问：{'、'.join(leaks)}")
    # Prometheus has to read a backend's metrics; users have no business there.
    if door.endpoint.public:
        door.causes.warn(text)
    else:
        door.causes.note(text)


JUDGE = FleetJudge(CHECK, (), (CHECK,), judge, needs=("api-auth",))
