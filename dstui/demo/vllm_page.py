"""The page `/metrics` of a made-up replica: the names, labels and buckets of vLLM 0.32."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import accumulate

from dstui.demo.vllm_engine import BLOCK_TOKENS, BLOCKS, KV_TOKENS, Engine, Histogram
from dstui.demo.web import Response

MODEL = "deepseek-llm-67b-chat"
MAX_MODEL_LEN = 4_096
CONTENT_TYPE = "text/plain; version=1.0.0; charset=utf-8"
_LABELS = f'engine="0",model_name="{MODEL}"'
_HEAD = "# SIMULATED: no vLLM runs here, this is the embedded fleet of `dstui demo`.\n"
_HELP = {
    "num_requests_running": "Number of requests in model execution batches.",
    "num_requests_waiting": "Number of requests waiting to be processed.",
    "kv_cache_usage_perc": "KV-cache usage. 1 means 100 percent usage.",
    "prefix_cache_queries": "Prefix cache queries, in terms of number of queried tokens.",
    "prefix_cache_hits": "Prefix cache hits, in terms of number of cached tokens.",
    "num_preemptions": "Cumulative number of preemption from the engine.",
    "prompt_tokens": "Number of prefill tokens processed.",
    "generation_tokens": "Number of generation tokens processed.",
    "request_success": "Count of successfully processed requests.",
    "admission_rejections": "Number of admission attempts rejected by a queue limit, by reason.",
    "time_to_first_token_seconds": "Histogram of time to first token in seconds.",
    "inter_token_latency_seconds": "Histogram of inter-token latency in seconds.",
    "request_time_per_output_token_seconds": "Histogram of time_per_output_token_seconds per request.",
    "e2e_request_latency_seconds": "Histogram of e2e request latency in seconds.",
    "request_queue_time_seconds": "Histogram of time spent in WAITING phase for request.",
    "request_inference_time_seconds": "Histogram of time spent in RUNNING phase for request.",
    "request_prefill_time_seconds": "Histogram of time spent in PREFILL phase for request.",
    "request_decode_time_seconds": "Histogram of time spent in DECODE phase for request.",
    "request_prompt_tokens": "Number of prefill tokens processed.",
    "request_generation_tokens": "Number of generation tokens processed.",
}
_CONFIG = (
    f'vllm:cache_config_info{{block_size="{BLOCK_TOKENS}",cache_dtype="auto",enable_prefix_caching="True",engine="0",'
    f'gpu_memory_utilization="0.9",kv_cache_max_concurrency="{KV_TOKENS / MAX_MODEL_LEN:.2f}",'
    f'kv_cache_size_tokens="{KV_TOKENS}",num_cpu_blocks="None",num_gpu_blocks="{BLOCKS}",'
    'num_gpu_blocks_override="None",prefix_caching_hash_algo="sha256",sliding_window="None"} 1.0\n'
)


def answer(engine: Engine, path: str) -> Response:
    """What the replica's server answers on a path: its metrics; the rest is the API's."""
    if path == "/metrics":
        return Response(page(engine).encode(), CONTENT_TYPE)
    return Response(b'{"detail":"Not Found"}', "application/json", status=404)


def page(engine: Engine) -> str:
    """The text of `/metrics` now."""
    return "".join(_parts(engine))


def _parts(engine: Engine) -> Iterator[str]:
    yield _HEAD
    yield f"# TYPE process_start_time_seconds gauge\nprocess_start_time_seconds {engine.started!r}\n"
    yield _gauge("num_requests_running", engine.together)
    yield _gauge("num_requests_waiting", engine.waiting)
    yield "# TYPE vllm:num_requests_waiting_by_reason gauge\n"
    for reason, waiting in (("capacity", engine.waiting), ("deferred", 0)):
        yield f'vllm:num_requests_waiting_by_reason{{{_LABELS},reason="{reason}"}} {float(waiting)!r}\n'
    yield _gauge("kv_cache_usage_perc", engine.kv_share)
    for name, count in (
        ("prefix_cache_queries", engine.prompt_tokens),
        ("prefix_cache_hits", engine.cached_tokens),
        ("num_preemptions", engine.preemptions),
        ("prompt_tokens", engine.prompt_tokens),
        ("generation_tokens", engine.generation_tokens),
    ):
        yield _counter(name, engine.started, {_LABELS: count})
    ended = {f'engine="0",finished_reason="{reason}",model_name="{MODEL}"': n for reason, n in engine.finished.items()}
    yield _counter("request_success", engine.started, ended)
    limits = {"max_num_queued_reqs": engine.rejected, "max_num_queued_tokens": 0}
    rejected = {f'model_name="{MODEL}",reason="{limit}"': count for limit, count in limits.items()}
    yield _counter("admission_rejections", engine.started, rejected)
    for name, histogram in engine.histograms.items():
        yield from _histogram(name, histogram, engine.started)
    yield "# HELP vllm:cache_config_info Information of the LLMEngine CacheConfig\n"
    yield "# TYPE vllm:cache_config_info gauge\n" + _CONFIG


def _gauge(name: str, value: float) -> str:
    return f"# HELP vllm:{name} {_HELP[name]}\n# TYPE vllm:{name} gauge\nvllm:{name}{{{_LABELS}}} {float(value)!r}\n"


def _counter(name: str, started: float, values: dict[str, int]) -> str:
    told = f"# HELP vllm:{name}_total {_HELP[name]}\n# TYPE vllm:{name}_total counter\n"
    told += "".join(f"vllm:{name}_total{{{labels}}} {float(value)!r}\n" for labels, value in values.items())
    told += f"# HELP vllm:{name}_created {_HELP[name]}\n# TYPE vllm:{name}_created gauge\n"
    return told + "".join(f"vllm:{name}_created{{{labels}}} {started!r}\n" for labels in values)


def _histogram(name: str, histogram: Histogram, started: float) -> Iterator[str]:
    yield f"# HELP vllm:{name} {_HELP[name]}\n# TYPE vllm:{name} histogram\n"
    sums = list(accumulate(histogram.counts))
    for bound, count in zip((*map(repr, histogram.bounds), "+Inf"), sums, strict=True):
        yield f'vllm:{name}_bucket{{engine="0",le="{bound}",model_name="{MODEL}"}} {float(count)!r}\n'
    yield f"vllm:{name}_count{{{_LABELS}}} {float(sums[-1])!r}\nvllm:{name}_sum{{{_LABELS}}} {histogram.total!r}\n"
    yield f"# TYPE vllm:{name}_created gauge\nvllm:{name}_created{{{_LABELS}}} {started!r}\n"
