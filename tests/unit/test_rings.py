"""Ring buffers: what is kept, what is absent, and that memory does not grow."""

from __future__ import annotations

import math
import statistics
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dstui.telemetry.rings import Ring, Rings


def filled(*values: float | None, capacity: int = 4) -> Ring:
    ring = Ring(capacity)
    for at, value in enumerate(values):
        ring.append(float(at), value)
    return ring


def test_an_empty_ring_has_nothing() -> None:
    ring = Ring(3)
    assert (len(ring), ring.newest, ring.latest, list(ring.points())) == (0, None, None, [])
    assert ring.downsample(0, 10, 3) == [None] * 3
    assert Rings(2, 3).oldest is None


def test_the_oldest_goes() -> None:
    ring = filled(1, 2, 3, 4, 5, 6)
    assert list(ring.points()) == [(2, 3), (3, 4), (4, 5), (5, 6)]
    assert (len(ring), ring.newest, ring.latest) == (4, 5, 6)
    assert list(ring.points(since=4)) == [(4, 5), (5, 6)]
    assert list(ring.points(since=4.5)) == [(5, 6)]
    assert list(ring.points(since=99)) == []


@pytest.mark.parametrize("absent", [None, math.nan, math.inf, -math.inf, 1e300])
def test_absent_is_not_zero_and_hides_what_was_before(absent: float | None) -> None:
    ring = filled(5, absent)
    assert ring.latest is None
    assert list(ring.points()) == [(0, 5), (1, None)]


def test_columns_share_the_clock() -> None:
    rings = Rings(2, 3)
    rings.append(10, (1, None))
    rings.append(11, (None, 4))
    assert (rings.latest(0), rings.latest(1), rings.oldest, rings.columns) == (None, 4, 10, 2)
    assert list(rings.points(1)) == [(10, None), (11, 4)]
    with pytest.raises(ValueError, match="2 columns, 1 values"):
        rings.append(12, (1,))
    assert len(rings) == 2


def test_a_clock_that_is_set_back_does_not_turn_the_order_round() -> None:
    ring = Ring(5)
    for at, value in ((100, 1), (40, 2), (101, 3)):
        ring.append(at, value)
    assert list(ring.points()) == [(100, 1), (100, 2), (101, 3)]


def test_downsampling_keeps_spikes_and_gaps() -> None:
    ring = filled(1, 9, None, None, 2, 4, capacity=10)
    assert ring.downsample(0, 6, 3) == [9, None, 4]
    assert ring.downsample(0, 6, 3, min) == [1, None, 2]
    assert ring.downsample(0, 6, 3, statistics.fmean) == [5, None, 3]
    # The end does not belong to it: at 5 there is a value, before it there is none in the last span.
    assert ring.downsample(1, 5, 4) == [9, None, None, 2]
    assert ring.downsample(-4, 0, 2) == [None, None]
    assert ring.downsample(6, 6, 2) == [None, None]
    assert ring.downsample(0, 6, 0) == []


@pytest.mark.parametrize(("columns", "capacity"), [(0, 1), (1, 0), (-1, 5)])
def test_a_ring_without_room_is_refused(columns: int, capacity: int) -> None:
    with pytest.raises(ValueError, match="at least one"):
        Rings(columns, capacity)


def test_memory_is_flat() -> None:
    rings = Rings(32, 600)

    def size() -> int:
        return sum(sys.getsizeof(ring) for ring in (rings._times, *rings._values))

    before = size()
    assert before < 90_000
    for at in range(2000):
        rings.append(at, [1.5] * 32)
    assert size() == before


@given(
    st.lists(st.tuples(st.floats(0, 1e9), st.none() | st.floats(0, 1e6, width=32))),
    st.integers(1, 7),
    st.floats(0, 1e9),
    st.integers(1, 50),
)
def test_it_is_the_end_of_a_list(
    moments: list[tuple[float, float | None]], capacity: int, since: float, cells: int
) -> None:
    ring = Ring(capacity)
    model: list[tuple[float, float | None]] = []
    for at, value in moments:
        ring.append(at, value)
        model.append((max(at, model[-1][0]) if model else at, value))
    model = model[-capacity:]
    assert list(ring.points()) == model
    assert list(ring.points(since)) == [moment for moment in model if moment[0] >= since]
    inside = [value for at, value in model if since <= at < since + 100 and value is not None]
    sampled = [value for value in ring.downsample(since, since + 100, cells) if value is not None]
    assert max(sampled, default=None) == max(inside, default=None)
