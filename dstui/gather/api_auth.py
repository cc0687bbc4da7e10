"""Authentication from every angle: without a key, with wrong ones, the revoked one, the right one; and what lies open.

Nothing here changes anything on the server: routes that act are only asked with GET, which they answer by 405.
"""

from __future__ import annotations

import base64
import secrets
from collections.abc import Mapping, Sequence

from dstui.facts.api import CHAT, LISTING, REFUSING, ApiAuth
from dstui.facts.exchange import Exchange
from dstui.facts.openai import chat
from dstui.facts.raw import Missing
from dstui.gather.api import MODELS, Asking, ask_each
from dstui.gather.caller import Credential
from dstui.gather.observing import Observing

AUTH_SECONDS = 10.0
"""CATALOGUE 043: timeout 10 s."""

OPEN_GET: Mapping[str, str] = {
    "metrics": "/metrics",
    "load": "/load",
    "server-info": "/server_info",
    "is-sleeping": "/is_sleeping",
    "sleep": "/sleep",
    "collective-rpc": "/collective_rpc",
    "reset-prefix-cache": "/reset_prefix_cache",
    "scale-elastic-ep": "/scale_elastic_ep",
    "absent": "/dstui-no-such-path",
}
"""Paths that vLLM's key check leaves open. `/server_info` to `/reset_prefix_cache` exist in its development mode only,
`/scale_elastic_ep` always; those that act answer a GET with 405. `absent` shows how the server answers for no path."""


async def observe_api_auth(o: Observing) -> object:
    """The matrix of CATALOGUE 043 at every endpoint, the revoked key, and paths without a key."""
    reference = o.inventory.document.auth.revoked_key_ref
    revoked = None if reference is None else await o.credential_of(reference, "auth.revoked_key_ref")

    async def work(asking: Asking) -> Sequence[Exchange]:
        found: list[Exchange] = []
        for variant in REFUSING:
            found += await _both(asking, variant, _bad(variant))
        if asking.credential is not None:
            found += await _both(asking, "right", asking.credential)
        if isinstance(revoked, Credential):
            found.append(await asking.get("revoked-models", MODELS, seconds=AUTH_SECONDS, credential=revoked))
        return (*found, *await _open_paths(asking))

    asked = await ask_each(o, "api.auth", work)
    return ApiAuth(
        asked.by_key,
        asked.endpoints,
        asked.approaches,
        asked.keyless,
        revoked if isinstance(revoked, Missing) else None,
    )


def _bad(variant: str) -> Credential | None:
    """What is sent for a variant that has to be refused. A wrong key is random, never made from the right one."""
    if variant == "none":
        return None
    if variant == "empty":
        return Credential.made_up("")
    made = f"dstui-wrong-{secrets.token_hex(12)}"
    if variant == "wrong":
        return Credential.made_up(made)
    return Credential.made_up(base64.b64encode(f"dstui:{made}".encode()).decode(), scheme="Basic")


async def _both(asking: Asking, variant: str, credential: Credential | None) -> tuple[Exchange, Exchange]:
    listed = await asking.get(f"{variant}-{LISTING}", MODELS, seconds=AUTH_SECONDS, credential=credential)
    return listed, await asking.one_token(f"{variant}-{CHAT}", seconds=AUTH_SECONDS, credential=credential)


async def _open_paths(asking: Asking) -> Sequence[Exchange]:
    """What answers without any key: an answer by another door, the tokenizer, and GETs of the paths above."""
    body = chat(asking.model, "ping", max_tokens=1, temperature=0)
    prompt = {"model": asking.model, "prompt": "ping"}
    return (
        await asking.send("open-invocations", "POST", "/invocations", seconds=AUTH_SECONDS, data=body),
        await asking.send("open-tokenize", "POST", "/tokenize", seconds=AUTH_SECONDS, data=prompt),
        *[await asking.get(f"open-{name}", path, seconds=AUTH_SECONDS) for name, path in OPEN_GET.items()],
    )
