"""What one streamed answer counts as, and the times in it."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from dstui.load.agent.asked import ABORTED, OK, SHED, Asked, understand
from dstui.load.agent.http import Answer

ROLE = {"choices": [{"index": 0, "delta": {"role": "assistant", "content": ""}, "finish_reason": None}]}
END = {"choices": [{"index": 0, "delta": {"content": ""}, "finish_reason": "length"}]}
USAGE = {"choices": [], "usage": {"prompt_tokens": 12, "completion_tokens": 4, "total_tokens": 16}}


def event(data: object) -> bytes:
    return f"data: {data if isinstance(data, str) else json.dumps(data)}\n\n".encode()


def text(said: str, name: str = "content") -> dict[str, object]:
    return {"choices": [{"index": 0, "delta": {name: said}, "finish_reason": None}]}


def answer(*pieces: tuple[float, bytes], status: int = 200, kind: str = "text/event-stream; charset=utf-8") -> Answer:
    made = Answer()
    made.status, made.headers, made.pieces = status, {"content-type": kind}, list(pieces)
    made.sent, made.ended = 1.0, pieces[-1][0] if pieces else 9.0
    return made


def asked(made: Answer, *, keep_text: bool = False) -> Asked:
    found = Asked(due=0.5, sent=1.0)
    understand(found, made, keep_text=keep_text)
    return found


def test_times_are_those_of_the_events_that_bring_text() -> None:
    found = asked(
        answer(
            (1.1, event(ROLE)), (1.3, event(text("a"))), (1.35, event(text("b"))), (1.6, event(text("c")) + event(END)),
            (1.7, event(USAGE) + event("[DONE]")),
        ),
        keep_text=True,
    )  # fmt: skip
    assert (found.outcome, found.first, found.last, found.ended, found.pieces) == (OK, 1.3, 1.6, 1.7, 3)
    assert found.gaps == [pytest.approx(0.05), pytest.approx(0.25)]
    assert (found.tokens_in, found.tokens_out, found.said) == (12, 4, "abc")


def test_an_event_counts_when_its_last_byte_came() -> None:
    whole = event(text("a"))
    found = asked(answer((1.1, whole[:20]), (1.4, whole[20:] + event(END)), (1.5, event("[DONE]"))))
    assert (found.outcome, found.first) == (OK, 1.4)


@pytest.mark.parametrize("change", [
    lambda body: body,
    lambda body: body.replace(b"\n", b"\r\n"),
    lambda body: body.replace(b"\n", b"\r"),
    lambda body: body.replace(b"data: ", b"data:"),
    lambda body: b": ping\n\n" + body,
    lambda body: b"event: message\n" + body,
])  # fmt: skip
@pytest.mark.parametrize("size", [1, 7, 60, 10_000])
def test_however_it_is_written_and_cut_it_is_the_same(change: Callable[[bytes], bytes], size: int) -> None:
    whole = b"".join((event(ROLE), event(text("a")), event(text("b")), event(END), event(USAGE), event("[DONE]")))
    body = change(whole)
    pieces = [(1.0 + n, body[n : n + size]) for n in range(0, len(body), size)]
    found = asked(answer(*pieces), keep_text=True)
    assert (found.outcome, found.pieces, found.said, found.tokens_out) == (OK, 2, "ab", 4)
    # By the piece that has the event's last byte.
    ends_of = [n for n in range(len(body)) if body[: n + 1].count(b"content") == 3]
    assert found.first is not None and found.first <= 1.0 + ends_of[0] + size


def test_reasoning_and_calls_of_tools_are_text_too() -> None:
    for name in ("reasoning", "reasoning_content"):
        assert asked(answer((2.0, event(text("hm", name)) + event("[DONE]")))).first == 2.0
    call = {"choices": [{"delta": {"tool_calls": [{"function": {"arguments": "{"}}]}}]}
    assert asked(answer((2.0, event(call) + event("[DONE]")))).first == 2.0


def test_events_with_carriage_returns() -> None:
    made = answer((2.0, event(text("a")).replace(b"\n", b"\r\n") + b"data: [DONE]\r\n\r\n"))
    assert asked(made).outcome == OK


@pytest.mark.parametrize(
    ("made", "outcome"),
    [
        (answer((2.0, b"slow down"), status=429), SHED),
        (answer(status=503), SHED),
        (answer((2.0, b"oops"), status=500), "http-500"),
        (answer((2.0, b"oops"), status=200, kind="text/html"), "garbled"),
        (answer((2.0, b'{"choices": []}'), kind="application/json"), "garbled"),
        (answer((2.0, event(text("a")))), "cut"),
        (answer((2.0, event(text("a")) + b"data: {")), "cut"),
        (answer(), "cut"),
        (answer((2.0, event(ROLE) + event(END) + event("[DONE]"))), "no-tokens"),
        (answer((2.0, event(text("a")) + event({"error": {"message": "died"}}) + event("[DONE]"))), "error-event"),
        (answer((2.0, b"data: nonsense\n\ndata: [DONE]\n\n")), "no-tokens"),
    ],
)  # fmt: skip
def test_what_it_counts_as(made: Answer, outcome: str) -> None:
    found = asked(made)
    assert found.outcome == outcome
    assert found.failed is (outcome != SHED)
    assert len(found.why) <= 200


def test_without_usage_the_tokens_are_not_known() -> None:
    found = asked(answer((2.0, event(text("a")) + event(END))))
    assert (found.outcome, found.tokens_out) == (OK, None)
    for odd in (True, -1, "4", None):
        usage = {"choices": [], "usage": {"completion_tokens": odd}}
        assert asked(answer((2.0, event(text("a")) + event(usage) + event("[DONE]")))).tokens_out is None


def test_what_was_cut_off_by_us_is_no_failure() -> None:
    assert Asked(0.0, 0.0, outcome=ABORTED).failed is False
