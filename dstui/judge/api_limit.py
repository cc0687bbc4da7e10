"""api.rate-limit: somebody who asks too often is refused cleanly, and is served again soon after."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from dstui.facts.api import ApiRateLimit, BurstStep, Endpoint, limited
from dstui.facts.case import FleetCase
from dstui.facts.exchange import Exchange
from dstui.facts.raw import Missing
from dstui.judge.api_limit_config import Configured, configured
from dstui.judge.api_words import outcome, per_endpoint
from dstui.judge.fleet import listed
from dstui.judge.registry import FleetJudge, Lane
from dstui.judge.rulings import Causes, quoted, why_missing
from dstui.model import Reason, Ruling, Text, same

CHECK = "api.rate-limit"
CHAT_PATH = "/v1/chat/completions"
RECOVERY_SECONDS = 30
_EXPECTED = Text(
    f"beyond a limit 429 with Retry-After, 200 again within {RECOVERY_SECONDS} s",
    f"超限返回 429 并带 Retry-After，{RECOVERY_SECONDS} 秒内恢复 200",
)
_PASSED = Text("the limit acts, refuses cleanly and lets go", "限流生效，拒绝方式正确，随后恢复")


def judge(case: FleetCase) -> Sequence[Ruling]:
    seen = case.get(ApiRateLimit)
    if not isinstance(seen, Missing) and seen.not_made is not None:
        seen = seen.not_made
    return per_endpoint(case, seen, _EXPECTED, lambda seen, endpoint: _ruling(case, seen, endpoint))


def _ruling(case: FleetCase, seen: ApiRateLimit, endpoint: Endpoint) -> Ruling:
    causes = Causes(endpoint.target, _EXPECTED)
    config = configured(case, endpoint, case.params.text("burst_path").partition(" ")[2].strip())
    answers = _answers(seen.steps)
    stopped = next((step for step in seen.steps if step.first_limited is not None), None)
    for name in config.shared:
        causes.warn(
            Text(
                f"the limit is keyed on {quoted(name, 60)}: all users share one bucket",
                f"限流按 {quoted(name, 60)} 计：所有用户共用一个桶",
            )
        )
    _weigh_coverage(case, endpoint, config, causes)
    if _never_served(case, seen, endpoint, causes):
        pass
    elif stopped is None:
        _weigh_unlimited(case, seen, config, causes)
    else:
        _weigh_limited(case, seen, stopped, answers, causes)
    _weigh_unclean(seen, endpoint, answers, causes)
    _weigh_body(case, seen, endpoint, causes)
    _weigh_long_answer(case, seen, endpoint, causes)
    if config.found:
        causes.note(
            Text(f"configured: {quoted(listed(config.found), 200)}", f"配置：{quoted(listed(config.found), 200)}")
        )
    if config.unknown is not None:
        words = why_missing(config.unknown)
        causes.note(Text(f"configuration not seen: {words.en}", f"未看到配置：{words.zh}"))
    return causes.ruling(
        _observed(seen, stopped, answers),
        _PASSED,
        material={"limited": stopped is not None, "statuses": sorted(answers), "configured": list(config.found)},
        evidence=(endpoint.key(CHECK), "lb.version"),
    )


def _weigh_coverage(case: FleetCase, endpoint: Endpoint, config: Configured, causes: Causes) -> None:
    """A limit that only logs, and one that leaves out what costs most."""
    if config.dry:
        causes.warn(
            Text(
                f"{quoted(listed(config.dry), 120)} is in dry_run: it only writes a log",
                f"{quoted(listed(config.dry), 120)} 处于 dry_run：只记日志",
            )
        )
    if config.found and not configured(case, endpoint, CHAT_PATH).found:
        causes.warn(
            Text(
                f"the limit does not cover {CHAT_PATH}, which costs most",
                f"限流没有覆盖最耗资源的 {CHAT_PATH}",
            )
        )


def _answers(steps: Sequence[BurstStep]) -> Counter[str]:
    whole: Counter[str] = Counter()
    for step in steps:
        whole.update(step.answers)
    return whole


def _observed(seen: ApiRateLimit, stopped: BurstStep | None, answers: Counter[str]) -> Text:
    sent = sum(step.sent for step in seen.steps)
    fastest = max((step.achieved for step in seen.steps), default=0.0)
    counts = listed([f"{count} × {what}" for what, count in sorted(answers.items())])
    if stopped is None:
        return Text(
            f"{sent} requests, up to {fastest:.0f}/s: {counts}", f"{sent} 个请求，最高 {fastest:.0f}/s：{counts}"
        )
    again = f"{seen.recovered_s:.0f} s" if seen.recovered_s is not None else "–"
    return Text(
        f"limited from request {stopped.first_limited} at {stopped.achieved:.0f}/s ({counts}), served again in {again}",
        f"第 {stopped.first_limited} 个请求起被限（{stopped.achieved:.0f}/s；{counts}），{again} 后恢复",
    )


def _never_served(case: FleetCase, seen: ApiRateLimit, endpoint: Endpoint, causes: Causes) -> bool:
    """Whether the path was not served even in calm times, so that nothing was shown."""
    if not seen.steps:
        causes.unknown(Reason.NOT_RUN, Text("no request was sent", "未发送请求"))
        return True
    if endpoint_served(seen, endpoint):
        return False
    bad = seen.by_key.get(endpoint.key(CHECK, "bad")) or seen.by_key.get(endpoint.key(CHECK, "limited"))
    path = quoted(case.params.text("burst_path"), 60)
    if bad is not None and bad.missing is not None:
        causes.missing(bad.missing, same(path))
    else:
        said = outcome(bad) if bad is not None else same("–")
        causes.unknown(
            Reason.CANNOT_TELL,
            Text(f"{path} is not served even when asked slowly: {said.en}", f"{path} 慢速请求也得不到服务：{said.zh}"),
        )
    return True


def endpoint_served(seen: ApiRateLimit, endpoint: Endpoint) -> bool:
    return endpoint.key(CHECK, "first") in seen.by_key


def _weigh_unlimited(case: FleetCase, seen: ApiRateLimit, config: Configured, causes: Causes) -> None:
    sent = sum(step.sent for step in seen.steps)
    if config.found:
        causes.warn(
            Text(
                f"a limit is configured, but {sent} requests did not reach it: that it acts was not seen",
                f"配置了限流，但 {sent} 个请求没有触发：未能证明它生效",
            )
        )
    elif config.unknown is not None:
        words = why_missing(config.unknown)
        causes.unknown(
            config.unknown.reason,
            Text(
                f"{sent} requests were all served, and whether a higher limit is configured was not seen ({words.en})",
                f"{sent} 个请求全部放行，且没看到是否配置了更高的限额（{words.zh}）",
            ),
        )
    else:
        causes.fail(
            Text(
                f"no limit: {sent} requests were all served, and none is configured",
                f"没有限流：{sent} 个请求全部放行，也没有任何配置",
            )
        )


def _weigh_limited(
    case: FleetCase, seen: ApiRateLimit, stopped: BurstStep, answers: Counter[str], causes: Causes
) -> None:
    if seen.recovered_s is None or seen.recovered_s > RECOVERY_SECONDS:
        causes.fail(
            Text(
                f"not served again within {RECOVERY_SECONDS} s after the burst",
                f"突发之后 {RECOVERY_SECONDS} 秒内没有恢复",
            )
        )
    if "" in seen.retry_after:
        text = Text("limited answers come without Retry-After", "被限的应答没有 Retry-After")
        (causes.fail if case.params.flag("retry_after_required") else causes.warn)(text)
    if answers["503"]:
        causes.warn(
            Text(
                "refused with 503, nginx's default, where 429 is proper: clients take it for an outage",
                "用 503（nginx 默认）而非 429 拒绝：客户端会当成故障",
            )
        )
    expected = case.params.optional_number("limit_expected_rps")
    if expected is not None and stopped.rate < expected:
        causes.warn(
            Text(
                f"limited already at {stopped.rate:g}/s, under the {expected:g}/s of limit.expected_rps",
                f"{stopped.rate:g}/s 就被限，低于 limit.expected_rps 的 {expected:g}/s",
            )
        )


def _weigh_unclean(seen: ApiRateLimit, endpoint: Endpoint, answers: Counter[str], causes: Causes) -> None:
    """Errors and broken connections under a burst are no protection."""
    if not endpoint_served(seen, endpoint):
        return
    calm = {"200", "401", "403"} if seen.keyless is not None else {"200"}
    bad = {what: count for what, count in sorted(answers.items()) if what not in calm and what not in ("429", "503")}
    if bad:
        counts = listed([f"{count} × {what}" for what, count in bad.items()])
        causes.fail(
            Text(f"unclean answers: {counts}", f"突发时出现异常应答：{counts}"),
        )


def _weigh_body(case: FleetCase, seen: ApiRateLimit, endpoint: Endpoint, causes: Causes) -> None:
    exchange = seen.by_key.get(endpoint.key(CHECK, "body"))
    if exchange is None:
        return
    said, most = outcome(exchange), quoted(case.params.text("body_max"), 20)
    if exchange.status == 413:
        causes.note(Text(f"a body over {most} is refused (413)", f"超过 {most} 的请求体被拒（413）"))
    elif exchange.missing is not None and exchange.status is None:
        causes.note(
            Text(f"a body over {most}: {said.en}, so no clean 413", f"超过 {most} 的请求体：{said.zh}，没有返回 413")
        )
    elif exchange.status in (401, 403) or limited(exchange.status):
        causes.note(
            Text(f"a body over {most} got {said.en}: not tested", f"超过 {most} 的请求体得到 {said.zh}：未能测试")
        )
    else:
        causes.warn(
            Text(
                f"a body over {most} is read to its end ({said.en}) instead of being refused with 413",
                f"超过 {most} 的请求体被完整接收（{said.zh}），没有用 413 拒绝",
            )
        )


def _weigh_long_answer(case: FleetCase, seen: ApiRateLimit, endpoint: Endpoint, causes: Causes) -> None:
    exchange: Exchange | None = seen.by_key.get(endpoint.key(CHECK, "max-tokens"))
    if exchange is None:
        return
    said, most = outcome(exchange), case.params.value("max_tokens_cap")
    if exchange.status is not None and 400 <= exchange.status < 500 and exchange.status != 429:
        causes.note(Text(f"max_tokens over {most} is refused ({said.en})", f"max_tokens 超过 {most} 被拒（{said.zh}）"))
    elif exchange.status == 200:
        causes.warn(
            Text(
                f"max_tokens over {most} is taken; whether the answer is cut all the same was not waited for",
                f"max_tokens 超过 {most} 被接受；是否会被截短没有等待确认",
            )
        )
    else:
        causes.note(Text(f"max_tokens over {most}: {said.en}", f"max_tokens 超过 {most}：{said.zh}"))


JUDGE = FleetJudge(CHECK, ("lb",), (CHECK, "lb.version"), judge, needs=("api-rate-limit",), lane=Lane.BURST)
