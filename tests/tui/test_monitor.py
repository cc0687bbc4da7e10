"""The monitor over a live view that was really fed: what is seen, what keys do, and that nothing old looks current."""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from textual.pilot import Pilot

from dstui.catalogue import Catalogue
from dstui.facts.case import HostSite
from dstui.model import Lang, Text
from dstui.telemetry import ray
from dstui.telemetry.feed import LiveFeed, ReplayFeed
from dstui.telemetry.live_grid import GridSort
from dstui.telemetry.ray import Application, Deployment, RayNode, RaySnapshot, Replica, Resources, Serve
from dstui.telemetry.record import Record, RecordKind
from dstui.telemetry.recording import header_line, record_line
from dstui.telemetry.vllm import parse_metrics
from dstui.telemetry.vllm_records import record_of
from dstui.telemetry.watched import Watched
from screens.app import DstuiApp
from screens.lines import Bar, LineView
from screens.livelist import LiveList
from screens.monitor import MonitorScreen
from screens.monitor_host import MonitorHostScreen
from screens.replayapp import ReplayApp
from screens.trail import TrailScreen

T = 1_763_956_800.0 + 271
MINUTES = 4
HOSTS = 8
SICK = "gpu-03"
EDGES = ("0.01", "0.1", "0.5", "1.0", "2.5", "5.0", "+Inf")
PREFIX = 'model_name="deepseek",engine="0"'


def site(number: int) -> HostSite:
    ip = f"10.0.0.{number}"
    roles = frozenset({"head" if number == 1 else "worker"})
    return HostSite(f"gpu-{number:02}", roles, ip, None, ip, 22, "ops", True, 8)


SITES = tuple(site(number) for number in range(1, HOSTS + 1))


def gpu(host: str, index: int, second: int) -> dict[str, object]:
    sick = host == SICK and index == 5
    wave = 92 + round(6 * math.sin(second / 7 + index))
    return {
        "index": index, "uuid": f"GPU-{host[-2:]}00000{index}", "name": "NVIDIA H100 80GB HBM3",
        "util": 41 if sick else wave, "mem_used": 72.5e9, "mem_total": 85.5e9, "temp": 88 if sick else 61 + index % 4,
        "power": 420.0 if sick else 640.0, "power_limit": 700.0, "sm_mhz": 990 if sick else 1755, "mem_mhz": 2619,
        "reasons": ["hw_thermal_slowdown"] if sick else [], "ecc_uncorrected": 0, "pcie_gen": 5, "pcie_width": 16,
        "procs": [{"pid": 4000 + index, "mem": 72e9}], "error": None, "pci": f"00000000:{index + 16:02x}:00.0",
    }  # fmt: skip


def host(at: float, name: str, second: int) -> Record:
    xid = {"at": T - 75, "pci": "0000:15:00", "xid": 94, "text": "pid=4005, Contained ECC error"}
    data: dict[str, object] = {
        "seq": second, "lost": 0, "hz": 1.0, "cpu": 12.0, "load1": 18.2, "cpus": 192, "mem_total": 2.16e12,
        "mem_available": 1.5e12, "swap_used": 0, "swap_in": 0, "swap_out": 0, "oom_kill": 0,
        "net": {"bond0": {"rx": 2.1e8, "tx": 1.9e8, "speed": 2e11}},
        "rdma": {"mlx5_0/1": {"rx": 1.1e9, "tx": 1.2e9, "speed": 4e11}}, "gpu_source": "nvml",
        "gpus": [gpu(name, index, second) for index in range(8)], "xids": [xid] if name == SICK else [],
    }  # fmt: skip
    return Record(at, f"host:{name}", RecordKind.SAMPLE, data)


def page(second: int, *, sick: bool) -> str:
    """A replica's metrics: counters that grow with time."""
    rate, ttft = (610, 2.4) if sick else (3120, 0.3)
    lines = [
        f"vllm:num_requests_running{{{PREFIX}}} {12 if sick else 31}",
        f"vllm:num_requests_waiting{{{PREFIX}}} {9 if sick else 0}",
        f"vllm:kv_cache_usage_perc{{{PREFIX}}} {0.96 if sick else 0.68}",
        f"vllm:prompt_tokens_total{{{PREFIX}}} {1000.0 * second}",
        f"vllm:generation_tokens_total{{{PREFIX}}} {float(rate) * second}",
        f"vllm:num_preemptions_total{{{PREFIX}}} {0.25 * second if sick else 0}",
        f'vllm:request_success_total{{{PREFIX},finished_reason="stop"}} {4.0 * second}',
    ]
    for name, value in (("time_to_first_token_seconds", ttft), ("inter_token_latency_seconds", ttft / 20)):
        count = 4.0 * second
        lines += [
            f'vllm:{name}_bucket{{{PREFIX},le="{edge}"}} {count if value <= float(edge) else 0}' for edge in EDGES
        ]
        lines += [f"vllm:{name}_count{{{PREFIX}}} {count}", f"vllm:{name}_sum{{{PREFIX}}} {count * value}"]
    typed = [
        "# TYPE vllm:num_requests_running gauge", "# TYPE vllm:num_requests_waiting gauge",
        "# TYPE vllm:kv_cache_usage_perc gauge", "# TYPE vllm:prompt_tokens_total counter",
        "# TYPE vllm:generation_tokens_total counter", "# TYPE vllm:num_preemptions_total counter",
        "# TYPE vllm:request_success_total counter", "# TYPE vllm:time_to_first_token_seconds histogram",
        "# TYPE vllm:inter_token_latency_seconds histogram",
    ]  # fmt: skip
    return "\n".join([*typed, *lines]) + "\n"


def replica(at: float, name: str, second: int) -> Record:
    (sample,) = parse_metrics(page(second, sick=name == SICK), at=at, replica=name)
    return record_of(sample)


def ray_record(at: float, *, dead: str = "") -> Record:
    nodes = tuple(
        RayNode(
            f"node{n:060}", each.data_ip, head=n == 0, state="DEAD" if each.name == dead else "ALIVE",
            message="health check failed due to missing too many heartbeats" if each.name == dead else "",
            total=Resources(gpu=8.0, cpu=192.0), used=Resources(gpu=8.0),
        )
        for n, each in enumerate(SITES)
    )  # fmt: skip
    replicas = tuple(
        Replica(f"r{n}", "RUNNING", node_id=f"node{n:060}", node_ip=each.data_ip, pid=4005)
        for n, each in enumerate(SITES[:4])
    )
    deployment = Deployment("LLMServer", "HEALTHY", target=4, replicas=replicas)
    app = Application("llm", "RUNNING", deployments=(deployment,))
    return ray.record(
        RaySnapshot(at, version="2.60.0", nodes=nodes, serve=Serve(True, (app,)), head_time=at, usage_at=at)
    )


class Standing:
    """Sources that say nothing more."""

    interval = 1.0

    def __call__(self, emit: Any) -> Any:
        return self

    def set_interval(self, seconds: float) -> None:
        self.interval = seconds

    async def run(self) -> None:
        await asyncio.Event().wait()


class Clock:
    now = T

    def __call__(self) -> float:
        return self.now


def watched(simulated: bool = False) -> Watched:
    return Watched("ds-prod", SITES, simulated, max_num_seqs=128)


def records(*, minutes: float = MINUTES, dead: str = "") -> list[Record]:
    found: list[Record] = []
    seconds = int(minutes * 60)
    for second in range(seconds, -1, -1):
        at = T - second
        found += [host(at, each.name, seconds - second) for each in SITES]
        if second % 2 == 0:
            found.append(ray_record(at, dead=dead if second == 0 else ""))
        found += [replica(at, each.name, 600 + seconds - second) for each in SITES[:4]]
    return found


@pytest.fixture(scope="module")
def history() -> list[Record]:
    return records()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def feed(history: list[Record], clock: Clock) -> LiveFeed:
    feed = LiveFeed(watched(), Standing(), clock)
    for record in history:
        feed.live.feed(record)
    return feed


@asynccontextmanager
async def monitor(
    feed: Any, *, lang: Lang = Lang.EN, size: tuple[int, int] = (120, 40)
) -> AsyncIterator[tuple[ReplayApp, Pilot[str]]]:
    app = ReplayApp(feed, lang)
    async with app.run_test(size=size) as pilot:
        await pilot.pause()
        app.repaint_live()
        await pilot.pause()
        yield app, pilot


async def beat(app: Any, pilot: Pilot[str]) -> None:
    """Half a second has passed."""
    app._live_rest_until = 0.0
    app.repaint_live()
    await pilot.pause()


def text(app: Any, name: str) -> str:
    pane = app.screen.query_one(f"#{name}")
    if isinstance(pane, LiveList):
        lines = [pane._compose_row(key, pane.line_width, key == pane.cursor) for key in pane.keys]  # type: ignore[misc]
        head = str(pane.border_title)
        return "\n".join([head, *("".join(part for part, _ in line) for line in lines)])
    assert isinstance(pane, Bar | LineView)
    return "\n".join("".join(part for part, _ in line) for line in pane.lines)


async def test_outliers_first_and_the_alike_in_one_row(feed: LiveFeed) -> None:
    async with monitor(feed) as (app, pilot):
        assert len(text(app, "gpus").splitlines()) == 1 + HOSTS, "there is room for each"
        await pilot.press("z")
        rows = text(app, "gpus").splitlines()
        assert "all live" in rows[0]
        assert "! gpu-03" in rows[1] or "✗ gpu-03" in rows[1]
        assert "hardware thermal" in rows[1]
        assert "gpu-01 … gpu-08 (7 hosts, alike)" in rows[2]
        assert len(rows) == 3


async def test_the_other_panels(feed: LiveFeed) -> None:
    async with monitor(feed) as (app, _):
        told = text(app, "ray")
        assert "8 of 8 alive" in told
        assert "GPU: Ray 64, inventory 64, NVML 64" in told
        assert "llm RUNNING · 4 of 4 replicas" in told
        vllm = text(app, "vllm").splitlines()
        assert "4 of 4 replicas live" in vllm[0]
        assert vllm[2].startswith("› ! gpu-03"), "the worst comes first, and the cursor is on it"
        assert "96%" in vllm[2]
        assert "thermal" in text(app, "events")
        assert "every 1 s" in text(app, "top")


async def test_three_keys_from_the_symptom_to_the_hardware(
    feed: LiveFeed, mixed_engine: Any, catalogue: Catalogue, hands: Any
) -> None:
    mixed_engine.watch = lambda: feed
    async with hands.driven(mixed_engine, catalogue, size=(120, 40)) as (app, pilot):
        await pilot.pause()
        assert isinstance(app, DstuiApp)
        app.repaint_live()
        assert "gpu-03" in text(app, "live")
        await pilot.press("m", "t")
        assert isinstance(app.screen, TrailScreen)
        steps = text(app, "steps")
        for wanted in ("gpu-03:5  GPU-03000005", "XID 94", "ALIVE 10.0.0.3", "4005", "thermal slowdown"):
            assert wanted in steps, wanted
        app.screen.steps.move_to(f"host {SICK}")
        await pilot.press("enter")
        assert isinstance(app.screen, MonitorHostScreen)
        told = text(app, "steps")
        assert "GPU-03000005" in told
        assert "XID 94" in told
        await pilot.press("escape", "escape", "escape")
        assert not isinstance(app.screen, MonitorScreen)


async def test_a_host_opens_with_its_history(feed: LiveFeed) -> None:
    async with monitor(feed) as (app, pilot):
        await pilot.press("enter")
        assert isinstance(app.screen, MonitorHostScreen)
        told = text(app, "steps")
        assert told.count("GPU-03") == 8
        assert "bond0" in told
        assert "RDMA" in told or "mlx5_0/1" in told
        assert any(step in told for step in "▅▆▇█")


async def test_enter_on_the_alike_unfolds_them(feed: LiveFeed) -> None:
    async with monitor(feed) as (app, pilot):
        await pilot.press("z", "down", "enter")
        assert len(text(app, "gpus").splitlines()) == 1 + HOSTS
        await pilot.press("z")
        assert len(text(app, "gpus").splitlines()) == 3


async def test_sort_filter_and_search(feed: LiveFeed) -> None:
    async with monitor(feed) as (app, pilot):
        screen = app.screen
        assert isinstance(screen, MonitorScreen)
        await pilot.press("o")
        assert screen.grid.sort is GridSort.NAME
        assert screen.grid.keys == [each.name for each in SITES]
        await pilot.press("f")
        assert screen.grid.keys == [SICK]
        await pilot.press("f", "slash", *"gpu-07")
        await pilot.pause()
        assert screen.grid.keys == ["gpu-07"]
        await pilot.press("enter", "escape")
        await pilot.pause()
        assert len(screen.grid.keys) == HOSTS


async def test_what_stops_turns_old_then_unknown_and_never_stays_current(feed: LiveFeed, clock: Clock) -> None:
    async with monitor(feed) as (app, pilot):
        clock.now = T + 6
        await beat(app, pilot)
        told = text(app, "gpus")
        assert "8 late" in told
        assert "6.0 s old" in told or "6 s old" in told
        clock.now = T + 40
        await beat(app, pilot)
        for name in ("gpus", "ray", "vllm"):
            told = text(app, name)
            assert "unknown" in told, name
            assert "%" not in told.partition("\n")[2], name


async def test_a_host_that_is_lost_says_why(feed: LiveFeed, clock: Clock) -> None:
    feed.live.feed(
        Record(
            T + 1,
            f"host:{SICK}",
            RecordKind.LOST,
            {"reason": "unreachable", "why": "connection refused", "zh": "连接被拒绝"},
        )
    )
    clock.now = T + 4
    async with monitor(feed) as (app, _):
        row = next(row for row in text(app, "gpus").splitlines() if SICK in row)
        assert "✗" in row
        assert "lost" in row
        assert "connection refused" in row


async def test_a_dead_node_says_what_ray_says(feed: LiveFeed, clock: Clock) -> None:
    feed.live.feed(ray_record(T + 1, dead="gpu-05"))
    clock.now = T + 1
    async with monitor(feed) as (app, _):
        told = text(app, "ray")
        assert "! 7 of 8 alive" in told
        assert "✗ gpu-05" in told
        assert "health check failed" in told
        assert "gpu-05" in text(app, "events")


async def test_the_newest_event_stays_in_view_until_somebody_looks_at_an_older_one(
    feed: LiveFeed, clock: Clock
) -> None:
    async with monitor(feed) as (app, pilot):
        events = app.screen.query_one("#events", LiveList)
        for number, dead in ((1, "gpu-05"), (2, "gpu-06")):
            feed.live.feed(ray_record(T + number, dead=dead))
            clock.now = T + number
            await beat(app, pilot)
            assert events.cursor == events.keys[0]
        events.move_to(events.keys[2])
        kept = events.cursor
        feed.live.feed(ray_record(T + 3, dead="gpu-07"))
        clock.now = T + 3
        await beat(app, pilot)
        assert events.cursor == kept


async def test_pause_holds_what_is_shown_and_says_for_how_long(feed: LiveFeed, clock: Clock) -> None:
    async with monitor(feed) as (app, pilot):
        before = text(app, "gpus")
        await pilot.press("space")
        clock.now = T + 40
        await beat(app, pilot)
        assert text(app, "gpus") == before
        assert "PAUSED since" in text(app, "top")
        assert "40" in text(app, "top")
        await pilot.press("space")
        await pilot.pause()
        assert "unknown" in text(app, "gpus")


async def test_the_interval_is_changed_and_shown(feed: LiveFeed) -> None:
    async with monitor(feed) as (app, pilot):
        await pilot.press("minus")
        assert feed.interval == 2.0
        assert "every 2 s" in text(app, "top")
        await pilot.press("plus", "plus", "plus", "plus")
        assert feed.interval == 0.2


async def test_recording_from_the_monitor(feed: LiveFeed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    async with monitor(feed) as (app, pilot):
        await pilot.press("w")
        assert "● recording" in text(app, "top")
        await pilot.press("w")
        assert "recording" not in text(app, "top")
    (file,) = list(tmp_path.glob("dstui-ds-prod-*.jsonl"))  # noqa: ASYNC240 - a test's own folder
    assert json.loads(file.read_text().splitlines()[0])["cluster"] == "ds-prod"


async def test_only_a_demo_kills_nodes(feed: LiveFeed) -> None:
    killed = []
    async with monitor(feed) as (app, pilot):
        await pilot.press("x")
        assert [note.message for note in app._notifications] == ["Only the demo's nodes can be killed here."]
        feed.perish = lambda: killed.append(1) or Text("gpu-02 dies", "gpu-02 宕机")  # type: ignore[func-returns-value]
        await pilot.press("x")
        assert killed == [1]
        assert "gpu-02 dies" in [note.message for note in app._notifications]


async def test_one_panel_at_a_time_where_there_is_no_room(feed: LiveFeed) -> None:
    async with monitor(feed, size=(80, 24)) as (app, pilot):
        shown = [pane.id for pane in app.screen.query(LiveList) if pane.display]
        assert shown == ["gpus"]
        await pilot.press("tab")
        await pilot.pause()
        assert [pane.id for pane in app.screen.query(LiveList) if pane.display] == ["ray"]
        await pilot.press("3")
        await pilot.pause()
        assert [pane.id for pane in app.screen.query(LiveList) if pane.display] == ["vllm"]
        assert "[3 vLLM]" in str(app.screen.query_one("#vllm").border_subtitle)


async def test_a_zoomed_panel_has_charts_and_all_come_back(feed: LiveFeed) -> None:
    async with monitor(feed) as (app, pilot):
        await pilot.press("3")
        await pilot.pause()
        assert "generation tokens/s" in text(app, "vllm")
        await pilot.press("3")
        await pilot.pause()
        assert len([pane for pane in app.screen.query(LiveList) if pane.display]) == 4
        assert "generation tokens/s" not in text(app, "vllm")


@pytest.fixture
def recording(tmp_path: Path, history: list[Record]) -> Path:
    path = tmp_path / "r.jsonl"
    path.write_text("\n".join([header_line(watched()), *map(record_line, history)]) + "\n")
    path.chmod(0o600)
    return path


async def test_a_replay_is_paused_sought_and_sped_up(recording: Path) -> None:
    replay = ReplayFeed(recording, speed=1.0)
    async with monitor(replay) as (app, pilot):
        assert "REPLAY" in text(app, "top")
        await pilot.press("space")
        assert replay.player.paused
        await pilot.press("right_square_bracket", "right")
        assert replay.now() == pytest.approx(T - MINUTES * 60 + 70, abs=2)
        await pilot.press("plus")
        assert replay.player.speed == 2.0
        await pilot.press("left")
        assert replay.now() == pytest.approx(T - MINUTES * 60 + 60, abs=2)
        assert "paused" in text(app, "top")
        await pilot.press("escape")
        await pilot.pause()
    assert app.return_code == 0


SIZES = [(80, 24), (120, 40), (200, 60)]
LOOKS = {"all": (), "ray": ("2",), "vllm": ("3",), "trail": ("t",), "host": ("enter",), "folded": ("z",)}


@pytest.mark.parametrize("lang", list(Lang), ids=lambda lang: lang.value)
@pytest.mark.parametrize("size", SIZES, ids=lambda size: f"{size[0]}x{size[1]}")
@pytest.mark.parametrize("look", list(LOOKS))
def test_looks(look: str, size: tuple[int, int], lang: Lang, feed: LiveFeed, snap_compare: Callable[..., bool]) -> None:
    app = ReplayApp(feed, lang)

    async def ready(pilot: Pilot[Any]) -> None:
        await pilot.pause()
        app.repaint_live()
        await pilot.press(*LOOKS[look])
        await pilot.pause()
        await beat(app, pilot)

    assert snap_compare(app, terminal_size=size, run_before=ready)
