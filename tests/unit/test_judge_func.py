"""func.*: judged on what a real vLLM answered, and on each way in which such an answer can be wrong."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from dstui.catalogue import Catalogue, load_catalogue
from dstui.facts.case import FleetCase, Params, Site
from dstui.facts.exchange import Exchange, Fault
from dstui.facts.func import (
    Abort,
    BasicInference,
    Concurrent,
    ConcurrentAnswer,
    ErrorSuite,
    FillLevel,
    FuncTarget,
    Languages,
    LongText,
)
from dstui.facts.func_cases import ERROR_CASES, LANGUAGE_CASES
from dstui.facts.raw import Missing
from dstui.judge import func
from dstui.model import Reason, Ruling, Verdict

DATA = Path(__file__).parents[1] / "data" / "func"
MODEL = "tiny-deepseek"
URL = "https://api.example.com"
OF = FuncTarget(URL, MODEL)
KEYLESS = replace(OF, keyless=Missing(Reason.NO_CREDENTIAL, "the inventory names no key (auth.key_ref)"))
RULES = {judge.check_id: judge.rule for judge in func.JUDGES}
JSON, SSE, HTML = "application/json", "text/event-stream; charset=utf-8", "text/html"


@pytest.fixture(scope="module")
def catalogue() -> Catalogue:
    return load_catalogue()


@pytest.fixture
def judge(catalogue: Catalogue) -> Callable[..., Ruling]:
    def judged(check_id: str, observed: object, **params: object) -> Ruling:
        site = Site("ds", "lab", "live", (), "/mnt", None, None, "bare-metal", True, "none")
        known = {p.name: p.threshold() for p in catalogue.check(check_id).params}
        thresholds = [replace(t, value=params.get(name, t.value)) for name, t in known.items()]
        case = FleetCase(site, {}, Params(thresholds), {}, {type(observed): observed}, 0.0)
        (ruling,) = RULES[check_id](case)
        return ruling

    return judged


def words(ruling: Ruling) -> str:
    return " | ".join([ruling.observed.en, ruling.rule.en, *(note.en for note in ruling.notes)])


def exchange(key: str, status: int | None = 200, body: bytes | str = b"", kind: str = JSON, **more: object) -> Exchange:
    content = body.encode() if isinstance(body, str) else body
    base = Exchange(key, "POST", f"{URL}/v1/chat/completions", "curl …", status, {"content-type": kind}, content)
    return replace(base, seconds=0.4, first=0.1, arrivals=((0.1, len(content)),), **more)  # type: ignore[arg-type]


def unreachable(key: str) -> Exchange:
    missing = Missing(Reason.UNREACHABLE, f"{URL}: connection refused: nothing listens there")
    return Exchange(key, "POST", URL, "curl …", missing=missing, fault=Fault.REFUSED)


def broke_off(key: str) -> Exchange:
    missing = Missing(Reason.CANNOT_TELL, f"{URL}: the server broke off")
    return Exchange(key, "POST", URL, "curl …", missing=missing, fault=Fault.BROKE_OFF)


def captured(name: str) -> bytes:
    return (DATA / name).read_bytes()


def model_of(body: bytes) -> str:
    return str(json.loads(body)["model"])


PLAIN = captured("chat_nonstream.json")
STREAM = captured("sse_full_include_usage.txt")


def changed(**fields: object) -> bytes:
    """The captured answer with other fields."""
    return json.dumps(json.loads(PLAIN) | fields).encode()


def choice(**fields: object) -> bytes:
    answer = json.loads(PLAIN)
    answer["choices"][0] |= fields
    return json.dumps(answer).encode()


def basic(
    plain: Exchange | None = None, stream: Exchange | None = None, of: FuncTarget | None = None
) -> BasicInference:
    answered = FuncTarget(URL, model_of(PLAIN))
    return BasicInference(
        {
            "plain": plain or exchange("plain", body=PLAIN),
            "stream": stream or exchange("stream", body=STREAM, kind=SSE),
        },
        of or answered,
    )


def test_a_real_answer_passes_but_for_the_tokens(judge: Callable[..., Ruling]) -> None:
    ruling = judge("func.basic-inference", basic())
    # The two captures were not of one prompt.
    assert ruling.verdict in (Verdict.PASS, Verdict.WARN)
    assert ruling.observed.en == "16 tokens in 0.40 s; streamed: first text after 100 ms"


@pytest.mark.parametrize(
    ("plain", "verdict", "said"),
    [
        (exchange("plain", 500, b"{}"), Verdict.FAIL, "HTTP 500"),
        (exchange("plain", 404, captured("err_404_model.json")), Verdict.FAIL, "HTTP 404"),
        (exchange("plain", 200, b"<html>", HTML), Verdict.FAIL, "no JSON"),
        (exchange("plain", 200, PLAIN, HTML), Verdict.FAIL, "Content-Type text/html"),
        (exchange("plain", 200, changed(object="text_completion")), Verdict.FAIL, "text_completion"),
        (exchange("plain", 200, choice(message={"role": "assistant", "content": ""})), Verdict.FAIL, "no text"),
        (exchange("plain", 200, choice(message={"role": "user", "content": "x"})), Verdict.FAIL, "role"),
        (exchange("plain", 200, choice(finish_reason="error")), Verdict.FAIL, "finish_reason"),
        (exchange("plain", 200, changed(usage=None)), Verdict.FAIL, "no usage"),
        (
            exchange("plain", 200, changed(usage={"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 9})),
            Verdict.FAIL,
            "add up",
        ),
        (exchange("plain", 200, changed(model="other")), Verdict.FAIL, "model other"),
        (unreachable("plain"), Verdict.UNKNOWN, "connection refused"),
        (broke_off("plain"), Verdict.FAIL, "broke off"),
        (exchange("plain", 401, captured("err_401_chat_nokey.json")), Verdict.FAIL, "HTTP 401"),
    ],
    ids=[
        "500", "404", "html", "wrong-kind", "object", "empty", "role", "finish", "usage", "sum", "model", "refused",
        "broke-off", "key-refused",
    ],
)  # fmt: skip
def test_a_plain_answer_that_is_wrong(
    judge: Callable[..., Ruling], plain: Exchange, verdict: Verdict, said: str
) -> None:
    ruling = judge("func.basic-inference", basic(plain))
    assert ruling.verdict is verdict
    assert said in words(ruling)


@pytest.mark.parametrize(
    ("body", "kind", "said"),
    [
        (STREAM.replace(b"data: [DONE]\n\n", b""), SSE, "without [DONE]"),
        (STREAM, JSON, "Content-Type"),
        (b'data: {"error": {"message": "engine died"}}\n\ndata: [DONE]\n\n', SSE, "engine died"),
        (b"data: {\n\n" + STREAM, SSE, "cannot be read"),
        (b"data: [DONE]\n\n", SSE, "no text"),
    ],
    ids=["no-done", "kind", "error", "garbled", "empty"],
)
def test_a_stream_that_is_wrong(judge: Callable[..., Ruling], body: bytes, kind: str, said: str) -> None:
    ruling = judge("func.basic-inference", basic(stream=exchange("stream", 200, body, kind)))
    assert ruling.verdict is Verdict.FAIL
    assert said in words(ruling)


@pytest.mark.parametrize(("seconds", "warns"), [(5.0, False), (5.01, True)])
def test_slow(judge: Callable[..., Ruling], seconds: float, warns: bool) -> None:
    ruling = judge("func.basic-inference", basic(replace(exchange("plain", body=PLAIN), seconds=seconds)))
    assert ("took 5.0 s" in words(ruling)) is warns


@pytest.mark.parametrize("check_id", sorted(RULES))
def test_without_an_endpoint_nothing_is_green(judge: Callable[..., Ruling], check_id: str) -> None:
    nothing = FuncTarget(None, MODEL)
    observed = {
        "func.basic-inference": BasicInference({}, nothing),
        "func.long-text": LongText(nothing, Missing(Reason.NO_TARGETS, "")),
        "func.multilingual": Languages({}, nothing),
        "func.concurrent": Concurrent(nothing),
        "func.error-handling": ErrorSuite({}, nothing),
    }[check_id]
    ruling = judge(check_id, observed)
    assert (ruling.verdict, ruling.reason) == (Verdict.UNKNOWN, Reason.NO_TARGETS)
    assert "endpoints.api" in words(ruling)


@pytest.mark.parametrize("check_id", sorted(RULES))
def test_without_a_key_a_401_is_unknown(judge: Callable[..., Ruling], check_id: str) -> None:
    refused = exchange("x", 401, captured("err_401_chat_nokey.json"))
    observed = {
        "func.basic-inference": basic(refused, refused, KEYLESS),
        "func.long-text": LongText(KEYLESS, 4096, "x", (FillLevel(0.5, 2000, True, "n", refused),), refused, 5000),
        "func.multilingual": Languages({f"{c.id}/plain": refused for c in LANGUAGE_CASES}, KEYLESS),
        "func.concurrent": Concurrent(KEYLESS, (ConcurrentAnswer("a", False, refused),)),
        "func.error-handling": ErrorSuite({c.id: refused for c in ERROR_CASES if c.key == "right"}, KEYLESS),
    }[check_id]
    ruling = judge(check_id, observed)
    assert (ruling.verdict, ruling.reason) == (Verdict.UNKNOWN, Reason.NO_CREDENTIAL)


def completion(text: str, *, prompt: int = 10, made: int = 5, answer_id: str = "chatcmpl-1") -> bytes:
    return json.dumps({
        "id": answer_id, "object": "chat.completion", "model": MODEL,
        "choices": [{"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": prompt, "completion_tokens": made, "total_tokens": prompt + made},
    }).encode()  # fmt: skip


def stream_of(*texts: str, answer_id: str = "chatcmpl-1") -> bytes:
    events = [
        json.dumps({
            "id": answer_id, "object": "chat.completion.chunk", "model": MODEL,
            "choices": [{"index": 0, "delta": {"content": text}, "finish_reason": None}],
        }, ensure_ascii=False)
        for text in texts
    ]  # fmt: skip
    return "".join(f"data: {event}\n\n" for event in [*events, "[DONE]"]).encode()


def together(texts: Sequence[str], *, status: int = 200, ids: Sequence[str] | None = None) -> Concurrent:
    answers = []
    for number, text in enumerate(texts):
        answer_id = ids[number] if ids else f"chatcmpl-{number}"
        if number % 2:
            body, kind = stream_of(text, " 17", answer_id=answer_id), SSE
        else:
            body, kind = completion(text, answer_id=answer_id), JSON
        answers.append(ConcurrentAnswer(f"zq{number:04}", bool(number % 2), exchange(f"r{number}", status, body, kind)))
    return Concurrent(OF, tuple(answers), 1.5)


def test_concurrent_answers_that_are_their_own(judge: Callable[..., Ruling]) -> None:
    ruling = judge("func.concurrent", together([f"zq{n:04} 17" for n in range(10)]), n=10)
    assert ruling.verdict is Verdict.PASS
    assert "10 of 10 answered" in words(ruling)


def test_one_foreign_word_is_an_incident(judge: Callable[..., Ruling]) -> None:
    texts = [f"zq{n:04} 17" for n in range(10)]
    texts[4] += " zq0007"
    ruling = judge("func.concurrent", together(texts), n=10)
    assert ruling.verdict is Verdict.FAIL
    assert "stop the traffic" in words(ruling)


@pytest.mark.parametrize(("own", "verdict"), [(8, Verdict.PASS), (7, Verdict.WARN)])
def test_a_weak_model_proves_less(judge: Callable[..., Ruling], own: int, verdict: Verdict) -> None:
    texts = [f"zq{n:04}" if n < own else "something" for n in range(10)]
    assert judge("func.concurrent", together(texts), n=10).verdict is verdict


@pytest.mark.parametrize(
    ("change", "verdict", "said"),
    [
        (exchange("r", 500, b"{}"), Verdict.FAIL, "HTTP 500"),
        (exchange("r", 429, b"{}"), Verdict.WARN, "429"),
        (exchange("r", 503, b"{}"), Verdict.WARN, "503"),
        (broke_off("r"), Verdict.FAIL, "broke-off"),
        (unreachable("r"), Verdict.UNKNOWN, "connection refused"),
        (exchange("r", 200, b"<html>", HTML), Verdict.FAIL, "with an error"),
    ],
    ids=["500", "429", "503", "broke-off", "refused", "html"],
)
def test_one_of_many_is_not_answered(
    judge: Callable[..., Ruling], change: Exchange, verdict: Verdict, said: str
) -> None:
    found = together([f"zq{n:04}" for n in range(10)])
    first, *rest = found.answers
    ruling = judge("func.concurrent", replace(found, answers=(replace(first, exchange=change), *rest)), n=10)
    assert ruling.verdict is verdict
    assert said in words(ruling)


def test_answers_that_share_an_id(judge: Callable[..., Ruling]) -> None:
    ruling = judge("func.concurrent", together([f"zq{n:04}" for n in range(4)], ids=["a", "b", "a", "c"]), n=4)
    assert ruling.verdict is Verdict.WARN
    assert "share an id" in words(ruling)


def level(share: float, expected: int, read: int, *, text: str = "zqneedle", **more: object) -> FillLevel:
    body = completion(text, prompt=read)
    return replace(FillLevel(share, expected, True, "zqneedle", exchange("fill", body=body)), **more)  # type: ignore[arg-type]


def long(*levels: FillLevel, overlong: Exchange | None = None, health: int = 200) -> LongText:
    refused = overlong or exchange("too long", 400, captured("err_400_long_prompt.json"))
    alive = exchange("health", health, b"")
    return LongText(OF, 4096, "/v1/models", levels or (level(0.5, 2000, 2010),), refused, 5096, alive)


def test_long_prompts_taken_whole(judge: Callable[..., Ruling]) -> None:
    assert judge("func.long-text", long()).verdict is Verdict.PASS


@pytest.mark.parametrize(
    ("found", "verdict", "said"),
    [
        (long(level(0.5, 2000, 1900)), Verdict.PASS, "taken whole"),
        (long(level(0.5, 2000, 1899)), Verdict.FAIL, "cut off silently"),
        (long(level(0.5, 2000, 2100)), Verdict.PASS, "taken whole"),
        (long(level(0.5, 2000, 2101)), Verdict.WARN, "2,101"),
        (long(level(0.5, 2000, 1500, counted=False)), Verdict.WARN, "expected"),
        (long(level(0.5, 2000, 999, counted=False)), Verdict.FAIL, "expected"),
        (long(level(0.5, 2000, 2000, exchange=exchange("f", 500, b"{}"))), Verdict.FAIL, "HTTP 500"),
        (long(level(0.5, 2000, 2000, exchange=broke_off("f"))), Verdict.FAIL, "broke off"),
        (long(level(0.9, 3600, 3600, capped=True)), Verdict.WARN, "long_tokens_cap"),
        (long(overlong=exchange("too long", 200, completion("x"))), Verdict.FAIL, "HTTP 200"),
        (long(overlong=exchange("too long", 413, b"<html>", HTML)), Verdict.WARN, "HTTP 413"),
        (long(overlong=exchange("too long", 400, b"<html>", HTML)), Verdict.WARN, "without a JSON error"),
        (long(overlong=exchange("too long", 500, b"{}")), Verdict.FAIL, "HTTP 500"),
        (long(health=503), Verdict.FAIL, "health afterwards"),
        (LongText(OF, Missing(Reason.CANNOT_TELL, "nobody tells")), Verdict.UNKNOWN, "nobody tells"),
    ],
    ids=[
        "95%", "below-95%", "105%", "above-105%", "estimate-off", "estimate-half", "500", "broke-off", "capped",
        "accepted", "413", "html", "overlong-500", "unhealthy", "no-limit",
    ],
)  # fmt: skip
def test_long_text(judge: Callable[..., Ruling], found: LongText, verdict: Verdict, said: str) -> None:
    ruling = judge("func.long-text", found)
    assert ruling.verdict is verdict
    assert said in words(ruling)


def test_a_missed_needle_is_a_note(judge: Callable[..., Ruling]) -> None:
    ruling = judge("func.long-text", long(level(0.5, 2000, 2000, text="no idea")))
    assert ruling.verdict is Verdict.PASS
    assert "code word was not found" in words(ruling)


def languages(*, lossless: bool | None = True, **changes: Exchange) -> Languages:
    found: dict[str, Exchange] = {}
    for case in LANGUAGE_CASES:
        said = case.text if not case.awkward else "before after"
        found[f"{case.id}/plain"] = exchange(case.id, body=completion(said))
        found[f"{case.id}/stream"] = exchange(case.id, body=stream_of(said, "."), kind=SSE)
        if lossless is not None and case.id != "lone-surrogate":
            back = case.text if lossless or case.id != "th" else "changed"
            found[f"{case.id}/detokenize"] = exchange(case.id, body=json.dumps({"prompt": back}))
    return Languages(found | {key.replace("__", "/"): value for key, value in changes.items()}, OF)


def test_every_script_there_and_back(judge: Callable[..., Ruling]) -> None:
    assert judge("func.multilingual", languages()).verdict is Verdict.PASS


@pytest.mark.parametrize(
    ("found", "verdict", "said"),
    [
        (languages(th__plain=exchange("th", 500, b"{}")), Verdict.FAIL, "HTTP 500"),
        (languages(th__plain=exchange("th", body=b'{"a": "\xe0\xb9"}')), Verdict.FAIL, "no valid UTF-8"),
        (languages(lossless=None, ko__plain=exchange("ko", body=completion("a\ufffdb"))), Verdict.FAIL, "U+FFFD"),
        (languages(ko__plain=exchange("ko", body=completion("a\ufffdb"))), Verdict.WARN, "U+FFFD"),
        (languages(lossless=None, th__plain=exchange("th", body=completion("Ã©tÃ©"))), Verdict.FAIL, "Latin-1"),
        (languages(nul__plain=exchange("nul", 400, b"{}")), Verdict.WARN, "refused with 400"),
        (languages(nul__plain=exchange("nul", 500, b"{}")), Verdict.FAIL, "HTTP 500"),
        (languages(hi__plain=exchange("hi", 400, b"{}")), Verdict.FAIL, "HTTP 400"),
        (languages(lossless=None), Verdict.WARN, "no lossless proof"),
        (languages(lossless=False), Verdict.FAIL, "through the tokenizer: th"),
        (languages(he__plain=exchange("he", body=PLAIN, kind=f"{JSON}; charset=latin-1")), Verdict.FAIL, "latin-1"),
        (languages(ja__stream=exchange("ja", body=b"data: {\n\n", kind=SSE)), Verdict.FAIL, "no JSON"),
        (languages(ja__plain=unreachable("ja")), Verdict.UNKNOWN, "connection refused"),
    ],
    ids=[
        "500", "bytes", "replaced", "replaced-by-the-model", "mojibake", "nul-refused", "nul-crash", "refused",
        "no-tokenizer", "changed", "charset", "garbled-stream", "unreachable",
    ],
)  # fmt: skip
def test_languages(judge: Callable[..., Ruling], found: Languages, verdict: Verdict, said: str) -> None:
    ruling = judge("func.multilingual", found)
    assert ruling.verdict is verdict
    assert said in words(ruling)


def test_a_model_that_repeats_little_is_a_warning(judge: Callable[..., Ruling]) -> None:
    silent = {f"{c.id}__plain": exchange(c.id, body=completion("ok")) for c in LANGUAGE_CASES}
    assert judge("func.multilingual", languages(**silent)).verdict is Verdict.WARN


REAL_ERRORS = {
    "malformed-json": (400, "err_malformed_json.json"), "empty-body": (400, "err_missing_messages.json"),
    "no-messages": (400, "err_missing_messages.json"), "wrong-type": (400, "err_temperature_str.json"),
    "negative-tokens": (400, "err_400_max_tokens.json"), "unknown-model": (404, "err_404_model.json"),
    "too-long": (400, "err_400_long_prompt.json"), "unknown-path": (404, "err_404_path.json"),
    "wrong-method": (405, "err_405.json"), "text-plain": (400, "err_malformed_json.json"),
    "deep-nesting": (400, "err_malformed_json.json"), "no-key": (401, "err_401_chat_nokey.json"),
    "wrong-key": (401, "err_401_chat_nokey.json"),
}  # fmt: skip


def suite(abort: Abort | None = None, **changes: Exchange) -> ErrorSuite:
    found = {key: exchange(key, code, captured(name)) for key, (code, name) in REAL_ERRORS.items()}
    found["health"] = exchange("health", body=completion("hi"))
    gone = Abort(exchange("abort", body=STREAM, kind=SSE), 0.0, 0.0, 0.6)
    return ErrorSuite(found | {key.replace("_", "-"): value for key, value in changes.items()}, OF, abort or gone)


def test_what_a_real_vllm_answers_to_wrong_requests(judge: Callable[..., Ruling]) -> None:
    assert set(REAL_ERRORS) == {case.id for case in ERROR_CASES}
    ruling = judge("func.error-handling", suite())
    assert ruling.verdict is Verdict.PASS
    assert "13 of 13" in words(ruling)


NO_METRICS = Missing(Reason.NO_TARGETS, "the inventory has no endpoints.backends whose metrics would tell")
LEFT = exchange("abort", body=STREAM, kind=SSE)


@pytest.mark.parametrize(
    ("found", "verdict", "said"),
    [
        (suite(malformed_json=exchange("x", 500, b"{}")), Verdict.FAIL, "malformed-json: HTTP 500"),
        (suite(no_messages=exchange("x", 200, completion("hi"))), Verdict.FAIL, "no-messages: HTTP 200"),
        (suite(unknown_model=exchange("x", 400, captured("err_404_model.json"))), Verdict.WARN, "unknown-model"),
        (suite(unknown_model=exchange("x", 200, completion("hi"))), Verdict.FAIL, "unknown-model: HTTP 200"),
        (suite(wrong_key=exchange("x", 403, b"{}")), Verdict.WARN, "wrong-key: HTTP 403"),
        (suite(wrong_key=exchange("x", 200, completion("hi"))), Verdict.FAIL, "wrong-key: HTTP 200"),
        (suite(no_key=exchange("x", 200, completion("hi"))), Verdict.FAIL, "no-key: HTTP 200"),
        (suite(too_long=exchange("x", 413, b"<html>", HTML)), Verdict.WARN, "too-long: HTTP 413"),
        (suite(wrong_type=exchange("x", 400, b"<html>bad</html>", HTML)), Verdict.WARN, "not as a JSON error"),
        (
            suite(wrong_type=exchange("x", 400, b'{"error": "Traceback (most recent call last)"}')),
            Verdict.FAIL,
            "Traceback",
        ),
        (
            suite(wrong_type=exchange("x", 400, b'{"error": "/usr/local/lib/python3.11/site-packages/vllm/x.py"}')),
            Verdict.FAIL,
            "site-packages",
        ),
        (suite(wrong_type=exchange("x", 400, b'{"error": "upstream 10.1.2.3 said no"}')), Verdict.FAIL, "10.1.2.3"),
        (suite(malformed_json=broke_off("x")), Verdict.FAIL, "broke off"),
        (suite(malformed_json=unreachable("x")), Verdict.UNKNOWN, "connection refused"),
        (suite(Abort(LEFT, 0.0, 1.0)), Verdict.FAIL, "still running after 15 s"),
        (suite(Abort(LEFT, NO_METRICS, NO_METRICS)), Verdict.WARN, "could not be seen"),
        (suite(Abort(exchange("abort", 500, b"{}"), 0.0, 0.0, 0.1)), Verdict.FAIL, "HTTP 500"),
        (suite(health=exchange("health", 503, b"{}")), Verdict.FAIL, "a completion afterwards"),
        (suite(health=exchange("health", 200, b"{}")), Verdict.FAIL, "no answer of a model"),
    ],
    ids=[
        "500", "accepted", "model-400", "model-200", "key-403", "key-200", "no-key-200", "413", "html", "traceback",
        "path", "address", "broke-off", "unreachable", "left-running", "no-metrics", "abort-500", "dead", "empty",
    ],
)  # fmt: skip
def test_errors(judge: Callable[..., Ruling], found: ErrorSuite, verdict: Verdict, said: str) -> None:
    ruling = judge("func.error-handling", found)
    assert ruling.verdict is verdict
    assert said in words(ruling)
