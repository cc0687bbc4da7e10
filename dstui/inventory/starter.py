"""A starter inventory as YAML text with comments that say what each block is for and what to do next."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

from dstui.inventory.secrets import file_fault
from dstui.inventory.yaml_tree import core_value
from dstui.model import UsageError

T = TypeVar("T")

_PLAIN = re.compile(r"[A-Za-z0-9/~][A-Za-z0-9._/~-]*")
_ROLE_SIGNS = (
    ("lb", r"(?:^|[.-])(?:lb|nginx|haproxy|envoy|gateway|gw)\d*(?:[.-]|$)"),
    ("monitoring", r"(?:^|[.-])(?:mon|monitor|monitoring|prom|prometheus|grafana)\d*(?:[.-]|$)"),
    ("storage", r"(?:^|[.-])(?:nas|nfs|storage|ceph|lustre)\d*(?:[.-]|$)"),
    ("backup", r"(?:^|[.-])(?:backup|bak)\d*(?:[.-]|$)"),
    ("head", r"(?:^|[.-])(?:head|master)\d*(?:[.-]|$)"),
)


@dataclass(frozen=True, slots=True)
class StarterHop:
    """A host on the way, as the starter writes it."""

    host: str
    port: int = 22
    user: str | None = None
    identity: Path | None = None


@dataclass(frozen=True, slots=True)
class StarterHost:
    """A host as the starter writes it. `dial` is what SSH should use when that is not `data_ip`."""

    name: str
    data_ip: str
    role: str = ""
    dial: str | None = None
    port: int = 22
    user: str | None = None
    identity: Path | None = None
    jump: tuple[StarterHop, ...] = ()
    gpus: int | None = None


@dataclass(frozen=True, slots=True)
class Starter:
    """All that `dstui init` found out. `left_out` are hosts that need a person: a line to complete, and why."""

    origin: str
    hosts: tuple[StarterHost, ...]
    login: str
    left_out: tuple[tuple[str, str], ...] = ()
    dashboard_url: str | None = None
    token_ref: str | None = None
    gpu_models: tuple[str, ...] = ()


def host_name(written: str) -> str | None:
    """A host name as the inventory wants it (`GPU_01` becomes `gpu-01`); None when nothing like a name is left."""
    name = written.strip().lower().replace("_", "-").replace(":", "-").rstrip(".")
    return name if re.fullmatch(r"[a-z0-9][a-z0-9.-]{0,62}", name) else None


def with_roles(hosts: Iterable[StarterHost]) -> tuple[StarterHost, ...]:
    """Roles guessed from names where none is known: one head, everything unknown a worker."""
    guessed = [host if host.role else replace(host, role=_guess(host.name)) for host in hosts]
    first_head = next((i for i, host in enumerate(guessed) if host.role == "head"), None)
    if first_head is None:
        first_head = next((i for i, host in enumerate(guessed) if host.role == "worker"), None)
    return tuple(
        replace(host, role="head" if i == first_head else "worker") if host.role in ("head", "worker") else host
        for i, host in enumerate(guessed)
    )


def _guess(name: str) -> str:
    return next((role for role, sign in _ROLE_SIGNS if re.search(sign, name)), "worker")


def without_twins(hosts: Iterable[StarterHost]) -> tuple[tuple[StarterHost, ...], tuple[tuple[str, str], ...]]:
    """The hosts with names and addresses given once, and a (line, reason) for each that was left out."""
    kept: list[StarterHost] = []
    left_out: list[tuple[str, str]] = []
    names: set[str] = set()
    addresses: dict[str, str] = {}
    for host in hosts:
        if host.data_ip in addresses:
            left_out.append((_host_line(host), f"has the address of {addresses[host.data_ip]}"))
        elif host.name in names:
            left_out.append((_host_line(host), "the name is taken"))
        else:
            kept.append(host)
            names.add(host.name)
            addresses[host.data_ip] = host.name
    return tuple(kept), tuple(left_out)


def yaml_text(value: str) -> str:
    """A scalar that YAML reads back as this text, quoted only where it must be."""
    if _PLAIN.fullmatch(value) and core_value(value) == value:
        return value
    return json.dumps(value, ensure_ascii=False)


def render(starter: Starter) -> str:
    """The YAML text. UsageError when there is no host to write."""
    if not starter.hosts:
        why = "; ".join(f"{line}: {reason}" for line, reason in starter.left_out[:5])
        raise UsageError(f"no host could be taken from {starter.origin}; write them as name=ip. {why}".rstrip(". "))
    common = _Common.of(starter)
    parts = [_HEADER.format(origin=_comment(starter.origin), hosts=_counted(len(starter.hosts)))]
    parts.append(common.ssh_block())
    if common.jump:
        parts.append("# Hosts on the way, in order.\njump:\n" + "".join(f"  - {_hop(hop)}\n" for hop in common.jump))
    parts.append(_hosts_block(starter, common))
    if starter.gpu_models:
        models = ", ".join(yaml_text(model) for model in starter.gpu_models)
        parts.append(
            f"# What Ray calls the GPUs; uncomment it to accept nothing else.\n# expect: {{gpu_models: [{models}]}}\n"
        )
    if starter.dashboard_url:
        parts.append(_ray_block(starter.dashboard_url, starter.token_ref))
    parts.append(_FOOTER)
    return "\n".join(parts)


@dataclass(frozen=True, slots=True)
class _Common:
    """What most hosts share; a host writes down only how it differs."""

    user: str
    port: int
    identity: Path | None
    jump: tuple[StarterHop, ...]

    @classmethod
    def of(cls, starter: Starter) -> _Common:
        hosts = starter.hosts
        return cls(
            user=_most(host.user or starter.login for host in hosts),
            port=_most(host.port for host in hosts),
            identity=_most(host.identity for host in hosts),
            jump=_most(host.jump for host in hosts),
        )

    def ssh_block(self) -> str:
        lines = [_SSH.format(user=yaml_text(self.user), port=self.port)]
        fault = file_fault(self.identity) if self.identity else None
        if self.identity is None:
            lines.append("  # identity_ref: file:/home/you/.ssh/id_ed25519   # else the keys in ~/.ssh and the agent\n")
        elif fault:
            lines.append(f"  # {_comment(str(self.identity))} {fault}. Then write:\n")
            lines.append(f"  # identity_ref: {_comment(_reference(self.identity))}\n")
        else:
            lines.append(f"  identity_ref: {_reference(self.identity)}\n")
        return "".join(lines)


def _most(values: Iterable[T]) -> T:
    return Counter(values).most_common(1)[0][0]


def _reference(identity: Path) -> str:
    return json.dumps(f"file:{identity}", ensure_ascii=False)


def _hosts_block(starter: Starter, common: _Common) -> str:
    lines = [_HOSTS]
    for host in starter.hosts:
        doubt = "   # Ray declares no GPU here; correct this if there is one" if host.gpus == 0 else ""
        lines.append(f"  - {_host_line(host, common, starter.login)}{doubt}\n")
    if starter.left_out:
        lines.append("  # Not taken; complete and uncomment what belongs to the cluster:\n")
        lines += [f"  # - {_comment(line)}   # {_comment(reason)}\n" for line, reason in starter.left_out]
    return "".join(lines)


def _host_line(host: StarterHost, common: _Common | None = None, login: str = "") -> str:
    parts = [f"name: {yaml_text(host.name)}", f"roles: [{host.role or 'worker'}]"]
    parts.append(f"data_ip: {yaml_text(host.data_ip)}")
    if host.gpus is not None:
        parts.append(f"gpus_per_host: {host.gpus}" if host.gpus else "gpu: false")
    own = _own_ssh(host, common, login) if common else []
    if own:
        parts.append(f"ssh: {{{', '.join(own)}}}")
    return "{" + ", ".join(parts) + "}"


def _own_ssh(host: StarterHost, common: _Common, login: str) -> list[str]:
    own = []
    if host.dial is not None:
        own.append(f"host: {yaml_text(host.dial)}")
    if host.port != common.port:
        own.append(f"port: {host.port}")
    if (host.user or login) != common.user:
        own.append(f"user: {yaml_text(host.user or login)}")
    if host.identity is not None and host.identity != common.identity and not file_fault(host.identity):
        own.append(f"identity_ref: {_reference(host.identity)}")
    if host.jump != common.jump:
        own.append(f"jump: [{', '.join(_hop(hop) for hop in host.jump)}]")
    return own


def _hop(hop: StarterHop) -> str:
    parts = [f"host: {yaml_text(hop.host)}"]
    if hop.port != 22:
        parts.append(f"port: {hop.port}")
    if hop.user is not None:
        parts.append(f"user: {yaml_text(hop.user)}")
    if hop.identity is not None and not file_fault(hop.identity):
        parts.append(f"identity_ref: {_reference(hop.identity)}")
    return "{" + ", ".join(parts) + "}"


def _ray_block(dashboard_url: str, token_ref: str | None) -> str:
    lines = ["# Where Ray's dashboard answers. A token is given by reference, never as a value.\n", "ray:\n"]
    lines.append(f"  dashboard_url: {json.dumps(dashboard_url)}\n")
    if token_ref:
        lines.append(f"  token_ref: {json.dumps(token_ref)}\n")
    else:
        lines.append("  # token_ref: env:RAY_AUTH_TOKEN\n")
    return "".join(lines)


def _counted(number: int) -> str:
    return "1 host" if number == 1 else f"{number} hosts"


def _comment(text: str) -> str:
    """Text that cannot end the comment it stands in."""
    return "".join(c if c.isprintable() else "?" for c in text)


_HEADER = """\
# Inventory of dstui, started by `dstui init` from {origin}: {hosts}.
#
# Next:
#   1. Go through the hosts: the role of each (exactly one `head`), GPUs per host, addresses.
#   2. `dstui inventory check` tells every mistake with its line.
#   3. `dstui` opens the checklist; `R` runs it.
# All blocks and keys are shown in inventory.example.yaml.
version: 1

# The name is shown everywhere and typed to confirm rehearsals; environment is production, staging or lab.
cluster:
  name: deepseek
  environment: lab
  timezone: UTC
"""

_SSH = """\
# How dstui logs in. Host keys are always checked: log in once by hand, or add verified keys to known_hosts.
# become: sudo-n lets it read root-only facts through `sudo -n`; without it those are UNKNOWN(permission).
ssh:
  user: {user}
  port: {port}
  known_hosts: ~/.ssh/known_hosts
  become: none
"""

_HOSTS = """\
# data_ip is the address that Ray and NCCL use; add mgmt_ip when SSH goes over another network.
# roles: head, worker, lb, monitoring, storage, backup. Roles were guessed from the names where nothing said better.
# gpus_per_host is judged exactly; `gpu: false` marks a Ray node without GPUs.
hosts:
"""

_FOOTER = """\
# What else there is to say, each by itself optional:
# storage: {shared_path: /mnt/deepseek-shared, source: "nas-01:/export/deepseek"}
# runtime: {python: /opt/deepseek/venv/bin/python, user: deepseek}
# model: {path: /mnt/deepseek-shared/models/deepseek-llm-7b-chat, served_name: deepseek-llm-7b-chat}
# secrets: {api_key: "env:DSTUI_API_KEY"}
# endpoints: {api: "https://api.example.com"}
# auth: {key_ref: secrets.api_key}
# thresholds: {hw.memory.mem_min_gb: 512}
"""
