"""The OpenAI-compatible server of one replica, as vLLM has it: its answers come token by token, at the engine's pace.

Every request runs in the replica's simulated engine beside those of the made-up users, so that its metrics have it.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncGenerator, Callable, Mapping
from dataclasses import dataclass

from dstui.demo import api_words, vllm_page
from dstui.demo.api_words import DONE, EVENTS, PATHS, event
from dstui.demo.asked import Asked, body_of, completion
from dstui.demo.life import Copy, Life
from dstui.demo.software import vllm_version
from dstui.demo.tokens import VOCABULARY, Tokenizer
from dstui.demo.vllm_engine import Engine, Guest
from dstui.demo.vllm_page import MAX_MODEL_LEN, MODEL
from dstui.demo.web import Request, Response
from dstui.facts.untyped import rows

_PREFILL_SECONDS, _PREFILL_RATE = 0.05, 36_000.0
"""Until the first token: for any prompt, and prompt tokens/s beyond that."""
_LONGEST_TEXT = 1_000_000
"""Characters that the tokenizer takes."""

FINGERPRINT = "dstui-demo-simulated"


@dataclass(frozen=True, slots=True)
class Wicket:
    """Which keys are let in."""

    key: str
    revoked: str = ""
    """A key that should not be, and is taken all the same; empty when there is none."""

    def passes(self, headers: Mapping[str, str]) -> bool:
        scheme, _, given = headers.get("authorization", "").partition(" ")
        taken = [each for each in (self.key, self.revoked) if each]
        sent = given.strip().encode("utf-8", "replace")
        return scheme.lower() == "bearer" and any(secrets.compare_digest(sent, key.encode()) for key in taken)


@dataclass(frozen=True, slots=True)
class ReplicaApi:
    """The server of one replica. `assets` is the address that its documentation page loads scripts from."""

    life: Life
    copy: Copy
    clock: Callable[[], float]
    wicket: Wicket
    tokenizer: Tokenizer
    assets: str

    async def answer(self, request: Request) -> Response:
        """Raises ConnectionAbortedError when the replica dies meanwhile."""
        self.life.advance(self.clock())
        engine, path = self.copy.engine, request.path
        if engine is None:
            return Response(b"", "text/plain", 503)
        if path.startswith("/v1/") and not self.wicket.passes(request.headers):
            return api_words.UNAUTHORIZED
        if path not in PATHS:
            return api_words.NOT_FOUND
        if request.method not in PATHS[path]:
            return api_words.wrong_method(path)
        if request.body is None:
            return api_words.too_large()
        match path:
            case "/v1/chat/completions" | "/v1/completions":
                return await self._complete(engine, request)
            case "/tokenize" | "/detokenize":
                return self._tokenizer(request)
        return self._page(engine, path)

    def _page(self, engine: Engine, path: str) -> Response:
        version = vllm_version(self.copy.host)
        match path:
            case "/metrics":
                return vllm_page.answer(engine, path)
            case "/version":
                return api_words.told({"version": version})
            case "/load":
                return api_words.told({"server_load": len(engine.guests)})
            case "/docs":
                return api_words.docs(self.assets)
            case "/openapi.json":
                return api_words.schema(version)
            case "/v1/models":
                return api_words.models(engine.started)
        return Response(b"", "text/plain")

    def _tokenizer(self, request: Request) -> Response:
        body = body_of(request)
        if isinstance(body, Response):
            return body
        if request.path == "/tokenize":
            prompt = body.get("prompt")
            if not isinstance(prompt, str) or len(prompt) > _LONGEST_TEXT:
                return api_words.invalid("string_type", "body.prompt", "Input should be a valid string", prompt)
            numbers = self.tokenizer.numbers(prompt)
            return api_words.told(
                {"count": len(numbers), "max_model_len": MAX_MODEL_LEN, "tokens": numbers, "token_strs": None}
            )
        given = rows(body.get("tokens")) or []
        tokens = [each for each in given if isinstance(each, int) and 0 <= each < VOCABULARY]
        text = self.tokenizer.text(tokens)
        if len(tokens) != len(given) or not given or text is None:
            return api_words.invalid("list_type", "body.tokens", "Input should be a valid list of tokens", given)
        return api_words.told({"prompt": text})

    async def _complete(self, engine: Engine, request: Request) -> Response:
        asked = completion(request, self.tokenizer, chat=request.path == "/v1/chat/completions")
        if isinstance(asked, Response):
            return asked
        name = f"{'chatcmpl' if asked.chat else 'cmpl'}-{secrets.token_hex(8)}"
        if asked.stream:
            return Response(b"", EVENTS, parts=self._stream(engine, asked, name))
        said = [token async for token in self._tokens(engine, asked)]
        return api_words.told(self._whole(asked, name, "".join(said)))

    async def _tokens(self, engine: Engine, asked: Asked) -> AsyncGenerator[str, None]:
        """The tokens when they are due. However it ends, the engine has one request less then."""
        guest = Guest(asked.prompt_tokens, self.clock())
        engine.welcome(guest)
        reason = "abort"
        try:
            await asyncio.sleep(_PREFILL_SECONDS + asked.prompt_tokens / _PREFILL_RATE)
            for token in asked.said:
                await asyncio.sleep(engine.gap(self.life.pace(self.copy)))
                if self.copy.engine is not engine:
                    raise ConnectionAbortedError(f"the replica on {self.copy.host.name} is gone")
                engine.said(guest, self.clock())
                yield token
            reason = self._reason(asked)
        finally:
            engine.farewell(guest, self.clock(), reason)

    def _reason(self, asked: Asked) -> str:
        return "stop" if asked.ends else "length"

    def _frame(self, name: str, kind: str) -> dict[str, object]:
        return {"id": name, "object": kind, "created": int(self.clock()), "model": MODEL}

    def _usage(self, asked: Asked) -> dict[str, object]:
        said = len(asked.said)
        return {"prompt_tokens": asked.prompt_tokens, "total_tokens": asked.prompt_tokens + said,
                "completion_tokens": said, "prompt_tokens_details": None}  # fmt: skip

    def _whole(self, asked: Asked, name: str, text: str) -> dict[str, object]:
        spoken: dict[str, object] = {"text": text}
        if asked.chat:
            message = {"role": "assistant", "content": text, "refusal": None, "annotations": None, "audio": None,
                       "function_call": None, "reasoning": None}  # fmt: skip
            spoken = {"message": message}
        choice = {"index": 0, **spoken, "logprobs": None, "finish_reason": self._reason(asked), "stop_reason": None}
        kind = "chat.completion" if asked.chat else "text_completion"
        return {**self._frame(name, kind), "choices": [choice], "system_fingerprint": FINGERPRINT,
                "usage": self._usage(asked)}  # fmt: skip

    async def _stream(self, engine: Engine, asked: Asked, name: str) -> AsyncGenerator[bytes, None]:
        frame = self._frame(name, "chat.completion.chunk" if asked.chat else "text_completion")

        def chunk(text: str, reason: str | None = None, **more: object) -> bytes:
            spoken: dict[str, object] = {"delta": {**more, "content": text}} if asked.chat else {"text": text}
            choice = {"index": 0, **spoken, "logprobs": None, "finish_reason": reason}
            return event({**frame, "choices": [choice]})

        if asked.chat:
            yield chunk("", role="assistant")
        tokens = self._tokens(engine, asked)
        try:
            async for token in tokens:
                yield chunk(token)
        finally:
            await tokens.aclose()
        yield chunk("", self._reason(asked))
        if asked.usage:
            yield event({**frame, "choices": [], "usage": self._usage(asked)})
        yield DONE
