"""Processes, packages and settings of Ray and vLLM, as hosts, Serve, logs and metrics tell of them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dstui.facts import engine_settings, serve_packages, serve_processes, vllm_install, vllm_settings
from dstui.facts.case import HostSite, Site
from dstui.facts.engine_settings import EngineLog, ModelConfig
from dstui.facts.exchange import Exchange
from dstui.facts.raw import Answer, Missing, OpKind, Raw
from dstui.facts.serve_burst import request_counts
from dstui.facts.serve_config import app_configs
from dstui.facts.serve_processes import Holder, Role, ServeProcesses
from dstui.facts.vllm_backends import cache_configs
from dstui.model import Reason

DATA = Path(__file__).parents[1] / "data"
HOST = HostSite("gpu-01", frozenset({"head"}), "10.78.0.11", None, "10.78.0.11", 22, "ops", True, 8)
SITE = Site("ds", "lab", "auto", (HOST,), "/mnt/x", "/opt/venv/bin/python", None, "bare-metal", False, "none")

GCS = (
    "/opt/venv/lib/python3.11/site-packages/ray/core/src/ray/gcs/gcs_server --log_dir=/tmp/ray/s/logs "
    "--config_list=eyJhIjogMX0= --gcs_server_port=6379 --metrics-agent-port=10013 --node-ip-address=10.78.0.11 "
    "--session-name=session_2026 --redis_password=hunter22222"
)
RAYLET = (
    "/opt/venv/lib/python3.11/site-packages/ray/core/src/ray/raylet/raylet --node_ip_address=10.78.0.11 "
    "--static_resource_list=CPU,3,GPU,8 --gcs-address=10.78.0.11:6379 --head"
)
BOARD = (
    "/opt/venv/bin/python /opt/venv/lib/python3.11/site-packages/ray/dashboard/dashboard.py --host=0.0.0.0 --port=8265"
)
VLLM = (
    "/opt/venv/bin/python3 /opt/venv/bin/vllm serve /models/ds --host 0.0.0.0 --port 8000 -tp 8 --max-num-seqs=128 "
    "--max_model_len 8k --gpu-memory-utilization 0.9 --no-enable-prefix-caching --api-key sk-very-secret"
)


def proc(**lines: tuple[str, str, str]) -> Raw:
    """Processes by id (`_11`): name, command line with blanks for NULs, control group."""
    found = {name.lstrip("_"): line for name, line in lines.items()}
    names = {"/proc/1/comm": "systemd\n"} | {f"/proc/{pid}/comm": f"{line[0]}\n" for pid, line in found.items()}
    stat = " ".join(["S", "1", *["0"] * 17, "50000", "0"])
    return Raw(
        {
            "processes.names": Answer("", "", value=names),
            "processes.uptime": Answer("", "", "1000.25 9000.00\n"),
            "processes.shm": Answer("", "", value={"/dev/shm": {"statvfs": {"blocks": 2048, "frsize": 4096}}}),
            "processes.lines": Answer(
                "", "", value={f"/proc/{p}/cmdline": line[1].replace(" ", "\0") + "\0" for p, line in found.items()}
            ),
            "processes.stats": Answer("", "", value={f"/proc/{p}/stat": f"{p} (a ) b) {stat}" for p in found}),
            "processes.groups": Answer("", "", value={f"/proc/{p}/cgroup": line[2] for p, line in found.items()}),
        }
    )


UNIT = "0::/system.slice/ray-head.service\n"


def test_what_runs() -> None:
    facts = serve_processes.parse(
        proc(
            _11=("gcs_server", GCS, UNIT),
            _12=("raylet", RAYLET, UNIT),
            _13=("python", BOARD, UNIT),
            _14=("vllm", VLLM, UNIT),
            _15=("VLLM::EngineCor", "VLLM::EngineCore", UNIT),
            _16=("ray::ServeRepli", "ray::ServeReplica:llm:LLMServer", UNIT),
            _17=("python3", "/usr/bin/python3 /usr/bin/unattended-upgrade", UNIT),
            _18=("VLLM::Worker", "VLLM::Worker", UNIT),
        )
    )
    assert not isinstance(facts.processes, Missing) and facts.whole
    assert [p.role for p in facts.processes] == [
        Role.GCS,
        Role.RAYLET,
        Role.DASHBOARD,
        Role.VLLM_SERVER,
        Role.VLLM_ENGINE,
        Role.REPLICA,
    ]
    gcs, raylet, board, server, *_ = facts.processes
    assert dict(gcs.flags) == {
        "gcs-server-port": "6379", "node-ip-address": "10.78.0.11", "session-name": "session_2026"
    }  # fmt: skip
    assert (gcs.holder, gcs.holder_name, gcs.age) == (Holder.SERVICE, "ray-head.service", 500.25)
    assert raylet.flags["head"] == "true" and board.flags["host"] == "0.0.0.0"
    assert server.flags["model"] == "/models/ds"
    assert vllm_settings.of_command_line(server.flags) == {
        "tensor_parallel_size": 8, "pipeline_parallel_size": 1, "data_parallel_size": 1, "max_num_seqs": 128,
        "max_model_len": 8000, "gpu_memory_utilization": 0.9, "enable_prefix_caching": False, "kv_cache_dtype": "auto",
    }  # fmt: skip
    assert facts.shm_bytes == 2048 * 4096
    for secret in ("sk-very-secret", "hunter22222"):
        assert secret not in repr(facts)


@pytest.mark.parametrize(
    ("group", "holder", "name"),
    [
        ("0::/system.slice/ray-head.service\n", Holder.SERVICE, "ray-head.service"),
        ("0::/user.slice/user-1000.slice/user@1000.service/app.slice/ray.service\n", Holder.SERVICE, "ray.service"),
        ("0::/user.slice/user-1000.slice/session-4.scope\n", Holder.LOGIN, ""),
        ("0::/system.slice/ssh.service\n", Holder.LOGIN, ""),
        ("0::/user.slice/user-1000.slice/user@1000.service/init.scope\n", Holder.LOGIN, ""),
        ("0::/system.slice/docker-0123456789abcdef0123.scope\n", Holder.CONTAINER, "0123456789ab"),
        (
            "12:pids:/docker/0123456789abcdef\n1:name=systemd:/docker/0123456789abcdef\n",
            Holder.CONTAINER,
            "0123456789ab",
        ),
        (
            "4:memory:/system.slice/other.service\n1:name=systemd:/system.slice/ray.service\n",
            Holder.SERVICE,
            "ray.service",
        ),
        ("0::/\n", Holder.NOBODY, ""),
    ],
)
def test_who_holds_it(group: str, holder: Holder, name: str) -> None:
    facts = serve_processes.parse(proc(_11=("gcs_server", GCS, group)))
    found = facts.of(Role.GCS)[0]
    assert (found.holder, found.holder_name) == (holder, name)


def test_what_cannot_be_told() -> None:
    raw = proc(_11=("bash", "bash", UNIT))
    assert serve_processes.parse(raw).runs(Role.RAYLET) is False
    assert serve_processes.more(HOST, SITE, raw) == ()
    hidden = Raw({**raw.answers, "processes.names": Answer("", "", value={"/proc/44/comm": "bash\n"})})
    assert serve_processes.parse(hidden).runs(Role.RAYLET) is None
    lost = Raw({"processes.names": Answer("", "", missing=Missing(Reason.TIMEOUT, "late"))})
    assert serve_processes.parse(lost).runs(Role.RAYLET) is None
    # The second round did not come back: there is something, and what it is cannot be told.
    half = Raw({"processes.names": proc(_11=("raylet", RAYLET, UNIT)).answers["processes.names"]})
    facts = serve_processes.parse(half)
    assert isinstance(facts.processes, Missing) and facts.runs(Role.RAYLET) is None
    # A command line that is not readable hides neither of Ray's own.
    assert serve_processes.parse(proc(_11=("raylet", "", ""))).runs(Role.RAYLET) is True


def test_a_raylet_that_ended_is_none() -> None:
    raw = proc(_11=("raylet", RAYLET, UNIT))
    dead = Answer("", "", value={"/proc/11/stat": "11 (raylet) Z 1 " + "0 " * 40})
    assert serve_processes.parse(Raw({**raw.answers, "processes.stats": dead})).runs(Role.RAYLET) is False


def test_a_raylet_that_ends_between_the_two_looks_is_none() -> None:
    """Its name was listed while it was a zombie; then its parent reaped it."""
    raw = proc(_11=("raylet", RAYLET, UNIT))
    none: dict[str, str] = {}
    gone = {f"processes.{name}": Answer("", "", value=none) for name in ("lines", "stats", "groups")}
    assert serve_processes.parse(Raw({**raw.answers, **gone})).runs(Role.RAYLET) is False
    unseen = Answer("", "", missing=Missing(Reason.TIMEOUT, "late"))
    assert serve_processes.parse(Raw({**raw.answers, "processes.stats": unseen})).runs(Role.RAYLET) is None


def test_only_what_may_be_ray_is_read() -> None:
    raw = proc(_11=("gcs_server", GCS, UNIT), _12=("postgres", "postgres", UNIT), _13=("python3.11", BOARD, UNIT))
    asked = serve_processes.more(HOST, SITE, raw)
    assert {op.kind for op in asked} == {OpKind.GLOB}
    assert asked[0].args["patterns"] == ["/proc/11/cmdline", "/proc/13/cmdline"]


words = st.text(max_size=200)


@settings(max_examples=60, deadline=None)
@given(name=words, line=words, stat=words, group=words, uptime=words)
def test_any_process_is_understood_or_not(name: str, line: str, stat: str, group: str, uptime: str) -> None:
    answers = {
        "names": {"/proc/1/comm": name, "/proc/22/comm": "python"}, "lines": {"/proc/22/cmdline": line},
        "stats": {"/proc/22/stat": stat}, "groups": {"/proc/22/cgroup": group},
    }  # fmt: skip
    raw = Raw({f"processes.{k}": Answer("", "", value=v) for k, v in answers.items()}
              | {"processes.uptime": Answer("", "", uptime)})  # fmt: skip
    assert isinstance(serve_processes.parse(raw), ServeProcesses)


# packages


def test_packages_beside_the_interpreter() -> None:
    place = "/opt/venv/lib/python3.11/site-packages"
    stat = [0o40755, 0, 0, 4096]
    listed = {
        f"{place}/vllm-0.33.0.dist-info": [*stat, 100.0],
        f"{place}/nvidia_nccl_cu13-2.27.dist-info": [*stat, 50.0],
        f"{place}/typing.extensions-4.1.dist-info": [*stat, 50.0],
    }
    facts = serve_packages.parse(Raw({"packages.list": Answer("", "", value=listed)}))
    assert facts.version("vllm") == "0.33.0" and facts.version("Typing-Extensions") == "4.1"
    assert isinstance(facts.version("fastapi"), Missing)
    assert not isinstance(facts.distributions, Missing) and facts.distributions["vllm"].installed_at == 100.0
    for raw in (Raw(), Raw({"packages.list": Answer("", "", value={})})):
        assert isinstance(serve_packages.parse(raw).distributions, Missing)
    patterns = serve_packages.ops(HOST, SITE)[0].args["patterns"]
    assert isinstance(patterns, list) and f"{place.replace('3.11', '3*')}/*.dist-info" in patterns


# settings


@pytest.mark.parametrize(
    ("name", "value", "read"),
    [
        ("max_model_len", "8k", 8000), ("max_model_len", "8K", 8192), ("max_model_len", "25.6k", 25600),
        ("max_model_len", "-1", None), ("max_model_len", "auto", None), ("max_num_seqs", 128.0, 128),
        ("max_num_seqs", True, None), ("max_num_seqs", "0", None), ("gpu_memory_utilization", "0.92", 0.92),
        ("gpu_memory_utilization", "nan", None), ("enable_prefix_caching", "True", True),
        ("enable_prefix_caching", 1, None), ("kv_cache_dtype", "fp8_e4m3", "fp8_e4m3"), ("quantization", "None", None),
        ("quantization", "a b", None), ("api_key", "x", None),
    ],
)  # fmt: skip
def test_settings_in_their_own_type(name: str, value: object, read: object) -> None:
    assert vllm_settings.settings_of({name: value}).get(name) == read


def test_a_file_of_settings_takes_the_certainty_away() -> None:
    assert vllm_settings.of_command_line({"config": "/etc/vllm.yaml", "max-num-seqs": "8"}) == {"max_num_seqs": 8}


def test_what_serve_was_told() -> None:
    document = json.loads((DATA / "ray" / "serve_llm.json").read_text())
    (app,) = app_configs(document)
    assert (app.name, app.source, app.engines) == ("llm", "declarative", None)
    assert {d.name: (d.max_ongoing, d.ingress, d.engine) for d in app.deployments} == {
        "LLMServer:deepseek-tiny": (32, False, True), "OpenAiIngress": (1_000_000_000, True, False),
    }  # fmt: skip
    assert [d.name for d in app.engine_deployments] == ["LLMServer:deepseek-tiny"]
    engine = {
        "model_loading_config": {"model_id": "ds"},
        "engine_kwargs": {"tensor_parallel_size": 8, "max_num_seqs": 128, "hf_token": "hf_secret", "seed": 1},
    }
    document["applications"]["llm"]["deployed_app_config"]["args"] = {"llm_configs": [engine]}
    (app,) = app_configs(document)
    assert app.engines is not None and app.engines[0].model == "ds"
    assert app.engines[0].values == {"tensor_parallel_size": 8, "max_num_seqs": 128}
    document["applications"]["llm"]["deployed_app_config"]["args"] = {"llm_configs": ["/etc/llm.yaml"]}
    assert app_configs(document)[0].engines is None
    assert "env_vars" not in repr(app_configs(document)) and "hf_secret" not in repr(app)


def test_a_deployment_with_the_default_limit() -> None:
    (app,) = app_configs(json.loads((DATA / "ray" / "before_kill" / "serve_applications.json").read_text()))
    (deployment,) = app.deployments
    assert (deployment.max_ongoing, deployment.gpus, deployment.engine, deployment.ingress) == (5, 1.0, True, True)


LOG = (
    "INFO 11-24 10:23:44 [core.py:94] Initializing a V1 LLM engine (v0.32.0) with config: model='/models/tiny', "
    "speculative_config=None, tokenizer='/models/x', dtype=torch.bfloat16, max_seq_len=2048, tensor_parallel_size=1, "
    "pipeline_parallel_size=1, data_parallel_size=1, quantization=None, kv_cache_dtype=auto, "
    "enable_prefix_caching=True, seed=0\n"
    "INFO 11-24 10:23:41 [scheduler.py:226] Chunked prefill is enabled with max_num_batched_tokens=2048.\n"
    "user asked: tensor_parallel_size=99\n"
)


def test_the_log_of_an_engine() -> None:
    found = engine_settings.engine_log("r1", LOG)
    assert isinstance(found, EngineLog) and found.version == "0.32.0"
    assert found.values == {
        "max_model_len": 2048, "tensor_parallel_size": 1, "pipeline_parallel_size": 1, "data_parallel_size": 1,
        "kv_cache_dtype": "auto", "enable_prefix_caching": True, "max_num_batched_tokens": 2048,
    }  # fmt: skip
    assert "user asked" not in engine_settings.engine_lines(LOG)
    assert isinstance(engine_settings.engine_log("r1", "nothing"), Missing)


def test_cache_config_of_a_page() -> None:
    page = (DATA / "vllm" / "metrics_idle.txt").read_bytes()
    (config,) = cache_configs(page)
    assert config.values == {"gpu_memory_utilization": 0.92, "kv_cache_dtype": "auto", "enable_prefix_caching": False}
    assert config.max_concurrency == pytest.approx(227.5546875)
    assert cache_configs(b"vllm:cache_config_info{") == ()


@pytest.mark.parametrize(
    ("document", "positions", "quantization"),
    [
        ({"max_position_embeddings": 4096}, 4096, None),
        ({"max_position_embeddings": 163840, "rope_scaling": {"type": "yarn", "factor": 40,
          "original_max_position_embeddings": 4096}, "quantization_config": {"quant_method": "fp8"}}, 163840, "fp8"),
        ({"max_position_embeddings": 32768, "rope_scaling": {"rope_type": "yarn", "factor": 4.0,
          "original_max_position_embeddings": 32768}}, 131072, None),
        ({"max_position_embeddings": 4096, "rope_scaling": {"type": "linear", "factor": 2.0}}, 8192, None),
        ({"max_position_embeddings": 131072, "rope_scaling": {"rope_type": "llama3", "factor": 8.0}}, 131072, None),
        ({"text_config": {"max_position_embeddings": 10}}, 10, None),
        ({}, None, None),
    ],
)  # fmt: skip
def test_the_models_limits(document: dict[str, object], positions: int | None, quantization: str | None) -> None:
    found = engine_settings.model_config(document)
    assert isinstance(found, ModelConfig) and (found.positions, found.quantization) == (positions, quantization)
    assert isinstance(engine_settings.model_config([]), Missing)


def test_requests_by_replica() -> None:
    line = 'ray_serve_deployment_request_counter_total{application="a",deployment="D",replica="%s",route="/"} %s\n'
    page = (line % ("r1", "3.0") + line % ("r2", "1e+02") + line % ("r1", "2.0")).encode()
    other = b'ray_serve_deployment_request_counter_total{application="b",deployment="D",replica="r9"} 7.0\n'
    assert request_counts(page + other, {("a", "D"): None}) == {"r1": 5.0, "r2": 100.0}


# the index


def index(body: bytes, kind: str, status: int = 200) -> Exchange:
    return Exchange("vllm.index", "GET", "http://mirror/vllm/", "curl", status, {"content-type": kind}, body)


JSON = "application/vnd.pypi.simple.v1+json"


def test_the_latest_of_an_index() -> None:
    files = [
        {"filename": f"vllm-{v}-cp38-abi3-manylinux_2_31_x86_64.whl", "yanked": y}
        for v, y in (
            ("0.9.2", False),
            ("0.33.0", False),
            ("0.34.0", "broken"),
            ("0.35.0rc1", False),
            ("0.10.1.post1", False),
        )
    ]
    document = json.dumps({"files": [*files, {"filename": "vllm-0.33.0.tar.gz"}, {"filename": 4}, 7]}).encode()
    assert vllm_install.latest(index(document, JSON)) == "0.33.0"
    html = b"""<!DOCTYPE html><a href="../a/vllm-0.10.2.tar.gz#sha256=1">vllm-0.10.2.tar.gz</a><br>
<a href="x" data-yanked="bad">vllm-0.99.0.tar.gz</a> <a href="y">vllm-0.9.9-cp38-abi3-linux_x86_64.whl</a>"""
    assert vllm_install.latest(index(html, "text/html")) == "0.10.2"


@pytest.mark.parametrize(
    "exchange",
    [index(b"{}", JSON), index(b"[]", JSON), index(b"nope", "text/html"), index(b"", JSON, 404), index(b"{", JSON)],
)
def test_an_index_that_does_not_tell(exchange: Exchange) -> None:
    assert isinstance(vllm_install.latest(exchange), Missing)


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=300), st.sampled_from([JSON, "text/html", ""]))
def test_any_index(body: bytes, kind: str) -> None:
    assert isinstance(vllm_install.latest(index(body, kind)), str | Missing)


@settings(max_examples=60, deadline=None)
@given(st.recursive(st.none() | st.booleans() | st.floats() | st.text(max_size=20), lambda inner: st.lists(inner)
                    | st.dictionaries(st.sampled_from(["applications", "deployments", "replicas", "a",
                                                       "deployed_app_config", "args", "llm_configs"]), inner),
                    max_leaves=20))  # fmt: skip
def test_any_answer_of_serve(document: object) -> None:
    assert isinstance(app_configs(document), tuple)
    assert isinstance(engine_settings.model_config(document), Missing | ModelConfig)


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (Answer("", "", "", "docker: permission denied while trying to connect", 126), Reason.PERMISSION),
        (Answer("", "", "", "Unable to find image 'x' locally\ndocker: Error", 125), Reason.NO_TARGETS),
        (Answer("", "", "", "boom", 1), Reason.CANNOT_TELL),
        (Answer("", "", "hello", "", 0), Reason.PARSE_ERROR),
        (Answer("", "", missing=Missing(Reason.TIMEOUT, "late")), Reason.TIMEOUT),
    ],
)
def test_an_image_that_does_not_tell(answer: Answer, reason: Reason) -> None:
    found = vllm_install.image_packages(answer)
    assert isinstance(found, Missing) and found.reason is reason


def test_what_is_inside_an_image() -> None:
    said = {
        "versions": {"vllm": "0.33.0", "fastapi": None},
        "requires_python": ">=3.11",
        "python": [3, 12, 3],
        "torch_cuda": "13.0",
    }
    found = vllm_install.image_packages(Answer("", "", json.dumps(said), "", 0))
    assert not isinstance(found, Missing)
    assert (found.python, found.torch_cuda, found.versions["vllm"]) == ((3, 12, 3), "13.0", "0.33.0")
