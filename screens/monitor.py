"""The monitor: GPUs, Ray, vLLM and what changed, live or from a recording."""

from __future__ import annotations

import time
from pathlib import Path
from typing import ClassVar, Protocol

from textual import on
from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import Vertical
from textual.content import Content

from dstui.model import Lang, UsageError
from dstui.telemetry.feed import INTERVALS, LiveFeed
from dstui.telemetry.live import Live
from dstui.telemetry.live_grid import GridSort
from dstui.telemetry.replay import FASTEST, SLOWEST, Replay
from screens import monitor_words as words
from screens.base import BREAKPOINTS, HouseScreen
from screens.keybar import KeyBar
from screens.keys import bindings
from screens.lines import Bar, Line, Piece, spread
from screens.livelist import LiveList
from screens.livestrip import live_line
from screens.monitor_events import EventPanel
from screens.monitor_grid import GridPanel
from screens.monitor_ray import RayPanel
from screens.monitor_vllm import VllmPanelRows
from screens.picklist import PickList
from screens.plain import one_line
from screens.search import SearchLine
from screens.times import clock_time, span
from screens.tones import Tone

SPEEDS = (0.1, 0.25, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, FASTEST)
PANELS = ("gpus", "ray", "vllm", "events")
ALL_PANELS_FROM = (100, 30)
"""Columns and rows from which on all panels are shown at once."""

BAR_CELLS = 24


class Panel(Protocol):
    """What a pane shows: it looks once, then gives keys and makes rows."""

    keys: list[str]
    first: str
    """Where the cursor begins; empty for the first row."""

    def look(self, live: Live, now: float, lang: Lang, *, height: int | None = None) -> None: ...
    def title(self) -> str: ...
    def row(self, key: str, width: int, at_cursor: bool) -> Line: ...
    def replica(self, key: str) -> str | None: ...
    def host(self, key: str) -> str | None: ...


class MonitorScreen(HouseScreen):
    """Opened with `m`, or all there is when a recording is replayed."""

    CSS_PATH = "monitor.tcss"
    HORIZONTAL_BREAKPOINTS = BREAKPOINTS
    AUTO_FOCUS = "#gpus"
    FOOTER = (
        "open", "other-pane", "pause", "sort-grid", "filter", "search", "trail", "fold-alike", "quicker", "slower",
        "record", "perish", "back", "language", "help",
    )  # fmt: skip
    REPLAY_FOOTER = (
        "open", "other-pane", "pause", "seek-back", "seek-on", "seek-back-far", "seek-on-far", "quicker", "slower",
        "sort-grid", "filter", "trail", "back", "language", "help",
    )  # fmt: skip

    BINDINGS: ClassVar[list[BindingType]] = bindings(
        "open", "other-pane", "pause", "quicker", "slower", "sort-grid", "filter", "search", "fold-alike", "trail",
        "record", "perish", "panel-1", "panel-2", "panel-3", "panel-4", "seek-back", "seek-on", "seek-back-far",
        "seek-on-far", "back",
    )  # fmt: skip

    def __init__(self) -> None:
        super().__init__()
        self.grid = GridPanel()
        self.panels: dict[str, Panel] = {
            "gpus": self.grid,
            "ray": RayPanel(),
            "vllm": VllmPanelRows(),
            "events": EventPanel(),
        }
        self.zoomed: str | None = None
        self.held_at: float | None = None
        """The moment that is held on screen while a live feed goes on behind it."""
        self._fault_told: UsageError | None = None

    def compose(self) -> ComposeResult:
        yield Bar(id="top")
        with Vertical(id="panels"):
            for name in PANELS:
                yield LiveList(id=name, classes="pane")
        yield Bar(id="live")
        yield SearchLine()
        yield KeyBar()

    # What is looked at

    @property
    def replay(self) -> Replay | None:
        feed = self.house.feed
        return feed.replay if feed is not None else None

    @property
    def recorded(self) -> LiveFeed | None:
        """The feed of the cluster itself; None in a replay."""
        feed = self.house.feed
        return feed if isinstance(feed, LiveFeed) else None

    @property
    def shown(self) -> tuple[str, ...]:
        """The panels on the screen."""
        if self.zoomed is not None:
            return (self.zoomed,)
        columns, rows = ALL_PANELS_FROM
        if self.app.size.width >= columns and self.app.size.height >= rows:
            return PANELS
        focused = self.focused.id if self.focused is not None and self.focused.id in PANELS else None
        return (focused or self._single,)

    _single = "gpus"

    def pane(self, name: str) -> LiveList:
        return self.query_one(f"#{name}", LiveList)

    # Painting

    def relabel(self) -> None:
        for bar in self.query(KeyBar):
            bar.show_keys(self.REPLAY_FOOTER if self.replay is not None else self.FOOTER, self.lang)
        self.look()

    def repaint(self) -> None:
        """What the journal holds is not shown here."""

    def repaint_live(self) -> None:
        self._show_header()
        if self.held_at is None:
            self.look()

    def look(self) -> None:
        """Takes a new look and shows it, at the moment that is held while there is one."""
        feed = self.house.feed
        if feed is None or not self.is_mounted:
            return
        self._arrange()
        now = feed.now() if self.held_at is None else self.held_at
        for name in self.shown:
            panel, pane = self.panels[name], self.pane(name)
            zoomed = len(self.shown) == 1
            self.grid.room = max(self.pane("gpus").size.height, 1)
            panel.look(feed.live, now, self.lang, height=None if zoomed else max(pane.size.height, 1))
            pane.border_title = Content(panel.title())
            pane.show_rows(panel.keys, panel.row, lost=panel.first)
        if self.grid.view is not None and not self.grid.keys:
            self.pane("gpus").border_title = Content(f"{self.grid.title()} · {self.grid.empty()}")
        self.query_one("#live", Bar).show(lambda width: [live_line(feed.live, now, self.lang, width)])
        self._show_header()

    def _arrange(self) -> None:
        shown = self.shown
        self.set_class(len(shown) == 1, "-one")
        for name in PANELS:
            self.set_class(shown == (name,), f"-show-{name}")

    def _show_header(self) -> None:
        recorded = self.recorded
        if recorded is not None and (fault := recorded.recording_fault) is not self._fault_told:
            self._fault_told = fault
            if fault is not None:
                self.house.tell(words.RECORD_ENDED[self.lang].format(why=fault), severity="error")
        self.query_one("#top", Bar).show(lambda width: [self._header(width)])

    def _header(self, width: int) -> Line:
        feed, lang = self.house.feed, self.lang
        if feed is None:
            return ()
        watched = feed.live.watched
        left: list[Piece] = [(f" {words.MONITOR[lang]} ", Tone.ACCENT), (f" {one_line(watched.cluster)} ", Tone.STRONG)]
        if watched.simulated:
            left.append((" SIMULATED ", Tone.BADGE))
        if feed.replay is not None:
            return spread(tuple(left), self._replay_state(feed.replay), width)
        left.append((f" {words.HOSTS[lang].format(count=len(feed.live.hosts))}", Tone.PLAIN))
        recorded = self.recorded
        if recorded is not None:
            left.append((f" · {words.EVERY[lang].format(seconds=recorded.interval)}", Tone.PLAIN))
            if recorded.recorder is not None and recorded.recorded_into is not None:
                left.append((f"  {words.RECORDING[lang].format(file=recorded.recorded_into.name)}", Tone.RUNNING))
        if len(self.shown) == 1:
            left.append((f"  {self._tabs()}", Tone.DIM))
        right: list[Piece] = []
        if self.held_at is not None:
            age = span(max(0.0, feed.now() - self.held_at))
            told = words.PAUSED[lang].format(at=clock_time(self.held_at), age=age)
            right.append((f" {told} ", Tone.BADGE))
        right.append((f" {clock_time(feed.now())} ", Tone.PLAIN))
        return spread(tuple(left), tuple(right), width)

    def _tabs(self) -> str:
        """The panels by their keys, the shown one in brackets."""
        names = ("GPU", "Ray", "vLLM", "events" if self.lang is Lang.EN else "事件")
        shown = self.shown[0]
        told = (f"[{n} {name}]" if PANELS[n - 1] == shown else f"{n} {name}" for n, name in enumerate(names, 1))
        return " ".join(told)

    def _replay_state(self, replay: Replay) -> Line:
        at, began, ends = replay.position, replay.began_at, replay.ends_at
        share = (at - began) / (ends - began) if ends > began else 1.0
        done = round(min(max(share, 0.0), 1.0) * BAR_CELLS)
        bar = "█" * done + "░" * (BAR_CELLS - done)
        speed = words.SPEED[self.lang].format(speed=replay.speed)
        pieces: list[Piece] = [(f" {words.REPLAY[self.lang]} ", Tone.BADGE)]
        if replay.paused:
            pieces.append((f" {words.PAUSED_REPLAY[self.lang]} ", Tone.WARN))
        pieces += [
            (f" {clock_time(at)} ", Tone.STRONG), (bar, Tone.ACCENT), (f" {clock_time(ends)}  {speed} ", Tone.PLAIN),
        ]  # fmt: skip
        return tuple(pieces)

    # Moving

    def on_resize(self) -> None:
        self.call_after_refresh(self.look)

    def action_other_pane(self) -> None:
        """The next panel; where only one has room, it takes its place."""
        shown = self.shown
        here = self.focused.id if self.focused is not None and self.focused.id in PANELS else shown[0]
        following = PANELS[(PANELS.index(str(here)) + 1) % len(PANELS)]
        if len(shown) == 1:
            self._show_only(following, zoom=self.zoomed is not None)
        else:
            self.pane(following).focus()

    def action_go_panel(self, number: int) -> None:
        """One panel alone; the same again, or one that was alone anyway: all of them."""
        name = PANELS[number]
        self._show_only(name, zoom=self.zoomed != name)

    def _show_only(self, name: str, *, zoom: bool) -> None:
        self.zoomed = name if zoom else None
        self._single = name
        # Before it has the focus it must be there to take it.
        self.set_class(True, f"-show-{name}")
        self.pane(name).focus()
        self._single = name
        self.call_after_refresh(self.look)
        self.look()

    @on(PickList.Picked)
    def _picked(self, event: PickList.Picked) -> None:
        panel = self.panels[event.picklist.id or "gpus"]
        if (replica := panel.replica(event.key)) is not None:
            self.house.open_trail(replica)
        elif (host := panel.host(event.key)) is not None:
            self.house.open_monitor_host(host)
        elif panel is self.grid and len(self.grid.hosts(event.key)) > 1:
            self.action_fold_alike()

    def action_open(self) -> None:
        if isinstance(self.focused, LiveList):
            self.focused.action_pick()

    def action_trail(self) -> None:
        """The trail of the replica under the cursor of the vLLM panel, or of the worst one."""
        panel = self.panels["vllm"]
        if "vllm" not in self.shown and (feed := self.house.feed) is not None:
            panel.look(feed.live, feed.now(), self.lang)
        pane = self.pane("vllm")
        chosen = panel.replica(pane.cursor) if pane.cursor else None
        chosen = chosen or next((name for name in map(panel.replica, panel.keys) if name is not None), None)
        if chosen is None:
            self.house.tell(words.NO_TRAIL[self.lang], severity="warning")
        else:
            self.house.open_trail(chosen)

    def action_back(self) -> None:
        if self.grid.query:
            self.query_one(SearchLine).value = ""
            self.grid.query = ""
            self.look()
        elif self.zoomed is not None:
            self._show_only(self.zoomed, zoom=False)
        else:
            self.app.pop_screen()

    # What is shown of it

    def action_sort_grid(self) -> None:
        order = list(GridSort)
        self.grid.sort = order[(order.index(self.grid.sort) + 1) % len(order)]
        self.look()

    def action_filter(self) -> None:
        self.grid.only_marked = not self.grid.only_marked
        self.look()

    def action_fold_alike(self) -> None:
        self.grid.fold = not self.grid.folded
        self.look()

    def action_search(self) -> None:
        self.query_one(SearchLine).open(words.SEARCH[self.lang])

    @on(SearchLine.Sought)
    def _sought(self, event: SearchLine.Sought) -> None:
        self.grid.query = event.query.strip()
        self.look()

    @on(SearchLine.Done)
    def _search_done(self) -> None:
        self.pane("gpus").focus()

    # Time

    def action_pause(self) -> None:
        """Holds what is shown; a replay stands still. Again: goes on."""
        feed = self.house.feed
        if feed is None:
            return
        if feed.replay is not None:
            (feed.replay.resume if feed.replay.paused else feed.replay.pause)()
        else:
            self.held_at = feed.now() if self.held_at is None else None
        self.look()

    def action_quicker(self) -> None:
        self._change_pace(1)

    def action_slower(self) -> None:
        self._change_pace(-1)

    def _change_pace(self, step: int) -> None:
        """Samples more or less often; a replay runs faster or slower."""
        if (replay := self.replay) is not None:
            replay.set_speed(min(max(_next(SPEEDS, replay.speed, step), SLOWEST), FASTEST))
        elif (recorded := self.recorded) is not None:
            recorded.set_interval(_next(INTERVALS, recorded.interval, -step))
        self._show_header()

    def action_seek(self, seconds: int) -> None:
        if (replay := self.replay) is not None:
            replay.seek(replay.position + seconds)
            self.look()

    def action_record(self) -> None:
        """Records from now on into a file of its own; again: ends that."""
        recorded, lang = self.recorded, self.lang
        if recorded is None:
            self.house.tell(words.NO_RECORDING[lang], severity="warning")
            return
        if recorded.recorder is not None:
            recorded.stop_recording()
            self.house.tell(words.RECORDED[lang].format(file=recorded.recorded_into))
        else:
            at = time.strftime("%Y%m%d-%H%M%S", time.localtime(recorded.now()))
            try:
                recorded.record(Path(f"dstui-{recorded.live.watched.cluster}-{at}.jsonl"))
            except UsageError as error:
                self.house.tell(str(error), severity="error")
        self._show_header()

    def action_perish(self) -> None:
        """The demo's own: a node dies, or comes back."""
        recorded = self.recorded
        if recorded is None or recorded.perish is None:
            self.house.tell(words.NOT_IN_DEMO[self.lang], severity="warning")
        else:
            self.house.tell(recorded.perish()[self.lang])


def _next(steps: tuple[float, ...], now: float, step: int) -> float:
    """The next of `steps` above or below."""
    if step > 0:
        return next((each for each in steps if each > now), steps[-1])
    return next((each for each in reversed(steps) if each < now), steps[0])
