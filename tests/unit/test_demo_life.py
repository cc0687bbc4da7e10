"""The life of the embedded fleet: use follows requests, one replica drifts, a death moves load to the others."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dstui.demo import gpus, readings, vllm_page
from dstui.demo.cast import Character, cast
from dstui.demo.life import DECLARED_SECONDS, JOIN_SECONDS, LOAD_SECONDS, Copy, Life, Phase, Work, busy
from dstui.demo.machine import Machine, build
from dstui.demo.traffic import DAY_SECONDS, MEAN_RATE, rate
from dstui.demo.troubles import DRIFT_BEGIN, FALL, HOLD, REMAP_AT, RISE
from dstui.demo.vllm_engine import MAX_NUM_SEQS, MOST_WAITING, Engine
from dstui.facts.raw import OpKind
from dstui.telemetry import host
from dstui.telemetry.host import HostSample

BEGAN = 1_780_300_000.0
TOP = DRIFT_BEGIN + RISE + HOLD / 2
"""Seconds after the beginning at which the first drift is at its height."""


def life(hosts: int = 8, *, seconds: float = 0.0, seed: int = 1) -> Life:
    lived = Life(cast(hosts), BEGAN, seed)
    lived.advance(BEGAN + seconds)
    return lived


def sample(lived: Life, name: str, seconds: float, *, pcie: bool = False) -> HostSample:
    row = readings.reading(lived, name, BEGAN + seconds, with_gpus=True, pcie=pcie)
    return host.parse({"seq": 1, "lost": 0, "hz": 1.0, **row})


def samples(lived: Life, seconds: float) -> dict[str, HostSample]:
    return {name: sample(lived, name, seconds) for name in lived.bodies}


def pages(lived: Life) -> list[str]:
    return [vllm_page.page(copy.engine) for copy in lived.copies if copy.engine is not None]


def phase_of(lived: Life, name: str) -> Phase:
    return copy_of(lived, name).phase


def copy_of(lived: Life, name: str) -> Copy:
    found = lived.copy_on(name)
    assert found is not None
    return found


# --- requests and what follows from them ----------------------------------------


def test_requests_breathe_and_burst_around_the_mean() -> None:
    day = [rate(1, float(at)) for at in range(-90, round(10 * DAY_SECONDS))]
    assert MEAN_RATE * 0.95 < sum(day) / len(day) < MEAN_RATE * 1.2
    assert min(day) < MEAN_RATE * 0.65
    assert max(day) > MEAN_RATE * 1.6
    assert day == [rate(1, float(at)) for at in range(-90, round(10 * DAY_SECONDS))]
    assert day != [rate(2, float(at)) for at in range(-90, round(10 * DAY_SECONDS))]


def served(per_second: int, *, pace: float = 1.0, seconds: int = 120) -> Engine:
    engine = Engine(BEGAN, Random(3))
    for step in range(2 * seconds):
        engine.step(BEGAN + step / 2, 0.5, per_second * (step % 2), pace=pace)
    return engine


def test_more_requests_mean_more_of_everything() -> None:
    engines = [served(n) for n in (0, 1, 3, 6, 9)]
    for less, more in pairwise(engines):
        assert less.running < more.running
        assert less.kv_share < more.kv_share
        assert less.generation_tokens < more.generation_tokens
        assert busy(less.running) < busy(more.running)
        assert less.gap(1.0) < more.gap(1.0)
    idle = engines[0]
    assert (idle.running, idle.waiting, idle.kv_share, busy(idle.running)) == (0, 0, 0.0, 0.0)


def test_an_engine_that_gets_too_much_queues_fills_its_memory_and_preempts() -> None:
    well, drowned = served(5), served(40)
    assert (well.waiting, well.preemptions) == (0, 0)
    assert 0.9 * MOST_WAITING < drowned.waiting <= MOST_WAITING + MAX_NUM_SEQS
    assert drowned.rejected > 0 == well.rejected
    assert drowned.kv_share > 0.9
    assert drowned.preemptions > 0
    assert drowned.running <= MAX_NUM_SEQS
    assert first_tokens(drowned) > 10 * first_tokens(well)


def first_tokens(engine: Engine) -> float:
    seen = engine.histograms["time_to_first_token_seconds"]
    return seen.total / sum(seen.counts)


@given(st.lists(st.tuples(st.integers(0, 60), st.floats(0.5, 6.0), st.floats(0.6, 1.5)), max_size=60))
@settings(max_examples=40, deadline=None)
def test_no_request_is_lost_or_made_up(steps: Sequence[tuple[int, float, float]]) -> None:
    engine, arrived = Engine(BEGAN, Random(1)), 0
    for number, (count, pace, lengths) in enumerate(steps):
        arrived += count
        engine.step(BEGAN + number / 2, 0.5, count, pace=pace, lengths=lengths)
        assert arrived == engine.running + engine.waiting + engine.rejected + sum(engine.finished.values())
        assert 0 <= engine.running <= MAX_NUM_SEQS
        assert 0.0 <= engine.kv_share < 1.0


def test_gpu_use_power_and_heat_follow_the_requests_of_the_fleet() -> None:
    lived, seen = life(), []
    for second in range(0, 1_200, 5):
        row = sample(lived, "gpu-06", second)
        engine = copy_of(lived, "gpu-06").engine
        assert engine is not None
        assert lived.heat("gpu-06") == 0.0
        seen.append((engine.running, row.gpus[0].util or 0.0, row.gpus[0].power or 0.0, row.net["bond0"].tx or 0.0))
    seen.sort()
    quiet, loud = seen[:40], seen[-40:]
    for column in (1, 2, 3):
        assert max(each[column] for each in quiet) < max(each[column] for each in loud)
        assert sum(each[column] for each in quiet) < 0.95 * sum(each[column] for each in loud)


def test_the_same_seed_and_acts_give_the_same_life() -> None:
    def lived(seed: int) -> tuple[list[str], dict[str, HostSample]]:
        one = life(8, seed=seed)
        one.kill("gpu-03", BEGAN + 20.0)
        one.revive("gpu-03", BEGAN + 45.0)
        one.advance(BEGAN + 100.0)
        return pages(one), samples(one, 100.0)

    assert lived(1) == lived(1)
    assert lived(1) != lived(2)


def test_it_makes_no_difference_how_often_it_is_looked_at() -> None:
    often, once = life(), life()
    for tenth in range(600):
        often.advance(BEGAN + tenth / 10)
    often.advance(BEGAN + 60.0)
    once.advance(BEGAN + 60.0)
    assert pages(often) == pages(once)


def test_a_machine_that_slept_for_a_day_goes_on_at_once_and_nothing_runs_backwards() -> None:
    lived = life(2)
    before = pages(lived)
    lived.advance(BEGAN - 3_600.0)
    assert pages(lived) == before
    lived.advance(BEGAN + 86_400.0)
    assert lived.since == pytest.approx(86_400.0, abs=1.0)


# --- one replica drifts -----------------------------------------------------------


def slowed(lived: Life, seconds: float) -> list[tuple[str, int]]:
    return [
        (name, gpu.index)
        for name, row in samples(lived, seconds).items()
        for gpu in row.gpus
        if "hw_thermal_slowdown" in (gpu.reasons or ())
    ]


def test_at_the_height_of_the_drift_exactly_one_gpu_and_one_replica_suffer() -> None:
    lived = life(8, seconds=TOP)
    [(victim, gpu)] = slowed(lived, TOP)
    rows = samples(lived, TOP)
    hot = rows[victim].gpus[gpu]
    others = [each for name, row in rows.items() for each in row.gpus if (name, each.index) != (victim, gpu)]
    assert (hot.temp or 0) > 84 > 75 > max(each.temp or 0 for each in others)
    assert (hot.sm_mhz or 0) < 1_500 < min(each.sm_mhz or 0 for each in others)
    engines = {copy.host.name: copy.engine for copy in lived.copies if copy.engine is not None}
    ill = engines.pop(victim)
    assert ill.running > 2 * max(engine.running for engine in engines.values())
    lived.advance(BEGAN + TOP + 60.0)
    assert ill.kv_share > 0.9
    assert ill.waiting > 0
    assert ill.preemptions > 0
    assert all(engine.preemptions == 0 and engine.waiting == 0 for engine in engines.values())
    assert first_tokens(ill) > 1.5 * max(first_tokens(engine) for engine in engines.values())


def test_the_drift_passes_and_the_next_one_is_another_replica() -> None:
    lived = life(8, seconds=DRIFT_BEGIN - 1.0)
    assert slowed(lived, DRIFT_BEGIN - 1.0) == []
    first = slowed(lived, TOP)
    over = DRIFT_BEGIN + RISE + HOLD + FALL + 120.0
    assert slowed(lived, over) == []
    recovered = copy_of(lived, first[0][0]).engine
    assert recovered is not None
    assert recovered.waiting == 0
    assert recovered.kv_share < 0.6
    second = slowed(lived, TOP + 600.0)
    assert len(second) == 1
    assert second[0][0] != first[0][0]


@pytest.mark.parametrize("hosts", [1, 2, 3, 16])
def test_whoever_drifts_can_be_watched(hosts: int) -> None:
    lived = life(hosts)
    names = {
        spot.host for turn in range(40) if (found := lived.troubles.drifting(TOP + 600.0 * turn)) for spot in [found[0]]
    }
    assert not names & {"gpu-05", "gpu-07"}
    assert names == {"gpu-01"} if hosts == 1 else "gpu-01" not in names


# --- a host dies --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("after", "phase", "declared"),
    [
        (0.0, Phase.GONE, False),
        (3.5, Phase.GONE, False),
        (4.5, Phase.PENDING, False),
        (11.5, Phase.PENDING, False),
        (12.5, Phase.PENDING, True),
        (300.0, Phase.PENDING, True),
    ],
)
def test_who_knows_of_a_death_when(after: float, phase: Phase, declared: bool) -> None:
    lived = life(8, seconds=10.0)
    lived.kill("gpu-02", BEGAN + 10.0)
    lived.advance(BEGAN + 10.0 + after)
    assert phase_of(lived, "gpu-02") is phase
    [node] = lived.bodies["gpu-02"].nodes
    assert (node.gone_at, node.ended_at is not None) == (BEGAN + 10.0, declared)


def test_a_death_moves_the_load_to_the_others() -> None:
    lived, twin = life(4, seconds=30.0), life(4, seconds=30.0)
    before = taken(lived)
    lived.kill("gpu-02", BEGAN + 30.0)
    for each in (lived, twin):
        each.advance(BEGAN + 58.0)
    with_death, without = taken(lived), taken(twin)
    assert set(without) - set(with_death) == {"gpu-02"}
    taken_over = sum(with_death[name] - before[name] for name in with_death)
    usual = sum(without[name] - before[name] for name in with_death)
    assert 1.15 * usual < taken_over < 1.5 * usual


def taken(lived: Life) -> dict[str, int]:
    return {copy.host.name: copy.engine.prompt_tokens for copy in lived.copies if copy.engine is not None}


def test_power_brings_back_a_new_node_and_a_new_replica_with_counters_at_zero() -> None:
    lived = life(8, seconds=10.0)
    copy = copy_of(lived, "gpu-02")
    before = sample(lived, "gpu-02", 10.0)
    lived.kill("gpu-02", BEGAN + 10.0)
    lived.revive("gpu-02", BEGAN + 40.0)
    lived.advance(BEGAN + 40.0 + JOIN_SECONDS + 1.0)
    assert phase_of(lived, "gpu-02") is Phase.LOADING
    assert len({node.node_id for node in lived.bodies["gpu-02"].nodes}) == 2
    back = 40.0 + JOIN_SECONDS + LOAD_SECONDS + 2.0
    lived.advance(BEGAN + back)
    assert phase_of(lived, "gpu-02") is Phase.RUNNING
    assert copy.engine is not None
    assert copy.engine.started > BEGAN + 40.0
    assert copy.engine.generation_tokens < 20_000
    after = sample(lived, "gpu-02", back)
    assert [gpu.uuid for gpu in after.gpus] == [gpu.uuid for gpu in before.gpus]
    pids = [{one.pid for gpu in row.gpus for one in gpu.procs or ()} for row in (before, after)]
    assert len(pids[0]) == len(pids[1]) == gpus.GPUS
    assert not pids[0] & pids[1]


def test_one_that_dies_again_while_it_loads_begins_anew() -> None:
    lived = life(8, seconds=10.0)
    lived.kill("gpu-02", BEGAN + 10.0)
    lived.revive("gpu-02", BEGAN + 20.0)
    lived.kill("gpu-02", BEGAN + 30.0)
    lived.revive("gpu-02", BEGAN + 31.0)
    lived.advance(BEGAN + 31.0 + JOIN_SECONDS + DECLARED_SECONDS)
    assert phase_of(lived, "gpu-02") is Phase.LOADING
    assert [node.ended_at is None for node in lived.bodies["gpu-02"].nodes] == [False, False, True]
    lived.advance(BEGAN + 31.0 + JOIN_SECONDS + LOAD_SECONDS + 2.0)
    assert phase_of(lived, "gpu-02") is Phase.RUNNING


def test_killing_twice_and_reviving_the_living_change_nothing() -> None:
    lived = life(8, seconds=10.0)
    lived.kill("gpu-02", BEGAN + 10.0)
    lived.kill("gpu-02", BEGAN + 15.0)
    lived.revive("gpu-03", BEGAN + 16.0)
    lived.advance(BEGAN + 22.5)
    assert [node.ended_at is not None for node in lived.bodies["gpu-02"].nodes] == [True]
    assert len(lived.bodies["gpu-03"].nodes) == 1
    with pytest.raises(KeyError):
        lived.kill("gpu-99", BEGAN + 30.0)


def counters(lived: Life) -> dict[str, tuple[float, tuple[int, ...]]]:
    """By replica: when its engine started, and everything that may only grow."""
    found = {}
    for copy in lived.copies:
        if (engine := copy.engine) is not None:
            grows = [
                engine.prompt_tokens,
                engine.generation_tokens,
                engine.preemptions,
                engine.rejected,
                *engine.finished.values(),
            ]
            for histogram in engine.histograms.values():
                grows += histogram.counts
            found[copy.host.name] = (engine.started, tuple(grows))
    return found


def test_counters_go_down_only_with_a_new_engine() -> None:
    lived, restarts = life(4), 0
    before = counters(lived)
    for second in range(1, 400):
        if second % 130 == 20:
            lived.kill("gpu-03", BEGAN + second)
        if second % 130 == 60:
            lived.revive("gpu-03", BEGAN + second)
        lived.advance(BEGAN + second)
        now = counters(lived)
        for name, (started, grows) in now.items():
            old_start, old = before.get(name, (0.0, ()))
            if started == old_start:
                assert all(a <= b for a, b in zip(old, grows, strict=True)), name
            elif old_start:
                restarts += 1
        before.update(now)
    assert restarts == 3


# --- other hosts ---------------------------------------------------------------------


def test_hosts_beyond_the_application_run_a_batch_job_and_one_short_of_a_gpu_runs_nothing() -> None:
    lived = life(20)
    works = {name: body.work for name, body in lived.bodies.items()}
    assert works["gpu-11"] is Work.IDLE
    assert [name for name, work in works.items() if work is Work.BATCH] == ["gpu-18", "gpu-19", "gpu-20"]
    idle, batch = sample(lived, "gpu-11", 5.0), sample(lived, "gpu-19", 5.0)
    assert {gpu.util for gpu in idle.gpus} == {0.0}
    assert {gpu.procs for gpu in idle.gpus} == {()}
    assert all((gpu.util or 0) > 60 for gpu in batch.gpus)
    assert batch.rdma is not None
    assert idle.rdma is not None
    assert (batch.rdma["mlx5_0/1"].tx or 0) > 1e9 > (idle.rdma["mlx5_0/1"].tx or 0)


def test_an_xid_names_a_gpu_of_its_host_and_comes_when_it_is_due() -> None:
    lived = life(16)
    spot = lived.troubles.remapped
    assert spot is not None
    assert sample(lived, spot.host, REMAP_AT - 1.0).xids == ()
    row = sample(lived, spot.host, REMAP_AT + 1.0)
    [xid] = row.xids or ()
    assert (xid.number, xid.at) == (63, BEGAN + REMAP_AT)
    assert [gpu.index for gpu in row.gpus if xid.is_of(gpu)] == [spot.gpu]
    fallen = sample(lived, "gpu-11", REMAP_AT + 1.0)
    assert [each.number for each in fallen.xids or ()] == [79]
    assert not any(xid.is_of(gpu) for xid in fallen.xids or () for gpu in fallen.gpus)
    assert sample(lived, spot.host, REMAP_AT + 3_700.0).xids == ()


def test_a_kernel_that_started_again_has_an_empty_log() -> None:
    lived = life(16, seconds=REMAP_AT + 5.0)
    spot = lived.troubles.remapped
    assert spot is not None
    lived.kill(spot.host, BEGAN + REMAP_AT + 10.0)
    lived.revive(spot.host, BEGAN + REMAP_AT + 20.0)
    assert sample(lived, spot.host, REMAP_AT + 30.0).xids == ()


# --- samples beside the facts ---------------------------------------------------------


def machine(character: Character, fleet: tuple[Character, ...]) -> Machine:
    return build(character, fleet, ssh_port=40022, authorized_key="ssh-ed25519 AAAA dstui@demo\n")


@pytest.mark.parametrize("number", [1, 2, 3, 11])
def test_samples_and_facts_are_of_the_same_hardware(number: int) -> None:
    fleet = cast(16)
    character = fleet[number - 1]
    row = sample(life(16), character.name, 3.0, pcie=True)
    told = machine(character, fleet)
    nvml = told.answer(OpKind.NVML, {})["value"]
    assert isinstance(nvml, dict)
    seen = [(gpu.index, gpu.uuid, gpu.name, gpu.mem_total, gpu.pci, (gpu.power_limit or 0) * 1000) for gpu in row.gpus]
    assert seen == [
        (g["index"], g["uuid"], g["name"], g["memory_total"], g["pci_bus_id"], g["power_limit_mw"])
        for g in nvml["gpus"]
    ]
    meminfo = str(told.answer(OpKind.READ, {"path": "/proc/meminfo"})["output"])
    assert f"MemTotal:       {int(row.mem_total or 0) // 1024} kB" in meminfo
    online = str(told.answer(OpKind.READ, {"path": "/sys/devices/system/cpu/online"})["output"])
    assert online == f"0-{int(row.cpus or 0) - 1}\n"
    for name, traffic in row.net.items():
        speed = told.answer(OpKind.READ, {"path": f"/sys/class/net/{name}/speed"})["output"]
        assert traffic.speed == int(str(speed)) * 10**6
    for name, traffic in (row.rdma or {}).items():
        port = f"/sys/class/infiniband/{name.replace('/', '/ports/')}/rate"
        assert traffic.speed == int(str(told.answer(OpKind.READ, {"path": port})["output"]).split()[0]) * 10**9


@pytest.mark.parametrize("seconds", [0.0, 33.3, TOP])
def test_every_value_of_a_sample_is_there_and_possible(seconds: float) -> None:
    for name, row in samples(life(16), seconds).items():
        known = (row.cpu, row.load1, row.mem_available, row.swap_used, row.swap_in, row.oom_kill, row.gpu_age)
        assert None not in known, name
        assert 0 < (row.mem_available or 0) < (row.mem_total or 0)
        assert row.gpu_source == "nvml"
        assert set(row.net) == {"bond0", "ens6f0np0", "ens6f1np1", "eno1", *(f"ib{n}" for n in range(8))}
        assert all((traffic.busiest or 0) < 1 for traffic in (*row.net.values(), *(row.rdma or {}).values()))
        for gpu in row.gpus:
            assert 0 <= (gpu.mem_used or 0) <= (gpu.mem_total or 0)
            assert 0 < (gpu.power or 0) <= (gpu.power_limit or 0)
            assert None not in (
                gpu.util,
                gpu.mem_util,
                gpu.temp,
                gpu.sm_mhz,
                gpu.reasons,
                gpu.ecc_uncorrected,
                gpu.procs,
            )


def test_pcie_and_gpus_are_there_only_when_they_are_asked_for() -> None:
    lived = life(1)
    assert sample(lived, "gpu-01", 1.0).gpus[0].pcie_rx is None
    assert sample(lived, "gpu-01", 1.0, pcie=True).gpus[0].pcie_rx is not None
    bare = readings.reading(lived, "gpu-01", BEGAN + 1.0, with_gpus=False, pcie=False)
    assert (bare["gpus"], bare["gpu_source"], bare["gpu_missing"]) == ([], None, None)


def test_neighbours_of_a_dead_host_do_not_ping_it() -> None:
    fleet, dead = cast(2), set[str]()
    told = build(fleet[0], fleet, ssh_port=40022, authorized_key="", down=dead.__contains__)
    asked = {"argv": ["ping", "-c", "3", fleet[1].data_ip]}
    assert told.answer(OpKind.RUN, asked)["exit"] == 0
    dead.add("gpu-02")
    assert told.answer(OpKind.RUN, asked)["exit"] == 1
