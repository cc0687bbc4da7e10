"""func.*: an observation with a hole in it, and an answer that only a limiter gave, are never green."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from dstui.catalogue import Catalogue, load_catalogue
from dstui.facts.case import FleetCase, Params, Site
from dstui.facts.exchange import Exchange
from dstui.facts.func import Concurrent, ConcurrentAnswer, ErrorSuite, FillLevel, FuncTarget, Languages, LongText
from dstui.facts.func_cases import ERROR_CASES, LANGUAGE_CASES
from dstui.judge import func
from dstui.model import Reason, Ruling, Verdict

OF = FuncTarget("https://api.example.com", "m")
RULES = {judge.check_id: judge.rule for judge in func.JUDGES}
GREEN = (Verdict.PASS, Verdict.WARN)
JSON = {"content-type": "application/json"}


@pytest.fixture(scope="module")
def catalogue() -> Catalogue:
    return load_catalogue()


@pytest.fixture
def judge(catalogue: Catalogue) -> Callable[..., Ruling]:
    def judged(check_id: str, observed: object, **params: object) -> Ruling:
        site = Site("ds", "lab", "live", (), "/mnt", None, None, "bare-metal", True, "none")
        known = {p.name: p.threshold() for p in catalogue.check(check_id).params}
        thresholds = [replace(t, value=params.get(name, t.value)) for name, t in known.items()]
        (ruling,) = RULES[check_id](FleetCase(site, {}, Params(thresholds), {}, {type(observed): observed}, 0.0))
        return ruling

    return judged


def answer(key: str, status: int, body: bytes = b"{}") -> Exchange:
    return Exchange(key, "POST", "https://api.example.com", "curl …", status, JSON, body, seconds=0.1)


def said(text: str) -> bytes:
    message = f'{{"role": "assistant", "content": "{text}"}}'
    choice = f'{{"index": 0, "message": {message}, "finish_reason": "stop"}}'
    usage = '{"prompt_tokens": 2000, "completion_tokens": 1, "total_tokens": 2001}'
    return f'{{"id": "1", "object": "chat.completion", "model": "m", "choices": [{choice}], "usage": {usage}}}'.encode()


@pytest.mark.parametrize(
    ("check_id", "observed"),
    [
        ("func.concurrent", Concurrent(OF, ())),
        ("func.multilingual", Languages({}, OF)),
        ("func.error-handling", ErrorSuite({}, OF)),
        ("func.long-text", LongText(OF, 4096, "/v1/models")),
    ],
    ids=["concurrent", "multilingual", "errors", "long"],
)
def test_nothing_that_was_asked_proves_nothing(judge: Callable[..., Ruling], check_id: str, observed: object) -> None:
    assert judge(check_id, observed, n=0, fill=()).verdict not in GREEN


@pytest.mark.parametrize("code", [429, 503])
def test_a_limiter_that_takes_everything_proves_nothing(judge: Callable[..., Ruling], code: int) -> None:
    limited = answer("x", code)
    answers = tuple(ConcurrentAnswer(f"zq{n}", False, limited) for n in range(8))
    ruling = judge("func.concurrent", Concurrent(OF, answers, 1.0), n=8)
    assert (ruling.verdict, ruling.reason) == (Verdict.UNKNOWN, Reason.CANNOT_TELL)
    suite = ErrorSuite({case.id: limited for case in ERROR_CASES} | {"health": answer("health", 200, said("hi"))}, OF)
    assert judge("func.error-handling", suite).verdict not in GREEN


def test_one_case_that_was_not_sent_is_a_hole(judge: Callable[..., Ruling]) -> None:
    found = {f"{case.id}/{mode}": answer(case.id, 200, said("ok")) for case in LANGUAGE_CASES for mode in ("plain",)}
    ruling = judge("func.multilingual", Languages(found, OF))
    assert ruling.verdict not in GREEN


def test_a_long_prompt_without_the_one_that_is_too_long(judge: Callable[..., Ruling]) -> None:
    level = FillLevel(0.5, 2000, True, "n", answer("fill", 200, said("n")))
    ruling = judge("func.long-text", LongText(OF, 4096, "/v1/models", (level,)))
    assert (ruling.verdict, ruling.reason) == (Verdict.UNKNOWN, Reason.NOT_RUN)
