"""Frozen dataclasses to JSON and back: None is left out, unknown keys are passed over, wrong types are refused."""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Mapping
from dataclasses import MISSING, fields, is_dataclass
from enum import Enum
from functools import lru_cache
from types import NoneType, UnionType
from typing import TypeVar, Union, cast, get_args, get_origin, get_type_hints

T = TypeVar("T")
_Reader = Callable[[object, str], object]


def plain(value: object) -> dict[str, object]:
    """A dataclass as a JSON object."""
    return cast("dict[str, object]", _plain(value))


def _plain(value: object) -> object:
    if is_dataclass(value):
        known = ((name, getattr(value, name)) for name in _names(cast(Hashable, type(value))))
        return {name: _plain(item) for name, item in known if item is not None}
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    return value.value if isinstance(value, Enum) else value


@lru_cache(maxsize=64)
def _names(kind: Hashable) -> tuple[str, ...]:
    assert isinstance(kind, type) and is_dataclass(kind)
    return tuple(each.name for each in fields(kind))


def typed(kind: type[T], value: object) -> T:
    """The dataclass that `plain` was given. ValueError says where a value is of the wrong type."""
    return cast(T, _reader(cast(Hashable, kind))(value, kind.__name__))


@lru_cache(maxsize=256)
def _reader(kind: object) -> _Reader:
    if isinstance(kind, type) and is_dataclass(kind):
        return _object_reader(kind)
    origin, inner = get_origin(kind), get_args(kind)
    if origin in (Union, UnionType):
        (only,) = (each for each in inner if each is not NoneType)
        read = _reader(only)
        return lambda value, where: None if value is None else read(value, where)
    if origin is tuple:
        return _list_reader(_reader(inner[0]))
    if origin is not None:
        return _table_reader(_reader(inner[1]))
    if isinstance(kind, type) and issubclass(kind, Enum):
        return _word_reader(kind)
    return {str: _text, bool: _flag, int: _whole, float: _number}[cast(type, kind)]


def _object_reader(kind: type) -> _Reader:
    hints = get_type_hints(kind)
    parts = [(each.name, _reader(hints[each.name]), _needed(each)) for each in fields(kind)]

    def read(value: object, where: str) -> object:
        row = _table(value, where)
        found: dict[str, object] = {}
        for name, reader, needed in parts:
            if name in row:
                found[name] = reader(row[name], f"{where}.{name}")
            elif needed:
                raise ValueError(f"{where}.{name} is missing")
        return kind(**found)

    return read


def _needed(each: object) -> bool:
    return getattr(each, "default", None) is MISSING and getattr(each, "default_factory", None) is MISSING


def _list_reader(item: _Reader) -> _Reader:
    def read(value: object, where: str) -> object:
        if not isinstance(value, list | tuple):
            raise ValueError(f"{where} is not a list")
        return tuple(item(each, where) for each in value)

    return read


def _table_reader(item: _Reader) -> _Reader:
    return lambda value, where: {key: item(each, where) for key, each in _table(value, where).items()}


def _word_reader(kind: type[Enum]) -> _Reader:
    def read(value: object, where: str) -> object:
        try:
            return kind(value)
        except ValueError:
            raise ValueError(f"{where} is not a word of {kind.__name__}") from None

    return read


def _table(value: object, where: str) -> Mapping[str, object]:
    if not isinstance(value, Mapping):
        raise ValueError(f"{where} is not an object")
    return value


def _text(value: object, where: str) -> object:
    if not isinstance(value, str):
        raise ValueError(f"{where} is not text")
    return value


def _flag(value: object, where: str) -> object:
    if not isinstance(value, bool):
        raise ValueError(f"{where} is not true or false")
    return value


def _whole(value: object, where: str) -> object:
    if isinstance(value, bool) or not isinstance(value, int):
        raise ValueError(f"{where} is not a whole number")
    return value


def _number(value: object, where: str) -> object:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f"{where} is not a number")
    try:
        number = float(value)
    except OverflowError:
        raise ValueError(f"{where} is not a number") from None
    if not math.isfinite(number):
        raise ValueError(f"{where} is not a number")
    return number
