"""Carries out what one judge needs beyond single hosts, with that check's parameters."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping

from dstui.catalogue.declared import CommandProbe, Declared, HttpProbe
from dstui.facts.case import Params, Site
from dstui.facts.choreography import Asked, NonceMatrix, OwnAnswer, PortMatrix, VantageReach
from dstui.facts.raw import Answer, Missing, run
from dstui.gather.choreography import nonce_matrix, port_matrix, vantage_reach
from dstui.gather.link import HostLink
from dstui.gather.local import open_local
from dstui.gather.observing import OBSERVERS, Forward, Observing, observer
from dstui.inventory import Inventory
from dstui.inventory.secrets import SecretStore
from dstui.model import GatherError, Reason, SecretError

_PHASE_SECONDS = 2.0

OWN = "own:"
"""Prefix of the need of an operator's own check that is judged on the controller or an endpoint."""


class Choreographer:
    """Knows how to meet each need; the engine hands it the links that are up."""

    def __init__(
        self,
        site: Site,
        params: Callable[[str, str | None], Params],
        own: Mapping[str, Declared],
        store: SecretStore,
        inventory: Inventory | None = None,
        forward: Forward | None = None,
    ) -> None:
        self._inventory = inventory
        self._forward = forward
        self._site = site
        self._params = params
        self._own = own
        self._store = store

    async def __call__(
        self,
        need: str,
        links: Mapping[str, HostLink],
        missing: Mapping[str, Missing],
        asked: Asked,
    ) -> object:
        """What was observed for `ports`, `nonce`, `vantage`, `own:<check id>` or a need of OBSERVERS.

        Raises GatherError.
        """
        if need in OBSERVERS:
            if self._inventory is None:
                raise GatherError(Reason.NOT_RUN, "the endpoints of this cluster are not asked")
            token = secrets.token_hex(4)
            return await observer(need)(
                Observing(
                    inventory=self._inventory,
                    site=self._site,
                    params=self._params,
                    links=links,
                    missing=missing,
                    run=token,
                    confirmed=asked.confirmed,
                    told=asked.told,
                    forward=self._forward,
                )
            )
        if need == "ports":
            return await self._ports(links, missing)
        if need == "nonce":
            return await self._nonce(links, missing)
        if need == "vantage":
            return await self._vantage()
        return OwnAnswer(await self._ask(need.removeprefix(OWN)))

    async def _ports(self, links: Mapping[str, HostLink], missing: Mapping[str, Missing]) -> PortMatrix:
        params = self._params("net.ports", None)
        low, _, high = params.text("port_range").partition("-")
        if not (low.strip().isdecimal() and high.strip().isdecimal()):
            raise GatherError(
                Reason.PARSE_ERROR,
                f"net.ports.port_range is {params.text('port_range')!r} ({params.origin('port_range')}): "
                "write it as 10001-19999",
            )
        pinned = [port for name, port in self._site.ray_ports.items() if not name.startswith("worker_")]
        return await port_matrix(
            self._site,
            links,
            missing,
            head_ports=params.counts("ports_head"),
            port_range=(int(low), int(high)),
            samples=params.count("range_samples"),
            extra=tuple(dict.fromkeys((*params.counts("ports_extra"), *pinned))),
            phase=await self._phase(),
            connect_timeout=params.number("connect_timeout_s"),
            seed=self._site.name,
        )

    async def _phase(self) -> str:
        """`pre` or `live` (CATALOGUE 0.6): live when the head's dashboard answers, where the inventory does not say."""
        if self._site.phase != "auto":
            return self._site.phase
        from dstui.gather import http

        for head in (host for host in self._site.hosts if "head" in host.roles):
            url = f"http://{_in_url(head.data_ip)}:8265/api/version"
            async with http.client(timeout=_PHASE_SECONDS) as client:
                answer = await http.request("phase", "GET", url, headers={}, timeout=_PHASE_SECONDS, client=client)
            if answer.exit in (200, 401, 403):
                return "live"
        return "pre"

    async def _nonce(self, links: Mapping[str, HostLink], missing: Mapping[str, Missing]) -> NonceMatrix:
        params = self._params("stor.rw-all-nodes", None)
        shared = params.text("shared_path")
        return await nonce_matrix(
            self._site,
            links,
            missing,
            directory=params.optional_text("probe_dir") or f"{shared.rstrip('/')}/.dstui-probe",
            run=secrets.token_hex(16),
            as_user=params.optional_text("as_user"),
            within=params.number("visible_max_s"),
        )

    async def _vantage(self) -> VantageReach:
        params = self._params("hard.firewall", None)
        ports = params.counts("sensitive_ports")
        return await vantage_reach(
            self._site,
            {host.name: ports for host in self._site.hosts},
            timeout=2.0,
            cluster_cidrs=params.texts("cluster_cidrs"),
        )

    async def _ask(self, check_id: str) -> Answer:
        probe = self._own[check_id].probe
        key = f"own.{check_id}"
        if isinstance(probe, CommandProbe):
            return await self._command(key, probe)
        return await self._http(key, probe)

    async def _command(self, key: str, probe: CommandProbe) -> Answer:
        """On the machine that dstui runs on, by the same collector as on hosts."""
        op = run(key, *probe.argv, timeout=probe.timeout, root=probe.root)
        link = await open_local("controller", become=self._site.become)
        try:
            raw = await link.facts([op], deadline=probe.timeout + 10.0)
        finally:
            await link.close()
        found = raw.answers.get(key)
        return found or Answer(key, op.source, missing=Missing(Reason.PROBE_ERROR, "the collector did not answer"))

    async def _http(self, key: str, probe: HttpProbe) -> Answer:
        from dstui.gather import http  # httpx is only paid for when an own check speaks HTTP

        headers = {}
        for header in probe.headers:
            value = header.value
            if header.secret is not None:
                try:
                    value += self._store.resolve(f"secrets.{header.secret}").reveal()
                except SecretError as error:
                    return Answer(key, f"{probe.method} {probe.url}", missing=Missing(Reason.NO_CREDENTIAL, str(error)))
            headers[header.name] = value
        async with http.client(timeout=probe.timeout) as client:
            return await http.request(
                key, probe.method, probe.url, headers=headers, timeout=probe.timeout, client=client
            )


def _in_url(address: str) -> str:
    return f"[{address}]" if ":" in address else address
