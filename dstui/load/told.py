"""What workers said, checked and added up: a stage's numbers from those of its workers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from dstui.facts.untyped import real, rows, table, whole
from dstui.load.agent.histogram import Histogram, histogram_of
from dstui.load.local import LoadError, Told
from dstui.load.result import Counts, Generator, Times

_TIMES = ("ttft", "late", "itl", "tpot", "e2e")


@dataclass(frozen=True, slots=True)
class Sum:
    """Of all workers. `window` are its edges in seconds after `go`, `seconds` how much of it has passed."""

    counts: Counts
    times: Times
    tokens_in: int
    tokens_out: int
    unmetered: int
    good: int | None
    in_flight: int
    window: tuple[float, float]
    seconds: float
    generator: Generator
    samples: tuple[str, ...]


def added(told: Sequence[Told], lost: Sequence[str] = ()) -> Sum:
    """Raises LoadError for what no worker of dstui says."""
    try:
        return _added(told, lost)
    except (ValueError, TypeError, AssertionError) as error:
        raise LoadError(f"a worker's figures cannot be read: {error}") from error


def _added(told: Sequence[Told], lost: Sequence[str]) -> Sum:
    counts = [_table(row, "counts") for row in told]
    times = [_table(row, "times") for row in told]
    windows = [rows(row.get("window")) or [0.0, 0.0] for row in told]
    good = [row.get("good") for row in told]
    samples: dict[str, str] = {}
    for row in told:
        for kind, why in (table(row.get("samples")) or {}).items():
            samples.setdefault(str(kind), str(why))
    return Sum(
        counts=Counts(
            **{
                name: sum(_count(row, name) for row in counts)
                for name in ("begun", "ok", "shed", "aborted", "outside", "outside_errors")
            },
            errors=_errors(counts),
        ),
        times=Times(**{name: _merged(each[name] for each in times) for name in _TIMES}),
        tokens_in=sum(_count(row, "tokens_in") for row in told),
        tokens_out=sum(_count(row, "tokens_out") for row in told),
        unmetered=sum(_count(row, "unmetered") for row in told),
        good=None if not good or None in good else sum(_count(row, "good") for row in told),
        in_flight=sum(_count(row, "in_flight") for row in told),
        window=(
            min((float(_real(edges[0])) for edges in windows), default=0.0),
            max((float(_real(edges[1])) for edges in windows), default=0.0),
        ),
        seconds=max((_real(row.get("seconds")) for row in told), default=0.0),
        generator=_generator(told, lost),
        samples=tuple(f"{kind}: {why}" for kind, why in sorted(samples.items())),
    )


def _errors(counts: Sequence[Mapping[str, object]]) -> dict[str, int]:
    found: dict[str, int] = {}
    for row in counts:
        errors = _table(row, "errors")
        for kind in errors:
            found[kind] = found.get(kind, 0) + _count(errors, kind)
    return found


def _generator(told: Sequence[Told], lost: Sequence[str]) -> Generator:
    cpu = [used for row in told if (used := real(row.get("cpu"))) is not None]
    nofile = [limit for row in told if (limit := whole(row.get("nofile"))) is not None]
    jumps = [_real(row.get("clock_jump")) for row in told]
    return Generator(
        workers=len(told) + len(lost),
        lag=_merged(row.get("lag") for row in told),
        cpu=max(cpu, default=None),
        nofile=min(nofile, default=None),
        clock_jump=max(jumps, default=0.0),
        lost=tuple(lost),
    )


def _merged(values: Iterable[object]) -> Histogram:
    found = Histogram()
    for value in values:
        found.merge(histogram_of(value))
    return found


def _table(row: Mapping[str, object], name: str) -> Mapping[str, object]:
    found = table(row.get(name))
    if found is None:
        raise ValueError(f"{name} is no table")
    return found


def _count(row: Mapping[str, object], name: str) -> int:
    found = whole(row.get(name))
    if found is None or found < 0:
        raise ValueError(f"{name} is no count")
    return found


def _real(value: object) -> float:
    found = real(value)
    if found is None:
        raise ValueError("a number is missing")
    return found
