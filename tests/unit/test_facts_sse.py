"""Server-sent events: captured streams, the odd corners of the standard, and any bytes split anywhere."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dstui.facts.raw import Missing
from dstui.facts.sse import LINE_LIMIT, SseEvent, SseParser, events

DATA = Path(__file__).parent.parent / "data" / "api"
STREAMS = ("sse_full_include_usage.txt", "sse_no_usage.txt", "sse_continuous_usage.txt", "serve/sse.txt")


def said(found: list[SseEvent]) -> list[tuple[str, str, str, bool]]:
    return [(event.name, event.data, event.id, event.whole) for event in found]


@pytest.mark.parametrize("name", STREAMS)
def test_captured_streams_are_read_whole(name: str) -> None:
    body = (DATA / name).read_bytes()
    found = events(body)
    assert found[-1].done
    assert [event.done for event in found].count(True) == 1
    assert all(isinstance(event.json(), dict) for event in found[:-1])
    assert [event.end for event in found] == sorted({event.end for event in found})
    assert found[-1].end == len(body)


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b"data: a\n\n", ["a"]),
        (b"data:a\r\n\r\n", ["a"]),
        (b"data: a\r\r", ["a"]),
        (b"data:  a\n\n", [" a"]),
        (b"data: a\ndata: b\n\n", ["a\nb"]),
        (b"data\n\n", [""]),
        (b": ping\n\ndata: a\n\n", ["a"]),
        (b"\xef\xbb\xbfdata: a\n\n", ["a"]),
        (b"data: \xef\xbb\xbfa\n\n", ["\ufeffa"]),
        (b"data: a", []),
        (b"data: a\n", []),
        (b"\n\n\n", []),
        (b"event: x\n\ndata: a\n\n", ["a"]),
        (b'{"error": "Unauthorized"}', []),
        (b"", []),
    ],
)
def test_lines(body: bytes, expected: list[str]) -> None:
    assert [event.data for event in events(body)] == expected


def test_fields() -> None:
    parser = SseParser()
    found = parser.feed(b"event: add\nid: 7\nretry: 3000\ndata: a\n\nid: x\0y\nretry: soon\nwhat: b\n: c\ndata: d\n\n")
    assert said(found) == [("add", "a", "7", True), ("message", "d", "7", True)]
    assert (parser.retry, parser.ignored, parser.comments) == (3000, 1, 1)


def test_a_character_cut_in_two_events_is_noticed() -> None:
    """A server that cuts a character between two events breaks it for every client."""
    whole = "数".encode()
    found = events(b"data: " + whole[:2] + b"\n\ndata: " + whole[2:] + b"\n\ndata: fine\n\n")
    assert [event.whole for event in found] == [False, False, True]
    assert isinstance(found[0].json(), Missing)


def test_a_stream_that_is_broken_off_is_unfinished() -> None:
    parser = SseParser()
    parser.feed(b"data: a\n\n")
    assert not parser.unfinished
    parser.feed(b"data: b\n")
    assert parser.unfinished
    assert parser.feed(b"\n")[0].data == "b"
    assert not parser.unfinished


def test_a_line_without_end_is_kept_only_in_part_and_in_linear_time() -> None:
    parser, piece = SseParser(), b"x" * 64
    began = time.process_time()
    parser.feed(b"data: ")
    for _ in range(2 * LINE_LIMIT // len(piece)):
        assert parser.feed(piece) == []
    (event,) = parser.feed(b"\n\n")
    assert not event.whole and len(event.data) < LINE_LIMIT
    assert time.process_time() - began < 5


@pytest.mark.parametrize("data", ["{", "[" * 100_000, "", "nan?"])
def test_data_that_is_no_json(data: str) -> None:
    assert isinstance(SseEvent(data).json(), Missing)


@given(st.lists(st.sampled_from([b"data", b":", b" ", b"\n", b"\r", b"\r\n", b"a", b"\xff", "数".encode(), b"id"])))
def test_any_split_gives_the_same_events(parts: list[bytes]) -> None:
    body = b"".join(parts)
    whole, bytewise = SseParser(), SseParser()
    expected = whole.feed(body)
    found = [event for i in range(len(body)) for event in bytewise.feed(body[i : i + 1])]
    assert said(found) == said(expected)
    assert bytewise.unfinished == whole.unfinished
    assert (bytewise.comments, bytewise.ignored) == (whole.comments, whole.ignored)


@given(st.binary())
def test_any_bytes_give_events_that_end_within_them(body: bytes) -> None:
    assert all(0 < event.end <= len(body) for event in events(body))
