"""What hosts, GPUs, links and engines did in one window of a ladder, from the same samples as the monitor's."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class GpuWindow:
    """One GPU: use in % over the window, memory as a share. `serving`: a compute process was on it; None: not seen."""

    uuid: str | None
    samples: int
    use_mean: float | None
    use_p5: float | None
    use_min: float | None
    memory_peak: float | None
    serving: bool | None
    throttled: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class LinkWindow:
    """One interface or RDMA port: bit/s in its busier direction. `speed` is the link's in bit/s; None when unknown."""

    samples: int
    speed: float | None
    mean: float | None
    p95: float | None
    peak: float | None

    def share(self, value: float | None) -> float | None:
        """0 to 1; None while the speed is not known."""
        return None if value is None or not self.speed or self.speed <= 0 else value / self.speed


@dataclass(frozen=True, slots=True)
class HostWindow:
    """One host. `expected` is how many samples the window should have had. Memory as a share of all, 0 to 1, `growth`
    in bytes/hour (None: too short to tell); `oom` kills and `swap_in` pages meanwhile. `why` when nothing was seen."""

    samples: int
    expected: int
    memory_mean: float | None = None
    memory_peak: float | None = None
    growth: float | None = None
    swap_in: float | None = None
    oom: float | None = None
    gpus: Mapping[int, GpuWindow] = field(default_factory=dict)
    links: Mapping[str, LinkWindow] = field(default_factory=dict)
    why: str = ""
    gpu_why: str = ""

    @property
    def missing(self) -> float:
        """Share of the expected samples that did not come, 0 to 1."""
        return max(0.0, 1.0 - self.samples / self.expected) if self.expected else 1.0


@dataclass(frozen=True, slots=True)
class ReplicaWindow:
    """One vLLM replica. `kv` is the share of the KV cache; quantiles in seconds by the server's own histograms.

    `at_limit` is the longest time in seconds that `running` stayed at or above 0.95 of `max_num_seqs`; None: not known.
    """

    samples: int
    expected: int
    running_peak: float | None = None
    running_mean: float | None = None
    waiting_peak: float | None = None
    kv_p95: float | None = None
    kv_peak: float | None = None
    preemptions: float | None = None
    at_limit: float | None = None
    restarted: bool = False
    ttft_p50: float | None = None
    ttft_p95: float | None = None
    queue_p95: float | None = None
    e2e_p50: float | None = None
    tokens: float | None = None
    """Generated in the window, by the server's counter."""
    why: str = ""


@dataclass(frozen=True, slots=True)
class Point:
    """One second of the window, for the screen's timeline: over all hosts that spoke. None where nothing was seen."""

    at: float
    gpu_use: float | None = None
    running: float | None = None
    waiting: float | None = None
    kv: float | None = None
    tokens_per_second: float | None = None


@dataclass(frozen=True, slots=True)
class Window:
    """`hosts` and `replicas` by name; empty when the cluster was not watched, and `why` says so."""

    hosts: Mapping[str, HostWindow] = field(default_factory=dict)
    replicas: Mapping[str, ReplicaWindow] = field(default_factory=dict)
    timeline: tuple[Point, ...] = ()
    why: str = ""


def quantile_of(values: Sequence[float], share: float) -> float | None:
    """The value that `share` of them do not exceed; None of none."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)] if ordered else None
