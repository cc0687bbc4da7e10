"""A made-up tokenizer: texts in pieces of a few characters, each with a number, and back again without loss."""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterable, Iterator

VOCABULARY = 102_400
"""As many numbers as DeepSeek LLM has."""
LONGEST_PIECE = 7
"""Characters: a text of n tokens has at most this many times n."""
TEMPLATE_TOKENS = 6
"""What the chat template puts around a message."""

_BYTES = 256
"""The first numbers are bytes: a piece whose number is another's already is spelt in them."""
_PIECE = re.compile(r" ?[A-Za-z]{1,6}|\d{1,3}|[^\x00-\x7f]| {1,7}|[\x00-\x7f]")


def pieces(text: str) -> Iterator[str]:
    """The text cut up; put together again it is the same."""
    return (match[0] for match in _PIECE.finditer(text))


def surely_longer(text: str, tokens: int) -> bool:
    """Whether a text has more tokens than that, without counting them."""
    return len(text) > tokens * LONGEST_PIECE


class Tokenizer:
    """Numbers of pieces. The same piece has the same number everywhere; the table knows those that were met."""

    def __init__(self) -> None:
        self._by_number: dict[int, str] = {}

    def numbers(self, text: str) -> list[int]:
        """The tokens of a text. What is no Unicode (half of a surrogate pair) is left out."""
        found: list[int] = []
        for piece in pieces(clean(text)):
            number = _BYTES + zlib.crc32(piece.encode()) % (VOCABULARY - _BYTES)
            if self._by_number.setdefault(number, piece) == piece:
                found.append(number)
            else:
                found += piece.encode()
        return found

    def text(self, numbers: Iterable[int]) -> str | None:
        """The text of tokens; None when one of them is none."""
        found = bytearray()
        for number in numbers:
            if 0 <= number < _BYTES:
                found.append(number)
            elif number in self._by_number:
                found += self._by_number[number].encode()
            elif _BYTES <= number < VOCABULARY:
                found += b"?"
            else:
                return None
        return found.decode("utf-8", "replace")


def clean(text: str) -> str:
    """The text without what no UTF-8 can carry."""
    return text.encode("utf-8", "ignore").decode()
