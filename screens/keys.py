"""Every key of every screen, once: what it is called, what it does, where the footer shows it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from textual.binding import Binding, BindingType

from dstui.model import Text, same


@dataclass(frozen=True, slots=True)
class Key:
    """One key. `id` is also its action (`run-this` → `action_run_this`); `dangerous` ones ask before they act."""

    id: str
    key: str
    label: Text
    tip: Text
    shown: Text | None = None
    dangerous: bool = False
    act: str = ""

    @property
    def face(self) -> Text:
        """How the key is written on screen."""
        return self.shown or same(self.key)

    @property
    def action(self) -> str:
        """The action's name without `action_`; with its argument where it has one."""
        return self.act or self.id.replace("-", "_")


ALL: tuple[Key, ...] = (
    Key(
        "run-this",
        "r",
        Text("run", "运行"),
        Text("run this check, or this section's checks", "运行这一项，或这一节的全部检查"),
    ),
    Key(
        "run-all", "R", Text("run all", "全部运行"), Text("run every check that has a probe", "运行所有可自动检查的项")
    ),
    Key(
        "run-failed",
        "F",
        Text("re-run red", "重跑未过"),
        Text("run again what failed or is unknown", "重新运行失败和未知的项"),
    ),
    Key(
        "open",
        "enter",
        Text("open", "打开"),
        Text("open the findings; on a heading: fold or unfold", "打开详情；在标题上：折叠或展开"),
        same("enter"),
    ),
    Key(
        "next-open",
        "n",
        Text("next not-green", "下一未过"),
        Text("go to the next check that is not green", "跳到下一个未通过的项"),
    ),
    Key(
        "previous-open",
        "N",
        Text("previous", "上一未过"),
        Text("go to the previous check that is not green", "跳到上一个未通过的项"),
    ),
    Key(
        "filter",
        "f",
        Text("filter", "筛选"),
        Text("show only what is not green, or all again", "只看未通过的项，再按恢复"),
    ),
    Key(
        "search",
        "slash",
        Text("search", "搜索"),
        Text("search ids, titles in both languages and sections", "按编号、中英文标题、章节搜索"),
        same("/"),
    ),
    Key("sign", "s", Text("sign", "签署"), Text("vouch for this check in your name", "以本人名义签署这一项")),
    Key(
        "waive",
        "w",
        Text("waive", "豁免"),
        Text("waive with approver, reason and expiry; or withdraw", "豁免（批准人、理由、到期日），或撤回豁免"),
    ),
    Key("note", "o", Text("note", "备注"), Text("add a note", "添加备注")),
    Key(
        "export",
        "e",
        Text("export", "导出"),
        Text("write the report as Markdown or JSON", "导出 Markdown 或 JSON 报告"),
    ),
    Key("language", "l", Text("中文", "English"), Text("switch to Chinese", "切换到英文")),
    Key("fold", "space", Text("fold", "折叠"), Text("fold or unfold", "折叠或展开"), Text("space", "空格")),
    Key(
        "fold-left",
        "left",
        Text("fold", "折叠"),
        Text("fold, or go to the heading above", "折叠，或回到上级标题"),
        same("←"),
    ),
    Key("unfold", "right", Text("unfold", "展开"), Text("unfold", "展开"), same("→")),
    Key(
        "other-pane", "tab", Text("other pane", "切换窗格"), Text("tree or detail", "在清单和详情之间切换"), same("tab")
    ),
    Key(
        "help",
        "question_mark",
        Text("all keys", "全部按键"),
        Text("all keys and marks", "全部按键和标记说明"),
        same("?"),
    ),
    Key(
        "back",
        "escape",
        Text("back", "返回"),
        Text("back, or clear search and filter", "返回，或清除搜索和筛选"),
        same("esc"),
    ),
    Key("quit", "q", Text("quit", "退出"), Text("quit; asks only while something runs", "退出；只有在运行中才会询问")),
    Key("palette", "ctrl+p", Text("commands", "命令"), Text("all commands by name", "按名称查找命令"), same("ctrl+p")),
    Key("tab-next", "right_square_bracket", Text("next tab", "下一页"), Text("next tab", "下一页"), same("]")),
    Key(
        "tab-previous", "left_square_bracket", Text("previous tab", "上一页"), Text("previous tab", "上一页"), same("[")
    ),
    Key("tab-1", "1", Text("observed", "观察"), Text("tab 1 of the finding", "详情第 1 页"), act="go_tab(0)"),
    Key("tab-2", "2", Text("commands", "命令"), Text("tab 2 of the finding", "详情第 2 页"), act="go_tab(1)"),
    Key("tab-3", "3", Text("facts", "事实"), Text("tab 3 of the finding", "详情第 3 页"), act="go_tab(2)"),
    Key("tab-4", "4", Text("history", "历史"), Text("tab 4 of the finding", "详情第 4 页"), act="go_tab(3)"),
    Key("tab-5", "5", Text("rule", "规则"), Text("tab 5 of the finding", "详情第 5 页"), act="go_tab(4)"),
    Key("copy", "y", Text("copy", "复制"), Text("copy the command (under the cursor)", "复制（光标处的）命令")),
    Key("host", "g", Text("host", "主机"), Text("go to everything known of this host", "查看这台主机的全部信息")),
    Key("submit", "ctrl+s", Text("record", "提交"), Text("record it", "提交并记录"), same("ctrl+s")),
    Key(
        "withdraw",
        "ctrl+r",
        Text("withdraw waiver", "撤回豁免"),
        Text("withdraw the open waiver", "撤回当前豁免"),
        same("ctrl+r"),
    ),
    Key("language-form", "ctrl+l", Text("中文", "English"), Text("switch to Chinese", "切换到英文"), same("ctrl+l")),
    Key("yes", "y", Text("yes", "是"), Text("yes", "是")),
    Key("no", "n", Text("no", "否"), Text("no", "否")),
    Key(
        "monitor",
        "m",
        Text("monitor", "监控"),
        Text("watch GPUs, Ray and vLLM live", "实时查看 GPU、Ray 和 vLLM"),
    ),
    Key("ladder", "L", Text("ladder", "负载阶梯"), Text("run or see the load ladder", "运行或查看负载阶梯")),
    Key(
        "run-ladder",
        "r",
        Text("run the ladder", "运行阶梯"),
        Text("put load on the endpoint, level by level; asks first", "逐级对端点施加负载；先询问"),
        dangerous=True,
    ),
    Key(
        "stop-ladder",
        "x",
        Text("stop", "停止"),
        Text("stop the ladder at once; what was measured stays", "立即停止阶梯；已测结果保留"),
    ),
    Key(
        "ladder-level",
        "enter",
        Text("details", "详情"),
        Text("all that is known of this stage", "查看这一阶段的全部数据"),
        same("enter"),
    ),
    Key(
        "ladder-pane",
        "tab",
        Text("other picture", "切换图表"),
        Text("levels and pictures, one after the other", "在各级与图表之间切换"),
        same("tab"),
    ),
    Key(
        "ladder-users",
        "1",
        Text("over users", "随用户数"),
        Text("charts over users", "随用户数的图表"),
        act="go_page(0)",
    ),
    Key(
        "ladder-time",
        "2",
        Text("over time", "随时间"),
        Text("the seconds of the window", "窗口内逐秒变化"),
        act="go_page(1)",
    ),
    Key(
        "ladder-detail",
        "3",
        Text("details", "详情"),
        Text("details of the stage under the cursor", "光标所在阶段的详情"),
        act="go_page(2)",
    ),
    Key(
        "pause",
        "space",
        Text("pause", "暂停"),
        Text("hold what is shown, or go on", "停住画面，再按继续"),
        Text("space", "空格"),
    ),
    Key(
        "quicker",
        "plus",
        Text("quicker", "加快"),
        Text("sample more often; in a replay: faster", "提高采样频率；回放时：加速"),
        same("+"),
    ),
    Key(
        "slower",
        "minus",
        Text("slower", "放慢"),
        Text("sample less often; in a replay: slower", "降低采样频率；回放时：减速"),
        same("-"),
    ),
    Key(
        "sort-grid",
        "o",
        Text("sort", "排序"),
        Text("sort hosts by trouble, name, use, temperature or memory", "按异常、名称、利用率、温度或显存排序"),
    ),
    Key(
        "fold-alike",
        "z",
        Text("fold alike", "折叠相同"),
        Text("put hosts that are alike into one row, or show each", "把状态相同的主机合为一行，或逐台显示"),
    ),
    Key("panel-1", "1", same("GPU"), Text("only the GPUs, or all panels", "只看 GPU，再按恢复"), act="go_panel(0)"),
    Key("panel-2", "2", same("Ray"), Text("only Ray, or all panels", "只看 Ray，再按恢复"), act="go_panel(1)"),
    Key("panel-3", "3", same("vLLM"), Text("only vLLM, or all panels", "只看 vLLM，再按恢复"), act="go_panel(2)"),
    Key(
        "panel-4",
        "4",
        Text("events", "事件"),
        Text("only the events, or all panels", "只看事件，再按恢复"),
        act="go_panel(3)",
    ),
    Key(
        "trail",
        "t",
        Text("trail", "追踪"),
        Text("from a replica to its Ray node, host, GPUs and XIDs", "从副本追到 Ray 节点、主机、GPU 和 XID"),
    ),
    Key(
        "record",
        "w",
        Text("record", "录制"),
        Text("record into a file for dstui replay, or end that", "录制到文件供 dstui replay 回放，再按结束"),
    ),
    Key(
        "perish",
        "x",
        Text("kill a node", "杀死节点"),
        Text("demo: a node dies; again: it comes back", "演示：一个节点宕机；再按：恢复"),
    ),
    Key(
        "seek-back",
        "left",
        Text("-10 s", "-10 秒"),
        Text("go back 10 seconds", "后退 10 秒"),
        same("←"),
        act="seek(-10)",
    ),
    Key("seek-on", "right", Text("+10 s", "+10 秒"), Text("go on 10 seconds", "前进 10 秒"), same("→"), act="seek(10)"),
    Key(
        "seek-back-far",
        "left_square_bracket",
        Text("-60 s", "-60 秒"),
        Text("go back a minute", "后退 1 分钟"),
        same("["),
        act="seek(-60)",
    ),
    Key(
        "seek-on-far",
        "right_square_bracket",
        Text("+60 s", "+60 秒"),
        Text("go on a minute", "前进 1 分钟"),
        same("]"),
        act="seek(60)",
    ),
    Key("stop-run", "x", Text("stop the run", "停止运行"), Text("stop the run and stay", "停止运行并留下")),
)

BY_ID: Mapping[str, Key] = {key.id: key for key in ALL}


def bindings(*ids: str, prefix: str = "") -> list[BindingType]:
    """Textual bindings for some keys. `prefix` names another namespace (`app.`, `screen.`)."""
    return [
        Binding(
            BY_ID[name].key,
            prefix + BY_ID[name].action,
            BY_ID[name].label.en,
            show=False,
            tooltip=BY_ID[name].tip.en,
            id=name,
        )
        for name in ids
    ]
