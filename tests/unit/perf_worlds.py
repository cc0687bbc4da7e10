"""Ladders as they are recorded, well in every respect, for the judges of perf.* to have something changed in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from dstui import probes
from dstui.catalogue import load_catalogue
from dstui.facts.case import FleetCase, HostSite, Params, Site
from dstui.facts.ladder import LadderSeen
from dstui.judge.registry import FleetJudge
from dstui.load.agent.histogram import Histogram
from dstui.load.ladder import Ladder, Lengths, Prompts, Stage, StageKind
from dstui.load.result import Counts, Generator, LadderResult, StageResult, Times
from dstui.load.window import GpuWindow, HostWindow, LinkWindow, ReplicaWindow, Window
from dstui.model import Ruling

NOW = 1_800_000_000.0
API, BACKEND, MODEL = "http://api.example.com:8000", "http://198.51.100.11:8000", "m"
WINDOW = 120.0
CATALOGUE = load_catalogue()


def machine(number: int, role: str, *, gpu: bool = True) -> HostSite:
    address, name = f"198.51.100.{number}", f"{'gpu' if gpu else 'lb'}-{number:02}"
    return HostSite(name, frozenset({role}), address, None, address, 22, "ops", gpu, 2 if gpu else None)


HOSTS = (machine(1, "head"), machine(2, "worker"), machine(9, "lb", gpu=False))
SITE = Site(*("ds", "lab", "live", HOSTS, "/mnt/x", None, None, "bare-metal", False, "none"), balancers=("lb-09",))


def histogram(*values: tuple[float, int]) -> Histogram:
    found = Histogram()
    for seconds, times in values:
        if times:
            found.add(seconds, times)
    return found


def generator(cpu: float | None = 0.3, lag: float = 0.004, nofile: int | None = 65_536) -> Generator:
    return Generator(2, histogram((lag, 1000)), cpu, nofile)


def window(*, users: float = 1.0) -> Window:
    gpu = GpuWindow("GPU-1", 120, 92.0, 88.0, 85.0, 0.91, serving=True)
    link = LinkWindow(120, 100e9, 8e9, 20e9, 30e9)
    node = HostWindow(120, 120, 0.4, 0.5, growth=0.0, swap_in=0.0, oom=0.0, gpus={0: gpu, 1: gpu}, links={"eth0": link})
    replica = ReplicaWindow(
        120, 120, running_peak=users, running_mean=users / 2.5, waiting_peak=0.0, kv_p95=0.5, kv_peak=0.6,
        preemptions=0.0, at_limit=0.0, ttft_p50=0.15, ttft_p95=0.2,
    )  # fmt: skip
    return Window(
        hosts={host.name: node if host.gpu else replace(node, gpus={}) for host in HOSTS},
        replicas={"replica-1": replica, "replica-2": replica},
    )


def level(users: int, ttft: float = 0.2) -> StageResult:
    """Every user asks all the time, an answer of 128 tokens takes 3 s."""
    ok = users * 39
    return StageResult(
        Stage(StageKind.LEVEL, users), NOW - WINDOW, NOW, Counts(ok + users, ok, outside=users),
        Times(histogram((ttft, ok)), histogram((ttft, ok)), histogram((0.02, ok)), histogram((0.022, ok)),
              histogram((3.0, ok))),
        tokens_in=512 * ok, tokens_out=128 * ok, generator=generator(), window=window(users=users / 2),
    )  # fmt: skip


def levels() -> tuple[StageResult, ...]:
    return tuple(level(users) for users in (1, 50, 100, 200, 500))


def single(ttft: float = 0.2, e2e: float = 0.5, ok: int = 30, tokens: int = 16) -> StageResult:
    prompts = Prompts(Lengths(64), Lengths(16))
    return StageResult(
        Stage(StageKind.SINGLE, 1, requests=30, prompts=prompts), NOW - 30.0, NOW, Counts(ok, ok),
        Times(histogram((ttft, ok)), histogram((ttft, ok)), histogram((0.02, ok)), histogram((0.02, ok)),
              histogram((e2e, ok))),
        tokens_in=64 * ok, tokens_out=tokens * ok, generator=generator(), window=window(users=1.0),
    )  # fmt: skip


def batch() -> StageResult:
    """Two replicas of 256 requests at once, which 564 users fill."""
    stage, ok = level(564), 564 * 39
    full = ReplicaWindow(
        120, 120, running_peak=256.0, running_mean=250.0, waiting_peak=12.0, kv_p95=0.8, kv_peak=0.85, preemptions=0.0,
        at_limit=110.0,
    )  # fmt: skip
    seen = replace(stage.window, replicas={"replica-1": full, "replica-2": full})
    return replace(stage, stage=Stage(StageKind.BATCH, 564), counts=Counts(ok, ok), window=seen)


def enough(
    stage: StageResult, *, errors: Mapping[str, int] | None = None, shed: int = 0, per: int | None = None
) -> StageResult:
    """The stage with errors and refusals beside its answers; as shares of `per` requests when that is given."""
    counts, bad = stage.counts, sum((errors or {}).values()) + shed
    scale = 1 if per is None else counts.ok // (per - bad)
    ok = counts.ok if per is None else scale * (per - bad)
    wrong = {kind: count * scale for kind, count in (errors or {}).items()}
    begun = ok + bad * scale + counts.outside
    return replace(stage, counts=replace(counts, begun=begun, ok=ok, errors=wrong, shed=shed * scale))


def ladder(*stages: StageResult, at: float = NOW, url: str = API, model: str = MODEL, **changes: Any) -> LadderResult:
    asked = Ladder(url, model, tuple(stage.stage for stage in stages))
    return LadderResult(replace(asked, **changes), stages, at)


def params_of(check: str, changes: Mapping[str, object] | None = None) -> Params:
    own: Mapping[str, object] = {
        "endpoints_api": API, "model_served_name": MODEL, "max_num_seqs": 256, "replicas_expected": 2,
        "gpu_memory_configured": 0.9, **(changes or {}),
    }  # fmt: skip
    thresholds = [param.threshold() for param in CATALOGUE.check(check).params]
    return Params([replace(t, value=own.get(t.param, t.value)) for t in thresholds])


def case(
    check: str,
    *ladders: LadderResult,
    params: Mapping[str, object] | None = None,
    api: str | None = API,
    simulated: bool = False,
    fault: str = "",
    site: Site = SITE,
) -> FleetCase:
    ttl = {each.id: each.ttl for each in CATALOGUE.checks}
    levels_by = params_of("perf.concurrent-users", params)
    seen = LadderSeen(ladders, api, MODEL, levels_by, ttl, NOW, simulated=simulated, fault=fault)
    return FleetCase(site, {}, params_of(check, params), {}, {LadderSeen: seen}, NOW)


def ruling(
    check: str,
    *ladders: LadderResult,
    params: Mapping[str, object] | None = None,
    api: str | None = API,
    simulated: bool = False,
    fault: str = "",
    site: Site = SITE,
) -> Ruling:
    judge = probes.judges()[check]
    assert isinstance(judge, FleetJudge)
    (found,) = judge.rule(case(check, *ladders, params=params, api=api, simulated=simulated, fault=fault, site=site))
    return found
