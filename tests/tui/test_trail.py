"""From a sick replica to host, GPU UUID and XID; each step says how old it is and what it does not know."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from textual.pilot import Pilot

from dstui.catalogue import Catalogue
from dstui.facts.case import HostSite
from dstui.model import Lang, Verdict
from dstui.telemetry import live_views, ray
from dstui.telemetry.feed import LiveFeed
from dstui.telemetry.live import Live
from dstui.telemetry.ray import Actor, Application, Deployment, RayNode, RaySnapshot, Replica, Resources, Serve
from dstui.telemetry.record import Record, RecordKind
from dstui.telemetry.vllm import parse_metrics
from dstui.telemetry.vllm_records import record_of
from dstui.telemetry.watched import Watched
from screens.monitor import MonitorScreen
from screens.monitor_host import MonitorHostScreen
from screens.replayapp import ReplayApp
from screens.trail import TrailScreen
from screens.trail_steps import step_target, trail_steps, worst_step

T = 1_763_956_800.0 + 271
UUID = "GPU-5f3a2c1e-7b1d-4c6e-9a55-1f0c8e7d3b22"
LABELS = 'model_name="deepseek",engine="0"'


def site(number: int) -> HostSite:
    ip = f"10.0.0.{number}"
    return HostSite(f"gpu-{number:02}", frozenset({"worker"}), ip, None, ip, 22, "ops", True, 2)


SITES = tuple(site(number) for number in range(1, 5))
FALLEN = {
    "at": T - 75, "pci": "0000:4e:00", "xid": 79,
    "text": "pid='<unknown>', name=<unknown>, GPU has fallen off the bus.",
}  # fmt: skip
ANOTHERS = {"at": T - 30, "pci": "0000:4f:00", "xid": 94, "text": "pid=9, Contained ECC error"}


def host(at: float, name: str, *, sick: bool = False, **more: object) -> Record:
    gpus = [
        {
            "index": index, "uuid": UUID if sick and index == 0 else f"GPU-{name}-{index}", "name": "NVIDIA H100",
            "util": 0 if sick and index == 0 else 95, "mem_used": 72e9, "mem_total": 80e9, "temp": 65,
            "power": 600.0, "reasons": ["hw_slowdown"] if sick and index == 0 else [],
            "procs": [{"pid": 4000 + index, "mem": 7e10}], "error": None, "pci": f"00000000:{0x4E + index:02X}:00.0",
        }
        for index in range(2)
    ]  # fmt: skip
    data: dict[str, object] = {"seq": 1, "hz": 1.0, "gpu_source": "nvml", "gpus": gpus, "xids": []} | more
    return Record(at, f"host:{name}", RecordKind.SAMPLE, data)


def page(second: int, kv: float) -> str:
    return "\n".join(
        [
            "# TYPE vllm:num_requests_running gauge", f"vllm:num_requests_running{{{LABELS}}} 12",
            "# TYPE vllm:num_requests_waiting gauge", f"vllm:num_requests_waiting{{{LABELS}}} 9",
            "# TYPE vllm:kv_cache_usage_perc gauge", f"vllm:kv_cache_usage_perc{{{LABELS}}} {kv}",
            "# TYPE vllm:generation_tokens_total counter",
            f"vllm:generation_tokens_total{{{LABELS}}} {610.0 * second}", "",
        ]
    )  # fmt: skip


def vllm(at: float, name: str, second: int, kv: float = 0.5) -> Record:
    (sample,) = parse_metrics(page(second, kv), at=at, replica=name)
    return record_of(sample)


def ray_record(at: float, **sick_node: Any) -> Record:
    nodes = [
        RayNode(f"node{n:060}", each.data_ip, state="ALIVE", total=Resources(gpu=2.0)) for n, each in enumerate(SITES)
    ]
    if sick_node:
        nodes[2] = RayNode(nodes[2].node_id, "10.0.0.3", **sick_node)
    copies = tuple(
        Replica(f"r{n}", "RUNNING", node_id=f"node{n:060}", node_ip=each.data_ip, pid=4000)
        for n, each in enumerate(SITES)
    )
    app = Application("llm", "RUNNING", deployments=(Deployment("LLMServer", "HEALTHY", target=4, replicas=copies),))
    return ray.record(
        RaySnapshot(at, version="2.60.0", nodes=tuple(nodes), serve=Serve(True, (app,)), actors=(Actor("a"),))
    )


def cluster(*, xids: object = (FALLEN, ANOTHERS), missing: object = None) -> Live:
    """Four hosts with a replica each; the third's first GPU is in trouble."""
    live = Live(Watched("ds-prod", SITES, max_num_seqs=128))
    for second in range(20, -1, -1):
        at = T - second
        for each in SITES:
            sick = each.name == "gpu-03"
            more: dict[str, object] = {}
            if sick:
                more = {"xids": None if missing else list(xids), "xid_missing": missing}  # type: ignore[call-overload]
            live.feed(host(at, each.name, sick=sick, **more))
            live.feed(vllm(at, each.name, 100 - second, 0.97 if sick else 0.5))
        live.feed(ray_record(at))
    return live


class Standing:
    """Sources that say nothing more."""

    interval = 1.0

    def __call__(self, emit: Any) -> Any:
        return self

    def set_interval(self, seconds: float) -> None:
        self.interval = seconds

    async def run(self) -> None:
        await asyncio.Event().wait()


def feed_of(live: Live, now: float = T) -> LiveFeed:
    feed = LiveFeed(live.watched, Standing(), lambda: now)
    feed.live = live
    return feed


def told(live: Live, replica: str = "gpu-03", now: float = T, lang: Lang = Lang.EN) -> dict[str, str]:
    """The lines by their keys."""
    steps = list(trail_steps(live, live_views.trail(live, replica, now), now, lang))
    assert len({step.key for step in steps}) == len(steps)
    return {step.key: "".join(text for text, _ in step.line) for step in steps}


def text_of(app: Any) -> str:
    pane = app.screen.steps
    lines = [pane._compose_row(key, pane.line_width, key == pane.cursor) for key in pane.keys]
    return "\n".join("".join(part for part, _ in line) for line in lines)


def test_every_step_is_there() -> None:
    steps = told(cluster())
    assert steps["replica"] == "gpu-03"
    assert steps["counts"] == "  run 12 · wait 9 · KV 97% · 610 tokens/s"
    assert steps["alarm kv-full"] == "  ! KV cache 97% full"
    assert steps["application"] == "llm RUNNING / LLMServer HEALTHY / r2 RUNNING"
    assert steps["node"].startswith("ALIVE 10.0.0.3  node0000")
    assert steps["host gpu-03"] == "gpu-03  10.0.0.3"
    assert steps["processes"] == "4000 on GPU 0"
    assert steps["gpu gpu-03 0"] == f"gpu-03:0  {UUID}"
    assert steps["gpu gpu-03 0 hw_slowdown"] == "  ✗ hardware slowdown"


def test_its_own_xid_with_words_time_and_uuid_and_not_anothers() -> None:
    steps = told(cluster())
    lines = [line for key, line in steps.items() if key.startswith("xid")]
    assert lines[0].startswith("✗ XID 79, fell off the bus  ")
    assert lines[0].endswith("1 min 15 s ago")
    assert UUID in lines[1]
    assert lines[2].strip() == "pid='<unknown>', name=<unknown>, GPU has fallen off the bus."
    assert len(lines) == 3


def test_an_xid_of_a_gpu_that_is_gone_from_the_list_is_shown_by_its_bus() -> None:
    gone = FALLEN | {"pci": "0000:9d:00"}
    lines = "\n".join(told(cluster(xids=[gone])).values())
    assert "XID 79" in lines
    assert "gpu-03 0000:9d:00" in lines


def test_no_xid_is_said_and_one_that_cannot_be_known_too() -> None:
    assert told(cluster(xids=()))["no-xid"] == "none in the last hour"
    refused = {"reason": "permission", "why": "/dev/kmsg: Operation not permitted"}
    steps = told(cluster(missing=refused))
    assert steps["xid gpu-03"] == "? the kernel's log of gpu-03 cannot be read"
    assert steps["xid gpu-03 why"] == "  /dev/kmsg: Operation not permitted"
    assert "no-xid" not in steps
    zh = told(cluster(missing=refused), lang=Lang.ZH)
    assert zh["xid gpu-03"] == "? 无法读取 gpu-03 的内核日志"
    assert told(cluster(xids=()), now=T + 6)["no-xid"] == "none in the last hour  ! 6.0 s old"


def test_old_steps_say_how_old_and_unknown_ones_have_no_numbers() -> None:
    live = cluster()
    steps = told(live, now=T + 6)
    assert steps["replica"].endswith("! 6.0 s old")
    assert steps["host gpu-03"].endswith("! 6.0 s old")
    assert steps["gpu gpu-03 0 numbers"].endswith("! 6.0 s old")
    gone = told(live, now=T + 300)
    assert "counts" not in gone
    assert gone["host gpu-03"].endswith("? unknown: stopped sending samples")
    assert gone["xid gpu-03"] == "? gpu-03 cannot be seen now"
    assert not any(key.startswith("gpu ") for key in gone)
    assert gone["application"].startswith("? unknown")


def test_what_ray_believes_wrongly_stands_under_the_host() -> None:
    live = cluster()
    live.feed(
        Record(T + 1, "host:gpu-03", RecordKind.LOST, {"reason": "unreachable", "why": "no route", "zh": "无路由"})
    )
    live.feed(ray_record(T + 4))
    steps = told(live, now=T + 4)
    assert "lost" in steps["host gpu-03"]
    assert "Ray still counts gpu-03 as alive" in steps["host gpu-03 belief"]


def test_a_dead_node_says_why() -> None:
    live = cluster()
    live.feed(ray_record(T + 1, state="DEAD", message="raylet: SIGKILL"))
    assert told(live, now=T + 1)["node"].startswith("✗ DEAD 10.0.0.3")
    assert told(live, now=T + 1)["node"].endswith("raylet: SIGKILL")


def test_a_replica_that_nothing_knows() -> None:
    steps = told(cluster(), "elsewhere:8000")
    assert steps["replica"].endswith("? not known")
    assert steps["no-host"] == steps["processes"] == steps["no-gpu"] == steps["no-xid"] == "? not known"


def test_without_a_match_all_gpus_of_the_host_are_there_and_the_numbers_of_those_that_stand_out() -> None:
    live = cluster()
    for at in (T + 1, T + 2):
        live.feed(host(at, "gpu-03", sick=True, xids=[FALLEN], gpus=_strangers()))
    steps = told(live, now=T + 2)
    assert "gpu gpu-03 0" in steps
    assert "gpu gpu-03 1" in steps
    assert "gpu gpu-03 0 numbers" in steps
    assert "gpu gpu-03 1 numbers" not in steps
    assert any("XID 79" in line for line in steps.values())


def _strangers() -> object:
    """The GPUs of the sick host, with processes that Ray does not know."""
    gpus: Any = host(T, "gpu-03", sick=True).data["gpus"]
    return [gpu | {"procs": [{"pid": 1, "mem": 1e9}]} for gpu in gpus]


@pytest.mark.parametrize(
    ("key", "host_name"),
    [("host gpu-03", "gpu-03"), ("gpu gpu-03 0", "gpu-03"), ("gpu gpu-03 0 hot", "gpu-03"), ("xid gpu-03 x", "gpu-03"),
     ("host gpu-03 check 0", "gpu-03"), ("replica", None), ("no-host", None), ("node", None)],
)  # fmt: skip
def test_where_a_step_leads(key: str, host_name: str | None) -> None:
    assert step_target(key) == host_name


def test_the_cursor_begins_on_the_gpu_with_the_most_against_it() -> None:
    live = cluster()
    assert worst_step(live_views.trail(live, "gpu-03", T)) == "gpu gpu-03 0"
    assert worst_step(live_views.trail(live, "gpu-01", T)) == "gpu gpu-01 0"
    assert worst_step(live_views.trail(live, "elsewhere", T)) == "replica"


def test_hostile_words_stay_words() -> None:
    evil = "\x1b[2J[red]\u202e" * 40
    live = cluster(xids=[FALLEN | {"text": evil}])
    live.feed(ray_record(T, state=evil, message=evil))
    for lang in Lang:
        lines = "".join(told(live, lang=lang).values())
        assert "\x1b" not in lines
        assert "\u202e" not in lines


@pytest.mark.parametrize("keys", [("m", "3", "enter"), ("m", "t")], ids="-".join)
@pytest.mark.parametrize("size", [(80, 24), (120, 40)], ids=lambda size: f"{size[0]}x{size[1]}")
async def test_three_keys_from_the_checklist(
    keys: tuple[str, ...], size: tuple[int, int], mixed_engine: Any, catalogue: Catalogue, hands: Any
) -> None:
    feed = feed_of(cluster())
    mixed_engine.watch = lambda: feed
    async with hands.driven(mixed_engine, catalogue, size=size) as (app, pilot):
        await pilot.pause()
        app.repaint_live()
        await pilot.press(*keys)
        await pilot.pause()
        trail: Any = app.screen
        assert isinstance(trail, TrailScreen)
        pane = trail.steps
        top, height = pane.scroll_offset.y, pane.size.height
        in_view = "\n".join(text_of(app).split("\n")[top : top + height])
        for wanted in ("gpu-03", UUID, "XID 79"):
            assert wanted in in_view, wanted
        assert pane.cursor == "gpu gpu-03 0"
        await pilot.press("enter")
        opened: Any = app.screen
        assert isinstance(opened, MonitorHostScreen)
        assert opened.host_name == "gpu-03"
        await pilot.press("escape", "escape")
        below: Any = app.screen
        assert isinstance(below, MonitorScreen)


@pytest.mark.parametrize("stale", [False, True])
def test_what_the_check_found_is_there_and_not_green_when_it_is_stale(stale: bool, hands: Any) -> None:
    found = hands.settled("hw.memory", "gpu-03", T - 60, Verdict.PASS)
    live = cluster()
    trail = live_views.trail(live, "gpu-03", T)
    steps = list(trail_steps(live, trail, T, Lang.EN, [(found, stale)]))
    line = steps[-1].line
    assert steps[-1].label == "check"
    assert step_target(steps[-1].key) == "gpu-03"
    text = "".join(part for part, _ in line)
    assert "✓ gpu-03 as it should be" in text
    assert ("~ stale" in text) is stale
    assert any(tone.value == "pass" for _, tone in line) is not stale


async def test_the_trail_of_a_recording_has_no_checks_and_works() -> None:
    app = ReplayApp(feed_of(cluster()), Lang.ZH)
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.pause()
        app.open_trail("gpu-03")
        await pilot.pause()
        assert UUID in text_of(app)
        assert "XID 79" in text_of(app)
        await pilot.press("l")
        await pilot.pause()
        assert "run 12 · wait 9" in text_of(app), "the language changes what is shown"


@pytest.mark.parametrize("lang", list(Lang), ids=lambda lang: lang.value)
@pytest.mark.parametrize("size", [(80, 24), (120, 40), (200, 60)], ids=lambda size: f"{size[0]}x{size[1]}")
@pytest.mark.parametrize("look", ["trail", "lost", "unreadable"])
def test_looks(look: str, size: tuple[int, int], lang: Lang, snap_compare: Callable[..., bool]) -> None:
    refused = {"reason": "permission", "why": "/dev/kmsg: Operation not permitted"}
    live = cluster(missing=refused) if look == "unreadable" else cluster()
    now = T
    if look == "lost":
        why = {"reason": "unreachable", "why": "connection reset by peer", "zh": "连接被对端重置"}
        live.feed(Record(T + 1, "host:gpu-03", RecordKind.LOST, why))
        live.feed(Record(T + 2, "vllm:gpu-03", RecordKind.LOST, why))
        live.feed(ray_record(T + 5))
        now = T + 6
    app = ReplayApp(feed_of(live, now), lang)

    async def ready(pilot: Pilot[Any]) -> None:
        await pilot.pause()
        app.open_trail("gpu-03")
        await pilot.pause()

    assert snap_compare(app, terminal_size=size, run_before=ready)


def test_both_languages_have_the_same_steps() -> None:
    en, zh = told(cluster()), told(cluster(), lang=Lang.ZH)
    assert en.keys() == zh.keys()
    assert zh["counts"] == "  运行 12 · 排队 9 · KV 97% · 610 tokens/s"
