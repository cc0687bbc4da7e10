"""The sentences of the monitor."""

from __future__ import annotations

from collections.abc import Mapping

from dstui.model import Text
from dstui.telemetry.live_grid import GridSort
from dstui.telemetry.live_status import Status

MONITOR = Text("Monitor", "监控")
REPLAY = Text("REPLAY", "回放")
HOSTS = Text("{count} hosts", "{count} 台主机")
EVERY = Text("every {seconds:g} s", "每 {seconds:g} 秒")
SORTED = Text("sort: {sort}", "排序：{sort}")
SORTS: Mapping[GridSort, Text] = {
    GridSort.TROUBLE: Text("trouble", "异常"),
    GridSort.NAME: Text("name", "名称"),
    GridSort.USE: Text("least used", "利用率最低"),
    GridSort.TEMP: Text("warmest", "温度最高"),
    GridSort.MEMORY: Text("fullest", "显存最满"),
}
ONLY_MARKED = Text("only what stands out", "只看异常")
FOUND = Text("/{query}: {left} of {hosts}", "/{query}：{left}/{hosts}")
PAUSED = Text("PAUSED since {at}, {age} ago", "已暂停：{at} 起，{age}")
PAUSED_REPLAY = Text("paused", "已暂停")
AT_END = Text("at its end", "已到结尾")
WATCHING_ENDED = Text("watching ended: {why}", "监控已中断：{why}")
TABS = Text("GPU|Ray|vLLM|events", "GPU|Ray|vLLM|事件")
SPEED = Text("x{speed:g}", "{speed:g} 倍速")
RECORDING = Text("● recording", "● 正在录制")
RECORDED = Text(
    "Recorded into {file}; look at it with: dstui replay {file}", "已录制到 {file}；回放：dstui replay {file}"
)
RECORD_ENDED = Text("The recording ended: {why}", "录制已中断：{why}")
NO_RECORDING = Text("A replay cannot be recorded.", "回放时不能录制。")
GPUS = Text("GPU", "GPU")
ALIKE = Text("{first} … {last} ({count} hosts, alike)", "{first} … {last}（{count} 台，状态相同）")
ALIKE_SHORT = Text("{count} alike: {first} … {last}", "{count} 台相同：{first} … {last}")
USE_FROM_TO = Text("use {low:.0f}-{high:.0f}%", "利用率 {low:.0f}-{high:.0f}%")
NO_GPU = Text("no GPU", "无 GPU")
LOST = Text("lost {age}", "已失联 {age}")
LOST_BECAUSE = Text("lost {age}: {why}", "已失联 {age}：{why}")
OLD = Text("{age} old", "{age} 前")
UNKNOWN = Text("unknown", "未知")
UNKNOWN_BECAUSE = Text("unknown: {why}", "未知：{why}")
NOTHING_SHOWN = Text("No host stands out. f shows all.", "没有异常主机。按 f 显示全部。")
NOTHING_FOUND = Text("No host matches. Clear the search with esc.", "没有匹配的主机。按 esc 清除搜索。")
NO_HOSTS = Text("The inventory has no hosts.", "清单中没有主机。")
STATES: Mapping[Status, Text] = {
    Status.LIVE: Text("{count} live", "在线 {count}"),
    Status.LATE: Text("{count} late", "延迟 {count}"),
    Status.LOST: Text("{count} lost", "失联 {count}"),
    Status.UNKNOWN: Text("{count} unknown", "未知 {count}"),
}
ALL_LIVE = Text("all live", "全部在线")
SEARCH = Text("host name or what stands out", "主机名或异常")
NO_TRAIL = Text("Choose a vLLM replica to follow.", "请选择要追踪的 vLLM 副本。")
NOT_IN_DEMO = Text("Only the demo's nodes can be killed here.", "只有演示环境可以杀死节点。")

HOST_TITLE = Text("host {name}", "主机 {name}")
NOT_HEARD = Text("Nothing was heard of this host.", "未收到这台主机的数据。")
CPU = Text("CPU", "CPU")
LOAD = Text("load {load:.1f} on {cpus:.0f} CPUs", "负载 {load:.1f}（{cpus:.0f} 个 CPU）")
MEMORY = Text("memory", "内存")
OF_GIB = Text("{used:,.0f} of {total:,.0f} GiB", "{used:,.0f} / {total:,.0f} GiB")
SWAP = Text("swap", "交换区")
SWAP_TOLD = Text(
    "{used:.1f} GiB, in {into:.0f}/s, out {out:.0f}/s", "{used:.1f} GiB，换入 {into:.0f}/秒，换出 {out:.0f}/秒"
)
OOM = Text("OOM kills", "OOM 次数")
SINCE_BOOT = Text("{count:.0f} since boot", "开机以来 {count:.0f} 次")
LOST_SAMPLES = Text("lost samples", "丢失采样")
LINK_SPEED = Text("of {speed}", "链路 {speed}")
NO_SPEED = Text("link speed not known", "链路速率未知")
NO_RDMA = Text("no RDMA ports", "无 RDMA 端口")
RDMA_UNREADABLE = Text("RDMA ports cannot be read", "无法读取 RDMA 端口")
GPUS_OF = Text("GPUs, by {source}", "GPU（来自 {source}）")
GPUS_MISSING = Text("GPUs cannot be seen: {why}", "看不到 GPU：{why}")
STANDS_OUT = Text("Stands out", "异常")
NOTHING_OUT = Text("nothing", "无")
HISTORY = Text("history: the last {span}", "历史：最近 {span}")
HIGHEST = Text("highest {rate}", "最高 {rate}")
LAST_HEARD = Text("last sample at {at}, {age} ago", "最近采样：{at}，{age} 前")
USE_BEFORE = Text("GPU use before that", "此前的 GPU 利用率")
GPU_AGE = Text("readings {age} old", "读数为 {age} 前")
SLOW_AGE = Text("processes and limits {age} old", "进程与上限为 {age} 前")
XIDS_UNREADABLE = Text("XIDs cannot be read", "无法读取 XID")
XIDS_UNREADABLE_BECAUSE = Text("XIDs cannot be read: {why}", "无法读取 XID：{why}")
UUID_UNKNOWN = Text("UUID not known", "UUID 未知")
ECC_UNKNOWN = Text("ECC errors not known", "ECC 错误未知")
CLOCKS_UNKNOWN = Text("reasons for slow clocks not known", "降频原因未知")
PCIE_UNKNOWN = Text("PCIe link not known", "PCIe 链路未知")
PROCESS = Text("1 process: {pids}", "1 个进程：{pids}")
PROCESSES = Text("{count} processes: {pids}", "{count} 个进程：{pids}")
NO_PROCESSES = Text("no processes", "无进程")
PROCESSES_UNKNOWN = Text("processes not known", "进程未知")
SLOWED = Text("clocks: {reasons}", "降频原因：{reasons}")
ECC = Text("ECC uncorrected {count:.0f}", "ECC 不可纠正 {count:.0f}")
