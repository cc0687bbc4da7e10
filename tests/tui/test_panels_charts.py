"""The text charts: what was not seen stays a gap, a zero is none, and no line is wider than it may be."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from dstui.telemetry.rings import Rings
from screens.charts import PART_ROWS, Series, chart, nice, series_of, short
from screens.lines import Line
from screens.tones import Tone

T = 1_800_000_000.0
NOW = ("9,970", Tone.STRONG)


def plain(line: Line) -> str:
    return "".join(text for text, _ in line)


def rings(*values: float | None, began: float = T, every: float = 1.0) -> Rings:
    kept = Rings(1, 900)
    for number, value in enumerate(values):
        kept.append(began + number * every, (value,))
    return kept


@pytest.mark.parametrize(
    ("value", "edge"),
    [(0, 1), (-3, 1), (0.03, 0.05), (0.2, 0.2), (0.21, 0.5), (1, 1), (9.6, 10), (10, 10), (10.1, 20), (105, 200)],
)
def test_the_upper_edge_is_a_round_number_that_holds_the_value(value: float, edge: float) -> None:
    assert nice(value) == pytest.approx(edge)


@given(st.floats(min_value=1e-6, max_value=3e38))
def test_every_value_is_below_the_edge_and_not_far(value: float) -> None:
    assert value <= nice(value) <= value * 2.6


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0"), (0.25, "0.25"), (8.5, "8.5"), (120, "120"), (9970, "9,970"), (12345, "12.3k"), (2e6, "2M"),
     (3e38, ">999G")],
)  # fmt: skip
def test_numbers_of_the_axis(value: float, text: str) -> None:
    assert short(value) == text


@given(st.floats(min_value=0, max_value=3.4e38))
def test_numbers_fit_the_axis(value: float) -> None:
    assert len(short(value)) <= 7


def test_a_gap_is_not_joined_and_not_zero() -> None:
    series = Series((4.0, 4.0, None, None, 0.0, 4.0), T, T + 60)
    head, top, bottom, _ = chart("tokens/s", NOW, series, 40, 2, top=4.0)
    assert plain(head).strip() == "tokens/s  9,970"
    assert plain(top)[:15] == "      4 │██   █"
    assert plain(bottom)[:15] == "      0 │██··▁█"


def test_nothing_seen_is_a_chart_of_gaps() -> None:
    lines = chart("tokens/s", ("? too old", Tone.UNKNOWN), Series((None,) * 6, T, T + 60), 40, 3)
    assert not set("▁▂▃▄▅▆▇█") & set("".join(map(plain, lines)))
    assert "? too old" in plain(lines[0])


def test_the_axis_of_time_has_both_ends() -> None:
    series = Series((1.0,) * 60, T - 600, T)
    axis = plain(chart("tokens/s", NOW, series, 80, 2)[-1]).split()
    assert len(axis) == 2
    assert axis[0] < axis[1]


def test_the_newest_columns_stay_when_there_is_no_room() -> None:
    series = Series((1.0, 2.0, 3.0, 4.0), T, T + 40)
    (_, line, _) = chart("x", NOW, series, 11, 1, top=4.0)
    assert plain(line).endswith("│▆█")


def test_the_edge_does_not_flicker_when_a_column_begins() -> None:
    kept = rings(*[5.0] * 20, began=T)
    before = series_of(kept, 0, T + 19.5, 4, seconds=10.0)
    after = series_of(kept, 0, T + 20.5, 4, seconds=10.0)
    assert before.values == after.values == (None, None, 5.0, 5.0)


def test_what_stopped_leaves_a_gap_at_the_right() -> None:
    kept = rings(*[5.0] * 20, began=T)
    assert series_of(kept, 0, T + 45, 6, seconds=10.0).values == (None, 5.0, 5.0, None, None, None)


def test_values_are_scaled_and_spikes_kept() -> None:
    kept = rings(0.1, 0.9, None, 0.2, began=T)
    (value,) = series_of(kept, 0, T + 3, 1, seconds=10.0, factor=100.0).values
    assert value == pytest.approx(90)


def test_an_empty_ring_is_a_gap() -> None:
    assert series_of(Rings(1, 4), 0, T, 3, seconds=10.0).values == (None, None, None)


@given(
    st.lists(st.none() | st.floats(min_value=-1e6, max_value=1e12), max_size=120),
    st.integers(min_value=20, max_value=120),
    st.integers(min_value=1, max_value=8),
)
def test_any_series_fits(values: list[float | None], width: int, height: int) -> None:
    lines = chart("首 token 延迟 p95，ms", NOW, Series(tuple(values), T, T + 10 * len(values)), width, height)
    assert len(lines) == height + PART_ROWS
    assert {sum(cell_len(text) for text, _ in line) for line in lines} == {width}
