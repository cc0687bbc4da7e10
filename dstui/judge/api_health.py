"""api.health: the health path is healthy, and a token proves that it means it."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median

from dstui.facts.api import ApiHealth, Endpoint, answer_of
from dstui.facts.case import FleetCase
from dstui.facts.exchange import Exchange
from dstui.facts.openai import Completion
from dstui.judge.api_words import from_where, milliseconds, not_asked, outcome, per_endpoint, why_not
from dstui.judge.registry import FleetJudge
from dstui.judge.rulings import Causes, quoted
from dstui.model import Reason, Ruling, Text, Verdict, same

CHECK = "api.health"
_PASSED = Text("every sample is 200 and one token comes in time", "每次都返回 200，且按时得到一个 token")
_NO_DEEP = Text("not tried", "未做")


def judge(case: FleetCase) -> Sequence[Ruling]:
    expected = Text(
        f"{case.params.count('samples')} × 200, and one token within 10 s",
        f"{case.params.count('samples')} 次 200，10 秒内得到一个 token",
    )
    return per_endpoint(
        case, case.get(ApiHealth), expected, lambda seen, endpoint: _ruling(case, seen, endpoint, expected)
    )


def _ruling(case: FleetCase, seen: ApiHealth, endpoint: Endpoint, expected: Text) -> Ruling:
    samples = seen.with_prefix(endpoint.key(CHECK, "sample-"))
    deep = seen.by_key.get(endpoint.key(CHECK, "deep"))
    causes = Causes(endpoint.target, expected)
    _weigh_deep(case, seen, endpoint, deep, causes)
    alive = causes.verdict is Verdict.PASS
    _weigh_samples(case, seen, endpoint, samples, alive, causes)
    good = [sample for sample in samples if _healthy(sample)]
    bad = next((sample for sample in samples if not _healthy(sample)), None)
    took = f"{median(s.seconds for s in good) * 1000:.0f} ms" if good else ""
    shallow = Text(f"{len(good)} of {len(samples)} healthy", f"{len(samples)} 次中 {len(good)} 次健康")
    if bad is not None:
        said = outcome(bad)
        shallow = Text(f"{shallow.en}, else {said.en}", f"{shallow.zh}，其余 {said.zh}")
    elif took:
        shallow = Text(f"{shallow.en}, {took}", f"{shallow.zh}，{took}")
    depth = _NO_DEEP if deep is None else same(milliseconds(deep)) if _token(deep) else outcome(deep)
    where = from_where(seen.approach(endpoint))
    return causes.ruling(
        Text(f"{shallow.en}; token: {depth.en}{where.en}", f"{shallow.zh}；token：{depth.zh}{where.zh}"),
        _PASSED,
        material={
            "statuses": [sample.status for sample in samples],
            "deep": None if deep is None else deep.status,
            "token": deep is not None and _token(deep),
        },
        evidence=(endpoint.key(CHECK),),
    )


def _healthy(sample: Exchange) -> bool:
    return sample.missing is None and sample.status == 200


def _token(deep: Exchange) -> bool:
    """Whether it brought a token: by the server's own count, or by any text at all."""
    if deep.missing is not None or deep.status != 200:
        return False
    answer = answer_of(deep)
    return isinstance(answer, Completion) and answer.tokens > 0


def _weigh_samples(
    case: FleetCase,
    seen: ApiHealth,
    endpoint: Endpoint,
    samples: Sequence[Exchange],
    alive: bool,
    causes: Causes,
) -> None:
    path = quoted(case.params.text("health_path"), 60)
    if not samples:
        causes.missing(not_asked(endpoint, path), same(path))
        return
    bad = [sample for sample in samples if not _healthy(sample)]
    if not bad:
        _weigh_pace(case, samples, causes)
        return
    out = [s for s in bad if s.missing is not None and not (s.fault is not None and s.fault.connected)]
    if len(out) == len(samples):
        causes.missing(why_not(out[0]), same(path))
    elif all(sample.status == 404 for sample in samples):
        _weigh_absent(seen, endpoint, path, alive, causes)
    elif all(sample.status in (401, 403) for sample in samples):
        said = samples[0].status
        causes.warn(
            Text(
                f"{path} wants a key ({said}): a load balancer that asks it takes this endpoint for dead",
                f"{path} 需要密钥（{said}）：用它探活的负载均衡会认为此端点已死",
            )
        ) if alive else causes.unknown(
            Reason.NO_CREDENTIAL, Text(f"{path} answers {said} without a key", f"{path} 不带密钥返回 {said}")
        )
    elif len(bad) * 2 < len(samples):
        said_text = outcome(bad[0])
        causes.warn(
            Text(
                f"flapping: {len(bad)} of {len(samples)} answers of {path} were bad ({said_text.en})",
                f"时好时坏：{path} 的 {len(samples)} 次应答中 {len(bad)} 次异常（{said_text.zh}）",
            )
        )
    else:
        said_text = outcome(bad[0])
        causes.fail(
            Text(
                f"{path} is not healthy: {len(bad)} of {len(samples)} bad ({said_text.en})",
                f"{path} 不健康：{len(samples)} 次中 {len(bad)} 次异常（{said_text.zh}）",
            )
        )


def _weigh_pace(case: FleetCase, samples: Sequence[Exchange], causes: Causes) -> None:
    limit = case.params.number("latency_warn_ms")
    typical = median(sample.seconds for sample in samples) * 1000
    if typical > limit:
        causes.warn(
            Text(f"slow: {typical:.0f} ms, more than {limit:g} ms", f"响应慢：{typical:.0f} ms，超过 {limit:g} ms")
        )


def _weigh_absent(seen: ApiHealth, endpoint: Endpoint, path: str, alive: bool, causes: Causes) -> None:
    """The path is 404: of another server (Ray Serve), not let through by the balancer, or really not there."""
    serve = seen.by_key.get(endpoint.key(CHECK, "serve"))
    if alive and serve is not None and _healthy(serve):
        causes.warn(
            Text(
                f"{path} is 404 here, Ray Serve's own /-/healthz answers: set endpoints.health_path",
                f"{path} 返回 404，而 Ray Serve 自己的 /-/healthz 正常：请设置 endpoints.health_path",
            )
        )
    elif alive and endpoint.public:
        causes.warn(
            Text(
                f"{path} is not let through by the load balancer (404); tokens come all the same",
                f"负载均衡没有放行 {path}（404），但仍能得到 token",
            )
        )
    else:
        causes.fail(Text(f"{path} is not there (404)", f"{path} 不存在（404）"))


def _weigh_deep(case: FleetCase, seen: ApiHealth, endpoint: Endpoint, deep: Exchange | None, causes: Causes) -> None:
    if deep is None:
        if case.params.flag("deep_probe"):
            causes.missing(not_asked(endpoint, "one token"), Text("one token", "一个 token"))
        else:
            causes.warn(
                Text(
                    "shallow only: deep_probe is off, so a hung engine would look healthy",
                    "只做了浅层探测：deep_probe 已关闭，引擎卡死也会显示健康",
                )
            )
        return
    said = outcome(deep)
    if deep.missing is not None and not (deep.fault is not None and deep.fault.connected):
        causes.missing(deep.missing, Text("one token", "一个 token"))
    elif deep.status in (401, 403) and seen.keyless is not None:
        why = quoted(seen.keyless.why, 120)
        causes.warn(
            Text(f"shallow only: no key for the deep probe ({why})", f"只做了浅层探测：深度探测没有密钥（{why}）")
        )
    elif deep.status in (401, 403):
        causes.unknown(
            Reason.NO_CREDENTIAL,
            Text(f"the key is refused ({said.en}), so no token was asked", f"密钥被拒（{said.zh}），无法请求 token"),
        )
    elif deep.status == 429:
        causes.unknown(
            Reason.CANNOT_TELL,
            Text("a rate limit let no token through", "被限流，没能请求到 token"),
        )
    elif not _token(deep):
        shown = (
            said if deep.status != 200 or deep.missing is not None else Text("200 without a token", "200 但没有 token")
        )
        causes.fail(
            Text(
                f"no token comes ({shown.en}): the engine behind it does not work",
                f"得不到 token（{shown.zh}）：背后的引擎不工作",
            )
        )


JUDGE = FleetJudge(CHECK, (), (CHECK,), judge, needs=("api-health",))
