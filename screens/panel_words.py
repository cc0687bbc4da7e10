"""The sentences of the Ray, vLLM and event panels and of the trail."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from dstui.model import Lang, Text
from dstui.telemetry.ray_compare import Joined

RAY = Text("Ray", "Ray")
VLLM = Text("vLLM", "vLLM")
EVENTS = Text("events", "事件")
NOTHING = Text("nothing has changed yet", "尚无变化")
UNKNOWN = Text("? unknown", "? 未知")
OLD = Text("! {age} old", "! {age} 前")
LOST = Text("! lost, {age} old", "! 已失联，{age} 前")
INCOMPLETE = Text("incomplete: {why}", "不完整：{why}")
MORE = Text("… and {count} more", "… 另有 {count} 项")

NODES = Text("nodes", "节点")
ALIVE_OF = Text("{alive} of {expected} alive", "{alive}/{expected} 存活")
STRANGERS = Text("{count} not in the inventory: {names}", "{count} 个不在清单中：{names}")
RAY_AGE = Text("Ray's own view is {age} old", "Ray 自身的数据已是 {age} 前")
ASKED = Text("{age} ago", "{age} 前")
UP_FOR = Text("up {age}", "已运行 {age}")
REPORTED = Text("reported {age} ago", "{age} 前上报")
HEAD = Text("head", "头节点")
DEATHS = Text("died {count} times", "死亡 {count} 次")
DIED_ONCE = Text("died once", "死亡 1 次")
SERVE = Text("Serve", "Serve")
NO_SERVE = Text("no application is deployed", "未部署应用")
RESOURCES = Text("resources", "资源")
GPU_COUNTS = Text("GPU: Ray {ray}, inventory {inventory}, NVML {nvml}", "GPU：Ray {ray}，清单 {inventory}，NVML {nvml}")
USED = Text("{used} used", "已用 {used}")
USED_CPU = Text("CPU {used} of {total} used", "CPU 已用 {used}/{total}")
DEMANDS = Text("pending", "等待资源")
NO_DEMANDS = Text("nothing waits for resources", "没有等待资源的请求")
GROUPS = Text("groups", "放置组")
INFEASIBLE = Text("can never be placed", "无法满足")
ACTORS = Text("actors", "Actor 进程")
JOBS = Text("jobs", "作业")
NO_JOBS = Text("none", "无")
REPLICAS = Text("{running} of {target} replicas", "{running}/{target} 个副本")
ON_NODE = Text("on {node}", "位于 {node}")
PID = Text("pid {pid}", "进程 {pid}")
JOINED: Mapping[Joined, Text] = {
    Joined.ALIVE: Text("alive", "存活"),
    Joined.DEAD: Text("DEAD", "已死亡"),
    Joined.ABSENT: Text("ABSENT", "未加入"),
    Joined.TWICE: Text("two raylets at once", "同时有两个 raylet"),
    Joined.UNCLEAR: Text("unclear", "状态不明"),
    Joined.UNKNOWN: Text("unknown", "未知"),
}
WRONG_ADDRESS = Text("joined as {address}", "以 {address} 加入")

REPLICA = Text("replica", "副本")
RUN = Text("run", "运行")
WAIT = Text("wait", "排队")
GEN = Text("gen tok/s", "生成tok/s")
PROMPT = Text("prompt/s", "提示/s")
PER_S = Text("req/s", "请求/s")
PREEMPT = Text("preempt/m", "抢占/分")
REJECT = Text("reject/m", "拒绝/分")
HIT = Text("prefix", "前缀命中")
QUEUE = Text("queue p95", "排队p95")
TOTAL = Text("total", "合计")
REPLICAS_LIVE = Text("{live} of {count} replicas live", "{live}/{count} 个副本在线")
TIMES_IN = Text("times in ms", "延迟单位 ms")
NOBODY = Text("no replica is watched", "没有监控副本")
RESTARTED = Text("restarted", "已重启")
CANNOT_TELL = Text("cannot tell: {what}", "无法判断：{what}")
NOT_ON_PAGE = Text("{who}: no metric on this page for {what}", "{who}：页面上没有这些指标：{what}")
EVERY_REPLICA = Text("every replica", "所有副本")
CHART_TOKENS = Text("generation tokens/s", "生成 tokens/s")
CHART_RUNNING = Text("requests running", "运行中请求")
CHART_WAITING = Text("requests waiting", "排队请求")
CHART_KV = Text("fullest KV cache, %", "最满的 KV 缓存，%")
CHART_TTFT = Text("time to first token p95, ms", "首 token 延迟 p95，ms")
CHART_ITL = Text("inter-token latency p95, ms", "token 间延迟 p95，ms")

HOST_SOURCE = Text("host", "主机")

TRAIL = Text("trail of {replica}", "{replica} 的追踪")
STEP_REPLICA = Text("replica", "副本")
STEP_APPLICATION = Text("application", "应用")
STEP_NODE = Text("Ray node", "Ray 节点")
STEP_HOST = Text("host", "主机")
STEP_PROCESS = Text("processes", "进程")
STEP_GPU = Text("GPU", "GPU")
STEP_XID = Text("XID", "XID")
STEP_CHECK = Text("check", "检查项")
ON_GPU = Text("{pid} on GPU {gpus}", "{pid}（位于 GPU {gpus}）")
NOT_KNOWN = Text("? not known", "? 未知")
NO_XID = Text("none in the last hour", "最近一小时没有")
XID_AGO = Text("{at}, {age} ago", "{at}，{age} 前")
XID_UNKNOWN = Text("the kernel's log of {host} cannot be read", "无法读取 {host} 的内核日志")
XID_NOT_SEEN = Text("{host} cannot be seen now", "目前看不到 {host}")
NO_UUID = Text("UUID not known", "UUID 未知")
NOT_IN_SERVE = Text("not found in Ray Serve", "Ray Serve 中没有")
COUNTS = Text(
    "run {run} · wait {wait} · KV {kv} · {gen} tokens/s", "运行 {run} · 排队 {wait} · KV {kv} · {gen} tokens/s"
)
LATENCIES = Text(
    "p95 ms: TTFT {ttft} · ITL {itl} · E2E {e2e} · queue {queue}",
    "p95 ms：TTFT {ttft} · ITL {itl} · E2E {e2e} · 排队 {queue}",
)
GPU_NUMBERS = Text("use {use} · mem {mem} · {temp} °C · {power} W", "利用率 {use} · 显存 {mem} · {temp} °C · {power} W")


def listed(parts: Iterable[str], lang: Lang) -> str:
    """`a, b`."""
    return ("、" if lang is Lang.ZH else ", ").join(parts)


def one_after_another(sentences: Iterable[str], lang: Lang) -> str:
    """`a; b`."""
    return ("；" if lang is Lang.ZH else "; ").join(sentences)


def because(what: str, why: str, lang: Lang) -> str:
    """`what: why`."""
    return f"{what}{'：' if lang is Lang.ZH else ': '}{why}"
