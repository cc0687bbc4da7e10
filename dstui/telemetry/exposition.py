"""A page of Prometheus' text format, read with prometheus_client's parser: only the names that are wanted.

A Ray node's page is half a megabyte of which vLLM's part is a tenth, and parsing costs about 20 µs a line; so lines
are sorted out by name first. Pages come over the network: they may be HTML, cut, or garbled in single lines.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from math import isfinite
from typing import TYPE_CHECKING

from dstui.model import GatherError, Reason
from dstui.redact import clean

if TYPE_CHECKING:
    from prometheus_client import Metric

LINE_LIMIT = 16_384
"""Characters of a wanted line; longer ones count as unreadable (vLLM's longest, cache_config_info, has about 1,300)."""

SERIES_LIMIT = 20_000
"""Wanted lines on one page; 16 engines of one vLLM have about 5,000."""

_LABEL_LIMIT = 200
_NAME = re.compile(r"(?:#[ \t]+(?:TYPE|HELP|UNIT)[ \t]+)?([A-Za-z_:][A-Za-z0-9_:]*)", re.ASCII)
_SAMPLE = re.compile(r"[A-Za-z_:][A-Za-z0-9_:]*(?:\{.*\})?[ \t]+[-+]?(?:[0-9.]|Inf|NaN)", re.ASCII)
_EXEMPLAR = re.compile(r" # \{.*")
"""Their parser allows exemplars only under a TYPE line; the lines come here without."""


@dataclass(frozen=True, slots=True)
class Series:
    """One line. `time` is the time stamp that the page itself gives (a federated page), seconds since the epoch."""

    name: str
    labels: Mapping[str, str]
    value: float
    time: float | None


@dataclass(frozen=True, slots=True)
class Page:
    """`names` are all metric names on the page; `bad` are wanted ones of which a line could not be read."""

    series: tuple[Series, ...]
    names: frozenset[str]
    bad: frozenset[str]


def read_page(text: str, wanted: Callable[[str], bool], *, openmetrics: bool = False, cut: bool = False) -> Page:
    """The wanted series of a page.

    Raises GatherError(parse-error) when it is no page of metrics, or one without its end: a sum over a page of which
    a part is missing would be too small and not look it.
    """
    if not text.strip():
        raise GatherError(Reason.PARSE_ERROR, "the page of metrics is empty")
    if text.lstrip()[:1] in "<{[":
        raise GatherError(Reason.PARSE_ERROR, f"no page of metrics but {_excerpt(text)}")
    lines = [line.rstrip("\r") for line in text.split("\n")]
    chosen, names, too_long = _sorted_out(lines, wanted)
    if not names:
        raise GatherError(Reason.PARSE_ERROR, f"no page of metrics but {_excerpt(text)}")
    if cut or (lines[-1] and lines[-1] != "# EOF"):
        raise GatherError(Reason.PARSE_ERROR, f"the page of metrics is cut off after {len(text)} characters")
    if len(chosen) > SERIES_LIMIT:
        raise GatherError(Reason.PARSE_ERROR, f"the page has more than {SERIES_LIMIT} lines of vLLM's metrics")
    series, bad = _parsed(chosen, openmetrics)
    return Page(tuple(series), names, bad | too_long)


def _excerpt(text: str) -> str:
    return repr(" ".join(clean(text[:200]).split())[:60])


def _sorted_out(lines: list[str], wanted: Callable[[str], bool]) -> tuple[list[str], frozenset[str], frozenset[str]]:
    """The lines that are wanted, all names that have a readable-looking line, and wanted names with a line too long."""
    chosen: list[str] = []
    too_long: set[str] = set()
    sampled: set[str] = set()
    verdicts: dict[str, bool] = {}
    for line in lines:
        match = _NAME.match(line)
        if match is None:
            continue
        name = match[1]
        if name not in verdicts:
            verdicts[name] = wanted(name)
        comment = line.startswith("#")
        if not comment and name not in sampled and _SAMPLE.match(line[:LINE_LIMIT]):
            sampled.add(name)
        if not verdicts[name] or comment:
            continue
        if len(line) > LINE_LIMIT:
            too_long.add(name)
        else:
            chosen.append(line)
    return chosen, frozenset(sampled), frozenset(too_long)


def _parsed(lines: list[str], openmetrics: bool) -> tuple[list[Series], frozenset[str]]:
    """All lines at once, or one by one when the parser refuses some of them."""
    try:
        return list(_series("\n".join(lines) + "\n", openmetrics)), frozenset()
    except (ValueError, KeyError, IndexError, TypeError, OverflowError):
        pass
    series: list[Series] = []
    bad: set[str] = set()
    for line in lines:
        try:
            series.extend(_series(line + "\n", openmetrics))
        except (ValueError, KeyError, IndexError, TypeError, OverflowError):
            match = _NAME.match(line)
            bad.add(match[1] if match else "")
    return series, frozenset(bad)


def _series(text: str, openmetrics: bool) -> Iterator[Series]:
    """Through the parser of the page's format."""
    families: Iterable[Metric]
    if openmetrics:
        from prometheus_client.openmetrics import parser as openmetrics_parser

        whole = _EXEMPLAR.sub("", text) + "# EOF\n"
        families = openmetrics_parser.text_string_to_metric_families(whole)  # type: ignore[no-untyped-call]
    else:
        from prometheus_client import parser

        families = parser.text_string_to_metric_families(text)
    for family in families:
        for sample in family.samples:
            yield Series(sample.name, _tidy(sample.labels), float(sample.value), _seconds(sample.timestamp))


def _tidy(labels: Mapping[str, str]) -> dict[str, str]:
    """Labels that can be shown: no controls, no line ends, not endless."""
    return {key: " ".join(clean(value[:_LABEL_LIMIT]).split()) for key, value in islice(labels.items(), 100)}


def _seconds(stamp: object) -> float | None:
    """OpenMetrics has seconds as an object of its own, the text format milliseconds that the parser already divided."""
    if stamp is None:
        return None
    try:
        seconds = float(stamp)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        return None
    return seconds if isfinite(seconds) else None
