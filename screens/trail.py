"""From a replica to the hardware under it, each step with what stands against it and how old it is."""

from __future__ import annotations

from typing import ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import BindingType
from textual.content import Content

from dstui.model import Finding, host_target
from dstui.telemetry import live_views
from dstui.telemetry.live_trail import XID_CHECK, Trail
from screens import panel_words as words
from screens.base import BREAKPOINTS, HouseScreen
from screens.keybar import KeyBar
from screens.keys import bindings
from screens.lines import Bar, Line, cropped, spread
from screens.livelist import LiveList
from screens.picklist import PickList
from screens.plain import fit, one_line
from screens.times import clock_time
from screens.tones import Tone
from screens.trail_steps import Step, step_target, trail_steps, worst_step

LABEL_CELLS = 13


class TrailScreen(HouseScreen):
    """Opened with enter on a replica, or `t`. Enter on a host, a GPU or an XID opens that host with its history."""

    CSS_PATH = "trail.tcss"
    HORIZONTAL_BREAKPOINTS = BREAKPOINTS
    AUTO_FOCUS = "#steps"
    FOOTER = ("open", "back", "language", "help")

    BINDINGS: ClassVar[list[BindingType]] = bindings("open", "back")

    def __init__(self, replica: str) -> None:
        super().__init__()
        self.replica = replica
        self._steps: dict[str, Step] = {}

    def compose(self) -> ComposeResult:
        yield Bar(id="top")
        yield LiveList(id="steps", classes="pane")
        yield KeyBar()

    @property
    def steps(self) -> LiveList:
        return self.query_one("#steps", LiveList)

    def repaint(self) -> None:
        self.repaint_live()

    def repaint_live(self) -> None:
        feed = self.house.feed
        if feed is None:
            return
        live, now, lang = feed.live, feed.now(), self.lang
        trail = live_views.trail(live, self.replica, now)
        self._steps = {step.key: step for step in trail_steps(live, trail, now, lang, self._checked(trail))}
        title = words.TRAIL[lang].format(replica=one_line(self.replica))
        self.query_one("#top", Bar).show(
            lambda width: [spread(((f" {title} ", Tone.ACCENT),), ((f"{clock_time(now)} ", Tone.PLAIN),), width)]
        )
        self.steps.border_title = Content(one_line(trail.how[lang]))
        self.steps.show_rows(list(self._steps), self._row, lost=worst_step(trail))

    def _checked(self, trail: Trail) -> list[tuple[Finding, bool]]:
        """What the check found on the hosts, and whether it is stale; nothing in a replay, which has none."""
        # The app of a replay has neither engine nor moment.
        if getattr(self.app, "engine", None) is None:
            return []
        status = self.moment.checklist.statuses.get(XID_CHECK)
        targets = [host_target(name) for name in trail.hosts]
        if status is None:
            return []
        return [(finding, status.stale) for finding in status.findings if finding.target in targets]

    def _row(self, key: str, width: int, at_cursor: bool) -> Line:
        step = self._steps.get(key)
        if step is None:
            return ()
        head: Line = (("› " if at_cursor else "  ", Tone.ACCENT), (fit(step.label, LABEL_CELLS), Tone.HEADING))
        return cropped((*head, *step.line), width)

    @on(PickList.Picked, "#steps")
    def _picked(self, event: PickList.Picked) -> None:
        if (host := step_target(event.key)) is not None:
            self.house.open_monitor_host(host)

    def action_open(self) -> None:
        self.steps.action_pick()

    def action_back(self) -> None:
        self.app.pop_screen()
