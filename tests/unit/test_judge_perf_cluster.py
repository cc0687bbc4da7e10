"""perf.gpu-util, perf.memory and perf.network: what the cluster did at the highest level that passes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import pytest
from perf_worlds import SITE, batch, generator, ladder, level, levels, machine, ruling, single

from dstui.load.result import Generator, StageResult
from dstui.load.window import GpuWindow, HostWindow, LinkWindow, ReplicaWindow, Window
from dstui.model import Ruling, Verdict

PASS, WARN, FAIL, UNKNOWN = Verdict.PASS, Verdict.WARN, Verdict.FAIL, Verdict.UNKNOWN
GPU, MEMORY, NETWORK = "perf.gpu-util", "perf.memory", "perf.network"
RIDING = (GPU, MEMORY, NETWORK)


def words(found: Ruling) -> str:
    return "\n".join(text.en for text in (found.observed, found.rule, *found.notes))


def changed(
    check: str,
    change: Callable[[Window], Window],
    *,
    users: int = 500,
    params: Mapping[str, object] | None = None,
) -> Ruling:
    """The ruling when the window of one level is another."""
    stages = [replace(s, window=change(s.window)) if s.stage.users == users else s for s in levels()]
    return ruling(check, ladder(*stages), params=params)


def on_host(check: str, name: str = "gpu-02", params: Mapping[str, object] | None = None, **changes: Any) -> Ruling:
    def change(window: Window) -> Window:
        host = replace(window.hosts[name], **changes)
        return replace(window, hosts={**window.hosts, name: host})

    return changed(check, change, params=params)


def on_gpu(check: str = GPU, params: Mapping[str, object] | None = None, **changes: Any) -> Ruling:
    """GPU 1 of gpu-02."""
    gpus = dict(levels()[0].window.hosts["gpu-02"].gpus)
    return on_host(check, params=params, gpus={**gpus, 1: replace(gpus[1], **changes)})


def on_link(name: str = "gpu-02", params: Mapping[str, object] | None = None, **changes: Any) -> Ruling:
    link = replace(levels()[0].window.hosts[name].links["eth0"], **changes)
    return on_host(NETWORK, name, params, links={"eth0": link})


def on_replica(params: Mapping[str, object] | None = None, **changes: Any) -> Ruling:
    def change(window: Window) -> Window:
        replica = replace(window.replicas["replica-2"], **changes)
        return replace(window, replicas={**window.replicas, "replica-2": replica})

    return changed(MEMORY, change, params=params)


# What is ridden on


@pytest.mark.parametrize("check", RIDING)
def test_the_highest_level_that_passes_is_looked_at(check: str) -> None:
    stages = [level(500, ttft=99.0) if s.stage.users == 500 else s for s in levels()]
    found = ruling(check, ladder(*stages))
    assert found.verdict is PASS, words(found)
    assert "200 users" in found.observed.en
    stages = [replace(s, window=Window()) if s.stage.users == 200 else s for s in stages]
    assert ruling(check, ladder(*stages)).verdict is UNKNOWN


@pytest.mark.parametrize("check", RIDING)
def test_no_level_passes(check: str) -> None:
    stages = [level(s.stage.users, ttft=99.0) for s in levels()]
    found = ruling(check, ladder(*stages))
    assert found.verdict is UNKNOWN
    assert "no level of perf.concurrent-users passed" in found.rule.en


@pytest.mark.parametrize("check", RIDING)
def test_one_user_is_no_load(check: str) -> None:
    found = ruling(check, ladder(*(s if s.stage.users == 1 else level(s.stage.users, ttft=99.0) for s in levels())))
    assert found.verdict is UNKNOWN
    assert "one user" in found.rule.en


@pytest.mark.parametrize("check", RIDING)
def test_a_limited_generator_leaves_nothing_to_ride_on(check: str) -> None:
    stages = [replace(s, generator=Generator()) for s in levels()]
    assert ruling(check, ladder(*stages)).verdict is UNKNOWN


@pytest.mark.parametrize("check", RIDING)
def test_no_level_at_all(check: str) -> None:
    assert ruling(check, ladder(single(), batch())).verdict is UNKNOWN


@pytest.mark.parametrize("check", RIDING)
def test_a_host_that_was_not_watched(check: str) -> None:
    gone = changed(check, lambda w: replace(w, hosts={"gpu-01": w.hosts["gpu-01"]}, why="ssh: no route"))
    assert gone.verdict is UNKNOWN
    assert "gpu-02 was not watched" in words(gone)
    assert on_host(check, samples=114).verdict is PASS
    few = on_host(check, samples=113, why="lost")
    assert few.verdict is UNKNOWN
    assert "gpu-02: 113 of 120 samples" in words(few)
    assert on_host(check, samples=0, expected=0).verdict is UNKNOWN


@pytest.mark.parametrize("check", RIDING)
def test_an_inventory_without_nodes(check: str) -> None:
    nobody = replace(SITE, hosts=(machine(9, "lb", gpu=False),))
    assert ruling(check, ladder(*levels()), site=nobody).verdict is UNKNOWN


# perf.gpu-util


def all_gpus(use: float | None, **changes: Any) -> Callable[[Window], Window]:
    def change(window: Window) -> Window:
        def host(seen: HostWindow) -> HostWindow:
            gpus = {i: replace(gpu, use_mean=use, **changes) for i, gpu in seen.gpus.items()}
            return replace(seen, gpus=gpus)

        return replace(window, hosts={name: host(seen) for name, seen in window.hosts.items()})

    return change


def test_gpu_mean() -> None:
    assert changed(GPU, all_gpus(80.1)).verdict is PASS
    found = changed(GPU, all_gpus(80.0))
    assert found.verdict is FAIL
    assert "mean 80.0 % (above 80 %)" in found.rule.en


def test_gpu_that_is_idle_at_a_load_that_does_not_saturate() -> None:
    stages = [replace(s, window=all_gpus(50.0)(s.window)) for s in levels()]
    assert ruling(GPU, ladder(*stages)).verdict is FAIL
    below = [s for s in stages if s.stage.users < 500]
    assert ruling(GPU, ladder(*below)).verdict is UNKNOWN, "500 users might have used them"
    slow = [level(500, ttft=99.0)]
    assert ruling(GPU, ladder(*below, *slow)).verdict is FAIL, "more than 200 are not served"
    lame = [replace(level(500), generator=generator(cpu=0.9))]
    assert ruling(GPU, ladder(*below, *lame)).verdict is UNKNOWN


@pytest.mark.parametrize(
    ("changes", "verdict", "said"),
    [
        ({"use_mean": 80.0}, PASS, "in use"),
        ({"use_mean": 79.0}, WARN, "below 80 %: gpu-02/1 79 %"),
        ({"use_mean": 59.0}, WARN, "gpu-02/1 59 %"),
        ({"use_mean": 10.0}, FAIL, "mean"),
        ({"throttled": ("hw_thermal_slowdown",)}, WARN, "throttled: gpu-02/1 hw_thermal_slowdown"),
        ({"use_mean": None}, UNKNOWN, "use was not seen: gpu-02/1"),
        ({"samples": 59}, UNKNOWN, "fewer than 60 samples"),
        ({"samples": 113}, UNKNOWN, "5%"),
        ({"samples": 114}, PASS, "in use"),
        ({"serving": None}, UNKNOWN, "whether it serves was not seen: gpu-02/1"),
        ({"serving": False, "use_mean": 0.0}, PASS, "not serving, left out: gpu-02/1"),
        ({"serving": False, "use_mean": None, "samples": 0}, PASS, "left out"),
    ],
)
def test_gpu_rules(changes: dict[str, Any], verdict: Verdict, said: str) -> None:
    found = on_gpu(**changes)
    assert found.verdict is verdict, words(found)
    assert said in words(found)


def test_gpu_nobody_serves() -> None:
    found = changed(GPU, all_gpus(99.0, serving=False))
    assert found.verdict is UNKNOWN
    assert "no GPU was seen to serve" in found.rule.en


def test_gpus_that_are_not_seen() -> None:
    one = {0: levels()[0].window.hosts["gpu-02"].gpus[0]}
    changes: dict[str, Any]
    for changes in ({"gpus": {}}, {"gpu_why": "NVML: driver not loaded"}, {"gpus": one}):
        assert on_host(GPU, **changes).verdict is UNKNOWN
    assert "1 of 2 GPUs" in words(on_host(GPU, gpus=one))


def test_gpu_at_every_level() -> None:
    idle = changed(GPU, all_gpus(20.0), users=50)
    assert idle.verdict is PASS
    found = changed(GPU, all_gpus(20.0), users=50, params={"at_level": "every"})
    assert found.verdict is FAIL
    assert "level 50" in found.rule.en
    assert changed(GPU, all_gpus(20.0), users=1, params={"at_level": "every"}).verdict is PASS


# perf.memory


@pytest.mark.parametrize(
    ("changes", "verdict", "said"),
    [
        ({"memory_peak": 0.899}, PASS, "89.9 %"),
        ({"memory_peak": 0.9}, FAIL, "gpu-02: memory peak 90 %"),
        ({"memory_peak": None}, UNKNOWN, "not seen"),
        ({"oom": 1.0}, FAIL, "killed for want of memory on gpu-02"),
        ({"oom": None}, UNKNOWN, "not seen"),
        ({"swap_in": 1.0}, WARN, "swapped in"),
        ({"swap_in": None}, UNKNOWN, "not seen"),
        ({"growth": 500e6}, PASS, "below"),
        ({"growth": 501e6}, WARN, "grows by 501 MB/h"),
        ({"growth": -900e6}, PASS, "below"),
        ({"growth": None}, PASS, "too short to see"),
        ({"gpu_why": "no driver", "gpus": {}}, PASS, "GPU memory was not seen"),
    ],
)
def test_memory_of_hosts(changes: dict[str, Any], verdict: Verdict, said: str) -> None:
    found = on_host(MEMORY, **changes)
    assert found.verdict is verdict, words(found)
    assert said in words(found)


def test_memory_that_ran_out_at_a_level_that_failed() -> None:
    def killed(stage: StageResult) -> StageResult:
        hosts = {**stage.window.hosts, "gpu-01": replace(stage.window.hosts["gpu-01"], oom=1.0)}
        return replace(stage, window=replace(stage.window, hosts=hosts))

    last = killed(level(500, ttft=99.0))
    found = ruling(MEMORY, ladder(*levels()[:-1], last))
    assert found.verdict is FAIL
    assert "level-500" in found.rule.en
    assert ruling(MEMORY, ladder(killed(batch()), *levels())).verdict is FAIL


@pytest.mark.parametrize(
    ("changes", "verdict"),
    [
        ({"kv_p95": 0.899}, PASS),
        ({"kv_p95": 0.9}, WARN),
        ({"kv_p95": None}, UNKNOWN),
        ({"samples": 113}, UNKNOWN),
        ({"samples": 0, "why": "HTTP 404"}, UNKNOWN),
    ],
)
def test_memory_of_caches(changes: dict[str, Any], verdict: Verdict) -> None:
    assert on_replica(**changes).verdict is verdict


def test_memory_replicas_that_are_missing() -> None:
    assert changed(MEMORY, lambda w: replace(w, replicas={})).verdict is UNKNOWN
    one = {"replica-1": levels()[0].window.replicas["replica-1"]}
    assert changed(MEMORY, lambda w: replace(w, replicas=one)).verdict is UNKNOWN
    assert changed(MEMORY, lambda w: replace(w, replicas=one), params={"replicas_expected": None}).verdict is PASS
    none = changed(MEMORY, lambda w: replace(w, replicas={}), params={"replicas_expected": None})
    assert none.verdict is UNKNOWN


@pytest.mark.parametrize(
    ("peak", "params", "verdict"),
    [
        (0.93, {}, PASS),
        (0.931, {}, WARN),
        (0.99, {"gpu_memory_configured": None}, PASS),
        (0.899, {"gpu_mem_rule": "strict"}, FAIL),
        (0.9, {"gpu_mem_rule": "strict"}, FAIL),
        (None, {}, PASS),
        (None, {"gpu_mem_rule": "strict"}, FAIL),
    ],
)
def test_memory_of_gpus(peak: float | None, params: dict[str, Any], verdict: Verdict) -> None:
    """The other GPUs are at 91 %, as vLLM has it by design; the strict reading fails them."""
    assert on_gpu(MEMORY, params=params, memory_peak=peak).verdict is verdict


def test_memory_strict_on_both_sides() -> None:
    strict = {"gpu_mem_rule": "strict"}
    assert changed(MEMORY, all_gpus(90.0, memory_peak=0.899), params=strict).verdict is PASS
    assert changed(MEMORY, all_gpus(90.0, memory_peak=0.9), params=strict).verdict is FAIL
    assert changed(MEMORY, all_gpus(90.0, memory_peak=None), params=strict).verdict is UNKNOWN
    assert changed(MEMORY, all_gpus(90.0, memory_peak=0.99, serving=False), params=strict).verdict is PASS


# perf.network


@pytest.mark.parametrize(
    ("changes", "verdict", "said"),
    [
        ({"mean": 49.9e9, "p95": 50e9}, PASS, "49.9 %"),
        ({"mean": 50e9, "p95": 50e9}, FAIL, "gpu-02 eth0: mean 50 %"),
        ({"p95": 50.1e9}, WARN, "p95 50.1 %"),
        ({"speed": None}, UNKNOWN, "speed is not known"),
        ({"speed": -1.0}, UNKNOWN, "speed is not known"),
        ({"speed": 0.0}, UNKNOWN, "speed is not known"),
        ({"mean": None}, UNKNOWN, "not seen"),
        ({"p95": None}, UNKNOWN, "not seen"),
        ({"samples": 113}, UNKNOWN, "113 of 120 samples"),
        ({"samples": 0, "mean": None, "p95": None, "peak": None}, UNKNOWN, "samples"),
    ],
)
def test_network_rules(changes: dict[str, Any], verdict: Verdict, said: str) -> None:
    found = on_link(**changes)
    assert found.verdict is verdict, words(found)
    assert said in words(found)


def test_network_interfaces_without_traffic() -> None:
    still = LinkWindow(120, None, 0.0, 0.0, 0.0)
    busy = levels()[0].window.hosts["gpu-02"].links["eth0"]
    assert on_host(NETWORK, links={"eth0": busy, "eth1": still}).verdict is PASS
    assert on_host(NETWORK, links={"eth1": still}).verdict is UNKNOWN
    assert on_host(NETWORK, links={}).verdict is UNKNOWN
    assert on_host(NETWORK, links={"eth0": busy, "eth1": LinkWindow(0, None, None, None, None)}).verdict is UNKNOWN


def test_network_of_the_balancer() -> None:
    found = on_link("lb-09", mean=60e9, p95=70e9)
    assert found.verdict is WARN
    assert "the balancer's uplink" in found.rule.en
    assert on_link("lb-09", p95=60e9).verdict is WARN
    assert on_link("lb-09", speed=None).verdict is UNKNOWN


def test_windows_of_nothing() -> None:
    gpus = {0: GpuWindow(None, 120, None, None, None, None, serving=True)}
    nothing = Window(
        hosts={h.name: HostWindow(120, 120, gpus=gpus) for h in SITE.hosts},
        replicas={"r": ReplicaWindow(120, 120)},
    )  # fmt: skip
    for check in RIDING:
        assert changed(check, lambda window: nothing).verdict is UNKNOWN
