"""How many users a service bears within its objective, and how sure that is."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dstui.load.agent.histogram import Histogram
from dstui.load.ladder import Stage, StageKind
from dstui.load.most import MOST_STEPS, attained, most, next_level, wilson
from dstui.load.result import Counts, Generator, StageResult, Times


def level(users: int, good: int, ok: int, *, failed: int = 0, shed: int = 0, lag: float = 0.001) -> StageResult:
    late = Histogram()
    late.add(lag, 100)
    counts = Counts(begun=ok + failed + shed, ok=ok, errors={"http-500": failed} if failed else {}, shed=shed)
    generator = Generator(workers=2, lag=late, cpu=0.2, nofile=65_536)
    return StageResult(Stage(StageKind.LEVEL, users), 0.0, 60.0, counts, Times(), good=good, generator=generator)


def test_wilson_is_that_of_the_books() -> None:
    # Newcombe 1998, method 3: 81 of 263, and 0 of 20.
    assert wilson(81, 263) == (pytest.approx(0.2553, abs=1e-4), pytest.approx(0.3662, abs=1e-4))
    assert wilson(0, 20) == (0.0, pytest.approx(0.1611, abs=1e-4))
    assert wilson(29, 29)[1] == pytest.approx(1.0)


def test_a_level_passes_fails_or_says_neither() -> None:
    assert (found := attained(level(10, 990, 1000))) is not None and found.passes is True
    assert (found := attained(level(10, 900, 1000))) is not None and found.passes is False
    assert (found := attained(level(10, 19, 20))) is not None and found.passes is None
    # What failed or was shed is not good.
    assert (found := attained(level(10, 950, 950, failed=50))) is not None and found.share == 0.95
    assert (found := attained(level(10, 900, 900, shed=100))) is not None and found.passes is False


def test_nothing_is_said_without_requests_or_by_a_generator_that_lags() -> None:
    assert attained(level(10, 0, 0)) is None
    assert attained(level(10, 990, 1000, lag=0.2)) is None
    without = level(10, 5, 5)
    assert attained(StageResult(without.stage, 0.0, 1.0, without.counts, Times(), generator=without.generator)) is None


def test_the_most_is_below_the_first_that_fails() -> None:
    stages = [level(50, 1000, 1000), level(100, 900, 1000), level(200, 1000, 1000)]
    found = most(stages)
    assert found is not None and found.attained.users == 50
    assert found.failing is not None and found.failing.users == 100
    assert most([level(50, 10, 1000)]) is None
    alone = most([level(50, 1000, 1000)])
    assert alone is not None and alone.failing is None


def search(bears: Callable[[int], bool], ceiling: int = 2000, first: int = 1) -> list[StageResult]:
    stages = [level(first, 1000 if bears(first) else 0, 1000)]
    for _ in range(40):
        wanted = next_level(stages, ceiling)
        if wanted is None:
            return stages
        stages.append(level(wanted, 1000 if bears(wanted) else 0, 1000))
    raise AssertionError("it does not end")


@given(limit=st.integers(0, 3000), first=st.integers(1, 100))
def test_the_search_ends_close_to_the_truth(limit: int, first: int) -> None:
    stages = search(lambda users: users <= limit, first=first)
    found = most(stages)
    if limit < 1:
        assert found is None
    elif limit >= 2000:
        assert found is not None and found.attained.users == 2000
    elif found is not None:
        users = found.attained.users
        assert users <= limit and (limit - users <= max(1, 0.1 * users) + 1)
    assert len({stage.stage.users for stage in stages}) == len(stages)


def test_what_says_neither_is_not_tried_again() -> None:
    assert next_level([level(100, 1000, 1000), level(200, 0, 1000), level(150, 19, 20)], 500) is None
    assert next_level([], 100) is None
    assert MOST_STEPS > 3
