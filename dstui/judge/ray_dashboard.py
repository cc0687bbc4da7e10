"""ray.dashboard: the page, its script and the API answer by the way that operators take, and by no other."""

from __future__ import annotations

from collections.abc import Sequence

from dstui.facts.case import FleetCase
from dstui.facts.exchange import Exchange, Fault
from dstui.facts.raw import Missing
from dstui.facts.ray_look import GRAFANA, PAGE, PREFIX, PROMETHEUS, SCRIPT, RayLook
from dstui.facts.serve_processes import Role
from dstui.judge.fleet import cluster_target, listed
from dstui.judge.ray_words import older, processes_of, without_ray
from dstui.judge.registry import FleetJudge
from dstui.judge.rulings import Causes, not_applicable, quoted, unknown
from dstui.model import Reason, Ruling, Target, TargetKind, Text

SAFE_VERSION = "2.54"
"""The first Ray without CVE-2026-27482 (job submission through the dashboard from a web page)."""

_REFUSALS = (401, 403)
_EVIDENCE = tuple(f"{PREFIX}{name}" for name in (PAGE, SCRIPT, "version", "auth", PROMETHEUS, GRAFANA, "direct"))


def judge(case: FleetCase) -> Sequence[Ruling]:
    look = case.get(RayLook)
    known = not isinstance(look, Missing) and look.url
    target = (
        Target(TargetKind.ENDPOINT, look.url) if known and not isinstance(look, Missing) else cluster_target(case.site)
    )
    if (why := without_ray(case.params)) is not None:
        return [not_applicable(target, why)]
    access = case.params.text("dashboard_access")
    how = Text("directly", "直连") if access == "direct" else Text("through the SSH tunnel", "经 SSH 隧道")
    expected = Text(f"page, script and API answer {how.en}", f"{how.zh}可访问页面、脚本和接口")
    if isinstance(look, Missing):
        return [unknown(target, look, expected)]
    return [_ruling(case, look, Causes(target, expected), how)]


def _ruling(case: FleetCase, look: RayLook, causes: Causes, how: Text) -> Ruling:
    if look.closed is not None:
        _weigh_closed(causes, look.closed, refused=look.refused)
    elif look.off_path:
        causes.fail(
            Text(
                f"{look.url} does not answer from here; only from {look.via or 'the head itself'} it does",
                f"从此处无法访问 {look.url}，仅能经 {look.via or '头节点'} 访问",
            )
        )
    else:
        _weigh_page(causes, look)
        _weigh_script(causes, look)
        _weigh_api(causes, look)
    if look.answered:
        _weigh_exposure(case, causes, look)
        _weigh_version(causes, look)
        if case.params.flag("metrics_embed"):
            _weigh_embedding(causes, look)
    _remark(case, causes)
    return causes.ruling(
        _observed(look, how),
        Text("page, script and API answer", "页面、脚本和接口均有应答"),
        material={
            "answers": look.answered,
            "auth": look.snapshot.auth,
            "ray": look.snapshot.version,
            "direct": sorted(look.reached_directly),
        },
        evidence=_EVIDENCE,
    )


def _weigh_closed(causes: Causes, closed: Missing, *, refused: bool) -> None:
    """The head was there and did not get to the dashboard, or the head was not there."""
    if refused:
        said = quoted(closed.why, 200)
        causes.fail(Text(f"the tunnel leads nowhere: {said}", f"隧道另一端连不上：{said}"))
    else:
        causes.missing(closed, Text("the tunnel", "隧道"))


def _weigh_page(causes: Causes, look: RayLook) -> None:
    page = look.by_key.get(PREFIX + PAGE) or look.by_key.get(f"{PREFIX}version")
    if page is None:
        causes.missing(look.why_not("version"), Text("the page", "页面"))
        return
    if page.key != PREFIX + PAGE or page.missing is not None:
        _weigh_silence(causes, page)
        return
    if page.status in _REFUSALS:
        _refused(causes, look, Text("the page", "页面"), page)
    elif page.status != 200 or page.kind != "text/html":
        causes.fail(
            Text(
                f"/ answers HTTP {page.status} ({quoted(page.kind, 40) or 'no type'}), no page: "
                "Ray without its dashboard (`pip install 'ray[default]'`)?",
                f"/ 返回 HTTP {page.status}（{quoted(page.kind, 40) or '无类型'}），没有页面："
                "Ray 未带 Dashboard 安装（`pip install 'ray[default]'`）？",
            )
        )


def _weigh_silence(causes: Causes, exchange: Exchange) -> None:
    missing = exchange.missing or Missing(Reason.CANNOT_TELL, f"{exchange.url} did not answer")
    said = quoted(missing.why, 200)
    if exchange.fault is Fault.NOT_SENT:
        causes.missing(missing, Text("the page", "页面"))
    else:
        causes.fail(Text(f"no answer: {said}", f"没有应答：{said}"))


def _weigh_script(causes: Causes, look: RayLook) -> None:
    page, script = look.by_key.get(PREFIX + PAGE), look.by_key.get(PREFIX + SCRIPT)
    if page is None or page.missing is not None or page.status != 200 or page.kind != "text/html":
        return
    if script is None:
        causes.fail(Text("the page names no script under /static/js", "页面没有引用 /static/js 下的脚本"))
    elif script.missing is not None:
        causes.missing(script.missing, Text("the page's script", "页面脚本"))
    elif script.status in _REFUSALS:
        _refused(causes, look, Text("the page's script", "页面脚本"), script)
    elif script.status != 200:
        causes.fail(
            Text(
                f"the page's script answers HTTP {script.status}: the page stays empty",
                f"页面脚本返回 HTTP {script.status}：页面将是空白",
            )
        )


def _weigh_api(causes: Causes, look: RayLook) -> None:
    exchange = look.by_key.get(f"{PREFIX}version")
    if exchange is None or exchange.missing is not None:
        missing = exchange.missing if exchange else None
        page = look.by_key.get(PREFIX + PAGE)
        if page is not None and page.missing is None:
            causes.missing(missing or look.why_not("version"), Text("/api/version", "/api/version"))
    elif exchange.status in _REFUSALS:
        _refused(causes, look, Text("/api/version", "/api/version"), exchange)
    elif exchange.status != 200:
        causes.fail(Text(f"/api/version answers HTTP {exchange.status}", f"/api/version 返回 HTTP {exchange.status}"))
    elif look.snapshot.version is None:
        causes.missing(look.why_not("version"), Text("/api/version", "/api/version"))


def _refused(causes: Causes, look: RayLook, what: Text, exchange: Exchange) -> None:
    if look.tokenless is not None:
        said = quoted(look.tokenless.why, 120)
        causes.unknown(Reason.NO_CREDENTIAL, Text(f"{what.en} wants a token: {said}", f"{what.zh}要求令牌：{said}"))
    elif look.token is None:
        causes.unknown(
            Reason.NO_CREDENTIAL,
            Text(f"{what.en} wants a token: set ray.token_ref", f"{what.zh}要求令牌：请设置 ray.token_ref"),
        )
    else:
        causes.unknown(
            Reason.NO_CREDENTIAL,
            Text(
                f"{what.en} refuses the token of {look.token} (HTTP {exchange.status})",
                f"{what.zh}拒绝 {look.token} 的令牌（HTTP {exchange.status}）",
            ),
        )


def _weigh_exposure(case: FleetCase, causes: Causes, look: RayLook) -> None:
    at = list(look.reached_directly)
    if look.access == "direct" and not look.off_path and look.via is None:
        at = at or [look.url]
    if not at:
        return
    if look.open_without_token is True:
        causes.warn(
            Text(
                f"open to this machine without a tunnel or a token ({listed(at)}): whoever reaches it runs code there",
                f"此处不经隧道、无需令牌即可访问（{listed(at)}）：谁能连上谁就能在其上执行代码",
            )
        )
    elif look.open_without_token is None:
        exchange = look.by_key.get(f"{PREFIX}auth")
        missing = (exchange.missing if exchange else None) or Missing(Reason.CANNOT_TELL, "Ray did not say")
        causes.missing(missing, Text("whether it asks for a token", "是否要求令牌"))
    elif look.access == "tunnel":
        causes.note(
            Text(
                f"also answers without the tunnel ({listed(at)}), but wants a token",
                f"不经隧道也有应答（{listed(at)}），但要求令牌",
            )
        )


def _weigh_version(causes: Causes, look: RayLook) -> None:
    found = look.snapshot.version
    if older(found, SAFE_VERSION):
        causes.warn(
            Text(
                f"Ray {quoted(found or '', 30)} has CVE-2026-27482, fixed in {SAFE_VERSION}",
                f"Ray {quoted(found or '', 30)} 存在 CVE-2026-27482，{SAFE_VERSION} 已修复",
            )
        )


def _weigh_embedding(causes: Causes, look: RayLook) -> None:
    for name, title in ((PROMETHEUS, "Prometheus"), (GRAFANA, "Grafana")):
        exchange = look.by_key.get(PREFIX + name)
        if exchange is None or exchange.status in _REFUSALS:
            continue
        if exchange.missing is not None:
            causes.missing(exchange.missing, Text(f"{title} inside the dashboard", f"内嵌的 {title}"))
        elif exchange.status != 200:
            causes.warn(
                Text(
                    f"{title} inside the dashboard is not healthy (HTTP {exchange.status}): time series stay empty",
                    f"内嵌的 {title} 不健康（HTTP {exchange.status}）：时序图为空",
                )
            )


def _remark(case: FleetCase, causes: Causes) -> None:
    for host in case.site.hosts:
        if "head" not in host.roles:
            continue
        processes = processes_of(case, host)
        for process in () if isinstance(processes, Missing) else processes.of(Role.DASHBOARD):
            bound = f"{process.flags.get('host', '?')}:{process.flags.get('port', '?')}"
            causes.note(
                Text(f"on {host.name} it is bound to {quoted(bound)}", f"在 {host.name} 上绑定 {quoted(bound)}")
            )


def _observed(look: RayLook, how: Text) -> Text:
    page, version = look.by_key.get(PREFIX + PAGE), look.by_key.get(f"{PREFIX}version")
    if not look.answered:
        return Text(f"no answer {how.en}", f"{how.zh}没有应答")
    shown = [
        f"{name} {exchange.status if exchange.status is not None else '–'}"
        for name, exchange in (("/", page), ("/api/version", version))
        if exchange is not None
    ]
    ms = max((e.seconds for e in (page, version) if e is not None), default=0.0) * 1000
    ray, auth = quoted(look.snapshot.version or "?", 30), look.snapshot.auth or "–"
    parts = f"{', '.join(shown)}, {ms:.0f} ms, Ray {ray}, auth {auth}"
    return Text(parts, parts)


JUDGE = FleetJudge("ray.dashboard", ("serve_processes",), (), judge, needs=("ray",))
