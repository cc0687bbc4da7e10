"""From a replica to the hardware under it: application, Ray node, host, processes, GPUs, XIDs, and what is wrong."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import BindingType
from textual.content import Content

from dstui.model import Lang
from dstui.telemetry import live_views, live_xids
from dstui.telemetry.live import Live
from dstui.telemetry.live_ray import RayView
from dstui.telemetry.live_status import Status, shown
from dstui.telemetry.live_trail import Trail
from screens import panel_words as words
from screens.base import BREAKPOINTS, HouseScreen
from screens.keybar import KeyBar
from screens.keys import bindings
from screens.lines import Bar, Line, Piece, cropped, spread
from screens.livelist import LiveList
from screens.monitor_grid import SEVERITY_SIGNS
from screens.monitor_ray import how_old
from screens.picklist import PickList
from screens.plain import fit, one_line
from screens.times import clock_time
from screens.tones import Tone

LABEL_CELLS = 13
MOST_PIDS = 12

Step = tuple[str, str, Line]
"""Key, label, line."""


class TrailScreen(HouseScreen):
    """Opened with enter on a replica, or `t`. Enter on a host or a GPU opens that host with its history."""

    CSS_PATH = "trail.tcss"
    HORIZONTAL_BREAKPOINTS = BREAKPOINTS
    AUTO_FOCUS = "#steps"
    FOOTER = ("open", "back", "language", "help")

    BINDINGS: ClassVar[list[BindingType]] = bindings("open", "back")

    def __init__(self, replica: str) -> None:
        super().__init__()
        self.replica = replica
        self._steps: dict[str, tuple[str, Line]] = {}

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
        self._steps = {key: (label, line) for key, label, line in trail_steps(live, trail, now, lang)}
        title = words.TRAIL[lang].format(replica=one_line(self.replica))
        self.query_one("#top", Bar).show(
            lambda width: [spread(((f" {title} ", Tone.ACCENT),), ((f"{clock_time(now)} ", Tone.PLAIN),), width)]
        )
        self.steps.border_title = Content(one_line(trail.how[lang]))
        self.steps.show_rows(list(self._steps), self._row)

    def _row(self, key: str, width: int, at_cursor: bool) -> Line:
        found = self._steps.get(key)
        if found is None:
            return ()
        label, line = found
        head: Line = (("› " if at_cursor else "  ", Tone.ACCENT), (fit(label, LABEL_CELLS), Tone.HEADING))
        return cropped((*head, *line), width)

    @on(PickList.Picked, "#steps")
    def _picked(self, event: PickList.Picked) -> None:
        kind, _, rest = event.key.partition(" ")
        if kind in ("host", "gpu", "xid"):
            self.house.open_monitor_host(rest.split(" ")[0])

    def action_open(self) -> None:
        self.steps.action_pick()

    def action_back(self) -> None:
        self.app.pop_screen()


def trail_steps(live: Live, trail: Trail, now: float, lang: Lang) -> Iterator[Step]:
    """What stands against it first, then one step after the other."""
    for number, reason in enumerate(trail.reasons):
        label = "" if number else words.STEP_AGAINST[lang]
        yield f"reason {number}", label, ((f"! {one_line(reason[lang])}", Tone.WARN),)
    if not trail.reasons:
        yield "reason", words.STEP_AGAINST[lang], ((words.NOTHING_AGAINST[lang], Tone.DIM),)
    yield "replica", words.STEP_REPLICA[lang], ((one_line(trail.replica), Tone.STRONG),)
    yield "node", words.STEP_NODE[lang], _node(live_views.ray_view(live, now), trail, lang)
    if not trail.hosts:
        yield "no-host", words.STEP_HOST[lang], ((words.NOT_KNOWN[lang], Tone.UNKNOWN),)
    for number, name in enumerate(trail.hosts):
        yield f"host {name}", "" if number else words.STEP_HOST[lang], _host(live, name, now, lang)
    pids = ", ".join(str(pid) for pid in trail.pids[:MOST_PIDS])
    told: Piece = (pids, Tone.PLAIN) if pids else (words.NOT_KNOWN[lang], Tone.UNKNOWN)
    yield "processes", words.STEP_PROCESS[lang], (told,)
    yield from _gpus(live, trail, lang)
    yield from _xids(live, trail, now, lang)


def _node(ray: RayView, trail: Trail, lang: Lang) -> Line:
    node = next((node for node in ray.nodes.value or () if node.node_id == trail.node_id), None)
    if node is None:
        return ((words.NOT_KNOWN[lang], Tone.UNKNOWN),)
    tone = Tone.PLAIN if node.alive else Tone.FAIL
    pieces: list[Piece] = [
        (f"{'' if node.alive else '✗ '}{one_line(node.state or '?')} ", tone),
        (f"{one_line(node.ip or '?')}  {one_line(node.node_id[:16])}", Tone.PLAIN),
    ]
    if node.message:
        pieces.append((f"  {one_line(node.message)}", tone))
    if ray.nodes.shown.status is not Status.LIVE:
        pieces.append((f"  {how_old(ray.nodes.shown, lang)}", Tone.WARN))
    return tuple(pieces)


def _host(live: Live, name: str, now: float, lang: Lang) -> Line:
    fold = live.hosts.get(name)
    if fold is None:
        return ((one_line(name), Tone.STRONG), (f"  {words.NOT_KNOWN[lang]}", Tone.UNKNOWN))
    how = shown(fold.pulse, now)
    pieces: list[Piece] = [(one_line(name), Tone.STRONG)]
    if how.status is not Status.LIVE:
        pieces.append((f"  {how_old(how, lang)}", Tone.UNKNOWN if how.status is Status.UNKNOWN else Tone.WARN))
    return tuple(pieces)


def _gpus(live: Live, trail: Trail, lang: Lang) -> Iterator[Step]:
    for number, gpu in enumerate(trail.gpus):
        fold = live.hosts.get(gpu.host)
        sample = fold.sample if fold is not None else None
        found = next((each for each in sample.gpus if each.index == gpu.index), None) if sample is not None else None
        pieces: list[Piece] = [(f"{one_line(gpu.host)}:{gpu.index}  ", Tone.STRONG)]
        pieces.append((one_line(gpu.uuid) if gpu.uuid else words.NO_UUID[lang], Tone.PLAIN))
        if found is not None:
            use = "?" if found.util is None else f"{found.util:.0f}%"
            temp = "?" if found.temp is None else f"{found.temp:.0f} °C"
            reasons = ", ".join(one_line(reason) for reason in found.reasons or () if reason != "gpu_idle")
            pieces.append((f"  {use}  {temp}", Tone.PLAIN))
            if found.error:
                pieces.append((f"  ✗ {one_line(found.error)}", Tone.FAIL))
            if reasons:
                pieces.append((f"  ! {reasons}", Tone.WARN))
        yield f"gpu {gpu.host} {gpu.index}", "" if number else words.STEP_GPU[lang], tuple(pieces)
    if not trail.gpus:
        yield "no-gpu", words.STEP_GPU[lang], ((words.NOT_KNOWN[lang], Tone.UNKNOWN),)


def _xids(live: Live, trail: Trail, now: float, lang: Lang) -> Iterator[Step]:
    """The driver's errors of the last hour on the trail's GPUs, the newest first; or why nobody can tell."""
    told = False
    for name in trail.hosts:
        fold = live.hosts.get(name)
        sample = fold.sample if fold is not None and shown(fold.pulse, now).known else None
        label = "" if told else words.STEP_XID[lang]
        if sample is None or sample.xids is None:
            why = sample.xid_missing.why if sample is not None and sample.xid_missing is not None else ""
            text = words.XID_UNKNOWN[lang].format(host=one_line(name))
            yield f"no-xid {name}", label, ((f"? {text}" + (f": {one_line(why)}" if why else ""), Tone.UNKNOWN),)
            told = True
            continue
        own = {gpu.index for gpu in trail.gpus if gpu.host == name} if trail.matched else None
        for number, xid in enumerate(reversed(sample.xids)):
            gpu = live_xids.gpu_of(xid, sample.gpus)
            if own is not None and gpu is not None and gpu.index not in own:
                continue
            sign, tone = SEVERITY_SIGNS[live_xids.severity(xid)]
            where = f"{name}:{gpu.index} {gpu.uuid or ''}" if gpu is not None else f"{name} {xid.pci}"
            text = f"{sign} {clock_time(xid.at)} {live_xids.told(xid)[lang]}  {one_line(where)}  {one_line(xid.text)}"
            label = "" if told else words.STEP_XID[lang]
            told = True
            yield f"xid {name} {number}", label, ((text, tone),)
    if not told:
        yield "no-xid", words.STEP_XID[lang], ((words.NO_XID[lang], Tone.DIM),)
