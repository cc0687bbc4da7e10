"""The monitor held still, recorded and ended: what stands on the screen is what the header says it is."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from textual.pilot import Pilot

from dstui.facts.case import HostSite
from dstui.model import Lang, UsageError
from dstui.telemetry.feed import LiveFeed, ReplayFeed
from dstui.telemetry.record import Record, RecordKind
from dstui.telemetry.recording import Recording, header_line, record_line
from dstui.telemetry.watched import Watched
from screens.lines import Line, width_of
from screens.livelist import LiveList
from screens.monitor import MonitorScreen
from screens.monitor_header import Watching, replay_line, watching_line
from screens.replayapp import ReplayApp
from screens.still import still
from screens.times import clock_time

T = 1_763_956_800.0
NAMES = [f"gpu-{number:02}" for number in range(1, 7)]


def site(name: str) -> HostSite:
    return HostSite(name, frozenset({"worker"}), "10.0.0.1", None, "10.0.0.1", 22, "ops", True, 8)


def sample(name: str, at: float, use: float) -> Record:
    gpus = [{"index": n, "uuid": f"GPU-{n}", "util": use, "mem_used": 1e9, "mem_total": 8e9, "temp": 60, "power": 300,
             "reasons": []} for n in range(8)]  # fmt: skip
    data = {"seq": int(at), "lost": 0, "hz": 1.0, "gpu_source": "nvml", "gpus": gpus, "net": {}}
    return Record(at, f"host:{name}", RecordKind.SAMPLE, data)


class Standing:
    """Sources that say nothing more, until they are told to fail."""

    def __init__(self) -> None:
        self.failing = asyncio.Event()

    def __call__(self, emit: Any) -> Any:
        return self

    def set_interval(self, seconds: float) -> None:
        pass

    async def run(self) -> None:
        await self.failing.wait()
        raise UsageError("the inventory is gone")


class Clock:
    now = T

    def __call__(self) -> float:
        return self.now


class Cluster:
    """A feed with a clock that is set by hand."""

    def __init__(self, names: list[str] = NAMES) -> None:
        self.names = names
        self.clock, self.sources = Clock(), Standing()
        watched = Watched("ds-prod", tuple(map(site, names)), False)
        self.feed = LiveFeed(watched, self.sources, self.clock)
        for second in range(-20, 1):
            self.tell(T + second, 50.0)

    def tell(self, at: float, use: float) -> None:
        for name in self.names:
            self.feed._emit(sample(name, at, use))

    def go_on(self, seconds: int, use: float) -> None:
        """Time passes and every host says so, each second."""
        for second in range(1, seconds + 1):
            self.tell(self.clock.now + second, use)
        self.clock.now += seconds


@asynccontextmanager
async def monitor(
    cluster: Cluster, *, size: tuple[int, int] = (120, 40), lang: Lang = Lang.EN
) -> AsyncIterator[tuple[ReplayApp, Pilot[str]]]:
    app = ReplayApp(cluster.feed, lang)
    async with app.run_test(size=size) as pilot:
        await pilot.pause()
        await beat(app, pilot)
        yield app, pilot


async def beat(app: ReplayApp, pilot: Pilot[str]) -> None:
    app._live_rest_until = 0.0
    app.repaint_live()
    await pilot.pause()


async def until(pilot: Pilot[str], come: Callable[[], bool]) -> None:
    """A key on a busy machine may be handled after `press` came back."""
    for _ in range(500):
        if come():
            return
        await pilot.pause()
    pytest.fail("it never came to that")


def monitor_of(app: ReplayApp) -> MonitorScreen:
    assert isinstance(app.screen, MonitorScreen)
    return app.screen


def grid(app: ReplayApp) -> str:
    pane = app.screen.query_one("#gpus", LiveList)
    painted = ("".join(segment.text for segment in pane.render_line(y)) for y in range(pane.size.height))
    return "\n".join([str(pane.border_title), *painted])


def top(app: ReplayApp) -> str:
    return "".join(text for text, _ in monitor_of(app)._header(app.size.width))


@pytest.mark.parametrize("keys", [("o",), ("z",), ("f", "f"), ("1", "1"), ("tab",), ("l", "l"), ("down", "end")])
async def test_keys_while_paused_show_the_moment_that_is_held(keys: tuple[str, ...]) -> None:
    cluster = Cluster()
    async with monitor(cluster) as (app, pilot):
        await pilot.press("space")
        await until(pilot, lambda: monitor_of(app).held is not None)
        cluster.go_on(60, 99.0)
        await pilot.press(*keys)
        await beat(app, pilot)
        told = grid(app)
        assert "all live" in told
        assert "50%" in told
        assert "99%" not in told
        assert "unknown" not in told
        assert "PAUSED since" in top(app)
        assert "60 s ago" in top(app) or "1 min ago" in top(app)
        await pilot.press("space")
        await until(pilot, lambda: "99%" in grid(app))
        assert "PAUSED" not in top(app)


async def test_what_is_lost_while_paused_is_seen_when_it_goes_on() -> None:
    cluster = Cluster()
    async with monitor(cluster) as (app, pilot):
        await pilot.press("space")
        await until(pilot, lambda: monitor_of(app).held is not None)
        cluster.clock.now += 60
        await pilot.press("o")
        await until(pilot, lambda: "sort: name" in grid(app))
        assert "all live" in grid(app)
        await pilot.press("space")
        await until(pilot, lambda: "6 unknown" in grid(app))


def test_a_still_view_hears_nothing_more() -> None:
    cluster = Cluster()
    held = still(cluster.feed.live, T)
    events = len(held.log.newest())
    cluster.go_on(5, 99.0)
    cluster.feed.live.feed(Record(T + 5, "host:gpu-01", RecordKind.LOST, {"reason": "unreachable", "why": "gone"}))
    assert {fold.totals.mean_use for fold in held.hosts.values()} == {50.0}
    assert all(fold.pulse.sample_at == T and fold.pulse.loss is None for fold in held.hosts.values())
    assert all(set(fold.steady.values()) == {50.0} for fold in held.hosts.values())
    assert len(held.log.newest()) == events
    assert len(cluster.feed.live.log.newest()) > events


@pytest.mark.parametrize("lang", list(Lang), ids=lambda lang: lang.value)
def test_at_80_columns_what_is_urgent_stays(lang: Lang) -> None:
    watching = Watching("production-cluster-eu", True, 1000, T + 4000, 0.2, "dstui-x-20251124-120431.jsonl", T)
    line = watching_line(watching, lang, 80)
    told = "".join(text for text, _ in line)
    assert width_of(line) == 80
    for wanted in (
        "SIMULATED",
        "recording" if lang is Lang.EN else "正在录制",
        "PAUSED" if lang is Lang.EN else "暂停",
    ):
        assert wanted in told
    assert "1 h 6 min" in told


@pytest.mark.parametrize("lang", list(Lang), ids=lambda lang: lang.value)
@pytest.mark.parametrize("paused", [False, True], ids=["running", "paused"])
async def test_at_80_columns_a_replay_says_where_it_stands(paused: bool, lang: Lang, tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl"
    watched = Watched("production-cluster-eu", (site("gpu-01"),), True)
    samples = [record_line(sample("gpu-01", T + second, 5.0)) for second in (0, 90)]
    path.write_text("\n".join([header_line(watched), *samples]) + "\n")
    path.chmod(0o600)
    replay = ReplayFeed(path).player
    if paused:
        replay.pause()
    line = replay_line("production-cluster-eu", True, replay, lang, 80)
    told = "".join(text for text, _ in line)
    assert width_of(line) == 80
    assert "SIMULATED" in told
    assert ("REPLAY" if lang is Lang.EN else "回放") in told
    assert clock_time(T) in told
    assert (("paused" if lang is Lang.EN else "已暂停") in told) is paused


@pytest.mark.parametrize("key", ["o", "f", "z"])
async def test_a_key_of_the_grid_brings_the_grid(key: str) -> None:
    async with monitor(Cluster(), size=(80, 24)) as (app, pilot):
        pane = app.screen.query_one("#gpus")
        await pilot.press("2")
        await until(pilot, lambda: not pane.display)
        await pilot.press(key)
        await until(pilot, lambda: pane.display and app.focused is pane)


async def test_a_search_from_another_panel_ends_in_the_grid() -> None:
    async with monitor(Cluster(), size=(80, 24)) as (app, pilot):
        await pilot.press("3", "slash", *"gpu-03", "enter")
        await until(pilot, lambda: app.focused is app.screen.query_one("#gpus"))
        await until(pilot, lambda: "/gpu-03: 1 of 6" in grid(app))
        await pilot.press("escape")
        await until(pilot, lambda: "/gpu-03" not in grid(app))


async def test_a_recording_holds_what_came_while_it_ran(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    cluster = Cluster()
    async with monitor(cluster) as (app, pilot):
        await pilot.press("w")
        await until(pilot, lambda: "● recording dstui-ds-prod-" in top(app))
        cluster.go_on(3, 70.0)
        await pilot.press("w")
        await until(pilot, lambda: "recording" not in top(app))
        cluster.go_on(3, 80.0)
        file = cluster.feed.recorded_into
    assert file is not None
    assert Recording(tmp_path / file).last_at == T + 3


async def test_a_folder_that_cannot_be_written_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = Cluster()
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    async with monitor(cluster) as (app, pilot):
        await pilot.press("w")
        await until(pilot, lambda: any("cannot be recorded into" in note.message for note in app._notifications))
        assert "recording" not in top(app)


async def test_a_recording_that_breaks_off_is_said_once_and_not_shown_as_running(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    cluster = Cluster()
    async with monitor(cluster) as (app, pilot):
        await pilot.press("w")
        await until(pilot, lambda: cluster.feed.recorder is not None)
        recorder = cluster.feed.recorder
        assert recorder is not None

        def full(record: Record) -> None:
            raise UsageError("r.jsonl: cannot be recorded into (No space left on device)")

        monkeypatch.setattr(recorder, "write", full)
        cluster.go_on(2, 70.0)
        for _ in range(3):
            await beat(app, pilot)
        told = [note.message for note in app._notifications if "No space left" in note.message]
        assert len(told) == 1
        assert "recording" not in top(app)


async def test_when_the_watching_ends_the_header_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = Cluster()
    async with monitor(cluster, size=(80, 24)) as (app, pilot):
        cluster.sources.failing.set()
        await until(pilot, lambda: bool(app.feed_fault))
        assert "✗ watching ended: the inventory is gone" in top(app)
        cluster.clock.now += 60
        await beat(app, pilot)
        assert "6 unknown" in grid(app)


@pytest.mark.parametrize("key", ["home", "end", "pagedown"])
async def test_only_rows_in_view_are_made(key: str) -> None:
    cluster = Cluster([f"gpu-{number:03}" for number in range(300)])
    async with monitor(cluster) as (app, pilot):
        screen = monitor_of(app)
        pane = app.screen.query_one("#gpus", LiveList)
        await pilot.press("z")
        await until(pilot, lambda: len(pane.keys) == 300)
        await pilot.press("down", key)
        await until(pilot, lambda: pane.cursor_index != 1 and (pane.cursor_index > 1) is (key != "home"))
        made: list[str] = []
        row = screen.grid.row

        def counted(key: str, width: int, at_cursor: bool) -> Line:
            made.append(key)
            return row(key, width, at_cursor)

        screen.grid.row = counted  # type: ignore[method-assign]
        cluster.go_on(1, 60.0)
        await beat(app, pilot)
        in_view = pane.keys[pane.scroll_offset.y :][: pane.size.height]
        assert set(made) == set(in_view)
        assert grid(app).count(" 60%") == len(in_view)
