"""Cells are counted exactly and remote text cannot do anything."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from screens.plain import clean, fit, fold, lines_of, one_line, shorten, wrap


@pytest.mark.parametrize(
    ("hostile", "harmless"),
    [
        ("[/foo]", "[/foo]"),
        ("dev=[nvme0n1]", "dev=[nvme0n1]"),
        ("\x1b[31mred\x1b[0m", "·[31mred·[0m"),
        ("\x9b2J", "·2J"),
        ("a\tb", "a    b"),
        ("a\u202eb", "ab"),
        ("a\u200bb", "ab"),
        ("a\ufe0fb", "ab"),
        ("\ud800", "·"),
        ("a\xa0b", "a b"),
        ("机架\u3000三", "机架  三"),
        ("\x00\x07\x08\x7f", "····"),
    ],
)
def test_hostile_characters_lose_their_power(hostile: str, harmless: str) -> None:
    assert clean(hostile) == harmless


@given(st.text())
def test_clean_text_prints_on_one_line_whatever_came(text: str) -> None:
    assert clean(text).isprintable()


@given(st.text(max_size=60), st.integers(1, 40))
def test_fit_is_exact(text: str, width: int) -> None:
    assert cell_len(fit(clean(text), width)) == width


@given(st.text(max_size=60), st.integers(1, 40))
def test_shorten_never_overflows(text: str, width: int) -> None:
    assert cell_len(shorten(clean(text), width)) <= width


@given(st.text(alphabet="ab 机架三，。(", max_size=80), st.integers(4, 30))
def test_wrapped_lines_fit_and_lose_nothing_but_spaces(text: str, width: int) -> None:
    parts = wrap(text, width)
    assert all(cell_len(part) <= width for part in parts)
    assert "".join(parts).replace(" ", "") == text.replace(" ", "")


@given(st.text(alphabet="ab 机架三", max_size=80), st.integers(2, 30))
def test_folded_output_loses_nothing(text: str, width: int) -> None:
    pieces = fold(text, width)
    assert "".join(pieces) == text
    assert all(cell_len(piece) <= width for piece in pieces)


def test_chinese_breaks_between_characters_but_not_before_a_full_stop() -> None:
    assert wrap("机架三的网卡。坏了", 12) == ("机架三的网", "卡。坏了")
    assert wrap("check the cable", 10) == ("check the", "cable")


def test_wide_text_is_cut_at_a_whole_character() -> None:
    assert fit("机架三", 4) == "机… "
    assert fit("机架三", 6) == "机架三"


def test_lines_end_where_the_terminal_would_go_back() -> None:
    assert lines_of("10%\r20%\r\nok\n") == ["10%", "20%", "ok", ""]


def test_a_line_of_100_kb_is_looked_at_only_in_part() -> None:
    assert len(lines_of("x" * 100_000)[0]) == 4096
    assert len(one_line("y" * 100_000)) == 4096
