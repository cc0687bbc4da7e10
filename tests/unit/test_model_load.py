"""model.single-gpu-load: the program that loads, run for real, and a vLLM that already holds the model on one GPU."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from dstui.catalogue import load_catalogue
from dstui.facts import gpu
from dstui.facts.case import FleetCase, HostFacts, HostSite, Params, Site
from dstui.facts.exchange import Exchange
from dstui.facts.model_config import config
from dstui.facts.model_files import ModelFiles, WeightFiles
from dstui.facts.model_load import Device, Loaded, SingleGpuLoad, loaded, report
from dstui.facts.model_shards import ModelWeights, Shard
from dstui.facts.raw import Answer, Missing, Raw, run
from dstui.facts.safetensors import Header, Tensor
from dstui.facts.serve_processes import Holder, Role, ServeProcess, ServeProcesses
from dstui.facts.vllm_backends import Backend, VllmBackends
from dstui.gather.local import open_local
from dstui.gather.model_load_script import SCRIPT
from dstui.judge import model_load
from dstui.model import Reason, Ruling, Verdict

GIB = 1 << 30
PATH = "/share/m"
URL = "http://10.0.0.1:8000"
LLAMA = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "torch_dtype": "bfloat16",
    "num_hidden_layers": 30,
    "num_attention_heads": 32,
    "num_key_value_heads": 32,
    "hidden_size": 4096,
    "max_position_embeddings": 4096,
}

VLLM = """
import os, sys
__version__ = "9.9.9"
class SamplingParams:
    def __init__(self, **given): pass
class LLM:
    def __init__(self, **given):
        print("INFO GPU KV cache size: 4,096 tokens")
        print("nothing of interest")
        {trouble}
    def generate(self, prompts, params):
        return [type("R", (), {{"outputs": [type("O", (), {{"token_ids": [1] * 8}})]}})]
"""


def runtime(folder: Path, trouble: str, device: str = "cuda") -> Path:
    """A Python that has a vLLM which does one thing: a virtual environment made of this one's interpreter."""
    packages = folder / "lib" / f"python{sys.version_info[0]}.{sys.version_info[1]}" / "site-packages"
    (packages / "vllm").mkdir(parents=True)
    (packages / "vllm" / "__init__.py").write_text(VLLM.format(trouble=trouble))
    (packages / "vllm" / "platforms.py").write_text(f"class current_platform:\n    device_type = {device!r}\n")
    (folder / "pyvenv.cfg").write_text(f"home = {sys.base_prefix}/bin\n")
    (folder / "bin").mkdir()
    (folder / "bin" / "python").symlink_to(os.path.realpath(sys.executable))
    return folder / "bin" / "python"


def load_with(python: Path | str, timeout: float = 20.0) -> Answer:
    """The program as the collector runs it."""

    async def go() -> Answer:
        link = await open_local("one", become="none")
        try:
            op = run("model.load", str(python), "-I", "-c", SCRIPT, PATH, "vllm", "2048", "0.9", timeout=timeout)
            return (await link.facts([op], deadline=timeout + 5)).answers["model.load"]
        finally:
            await link.close()

    return asyncio.run(go())


def test_a_load_tells_what_it_did(tmp_path: Path) -> None:
    found = loaded(load_with(runtime(tmp_path, "pass")))
    assert isinstance(found, Loaded)
    assert (found.tokens, found.version, found.device, found.fault) == (8, "9.9.9", "cuda", "")
    assert found.lines == ("INFO GPU KV cache size: 4,096 tokens",)
    assert "vllm 9.9.9 on cuda: 8 tokens" in report(found)


@pytest.mark.parametrize(
    ("trouble", "fault", "first"),
    [
        (
            'print("ERROR CUDA driver version is insufficient"); raise RuntimeError("Engine core failed")',
            "RuntimeError: Engine core failed",
            "ERROR CUDA driver version is insufficient",
        ),
        ("os.kill(os.getpid(), 9)", "the process was ended by signal 9", ""),
        ("os.abort()", "the process was ended by signal 6", ""),
        ("os._exit(3)", "the process was ended by exit 3", ""),
        ("sys.exit(3)", "SystemExit: 3", ""),
        ("import flash_attn_x", "the runtime's Python has no flash_attn_x", ""),
    ],
)
def test_a_load_that_fails_says_so_however_it_ends(tmp_path: Path, trouble: str, fault: str, first: str) -> None:
    found = loaded(load_with(runtime(tmp_path, trouble)))
    assert isinstance(found, Loaded)
    assert (found.fault, found.tokens) == (fault, 0)
    assert found.first == first


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("WARNING Falling back to the TRITON attention backend", True),
        ("INFO Cannot use FlashAttention-2 backend for Volta and Turing GPUs.", True),
        ("WARNING FlashInfer is absent. Falling back to the PyTorch-native backend of top-p sampling", False),
        ("INFO Using FLASH_ATTN attention backend out of potential backends: ['FLASH_ATTN']", False),
    ],
)
def test_only_another_attention_is_a_fallback(tmp_path: Path, line: str, told: bool) -> None:
    found = loaded(load_with(runtime(tmp_path, f"print({line!r})")))
    assert isinstance(found, Loaded)
    assert bool(found.fallback) is told


def test_a_runtime_without_vllm(tmp_path: Path) -> None:
    python = runtime(tmp_path, "pass")
    (tmp_path / "lib").rename(tmp_path / "gone")
    found = loaded(load_with(python))
    assert isinstance(found, Missing)
    assert (found.reason, found.why) == (Reason.TOOL_MISSING, "the runtime's Python has no vllm")
    absent = loaded(load_with(tmp_path / "bin" / "nothing"))
    assert isinstance(absent, Missing)
    assert absent.reason is Reason.TOOL_MISSING


def test_a_load_that_takes_too_long_is_ended_with_all_that_it_started(tmp_path: Path) -> None:
    mark = tmp_path / "pid"
    trouble = f"open({str(mark)!r}, 'w').write(str(os.getpid())); import time; time.sleep(60)"
    found = loaded(load_with(runtime(tmp_path, trouble), timeout=2.0))
    assert isinstance(found, Missing)
    assert found.reason is Reason.TIMEOUT
    pid = int(mark.read_text())
    stat = Path(f"/proc/{pid}/stat")
    assert not stat.exists() or stat.read_text().rpartition(")")[2].split()[0] in "ZX"


# --- a vLLM that is there already


def exchange(key: str, status: int, body: object = "") -> Exchange:
    content = body.encode() if isinstance(body, str) else json.dumps(body).encode()
    return Exchange(key, "GET", URL, "curl …", status, {}, content)


def backends(health: int = 200, root: str = PATH) -> VllmBackends:
    backend = Backend(URL, 1, "a", None)
    models = {"object": "list", "data": [{"id": "m", "object": "model", "root": root}]}
    pages = [exchange(backend.key("health"), health), exchange(backend.key("models"), 200, models)]
    return VllmBackends({page.key: page for page in pages}, (backend,), None)


def weights(told: VllmBackends | Missing, size: int = 13 * GIB) -> ModelWeights:
    shard = Shard("m", size, Header((Tensor("lm_head.weight", "BF16", size // 2, 0, size),)))
    found = config(json.dumps(LLAMA))
    return ModelWeights(ModelFiles(PATH, {}, "a"), WeightFiles("safetensors", ("m",), None), found, (shard,), told)


def process(role: Role, pid: int, parent: int, **flags: str) -> ServeProcess:
    given = {name.replace("_", "-"): value for name, value in flags.items()}
    return ServeProcess(role, pid, parent, 100.0, Holder.SERVICE, "vllm.service", given)


def cards(*held: tuple[int, ...] | None, memory: int = 80 * GIB) -> gpu.GpuFacts:
    """A GPU for each; the pids that hold it, None where the driver hides them."""
    rows = [
        {
            "index": number,
            "uuid": f"GPU-{number}",
            "name": "NVIDIA H800",
            "memory_total": memory,
            "memory_used": 0,
            "processes": None if pids is None else [{"pid": pid, "memory": GIB} for pid in pids],
        }
        for number, pids in enumerate(held)
    ]
    value = {"error": None, "driver": "550.54.15", "cuda": 12040, "nvml": "12", "gpus": rows}
    return gpu.parse(Raw({"gpu.nvml": Answer("gpu.nvml", "NVML", value=value)}))


SERVER = process(Role.VLLM_SERVER, 100, 1, port="8000", model=PATH)
ENGINE = process(Role.VLLM_ENGINE, 101, 100)
BUSY = Missing(Reason.CANNOT_TELL, "no idle GPU: all 2 of a are in use")
NOT_ASKED = Missing(Reason.NOT_RUN, "the load was not asked for")
ALONE = cards((), (101,))


@pytest.fixture
def judged() -> Callable[..., Ruling]:
    catalogue = load_catalogue()

    def judge(
        found: SingleGpuLoad, devices: gpu.GpuFacts = ALONE, processes: tuple[ServeProcess, ...] = (SERVER, ENGINE)
    ) -> Ruling:
        facts: Mapping[type, object] = {
            gpu.GpuFacts: devices,
            ServeProcesses: ServeProcesses(processes, True, 64 * GIB),
        }
        host = HostSite("a", frozenset({"worker"}), "10.0.0.1", None, "10.0.0.1", 22, "u", True, 2)
        site = Site("ds", "lab", "live", (host,), "/share", None, None, "bare-metal", True, "none")
        params = Params([p.threshold() for p in catalogue.check("model.single-gpu-load").params])
        case = FleetCase(site, {"a": HostFacts(None, None, Raw(), facts)}, params, {}, {SingleGpuLoad: found}, 0.0)
        (ruling,) = model_load.judge(case)
        return ruling

    return judge


def test_a_server_that_holds_one_gpu_has_shown_it(judged: Callable[..., Ruling]) -> None:
    ruling = judged(SingleGpuLoad(False, weights(backends()), BUSY, NOT_ASKED))
    assert ruling.verdict is Verdict.PASS
    assert ruling.observed.en == f"vLLM at {URL} holds the model on GPU 1 alone and is healthy"
    assert ruling.target.name == "a"


@pytest.mark.parametrize(
    ("told", "devices", "processes"),
    [
        (backends(health=503), ALONE, (SERVER, ENGINE)),
        (backends(root="/share/other"), ALONE, (SERVER, ENGINE)),
        (Missing(Reason.UNREACHABLE, "refused"), ALONE, (SERVER, ENGINE)),
        (backends(), cards((101,), (101,)), (SERVER, ENGINE)),
        (backends(), cards((), ()), (SERVER, ENGINE)),
        (backends(), cards(None, None), (SERVER, ENGINE)),
        (backends(), cards((), (777,)), (SERVER, ENGINE)),
        (backends(), ALONE, (replace(SERVER, flags={**SERVER.flags, "tensor-parallel-size": "2"}), ENGINE)),
        (backends(), ALONE, (replace(SERVER, flags={**SERVER.flags, "pipeline-parallel-size": "2"}), ENGINE)),
        (backends(), ALONE, (replace(SERVER, flags={**SERVER.flags, "data-parallel-size": "2"}), ENGINE)),
        (backends(), ALONE, (replace(SERVER, flags={**SERVER.flags, "config": "/etc/vllm.yaml"}), ENGINE)),
        (backends(), ALONE, (replace(SERVER, flags={"port": "9000"}), ENGINE)),
        (backends(), ALONE, (SERVER, replace(ENGINE, parent=5))),
        (backends(), ALONE, ()),
    ],
    ids=["sick", "another model", "no backend", "two GPUs", "a CPU build", "hidden", "another process", "tp", "pp",
         "dp", "a file of settings", "another port", "another engine", "no process"],
)  # fmt: skip
def test_a_server_that_shows_less_is_no_proof(
    judged: Callable[..., Ruling],
    told: VllmBackends | Missing,
    devices: gpu.GpuFacts,
    processes: tuple[ServeProcess, ...],
) -> None:
    ruling = judged(SingleGpuLoad(False, weights(told), BUSY, NOT_ASKED), devices, processes)
    assert (ruling.verdict, ruling.reason) == (Verdict.UNKNOWN, Reason.CANNOT_TELL)
    assert "no idle GPU" in ruling.rule.en


def test_a_load_that_failed_weighs_more_than_a_server(judged: Callable[..., Ruling]) -> None:
    device = Device("a", 0, "GPU-0", 80 * GIB, 0)
    failed = Loaded("vllm", 3.0, 0, None, "0.32.0", "cuda", "OutOfMemoryError")
    ruling = judged(SingleGpuLoad(True, weights(backends()), device, failed, left=0))
    assert ruling.verdict is Verdict.FAIL


def test_what_no_gpu_can_ever_hold_needs_no_idle_one(judged: Callable[..., Ruling]) -> None:
    """The largest GPU of the cluster says it, busy or not."""
    huge = SingleGpuLoad(False, weights(backends(root="/share/other"), 640 * GIB), BUSY, NOT_ASKED)
    ruling = judged(huge)
    assert ruling.verdict is Verdict.NOT_APPLICABLE
    assert "16" in ruling.observed.en
    blind = judged(huge, cards())
    assert (blind.verdict, blind.reason) == (Verdict.UNKNOWN, Reason.CANNOT_TELL)
