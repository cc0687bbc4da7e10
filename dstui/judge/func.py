"""func.*: basic inference and concurrent requests; long text, languages and errors are in modules of their own."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

from dstui.facts import openai, sse
from dstui.facts.case import FleetCase
from dstui.facts.exchange import Exchange
from dstui.facts.func import BasicInference, Concurrent, ConcurrentAnswer
from dstui.facts.openai import Completion, Streamed, Usage
from dstui.facts.raw import Missing
from dstui.judge import func_errors, func_text
from dstui.judge.func_answers import KEYLESS_CODES, LIMITED_CODES, NO_ENDPOINT, came, status_text
from dstui.judge.registry import FleetJudge, Lane
from dstui.judge.rulings import Causes, quoted, unknown
from dstui.model import Reason, Ruling, Text

PLAIN, STREAM = Text("plain", "非流式"), Text("stream", "流式")
FINISHED = ("stop", "length")
LEAST_PIECES = 2
LEAST_TOGETHER = 2
"""Answers without which nothing could have been mixed up."""

OWN_NONCE_SHARE = 0.8
"""CATALOGUE 053: below it isolation is proved only for the answers that did repeat their word."""


def basic(case: FleetCase) -> Sequence[Ruling]:
    """One answer plain and one streamed, each whole in every respect."""
    found = case.get(BasicInference)
    expected = Text("a complete answer, plain and streamed", "非流式和流式都返回完整回答")
    if isinstance(found, Missing):
        return [unknown(BasicInference({}).of.target, found, expected)]
    if found.of.url is None:
        return [unknown(found.of.target, NO_ENDPOINT, expected)]
    causes = Causes(found.of.target, expected)
    plain, stream = found.by_key["plain"], found.by_key["stream"]
    one = _plain(causes, found, plain)
    other = _stream(causes, found, stream)
    slow = case.params.number("latency_warn_s")
    for exchange, what in ((plain, PLAIN), (stream, STREAM)):
        if exchange.status == 200 and exchange.seconds > slow:
            told = Text(
                f"{what.en} took {exchange.seconds:.1f} s, more than {slow:g}",
                f"{what.zh}耗时 {exchange.seconds:.1f} 秒，超过 {slow:g}",
            )
            causes.warn(told)
    if one is not None and other is not None and one.usage is not None and other.usage is not None:
        counts = one.usage.completion, other.usage.completion
        if counts[0] != counts[1]:
            causes.warn(
                Text(
                    f"{counts[0]} tokens plain, {counts[1]} streamed, at temperature 0",
                    f"温度为 0 时非流式 {counts[0]} 个 token，流式 {counts[1]} 个",
                )
            )
    tokens = one.usage.completion if one is not None and one.usage is not None else 0
    first = _first_text(stream, other)
    observed = Text(
        f"{tokens} tokens in {plain.seconds:.2f} s; streamed: first text after {first}",
        f"{plain.seconds:.2f} 秒内 {tokens} 个 token；流式首个文本 {first}",
    )
    passed = Text("both answers satisfy every rule of the API", "两种回答都符合 API 的全部规则")
    return [causes.ruling(observed, passed)]


def _first_text(stream: Exchange, told: Streamed | None) -> str:
    at = stream.when(told.first) if told is not None and told.first is not None else None
    return "?" if at is None else f"{at * 1000:.0f} ms"


def _plain(causes: Causes, found: BasicInference, exchange: Exchange) -> Completion | None:
    if not came(causes, found.of, exchange, PLAIN):
        return None
    if exchange.status != 200:
        causes.fail(status_text(exchange, PLAIN))
        return None
    answer = exchange.json()
    told = answer if isinstance(answer, Missing) else openai.completion(answer)
    if not isinstance(told, Completion):
        why = quoted(told.why if isinstance(told, Missing) else told.message)
        causes.fail(Text(f"plain: {why}", f"非流式：{why}"))
        return None
    for wrong in _faults_of(exchange, told, found.of.model):
        causes.fail(wrong)
    return told


def _faults_of(exchange: Exchange, told: Completion, model: str) -> list[Text]:
    """What is wrong with a plain answer, each in words."""
    wrong: list[Text] = []
    if exchange.kind != "application/json":
        wrong.append(
            Text(
                f"plain: Content-Type {quoted(exchange.kind) or 'absent'}",
                f"非流式：Content-Type {quoted(exchange.kind) or '缺失'}",
            )
        )
    if told.object != "chat.completion":
        wrong.append(Text(f"plain: object is {quoted(told.object)!r}", f"非流式：object 为 {quoted(told.object)!r}"))
    choice = told.choices[0] if told.choices else None
    if choice is None or not (choice.text or choice.reasoning or choice.tool_calls):
        wrong.append(Text("plain: the answer has no text", "非流式：回答没有文本"))
    elif choice.role != "assistant":
        wrong.append(
            Text(f"plain: role is {quoted(choice.role or '')!r}", f"非流式：role 为 {quoted(choice.role or '')!r}")
        )
    if choice is not None and choice.finish_reason not in FINISHED:
        reason = quoted(choice.finish_reason or "none")
        wrong.append(Text(f"plain: finish_reason is {reason}", f"非流式：finish_reason 为 {reason}"))
    if told.usage is None:
        wrong.append(Text("plain: no usage", "非流式：没有 usage"))
    elif not _adds_up(told.usage):
        wrong.append(Text("plain: the counts of usage do not add up", "非流式：usage 的数目不一致"))
    if told.model != model:
        named = quoted(told.model) or "?"
        wrong.append(
            Text(
                f"plain: answered by model {named}, asked was {model}", f"非流式：应答模型为 {named}，请求的是 {model}"
            )
        )
    return wrong


def _adds_up(usage: Usage) -> bool:
    return usage.total is not None and usage.total == usage.prompt + usage.completion


def _stream(causes: Causes, found: BasicInference, exchange: Exchange) -> Streamed | None:
    if not came(causes, found.of, exchange, STREAM):
        return None
    if exchange.status != 200:
        causes.fail(status_text(exchange, STREAM))
        return None
    told = openai.streamed(sse.events(exchange.body))
    if exchange.kind != sse.MEDIA_TYPE:
        kind = quoted(exchange.kind) or "?"
        causes.fail(Text(f"stream: Content-Type {kind}", f"流式：Content-Type {kind}"))
    if told.error is not None:
        why = quoted(told.error.message)
        causes.fail(Text(f"stream: an error inside a 200 answer: {why}", f"流式：200 应答内出现错误：{why}"))
    if told.faults:
        why = quoted(told.faults[0].why)
        causes.fail(
            Text(
                f"stream: {len(told.faults)} events cannot be read: {why}",
                f"流式：{len(told.faults)} 个事件无法解析：{why}",
            )
        )
    if not told.done:
        causes.fail(Text("stream: it ends without [DONE]", "流式：结束时没有 [DONE]"))
    if not (told.text or told.reasoning):
        causes.fail(Text("stream: no text", "流式：没有文本"))
    elif told.pieces < LEAST_PIECES:
        causes.fail(Text("stream: all text came in one piece", "流式：全部文本在一个片段中到达"))
    if told.usage is None:
        causes.warn(Text("stream: no usage although it was asked for", "流式：请求了 usage 但没有返回"))
    return told


def concurrent(case: FleetCase) -> Sequence[Ruling]:
    """All together: each answered, none with a word that belongs to another."""
    found = case.get(Concurrent)
    count = case.params.count("n")
    expected = Text(f"{count} requests at once, all answered, none mixed up", f"{count} 个并发请求全部应答且互不混淆")
    if isinstance(found, Missing):
        return [unknown(BasicInference({}).of.target, found, expected)]
    if found.of.url is None:
        return [unknown(found.of.target, NO_ENDPOINT, expected)]
    causes = Causes(found.of.target, expected)
    texts = {answer.nonce: text_of(answer) for answer in found.answers}
    foreign = _mixed_up(causes, found, texts)
    _statuses(causes, found, case.params.number("success_min"))
    good = [answer for answer in found.answers if answer.exchange.status == 200 and answer.exchange.missing is None]
    own = sum(answer.nonce in texts[answer.nonce] for answer in good)
    if good and own < OWN_NONCE_SHARE * len(good):
        causes.warn(
            Text(
                f"only {own} of {len(good)} answers repeat their own word: nothing proves whose the others are",
                f"只有 {own}/{len(good)} 个回答重复了自己的标记词：其余无法证明归属",
            )
        )
    ids = Counter(each for answer in good for each in ids_of(answer))
    if any(times > 1 for times in ids.values()):
        causes.warn(Text("answers share an id", "多个回答的 id 相同"))
    times = sorted(answer.exchange.seconds for answer in good)
    observed = Text(
        f"{len(good)} of {len(found.answers)} answered in {found.seconds:.1f} s, p50 {_nearest(times, 0.5)}, "
        f"p95 {_nearest(times, 0.95)}; own word in {own}, a foreign one in {foreign}",
        f"{found.seconds:.1f} 秒内应答 {len(good)}/{len(found.answers)}，p50 {_nearest(times, 0.5)}，"
        f"p95 {_nearest(times, 0.95)}；含自身标记 {own} 个，含他人标记 {foreign} 个",
    )
    passed = Text("all answered, ids differ, no foreign word", "全部应答，id 各不相同，没有他人的标记词")
    return [causes.ruling(observed, passed)]


def _mixed_up(causes: Causes, found: Concurrent, texts: dict[str, str]) -> int:
    """How many answers hold the word of another request."""
    mixed = [
        (number, other)
        for number, answer in enumerate(found.answers)
        for other, each in enumerate(found.answers)
        if each.nonce != answer.nonce and each.nonce in texts[answer.nonce]
    ]
    if mixed:
        pair = mixed[0]
        causes.fail(
            Text(
                f"answers are mixed up: answer {pair[0]} holds the word of request {pair[1]} ({len(mixed)} in all). "
                "This is a security incident: stop the traffic",
                f"回答互串：回答 {pair[0]} 含有请求 {pair[1]} 的标记词（共 {len(mixed)} 处）。这是安全事故：请停止流量",
            )
        )
    return len({number for number, _ in mixed})


def _statuses(causes: Causes, found: Concurrent, least: float) -> None:
    failed: Counter[str] = Counter()
    limited: Counter[int] = Counter()
    good = unseen = 0
    for answer in found.answers:
        exchange = answer.exchange
        if exchange.missing is not None and not (exchange.fault is not None and exchange.fault.connected):
            unseen += 1
            causes.missing(exchange.missing, Text("a request", "请求"))
        elif exchange.missing is not None:
            failed[exchange.fault.value if exchange.fault is not None else "?"] += 1
        elif exchange.status in LIMITED_CODES:
            limited[exchange.status or 0] += 1
        elif exchange.status in KEYLESS_CODES and found.of.keyless is not None:
            unseen += 1
            came(causes, found.of, exchange, Text("a request", "请求"))
        elif exchange.status != 200 or "error" in broken(answer):
            failed[f"HTTP {exchange.status}" + (" with an error" if exchange.status == 200 else "")] += 1
        else:
            good += 1
    if failed:
        told = ", ".join(f"{count} × {what}" for what, count in failed.most_common(4))
        causes.fail(Text(f"not answered: {told}", f"未应答：{told}"))
    if limited:
        told = ", ".join(f"{count} × HTTP {code}" for code, count in limited.most_common())
        causes.warn(Text(f"limited: {told}", f"被限流：{told}"))
    if not found.answers:
        causes.unknown(Reason.NO_TARGETS, Text("n is 0: nothing was asked", "n 为 0：没有发出请求"))
    elif limited and good < LEAST_TOGETHER:
        causes.unknown(
            Reason.CANNOT_TELL,
            Text("too few were let through to show anything", "放行的请求太少，无法说明问题"),
        )
    if not failed and not limited and not unseen and good < math.ceil(least * len(found.answers)):
        causes.fail(Text(f"{good} of {len(found.answers)} answered", f"应答 {good}/{len(found.answers)}"))


def broken(answer: ConcurrentAnswer) -> str:
    """`error` when a 200 answer is none: no JSON, an error in the stream, a stream without its end."""
    if not answer.streamed:
        value = answer.exchange.json()
        whole = not isinstance(value, Missing) and isinstance(openai.completion(value), Completion)
        return "" if whole else "error"
    told = openai.streamed(sse.events(answer.exchange.body))
    return "error" if told.error is not None or told.faults or not told.done else ""


def text_of(answer: ConcurrentAnswer) -> str:
    """All text of an answer; empty when there is none to read."""
    if answer.streamed:
        told = openai.streamed(sse.events(answer.exchange.body))
        return told.reasoning + told.text
    value = answer.exchange.json()
    found = None if isinstance(value, Missing) else openai.completion(value)
    if not isinstance(found, Completion):
        return ""
    return "".join((choice.reasoning or "") + (choice.text or "") for choice in found.choices)


def ids_of(answer: ConcurrentAnswer) -> tuple[str, ...]:
    """The ids that an answer carries, without empty ones."""
    if answer.streamed:
        return tuple(each for each in openai.streamed(sse.events(answer.exchange.body)).ids if each)
    value = answer.exchange.json()
    found = None if isinstance(value, Missing) else openai.completion(value)
    return (found.id,) if isinstance(found, Completion) and found.id else ()


def _nearest(ordered: Sequence[float], share: float) -> str:
    """The nearest-rank percentile in seconds (CATALOGUE 0.2)."""
    if not ordered:
        return "?"
    return f"{ordered[max(0, math.ceil(share * len(ordered)) - 1)]:.2f} s"


JUDGES = (
    FleetJudge("func.basic-inference", (), (), basic, ("func-basic",)),
    FleetJudge("func.long-text", (), (), func_text.long_text, ("func-long",), Lane.WORK),
    FleetJudge("func.multilingual", (), (), func_text.multilingual, ("func-languages",), Lane.WORK),
    FleetJudge("func.concurrent", (), (), concurrent, ("func-concurrent",), Lane.WORK),
    FleetJudge("func.error-handling", (), (), func_errors.error_handling, ("func-errors",), Lane.WORK),
)
