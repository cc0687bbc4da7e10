"""The live view against a real Ray 2.60 on three hosts: what the panels say is what Ray itself says, or why not."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import secrets
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from dstui.telemetry import live_views
from dstui.telemetry.live_status import Status
from dstui.telemetry.record import RecordKind
from dstui.telemetry.watched import RAY

from reallab import machine
from reallab.cluster import NAMES, Lab
from reallab.firewall import reachable
from reallab.operator import DSTUI, Operator
from reallab.ray_cluster import DASHBOARD_PORT, Clusters, RayCluster
from reallab.ray_watch import Watch, agreeing, panel, truth, watching

pytestmark = pytest.mark.real

LOG = logging.getLogger(__name__)

SECRETS = ("s3cr3t-of-the-lab", "j0b-secret")
"""In runtime environments of the application and of the job."""

TOKEN = secrets.token_hex(24)
POLL_SECONDS = 2.0
MARGIN_SECONDS = 2.0
"""For one look to be made and folded on a busy machine."""


@pytest.fixture(scope="module")
def clusters(lab: Lab) -> Iterator[Clusters]:
    made = Clusters(lab)
    yield made
    made.stop()


@pytest.fixture
def cluster(clusters: Clusters) -> RayCluster:
    return clusters.get()


def through_tunnel(lab: Lab) -> Path:
    return lab.inventory("ray-tunnel", ray={"dashboard_access": "tunnel"})


async def first_look(watch: Watch) -> None:
    await watch.until(lambda: watch.ray.nodes.value is not None, "Ray's nodes", 30.0)
    await watch.until(
        lambda: all(watch.host(name).pulse.status(time.time()) is Status.LIVE for name in NAMES), "the hosts", 30.0
    )


def no_secrets(watch: Watch) -> None:
    said = watch.lines()
    assert "Echo" in said
    assert not [secret for secret in SECRETS if secret in said]


async def test_through_the_tunnel_while_nothing_happens(lab: Lab, cluster: RayCluster) -> None:
    async with watching(through_tunnel(lab)) as watch:
        await first_look(watch)
        said = await agreeing(watch, cluster)
        assert (said["gpus"], said["gpus used"]) == (24.0, 3.0)
        assert said["applications"] == {"tiny": {"Echo": ("RUNNING", "HEALTHY", {"RUNNING": 3})}}
        view = watch.ray
        assert view.comparison is not None and view.comparison.complete and not view.comparison.strangers
        assert (view.comparison.gpus.ray, view.comparison.gpus.inventory, view.comparison.gpus.nvml) == (24, 24, 24)
        assert view.comparison.gpus.agree is True
        assert {host.host: host.gpus.nvml for host in view.comparison.hosts} == dict.fromkeys(NAMES, machine.GPUS)
        assert view.version.value == "2.60.0"
        listed = cluster.cli("list", "nodes")
        assert all(node.node_id in listed and str(node.ip) in listed for node in view.nodes.value or ())
        assert view.beliefs == {}
        pages = {f"vllm:{name}" for name in NAMES}
        await watch.until(
            lambda: pages <= {each.source for each in watch.records if each.kind is RecordKind.SAMPLE},
            "the nodes' pages, which the hosts' firewalls keep from the controller",
            15.0,
        )
        no_secrets(watch)


async def test_under_load(lab: Lab, cluster: RayCluster) -> None:
    ask = cluster.insider.ask
    async with watching(through_tunnel(lab)) as watch:
        await first_look(watch)
        nodes = watch.ray.nodes.value or ()
        try:
            held = await asyncio.to_thread(lambda: ask("hold", gpus=4, on=[node.node_id for node in nodes]))
            await asyncio.to_thread(lambda: ask("want", gpus=4, group=64))
            await asyncio.to_thread(lambda: ask("submit", id="train-1", entrypoint="sleep 300"))
            await watch.until(lambda: panel(watch.ray)["jobs"] == {"RUNNING": 2}, "the job to run", 40.0)
            said = await agreeing(watch, cluster)
            assert said["gpus used"] == 15.0
            assert said["groups"] == [("too-big", "INFEASIBLE")]
            assert any("'GPU': 4.0" in line for line in _lines(said["waiting"])), said["waiting"]
            assert any("'GPU': 64.0" in line for line in _lines(said["waiting"])), said["waiting"]
            actors = {(actor.node_id, actor.pid) for actor in watch.ray.actors.value or () if actor.kind == "Holder"}
            assert isinstance(held, dict) and actors == set(held.items())
            events = watch.events()
            assert "no nodes can hold placement group too-big: it asks for 1 × {GPU 64}" in events
            assert any(event.startswith("waits for resources: ") for event in events)
        finally:
            await asyncio.to_thread(lambda: ask("end_job", id="train-1"))
            await asyncio.to_thread(lambda: ask("release"))
        said = await agreeing(watch, cluster)
        assert (said["gpus used"], said["waiting"]) == (3.0, [])
        assert "nothing waits for resources any more" in watch.events()
        no_secrets(watch)


def _lines(value: object) -> list[str]:
    assert isinstance(value, list)
    return value


async def test_by_the_dashboards_own_address(lab: Lab, cluster: RayCluster) -> None:
    url = f"http://{cluster.head.address}:{DASHBOARD_PORT}"
    file = lab.inventory("ray-direct", ray={"dashboard_url": url})
    async with watching(file) as watch:
        kept_out = "the Ray dashboard cannot be read: "
        await watch.until(lambda: any(kept_out in event for event in watch.events()), "a word about it", 30.0)
        assert watch.ray.nodes.value is None
        with reachable(cluster.head, DASHBOARD_PORT):
            await first_look(watch)
            await agreeing(watch, cluster)
            assert "the Ray dashboard answers again" in watch.events()


async def test_hosts_beside_nvml_and_proc(lab: Lab, cluster: RayCluster) -> None:
    values = {index: {"util": 10 + 7 * index, "temp": 50 + index, "power_mw": 300_000 + 1000 * index,
                      "mem_used": (index + 1) << 30} for index in range(machine.GPUS)}  # fmt: skip
    more = "".join(f"{index}.{key}={value}\n" for index, row in values.items() for key, value in row.items())
    host = lab.hosts["gpu-02"]
    async with watching(through_tunnel(lab)) as watch:
        await first_look(watch)
        for name in NAMES:
            sample = watch.host(name).sample
            assert sample is not None and sample.gpu_source == "nvml"
            assert len(sample.gpus) == machine.GPUS
            assert all(gpu.util == 37 and gpu.temp == 45 + gpu.index for gpu in sample.gpus), name
        fold = watch.host("gpu-02")
        with (
            host.changed(machine.NVML, lambda text: text + more),
            host.changed(machine.MEMINFO, lambda text: text.replace("MemAvailable:   ", "MemAvailable:   1")),
        ):
            changed_at = time.time()
            await watch.until(
                lambda: fold.pulse.sample_at is not None and fold.pulse.sample_at > changed_at + 1, "a sample", 10.0
            )
            sample = fold.sample
            assert sample is not None
            assert {gpu.index: (gpu.util, gpu.temp, gpu.power, gpu.mem_used) for gpu in sample.gpus} == {
                index: (row["util"], row["temp"], row["power_mw"] / 1000, row["mem_used"])
                for index, row in values.items()
            }
            told = dict(line.split(":") for line in host.run("cat", "/proc/meminfo").splitlines())
            assert sample.mem_total == int(told["MemTotal"].split()[0]) * 1024
            assert sample.mem_available == int(told["MemAvailable"].split()[0]) * 1024
        others = watch.host("gpu-03").sample
        assert others is not None and all(gpu.util == 37 for gpu in others.gpus)
        await _oom_and_load(watch, lab)
        await _network(watch, lab)


async def _oom_and_load(watch: Watch, lab: Lab) -> None:
    host, fold = lab.hosts["gpu-01"], watch.host("gpu-01")
    for _ in range(10):
        seen = fold.version
        before = host.run("cat", "/proc/loadavg").split()[0]
        await watch.until(lambda: fold.version > seen, "a sample", 10.0)  # noqa: B023
        after = host.run("cat", "/proc/loadavg").split()[0]
        assert fold.sample is not None
        # The kernel renews it every 5 s, perhaps between the two.
        if before == after:
            assert fold.sample.load1 == float(before)
            break
    else:
        pytest.fail("the load never stood still between two looks")
    killed = next(line for line in host.run("cat", "/proc/vmstat").splitlines() if line.startswith("oom_kill "))
    assert fold.sample.oom_kill == float(killed.split()[1])


async def _network(watch: Watch, lab: Lab) -> None:
    """Bytes that the samples add up to, beside the kernel's counter: Ray and SSH keep the wires busy."""
    host, fold = lab.hosts["gpu-01"], watch.host("gpu-01")

    def received() -> int:
        line = next(line for line in host.run("cat", "/proc/net/dev").splitlines() if "eth0:" in line)
        return int(line.partition(":")[2].split()[0])

    seen = fold.version
    await watch.until(lambda: fold.version > seen, "a sample", 10.0)
    began, first, count = received(), fold.pulse.sample_at, len(watch.records)
    await watch.until(lambda: fold.version >= seen + 7, "six samples", 20.0)
    grown = received() - began
    rows = [record for record in watch.records[count:] if record.source == "host:gpu-01"]
    total, at = 0.0, first or 0.0
    for record in rows:
        net = record.data["net"]
        assert isinstance(net, dict)
        total += net["eth0"]["rx"] * (record.at - at)
        at = record.at
    assert grown > 1000
    assert total == pytest.approx(grown, rel=0.3), "one sample more or less at either end"


def test_as_a_user(lab: Lab, operator: Operator, cluster: RayCluster, tmp_path: Path) -> None:
    file = through_tunnel(lab)
    kept = tmp_path / "incident.jsonl"
    before = truth(cluster)
    done = operator.call(DSTUI, "watch", "-i", str(file), "--output", "json", "--seconds", "14", "--record", str(kept))
    after = truth(cluster)
    assert done.returncode == 0, done.stderr
    header, *rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert header["format"] == "dstui-live"
    looks = [row["data"] for row in rows if row["source"] == RAY and row["kind"] == "sample"]
    assert len(looks) >= 3
    nodes = {node["node_id"]: (node["ip"], node["state"], node["head"]) for node in looks[-1]["nodes"]}
    assert nodes == before["nodes"] == after["nodes"]
    assert sum(node["total"]["gpu"] for node in looks[-1]["nodes"]) == before["gpus"] == 24
    heard = {row["source"] for row in rows if row["kind"] == "sample"}
    assert {f"host:{name}" for name in NAMES} <= heard
    everything = done.stdout + done.stderr + kept.read_text()
    assert not [secret for secret in SECRETS if secret in everything]
    text = operator.call(DSTUI, "watch", "-i", str(file), "--seconds", "8")
    assert "3/3 nodes" in text.stdout and "24/24" in text.stdout, text.stdout
    again = operator.call(DSTUI, "replay", str(kept), "--speed", "100")
    assert "3/3 nodes" in again.stdout, again.stdout


async def test_a_raylet_is_killed(lab: Lab, cluster: RayCluster) -> None:
    victim = lab.hosts["gpu-03"]
    async with watching(through_tunnel(lab)) as watch:
        await first_look(watch)
        node = next(each for each in watch.ray.nodes.value or () if each.ip == victim.address)
        # The raylet has to be known before it can be missed.
        await watch.until(lambda: watch.live.ray.version >= 4, "some looks at Ray", 20.0)
        os.kill(cluster.raylet(victim), signal.SIGKILL)
        killed = time.monotonic()

        def ray_knows() -> float:
            while time.monotonic() < killed + 60 and "gpu-03" in cluster.alive():
                time.sleep(0.1)
            return time.monotonic()

        knowing = asyncio.create_task(asyncio.to_thread(ray_knows))
        await watch.until(lambda: "gpu-03" in watch.ray.beliefs, "what Ray still believes", 8.0)
        believed = time.monotonic() - killed
        assert not knowing.done(), "Ray does not know yet"
        told = watch.ray.beliefs["gpu-03"]
        assert told.en.startswith("Ray still counts gpu-03 as alive; its raylet has been gone for ")
        assert told.en.endswith("the host answers")
        assert panel(watch.ray)["gpus"] == 24, "Ray's own count, beside what is known better"
        assert live_views.strip(watch.live, time.time()).ray.believed == 1

        def dead() -> bool:
            assert watch.host("gpu-03").pulse.status(time.time()) is Status.LIVE, "the host itself is alive"
            return any(each.node_id == node.node_id and each.state == "DEAD" for each in watch.ray.nodes.value or ())

        await watch.until(dead, "the dead node", 60.0)
        shown = time.monotonic()
        delay = shown - await knowing
        assert delay <= POLL_SECONDS + MARGIN_SECONDS
        LOG.info(
            "a killed raylet: seen on the host after %.1f s, by Ray after %.1f s, in the panel %+.1f s after that",
            *(believed, shown - killed - delay, delay),
        )
        row = next(each for each in watch.ray.nodes.value or () if each.node_id == node.node_id)
        assert "health check failed" in row.message
        assert watch.ray.beliefs == {}
        events = watch.events()
        gone = "gpu-03 has no raylet any more, though the host answers; Ray still counts it as alive"
        left = "gpu-03 left the cluster, health check failed due to missing too many heartbeats"
        assert events.index(gone) < events.index(left)
        await watch.until(lambda: panel(watch.ray)["gpus"] == 16, "the total without it", 10.0)
        comparison = watch.ray.comparison
        assert comparison is not None and comparison.alive == 2

        await asyncio.to_thread(cluster.join, victim)
        await watch.until(lambda: panel(watch.ray)["gpus"] == 24, "the host to be back", 40.0)
        assert "gpu-03 is back in the cluster, as a new Ray node" in watch.events()
        await agreeing(watch, cluster, 60.0)


async def test_the_dashboard_is_killed(lab: Lab, cluster: RayCluster) -> None:
    async with watching(through_tunnel(lab)) as watch:
        await first_look(watch)
        os.kill(cluster.dashboard(), signal.SIGKILL)
        await watch.until(lambda: watch.ray.nodes.shown.status is Status.LOST, "the nodes to grey", 12.0)
        greyed = watch.ray
        assert (
            greyed.nodes.value is not None and greyed.nodes.shown.age is not None and greyed.nodes.shown.why is not None
        )
        assert greyed.shown.status is Status.LOST and greyed.snapshot is None
        assert any(event.startswith("the Ray dashboard cannot be read: ") for event in watch.events())
        await watch.until(lambda: watch.ray.shown.status is Status.UNKNOWN, "all of it to be unknown", 30.0)
        unknown = watch.ray
        assert not any(panel(unknown).values()), "no number of before is left"
        assert unknown.nodes.value is None and unknown.serve.value is None and unknown.comparison is None
        assert unknown.shown.why is not None and unknown.shown.why.zh
        line = live_views.strip(watch.live, time.time()).ray
        assert line.alive is None
        assert all(watch.host(name).pulse.status(time.time()) is Status.LIVE for name in NAMES)


ONE = {"hosts": [{"name": "gpu-01", "group": "gpu", "roles": ["head"], "data_ip": "10.78.0.11"}]}


def guarded_inventory(lab: Lab, token: str | None) -> Path:
    ray: dict[str, object] = {"dashboard_access": "tunnel"}
    if token is None:
        return lab.inventory("ray-guarded", ray=ray, **ONE)
    place = lab.folder / "ray-token"
    place.write_text(token + "\n")
    place.chmod(0o600)
    return lab.inventory("ray-guarded", ray=ray | {"token_ref": "secrets.ray"}, secrets={"ray": f"file:{place}"}, **ONE)


@pytest.mark.parametrize(
    ("token", "words"),
    [
        pytest.param(None, "the dashboard wants a token: set ray.token_ref in the inventory", id="no-token"),
        pytest.param("0" * 48, "is wrong (HTTP 403)", id="wrong-token"),
    ],
)
async def test_a_token_that_is_missing_or_wrong(lab: Lab, clusters: Clusters, token: str | None, words: str) -> None:
    clusters.get(TOKEN)
    async with watching(guarded_inventory(lab, token)) as watch:
        await watch.until(lambda: watch.ray.shown.why is not None and words in watch.ray.shown.why.en, words, 30.0)
        view = watch.ray
        assert view.shown.status is Status.UNKNOWN
        assert (view.nodes.value, view.serve.value, view.jobs.value, view.demands.value) == (None,) * 4
        assert view.comparison is None
        assert live_views.strip(watch.live, time.time()).ray.alive is None
        assert any(words in event for event in watch.events())
        assert TOKEN not in watch.lines() and (token is None or token not in watch.lines())


async def test_the_right_token(lab: Lab, operator: Operator, clusters: Clusters) -> None:
    cluster = clusters.get(TOKEN)
    file = guarded_inventory(lab, TOKEN)
    async with watching(file) as watch:
        await watch.until(lambda: watch.ray.nodes.value is not None, "Ray's nodes", 30.0)
        assert (await agreeing(watch, cluster))["gpus"] == 8.0
        assert TOKEN not in watch.lines()
    done = await asyncio.to_thread(operator.call, DSTUI, "watch", "-i", str(file), "--output", "json", "--seconds", "8")
    assert any(json.loads(line).get("source") == RAY for line in done.stdout.splitlines()[1:])
    assert TOKEN not in done.stdout + done.stderr
