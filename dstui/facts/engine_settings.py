"""With which settings vLLM's engines run, as far as their logs in Ray and the model's own configuration tell."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from dstui.facts.exchange import Exchanges
from dstui.facts.raw import Missing
from dstui.facts.untyped import real, table, text, whole
from dstui.facts.vllm_settings import Setting, settings_of
from dstui.model import Reason

_ENGINE_LINE = re.compile(r"Initializing a V\d LLM engine \(v([^)\s]{1,60})\) with config: (.{1,20000})", re.ASCII)
_ENTRY = re.compile(r"(?<![\w'])(\w{1,60})=('[^']{0,200}'|[\w./:+-]{1,60})", re.ASCII)
_BATCHED = re.compile(r"Chunked prefill is enabled with max_num_batched_tokens=(\d{1,9})", re.ASCII)
_IN_LOG = {"max_seq_len": "max_model_len"}
_READ = 4_000_000


@dataclass(frozen=True, slots=True)
class EngineLog:
    """What one replica's log says of its engine: vLLM's version and its settings as it resolved them."""

    replica: str
    version: str
    values: Mapping[str, Setting]


@dataclass(frozen=True, slots=True)
class ModelConfig:
    """Of the model's config.json: attention heads, the longest position, how the weights are quantized."""

    heads: int | None
    positions: int | None
    quantization: str | None


@dataclass(frozen=True, slots=True)
class EngineSettings(Exchanges):
    """Keys `engine.log.<replica>` with the lines that were understood. `logs` by replica id."""

    logs: Mapping[str, EngineLog | Missing]
    model: ModelConfig | Missing


def engine_log(replica: str, log: str) -> EngineLog | Missing:
    """The last start of an engine in a log."""
    found = _ENGINE_LINE.findall(log[:_READ])
    if not found:
        return Missing(Reason.CANNOT_TELL, f"the log of {replica} does not tell how vLLM was started")
    version, config = found[-1]
    given: dict[str, object] = {}
    for name, value in _ENTRY.findall(config):
        given.setdefault(_IN_LOG.get(name, name), value.strip("'"))
    # The scheduler tells this one by itself, for the same engine.
    given.setdefault("max_num_batched_tokens", next(iter(_BATCHED.findall(log[:_READ])[-1:]), None))
    return EngineLog(replica, version, settings_of(given))


def engine_lines(log: str) -> str:
    """Those lines, for evidence; the rest of a log may hold what users asked."""
    lines = [f"Initializing vLLM {v}: {c[:3000]}" for v, c in _ENGINE_LINE.findall(log[:_READ])[-1:]]
    batched = _BATCHED.findall(log[:_READ])[-1:]
    return "\n".join([*lines, *(f"max_num_batched_tokens={count}" for count in batched)])


def model_config(document: object) -> ModelConfig | Missing:
    """A Hugging Face config.json. Models of several parts keep their text model's values under `text_config`."""
    whole_config = table(document)
    if whole_config is None:
        return Missing(Reason.PARSE_ERROR, "config.json is no JSON object")
    inner = table(whole_config.get("text_config")) or whole_config
    quantization = table(whole_config.get("quantization_config")) or table(inner.get("quantization_config")) or {}
    return ModelConfig(
        heads=whole(inner.get("num_attention_heads")),
        positions=_positions(inner),
        quantization=text(quantization.get("quant_method")),
    )


def _positions(config: Mapping[str, object]) -> int | None:
    """The longest position with rope scaling, as vLLM derives it: YaRN scales the original length.

    Of a model whose own configuration already has the scaled length (su, longrope, llama3) that length counts.
    """
    longest = whole(config.get("max_position_embeddings"))
    scaling = table(config.get("rope_scaling")) or table(config.get("rope_parameters")) or {}
    kind = text(scaling.get("rope_type")) or text(scaling.get("type"))
    factor = real(scaling.get("factor"))
    if longest is None or factor is None or kind in ("su", "longrope", "llama3", None, "default"):
        return longest
    original = whole(scaling.get("original_max_position_embeddings"))
    scaled = (original if kind == "yarn" and original is not None else longest) * factor
    return max(longest, int(scaled))
