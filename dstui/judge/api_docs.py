"""api.docs: the documentation page works, and what it loads can be loaded."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from urllib.parse import urlsplit

from dstui.facts.api import ApiDocs, Endpoint
from dstui.facts.api_page import read_page
from dstui.facts.case import FleetCase
from dstui.facts.exchange import Exchange
from dstui.facts.raw import Missing
from dstui.facts.untyped import table
from dstui.judge.api_words import not_asked, outcome, per_endpoint
from dstui.judge.registry import FleetJudge
from dstui.judge.rulings import Causes, not_applicable, quoted
from dstui.model import Reason, Ruling, Text, same

CHECK = "api.docs"
CHAT_PATH = "/v1/chat/completions"
_EXPECTED = Text(
    f"the page shows a viewer, its scripts load, the schema has {CHAT_PATH}",
    f"页面含文档查看器，脚本可加载，接口描述包含 {CHAT_PATH}",
)
_PASSED = Text("page and schema valid", "页面和接口描述都有效")
_SWITCHED_OFF = (403, 404, 410)


def judge(case: FleetCase) -> Sequence[Ruling]:
    return per_endpoint(case, case.get(ApiDocs), _EXPECTED, lambda seen, endpoint: _ruling(case, seen, endpoint))


def _ruling(case: FleetCase, seen: ApiDocs, endpoint: Endpoint) -> Ruling:
    page, schema = _last(seen, endpoint, "page"), _last(seen, endpoint, "schema")
    required = case.params.flag("docs_required")
    off = page is not None and page.missing is None and page.status in _SWITCHED_OFF
    if off and not required:
        text = Text(
            f"docs_required is false and the page answers {page.status if page else ''}: it is off on purpose; "
            "doc.api has to pass instead",
            f"docs_required 为 false，且页面返回 {page.status if page else ''}：有意关闭；改由 doc.api 把关",
        )
        return not_applicable(endpoint.target, text)
    causes = Causes(endpoint.target, _EXPECTED)
    title = _weigh_page(case, seen, endpoint, page, causes)
    paths = _weigh_schema(seen, schema, endpoint, required, causes)
    _weigh_loaded(seen, endpoint, causes)
    _weigh_exposure(seen, endpoint, causes)
    shown = outcome(page) if page is not None else same("–")
    counted = Text(f"{paths} paths", f"{paths} 个路径") if paths is not None else Text("no schema", "无接口描述")
    name = f" {quoted(title, 60)}" if title else ""
    observed = Text(f"{shown.en}{name}, {counted.en}", f"{shown.zh}{name}，{counted.zh}")
    return causes.ruling(
        observed,
        _PASSED,
        material={"page": page.status if page else None, "title": title, "paths": paths},
        evidence=(endpoint.key(CHECK),),
    )


def _last(seen: ApiDocs, endpoint: Endpoint, what: str) -> Exchange | None:
    """The look with the key where there was one, else the one without."""
    return seen.by_key.get(endpoint.key(CHECK, f"{what}-key")) or seen.by_key.get(endpoint.key(CHECK, what))


def _refused(case_required: bool, causes: Causes, text: Text) -> None:
    (causes.fail if case_required else causes.warn)(text)


def _weigh_page(case: FleetCase, seen: ApiDocs, endpoint: Endpoint, page: Exchange | None, causes: Causes) -> str:
    """The title of the page, empty when there is none."""
    what = Text("the page", "文档页")
    if page is None:
        causes.missing(not_asked(endpoint, "the page"), what)
        return ""
    if page.missing is not None:
        causes.missing(page.missing, what)
        return ""
    if _keyless(seen, page, what, causes):
        return ""
    if page.status != 200:
        said_text = outcome(page)
        text = Text(f"the page answers {said_text.en}", f"文档页返回 {said_text.zh}")
        _refused(case.params.flag("docs_required"), causes, text)
        return ""
    shown = read_page(page.text)
    elsewhere = urlsplit(page.url).netloc != urlsplit(endpoint.url).netloc
    kind = quoted(page.kind, 40) or "–"
    if page.kind not in ("text/html", "application/xhtml+xml"):
        causes.fail(Text(f"the page is not HTML (Content-Type {kind})", f"页面不是 HTML（Content-Type {kind}）"))
    elif shown.viewer is None and not elsewhere:
        causes.fail(
            Text(
                "the page is HTML without a documentation viewer (Swagger UI, ReDoc …): something else answers there",
                "页面是 HTML，但没有文档查看器（Swagger UI、ReDoc 等）：应答的是别的东西",
            )
        )
    elif elsewhere and not page.body.strip():
        causes.fail(Text("the manual is an empty page", "手册页面为空"))
    return shown.title


def _keyless(seen: ApiDocs, exchange: Exchange, what: Text, causes: Causes) -> bool:
    """Whether it wants a key and there is none."""
    if exchange.status not in (401, 403) or seen.keyless is None:
        return False
    said = quoted(seen.keyless.why, 120)
    causes.unknown(
        Reason.NO_CREDENTIAL,
        Text(
            f"{what.en} answers {exchange.status} and there is no key: {said}",
            f"{what.zh}返回 {exchange.status}，且没有密钥：{said}",
        ),
    )
    return True


def _weigh_schema(
    seen: ApiDocs, schema: Exchange | None, endpoint: Endpoint, required: bool, causes: Causes
) -> int | None:
    """How many paths the schema has; None when there is none to read."""
    what = Text("the schema", "接口描述")
    if schema is None:
        causes.missing(not_asked(endpoint, "the schema"), what)
        return None
    if schema.missing is not None:
        causes.missing(schema.missing, what)
        return None
    if _keyless(seen, schema, what, causes):
        return None
    if schema.status != 200:
        said = outcome(schema)
        _refused(required, causes, Text(f"the schema answers {said.en}", f"接口描述返回 {said.zh}"))
        return None
    value = schema.json()
    if isinstance(value, Missing) and value.reason is Reason.BUDGET:
        causes.missing(value, what)
        return None
    described = table(value)
    paths = table(described.get("paths")) if described is not None else None
    if paths is None:
        causes.fail(Text("the schema is no OpenAPI description", "接口描述不是 OpenAPI"))
        return None
    if not any(path.endswith(CHAT_PATH) for path in paths):
        causes.fail(Text(f"the schema does not have {CHAT_PATH}", f"接口描述里没有 {CHAT_PATH}"))
    return len(paths)


def _weigh_loaded(seen: ApiDocs, endpoint: Endpoint, causes: Causes) -> None:
    """The schema as the page itself asks for it, and scripts: without them the page stays blank."""
    spec = seen.by_key.get(endpoint.key(CHECK, "spec"))
    if spec is not None and table(spec.json()) is None:
        said, where = outcome(spec), quoted(urlsplit(spec.url).path, 80)
        causes.fail(
            Text(
                f"the page loads its schema from {where}, which gives none ({said.en}): "
                "it shows “Failed to load API definition”",
                f"页面从 {where} 取接口描述，但取不到（{said.zh}）：会显示 “Failed to load API definition”",
            )
        )
    for asset in seen.with_prefix(endpoint.key(CHECK, "asset-")):
        if asset.missing is None and asset.status == 200:
            continue
        said, host = outcome(asset), quoted(urlsplit(asset.url).netloc, 80)
        causes.warn(
            Text(
                f"the page loads a script or style from {host}, which cannot be had from here ({said.en}): "
                "it stays blank; vLLM has --enable-offline-docs",
                f"页面要从 {host} 加载脚本或样式，这里取不到（{said.zh}）：会是空白页；vLLM 有 --enable-offline-docs",
            )
        )


def _weigh_exposure(seen: ApiDocs, endpoint: Endpoint, causes: Causes) -> None:
    page = seen.by_key.get(endpoint.key(CHECK, "page"))
    public = [address for address in seen.addresses if _is_global(address)]
    if page is None or page.status != 200 or not public or urlsplit(page.url).netloc != urlsplit(endpoint.url).netloc:
        return
    causes.warn(
        Text(
            f"the page needs no key, and {public[0]} is an address of the internet",
            f"文档页无需认证，而 {public[0]} 是公网地址",
        )
    )


def _is_global(address: str) -> bool:
    try:
        return ipaddress.ip_address(address).is_global
    except ValueError:
        return False


JUDGE = FleetJudge(CHECK, (), (CHECK,), judge, needs=("api-docs",))
