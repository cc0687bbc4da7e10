"""The two lines above the ladder: against what it runs, and how far it is. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from dstui.load.ladder import Ladder
from dstui.load.live import LiveLadder, Phase
from dstui.load.result import LadderResult
from dstui.model import Lang
from screens import ladder_words as words
from screens import words as house
from screens.ladder_rows import LadderView, left
from screens.lines import Line, Piece, spread, width_of
from screens.plain import one_line, shorten
from screens.times import clock_left, clock_time, span, zone
from screens.times import moment as at_moment
from screens.tones import Tone

BAR_CELLS, BAR_CELLS_NARROW = 24, 10
NARROW = 100

Part = tuple[int, Piece]
"""How soon it gives way where there is no room, the highest first (0: never), and what it is."""


@dataclass(frozen=True, slots=True)
class Standing:
    """What the header speaks of: one ladder, live, recorded or only planned. `cannot` is why none can be planned."""

    cluster: str
    simulated: bool
    view: LadderView | None
    live: LiveLadder | None = None
    recorded: LadderResult | None = None
    stopping: str = ""
    spinner: str = ""
    cannot: str = ""
    fault: str = ""


def header_lines(standing: Standing, now: float, lang: Lang, width: int) -> list[Line]:
    return [_where(standing, now, lang, width), _how_far(standing, now, lang, width)]


def _where(standing: Standing, now: float, lang: Lang, width: int) -> Line:
    parts: list[Part] = [
        (0, (f" {words.LADDER[lang]} ", Tone.ACCENT)),
        (3, (f" {shorten(one_line(standing.cluster), 24)} ", Tone.STRONG)),
    ]
    if standing.simulated:
        parts.append((0, (f" {house.SIMULATED[Lang.EN]} ", Tone.BADGE)))
        parts.append((0, (" ", Tone.PLAIN)))
    ends: list[Part] = [(4, (f" {clock_time(now)} {zone(now)} ", Tone.PLAIN))]
    if standing.view is None:
        return _fitted(parts, ends, width)
    ladder = standing.view.ladder
    parts += [
        (0, (f" {one_line(ladder.url)}", Tone.PLAIN)),
        (1, (f" · {one_line(ladder.model)}", Tone.PLAIN)),
        (2, (f" · {engine_words(ladder, lang)}", Tone.DIM)),
    ]
    return _fitted(parts, ends, width)


def engine_words(ladder: Ladder, lang: Lang) -> str:
    """Where the load comes from."""
    kind, _, host = ladder.engine.partition(":")
    if kind == "ray":
        return words.ON_RAY[lang].format(host=one_line(host))
    return words.LOCAL[lang] if kind == "local" else one_line(ladder.engine)


def _how_far(standing: Standing, now: float, lang: Lang, width: int) -> Line:
    if standing.live is not None:
        return _running(standing, standing.live, now, lang, width)
    if standing.recorded is not None and standing.view is not None:
        return _recorded(standing, standing.recorded, standing.view, now, lang, width)
    parts: list[Part] = [(0, (f" {words.NEVER_RUN[lang]}", Tone.PLAIN))]
    if standing.view is not None:
        parts.append((0, (f" · {words.PRESS_R[lang]}", Tone.ACCENT)))
    if standing.fault:
        failed = words.FAILED[lang].format(why=shorten(one_line(standing.fault), width - 30))
        parts = [(0, (f" ✗ {failed}", Tone.FAIL))]
    return _fitted(parts, [], width)


def _running(standing: Standing, live: LiveLadder, now: float, lang: Lang, width: int) -> Line:
    stage = live.now_on
    if standing.stopping:
        told = words.STOPPING[lang].format(why=one_line(standing.stopping))
        parts: list[Part] = [(0, (f" {standing.spinner} ", Tone.RUNNING)), (0, (f"! {told}", Tone.WARN))]
        if stage is not None:
            under_way = words.IN_FLIGHT[lang].format(count=f"{stage.in_flight:,}")
            parts.insert(1, (0, (f"{under_way} · ", Tone.STRONG)))
        return _fitted(parts, [], width)
    if stage is None:
        return _fitted([(0, (f" {standing.spinner} {words.STARTING[lang]}", Tone.RUNNING))], [], width)
    phase = words.PHASES[stage.phase][lang]
    parts = [
        (0, (f" {standing.spinner} ", Tone.RUNNING)),
        (0, (f"{stage.stage.name} {phase}", Tone.STRONG)),
    ]
    if stage.until > stage.since > 0:
        parts.append((2, (" ", Tone.PLAIN)))
        parts.append((2, (_bar(stage.since, stage.until, now, width), Tone.ACCENT)))
        parts.append((0, (f" {words.LEFT[lang].format(left=clock_left(stage.until - now))}", Tone.PLAIN)))
    if stage.phase is not Phase.PAUSE:
        parts.append((4, (f" · {words.IN_FLIGHT[lang].format(count=f'{stage.in_flight:,}')}", Tone.PLAIN)))
    number = live.stages.index(stage) + 1
    parts.append((3, (f" · {words.STAGE_OF[lang].format(number=number, count=len(live.stages))}", Tone.PLAIN)))
    rest = left(live, now)
    ends: list[Part] = []
    if rest is not None:
        ends.append((1, (f" {words.ENDS_ABOUT[lang].format(at=clock_time(now + rest)[:5])} ", Tone.PLAIN)))
    return _fitted(parts, ends, width)


def _bar(since: float, until: float, now: float, width: int) -> str:
    cells = BAR_CELLS if width >= NARROW else BAR_CELLS_NARROW
    done = round(min(max((now - since) / (until - since), 0.0), 1.0) * cells)
    return "█" * done + "░" * (cells - done)


def _recorded(standing: Standing, recorded: LadderResult, view: LadderView, now: float, lang: Lang, width: int) -> Line:
    seconds = int(max(0.0, now - recorded.at))
    age = span(float(seconds)) if seconds >= 10 else f"{seconds} s"
    parts: list[Part] = [
        (0, (f" {words.ENDED_AT[lang].format(at=at_moment(recorded.at, now, lang), age=age)}", Tone.PLAIN))
    ]
    if recorded.stopped:
        why = words.STOPPED_BECAUSE[lang].format(why=one_line(recorded.stopped))
        parts.append((0, (f" · ! {why}", Tone.WARN)))
    parts.append((1, (f" · {knee_words(view, lang)}", Tone.PLAIN)))
    ends: list[Part] = [(2, (f" {words.RUN_AGAIN[lang]} ", Tone.ACCENT))]
    if standing.fault:
        failed = words.FAILED[lang].format(why=shorten(one_line(standing.fault), width // 2))
        parts.insert(0, (0, (f" ✗ {failed}", Tone.FAIL)))
    elif standing.cannot:
        why = words.CANNOT[lang].format(why=shorten(one_line(standing.cannot), width // 2))
        ends = [(2, (f" ? {why} ", Tone.UNKNOWN))]
    return _fitted(parts, ends, width)


def knee_words(view: LadderView, lang: Lang) -> str:
    """`knee at level-100, 1,650 tokens/s`."""
    row = view.knee_row
    if row is None or row.tokens_per_second is None:
        return words.NO_KNEE[lang]
    return words.KNEE_AT[lang].format(stage=row.name, rate=f"{row.tokens_per_second:,.0f}")


def _fitted(begins: Sequence[Part], ends: Sequence[Part], width: int) -> Line:
    """All of it, or what is left after the least urgent gave way, one after another."""
    kept = [*((part, True) for part in begins), *((part, False) for part in ends)]
    while sum(width_of((piece,)) for (_, piece), _ in kept) > width:
        rank = max((rank for (rank, _), _ in kept), default=0)
        if rank <= 0:
            break
        kept = [each for each in kept if each[0][0] != rank]
    at_left = tuple(piece for (_, piece), first in kept if first)
    return spread(at_left, tuple(piece for (_, piece), first in kept if not first), width)
