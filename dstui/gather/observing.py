"""What an observation of the service may use, and the table of them: each need of a judge and who meets it."""

from __future__ import annotations

import asyncio
import importlib
import ssl
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Protocol, cast

from dstui.facts.case import Params, Site
from dstui.facts.raw import Missing
from dstui.gather.caller import Caller, Credential, caller
from dstui.gather.link import HostLink
from dstui.inventory import Inventory
from dstui.model import GatherError, Reason, SecretError

CALL_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class Observing:
    """One need being met. `run` is a token of this run, for nonces and request ids; `told` shows a word of progress.

    `links` are the hosts that are up, `missing` those that are not, by name. `confirmed` holds the checks whose deeper
    or heavier part a person asked for (CATALOGUE 0.3).
    """

    inventory: Inventory
    site: Site
    params: Callable[[str, str | None], Params]
    links: Mapping[str, HostLink]
    missing: Mapping[str, Missing]
    run: str
    confirmed: frozenset[str] = frozenset()
    told: Callable[[str], None] = lambda word: None

    async def credential(self) -> Credential | Missing:
        """The API key of `auth.key_ref`; Missing(no-credential) when there is none or it cannot be read."""
        return await self.credential_of(self.inventory.document.auth.key_ref, "auth.key_ref")

    async def credential_of(self, reference: object, name: str) -> Credential | Missing:
        """A key by its reference; `name` is where the inventory has it."""
        if reference is None:
            return Missing(Reason.NO_CREDENTIAL, f"the inventory names no key ({name})")
        try:
            # In a thread: a reference may run a command.
            secret = await asyncio.to_thread(self.inventory.secrets.resolve, str(reference))
        except SecretError as error:
            return Missing(Reason.NO_CREDENTIAL, str(error))
        return Credential.of(secret)

    async def trust(self) -> ssl.SSLContext:
        """Whom to believe: the system's CAs, or the file of `lb.ca_bundle`. Raises GatherError."""
        bundle = self.inventory.document.lb.ca_bundle

        def made() -> ssl.SSLContext:
            return ssl.create_default_context(cafile=None if bundle in (None, "system") else bundle)

        try:
            return await asyncio.to_thread(made)
        except (OSError, ssl.SSLError) as error:
            raise GatherError(Reason.CANNOT_TELL, f"lb.ca_bundle {bundle}: {error}") from error

    @asynccontextmanager
    async def caller(self, *, seconds: float = CALL_SECONDS, connections: int = 100) -> AsyncIterator[Caller]:
        """Requests to the endpoints, with certificates verified; every request carries the run's token."""
        headers = {"X-Request-Id": f"dstui-{self.run}"}
        async with caller(
            seconds=seconds, headers=headers, verify=await self.trust(), connections=connections
        ) as opened:
            yield opened


class Observe(Protocol):
    """Meets one need. What it returns is what the judges find under its type; raises GatherError."""

    async def __call__(self, o: Observing) -> object: ...


OBSERVERS: Mapping[str, str] = {}
"""Need → module of `dstui.gather` that has a function `observe_<need>` (dashes as underscores) for it."""


def observer(need: str) -> Observe:
    """Who meets a need. KeyError when nobody does."""
    module = importlib.import_module(f"dstui.gather.{OBSERVERS[need]}")
    return cast("Observe", getattr(module, f"observe_{need.replace('-', '_')}"))
