"""Increases, histograms and quantiles between two looks."""

from __future__ import annotations

from collections.abc import Mapping
from math import inf, isfinite

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dstui.telemetry.windows import (
    Absent,
    Estimate,
    Histogram,
    Present,
    Why,
    histogram,
    increase,
    increases,
    merged,
    observed,
    per,
    quantile,
)

GONE = Absent(Why.NOT_EXPORTED, "x")


def number(value: float, name: str = "x_total") -> Present[float]:
    return Present(value, name)


def by_label(name: str = "x_total", **values: float) -> Present[Mapping[str, float]]:
    return Present(values, name)


def held(*counts: float, bounds: tuple[float, ...] = (0.1, 0.2, 0.4), name: str = "h") -> Present[Histogram]:
    return Present(Histogram(bounds, counts), name)


def test_increase_is_the_difference() -> None:
    assert increase(number(5), number(12)) == number(7)
    assert increase(number(5), number(5)) == number(0)


@pytest.mark.parametrize(
    ("older", "newer", "why"),
    [
        (number(12), number(5), Why.RESTARTED),
        (GONE, number(5), Why.TOO_NEW),
        (number(5), GONE, Why.NOT_EXPORTED),
        (GONE, GONE, Why.NOT_EXPORTED),
        (number(5, "old"), number(7, "new"), Why.AMBIGUOUS),
    ],
)
def test_no_increase_is_said_and_never_a_number(
    older: Present[float] | Absent, newer: Present[float] | Absent, why: Why
) -> None:
    grown = increase(older, newer)
    assert isinstance(grown, Absent)
    assert grown.why is why


def test_a_label_value_that_appears_beside_others_counted_nothing_before() -> None:
    assert increases(by_label(stop=3.0), by_label(stop=4.0, error=2.0)) == by_label(stop=1.0, error=2.0)


@pytest.mark.parametrize(
    ("older", "newer"),
    [(by_label(stop=3.0), by_label(stop=2.0, error=9.0)), (by_label(stop=3.0, error=1.0), by_label(stop=5.0))],
)
def test_a_label_value_that_falls_or_vanishes_is_a_restart(
    older: Present[Mapping[str, float]], newer: Present[Mapping[str, float]]
) -> None:
    grown = increases(older, newer)
    assert isinstance(grown, Absent)
    assert grown.why is Why.RESTARTED


def test_rate_per_second_and_minute() -> None:
    assert per(10.0, number(50)) == number(5)
    assert per(30.0, number(2), 60.0) == number(4)
    assert isinstance(per(0.0, number(50)), Absent)
    assert per(10.0, GONE) is GONE


def test_histogram_takes_the_count_for_a_missing_last_bucket() -> None:
    assert histogram({0.1: 1, 0.2: 3}, 4, 1.5, "h") == Histogram((0.1, 0.2), (1, 3, 4), 1.5)
    assert histogram({0.2: 3, 0.1: 1, inf: 4}, None, None, "h") == Histogram((0.1, 0.2), (1, 3, 4))


@pytest.mark.parametrize(
    ("buckets", "count"),
    [
        ({0.1: 1, 0.2: 3}, None),
        ({inf: 3}, 3),
        ({}, 3),
        ({0.1: 3, 0.2: 1, inf: 4}, None),
        ({0.1: 3, inf: 2}, None),
        ({0.1: -1, inf: 2}, None),
        ({0.1: float("nan"), inf: 2}, None),
        ({0.1: 1, inf: inf}, None),
    ],
)
def test_what_is_no_whole_histogram_is_absent(buckets: dict[float, float], count: float | None) -> None:
    found = histogram(buckets, count, None, "h")
    assert isinstance(found, Absent)
    assert found.why is Why.UNREADABLE


def test_observed_is_bucket_by_bucket() -> None:
    assert observed(held(1, 2, 2, 2), held(1, 4, 6, 7)) == held(0, 2, 4, 5)


def test_observed_sees_a_restart_in_a_bucket() -> None:
    found = observed(held(1, 2, 2, 2), held(0, 4, 6, 7))
    assert isinstance(found, Absent)
    assert found.why is Why.RESTARTED


def test_observed_of_another_name_is_nothing() -> None:
    found = observed(held(1, 2, 2, 2, name="old"), held(1, 4, 6, 7))
    assert isinstance(found, Absent)
    assert found.why is Why.AMBIGUOUS


def test_observed_on_the_bounds_that_both_have() -> None:
    newer = held(1, 6, 7, bounds=(0.1, 0.4))
    assert observed(held(1, 2, 2, 2), newer) == held(0, 4, 5, bounds=(0.1, 0.4))
    other = observed(held(1, 2, 2, 2), held(1, 7, bounds=(0.3,)))
    assert isinstance(other, Absent)
    assert other.why is Why.AMBIGUOUS


def estimate(q: float, window: Present[Histogram]) -> float:
    found = quantile(q, window)
    assert isinstance(found, Present)
    assert found.value.observations == 10
    assert not found.value.at_least
    return found.value.value


def test_quantile_is_linear_within_its_bucket() -> None:
    assert estimate(0.5, held(0, 10, 10, 10)) == pytest.approx(0.15)
    assert estimate(1.0, held(0, 10, 10, 10)) == pytest.approx(0.2)


def test_quantile_in_the_first_bucket_begins_at_zero() -> None:
    assert estimate(0.5, held(10, 10, 10, 10)) == pytest.approx(0.05)
    assert estimate(0.5, held(10, 10, bounds=(0.0,))) == 0.0


def test_counts_that_fall_are_levelled() -> None:
    assert estimate(0.7, held(5, 4, 9, 10)) == pytest.approx(0.2 + 0.2 * (7 - 5) / (9 - 5))


def test_quantile_beyond_the_last_bound_is_at_least_that() -> None:
    assert quantile(0.99, held(0, 0, 5, 10)) == Present(Estimate(0.4, True, 10), "h")


def test_quantile_of_nothing_is_idle_and_not_zero() -> None:
    found = quantile(0.5, held(0, 0, 0, 0))
    assert isinstance(found, Absent)
    assert found.why is Why.IDLE
    assert quantile(0.5, GONE) is GONE


def test_merged_before_quantiles_is_not_the_mean_of_quantiles() -> None:
    many, few = held(99, 99, 99, 99), held(0, 0, 1, 1)
    together = merged([many, few])
    found = quantile(0.5, together)
    assert isinstance(found, Present)
    assert found.value.value < 0.1
    apart = [quantile(0.5, each) for each in (many, few)]
    mean = sum(each.value.value for each in apart if isinstance(each, Present)) / 2
    assert mean > 0.15


def test_merged_on_common_bounds_and_with_both_names() -> None:
    found = merged([held(1, 2, 3, 4), held(5, 6, 7, bounds=(0.1, 0.4), name="g")])
    assert found == held(6, 9, 11, bounds=(0.1, 0.4), name="g, h")
    assert isinstance(merged([held(1, 2, 3, 4), held(1, 1, bounds=(9.0,))]), Absent)
    assert isinstance(merged([]), Absent)


STEPS = st.lists(st.integers(0, 50), min_size=4, max_size=4)


@given(STEPS, st.floats(0.01, 1.0))
def test_quantile_lies_within_its_bounds_and_grows_with_q(steps: list[int], q: float) -> None:
    counts = [float(sum(steps[: at + 1])) for at in range(4)]
    window = held(*counts)
    found, highest = quantile(q, window), quantile(1.0, window)
    if sum(steps) == 0:
        assert isinstance(found, Absent)
        return
    assert isinstance(found, Present)
    assert isinstance(highest, Present)
    assert isfinite(found.value.value)
    assert 0 <= found.value.value <= highest.value.value <= 0.4


@given(STEPS, STEPS)
def test_merging_adds_observations(some: list[int], others: list[int]) -> None:
    first = held(*(float(sum(some[: at + 1])) for at in range(4)))
    second = held(*(float(sum(others[: at + 1])) for at in range(4)))
    found = merged([first, second])
    assert isinstance(found, Present)
    assert found.value.total == sum(some) + sum(others)
    # What was there before, and what there is in all, tell what came in between.
    assert observed(first, found) == second
