"""The live view against a real vLLM under Ray Serve (`ray.serve.llm`), whose metrics are on the Ray node's page."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from dstui.telemetry import live_views
from dstui.telemetry.aliases import Family, Thing
from dstui.telemetry.live_status import Shown, Status
from dstui.telemetry.live_trail import Trail
from dstui.telemetry.record import RecordKind
from dstui.telemetry.vllm import VllmSample
from dstui.telemetry.vllm_alarms import AlarmKind, AlarmState
from dstui.telemetry.vllm_panel import VllmPanel
from dstui.telemetry.vllm_records import sample_of
from dstui.telemetry.vllm_row import ReplicaRow
from dstui.telemetry.windows import Absent, Present, Why

from reallab import machine
from reallab.cluster import INVENTORY, Lab
from reallab.firewall import reachable
from reallab.llm_cluster import PORT, LlmCluster
from reallab.pages import Page
from reallab.ray_watch import Watch, watching
from reallab.vllm_load import burst, finished, streaming
from reallab.vllm_server import MAX_NUM_SEQS, MODEL
from reallab.vllm_truth import differences

pytestmark = pytest.mark.real

HEAD = "gpu-01"
DEPLOYMENT = f"LLMServer:{MODEL}"
RENEWED_SECONDS = 10.0
"""Ray's own rhythm for what vLLM tells it."""

PATIENCE = 3 * RENEWED_SECONDS
STREAMS, LONG = 12, 1000
GPU = 3


@pytest.fixture(scope="module")
def cluster(lab: Lab) -> Iterator[LlmCluster]:
    made = LlmCluster(lab.hosts[HEAD], lab.folder)
    try:
        made.start()
        made.deploy()
        with reachable(made.head, PORT):
            yield made
    finally:
        made.stop()


@pytest.fixture
def inventory(lab: Lab, cluster: LlmCluster) -> Path:
    return lab.inventory(
        "serve-llm",
        serving={"mode": "ray-serve"},
        engine={"max_num_seqs": MAX_NUM_SEQS},
        ray={"dashboard_access": "tunnel"},
    )


def url(cluster: LlmCluster) -> str:
    return f"http://{cluster.head.address}:{PORT}"


def said(cluster: LlmCluster) -> Page:
    ray = INVENTORY["ray"]
    assert isinstance(ray, dict)
    return cluster.node_page(ray["ports"]["metrics_export"])


def samples(watch: Watch) -> list[VllmSample]:
    """Looks at replicas, not those at the page as such."""
    of_vllm = (each for each in watch.records if each.source.startswith("vllm:"))
    found = (sample_of(each) for each in of_vllm if each.kind is RecordKind.SAMPLE)
    return [sample for sample in found if not sample.node_page]


def panel(watch: Watch) -> VllmPanel:
    return live_views.vllm_view(watch.live, time.time())


def row(watch: Watch) -> ReplicaRow:
    (found,) = panel(watch).rows
    return found


def number(value: Present[float] | Absent) -> float:
    assert isinstance(value, Present), value
    return value.value


async def first_look(watch: Watch) -> None:
    await watch.until(lambda: len(samples(watch)) > 0 and watch.ray.serve.value is not None, "the replica", 40.0)


async def agreeing(watch: Watch, cluster: LlmCluster) -> VllmSample:
    """A look that was made while the page did not change, and says what it says."""
    while True:
        before, count = await asyncio.to_thread(said, cluster), len(samples(watch))
        await watch.until(lambda: len(samples(watch)) > count, "the next look", 20.0)  # noqa: B023
        sample, after = samples(watch)[-1], await asyncio.to_thread(said, cluster)
        if _of_vllm(before) == _of_vllm(after):
            (engine,) = sample.engines
            assert differences(engine, after, Family.RAY) == []
            return sample


def _of_vllm(page: Page) -> list[tuple[str, dict[str, str], float]]:
    return [each for each in page.rows if each[0].startswith(Family.RAY)]


async def test_before_the_first_request_nothing_is_taken_for_zero(inventory: Path, cluster: LlmCluster) -> None:
    async with watching(inventory) as watch:
        await first_look(watch)
        sample = await agreeing(watch, cluster)
        shown = row(watch)
        assert (shown.family, shown.models, shown.engines, shown.node) == (
            Family.RAY, (MODEL,), 1, cluster.head.address,
        )  # fmt: skip
        assert shown.shown.status is Status.LIVE
        for value in (shown.running, shown.waiting, shown.kv, shown.generation_per_s, shown.finished_per_s):
            assert isinstance(value, Absent) and value.why is Why.NOT_EXPORTED
        states = {alarm.kind: alarm.state for alarm in panel(watch).of(shown.replica)}
        assert states.pop(AlarmKind.SILENT) is AlarmState.CLEAR
        assert set(states.values()) == {AlarmState.UNKNOWN}
        told = sample.engines[0].cache_config
        assert isinstance(told, Present) and told.value["ReplicaId"] == sample.replica_id


async def test_from_the_replica_to_its_node_its_host_and_its_gpu(inventory: Path, cluster: LlmCluster) -> None:
    async with watching(inventory) as watch:
        await first_look(watch)
        serve = watch.ray.serve.value
        assert serve is not None
        (application,) = serve.applications
        shown = {
            each.name: (each.status, [replica.state for replica in each.replicas]) for each in application.deployments
        }
        assert (application.name, application.status) == ("llm", "RUNNING")
        assert shown == {DEPLOYMENT: ("HEALTHY", ["RUNNING"]), "OpenAiIngress": ("HEALTHY", ["RUNNING"])}
        actors = await asyncio.to_thread(cluster.insider.ask, "actors")
        assert isinstance(actors, list)
        ((node, pid),) = [
            (each["node"], each["pid"])
            for each in actors
            if each["class"] == f"ServeReplica:llm:{DEPLOYMENT}" and each["state"] == "ALIVE"
        ]
        with cluster.head.changed(machine.NVML, lambda text: f"{text}{GPU}.procs={pid}:76000000000\n"):
            await watch.until(lambda: trail(watch).matched, "NVML to see the replica", 20.0)
            found = trail(watch)
        assert (found.node_id, found.hosts, found.shown.status if found.shown else None) == (node, (HEAD,), Status.LIVE)
        assert pid in found.pids
        assert [(gpu.host, gpu.index, gpu.pids) for gpu in found.gpus] == [(HEAD, GPU, (pid,))]


def trail(watch: Watch) -> Trail:
    return live_views.trail(watch.live, row(watch).replica, time.time())


async def test_bursts_are_counted_as_the_client_counted_them(inventory: Path, cluster: LlmCluster) -> None:
    first = await burst(url(cluster), length=2, stop=1)
    async with watching(inventory) as watch:
        await watch.until(
            lambda: generated(watch) == sum(each.counted[0] for each in first), "the first burst", PATIENCE
        )
    async with watching(inventory) as watch:
        await first_look(watch)
        begin = generated(watch)
        answers = await burst(url(cluster), length=6, stop=2)
        total, prompts = (sum(counts) for counts in zip(*(each.counted for each in answers), strict=True))
        await watch.until(lambda: generated(watch) == begin + total, "the burst in Ray's counters", PATIENCE)
        await agreeing(watch, cluster)
        shown = row(watch)
        assert shown.short_seconds == shown.long_seconds
        assert shown.long_seconds is not None
        assert number(shown.generation_per_s) * shown.long_seconds == pytest.approx(total)
        assert number(shown.prompt_per_s) * shown.long_seconds == pytest.approx(prompts)
        ends = shown.finished_per_s
        assert isinstance(ends, Present)
        assert {reason: round(rate * shown.long_seconds, 6) for reason, rate in ends.value.items()} == finished(answers)
        held = shown.window[Thing.TTFT]
        assert isinstance(held, Present) and held.value.total == len(answers)
        # No request failed yet, so Ray has no such counter: that is not the same as no errors.
        assert isinstance(shown.error_share, Absent) and shown.error_share.why is Why.NOT_EXPORTED


def generated(watch: Watch) -> float:
    newest = samples(watch)[-1:]
    values = [engine.numbers[Thing.GENERATION_TOKENS] for sample in newest for engine in sample.engines]
    return sum(value.value for value in values if isinstance(value, Present))


async def test_under_load_and_after_it(inventory: Path, cluster: LlmCluster) -> None:
    async with watching(inventory) as watch:
        await first_look(watch)
        async with streaming(url(cluster), STREAMS, tokens=LONG):
            await watch.until(lambda: _running(watch) == MAX_NUM_SEQS, "a full batch", PATIENCE)
            sample = await agreeing(watch, cluster)
            shown = row(watch)
            numbers = sample.engines[0].numbers
            assert number(shown.running) == number(numbers[Thing.RUNNING])
            assert number(shown.kv) == number(numbers[Thing.KV_USAGE]) > 0
            assert number(shown.generation_per_s) > 0
        await watch.until(lambda: _running(watch) in (0.0, None), "the load to be over for Ray, too", PATIENCE)


def _running(watch: Watch) -> float | None:
    value = row(watch).running
    return value.value if isinstance(value, Present) else None


async def test_a_dead_replica_is_not_live_though_its_counters_stay(inventory: Path, cluster: LlmCluster) -> None:
    async with watching(inventory) as watch:
        await first_look(watch)
        name = row(watch).replica
        await watch.until(lambda: row(watch).shown.status is Status.LIVE, "the replica", 10.0)
        os.kill(cluster.replica(), signal.SIGKILL)
        await watch.until(lambda: _shown(watch, name).status is Status.LOST, "a word about the replica", 40.0)
        page = await asyncio.to_thread(said, cluster)
        dead = name.rpartition("/")[2]
        assert page.values("ray_vllm_generation_tokens_total", ReplicaId=dead), "Ray dropped the counters, as it should"
        totals = panel(watch).totals
        assert totals.generation_per_s.counted == 0 and isinstance(totals.generation_per_s.value, Absent)
        events = watch.events()
        assert any(f"replica {dead} on {HEAD} " in event for event in events), events
        count = len(samples(watch))
        await watch.until(lambda: len(samples(watch)) > count + 1, "two more looks at the page", 20.0)
        lost = _shown(watch, name)
        assert lost.status is Status.LOST
        assert lost.why is not None and "Ray Serve does not have it any more" in lost.why.en


def _shown(watch: Watch, name: str) -> Shown:
    return next(each.shown for each in panel(watch).rows if each.replica == name)
