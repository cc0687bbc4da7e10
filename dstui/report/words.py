"""The report's own words in both languages, and the marks of verdicts and standings."""

from __future__ import annotations

from dstui.model import Reason, Text, Verdict
from dstui.standing import Standing

VERDICTS = {
    Verdict.PASS: Text("pass", "通过"),
    Verdict.WARN: Text("warn", "警告"),
    Verdict.FAIL: Text("FAIL", "失败"),
    Verdict.UNKNOWN: Text("unknown", "未知"),
    Verdict.NOT_APPLICABLE: Text("not applicable", "不适用"),
    Verdict.NOT_RUN: Text("not run", "未运行"),
}

STANDINGS = {
    Standing.PASSED: Text("pass", "通过"),
    Standing.WARNED: Text("pass with warning", "通过（有警告）"),
    Standing.SIGNED: Text("signed", "已签署"),
    Standing.NOT_APPLICABLE: Text("not applicable", "不适用"),
    Standing.WAIVED: Text("waived", "已豁免"),
    Standing.FAILED: Text("FAIL", "失败"),
    Standing.UNKNOWN: Text("unknown", "未知"),
    Standing.STALE: Text("stale", "已过期"),
    Standing.UNSIGNED: Text("awaits signature", "待签署"),
    Standing.NOT_RUN: Text("not run", "未运行"),
}

MARKS = {
    Verdict.PASS: "✓",
    Verdict.WARN: "!",
    Verdict.FAIL: "✗",
    Verdict.UNKNOWN: "?",
    Verdict.NOT_APPLICABLE: "-",
    Verdict.NOT_RUN: "·",
}

REASONS = {
    Reason.UNREACHABLE: Text("unreachable", "无法连接"),
    Reason.TOOL_MISSING: Text("tool missing", "缺少工具"),
    Reason.PERMISSION: Text("permission", "权限不足"),
    Reason.TIMEOUT: Text("timeout", "超时"),
    Reason.PARSE_ERROR: Text("not understood", "无法解析"),
    Reason.NO_CREDENTIAL: Text("no credential", "缺少凭据"),
    Reason.BLOCKED_BY: Text("blocked", "被阻塞"),
    Reason.NOT_RUN: Text("not run", "未运行"),
    Reason.BUDGET: Text("time budget", "超出时间预算"),
    Reason.NO_TARGETS: Text("no targets", "没有对象"),
    Reason.CANNOT_TELL: Text("cannot tell", "无法判断"),
    Reason.PROBE_ERROR: Text("probe error", "探测出错"),
    Reason.NOT_BUILT: Text("no probe yet: sign by hand", "尚无探测：可人工签署"),
    Reason.DISABLED: Text("disabled by decision", "按决定停用"),
}

LAPSES = {
    "expired": Text("the signature has expired", "签署已过期"),
    "evidence-changed": Text("what was observed has changed since it was signed", "签署后观测结果已变化"),
    "verdict-changed": Text("the verdict has changed since it was signed", "签署后判定已变化"),
}

SIMULATED = Text(
    "SIMULATED: these results come from dstui's embedded fleet of made-up hosts and say nothing of any real system.",
    "模拟（SIMULATED）：以下结果来自 dstui 内置的虚构主机，不代表任何真实系统。",
)
