"""How much GPU memory a model needs under vLLM: weights, key/value cache per token, and what that leaves.

All sizes in bytes. Sources: safetensors headers and config.json; the cache's layout is vLLM's (CATALOGUE 030).
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass

from dstui.facts.model_config import KNOWN, Config
from dstui.facts.raw import Missing
from dstui.facts.safetensors import Tensor
from dstui.model import Reason

GIB = 1 << 30

_LAYER = re.compile(r"(?:^|\.)layers\.(\d{1,5})\.")
_EXPERT = re.compile(r"\.experts\.\d{1,5}\.|\.experts\.(?:gate_up_proj|down_proj|gate_proj|up_proj)")
_CACHE_BYTES = {
    "float32": 2, "float": 2, "float16": 2, "half": 2, "bfloat16": 2, "fp8": 1, "fp8_e4m3": 1, "fp8_e5m2": 1,
    "fp8_inc": 1,
}  # fmt: skip
"""vLLM runs float32 checkpoints in 16 bits, and so is their cache."""


@dataclass(frozen=True, slots=True)
class Split:
    """Ranks of one replica: `tp` tensor, `pp` pipeline, `dp` data parallel; `expert_parallel` spreads whole experts."""

    tp: int = 1
    pp: int = 1
    dp: int = 1
    expert_parallel: bool = False

    @property
    def gpus(self) -> int:
        return self.tp * self.pp * self.dp

    @property
    def expert_ranks(self) -> int:
        """Over how many GPUs of a pipeline stage experts are spread: vLLM's expert parallel size is tp times dp."""
        return self.tp * self.dp if self.expert_parallel else self.tp


@dataclass(frozen=True, slots=True)
class Weights:
    """Bytes as stored: `dense` of all that is no routed expert, `experts`, and `mtp` that is not loaded."""

    dense: int
    experts: int
    mtp: int

    @property
    def total(self) -> int:
        """What one whole copy takes."""
        return self.dense + self.experts

    def per_gpu(self, split: Split) -> int:
        """The largest rank's share, evenly split as vLLM does it."""
        return math.ceil(self.dense / (split.tp * split.pp) + self.experts / (split.expert_ranks * split.pp))


@dataclass(frozen=True, slots=True)
class Cache:
    """Key/value cache: `kind` is MHA, GQA, MQA or MLA; `element` bytes of one number; `formula` with numbers in it."""

    kind: str
    element: int
    per_token: int
    formula: str


@dataclass(frozen=True, slots=True)
class Budget:
    """One GPU: `left` is what remains for the cache, `tokens` how many fit into it."""

    total: int
    usable: int
    weights: int
    overhead: int
    left: int
    tokens: int


def weights(tensors: Iterable[Tensor], config: Config) -> Weights:
    """Sums of the headers' sizes. Tensors of layers behind the last hidden one belong to multi-token prediction."""
    dense = experts = mtp = 0
    for tensor in tensors:
        layer = _LAYER.search(tensor.name)
        number = int(layer[1]) if layer else None
        further = bool(config.mtp_layers) and number is not None and number >= (config.layers or math.inf)
        if further or tensor.name.startswith(("mtp.", "model.mtp.")):
            mtp += tensor.size
        elif _EXPERT.search(tensor.name):
            experts += tensor.size
        else:
            dense += tensor.size
    return Weights(dense, experts, mtp)


def element_bytes(kv_cache_dtype: str, config: Config) -> int | Missing:
    """Bytes of one number in the cache; `auto` is the model's own type."""
    named = (config.dtype or "bfloat16") if kv_cache_dtype == "auto" else kv_cache_dtype
    found = _CACHE_BYTES.get(named)
    return found if found is not None else Missing(Reason.CANNOT_TELL, f"kv_cache_dtype {named!r} is not known")


def cache(config: Config, split: Split, element: int) -> Cache | Missing:
    """Bytes of cache for each token on the fullest GPU. MLA keeps its one latent head on every tensor-parallel rank."""
    if config.layers is None:
        return Missing(Reason.CANNOT_TELL, "config.json names no num_hidden_layers")
    layers = math.ceil(config.layers / split.pp)
    if config.latent is not None:
        if config.rope is None:
            return Missing(Reason.CANNOT_TELL, "config.json names a kv_lora_rank but no qk_rope_head_dim")
        words = f"{layers} L × ({config.latent} + {config.rope}) × {element} B"
        return Cache("MLA", element, layers * (config.latent + config.rope) * element, words)
    if config.kv_heads is None or config.head_dim is None or config.heads is None:
        return Missing(Reason.CANNOT_TELL, "config.json names no attention heads")
    kept = max(1, config.kv_heads // split.tp)
    kind = "MHA" if config.kv_heads == config.heads else "MQA" if config.kv_heads == 1 else "GQA"
    return Cache(
        kind,
        element,
        2 * layers * kept * config.head_dim * element,
        f"2 × {layers} L × {kept} KV heads × {config.head_dim} × {element} B",
    )


def indivisible(config: Config, split: Split) -> str | None:
    """Which heads tensor parallelism cannot share out: `heads`, `kv`, or None when all is well."""
    if config.heads is not None and config.heads % split.tp:
        return "heads"
    kv = config.kv_heads
    if config.latent is None and kv is not None and kv % split.tp and split.tp % kv:
        return "kv"
    return None


def overhead(gpu_total: int, split: Split) -> int:
    """CUDA context, activations and graphs: max(2 GiB, 5 % of the GPU), 1 GiB more for NCCL when tp > 1 (030)."""
    return max(2 * GIB, gpu_total // 20) + (GIB if split.tp > 1 else 0)


def budget(gpu_total: int, share: float, weight: int, besides: int, per_token: int) -> Budget:
    """What a GPU of `gpu_total` bytes has left for the cache when vLLM may take `share` of it."""
    usable = int(gpu_total * share)
    left = usable - weight - besides
    return Budget(gpu_total, usable, weight, besides, left, max(0, left) // per_token)


def rough(config: Config) -> str | None:
    """Why the arithmetic is only rough for a model: `sparse-index`, `window`, `architecture`; None when it is not."""
    if config.sparse_index:
        return "sparse-index"
    if config.sliding_window:
        return "window"
    return None if set(config.architectures) & KNOWN else "architecture"


@dataclass(frozen=True, slots=True)
class Need:
    """One copy on one GPU for one sequence: `whole` against the `allowed` share of the GPU's `total`.

    `gpus` is the least number of tensor-parallel GPUs of this size that can hold it.
    """

    weights: int
    cache: int
    overhead: int
    total: int
    allowed: int
    gpus: int

    @property
    def whole(self) -> int:
        return self.weights + self.cache + self.overhead

    @property
    def fits(self) -> bool:
        return self.whole <= self.allowed

    @property
    def never(self) -> bool:
        """Whether even all of the GPU is too little, with nothing but weights and cache in it."""
        return self.weights + self.cache > self.total


def need(
    tensors: Iterable[Tensor], config: Config | Missing, gpu_total: int, length: int, margin: float
) -> Need | Missing:
    """What a load of `length` tokens takes on one GPU of `gpu_total` bytes, of which `margin` may be used."""
    if isinstance(config, Missing):
        return config
    element = element_bytes("auto", config)
    one = cache(config, Split(), 2 if isinstance(element, Missing) else element)
    if isinstance(one, Missing):
        return one
    sizes = weights(tensors, config)
    if sizes.total == 0:
        return Missing(Reason.CANNOT_TELL, "the headers hold no weights")
    tokens = min(length, config.positions or length)
    allowed = int(gpu_total * margin)
    gpus = next((tp for tp in (1, 2, 4, 8, 16, 32, 64) if _held(sizes, config, tp, tokens, gpu_total, allowed)), 128)
    return Need(sizes.total, one.per_token * tokens, overhead(gpu_total, Split()), gpu_total, allowed, gpus)


def _held(sizes: Weights, config: Config, tp: int, tokens: int, gpu_total: int, allowed: int) -> bool:
    split = Split(tp=tp)
    kept = cache(config, split, 2)
    if isinstance(kept, Missing):
        return False
    return sizes.per_gpu(split) + kept.per_token * tokens + overhead(gpu_total, split) <= allowed
