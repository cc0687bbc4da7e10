"""The live view as lines of text: a block for a terminal, one line for a pipe, a line per event."""

from __future__ import annotations

import time
from collections.abc import Callable
from statistics import fmean

from rich.cells import cell_len, set_cell_size

from dstui.model import Lang, Text
from dstui.report.escape import visible
from dstui.telemetry import live_views
from dstui.telemetry.live import FleetColumn, Live
from dstui.telemetry.live_grid import GridRow
from dstui.telemetry.live_log import EventRow, Severity
from dstui.telemetry.live_marks import mark_text
from dstui.telemetry.live_status import Shown, Status
from dstui.telemetry.live_strip import GpuLine, RayLine, ServeLine, StripView, VllmLine
from dstui.telemetry.vllm_panel import Total
from dstui.telemetry.windows import Absent

MARKS = {Severity.INFO: "·", Severity.WARN: "!", Severity.FAIL: "✗"}
SPARK = "▁▂▃▄▅▆▇█"
_SPARK_CELLS, _SPARK_SECONDS = 20, 60.0
_NAMES = 3
_PART_CELLS = 120
_NOT_KNOWN = "?"

Words = Callable[[str, str], str]


def words(lang: Lang) -> Words:
    """Picks one of an English and a Chinese wording."""
    return (lambda en, zh: zh) if lang is Lang.ZH else (lambda en, zh: en)


def clock(at: float) -> str:
    """A moment in local time."""
    return time.strftime("%H:%M:%S", time.localtime(at))


def event_line(row: EventRow, lang: Lang) -> str:
    """One line of the event log."""
    return one_line(f"{clock(row.at)} {MARKS[row.severity]} {row.text[lang]}")


def summary(live: Live, now: float, lang: Lang) -> str:
    """Everything in one line; a long reason is cut, for it stands in the event that it began with."""
    strip = live_views.strip(live, now)
    parts = ["GPU " + _gpus(strip.gpus, lang), "Ray " + _ray(strip, lang), "vLLM " + _vllm(strip.vllm, lang)]
    return f"{clock(now)} " + " | ".join(_cut(one_line(part), _PART_CELLS) for part in parts)


def block(live: Live, now: float, lang: Lang, *, columns: int, lines: int) -> list[str]:
    """A few lines with what stands out, each at most `columns` cells wide, at most `lines` of them."""
    say = words(lang)
    strip = live_views.strip(live, now)
    watched = live.watched
    simulated = say("  SIMULATED", "  模拟（SIMULATED）") if watched.simulated else ""
    count = len(live.hosts)
    head = f"{watched.cluster}  {clock(now)}  " + say(f"{count} hosts", f"{count} 台主机") + simulated
    shown = [head, *_parts(live, strip, now, lang), *_trouble(live, now, lang)]
    if len(shown) > lines:
        left = len(shown) - lines + 1
        shown = [*shown[: lines - 1], say(f"  … {left} more", f"  … 另有 {left} 项")]
    return [_cut(one_line(line), columns) for line in shown]


def one_line(text: str) -> str:
    """A line that cannot steer the terminal."""
    return visible(text).replace("\n", " ").replace("\t", " ")


def _cut(text: str, columns: int) -> str:
    return text if cell_len(text) <= columns else set_cell_size(text, columns - 1) + "…"


def _parts(live: Live, strip: StripView, now: float, lang: Lang) -> list[str]:
    cell = _SPARK_SECONDS / _SPARK_CELLS
    end = (now // cell + 1) * cell
    spark = sparkline(live.fleet.downsample(FleetColumn.USE, end - _SPARK_SECONDS, end, _SPARK_CELLS, fmean))
    return [
        f"GPU   {_gpus(strip.gpus, lang)}  {spark}",
        f"Ray   {_ray(strip, lang)}",
        f"vLLM  {_vllm(strip.vllm, lang)}",
    ]


def sparkline(values: list[float | None], top: float = 100.0) -> str:
    """One cell for each value from 0 to `top`; a blank where there is none."""
    steps = len(SPARK) - 1
    return "".join(" " if v is None else SPARK[min(steps, max(0, round(v / top * steps)))] for v in values)


def how_old(shown: Shown, lang: Lang) -> str:
    """Empty while it is current; else how old it is, or why it is not known."""
    say = words(lang)
    why = f": {shown.why[lang]}" if shown.why is not None else ""
    if shown.status is Status.LIVE:
        return ""
    if shown.status is Status.UNKNOWN:
        return say("unknown", "未知") + why
    age = say(f"{shown.age or 0:.0f} s old", f"{shown.age or 0:.0f} 秒前")
    return age if shown.status is Status.LATE else say("lost", "已失联") + f", {age}{why}"


def _with_age(text: str, shown: Shown, lang: Lang) -> str:
    old = how_old(shown, lang)
    if not old:
        return text
    return f"{text} ({old})" if shown.known and text else old


def _gpus(line: GpuLine, lang: Lang, spark: str = "") -> str:
    say = words(lang)
    if not line.live:
        return _with_age(say("no host live", "没有在线主机"), line.shown, lang)
    expected = _NOT_KNOWN if line.expected is None else str(line.expected)
    parts = [f"{line.seen}/{expected}"]
    parts.append(
        say("use ", "利用率 ") + (_NOT_KNOWN if line.use is None else f"{line.use:.0f}%") + f" {spark}".rstrip()
    )
    if not line.whole:
        parts.append(say(f"{line.live} of {line.hosts} hosts live", f"{line.hosts} 台主机中 {line.live} 台在线"))
    if line.worst is not None:
        parts.append(say("worst ", "最差 ") + f"{line.worst.host}: {line.worst.text[lang]}")
    return " · ".join(parts)


def _ray(strip: StripView, lang: Lang) -> str:
    return f"{_nodes(strip.ray, lang)} · Serve {_serve(strip.serve, lang)}"


def _nodes(line: RayLine, lang: Lang) -> str:
    say = words(lang)
    if line.alive is None:
        return how_old(line.shown, lang) or _NOT_KNOWN
    text = say(f"{line.alive}/{line.expected} nodes", f"{line.alive}/{line.expected} 个节点")
    if line.believed:
        text += say(f", {line.believed} of them only for Ray", f"，其中 {line.believed} 个仅 Ray 认为存活")
    return _with_age(text, line.shown, lang)


def _serve(line: ServeLine, lang: Lang) -> str:
    if line.status is None:
        return words(lang)("unknown", "未知") if not line.shown.known else _NOT_KNOWN
    count = "" if line.running is None else f" {line.running}/{_NOT_KNOWN if line.target is None else line.target}"
    return _with_age(f"{line.status[lang]}{count}", line.shown, lang)


def _vllm(line: VllmLine, lang: Lang) -> str:
    say = words(lang)
    if not line.shown.known:
        return how_old(line.shown, lang)
    ttft = line.ttft_p95
    if isinstance(ttft, Absent):
        latency = ttft.text[lang]
    else:
        latency = f"{'≥ ' if ttft.value.at_least else ''}{ttft.value.value * 1000:.0f} ms"
    parts = [
        say(f"{line.live}/{line.replicas} replicas", f"{line.live}/{line.replicas} 个副本"),
        say("run ", "运行 ") + _total(line.running, lang),
        say("wait ", "排队 ") + _total(line.waiting, lang),
        "KV " + _total(line.kv, lang, percent=True),
        f"TTFT p95 {latency}",
    ]
    return _with_age(" · ".join(parts), line.shown, lang)


def _total(total: Total, lang: Lang, *, percent: bool = False) -> str:
    value = total.value
    if isinstance(value, Absent):
        return f"{_NOT_KNOWN} ({value.text[lang]})"
    text = f"{value.value:.0%}" if percent else f"{value.value:,.0f}"
    return (
        text
        if total.whole
        else text + words(lang)(f" ({total.counted} of {total.of})", f"（{total.counted}/{total.of}）")
    )


def _trouble(live: Live, now: float, lang: Lang) -> list[str]:
    found = []
    for row in live_views.grid(live, now, only_marked=True).rows:
        mark = row.marks[0]
        more = f" (+{len(row.marks) - 1})" if len(row.marks) > 1 else ""
        found.append(f"  {MARKS[mark.severity]} {_hosts(row)}  {mark_text(mark)[lang]}{more}{_age(row, lang)}")
    for alarm in live_views.vllm_view(live, now).raised:
        subject = f"vLLM {alarm.replica}  " if alarm.replica is not None else ""
        found.append(f"  {MARKS[Severity.WARN]} {subject}{alarm.text[lang]}")
    beliefs: dict[str, Text] = dict(live_views.ray_view(live, now).beliefs)
    found += [f"  {MARKS[Severity.WARN]} {text[lang]}" for text in beliefs.values()]
    return found


def _hosts(row: GridRow) -> str:
    names = ", ".join(row.hosts[:_NAMES])
    return names if len(row.hosts) <= _NAMES else f"{names} +{len(row.hosts) - _NAMES}"


def _age(row: GridRow, lang: Lang) -> str:
    if row.shown.age is None or not row.shown.known:
        return ""
    return " (" + words(lang)(f"{row.shown.age:.0f} s old", f"{row.shown.age:.0f} 秒前") + ")"
