"""hard.monitoring-logging: exporters that answer with the right series, a log shipper, a journal that survives."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from dstui.facts.agents import AgentFacts, Journald, LogSizes, MetricsAnswer
from dstui.facts.case import HostCase
from dstui.facts.listeners import ListenerFacts
from dstui.facts.raw import Missing
from dstui.judge.registry import HostJudge
from dstui.judge.rulings import Causes, quoted, unknown, why_missing
from dstui.model import Reason, Ruling, Text, Verdict, host_target, same

_EXPECTED = Text(
    "metrics exporters answer (one series per GPU), a log agent runs, the journal is persistent",
    "指标导出器正常应答（每块 GPU 一条序列），日志代理运行中，journald 持久化",
)
NODE_FAMILY = "node_memory_MemTotal_bytes"
_RESTARTS_PER_DAY = 3
_DAY_SECONDS = 86_400.0
_UNROTATED_BYTES = 10_000_000_000
"""More than 3 restarts in a day, more than 10 GB without rotation: hard.monitoring-logging of the catalogue."""


@dataclass(frozen=True, slots=True)
class _Standing:
    """How one agent stands. `answer` is a word or two for the one-line observation: `200`, `8/8 GPU`."""

    name: str
    verdict: Verdict
    text: Text
    answer: str
    reason: Reason | None = None


def _port(spec: str) -> tuple[str, int | None]:
    name, _, port = spec.rpartition(":")
    return (name, int(port)) if name and port.isdecimal() else (spec, None)


def _listening(case: HostCase, port: int | None) -> bool | None:
    listeners = case.facts.get(ListenerFacts)
    if isinstance(listeners, Missing) or isinstance(listeners.listening, Missing) or port is None:
        return None
    return bool(listeners.on(port))


def _without_answer(case: HostCase, facts: AgentFacts, spec: str, why: Missing, *, refused: bool = False) -> _Standing:
    """The standing of an agent whose metrics were not seen: absent for certain, or not to be told.

    `refused`: nothing accepted a connection on 127.0.0.1, which with no such process means that it is not there.
    """
    name, port = _port(spec)
    running, listening = facts.running(name), _listening(case, port)
    reason = why_missing(why)
    if running:
        text = Text(
            f"{spec} runs, but its metrics were not seen: {reason.en}", f"{spec} 在运行，但未取得其指标：{reason.zh}"
        )
        return _Standing(name, Verdict.UNKNOWN, text, "running, not answering", why.reason)
    if listening:
        text = Text(
            f"something listens on {port}, but the metrics of {name} were not seen: {reason.en}",
            f"端口 {port} 有监听，但未取得 {name} 的指标：{reason.zh}",
        )
        return _Standing(name, Verdict.UNKNOWN, text, "listening", why.reason)
    if running is False and (listening is False or refused):
        text = Text(f"{name} does not run", f"{name} 未运行")
        return _Standing(name, Verdict.FAIL, text, "not running")
    text = Text(f"whether {spec} runs is not known: {reason.en}", f"无法判断 {spec} 是否运行：{reason.zh}")
    return _Standing(name, Verdict.UNKNOWN, text, "?", why.reason)


_KINDS = {"timeout": Reason.TIMEOUT}


def _answered(case: HostCase, facts: AgentFacts, spec: str) -> MetricsAnswer | _Standing:
    """The exporter's 200, or the standing that follows from anything else."""
    name, port = _port(spec)
    if isinstance(facts.metrics, Missing):
        return _without_answer(case, facts, spec, facts.metrics)
    if port is None:
        return _without_answer(case, facts, spec, Missing(Reason.NOT_RUN, f"{spec!r} names no port"))
    answer = facts.metrics.get(port)
    if answer is None:
        return _without_answer(case, facts, spec, Missing(Reason.NOT_RUN, f"port {port} was not asked"))
    if answer.status == 200:
        return answer
    if answer.status is None:
        reason = _KINDS.get(answer.kind or "", Reason.CANNOT_TELL)
        why = Missing(reason, f"127.0.0.1:{port}: {answer.error or answer.kind}")
        return _without_answer(case, facts, spec, why, refused=answer.kind == "connect")
    said = Text(f"{spec} answers {answer.status}", f"{spec} 返回 {answer.status}")
    if answer.status in (401, 403):
        return _Standing(name, Verdict.UNKNOWN, said, str(answer.status), Reason.NO_CREDENTIAL)
    if answer.status == 404 or answer.status >= 500:
        return _Standing(name, Verdict.FAIL, said, str(answer.status))
    return _Standing(name, Verdict.UNKNOWN, said, str(answer.status), Reason.CANNOT_TELL)


def _cut(name: str, spec: str) -> _Standing:
    text = Text(
        f"{spec} answers more than dstui reads, and what was looked for was not in the beginning",
        f"{spec} 的返回超出读取上限，开头部分没有所需的指标",
    )
    return _Standing(name, Verdict.UNKNOWN, text, "200, cut", Reason.CANNOT_TELL)


def _metrics_agent(case: HostCase, facts: AgentFacts, spec: str) -> _Standing:
    found, name = _answered(case, facts, spec), _port(spec)[0]
    if isinstance(found, _Standing):
        return found
    if found.body.values.get(NODE_FAMILY, 0.0) > 0:
        version = f" v{quoted(found.body.version, 20)}" if found.body.version else ""
        return _Standing(name, Verdict.PASS, same(""), f"200{version}")
    if found.cut:
        return _cut(name, spec)
    text = Text(f"{spec} answers 200 without {NODE_FAMILY}", f"{spec} 返回 200，但没有 {NODE_FAMILY}")
    return _Standing(name, Verdict.FAIL, text, "200, no node metrics")


def _expected_gpus(case: HostCase, facts: AgentFacts) -> int | Missing:
    return case.host.gpus_per_host or facts.gpus


def _gpu_agent(case: HostCase, facts: AgentFacts, spec: str) -> _Standing:
    found, name = _answered(case, facts, spec), _port(spec)[0]
    if isinstance(found, _Standing):
        return found
    seen, wanted = len(found.body.gpus), _expected_gpus(case, facts)
    if seen == 0 and not found.cut:
        text = Text(f"{spec} answers 200 with no GPU series at all", f"{spec} 返回 200，但没有任何 GPU 序列")
        return _Standing(name, Verdict.FAIL, text, "200, 0 GPU")
    if isinstance(wanted, Missing):
        why = why_missing(wanted)
        text = Text(
            f"{spec} has series for {seen} GPUs, how many there are is not known: {why.en}",
            f"{spec} 有 {seen} 块 GPU 的序列，但不知道实际数量：{why.zh}",
        )
        return _Standing(name, Verdict.UNKNOWN, text, f"{seen}/? GPU", wanted.reason)
    if seen >= wanted > 0:
        return _Standing(name, Verdict.PASS, same(""), f"{seen}/{wanted} GPU")
    if found.cut:
        return _cut(name, spec)
    text = Text(f"{spec} has series for {seen} of {wanted} GPUs", f"{spec} 只有 {seen} 块 GPU 的序列，应为 {wanted} 块")
    return _Standing(name, Verdict.FAIL, text, f"{seen}/{wanted} GPU")


def _log_agent(facts: AgentFacts, name: str) -> _Standing:
    running = facts.running(name)
    if running is None:
        why = facts.processes if isinstance(facts.processes, Missing) else Missing(Reason.CANNOT_TELL, "")
        reason = why_missing(why)
        text = Text(f"whether {name} runs is not known: {reason.en}", f"无法判断 {name} 是否运行：{reason.zh}")
        return _Standing(name, Verdict.UNKNOWN, text, "?", why.reason)
    if not running:
        return _Standing(name, Verdict.FAIL, Text(f"{name} does not run", f"{name} 未运行"), "not running")
    if name != "rsyslog-remote":
        return _Standing(name, Verdict.PASS, same(""), "running")
    if isinstance(facts.forwards, Missing):
        reason = why_missing(facts.forwards)
        text = Text(f"whether rsyslog forwards is not known: {reason.en}", f"无法判断 rsyslog 是否转发：{reason.zh}")
        return _Standing(name, Verdict.UNKNOWN, text, "?", facts.forwards.reason)
    if facts.forwards:
        return _Standing(name, Verdict.PASS, same(""), f"to {quoted(', '.join(facts.forwards), 60)}")
    text = Text("rsyslog runs, but sends nothing to another host", "rsyslog 在运行，但未向其他主机转发")
    return _Standing(name, Verdict.FAIL, text, "local only")


_RANK = {Verdict.PASS: 0, Verdict.UNKNOWN: 1, Verdict.FAIL: 2}


def _any_of(causes: Causes, what: Text, members: Sequence[_Standing]) -> _Standing | None:
    """The best member decides: one that works is enough, one that could not be looked at might."""
    best = min(members, key=lambda member: _RANK[member.verdict], default=None)
    if best is None:
        causes.unknown(Reason.NO_TARGETS, Text(f"no {what.en} is named", f"未指定{what.zh}"))
    elif best.verdict is Verdict.UNKNOWN:
        causes.unknown(best.reason or Reason.CANNOT_TELL, best.text, best.name)
    elif best.verdict is Verdict.FAIL:
        telling = [member for member in members if member.answer != "not running"] or [best]
        en, zh = "; ".join(m.text.en for m in telling), "；".join(m.text.zh for m in telling)
        names = ", ".join(member.name for member in members)
        causes.fail(Text(f"no {what.en} works ({names}): {en}", f"没有可用的{what.zh}（{names}）：{zh}"))
    return best


def judge_monitoring(case: HostCase) -> Ruling:
    target, facts = host_target(case.host.name), case.facts.get(AgentFacts)
    if isinstance(facts, Missing):
        return unknown(target, facts, _EXPECTED)
    causes = Causes(target, _EXPECTED)
    metrics = [_metrics_agent(case, facts, spec) for spec in case.params.texts("agents_metrics")]
    if not metrics:
        causes.unknown(Reason.NO_TARGETS, Text("no metrics agent is named", "未指定指标代理"))
    for member in metrics:
        _any_of(causes, Text("metrics agent", "指标代理"), [member])
    shown = [*metrics]
    if case.host.gpu:
        gpu = [_gpu_agent(case, facts, spec) for spec in case.params.texts("agents_gpu")]
        if found := _any_of(causes, Text("GPU metrics agent", "GPU 指标代理"), gpu):
            shown.append(found)
    logs = [_log_agent(facts, name) for name in case.params.texts("agents_logs")]
    if found := _any_of(causes, Text("log agent", "日志代理"), logs):
        shown.append(found)
    _judge_journald(causes, facts.journald, case.params.flag("journald_persistent"))
    _judge_restarts(causes, facts, shown)
    _judge_sizes(causes, facts, case.params.texts("log_dirs"))
    _judge_clock(causes, facts)
    journald = facts.journald
    return causes.ruling(
        _observed(shown, journald),
        Text("every agent answers and the journal is persistent", "各代理均正常，且 journald 持久化"),
        material={
            "agents": {member.name: member.answer for member in shown},
            "journald": str(journald.reason) if isinstance(journald, Missing) else journald.persistent,
        },
        evidence=("agents", "listeners"),
    )


def _judge_journald(causes: Causes, journald: Journald | Missing, wanted: bool) -> None:
    if not wanted:
        return
    if isinstance(journald, Missing):
        causes.missing(journald, same("journald"))
    elif not journald.persistent:
        causes.warn(
            Text(
                f"the journal is lost at a reboot: Storage={quoted(journald.storage, 20)}, /var/log/journal "
                f"{'exists' if journald.directory else 'does not exist'}",
                f"重启后日志丢失：Storage={quoted(journald.storage, 20)}，/var/log/journal "
                f"{'存在' if journald.directory else '不存在'}",
            )
        )


def _judge_restarts(causes: Causes, facts: AgentFacts, shown: Sequence[_Standing]) -> None:
    """One look shows how often systemd restarted a unit in all; it counts when the last time was within a day."""
    for member in shown:
        found = facts.unit(member.name)
        if found is None:
            continue
        name, unit = found
        recent = unit.active_for is not None and unit.active_for < _DAY_SECONDS
        if unit.restarts is not None and unit.restarts > _RESTARTS_PER_DAY and recent:
            causes.warn(
                Text(
                    f"{name} was restarted {unit.restarts} times, the last time within a day",
                    f"{name} 已被重启 {unit.restarts} 次，最近一次在一天之内",
                )
            )


def _judge_sizes(causes: Causes, facts: AgentFacts, dirs: Sequence[str]) -> None:
    sizes = facts.sizes
    if not isinstance(sizes, LogSizes):
        why = why_missing(sizes)
        causes.note(Text(f"size of logs not seen: {why.en}", f"未能查看日志大小：{why.zh}"))
        return
    for path in dirs:
        size = sizes.bytes.get(path)
        if size is None or size <= _UNROTATED_BYTES:
            continue
        amount = f"{size / 1e9:.1f} GB"
        if isinstance(facts.rotated, Missing):
            why = why_missing(facts.rotated)
            causes.warn(
                Text(
                    f"{path} holds {amount}, whether it is rotated could not be read: {why.en}",
                    f"{path} 占用 {amount}，无法读取是否轮转：{why.zh}",
                )
            )
        elif not any(pattern.startswith(path.rstrip("/") + "/") for pattern in facts.rotated):
            causes.warn(
                Text(
                    f"{path} holds {amount} and logrotate does not cover it",
                    f"{path} 占用 {amount}，且未配置 logrotate",
                )
            )
    if sizes.partial:
        causes.note(
            Text("sizes of logs are lower bounds: some directories need root", "日志大小为下限：部分目录需要 root 权限")
        )


def _judge_clock(causes: Causes, facts: AgentFacts) -> None:
    answers = {} if isinstance(facts.metrics, Missing) else facts.metrics
    if any(answer.body.values.get("node_timex_sync_status") == 0 for answer in answers.values()):
        causes.warn(
            Text(
                "node_exporter says that the host's clock is not synchronised (node_timex_sync_status 0)",
                "node_exporter 显示主机时钟未同步（node_timex_sync_status 0）",
            )
        )


def _observed(shown: Sequence[_Standing], journald: Journald | Missing) -> Text:
    parts = [f"{member.name} {member.answer}" for member in shown]
    if isinstance(journald, Missing):
        parts.append("journald ?")
    else:
        parts.append(f"journald {'persistent' if journald.persistent else 'volatile'}")
    return same(", ".join(parts))


JUDGES = (HostJudge("hard.monitoring-logging", ("agents", "listeners"), ("agents", "listeners"), judge_monitoring),)
