"""How a ladder shows itself without the app: one line that lives on a terminal, plain lines in a pipe, then a table."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from types import TracebackType
from typing import TextIO

from rich.console import Console
from rich.table import Table

from dstui.load.ladder import StageKind
from dstui.load.live import LiveLadder, LiveStage, Phase
from dstui.load.result import LadderResult, StageResult
from dstui.load.validity import limits
from dstui.model import Lang, Text

PHASES = {
    Phase.WAITING: Text("waiting", "等待"),
    Phase.PAUSE: Text("rests", "间歇"),
    Phase.RAMP: Text("users come", "逐步加压"),
    Phase.WARM: Text("warms up", "预热"),
    Phase.WINDOW: Text("measures", "测量"),
    Phase.DRAIN: Text("drains", "收尾"),
    Phase.DONE: Text("done", "完成"),
}
WIDE = 160
BAR = 12
"""Columns of the bar on a terminal."""


def ladder_printer(live: LiveLadder, lang: Lang, *, quiet: bool) -> Printer:
    """Everything goes to standard error, so that standard output has the result alone; `quiet` says nothing."""
    return Printer(live, lang, sys.stderr, quiet=quiet)


class Printer:
    """`update` after every change: on a terminal the last line is drawn anew, in a pipe phases are told once."""

    def __init__(
        self, live: LiveLadder, lang: Lang, out: TextIO, *, quiet: bool, clock: Callable[[], float] = time.time
    ) -> None:
        self._clock = clock
        self._live = live
        self._lang = lang
        self._out = out
        self._quiet = quiet
        self._in_place = out.isatty()
        self._told: set[tuple[str, Phase]] = set()
        self._drawn = 0

    def __enter__(self) -> Printer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._clear()

    def update(self) -> None:
        if self._quiet:
            return
        for stage in self._live.stages:
            key = stage.stage.name, Phase.DONE
            if stage.phase is Phase.DONE and key not in self._told:
                self._told.add(key)
                self._clear()
                self._out.write(line(stage, self._lang, self._clock()) + "\n")
        busy = self._live.now_on
        if busy is None:
            return
        if self._in_place:
            text = f"{bar(busy, self._clock())} {line(busy, self._lang, self._clock())}"
            self._clear()
            self._out.write(text)
            self._drawn = len(text)
        elif (key := (busy.stage.name, busy.phase)) not in self._told:
            self._told.add(key)
            self._out.write(line(busy, self._lang, self._clock()) + "\n")
        self._out.flush()

    def _clear(self) -> None:
        if self._drawn:
            self._out.write("\r\x1b[K")
            self._drawn = 0


def bar(stage: LiveStage, now: float) -> str:
    """How far the phase is."""
    whole = stage.until - stage.since
    done = min(1.0, max(0.0, (now - stage.since) / whole)) if whole > 0 else 0.0
    full = round(done * BAR)
    return "█" * full + "░" * (BAR - full)


def line(stage: LiveStage, lang: Lang, now: float) -> str:
    """One stage in one line, at `now` (seconds since the epoch)."""
    counts, left = stage.counts, max(0.0, stage.until - now)
    ttft = _ms(stage.times.ttft.quantile(0.95))
    rate = stage.tokens_out / stage.window_seconds if stage.window_seconds else None
    shown = f"{rate:.0f}" if rate is not None else "–"
    timed = f" {left:.0f} s" if stage.phase not in (Phase.DONE, Phase.WAITING) else ""
    return Text(
        f"{stage.stage.name}: {PHASES[stage.phase].en}{timed}, {counts.ok} ok, {counts.failed} errors, "
        f"{counts.shed} shed, TTFT p95 {ttft}, {shown} tokens/s",
        f"{stage.stage.name}：{PHASES[stage.phase].zh}{timed}，成功 {counts.ok}，错误 {counts.failed}，"
        f"限流 {counts.shed}，TTFT p95 {ttft}，{shown} tokens/s",
    )[lang]


def table(result: LadderResult, lang: Lang) -> str:
    """The stages as a table, wide enough that nothing is cut."""
    heads = (
        Text("stage", "阶段"), Text("requests", "请求"), Text("errors", "错误"), Text("shed", "限流"),
        Text("TTFT p50", "TTFT p50"), Text("p95", "p95"), Text("ITL p95", "ITL p95"), Text("E2E p95", "E2E p95"),
        Text("tokens/s", "tokens/s"), Text("GPU use", "GPU 利用率"), Text("memory", "内存"), Text("KV", "KV"),
        Text("network", "网络"), Text("generator", "压测机"),
    )  # fmt: skip
    shown = Table(show_edge=False, pad_edge=False)
    for number, head in enumerate(heads):
        shown.add_column(head[lang], justify="left" if number in (0, len(heads) - 1) else "right", no_wrap=True)
    for stage in result.stages:
        shown.add_row(*_cells(stage, lang))
    console = Console(width=WIDE, color_system=None)
    with console.capture() as captured:
        console.print(shown)
    return captured.get()


def _cells(stage: StageResult, lang: Lang) -> list[str]:
    times, window = stage.times, stage.window
    use = [g.use_mean for h in window.hosts.values() for g in h.gpus.values() if g.use_mean is not None and g.serving]
    memory = [host.memory_peak for host in window.hosts.values() if host.memory_peak is not None]
    kv = [replica.kv_p95 for replica in window.replicas.values() if replica.kv_p95 is not None]
    links = [
        share for host in window.hosts.values() for link in host.links.values()
        if (share := link.share(link.mean)) is not None
    ]  # fmt: skip
    limited = limits(stage.generator, stage.stage.users)
    rate = stage.tokens_per_second
    return [
        stage.stage.name if stage.stage.kind is not StageKind.LEVEL or stage.stage.rate else str(stage.stage.users),
        str(stage.counts.inside),
        str(stage.counts.failed),
        str(stage.counts.shed),
        _ms(times.ttft.quantile(0.5)),
        _ms(times.ttft.quantile(0.95)),
        _ms(times.itl.quantile(0.95)),
        _ms(times.e2e.quantile(0.95)),
        "–" if rate is None else f"{rate:.0f}",
        f"{sum(use) / len(use):.0f}%" if use else "–",
        f"{max(memory):.0%}" if memory else "–",
        f"{max(kv):.0%}" if kv else "–",
        f"{max(links):.0%}" if links else "–",
        limited[0][lang] if limited else Text("fine", "正常")[lang],
    ]


def _ms(seconds: float | None) -> str:
    if seconds is None:
        return "–"
    return f"{seconds * 1000:.0f} ms" if seconds < 10 else f"{seconds:.1f} s"
