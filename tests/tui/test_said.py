"""What was observed is said once, however the judge began."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from dstui.model import Lang, Reason, Text, Verdict, same
from screens.detail import finding_table, said_of


@pytest.mark.parametrize(
    ("reason", "detail", "observed", "en", "zh"),
    [
        (
            Reason.UNREACHABLE,
            "",
            Text("host not reachable: gpu-05: 10.0.0.5:22 refuses", "主机无法连接：gpu-05: 10.0.0.5:22 refuses"),
            "unreachable: 10.0.0.5:22 refuses",
            "无法连接：10.0.0.5:22 refuses",
        ),
        (Reason.UNREACHABLE, "", Text("host not reachable", "主机无法连接"), "unreachable", "无法连接"),
        (Reason.PERMISSION, "", same("docker.sock is root's"), "no permission: docker.sock is root's", None),
        (Reason.TIMEOUT, "", Text("timed out: df hangs", "超时：df hangs"), "timed out: df hangs", "超时：df hangs"),
        (
            Reason.CANNOT_TELL,
            "",
            Text("cannot tell whether a group filters", "无法判断是否有安全组"),
            "cannot tell whether a group filters",
            "无法判断是否有安全组",
        ),
        (
            Reason.BLOCKED_BY,
            "net.x",
            Text("blocked by another check: no route", "被其他检查项阻塞：no route"),
            "blocked by net.x: no route",
            "被 net.x 阻塞：no route",
        ),
        (Reason.NO_CREDENTIAL, "", same(""), "no credential", None),
    ],
)
def test_the_reason_stands_once(
    reason: Reason, detail: str, observed: Text, en: str, zh: str | None, hands: Any
) -> None:
    unknown = replace(
        hands.settled("hw.memory", "gpu-05", 0.0, Verdict.UNKNOWN), reason=reason, detail=detail, observed=observed
    )
    assert said_of(unknown, Lang.EN) == en
    assert zh is None or said_of(unknown, Lang.ZH) == zh


def test_a_pass_is_said_as_it_was_observed(hands: Any) -> None:
    assert said_of(hands.settled("hw.memory", "gpu-05", 0.0), Lang.EN) == "as it should be"


def test_equal_notes_are_said_once(hands: Any) -> None:
    note = same("RDMA mlx5_0: ACTIVE")
    noted = replace(hands.settled("hw.nic-speed", "gpu-01", 0.0), notes=(note, note))
    told = ["".join(text for text, _ in row) for row in finding_table([noted], Lang.EN, 80)]
    assert sum("RDMA" in row for row in told) == 1
