"""Times, spans, sizes and the expiry that people type."""

from __future__ import annotations

from datetime import datetime

import pytest

from dstui.model import Lang, Text
from screens import words
from screens.times import expiry, moment, size, span, zone

NOW = datetime(2025, 11, 24, 12, 4, 31).timestamp


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (0.0, "0 ms"), (0.0994, "99 ms"), (0.0996, "0.1 s"), (3.21, "3.2 s"), (9.96, "10 s"), (59.4, "59 s"),
        (59.6, "1 min"), (200, "3 min 20 s"), (3600, "1 h"), (18_600, "5 h 10 min"), (12 * 86_400, "12 d"),
        (-1, "0 ms"),
    ],
)  # fmt: skip
def test_spans_carry_their_unit(seconds: float, shown: str) -> None:
    assert span(seconds) == shown


@pytest.mark.parametrize(("count", "shown"), [(812, "812 B"), (1229, "1.2 KiB"), (3_565_158, "3.4 MiB")])
def test_sizes_are_binary(count: int, shown: str) -> None:
    assert size(count) == shown


def test_moments_say_the_day_only_when_it_is_another() -> None:
    now = NOW()
    assert moment(now - 60, now, Lang.EN) == "12:03:31"
    assert moment(now - 18 * 3600, now, Lang.EN) == "yesterday 18:04"
    assert moment(now - 18 * 3600, now, Lang.ZH) == "昨天 18:04"
    assert moment(now - 4 * 86_400, now, Lang.EN) == "2025-11-20 12:04"
    assert zone(now) == "CST"


@pytest.mark.parametrize(
    ("written", "ahead"),
    [("+30d", 30 * 86_400), (" +2w ", 14 * 86_400), ("+12h", 12 * 3600), ("+7", 7 * 86_400), ("+3天", 3 * 86_400)],
)
def test_a_span_counts_from_now(written: str, ahead: float) -> None:
    assert expiry(written, NOW()) == NOW() + ahead


def test_a_date_means_the_end_of_that_day() -> None:
    assert expiry("2025-12-24", NOW()) == datetime(2025, 12, 25).timestamp()
    assert expiry("2025-11-24", NOW()) == datetime(2025, 11, 25).timestamp()


@pytest.mark.parametrize(
    ("written", "sentence"),
    [
        ("", words.EXPIRY_NEEDED),
        ("next week", words.EXPIRY_FORM),
        ("24.12.2025", words.EXPIRY_FORM),
        ("2025-02-30", words.EXPIRY_NO_SUCH_DAY),
        ("2025-11-23", words.EXPIRY_PAST),
        ("+0d", words.EXPIRY_PAST),
        ("9999-12-31", words.EXPIRY_NO_SUCH_DAY),
        ("2027-01-01", words.EXPIRY_TOO_FAR),
        ("+9999w", words.EXPIRY_TOO_FAR),
    ],
)
def test_what_is_no_expiry_is_told_in_a_sentence(written: str, sentence: Text) -> None:
    assert expiry(written, NOW()) == sentence
