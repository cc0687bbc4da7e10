"""Health, shallow and deep: what the health path says a few times over, and whether one token comes out."""

from __future__ import annotations

from collections.abc import Sequence

from dstui.facts.api import ApiHealth, answer_of
from dstui.facts.exchange import Exchange
from dstui.facts.openai import ApiError
from dstui.gather.api import Asking, ask_each
from dstui.gather.observing import Observing

SAMPLE_SECONDS = 5.0
DEEP_SECONDS = 10.0
"""CATALOGUE 042: one token within 10 s."""
SERVE_HEALTH = "/-/healthz"
COMPLETIONS = "/v1/completions"
SAMPLES_AT_MOST = 20


async def observe_api_health(o: Observing) -> object:
    """The health path `samples` times, and one token, at every endpoint."""
    params = o.params("api.health", None)
    path, deep = params.text("health_path"), params.flag("deep_probe")
    samples = min(max(params.count("samples"), 1), SAMPLES_AT_MOST)

    async def work(asking: Asking) -> Sequence[Exchange]:
        # Not patient: what a load balancer would see is what counts.
        found = [
            await asking.get(f"sample-{number}", path, seconds=SAMPLE_SECONDS, patient=False)
            for number in range(1, samples + 1)
        ]
        if all(exchange.status == 404 for exchange in found) and path != SERVE_HEALTH:
            found.append(await asking.get("serve", SERVE_HEALTH, seconds=SAMPLE_SECONDS))
        return (*found, *(await _deep(asking) if deep else ()))

    asked = await ask_each(o, "api.health", work)
    return ApiHealth(asked.by_key, asked.endpoints, asked.approaches, asked.keyless)


async def _deep(asking: Asking) -> Sequence[Exchange]:
    """One token by chat; by plain completion where the model has no chat template."""
    chatted = await asking.one_token("deep", seconds=DEEP_SECONDS, credential=asking.credential)
    said = answer_of(chatted)
    if chatted.status == 400 and isinstance(said, ApiError) and "chat template" in said.message.lower():
        body = {"model": asking.model, "prompt": "ping", "max_tokens": 1, "temperature": 0}
        return (
            await asking.send(
                "deep", "POST", COMPLETIONS, seconds=DEEP_SECONDS, credential=asking.credential, data=body
            ),
        )
    return (chatted,)
