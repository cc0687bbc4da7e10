"""What screens look at: outliers first, alike ones folded, Ray and vLLM with their age, and the trail to a GPU."""

from dataclasses import replace
from pathlib import Path

import pytest

from dstui.facts.case import HostSite
from dstui.model import Reason, Text
from dstui.telemetry import live_views, ray
from dstui.telemetry.live import Live
from dstui.telemetry.live_grid import GridSort
from dstui.telemetry.live_status import Status
from dstui.telemetry.live_vllm import VllmColumn
from dstui.telemetry.ray import (
    Actor,
    Application,
    Deployment,
    Fault,
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
from dstui.telemetry.windows import Absent, Present

T = 1_800_000_000.0
PAGE = (Path(__file__).parents[1] / "data" / "vllm" / "metrics_during_load.txt").read_text()


def site(number: int, role: str = "worker") -> HostSite:
    ip = f"10.0.0.{number}"
    return HostSite(f"gpu-{number:02}", frozenset({role}), ip, None, ip, 22, "ops", True, 2)


SITES = tuple(site(number, "head" if number == 1 else "worker") for number in range(1, 9))


def gpu(index: int, **more: object) -> dict[str, object]:
    row: dict[str, object] = {
        "index": index, "uuid": f"GPU-{index}", "name": "NVIDIA H100 80GB HBM3", "util": 95, "mem_used": 72e9,
        "mem_total": 80e9, "temp": 65, "power": 600.0, "reasons": [], "procs": [], "error": None,
    }  # fmt: skip
    return row | more


def host(at: float, name: str, *gpus: dict[str, object], **more: object) -> Record:
    rows = gpus or (gpu(0), gpu(1))
    data: dict[str, object] = {"seq": int(at - T), "hz": 1.0, "gpu_source": "nvml", "gpus": list(rows), **more}
    return Record(at, f"host:{name}", RecordKind.SAMPLE, data)


def fleet(seconds: int = 1, **odd: list[dict[str, object]]) -> Live:
    """Eight hosts that do the same, except the named ones, for some seconds until T."""
    live = Live(Watched("ds", SITES, max_num_seqs=256))
    for second in range(seconds):
        for each in SITES:
            live.feed(host(T - seconds + 1 + second, each.name, *odd.get(each.name.replace("-", "_"), [])))
    return live


def names(live: Live, now: float = T, *args: object, **kwargs: object) -> list[tuple[str, ...]]:
    return [row.hosts for row in live_views.grid(live, now, *args, **kwargs).rows]  # type: ignore[arg-type]


def marks(live: Live, name: str, now: float = T) -> list[str]:
    (row,) = (row for row in live_views.grid(live, now, fold=False).rows if row.hosts == (name,))
    return [live_views.live_strip.mark_text(mark).en for mark in row.marks]


def test_hosts_that_are_alike_are_one_row_and_outliers_come_first() -> None:
    live = fleet(gpu_05=[gpu(0), gpu(1, reasons=["hw_thermal_slowdown"], temp=88)])
    view = live_views.grid(live, T)
    assert [row.hosts for row in view.rows] == [
        ("gpu-05",),
        ("gpu-01", "gpu-02", "gpu-03", "gpu-04", "gpu-06", "gpu-07", "gpu-08"),
    ]
    assert [mark.kind for mark in view.rows[0].marks] == ["hw_thermal_slowdown", "hot", "temp-high"]
    rest = view.rows[1]
    assert (rest.sample, rest.gpus, rest.expected, rest.telling, rest.mean_use) == (None, 14, 14, 14, 95)
    assert (rest.use, rest.temp, rest.memory, rest.power) == ((95, 95), (65, 65), 0.9, 14 * 600)
    assert view.by_status == {Status.LIVE: 8}


def test_few_hosts_are_not_folded() -> None:
    live = Live(Watched("ds", SITES[:3]))
    for each in SITES[:3]:
        live.feed(host(T, each.name))
    assert names(live) == [("gpu-01",), ("gpu-02",), ("gpu-03",)]


@pytest.mark.parametrize(
    ("use", "found"),
    [(64, ["GPU 1: use 64%, fleet 95%"]), (65, []), (95, [])],
)
def test_use_far_from_the_fleets(use: int, found: list[str]) -> None:
    assert marks(fleet(gpu_03=[gpu(0), gpu(1, util=use)]), "gpu-03") == found


def test_use_far_above_an_idle_fleet() -> None:
    idle = {f"gpu_{n:02}": [gpu(0, util=0), gpu(1, util=0)] for n in range(1, 9)}
    live = fleet(**(idle | {"gpu_02": [gpu(0, util=31), gpu(1, util=30)]}))
    assert marks(live, "gpu-02") == ["GPU 0: use 31%, fleet 0%"]


def test_one_low_sample_is_no_outlier() -> None:
    live = fleet(seconds=10)
    live.feed(host(T + 1, "gpu-03", gpu(0), gpu(1, util=0)))
    assert marks(live, "gpu-03", T + 1) == []
    for each in SITES:
        live.feed(host(T + 2, each.name, gpu(0), gpu(1, util=0 if each.name == "gpu-03" else 95)))
    assert marks(live, "gpu-03", T + 2) == ["GPU 1: use 61%, fleet 95%"]


@pytest.mark.parametrize(
    ("temp", "kinds"), [(79, []), (82, ["temp-high"]), (48, ["temp-low"]), (84, ["hot", "temp-high"])]
)
def test_temperature_far_from_the_fleets(temp: int, kinds: list[str]) -> None:
    live = fleet(gpu_03=[gpu(0), gpu(1, temp=temp)])
    (row,) = (row for row in live_views.grid(live, T, fold=False).rows if row.hosts == ("gpu-03",))
    assert [mark.kind for mark in row.marks] == kinds


def test_missing_gpus_and_lost_hosts_stand_out() -> None:
    live = fleet(gpu_03=[gpu(0)], gpu_04=[gpu(0), gpu(1, error="GPU_IS_LOST", util=None, temp=None, mem_used=None)])
    live.feed(Record(T, "host:gpu-05", RecordKind.LOST, {"reason": "timeout", "why": "gpu-05: no sample for 5 s"}))
    assert marks(live, "gpu-03") == ["1 of 2 GPUs"]
    assert marks(live, "gpu-04") == ["GPU 1: gone, NVML says GPU_IS_LOST"]
    assert marks(live, "gpu-05") == ["stopped answering: no sample for 5 s"]
    assert set(names(live)[:3]) == {("gpu-03",), ("gpu-04",), ("gpu-05",)}


def test_hosts_with_the_same_trouble_are_one_row_without_the_numbers_of_one() -> None:
    odd = {f"gpu_{n:02}": [gpu(0), gpu(1, util=10 + n)] for n in (1, 2, 3)}
    rows = live_views.grid(fleet(**odd), T).rows
    assert [len(row.hosts) for row in rows] == [1, 1, 1, 5]
    (live_mark,) = live_views.grid(fleet(**(odd | {"gpu_04": [gpu(0), gpu(1, util=14)]}), seconds=1), T).rows[0].marks
    assert (live_mark.text.en, live_mark.gpus) == ("use far below the fleet's", ())


@pytest.mark.parametrize(
    ("sort", "first"),
    [(GridSort.NAME, "gpu-01"), (GridSort.USE, "gpu-06"), (GridSort.TEMP, "gpu-07"), (GridSort.MEMORY, "gpu-08")],
)
def test_sorting(sort: GridSort, first: str) -> None:
    live = fleet(
        gpu_06=[gpu(0), gpu(1, util=80)], gpu_07=[gpu(0), gpu(1, temp=70)], gpu_08=[gpu(0, mem_used=79e9), gpu(1)],
        gpu_02=[gpu(0, util=None, temp=None, mem_used=None), gpu(1, util=None, temp=None, mem_used=None)],
    )  # fmt: skip
    order = names(live, T, sort, fold=False)
    assert order[0] == (first,)
    if sort is not GridSort.NAME:
        assert order[-1] == ("gpu-02",)


def test_filtering() -> None:
    live = fleet(gpu_05=[gpu(0), gpu(1, reasons=["hw_thermal_slowdown"])])
    assert names(live, T, GridSort.NAME, "GPU-03") == [("gpu-03",)]
    assert names(live, T, GridSort.NAME, "thermal gpu-0") == [("gpu-05",)]
    assert names(live, T, GridSort.NAME, "过热") == [("gpu-05",)]
    assert names(live, T, GridSort.NAME, "nothing") == []
    view = live_views.grid(live, T, only_marked=True)
    assert ([row.hosts for row in view.rows], view.filtered, view.hosts) == ([("gpu-05",)], 7, 8)


def test_rows_follow_new_samples_and_time() -> None:
    live = fleet()
    assert live_views.grid(live, T, fold=False).rows[0].mean_use == 95
    live.feed(host(T + 1, "gpu-01", gpu(0, util=85), gpu(1, util=85)))
    view = live_views.grid(live, T + 1, GridSort.NAME, fold=False)
    assert view.rows[0].mean_use == 85
    assert live_views.grid(live, T + 30, GridSort.NAME, fold=False).rows[0].sample is None


def test_the_strip_counts_live_hosts_alone() -> None:
    live = fleet(gpu_05=[gpu(0, util=None), gpu(1, util=55)])
    live.feed(Record(T, "host:gpu-02", RecordKind.LOST, {"reason": "timeout", "why": "silent"}))
    line = live_views.strip(live, T).gpus
    assert (line.hosts, line.live, line.seen, line.expected, line.whole) == (8, 7, 14, 16, False)
    assert line.use == pytest.approx((12 * 95 + 55) / 13)
    assert line.worst is not None
    assert (line.worst.host, line.worst.text.en) == ("gpu-02", "stopped answering: silent")
    assert line.shown.status is Status.LIVE


def test_a_gpu_that_is_listed_as_lost_is_not_counted() -> None:
    live = fleet(gpu_04=[gpu(0), gpu(1, error="GPU_IS_LOST", util=None, temp=None, mem_used=None)])
    line = live_views.strip(live, T).gpus
    assert (line.seen, line.expected) == (15, 16)
    assert line.worst is not None and line.worst.text.en == "GPU 1: gone, NVML says GPU_IS_LOST"


def test_the_strip_without_any_live_host_has_no_numbers() -> None:
    line = live_views.strip(fleet(), T + 60).gpus
    assert (line.shown.status, line.seen, line.use) == (Status.UNKNOWN, 0, None)
    line = live_views.strip(fleet(), T + 9).gpus
    assert (line.shown.status, line.shown.age, line.use) == (Status.LATE, 9, None)


def test_the_strip_before_anything_was_heard_and_without_sources() -> None:
    view = live_views.strip(Live(Watched("ds", SITES, intervals={"host": 1.0})), T)
    assert [part.shown.status for part in (view.gpus, view.ray, view.serve, view.vllm)] == [Status.UNKNOWN] * 4
    assert view.gpus.worst is None
    assert view.ray.shown.why == Text("the inventory has no ray.dashboard_url", "清单中没有 ray.dashboard_url")
    assert view.vllm.shown.why is not None and "endpoints.backends" in view.vllm.shown.why.en
    empty = live_views.strip(Live(Watched("ds")), T)
    assert empty.gpus.shown.status is Status.UNKNOWN


def node(number: int, state: str = "ALIVE") -> RayNode:
    return RayNode(f"n{number}", f"10.0.0.{number}", f"gpu-{number:02}", number == 1, state, total=Resources(2, 64))


def snapshot(at: float, **more: object) -> RaySnapshot:
    nodes = tuple(node(number) for number in range(1, 9))
    replicas = (
        Replica("r1", "RUNNING", "n3", "10.0.0.3", 4242, spans=("n3", "n4")),
        Replica("r2", "STARTING", "n5", "10.0.0.5", 4243),
    )
    serve = Serve(True, (Application("llm", "RUNNING", deployments=(Deployment("LLM", "HEALTHY", target=2,
                  replicas=replicas),)),))  # fmt: skip
    actors = (Actor("a1", "RayWorkerWrapper", state="ALIVE", node_id="n4", pid=777),)
    as_of = dict.fromkeys(("nodes", "serve", "actors"), at)
    whole = RaySnapshot(at, "2.55.1", "s1", "disabled", nodes=nodes, serve=serve, actors=actors, as_of=as_of)
    return replace(whole, **more)  # type: ignore[arg-type]


def test_ray_and_serve_in_the_strip() -> None:
    live = fleet()
    dead = tuple(node(number, "DEAD" if number == 6 else "ALIVE") for number in range(1, 9))
    live.feed(ray.record(snapshot(T, nodes=dead)))
    view = live_views.strip(live, T)
    assert (view.ray.alive, view.ray.expected, view.ray.shown.status) == (7, 8, Status.LIVE)
    assert (view.serve.status, view.serve.bad, view.serve.running, view.serve.target) == (
        Text("RUNNING", "RUNNING"), False, 1, 2,
    )  # fmt: skip


def test_the_worst_application_is_the_state_of_serve() -> None:
    live = fleet()
    apps = (Application("a", "RUNNING"), Application("b", "DEPLOY_FAILED"), Application("c", "DEPLOYING"))
    live.feed(ray.record(snapshot(T, serve=Serve(True, apps))))
    line = live_views.strip(live, T).serve
    assert (line.status, line.bad) == (Text("DEPLOY_FAILED", "DEPLOY_FAILED"), True)
    live.feed(ray.record(snapshot(T + 1, serve=Serve(True, (Application("a", "NEW_WORD"), apps[0])))))
    assert live_views.strip(live, T + 1).serve.bad
    live.feed(ray.record(snapshot(T + 2, serve=Serve(False))))
    line = live_views.strip(live, T + 2).serve
    assert (line.status, line.running) == (Text("not deployed", "未部署"), None)


def test_a_lost_dashboard_turns_old_and_then_unknown() -> None:
    live = fleet()
    live.feed(ray.record(snapshot(T)))
    fault = Fault("version", "/api/version", Reason.TIMEOUT, Text("did not answer within 5 s", "5 秒内没有应答"))
    live.feed(ray.record(RaySnapshot(T + 5, faults=(fault,), lost=fault)))
    view = live_views.ray_view(live, T + 6)
    assert (view.shown.status, view.nodes.shown.status, view.nodes.shown.age) == (Status.LOST, Status.LOST, 6)
    assert view.snapshot is None and view.nodes.value is not None and view.comparison is not None
    assert view.nodes.shown.why == fault.why
    view = live_views.ray_view(live, T + 21)
    assert (view.nodes.value, view.serve.value, view.comparison, view.version.value) == (None, None, None, None)
    assert view.nodes.shown.status is Status.UNKNOWN and view.nodes.shown.why == fault.why
    strip = live_views.strip(live, T + 21)
    assert (strip.ray.alive, strip.ray.expected, strip.serve.status, strip.serve.running) == (None,) * 4
    assert [e.text.en for e in live_views.events(live)] == [
        "the Ray dashboard cannot be read: did not answer within 5 s"
    ]


def test_one_endpoint_that_fails_leaves_the_rest_live() -> None:
    live = fleet()
    live.feed(ray.record(snapshot(T)))
    fault = Fault("serve", "/api/serve/applications/", Reason.TIMEOUT, Text("slow", "慢"))
    live.feed(ray.record(snapshot(T + 2, serve=None, faults=(fault,), as_of={"nodes": T + 2})))
    view = live_views.ray_view(live, T + 2)
    assert (view.nodes.shown.status, view.serve.shown.status, view.serve.shown.age) == (Status.LIVE, Status.LOST, 2)
    assert view.serve.value is not None and view.serve.fault == fault
    for second in range(4, 30, 2):
        live.feed(ray.record(snapshot(T + second, serve=None, faults=(fault,), as_of={"nodes": T + second})))
    view = live_views.ray_view(live, T + 28)
    assert (view.nodes.shown.status, view.serve.shown.status, view.serve.value) == (Status.LIVE, Status.UNKNOWN, None)


def test_a_loss_without_the_words_of_a_snapshot() -> None:
    live = fleet()
    live.feed(Record(T, "ray", RecordKind.LOST, {"reason": "timeout", "why": "no way"}))
    view = live_views.ray_view(live, T)
    assert view.shown.status is Status.UNKNOWN and view.shown.why == Text("no way", "no way")


def test_what_ray_still_believes_of_a_lost_host() -> None:
    live = fleet()
    live.feed(Record(T + 1, "host:gpu-06", RecordKind.LOST, {"reason": "unreachable", "why": "gone"}))
    live.feed(ray.record(snapshot(T + 5)))
    view = live_views.ray_view(live, T + 5)
    assert view.beliefs["gpu-06"].en == "Ray still counts gpu-06 as alive; its host stopped answering 4 s ago"
    assert live_views.strip(live, T + 5).ray.believed == 1


def without_raylet(at: float, *numbers: int) -> Record:
    gone = tuple(replace(node(n), raylet_gone_at=T + 3 if n in numbers else None) for n in range(1, 9))
    return ray.record(snapshot(at, nodes=gone))


def test_a_raylet_that_is_gone_while_its_host_answers() -> None:
    live = fleet()
    live.feed(ray.record(snapshot(T)))
    live.feed(without_raylet(T + 5, 6))
    view = live_views.ray_view(live, T + 5)
    assert view.beliefs == {
        "gpu-06": Text(
            "Ray still counts gpu-06 as alive; its raylet has been gone for 2 s, the host answers",
            "Ray 仍认为 gpu-06 存活；其 raylet 已消失 2 秒，主机本身有应答",
        )
    }
    assert live_views.strip(live, T + 5).ray.believed == 1
    told = live_views.events(live)[0]
    assert told.text.en == "gpu-06 has no raylet any more, though the host answers; Ray still counts it as alive"
    live.feed(without_raylet(T + 7, 6))
    assert len(live_views.events(live)) == 1, "told once"
    dead = tuple(node(n, "DEAD" if n == 6 else "ALIVE") for n in range(1, 9))
    live.feed(ray.record(snapshot(T + 9, nodes=dead)))
    assert live_views.ray_view(live, T + 9).beliefs == {}


def test_a_host_that_is_silent_itself_says_nothing_of_its_raylet() -> None:
    live = fleet()
    live.feed(without_raylet(T + 5, 6))
    live.feed(Record(T + 5, "host:gpu-06", RecordKind.LOST, {"reason": "unreachable", "why": "gone"}))
    assert "stopped answering" in live_views.ray_view(live, T + 5).beliefs["gpu-06"].en


def test_nobody_believes_in_a_second_raylet() -> None:
    live = fleet()
    second = replace(node(6), node_id="n6-new")
    nodes = (*(replace(node(n), raylet_gone_at=T if n == 6 else None) for n in range(1, 9)), second)
    live.feed(ray.record(snapshot(T + 5, nodes=nodes)))
    assert live_views.ray_view(live, T + 5).beliefs == {}


def test_nvml_counts_beside_ray() -> None:
    live = fleet(gpu_03=[gpu(0)])
    live.feed(ray.record(snapshot(T)))
    compared = live_views.ray_view(live, T).comparison
    assert compared is not None
    assert (compared.gpus.ray, compared.gpus.inventory, compared.gpus.nvml) == (16, 16, 15)
    old = live_views.ray_view(live, T + 5).comparison
    assert old is not None and old.gpus.nvml is None


def vllm(at: float, name: str, text: str = PAGE) -> Record:
    (sample,) = parse_metrics(text, at=at, replica=name)
    return record_of(sample)


def test_vllm_in_the_strip() -> None:
    live = fleet()
    live.feed(vllm(T, "gpu-03"))
    live.feed(vllm(T, "gpu-05"))
    line = live_views.strip(live, T).vllm
    assert (line.shown.status, line.replicas, line.live) == (Status.LIVE, 2, 2)
    running = line.running.value
    assert isinstance(running, Present) and running.value > 0
    assert isinstance(line.ttft_p95, Absent)
    old = live_views.strip(live, T + 60).vllm
    assert (old.shown.status, old.live) == (Status.UNKNOWN, 0)
    assert isinstance(old.running.value, Absent)


def test_vllm_is_remembered_for_charts() -> None:
    live = fleet()
    for second in range(3):
        live.feed(vllm(T + second, "gpu-03"))
    points = [value for _, value in live.vllm.replicas["gpu-03"].points(VllmColumn.RUNNING)]
    assert len(points) == 3 and points[0] == points[2] is not None
    assert [value for _, value in live.vllm.totals.points(VllmColumn.RUNNING)] == points
    live.feed(vllm(T + 400, "gpu-05"))
    assert set(live.vllm.replicas) == {"gpu-05"}


def test_alarms_are_told_when_they_begin_and_when_they_are_over() -> None:
    live = fleet()
    full = PAGE
    for line in PAGE.splitlines():
        if line.startswith("vllm:kv_cache_usage_perc{"):
            full = full.replace(line, line.rsplit(" ", 1)[0] + " 0.97")
    assert full != PAGE
    live.feed(vllm(T, "gpu-03"))
    for second in range(1, 4):
        live.feed(vllm(T + second, "gpu-03", full))
    for second in range(4, 20):
        live.feed(vllm(T + second, "gpu-03"))
    told = [(e.at - T, e.text.en) for e in live.log.newest()[::-1] if "KV" in e.text.en]
    assert told[0] == (1, "vLLM gpu-03 KV cache 97% full")
    assert told[1][0] == 13 and told[1][1].startswith("vLLM gpu-03 is fine again: KV cache")
    assert len(told) == 2


def test_a_replica_that_stops_answering_is_told() -> None:
    live = fleet()
    live.feed(vllm(T, "gpu-03"))
    for second in (1, 2):
        data = {"reason": "unreachable", "why": "connection refused", "zh": "无法连接"}
        live.feed(Record(T + second, "vllm:gpu-03", RecordKind.LOST, data))
    live.feed(vllm(T + 3, "gpu-03"))
    told = [e.text for e in live.log.newest()[::-1]]
    assert told == [
        Text("vLLM gpu-03 gives no metrics: connection refused", "vLLM gpu-03 无法获取指标：无法连接"),
        Text("vLLM gpu-03 gives metrics again", "vLLM gpu-03 恢复提供指标"),
    ]


def test_the_trail_by_process_id_over_the_hosts_of_a_placement_group() -> None:
    odd = [gpu(0, procs=[{"pid": 4242}], reasons=["hw_thermal_slowdown"]), gpu(1, reasons=["sw_thermal_slowdown"])]
    live = fleet(gpu_03=odd, gpu_04=[gpu(0), gpu(1, uuid="GPU-x", procs=[{"pid": 1}, {"pid": 777}])])
    live.feed(ray.record(snapshot(T)))
    live.feed(vllm(T, "gpu-03"))
    trail = live_views.trail(live, "gpu-03", T)
    assert (trail.node_id, trail.hosts, trail.pids, trail.matched) == ("n3", ("gpu-03", "gpu-04"), (4242, 777), True)
    assert [(gpu.host, gpu.index, gpu.uuid, gpu.pids) for gpu in trail.gpus] == [
        ("gpu-03", 0, "GPU-0", (4242,)),
        ("gpu-04", 1, "GPU-x", (777,)),
    ]
    assert [reason.en for reason in trail.reasons] == ["gpu-03: GPU 0: hardware thermal slowdown"]
    assert trail.how.en == "matched by process id"


def test_the_trail_without_a_match_names_all_gpus_and_says_so() -> None:
    live = fleet(gpu_03=[gpu(0), gpu(1, reasons=["hw_slowdown"])])
    live.feed(ray.record(snapshot(T)))
    trail = live_views.trail(live, "gpu-03:8000", T)
    assert (trail.matched, len(trail.gpus), trail.pids) == (False, 4, (4242, 777))
    assert trail.how.en.startswith("NVML sees none of its processes")
    assert [reason.en for reason in trail.reasons] == ["gpu-03: GPU 1: hardware slowdown"]


def test_the_trail_without_ray() -> None:
    live = fleet()
    trail = live_views.trail(live, "10.0.0.7", T)
    assert (trail.hosts, trail.node_id, trail.pids, len(trail.gpus)) == (("gpu-07",), None, (), 2)
    assert trail.how.en.startswith("Ray tells no process")
    gone = live_views.trail(live, "10.0.0.7", T + 60)
    assert gone.gpus == () and gone.how.en == "the host's GPUs cannot be seen now"
    assert gone.shown is not None and gone.shown.status is Status.UNKNOWN


def test_the_trail_of_what_nobody_knows() -> None:
    trail = live_views.trail(fleet(), "elsewhere:8000", T)
    assert (trail.hosts, trail.gpus, trail.shown) == ((), (), None)
    assert trail.how.en == "neither its metrics nor Ray tell on which host it runs"


def test_two_replicas_on_one_node_share_no_workers() -> None:
    live = fleet(gpu_03=[gpu(0, procs=[{"pid": 11}]), gpu(1, procs=[{"pid": 777}])])
    replicas = (
        Replica("r1", "RUNNING", "n3", "10.0.0.3", 11),
        Replica("r2", "RUNNING", "n3", "10.0.0.3", 12),
    )
    serve = Serve(True, (Application("llm", "RUNNING", deployments=(Deployment("LLM", replicas=replicas),)),))
    actors = (Actor("a1", node_id="n3", pid=777),)
    live.feed(ray.record(snapshot(T, serve=serve, actors=actors)))
    trail = live_views.trail(live, "gpu-03/r1", T)
    assert (trail.pids, [gpu.index for gpu in trail.gpus], trail.matched) == ((11,), [0], True)
    assert live_views.trail(live, "gpu-03", T).pids == ()


def test_alarms_of_the_replica_are_reasons() -> None:
    live = fleet()
    live.feed(vllm(T, "gpu-03"))
    data = {"reason": "unreachable", "why": "connection refused"}
    live.feed(Record(T + 1, "vllm:gpu-03", RecordKind.LOST, data))
    reasons = live_views.trail(live, "gpu-03", T + 1).reasons
    assert reasons[0].en == "does not answer: connection refused"
