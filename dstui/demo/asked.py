"""Reads requests for completions as vLLM's server does: what is wanted, or the error that stands in its place."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice

from dstui.demo import api_words
from dstui.demo.replies import reply
from dstui.demo.tokens import TEMPLATE_TOKENS, Tokenizer, clean, pieces, surely_longer
from dstui.demo.vllm_page import MAX_MODEL_LEN, MODEL
from dstui.demo.web import Request, Response
from dstui.facts.untyped import rows, table

_NUMBERS = ("temperature", "top_p", "presence_penalty", "frequency_penalty")


@dataclass(frozen=True, slots=True)
class Asked:
    """A completion that can be begun. `said` are the tokens of the answer as texts, never more than `most`.

    `ends` says that the answer is over by itself after them.
    """

    chat: bool
    prompt_tokens: int
    said: tuple[str, ...]
    ends: bool
    stream: bool
    usage: bool


def body_of(request: Request) -> Mapping[str, object] | Response:
    """The JSON object of a request."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != api_words.JSON:
        message = "1 validation error:\n  Unsupported Media Type: Only 'application/json' is allowed"
        return api_words.refused(message, kind="Bad Request")
    try:
        value: object = json.loads(request.body or b"")
    except (ValueError, RecursionError):
        return api_words.invalid("json_invalid", "body", "JSON decode error", {})
    found = table(value)
    if found is None:
        return api_words.invalid("model_attributes_type", "body", "Input should be a valid object", value)
    return found


def completion(request: Request, tokenizer: Tokenizer, *, chat: bool) -> Asked | Response:
    """What a request for a completion wants."""
    body = body_of(request)
    if isinstance(body, Response):
        return body
    wrong = _wrong(body)
    if wrong is not None:
        return wrong
    prompt = _prompt(body, chat=chat)
    if isinstance(prompt, Response):
        return prompt
    most = _most(body)
    if isinstance(most, Response):
        return most
    overhead = TEMPLATE_TOKENS if chat else 0
    counted = MAX_MODEL_LEN + 1
    if not surely_longer(prompt, MAX_MODEL_LEN):
        counted = len(tokenizer.numbers(prompt)) + overhead
    if counted >= MAX_MODEL_LEN:
        return api_words.refused(
            f"This model's maximum context length is {MAX_MODEL_LEN} tokens. However, your prompt contains at least "
            f"{MAX_MODEL_LEN + 1} input tokens, which exceeds this limit even without any output tokens. Please reduce "
            f"the length of the input prompt. (parameter=input_tokens, value={MAX_MODEL_LEN + 1})",
            "input_tokens",
        )
    room = MAX_MODEL_LEN - counted
    if most is not None and most > room:
        return api_words.refused(
            f"max_tokens={most} and {counted} input tokens are more than max_model_len={MAX_MODEL_LEN}. "
            f"Please request fewer output tokens. (parameter=max_tokens, value={most})",
            "max_tokens",
        )
    most = room if most is None else most
    words = _forever(prompt) if body.get("ignore_eos") is True else _once(prompt)
    said = tuple(islice(words, most + 1))
    options = table(body.get("stream_options")) or {}
    return Asked(
        chat=chat,
        prompt_tokens=counted,
        said=said[:most],
        ends=len(said) <= most,
        stream=body.get("stream") is True,
        usage=options.get("include_usage") is True,
    )


def _once(prompt: str) -> Iterator[str]:
    for part in reply(clean(prompt)):
        yield from pieces(part)


def _forever(prompt: str) -> Iterator[str]:
    while True:
        yield from _once(prompt)
        yield " "


def _wrong(body: Mapping[str, object]) -> Response | None:
    """What is wrong with the plain fields."""
    model = body.get("model", MODEL)
    if not isinstance(model, str):
        return api_words.invalid("string_type", "body.model", "Input should be a valid string", model)
    if model != MODEL:
        shown = clean(model)[:80]
        message = f"The model `{shown}` does not exist. Valid aliases: {MODEL}."
        return api_words.refused(message, "model", 404, "NotFoundError")
    for name in _NUMBERS:
        value = body.get(name)
        if value is not None and (isinstance(value, bool) or not isinstance(value, int | float)):
            return api_words.invalid("float_parsing", f"body.{name}", "Input should be a valid number", value)
    heat = body.get("temperature")
    if isinstance(heat, int | float) and heat < 0:
        message = f"temperature must be non-negative, got {float(heat)}. (parameter=temperature, value={float(heat)})"
        return api_words.refused(message, "temperature")
    if body.get("stream_options") is not None and body.get("stream") is not True:
        message = "Stream options can only be defined when `stream=True`. (parameter=stream_options)"
        return api_words.refused(message, "stream_options")
    return None


def _most(body: Mapping[str, object]) -> int | Response | None:
    """Tokens that the answer may have; None when nothing is said."""
    value = body.get("max_completion_tokens", body.get("max_tokens"))
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int):
        return api_words.invalid("int_parsing", "body.max_tokens", "Input should be a valid integer", value)
    if value < 1:
        message = f"max_tokens must be at least 1, got {value}. (parameter=max_tokens, value={value})"
        return api_words.refused(message, "max_tokens")
    if value > MAX_MODEL_LEN:
        message = (
            f"max_tokens={value} cannot be greater than max_model_len={MAX_MODEL_LEN}. Please request fewer output "
            f"tokens. (parameter=max_tokens, value={value})"
        )
        return api_words.refused(message, "max_tokens")
    return value


def _prompt(body: Mapping[str, object], *, chat: bool) -> str | Response:
    """The last message, or the prompt of a plain completion."""
    if not chat:
        prompt = body.get("prompt")
        if isinstance(prompt, str):
            return prompt
        return api_words.invalid("string_type", "body.prompt", "Input should be a valid string", prompt)
    if "messages" not in body:
        return api_words.invalid("missing", "body.messages", "Field required", {})
    messages = rows(body["messages"])
    if messages is None:
        return api_words.invalid("list_type", "body.messages", "Input should be a valid list", body["messages"])
    if not messages:
        message = "Cannot apply chat template to an empty conversation. Provide at least one message."
        return api_words.refused(message)
    last = table(messages[-1])
    content = last.get("content") if last is not None else None
    if not isinstance(content, str):
        return api_words.invalid("string_type", "body.messages", "Input should be a valid string", content)
    return content
