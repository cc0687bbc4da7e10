"""The marks of the checklist with their words and tones. A mark is narrow everywhere and never depends on colour."""

from __future__ import annotations

from dataclasses import dataclass

from dstui.model import Text, Verdict
from dstui.standing import CheckStatus, Standing
from screens.tones import Tone


@dataclass(frozen=True, slots=True)
class Mark:
    """A sign, the word it stands for, and its tone."""

    sign: str
    word: Text
    tone: Tone


PASSED = Mark("✓", Text("pass", "通过"), Tone.PASS)
FAILED = Mark("✗", Text("FAIL", "失败"), Tone.FAIL)
WARNED = Mark("!", Text("warn", "警告"), Tone.WARN)
UNKNOWN = Mark("?", Text("unknown", "未知"), Tone.UNKNOWN)
NOT_RUN = Mark("·", Text("not run", "未运行"), Tone.DIM)
NOT_APPLICABLE = Mark("-", Text("n/a", "不适用"), Tone.DIM)
STALE = Mark("~", Text("stale", "过期"), Tone.UNKNOWN)
WAIVED = Mark("w", Text("waived", "已豁免"), Tone.WARN)
SIGNED = Mark("s", Text("signed", "已签署"), Tone.PASS)
UNSIGNED = Mark("·", Text("unsigned", "待签署"), Tone.ACCENT)

SPINNER = "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏"
RUNNING_WORD = Text("running", "运行中")

OF_STANDING = {
    Standing.PASSED: PASSED,
    Standing.WARNED: WARNED,
    Standing.SIGNED: SIGNED,
    Standing.NOT_APPLICABLE: NOT_APPLICABLE,
    Standing.WAIVED: WAIVED,
    Standing.FAILED: FAILED,
    Standing.UNKNOWN: UNKNOWN,
    Standing.STALE: STALE,
    Standing.UNSIGNED: UNSIGNED,
    Standing.NOT_RUN: NOT_RUN,
}

OF_VERDICT = {
    Verdict.PASS: PASSED,
    Verdict.FAIL: FAILED,
    Verdict.WARN: WARNED,
    Verdict.UNKNOWN: UNKNOWN,
    Verdict.NOT_APPLICABLE: NOT_APPLICABLE,
    Verdict.NOT_RUN: NOT_RUN,
}

WORST_FIRST = (
    Standing.FAILED,
    Standing.UNKNOWN,
    Standing.STALE,
    Standing.WARNED,
    Standing.WAIVED,
    Standing.UNSIGNED,
    Standing.NOT_RUN,
    Standing.SIGNED,
    Standing.PASSED,
    Standing.NOT_APPLICABLE,
)
"""The order in which a section or part says what is worst in it."""

COUNTED = (
    Standing.PASSED,
    Standing.SIGNED,
    Standing.FAILED,
    Standing.WARNED,
    Standing.UNKNOWN,
    Standing.STALE,
    Standing.UNSIGNED,
    Standing.NOT_RUN,
    Standing.WAIVED,
    Standing.NOT_APPLICABLE,
)
"""The order of the counts line."""

EXPLAINED: tuple[tuple[Mark, Text], ...] = (
    (PASSED, Text("evidence was obtained and meets the rule", "已取得证据，符合规则")),
    (FAILED, Text("evidence was obtained and breaks the rule", "已取得证据，违反规则")),
    (WARNED, Text("the rule is met, but on-call should know something", "符合规则，但值班人员应当知情")),
    (UNKNOWN, Text("could not tell, with the reason; never counts as pass", "无法判断，附原因；绝不算通过")),
    (NOT_RUN, Text("nobody has looked yet", "还没有检查过")),
    (NOT_APPLICABLE, Text("does not apply here, with the fact that says so", "在这里不适用，附依据")),
    (STALE, Text("observed too long ago; shuts the gate until run again", "观察已过有效期；重新运行前门禁关闭")),
    (WAIVED, Text("an approver accepts the shortcoming until a date", "批准人在期限内接受此缺陷")),
    (SIGNED, Text("a named person vouches for it, on this evidence", "具名人员依据当前证据签署")),
    (UNSIGNED, Text("evidence is there, a person still has to sign", "已有证据，还需要人签署")),
)


def mark_of(status: CheckStatus) -> Mark:
    """What the tree shows in front of a check."""
    return OF_STANDING[status.standing]
