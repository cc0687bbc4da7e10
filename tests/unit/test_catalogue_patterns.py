"""Operators' regular expressions: what is refused, and that nothing that is accepted can hang the program."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dstui.catalogue.patterns import SEARCHED_CHARS, compile_pattern


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("(", "is not a regular expression"),
        ("a{99999999999}", "is not a regular expression"),
        ("(a+)+$", "repeats a group that repeats or chooses inside"),
        ("(?:a*)*b", "repeats a group that repeats or chooses inside"),
        ("(a|aa)+$", "repeats a group that repeats or chooses inside"),
        ("((ab?)c?)*d", "repeats a group that repeats or chooses inside"),
        ("(a+){2,20}", "repeats a group up to 20 times"),
        ("(a{1,9}){30}", "repeats a group up to 30 times"),
        (r"(a+)\1", "refers back to a group"),
        ("(?P<x>a+)(?P=x)", "refers back to a group"),
        ("(a)?(?(1)b|c)", "refers back to a group"),
        (".*a.*b.*c.*d", "too many open-ended wildcards"),
        (r"\w*\w*\w*\w*x", "too many open-ended wildcards"),
    ],
)
def test_refused(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        compile_pattern(text)


@pytest.mark.parametrize(
    ("text", "degree"),
    [
        ("active", 1),
        (r"version (\d+\.\d+\.\d+)", 1),
        (r"^(\S+)\s+(\S+)\s+(\d+)$", 2),
        (r"Last offset\s*:\s*([-+0-9.]+) seconds", 1),
        (r"\d+", 2),
        (".*error", 2),
        (r"load average.*?(\d+\.\d+)", 3),
        (r"(\d{1,3}\.){3}\d{1,3}", 1),
        ("(?i)state: (?:up|running)", 1),
        (r"[\]\-a-z]+\x41\u0042\N{BULLET}", 2),
        (r"\bup\b|\bdown\b", 1),
    ],
)
def test_accepted_with_the_degree_of_its_work(text: str, degree: int) -> None:
    assert compile_pattern(text).degree == degree


HOSTILE = (
    "a" * 100_000,
    "ab" * 50_000,
    "load average" * 9_000,
    "1" * 100_000,
    ("a" * 4_000 + "\n") * 25,
    ("a" * 900 + "\n") * 111,
    ("ab" * 100 + "\n") * 500,
    " " * 100_000,
)


@pytest.mark.parametrize(
    "text", [".*a.*b.*c", r"\w+a\w+z", r"load.*avg.*(\d+)x", r"\s+$x", "(a+)b", ".*.*z", r"\d+\w+!"]
)
def test_hostile_output_costs_little(text: str) -> None:
    pattern = compile_pattern(text)
    began = time.process_time()
    for output in HOSTILE:
        pattern.search(output)
    assert time.process_time() - began < 1.5 * len(HOSTILE)


def test_what_was_not_searched_is_said() -> None:
    pattern = compile_pattern("needle")
    assert pattern.search("x\nneedle")[1]
    found, whole = pattern.search("x\n" * SEARCHED_CHARS + "needle")
    assert (found, whole) == (None, False)
    found, whole = compile_pattern(".*a.*b").search("a" * 50_000 + "\nab")
    assert found is not None
    assert not whole


def test_lines_are_searched_one_by_one() -> None:
    found, whole = compile_pattern("^b$").search("a\nb\nc")
    assert found is not None
    assert found[0] == "b"
    assert compile_pattern("a.b").search("a\nb") == (None, True)
    assert whole


def test_an_empty_output_is_one_empty_line() -> None:
    assert compile_pattern("^$").search("")[0] is not None


@given(st.text(alphabet="ab.*+?{}(,)|[]^$\\dw12 ", max_size=24))
def test_any_text_is_a_pattern_or_a_sentence(text: str) -> None:
    try:
        pattern = compile_pattern(text)
    except ValueError as error:
        assert str(error)
    else:
        assert 1 <= pattern.degree <= 4
        pattern.search("ab" * 40)
