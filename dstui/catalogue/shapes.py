"""The types that a parameter can have, and how a value that somebody wrote is brought into one of them."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum


class Shape(StrEnum):
    """The types of parameters; the accessors of `dstui.facts.case.Params` are named after them."""

    NUMBER = "number"
    COUNT = "count"
    TEXT = "text"
    FLAG = "flag"
    TEXTS = "texts"
    COUNTS = "counts"
    NUMBERS = "numbers"
    TABLE = "table"
    TABLES = "tables"


@dataclass(frozen=True, slots=True)
class ParamType:
    """A shape, whether null is allowed (written `number?`), and the only texts that are allowed, if any."""

    shape: Shape
    optional: bool = False
    choices: tuple[str, ...] = ()

    @classmethod
    def parse(cls, written: str, choices: tuple[str, ...] = ()) -> ParamType:
        """The type of `count`, `text?` …; ValueError when there is no such type."""
        return cls(Shape(written.removesuffix("?")), written.endswith("?"), choices)

    def __str__(self) -> str:
        return f"{self.shape}{'?' if self.optional else ''}"

    def accept(self, value: object) -> object:
        """The value as judges get it (lists become tuples); ValueError says what was wanted and what was written."""
        if value is None:
            if self.optional:
                return None
            raise ValueError(f"must be {_WANTED[self.shape]}, not empty")
        if self.choices and isinstance(value, bool):
            value = str(value).lower()
        accepted = _ACCEPT[self.shape](value)
        if accepted is None:
            raise ValueError(f"must be {_WANTED[self.shape]}, not {_seen(self.shape, value)}")
        if self.choices and accepted not in self.choices:
            raise ValueError(f"must be one of {', '.join(self.choices)}, not {_short(value)}")
        return accepted


_WANTED = {
    Shape.NUMBER: "a number",
    Shape.COUNT: "a whole number that is not negative",
    Shape.TEXT: "text",
    Shape.FLAG: "true or false",
    Shape.TEXTS: "a list of texts",
    Shape.COUNTS: "a list of whole numbers",
    Shape.NUMBERS: "a list of numbers",
    Shape.TABLE: "a table of key: value",
    Shape.TABLES: "a list of tables",
}


def _number(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return value


def _count(value: object) -> int | None:
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        return None
    return value


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None


def _flag(value: object) -> bool | None:
    return value if isinstance(value, bool) else None


def _list(one: Callable[[object], object]) -> Callable[[object], object]:
    def accept(value: object) -> object:
        if not isinstance(value, list | tuple):
            return None
        items = tuple(one(item) for item in value)
        return None if None in items else items

    return accept


def _table(value: object) -> dict[str, object] | None:
    if not isinstance(value, Mapping) or not all(isinstance(key, str) for key in value):
        return None
    return dict(value)


_ACCEPT: dict[Shape, Callable[[object], object]] = {
    Shape.NUMBER: _number,
    Shape.COUNT: _count,
    Shape.TEXT: _text,
    Shape.FLAG: _flag,
    Shape.TEXTS: _list(_text),
    Shape.COUNTS: _list(_count),
    Shape.NUMBERS: _list(_number),
    Shape.TABLE: _table,
    Shape.TABLES: _list(_table),
}


def _short(value: object) -> str:
    written = repr(value)
    return written if len(written) <= 60 else written[:57] + "…"


def _seen(shape: Shape, value: object) -> str:
    if shape is Shape.TEXT and isinstance(value, int | float):
        return f"{_short(value)} (put it in quotes: a version such as 12.10 is not a number)"
    return _short(value)
