"""Why a source was lost, in Chinese, where the layers below know it in English only."""

from __future__ import annotations

from collections.abc import Mapping

from dstui.model import Reason, Text

_ZH: Mapping[Reason, str] = {
    Reason.UNREACHABLE: "无法连接",
    Reason.TOOL_MISSING: "缺少所需工具",
    Reason.PERMISSION: "权限不足",
    Reason.TIMEOUT: "超时未应答",
    Reason.PARSE_ERROR: "返回内容无法解析",
    Reason.NO_CREDENTIAL: "缺少可用凭据",
    Reason.NOT_RUN: "没有询问",
    Reason.BUDGET: "超出限额",
    Reason.NO_TARGETS: "没有可用的目标",
    Reason.CANNOT_TELL: "无法判断",
    Reason.PROBE_ERROR: "采集本身出错",
}


def lost_text(reason: Reason, why: str, who: str = "") -> Text:
    """`why` in both languages: in Chinese what kind of failure it is, and the sentence itself in brackets.

    `who` is the source's name that the sentence may begin with; it stays in front.
    """
    begins = f"{who}: " if who and why.startswith(f"{who}: ") else ""
    detail = why.removeprefix(begins)
    return Text(why, f"{begins}{_ZH.get(reason, _ZH[Reason.CANNOT_TELL])}（{detail}）" if detail else begins)
