"""The sentences of the Ray, vLLM and event panels and of the trail."""

from __future__ import annotations

from collections.abc import Mapping

from dstui.model import Text
from dstui.telemetry.ray_compare import Joined

RAY = Text("Ray", "Ray")
VLLM = Text("vLLM", "vLLM")
EVENTS = Text("events", "事件")
NOTHING = Text("nothing has changed yet", "尚无变化")
UNKNOWN = Text("? unknown", "? 未知")
OLD = Text("! {age} old", "! {age} 前")
LOST = Text("! lost, {age} old", "! 已失联，{age} 前")
INCOMPLETE = Text("incomplete: {why}", "不完整：{why}")

NODES = Text("nodes", "节点")
ALIVE_OF = Text("{alive} of {expected} alive", "{alive}/{expected} 存活")
STRANGERS = Text("{count} not in the inventory: {names}", "{count} 个不在清单中：{names}")
RAY_AGE = Text("Ray's own use report is {age} old", "Ray 自身的用量报告已是 {age} 前")
SERVE = Text("Serve", "Serve")
NO_SERVE = Text("no application is deployed", "未部署应用")
RESOURCES = Text("resources", "资源")
GPU_COUNTS = Text("GPU: Ray {ray}, inventory {inventory}, NVML {nvml}", "GPU：Ray {ray}，清单 {inventory}，NVML {nvml}")
USED = Text("used {used} of {total} GPU", "已用 {used}/{total} GPU")
DEMANDS = Text("pending", "等待资源")
NO_DEMANDS = Text("nothing waits for resources", "没有等待资源的请求")
GROUPS = Text("groups", "资源组")
INFEASIBLE = Text("can never be placed", "无法满足")
JOBS = Text("jobs", "作业")
NO_JOBS = Text("none", "无")
REPLICAS = Text("{running} of {target} replicas", "{running}/{target} 个副本")
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
GEN = Text("gen tok/s", "生成 tok/s")
PROMPT = Text("prompt/s", "提示/s")
PER_S = Text("req/s", "请求/s")
PREEMPT = Text("preempt/m", "抢占/分")
REJECT = Text("reject/m", "拒绝/分")
HIT = Text("prefix", "前缀命中")
QUEUE = Text("queue p95", "排队 p95")
TOTAL = Text("total", "合计")
REPLICAS_LIVE = Text("{live} of {count} replicas live", "{live}/{count} 个副本在线")
NOBODY = Text("no replica is watched", "没有监控副本")
RESTARTED = Text("restarted", "已重启")
CANNOT_TELL = Text("cannot tell: {what}", "无法判断：{what}")
CHART_TOKENS = Text("generation tokens/s, all replicas", "生成 tokens/s（全部副本）")
CHART_REQUESTS = Text("requests running", "运行中请求")
CHART_WAITING = Text("requests waiting", "排队请求")
CHART_KV = Text("fullest KV cache, %", "最满的 KV 缓存，%")
CHART_TTFT = Text("time to first token p95, ms", "首 token 延迟 p95，ms")

TRAIL = Text("trail of {replica}", "{replica} 的追踪")
STEP_REPLICA = Text("replica", "副本")
STEP_NODE = Text("Ray node", "Ray 节点")
STEP_HOST = Text("host", "主机")
STEP_PROCESS = Text("processes", "进程")
STEP_GPU = Text("GPU", "GPU")
STEP_XID = Text("XID", "XID")
STEP_AGAINST = Text("against it", "异常")
NOT_KNOWN = Text("? not known", "? 未知")
NO_XID = Text("none in the last hour", "最近一小时没有")
XID_UNKNOWN = Text("the kernel's log of {host} cannot be read", "无法读取 {host} 的内核日志")
NOTHING_AGAINST = Text("nothing stands against it", "没有异常")
NO_UUID = Text("UUID not known", "UUID 未知")
