"""Judges an operator's own check: its expectations against one answer. What could not be read is never a PASS."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

from dstui.catalogue.declared import (
    CommandProbe,
    Comparison,
    Declared,
    Expectation,
    ExpectCode,
    ExpectJson,
    ExpectMatch,
    ExpectText,
)
from dstui.catalogue.patterns import SEARCHED_CHARS
from dstui.facts.raw import Answer, Missing
from dstui.judge.rulings import quoted, unknown
from dstui.model import Reason, Ruling, Target, Text, Verdict, same

MAX_JSON_CHARS = 1_048_576
"""A longer body is not parsed (an endpoint's body is read up to 1 MiB anyway)."""

_SHELL_CODES = {126: Reason.PERMISSION, 127: Reason.TOOL_MISSING}
"""What env, sudo and shells exit with when the program itself could not be started."""

_SUDO_REFUSES = "sudo: "


@dataclass(frozen=True, slots=True)
class _Look:
    """What one expectation found: whether it is met (None when that cannot be told), and in which words."""

    met: bool | None
    observed: Text
    wanted: Text
    severity: Verdict
    reason: Reason | None = None
    value: object = None

    @property
    def verdict(self) -> Verdict:
        if self.met is None:
            return Verdict.UNKNOWN
        return Verdict.PASS if self.met else self.severity


def judge_declared(declared: Declared, target: Target, answer: Answer | Missing) -> Ruling:
    """The ruling on one target from the answer to its probe; `answer.exit` is the exit code or the HTTP status."""
    expected = _all_wanted(declared)
    missing = answer if isinstance(answer, Missing) else answer.missing or _not_started(declared, answer)
    if missing is not None:
        keys = () if isinstance(answer, Missing) else (answer.key,)
        return unknown(target, missing, expected, evidence=keys)
    assert isinstance(answer, Answer)
    looks = [_code(declared, answer), *(_look(e, answer) for e in declared.expect if not isinstance(e, ExpectCode))]
    bad = sorted((look for look in looks if look.verdict is not Verdict.PASS), key=_gravity)
    worst = bad[0] if bad else looks[0]
    shown = bad or looks
    return Ruling(
        target=target,
        verdict=worst.verdict,
        observed=_joined([look.observed for look in shown]),
        expected=expected,
        rule=_rule(worst),
        reason=worst.reason if worst.met is None else None,
        notes=tuple(_note(look) for look in bad[1:]),
        material={"looks": [[look.wanted.en, look.met, look.value] for look in looks]},
        evidence_keys=(answer.key,),
    )


def _gravity(look: _Look) -> int:
    return (Verdict.FAIL, Verdict.UNKNOWN, Verdict.WARN).index(look.verdict)


def _not_started(declared: Declared, answer: Answer) -> Missing | None:
    """A command that never ran is no evidence, although something was answered."""
    if not isinstance(declared.probe, CommandProbe):
        return Missing(Reason.PROBE_ERROR, "no HTTP status came back") if answer.exit is None else None
    if answer.exit is None:
        return Missing(Reason.TIMEOUT, answer.error or "the command did not end")
    wanted = next((e.codes for e in declared.expect if isinstance(e, ExpectCode)), ())
    if answer.exit in wanted:
        return None
    if declared.probe.root and answer.error.startswith(_SUDO_REFUSES):
        return Missing(Reason.PERMISSION, answer.error)
    reason = _SHELL_CODES.get(answer.exit)
    return Missing(reason, answer.error or f"exit {answer.exit}") if reason is not None else None


def _code(declared: Declared, answer: Answer) -> _Look:
    """Every expectation on the code together; without one, exit 0 or a status of 200-299 is wanted."""
    asked = [e for e in declared.expect if isinstance(e, ExpectCode)]
    word = Text("exit", "退出码") if isinstance(declared.probe, CommandProbe) else Text("status", "状态码")
    observed = Text(f"{word.en} {answer.exit}", f"{word.zh} {answer.exit}")
    broken = [e for e in asked if answer.exit not in e.codes]
    met = not broken if asked else answer.exit is not None and answer.exit in _usual(declared)
    severity = Verdict.WARN if broken and all(e.severity is Verdict.WARN for e in broken) else Verdict.FAIL
    return _Look(met, observed, _wanted_code(declared), severity, value=answer.exit)


def _usual(declared: Declared) -> Sequence[int]:
    return range(1) if isinstance(declared.probe, CommandProbe) else range(200, 300)


def _wanted_code(declared: Declared) -> Text:
    asked = [e for e in declared.expect if isinstance(e, ExpectCode)]
    codes = " / ".join(str(code) for e in asked for code in e.codes)
    if isinstance(declared.probe, CommandProbe):
        return Text(f"exit {codes or 0}", f"退出码 {codes or 0}")
    return Text(f"status {codes or '200-299'}", f"状态码 {codes or '200-299'}")


def _look(expectation: Expectation, answer: Answer) -> _Look:
    if isinstance(expectation, ExpectText):
        return _text(expectation, answer)
    if isinstance(expectation, ExpectMatch):
        return _match(expectation, answer)
    assert isinstance(expectation, ExpectJson)
    return _json(expectation, answer)


def _cut(answer: Answer) -> bool:
    """Whether the output that was kept is only the head of what the probe gave."""
    return answer.output_bytes > len(answer.output.encode("utf-8", "surrogatepass"))


def _text(expectation: ExpectText, answer: Answer) -> _Look:
    found = expectation.text in answer.output
    shown = quoted(expectation.text, 60)
    wanted = _wanted(expectation)
    if not found and _cut(answer):
        return _Look(None, _only_head(), wanted, expectation.severity, Reason.CANNOT_TELL)
    observed = Text(f"contains {shown!r}", f"含有 {shown!r}") if found else Text(f"no {shown!r}", f"没有 {shown!r}")
    return _Look(found is expectation.present, observed, wanted, expectation.severity, value=found)


def _match(expectation: ExpectMatch, answer: Answer) -> _Look:
    wanted = _wanted(expectation)
    found, whole = expectation.pattern.search(answer.output)
    if found is None:
        if not whole or _cut(answer):
            return _Look(None, _only_head(), wanted, expectation.severity, Reason.CANNOT_TELL)
        return _Look(False, Text("no line matches", "没有匹配的行"), wanted, expectation.severity)
    if expectation.number is None:
        return _Look(True, same(quoted(found[0], 80)), wanted, expectation.severity, value=quoted(found[0], 200))
    return _number(found[1], expectation.number, wanted, expectation.severity)


def _json(expectation: ExpectJson, answer: Answer) -> _Look:
    wanted, severity = _wanted(expectation), expectation.severity
    if _cut(answer) or len(answer.output) > MAX_JSON_CHARS:
        return _Look(
            None, Text("the body is too long to parse", "内容过长，无法解析"), wanted, severity, Reason.CANNOT_TELL
        )
    try:
        value: object = json.loads(answer.output)
    except (ValueError, RecursionError):
        head = quoted(answer.output, 60) or "–"
        return _Look(None, Text(f"not JSON: {head}", f"不是 JSON：{head}"), wanted, severity, Reason.PARSE_ERROR)
    for step in expectation.path:
        below = _below(value, step)
        if not below:
            return _Look(False, Text(f"no {expectation.written}", f"没有 {expectation.written}"), wanted, severity)
        value = below[0]
    if expectation.number is not None:
        return _number(value, expectation.number, wanted, severity)
    shown = quoted(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False), 80)
    met = not expectation.equals or _equal(value, expectation.equals[0])
    observed = same(f"{expectation.written} = {shown}")
    return _Look(met, observed, wanted, severity, value=shown)


def _below(value: object, step: str | int) -> tuple[object, ...]:
    """What stands under a key or at a position, as a tuple of one; an empty tuple when nothing does."""
    if isinstance(value, dict) and step in value:
        return (value[step],)
    if isinstance(value, list) and isinstance(step, int) and step < len(value):
        return (value[step],)
    return ()


def _equal(value: object, wanted: object) -> bool:
    """Equality as JSON means it: `true` is not 1."""
    return isinstance(value, bool) is isinstance(wanted, bool) and value == wanted


def _number(value: object, comparison: Comparison, wanted: Text, severity: Verdict) -> _Look:
    number = _as_number(value)
    if number is None:
        shown = quoted(str(value), 60)
        return _Look(None, Text(f"not a number: {shown}", f"不是数字：{shown}"), wanted, severity, Reason.PARSE_ERROR)
    # The number itself moves from run to run; what a signature rests on is the side of the limit that it is on.
    return _Look(comparison.holds(number), same(f"{number:g}"), wanted, severity)


def _as_number(value: object) -> float | None:
    """A JSON number, or text that is one; NaN and infinities are not."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return number if abs(number) != float("inf") and number == number else None


def _only_head() -> Text:
    size = SEARCHED_CHARS // 1024
    return Text(
        f"not found in the part that was searched (at most {size} KiB)", f"在已检索的部分（最多 {size} KiB）中未找到"
    )


def _all_wanted(declared: Declared) -> Text:
    rest = [_wanted(e) for e in declared.expect if not isinstance(e, ExpectCode)]
    return _joined([_wanted_code(declared), *rest])


def _wanted(expectation: Expectation) -> Text:
    match expectation:
        case ExpectText(text=text, present=present):
            shown = quoted(text, 60)
            return (
                Text(f"contains {shown!r}", f"含有 {shown!r}") if present else Text(f"no {shown!r}", f"不含 {shown!r}")
            )
        case ExpectMatch(pattern=pattern, number=None):
            return Text(f"matches {quoted(pattern.text, 80)}", f"匹配 {quoted(pattern.text, 80)}")
        case ExpectMatch(pattern=pattern, number=number):
            return same(f"{quoted(pattern.text, 80)} {number}")
        case ExpectJson(written=written, number=None, equals=()):
            return Text(f"{written} is there", f"存在 {written}")
        case ExpectJson(written=written, number=None, equals=(value,)):
            return same(f"{written} = {quoted(json.dumps(value, ensure_ascii=False), 60)}")
        case ExpectJson(written=written, number=number):
            return same(f"{written} {number}")
    raise TypeError(f"{type(expectation).__name__} is expected of the code, not of the output")


def _joined(texts: Sequence[Text]) -> Text:
    return Text("; ".join(t.en for t in texts), "；".join(t.zh for t in texts))


def _rule(worst: _Look) -> Text:
    if worst.verdict is Verdict.PASS:
        return Text("every expectation is met", "所有期望都满足")
    if worst.met is None:
        return Text(f"cannot tell whether: {worst.wanted.en}", f"无法判断：{worst.wanted.zh}")
    return Text(f"not as expected: {worst.wanted.en}", f"不符合期望：{worst.wanted.zh}")


def _note(look: _Look) -> Text:
    rule = _rule(look)
    return Text(f"{rule.en} ({look.observed.en})", f"{rule.zh}（{look.observed.zh}）")
