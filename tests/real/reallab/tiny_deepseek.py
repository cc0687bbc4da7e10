"""A model shaped as DeepSeek-V3 (MLA, routed and shared experts) with random weights, some megabytes, made offline.

`ready()` gives its folder, made once per machine; the file itself is the script that makes it, under vLLM's Python.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

CONTEXT = 2048
VOCABULARY = 1024
MAKE_SECONDS = 300.0
SPECIAL = ("<|begin|>", "<|end|>", "<|User|>", "<|Assistant|>", "<|pad|>")
CHAT_TEMPLATE = (
    "{{ bos_token }}{% for m in messages %}{% if m['role'] == 'user' %}<|User|>{{ m['content'] }}"
    "{% elif m['role'] == 'assistant' %}<|Assistant|>{{ m['content'] }}<|end|>{% else %}{{ m['content'] }}\n{% endif %}"
    "{% endfor %}{% if add_generation_prompt %}<|Assistant|>{% endif %}"
)


def ready() -> Path:
    """The folder with config.json, weights and tokenizer. LabError when it cannot be made."""
    from reallab import vllm_venv
    from reallab.host import LabError
    from reallab.lab_venv import alone, cache

    venv = vllm_venv.ready()
    wanted = hashlib.sha256(Path(__file__).read_bytes()).hexdigest()
    folder = cache() / f"tiny-deepseek-{wanted[:12]}"
    with alone(cache() / "tiny-deepseek.busy"):
        if not folder.exists():
            unfinished = folder.with_suffix(".unfinished")
            shutil.rmtree(unfinished, ignore_errors=True)
            # -P: the folder of this file has an operator.py.
            argv = (str(venv / "bin" / "python"), "-P", __file__, str(unfinished))
            env = {"PATH": os.environ["PATH"], "HOME": str(cache()), "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
            done = subprocess.run(argv, env=env, capture_output=True, text=True, timeout=MAKE_SECONDS)
            if done.returncode:
                raise LabError(f"the tiny model cannot be made: {done.stderr.strip()[-2000:]}")
            unfinished.rename(folder)
    return folder


def make(out: Path) -> None:
    import torch
    from transformers import DeepseekV3Config, DeepseekV3ForCausalLM

    out.mkdir(parents=True)
    _tokenizer().save_pretrained(out)
    config = DeepseekV3Config(
        vocab_size=VOCABULARY,
        hidden_size=64,
        intermediate_size=128,
        moe_intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=4,
        n_routed_experts=8,
        num_experts_per_tok=2,
        n_shared_experts=1,
        n_group=2,
        topk_group=1,
        first_k_dense_replace=1,
        q_lora_rank=32,
        kv_lora_rank=512,
        qk_nope_head_dim=128,
        qk_rope_head_dim=64,
        v_head_dim=128,
        max_position_embeddings=CONTEXT,
        bos_token_id=0,
        eos_token_id=1,
        num_nextn_predict_layers=0,
        routed_scaling_factor=2.5,
        norm_topk_prob=True,
    )
    # As in the real config.json; without topk_method vLLM looks for no e_score_correction_bias.
    config.topk_method = "noaux_tc"
    config.scoring_func = "sigmoid"
    torch.manual_seed(0)
    model = DeepseekV3ForCausalLM(config).to(torch.bfloat16)
    model.save_pretrained(out, safe_serialization=True)


def _tokenizer() -> object:
    """Byte-level BPE, learned from Python's own sources."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    learned = Tokenizer(models.BPE())
    learned.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    learned.decoder = decoders.ByteLevel()
    corpus = [Path(module.__file__ or "").read_text() for module in (os, json)]
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY - len(SPECIAL),
        special_tokens=list(SPECIAL),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )
    learned.train_from_iterator([*corpus, "Deploy DeepSeek on Ray and vLLM. " * 50], trainer)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=learned, bos_token=SPECIAL[0], eos_token=SPECIAL[1], pad_token=SPECIAL[4]
    )
    tokenizer.chat_template = CHAT_TEMPLATE
    tokenizer.model_max_length = CONTEXT
    return tokenizer


if __name__ == "__main__":
    make(Path(sys.argv[1]))
