"""The sentences of the ladder's screen."""

from __future__ import annotations

from collections.abc import Mapping

from dstui.load.ladder import Loop
from dstui.load.live import Phase
from dstui.model import Text

LADDER = Text("Ladder", "负载阶梯")
LEVELS = Text("Levels", "各级")
OVER_USERS = Text("Over users", "随用户数")
OVER_TIME = Text("Over time", "随时间")
DETAILS = Text("Details", "详情")
TABS = Text("users|time|details", "用户数|时间|详情")

# Columns: what stands over the head, and the head
STAGE = Text("stage", "阶段")
USERS = Text("users", "用户")
OK = Text("ok", "成功")
ERRORS = Text("errors", "错误")
SHED = Text("shed", "限流")
TOKENS = Text("tokens", "生成tok")
PER_SECOND = Text("/s", "/秒")
USE = Text("use", "利用率")
HOST = Text("host", "主机")
MEMORY = Text("mem", "内存")
CACHE = Text("cache", "缓存")
NETWORK = Text("net", "网络")
GENERATOR = Text("generator", "压测端")
LAG_CPU = Text("lag cpu", "延迟 cpu")
STATE = Text("state", "状态")

PHASES: Mapping[Phase, Text] = {
    Phase.WAITING: Text("waiting", "等待"),
    Phase.PAUSE: Text("rest", "间歇"),
    Phase.RAMP: Text("ramp", "加压"),
    Phase.WARM: Text("warm-up", "预热"),
    Phase.WINDOW: Text("window", "窗口"),
    Phase.DRAIN: Text("drain", "收尾"),
    Phase.DONE: Text("done", "完成"),
}
LOOPS: Mapping[Loop, Text] = {
    Loop.CLOSED: Text("each user asks again when answered", "每个用户得到回答后再发下一个"),
    Loop.POISSON: Text("requests arrive at random (Poisson)", "请求随机到达（泊松）"),
    Loop.CONSTANT: Text("requests arrive evenly", "请求匀速到达"),
}
NOT_RUN = Text("not run", "未运行")
STOPPED = Text("stopped", "已停止")
WORKER_LOST = Text("worker lost", "压测进程中断")
GENERATOR_BOUND = Text("generator", "压测端瓶颈")
NOTHING_COUNTS = Text("nothing counts", "无有效请求")
SUMS = Text("sums differ", "计数不符")
ERRORS_SHARE = Text("errors {share}", "错误 {share}")
SHED_SHARE = Text("shed {share}", "限流 {share}")
KNEE_MARK = Text("knee", "拐点")

# First two lines
LOCAL = Text("on this machine", "在本机施压")
ON_RAY = Text("workers on Ray: {host}", "在 Ray 上施压：{host}")
LEFT = Text("{left} left", "还剩 {left}")
STAGE_OF = Text("stage {number} of {count}", "第 {number}/{count} 阶段")
ENDS_ABOUT = Text("ends about {at}", "约 {at} 结束")
IN_FLIGHT = Text("{count} under way", "{count} 个请求进行中")
STARTING = Text("starting", "正在启动")
STOPPING = Text("stopping ({why}): requests under way may still end", "正在停止（{why}）：进行中的请求可以结束")
STOPPED_BECAUSE = Text("stopped: {why}", "已停止：{why}")
ENDED_AT = Text("ended {at}, {age} ago", "{at} 结束，{age}前")
KNEE_AT = Text("knee at {stage}, {rate} tokens/s", "拐点在 {stage}，{rate} token/秒")
NO_KNEE = Text("no knee seen", "未见拐点")
NEVER_RUN = Text("no ladder recorded yet", "尚无阶梯记录")
RUN_AGAIN = Text("r runs it again", "按 r 再运行")
PRESS_R = Text("press r to start", "按 r 开始")
CANNOT = Text("cannot start: {why}", "无法开始：{why}")
FAILED = Text("The ladder ended with an error: {why}", "阶梯因错误结束：{why}")
PLANNED = Text(
    "Press r to run these levels; dstui first shows what it will do and asks.",
    "按 r 运行以上各级；开始前会列出将做什么并询问。",
)
NOTHING_PLANNED = Text("No ladder can be run now: {why}", "现在不能运行阶梯：{why}")
TRY_AGAIN = Text("Press r to look again, esc to go back.", "按 r 重新检查，按 esc 返回。")
NOTHING_YET = Text("Charts appear here once a level has answers.", "某一级有回答后，这里显示图表。")
NO_LADDER_HERE = Text("No load ladder can be run here.", "此处不能运行负载阶梯。")

# Charts
TTFT_CHART = Text("TTFT ms █p50 ░p95", "首 token ms █p50 ░p95")
TOKENS_CHART = Text("tokens/s", "token/秒")
GPU_CHART = Text("GPU use %", "GPU 利用率 %")
GPU_USE = Text("GPU use", "GPU 利用率")
RUNNING = Text("running", "运行中")
WAITING_REQUESTS = Text("waiting", "排队")
KV = Text("KV cache", "KV 缓存")
WINDOW_NOT_BEGUN = Text("The window of {stage} has not begun.", "{stage} 的窗口尚未开始。")
NOT_SEEN = Text("The cluster was not seen in the window of {stage}.", "{stage} 的窗口内没有集群数据。")
NOT_SEEN_BECAUSE = Text(
    "The cluster was not seen in the window of {stage}: {why}", "{stage} 的窗口内没有集群数据：{why}"
)
TOP_IS = Text("of {top}", "满格 {top}")

# Details
D_STAGE = Text("Stage", "阶段")
D_REQUESTS = Text("Requests", "请求")
D_ERRORS = Text("Errors", "错误")
D_TIMES = Text("Times, ms", "时间，ms")
FROM_DUE = Text("from due", "自应发起")
D_TOKENS = Text("Tokens", "token 数")
D_GENERATOR = Text("Generator", "压测端")
D_HOSTS = Text("Hosts", "主机")
D_REPLICAS = Text("Replicas", "副本")
D_SAID = Text("Server said", "服务端回应")
D_SLO = Text("Within SLO", "达标")
KIND_SINGLE = Text("one user after the other", "单用户顺序请求")
KIND_DIRECT = Text("one user, past the balancer", "单用户，绕过负载均衡")
KIND_LEVEL = Text("{users} users at once", "{users} 个并发用户")
KIND_BATCH = Text("{users} users, the engine's full batch", "{users} 个用户，跑满引擎批次")
AT_RATE = Text("{rate:g} requests/s", "{rate:g} 请求/秒")
AGAINST = Text("against {url}", "发往 {url}")
BEGUN_SUM = Text(
    "{begun} begun = {ok} ok + {shed} shed + {errors} errors + {aborted} cut off + {outside} outside the window",
    "共发出 {begun} = 成功 {ok} + 限流 {shed} + 错误 {errors} + dstui 中断 {aborted} + 窗口之外 {outside}",
)
SUM_DIFFERS = Text("the parts are {parts}: do not trust this stage", "各项之和为 {parts}：不可采信此阶段")
UNDER_WAY = Text("{count} under way", "{count} 个进行中")
NOT_COUNTED_YET = Text("the window has not begun; none of this counts", "窗口尚未开始，以下均不计入")
OUTSIDE_ERRORS = Text("{count} of those outside went wrong", "窗口之外有 {count} 个出错")
TOKENS_LINE = Text("{into} in, {out} out, {rate}/s", "输入 {into}，输出 {out}，{rate}/秒")
TOKENS_OUT = Text("{out} out, {rate}/s", "输出 {out}，{rate}/秒")
UNMETERED = Text("{count} answers without usage, their pieces were counted", "{count} 个回答没有 usage，按片段计数")
GOOD = Text("{good} of {ok} ok answers within {limit}", "{ok} 个成功回答中 {good} 个在 {limit} 以内")
LAG = Text("event loop late by {lag} (p99)", "事件循环延迟 {lag}（p99）")
CPU_BUSIEST = Text("busiest worker {cpu} of a core", "最忙进程占单核 {cpu}")
WORKERS = Text("{count} workers", "{count} 个进程")
CLOCK_JUMP = Text("the clock jumped by {jump}", "时钟跳变 {jump}")
UNKNOWN_FIGURE = Text("unknown", "未知")
HOST_LINE = Text("GPU {use}, memory {memory}, network {network}", "GPU {use}，内存 {memory}，网络 {network}")
SAMPLES = Text("{count} of {expected} samples", "采样 {count}/{expected}")
OOM = Text("{count} OOM kills", "OOM {count} 次")
THROTTLED = Text("GPU {gpus} throttled: {why}", "GPU {gpus} 降频：{why}")
GPU_UNSEEN = Text("GPUs not seen: {why}", "看不到 GPU：{why}")
REPLICA_LINE = Text(
    "running {running}, waiting {waiting}, KV p95 {kv}, TTFT p50/p95 {ttft}, queue p95 {queue}",
    "运行 {running}，排队 {waiting}，KV p95 {kv}，TTFT p50/p95 {ttft}，排队时间 p95 {queue}",
)
PREEMPTIONS = Text("{count} preemptions", "抢占 {count} 次")
RESTARTED = Text("restarted", "已重启")
MORE = Text("{count} more", "另有 {count} 个")
DOUBTED = Text("why this stage proves nothing: {why}", "此阶段不能作数的原因：{why}")

# Before the start, and leaving
GUARD_TITLE = Text("Start the load ladder?", "开始负载阶梯？")
GUARD_LOAD = Text(
    "This puts real load on {environment}: up to {users} users at once.",
    "将对 {environment} 施加真实负载：最多 {users} 个并发用户。",
)
GUARD_ENDPOINT = Text("Endpoint", "端点")
GUARD_MODEL = Text("Model", "模型")
GUARD_USERS = Text("Users", "用户")
GUARD_STAGES = Text("Stages", "阶段")
GUARD_PROMPTS = Text("Prompts", "请求")
GUARD_FROM = Text("Load from", "施压端")
GUARD_TAKES = Text("Takes", "时长")
GUARD_STOPS = Text("Ends early", "提前结束")
USERS_MOST = Text("{users} at most; {how}", "最多 {users}；{how}")
STAGES_LINE = Text("{count}: {names}", "{count} 个：{names}")
PROMPTS_LINE = Text("{into} tokens in, {out} out, {cache}", "输入 {into} token，输出 {out}，{cache}")
PROMPTS_FILE = Text("from {file}, {cache}", "取自 {file}，{cache}")
FRESH = Text("no cached prefixes", "不命中前缀缓存")
CACHED = Text("prefixes may be cached", "可命中前缀缓存")
TAKES_LINE = Text("about {span}, until {until}", "约 {span}，到 {until}")
STOPS_LINE = Text(
    "above {rate} errors for {seconds}; x stops it at any time", "错误率超过 {rate} 持续 {seconds}；随时可按 x 停止"
)
GUARD_YES = Text("start the ladder", "开始")
GUARD_NO = Text("do not start", "不开始")
STOPPED_BY = Text("{person} pressed x", "{person} 按了 x")
STOPPED_LEAVING = Text("{person} left dstui", "{person} 退出了 dstui")
STOPPED_ENDED = Text("dstui was ended", "dstui 被终止")
NOTHING_TO_STOP = Text("No ladder is running.", "没有正在运行的阶梯。")
ALREADY_RUNS = Text("The ladder is running; x stops it.", "阶梯正在运行；按 x 停止。")
ENDED = Text("The ladder ended: {count} of {all} stages measured.", "阶梯结束：{all} 个阶段中完成 {count} 个。")
ENDED_EARLY = Text(
    "The ladder stopped after {count} of {all} stages: {why}", "阶梯已停止，{all} 个阶段中完成 {count} 个：{why}"
)
QUIT_TITLE = Text("A load ladder is running", "负载阶梯正在运行")
QUIT_LADDER = Text(
    "The ladder is at {stage}. Leaving stops it: requests under way may end, and what was measured is recorded.",
    "阶梯进行到 {stage}。退出会停止它：进行中的请求可以结束，已测结果会被记录。",
)
QUIT_STOP = Text("stop it, stay", "停止，不退出")
LEAVING = Text(
    "dstui leaves when the ladder has ended; q again leaves at once.", "阶梯结束后 dstui 退出；再按 q 立即退出。"
)
STRIP = Text("ladder", "负载阶梯")
STRIP_STOPPING = Text("stopping", "正在停止")
