"""perf.gpu-util: under load the GPUs that serve are in use."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean

from dstui.facts.case import FleetCase
from dstui.facts.ladder import GPU, NEED
from dstui.judge.fleet import listed
from dstui.judge.perf_ride import Ride, hosts, ride
from dstui.judge.perf_words import MISSING_MAX, enough, led, level
from dstui.judge.registry import FleetJudge
from dstui.judge.rulings import Causes, quoted
from dstui.load.result import StageResult
from dstui.load.window import GpuWindow, HostWindow
from dstui.model import Reason, Ruling, Text

SAMPLES_MIN = 60
"""CATALOGUE 058: fewer samples of a GPU do not tell."""


def judge(case: FleetCase) -> Sequence[Ruling]:
    most, least = case.params.number("gpu_util_min"), case.params.number("per_gpu_min")
    expected = Text(
        f"mean over the serving GPUs above {most:g} %, each at least {least:g} %",
        f"服务用 GPU 平均利用率高于 {most:g} %，每卡至少 {least:g} %",
    )
    found = ride(case, GPU, expected)
    if isinstance(found, Ruling):
        return [found]
    causes, means = found.causes, []
    if case.params.text("at_level") == "every":
        stages = [each.stage for each in found.levels if each.passes and each.users > 1]
    else:
        stages = [found.stage]
    for stage in stages:
        if stage is None:
            continue
        part = Causes(causes.target, causes.expected)
        means.append((stage, _weigh(case, found, stage, part)))
        name = level(stage.stage.users)
        causes.found += [type(c)(c.verdict, led(name, c.text), c.reason, c.detail) for c in part.found]
        causes.remarks += part.remarks
    if case.params.flag("sm_active_note"):
        causes.note(Text("SM activity is not among the ladder's samples", "压测样本不含 SM 活跃度"))
    return [
        causes.ruling(
            _observed(means),
            Text("the serving GPUs are in use", "服务用 GPU 利用充分"),
            material={"enough": [None if mean is None else mean > most for _, mean in means]},
            evidence=("ladder.gpu", "ladder.levels"),
        )
    ]


def _observed(means: Sequence[tuple[StageResult, float | None]]) -> Text:
    if not means:
        return Text("not measured", "未测量")
    stage, mean = means[-1]
    shown, users = "?" if mean is None else f"{mean:.1f} %", stage.stage.users
    return Text(f"mean {shown} at {users} users", f"{users} 用户时平均 {shown}")


def _weigh(case: FleetCase, found: Ride, stage: StageResult, causes: Causes) -> float | None:
    """Mean use of the GPUs that serve, in %; None when it is not known."""
    seen: dict[str, GpuWindow] = {}
    for host, window in hosts(case.site, stage, causes):
        if host.gpu:
            _weigh_host(host.name, host.gpus_per_host, window, causes)
        seen |= {f"{host.name}/{index}": gpu for index, gpu in window.gpus.items()}
    serving = {name: gpu for name, gpu in seen.items() if gpu.serving}
    idle = [name for name, gpu in seen.items() if gpu.serving is False]
    if idle:
        causes.note(Text(f"not serving, left out: {listed(idle)}", f"未用于服务，不计入：{listed(idle)}"))
    if not serving:
        causes.unknown(Reason.CANNOT_TELL, Text("no GPU was seen to serve", "认不出服务用的 GPU"))
        return None
    means = {name: gpu.use_mean for name, gpu in serving.items() if gpu.use_mean is not None}
    if len(means) < len(serving):
        names = listed([name for name in serving if name not in means])
        causes.unknown(Reason.CANNOT_TELL, Text(f"use was not seen: {names}", f"未观测到利用率：{names}"))
        return None
    _weigh_use(case, found, means, serving, causes)
    return fmean(means.values())


def _weigh_host(name: str, expected: int | None, window: HostWindow, causes: Causes) -> None:
    if window.gpu_why or not window.gpus:
        why = quoted(window.gpu_why, 100) or "–"
        causes.unknown(Reason.CANNOT_TELL, Text(f"{name}: GPUs not seen: {why}", f"{name}：未观测到 GPU：{why}"))
    elif expected is not None and len(window.gpus) < expected:
        count = len(window.gpus)
        causes.unknown(
            Reason.CANNOT_TELL,
            Text(f"{name}: {count} of {expected} GPUs were seen", f"{name}：只看到 {count}/{expected} 张 GPU"),
        )
    few = [
        f"{name}/{index}"
        for index, gpu in window.gpus.items()
        if gpu.serving is not False and (gpu.samples < SAMPLES_MIN or not enough(gpu.samples, window.expected))
    ]
    if few:
        causes.unknown(
            Reason.CANNOT_TELL,
            Text(
                f"fewer than {SAMPLES_MIN} samples, or more than {MISSING_MAX:.0%} missing: {listed(few)}",
                f"样本少于 {SAMPLES_MIN} 个或缺失超过 {MISSING_MAX:.0%}：{listed(few)}",
            ),
        )
    unsure = [f"{name}/{index}" for index, gpu in window.gpus.items() if gpu.serving is None]
    if unsure:
        causes.unknown(
            Reason.CANNOT_TELL,
            Text(f"whether it serves was not seen: {listed(unsure)}", f"未观测到是否用于服务：{listed(unsure)}"),
        )


def _weigh_use(
    case: FleetCase, found: Ride, means: Mapping[str, float], serving: Mapping[str, GpuWindow], causes: Causes
) -> None:
    wanted, least = case.params.number("gpu_util_min"), case.params.number("per_gpu_min")
    mean = fmean(means.values())
    if not mean > wanted:
        text = Text(f"mean {mean:.1f} % (above {wanted:g} %)", f"平均 {mean:.1f} %（应高于 {wanted:g} %）")
        if found.saturating:
            causes.fail(text)
        else:
            causes.unknown(
                Reason.CANNOT_TELL,
                Text(f"{text.en}, and higher levels were not measured", f"{text.zh}，且更高级别未测量"),
            )
        return
    low = sorted(((value, name) for name, value in means.items() if value < max(wanted, least)))
    if low:
        names = listed([f"{name} {value:.0f} %" for value, name in low])
        causes.warn(
            Text(
                f"below {wanted:g} %: {names}: a straggler, a pipeline bubble or an idle replica",
                f"低于 {wanted:g} %：{names}：慢卡、流水线气泡或空闲副本",
            )
        )
    slowed = [
        f"{name} {'+'.join(quoted(word, 30) for word in gpu.throttled)}"
        for name, gpu in serving.items()
        if gpu.throttled
    ]
    if slowed:
        causes.warn(Text(f"throttled: {listed(slowed)}", f"降频：{listed(slowed)}"))


JUDGE = FleetJudge(GPU, (), (), judge, (NEED,), recorded=True)
