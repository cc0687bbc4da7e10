"""Runs on the head under vLLM's Python: deploys the tiny model through Ray Serve's own LLM API, and ends.

`llm_app.py ADDRESS MODEL PLACE MAX_NUM_SEQS KV_BLOCKS PORT`
"""

from __future__ import annotations

import sys

import ray
from ray import serve
from ray.serve.llm import LLMConfig, build_openai_app

APPLICATION = "llm"


def main() -> None:
    address, model, place, max_num_seqs, kv_blocks, port = sys.argv[1:]
    ray.init(address=address, log_to_driver=False, logging_level="warning")
    serve.start(http_options={"host": "0.0.0.0", "port": int(port), "location": "HeadOnly"})
    config = LLMConfig(
        model_loading_config={"model_id": model, "model_source": place},
        deployment_config={"num_replicas": 1, "max_ongoing_requests": 64, "ray_actor_options": {"num_cpus": 0.1}},
        # Nothing in it is a GPU: the model runs on the CPU.
        placement_group_config={"bundles": [{"CPU": 1}]},
        engine_kwargs={
            "dtype": "bfloat16",
            "max_model_len": 2048,
            "max_num_seqs": int(max_num_seqs),
            "num_gpu_blocks_override": int(kv_blocks),
            "block_size": 16,
            "enforce_eager": True,
            # vLLM's own Ray executor refuses the CPU platform.
            "distributed_executor_backend": "mp",
        },
        log_engine_metrics=True,
    )
    serve.run(build_openai_app({"llm_configs": [config]}), name=APPLICATION, route_prefix="/")


if __name__ == "__main__":
    main()
