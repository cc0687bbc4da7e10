"""func.error-handling: wrong requests are refused properly, nothing inside is shown, and the service goes on."""

from __future__ import annotations

import re
from collections.abc import Sequence

from dstui.facts import openai
from dstui.facts.case import FleetCase
from dstui.facts.exchange import Exchange
from dstui.facts.func import ErrorSuite, FuncTarget
from dstui.facts.func_cases import BIG_BODY, ERROR_CASES, ErrorCase
from dstui.facts.openai import Completion
from dstui.facts.raw import Missing
from dstui.judge.func_answers import KEYLESS_CODES, LIMITED_CODES, NO_ENDPOINT, came, not_asked, said_no, status_text
from dstui.judge.rulings import Causes, quoted, unknown
from dstui.model import Reason, Ruling, Text

LEAKS = (
    re.compile(r"Traceback \(most recent call last\)"),
    re.compile(r'File "[^"\n]{1,200}", line \d+'),
    re.compile(r"/(?:usr/lib|usr/local/lib|opt|home|root)/[\w./-]*(?:site-packages|\.py)\b"),
    re.compile(r"site-packages"),
    re.compile(r"\b(?:10\.\d{1,3}|192\.168|172\.(?:1[6-9]|2\d|3[01]))\.\d{1,3}\.\d{1,3}\b"),
    re.compile(r"\b(?:VLLM_|RAY_|CUDA_|HF_|AWS_)[A-Z_]{3,40}\s*="),
)
"""What an answer must not show of the inside (CATALOGUE 054): stack traces, paths, private addresses, environment."""


def error_handling(case: FleetCase) -> Sequence[Ruling]:
    """Every case by the table, a stream that was left, and a completion at the end."""
    found = case.get(ErrorSuite)
    expected = Text("each wrong request refused with its own code, as JSON", "各类错误请求以相应状态码和 JSON 拒绝")
    if isinstance(found, Missing):
        return [unknown(FuncTarget(None, "").target, found, expected)]
    if found.of.url is None:
        return [unknown(found.of.target, NO_ENDPOINT, expected)]
    causes = Causes(found.of.target, expected)
    refused = 0
    for each in (*ERROR_CASES, BIG_BODY):
        exchange = found.by_key.get(each.id)
        if exchange is not None:
            refused += _judged(causes, found, each, exchange)
        elif each is not BIG_BODY or found.big_body_limit is not None:
            not_asked(causes, Text(each.id, each.id))
    _aborted(causes, found, case.params.number("abort_settle_s"))
    _healthy(causes, found)
    asked = sum(each.id in found.by_key for each in (*ERROR_CASES, BIG_BODY))
    observed = Text(
        f"{refused} of {asked} wrong requests refused properly", f"{asked} 个错误请求中 {refused} 个被正确拒绝"
    )
    passed = Text(
        "every case within its codes, JSON errors, nothing shown of the inside",
        "全部符合约定的状态码，错误为 JSON，未泄露内部信息",
    )
    return [causes.ruling(observed, passed)]


def _judged(causes: Causes, found: ErrorSuite, case: ErrorCase, exchange: Exchange) -> bool:
    """Whether one case was refused as it should be."""
    what = Text(case.id, case.id)
    if exchange.missing is not None:
        came(causes, found.of, exchange, what)
        return False
    if _leaks(causes, case, exchange):
        return False
    status = exchange.status or 0
    keyless = case.key == "none" and found.of.keyless is not None
    if case.key == "right" and status in KEYLESS_CODES and found.of.keyless is not None:
        came(causes, found.of, exchange, what)
        return False
    if status in LIMITED_CODES:
        # How the request itself would have been refused was not seen.
        causes.unknown(Reason.CANNOT_TELL, status_text(exchange, what))
        return False
    if keyless and status < 300:
        # Without a key in the inventory an open API is not an error of this suite: api.auth judges it.
        causes.note(Text("no-key: answered, as an API without keys does", "no-key：被接受（API 未启用密钥）"))
        return True
    if status in case.allowed:
        return _as_json(causes, case, exchange)
    if status in case.weak:
        causes.warn(status_text(exchange, what))
        return False
    causes.fail(status_text(exchange, what))
    return False


def _leaks(causes: Causes, case: ErrorCase, exchange: Exchange) -> bool:
    for pattern in LEAKS:
        if (leak := pattern.search(exchange.text)) is not None:
            shown = quoted(leak[0], 60)
            causes.fail(Text(f"{case.id}: the answer shows {shown}", f"{case.id}：应答泄露 {shown}"))
            return True
    return False


def _as_json(causes: Causes, case: ErrorCase, exchange: Exchange) -> bool:
    if said_no(exchange) or not exchange.body:
        return True
    kind = quoted(exchange.kind) or "?"
    causes.warn(
        Text(
            f"{case.id}: HTTP {exchange.status} as {kind}, not as a JSON error",
            f"{case.id}：HTTP {exchange.status} 以 {kind} 返回，而非 JSON 错误",
        )
    )
    return True


def _aborted(causes: Causes, found: ErrorSuite, settle: float) -> None:
    abort = found.abort
    what = Text("a stream that its client leaves", "客户端中断的流")
    if abort is None:
        not_asked(causes, what)
        return
    if abort.exchange.status != 200:
        if came(causes, found.of, abort.exchange, what):
            causes.fail(status_text(abort.exchange, what))
        return
    for value in (abort.before, abort.after):
        if isinstance(value, Missing):
            why = quoted(value.why)
            causes.warn(
                Text(f"whether an aborted request ends could not be seen: {why}", f"无法确认中断的请求是否结束：{why}")
            )
            return
    if abort.settled is None:
        causes.fail(
            Text(
                f"a request whose client left was still running after {settle:g} s",
                f"客户端离开 {settle:g} 秒后请求仍在运行",
            )
        )


def _healthy(causes: Causes, found: ErrorSuite) -> None:
    what = Text("a completion afterwards", "之后的推理请求")
    exchange = found.by_key.get("health")
    if exchange is None:
        not_asked(causes, what)
        return
    if not came(causes, found.of, exchange, what):
        return
    value = exchange.json()
    if exchange.status != 200:
        causes.fail(status_text(exchange, what))
    elif isinstance(value, Missing) or not isinstance(openai.completion(value), Completion):
        causes.fail(Text(f"{what.en}: no answer of a model", f"{what.zh}：不是模型的回答"))
