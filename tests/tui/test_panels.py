"""The Ray, vLLM and event panels: what is old or absent says so, and keys stay while values change."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from rich.cells import cell_len

from dstui.facts.case import HostSite
from dstui.model import Lang, Reason, Text
from dstui.telemetry import ray
from dstui.telemetry.live import Live
from dstui.telemetry.ray import (
    Actor,
    Application,
    Demands,
    Deployment,
    Fault,
    Job,
    Jobs,
    PlacementGroup,
    RayNode,
    RaySnapshot,
    Replica,
    Resources,
    Serve,
)
from dstui.telemetry.record import Record, RecordKind
from dstui.telemetry.vllm import parse_metrics
from dstui.telemetry.vllm_records import record_of
from dstui.telemetry.watched import Watched
from screens.fitting import fitting
from screens.monitor_events import EventPanel
from screens.monitor_ray import RayPanel, judged
from screens.monitor_vllm import VllmPanelRows
from screens.tones import Tone
from screens.vllm_columns import COLUMNS

T = 1_763_956_800.0 + 271


def site(number: int) -> HostSite:
    ip = f"10.0.0.{number}"
    roles = frozenset({"head" if number == 1 else "worker"})
    return HostSite(f"gpu-{number:02}", roles, ip, None, ip, 22, "ops", True, 2)


SITES = tuple(site(number) for number in range(1, 5))


def fresh(sites: tuple[HostSite, ...] = SITES) -> Live:
    return Live(Watched("ds-prod", sites, max_num_seqs=128))


def host(at: float, name: str, **odd: object) -> Record:
    rows = [
        {
            "index": index, "uuid": f"GPU-{name}-{index}", "name": "NVIDIA H100", "util": 95, "mem_used": 72e9,
            "mem_total": 80e9, "temp": 65, "power": 600.0, "reasons": [], "procs": [], "error": None,
        }
        | (odd if index == 1 else {})
        for index in range(2)
    ]  # fmt: skip
    return Record(at, f"host:{name}", RecordKind.SAMPLE, {"seq": 1, "hz": 1.0, "gpu_source": "nvml", "gpus": rows})


def lost(at: float, source: str, why: str = "connection refused", zh: str = "连接被拒绝") -> Record:
    return Record(at, source, RecordKind.LOST, {"reason": "unreachable", "why": why, "zh": zh})


def node(number: int, **more: Any) -> RayNode:
    ip = f"10.0.0.{number}"
    base = RayNode(
        f"node{number:04}", ip, head=number == 1, state="ALIVE", total=Resources(gpu=2.0, cpu=96.0),
        used=Resources(gpu=1.0, cpu=4.0),
    )  # fmt: skip
    return replace(base, **more)


def snapshot(at: float = T, **more: Any) -> RaySnapshot:
    base = RaySnapshot(
        at, version="2.60.0", nodes=tuple(node(number) for number in range(1, 5)), serve=Serve(False),
        demands=Demands(), groups=(), actors=(), jobs=Jobs(), head_time=at, usage_at=at,
    )  # fmt: skip
    return replace(base, **more)


def with_ray(*snapshots: RaySnapshot, hosts: bool = True) -> Live:
    live = fresh()
    if hosts:
        for each in SITES:
            live.feed(host(T, each.name))
    for each_look in snapshots:
        live.feed(ray.record(each_look))
    return live


def seen(
    panel: Any, live: Live, now: float = T, lang: Lang = Lang.EN, *, width: int = 116, height: int | None = None
) -> list[str]:
    """The panel's rows as text, as they stand after a look."""
    panel.look(live, now, lang, height=height)
    lines = [panel.row(key, width, key == panel.first) for key in panel.keys]
    assert {sum(cell_len(text) for text, _ in line) for line in lines} <= {width}, "every row is as wide as it may be"
    assert len(set(panel.keys)) == len(panel.keys)
    return ["".join(text for text, _ in line).strip() for line in lines]


def tones(panel: Any, key: str, width: int = 116) -> set[Tone]:
    return {tone for text, tone in panel.row(key, width, False) if text.strip()}


# Ray


def test_a_healthy_cluster_in_a_few_lines() -> None:
    panel = RayPanel()
    told = seen(panel, with_ray(snapshot()), height=8)
    assert panel.title() == "Ray 2.60.0"
    assert told == [
        "nodes      4 of 4 alive",
        "resources  GPU: Ray 8, inventory 8, NVML 8 · 4 used · CPU 16 of 384 used",
        "Serve      no application is deployed",
        "pending    nothing waits for resources",
    ]


def test_zoomed_every_host_is_there_and_leads_to_itself() -> None:
    panel = RayPanel()
    told = seen(panel, with_ray(snapshot()))
    assert told[1].split() == [
        "gpu-01", "alive", "GPU:", "Ray", "2,", "inventory", "2,", "NVML", "2", "·", "1", "used", "·", "head",
    ]  # fmt: skip
    assert [panel.host(key) for key in panel.keys[1:5]] == [each.name for each in SITES]
    assert panel.host("nodes") is None


def test_a_dead_node_says_why_before_its_numbers() -> None:
    dead = node(3, state="DEAD", message="health check failed due to missing too many heartbeats")
    panel = RayPanel()
    told = seen(panel, with_ray(snapshot(nodes=(node(1), node(2), dead, node(4)))), height=8)
    assert told[0] == "nodes      ! 3 of 4 alive"
    assert told[1].startswith("✗ gpu-03   DEAD     health check failed due to missing too many heartbeats · GPU: Ray 0")
    assert "✗ GPU: Ray 6, inventory 8, NVML 8" in told[2]
    assert panel.host("host gpu-03") == "gpu-03"


def test_a_host_that_never_joined_and_a_stranger() -> None:
    stranger = node(9)
    told = seen(RayPanel(), with_ray(snapshot(nodes=(node(1), node(2), node(3), stranger))), height=8)
    assert told[0] == "nodes      ! 3 of 4 alive · ! 1 not in the inventory: 10.0.0.9"
    assert told[1].startswith("✗ gpu-04   ABSENT")


def test_what_ray_still_believes() -> None:
    live = with_ray(snapshot())
    live.feed(lost(T + 1, "host:gpu-02"))
    live.feed(ray.record(snapshot(T + 5)))
    panel = RayPanel()
    told = seen(panel, live, T + 5, height=8)
    assert told[0] == "nodes      ! 4 of 4 alive", "Ray's count is never shown as fine while it is known to be wrong"
    assert told[1] == "! Ray still counts gpu-02 as alive; its host stopped answering 4 s ago"
    assert panel.host("host gpu-02") == "gpu-02"


def test_many_hosts_in_trouble_leave_room_for_the_rest() -> None:
    live = fresh(tuple(site(number) for number in range(1, 31)))
    live.feed(ray.record(snapshot(nodes=(node(1),))))
    panel = RayPanel()
    told = seen(panel, live, height=8)
    assert told[4] == "! … and 26 more"
    assert any(line.startswith("Serve") for line in told[:8])
    assert len(seen(panel, live)) > 30, "zoomed they are all there"


def test_rays_own_view_has_an_age_of_its_own() -> None:
    panel = RayPanel()
    told = seen(panel, with_ray(snapshot(usage_at=T - 81)), height=8)
    assert "! Ray's own view is 1 min 21 s old" in told[1]
    assert "1 min 21 s old" in panel.title()
    assert "old" not in "".join(seen(panel, with_ray(snapshot(usage_at=T - 30)), height=8))


def test_how_long_the_head_is_up_and_which_agent_is_silent() -> None:
    nodes = (node(1, started_at=T - 7200), node(2, report_age=45.0), node(3), node(4))
    panel = RayPanel()
    told = seen(panel, with_ray(snapshot(nodes=nodes)))
    assert panel.title() == "Ray 2.60.0 · up 2 h"
    assert "! reported 45 s ago" in told[2]


def test_a_dashboard_that_stops_turns_grey_with_its_age_then_unknown() -> None:
    live = with_ray(snapshot())
    live.feed(lost(T + 1, "ray"))
    panel = RayPanel()
    told = seen(panel, live, T + 4)
    assert "! lost, 4.0 s old: connection refused" in told[0]
    assert tones(panel, "host gpu-01") == {Tone.DIM}
    gone = seen(panel, live, T + 400)
    assert gone == ["? unknown: connection refused"]
    assert not any(digit in "".join(gone) for digit in "0123456789"), "no number stays"


def test_a_part_that_cannot_be_read_says_why_and_the_others_stay() -> None:
    why = Text("403: the token may not read jobs", "403：令牌无权读取作业")
    fault = Fault("jobs", "/api/jobs/", Reason.PERMISSION, why)
    told = seen(RayPanel(), with_ray(snapshot(jobs=None, faults=(fault,))))
    assert told[-1] == "jobs       ? unknown: 403: the token may not read jobs"
    assert told[0] == "nodes      4 of 4 alive"


def test_a_part_that_is_not_whole_says_so() -> None:
    fault = Fault("nodes", "/nodes", Reason.PARSE_ERROR, Text("one row is no node", "有一行不是节点"), partial=True)
    told = seen(RayPanel(), with_ray(snapshot(faults=(fault,))), height=8)
    assert told[0].endswith("! incomplete: one row is no node")


def test_parts_that_were_asked_for_a_while_ago_say_when() -> None:
    told = seen(RayPanel(), with_ray(snapshot(as_of={"jobs": T - 25, "demands": T - 2})))
    assert told[-1] == "jobs       none  (25 s ago)"
    assert "ago" not in "".join(told[:-1])


def served(state: str = "RUNNING", **more: Any) -> Serve:
    copies = (
        Replica("r1x", "RUNNING", node_id="node0002", node_ip="10.0.0.2", pid=4005),
        Replica("r2y", state, node_id="node0003", node_ip="10.0.0.3"),
    )
    deployment = Deployment("LLMServer", "HEALTHY", target=2, replicas=copies)
    return Serve(True, (Application("llm", "RUNNING", deployments=(replace(deployment, **more),)),))


def test_applications_deployments_and_replicas() -> None:
    panel = RayPanel()
    told = seen(panel, with_ray(snapshot(serve=served())))
    at = told.index("Serve      llm RUNNING · 2 of 2 replicas")
    assert told[at + 1 : at + 4] == [
        "LLMServer HEALTHY · 2 of 2 replicas",
        "r1x RUNNING on gpu-02 · pid 4005",
        "r2y RUNNING on gpu-03",
    ]
    assert panel.host("replica llm/LLMServer/r1x") == "gpu-02"
    assert panel.replica("replica llm/LLMServer/r1x") is None, "no vLLM page is known by that id"


def test_a_replica_of_ray_leads_to_the_one_of_vllm() -> None:
    live = with_ray(snapshot(serve=served()))
    live.feed(vllm(T, "gpu-02/SERVE_REPLICA::llm#LLMServer#r1x"))
    panel = RayPanel()
    seen(panel, live)
    assert panel.replica("replica llm/LLMServer/r1x") == "gpu-02/SERVE_REPLICA::llm#LLMServer#r1x"
    assert panel.replica("replica llm/LLMServer/r2y") is None
    assert panel.replica("host gpu-02") is None


def test_an_unhealthy_deployment_is_there_without_zooming() -> None:
    unhealthy = served("STARTING", status="UNHEALTHY", message="replica r2y: CUDA error: device-side assert")
    panel = RayPanel()
    told = seen(panel, with_ray(snapshot(serve=unhealthy)), height=8)
    assert "✗ LLMServer UNHEALTHY · 1 of 2 replicas · replica r2y: CUDA error: device-side assert" in told
    assert "! r2y STARTING on gpu-03" in told
    assert not any("r1x" in line for line in told)


@pytest.mark.parametrize(
    ("state", "sign"),
    [("RUNNING", ""), ("HEALTHY", ""), ("UPDATING", "! "), ("UNHEALTHY", "✗ "), ("NEW_WORD", "? "), (None, "? ")],
)
def test_a_state_that_is_not_known_is_neither_good_nor_bad(state: str | None, sign: str) -> None:
    assert judged(state)[0] == sign


def test_what_waits_and_what_can_never_be_placed() -> None:
    demands = Demands(waiting=("{'GPU': 8.0}: 2+ pending tasks/actors",), failures=("no node type fits",))
    groups = (
        PlacementGroup("pg1", "train", "PENDING", "INFEASIBLE", "4 x GPU 8"),
        PlacementGroup("pg2", "", "CREATED", None, "1 x GPU 1"),
        PlacementGroup("pg3", "", "PENDING", "PENDING", "1 x GPU 1"),
    )
    told = seen(RayPanel(), with_ray(snapshot(demands=demands, groups=groups)), height=8)
    assert "pending    ! no node type fits; {'GPU': 8.0}: 2+ pending tasks/actors" in told
    assert "groups     ✗ train PENDING 4 x GPU 8 · can never be placed" in told
    assert "! pg3 PENDING 1 x GPU 1" in told
    assert not any("pg2" in line for line in told)


def test_jobs_and_actors_by_state() -> None:
    jobs = Jobs({"SUCCEEDED": 3, "FAILED": 1}, (Job("j-7", "FAILED", "exit 1\nsee driver log"),))
    actors = (Actor("a", state="ALIVE"), Actor("b", state="ALIVE"), Actor("c", state="RESTARTING"))
    told = seen(RayPanel(), with_ray(snapshot(jobs=jobs, actors=actors)))
    assert "actors     2 ALIVE, ! 1 RESTARTING" in told
    assert "jobs       ✗ 1 FAILED, 3 SUCCEEDED" in told
    assert "✗ j-7 exit 1 see driver log" in told
    small = seen(RayPanel(), with_ray(snapshot(jobs=jobs)), height=8)
    assert "jobs       ✗ 1 FAILED, 3 SUCCEEDED" in small, "a job that failed is seen without zooming"


def test_hostile_words_of_ray_stay_words() -> None:
    evil = "\x1b[2J[red]\u202e boom\r\n" * 50
    app = Application(evil, evil, message=evil, deployments=(Deployment(evil, evil, message=evil, target=1),))
    nodes = (node(1), node(2, state="DEAD", message=evil), node(3, state=evil), node(4))
    live = with_ray(snapshot(nodes=nodes, serve=Serve(True, (app,)), demands=Demands(waiting=(evil,))))
    for lang in Lang:
        told = "".join(seen(RayPanel(), live, lang=lang, width=76))
        assert "\x1b" not in told
        assert "\u202e" not in told


def test_keys_stay_while_values_change() -> None:
    panel = RayPanel()
    live = with_ray(snapshot(serve=served()))
    seen(panel, live)
    before = list(panel.keys)
    live.feed(ray.record(snapshot(T + 2, serve=served("STARTING"), demands=Demands(waiting=("x",)))))
    seen(panel, live, T + 2)
    assert panel.keys == before


# vLLM


LABELS = 'model_name="m",engine="0"'


def page(second: int, *, run: float = 4, wait: float = 0, kv: float | None = 0.5, ttft: float | None = 0.3) -> str:
    done = 4.0 * second
    lines = [
        "# TYPE vllm:num_requests_running gauge", f"vllm:num_requests_running{{{LABELS}}} {run}",
        "# TYPE vllm:num_requests_waiting gauge", f"vllm:num_requests_waiting{{{LABELS}}} {wait}",
        "# TYPE vllm:generation_tokens_total counter", f"vllm:generation_tokens_total{{{LABELS}}} {800.0 * second}",
        "# TYPE vllm:prompt_tokens_total counter", f"vllm:prompt_tokens_total{{{LABELS}}} {100.0 * second}",
    ]  # fmt: skip
    if kv is not None:
        lines += ["# TYPE vllm:kv_cache_usage_perc gauge", f"vllm:kv_cache_usage_perc{{{LABELS}}} {kv}"]
    if ttft is not None:
        edges = ("0.1", "0.5", "1.0", "+Inf")
        lines.append("# TYPE vllm:time_to_first_token_seconds histogram")
        name = "vllm:time_to_first_token_seconds"
        lines += [f'{name}_bucket{{{LABELS},le="{e}"}} {done if ttft <= float(e) else 0}' for e in edges]
        lines += [f"{name}_count{{{LABELS}}} {done}", f"{name}_sum{{{LABELS}}} {done * ttft}"]
    return "\n".join(lines) + "\n"


def vllm(at: float, name: str, second: int = 0, **more: Any) -> Record:
    (sample,) = parse_metrics(page(second, **more), at=at, replica=name)
    return record_of(sample)


def serving(*names: str, seconds: int = 30, hosts: bool = True, **sick: Any) -> Live:
    """Replicas that served until T; `sick` is of the last one."""
    live = fresh()
    for second in range(seconds, -1, -1):
        if hosts:
            for each in SITES:
                live.feed(host(T - second, each.name))
        for name in names:
            live.feed(vllm(T - second, name, 100 - second, **(sick if name == names[-1] else {})))
    return live


def cells(line: str) -> list[str]:
    return line.removeprefix("›").split()


def test_replicas_with_their_numbers_and_their_total() -> None:
    panel = VllmPanelRows()
    told = seen(panel, serving("gpu-01", "gpu-02"), height=8)
    assert panel.title() == "vLLM · 2 of 2 replicas live · times in ms"
    assert cells(told[0])[:8] == ["replica", "run", "wait", "KV", "gen", "tok/s", "TTFT", "p95"]
    assert cells(told[1])[:6] == ["gpu-01", "4", "0", "50%", "800", "480"]
    assert cells(told[3])[:6] == ["total", "8", "0", "50%", "1,600", "480"]


def test_the_worst_replica_is_first_and_the_cursor_begins_on_it() -> None:
    panel = VllmPanelRows()
    told = seen(panel, serving("gpu-01", "gpu-02", kv=0.97), height=8)
    assert panel.first == "replica gpu-02"
    assert told[1].startswith("› ! gpu-02")
    assert "97% !" in told[1]
    assert "! KV cache 97% full" in told[1]
    assert panel.replica(panel.first) == "gpu-02"


def test_zoomed_words_stand_whole_below_their_replica_and_lead_to_it() -> None:
    panel = VllmPanelRows()
    live = serving("gpu-01", "gpu-02", kv=0.97, wait=9)
    seen(panel, live, width=76)
    told = seen(panel, live, width=76)
    assert told[2] == "! KV cache 97% full  ! 9 wait while 4 of 128 run"
    assert panel.replica(panel.keys[2]) == "gpu-02"
    assert panel.replica("head") is None


def test_what_is_wrong_below_a_replica_is_hinted_at() -> None:
    live = serving("gpu-01", "gpu-02")
    live.feed(host(T, "gpu-02", reasons=["hw_thermal_slowdown"]))
    told = seen(VllmPanelRows(), live, height=8)
    (row,) = (line for line in told if "gpu-02 " in line)
    assert "← gpu-02:1 hardware thermal slowdown" in row


def test_a_metric_that_is_not_there_is_never_zero() -> None:
    live = serving("gpu-01", "gpu-02", kv=None, ttft=None)
    panel = VllmPanelRows()
    told = seen(panel, live, width=160)
    row = next(line for line in told if "gpu-02 " in line)
    assert cells(row)[cells(row).index("gpu-02") + 3] == "?", "KV"
    notes = [line for line in told if "no metric on this page" in line]
    assert any(line.startswith("? gpu-02: ") and "KV" in line and "TTFT p95" in line for line in notes)
    total = next(line for line in told if line.startswith("total"))
    assert "≥50%" in total, "the total says that one is not in it"


def test_an_idle_replica_has_no_latency_and_that_is_no_fault() -> None:
    live = fresh()
    for second in range(30):
        live.feed(vllm(T - 29 + second, "gpu-01", 100, run=0))
    told = seen(VllmPanelRows(), live, height=8)
    assert cells(told[1])[:6] == ["gpu-01", "0", "0", "50%", "0", "-"]


def test_a_latency_beyond_the_last_bucket_says_at_least() -> None:
    told = seen(VllmPanelRows(), serving("gpu-01", ttft=7.0), height=8)
    assert "≥1,000" in told[1]


def test_old_values_are_grey_with_their_age_then_unknown_without_a_number() -> None:
    live = serving("gpu-01", "gpu-02")
    for second in range(1, 7):
        live.feed(vllm(T + second, "gpu-01", 100 + second))
    panel = VllmPanelRows()
    told = seen(panel, live, T + 6, height=8)
    row = next(line for line in told if "gpu-02 " in line)
    assert "6.0 s old" in row
    assert Tone.PLAIN not in tones(panel, "replica gpu-02")
    assert panel.title().startswith("vLLM · ! 1 of 2 replicas live")
    assert "≥" in next(line for line in told if line.startswith("total"))
    live.feed(lost(T + 8, "vllm:gpu-02"))
    gone = seen(panel, live, T + 60, height=8)
    assert "? gpu-02     unknown: connection refused" in gone
    assert gone[1].startswith("› ? gpu-01"), "both are unknown by now"


def test_no_replica_at_all_is_unknown() -> None:
    panel = VllmPanelRows()
    told = seen(panel, fresh())
    assert panel.title() == "vLLM · no replica is watched"
    assert told == ["? no vLLM replica is known"]


def test_an_engine_that_hangs_is_doubted() -> None:
    live = fresh()
    for second in range(45):
        live.feed(vllm(T - 44 + second, "gpu-01", 100))
    panel = VllmPanelRows()
    told = "\n".join(seen(panel, live))
    assert "the engine hangs" in told
    assert Tone.PLAIN not in tones(panel, "replica gpu-01")


def test_charts_only_where_there_is_room_and_as_wide_as_that() -> None:
    live = serving("gpu-01")
    panel = VllmPanelRows()
    assert not any(key.startswith("chart") for key in panel.keys)
    for width, count in ((76, 36), (116, 18), (196, 27)):
        seen(panel, live, width=width)
        told = seen(panel, live, width=width)
        assert sum(key.startswith("chart") for key in panel.keys) == count
        assert any("generation tokens/s  800" in line for line in told)
    seen(panel, live, height=9)
    assert not any(key.startswith("chart") for key in panel.keys)


def test_a_chart_of_what_is_not_there_says_why() -> None:
    told = seen(VllmPanelRows(), serving("gpu-01", kv=None))
    assert any("fullest KV cache, %  ? not exported" in line for line in told)


@pytest.mark.parametrize("lang", list(Lang), ids=lambda lang: lang.value)
@pytest.mark.parametrize("room", [40, 60, 100, 140, 200])
def test_columns_are_as_wide_as_their_headings(room: int, lang: Lang) -> None:
    columns = fitting(COLUMNS, room)
    assert sum(column.cells + 1 for column in columns) <= room
    assert all(cell_len(column.head[lang]) <= column.cells for column in COLUMNS)
    assert columns[0].head.en == "run"


def test_columns_do_not_move_while_values_grow() -> None:
    live = serving("gpu-01", "gpu-02", run=123_456_789, wait=4e9)
    panel = VllmPanelRows()
    told = seen(panel, live, height=8)
    head, first = told[0], next(line for line in told if "gpu-01" in line)
    assert panel.row("head", 116, False)[1][0].index("KV") > 0
    assert len(head) <= 116
    assert "50%" in first


def test_hostile_names_of_replicas() -> None:
    name = "\x1b[31m[/red]" + "很长" * 60
    for lang in Lang:
        told = "".join(seen(VllmPanelRows(), serving("gpu-01", name, hosts=False, kv=0.99), lang=lang, width=76))
        assert "\x1b" not in told


# Events


def test_events_newest_first_with_their_source() -> None:
    live = with_ray(snapshot())
    live.feed(ray.record(snapshot(T + 2, nodes=(node(1), node(2), node(3, state="DEAD", message="gone"), node(4)))))
    live.feed(lost(T + 3, "vllm:gpu-02"))
    live.feed(host(T + 4, "gpu-01", reasons=["hw_thermal_slowdown"]))
    panel = EventPanel()
    told = seen(panel, live, T + 5)
    assert [line.split()[-1] for line in told[:3]] == ["host", "vLLM", "Ray"]
    assert "✗ gpu-01:1 hardware thermal slowdown began" in told[0]
    assert panel.host(panel.keys[0]) == "gpu-01"
    assert panel.replica(panel.keys[1]) == "gpu-02"
    assert (panel.host(panel.keys[2]), panel.replica(panel.keys[2])) == (None, None)
    assert "host" not in seen(EventPanel(), live, T + 5, width=60)[0]


def test_the_keys_of_events_stay_when_more_come() -> None:
    live = fresh()
    for number in range(5):
        live.feed(lost(T, f"vllm:r{number}"))
    live.feed(lost(T, "vllm:last", "another reason"))
    panel = EventPanel()
    seen(panel, live)
    before = list(panel.keys)
    live.feed(host(T + 4, "gpu-01"))
    live.feed(host(T + 5, "gpu-01", reasons=["hw_thermal_slowdown"]))
    seen(panel, live)
    assert panel.keys[-len(before) :] == before
    assert len(panel.keys) == len(before) + 1


def test_a_replay_that_begins_again_shows_the_events_of_then() -> None:
    live = fresh()
    live.feed(lost(T, "vllm:one"))
    panel = EventPanel()
    assert "one" in seen(panel, live)[0]
    live.clear()
    live.feed(lost(T, "vllm:two"))
    assert "two" in seen(panel, live)[0], "as many events as before, and others"


def test_no_event_yet() -> None:
    panel = EventPanel()
    assert seen(panel, fresh()) == []
    assert panel.title() == "events · nothing has changed yet"
