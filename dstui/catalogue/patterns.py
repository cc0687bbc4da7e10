"""Regular expressions that operators write, kept from hanging the program on a hostile output.

Python's `re` backtracks and cannot be interrupted. A pattern whose work can grow exponentially is refused when it is
loaded; of the others the degree of growth is known, and a search stops at a budget of steps that it worked out before.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from math import factorial

BUDGET_STEPS = 100_000_000
"""Upper bound of matcher steps per search; under a second in the worst cases that could be built."""

SEARCHED_CHARS = 65_536
"""How much of an output is searched."""

_MAX_DEGREE = 4
_MAX_REPEATED_GROUP = 8
_SAMPLE = frozenset(map(chr, range(1, 128))) | frozenset("é中文・，𠀀\u00a0\u2028")


@dataclass(frozen=True, slots=True)
class Pattern:
    """A compiled expression and the power with which its work grows with the length of a line."""

    compiled: re.Pattern[str]
    degree: int

    @property
    def text(self) -> str:
        return self.compiled.pattern

    def search(self, text: str) -> tuple[re.Match[str] | None, bool]:
        """The first match, line by line, and whether the whole text was searched.

        Without a match and without having searched everything, nothing can be said.
        """
        whole = len(text) <= SEARCHED_CHARS
        left = BUDGET_STEPS
        for line in text[:SEARCHED_CHARS].splitlines() or [""]:
            steps = (len(line) + 1) ** self.degree // factorial(self.degree)
            if steps > left:
                whole = False
                continue
            left -= steps
            found = self.compiled.search(line)
            if found is not None:
                return found, whole
        return None, whole


def compile_pattern(text: str) -> Pattern:
    """The pattern; ValueError says in a sentence why it cannot be used."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", FutureWarning)
            compiled = re.compile(text)
    except (re.error, OverflowError, RecursionError, FutureWarning) as error:
        raise ValueError(f"is not a regular expression ({error})") from error
    degree = _degree(tuple(_Scanner(text).items()))
    if degree > _MAX_DEGREE:
        raise ValueError("has too many open-ended wildcards; write bounds such as .{0,80}, or several expectations")
    return Pattern(compiled, degree)


@dataclass(frozen=True, slots=True)
class _Item:
    """One atom with its quantifier: which characters it takes, whether it must take any, whether it has no end."""

    chars: frozenset[str]
    mandatory: bool
    endless: bool


def _degree(items: tuple[_Item, ...]) -> int:
    """The longest chain of endless repeats that can trade characters with one another.

    Two repeats can only trade when they share characters and all that must stand between them could be taken by
    either. A search starts anywhere, which is a first repeat of any character unless the pattern is anchored.
    """
    chain = (_Item(_SAMPLE, False, True), *items)
    longest = [1] * len(chain)
    for later, item in enumerate(chain):
        if not item.endless:
            continue
        for earlier in range(later):
            if chain[earlier].endless and _trade(chain[earlier], chain[earlier + 1 : later], item):
                longest[later] = max(longest[later], longest[earlier] + 1)
    return max(longest)


def _trade(first: _Item, between: tuple[_Item, ...], second: _Item) -> bool:
    shared = first.chars & second.chars
    return bool(shared) and all(shared & item.chars for item in between if item.mandatory)


@cache
def _chars(atom: str) -> frozenset[str]:
    one = re.compile(atom, re.DOTALL)
    return frozenset(char for char in _SAMPLE if one.fullmatch(char))


class _Scanner:
    """Reads a pattern that is known to compile, atom by atom; raises ValueError for what could grow exponentially."""

    _QUANTIFIER = re.compile(r"(\*|\+|\?|\{(\d*)(,?)(\d*)\})[?+]?")
    _CLASS = re.compile(r"\[\^?\]?(?:\\.|[^\]\\])*\]", re.DOTALL)
    _GROUP = re.compile(r"\((?:\?(?:P<\w+>|<[=!]|[:=!>]|[aiLmsux-]+:|[aiLmsux]+\)|#[^)]*\))|(?!\?))")

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0

    def items(self) -> Iterator[_Item]:
        items, _ = self._sequence()
        return iter(items)

    def _sequence(self) -> tuple[list[_Item], bool]:
        """Items up to the end of the group, and whether it has alternatives."""
        items: list[_Item] = []
        alternatives = False
        while self._at < len(self._text) and self._text[self._at] != ")":
            char = self._text[self._at]
            if char == "|":
                alternatives = True
                self._at += 1
            elif char in "^$":
                self._at += 1
            elif char == "(":
                items += self._group()
            else:
                items.append(self._atom())
        return items, alternatives

    def _group(self) -> list[_Item]:
        opening = self._GROUP.match(self._text, self._at)
        if opening is None:
            raise ValueError("refers back to a group or has conditions, which can take for ever; write it without them")
        self._at = opening.end()
        if opening[0].endswith(")"):
            return []
        items, alternatives = self._sequence()
        self._at += 1
        least, most = self._repeats()
        if most is None and (alternatives or any(item.endless or not item.mandatory for item in items)):
            raise ValueError("repeats a group that repeats or chooses inside, which can take for ever; write it flat")
        if most is not None and most > 1 and (most > _MAX_REPEATED_GROUP or any(item.endless for item in items)):
            raise ValueError(f"repeats a group up to {most} times, which can take for ever; write it flat")
        loose = least == 0 or alternatives
        return [_Item(i.chars, i.mandatory and not loose, i.endless or most is None) for i in items]

    def _atom(self) -> _Item:
        start = self._at
        bracket = self._CLASS.match(self._text, start)
        if bracket is not None:
            self._at = bracket.end()
        elif self._text[start] == "\\":
            if self._text[start + 1].isdigit() and self._text[start + 1] != "0":
                raise ValueError("refers back to a group, which can take for ever; write it without")
            escaped = self._text[start + 1]
            named = self._text.find("}", start) + 1 - start if escaped == "N" else 2
            self._at += {"x": 4, "u": 6, "U": 10}.get(escaped, named)
        else:
            self._at += 1
        atom = self._text[start : self._at]
        least, most = self._repeats()
        if atom in {r"\b", r"\B", r"\A", r"\Z"}:
            return _Item(frozenset(), False, False)
        return _Item(_chars(atom), least > 0, most is None or most > 255)

    def _repeats(self) -> tuple[int, int | None]:
        found = self._QUANTIFIER.match(self._text, self._at)
        if found is None or found[1] in ("{}", "{,}"):
            return 1, 1
        self._at = found.end()
        if found[1] in "*+?":
            return int(found[1] == "+"), 1 if found[1] == "?" else None
        least = int(found[2] or 0)
        if not found[3]:
            return least, least
        return least, int(found[4]) if found[4] else None
