"""model.memory-fit and model.single-gpu-load: the worked numbers of known models, and both sides of every threshold."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dstui.catalogue import Catalogue, load_catalogue
from dstui.facts import gpu, mem, model_config, model_memory, safetensors
from dstui.facts.case import FleetCase, HostFacts, HostSite, Params, Site
from dstui.facts.exchange import Exchange
from dstui.facts.model_config import Config, Index
from dstui.facts.model_files import ModelFiles, WeightFiles
from dstui.facts.model_load import Device, Loaded, SingleGpuLoad, loaded
from dstui.facts.model_memory import GIB, Split, Weights
from dstui.facts.model_shards import ModelWeights, Shard, blob_hash, etag_hash, manifest
from dstui.facts.model_tree import Tree, tree_of
from dstui.facts.raw import Answer, Missing, Raw
from dstui.facts.safetensors import Breach, Header, Tensor
from dstui.facts.vllm_backends import Backend, VllmBackends
from dstui.judge import model as judges
from dstui.model import Reason, Ruling, Verdict

RULES = {judge.check_id: judge.rule for judge in judges.JUDGES}
SEVEN = {
    "architectures": ["LlamaForCausalLM"], "model_type": "llama", "torch_dtype": "bfloat16", "hidden_size": 4096,
    "num_hidden_layers": 30, "num_attention_heads": 32, "num_key_value_heads": 32, "max_position_embeddings": 4096,
}  # fmt: skip
SIXTY_SEVEN = SEVEN | {
    "hidden_size": 8192, "num_hidden_layers": 95, "num_attention_heads": 64, "num_key_value_heads": 8,
}  # fmt: skip
V3 = {
    "architectures": ["DeepseekV3ForCausalLM"], "model_type": "deepseek_v3", "torch_dtype": "bfloat16",
    "hidden_size": 7168, "num_hidden_layers": 61, "num_attention_heads": 128, "num_key_value_heads": 128,
    "kv_lora_rank": 512, "qk_rope_head_dim": 64, "q_lora_rank": 1536, "n_routed_experts": 256,
    "num_nextn_predict_layers": 1, "max_position_embeddings": 163840,
    "rope_scaling": {"type": "yarn", "factor": 40, "original_max_position_embeddings": 4096},
    "quantization_config": {"quant_method": "fp8"},
}  # fmt: skip
H800 = 80 * GIB


def config(fields: Mapping[str, object]) -> Config:
    found = model_config.config(json.dumps(fields))
    assert isinstance(found, Config)
    return found


@pytest.mark.parametrize(
    ("fields", "split", "kind", "per_token"),
    [
        (SEVEN, Split(), "MHA", 491_520),
        (SEVEN, Split(tp=2), "MHA", 245_760),
        (SEVEN, Split(pp=4), "MHA", 2 * 8 * 32 * 128 * 2),
        (SIXTY_SEVEN, Split(tp=8), "GQA", 48_640),
        (SIXTY_SEVEN, Split(tp=16), "GQA", 48_640),
        (V3, Split(), "MLA", 70_272),
        (V3, Split(tp=8), "MLA", 70_272),
        (V3, Split(tp=16, dp=2), "MLA", 70_272),
    ],
)
def test_cache_for_a_token(fields: Mapping[str, object], split: Split, kind: str, per_token: int) -> None:
    found = model_memory.cache(config(fields), split, 2)
    assert isinstance(found, model_memory.Cache)
    assert (found.kind, found.per_token) == (kind, per_token)


def test_the_worked_sequences_of_the_record() -> None:
    assert 1.875 * GIB == 4096 * 491_520
    assert round(163_840 * 70_272 / GIB, 1) == 10.7
    assert config(V3).positions == 163_840


@pytest.mark.parametrize(("dtype", "size"), [("auto", 2), ("fp8", 1), ("fp8_e4m3", 1), ("bfloat16", 2), ("float16", 2)])
def test_bytes_of_a_number(dtype: str, size: int) -> None:
    assert model_memory.element_bytes(dtype, config(SEVEN)) == size


def test_a_type_that_is_not_known_is_no_number() -> None:
    assert isinstance(model_memory.element_bytes("nvfp4_ds", config(SEVEN)), Missing)
    assert isinstance(model_memory.element_bytes("auto", config(SEVEN | {"torch_dtype": "int3"})), Missing)
    assert model_memory.element_bytes("auto", config(SEVEN | {"torch_dtype": "float32"})) == 2


def test_weights_by_what_they_are() -> None:
    sizes = {
        "model.embed_tokens.weight": 10,
        "model.layers.3.mlp.experts.0.up_proj.weight": 100,
        "model.layers.3.mlp.experts.255.up_proj.weight_scale_inv": 7,
        "model.layers.3.mlp.shared_experts.up_proj.weight": 20,
        "model.layers.60.self_attn.o_proj.weight": 30,
        "model.layers.61.eh_proj.weight": 1000,
        "model.layers.61.mlp.experts.9.up_proj.weight": 2000,
    }
    tensors = [Tensor(name, "BF16", 1, 0, size) for name, size in sizes.items()]
    assert model_memory.weights(tensors, config(V3)) == Weights(dense=60, experts=107, mtp=3000)
    # Without such layers in the configuration, a layer behind the last one is nobody's extra.
    assert model_memory.weights(tensors, config(V3 | {"num_nextn_predict_layers": 0})).mtp == 0


@pytest.mark.parametrize(
    ("split", "per_gpu"),
    [
        (Split(), 1640),
        (Split(tp=8), 205),
        (Split(tp=8, pp=2), 103),
        (Split(tp=4, dp=4), 410),
        (Split(tp=4, dp=4, expert_parallel=True), 110),
        (Split(tp=1, dp=16, expert_parallel=True), 140),
    ],
)
def test_weights_on_one_gpu(split: Split, per_gpu: int) -> None:
    assert Weights(dense=40, experts=1600, mtp=9).per_gpu(split) == per_gpu


@pytest.mark.parametrize(
    ("fields", "tp", "which"),
    [(SEVEN, 32, None), (SEVEN, 3, "heads"), (SIXTY_SEVEN, 16, None), (V3, 8, None), (V3, 3, "heads"),
     (SIXTY_SEVEN | {"num_key_value_heads": 6}, 4, "kv")],
)  # fmt: skip
def test_heads_that_cannot_be_shared_out(fields: Mapping[str, object], tp: int, which: str | None) -> None:
    assert model_memory.indivisible(config(fields), Split(tp=tp)) == which


def test_what_is_only_rough() -> None:
    assert model_memory.rough(config(SEVEN)) is None
    assert model_memory.rough(config(V3)) is None
    assert model_memory.rough(config(V3 | {"index_topk": 2048})) == "sparse-index"
    assert model_memory.rough(config(SEVEN | {"sliding_window": 4096})) == "window"
    assert model_memory.rough(config(SEVEN | {"sliding_window": 4096, "use_sliding_window": False})) is None
    assert model_memory.rough(config(SEVEN | {"architectures": ["NovelForCausalLM"]})) == "architecture"


# --- judged


@pytest.fixture(scope="module")
def catalogue() -> Catalogue:
    return load_catalogue()


def card(total: int, used: int = 0) -> dict[str, object]:
    return {
        "index": 0,
        "uuid": "GPU-1",
        "name": "NVIDIA H800",
        "memory_total": total,
        "memory_used": used,
        "processes": [],
    }


def host_facts(gpus: int, memory: int, ram: int) -> HostFacts:
    cards = [{**card(memory), "index": n, "uuid": f"GPU-{n}"} for n in range(gpus)]
    value = {"error": None, "driver": "550.54.15", "cuda": 12040, "nvml": "12", "gpus": cards}
    answers = {
        "gpu.nvml": Answer("gpu.nvml", "NVML", value=value),
        "mem.meminfo": Answer("mem.meminfo", "/proc/meminfo", output=f"MemTotal: {ram // 1024} kB\n"),
    }
    raw = Raw(answers)
    return HostFacts(None, None, raw, {gpu.GpuFacts: gpu.parse(raw), mem.MemFacts: mem.parse(raw)})


def node(name: str) -> HostSite:
    return HostSite(name, frozenset({"worker"}), "10.0.0.1", None, "10.0.0.1", 22, "u", True, 8)


def site(*names: str) -> Site:
    return Site("ds", "lab", "live", tuple(node(n) for n in names), "/mnt", None, None, "bare-metal", True, "none")


def files() -> ModelFiles:
    return ModelFiles("/mnt/m", {}, "a")


def weights_of(fields: Mapping[str, object], size: int, backends: VllmBackends | Missing | None = None) -> ModelWeights:
    header = Header((Tensor("model.embed_tokens.weight", "BF16", size // 2, 0, size),))
    own = backends or Missing(Reason.NO_TARGETS, "none")
    return ModelWeights(
        files(), WeightFiles("safetensors", ("m",), None), config(fields), (Shard("m", size, header),), own
    )


def engine(labels: str) -> VllmBackends:
    page = f'vllm:cache_config_info{{{labels},engine="0"}} 1.0\n'.encode()
    exchange = Exchange("vllm.backend-1.metrics", "GET", "http://b/metrics", "curl", 200, {}, page)
    return VllmBackends({exchange.key: exchange}, (Backend("http://b", 1, None, None),), None)


@pytest.fixture
def fit(catalogue: Catalogue) -> Callable[..., Ruling]:
    def judged(
        found: object, *, hosts: Mapping[str, HostFacts] | None = None, check: str = "model.memory-fit", **own: object
    ) -> Ruling:
        known = hosts if hosts is not None else {"a": host_facts(8, H800, 2048 * GIB)}
        thresholds = [p.threshold() for p in catalogue.check(check).params]
        params = Params([replace(t, value=own.get(t.param, t.value)) for t in thresholds])
        case = FleetCase(site(*known), known, params, {}, {type(found): found}, 0.0)
        (ruling,) = RULES[check](case)
        return ruling

    return judged


def words(ruling: Ruling) -> str:
    return " | ".join([ruling.observed.en, ruling.rule.en, *(note.en for note in ruling.notes)])


SEVEN_BYTES = int(12.9 * GIB)
# 80 GiB × 0.9 − 12.9 − 4 = 55.1 GiB: 120,369 tokens of 491,520 B.


def test_seven_billion_on_one_gpu(fit: Callable[..., Ruling]) -> None:
    ruling = fit(weights_of(SEVEN, SEVEN_BYTES))
    assert ruling.verdict is Verdict.PASS, words(ruling)
    assert "2 × 30 L × 32 KV heads × 128 × 2 B = 491,520 B" in words(ruling)
    assert "80.0 GiB × 0.9 − 12.9 GiB − 4.0 GiB = 55.1 GiB: 120,3" in words(ruling)
    assert "a sequence of 4,096 tokens: 1.9 GiB" in words(ruling)


@pytest.mark.parametrize(
    ("own", "verdict", "said"),
    [
        ({"max_model_len": 120_000}, Verdict.PASS, "sequences of 120,000"),
        ({"max_model_len": 130_000}, Verdict.FAIL, "vLLM refuses to start"),
        ({"target_concurrency": 58}, Verdict.PASS, "room for"),
        ({"target_concurrency": 59}, Verdict.WARN, "59 requests of 2,048 on 1 replicas need 120,832 each"),
        ({"target_concurrency": 100, "dp": 2}, Verdict.PASS, "room for"),
        ({"gpu_memory_utilization": 0.2}, Verdict.FAIL, "the weights do not fit"),
        ({"overhead_gib": 60.0}, Verdict.FAIL, "the weights do not fit"),
        ({"tp": 3}, Verdict.FAIL, "32 attention heads cannot be shared by tp 3"),
        ({"tp": 16}, Verdict.FAIL, "need 16 GPUs, there are 8"),
        ({"tp": 8, "pp": 2}, Verdict.FAIL, "need 16 GPUs"),
        ({"pp": 31}, Verdict.FAIL, "30 layers, pp 31"),
        ({"kv_cache_dtype": "fp8", "target_concurrency": 110}, Verdict.PASS, "245,760 B"),
        ({"kv_cache_dtype": "int2"}, Verdict.UNKNOWN, "int2"),
    ],
)
def test_memory_fit(fit: Callable[..., Ruling], own: dict[str, object], verdict: Verdict, said: str) -> None:
    ruling = fit(weights_of(SEVEN, SEVEN_BYTES), **own)
    assert ruling.verdict is verdict, words(ruling)
    assert said in words(ruling)


def test_v3_needs_two_nodes_of_eight(fit: Callable[..., Ruling]) -> None:
    found = weights_of(V3, 640 * GIB)
    alone = fit(found, tp=8)
    assert alone.verdict is Verdict.FAIL
    assert "the weights do not fit" in alone.rule.en
    hosts = {name: host_facts(8, H800, 2048 * GIB) for name in ("a", "b")}
    both = fit(found, hosts=hosts, tp=16, max_model_len=32_768)
    assert both.verdict is Verdict.PASS, words(both)
    assert "61 L × (512 + 64) × 2 B = 70,272 B on every tensor-parallel rank" in words(both)


def test_the_smallest_gpu_counts(fit: Callable[..., Ruling]) -> None:
    hosts = {"a": host_facts(8, H800, 2048 * GIB), "b": host_facts(8, 16 * GIB, 2048 * GIB)}
    assert fit(weights_of(SEVEN, SEVEN_BYTES), hosts=hosts).verdict is Verdict.FAIL


def test_a_gpu_host_that_is_not_seen_is_a_hole(fit: Callable[..., Ruling]) -> None:
    lost = HostFacts(Missing(Reason.UNREACHABLE, "b"), None, Raw(), {})
    ruling = fit(weights_of(SEVEN, SEVEN_BYTES), hosts={"a": host_facts(8, H800, 2048 * GIB), "b": lost})
    assert (ruling.verdict, ruling.reason) == (Verdict.UNKNOWN, Reason.UNREACHABLE)
    nobody = fit(weights_of(SEVEN, SEVEN_BYTES), hosts={"b": lost})
    assert (nobody.verdict, nobody.reason) == (Verdict.UNKNOWN, Reason.UNREACHABLE)


def test_no_gpu_is_no_pass(fit: Callable[..., Ruling]) -> None:
    assert fit(weights_of(SEVEN, SEVEN_BYTES), hosts={"a": host_facts(0, 0, GIB)}).verdict is Verdict.UNKNOWN


def test_host_memory(fit: Callable[..., Ruling]) -> None:
    """12.9 GiB × 1.2 and 30 % of the memory for Ray's object store."""
    enough, short = ({"a": host_facts(8, H800, gib * GIB)} for gib in (23, 22))
    assert fit(weights_of(SEVEN, SEVEN_BYTES), hosts=enough).verdict is Verdict.PASS
    ruling = fit(weights_of(SEVEN, SEVEN_BYTES), hosts=short)
    assert ruling.verdict is Verdict.WARN
    assert "host memory is short" in ruling.rule.en


@pytest.mark.parametrize(
    ("labels", "verdict", "said"),
    [
        ('num_gpu_blocks="7523",block_size="16"', Verdict.PASS, "measured by vLLM: 120,368"),
        ('kv_cache_size_tokens="106000",num_gpu_blocks="1",block_size="16"', Verdict.PASS, "measured by vLLM: 106,000"),
        ('kv_cache_size_tokens="200000"', Verdict.WARN, "the running engine has 200,000"),
        ('num_gpu_blocks="100",block_size="16"', Verdict.FAIL, "room for 1,600 tokens"),
        ('num_gpu_blocks="None",block_size="16"', Verdict.PASS, "room for 120,3"),
    ],
)
def test_measured_values_go_before_the_estimate(
    fit: Callable[..., Ruling], labels: str, verdict: Verdict, said: str
) -> None:
    ruling = fit(weights_of(SEVEN, SEVEN_BYTES, engine(labels)))
    assert ruling.verdict is verdict, words(ruling)
    assert said in words(ruling)


def test_rough_is_said(fit: Callable[..., Ruling]) -> None:
    ruling = fit(weights_of(V3 | {"index_topk": 2048}, GIB), tp=8, max_model_len=4096)
    assert ruling.verdict is Verdict.WARN
    assert "sparse index" in ruling.rule.en


@pytest.mark.parametrize(
    "header", [Missing(Reason.TIMEOUT, "hung"), Breach("ends 1 bytes early", "少了 1 字节")], ids=["hung", "broken"]
)
@pytest.mark.parametrize("check", ["model.memory-fit", "model.single-gpu-load"])
def test_headers_that_cannot_be_read(fit: Callable[..., Ruling], header: Breach | Missing, check: str) -> None:
    found: object = replace(weights_of(SEVEN, 1), shards=(Shard("m", 1, header),))
    if check == "model.single-gpu-load":
        found = load(weights=found)
    assert fit(found, check=check).verdict is Verdict.UNKNOWN


def test_a_config_that_cannot_be_read(fit: Callable[..., Ruling]) -> None:
    found = replace(weights_of(SEVEN, 1), config=Missing(Reason.PERMISSION, "config.json"))
    assert fit(found).reason is Reason.PERMISSION
    empty = replace(weights_of(SEVEN, 1), config=config({}))
    assert fit(empty).verdict is Verdict.UNKNOWN
    assert fit(replace(weights_of(SEVEN, 1), shards=())).verdict is Verdict.UNKNOWN


# --- single GPU

NOT_ASKED = Missing(Reason.NOT_RUN, "the load was not asked for")
DEVICE = Device("a", 0, "GPU-0", H800, 0)


def load(**fields: object) -> SingleGpuLoad:
    base = SingleGpuLoad(False, weights_of(SEVEN, SEVEN_BYTES), DEVICE, NOT_ASKED)
    return replace(base, **fields)  # type: ignore[arg-type]


GOOD = Loaded("vllm", 42.0, 8, 70 * GIB, "0.32.0", "cuda")


@pytest.mark.parametrize(
    ("found", "verdict", "said"),
    [
        (load(), Verdict.UNKNOWN, "the estimate fits, not loaded"),
        (load(device=replace(DEVICE, total=19 * GIB)), Verdict.UNKNOWN, "the estimate fits"),
        (load(device=replace(DEVICE, total=17 * GIB)), Verdict.UNKNOWN, "borderline"),
        (load(device=replace(DEVICE, total=13 * GIB)), Verdict.NOT_APPLICABLE, "it needs ≥ 2 of them"),
        (load(weights=weights_of(V3, 640 * GIB)), Verdict.NOT_APPLICABLE, "it needs ≥ 16 of them"),
        (load(device=Missing(Reason.CANNOT_TELL, "no idle GPU: all 8 are in use")), Verdict.UNKNOWN, "no idle GPU"),
        (load(asked=True, loaded=GOOD, left=0), Verdict.PASS, "8 tokens, vllm 0.32.0, 42 s, 70.0 GiB"),
        (load(asked=True, loaded=GOOD, left=1 * GIB), Verdict.WARN, "1.0 GiB stayed"),
        (load(asked=True, loaded=GOOD, left=Missing(Reason.TIMEOUT, "NVML")), Verdict.UNKNOWN, "after the load"),
        (load(asked=True, loaded=replace(GOOD, seconds=601.0), left=0), Verdict.WARN, "took 10 min"),
        (load(asked=True, loaded=replace(GOOD, tokens=0), left=0), Verdict.FAIL, "no token"),
        (load(asked=True, loaded=replace(GOOD, device="cpu"), left=0), Verdict.FAIL, "goes to the cpu, not to a GPU"),
        (load(asked=True, loaded=replace(GOOD, device=""), left=0), Verdict.UNKNOWN, "does not tell its device"),
        (load(asked=True, loaded=replace(GOOD, fallback="TRITON"), left=0), Verdict.WARN, "fell back"),
        (load(asked=True, loaded=replace(GOOD, framework="safetensors"), left=0), Verdict.WARN, "nothing was gener"),
        (load(asked=True, loaded=replace(GOOD, fault="OutOfMemoryError: CUDA"), left=0), Verdict.FAIL, "OutOfMemory"),
        (load(asked=True, loaded=replace(GOOD, fault="OOM"), left=0, device=replace(DEVICE, total=17 * GIB)),
         Verdict.UNKNOWN, "borderline"),
        (load(asked=True, loaded=Missing(Reason.TOOL_MISSING, "no vllm")), Verdict.UNKNOWN, "no vllm"),
        (load(asked=True, loaded=Missing(Reason.TIMEOUT, "env did not end within 900 s")), Verdict.UNKNOWN, "900 s"),
    ],
)  # fmt: skip
def test_single_gpu_load(fit: Callable[..., Ruling], found: SingleGpuLoad, verdict: Verdict, said: str) -> None:
    ruling = fit(found, check="model.single-gpu-load")
    assert ruling.verdict is verdict, words(ruling)
    assert said in words(ruling)


@pytest.mark.parametrize(
    ("output", "said"),
    [
        ('INFO x\ndstui-load {"framework":"vllm","seconds":3.5,"tokens":8,"version":"0.32.0","peak":null}\n', GOOD),
        ('dstui-load {"seconds":0.0,"tokens":0,"missing":"no vllm"}', Reason.TOOL_MISSING),
        ("Killed", Reason.PROBE_ERROR),
        ("dstui-load {", Reason.PARSE_ERROR),
        ('dstui-load {"seconds":"x","tokens":8}', Reason.PARSE_ERROR),
    ],
)
def test_what_the_load_tells(output: str, said: Loaded | Reason) -> None:
    found = loaded(Answer("k", "s", output=output, exit=1))
    if isinstance(said, Reason):
        assert isinstance(found, Missing)
        assert found.reason is said
    else:
        assert isinstance(found, Loaded)
        assert (found.tokens, found.version, found.fault) == (said.tokens, said.version, "")


# --- parsers

Anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
FIELDS = (
    *SEVEN, "kv_lora_rank", "qk_rope_head_dim", "text_config", "rope_scaling", "entries", "errors", "above", "error",
    "weight_map", "metadata", "data_offsets", "shape", "dtype",
)  # fmt: skip
Named = st.fixed_dictionaries({}, optional=dict.fromkeys(FIELDS, Anything))


@given(st.text(max_size=60) | Named.map(json.dumps))
def test_any_text_is_a_config_or_missing(text: str) -> None:
    found = model_config.config(text)
    if isinstance(found, Config):
        assert not isinstance(model_memory.cache(found, Split(tp=2), 2), str)
    assert isinstance(model_config.index(text, "i"), Index | Missing)
    assert isinstance(model_config.tokenizer_config(text), model_config.TokenizerConfig | Missing)


@given(Anything | Named)
def test_any_answer_is_a_tree_or_missing(value: object) -> None:
    assert isinstance(tree_of(Raw({"t": Answer("t", "s", value=value)}), "t", "/m"), Tree | Missing)


@given(
    st.binary(max_size=60)
    | st.dictionaries(st.text(max_size=5), Anything | Named, max_size=4).map(lambda value: json.dumps(value).encode()),
    st.integers(0, 2**40),
)
def test_any_header_is_a_header_or_a_breach(content: bytes, size: int) -> None:
    assert isinstance(safetensors.header(content, size), Header | Breach)
    assert isinstance(safetensors.header_length(content[:8], size), int | Breach)


@pytest.mark.parametrize(
    ("tensors", "size", "said"),
    [
        ({"a": ("BF16", [2], [0, 4])}, 4, None),
        ({"a": ("BF16", [2], [0, 4]), "b": ("F32", [1], [4, 8])}, 8, None),
        ({"a": ("F4", [3], [0, 2])}, 2, None),
        ({"a": ("NEW9", [3], [0, 7])}, 7, None),
        ({"a": ("BF16", [2], [0, 4])}, 3, "ends 1 bytes early"),
        ({"a": ("BF16", [2], [0, 4])}, 6, "2 bytes too many"),
        ({"a": ("BF16", [2], [2, 6])}, 6, "hole"),
        ({"a": ("BF16", [2], [0, 4]), "b": ("BF16", [2], [2, 6])}, 6, "overlap"),
        ({"a": ("BF16", [3], [0, 4])}, 4, "not that of its shape"),
        ({"a": ("BF16", [2], [4, 0])}, 4, "no usable entry"),
        ({"a": ("BF16", [-2], [0, 4])}, 4, "no usable entry"),
        ({}, 0, "holds no tensor"),
    ],
)
def test_structure(tensors: Mapping[str, tuple[str, list[int], list[int]]], size: int, said: str | None) -> None:
    table = {n: {"dtype": d, "shape": s, "data_offsets": o} for n, (d, s, o) in tensors.items()}
    content = json.dumps({"__metadata__": {"format": "pt"}, **table}).encode()
    found = safetensors.header(content, 8 + len(content) + size)
    assert isinstance(found, Header) if said is None else (isinstance(found, Breach) and said in found.en)


@pytest.mark.parametrize(("length", "good"), [(0, False), (1, True), (100_000_000, True), (100_000_001, False)])
def test_length_of_a_header(length: int, good: bool) -> None:
    found = safetensors.header_length(length.to_bytes(8, "little"), 10**12)
    assert (found == length) is good


def test_hashes_that_are_known() -> None:
    ok = "a" * 64
    text = f"{ok}  a.safetensors\n{ok.upper()} *./b.bin\nnonsense\n{'a' * 40}  c\n"
    assert manifest(text) == {"a.safetensors": ok, "b.bin": ok}
    assert blob_hash(f"../../blobs/{ok}") == ok
    assert blob_hash(f"../../blobs/{'a' * 40}") is None
    assert blob_hash(f"elsewhere/{ok}") is None
    assert etag_hash(f"rev\n{ok}\n1.0") == ok
    assert etag_hash("rev") is None
