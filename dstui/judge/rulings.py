"""Shared words of the judges: a missing fact becomes UNKNOWN, several causes become one ruling."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from dstui.facts.raw import Missing
from dstui.model import Reason, Ruling, Target, Text, Verdict, same

COULD_NOT_LOOK: Mapping[Reason, Text] = {
    Reason.UNREACHABLE: Text("host not reachable", "主机无法连接"),
    Reason.TOOL_MISSING: Text("tool missing", "缺少工具"),
    Reason.PERMISSION: Text("permission denied", "权限不足"),
    Reason.TIMEOUT: Text("timed out", "超时"),
    Reason.PARSE_ERROR: Text("answer not understood", "无法解析返回内容"),
    Reason.NO_CREDENTIAL: Text("no credential", "缺少凭据"),
    Reason.BLOCKED_BY: Text("blocked by another check", "被其他检查项阻塞"),
    Reason.NOT_RUN: Text("not looked at", "尚未查看"),
    Reason.BUDGET: Text("time budget used up", "时间预算已用完"),
    Reason.NO_TARGETS: Text("nothing to look at", "没有检查对象"),
    Reason.CANNOT_TELL: Text("cannot tell", "无法判断"),
    Reason.PROBE_ERROR: Text("probe failed", "探测出错"),
    Reason.NOT_BUILT: Text("not built in", "未实现"),
    Reason.DISABLED: Text("switched off", "已停用"),
}
"""Each reason of an UNKNOWN as the first words of a line."""

_RANK = {Verdict.FAIL: 0, Verdict.UNKNOWN: 1, Verdict.WARN: 2}


def quoted(text: str, limit: int = 120) -> str:
    """Remote text made fit for one line: no control or formatting characters, single spaces, at most `limit` long."""
    line = " ".join("".join(" " if unicodedata.category(c)[0] == "C" else c for c in text[: limit * 4]).split())
    return line if len(line) <= limit else line[: limit - 1] + "…"


def why_missing(missing: Missing) -> Text:
    """A Missing as one line: `permission denied: docker.sock …`; the part after the colon is not translated."""
    words = COULD_NOT_LOOK[missing.reason]
    why = quoted(missing.why, 200)
    return Text(f"{words.en}: {why}", f"{words.zh}：{why}") if why else words


def unknown(
    target: Target, missing: Missing, expected: Text, *, evidence: Sequence[str] = (), detail: str = ""
) -> Ruling:
    """The ruling when a fact could not be had: UNKNOWN with the Missing's own reason, never anything better."""
    return Ruling(
        target=target,
        verdict=Verdict.UNKNOWN,
        observed=why_missing(missing),
        expected=expected,
        rule=Text("what has to be judged could not be looked at", "无法取得需要判断的内容"),
        reason=missing.reason,
        detail=detail,
        material={"unknown": str(missing.reason)},
        evidence_keys=tuple(evidence),
    )


def not_applicable(target: Target, why: Text) -> Ruling:
    """The ruling when the check does not apply; `why` is the fact that says so (a role, a mode, an empty list)."""
    return Ruling(
        target=target,
        verdict=Verdict.NOT_APPLICABLE,
        observed=why,
        expected=same("–"),
        rule=Text("does not apply", "不适用"),
        material={"not_applicable": why.en},
    )


@dataclass(frozen=True, slots=True)
class Cause:
    """One reason against a PASS, in words that name the value."""

    verdict: Verdict
    text: Text
    reason: Reason | None = None
    detail: str = ""


@dataclass(slots=True)
class Causes:
    """Collects what speaks against a PASS; the worst decides, FAIL > UNKNOWN > WARN, the first among equals.

    Use: `causes = Causes(target, expected)`, any number of `fail`, `warn`, `unknown`, `missing`, `note`, then
    `return causes.ruling(observed, passed)`. Without a cause the ruling is PASS by the rule `passed`.
    """

    target: Target
    expected: Text
    found: list[Cause] = field(default_factory=list)
    remarks: list[Text] = field(default_factory=list)

    def fail(self, text: Text) -> None:
        self.found.append(Cause(Verdict.FAIL, text))

    def warn(self, text: Text) -> None:
        self.found.append(Cause(Verdict.WARN, text))

    def unknown(self, reason: Reason, text: Text, detail: str = "") -> None:
        self.found.append(Cause(Verdict.UNKNOWN, text, reason, detail))

    def missing(self, missing: Missing, what: Text) -> None:
        """UNKNOWN because of a Missing; `what` names the fact: `MemTotal: permission denied: …`."""
        why = why_missing(missing)
        self.unknown(missing.reason, Text(f"{what.en}: {why.en}", f"{what.zh}：{why.zh}"))

    def note(self, text: Text) -> None:
        """A fact worth showing that weighs nothing."""
        self.remarks.append(text)

    @property
    def verdict(self) -> Verdict:
        """What the causes so far amount to."""
        return min((cause.verdict for cause in self.found), key=_RANK.__getitem__, default=Verdict.PASS)

    def ruling(
        self,
        observed: Text,
        passed: Text,
        *,
        material: Mapping[str, object] | None = None,
        evidence: Sequence[str] = (),
    ) -> Ruling:
        """The ruling on everything collected; the causes after the deciding one become notes, before the remarks."""
        by_weight = sorted(self.found, key=lambda cause: _RANK[cause.verdict])
        first = by_weight[0] if by_weight else Cause(Verdict.PASS, passed)
        return Ruling(
            target=self.target,
            verdict=first.verdict,
            observed=observed,
            expected=self.expected,
            rule=first.text,
            reason=first.reason,
            detail=first.detail,
            notes=(*(cause.text for cause in by_weight[1:]), *self.remarks),
            material=material or {},
            evidence_keys=tuple(evidence),
        )
