"""The monitor's first line: whose cluster, whether it is held, recorded or replayed, and what went wrong with it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rich.cells import cell_len

from dstui.model import Lang
from dstui.telemetry.replay import Replay
from screens import monitor_words as words
from screens.lines import Line, Piece, spread, width_of
from screens.plain import one_line, shorten
from screens.times import clock_time, day, span
from screens.tones import Tone

BAR_CELLS, BAR_CELLS_NARROW = 24, 12
NARROW = 100
CLUSTER_CELLS, FAULT_CELLS = 24, 44

Part = tuple[int, Piece]
"""How soon it gives way where there is no room, the highest first, and what it is."""

ALWAYS, NAME = 1, 2
"""What never gives way, and the name, which is cut before it goes."""

LEAST_NAME_CELLS = 8


@dataclass(frozen=True, slots=True)
class Watching:
    """The cluster as it is watched now. `held_at` is the moment that stands still, `interval` seconds of a host.

    `recording` is the name of the file, `fault` why nothing is watched any more, `ladder` how far one is that runs.
    """

    cluster: str
    simulated: bool
    hosts: int
    now: float
    interval: float | None = None
    recording: str | None = None
    held_at: float | None = None
    fault: str = ""
    ladder: str = ""


def watching_line(watching: Watching, lang: Lang, width: int) -> Line:
    """One line of `width` cells. What is urgent stays at 80 columns: a fault, the hold, that it is recorded."""
    left = _beginning(watching.cluster, watching.simulated, watching.fault, lang)
    left.append((6, (f" {words.HOSTS[lang].format(count=watching.hosts)}", Tone.PLAIN)))
    if watching.interval is not None:
        left.append((5, (f" · {words.EVERY[lang].format(seconds=watching.interval)}", Tone.PLAIN)))
    if watching.recording is not None:
        left.append((ALWAYS, (f"  {words.RECORDING[lang]}", Tone.RUNNING)))
        left.append((4, (f" {one_line(watching.recording)}", Tone.RUNNING)))
    if watching.ladder:
        left.append((3, (f"  {watching.ladder}", Tone.RUNNING)))
    if watching.held_at is None:
        return _fitted(left, [(ALWAYS, (f" {clock_time(watching.now)} ", Tone.PLAIN))], width)
    age = _whole(watching.now - watching.held_at)
    told = words.PAUSED[lang].format(at=clock_time(watching.held_at), age=age)
    right: list[Part] = [(ALWAYS, (f" {told} ", Tone.BADGE)), (3, (f" {clock_time(watching.now)} ", Tone.PLAIN))]
    return _fitted(left, right, width)


def replay_line(cluster: str, simulated: bool, replay: Replay, lang: Lang, width: int, *, fault: str = "") -> Line:
    """Where in the recording it stands, how fast it goes, and whether it does."""
    at, began, ends = replay.position, replay.began_at, replay.ends_at
    share = (at - began) / (ends - began) if ends > began else 1.0
    cells = BAR_CELLS if width >= NARROW else BAR_CELLS_NARROW
    done = round(min(max(share, 0.0), 1.0) * cells)
    left = _beginning(cluster, simulated, fault, lang)
    right: list[Part] = [(ALWAYS, (f" {words.REPLAY[lang]} ", Tone.BADGE))]
    if replay.paused:
        right.append((ALWAYS, (f" {words.PAUSED_REPLAY[lang]} ", Tone.WARN)))
    elif replay.ended:
        right.append((ALWAYS, (f" {words.AT_END[lang]} ", Tone.WARN)))
    right += [
        (5, (f" {day(at)}", Tone.PLAIN)),
        (ALWAYS, (f" {clock_time(at)} ", Tone.STRONG)),
        (4, ("█" * done + "░" * (cells - done), Tone.ACCENT)),
        (4, (f" {clock_time(ends)} ", Tone.PLAIN)),
        (3, (f" {words.SPEED[lang].format(speed=replay.speed)} ", Tone.PLAIN)),
    ]
    return _fitted(left, right, width)


def _beginning(cluster: str, simulated: bool, fault: str, lang: Lang) -> list[Part]:
    left: list[Part] = [
        (7, (f" {words.MONITOR[lang]} ", Tone.ACCENT)),
        (NAME, (f" {shorten(one_line(cluster), CLUSTER_CELLS)} ", Tone.STRONG)),
    ]
    if simulated:
        left.append((ALWAYS, (" SIMULATED ", Tone.BADGE)))
    if fault:
        told = words.WATCHING_ENDED[lang].format(why=shorten(one_line(fault), FAULT_CELLS))
        left.append((ALWAYS, (f" ✗ {told} ", Tone.FAIL)))
    return left


def _whole(seconds: float) -> str:
    """A span that goes on counting, without the parts of a second."""
    return f"{max(0, int(seconds))} s" if seconds < 60 else span(float(int(seconds)))


def _fitted(left: Sequence[Part], right: Sequence[Part], width: int) -> Line:
    """All of it, or what is left after the least urgent gave way, one after another; a long name is cut last."""
    kept_left, kept_right = list(left), list(right)
    while (over := _width(kept_left) + _width(kept_right) - width) > 0:
        side = max(kept_left, kept_right, key=lambda parts: max((rank for rank, _ in parts), default=ALWAYS))
        rank = max((rank for rank, _ in side), default=ALWAYS)
        if rank <= ALWAYS:
            break
        place = [each for each, _ in side].index(rank)
        text, tone = side[place][1]
        if rank == NAME and cell_len(text) - over >= LEAST_NAME_CELLS:
            side[place] = ALWAYS, (f" {shorten(text.strip(), cell_len(text) - over - 2)} ", tone)
        else:
            del side[place]
    return spread(tuple(piece for _, piece in kept_left), tuple(piece for _, piece in kept_right), width)


def _width(parts: Sequence[Part]) -> int:
    return width_of(tuple(piece for _, piece in parts))
