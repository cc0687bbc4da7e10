"""A look at a replica as a Record and back: what is streamed, recorded and replayed.

`data` is {"family", "node", "replica_id", "worker_id", "as_of", "node_page", "names": [str], "rejections": labelled,
"engines": [{"model", "engine", "numbers": {thing: number}, "histograms": {thing: buckets}, "finished": labelled,
"cache_config": labels}]}. A value that is there is {"name", "value"}, a histogram {"name", "bounds", "counts", "sum"}
in seconds; one that is absent is {"absent": why, "detail"}. A thing of the alias table is never left out.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import pairwise
from math import isfinite
from typing import TypeVar

from dstui.facts.untyped import real, rows, table
from dstui.model import UsageError
from dstui.telemetry.aliases import COUNTERS, GAUGES, HISTOGRAMS, Family, Thing
from dstui.telemetry.record import Record, RecordKind
from dstui.telemetry.vllm import Buckets, EngineSample, VllmSample
from dstui.telemetry.windows import Absent, Histogram, Present, Why, one_of_each

T = TypeVar("T")

SOURCE = "vllm:"
NUMBERS = (*GAUGES, *COUNTERS)


def record_of(sample: VllmSample) -> Record:
    return Record(sample.at, SOURCE + sample.replica, RecordKind.SAMPLE, to_data(sample))


def sample_of(record: Record) -> VllmSample:
    """The look that a record carries. Raises UsageError when it carries none, or one that is not whole."""
    if record.kind is not RecordKind.SAMPLE or not record.source.startswith(SOURCE):
        raise UsageError(f"{record.source}: {record.kind.value} is no sample of vLLM")
    return from_data(record.data, at=record.at, replica=record.source.removeprefix(SOURCE))


def to_data(sample: VllmSample) -> dict[str, object]:
    return {
        "family": sample.family.value if sample.family else None,
        "node": sample.node,
        "replica_id": sample.replica_id,
        "worker_id": sample.worker_id,
        "as_of": sample.as_of,
        "node_page": sample.node_page,
        "names": list(sample.names),
        "rejections": _plain(sample.rejections),
        "engines": [_engine_data(engine) for engine in sample.engines],
    }


def _engine_data(engine: EngineSample) -> dict[str, object]:
    return {
        "model": engine.model,
        "engine": engine.engine,
        "numbers": {thing.value: _plain(engine.numbers[thing]) for thing in NUMBERS},
        "histograms": {thing.value: _buckets_data(engine.histograms[thing]) for thing in HISTOGRAMS},
        "finished": _plain(engine.finished),
        "cache_config": _plain(engine.cache_config),
    }


def _plain(value: Present[float] | Present[Mapping[str, float]] | Present[Mapping[str, str]] | Absent) -> object:
    if isinstance(value, Absent):
        return {"absent": value.why.value, "detail": value.detail}
    held = value.value
    return {"name": value.name, "value": dict(held) if isinstance(held, Mapping) else _short(held)}


def _buckets_data(value: Buckets) -> object:
    if isinstance(value, Absent):
        return _plain(value)
    held = value.value
    return {
        "name": value.name,
        "bounds": list(held.bounds),
        "counts": [_short(count) for count in held.counts],
        "sum": held.sum,
    }


def _short(number: float) -> float | int:
    """Counts are whole; `16` is two characters less than `16.0` in every bucket of every line."""
    return int(number) if number.is_integer() and abs(number) < 2**53 else number


def from_data(data: Mapping[str, object], *, at: float, replica: str) -> VllmSample:
    """Strict: UsageError that names the field when anything is missing, of the wrong type or cannot be."""
    try:
        family = _text_or_none(data, "family")
        return VllmSample(
            at,
            replica,
            None if family is None else Family(family),
            tuple(_engine(_table(each, "engine")) for each in _rows(data, "engines")),
            _read(data, "rejections", _counts),
            tuple(_text(name, "names") for name in _rows(data, "names")),
            _text_or_none(data, "node"),
            _text_or_none(data, "replica_id"),
            _text_or_none(data, "worker_id"),
            None if data["as_of"] is None else _number(data["as_of"], "as_of"),
            _flag(data["node_page"], "node_page"),
        )
    except (ValueError, KeyError) as error:
        raise UsageError(f"the sample of vLLM replica {replica} cannot be read: {error}") from None


def _engine(data: Mapping[str, object]) -> EngineSample:
    numbers = _table(data["numbers"], "numbers")
    histograms = _table(data["histograms"], "histograms")
    return EngineSample(
        _text_or_none(data, "model"),
        _text_or_none(data, "engine"),
        {thing: _read(numbers, thing.value, _amount) for thing in NUMBERS},
        {thing: _read_buckets(histograms, thing) for thing in HISTOGRAMS},
        _read(data, "finished", _counts),
        _read(data, "cache_config", _texts),
    )


def _read(data: Mapping[str, object], key: str, read: Callable[[object, str], T]) -> Present[T] | Absent:
    held = _table(data[key], key)
    if "absent" in held:
        return Absent(Why(_text(held["absent"], key)), _text(held["detail"], key))
    return Present(read(held["value"], key), _text(held["name"], key))


def _read_buckets(data: Mapping[str, object], thing: Thing) -> Buckets:
    key = thing.value
    held = _table(data[key], key)
    if "absent" in held:
        return _read(data, key, _never)
    bounds = one_of_each(tuple(_number(bound, key) for bound in _rows(held, "bounds")))
    counts = tuple(_amount(count, key) for count in _rows(held, "counts"))
    rising = all(a < b for a, b in pairwise(bounds)) and all(a <= b for a, b in pairwise(counts))
    if not bounds or len(counts) != len(bounds) + 1 or not rising:
        raise ValueError(f"{key}: bounds and counts are no histogram")
    total = None if held["sum"] is None else _number(held["sum"], key)
    return Present(Histogram(bounds, counts, total), _text(held["name"], key))


def _never(value: object, key: str) -> Histogram:
    raise ValueError(f"{key}: neither there nor absent")


def _table(value: object, key: str) -> Mapping[str, object]:
    found = table(value)
    if found is None:
        raise ValueError(f"{key} is no object")
    return found


def _rows(data: Mapping[str, object], key: str) -> list[object]:
    found = rows(data[key])
    if found is None:
        raise ValueError(f"{key} is no array")
    return found


def _text(value: object, key: str) -> str:
    if not isinstance(value, str):
        raise ValueError(f"{key} is no text")
    return value


def _flag(value: object, key: str) -> bool:
    if not isinstance(value, bool):
        raise ValueError(f"{key} is neither true nor false")
    return value


def _text_or_none(data: Mapping[str, object], key: str) -> str | None:
    return None if data[key] is None else _text(data[key], key)


def _number(value: object, key: str) -> float:
    found = real(value)
    if found is None or not isfinite(found):
        raise ValueError(f"{key} is no number")
    return found


def _amount(value: object, key: str) -> float:
    found = _number(value, key)
    if found < 0:
        raise ValueError(f"{key} is negative")
    return found


def _counts(value: object, key: str) -> Mapping[str, float]:
    return {label: _amount(count, key) for label, count in _table(value, key).items()}


def _texts(value: object, key: str) -> Mapping[str, str]:
    return {label: _text(held, key) for label, held in _table(value, key).items()}
