"""All that is known of one stage, in words and numbers. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from dstui.load.agent.histogram import Histogram
from dstui.load.ladder import Ladder, Stage, StageKind
from dstui.load.live import LiveStage, Phase
from dstui.load.result import Counts, StageResult, Times
from dstui.load.window import HostWindow, ReplicaWindow, Window
from dstui.model import Lang, Text
from screens import ladder_words as words
from screens.ladder_columns import milliseconds, percent, right, share
from screens.ladder_rows import PROVES_NOTHING, Seen, gpu_use, network, standing
from screens.lines import BLANK, Line, labelled, line
from screens.plain import fit, one_line
from screens.times import span
from screens.tones import Tone

LABEL, NAME = 13, 9
TIME_CELLS = 9
MOST_HOSTS = 12
MOST_SAID = 6
QUANTILES: tuple[tuple[str, float], ...] = (("p50", 0.5), ("p90", 0.9), ("p95", 0.95), ("p99", 0.99), ("max", 1.0))
_KINDS: Mapping[StageKind, Text] = {
    StageKind.SINGLE: words.KIND_SINGLE,
    StageKind.DIRECT: words.KIND_DIRECT,
    StageKind.LEVEL: words.KIND_LEVEL,
    StageKind.BATCH: words.KIND_BATCH,
}


def stage_lines(ladder: Ladder, stage: LiveStage | StageResult, lang: Lang, width: int) -> list[Line]:
    """A stage while it runs or when it ended."""
    if isinstance(stage, LiveStage) and stage.result is not None:
        stage = stage.result
    lines = _what(stage.stage, lang, width)
    if isinstance(stage, StageResult):
        return [*lines, *_ended(ladder, stage, lang, width)]
    if stage.phase in (Phase.WAITING, Phase.PAUSE):
        text = words.WINDOW_NOT_BEGUN[lang].format(stage=stage.stage.name)
        return [*lines, *labelled("", text, width, LABEL, Tone.DIM)]
    if stage.phase in (Phase.RAMP, Phase.WARM):
        lines += labelled("", words.NOT_COUNTED_YET[lang], width, LABEL, Tone.WARN)
    under_way = words.UNDER_WAY[lang].format(count=f"{stage.in_flight:,}")
    lines += _requests(stage.counts, under_way, lang, width)
    lines += _times(stage.times, lang, width)
    if stage.window_seconds > 0:
        rate = f"{stage.tokens_out / stage.window_seconds:,.0f}"
        text = words.TOKENS_OUT[lang].format(out=f"{stage.tokens_out:,}", rate=rate)
        lines += labelled(words.D_TOKENS[lang], text, width, LABEL)
    lines += labelled(words.D_GENERATOR[lang], _health(stage.lag_p99, stage.cpu, lang), width, LABEL)
    return [*lines, *_cluster(stage.cluster, lang, width)]


def _what(stage: Stage, lang: Lang, width: int) -> list[Line]:
    told = [stage.name, _KINDS[stage.kind][lang].format(users=f"{stage.users:,}")]
    if stage.rate is not None:
        told.append(words.AT_RATE[lang].format(rate=stage.rate))
    if stage.url is not None:
        told.append(words.AGAINST[lang].format(url=one_line(stage.url)))
    return labelled(words.D_STAGE[lang], " · ".join(told), width, LABEL, Tone.STRONG)


def _ended(ladder: Ladder, result: StageResult, lang: Lang, width: int) -> Iterator[Line]:
    state, why = standing(result)
    if state in PROVES_NOTHING and why:
        reasons = "; ".join(one_line(each[lang]) for each in why)
        yield from labelled("", f"? {words.DOUBTED[lang].format(why=reasons)}", width, LABEL, Tone.UNKNOWN)
    yield from _requests(result.counts, "", lang, width)
    yield from _times(result.times, lang, width)
    rate = "?" if result.tokens_per_second is None else f"{result.tokens_per_second:,.0f}"
    tokens = words.TOKENS_LINE[lang].format(into=f"{result.tokens_in:,}", out=f"{result.tokens_out:,}", rate=rate)
    yield from labelled(words.D_TOKENS[lang], tokens, width, LABEL)
    if result.unmetered:
        text = words.UNMETERED[lang].format(count=f"{result.unmetered:,}")
        yield from labelled("", text, width, LABEL, Tone.WARN)
    if result.good is not None and ladder.slo_ttft is not None:
        limit = span(ladder.slo_ttft)
        text = words.GOOD[lang].format(good=f"{result.good:,}", ok=f"{result.counts.ok:,}", limit=f"TTFT {limit}")
        yield from labelled(words.D_SLO[lang], text, width, LABEL)
    generator = result.generator
    health = [words.WORKERS[lang].format(count=generator.workers)] if generator.workers else []
    health.append(_health(generator.lag.quantile(0.99), generator.cpu, lang))
    if abs(generator.clock_jump) >= 0.01:
        health.append(words.CLOCK_JUMP[lang].format(jump=span(abs(generator.clock_jump))))
    yield from labelled(words.D_GENERATOR[lang], " · ".join(health), width, LABEL)
    for number, said in enumerate(result.samples[:MOST_SAID]):
        label = words.D_SAID[lang] if not number else ""
        yield from labelled(label, one_line(said), width, LABEL, Tone.WARN)
    yield from _cluster(result.window, lang, width)


def _requests(counts: Counts, under_way: str, lang: Lang, width: int) -> Iterator[Line]:
    told = words.BEGUN_SUM[lang].format(
        begun=f"{counts.begun:,}",
        ok=f"{counts.ok:,}",
        shed=f"{counts.shed:,}",
        errors=f"{counts.failed:,}",
        aborted=f"{counts.aborted:,}",
        outside=f"{counts.outside:,}",
    )
    yield from labelled(words.D_REQUESTS[lang], told, width, LABEL)
    if under_way:
        yield from labelled("", under_way, width, LABEL, Tone.DIM)
    elif not counts.adds_up:
        text = words.SUM_DIFFERS[lang].format(parts=f"{counts.inside + counts.outside:,}")
        yield from labelled("", f"? {text}", width, LABEL, Tone.UNKNOWN)
    if counts.failed:
        ordered = sorted(counts.errors.items(), key=lambda pair: (-pair[1], pair[0]))
        kinds = ", ".join(f"{count:,} {one_line(kind)}" for kind, count in ordered if count)
        text = f"! {kinds} · {share(counts.error_rate)}"
        yield from labelled(words.D_ERRORS[lang], text, width, LABEL, Tone.WARN)
    if counts.outside_errors:
        text = words.OUTSIDE_ERRORS[lang].format(count=f"{counts.outside_errors:,}")
        yield from labelled("", text, width, LABEL, Tone.DIM)


def _times(times: Times, lang: Lang, width: int) -> Iterator[Line]:
    """A small table of quantiles in milliseconds; as many as there is room for, p95 last to go."""
    room = max(1, (width - LABEL - NAME) // TIME_CELLS)
    wanted = sorted(("p95", "p50", "p99", "max", "p90")[:room], key=[name for name, _ in QUANTILES].index)
    chosen = [(name, at) for name, at in QUANTILES if name in wanted]
    head = "".join(right(name, TIME_CELLS) for name, _ in chosen)
    yield line((fit(words.D_TIMES[lang], LABEL), Tone.HEADING), (" " * NAME + head, Tone.DIM))
    each: tuple[tuple[str, Histogram], ...] = (
        ("TTFT", times.ttft), (words.FROM_DUE[lang], times.late), ("ITL", times.itl),
        ("TPOT", times.tpot), ("E2E", times.e2e),
    )  # fmt: skip
    for name, found in each:
        figures = "".join(
            right(milliseconds(found.quantile(at)) if found.whole else "-", TIME_CELLS) for _, at in chosen
        )
        yield line((" " * LABEL, Tone.PLAIN), (fit(name, NAME), Tone.DIM), figures)


def _health(lag: float | None, cpu: float | None, lang: Lang) -> str:
    unknown = f"? {words.UNKNOWN_FIGURE[lang]}"
    late = unknown if lag is None else span(lag)
    busiest = unknown if cpu is None else f"{cpu:.0%}"
    return f"{words.LAG[lang].format(lag=late)} · {words.CPU_BUSIEST[lang].format(cpu=busiest)}"


def _cluster(window: Window, lang: Lang, width: int) -> Iterator[Line]:
    yield BLANK
    if window.why or not (window.hosts or window.replicas):
        why = one_line(window.why) or words.UNKNOWN_FIGURE[lang]
        yield from labelled(words.D_HOSTS[lang], f"? {why}", width, LABEL, Tone.UNKNOWN)
    ordered = sorted(window.hosts.items(), key=lambda pair: (not (pair[1].why or pair[1].gpu_why), pair[0]))
    for number, (name, host) in enumerate(ordered[:MOST_HOSTS]):
        label = words.D_HOSTS[lang] if not number else ""
        tone = Tone.UNKNOWN if host.why else Tone.PLAIN
        yield from labelled(label, f"{one_line(name)}  {_host(host, lang)}", width, LABEL, tone)
    yield from _more(ordered, lang, width)
    replicas = sorted(window.replicas.items(), key=lambda pair: (not pair[1].why, pair[0]))
    for number, (name, replica) in enumerate(replicas[:MOST_HOSTS]):
        label = words.D_REPLICAS[lang] if not number else ""
        tone = Tone.UNKNOWN if replica.why else Tone.PLAIN
        yield from labelled(label, f"{one_line(name)}  {_replica(replica, lang)}", width, LABEL, tone)
    yield from _more(replicas, lang, width)


def _more(all_of_them: Sequence[object], lang: Lang, width: int) -> Iterator[Line]:
    if (more := len(all_of_them) - MOST_HOSTS) > 0:
        yield from labelled("", words.MORE[lang].format(count=more), width, LABEL, Tone.DIM)


def _host(host: HostWindow, lang: Lang) -> str:
    if host.why:
        return f"? {one_line(host.why)}"
    seen = Seen(host.memory_peak)
    links = network(Window(hosts={"": host}))
    use = gpu_use([host])
    told = [
        words.HOST_LINE[lang].format(
            use=percent(use, most=False)[0], memory=percent(seen, 100.0)[0], network=percent(links, 100.0)[0]
        )
    ]
    if host.missing > 0:
        told.append("! " + words.SAMPLES[lang].format(count=host.samples, expected=host.expected))
    if host.oom:
        told.append("! " + words.OOM[lang].format(count=f"{host.oom:.0f}"))
    by_reasons: dict[tuple[str, ...], list[int]] = {}
    for index, gpu in sorted(host.gpus.items()):
        if gpu.throttled:
            by_reasons.setdefault(gpu.throttled, []).append(index)
    for reasons, indexes in by_reasons.items():
        gpus, why = ", ".join(map(str, indexes)), one_line(", ".join(reasons))
        told.append("! " + words.THROTTLED[lang].format(gpus=gpus, why=why))
    if host.gpu_why:
        told.append("? " + words.GPU_UNSEEN[lang].format(why=one_line(host.gpu_why)))
    return " · ".join(told)


def _replica(replica: ReplicaWindow, lang: Lang) -> str:
    if replica.why:
        return f"? {one_line(replica.why)}"
    told = [
        words.REPLICA_LINE[lang].format(
            running=_number(replica.running_peak),
            waiting=_number(replica.waiting_peak),
            kv="?" if replica.kv_p95 is None else f"{replica.kv_p95:.0%}",
            ttft=f"{milliseconds(replica.ttft_p50)}/{milliseconds(replica.ttft_p95)} ms",
            queue="?" if replica.queue_p95 is None else f"{milliseconds(replica.queue_p95)} ms",
        )
    ]
    if replica.preemptions:
        told.append("! " + words.PREEMPTIONS[lang].format(count=f"{replica.preemptions:,.0f}"))
    if replica.restarted:
        told.append("! " + words.RESTARTED[lang])
    return " · ".join(told)


def _number(value: float | None) -> str:
    return "?" if value is None else f"{value:,.0f}"
