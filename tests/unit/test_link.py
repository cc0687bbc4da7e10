"""The client side of the protocol against a wire made of lists, and what any host may send."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Callable, Mapping

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dstui.facts.case import Session
from dstui.facts.raw import Answer, Op, OpKind, own_process, run
from dstui.gather.answers import decode, decode_aside, raw_of
from dstui.gather.link import ASIDE_BYTES, Link
from dstui.gather.local import open_local
from dstui.gather.wording import Tail, clean
from dstui.model import GatherError, Reason

HELLO = b'\x1e{"id":0,"ok":true,"mode":"python","python":"3.6.8","version":1}\n'


class Wire:
    """Keeps what was written; `answers` are fed back for the next request."""

    def __init__(self, link: Link) -> None:
        self.link = link
        self.requests: list[dict[str, object]] = []
        self.aborted = False
        self.input_ended = False

    def write(self, data: bytes) -> None:
        if data.startswith(b"{"):
            self.requests.append(json.loads(data))

    def end_input(self) -> None:
        self.input_ended = True

    def abort(self) -> None:
        self.aborted = True

    async def ended(self) -> None:
        return

    def answer(self, number: int = -1, **answer: object) -> None:
        request = self.requests[number]
        self.link.feed(b"\x1e" + json.dumps({"id": request["id"], "ok": True, **answer}).encode() + b"\n")


async def greeted(hello: bytes = HELLO) -> tuple[Link, Wire]:
    link = Link("gpu-01", Session("ops", "publickey"), become="none")
    wire = Wire(link)
    link.feed(hello)
    await link.greet(wire, b"payload")
    return link, wire


async def turns(true: Callable[[], object]) -> None:
    """Let the loop turn until something has become true."""
    async with asyncio.timeout(5):
        while not true():  # noqa: ASYNC110 - the wire's list changes without telling
            await asyncio.sleep(0)


async def asked(link: Link, wire: Wire, **answer: object) -> Mapping[str, object]:
    call = asyncio.create_task(link.call("verb", timeout=5))
    await asyncio.sleep(0)
    wire.answer(**answer)
    return await call


@pytest.mark.parametrize("size", [1, 2, 7, 1000])
async def test_messages_may_be_cut_anywhere(size: int) -> None:
    link = Link("gpu-01", Session("ops", "publickey"), become="none")
    stream = b"Last login: \x1b[1mtoday\x1b[0m" + HELLO + b"noise" + HELLO
    for start in range(0, len(stream), size):
        link.feed(stream[start : start + size])
    await link.greet(Wire(link), b"")
    assert link.mode == "python"


async def test_answers_find_their_requests_in_any_order() -> None:
    link, wire = await greeted()
    calls = [asyncio.create_task(link.call("verb", timeout=5, number=n)) for n in range(5)]
    await asyncio.sleep(0)
    assert len({request["id"] for request in wire.requests}) == 5
    for number in (3, 0, 4, 1, 2):
        wire.answer(number, echo=wire.requests[number]["number"])
    assert [(await call)["echo"] for call in calls] == [0, 1, 2, 3, 4]


async def test_a_late_answer_is_never_taken_for_another_request() -> None:
    link, wire = await greeted()
    with pytest.raises(GatherError, match="no answer to verb within"):
        await link.call("verb", timeout=0.001)
    call = asyncio.create_task(link.call("verb", timeout=5))
    await asyncio.sleep(0)
    wire.answer(0, which="late")
    assert not call.done()
    wire.answer(1, which="mine")
    assert (await call)["which"] == "mine"


async def test_a_refusal_carries_the_hosts_reason() -> None:
    link, wire = await greeted()
    with pytest.raises(GatherError, match="gpu-01: verb: no such directory") as caught:
        await asked(link, wire, ok=False, reason="permission", why="no such \x1b[31mdirectory")
    assert caught.value.reason is Reason.PERMISSION
    with pytest.raises(GatherError, match="gave no reason") as caught:
        await asked(link, wire, ok="yes", reason=["?"])
    assert caught.value.reason is Reason.CANNOT_TELL


async def test_an_argument_called_timeout_reaches_the_host() -> None:
    link, wire = await greeted()
    call = asyncio.create_task(link.call("connect", timeout=5, timeout_=2.0, endpoints=[]))
    await asyncio.sleep(0)
    assert wire.requests[0] | {"id": 1} == {"id": 1, "verb": "connect", "timeout": 2.0, "endpoints": []}
    wire.answer()
    await call


async def test_a_lost_stream_fails_everything_and_every_later_request() -> None:
    link, wire = await greeted()
    calls = [asyncio.create_task(link.call("verb", timeout=60)) for _ in range(3)]
    await asyncio.sleep(0)
    link.lost(GatherError(Reason.UNREACHABLE, "gpu-01: gone"))
    link.lost(GatherError(Reason.TIMEOUT, "gpu-01: only the first counts"))
    for call in calls:
        with pytest.raises(GatherError, match=r"^gpu-01: gone$"):
            await call
    with pytest.raises(GatherError, match=r"^gpu-01: gone$"):
        await link.call("verb", timeout=1)
    assert wire.aborted
    assert not link.alive


@pytest.mark.parametrize(
    "hello",
    [
        b'\x1e{"id":0,"ok":true,"mode":"python","version":2}\n',
        b'\x1e{"id":0,"ok":true,"mode":"perl","version":1}\n',
        b'\x1e{"id":0}\n',
    ],
)
async def test_another_version_of_the_collector_is_not_spoken_to(hello: bytes) -> None:
    with pytest.raises(GatherError, match="this dstui speaks 1"):
        await greeted(hello)


async def test_an_answer_before_hello_counts_for_nothing() -> None:
    link = Link("gpu-01", Session("ops", "publickey"), become="none")
    link.feed(b'\x1e{"id":1,"ok":true}\n\x1e[]\n\x1e0\n')
    with pytest.raises(GatherError, match=r"did not start within 0\.01 s") as caught:
        await link.greet(Wire(link), b"", seconds=0.01)
    assert caught.value.reason is Reason.UNREACHABLE


async def test_closing_lets_the_host_clean_up_first() -> None:
    link, wire = await greeted()
    await link.close()
    assert wire.input_ended
    with pytest.raises(GatherError, match="closed by dstui"):
        await link.call("verb", timeout=1)


async def test_the_controllers_address_is_learned_from_the_host() -> None:
    link, wire = await greeted()
    facts = asyncio.create_task(link.facts((own_process("self"),), deadline=5))
    await turns(lambda: wire.requests)
    wire.answer(answers={"self": {"value": {"controller_ip": "192.0.2.7"}}})
    await facts
    assert link.session.controller_ip == "192.0.2.7"


async def test_a_module_is_sent_once_before_the_first_operation_that_needs_it() -> None:
    link, wire = await greeted()
    ops = (Op("gpu", OpKind.NVML, {}, "NVML"),)
    for expected in (["module", "facts"], ["module", "facts", "facts"]):
        facts = asyncio.create_task(link.facts(ops, deadline=5))
        await turns(lambda: wire.requests)
        if wire.requests[-1]["verb"] == "module":
            wire.answer()
        await turns(lambda expected=expected: len(wire.requests) == len(expected))
        wire.answer(answers={})
        assert (await facts).answers["gpu"].missing is not None
        assert [request["verb"] for request in wire.requests] == expected


async def test_big_messages_do_not_hold_up_the_loop() -> None:
    link, _ = await greeted()
    files = {f"/sys/class/{n}": "value\n" * 40 for n in range(8192)}
    call = asyncio.create_task(link.call("verb", timeout=10))
    await asyncio.sleep(0)
    message = b"\x1e" + json.dumps({"id": 1, "ok": True, "files": files}).encode() + b"\n"
    assert len(message) > ASIDE_BYTES
    link.feed(message)
    for _ in range(3):  # decoded in place, the answer would be there by now
        await asyncio.sleep(0)
    assert not call.done()
    assert (await call)["files"] == files


class TestAnswers:
    op = run("k", "true")

    def answer(self, found: object) -> Answer:
        return raw_of((self.op,), {"k": found}).answers["k"]

    def test_absent_keys_mean_empty(self) -> None:
        assert self.answer({"exit": 0}) == Answer("k", "true", exit=0)
        assert self.answer({"output": "x", "error": "e", "exit": 3, "bytes": 99, "s": 0.5}) == Answer(
            "k", "true", output="x", error="e", exit=3, output_bytes=99, seconds=0.5
        )

    @pytest.mark.parametrize(
        "found",
        [
            None,
            [],
            "text",
            {"output": 5},
            {"exit": "0"},
            {"exit": False},
            {"exit": 0.0},
            {"s": "1"},
            {"bytes": []},
            {"error": None},
        ],
    )
    def test_a_wrong_shape_is_no_answer(self, found: object) -> None:
        missing = self.answer(found).missing
        assert missing is not None
        assert missing.reason is Reason.PARSE_ERROR

    def test_missing_is_passed_on(self) -> None:
        missing = self.answer({"missing": "permission", "why": "sudo\x1b[0m: no"}).missing
        assert missing is not None
        assert (missing.reason, missing.why) == (Reason.PERMISSION, "sudo: no")
        odd = self.answer({"missing": {}, "why": None}).missing
        assert odd is not None
        assert odd.reason is Reason.CANNOT_TELL

    @pytest.mark.parametrize("answers", [None, [], "x", {"other": {}}])
    def test_an_operation_without_an_answer_is_missing(self, answers: object) -> None:
        assert raw_of((self.op,), answers).answers["k"].missing is not None


class TestDecode:
    @pytest.mark.parametrize("read", [decode, decode_aside])
    def test_hostile_json(self, read: type[object]) -> None:
        assert read(b'{"a":NaN,"b":[Infinity,-Infinity]}') == {"a": None, "b": [None, None]}
        assert read(b'["\\ud800 \\ud83d\\ude00 \\uDC00", "\xff"]') == ["\ufffd \U0001f600 \ufffd", "\ufffd"]
        for text in (b"[" * 5000, b"1" * 5000, b"{}{}", b"", b"\x00"):
            with pytest.raises(ValueError):
                read(text)

    @given(
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.text(), lambda x: st.lists(x) | st.dictionaries(st.text(), x)
        )
    )
    def test_both_ways_agree(self, value: object) -> None:
        message = json.dumps(value).encode()
        assert decode(message) == decode_aside(message)

    @given(st.binary())
    def test_any_bytes_are_a_value_or_a_value_error(self, message: bytes) -> None:
        for read in (decode, decode_aside):
            try:
                read(message)
            except ValueError:
                continue


@given(st.lists(st.binary() | st.sampled_from([b"\x1e", b"\n", HELLO, b'\x1e{"id":1,"ok":true}\n', b"\x1e{"])))
@settings(max_examples=60)
def test_any_stream_is_borne(chunks: list[bytes]) -> None:
    async def feed() -> None:
        link, _ = await greeted()
        call = asyncio.create_task(link.call("verb", timeout=5))
        await asyncio.sleep(0)
        for chunk in chunks:
            link.feed(chunk)
        link.lost(GatherError(Reason.UNREACHABLE, "over"))
        with contextlib.suppress(GatherError):
            assert (await call)["id"] == 1

    asyncio.run(feed())


@given(st.text())
def test_cleaned_text_is_one_printable_line(text: str) -> None:
    said = clean(text)
    assert said.encode() is not None, "no half surrogates"
    assert not any(ord(c) < 32 or 127 <= ord(c) < 160 for c in said)
    assert len(said) <= 301


def test_what_is_cleaned_away() -> None:
    assert clean("a\x1b[31;1mred\x1b[0m\x1b]0;title\x07 b\r\n\tc\x9b \u202egnp") == "ared b c gnp"
    tail = Tail()
    tail.add(b"x" * 5000 + b" the end\xff")
    assert tail.total == 5009
    assert tail.text().endswith("the end\ufffd”")
    assert Tail().text() == ""


async def test_the_local_collector_is_gone_after_close() -> None:
    link = await open_local("here", become="none")
    raw = await link.facts((own_process("self"), run("pid", "cat", "/proc/self/stat")), deadline=10)
    assert isinstance(raw.value("self"), dict)
    assert link.session.local
    await link.close()
    assert not link.alive


async def test_a_local_collector_that_cannot_start(monkeypatch: pytest.MonkeyPatch) -> None:
    from dstui.gather import ship

    monkeypatch.setattr(ship, "local_argv", lambda: ["/nonexistent/python3"])
    with pytest.raises(GatherError, match="here: the collector cannot be started on this machine"):
        await open_local("here", become="none")
    monkeypatch.setattr(ship, "local_argv", lambda: ["/bin/sh", "-c", "echo sorry >&2; exit 3"])
    with pytest.raises(GatherError, match="here: the collector ended with exit code 3; it printed: “sorry”"):
        await open_local("here", become="none")
