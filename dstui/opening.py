"""Puts an engine together from what the operator named: inventory, overlays, journal, flags."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import yaml

from dstui.catalogue import Catalogue, load_catalogue
from dstui.engine import Engine
from dstui.facts.case import Params, Site
from dstui.identity import whoami
from dstui.inventory import Inventory, load_inventory
from dstui.journal import Journal, default_path
from dstui.model import CatalogueError, InventoryError, UsageError
from dstui.options import Options
from dstui.own_checks import declared_checks
from dstui.plan import prepared
from dstui.redact import Redactor
from dstui.thresholds import effective

if TYPE_CHECKING:
    from dstui.gather.ssh import Links
    from dstui.telemetry.feed import LiveFeed


def parse_overrides(catalogue: Catalogue, written: Sequence[str]) -> dict[str, object]:
    """`check.id.param=value` as typed values. Raises UsageError that names the flag and what it should be."""
    overrides: dict[str, object] = {}
    for item in written:
        name, equals, text = item.partition("=")
        if not equals:
            raise UsageError(f"--set {item}: write CHECK.PARAM=VALUE, e.g. hw.memory.mem_min_gb=512")
        try:
            _, param = catalogue.param(name.strip())
            overrides[name.strip()] = _typed(param.type.accept, text)
        except CatalogueError as error:
            raise UsageError(f"--set {item}: {error}") from error
        except ValueError as error:
            raise UsageError(f"--set {item}: {error}") from error
    return overrides


def _typed(accept: object, text: str) -> object:
    assert callable(accept)
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError:
        value = text
    try:
        return accept(value)
    except ValueError:
        # `--set sw.cuda.cuda_min=12.1`: YAML reads a number where the parameter is a version.
        return accept(text)


def validate_thresholds(catalogue: Catalogue, inventory: Inventory) -> None:
    """Checks that `thresholds:` keys name parameters and hold values of their types. Raises one InventoryError."""
    faults = []
    for place in inventory.threshold_positions:
        try:
            _, param = catalogue.param(place.key)
            param.type.accept(place.value)
        except (CatalogueError, ValueError) as error:
            faults.append((place.line, f"{inventory.path}:{place.line}:{place.column}: {place.key}: {error}"))
    if faults:
        raise InventoryError("\n".join(fault for _, fault in sorted(faults)))


def site_of(catalogue: Catalogue, inventory: Inventory, overrides: Mapping[str, object]) -> Site:
    """The inventory's site, with what operations need from parameters."""

    source = ParamSource(catalogue, inventory, overrides)

    def params(check_id: str) -> Params:
        return source(check_id, None)

    agents = params("hard.monitoring-logging")
    return prepared(
        inventory.site(),
        outbound=params("net.outbound").table("outbound_groups"),
        head_ports=params("net.ports").counts("ports_head"),
        log_dirs=agents.texts("log_dirs"),
        exporters=[*agents.texts("agents_metrics"), *agents.texts("agents_gpu")],
    )


class ParamSource:
    """Parameters by check and host, computed once each."""

    def __init__(self, catalogue: Catalogue, inventory: Inventory, overrides: Mapping[str, object]) -> None:
        self._catalogue = catalogue
        self._inventory = inventory
        self._overrides = overrides
        self._known: dict[tuple[str, str | None], Params] = {}

    def __call__(self, check_id: str, host: str | None) -> Params:
        key = (check_id, host)
        if key not in self._known:
            check = self._catalogue.check(check_id)
            params = effective(check, self._inventory, host, self._overrides)
            self._known[key] = self._with_head_ports(params) if check_id == "net.ports" else params
        return self._known[key]

    def _with_head_ports(self, params: Params) -> Params:
        """`ray.gcs_port` and `ray.dashboard_url` say where the head listens, unless somebody set the ports by hand."""
        ports = self._inventory.site().head_ports
        return Params(
            [
                replace(t, value=ports, origin="inventory ray.gcs_port, ray.dashboard_url")
                if t.param == "ports_head" and t.origin == "document" and t.value != ports
                else t
                for t in params.thresholds
            ]
        )


def refuse_split_values(catalogue: Catalogue, site: Site, params: Callable[[str, str | None], Params]) -> None:
    """A parameter that shows a cluster-wide value cannot have another one: hosts would be asked by the cluster's, and
    judged by an answer to another question. Raises InventoryError.
    """
    wide: Mapping[str, object] = {
        "storage.shared_path": site.shared_path,
        "runtime.user": site.runtime_user,
        "runtime.python": site.runtime_python,
        "network.dns_names": site.dns_names,
    }
    faults: dict[str, None] = {}
    for check in catalogue.checks:
        # The nonce is written where the parameters of stor.rw-all-nodes say, so these may differ.
        bound = [p for p in check.params if p.source in wide and check.id != "stor.rw-all-nodes"]
        for param, host in itertools.product(bound, (None, *(h.name for h in site.hosts))):
            found, usual = params(check.id, host), wide[str(param.source)]
            value = found.value(param.name)
            named = isinstance(value, tuple) and set(value) <= set(site.dns_names)
            if value is not None and value != usual and not named:
                faults[
                    f"{check.id}.{param.name} is {value!r} ({found.origin(param.name)}), but {param.source} of the "
                    f"cluster is {usual!r}: set {param.source} in the inventory instead"
                ] = None
    if faults:
        raise InventoryError("\n".join(faults))


async def open_engine(options: Options, catalogue: Catalogue | None = None) -> Engine:
    """The engine for an inventory. Raises InventoryError, CatalogueError, JournalError, UsageError."""
    return await asyncio.to_thread(_open, options, catalogue)


def _open(options: Options, catalogue: Catalogue | None) -> Engine:
    # asyncssh costs more to import than everything else together; nothing before this line needs it.
    from dstui.gather.choreographer import Choreographer
    from dstui.gather.ssh import Links
    from dstui.load.setup import LoadSetup

    catalogue = catalogue or load_catalogue(options.overlays)
    inventory = load_inventory(options.inventory)
    validate_thresholds(catalogue, inventory)
    overrides = parse_overrides(catalogue, options.overrides)
    site = site_of(catalogue, inventory, overrides)
    params = ParamSource(catalogue, inventory, overrides)
    refuse_split_values(catalogue, site, params)
    journal = Journal(options.journal or default_path(site.name), site.name)
    redactor = Redactor(inventory.secrets)
    links = Links(
        inventory.ssh_for,
        max_parallel=inventory.ssh.max_parallel,
        accept_new_host_keys=options.accept_new_host_keys,
    )

    load = LoadSetup(inventory, site, params, links, lambda: live_feed(inventory, links, redactor))
    return Engine(
        catalogue=catalogue,
        site=site,
        params=params,
        journal=journal,
        links=links,
        choreography=Choreographer(
            site, params, declared_checks(catalogue), inventory.secrets, inventory, links.forward
        ),
        identity=whoami(changeable=inventory.sign.identity_changeable),
        redactor=redactor,
        clock=time.time,
        host_timeout=inventory.ssh.host_timeout_s,
        zone=inventory.cluster.timezone,
        two_people=_two_people(catalogue, inventory),
        operators=frozenset(inventory.document.operators),
        new_run=options.new_run,
        owned=(links,),
        watch=load.watch if options.live else None,
        load=load,
    )


def live_feed(inventory: Inventory, links: Links, redactor: Redactor, *, simulated: bool = False) -> LiveFeed:
    """What watches the cluster of an inventory over links that somebody else owns."""
    from dstui.telemetry.feed import LiveFeed
    from dstui.telemetry.sources import Sources, watched_of

    watched = watched_of(inventory, simulated=simulated)
    return LiveFeed(watched, lambda emit: Sources(inventory, watched, links, emit, redactor=redactor), time.time)


def _two_people(catalogue: Catalogue, inventory: Inventory) -> frozenset[str]:
    named = set(inventory.sign.second_person)
    return frozenset(c.id for c in catalogue.checks if c.id in named or c.section in named)
