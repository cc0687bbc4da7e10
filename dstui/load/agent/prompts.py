"""What made-up users say: words of about one token each, begun in a way that no cache of prefixes has seen."""

from __future__ import annotations

import json
import random

from dstui.load.agent.spec import Spec

_TEXT = (
    "the of and to in is you that it he was for on are as with his they at be this have from or one had by word "
    "but not what all were we when your can said there use an each which she do how their if will up other about "
    "out many then them these so some her would make like him into time has look two more write go see number no "
    "way could people my than first water been call who oil its now find long down day did get come made may "
    "part over new sound take only little work know place year live me back give most very after thing our just "
    "name good sentence man"
)
_WORDS = _TEXT.split()


class Talk:
    """What one user asks, request by request. The same `seed` and user give the same words, but for the fresh part."""

    def __init__(self, spec: Spec, user: int) -> None:
        self._spec = spec
        self._draw = random.Random(spec.seed * 1_000_003 + user)  # noqa: S311 - words, no secret
        # Its own for every run: asking the system for each word would cost more than the request.
        self._fresh = random.Random(random.SystemRandom().getrandbits(64))  # noqa: S311 - words, no secret
        self._turn = 0
        self._said: list[str] = []
        self._messages: list[dict[str, str]] = []

    def body(self) -> bytes:
        """The next request's body."""
        spec = self._spec
        if self._turn == 0:
            self._messages = []
            self._said = list(self._draw.choice(spec.conversations)) if spec.conversations else []
        self._messages.append({"role": "user", "content": self._words()})
        tokens = self._length(spec.tokens_out, spec.tokens_out_spread)
        body: dict[str, object] = {
            "model": spec.model,
            "messages": self._messages,
            "max_tokens": tokens,
            "stream": True,
            "stream_options": {"include_usage": True},
        }
        if spec.fixed:
            body.update({"ignore_eos": True, "min_tokens": tokens})
        return json.dumps(body, ensure_ascii=False).encode("utf-8")

    def answered(self, text: str | None) -> None:
        """Goes on with the conversation; None begins a new one, as after an error."""
        turns = len(self._said) if self._spec.conversations else self._spec.turns
        self._turn = 0 if text is None or self._turn + 1 >= turns else self._turn + 1
        if self._turn:
            self._messages.append({"role": "assistant", "content": text or ""})

    def _words(self) -> str:
        spec = self._spec
        if spec.conversations:
            said = self._said[self._turn]
            return f"[{self._fresh.getrandbits(40):x}] {said}" if spec.fresh and self._turn == 0 else said
        count = self._length(spec.tokens_in, spec.tokens_in_spread)
        draw = self._fresh if spec.fresh else self._draw
        return " ".join(draw.choices(_WORDS, k=max(1, count)))

    def _length(self, mean: int, spread: float) -> int:
        return max(1, round(mean * (1 + spread * (2 * self._draw.random() - 1))))
