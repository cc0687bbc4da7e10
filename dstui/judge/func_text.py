"""func.long-text and func.multilingual: what is sent must arrive whole, near the limit and in every script."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence

from dstui.facts import openai, sse
from dstui.facts.case import FleetCase
from dstui.facts.exchange import Exchange
from dstui.facts.func import FillLevel, FuncTarget, Languages, LongText
from dstui.facts.func_cases import LANGUAGE_CASES, LanguageCase
from dstui.facts.openai import Completion
from dstui.facts.raw import Missing
from dstui.judge.func_answers import NO_ENDPOINT, came, not_asked, said_no, status_text
from dstui.judge.rulings import Causes, quoted, unknown
from dstui.model import Reason, Ruling, Text

OFF_SHARE = 0.05
"""Of the expected tokens that the server may count differently (CATALOGUE 051)."""

OVERLONG_SECONDS = 10.0
SLOW_FIRST_SECONDS = 60.0
WEAK_OVERLONG = (413, 422)
NEAR_LIMIT = 0.9
MOJIBAKE = re.compile("Ã[\u0080-\u00bf]|ä¸|â€|ï¿½|Â[\u0080-\u00bf]")
"""UTF-8 that somebody read as Latin-1 or Windows-1252 (CATALOGUE 052)."""

SPOILT_CHARACTERS = 8
"""Of a spoilt text that must stand in the answer: two or three characters of most scripts, as UTF-8."""

BROKEN = "\ufffd"


def long_text(case: FleetCase) -> Sequence[Ruling]:
    """Prompts of known size are taken whole; one that is too long is refused cleanly."""
    found = case.get(LongText)
    expected = Text("long prompts answered whole, too long ones refused", "长文本完整应答，超长文本被正确拒绝")
    if isinstance(found, Missing):
        return [unknown(FuncTarget(None, "").target, found, expected)]
    if found.of.url is None:
        return [unknown(found.of.target, NO_ENDPOINT, expected)]
    if isinstance(found.limit, Missing):
        return [unknown(found.of.target, found.limit, expected)]
    causes = Causes(found.of.target, expected)
    for level in found.levels:
        _level(causes, found, level)
    if not found.levels:
        causes.unknown(Reason.NO_TARGETS, Text("no fill level is configured", "未配置填充比例"))
    _overlong(causes, found, case.params.counts("overlong_codes"))
    health, after = found.health, Text("health afterwards", "之后的健康检查")
    if health is None:
        not_asked(causes, after)
    elif came(causes, found.of, health, after) and health.status != 200:
        causes.fail(status_text(health, after))
    sizes = ", ".join(f"{level.expected:,}" for level in found.levels)
    code = found.overlong.status if found.overlong is not None else "?"
    observed = Text(
        f"limit {found.limit:,} ({found.limit_from}); {sizes} tokens taken whole; "
        f"{found.overlong_tokens:,}: HTTP {code}",
        f"上限 {found.limit:,}（{found.limit_from}）；{sizes} 个 token 完整处理；"
        f"{found.overlong_tokens:,}：HTTP {code}",
    )
    passed = Text("every size counted as sent, the over-long one refused", "各长度计数与发送一致，超长被拒绝")
    return [causes.ruling(observed, passed)]


def _level(causes: Causes, found: LongText, level: FillLevel) -> None:
    exchange = level.exchange
    what = Text(f"{level.expected:,} tokens", f"{level.expected:,} 个 token")
    if not came(causes, found.of, exchange, what):
        return
    if exchange.status != 200:
        causes.fail(status_text(exchange, what))
        return
    value = exchange.json()
    told = value if isinstance(value, Missing) else openai.completion(value)
    if not isinstance(told, Completion):
        why = quoted(told.why if isinstance(told, Missing) else told.message)
        causes.fail(Text(f"{what.en}: {why}", f"{what.zh}：{why}"))
        return
    if told.usage is None:
        causes.fail(
            Text(
                f"{what.en}: no usage, so nothing shows that it was read whole",
                f"{what.zh}：没有 usage，无法证明完整读取",
            )
        )
        return
    counted = told.usage.prompt
    off = abs(counted - level.expected) / level.expected
    if counted < level.expected * (1 - OFF_SHARE) and level.counted:
        causes.fail(
            Text(
                f"cut off silently: {level.expected:,} tokens sent, {counted:,} read",
                f"被静默截断：发送 {level.expected:,} 个 token，读取 {counted:,} 个",
            )
        )
    elif off > OFF_SHARE:
        told_off = Text(
            f"{counted:,} tokens counted where {level.expected:,} were expected",
            f"计数 {counted:,} 个 token，预期 {level.expected:,}",
        )
        # Without the server's tokenizer the expectation is an estimate: half of it missing is no estimate's error.
        if counted < level.expected / 2:
            causes.fail(told_off)
        else:
            causes.warn(told_off)
    _soft(causes, level, exchange, told)


def _soft(causes: Causes, level: FillLevel, exchange: Exchange, told: Completion) -> None:
    text = told.text + (told.choices[0].reasoning or "" if told.choices else "")
    if level.needle not in text:
        causes.note(
            Text(
                f"{level.expected:,} tokens: the code word was not found (the model's quality, not the service's)",
                f"{level.expected:,} 个 token：未找到暗号（属于模型质量，而非服务）",
            )
        )
    if level.share >= NEAR_LIMIT and exchange.seconds > SLOW_FIRST_SECONDS:
        causes.warn(Text(f"{exchange.seconds:.0f} s near the limit", f"接近上限时耗时 {exchange.seconds:.0f} 秒"))
    if level.capped:
        causes.warn(
            Text(
                f"{level.share:.0%} of the limit was not tried: long_tokens_cap stops at {level.expected:,}",
                f"未测试上限的 {level.share:.0%}：long_tokens_cap 限制在 {level.expected:,}",
            )
        )


def _overlong(causes: Causes, found: LongText, codes: Sequence[int]) -> None:
    exchange = found.overlong
    what = Text(f"{found.overlong_tokens:,} tokens, too many", f"{found.overlong_tokens:,} 个 token（超长）")
    if exchange is None:
        not_asked(causes, what)
        return
    if not came(causes, found.of, exchange, what):
        return
    if exchange.status in WEAK_OVERLONG and exchange.status not in codes:
        causes.warn(status_text(exchange, what))
    elif exchange.status not in codes:
        causes.fail(status_text(exchange, what))
    elif isinstance(exchange.json(), Missing) or not said_no(exchange):
        causes.warn(Text(f"{what.en}: refused without a JSON error", f"{what.zh}：拒绝时没有 JSON 错误"))
    if exchange.seconds > OVERLONG_SECONDS:
        told = Text(
            f"{what.en}: refused only after {exchange.seconds:.0f} s", f"{what.zh}：{exchange.seconds:.0f} 秒后才拒绝"
        )
        causes.fail(told)


def multilingual(case: FleetCase) -> Sequence[Ruling]:
    """Every script there and back: valid UTF-8, nothing replaced, nothing read as Latin-1."""
    found = case.get(Languages)
    expected = Text("every text survives the round trip", "各种文字往返后保持完整")
    if isinstance(found, Missing):
        return [unknown(FuncTarget(None, "").target, found, expected)]
    if found.of.url is None:
        return [unknown(found.of.target, NO_ENDPOINT, expected)]
    causes = Causes(found.of.target, expected)
    lossless = [_lossless(found, each) for each in LANGUAGE_CASES]
    proven = any(result is True for result in lossless) and not any(result is False for result in lossless)
    echoed = asked = 0
    for each in LANGUAGE_CASES:
        for mode in ("plain", "stream"):
            exchange = found.by_key.get(f"{each.id}/{mode}")
            if exchange is None:
                not_asked(causes, Text(f"{each.id} ({mode})", f"{each.id}（{mode}）"))
                continue
            text = _text(causes, found, each, mode, exchange, proven=proven)
            if text is not None and not each.awkward:
                asked += 1
                echoed += unicodedata.normalize("NFC", each.text.strip()) in unicodedata.normalize("NFC", text)
    _round_trips(causes, lossless)
    ratio = echoed / asked if asked else 0.0
    if asked and ratio < case.params.number("echo_ratio_warn"):
        causes.warn(
            Text(
                f"the model repeated {echoed} of {asked} texts exactly (its quality, not the transport's)",
                f"模型原样重复了 {echoed}/{asked} 段文本（属于模型质量，而非传输）",
            )
        )
    kept = sum(result is True for result in lossless)
    observed = Text(
        f"{asked} answers in clean UTF-8; {kept} of {len(LANGUAGE_CASES)} texts unchanged through the tokenizer",
        f"{asked} 个回答均为合法 UTF-8；{kept}/{len(LANGUAGE_CASES)} 段文本经分词器往返不变",
    )
    passed = Text("all valid texts answered, all answers clean", "所有合法文本均得到应答，且内容完好")
    return [causes.ruling(observed, passed)]


def _text(
    causes: Causes, found: Languages, case: LanguageCase, mode: str, exchange: Exchange, *, proven: bool
) -> str | None:
    """The text of one answer; None when there is none, and then the cause is noted."""
    what = Text(f"{case.id} ({mode})", f"{case.id}（{mode}）")
    if not came(causes, found.of, exchange, what):
        return None
    if exchange.status == 400 and case.awkward:
        causes.warn(Text(f"{what.en}: refused with 400", f"{what.zh}：以 400 拒绝"))
        return None
    if exchange.status != 200:
        causes.fail(status_text(exchange, what))
        return None
    try:
        exchange.body.decode("utf-8")
    except UnicodeDecodeError as error:
        causes.fail(
            Text(f"{what.en}: no valid UTF-8 at byte {error.start}", f"{what.zh}：第 {error.start} 字节不是合法 UTF-8")
        )
        return None
    charset = exchange.headers.get("content-type", "").partition("charset=")[2].strip(" \"'").lower()
    if charset not in ("", "utf-8", "utf8"):
        causes.fail(Text(f"{what.en}: charset {quoted(charset)}", f"{what.zh}：charset 为 {quoted(charset)}"))
    text = _said(exchange, mode)
    if isinstance(text, Missing):
        causes.fail(Text(f"{what.en}: {quoted(text.why)}", f"{what.zh}：{quoted(text.why)}"))
        return None
    if BROKEN in text:
        told = Text(f"{what.en}: broken characters (U+FFFD)", f"{what.zh}：出现损坏字符（U+FFFD）")
        # A weak model writes half characters itself; the tokenizer's round trip tells the two apart.
        if proven:
            causes.warn(told)
        else:
            causes.fail(told)
    if spoilt(case.text, text):
        causes.fail(
            Text(f"{what.en}: what was sent came back read as Latin-1", f"{what.zh}：发送的文本被按 Latin-1 解码后返回")
        )
    elif (bad := MOJIBAKE.search(text)) is not None and not MOJIBAKE.search(case.text) and not proven:
        causes.fail(Text(f"{what.en}: text read as Latin-1: {bad[0]}", f"{what.zh}：文本被按 Latin-1 解码：{bad[0]}"))
    return text


def spoilt(sent: str, text: str) -> bool:
    """Whether an answer holds the text that was sent, its UTF-8 read as Latin-1. No model writes that by itself."""
    wrong = sent.strip().encode("utf-8", "surrogatepass").decode("latin-1")
    return not sent.isascii() and wrong[:SPOILT_CHARACTERS] in text


def _said(exchange: Exchange, mode: str) -> str | Missing:
    if mode == "stream":
        told = openai.streamed(sse.events(exchange.body))
        if told.faults:
            return told.faults[0]
        return told.reasoning + told.text
    value = exchange.json()
    found = value if isinstance(value, Missing) else openai.completion(value)
    if isinstance(found, Completion):
        return found.text
    return found if isinstance(found, Missing) else Missing(Reason.PARSE_ERROR, found.message)


def _lossless(found: Languages, case: LanguageCase) -> bool | None:
    """Whether the tokenizer and back gave the same text; None when it could not be tried."""
    exchange = found.by_key.get(f"{case.id}/detokenize")
    value = exchange.json() if exchange is not None and exchange.status == 200 else None
    back = value.get("prompt") if isinstance(value, dict) else None
    if not isinstance(back, str):
        return None
    return _same(back, case.text)


def _same(one: str, other: str) -> bool:
    return unicodedata.normalize("NFC", one) == unicodedata.normalize("NFC", other)


def _round_trips(causes: Causes, lossless: Sequence[bool | None]) -> None:
    if all(result is None for result in lossless):
        causes.warn(
            Text("the server lets nobody use its tokenizer: no lossless proof", "服务未开放分词器：无法做无损验证")
        )
        return
    bad = [case.id for case, result in zip(LANGUAGE_CASES, lossless, strict=True) if result is False]
    if bad:
        listed = ", ".join(bad[:6])
        causes.fail(Text(f"changed on the way through the tokenizer: {listed}", f"经分词器往返后改变：{listed}"))
