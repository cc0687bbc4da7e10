"""vllm.* on a real vLLM 0.32 on CPU, alone and under Ray Serve: as it should be, and with one thing wrong at a time."""

from __future__ import annotations

import json
import os
import secrets
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from reallab import tiny_deepseek, vllm_venv
from reallab.cluster import ADDRESSES, Lab
from reallab.host import wait_until
from reallab.llm_cluster import LlmCluster
from reallab.operator import Operator, Outcome
from reallab.vllm_server import MAX_NUM_SEQS, MODEL, PLACE, VllmServer

pytestmark = pytest.mark.real

KEY = secrets.token_hex(20)
HOST, HEAD = "gpu-02", "gpu-01"
INSTALLED, APP, CONFIG, BURST = (
    "vllm.installed-latest",
    "vllm.serve-app",
    "vllm.parallel-batch-config",
    "vllm.serve-concurrency",
)
ALL = (INSTALLED, APP, CONFIG, BURST)
LAB = "cluster:lab"
KV_BLOCKS = 600
ENGINE: dict[str, object] = {
    "tensor_parallel_size": 1,
    "pipeline_parallel_size": 1,
    "data_parallel_size": 1,
    "max_num_seqs": MAX_NUM_SEQS,
    "max_model_len": tiny_deepseek.CONTEXT,
    "kv_cache_dtype": "auto",
}
FEW: dict[str, object] = {
    f"{BURST}.n": MAX_NUM_SEQS,
    f"{BURST}.max_tokens": 24,
    # The lab's machine has two cores, which sixteen answers share.
    f"{BURST}.parallel_ratio_max": 0.8,
    "ray.head-started.settle_min": 0,
}


def inventory(
    lab: Lab,
    name: str,
    host: str,
    *,
    mode: str,
    url: str,
    key: str | None = KEY,
    engine: dict[str, object] | None = None,
    model: str = MODEL,
    version: str | None = "0.32.0",
    **blocks: object,
) -> Path:
    """One host without GPUs, which is what the CPU build wants."""
    place = lab.folder / f"{name}.key"
    place.write_text(f"{key}\n")
    place.chmod(0o600)
    serving = {"mode": mode, "target_concurrency": MAX_NUM_SEQS}
    return lab.inventory(
        name,
        hosts=[{"name": host, "roles": ["head"], "data_ip": ADDRESSES[host], "gpu": False}],
        secrets={"api": f"file:{place}"},
        auth={} if key is None else {"key_ref": "secrets.api"},
        runtime={"python": str(vllm_venv.ready() / "bin" / "python")},
        model={"path": PLACE, "served_name": model},
        engine=ENGINE if engine is None else engine,
        serving=serving if version is None else {**serving, "vllm_version": version},
        endpoints={"api": url, "backends": [url], **({"serve": url} if mode == "ray-serve" else {})},
        thresholds=FEW,
        **blocks,
    )


def words(found: Outcome) -> str:
    return "\n\n".join(f"{f.check} {f.said}\n{f.words}" for f in found if f.verdict != "pass")


def run(operator: Operator, file: Path, *checks: str) -> Outcome:
    """A run; again when the model, which was never trained, ended an answer with its first word."""
    for _ in range(3):
        found = operator.run(*checks, inventory=file)
        if not any("empty answer" in f.words for f in found if f.check == BURST):
            break
    return found


# vLLM alone


@pytest.fixture(scope="module")
def server(lab: Lab) -> Iterator[VllmServer]:
    with VllmServer(lab.hosts[HOST], lab.folder, api_key=KEY, kv_blocks=KV_BLOCKS) as running:
        yield running


def plain(lab: Lab, server: VllmServer, **changed: object) -> Path:
    return inventory(lab, "plain", HOST, mode="vllm", url=server.url, **changed)  # type: ignore[arg-type]


def test_plain_vllm_is_well(lab: Lab, operator: Operator, server: VllmServer) -> None:
    found = run(operator, plain(lab, server), *ALL)
    assert found.said() == {
        (INSTALLED, f"host:{HOST}"): "pass",
        (APP, LAB): "pass",
        (CONFIG, LAB): "pass",
        (BURST, f"endpoint:{server.url}"): "pass",
    }, words(found)
    assert f"max_num_seqs {MAX_NUM_SEQS}: command line {HOST}" in found.of(CONFIG, LAB).words
    assert f"{MAX_NUM_SEQS} of {MAX_NUM_SEQS} answered" in found.of(BURST, f"endpoint:{server.url}").words
    assert KEY not in json.dumps(found.report) + found.errors


def test_what_runs_is_not_what_is_wanted(lab: Lab, operator: Operator, server: VllmServer) -> None:
    file = plain(lab, server, engine={**ENGINE, "max_num_seqs": 16}, version="0.33.0", model="another")
    found = operator.run(INSTALLED, APP, inventory=file)
    assert "0.33.0 is pinned" in found.of(INSTALLED, HOST).words
    assert found.of(INSTALLED, HOST).verdict == "fail"
    app = found.of(APP, LAB)
    assert app.verdict == "fail" and f"lists {MODEL}, not another" in app.words
    config = operator.run(CONFIG, inventory=file).of(CONFIG, LAB)
    assert config.verdict == "fail" and f"max_num_seqs is {MAX_NUM_SEQS}, not 16 (command line" in config.words


def test_settings_that_nobody_wrote_down(lab: Lab, operator: Operator, server: VllmServer) -> None:
    file = plain(lab, server, engine={**ENGINE, "max_num_batched_tokens": 2048})
    found = operator.run(CONFIG, inventory=file).of(CONFIG, LAB)
    assert found.verdict == "unknown" and "not observable: max_num_batched_tokens" in found.words


def test_the_latest_of_an_index_that_is_not_reached(lab: Lab, operator: Operator, server: VllmServer) -> None:
    found = operator.run(INSTALLED, inventory=plain(lab, server, version=None)).of(INSTALLED, HOST)
    assert found.verdict == "unknown" and "the latest version" in found.words


@pytest.mark.parametrize("key", [None, "wrong" * 8], ids=["no-key", "wrong-key"])
def test_a_key_that_is_not_right(lab: Lab, operator: Operator, server: VllmServer, key: str | None) -> None:
    file = plain(lab, server, key=key)
    found = operator.run(APP, inventory=file)
    assert found.of(APP, LAB).said == "unknown(no-credential)"
    burst = operator.run(BURST, inventory=file).of(BURST, f"endpoint:{server.url}")
    assert burst.said == "unknown(no-credential)", burst.words


def test_the_engine_is_killed(lab: Lab, operator: Operator, server: VllmServer) -> None:
    os.kill(server.engine_pid(), signal.SIGKILL)
    wait_until(lambda: server.answers("/health") != 200, "the server to notice", 60.0)
    try:
        found = operator.run(APP, inventory=plain(lab, server))
        app = found.of(APP, LAB)
        assert app.verdict == "fail", app.words
        burst = operator.run(BURST, inventory=plain(lab, server)).of(BURST, f"endpoint:{server.url}")
        assert burst.verdict in ("fail", "unknown"), burst.words
    finally:
        server.stop()


def test_one_at_a_time(lab: Lab, operator: Operator, server: VllmServer) -> None:
    """An engine that takes a single request: all are answered, one after the other."""
    server.stop()
    with VllmServer(lab.hosts[HOST], lab.folder, api_key=KEY, kv_blocks=KV_BLOCKS, max_num_seqs=1) as narrow:
        found = run(operator, plain(lab, narrow), BURST).of(BURST, f"endpoint:{narrow.url}")
    assert found.verdict == "fail" and "worked on one after the other" in found.words, found.words


# under Ray Serve


@pytest.fixture(scope="module")
def cluster(lab: Lab) -> Iterator[LlmCluster]:
    made = LlmCluster(lab.hosts[HEAD], lab.folder)
    try:
        made.start()
        made.deploy()
        yield made
    finally:
        made.stop()


SERVE_URL = f"http://{ADDRESSES[HEAD]}:8000"
IN_THE_LOG = {name: ENGINE[name] for name in ("tensor_parallel_size", "pipeline_parallel_size", "max_model_len")}


def served(lab: Lab, **changed: object) -> Path:
    ray = {"dashboard_access": "tunnel"}
    given = {"engine": IN_THE_LOG, "key": None, "ray": ray, **changed}
    return inventory(lab, "served", HEAD, mode="ray-serve", url=SERVE_URL, **given)  # type: ignore[arg-type]


def test_serve_is_well(lab: Lab, operator: Operator, cluster: LlmCluster) -> None:
    found = run(operator, served(lab, key="unused"), "ray.head-started", *ALL)
    said = {key: verdict for key, verdict in found.said().items() if key[0] != "ray.head-started"}
    assert said == {
        (INSTALLED, f"host:{HEAD}"): "pass",
        (APP, LAB): "pass",
        (CONFIG, LAB): "pass",
        (BURST, f"endpoint:{SERVE_URL}"): "pass",
    }, words(found)
    assert f"max_model_len {tiny_deepseek.CONTEXT}: log " in found.of(CONFIG, LAB).words


def test_settings_that_ray_does_not_know(lab: Lab, operator: Operator, cluster: LlmCluster) -> None:
    """It was deployed by a program: Serve has no configuration to read, and no log tells max_num_seqs."""
    found = operator.run(CONFIG, inventory=served(lab, engine=ENGINE)).of(CONFIG, LAB)
    assert found.verdict == "unknown" and "not observable: max_num_seqs" in found.words
    wrong = operator.run(CONFIG, inventory=served(lab, engine={"max_model_len": 4096})).of(CONFIG, LAB)
    assert wrong.verdict == "fail" and f"max_model_len is {tiny_deepseek.CONTEXT}, not 4096" in wrong.words


def test_the_trap_of_serves_limit(lab: Lab, operator: Operator, cluster: LlmCluster) -> None:
    """Serve's own default of five requests a replica, whatever vLLM could take."""
    script = (Path(__file__).parent / "reallab" / "llm_app.py").read_text()
    narrow = script.replace('"max_ongoing_requests": 64', '"max_ongoing_requests": 5')
    assert narrow != script
    cluster.head.put("/opt/ray/narrow_app.py", narrow)
    argv = (cluster.address, MODEL, PLACE, str(MAX_NUM_SEQS), str(KV_BLOCKS), "8000")
    cluster.head.run(*cluster.environment(), cluster.python, "/opt/ray/narrow_app.py", *argv, seconds=300.0)
    found = run(operator, served(lab, key="unused"), BURST, CONFIG)
    trap = "LLMServer:deepseek-tiny has Serve's default max_ongoing_requests 5"
    assert trap in found.of(BURST, f"endpoint:{SERVE_URL}").words
    assert found.of(CONFIG, LAB).verdict == "warn" and trap in found.of(CONFIG, LAB).words


def test_the_replica_is_killed(lab: Lab, operator: Operator, cluster: LlmCluster) -> None:
    """Its engine with it: the proxy stays, and says that it is well."""
    pid = next(pid for pid, line in cluster.head.processes().items() if "ServeReplica:llm:LLMServer" in line)
    os.kill(pid, signal.SIGKILL)
    app = operator.run("ray.head-started", APP, inventory=served(lab)).of(APP, LAB)
    assert app.verdict == "fail", app.words
    assert "replicas run" in app.words or "UNHEALTHY" in app.words or "such processes run" in app.words
