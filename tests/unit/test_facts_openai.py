"""Shapes of the OpenAI API: as vLLM, Ray Serve and gateways really answer, and anything else."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dstui.facts.openai import ApiError, Completion, ModelCard, Usage, chat, completion, error, models, streamed, usage
from dstui.facts.raw import Missing
from dstui.facts.sse import SseEvent, events

DATA = Path(__file__).parent.parent / "data" / "api"


def captured(name: str) -> object:
    text = (DATA / name).read_text()
    value: object = json.loads(text[text.index("{") :])
    return value


def test_models_of_vllm_and_of_ray_serve() -> None:
    assert models(captured("models.json")) == (ModelCard("deepseek-tiny", 2048, "models/deepseek_v3", "vllm"),)
    assert models(captured("serve/GET_v1_models.txt")) == (
        ModelCard("deepseek-tiny", 2048, None, "organization-owner"),
    )


@pytest.mark.parametrize(
    "value",
    [
        None,
        [],
        {"data": []},
        {"object": "list"},
        {"object": "list", "data": {}},
        {"object": "list", "data": [{}]},
        {"object": "list", "data": [7]},
    ],
)
def test_what_is_no_list_of_models(value: object) -> None:
    assert isinstance(models(value), Missing)


def test_an_empty_list_of_models_is_one() -> None:
    assert models({"object": "list", "data": []}) == ()


def test_completions() -> None:
    chatted, completed = completion(captured("chat_nonstream.json")), completion(captured("completions.json"))
    assert isinstance(chatted, Completion) and isinstance(completed, Completion)
    assert chatted.text.startswith(" sys sys") and chatted.usage == Usage(9, 16, 25)
    assert (chatted.choices[0].role, chatted.choices[0].finish_reason) == ("assistant", "length")
    assert completed.text.startswith(" p custom") and completed.tokens == 8


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("err_401_models_nokey.json", "Unauthorized"),
        ("err_404_model.json", "The model `nope` does not exist. Valid aliases: deepseek-tiny."),
        ("err_404_path.json", "Not Found"),
        ("serve/err_404_model.txt", 'Got request for model "nope". Could not find base model with ID "nope".'),
    ],
)
def test_errors(name: str, message: str) -> None:
    found = completion(captured(name))
    assert isinstance(found, ApiError) and found.message == message


def test_further_forms_of_errors() -> None:
    assert error({"error": {"message": "m", "type": "t", "param": "p", "code": "429"}}) == ApiError("m", "t", "p", 429)
    assert error({"object": "error", "message": "old", "code": 400}) == ApiError("old", code=400)
    assert error({"detail": [{"msg": "a"}, {"msg": "b"}, 7]}) == ApiError("a; b")
    assert error({"error": {}}) == ApiError("error")
    assert error({"message": "no Route matched"}) == ApiError("no Route matched")
    assert error({"id": 1}) is None
    assert error("Unauthorized") is None


@pytest.mark.parametrize(
    ("name", "pieces", "counted"),
    [
        ("sse_full_include_usage.txt", None, Usage(9, 12, 21)),
        ("sse_continuous_usage.txt", None, Usage(9, 4, 13)),
        ("sse_no_usage.txt", None, None),
        ("serve/sse.txt", 6, Usage(5, 4, 9)),
    ],
)
def test_streams_put_together(name: str, pieces: int | None, counted: Usage | None) -> None:
    found = events((DATA / name).read_bytes())
    whole = streamed(found)
    assert whole.done and whole.faults == () and whole.error is None
    assert whole.finish_reason == "length" and len(whole.ids) == 1 and whole.text
    assert whole.usage == counted
    assert pieces is None or whole.pieces == pieces
    # The first event tells the role and has no text.
    assert whole.first == found[1].end


def test_a_stream_that_ends_in_an_error() -> None:
    whole = streamed([SseEvent('{"error": {"message": "EngineCore died", "code": 500}}'), SseEvent("garbage")])
    assert whole.error == ApiError("EngineCore died", code=500)
    assert len(whole.faults) == 1 and not whole.done and whole.first is None


def test_reasoning_under_both_names_and_tool_calls() -> None:
    for name in ("reasoning", "reasoning_content"):
        found = completion({"choices": [{"delta": {name: "hm", "content": None, "tool_calls": [{}]}}]})
        assert isinstance(found, Completion)
        assert (found.choices[0].reasoning, found.choices[0].tool_calls, found.tokens) == ("hm", 1, 1)


@pytest.mark.parametrize("value", [{"prompt_tokens": True, "completion_tokens": 1}, {"prompt_tokens": -1}, [], None])
def test_what_is_no_usage(value: object) -> None:
    assert usage(value) is None


def test_a_request_takes_further_fields() -> None:
    body = chat("m", "hi", max_tokens=1, stream=True)
    assert body["stream"] is True and body["messages"] == [{"role": "user", "content": "hi"}]


ANY_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: (
        st.lists(inner)
        | st.dictionaries(
            st.sampled_from(
                ["object", "data", "choices", "message", "delta", "content", "usage", "error", "detail", "id"]
            ),
            inner,
        )
    ),
    max_leaves=12,
)


@given(ANY_JSON)
def test_any_json_gives_facts_or_missing(value: object) -> None:
    assert isinstance(models(value), tuple | Missing)
    assert isinstance(completion(value), Completion | ApiError | Missing)
    streamed([SseEvent(json.dumps(value))])
