"""The live strip under the checklist: GPUs, Ray, Serve and vLLM in one line, as much of it as there is room for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

from dstui.model import Lang
from dstui.telemetry import live_views
from dstui.telemetry.live import FleetColumn, Live
from dstui.telemetry.live_log import Severity
from dstui.telemetry.live_status import Shown, Status
from dstui.telemetry.live_strip import GpuLine, RayLine, ServeLine, VllmLine
from dstui.telemetry.vllm_panel import Total
from dstui.telemetry.windows import Absent
from dstui.watch_lines import Words, sparkline, words
from screens.lines import Line, Piece, line, width_of
from screens.plain import one_line, shorten
from screens.tones import Tone

_NOT_KNOWN = "?"
_SPARK_CELLS, _CELL_SECONDS = 8, 5.0
_WORST_CELLS, _WHY_CELLS = 40, 60
_BAR: Piece = (" │ ", Tone.DIM)
_DOT: Piece = (" · ", Tone.DIM)


@dataclass(frozen=True, slots=True)
class _Part:
    """One part of the strip, as short as it can be and longer and longer."""

    shapes: tuple[Line, ...]


def live_line(live: Live, now: float, lang: Lang, width: int) -> Line:
    """The strip at `now`, at most `width` cells. What does not fit is left out from the least urgent on."""
    view, say = live_views.strip(live, now), words(lang)
    parts = [
        _gpus(view.gpus, _spark(live, now), say, lang),
        _ray(view.ray, say, lang),
        _serve(view.serve, say, lang),
        _vllm(view.vllm, say, lang),
    ]
    chosen = [0] * len(parts)
    for _ in range(max(len(part.shapes) for part in parts)):
        for number in (0, 3, 1, 2):
            longer = [*chosen]
            longer[number] += 1
            if longer[number] < len(parts[number].shapes) and width_of(_joined(parts, longer)) <= width:
                chosen = longer
    return _joined(parts, chosen)


def _joined(parts: Sequence[_Part], chosen: Sequence[int]) -> Line:
    pieces: list[Piece] = [(" ", Tone.PLAIN)]
    for number, (part, shape) in enumerate(zip(parts, chosen, strict=True)):
        if number:
            pieces.append(_DOT if number == 2 else _BAR)
        pieces += part.shapes[shape]
    return tuple(pieces)


def _spark(live: Live, now: float) -> str:
    end = (now // _CELL_SECONDS + 1) * _CELL_SECONDS
    begin = end - _SPARK_CELLS * _CELL_SECONDS
    return sparkline(live.fleet.downsample(FleetColumn.USE, begin, end, _SPARK_CELLS, fmean))


def _gpus(view: GpuLine, spark: str, say: Words, lang: Lang) -> _Part:
    if not view.live:
        return _silent("GPU", view.shown, say, lang)
    expected = _NOT_KNOWN if view.expected is None else str(view.expected)
    fewer = view.expected is not None and view.seen < view.expected
    count: Piece = (f"{'! ' if fewer else ''}{view.seen}/{expected}", Tone.WARN if fewer else Tone.PLAIN)
    use: Piece = (_NOT_KNOWN if view.use is None else f"{view.use:3.0f}%", Tone.STRONG)
    bare = [("GPU ", Tone.DIM), count, (" ", Tone.PLAIN), use]
    short = [*bare]
    if not view.whole:
        silent = view.hosts - view.live
        bare.append((say(f" ! {silent} silent", f" ! {silent} 无数据"), Tone.WARN))
        short.append((say(f" ! {silent} hosts silent", f" ! {silent} 台无数据"), Tone.WARN))
    long = [*short, (f" {spark}", Tone.ACCENT)]
    if view.worst is None:
        return _Part((tuple(bare), tuple(short), tuple(long)))
    sign, tone = ("✗", Tone.FAIL) if view.worst.severity is Severity.FAIL else ("!", Tone.WARN)
    host, text = one_line(view.worst.host), one_line(view.worst.text[lang])
    sick: Piece = (f" {sign} {host}", tone)
    sicker: Piece = (f" {sign} {shorten(f'{host} {text}', _WORST_CELLS)}", tone)
    return _Part(((*bare, sick), (*short, sick), (*short, sicker), (*long, sicker)))


def _ray(view: RayLine, say: Words, lang: Lang) -> _Part:
    if view.alive is None:
        return _silent("Ray", view.shown, say, lang)
    expected = _NOT_KNOWN if view.expected is None else view.expected
    fewer = view.expected is not None and (view.alive < view.expected or view.believed > 0)
    tone = Tone.WARN if fewer else Tone.PLAIN
    text = f"{'! ' if fewer else ''}{view.alive}/{expected}"
    believed = say(f" ({view.believed} only Ray believes in)", f"（{view.believed} 个仅 Ray 认为存活）")
    bare: list[Piece] = [("Ray ", Tone.DIM), (text, tone)]
    more: list[Piece] = [*bare, (say(" nodes", " 节点"), tone)]
    if view.believed:
        # The mark before the number stays where there is no room for the words.
        more.append((believed, Tone.WARN))
    return _Part(tuple(_aged(tuple(each), view.shown, say).shapes[-1] for each in (bare, more)))


def _serve(view: ServeLine, say: Words, lang: Lang) -> _Part:
    if view.status is None:
        # Why is said beside the nodes; both come from the same place.
        return _Part((line(("Serve ", Tone.DIM), (_NOT_KNOWN, Tone.UNKNOWN)),))
    tone = Tone.FAIL if view.bad else Tone.PLAIN
    count = "" if view.running is None else f"{view.running}/{_NOT_KNOWN if view.target is None else view.target}"
    text = f"{'✗ ' if view.bad else ''}{one_line(view.status[lang])} {count}".rstrip()
    # Where all is well the count says so by itself.
    bare = count if count and not view.bad and view.running == view.target else text
    shapes = (line(("Serve ", Tone.DIM), (each, tone)) for each in (bare, text))
    return _Part(tuple(_aged(each, view.shown, say).shapes[-1] for each in shapes))


def _vllm(view: VllmLine, say: Words, lang: Lang) -> _Part:
    if not view.shown.known:
        return _silent("vLLM", view.shown, say, lang)
    fewer = view.live < view.replicas
    count: Piece = (f"{'! ' if fewer else ''}{view.live}/{view.replicas}", Tone.WARN if fewer else Tone.PLAIN)
    short: list[Piece] = [
        ("vLLM ", Tone.DIM), count,
        (say(" run ", " 运行 "), Tone.DIM), _total(view.running),
        (say(" wait ", " 排队 "), Tone.DIM), _total(view.waiting),
    ]  # fmt: skip
    ttft = view.ttft_p95
    latency = _NOT_KNOWN
    if not isinstance(ttft, Absent):
        latency = f"{'≥ ' if ttft.value.at_least else ''}{ttft.value.value * 1000:,.0f} ms"
    long = [*short, (" KV ", Tone.DIM), _total(view.kv, percent=True)]
    longest = [*long, (" TTFT p95 ", Tone.DIM), (latency, Tone.UNKNOWN if isinstance(ttft, Absent) else Tone.PLAIN)]
    bare: list[Piece] = [("vLLM ", Tone.DIM), count]
    return _Part(tuple(_aged(tuple(each), view.shown, say).shapes[-1] for each in (bare, short, long, longest)))


def _total(total: Total, *, percent: bool = False) -> Piece:
    value = total.value
    if isinstance(value, Absent):
        return _NOT_KNOWN, Tone.UNKNOWN
    text = f"{value.value:.0%}" if percent else f"{value.value:,.0f}"
    # Some replicas did not say: what is shown is less than there is.
    return (text, Tone.PLAIN) if total.whole else (f"≥ {text}" if not percent else f"{text} !", Tone.WARN)


def _aged(pieces: Line, shown: Shown, say: Words) -> _Part:
    """What is old says how old it is, in every shape, and is grey."""
    if shown.status is Status.LIVE:
        return _Part((pieces,))
    age = f"{shown.age or 0:.0f}"
    grey = tuple((text, Tone.DIM) for text, _ in pieces)
    return _Part(((*grey, (say(f" ! {age} s old", f" ! {age} 秒前"), Tone.WARN)),))


def _silent(name: str, shown: Shown, say: Words, lang: Lang) -> _Part:
    """There is nothing to show, and why."""
    bare: Line = ((f"{name} ", Tone.DIM), ("?", Tone.UNKNOWN))
    head: Line = ((f"{name} ", Tone.DIM), (say("? unknown", "? 未知"), Tone.UNKNOWN))
    if shown.why is None:
        return _Part((bare, head))
    why = one_line(shown.why[lang])
    reasons = ((f" {shorten(why, cells)}", Tone.UNKNOWN) for cells in (_WHY_CELLS // 2, _WHY_CELLS))
    return _Part((bare, head, *((*head, reason) for reason in reasons)))
