"""vllm.serve-concurrency: requests sent at once are worked on at once, by every replica, and answers are not mixed up.

Latencies of requests that were sent together cannot tell: in a queue of one they add up to many times the wall time,
and look like the best parallelism. So what counts is the time in which the words of each answer came (its service):
where these overlap the requests were worked on together.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from dstui.facts.case import FleetCase
from dstui.facts.exchange import Exchange, Fault
from dstui.facts.raw import Missing
from dstui.facts.serve_burst import ALONE, PREFIX, SINGLES, WARM_UP, Answered, Burst
from dstui.judge.fleet import cluster_target
from dstui.judge.registry import FleetJudge, Lane
from dstui.judge.rulings import Causes, quoted, unknown
from dstui.judge.vllm_sanity import weigh_ongoing
from dstui.model import Reason, Ruling, Target, TargetKind, Text

SERIAL_RATIO = 0.9
"""Above this the requests were worked on one after the other (CATALOGUE 039)."""

SHORTEST_SERVICE_SECONDS = 0.02
"""Below this the words of an answer came in one piece, and their time says nothing: the time of one alone is taken."""

_EVIDENCE = (PREFIX,)
_TOO_MANY = 429


def judge(case: FleetCase) -> Sequence[Ruling]:
    count, limit = case.params.count("n"), case.params.number("parallel_ratio_max")
    expected = Text(
        f"{count} requests at once all answered, in at most {limit:g} of the time one after the other takes",
        f"{count} 个请求同时发出全部成功，耗时不超过逐个执行的 {limit:g} 倍",
    )
    burst = case.get(Burst)
    if isinstance(burst, Missing):
        return [unknown(cluster_target(case.site), burst, expected)]
    if burst.url is None:
        none = burst.not_made or Missing(Reason.NO_TARGETS, "endpoints.serve is not set")
        return [unknown(cluster_target(case.site), none, expected)]
    return [_ruling(case, burst, Causes(Target(TargetKind.ENDPOINT, burst.url), expected), limit)]


def _ruling(case: FleetCase, burst: Burst, causes: Causes, limit: float) -> Ruling:
    answers = burst.answers()
    if not answers:
        _weigh_not_made(causes, burst)
        shown = Text("the requests were not sent", "没有发出请求")
        return causes.ruling(shown, shown, material={"sent": 0}, evidence=_EVIDENCE)
    good = [answer for answer in answers if answer.fault is None and answer.text]
    _weigh_answers(causes, answers)
    _weigh_cross_talk(causes, answers)
    ratio = _ratio(burst, good) if len(good) == len(answers) else None
    if len(good) == len(answers):
        _weigh_ratio(causes, ratio, limit)
    _weigh_replicas(causes, burst, len(answers))
    weigh_ongoing(causes, burst.configs, _max_num_seqs(burst))
    return causes.ruling(
        _observed(answers, good, ratio),
        Text("worked on together, nothing mixed up", "并行处理，没有串话"),
        material={"good": len(good), "sent": len(answers), "parallel": ratio is not None and ratio <= limit},
        evidence=_EVIDENCE,
    )


def _max_num_seqs(burst: Burst) -> int | None:
    """As Serve was told, where that can be read."""
    values = [e.values.get("max_num_seqs") for app in burst.configs for e in app.engines or ()]
    known = [value for value in values if isinstance(value, int)]
    return max(known, default=None)


def _weigh_not_made(causes: Causes, burst: Burst) -> None:
    exchange = next((burst.by_key[k] for k in (PREFIX + ALONE, PREFIX + WARM_UP) if k in burst.by_key), None)
    exchange = exchange or burst.by_key.get(f"{PREFIX}models")
    missing = burst.not_made or Missing(Reason.NOT_RUN, "the requests were not sent")
    if exchange is not None and exchange.status in (401, 403):
        why = burst.keyless or Missing(Reason.NO_CREDENTIAL, f"the key is refused (HTTP {exchange.status})")
        causes.missing(why, Text(burst.url or "", burst.url or ""))
    elif exchange is not None and _broken(exchange):
        said = quoted(missing.why, 160)
        causes.fail(Text(f"a single request fails: {said}", f"单个请求就失败：{said}"))
    else:
        causes.missing(missing, Text(burst.url or "", burst.url or ""))


def _broken(exchange: Exchange) -> bool:
    """Whether something was there and did not do its work; what is merely out of reach is not known."""
    if exchange.missing is not None:
        return exchange.fault is not None and exchange.fault.connected
    return exchange.status != _TOO_MANY


def _weigh_answers(causes: Causes, answers: Sequence[Answered]) -> None:
    bad: Counter[str] = Counter()
    backpressure = limited = 0
    for answer in answers:
        exchange = answer.exchange
        if answer.fault is None:
            if not answer.text:
                bad["empty answer"] += 1
        elif exchange.status == 503 and "backpressure" in exchange.text.lower():
            backpressure += 1
        elif exchange.status == _TOO_MANY:
            limited += 1
        elif exchange.missing is not None:
            bad[(exchange.fault or Fault.BROKE_OFF).value] += 1
        else:
            bad[quoted(answer.fault.why, 100)] += 1
    if bad:
        listed = ", ".join(f"{count} × {what}" for what, count in bad.most_common(3))
        causes.fail(Text(f"of {len(answers)} at once: {listed}", f"同时 {len(answers)} 个请求中：{listed}"))
    if backpressure:
        causes.warn(
            Text(
                f"Serve turned {backpressure} of {len(answers)} away (503, max_queued_requests)",
                f"Serve 拒绝了 {len(answers)} 个中的 {backpressure} 个（503，max_queued_requests）",
            )
        )
    if limited:
        causes.unknown(
            Reason.CANNOT_TELL,
            Text(
                f"a rate limiter turned {limited} of {len(answers)} away (429): endpoints.serve should be past it",
                f"限流器拒绝了 {len(answers)} 个中的 {limited} 个（429）：endpoints.serve 应绕过它",
            ),
        )


def _weigh_cross_talk(causes: Causes, answers: Sequence[Answered]) -> None:
    mixed = [
        (answer.sent, other.sent)
        for answer in answers
        for other in answers
        if other.sent is not answer.sent and other.sent.nonce in answer.text
    ]
    if mixed:
        one, other = (sent.key.removeprefix(PREFIX) for sent in mixed[0])
        causes.fail(
            Text(
                f"answers are mixed up: that of {one} holds the code of {other} ({len(mixed)} × in all)",
                f"答案串话：{one} 的答案中有 {other} 的随机数（共 {len(mixed)} 处）",
            )
        )


def _ratio(burst: Burst, answers: Sequence[Answered]) -> float | None:
    """Wall time by what one after the other would take: 1 / n when all overlap, 1 when none do; None: cannot tell."""
    spans = [answer.service for answer in answers if answer.service is not None]
    services = [end - begin for begin, end in spans]
    if len(spans) == len(answers) and min(services) >= SHORTEST_SERVICE_SECONDS:
        wall = max(end for _, end in spans) - min(begin for begin, _ in spans)
        return wall / sum(services)
    alone = burst.by_key.get(PREFIX + ALONE)
    if alone is None or alone.missing is not None or alone.seconds <= 0:
        return None
    wall = max(answer.sent.at + answer.exchange.seconds for answer in answers) - min(a.sent.at for a in answers)
    return wall / (alone.seconds * len(answers))


def _weigh_ratio(causes: Causes, ratio: float | None, limit: float) -> None:
    if ratio is None:
        causes.unknown(
            Reason.CANNOT_TELL, Text("whether they were worked on together is not seen", "看不出是否并行处理")
        )
    elif ratio > SERIAL_RATIO:
        causes.fail(
            Text(
                f"worked on one after the other: {ratio:.2f} of the time that takes (serial above {SERIAL_RATIO:g})",
                f"实为逐个处理：耗时为逐个执行的 {ratio:.2f} 倍（高于 {SERIAL_RATIO:g} 即串行）",
            )
        )
    elif ratio > limit:
        causes.warn(
            Text(
                f"only partly together: {ratio:.2f} of the time one after the other takes (at most {limit:g})",
                f"仅部分并行：耗时为逐个执行的 {ratio:.2f} 倍（应不超过 {limit:g}）",
            )
        )


def _weigh_replicas(causes: Causes, burst: Burst, sent: int) -> None:
    if burst.replicas is None or len(burst.replicas) < 2:
        return
    count = len(burst.replicas)
    if isinstance(burst.spread, Missing):
        causes.missing(burst.spread, Text(f"which of {count} replicas worked", f"{count} 个副本中哪些参与了"))
        return
    # A replica may have got the single requests and nothing of the burst.
    worked = {replica: taken for replica, taken in burst.spread.items() if taken > SINGLES}
    shown = ", ".join(f"{replica} {taken}" for replica, taken in sorted(burst.spread.items())[:8])
    if sum(burst.spread.values()) < sent and len(worked) < 2:
        causes.unknown(
            Reason.TIMEOUT,
            Text(
                f"the counters of {count} replicas tell of {sum(burst.spread.values())} requests only: {shown}",
                f"{count} 个副本的计数器只记录了 {sum(burst.spread.values())} 个请求：{shown}",
            ),
        )
    elif len(worked) < 2:
        causes.warn(Text(f"all on one of {count} replicas: {shown}", f"{count} 个副本中只有一个参与：{shown}"))
    else:
        causes.note(Text(f"requests by replica: {shown}", f"各副本请求数：{shown}"))


def _observed(answers: Sequence[Answered], good: Sequence[Answered], ratio: float | None) -> Text:
    seconds = sorted(answer.exchange.seconds for answer in answers)
    times = f"p50 {seconds[(len(seconds) - 1) // 2]:.2f} s, max {seconds[-1]:.2f} s"
    shown = f"{ratio:.2f}" if ratio is not None else "?"
    return Text(
        f"{len(good)} of {len(answers)} answered, ratio {shown}, {times}",
        f"{len(answers)} 个中 {len(good)} 个成功，比值 {shown}，{times}",
    )


JUDGE = FleetJudge("vllm.serve-concurrency", (), (), judge, needs=("serve-concurrency",), lane=Lane.WORK)
