"""A ladder's result as plain JSON and back. Strict on the way in: what does not fit is a ValueError naming the field.

The words are written as they are declared, so that a field that is added there is added here. No address carries a
login or a query.
"""

from __future__ import annotations

import math
import re
import types
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields, is_dataclass
from enum import StrEnum
from functools import cache
from typing import Union, cast, get_args, get_origin, get_type_hints
from urllib.parse import urlsplit

from dstui.load.agent.histogram import Histogram, histogram_of
from dstui.load.result import LadderResult

FORMAT, VERSION = "dstui-ladder", 1

_PLACE = re.compile(r"0|[1-9]\d{0,17}", re.ASCII)
_LARGEST = 1 << 63
_LAST_BUCKET = 4096
"""10⁷ years: no time that was measured is in a later one."""
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]{0,20}://[^\s\"'<>]+")


def plain(result: LadderResult, redacted: Callable[[str], str] = str) -> dict[str, object]:
    """The result as values that JSON has. `redacted` masks what is secret in a text."""
    written = _written(result, redacted)
    assert isinstance(written, dict)
    return {"format": FORMAT, "version": VERSION, **written}


def ladder_of(value: object) -> LadderResult:
    """What `plain` gave. ValueError names the field that is missing, of another type or out of range."""
    if not isinstance(value, Mapping):
        raise ValueError("a ladder is a table")
    if value.get("format") != FORMAT:
        raise ValueError(f"format is not {FORMAT}")
    version = value.get("version")
    if version != VERSION or isinstance(version, bool):
        raise ValueError(f"version is {version!r}; this dstui reads {VERSION}")
    return cast(LadderResult, _record(LadderResult, value, ""))


def without_login(url: str) -> str:
    """An address without login, query and fragment."""
    scheme, mark, rest = url.partition("://")
    if not mark:
        return url
    # A password may hold what ends an address, not escaped: whatever is before the last @ goes.
    return f"{scheme}://{re.split(r'[?#]', rest.rpartition('@')[2], maxsplit=1)[0]}"


def bare_texts(text: str) -> str:
    """A text whose addresses have neither login nor query."""
    return _URL.sub(lambda found: without_login(found[0]), text) if "://" in text else text


def same_address(one: str, other: str) -> bool:
    """Whether two addresses of an API are the same: with or without /v1, a default port, a slash at the end."""
    return _address(one) == _address(other)


def _address(url: str) -> tuple[str, str, int | None, str]:
    try:
        parts = urlsplit(without_login(url.strip()))
        port = parts.port or {"http": 80, "https": 443}.get(parts.scheme)
    except ValueError:
        return ("", url, None, "")
    return parts.scheme, parts.hostname or "", port, parts.path.rstrip("/").removesuffix("/v1").rstrip("/")


def _written(value: object, redacted: Callable[[str], str]) -> object:
    if isinstance(value, Histogram):
        return value.plain()
    if isinstance(value, StrEnum):
        return value.value
    if isinstance(value, str):
        return bare_texts(redacted(bare_texts(value)))
    if isinstance(value, Mapping):
        return {bare_texts(str(key)): _written(item, redacted) for key, item in value.items()}
    if isinstance(value, tuple):
        return [_written(item, redacted) for item in value]
    if is_dataclass(value):
        return {each.name: _written(getattr(value, each.name), redacted) for each in fields(value)}
    return value


@cache
def _declared(kind: type) -> Mapping[str, object]:
    hints: Mapping[str, object] = get_type_hints(kind)
    return {each.name: hints[each.name] for each in fields(kind)}


def _record(kind: type, value: object, where: str) -> object:
    if not isinstance(value, Mapping):
        raise ValueError(f"{where or 'the ladder'} is not a table")
    read: dict[str, object] = {}
    for name, wanted in _declared(kind).items():
        place = f"{where}.{name}" if where else name
        if name not in value:
            raise ValueError(f"{place} is missing")
        read[name] = _read(wanted, value[name], place)
    return kind(**read)


def _read(wanted: object, value: object, where: str) -> object:
    origin, inner = get_origin(wanted), get_args(wanted)
    if origin in (Union, types.UnionType):
        return None if value is None else _read(next(i for i in inner if i is not type(None)), value, where)
    if origin is tuple:
        if not isinstance(value, Sequence) or isinstance(value, str):
            raise ValueError(f"{where} is not a list")
        return tuple(_read(inner[0], item, f"{where}[{number}]") for number, item in enumerate(value))
    if isinstance(origin, type) and issubclass(origin, Mapping):
        if not isinstance(value, Mapping):
            raise ValueError(f"{where} is not a table")
        return {_key(inner[0], k, where): _read(inner[1], item, f"{where}.{k}") for k, item in value.items()}
    assert isinstance(wanted, type)
    if wanted is Histogram:
        return _histogram(value, where)
    if is_dataclass(wanted):
        return _record(wanted, value, where)
    return _plain(wanted, value, where)


def _key(wanted: object, key: object, where: str) -> object:
    if not isinstance(key, str):
        raise ValueError(f"{where} has a key that is no text")
    if wanted is str:
        return key
    if not _PLACE.fullmatch(key):
        raise ValueError(f"{where}.{key[:40]} is not a number's place")
    return int(key)


def _plain(wanted: type, value: object, where: str) -> object:
    if issubclass(wanted, StrEnum):
        word = next((each for each in wanted if each.value == value), None)
        if word is None:
            raise ValueError(f"{where} is not one of {', '.join(wanted)}")
        return word
    if wanted is bool or wanted is str:
        if not isinstance(value, wanted):
            raise ValueError(f"{where} is not {'text' if wanted is str else 'true or false'}")
        return value
    if isinstance(value, bool) or not isinstance(value, int if wanted is int else (int, float)):
        raise ValueError(f"{where} is not a {'whole number' if wanted is int else 'number'}")
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"{where} is not finite")
    if value < 0 and not where.endswith(_MAY_FALL):
        raise ValueError(f"{where} is below 0")
    if abs(value) >= _LARGEST:
        raise ValueError(f"{where} is too large")
    return float(value) if wanted is float else value


_MAY_FALL = ("ladder.seed", ".growth", ".clock_jump")
"""What may be below 0: memory shrinks, clocks are set back."""


def _histogram(value: object, where: str) -> Histogram:
    counts = value.get("counts") if isinstance(value, Mapping) else None
    for bucket in counts if isinstance(counts, Mapping) else ():
        place = _key(int, bucket, f"{where}.counts")
        assert isinstance(place, int)
        if place > _LAST_BUCKET:
            raise ValueError(f"{where}.counts.{bucket[:40]} is no time that can be measured")
    try:
        found = histogram_of(value)
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from None
    if found.whole and found.low > found.high:
        raise ValueError(f"{where}: low is above high")
    return found
