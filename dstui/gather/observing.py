"""What an observation of the service may use, and the table of them: each need of a judge and who meets it."""

from __future__ import annotations

import asyncio
import importlib
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, cast
from urllib.parse import urlsplit

from dstui.facts.case import HostSite, Params, Site
from dstui.facts.raw import Missing, connect
from dstui.facts.untyped import rows
from dstui.gather.link import HostLink
from dstui.inventory import Inventory
from dstui.inventory.secrets import Reference
from dstui.model import GatherError, Reason, SecretError

if TYPE_CHECKING:
    from dstui.gather.caller import Caller, Credential

CONNECT_SECONDS = 3.0
INSIDE_SECONDS = 10.0
CALL_SECONDS = 10.0

Forward = Callable[[HostSite, str, int], Awaitable[Path | None]]
"""Opens a tunnel from a host to an address and port (`Links.forward`)."""


@dataclass(frozen=True, slots=True)
class Way:
    """How an endpoint is got to. `via` and `socket` are None when straight from the controller.

    `inside` says that it was looked at from a host of the cluster too: with no `via`, nobody there gets a connection.
    """

    via: str | None = None
    socket: Path | None = None
    inside: bool = False


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
    forward: Forward | None = None

    async def credential(self) -> Credential | Missing:
        """The API key of `auth.key_ref`; Missing(no-credential) when there is none or it cannot be read."""
        return await self.credential_of(self.inventory.document.auth.key_ref, "auth.key_ref")

    async def credential_of(self, reference: object, name: str) -> Credential | Missing:
        """A key by its reference; `name` is where the inventory has it."""
        from dstui.gather.caller import Credential

        if reference is None:
            return Missing(Reason.NO_CREDENTIAL, f"the inventory names no key ({name})")
        try:
            # In a thread: a reference may run a command.
            secret = await asyncio.to_thread(self.inventory.secrets.resolve, cast("Reference", reference))
        except SecretError as error:
            return Missing(Reason.NO_CREDENTIAL, str(error))
        credential = Credential.of(secret)
        return credential.fault() or credential

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
    async def caller(
        self,
        *,
        seconds: float = CALL_SECONDS,
        connections: int = 100,
        through: Way | None = None,
        trust: ssl.SSLContext | None = None,
    ) -> AsyncIterator[Caller]:
        """Requests to the endpoints, with certificates verified; every request carries the run's token.

        `through` is the way to one endpoint (`way_to`), for requests to that one only. `trust` saves making it again.
        """
        from dstui.gather.caller import caller  # httpx is only paid for when an endpoint is asked

        headers = {"X-Request-Id": f"dstui-{self.run}"}
        async with caller(
            seconds=seconds,
            headers=headers,
            verify=trust or await self.trust(),
            connections=connections,
            socket=through.socket if through else None,
            via=through.via if through else None,
        ) as opened:
            yield opened

    async def way_to(self, url: str) -> Way:
        """How the controller gets to an endpoint: straight, or else through a host that does get there.

        A backend's port is rightly closed to all but the load balancer and its peers, and then the controller's own
        connection says nothing about it. Tried in turn: a connection from here, the load balancers, the host that
        has the address, the head. When nobody gets there the way is straight, and the requests say what is wrong.
        """
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)
        if await connects(host, port):
            return Way()
        looked, hidden = False, False
        for via in self._gateways(host):
            open_there = await self._connects_from(via, host, port)
            looked = looked or open_there is not None
            if open_there is False:
                continue
            tunnel = await self._tunnel(via, host, port)
            if tunnel is not None:
                return Way(via.name, tunnel, inside=True)
            hidden = hidden or open_there is True
        return Way(inside=looked and not hidden)

    async def _connects_from(self, via: HostSite, host: str, port: int) -> bool | None:
        """Whether a host gets a connection; None when it cannot be asked."""
        op = connect("way", (host, port), timeout=CONNECT_SECONDS)
        try:
            raw = await self.links[via.name].facts([op], deadline=INSIDE_SECONDS)
        except GatherError:
            return None
        tries = rows(raw.value("way"))
        first = rows(tries[0]) if tries else None
        return first[2] == "ok" if first is not None and len(first) > 2 else None

    async def _tunnel(self, via: HostSite, host: str, port: int) -> Path | None:
        """The near end of a tunnel; None when there is none, say because the host's sshd forbids them."""
        if self.forward is None:
            return None
        try:
            return await self.forward(via, host, port)
        except GatherError:
            return None

    def _gateways(self, address: str) -> Iterator[HostSite]:
        """Hosts that are up and may be let through, each once, no more than three."""
        balancers = set(self.inventory.document.lb.hosts or ())
        up = [host for host in self.site.hosts if host.name in self.links and not host.local]
        wanted = (
            next((h for h in up if "lb" in h.roles or h.name in balancers), None),
            next((h for h in up if address in (h.data_ip, h.mgmt_ip, h.address, h.name)), None),
            next((h for h in up if "head" in h.roles), None),
        )
        found = {host.name: host for host in wanted if host is not None}
        yield from found.values()


async def connects(host: str, port: int) -> bool:
    """Whether a TCP connection from here is taken, by any address of the host."""
    try:
        async with asyncio.timeout(CONNECT_SECONDS):
            _, writer = await asyncio.open_connection(host, port)
    except (OSError, UnicodeError, ValueError):
        return False
    writer.transport.abort()
    return True


class Observe(Protocol):
    """Meets one need. What it returns is what the judges find under its type; raises GatherError."""

    async def __call__(self, o: Observing) -> object: ...


OBSERVERS: Mapping[str, str] = {
    "func-basic": "func",
    "func-concurrent": "func",
    "func-errors": "func_errors",
    "func-languages": "func",
    "func-long": "func",
    "model-files": "model",
    "model-integrity": "model",
    "model-weights": "model",
    "model-cases": "model_cases",
    "gpu-load": "model_load",
    "api-started": "api",
    "api-docs": "api_docs",
    "api-health": "api_health",
    "api-auth": "api_auth",
    "api-rate-limit": "api_burst",
    "ray": "ray_checks",
    "vllm-backends": "serve_checks",
    "vllm-install": "serve_checks",
    "engine-settings": "serve_checks",
    "serve-concurrency": "serve_burst",
    "lb-deployed": "lb",
    "lb-tls": "lb_tls",
    "lb-proxy": "lb_proxy",
    "lb-spread": "lb_spread",
    "lb-cache": "lb",
}
"""Need → module of `dstui.gather` that has a function `observe_<need>` (dashes as underscores) for it."""


def observer(need: str) -> Observe:
    """Who meets a need. KeyError when nobody does."""
    module = importlib.import_module(f"dstui.gather.{OBSERVERS[need]}")
    return cast("Observe", getattr(module, f"observe_{need.replace('-', '_')}"))
