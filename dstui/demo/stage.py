"""Sets up the demo: keys, server, inventory and journal in a directory of their own, and an engine over all of it."""

from __future__ import annotations

import asyncio
import atexit
import os
import shutil
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from dstui.catalogue import load_catalogue
from dstui.demo.acts import DemoActs
from dstui.demo.cases import case_lines
from dstui.demo.cast import MOST_HOSTS, cast
from dstui.demo.choreographer import DemoChoreographer
from dstui.demo.fleet import Fleet, Keys
from dstui.demo.inventory import Served, inventory_yaml
from dstui.engine import Engine
from dstui.gather.choreographer import Choreographer
from dstui.gather.ssh import Links, SshSettings
from dstui.identity import whoami
from dstui.inventory import Inventory, load_inventory
from dstui.journal import Journal
from dstui.load.ladder import Phases
from dstui.load.setup import LoadSetup
from dstui.model import UsageError
from dstui.opening import ParamSource, live_feed, site_of, validate_thresholds
from dstui.redact import Redactor

if TYPE_CHECKING:
    from dstui.telemetry.feed import LiveFeed


LADDER_PHASES = Phases(ramp=3.0, warm=4.0, window=20.0, drain=15.0, pause=2.0)
"""Nobody wants to wait half an hour for a picture of one."""


@dataclass(slots=True)
class Stage:
    """What exists only for one demo. `strike` may be called again; it is also called when the interpreter ends."""

    folder: Path = field(default_factory=lambda: Path(tempfile.mkdtemp(prefix="dstui-demo-")))
    fleet: Fleet | None = None
    journal: Journal | None = None

    def __post_init__(self) -> None:
        atexit.register(self.strike)

    @property
    def identity(self) -> Path:
        return self.folder / "id_ed25519"

    @property
    def known_hosts(self) -> Path:
        return self.folder / "known_hosts"

    @property
    def api_key(self) -> Path:
        return self.folder / "api.key"

    @property
    def revoked_key(self) -> Path:
        return self.folder / "revoked.key"

    def strike(self) -> None:
        """Ends the server and removes the directory with everything in it."""
        atexit.unregister(self.strike)
        if self.journal is not None:
            self.journal.close()
        if self.fleet is not None:
            self.fleet.stop()
        shutil.rmtree(self.folder, ignore_errors=True)

    async def aclose(self) -> None:
        await asyncio.to_thread(self.strike)

    def furnish(self, hosts: int, clock: Callable[[], float] = time.time) -> Inventory:
        """Starts a fleet that lives by `clock` and gives the inventory that leads to it. Raises UsageError."""
        if not 1 <= hosts <= MOST_HOSTS:
            raise UsageError(f"--hosts {hosts}: from 1 to {MOST_HOSTS}")
        fleet = self.fleet = Fleet(cast(hosts), Keys.fresh(), clock)
        fleet.start()
        _write_private(self.identity, fleet.keys.client.export_private_key())
        public = fleet.keys.server.export_public_key().decode("ascii").strip()
        known = "".join(f"[{host.ssh_ip}]:{fleet.port} {public}\n" for host in fleet.characters)
        _write_private(self.known_hosts, known.encode())
        (self.folder / "cases").mkdir(0o700)
        _write_private(self.folder / "cases" / "demo.jsonl", case_lines().encode())
        path = self.folder / "inventory.yaml"
        _write_private(self.api_key, f"{fleet.keys.api}\n".encode())
        _write_private(self.revoked_key, f"{fleet.keys.revoked}\n".encode())
        served = Served(fleet.dashboard_url, fleet.api_url, fleet.backends, self.api_key, self.revoked_key)
        text = inventory_yaml(
            fleet.characters, port=fleet.port, identity=self.identity, known_hosts=self.known_hosts, served=served
        )
        _write_private(path, text.encode())
        return load_inventory(path)

    def links(self, inventory: Inventory) -> Links:
        """Links to the fleet's hosts, with the key that belongs to it."""
        return Links(lambda name: _settings(inventory, name, self), max_parallel=inventory.ssh.max_parallel)


def set_stage(hosts: int, clock: Callable[[], float]) -> Engine:
    """The engine of a demo with its server running. Raises UsageError; nothing is left behind then."""
    stage = Stage()
    try:
        return _engine(stage, hosts, clock)
    except BaseException:
        stage.strike()
        raise


def _engine(stage: Stage, hosts: int, clock: Callable[[], float]) -> Engine:
    inventory, catalogue = stage.furnish(hosts), load_catalogue()
    assert stage.fleet is not None
    validate_thresholds(catalogue, inventory)
    site = replace(site_of(catalogue, inventory, {}), simulated=True)
    params = ParamSource(catalogue, inventory, {})
    journal = stage.journal = Journal(stage.folder / "demo.journal", site.name, simulated=True)
    links, redactor, acts = stage.links(inventory), Redactor(inventory.secrets), DemoActs(stage.fleet)
    real = Choreographer(site, params, {}, inventory.secrets, inventory, links.forward)

    def make_feed() -> LiveFeed:
        feed = live_feed(inventory, links, redactor, simulated=True)
        feed.perish = acts.perish
        return feed

    load = LoadSetup(inventory, site, params, links, make_feed, clock=clock, phases=LADDER_PHASES)
    return Engine(
        catalogue=catalogue,
        site=site,
        params=params,
        journal=journal,
        links=links,
        choreography=DemoChoreographer(real, stage.fleet, params("hard.firewall", None).counts("sensitive_ports")),
        identity=whoami(changeable=inventory.sign.identity_changeable),
        redactor=redactor,
        clock=clock,
        host_timeout=inventory.ssh.host_timeout_s,
        zone=inventory.cluster.timezone,
        owned=(links, stage),
        watch=load.watch,
        load=load,
    )


def _write_private(path: Path, content: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)


def _settings(inventory: Inventory, name: str, stage: Stage) -> SshSettings:
    told = inventory.ssh_for(name)
    return SshSettings(
        address=told.address,
        user=told.user,
        port=told.port,
        identity=stage.identity,
        agent=told.agent,
        known_hosts=told.known_hosts,
        connect_timeout=told.connect_timeout,
        command_timeout=told.command_timeout,
        host_timeout=told.host_timeout,
        become=told.become,
    )
