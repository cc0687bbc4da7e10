"""The columns of the vLLM panel: what each shows of a replica and of all of them, and how wide it is."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from rich.cells import cell_len

from dstui.model import Text, same
from dstui.telemetry.vllm_alarms import KV_FULL_SHARE
from dstui.telemetry.vllm_panel import Total, Totals
from dstui.telemetry.vllm_row import ReplicaRow
from dstui.telemetry.windows import Absent, Estimate, Present, Why
from screens import panel_words as words
from screens.lines import Piece
from screens.plain import shorten
from screens.tones import Tone

Value = Present[object] | Absent

NOT_YET = frozenset({Why.IDLE, Why.TOO_NEW})
"""Why there is no number though the metric is there."""


@dataclass(frozen=True, slots=True)
class Column:
    """`weight`: the lower, the sooner it is left out where there is no room. `form` is of a number; times are in ms."""

    head: Text
    cells: int
    weight: int
    of_row: Callable[[ReplicaRow], Value]
    of_all: Callable[[Totals], Value | Total | None]
    form: str = "{:,.0f}"
    factor: float = 1.0
    full_from: float | None = None

    def row(self, row: ReplicaRow) -> Piece:
        """A replica's cell, exactly as wide as the column."""
        return self._cell(self.of_row(row), whole=True)

    def all(self, totals: Totals) -> Piece:
        """The cell of all replicas; `≥` where some of them could not be counted."""
        value = self.of_all(totals)
        if isinstance(value, Total):
            return self._cell(value.value, whole=value.whole)
        return self._cell(value, whole=True) if value is not None else (" " * self.cells, Tone.PLAIN)

    def _cell(self, value: Value, *, whole: bool) -> Piece:
        text, tone = told(value, self.form, self.factor)
        if not whole and isinstance(value, Present):
            text, tone = f"≥{text}", Tone.WARN
        if self.full_from is not None and isinstance(value, Present):
            full = isinstance(value.value, float) and value.value >= self.full_from
            text, tone = (f"{text} !", Tone.WARN) if full else (f"{text}  ", tone)
        return right(text, self.cells), tone


def told(value: Value, form: str = "{:,.0f}", factor: float = 1.0) -> Piece:
    """A value as text: a latency in ms (`≥` where the last bucket holds it), several counts as their sum.

    `-` where there was nothing to measure yet, `?` where it is not known.
    """
    if isinstance(value, Absent):
        return ("-", Tone.DIM) if value.why in NOT_YET else ("?", Tone.UNKNOWN)
    held = value.value
    if isinstance(held, Estimate):
        return f"{'≥' if held.at_least else ''}{held.value * 1000:,.0f}", Tone.PLAIN
    if isinstance(held, Mapping):
        held = sum(held.values())
    return (form.format(held * factor), Tone.PLAIN) if isinstance(held, int | float) else ("?", Tone.UNKNOWN)


def right(text: str, cells: int) -> str:
    """Exactly `cells` cells, the text at the right edge."""
    text = shorten(text, cells)
    return " " * (cells - cell_len(text)) + text


COLUMNS: tuple[Column, ...] = (
    Column(words.RUN, 5, 15, lambda r: r.running, lambda t: t.running),
    Column(words.WAIT, 5, 14, lambda r: r.waiting, lambda t: t.waiting),
    Column(same("KV"), 7, 13, lambda r: r.kv, lambda t: t.kv, "{:.0f}%", 100.0, KV_FULL_SHARE),
    Column(words.GEN, 9, 12, lambda r: r.generation_per_s, lambda t: t.generation_per_s),
    Column(words.PROMPT, 8, 4, lambda r: r.prompt_per_s, lambda t: t.prompt_per_s),
    Column(words.PER_S, 6, 8, lambda r: r.finished_per_s, lambda t: t.finished_per_s, "{:,.1f}"),
    Column(same("TTFT p50"), 8, 7, lambda r: r.ttft.p50, lambda t: t.ttft.quantiles.p50),
    Column(same("TTFT p95"), 8, 11, lambda r: r.ttft.p95, lambda t: t.ttft.quantiles.p95),
    Column(same("TTFT p99"), 8, 6, lambda r: r.ttft.p99, lambda t: t.ttft.quantiles.p99),
    Column(same("ITL p95"), 7, 10, lambda r: r.itl.p95, lambda t: t.itl.quantiles.p95),
    Column(same("E2E p95"), 8, 5, lambda r: r.e2e.p95, lambda t: t.e2e.quantiles.p95),
    Column(words.QUEUE, 9, 3, lambda r: r.queue.p95, lambda t: t.queue.quantiles.p95),
    Column(words.PREEMPT, 9, 9, lambda r: r.preemptions_per_min, lambda t: t.preemptions_per_min, "{:,.1f}"),
    Column(words.REJECT, 8, 2, lambda r: r.rejections_per_min, lambda t: t.rejections_per_min, "{:,.1f}"),
    Column(words.HIT, 8, 1, lambda r: r.prefix_hit_share, lambda t: None, "{:.0f}%", 100.0),
)


def not_exported(row: ReplicaRow) -> tuple[Text, ...]:
    """The columns that a replica can have no number in, because its page has no such metric."""
    found = []
    for column in COLUMNS:
        value = column.of_row(row)
        if isinstance(value, Absent) and value.why is Why.NOT_EXPORTED:
            found.append(column.head)
    return tuple(found)
