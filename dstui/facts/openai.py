"""The shapes of the OpenAI API as vLLM, Ray Serve and gateways answer it: typed, and forgiving of what is absent."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from dstui.facts.exchange import Exchange
from dstui.facts.raw import Missing
from dstui.facts.sse import SseEvent
from dstui.facts.untyped import rows, table, text, whole
from dstui.model import Reason


@dataclass(frozen=True, slots=True)
class ModelCard:
    """One entry of `/v1/models`. `max_model_len` in tokens, None when the server does not say."""

    id: str
    max_model_len: int | None = None
    root: str | None = None
    owner: str | None = None


@dataclass(frozen=True, slots=True)
class ApiError:
    """What the server says went wrong; `message` is never empty. `kind` and `param` where the error is an object."""

    message: str
    kind: str | None = None
    param: str | None = None
    code: int | None = None


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens as the server counted them."""

    prompt: int
    completion: int
    total: int | None = None


@dataclass(frozen=True, slots=True)
class Choice:
    """One answer, or one piece of it in a stream. `text` is the content, `reasoning` what a model thought before it."""

    index: int
    text: str | None
    reasoning: str | None = None
    role: str | None = None
    finish_reason: str | None = None
    tool_calls: int = 0


@dataclass(frozen=True, slots=True)
class Completion:
    """A chat completion, a text completion, or one chunk of a stream (`object` tells which)."""

    id: str
    object: str
    model: str
    choices: tuple[Choice, ...]
    usage: Usage | None = None
    fingerprint: str | None = None

    @property
    def text(self) -> str:
        """The content of the first choice; empty when it has none."""
        return (self.choices[0].text or "") if self.choices else ""

    @property
    def tokens(self) -> int:
        """How many tokens were generated as far as this answer shows: by usage, else 1 when there is any text."""
        if self.usage is not None:
            return self.usage.completion
        return int(any(choice.text or choice.reasoning or choice.tool_calls for choice in self.choices))


@dataclass(frozen=True, slots=True)
class Streamed:
    """A stream put together. `faults` are events that could not be read; `end` of an event is a byte of the body.

    `first` is the end of the first event that carried text or reasoning, None when none did. `usage` is the last one
    named. `ids` are the distinct completion ids, of which there should be one. `done` says that `[DONE]` came.
    """

    text: str
    reasoning: str
    finish_reason: str | None
    usage: Usage | None
    error: ApiError | None
    ids: tuple[str, ...]
    pieces: int
    first: int | None
    done: bool
    faults: tuple[Missing, ...]


def chat(model: str, content: str, *, max_tokens: int, **more: object) -> dict[str, object]:
    """The body of a chat completion with one user message; `more` are further fields (`temperature`, `stream` …)."""
    messages = [{"role": "user", "content": content}]
    return {"model": model, "messages": messages, "max_tokens": max_tokens, **more}


def models(value: object) -> tuple[ModelCard, ...] | Missing:
    """The models of a `/v1/models` answer: `{"object": "list", "data": [{"id": …}]}`."""
    listing = table(value)
    entries = rows(listing.get("data")) if listing is not None else None
    if listing is None or entries is None or listing.get("object") != "list":
        return Missing(Reason.PARSE_ERROR, "the answer is no list of models")
    found: list[ModelCard] = []
    for entry in map(table, entries):
        name = text(entry.get("id")) if entry is not None else None
        if entry is None or name is None:
            return Missing(Reason.PARSE_ERROR, "the list of models has an entry without an id")
        # ray.serve.llm keeps the length under `metadata` and under another name.
        more = table(entry.get("metadata")) or {}
        length = _count(entry.get("max_model_len"))
        found.append(
            ModelCard(
                id=name,
                max_model_len=length if length is not None else _count(more.get("max_request_context_length")),
                root=text(entry.get("root")),
                owner=text(entry.get("owned_by")),
            )
        )
    return tuple(found)


def error(value: object) -> ApiError | None:
    """The error of a JSON answer in any of the forms met; None when it holds none.

    `{"error": {"message", "type", "param", "code"}}` (OpenAI, vLLM), `{"error": "Unauthorized"}` (vLLM's key check),
    `{"detail": "Not Found"}` or `{"detail": [{"msg"}]}` (FastAPI), `{"object": "error", "message"}` (older vLLM),
    `{"message": …}` (gateways).
    """
    answer = table(value)
    if answer is None:
        return None
    inner = answer.get("error")
    if isinstance(inner, str):
        return ApiError(inner or "error")
    fields = table(inner)
    if fields is not None:
        return _error_fields(fields)
    detail = answer.get("detail")
    if isinstance(detail, str):
        return ApiError(detail or "error")
    if isinstance(detail, list):
        said = [text(item.get("msg")) for item in map(table, detail) if item is not None]
        return ApiError("; ".join(one for one in said if one) or "error")
    if answer.get("object") == "error" or ("message" in answer and "choices" not in answer):
        return _error_fields(answer)
    return None


def _error_fields(fields: Mapping[str, object]) -> ApiError:
    code = fields.get("code")
    number = int(code) if isinstance(code, str) and code.isascii() and code.isdigit() and len(code) < 6 else whole(code)
    return ApiError(
        message=text(fields.get("message")) or text(fields.get("type")) or "error",
        kind=text(fields.get("type")),
        param=text(fields.get("param")),
        code=number,
    )


def completion(value: object) -> Completion | ApiError | Missing:
    """A completion or chunk; the ApiError that stands in its place; Missing(parse-error) when it is neither."""
    answer = table(value)
    entries = rows(answer.get("choices")) if answer is not None else None
    if answer is None or entries is None:
        return error(value) or Missing(Reason.PARSE_ERROR, "the answer is no completion: it has no choices")
    found: list[Choice] = []
    for entry in map(table, entries):
        if entry is None:
            return Missing(Reason.PARSE_ERROR, "the answer is no completion: a choice is no object")
        choice = _choice(entry)
        if isinstance(choice, Missing):
            return choice
        found.append(choice)
    return Completion(
        id=text(answer.get("id")) or "",
        object=text(answer.get("object")) or "",
        model=text(answer.get("model")) or "",
        choices=tuple(found),
        usage=usage(answer.get("usage")),
        fingerprint=text(answer.get("system_fingerprint")),
    )


def _choice(entry: Mapping[str, object]) -> Choice | Missing:
    spoken = next((part for name in ("message", "delta") if (part := table(entry.get(name))) is not None), entry)
    content = spoken.get("text") if spoken is entry else spoken.get("content")
    if content is not None and not isinstance(content, str):
        return Missing(Reason.PARSE_ERROR, "the answer is no completion: the content of a choice is no text")
    calls = rows(spoken.get("tool_calls"))
    index = _count(entry.get("index"))
    return Choice(
        index=0 if index is None else index,
        text=content,
        # Renamed in vLLM 0.12; gateways still send the old name.
        reasoning=text(spoken.get("reasoning")) or text(spoken.get("reasoning_content")),
        role=text(spoken.get("role")),
        finish_reason=text(entry.get("finish_reason")),
        tool_calls=len(calls) if calls is not None else 0,
    )


def usage(value: object) -> Usage | None:
    """Token counts; None when there are none or they are no counts."""
    counts = table(value)
    if counts is None:
        return None
    prompt, generated = _count(counts.get("prompt_tokens")), _count(counts.get("completion_tokens"))
    if prompt is None or generated is None:
        return None
    return Usage(prompt, generated, _count(counts.get("total_tokens")))


def streamed(stream: Sequence[SseEvent], *, index: int = 0) -> Streamed:
    """One choice of a stream put together from its events."""
    said: list[str] = []
    thought: list[str] = []
    faults: list[Missing] = []
    ids: dict[str, None] = {}
    finish: str | None = None
    counted: Usage | None = None
    failed: ApiError | None = None
    first: int | None = None
    pieces = 0
    for event in stream:
        if event.done:
            continue
        value = event.json()
        chunk = value if isinstance(value, Missing) else completion(value)
        if isinstance(chunk, Missing):
            faults.append(chunk)
            continue
        if isinstance(chunk, ApiError):
            failed = failed or chunk
            continue
        pieces += 1
        ids[chunk.id] = None
        counted = chunk.usage or counted
        for choice in chunk.choices:
            if choice.index != index:
                continue
            if (choice.text or choice.reasoning) and first is None:
                first = event.end
            said.append(choice.text or "")
            thought.append(choice.reasoning or "")
            finish = choice.finish_reason or finish
    return Streamed(
        text="".join(said),
        reasoning="".join(thought),
        finish_reason=finish,
        usage=counted,
        error=failed,
        ids=tuple(ids),
        pieces=pieces,
        first=first,
        done=any(event.done for event in stream),
        faults=tuple(faults),
    )


def error_of(exchange: Exchange) -> ApiError | None:
    """The error that an answer carries; None when it carries none, is no JSON or did not come."""
    value = exchange.json()
    return None if isinstance(value, Missing) else error(value)


def _count(value: object) -> int | None:
    number = whole(value)
    return number if number is not None and number >= 0 else None
