"""A valid inventory and what the rest of dstui asks of it: the site, a host's SSH settings, values, thresholds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from pydantic import BaseModel

from dstui.facts.case import HostSite, Site
from dstui.inventory.schema import Cluster, Document, Host, HostGroup, Ssh
from dstui.inventory.schema_people import Sign
from dstui.inventory.schema_walk import has_key
from dstui.inventory.secrets import (
    CommandReference,
    EnvReference,
    FileReference,
    NamedReference,
    Reference,
    SecretStore,
)
from dstui.inventory.semantics import roles_of
from dstui.inventory.unfold import Path as ValuePath
from dstui.inventory.unfold import Unfolded

if TYPE_CHECKING:
    from dstui.gather.ssh import SshSettings

DEFAULT_SHARED_PATH = "/mnt/deepseek-shared"
DEFAULT_RUNTIME_PYTHON = "/opt/deepseek/venv/bin/python"
DEFAULT_DNS_EXTERNAL = "pypi.org"
_RAY_CLIENT_PORT = 10001
_MIRRORED_GROUP = {"pip": "python", "hf": "model", "docker": "container", "apt": "os"}


@dataclass(frozen=True, slots=True)
class ThresholdPlace:
    """One threshold that an operator wrote: `key` is `check.id.param`; `origin` `inventory`, `group G` or `host H`.

    Whether there is such a parameter, and whether the value is of its type, only the catalogue can say; `line` and
    `column` are where the key stands in the inventory.
    """

    key: str
    value: object
    origin: str
    line: int
    column: int


@dataclass(frozen=True)
class Inventory:
    """A loaded inventory. `document` has every block typed; the methods fill in defaults.

    `secrets` resolves the references of this inventory; a process has one, shared with its Redactor.
    """

    path: Path
    document: Document = field(repr=False)
    file: Unfolded = field(repr=False)
    secrets: SecretStore = field(repr=False)

    @property
    def cluster(self) -> Cluster:
        return self.document.cluster

    @property
    def ssh(self) -> Ssh:
        return self.document.ssh

    @property
    def sign(self) -> Sign:
        return self.document.sign

    def site(self, *, phase: str | None = None) -> Site:
        """The cluster as operations and judges need it. `phase` overrides `cluster.phase` once it is known."""
        doc = self.document
        runtime = doc.runtime
        mode = runtime.mode or "bare-metal"
        hosts = tuple(self._host_site(host) for host in doc.hosts)
        return Site(
            name=doc.cluster.name,
            environment=doc.cluster.environment,
            phase=phase or doc.cluster.phase,
            hosts=hosts,
            shared_path=doc.storage.shared_path or DEFAULT_SHARED_PATH,
            runtime_python=runtime.python or (DEFAULT_RUNTIME_PYTHON if mode == "bare-metal" else None),
            runtime_user=runtime.user,
            runtime_mode=mode,
            docker_required=runtime.docker_required is not False,
            become=doc.ssh.become,
            dns_names=self._dns_names(),
            dns_external=doc.network.dns_external or DEFAULT_DNS_EXTERNAL,
            offline=doc.network.offline,
            outbound=self._outbound(),
            ray_ports=_set_values(doc.ray.ports),
            head_ports=self._head_ports(),
            cluster_cidrs=doc.network.cluster_cidrs,
            log_dirs=doc.monitoring.log_dirs or (),
            cloud_provider=doc.cloud.provider,
            balancers=tuple(dict.fromkeys((*(h.name for h in hosts if "lb" in h.roles), *(doc.lb.hosts or ())))),
        )

    def ssh_for(self, host_name: str) -> SshSettings:
        """How to reach a host of the inventory, every default filled in; KeyError when there is none of that name."""
        # The transport owns this type; it is imported with the first connection, not with the inventory.
        from dstui.gather.ssh import JumpHop, SshSettings

        host = self._hosts[host_name]
        common, own = self.document.ssh, host.ssh
        hops = self.document.jump if own.jump is None else own.jump
        return SshSettings(
            address=_address(host),
            user=own.user or common.user,
            port=own.port or common.port,
            identity=self._key_file(own.identity_ref or common.identity_ref),
            agent=common.agent,
            known_hosts=Path(own.known_hosts or common.known_hosts).expanduser(),
            jump=tuple(
                JumpHop(
                    address=hop.host,
                    port=hop.port,
                    user=hop.user or common.user,
                    identity=self._key_file(hop.identity_ref or common.identity_ref),
                )
                for hop in hops
            ),
            connect_timeout=common.connect_timeout_s,
            command_timeout=common.command_timeout_s,
            host_timeout=common.host_timeout_s,
            become=common.become,
        )

    def unresolvable_secrets(self) -> tuple[str, ...]:
        """What is wrong with each secret that gives nothing, as `file:line:column: …`. Runs commands: it may block."""
        return tuple(f"{self.where('secrets', name)}: {fault}" for name, fault in self.secrets.faults())

    def value(self, dotted: str, host: str | None = None) -> object | None:
        """What the operator set under a key such as `expect.driver`; None when it was left out.

        `host.gpus_per_host` is asked of the named host, then of its group. A block comes as a dict of the values set
        in it, a reference as the text that names it, a list as a tuple, a date as ISO text. KeyError when the schema
        has no such key: a binding of the catalogue that could never give anything.
        """
        if not dotted:
            return None
        parts = tuple(dotted.split("."))
        if parts[0] == "host":
            return self._of_host(parts[1:], host)
        if not has_key(Document, parts):
            raise KeyError(f"the inventory has no key {dotted}")
        current: object = self.document
        for part in parts:
            if isinstance(current, BaseModel):
                current = getattr(current, part) if part in current.model_fields_set else None
            else:
                current = current.get(part) if isinstance(current, Mapping) else None
        return _plain(current)

    def _of_host(self, parts: tuple[str, ...], host: str | None) -> object | None:
        if len(parts) != 1 or not has_key(Host, parts):
            raise KeyError(f"a host has no key {'.'.join(parts)}")
        own = self._hosts.get(host) if host is not None else None
        if own is None:
            return None
        value = getattr(own, parts[0]) if parts[0] in own.model_fields_set else None
        return _plain(getattr(self._group(own), parts[0], None) if value is None else value)

    def thresholds(self, check_id: str, param: str, host: str | None = None) -> tuple[object, str] | None:
        """The operator's value for a parameter and its origin: host before group before `thresholds`; None if unset."""
        key = f"{check_id}.{param}"
        own = self._hosts.get(host) if host is not None else None
        if own is not None and key in own.thresholds:
            return own.thresholds[key], f"host {own.name}"
        if own is not None and own.group is not None and key in self._group(own).thresholds:
            return self._group(own).thresholds[key], f"group {own.group}"
        if key in self.document.thresholds:
            return self.document.thresholds[key], "inventory"
        return None

    @cached_property
    def threshold_positions(self) -> tuple[ThresholdPlace, ...]:
        """Every threshold in the file with its place, for the catalogue to check."""
        doc = self.document
        found = self._places(doc.thresholds, "inventory", ("thresholds",))
        for name, group in doc.groups.items():
            found += self._places(group.thresholds, f"group {name}", ("groups", name, "thresholds"))
        for i, host in enumerate(doc.hosts):
            found += self._places(host.thresholds, f"host {host.name}", ("hosts", i, "thresholds"))
        return tuple(found)

    def where(self, *path: str | int) -> str:
        """`file:line:column` of a value, such as `where("sign", "second_person", 0)`; of what is around it if unset."""
        at = self.file.at(path)
        return f"{self.path}:{at.line}:{at.column}"

    def _places(self, thresholds: Mapping[str, object], origin: str, path: ValuePath) -> list[ThresholdPlace]:
        keys = ((key, value, self.file.key_at((*path, key))) for key, value in thresholds.items())
        return [ThresholdPlace(key, value, origin, at.line, at.column) for key, value, at in keys]

    @cached_property
    def _hosts(self) -> Mapping[str, Host]:
        return {host.name: host for host in self.document.hosts}

    def _group(self, host: Host) -> HostGroup:
        return self.document.groups[host.group] if host.group is not None else HostGroup()

    def _host_site(self, host: Host) -> HostSite:
        group = self._group(host)
        roles = roles_of(host.roles, group.roles)
        count = group.gpus_per_host if host.gpus_per_host is None else host.gpus_per_host
        return HostSite(
            name=host.name,
            roles=roles,
            data_ip=host.data_ip,
            mgmt_ip=host.mgmt_ip,
            address=_address(host),
            port=host.ssh.port or self.document.ssh.port,
            user=host.ssh.user or self.document.ssh.user,
            gpu=_has_gpu(host, group, roles, count),
            gpus_per_host=count,
            group=host.group,
            owner=host.owner,
            local=host.local,
        )

    def _key_file(self, reference: Reference | None) -> Path | None:
        """The path of a private key; the loader has refused every identity that is not a file."""
        meant = self.document.secrets[reference.name] if isinstance(reference, NamedReference) else reference
        return meant.path if isinstance(meant, FileReference) else None

    def _dns_names(self) -> tuple[str, ...]:
        """The names that must resolve: as written, else every host's name and the host of the API's URL."""
        named = self.document.network.dns_names
        if named is not None:
            return named
        endpoints = self.document.endpoints
        api = urlsplit(endpoints.api).hostname if endpoints else None
        api_name = (api,) if api and not _is_address(api) else ()
        return (*(host.name for host in self.document.hosts), *api_name)

    def _outbound(self) -> Mapping[str, tuple[str, ...]]:
        """Mirrors by the groups of `net.outbound` (pip is `python`, hf `model`, docker `container`, apt `os`)."""
        network = self.document.network
        found: dict[str, tuple[str, ...]] = {}
        for name, urls in (*network.mirrors.items(), *network.internal_mirrors.items()):
            group = _MIRRORED_GROUP.get(name, name)
            found[group] = tuple(dict.fromkeys((*found.get(group, ()), *urls)))
        return found

    def _head_ports(self) -> tuple[int, ...]:
        """GCS, dashboard and client port of the head. A dashboard URL that names a proxy says nothing of the head."""
        ray = self.document.ray
        url = urlsplit(ray.dashboard_url or "")
        heads = [host for host in self.document.hosts if "head" in roles_of(host.roles, self._group(host).roles)]
        names = {name for host in heads for name in (host.name, host.data_ip, host.mgmt_ip, host.ssh.host)}
        own = url.hostname in names | {"localhost", "127.0.0.1"}
        return (ray.gcs_port or 6379, (url.port if own else None) or 8265, _RAY_CLIENT_PORT)


def _address(host: Host) -> str:
    return host.ssh.host or host.mgmt_ip or host.data_ip


def _has_gpu(host: Host, group: HostGroup, roles: frozenset[str], count: int | None) -> bool:
    """As written; else by the number of GPUs; else every node of the Ray cluster is taken for a GPU server."""
    for said in (host.gpu, group.gpu):
        if said is not None:
            return said
    return count > 0 if count is not None else bool(roles & {"head", "worker", "ray"})


def _is_address(text: str) -> bool:
    return ":" in text or text.replace(".", "").isdigit()


def _set_values(block: BaseModel) -> dict[str, int]:
    return {name: value for name, value in block if isinstance(value, int)}


def _plain(value: object) -> object | None:
    if isinstance(value, BaseModel):
        inner = {
            name: _plain(getattr(value, name)) for name in type(value).model_fields if name in value.model_fields_set
        }
        return {name: item for name, item in inner.items() if item is not None} or None
    if isinstance(value, EnvReference | FileReference | CommandReference | NamedReference):
        return str(value)
    if isinstance(value, tuple):
        return tuple(_plain(item) for item in value)
    if isinstance(value, Mapping):
        return {name: _plain(item) for name, item in value.items()}
    return value.isoformat() if isinstance(value, date) else value
