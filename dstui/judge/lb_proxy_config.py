"""What nginx's configuration says of the API's path: where it goes, how long it may take, how large it may be."""

from __future__ import annotations

from dstui.facts.api import size
from dstui.facts.case import FleetCase
from dstui.facts.lb import LbFacts
from dstui.facts.nginx_routes import DEFAULT_BODY, DEFAULT_READ_TIMEOUT, Place, Upstream, seconds
from dstui.facts.raw import Missing
from dstui.judge.fleet import facts_of, listed
from dstui.judge.lb_words import Routed, is_member, placed
from dstui.judge.rulings import Causes, quoted
from dstui.judge.versions import at_least, version
from dstui.model import Reason, Text

_MB = 1_000_000
_HTTP_1_1_SINCE = (1, 29, 7)
"""From this version on nginx speaks HTTP/1.1 to upstreams by default (its CHANGES)."""
_SHOWN = (
    "proxy_http_version", "proxy_buffering", "proxy_read_timeout", "client_max_body_size", "proxy_next_upstream",
    "proxy_cache", "gzip", "gzip_types",
)  # fmt: skip
"""Directives of the place that are shown. A list of what may be, so that no header with a key in it ever is."""


def weigh_config(case: FleetCase, found: Routed, causes: Causes) -> None:
    """What speaks against the configuration, and a note that quotes it."""
    causes.note(_quoted(found.place))
    if found.address is None:
        where = quoted(f"{found.place.label} ({found.place.where})", 120)
        causes.fail(Text(f"the API's path is not passed on: {where}", f"API 路径没有被转发：{where}"))
        return
    if isinstance(found.upstream, Missing):
        causes.missing(found.upstream, Text("upstream", "上游"))
    else:
        _weigh_members(case, found, found.upstream, causes)
    _weigh_time(case, found.place, causes)
    _weigh_size(case, found.place, causes)
    _weigh_stream(found.place, causes)
    _weigh_protocol(case, found, causes)
    retried = found.place.one("proxy_next_upstream")
    if retried is not None and "non_idempotent" in retried.args:
        causes.warn(
            Text(
                "proxy_next_upstream repeats POSTs (non_idempotent): one prompt may be answered twice",
                "proxy_next_upstream 会重试 POST（non_idempotent）：同一提示词可能被执行两次",
            )
        )


def _quoted(place: Place) -> Text:
    passing = place.own("proxy_pass")
    held = [f"{name} {' '.join(each.args)}" for name in _SHOWN if (each := place.one(name)) is not None]
    if passing is not None:
        # An address may hold a login.
        held.insert(0, f"proxy_pass {passing.first.rpartition('@')[2] if '@' in passing.first else passing.first}")
    line = quoted(f"{place.where} {place.label}: {'; '.join(held)}", 400)
    return Text(line, line)


def _weigh_members(case: FleetCase, found: Routed, upstream: Upstream, causes: Causes) -> None:
    expected = case.params.texts("expected_backends")
    if not expected:
        causes.unknown(
            Reason.NO_TARGETS,
            Text("no backends to compare with: set endpoints.backends", "没有可比对的后端：请设置 endpoints.backends"),
        )
        return
    taking = [member for member in upstream.members if not member.down]
    lost = [url for url in expected if not any(is_member(case, url, member, found.name) for member in taking)]
    others = [m for m in taking if not any(is_member(case, url, m, found.name) for url in expected)]
    unplaced = [member for member in others if not placed(case, member.host, found.name)]
    name = quoted(upstream.name, 60)
    if lost and len(unplaced) >= len(lost):
        shown = quoted(listed(unplaced), 100)
        causes.unknown(
            Reason.CANNOT_TELL,
            Text(
                f"whether {shown} is {quoted(listed(lost), 100)} cannot be told from the configuration",
                f"无法从配置判断 {shown} 是否就是 {quoted(listed(lost), 100)}",
            ),
        )
    elif lost:
        shown = quoted(listed(lost), 120)
        causes.fail(Text(f"upstream {name} lacks {shown}", f"上游 {name} 缺少 {shown}"))
    if others and not (lost and unplaced):
        shown = quoted(listed(others), 120)
        causes.warn(
            Text(
                f"upstream {name} also has {shown}, which endpoints.backends does not name",
                f"上游 {name} 还有 {shown}，不在 endpoints.backends 中",
            )
        )


def _weigh_time(case: FleetCase, place: Place, causes: Causes) -> None:
    written = place.value("proxy_read_timeout", DEFAULT_READ_TIMEOUT)
    found, least = seconds(written), case.params.number("proxy_read_timeout_min_s")
    if found is None:
        shown = quoted(written, 40)
        causes.unknown(
            Reason.PARSE_ERROR, Text(f"proxy_read_timeout {shown}: no time", f"proxy_read_timeout {shown}：不是时间")
        )
    elif found < least:
        causes.warn(
            Text(
                f"proxy_read_timeout {quoted(written, 40)}: longer answers are cut off, at least {least:g} s",
                f"proxy_read_timeout {quoted(written, 40)}：更久的回答会被掐断，应至少 {least:g} 秒",
            )
        )


def _weigh_size(case: FleetCase, place: Place, causes: Causes) -> None:
    written = place.value("client_max_body_size", DEFAULT_BODY)
    found, least = size(written), case.params.number("body_min_mb")
    if found is None:
        shown = quoted(written, 40)
        causes.unknown(
            Reason.PARSE_ERROR,
            Text(f"client_max_body_size {shown}: no size", f"client_max_body_size {shown}：不是大小"),
        )
    elif 0 < found < least * _MB:
        causes.warn(
            Text(
                f"client_max_body_size {quoted(written, 40)}: longer prompts are refused, at least {least:g} MB",
                f"client_max_body_size {quoted(written, 40)}：更长的提示词会被拒绝，应至少 {least:g} MB",
            )
        )


def _weigh_stream(place: Place, causes: Causes) -> None:
    if place.value("proxy_buffering", "on") != "off":
        causes.warn(
            Text(
                "proxy_buffering is on: streams stall with slow clients, a cache or gzip",
                "proxy_buffering 未关闭：遇到慢客户端、缓存或 gzip 时流会卡住",
            )
        )
    types = place.one("gzip_types")
    if place.value("gzip", "off") == "on" and types is not None and {"*", "text/event-stream"} & set(types.args):
        causes.warn(
            Text(
                "gzip is on for text/event-stream: pieces are held back until a block is full",
                "gzip 对 text/event-stream 生效：分块会被攒满才发出",
            )
        )


def _weigh_protocol(case: FleetCase, found: Routed, causes: Causes) -> None:
    facts = facts_of(case, found.name, LbFacts)
    running = version(facts.version) if not isinstance(facts, Missing) and isinstance(facts.version, str) else None
    default = "1.1" if running is not None and at_least(running, _HTTP_1_1_SINCE) else "1.0"
    if found.place.value("proxy_http_version", default) == "1.0":
        causes.warn(
            Text(
                "HTTP/1.0 to the backends: a connection for each request (proxy_http_version 1.1)",
                "到后端用 HTTP/1.0：每个请求新建连接（应设 proxy_http_version 1.1）",
            )
        )
