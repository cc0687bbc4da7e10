"""Judging operators' own checks: met, not met, and cannot tell."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dstui.catalogue.declared import (
    CommandProbe,
    Comparison,
    Declared,
    Expectation,
    ExpectCode,
    ExpectJson,
    ExpectMatch,
    ExpectText,
    HttpProbe,
)
from dstui.catalogue.patterns import compile_pattern
from dstui.facts.raw import Answer, Missing
from dstui.judge.declared import judge_declared
from dstui.model import Reason, Ruling, Verdict, host_target

HOST = host_target("gpu-01")
COMMAND = CommandProbe(("chronyc", "tracking"))
ROOT = CommandProbe(("chronyc", "tracking"), root=True)
URL = HttpProbe("https://api.example.com/queue")

CHRONY = """\
Reference ID    : C0248F82 (ntp1.aliyun.com)
Stratum         : 3
Last offset     : -0.000012911 seconds
Leap status     : Normal
"""
QUEUE = '{"queue": {"depth": 12, "open": true, "name": "a", "text": "7"}, "items": [{"state": "ok"}, null]}'


def _judge(
    *expect: Expectation,
    output: str = CHRONY,
    exit: int | None = 0,
    probe: CommandProbe | HttpProbe = COMMAND,
    error: str = "",
    output_bytes: int | None = None,
) -> Ruling:
    size = len(output.encode()) if output_bytes is None else output_bytes
    answer = Answer("own.x", "chronyc tracking", output, error, exit, output_bytes=size)
    return judge_declared(Declared(probe, expect), HOST, answer)


def _match(pattern: str, number: Comparison | None = None, severity: Verdict = Verdict.FAIL) -> ExpectMatch:
    return ExpectMatch(compile_pattern(pattern), number, severity)


def _json(*path: str | int, equals: Sequence[object] = (), number: Comparison | None = None) -> ExpectJson:
    return ExpectJson(path, ".".join(map(str, path)), tuple(equals), number)


OFFSET = r"Last offset\s*:\s*([-+0-9.e]+) seconds"

COMMANDS: dict[str, tuple[tuple[Expectation, ...], Verdict]] = {
    "exit as wanted": ((ExpectCode((0,)),), Verdict.PASS),
    "exit not as wanted": ((ExpectCode((1, 2)),), Verdict.FAIL),
    "exit not as wanted, mild": ((ExpectCode((1,), Verdict.WARN),), Verdict.WARN),
    "contains": ((ExpectText("Normal"),), Verdict.PASS),
    "does not contain": ((ExpectText("Insane"),), Verdict.FAIL),
    "does not contain, mild": ((ExpectText("Insane", severity=Verdict.WARN),), Verdict.WARN),
    "is free of": ((ExpectText("Not synchronised", False),), Verdict.PASS),
    "is not free of": ((ExpectText("Normal", False),), Verdict.FAIL),
    "a line matches": ((_match("^Stratum"),), Verdict.PASS),
    "no line matches": ((_match("^Stratum$"),), Verdict.FAIL),
    "number below": ((_match(OFFSET, Comparison("<", 0.0)),), Verdict.PASS),
    "number not above": ((_match(OFFSET, Comparison(">=", 0.0)),), Verdict.FAIL),
    "number at the edge": ((_match(r"Stratum\s*: (\d+)", Comparison("<=", 3)),), Verdict.PASS),
    "number past the edge": ((_match(r"Stratum\s*: (\d+)", Comparison("<", 3)),), Verdict.FAIL),
    "number equal": ((_match(r"Stratum\s*: (\d+)", Comparison("==", 3)),), Verdict.PASS),
    "group is no number": ((_match(r"Leap status\s*: (\w+)", Comparison("==", 3)),), Verdict.UNKNOWN),
    "failure outweighs doubt": ((_match(r"status\s*: (\w+)", Comparison("==", 3)), ExpectText("x")), Verdict.FAIL),
    "doubt outweighs warning": (
        (_match(r"status\s*: (\w+)", Comparison("==", 3)), ExpectText("Insane", severity=Verdict.WARN)),
        Verdict.UNKNOWN,
    ),
    "not JSON": ((_json("a"),), Verdict.UNKNOWN),
}


@pytest.mark.parametrize("case", COMMANDS)
def test_a_command(case: str) -> None:
    expect, verdict = COMMANDS[case]
    ruling = _judge(*expect)
    assert ruling.verdict is verdict
    assert ruling.target == HOST
    assert ruling.evidence_keys == ("own.x",)
    assert (ruling.reason is not None) is (verdict is Verdict.UNKNOWN)


BODIES: dict[str, tuple[Expectation, Verdict]] = {
    "equals": (_json("items", 0, "state", equals=["ok"]), Verdict.PASS),
    "equals another": (_json("items", 0, "state", equals=["down"]), Verdict.FAIL),
    "is there": (_json("queue", "name"), Verdict.PASS),
    "null is there": (_json("items", 1, equals=[None]), Verdict.PASS),
    "no such key": (_json("queue", "length"), Verdict.FAIL),
    "no such position": (_json("items", 2), Verdict.FAIL),
    "a key of a list": (_json("items", "state"), Verdict.FAIL),
    "a position of a table": (_json("queue", 0), Verdict.FAIL),
    "below null": (_json("items", 1, "state"), Verdict.FAIL),
    "number holds": (_json("queue", "depth", number=Comparison("<=", 12)), Verdict.PASS),
    "number does not hold": (_json("queue", "depth", number=Comparison("<", 12)), Verdict.FAIL),
    "text that is a number": (_json("queue", "text", number=Comparison(">", 6.5)), Verdict.PASS),
    "text that is none": (_json("queue", "name", number=Comparison(">", 6.5)), Verdict.UNKNOWN),
    "true is not a number": (_json("queue", "open", number=Comparison("==", 1)), Verdict.UNKNOWN),
    "true is not 1": (_json("queue", "open", equals=[1]), Verdict.FAIL),
    "true is true": (_json("queue", "open", equals=[True]), Verdict.PASS),
}


@pytest.mark.parametrize("case", BODIES)
def test_a_body(case: str) -> None:
    expectation, verdict = BODIES[case]
    assert _judge(expectation, output=QUEUE, exit=200, probe=URL).verdict is verdict


@pytest.mark.parametrize(
    ("status", "verdict"),
    [(200, Verdict.PASS), (204, Verdict.PASS), (199, Verdict.FAIL), (301, Verdict.FAIL), (503, Verdict.FAIL)],
)
def test_without_an_expectation_on_it_the_status_must_be_2xx(status: int, verdict: Verdict) -> None:
    assert _judge(ExpectText("queue"), output=QUEUE, exit=status, probe=URL).verdict is verdict


def test_without_an_expectation_on_it_the_exit_code_must_be_0() -> None:
    ruling = _judge(ExpectText("Normal"), exit=1)
    assert ruling.verdict is Verdict.FAIL
    assert ruling.rule.en == "not as expected: exit 0"
    assert ruling.observed.zh == "退出码 1"


@pytest.mark.parametrize(
    ("exit", "error", "probe", "reason"),
    [
        (127, "sh: chronyc: not found", COMMAND, Reason.TOOL_MISSING),
        (126, "Permission denied", COMMAND, Reason.PERMISSION),
        (1, "sudo: a password is required", ROOT, Reason.PERMISSION),
        (None, "", COMMAND, Reason.TIMEOUT),
        (None, "", URL, Reason.PROBE_ERROR),
    ],
)
def test_what_did_not_run_is_unknown(
    exit: int | None, error: str, probe: CommandProbe | HttpProbe, reason: Reason
) -> None:
    ruling = _judge(ExpectText("x", False), output="", exit=exit, error=error, probe=probe)
    assert ruling.verdict is Verdict.UNKNOWN
    assert ruling.reason is reason


def test_an_exit_code_that_was_asked_for_is_an_answer() -> None:
    assert _judge(ExpectCode((127,)), output="", exit=127).verdict is Verdict.PASS


def test_sudo_words_from_a_command_that_needs_no_root_are_just_words() -> None:
    assert _judge(ExpectCode((0,)), exit=1, error="sudo: a password is required").verdict is Verdict.FAIL


@pytest.mark.parametrize("reason", [Reason.UNREACHABLE, Reason.TOOL_MISSING, Reason.TIMEOUT, Reason.NO_CREDENTIAL])
def test_a_missing_answer_keeps_its_reason(reason: Reason) -> None:
    declared = Declared(COMMAND, (ExpectText("x", False),))
    for answer in (Missing(reason, "why"), Answer("own.x", "x", missing=Missing(reason, "why"))):
        ruling = judge_declared(declared, HOST, answer)
        assert (ruling.verdict, ruling.reason) == (Verdict.UNKNOWN, reason)
        assert "why" in ruling.observed.en


@pytest.mark.parametrize("output", ["", "<html>", '{"a": ', "[" * 100_000, '{"a": NaN', "\x00\x1b[31m"])
def test_a_body_that_is_not_json_cannot_be_judged(output: str) -> None:
    ruling = _judge(_json("a", equals=[1]), output=output, exit=200, probe=URL)
    assert (ruling.verdict, ruling.reason) == (Verdict.UNKNOWN, Reason.PARSE_ERROR)
    assert "\x1b" not in ruling.observed.en


@pytest.mark.parametrize(
    "expectation", [ExpectText("needle"), ExpectText("needle", False), _match("needle"), _json("a")]
)
def test_what_may_lie_in_the_part_that_was_cut_off_cannot_be_judged(expectation: Expectation) -> None:
    ruling = _judge(expectation, output='{"a": 1', output_bytes=1_000_000)
    assert (ruling.verdict, ruling.reason) == (Verdict.UNKNOWN, Reason.CANNOT_TELL)


def test_what_is_in_the_head_was_found() -> None:
    assert _judge(ExpectText("Normal"), _match("Stratum"), output_bytes=1_000_000).verdict is Verdict.PASS
    assert _judge(ExpectText("Normal", False), output_bytes=1_000_000).verdict is Verdict.FAIL


@pytest.mark.parametrize("number", ["nan", "inf", "-inf", "1e999", "--", ""])
def test_what_is_no_number_is_never_compared(number: str) -> None:
    ruling = _judge(_match(r"^v=(\S*)$", Comparison("<=", 5)), output=f"v={number}")
    assert (ruling.verdict, ruling.reason) == (Verdict.UNKNOWN, Reason.PARSE_ERROR)


def test_a_group_that_took_no_part_is_no_number() -> None:
    assert _judge(_match(r"a|b=(\d+)", Comparison("<=", 5)), output="a").verdict is Verdict.UNKNOWN


def test_hostile_output_is_cannot_tell() -> None:
    ruling = _judge(_match(r".*a.*b$"), output="a" * 100_000)
    assert (ruling.verdict, ruling.reason) == (Verdict.UNKNOWN, Reason.CANNOT_TELL)


def test_every_cause_is_said() -> None:
    ruling = _judge(ExpectText("Insane", severity=Verdict.WARN), ExpectText("Normal", False), _match("^x"), exit=3)
    assert ruling.verdict is Verdict.FAIL
    assert ruling.rule.en == "not as expected: exit 0"
    assert [note.en for note in ruling.notes] == [
        "not as expected: no 'Normal' (contains 'Normal')",
        "not as expected: matches ^x (no line matches)",
        "not as expected: contains 'Insane' (no 'Insane')",
    ]
    assert all(note.zh for note in ruling.notes)
    assert ruling.expected.en == "exit 0; contains 'Insane'; no 'Normal'; matches ^x"


def test_the_material_changes_with_what_was_found_only() -> None:
    first = _judge(_match(OFFSET, Comparison("<", 1)))
    again = _judge(_match(OFFSET, Comparison("<", 1)), output=CHRONY.replace("3\n", "4\n"))
    moved = _judge(_match(OFFSET, Comparison("<", 1)), output=CHRONY.replace("012911", "012912"))
    over = _judge(_match(OFFSET, Comparison("<", 0.000001)))
    assert first.material == again.material == moved.material
    assert first.material["looks"] != over.material["looks"]


def _any_expectation() -> st.SearchStrategy[Expectation]:
    return st.sampled_from(
        [
            ExpectCode((0, 200)),
            ExpectText("a"),
            ExpectText("a", False),
            _match(r"(\S+)", Comparison(">", 1)),
            _match("a+b"),
            _json("a", 0),
            _json("a", number=Comparison(">", 1)),
            _json(equals=[1]),
        ]
    )


@given(st.lists(_any_expectation(), min_size=1, max_size=4), st.text(), st.none() | st.integers(-9, 600))
def test_any_answer_gives_a_ruling(expect: list[Expectation], output: str, exit: int | None) -> None:
    for probe in (COMMAND, ROOT, URL):
        ruling = _judge(*expect, output=output, exit=exit, probe=probe, output_bytes=0)
        assert ruling.verdict in (Verdict.PASS, Verdict.FAIL, Verdict.UNKNOWN)
        if exit is None:
            assert ruling.verdict is Verdict.UNKNOWN
