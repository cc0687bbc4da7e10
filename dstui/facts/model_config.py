"""A Hugging Face config.json, tokenizer files and weight index, as far as they say what a model is and needs."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath

from dstui.facts.engine_settings import model_config as settings_of_model
from dstui.facts.raw import Missing
from dstui.facts.untyped import rows, table, text, whole
from dstui.model import Reason

CONFIG, TOKENIZER_CONFIG = "config.json", "tokenizer_config.json"
TOKENIZERS = ("tokenizer.json", "tokenizer.model", "tiktoken.model")
TEMPLATES = ("chat_template.jinja", "chat_template.json")
INDEX, SINGLE = "model.safetensors.index.json", "model.safetensors"
BIN_INDEX, BIN_SINGLE = "pytorch_model.bin.index.json", "pytorch_model.bin"

KNOWN = frozenset(
    {
        "LlamaForCausalLM", "MistralForCausalLM", "MixtralForCausalLM", "Qwen2ForCausalLM", "Qwen3ForCausalLM",
        "Qwen2MoeForCausalLM", "Qwen3MoeForCausalLM", "DeepseekForCausalLM", "DeepseekV2ForCausalLM",
        "DeepseekV3ForCausalLM",
    }
)  # fmt: skip
"""Architectures whose key/value cache is what the arithmetic of `model_memory` says."""
_CHARACTERS = 200


@dataclass(frozen=True, slots=True)
class Config:
    """Sizes are counts; a None is not in the file. `latent` and `rope` are MLA's kv_lora_rank and qk_rope_head_dim.

    `positions` is the longest sequence with rope scaling, `mtp_layers` those that only predict further tokens.
    """

    architectures: tuple[str, ...]
    model_type: str
    dtype: str | None
    quantization: str | None
    custom_code: bool
    layers: int | None
    heads: int | None
    kv_heads: int | None
    head_dim: int | None
    latent: int | None
    rope: int | None
    positions: int | None
    experts: int
    mtp_layers: int
    sparse_index: bool
    sliding_window: bool

    @property
    def name(self) -> str:
        """`LlamaForCausalLM (llama), bfloat16`."""
        dtype = self.quantization or self.dtype
        kind = f" ({self.model_type})" if self.model_type else ""
        return f"{', '.join(self.architectures) or '?'}{kind}" + (f", {dtype}" if dtype else "")


@dataclass(frozen=True, slots=True)
class Index:
    """Of a model of several files: tensor → file. `total_size` in bytes; None when the index does not tell."""

    total_size: int | None
    weight_map: Mapping[str, str]

    @property
    def shards(self) -> tuple[str, ...]:
        return tuple(sorted(set(self.weight_map.values())))


def json_object(content: str, name: str) -> Mapping[str, object] | Missing:
    """A file that holds one JSON object; Missing(parse-error) with the line otherwise."""
    try:
        value: object = json.loads(content)
    except json.JSONDecodeError as error:
        return Missing(Reason.PARSE_ERROR, f"{name}:{error.lineno}:{error.colno}: {error.msg}")
    except (ValueError, RecursionError) as error:
        return Missing(Reason.PARSE_ERROR, f"{name}: {type(error).__name__}")
    found = table(value)
    return found if found is not None else Missing(Reason.PARSE_ERROR, f"{name}: no JSON object")


def config(content: str) -> Config | Missing:
    """A config.json. Models of several parts have their language model's values under `text_config`."""
    outer = json_object(content, CONFIG)
    if isinstance(outer, Missing):
        return outer
    inner = table(outer.get("text_config")) or outer
    settings = settings_of_model(dict(outer))
    heads = _count(inner, "num_attention_heads")
    hidden, head_dim = _count(inner, "hidden_size"), _count(inner, "head_dim")
    if head_dim is None and hidden and heads:
        head_dim = hidden // heads
    return Config(
        architectures=tuple(word for each in rows(outer.get("architectures")) or [] if (word := _word(each))),
        model_type=_word(outer.get("model_type")) or "",
        dtype=_word(inner.get("dtype")) or _word(inner.get("torch_dtype")) or _word(outer.get("torch_dtype")),
        quantization=None if isinstance(settings, Missing) else settings.quantization,
        custom_code="auto_map" in outer,
        layers=_count(inner, "num_hidden_layers"),
        heads=heads,
        kv_heads=_count(inner, "num_key_value_heads") or heads,
        head_dim=head_dim,
        latent=_count(inner, "kv_lora_rank"),
        rope=_count(inner, "qk_rope_head_dim"),
        positions=None if isinstance(settings, Missing) else settings.positions,
        experts=_count(inner, "n_routed_experts", "num_local_experts", "num_experts") or 0,
        mtp_layers=_count(inner, "num_nextn_predict_layers") or 0,
        sparse_index=any(name in inner for name in ("index_topk", "index_head_dim", "index_n_heads")),
        sliding_window=_slides(inner),
    )


def _slides(inner: Mapping[str, object]) -> bool:
    return bool(_count(inner, "sliding_window")) and inner.get("use_sliding_window") is not False


def _count(cells: Mapping[str, object], *names: str) -> int | None:
    found = next((number for name in names if (number := whole(cells.get(name))) is not None), None)
    return found if found is not None and 0 < found < 10**9 else None


def _word(value: object) -> str | None:
    word = text(value)
    return word[:_CHARACTERS].removeprefix("torch.") if word else None


def index(content: str, name: str) -> Index | Missing:
    """A weight index. Missing(parse-error) also for one that names a file outside the model's directory."""
    cells = json_object(content, name)
    if isinstance(cells, Missing):
        return cells
    weights = table(cells.get("weight_map"))
    if not weights:
        return Missing(Reason.PARSE_ERROR, f"{name}: no weight_map")
    named: dict[str, str] = {}
    for tensor, file in weights.items():
        path = text(file)
        if not path or path.startswith("/") or ".." in PurePosixPath(path).parts or "\0" in path:
            return Missing(Reason.PARSE_ERROR, f"{name}: {tensor[:100]} lies in {str(file)[:100]!r}")
        named[tensor] = path
    total = (table(cells.get("metadata")) or {}).get("total_size")
    size = int(total) if isinstance(total, float) and total.is_integer() else whole(total)
    return Index(size, named)


@dataclass(frozen=True, slots=True)
class TokenizerConfig:
    """Whether it carries a chat template, and whether its tokenizer is code of the model's own."""

    template: bool
    custom_code: bool


def tokenizer_config(content: str) -> TokenizerConfig | Missing:
    cells = json_object(content, TOKENIZER_CONFIG)
    if isinstance(cells, Missing):
        return cells
    return TokenizerConfig(bool(cells.get("chat_template")), "auto_map" in cells)
