"""The performance section: six checks that read what a ladder recorded, and make no load themselves."""

from __future__ import annotations

from dstui.judge import perf_batch, perf_gpu, perf_memory, perf_network, perf_single, perf_users

JUDGES = (
    perf_single.JUDGE,
    perf_batch.JUDGE,
    perf_users.JUDGE,
    perf_gpu.JUDGE,
    perf_memory.JUDGE,
    perf_network.JUDGE,
)
