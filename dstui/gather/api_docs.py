"""The documentation page as a browser meets it: page, schema, and the scripts that it loads."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Sequence
from urllib.parse import urljoin, urlsplit

from dstui.facts.api import ApiDocs
from dstui.facts.api_page import read_page
from dstui.facts.exchange import Exchange
from dstui.gather.api import Asking, ask_each
from dstui.gather.caller import joined
from dstui.gather.observing import Observing

DOCS_SECONDS = 5.0
"""CATALOGUE 041: timeout 5 s."""
ASSETS_AT_MOST = 6
_RESOLVE_SECONDS = 3.0


async def observe_api_docs(o: Observing) -> object:
    """The page and the schema at the public endpoint, with the key only where they want one."""
    params = o.params("api.docs", None)
    docs_url, schema_url = params.text("docs_url"), params.text("openapi_url")

    async def work(asking: Asking) -> Sequence[Exchange]:
        page = await _with_or_without_key(asking, "page", docs_url)
        schema = await _with_or_without_key(asking, "schema", schema_url)
        return (*page, *schema, *await _loaded(asking, page[-1], joined(asking.endpoint.url, schema_url)))

    asked = await ask_each(o, "api.docs", work, public_only=True)
    hosts = [urlsplit(joined(endpoint.url, docs_url)).hostname or "" for endpoint in asked.endpoints]
    addresses = await _addresses(hosts[0]) if hosts else ()
    return ApiDocs(asked.by_key, asked.endpoints, asked.approaches, asked.keyless, addresses)


async def _with_or_without_key(asking: Asking, what: str, path: str) -> tuple[Exchange, ...]:
    """Without the key; then with it where that is refused, but never to another host than the API's."""
    open_to_all = await asking.get(what, path, seconds=DOCS_SECONDS)
    elsewhere = urlsplit(open_to_all.url).netloc != urlsplit(asking.endpoint.url).netloc
    if open_to_all.status not in (401, 403) or asking.credential is None or elsewhere:
        return (open_to_all,)
    return open_to_all, await asking.get(f"{what}-key", path, seconds=DOCS_SECONDS, credential=asking.credential)


async def _loaded(asking: Asking, shown: Exchange, schema: str) -> Sequence[Exchange]:
    """What the page makes a browser load. Nothing when there is no page."""
    if shown.missing is not None or shown.status != 200:
        return ()
    # In a thread: a hostile page can keep a parser busy.
    page = await asyncio.to_thread(read_page, shown.text)
    wanted = [("spec", url)] if (url := _absolute(shown.url, page.spec)) is not None and url != schema else []
    assets = dict.fromkeys(url for asset in page.assets if (url := _absolute(shown.url, asset)) is not None)
    wanted += [(f"asset-{number}", url) for number, url in enumerate([*assets][:ASSETS_AT_MOST], 1)]
    return await asyncio.gather(
        *(asking.get(what, url, seconds=DOCS_SECONDS) for what, url in wanted),
    )


def _absolute(base: str, written: str | None) -> str | None:
    """An address in a page as a whole one; None when there is none, or when it is nothing to ask by HTTP."""
    try:
        url = urljoin(base, written or "")
        return url if written and urlsplit(url).scheme in ("http", "https") and urlsplit(url).hostname else None
    except ValueError:
        return None


async def _addresses(host: str) -> tuple[str, ...]:
    """What a name resolves to here; nothing when it does not."""
    try:
        async with asyncio.timeout(_RESOLVE_SECONDS):
            rows = await asyncio.get_running_loop().getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError, TimeoutError):
        return ()
    return tuple(dict.fromkeys(str(row[4][0]).partition("%")[0] for row in rows))
