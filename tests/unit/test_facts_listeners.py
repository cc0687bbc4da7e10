from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dstui.facts import listeners
from dstui.facts.listeners import ListenerFacts, Listening
from dstui.facts.raw import Answer, Missing, Raw
from dstui.model import Reason

NET = Path(__file__).parent.parent / "data" / "hosts" / "net"


def printed(**outputs: str) -> dict[str, Answer]:
    return {f"listeners.{k}": Answer(f"listeners.{k}", k, output) for k, output in outputs.items()}


def text(name: str) -> str:
    return (NET / name).read_text()


def test_reads_who_listens_where() -> None:
    facts = listeners.parse(Raw(printed(ss=text("ss_ray_head.txt"))))
    assert facts.on(6379) == (Listening("*", 6379, "gcs_server", 15103),)
    assert facts.on(52365) == (Listening("198.51.100.11", 52365, "ray::DashboardA", 15301),)
    assert [s.address for s in facts.on(22)] == ["0.0.0.0", "::"]
    assert facts.on(10002) == ()


def test_processes_of_others_stay_unknown() -> None:
    facts = listeners.parse(Raw(printed(ss=text("ss_unprivileged.txt"))))
    assert facts.on(6379) == (Listening("127.0.0.1", 6379, None, None),)


@pytest.mark.parametrize(
    "ss",
    [
        Answer("listeners.ss", "ss", missing=Missing(Reason.TOOL_MISSING, "ss: not found")),
        Answer("listeners.ss", "ss", "", exit=127),
        Answer("listeners.ss", "ss", "", exit=255),
        Answer("listeners.ss", "ss", "", exit=0),
    ],
)
def test_without_ss_the_kernels_table_is_read(ss: Answer) -> None:
    answers = printed(tcp=text("proc_net_tcp.txt"), tcp6=text("proc_net_tcp6.txt"))
    found = listeners.parse(Raw(answers | {"listeners.ss": ss})).listening
    assert found == (
        Listening("0.0.0.0", 22, None, None),
        Listening("198.51.100.11", 6379, None, None),
        Listening("::1", 8080, None, None),
    )


def test_a_kernel_without_ipv6_has_no_second_table() -> None:
    gone = Answer("listeners.tcp6", "tcp6", missing=Missing(Reason.CANNOT_TELL, "ENOENT"))
    found = listeners.parse(Raw(printed(tcp=text("proc_net_tcp.txt")) | {"listeners.tcp6": gone})).listening
    assert not isinstance(found, Missing)
    assert len(found) == 2


@pytest.mark.parametrize(
    "answers",
    [
        {},
        printed(ss=""),
        printed(ss="garbage\n"),
        printed(ss="LISTEN 0 128 0.0.0.0:99999 0.0.0.0:*\n"),
        printed(tcp="", tcp6=""),
        printed(tcp="  sl  local_address rem_address st\n", tcp6=""),
        printed(tcp="  sl  local_address\n   0: zz:16 0:0 0A\n", tcp6=""),
        printed(tcp=text("proc_net_tcp.txt"))
        | {"listeners.tcp6": Answer("t", "t", missing=Missing(Reason.PERMISSION, "EACCES"))},
    ],
)
def test_what_is_no_complete_list_is_missing(answers: dict[str, Answer]) -> None:
    facts = listeners.parse(Raw(answers))
    assert isinstance(facts.listening, Missing)
    assert facts.on(22) == ()


@pytest.mark.parametrize(
    ("content", "expected"),
    [("32768\t60999\n", (32768, 60999)), ("1024 65535", (1024, 65535))],
)
def test_ephemeral_range(content: str, expected: tuple[int, int]) -> None:
    assert listeners.parse(Raw(printed(range=content))).ephemeral == expected


@pytest.mark.parametrize("content", ["", "32768", "60999 32768", "a b", "1 2 3", "1 70000"])
def test_an_ephemeral_range_that_is_none_is_missing(content: str) -> None:
    assert isinstance(listeners.parse(Raw(printed(range=content))).ephemeral, Missing)


@pytest.mark.parametrize(
    ("content", "expected"),
    [("\n", ()), ("8265\n", ((8265, 8265),)), ("6379,10001-19999\n", ((6379, 6379), (10001, 19999)))],
)
def test_reserved_ports(content: str, expected: tuple[tuple[int, int], ...]) -> None:
    assert listeners.parse(Raw(printed(reserved=content))).reserved == expected


@given(st.text())
def test_any_text_gives_facts(content: str) -> None:
    raw = Raw(printed(ss=content, tcp="local_address\n" + content, tcp6=content, range=content, reserved=content))
    assert isinstance(listeners.parse(raw), ListenerFacts)
