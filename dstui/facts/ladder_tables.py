"""A ladder's result as tables of plain text: what each performance check shows as its evidence."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from dstui.load.agent.histogram import Histogram
from dstui.load.ladder import StageKind
from dstui.load.result import LadderResult, StageResult
from dstui.model import EVIDENCE_HEAD_BYTES, Evidence

_GBIT = 1e9


def tables(
    single: LadderResult | None, batch: LadderResult | None, levels: LadderResult | None
) -> tuple[Evidence, ...]:
    """Tables of the ladder that each sort of check rests on; nothing of one that there is not."""
    ones = [] if single is None else _stages(single, (StageKind.SINGLE, StageKind.DIRECT))
    full = [] if batch is None else _stages(batch, (StageKind.BATCH,))
    steps = [] if levels is None else _stages(levels, (StageKind.LEVEL,))
    pieces = [
        _table("ladder.single", single, ones, _TIMES, map(_times, ones)),
        _table("ladder.batch", batch, full, _TIMES, map(_times, full)),
        _table("ladder.batch-replicas", batch, full, _REPLICAS, _replicas(full)),
        _table("ladder.levels", levels, steps, _TIMES, map(_times, steps)),
        _table("ladder.gpu", levels, steps, _GPUS, _gpus(steps)),
        _table("ladder.memory", levels, steps, _HOSTS, _hosts(steps)),
        _table("ladder.replicas", levels, steps, _REPLICAS, _replicas(steps)),
        _table("ladder.network", levels, steps, _LINKS, _links(steps)),
        _table(
            "ladder.generator", levels or single or batch, [*ones, *full, *steps], _HEALTH, _health(ones, full, steps)
        ),
    ]
    return tuple(piece for piece in pieces if piece is not None)


def _stages(result: LadderResult, kinds: Sequence[StageKind]) -> list[StageResult]:
    return [stage for stage in result.stages if stage.stage.kind in kinds]


def _table(
    key: str,
    result: LadderResult | None,
    stages: Sequence[StageResult],
    head: Sequence[str],
    rows: Iterable[Sequence[str]],
) -> Evidence | None:
    if result is None or not stages:
        return None
    table = [head, *rows]
    widths = [max(len(row[column]) for row in table) for column in range(len(head))]
    text = "\n".join("  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) for row in table)
    octets = text.encode("utf-8", "replace")
    shown = octets[:EVIDENCE_HEAD_BYTES].decode("utf-8", "ignore")
    seconds = sum(stage.seconds for stage in stages)
    return Evidence(key, f"dstui ladder {result.ladder.url} {result.ladder.model}", None, shown, len(octets), seconds)


_TIMES = (
    "stage", "ok", "error", "429/503", "cut off", "ttft p50", "p90", "p95", "p99", "itl p50", "p95", "tpot p50", "p95",
    "e2e p50", "p95", "p99", "req/s", "tok/s", "tok/s/user",
)  # fmt: skip


def _times(stage: StageResult) -> Sequence[str]:
    counts, times, rate = stage.counts, stage.times, stage.tokens_per_second
    each = None if rate is None or not stage.stage.users else rate / stage.stage.users
    return (
        stage.stage.name + (" stopped" if stage.stopped else ""),
        str(counts.ok), str(counts.failed), str(counts.shed), str(counts.aborted),
        *_quantiles(times.ttft, 0.5, 0.9, 0.95, 0.99), *_quantiles(times.itl, 0.5, 0.95),
        *_quantiles(times.tpot, 0.5, 0.95), *_quantiles(times.e2e, 0.5, 0.95, 0.99),
        _number(stage.requests_per_second, 1), _number(rate, 0), _number(each, 1),
    )  # fmt: skip


_REPLICAS = (
    "stage", "replica", "running", "waiting", "kv p95", "kv peak", "preempted", "at limit s", "ttft p50", "queue p95",
    "tokens", "samples",
)  # fmt: skip


def _replicas(stages: Sequence[StageResult]) -> list[Sequence[str]]:
    return [
        (
            stage.stage.name, name[:60], _number(seen.running_peak, 0), _number(seen.waiting_peak, 0),
            _share(seen.kv_p95), _share(seen.kv_peak), _number(seen.preemptions, 0), _number(seen.at_limit, 0),
            _number(seen.ttft_p50, 3), _number(seen.queue_p95, 3), _number(seen.tokens, 0),
            f"{seen.samples}/{seen.expected}",
        )
        for stage in reversed(stages)
        for name, seen in sorted(stage.window.replicas.items())
    ]  # fmt: skip


_GPUS = ("stage", "host", "gpu", "use mean %", "p5", "min", "memory", "serving", "throttled", "samples")


def _gpus(stages: Sequence[StageResult]) -> list[Sequence[str]]:
    """The highest level first, and in it the least used GPU."""
    rows: list[Sequence[str]] = []
    for stage in reversed(stages):
        seen = [(name, index, gpu) for name, host in stage.window.hosts.items() for index, gpu in host.gpus.items()]
        for name, index, gpu in sorted(seen, key=lambda row: (row[2].use_mean or 0.0, row[0], row[1])):
            serving = "?" if gpu.serving is None else "yes" if gpu.serving else "no"
            rows.append(
                (
                    stage.stage.name, name, str(index), _number(gpu.use_mean, 1), _number(gpu.use_p5, 1),
                    _number(gpu.use_min, 1), _share(gpu.memory_peak), serving, ",".join(gpu.throttled)[:60] or "-",
                    str(gpu.samples),
                )
            )  # fmt: skip
    return rows


_HOSTS = ("stage", "host", "memory mean", "peak", "growth MB/h", "swap-in", "oom", "samples")


def _hosts(stages: Sequence[StageResult]) -> list[Sequence[str]]:
    rows: list[Sequence[str]] = []
    for stage in reversed(stages):
        for name, host in sorted(stage.window.hosts.items(), key=lambda row: (-(row[1].memory_peak or 2.0), row[0])):
            growth = None if host.growth is None else host.growth / 1e6
            rows.append(
                (
                    stage.stage.name, name, _share(host.memory_mean), _share(host.memory_peak), _number(growth, 0),
                    _number(host.swap_in, 0), _number(host.oom, 0), f"{host.samples}/{host.expected}",
                )
            )  # fmt: skip
    return rows


_LINKS = ("stage", "host", "interface", "mean Gb/s", "p95", "peak", "speed", "mean %", "samples")


def _links(stages: Sequence[StageResult]) -> list[Sequence[str]]:
    return [
        (
            stage.stage.name, name, interface[:30],
            *(_number(None if each is None else each / _GBIT, 3) for each in (link.mean, link.p95, link.peak)),
            _number(None if link.speed is None else link.speed / _GBIT, 0), _share(link.share(link.mean)),
            str(link.samples),
        )
        for stage in reversed(stages)
        for name, host in sorted(stage.window.hosts.items())
        for interface, link in sorted(host.links.items())
    ]  # fmt: skip


_HEALTH = ("stage", "workers", "cpu", "lag p99 ms", "nofile", "clock ms", "lost")


def _health(*groups: Sequence[StageResult]) -> list[Sequence[str]]:
    rows: list[Sequence[str]] = []
    for stage in (stage for group in groups for stage in group):
        made, lag = stage.generator, stage.generator.lag.quantile(0.99)
        rows.append(
            (
                stage.stage.name, str(made.workers), _share(made.cpu), _number(None if lag is None else lag * 1e3, 1),
                str(made.nofile if made.nofile is not None else "?"), _number(made.clock_jump * 1e3, 1),
                str(len(made.lost)),
            )
        )  # fmt: skip
    return rows


def _quantiles(histogram: Histogram, *shares: float) -> Sequence[str]:
    return tuple(_number(histogram.quantile(share), 3) for share in shares)


def _number(value: float | None, digits: int) -> str:
    return "?" if value is None else f"{value:.{digits}f}"


def _share(value: float | None) -> str:
    return "?" if value is None else f"{value:.1%}"
