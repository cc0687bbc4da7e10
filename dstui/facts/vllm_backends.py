"""What each backend of the inventory said of itself: version, health, models, and the engine's cache."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from dstui.facts import openai
from dstui.facts.exchange import Exchange, Exchanges
from dstui.facts.openai import ModelCard
from dstui.facts.raw import Missing
from dstui.facts.untyped import table, text
from dstui.facts.vllm_settings import Setting, settings_of
from dstui.model import Reason

PREFIX = "vllm.backend-"
VERSION, HEALTH, MODELS, METRICS = "version", "health", "models", "metrics"

CACHE_CONFIG = re.compile(rb"^(?:ray_)?vllm[:_]cache_config_info\{.*$", re.MULTILINE)
_LABEL = re.compile(r'([A-Za-z_]\w{0,60})="((?:[^"\\]|\\.){0,300})"', re.ASCII)
_IN_METRICS = {
    "gpu_memory_utilization": "gpu_memory_utilization",
    "cache_dtype": "kv_cache_dtype",
    "enable_prefix_caching": "enable_prefix_caching",
}


@dataclass(frozen=True, slots=True)
class Backend:
    """One address of `endpoints.backends`; `host` is the inventory host that has it. `via` as in an Exchange."""

    url: str
    number: int
    host: str | None
    via: str | None

    def key(self, what: str) -> str:
        return f"{PREFIX}{self.number}.{what}"


@dataclass(frozen=True, slots=True)
class CacheConfig:
    """`cache_config_info` of one engine: settings in force, and how many requests of full length fit at once."""

    values: Mapping[str, Setting]
    max_concurrency: float | None


@dataclass(frozen=True, slots=True)
class VllmBackends(Exchanges):
    """Keys `vllm.backend-<number>.<version|health|models|metrics>`; numbers count from 1.

    `keyless` is why there is no API key, None when there is one.
    """

    backends: tuple[Backend, ...]
    keyless: Missing | None

    def asked(self, backend: Backend, what: str) -> Exchange | Missing:
        return self.get(backend.key(what))

    def version(self, backend: Backend) -> str | Missing:
        """The version that runs. Ray Serve's proxy has no such page (404): Missing(tool-missing)."""
        exchange = self.asked(backend, VERSION)
        if isinstance(exchange, Missing):
            return exchange
        if exchange.status == 404:
            return Missing(Reason.TOOL_MISSING, f"{backend.url} has no /version")
        if exchange.status != 200:
            return Missing(Reason.CANNOT_TELL, f"{exchange.url}: HTTP {exchange.status}")
        value = exchange.json()
        found = value if isinstance(value, Missing) else text((table(value) or {}).get("version"))
        return found or Missing(Reason.PARSE_ERROR, f"{exchange.url}: the answer names no version")

    def models(self, backend: Backend) -> tuple[ModelCard, ...] | Missing:
        """The models that it lists."""
        exchange = self.asked(backend, MODELS)
        if isinstance(exchange, Missing):
            return exchange
        if exchange.status in (401, 403):
            why = "refused the key" if self.keyless is None else f"wants a key: {self.keyless.why}"
            return Missing(Reason.NO_CREDENTIAL, f"{exchange.url} {why}")
        if exchange.status != 200:
            return Missing(Reason.CANNOT_TELL, f"{exchange.url}: HTTP {exchange.status}")
        value = exchange.json()
        return value if isinstance(value, Missing) else openai.models(value)

    def cache_configs(self, backend: Backend) -> tuple[CacheConfig, ...] | Missing:
        """Of each engine; none where the page has no such metric."""
        exchange = self.asked(backend, METRICS)
        if isinstance(exchange, Missing):
            return exchange
        if exchange.status != 200:
            return Missing(Reason.CANNOT_TELL, f"{exchange.url}: HTTP {exchange.status}")
        return cache_configs(exchange.body)


def cache_configs(page: bytes) -> tuple[CacheConfig, ...]:
    """Every `cache_config_info` on a page of metrics."""
    found = []
    for line in CACHE_CONFIG.findall(page)[:256]:
        labels = dict(_LABEL.findall(line.decode("utf-8", "replace")))
        values = settings_of({_IN_METRICS[name]: value for name, value in labels.items() if name in _IN_METRICS})
        found.append(CacheConfig(values, _number(labels.get("kv_cache_max_concurrency"))))
    return tuple(config for config in found if config.values or config.max_concurrency is not None)


def _number(value: str | None) -> float | None:
    try:
        found = float(value or "")
    except ValueError:
        return None
    return found if 0 <= found < 1e12 else None
