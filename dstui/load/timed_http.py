"""What the timed server reads and says: HTTP/1.1 requests, and answers as vLLM 0.33 behind uvicorn writes them."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from email.utils import formatdate

HEAD_LIMIT = 64 * 1024
BODY_LIMIT = 16 * 1024 * 1024
REQUEST_LIMIT = HEAD_LIMIT + BODY_LIMIT
"""Bytes."""
_LINE = re.compile(rb"([A-Z]{3,8}) (/[!-~]*) HTTP/1\.1(?:\r\n|$)")
_LENGTH = re.compile(rb"\r\ncontent-length:[ \t]*(\d{1,9})[ \t]*(?:\r|$)", re.IGNORECASE)
_CHUNKED = re.compile(rb"\r\ntransfer-encoding:", re.IGNORECASE)
_CLOSE = re.compile(rb"\r\nconnection:[ \t]*close", re.IGNORECASE)
_REASONS = {200: "OK", 400: "Bad Request", 404: "Not Found", 405: "Method Not Allowed", 411: "Length Required"}

MODELS = {"object": "list", "data": [{"id": "timed", "object": "model", "owned_by": "dstui", "max_model_len": 131072}]}


class RequestError(Exception):
    """No request this server can answer; the connection ends with this status."""

    def __init__(self, status: int, why: str) -> None:
        super().__init__(why)
        self.status = status


@dataclass(frozen=True, slots=True)
class Request:
    """One request of `size` bytes. After the `last` the client wants the connection closed."""

    method: str
    path: str
    body: bytes
    size: int
    last: bool


def next_request(received: bytes) -> Request | None:
    """The request that `received` begins with; None until it is whole. RequestError when it can never be one."""
    end = received.find(b"\r\n\r\n")
    if end < 0:
        if len(received) > HEAD_LIMIT or not received[:1].isupper():
            raise RequestError(400, "this is no HTTP request")
        return None
    head = received[:end]
    line, length = _LINE.match(head), _LENGTH.search(head)
    if line is None:
        raise RequestError(400, "this is no HTTP/1.1 request")
    if _CHUNKED.search(head) is not None:
        raise RequestError(411, "the length of the body must be told")
    size = end + 4 + (int(length.group(1)) if length else 0)
    if size > REQUEST_LIMIT:
        raise RequestError(400, "the body is too long")
    if len(received) < size:
        return None
    path = line.group(2).split(b"?", 1)[0].decode("ascii")
    return Request(line.group(1).decode("ascii"), path, received[end + 4 : size], size, _CLOSE.search(head) is not None)


class Spoken:
    """The events of one answer, as vLLM 0.33 writes them."""

    def __init__(self, identity: str, asked: dict[str, object], size: int) -> None:
        model = asked.get("model")
        self._tokens_in = max(1, size // 4)
        self._head = {
            "id": identity,
            "object": "chat.completion.chunk",
            "created": int(time.time()),
            "model": model if isinstance(model, str) else "timed",
        }

    def role(self) -> bytes:
        delta = {"role": "assistant", "content": ""}
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": None}
        return _event({**self._head, "choices": [choice], "prompt_token_ids": None, "prompt_text": None})

    def event(self, finish: str | None) -> bytes:
        choice: dict[str, object] = {"index": 0, "delta": {"content": " token"}, "logprobs": None}
        choice["finish_reason"] = finish
        if finish is not None:
            choice["stop_reason"] = None
        return _event({**self._head, "choices": [{**choice, "token_ids": None}]})

    def usage(self, tokens: int) -> bytes:
        return _event({**self._head, "choices": [], "usage": self._used(tokens)})

    def whole(self, tokens: int) -> dict[str, object]:
        message = {"role": "assistant", "content": " token" * tokens}
        choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": "length", "stop_reason": None}
        return {**self._head, "object": "chat.completion", "choices": [choice], "usage": self._used(tokens)}

    def _used(self, tokens: int) -> dict[str, int]:
        taken = self._tokens_in
        return {"prompt_tokens": taken, "total_tokens": taken + tokens, "completion_tokens": tokens}


def _chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


def _event(body: dict[str, object]) -> bytes:
    return _chunk(b"data: " + json.dumps(body, separators=(",", ":")).encode() + b"\n\n")


DONE = _chunk(b"data: [DONE]\n\n") + b"0\r\n\r\n"


def stream_head() -> bytes:
    date = formatdate(usegmt=True)
    head = f"HTTP/1.1 200 OK\r\ndate: {date}\r\nserver: dstui\r\ncontent-type: text/event-stream; charset=utf-8\r\n"
    return f"{head}transfer-encoding: chunked\r\n\r\n".encode()


def answer(status: int, body: Mapping[str, object] | None, close: bool = False) -> bytes:
    data = b"" if body is None else json.dumps(body, separators=(",", ":")).encode()
    head = f"HTTP/1.1 {status} {_REASONS[status]}\r\ndate: {formatdate(usegmt=True)}\r\nserver: dstui\r\n"
    more = "connection: close\r\n" if close else ""
    return f"{head}content-length: {len(data)}\r\ncontent-type: application/json\r\n{more}\r\n".encode() + data
