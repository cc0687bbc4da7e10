"""The model's directory: DeepSeek LLM 67B in fourteen safetensors files of which only headers exist, and its papers."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from functools import cache

from dstui.demo.processes import MODEL_PATH
from dstui.demo.tree import Entry, Layer
from dstui.demo.vllm_page import MAX_MODEL_LEN

LAYERS, HIDDEN, INNER, VOCABULARY = 95, 8_192, 22_016, 102_400
HEADS, KEY_HEADS = 64, 8
FILES = 14
_WIDTH = 2
"""Bytes of a bfloat16."""
_HEAD_SIZE = HIDDEN // HEADS
_CONFIG = {
    "architectures": ["LlamaForCausalLM"], "model_type": "llama", "bos_token_id": 100_000, "eos_token_id": 100_001,
    "hidden_act": "silu", "hidden_size": HIDDEN, "initializer_range": 0.02, "intermediate_size": INNER,
    "max_position_embeddings": MAX_MODEL_LEN, "num_attention_heads": HEADS, "num_hidden_layers": LAYERS,
    "num_key_value_heads": KEY_HEADS, "pretraining_tp": 1, "rms_norm_eps": 1e-06, "rope_scaling": None,
    "rope_theta": 10000.0, "tie_word_embeddings": False, "torch_dtype": "bfloat16", "transformers_version": "4.33.1",
    "use_cache": True, "vocab_size": VOCABULARY,
}  # fmt: skip
_TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}{% if message['role'] == 'user' %}{{ 'User: ' + message['content'] + "
    "'\\n\\n' }}{% else %}{{ 'Assistant: ' + message['content'] + eos_token }}{% endif %}{% endfor %}"
)


def _tensors() -> Iterator[tuple[str, list[int]]]:
    """Names and shapes in the order in which they are stored."""
    yield "model.embed_tokens.weight", [VOCABULARY, HIDDEN]
    keys = KEY_HEADS * _HEAD_SIZE
    for layer in range(LAYERS):
        at = f"model.layers.{layer}"
        yield f"{at}.input_layernorm.weight", [HIDDEN]
        for name, rows in (("q", HIDDEN), ("k", keys), ("v", keys), ("o", HIDDEN)):
            yield f"{at}.self_attn.{name}_proj.weight", [rows, HIDDEN]
        yield f"{at}.post_attention_layernorm.weight", [HIDDEN]
        for name, shape in (("gate", [INNER, HIDDEN]), ("up", [INNER, HIDDEN]), ("down", [HIDDEN, INNER])):
            yield f"{at}.mlp.{name}_proj.weight", shape
    yield "model.norm.weight", [HIDDEN]
    yield "lm_head.weight", [VOCABULARY, HIDDEN]


def _bytes(shape: list[int]) -> int:
    size = _WIDTH
    for side in shape:
        size *= side
    return size


@cache
def layer() -> Layer:
    """The directory, the same wherever it is mounted."""
    tensors = list(_tensors())
    total = sum(_bytes(shape) for _, shape in tensors)
    parts: list[dict[str, object]] = [{} for _ in range(FILES)]
    sizes, where = [0] * FILES, {}
    before = 0
    for name, shape in tensors:
        number = min(FILES - 1, before * FILES // total)
        size, begin = _bytes(shape), sizes[number]
        parts[number][name] = {"dtype": "BF16", "shape": shape, "data_offsets": [begin, begin + size]}
        sizes[number] += size
        before += size
        where[name] = f"model-{number + 1:05d}-of-{FILES:05d}.safetensors"
    entries: dict[str, Entry | str] = {
        f"{MODEL_PATH}/config.json": json.dumps(_CONFIG, indent=2) + "\n",
        f"{MODEL_PATH}/generation_config.json": json.dumps({"bos_token_id": 100_000, "eos_token_id": 100_001}) + "\n",
        f"{MODEL_PATH}/model.safetensors.index.json": json.dumps(
            {"metadata": {"total_size": total}, "weight_map": where}, indent=2
        ),
        f"{MODEL_PATH}/tokenizer.json": json.dumps({"version": "1.0", "model": {"type": "BPE", "vocab": {}}}) + "\n",
        f"{MODEL_PATH}/tokenizer_config.json": json.dumps(
            {"model_max_length": MAX_MODEL_LEN, "tokenizer_class": "LlamaTokenizerFast", "chat_template": _TEMPLATE}
        ),
        f"{MODEL_PATH}/LICENSE-MODEL": "SIMULATED: no weights lie here, only their headers.\n",
    }
    sums = []
    for number, (part, size) in enumerate(zip(parts, sizes, strict=True), 1):
        written = json.dumps({"__metadata__": {"format": "pt"}, **part}, separators=(",", ":")).encode()
        written += b" " * (-len(written) % 8)
        head = len(written).to_bytes(8, "little") + written
        file = Entry(head=head, size=len(head) + size)
        name = f"model-{number:05d}-of-{FILES:05d}.safetensors"
        entries[f"{MODEL_PATH}/{name}"] = file
        sums.append(f"{digest(file)}  {name}\n")
    entries[f"{MODEL_PATH}/SHA256SUMS"] = "".join(sums)
    return Layer(entries)


def digest(entry: Entry) -> str:
    """What a host gives as the SHA-256 of a file; of one that has only a beginning, something like it."""
    whole = entry.data if entry.head is None else entry.data + str(entry.size).encode()
    return hashlib.sha256(whole).hexdigest()
