"""Every sentence that the screens write, in both languages. Placeholders are named; remote text is never here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from dstui.model import Kind, Lang, Reason, Scope, SideEffect, Text, same


@dataclass(frozen=True, slots=True)
class Plural:
    """A counted thing: `1 host`, `3 hosts`."""

    one: Text
    many: Text

    def of(self, count: int, lang: Lang) -> str:
        return (self.one if count == 1 else self.many)[lang].format(count=count)


# Counted things
HOSTS = Plural(Text("1 host", "1 台主机"), Text("{count} hosts", "{count} 台主机"))
PAIRS = Plural(Text("1 pair", "1 对"), Text("{count} pairs", "{count} 对"))
TARGETS = Plural(Text("1 target", "1 个对象"), Text("{count} targets", "{count} 个对象"))
COMMANDS = Plural(Text("1 piece of evidence", "1 条证据"), Text("{count} pieces of evidence", "{count} 条证据"))
ANSWERS = Plural(Text("1 answer", "1 条回答"), Text("{count} answers", "{count} 条回答"))
SAME = Text(" ({count}, same)", "（{count}，相同）")
AND_ALSO = Text(", ", "，")
COLON = Text(": ", "：")
BRACKETED = Text(" ({what})", "（{what}）")
DONE_OF = Text("{done} of {total}", "{done} / {total}")
DONE_CHECKS = Text("{done} of {total} checks let the gate open", "{total} 项中 {done} 项不阻碍门禁")

# Times
YESTERDAY = Text("yesterday {time}", "昨天 {time}")
UNTIL = Text("until {day}", "至 {day}")

# What a check is
KINDS: Mapping[Kind, Text] = {
    Kind.AUTO: Text("automatic", "自动"),
    Kind.ASSISTED: Text("assisted: evidence is gathered, a person decides", "辅助：收集证据，由人决定"),
    Kind.MANUAL: Text("a person decides", "由人决定"),
    Kind.LOAD: Text("load test", "负载测试"),
    Kind.REHEARSAL: Text("rehearsal", "演练"),
}
SCOPES: Mapping[Scope, Text] = {
    Scope.EACH_HOST: Text("each host", "逐台主机"),
    Scope.EACH_PAIR: Text("each pair of hosts", "逐对主机"),
    Scope.CLUSTER: Text("the cluster", "整个集群"),
    Scope.ENDPOINT: Text("the endpoints", "服务端点"),
    Scope.CONTROLLER: Text("this machine", "本机"),
    Scope.ORGANISATION: Text("the organisation", "组织"),
}
SIDE_EFFECTS: Mapping[SideEffect, Text] = {
    SideEffect.S0: Text("read-only", "只读"),
    SideEffect.S1: Text("writes and removes a temporary file", "写入并删除临时文件"),
    SideEffect.S2: Text("opens a short listener or sends few requests", "短暂监听端口或发送少量请求"),
    SideEffect.S3: Text("makes load", "产生负载"),
    SideEffect.S4: Text("stops or isolates something", "停止或隔离组件"),
}
REASONS: Mapping[Reason, Text] = {
    Reason.UNREACHABLE: Text("unreachable", "无法连接"),
    Reason.TOOL_MISSING: Text("tool missing", "缺少工具"),
    Reason.PERMISSION: Text("no permission", "权限不足"),
    Reason.TIMEOUT: Text("timed out", "超时"),
    Reason.PARSE_ERROR: Text("unreadable answer", "回答无法解析"),
    Reason.NO_CREDENTIAL: Text("no credential", "缺少凭据"),
    Reason.BLOCKED_BY: Text("blocked", "被阻塞"),
    Reason.NOT_RUN: Text("not run", "未运行"),
    Reason.BUDGET: Text("out of time", "时间预算用尽"),
    Reason.NO_TARGETS: Text("no targets", "没有对象"),
    Reason.CANNOT_TELL: Text("cannot tell", "无法判断"),
    Reason.PROBE_ERROR: Text("probe failed", "检查出错"),
    Reason.NOT_BUILT: Text("no probe yet", "尚无自动检查"),
    Reason.DISABLED: Text("disabled", "已停用"),
}
BLOCKED_BY = Text("blocked by {what}", "被 {what} 阻塞")
NEEDS_A_PERSON = Text("needs a person", "需要人签署")
NEEDS_SECOND = Text("second person", "需第二人")
NO_PROBE = Text("no probe yet", "尚无自动检查")
SIGNATURE_LAPSED = Text("signature lapsed", "签署已失效")

# Header and live strip
READING = Text("Reading the checklist …", "正在读取检查清单 …")
OPENING = Text("Reading the inventory and the journal …", "正在读取清单文件和日志 …")
RUN_NUMBER = Text("run {run}", "第 {run} 次运行")
NO_RUN_YET = Text("no run yet", "尚未运行")
GPUS = Text("{count} GPU", "{count} 块 GPU")
SSH_REACHABLE = Text("SSH {reachable}/{total}", "SSH {reachable}/{total} 台")
SIMULATED = Text("SIMULATED", "模拟数据 SIMULATED")
GATE = Text("gate", "门禁")
GATE_OPEN = Text("OPEN", "开启")
GATE_SHUT = Text("SHUT", "关闭")
JOURNAL_BROKEN = Text("JOURNAL BROKEN at row {seq}", "日志在第 {seq} 行断链")
PHASES: Mapping[str, Text] = {
    "waiting": Text("waiting", "等待"),
    "connecting": Text("connecting", "连接中"),
    "gathering": Text("gathering", "采集中"),
    "done": Text("done", "完成"),
    "unreachable": Text("unreachable", "无法连接"),
}
STRIP_RUNNING = Text(
    "run {run} · {done} of {total} checks · {elapsed}", "第 {run} 次运行 · {done}/{total} 项 · {elapsed}"
)
STRIP_STARTING = Text("starting a run", "正在启动运行")
WAITS_FOR = Text("waits for {what}", "等待 {what}")
WAITS_MORE = Text("and {count} more", "，另有 {count} 台")
STRIP_IDLE = Text("run {run} finished {at}", "第 {run} 次运行完成于 {at}")
STRIP_INTERRUPTED = Text(
    "run {run} was cut short with {done} of {total} settled · ctrl+p, Resume goes on",
    "第 {run} 次运行中断，{total} 项中 {done} 项已有结果 · ctrl+p 选“继续”",
)
STRIP_NEVER = Text("nothing has run yet · R runs every check", "尚未运行 · 按 R 运行全部检查")

# Checklist pane
CHECKLIST = Text("Checklist", "检查清单")
CHECK_DETAIL = Text("Detail", "详情")
FILTERED = Text("not green", "未通过")
FOUND = Text("{count} of {total}", "{count} / {total}")
SEARCH_PROMPT = Text("search: id, title in either language, section", "搜索：编号、中英文标题、章节")
NOTHING_FOUND = Text(
    "No check matches. Change the search, or press esc to see all.", "没有匹配的检查。修改搜索，或按 esc 显示全部。"
)
ALL_GREEN = Text("Nothing here is red. Press f to see all checks.", "没有未通过的项。按 f 显示全部检查。")
ALL_GREEN_HERE = Text("✓ every check here is green", "✓ 这里的检查全部通过")
ALL_GREEN_NOTE = Text("Every check is green.", "所有检查都已通过。")
R_RUNS_SECTION = Text("r runs the {count} checks here that have a probe", "按 r 运行这里可自动检查的 {count} 项")
NO_PROBE_HERE = Text(
    "No check here can be probed yet; sign them one by one (s).", "这里的检查尚不能自动进行；请逐项签署 (s)。"
)

# Detail
WHY = Text("Why", "为何重要")
REMEDY = Text("Remedy", "处理办法")
PITFALLS = Text("Pitfalls", "易错之处")
PRIVILEGES = Text("Privileges", "所需权限")
EVIDENCE = Text("Evidence", "证据")
SIGNED_BY = Text("Signed", "签署")
WAIVER = Text("Waiver", "豁免")
NOTE = Text("Note", "备注")
HISTORY = Text("History", "历史")
EVIDENCE_OF = Text("Evidence of {target}", "{target} 的证据")
EXPECTED = Text("Expected", "期望")
EXPECTED_IS = Text("expected: {what}", "期望：{what}")
ON_OF = Text(" on {count} of {total}", " {count} / {total}")
DOCUMENT_SAYS = Text("the document says {value}", "文档为 {value}")
DOCUMENT_SILENT = Text("the document sets none", "文档未规定")
ORIGIN_DOCUMENT = Text("document", "文档")
MORE_ENTER = Text("… {count} more, enter shows them", "… 还有 {count} 条，回车查看")
NO_EVIDENCE = Text("none yet", "暂无")
ENTER_OPENS = Text("enter opens it", "回车查看")
NOBODY = Text("nobody", "无")
NO_HISTORY = Text("none yet", "暂无")
STALE_LONG = Text(
    "stale: observed too long ago to count; r runs it again", "已过期：观察时间过久，不再计入；按 r 重新运行"
)
WAIVED_LONG = Text("waived; the verdict stays as observed", "已豁免；结论仍按观察结果显示")
UNSIGNED_LONG = Text("the evidence is there, a person has to sign: s", "已有证据，还需要人签署：按 s")
SECOND_LONG = Text(
    "one person has signed; a second, different person has to sign too: s", "已有一人签署；还需要另一人签署：按 s"
)
WAIVER_LINE = Text(
    "{approver} accepts until {until}: {reason}{ticket} · recorded by {person}, #{seq}",
    "{approver} 批准至 {until}：{reason}{ticket} · {person} 登记，#{seq}",
)
LAPSED: Mapping[str, Text] = {
    "expired": Text("lapsed, its time is over", "已失效，超过有效期"),
    "evidence-changed": Text("lapsed, the evidence has changed since", "已失效，证据此后有变化"),
    "verdict-changed": Text("lapsed, the verdict is no longer good", "已失效，结论不再合格"),
}
DISABLED_LONG = Text("Disabled by decision; not applicable, never a pass.", "已按决定停用；视为不适用，不算通过。")
FIRST_RESULTS_SOON = Text("Running; rows appear here as targets settle.", "运行中；各对象有结果后会显示在这里。")
SIGNED_WITHOUT_EVIDENCE = Text("Signed; nothing was probed.", "已签署；没有自动检查。")
NOTHING_PERSON = Text(
    "Nothing is probed here: a person decides. Press s to sign, w to waive, o to add a note.",
    "这一项没有自动检查，由人决定。按 s 签署，w 豁免，o 添加备注。",
)
NOTHING_NOT_BUILT = Text(
    "This dstui cannot probe it yet. Look for yourself and press s to sign, or w to waive.",
    "本版本尚不能自动检查。请自行核实后按 s 签署，或按 w 豁免。",
)
NOTHING_RUN = Text(
    "Nobody has looked yet. Press r to run this check, R to run all.", "还没有检查过。按 r 运行这一项，按 R 全部运行。"
)

# Finding screen
TARGET_LIST = Text("Targets", "对象")
TAB_OBSERVED = Text("Observed", "观察")
TAB_COMMANDS = Text("Commands", "命令")
TAB_FACTS = Text("Facts", "事实")
TAB_HISTORY = Text("History", "历史")
TAB_RULE = Text("Rule", "规则")
VERDICT = Text("Verdict", "结论")
OBSERVED = Text("Observed", "观察到")
RULE_FIRED = Text("Rule", "依据")
THRESHOLDS = Text("Thresholds", "阈值")
ALSO = Text("Also", "另外")
SEEN = Text("Seen", "时间")
SEEN_AT = Text("{at} · took {took} · holds until {until}", "{at} · 用时 {took} · 有效至 {until}")
MEMBERS = Text("Same on", "相同对象")
EXIT = Text("exit {code}", "退出码 {code}")
NO_EXIT = Text("no exit code", "无退出码")
WAS_READ = Text("read", "读取")
CUT = Text("… cut here: {shown} of {total} are kept as evidence", "… 到此截断：证据保留 {total} 中的前 {shown}")
CUT_SCREEN = Text("… {count} more lines, not shown", "… 还有 {count} 行未显示")
NO_OUTPUT = Text("(no output)", "（无输出）")
ERROR_OUTPUT = Text("error output", "错误输出")
NO_COMMANDS = Text("No evidence for this target. Press r to run the check.", "这个对象没有证据。按 r 运行检查。")
NOT_GATHERED = Text(
    "This session has not gathered {host} yet. Press r to run the check; what Commands shows is from the journal.",
    "本次会话尚未采集 {host}。按 r 运行检查；“命令”页的证据来自日志。",
)
NO_HOST_FACTS = Text("Facts belong to hosts; this target is none.", "事实按主机采集；这个对象不是主机。")
FACTS_MORE = Text("g shows everything known of {host}", "按 g 查看 {host} 的全部信息")
THE_RULES = Text("Rules of this check", "本项规则")
FIRED = Text("fired", "命中")
MISSING = Text("missing ({reason}): {why}", "缺失（{reason}）：{why}")
COPIED = Text("Copied: {what}", "已复制：{what}")
NOTHING_TO_COPY = Text("There is no command to copy here.", "这里没有可复制的命令。")
ONLY_ONE = Text("This is the only check that is not green.", "只有这一项未通过。")
NO_HOST_HERE = Text("This target is not a host.", "这个对象不是主机。")
SNIPPET = Text("Document", "文档代码")

# Host screen
SESSION = Text("Session", "会话")
FINDINGS = Text("Findings", "结论")
RAW_ANSWERS = Text("Answers", "回答")
HOST_NOTHING = Text(
    "This session has not gathered {host} yet. Press R to run all checks.",
    "本次会话尚未采集 {host}。按 R 运行全部检查。",
)
HOST_UNREACHABLE = Text("{host} could not be reached: {why}", "无法连接 {host}：{why}")
HOST_NO_FINDINGS = Text("No findings on {host} yet. Press R to run all checks.", "{host} 尚无结论。按 R 运行全部检查。")
SEARCH_HOST = Text("search: key or text of an answer", "搜索：键名或回答内容")
NO_MATCH = Text("Nothing matches. Press esc to see all.", "没有匹配。按 esc 显示全部。")
USER = Text("user", "用户")
AUTH = Text("login by", "登录方式")
CLIENT_KEY = Text("client key", "客户端密钥")
HOST_KEY = Text("host key", "主机密钥")
FROM = Text("seen from", "来源地址")
VIA_JUMP = Text("via a jump host", "经跳板机")
AS_ROOT = Text("login as root", "root 登录")
ROOT_ATTEMPTS: Mapping[str, Text] = {
    "refused": Text("refused", "被拒绝"),
    "succeeded": Text("succeeded", "成功"),
    "unreachable": Text("could not be tried", "无法尝试"),
    "not-tried": Text("not tried", "未尝试"),
}
YES = Text("yes", "是")
NO = Text("no", "否")

# Forms
SIGN_TITLE = Text("Sign off", "签署")
WAIVE_TITLE = Text("Waive", "豁免")
NOTE_TITLE = Text("Add a note", "添加备注")
EXPORT_TITLE = Text("Export the report", "导出报告")
HELP_TITLE = Text("Keys and marks", "按键与标记")
QUIT_TITLE = Text("A run is under way", "正在运行")
RISK_TITLE = Text("This does more than look", "这不只是查看")
FIELD_PERSON = Text("Who signs", "签署人")
FIELD_ROLE = Text("Role", "角色")
FIELD_NOTE = Text("Note", "说明")
FIELD_LINK = Text("Link", "链接")
FIELD_APPROVER = Text("Approver", "批准人")
FIELD_REASON = Text("Reason", "理由")
FIELD_TICKET = Text("Ticket", "工单")
FIELD_EXPIRES = Text("Expires", "到期")
FIELD_TEXT = Text("Text", "内容")
FIELD_FORMAT = Text("Format", "格式")
FIELD_LANGUAGE = Text("Language", "语言")
FIELD_PATH = Text("File", "文件")
HINT_ROLE = Text("e.g. SRE lead", "例如 SRE 负责人")
HINT_NOTE = Text("what the signature rests on", "签署的依据")
HINT_LINK = Text("ticket, document, dashboard (optional)", "工单、文档或面板（可不填）")
HINT_APPROVER = Text("who accepts the shortcoming", "谁接受此缺陷")
HINT_REASON = Text("why, so that a reader in a year understands", "原因，一年后的读者也能看懂")
HINT_TICKET = Text("optional", "可不填")
HINT_EXPIRES = Text("+30d, +2w or 2025-12-24", "+30d、+2w 或 2025-12-24")
HINT_TEXT = Text("your remark", "备注内容")
EVIDENCE_HASH = Text("Evidence", "证据")
EVIDENCE_LINE = Text("{pieces} · sha256 {hash} · {age} old", "{pieces} · sha256 {hash} · {age} 前")
EVIDENCE_NONE = Text("nothing was probed · sha256 {hash}", "没有自动检查 · sha256 {hash}")
SIGNS_AS = Text(
    "You are {person} by {source}; the inventory does not let you sign for others.",
    "按{source}，您是 {person}；清单不允许代他人签署。",
)
SIGNS_FOR_OTHERS = Text(
    "You are {person} by {source}; the inventory lets you sign for others.",
    "按{source}，您是 {person}；清单允许代他人签署。",
)
SOURCES: Mapping[str, Text] = {
    "sudo": Text("the login behind sudo", "sudo 前的登录"),
    "ssh": Text("the SSH login", "SSH 登录"),
    "login": Text("the login", "登录用户"),
}
SECOND_NEEDED = Text(
    "{person} has signed already. A different person is needed now.", "{person} 已签署。现在需要另一个人签署。"
)
SECOND_WILL_BE = Text(
    "This check takes two people; after you a second one has to sign.", "这一项需要两人签署；您之后还需要另一人。"
)
SIGN_BINDS = Text(
    "The signature holds for this evidence only, {days} days at most.", "签署只对当前证据有效，最长 {days} 天。"
)
CANNOT_SIGN = Text("Cannot be signed now: {why}.", "现在不能签署：{why}。")
NEED_PERSON = Text("A signature needs a name.", "请填写签署人。")
NEED_BASIS = Text(
    "Nothing was probed, so say in the note or the link what the signature rests on.",
    "没有自动检查，请在说明或链接中写明签署依据。",
)
NEED_APPROVER = Text("Name who approved the waiver.", "请填写批准人。")
NEED_REASON = Text("Give a reason that a reader in a year's time understands.", "请填写一年后的读者也能看懂的理由。")
NEED_TEXT = Text("An empty note is not recorded.", "空备注不会被记录。")
NEED_PATH = Text("Name the file to write.", "请填写要写入的文件。")
EXPIRY_NEEDED = Text("Say when the waiver ends: 2025-12-24 or +30d.", "请填写到期日：2025-12-24 或 +30d。")
EXPIRY_FORM = Text(
    "The expiry is a date such as 2025-12-24, or a span such as +30d, +2w, +12h.",
    "到期日写成 2025-12-24 这样的日期，或 +30d、+2w、+12h 这样的时长。",
)
EXPIRY_NO_SUCH_DAY = Text("There is no such day in the calendar.", "日历中没有这一天。")
EXPIRY_PAST = Text("A waiver must end in the future.", "豁免必须在将来到期。")
EXPIRY_TOO_FAR = Text(
    "A waiver ends within a year; for longer, change the threshold in the inventory instead.",
    "豁免最长一年；需要更久时，请改清单中的阈值。",
)
WAIVER_OPEN = Text("There is an open waiver:", "当前有效的豁免：")
WAIVER_KEEPS = Text("The verdict stays as observed; the gate lets it pass until then.", "结论不变；到期前门禁放行。")
NOTE_ON_CHECK = Text("on the check {check}", "针对检查 {check}")
NOTE_ON_TARGET = Text("on {target} in {check}", "针对 {check} 的 {target}")
SAVING = Text("recording …", "正在记录 …")
HOW_TO_QUIT = Text("Press q to quit.", "按 q 退出。")
NOT_OPENED = Text("The journal is still being read; try again in a moment.", "日志仍在读取；请稍后再试。")
PICK_A_CHECK = Text("Choose a check first; this is a heading.", "请先选中一项检查；这里是标题。")
RECORDED_SIGN = Text("Recorded as #{seq}: {person} signed {check}.", "已记录为 #{seq}：{person} 签署了 {check}。")
RECORDED_WAIVER = Text("Recorded as #{seq}: {check} is waived until {day}.", "已记录为 #{seq}：{check} 豁免至 {day}。")
RECORDED_WITHDRAWN = Text(
    "Recorded as #{seq}: the waiver of {check} is withdrawn.", "已记录为 #{seq}：{check} 的豁免已撤回。"
)
RECORDED_NOTE = Text("Recorded as #{seq}: note on {check}.", "已记录为 #{seq}：{check} 的备注。")
RECORDED_EXPORT = Text("Recorded as #{seq}: wrote {path}.", "已记录为 #{seq}：写入 {path}。")
CHOICE_HINT = Text("space changes", "空格切换")
FORMATS: Mapping[str, Text] = {"markdown": same("Markdown"), "json": same("JSON")}
LANGUAGES: Mapping[Lang, Text] = {Lang.ZH: same("中文"), Lang.EN: same("English")}
QUIT_ASK = Text(
    "Run {run} has settled {done} of {total} checks. Leaving stops it; what settled is recorded.",
    "第 {run} 次运行已完成 {total} 项中的 {done} 项。退出会停止它；已有结果都已记录。",
)
QUIT_YES = Text("stop and quit", "停止并退出")
QUIT_NO = Text("stay", "留下")
QUIT_STOP = Text("stop the run, stay", "停止运行，不退出")
RISK_ASK = Text("These checks do more than look:", "以下检查不只是查看：")
RISK_YES = Text("run them", "运行")
RISK_REST = Text("run only what just looks", "只运行查看类检查")
RISK_NO = Text("do not run", "不运行")

# Help
HELP_SCREENS: Mapping[str, Text] = {
    "everywhere": Text("Everywhere", "任何地方"),
    "checklist": Text("Checklist", "检查清单"),
    "finding": Text("Finding", "详情"),
    "host": Text("Host", "主机"),
    "monitor": Text("Monitor", "监控"),
    "replay": Text("Replay", "回放"),
    "ladder": Text("Load ladder", "负载阶梯"),
    "form": Text("Forms", "表单"),
}
HELP_MARKS = Text("Marks", "标记")
HELP_GATE = Text(
    "The gate opens when every check is pass, signed, warn, waived or not applicable.",
    "全部检查为通过、已签署、警告、已豁免或不适用时，门禁才开启。",
)
MOVE = Text("↑ ↓ or j k", "↑ ↓ 或 j k")
MOVES = Text("move; page up, page down, home, end too", "移动；也可用 PageUp、PageDown、Home、End")
CLOSE = Text("esc closes", "esc 关闭")

# Announcements
RUN_FINISHED = Text("Run {run} finished in {elapsed}: {counts}", "第 {run} 次运行完成，用时 {elapsed}：{counts}")
RUN_STOPPED = Text(
    "Run {run} stopped; what settled is recorded. ctrl+p, Resume goes on.",
    "第 {run} 次运行已停止；已有结果都已记录。ctrl+p 选“继续”可接着运行。",
)
RUN_FAILED = Text("The run ended early: {why}", "运行提前结束：{why}")
RUN_BUSY = Text(
    "Run {run} is under way; wait for it, or stop it with ctrl+p, Stop.",
    "第 {run} 次运行正在进行；请等待，或用 ctrl+p 选“停止”。",
)
NOTHING_TO_RUN = Text(
    "No probe for {what} yet; sign (s) or waive (w) by hand.", "{what} 尚不能自动检查；请手动签署 (s) 或豁免 (w)。"
)
NOTHING_FAILED = Text("Nothing failed, is unknown or stale.", "没有失败、未知或过期的项。")
FOLLOW_FAILED = Text("Other operators' entries are no longer followed: {why}", "不再跟踪其他操作者的记录：{why}")
WENT_WRONG = Text("{what} went wrong: {why}", "{what} 出错：{why}")
OPEN_FAILED = Text("dstui could not start: {why}", "dstui 无法启动：{why}")
WATCH_FAILED = Text("What is live is no longer watched: {why}", "实时监控已停止：{why}")
NOT_WATCHED = Text("Nothing is watched live here.", "此处没有实时监控。")

# Palette
PALETTE_PROMPT = Text("Search for commands …", "搜索命令 …")
CMD_STOP = Text("Stop the run", "停止运行")
CMD_STOP_TIP = Text("what settled stays recorded", "已有结果保留")
CMD_RESUME = Text("Resume the interrupted run", "继续中断的运行")
CMD_RESUME_TIP = Text("go on with what has not settled", "接着运行尚无结果的项")
CMD_THEME = Text("Theme", "主题")
CMD_THEME_TIP = Text("change the colours", "更换配色")
CMD_SCREENSHOT = Text("Screenshot", "截图")
CMD_SCREENSHOT_TIP = Text("save this screen as SVG", "把当前画面存为 SVG")
