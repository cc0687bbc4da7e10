from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dstui.facts import outbound
from dstui.facts.case import HostSite, Site
from dstui.facts.outbound import OutboundFacts
from dstui.facts.raw import Answer, Missing, Raw
from dstui.model import Reason

URL = "https://pypi.org/simple/pip/"
HOST = HostSite("gpu-01", frozenset({"head"}), "198.51.100.11", None, "198.51.100.11", 22, "ops", True, 8)
SITE = Site(
    *("ds", "lab", "pre", (HOST,), "/mnt/deepseek-shared", None, None, "bare-metal", False, "none"),
    outbound={"python": (URL, "https://mirrors.aliyun.com/pypi/simple/pip/"), "empty": ()},
)


def raw(value: object) -> Raw:
    return Raw({"outbound.via.python": Answer("outbound.via.python", f"GET {URL}", value=value)})


def fetched(**changed: object) -> dict[str, object]:
    answer = {"status": 200, "ms": 81.2, "dns_ms": 3.1, "via_proxy": False, "kind": None, "error": None}
    return {**answer, "insecure_status": None, "body": "", **changed}


@pytest.mark.parametrize(
    ("changed", "reached"),
    [
        ({}, True),
        ({"status": 401}, True),
        ({"status": 499}, True),
        ({"status": 500}, False),
        ({"status": 407}, False),
        ({"status": 0}, False),
        ({"status": None, "kind": "timeout", "error": "timed out"}, False),
        ({"status": "200"}, False),
        ({"status": True}, False),
    ],
)
def test_any_status_below_500_is_reached_but_a_proxys_own_refusal(changed: dict[str, object], reached: bool) -> None:
    group = outbound.parse(raw({URL: fetched(**changed)})).via["python"]
    assert not isinstance(group, Missing)
    assert group[URL].reached is reached


def test_a_certificate_error_keeps_the_status_without_verification() -> None:
    answer = fetched(status=None, kind="tls", error="self-signed certificate in chain", insecure_status=200)
    group = outbound.parse(raw({URL: answer})).via["python"]
    assert not isinstance(group, Missing)
    assert (group[URL].reached, group[URL].reached_unverified) == (False, True)


@pytest.mark.parametrize("value", [None, [], "200", {URL: None}, {URL: {}}, {URL: {"ms": 1}}])
def test_an_answer_of_another_shape_is_missing(value: object) -> None:
    group = outbound.parse(raw(value)).via["python"]
    assert isinstance(group, Missing)
    assert group.reason is Reason.PARSE_ERROR


def test_without_python_the_group_is_missing() -> None:
    missing = Missing(Reason.TOOL_MISSING, "no python3")
    facts = outbound.parse(Raw({"outbound.via.python": Answer("outbound.via.python", "GET", missing=missing)}))
    assert facts.via["python"] == missing


def test_asks_each_group_once_and_directly_only_after_a_proxy() -> None:
    assert [op.key for op in outbound.ops(HOST, SITE)] == ["outbound.via.python"]
    assert outbound.more(HOST, SITE, raw({URL: fetched()})) == ()
    again = outbound.more(HOST, SITE, raw({URL: fetched(via_proxy=True)}))
    assert [(op.key, op.args["proxy"]) for op in again] == [("outbound.direct.python", "-")]


@given(st.dictionaries(st.text(), st.none() | st.dictionaries(st.text(), st.none() | st.integers() | st.text())))
def test_any_answer_gives_facts(value: dict[str, object]) -> None:
    assert isinstance(outbound.parse(raw(value)), OutboundFacts)
