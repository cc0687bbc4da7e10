"""The monitor: GPUs, Ray, vLLM and what changed, live or from a recording."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Protocol

from textual import on
from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import Vertical
from textual.content import Content

from dstui.model import Lang, UsageError
from dstui.telemetry.feed import INTERVALS, Feed, LiveFeed
from dstui.telemetry.live import Live
from dstui.telemetry.live_grid import GridSort
from dstui.telemetry.replay import FASTEST, SLOWEST, Replay
from screens import monitor_words as words
from screens.base import BREAKPOINTS, HouseScreen
from screens.keybar import KeyBar
from screens.keys import bindings
from screens.lines import Bar, Line
from screens.livelist import LiveList
from screens.livestrip import live_line
from screens.masthead import ladder_told
from screens.monitor_events import EventPanel
from screens.monitor_grid import GridPanel
from screens.monitor_header import Watching, replay_line, watching_line
from screens.monitor_ray import RayPanel
from screens.monitor_vllm import VllmPanelRows
from screens.picklist import PickList
from screens.search import SearchLine
from screens.still import still

SPEEDS = (0.1, 0.25, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, FASTEST)
PANELS = ("gpus", "ray", "vllm", "events")
ALL_PANELS_FROM = (100, 30)
"""Columns and rows from which on all panels are shown at once."""


@dataclass(frozen=True, slots=True)
class Held:
    """What was known at a moment, in seconds since the epoch."""

    at: float
    live: Live


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
        "open", "other-pane", "pause", "sort-grid", "filter", "search", "trail", "ladder", "fold-alike", "quicker",
        "slower", "record", "perish", "back", "language", "help",
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
        self.held: Held | None = None
        """What is held on screen while a live feed goes on behind it."""
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
        if self.held is None:
            self.look()

    def look(self) -> None:
        """Takes a new look and shows it, at the moment that is held while there is one."""
        feed = self.house.feed
        if feed is None or not self.is_mounted:
            return
        self._arrange()
        live, now = self._looked_at(feed)
        alone = len(self.shown) == 1
        for name in self.shown:
            panel, pane = self.panels[name], self.pane(name)
            self.grid.room = max(self.pane("gpus").size.height, 1)
            panel.look(live, now, self.lang, height=None if alone else max(pane.size.height, 1))
            pane.border_title = Content(panel.title())
            pane.border_subtitle = Content(self._tabs() if alone else "")
            at_top = pane.cursor_index <= 0
            pane.show_rows(panel.keys, panel.row, lost=panel.first)
            if name == "events" and at_top and panel.keys:
                # Whoever looks at the newest goes on doing so; whoever went down to an older one stays there.
                pane.move_to(panel.keys[0])
        if self.grid.view is not None and not self.grid.keys:
            self.pane("gpus").border_title = Content(f"{self.grid.title()} · {self.grid.empty()}")
        self.query_one("#live", Bar).show(lambda width: [live_line(live, now, self.lang, width)])
        self._show_header()

    def _looked_at(self, feed: Feed) -> tuple[Live, float]:
        """What is shown, and the moment to show it with; what is held gets no newer, whatever key is pressed."""
        return (feed.live, feed.now()) if self.held is None else (self.held.live, self.held.at)

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
        feed, lang, fault = self.house.feed, self.lang, self.house.feed_fault
        if feed is None:
            return ()
        watched = feed.live.watched
        if feed.replay is not None:
            return replay_line(watched.cluster, watched.simulated, feed.replay, lang, width, fault=fault)
        recorded = self.recorded
        file = recorded.recorded_into if recorded is not None and recorded.recorder is not None else None
        watching = Watching(
            cluster=watched.cluster,
            simulated=watched.simulated,
            hosts=len(feed.live.hosts),
            now=feed.now(),
            interval=recorded.interval if recorded is not None else None,
            recording=file.name if file is not None else None,
            held_at=self.held.at if self.held is not None else None,
            fault=fault,
            ladder=self._ladder(),
        )
        return watching_line(watching, lang, width)

    def _ladder(self) -> str:
        """The load ladder that runs, and the key to it; the app of a replay has none."""
        brief = self.moment.ladder if getattr(self.app, "engine", None) is not None else None
        return "" if brief is None else f"{ladder_told(brief, self.moment.now, self.lang)} (L)"

    def _tabs(self) -> str:
        """The panels by their keys, the shown one in brackets."""
        names = words.TABS[self.lang].split("|")
        shown = self.shown[0]
        told = (f"[{n} {name}]" if PANELS[n - 1] == shown else f"{n} {name}" for n, name in enumerate(names, 1))
        return " ".join(told)

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
            panel.look(*self._looked_at(feed), self.lang)
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

    def _show_grid(self) -> None:
        """What these keys change must be seen."""
        if "gpus" not in self.shown:
            self._show_only("gpus", zoom=self.zoomed is not None)

    def action_sort_grid(self) -> None:
        self._show_grid()
        order = list(GridSort)
        self.grid.sort = order[(order.index(self.grid.sort) + 1) % len(order)]
        self.look()

    def action_filter(self) -> None:
        self._show_grid()
        self.grid.only_marked = not self.grid.only_marked
        self.look()

    def action_fold_alike(self) -> None:
        self._show_grid()
        self.grid.fold = not self.grid.folded
        self.look()

    def action_search(self) -> None:
        self._show_grid()
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
            at = feed.now()
            self.held = Held(at, still(feed.live, at)) if self.held is None else None
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
