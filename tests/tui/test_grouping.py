"""Identical findings are told once, and the names of a fold are true."""

from __future__ import annotations

from dataclasses import replace

import pytest

from dstui.model import Evidence, Finding, Lang, Target, Text, Verdict, host_target, pair_target, same
from screens.grouping import grouped, name_of, ranges


def found(target: Target, observed: Text, verdict: Verdict = Verdict.PASS, output: str = "") -> Finding:
    evidence = (Evidence("k", "cmd", 0, output, len(output), 0.1),)
    return Finding(
        "hw.x", target, verdict, observed, same(""), same(""), None, "", (), "0", (), evidence, 1.0, 1.0, 0.1, 1
    )


@pytest.mark.parametrize(
    ("names", "shown"),
    [
        (["gpu-01"], "gpu-01"),
        (["gpu-01", "gpu-02"], "gpu-01, gpu-02"),
        (["gpu-03", "gpu-01", "gpu-02"], "gpu-01 … gpu-03"),
        (["gpu-01", "gpu-02", "gpu-03", "gpu-07"], "gpu-01 … gpu-03, gpu-07"),
        (["gpu9", "gpu10", "gpu11"], "gpu9 … gpu11"),
        (["a", "b", "c"], "a, b, c"),
        (["a", "b", "c", "d", "e"], "a, b … e"),
        (["n01-ib", "n02-ib", "n03-ib"], "n01-ib … n03-ib"),
        (["x1", "y2", "y3"], "x1, y2, y3"),
    ],
)
def test_ranges_name_only_what_is_there(names: list[str], shown: str) -> None:
    assert ranges(names) == shown


def test_what_says_the_same_is_one_group_whatever_its_evidence() -> None:
    good = same("200 Gb/s")
    first, second = found(host_target("gpu-01"), good, output="a"), found(host_target("gpu-02"), good, output="b")
    groups = grouped([found(host_target("gpu-04"), same("10 Gb/s"), Verdict.FAIL), first, second])
    assert [name_of(g, Lang.EN) for g in groups] == ["gpu-04", "gpu-01, gpu-02 (2 hosts, same)"]


def test_another_verdict_or_note_is_another_group() -> None:
    text = same("x")
    plain = found(host_target("a1"), text)
    noted = replace(found(host_target("a2"), text), notes=(same("n"),))
    warned = found(host_target("a3"), text, Verdict.WARN)
    assert len(grouped([plain, noted, warned])) == 3


def test_pairs_are_counted_as_pairs() -> None:
    text = same("0.2 ms")
    groups = grouped([found(pair_target("a", "b"), text), found(pair_target("b", "a"), text)])
    assert name_of(groups[0], Lang.ZH) == "a>b, b>a（2 对，相同）"


def test_a_thousand_hosts_fold_into_one_line() -> None:
    text = same("ok")
    groups = grouped([found(host_target(f"gpu-{n:04}"), text) for n in range(1000)])
    assert name_of(groups[0], Lang.EN) == "gpu-0000 … gpu-0999 (1000 hosts, same)"
