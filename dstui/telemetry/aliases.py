"""vLLM's metric names, by what they mean, across its versions and across the ways they are exported.

Data only. The names were read in the wheels of vLLM 0.5.5, 0.6.6, 0.8.5, 0.10.2, 0.11.2, 0.13, 0.16 and 0.33. The
newest name of a thing comes first; where a page has several, the first one that has a series is taken, never a sum.
"""

from __future__ import annotations

from enum import StrEnum


class Family(StrEnum):
    """How the names begin on a page.

    vLLM's own server writes `vllm:`. Ray adds `ray_`; vLLM up to 0.10.2 kept its colon there, from 0.11.2 it is an
    underscore. `vllm_` comes from collectors that allow no colon.
    """

    NATIVE = "vllm:"
    RAY_COLON = "ray_vllm:"
    RAY = "ray_vllm_"
    UNDERSCORE = "vllm_"

    @property
    def through_ray(self) -> bool:
        """Ray sends values every 10 s by default, drops idle gauges, and has no counter before its first increase."""
        return self in (Family.RAY_COLON, Family.RAY)


class Thing(StrEnum):
    """What is measured. Gauges are as they are, counters since the engine started, histograms are cumulative."""

    RUNNING = "running"
    WAITING = "waiting"
    SWAPPED = "swapped"
    KV_USAGE = "kv_usage"
    PREFIX_HIT_RATE = "prefix_hit_rate"
    PROMPT_TOKENS = "prompt_tokens"
    GENERATION_TOKENS = "generation_tokens"
    PREEMPTIONS = "preemptions"
    PREFIX_QUERIES = "prefix_queries"
    PREFIX_HITS = "prefix_hits"
    FINISHED = "finished"
    REJECTIONS = "rejections"
    CACHE_CONFIG = "cache_config"
    SLEEP_STATE = "sleep_state"
    TTFT = "ttft"
    ITL = "itl"
    TPOT = "tpot"
    E2E = "e2e"
    QUEUE = "queue"


GAUGES: dict[Thing, tuple[str, ...]] = {
    Thing.RUNNING: ("num_requests_running",),
    Thing.WAITING: ("num_requests_waiting",),
    Thing.SWAPPED: ("num_requests_swapped",),
    Thing.KV_USAGE: ("kv_cache_usage_perc", "gpu_cache_usage_perc"),
    Thing.PREFIX_HIT_RATE: ("gpu_prefix_cache_hit_rate",),
}

COUNTERS: dict[Thing, tuple[str, ...]] = {
    Thing.PROMPT_TOKENS: ("prompt_tokens",),
    Thing.GENERATION_TOKENS: ("generation_tokens",),
    Thing.PREEMPTIONS: ("num_preemptions",),
    Thing.PREFIX_QUERIES: ("prefix_cache_queries", "gpu_prefix_cache_queries"),
    Thing.PREFIX_HITS: ("prefix_cache_hits", "gpu_prefix_cache_hits"),
}
"""Exposed as `x_total`; Ray has a deprecated gauge `x` of the same value beside it, old versions only that."""

LABELLED: dict[Thing, tuple[str, str]] = {
    Thing.FINISHED: ("request_success", "finished_reason"),
    Thing.REJECTIONS: ("admission_rejections", "reason"),
}
"""Counters that are kept apart by a label. `request_success` counts aborts and errors, too."""

INFO: dict[Thing, str] = {Thing.CACHE_CONFIG: "cache_config_info", Thing.SLEEP_STATE: "engine_sleep_state"}
"""Read for their labels. Through Ray they are all that an engine shows before its first request; the sleep state names
its model, too."""

HISTOGRAMS: dict[Thing, tuple[str, ...]] = {
    Thing.TTFT: ("time_to_first_token_seconds",),
    Thing.ITL: ("inter_token_latency_seconds", "time_per_output_token_seconds"),
    Thing.TPOT: ("request_time_per_output_token_seconds",),
    Thing.E2E: ("e2e_request_latency_seconds",),
    Thing.QUEUE: ("request_queue_time_seconds", "time_in_queue_requests"),
}
"""`time_per_output_token_seconds` was the gap between tokens and was renamed; one value per request is TPOT."""

RETIRED = frozenset({Thing.SWAPPED, Thing.PREFIX_HIT_RATE})
"""Things that current versions have no name for; their absence is worth no list of what was seen instead."""
