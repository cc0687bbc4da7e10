"""The ladder against a real vLLM, and made by a real Ray cluster of three nodes: what it says, and what it does not."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import pytest

from dstui.load.result import LadderResult, StageResult
from dstui.load.wire import ladder_of

from reallab import echo_api
from reallab.cluster import NAMES, Lab, clean_environment
from reallab.host import Host, wait_until
from reallab.operator import Operator
from reallab.ray_cluster import Clusters, RayCluster
from reallab.vllm_server import MAX_NUM_SEQS, MODEL, VllmServer, vllm_command

pytestmark = pytest.mark.real

KEY = "key-of-the-lab"
QUICK = ("--ramp=1", "--warm=2", "--drain=20", "--pause=1", "--yes")
GENERATED = "vllm:generation_tokens_total"
TARGET = "gpu-02"


@dataclass(frozen=True, slots=True)
class Climbed:
    exit: int
    result: LadderResult
    checks: Mapping[str, Mapping[str, object]]
    errors: str
    printed: str

    def stage(self, name: str) -> StageResult:
        return next(each for each in self.result.stages if each.stage.name == name)

    def verdict(self, check: str) -> object:
        return self.checks[f"perf.{check}"]["verdict"]


def read(done: subprocess.CompletedProcess[str]) -> Climbed:
    assert done.returncode in (0, 1, 2), done.stderr[-3000:]
    document = json.loads(done.stdout)
    checks = document.pop("checks")
    return Climbed(done.returncode, ladder_of(document), checks, done.stderr, done.stdout)


def climb(operator: Operator, inventory: Path, *words: str) -> Climbed:
    argv = operator.argv("ladder", inventory, operator.journal(), "--output=json", *QUICK, *words)
    return read(operator.call(*argv))


def key_file(lab: Lab) -> str:
    held = lab.folder / "ladder.key"
    held.touch(0o600)
    held.write_text(KEY)
    return f"file:{held}"


@pytest.fixture(scope="module")
def server(lab: Lab) -> Iterator[VllmServer]:
    with VllmServer(lab.hosts[TARGET], lab.folder, api_key=KEY) as running:
        yield running


@pytest.fixture(scope="module")
def inventory(lab: Lab, server: VllmServer) -> Path:
    return lab.inventory(
        "ladder",
        model={"path": "/models/deepseek-tiny", "served_name": MODEL},
        serving={"mode": "vllm", "replicas": 1},
        engine={"max_num_seqs": MAX_NUM_SEQS},
        endpoints={"api": server.url, "backends": [server.url]},
        auth={"key_ref": key_file(lab)},
        slo={"ttft_p95_s": 20.0},
    )


def counted(server: VllmServer) -> float:
    page = urllib.request.urlopen(f"{server.url}/metrics", timeout=10).read().decode()
    return sum(float(line.rsplit(" ", 1)[1]) for line in page.splitlines() if line.startswith(GENERATED))


def test_a_real_vllm_climbs(operator: Operator, inventory: Path, server: VllmServer) -> None:
    before = counted(server)
    found = climb(
        operator, inventory, "--levels=1,4,12", "--window=12", "--input-tokens=32", "--output-tokens=16", "--no-batch"
    )
    grown = counted(server) - before
    assert [stage.stage.name for stage in found.result.stages] == ["single", "direct", "level-1", "level-4", "level-12"]
    whole = 0
    for stage in found.result.stages:
        counts = stage.counts
        assert counts.adds_up and not counts.failed and not counts.shed and counts.ok > 0, counts
        assert not stage.unmetered and stage.tokens_out == 16 * counts.ok, "usage is vLLM's own, and ignore_eos holds"
        whole += 16 * (counts.begun - counts.aborted)
        ttft, e2e = stage.times.ttft.quantile(0.5), stage.times.e2e.quantile(0.5)
        assert ttft is not None and e2e is not None and 0 < ttft < e2e
    # What the server counted is what all requests together got, but for those that were cut off in the middle.
    cut = 16 * sum(stage.counts.aborted for stage in found.result.stages)
    assert whole <= grown <= whole + cut
    level = found.stage("level-12")
    replica = level.window.replicas[TARGET]
    assert replica.running_peak is not None and 1 <= replica.running_peak <= MAX_NUM_SEQS
    assert replica.waiting_peak is not None and replica.waiting_peak > 0, "twelve users, eight places"
    host = level.window.hosts[TARGET]
    assert host.samples > 5 and host.memory_peak is not None and 0 < host.memory_peak < 1
    assert level.window.timeline
    # The document's levels were not among them.
    assert found.verdict("concurrent-users") == "unknown"
    assert KEY not in found.printed + found.errors


def test_vllms_own_bench_says_the_same_of_it(operator: Operator, inventory: Path, server: VllmServer) -> None:
    """Four users, the same lengths: what a user sees does not depend on who measures it."""
    ours = climb(
        operator, inventory, "--levels=4", "--window=20", "--input-tokens=32", "--output-tokens=32", "--no-batch",
        "--no-single",
    ).stage("level-4")  # fmt: skip
    theirs = bench(server, users=4, requests=40, tokens_in=32, tokens_out=32)
    mine = {
        "TTFT p50 ms": 1000 * (ours.times.ttft.quantile(0.5) or 0.0),
        "TPOT p50 ms": 1000 * (ours.times.tpot.quantile(0.5) or 0.0),
        "tokens/s": ours.tokens_per_second or 0.0,
    }
    other = {
        "TTFT p50 ms": theirs["median_ttft_ms"],
        "TPOT p50 ms": theirs["median_tpot_ms"],
        "tokens/s": theirs["output_throughput"],
    }
    rows = "".join(f"{name:14}{value:10.1f}{other[name]:12.1f}\n" for name, value in mine.items())
    sys.stdout.write(f"\n{'':14}{'dstui':>10}{'vllm bench':>12}\n{rows}")
    # The machine is busy and has two cores: this is about definitions, not about percent.
    for name, value in mine.items():
        assert 0.2 < value / other[name] < 5, name


def bench(server: VllmServer, *, users: int, requests: int, tokens_in: int, tokens_out: int) -> dict[str, float]:
    """`vllm bench serve` on the server's host."""
    out = "/tmp/bench.json"
    server.host.run(
        *vllm_command(server.host, OPENAI_API_KEY=KEY), "bench", "serve", "--backend", "openai-chat",
        "--base-url", f"http://127.0.0.1:{server.port}", "--endpoint", "/v1/chat/completions", "--model", MODEL,
        "--tokenizer", "/models/deepseek-tiny", "--dataset-name", "random", "--random-input-len", str(tokens_in),
        "--random-output-len", str(tokens_out), "--num-prompts", str(requests), "--max-concurrency", str(users),
        "--ignore-eos", "--save-result", "--result-dir", "/tmp", "--result-filename", "bench.json",
        "--percentile-metrics", "ttft,tpot,itl,e2el", seconds=240.0,
    )  # fmt: skip
    return cast("dict[str, float]", json.loads(server.host.get(out)))


def test_an_engine_that_dies_is_no_faster_service(operator: Operator, inventory: Path, server: VllmServer) -> None:
    """Killed in the middle: errors are errors, the ladder ends itself, and nothing of it is green."""
    argv = operator.argv("ladder", inventory, operator.journal(), "--output=json", *QUICK, "--levels=4", "--window=60",
                         "--input-tokens=16", "--output-tokens=16", "--no-batch", "--no-single")  # fmt: skip
    started = subprocess.Popen(
        argv, env=clean_environment(operator.home), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        time.sleep(10)
        server.stop()
        out, errors = started.communicate(timeout=120)
    finally:
        started.kill()
        server.start()
    found = read(subprocess.CompletedProcess(argv, started.returncode, out, errors))
    [level] = found.result.stages
    assert level.counts.adds_up and level.counts.failed > 0
    assert "of the requests failed" in found.result.stopped
    assert found.exit in (1, 2)
    assert found.verdict("concurrent-users") in ("fail", "unknown")
    assert {row["verdict"] for row in found.checks.values()} <= {"fail", "unknown"}


@pytest.fixture(scope="module")
def cluster(lab: Lab) -> Iterator[RayCluster]:
    clusters = Clusters(lab)
    yield clusters.get()
    clusters.stop()


@pytest.fixture(scope="module")
def target(lab: Lab, cluster: RayCluster) -> Iterator[Host]:
    """A small API on one host, which the hosts' firewalls keep from the controller."""
    host = lab.hosts[TARGET]
    host.put("/opt/echo/echo_api.py", Path(echo_api.__file__).read_text())
    process = host.start("/usr/bin/python3", "-I", "/opt/echo/echo_api.py", "8100", KEY, "0.005")
    wait_until(lambda: ":8100 " in host.run("ss", "-Hltn"), "the API")
    yield host
    for pid, line in host.processes().items():
        if "/opt/echo/" in line:
            os.kill(pid, signal.SIGTERM)
    process.wait(10)


@pytest.fixture(scope="module")
def by_ray(lab: Lab, cluster: RayCluster, target: Host) -> Path:
    url = f"http://{target.address}:8100"
    return lab.inventory(
        "ladder-ray",
        model={"path": "/models/x", "served_name": echo_api.MODEL},
        serving={"mode": "vllm"},
        runtime={"python": cluster.python},
        ray={"dashboard_access": "tunnel"},
        endpoints={"api": url, "backends": [url]},
        auth={"key_ref": key_file(lab)},
    )


def test_three_nodes_make_the_load(operator: Operator, by_ray: Path, cluster: RayCluster) -> None:
    found = climb(operator, by_ray, "--engine=ray:gpu-01", "--levels=9", "--window=5", "--no-single", "--no-batch")
    level = found.stage("level-9")
    assert level.generator.workers == 3 and not level.generator.lost, level.generator
    assert level.counts.adds_up and level.counts.ok > 20 and not level.counts.failed, (level.counts, level.samples)
    assert KEY not in found.printed + found.errors
    wait_until(lambda: not _generators(cluster), "the actors to end", 30.0)


def _until_they_run(cluster: RayCluster, started: subprocess.Popen[str]) -> None:
    """All three actors are there; when dstui ends before, this says what it said."""
    wait_until(lambda: len(_generators(cluster)) == 3 or started.poll() is not None, "the actors", 120.0)
    assert started.poll() is None, started.communicate()


def _generators(cluster: RayCluster) -> list[str]:
    return [line for host in cluster.hosts.values() for line in host.processes().values() if "ray::Generator" in line]


def test_a_node_that_dies_in_the_middle_fakes_nothing(
    lab: Lab, operator: Operator, by_ray: Path, cluster: RayCluster
) -> None:
    argv = operator.argv("ladder", by_ray, operator.journal(), "--output=json", *QUICK, "--engine=ray:gpu-01",
                         "--levels=9", "--window=25", "--no-single", "--no-batch")  # fmt: skip
    started = subprocess.Popen(
        argv, env=clean_environment(operator.home), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    host = lab.hosts["gpu-03"]
    try:
        _until_they_run(cluster, started)
        time.sleep(6)
        wait_until(lambda: not cluster._kill_all(host), "Ray on gpu-03 to end")
        out, errors = started.communicate(timeout=120)
    finally:
        started.kill()
        wait_until(lambda: host.name not in cluster.alive(), "Ray to miss gpu-03", 60.0)
        cluster.join(host)
        wait_until(lambda: cluster.alive() == set(NAMES), "gpu-03 to join again", 60.0)
    found = read(subprocess.CompletedProcess(argv, started.returncode, out, errors))
    [level] = found.result.stages
    assert len(level.generator.lost) == 1 and host.address in level.generator.lost[0], level.generator.lost
    assert level.counts.adds_up and level.counts.ok > 0
    assert {row["verdict"] for row in found.checks.values()} <= {"unknown"}


def test_the_jump_host_is_lost(operator: Operator, by_ray: Path, cluster: RayCluster) -> None:
    """dstui is killed where it stands: the actors end, and the load with them."""
    argv = operator.argv("ladder", by_ray, operator.journal(), *QUICK, "--engine=ray:gpu-01", "--levels=9",
                         "--window=120", "--no-single", "--no-batch")  # fmt: skip
    started = subprocess.Popen(
        argv, env=clean_environment(operator.home), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    try:
        _until_they_run(cluster, started)
        time.sleep(3)
    finally:
        started.send_signal(signal.SIGKILL)
        started.communicate(timeout=10)
    wait_until(lambda: not _generators(cluster), "the actors to end", 60.0)


def test_a_host_without_ray(operator: Operator, lab: Lab, by_ray: Path) -> None:
    """The system's Python has none: one sentence, and no load."""
    text = by_ray.read_text().replace(f"python: {_python(by_ray)}", "python: /usr/bin/python3")
    file = lab.folder / "ladder-no-ray.yaml"
    file.write_text(text)
    argv = operator.argv("ladder", file, operator.journal(), *QUICK, "--engine=ray:gpu-01", "--levels=1")
    done = operator.call(*argv)
    assert done.returncode == 3 and "has no Ray" in done.stderr and "runtime.python" in done.stderr, done.stderr
    assert "Traceback" not in done.stderr


def _python(inventory: Path) -> str:
    line = next(line for line in inventory.read_text().splitlines() if line.strip().startswith("python:"))
    return line.split(":", 1)[1].strip()
