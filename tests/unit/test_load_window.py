"""The cluster's side of a window: what hosts, GPUs, links and replicas did in it, and what of that is not known."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from dstui.facts.case import HostSite
from dstui.load.watching import WindowFold
from dstui.load.window import HostWindow, ReplicaWindow, quantile_of
from dstui.telemetry.record import Record, RecordKind
from dstui.telemetry.vllm import parse_metrics
from dstui.telemetry.vllm_records import record_of
from dstui.telemetry.watched import Watched

BEGIN, END = 1000.0, 1090.0
HOST = HostSite("gpu-01", frozenset({"head"}), "198.51.100.11", None, "198.51.100.11", 22, "ops", True, 1)
GIB = 1 << 30


def watched(limit: int | None = 8) -> Watched:
    return Watched("c", (HOST,), max_num_seqs=limit)


def sample(at: float, **changed: object) -> Record:
    gpu = {"index": 0, "uuid": "GPU-1", "util": 90.0, "mem_used": 70.0 * GIB, "mem_total": 80.0 * GIB,
           "reasons": ["gpu_idle"], "procs": [{"pid": 1, "mem": 1.0}]}  # fmt: skip
    data: dict[str, object] = {
        "seq": int(at), "mem_total": 100.0 * GIB, "mem_available": 40.0 * GIB, "oom_kill": 3.0, "swap_in": 0.0,
        "net": {"eth0": {"rx": 1e6, "tx": 2e6, "speed": 1e9}}, "gpus": [gpu], "gpu_source": "nvml",
    }  # fmt: skip
    return Record(at, "host:gpu-01", RecordKind.SAMPLE, {**data, **changed})


def fold(*records: Record, limit: int | None = 8) -> WindowFold:
    made = WindowFold(watched(limit))
    for record in records:
        made.feed(record)
    return made


def host(*records: Record) -> HostWindow:
    return fold(*records).window(BEGIN, END).hosts["gpu-01"]


def seconds(**changed: object) -> list[Record]:
    return [sample(BEGIN + n, **changed) for n in range(90)]


def test_a_host_that_was_seen() -> None:
    found = host(*seconds())
    assert (found.samples, found.expected, found.missing) == (90, 90, 0.0)
    assert found.memory_peak == pytest.approx(0.6) and found.memory_mean == pytest.approx(0.6)
    assert (found.oom, found.swap_in, found.growth, found.why) == (0.0, 0.0, 0.0, "")
    gpu = found.gpus[0]
    assert (gpu.uuid, gpu.samples, gpu.use_mean, gpu.use_p5, gpu.use_min) == ("GPU-1", 90, 90.0, 90.0, 90.0)
    assert gpu.memory_peak == pytest.approx(0.875) and gpu.serving is True and gpu.throttled == ()
    link = found.links["eth0"]
    assert (link.samples, link.speed, link.mean) == (90, 1e9, 16e6)
    assert link.share(link.mean) == pytest.approx(0.016)


def test_many_samples_at_first_do_not_hide_that_none_came_later() -> None:
    """The monitor's interval may be five a second, and the host be lost after a while."""
    quick = [sample(BEGIN + n / 5) for n in range(90)]
    found = host(*quick)
    assert found.samples < 25 and found.missing > 0.7
    assert found.gpus[0].samples < 25 and found.links["eth0"].samples < 25
    often = host(*(sample(BEGIN + n / 5) for n in range(450)))
    assert often.samples >= 90 and often.missing == 0.0
    late = host(*(sample(BEGIN + n + (0.3 if n % 2 else 0.0)) for n in range(90)))
    assert late.missing == 0.0, "a sample that comes a little late is there"
    holes = host(*(sample(BEGIN + n) for n in range(90) if n % 5))
    assert holes.samples == 72


def test_only_the_window_counts() -> None:
    found = host(sample(BEGIN - 1, mem_available=1.0), *seconds(), sample(END + 1, mem_available=1.0))
    assert found.samples == 90 and found.memory_peak == pytest.approx(0.6)


def test_a_host_that_said_nothing_is_there_with_why() -> None:
    assert fold().window(BEGIN, END).hosts["gpu-01"].why == "nothing was heard of it"
    lost = Record(BEGIN, "host:gpu-01", RecordKind.LOST, {"reason": "unreachable", "why": "no route to host"})
    found = host(lost)
    assert found.samples == 0 and "no route to host" in found.why and found.missing == 1.0
    bad = host(Record(BEGIN, "host:gpu-01", RecordKind.SAMPLE, {"nothing": 1}))
    assert bad.samples == 0 and "cannot be read" in bad.why


def test_what_is_not_told_is_none_and_not_zero() -> None:
    bare = {"mem_total": None, "mem_available": None, "oom_kill": None, "swap_in": None, "net": {}, "gpus": []}
    missing = {"reason": "permission", "why": "NVML: no permission", "for": None}
    found = host(*seconds(**bare, gpu_missing=missing))
    assert (found.memory_peak, found.memory_mean, found.oom, found.swap_in, found.growth) == (None,) * 5
    assert not found.gpus and not found.links and found.gpu_why == "NVML: no permission"
    unknown = host(*seconds(net={"ib0": {"rx": 1.0, "tx": 1.0, "speed": None}})).links["ib0"]
    assert unknown.mean == 8.0 and unknown.speed is None and unknown.share(unknown.mean) is None


def test_what_went_wrong_in_it() -> None:
    rows = seconds()
    rows[50] = sample(BEGIN + 50, oom_kill=5.0, swap_in=7.0, mem_available=5.0 * GIB)
    rows[51:] = [sample(BEGIN + n, oom_kill=5.0) for n in range(51, 90)]
    found = host(*rows)
    assert (found.oom, found.swap_in) == (2.0, 7.0) and found.memory_peak == pytest.approx(0.95)


def test_memory_that_grows() -> None:
    leak = [sample(BEGIN + n, mem_available=(40.0 * GIB) - n * 1e6) for n in range(90)]
    growth = host(*leak).growth
    assert growth is not None and growth == pytest.approx(3.6e9, rel=0.01)
    assert host(*leak[:30]).growth is None, "half a minute tells no leak"


def test_a_gpu_whose_processes_nobody_saw() -> None:
    gpu = {"index": 3, "util": None, "reasons": ["sw_power_cap", "hw_thermal_slowdown"], "procs": None}
    found = host(*seconds(gpus=[gpu])).gpus[3]
    assert (found.samples, found.use_mean, found.serving, found.memory_peak) == (0, None, None, None)
    assert found.throttled == ("hw_thermal_slowdown", "sw_power_cap")


def page(
    running: float, *, tokens: float, kv: float = 0.5, preempted: float = 0.0, ttft: Mapping[str, float] | None = None
) -> str:
    labels = '{engine="0",model_name="m"'
    buckets = ttft or {"0.1": 0, "1.0": 0, "+Inf": 0}
    rows = [f'vllm:time_to_first_token_seconds_bucket{labels},le="{le}"}} {n}' for le, n in buckets.items()]
    return "\n".join(
        [
            "# TYPE vllm:num_requests_running gauge", f"vllm:num_requests_running{labels}}} {running}",
            "# TYPE vllm:num_requests_waiting gauge", f"vllm:num_requests_waiting{labels}}} 2",
            "# TYPE vllm:kv_cache_usage_perc gauge", f"vllm:kv_cache_usage_perc{labels}}} {kv}",
            "# TYPE vllm:generation_tokens counter", f"vllm:generation_tokens_total{labels}}} {tokens}",
            "# TYPE vllm:num_preemptions counter", f"vllm:num_preemptions_total{labels}}} {preempted}",
            "# TYPE vllm:time_to_first_token_seconds histogram", *rows,
            f"vllm:time_to_first_token_seconds_count{labels}}} {buckets['+Inf']}",
            f"vllm:time_to_first_token_seconds_sum{labels}}} 1", "",
        ]
    )  # fmt: skip


def look(at: float, text: str) -> Record:
    (found,) = parse_metrics(text, at=at, replica="gpu-01")
    return record_of(found)


def replica(*records: Record, limit: int | None = 8) -> ReplicaWindow:
    return fold(*records, limit=limit).window(BEGIN, END).replicas["gpu-01"]


def test_a_replica() -> None:
    looks = [
        look(BEGIN + n, page(8 if 10 <= n < 75 else 3, tokens=100.0 * n, kv=0.2 + n / 200, preempted=n // 30))
        for n in range(90)
    ]
    found = replica(*looks)
    assert (found.samples, found.expected, found.running_peak, found.waiting_peak) == (90, 90, 8.0, 2.0)
    assert found.at_limit == 64.0 and not found.restarted
    assert found.kv_peak == pytest.approx(0.645) and found.kv_p95 == pytest.approx(0.625)
    assert (found.preemptions, found.tokens) == (2.0, 8900.0)
    assert replica(*looks, limit=None).at_limit is None
    points = fold(*looks).window(BEGIN, END).timeline
    assert len(points) == 90 and points[5].running == 3.0 and points[5].tokens_per_second == pytest.approx(100.0)


def test_its_own_histograms() -> None:
    early = look(BEGIN, page(1, tokens=0, ttft={"0.1": 5, "1.0": 5, "+Inf": 5}))
    late = look(BEGIN + 80, page(1, tokens=9, ttft={"0.1": 5, "1.0": 105, "+Inf": 105}))
    found = replica(early, late)
    assert found.ttft_p50 is not None and 0.1 < found.ttft_p50 <= 1.0
    assert found.queue_p95 is None, "not exported, and not 0"


def test_an_engine_that_started_again() -> None:
    assert replica(look(BEGIN, page(1, tokens=900)), look(BEGIN + 1, page(1, tokens=3))).restarted
    found = replica(look(BEGIN, page(1, tokens=900)), look(BEGIN + 1, page(1, tokens=3)))
    assert found.tokens is None


def test_a_replica_that_was_lost_has_why() -> None:
    lost = Record(BEGIN, "vllm:gpu-01", RecordKind.LOST, {"reason": "unreachable", "why": "connection refused"})
    found = replica(lost)
    assert found.samples == 0 and "refused" in found.why and found.running_peak is None


def test_a_new_stage_forgets() -> None:
    made = fold(*seconds())
    made.begin()
    assert made.window(BEGIN, END).hosts["gpu-01"].samples == 0


def test_quantiles_of_a_few() -> None:
    assert quantile_of([], 0.5) is None
    assert quantile_of([3.0, 1.0, 2.0], 0.5) == 2.0
    assert quantile_of([1.0, 2.0], 0.95) == 2.0 and quantile_of([1.0, 2.0], 0.0) == 1.0
