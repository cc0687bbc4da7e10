"""lb.static-cache: assets may be kept by clients, answers of the API never reach anybody but who asked."""

from __future__ import annotations

import re
from collections.abc import Sequence
from urllib.parse import urlsplit

from dstui.facts.api import answer_of
from dstui.facts.case import FleetCase
from dstui.facts.exchange import Exchange
from dstui.facts.lb_seen import CACHE, LbCache
from dstui.facts.nginx_config import Directive
from dstui.facts.openai import Completion
from dstui.facts.raw import Missing
from dstui.judge.api_words import outcome
from dstui.judge.fleet import cluster_target, listed
from dstui.judge.lb_words import HOST_EVIDENCE, Routed, no_address, routed
from dstui.judge.registry import FleetJudge
from dstui.judge.rulings import Causes, not_applicable, quoted, unknown, why_missing
from dstui.model import Reason, Ruling, Text, Verdict, same

_EXPECTED = Text(
    "assets with max-age or 304, answers of the API from no cache", "静态资源带 max-age 或支持 304，API 不缓存"
)
_PASSED = Text("assets are cached, the API is not", "静态资源有缓存，API 不缓存")
_MAX_AGE = re.compile(r"(?:^|[\s,])(?:s-maxage|max-age)\s*=\s*\"?(\d{1,10})", re.IGNORECASE)
_HIT = ("x-cache", "x-cache-status", "x-proxy-cache", "cf-cache-status", "x-varnish-cache")
_PASSING = ("proxy_pass", "grpc_pass", "fastcgi_pass", "uwsgi_pass", "return")


def judge(case: FleetCase) -> Sequence[Ruling]:
    seen = case.get(LbCache)
    if isinstance(seen, Missing):
        return [unknown(cluster_target(case.site), seen, _EXPECTED)]
    if seen.front.url is None:
        return no_address(case, _EXPECTED)
    return [_ruling(case, seen)]


def _ruling(case: FleetCase, seen: LbCache) -> Ruling:
    causes = Causes(seen.front.target, _EXPECTED)
    found = [routed(case, name, seen.front) for name in case.site.balancers]
    api = _weigh_api(seen, causes) if case.params.flag("api_never_cached") else same("–")
    for each in found:
        if not isinstance(each, Missing):
            _weigh_location(each, causes)
    static = [place for each in found if not isinstance(each, Missing) for place in _static(each)]
    if not seen.assets and not static and causes.verdict is Verdict.PASS:
        unread = next((each for each in found if isinstance(each, Missing)), None)
        if unread is None:
            return not_applicable(
                seen.front.target,
                Text(f"no static assets, a pure API; {api.en}", f"没有静态资源，纯 API；{api.zh}"),
            )
        why = why_missing(unread)
        causes.unknown(
            unread.reason,
            Text(
                f"lb.static_urls is empty, and whether nginx serves files was not seen: {why.en}",
                f"lb.static_urls 为空，且没看到 nginx 是否提供静态文件：{why.zh}",
            ),
        )
    elif not seen.assets and static:
        where = quoted(listed(static), 120)
        causes.unknown(
            Reason.NO_TARGETS,
            Text(
                f"files are served at {where}: name some in lb.static_urls",
                f"{where} 提供静态文件：请写入 lb.static_urls",
            ),
        )
    kept = [_weigh_asset(case, seen, number, asset, causes) for number, asset in enumerate(seen.assets, 1)]
    shown = quoted(listed([word for word in kept if word]), 160) or "–"
    return causes.ruling(
        Text(f"API: {api.en}; assets: {shown}", f"API：{api.zh}；静态资源：{shown}"),
        _PASSED,
        material={"assets": list(seen.assets)},
        evidence=(CACHE,),
    )


def _weigh_api(seen: LbCache, causes: Causes) -> Text:
    posts = [each for n in (1, 2) if (each := seen.asked(CACHE, "front", f"post-{n}")) is not None]
    for exchange in (*posts, seen.asked(CACHE, "front", "models"), seen.asked(CACHE, "front", "models-wrong")):
        sign = _from_cache(exchange)
        if sign and exchange is not None:
            path = urlsplit(exchange.url).path
            causes.fail(Text(f"{path} is answered from a cache ({sign})", f"{path} 的回答来自缓存（{sign}）"))
    _weigh_wrong_key(seen, causes)
    said = [answer_of(each) for each in posts]
    ids = [each.id for each in said if isinstance(each, Completion) and each.id]
    if len(ids) == 2 and ids[0] == ids[1]:
        shown = quoted(ids[0], 60)
        causes.fail(
            Text(
                f"two requests got the same answer ({shown}): a cache that may give it to others",
                f"两次请求得到同一个回答（{shown}）：缓存可能把它发给别人",
            )
        )
        return Text(f"the same id twice ({shown})", f"两次 id 相同（{shown}）")
    if len(ids) == 2:
        return Text("two requests, two ids", "两次请求，两个 id")
    return _weigh_no_ids(seen, posts, causes)


def _weigh_no_ids(seen: LbCache, posts: Sequence[Exchange], causes: Causes) -> Text:
    lost = next((each for each in posts if each.missing is not None or each.status != 200), None)
    if lost is not None and lost.missing is not None:
        causes.missing(lost.missing, Text("API", "API"))
    elif lost is not None and lost.status in (401, 403) and seen.front.keyless is not None:
        causes.missing(seen.front.keyless, Text("API", "API"))
    else:
        said = outcome(lost) if lost is not None else Text("answers without an id", "回答没有 id")
        causes.unknown(
            Reason.CANNOT_TELL,
            Text(f"whether answers are cached was not seen: {said.en}", f"没看到回答是否被缓存：{said.zh}"),
        )
    return Text("not seen", "未见")


def _weigh_wrong_key(seen: LbCache, causes: Causes) -> None:
    """A wrong key that is let in where somebody with the right one has just asked the same, and nowhere else."""
    wrong, fresh = seen.asked(CACHE, "front", "models-wrong"), seen.asked(CACHE, "front", "models-fresh")
    if wrong is None or fresh is None or wrong.missing is not None or fresh.missing is not None:
        return
    if wrong.status == 200 and fresh.status in (401, 403):
        causes.fail(
            Text(
                "/v1/models is given to a wrong key from a cache: asked afresh it is refused",
                "错误密钥能从缓存拿到 /v1/models：重新请求则被拒绝",
            )
        )


def _from_cache(exchange: Exchange | None) -> str:
    """The header that says that an answer came from a cache; empty when none does."""
    if exchange is None or exchange.missing is not None:
        return ""
    age = exchange.headers.get("age", "").strip()
    if age and age != "0":
        return quoted(f"Age: {age}", 60)
    for name in _HIT:
        value = exchange.headers.get(name, "")
        if "hit" in value.lower().split() or value.lower().startswith("hit"):
            return quoted(f"{name}: {value}", 60)
    return ""


def _weigh_location(found: Routed, causes: Causes) -> None:
    cache = found.place.value("proxy_cache", "off")
    if cache != "off":
        where = quoted(found.place.where, 80)
        causes.warn(
            Text(
                f"proxy_cache {quoted(cache, 40)} is on for the API's path ({where})",
                f"API 路径启用了 proxy_cache {quoted(cache, 40)}（{where}）",
            )
        )


def _static(found: Routed) -> list[str]:
    """Locations of the API's server that give files from the disk."""
    return [
        f"location {' '.join(each.args)}"
        for each in _locations(found.server.directive)
        if any(each.named("root", "alias", "expires", "try_files")) and not any(each.named(*_PASSING))
    ]


def _locations(around: Directive) -> list[Directive]:
    found = []
    for each in around.named("location"):
        found += [each, *_locations(each)]
    return found


def _weigh_asset(case: FleetCase, seen: LbCache, number: int, asset: str, causes: Causes) -> str:
    """What speaks against an asset; its answer in a few words."""
    first = seen.by_key.get(f"{CACHE}.static-{number}.first")
    second = seen.by_key.get(f"{CACHE}.static-{number}.second")
    name, answer = quoted(asset, 60), second or first
    if answer is None or answer.missing is not None or answer.status != 200:
        missing = answer.missing if answer is not None else None
        said = outcome(answer) if answer is not None else same("–")
        if missing is not None:
            causes.missing(missing, same(name))
        else:
            causes.unknown(Reason.CANNOT_TELL, Text(f"{name}: {said.en}", f"{name}：{said.zh}"))
        return f"{name} {said.en}"
    again = seen.by_key.get(f"{CACHE}.static-{number}.again")
    control, least = answer.headers.get("cache-control", ""), case.params.number("min_max_age_s")
    ages = [int(age) for age in _MAX_AGE.findall(control)]
    forbidden = any(word in control.lower() for word in ("no-store", "no-cache", "private"))
    unchanged = again is not None and again.missing is None and again.status == 304
    if ages and max(ages) >= least and not forbidden:
        return f"{name} max-age={max(ages)}"
    if unchanged:
        return f"{name} 304"
    shown = quoted(control, 60) or "–"
    causes.warn(
        Text(
            f"{name} is not cached: Cache-Control {shown}, and no 304 when asked again",
            f"{name} 没有缓存：Cache-Control {shown}，再次请求也没有 304",
        )
    )
    return f"{name} {shown}"


JUDGE = FleetJudge(CACHE, ("lb",), (*HOST_EVIDENCE, CACHE), judge, ("lb-cache",))
