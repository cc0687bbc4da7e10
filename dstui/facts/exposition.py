"""Prometheus' text format, as far as a look at an exporter needs it: which families have series, and for which GPUs."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

_SAMPLE = re.compile(r"([A-Za-z_:][A-Za-z0-9_:]*)(?:\{(.*)\})?[ \t]+(\S+)")
_LABEL = re.compile(r'([A-Za-z_][A-Za-z0-9_]*)="((?:\\.|[^"\\])*)"')
GPU_FAMILIES = ("DCGM_FI_", "nvidia_smi_")
"""How the families of dcgm-exporter and nvidia_gpu_exporter begin."""
_GPU_LABELS = ("UUID", "uuid", "gpu")
_VALUES_KEPT = frozenset({"node_memory_MemTotal_bytes", "node_timex_sync_status"})


@dataclass(frozen=True, slots=True)
class Exposition:
    """`series` counts samples by family; `gpus` are the GPUs that GPU families have series for, by UUID where given.

    `values` holds the first sample of a few families; `version` is the exporter's own from `*_build_info`.
    """

    series: Mapping[str, int]
    gpus: frozenset[str]
    values: Mapping[str, float]
    version: str | None


def parse_exposition(text: str, *, cut: bool = False) -> Exposition:
    """Lines that are no samples are left out; of a text that was `cut` at a limit the last line is not trusted."""
    lines = text.splitlines()
    if cut and lines:
        lines.pop()
    series: Counter[str] = Counter()
    gpus: set[str] = set()
    values: dict[str, float] = {}
    version: str | None = None
    for line in lines:
        if line.startswith("#") or (sample := _SAMPLE.match(line)) is None:
            continue
        name, labels = sample[1], sample[2] or ""
        try:
            value = float(sample[3])
        except ValueError:
            continue
        series[name] += 1
        if name in _VALUES_KEPT:
            values.setdefault(name, value)
        if name.startswith(GPU_FAMILIES):
            found = dict(_LABEL.findall(labels))
            identity = next((found[label] for label in _GPU_LABELS if found.get(label)), None)
            if identity is not None:
                gpus.add(identity)
        elif name.endswith("_exporter_build_info") and version is None:
            version = dict(_LABEL.findall(labels)).get("version")
    return Exposition(series, frozenset(gpus), values, version)
