"""What a run sets out to do: which checks, which fact groups from which hosts, which choreography."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from dstui.catalogue import Catalogue
from dstui.facts.case import Site
from dstui.judge.registry import FleetJudge, HostJudge, Judge
from dstui.model import UsageError

QUICK = ("hw.gpu-model", "hw.memory", "hw.ssd-capacity", "sw.nvidia-driver", "stor.shared-dir", "stor.free-space")
"""The host-side items of the `quick` profile (CATALOGUE part A: nvidia-smi, free, df)."""

PROFILES = ("full", "quick")

SLOW_GROUPS = frozenset({"agents", "dns", "gpu", "lb", "outbound", "ping", "service", "storage", "sw"})
"""Groups that may take seconds on a sick host; each is asked for by itself so that it delays no other row."""


@dataclass(frozen=True, slots=True)
class Plan:
    """Checks in document order with their judges; the union of what each host must be asked."""

    checks: tuple[str, ...]
    host_judges: tuple[HostJudge, ...]
    fleet_judges: tuple[FleetJudge, ...]
    groups: tuple[str, ...]
    needs: frozenset[str]

    @property
    def batches(self) -> tuple[tuple[str, ...], ...]:
        """The groups as requests: quick ones together, each slow one alone."""
        quick = tuple(name for name in self.groups if name not in SLOW_GROUPS)
        slow = tuple((name,) for name in self.groups if name in SLOW_GROUPS)
        return ((quick,) if quick else ()) + slow


def select(
    catalogue: Catalogue,
    *,
    sections: Sequence[str] = (),
    checks: Sequence[str] = (),
    profile: str = "full",
) -> tuple[str, ...]:
    """The ids in scope, in document order. Nothing named means all. Raises UsageError for a name that is not known."""
    known_sections = {section.id for section in catalogue.sections}
    known_checks = {check.id for check in catalogue.checks}
    for name in sections:
        _known(name, known_sections, "section")
    for name in checks:
        _known(name, known_checks, "check")
    if profile not in PROFILES:
        raise UsageError(f"--profile {profile}: there are {' and '.join(PROFILES)}")
    scope = {c.id for c in catalogue.checks if c.section in sections or c.id in checks}
    if not sections and not checks:
        scope = known_checks
    if profile == "quick":
        scope &= set(QUICK)
        if not scope:
            raise UsageError("--profile quick has none of the named sections or checks")
    return tuple(c.id for c in catalogue.checks if c.id in scope)


def _known(name: str, names: set[str], sort: str) -> None:
    if name in names:
        return
    near = difflib.get_close_matches(name, names, n=1)
    hint = f"did you mean {near[0]}?" if near else f"known: {', '.join(sorted(names)[:30])}"
    raise UsageError(f"no {sort} is called {name!r}; {hint}")


def plan(catalogue: Catalogue, checks: Sequence[str], judges: Mapping[str, Judge]) -> Plan:
    """A plan for those of `checks` that have a judge and are not disabled."""
    wanted = set(checks)
    chosen = [c.id for c in catalogue.checks if c.id in wanted and c.id in judges and c.disabled is None]
    picked = [judges[check_id] for check_id in chosen]
    return Plan(
        checks=tuple(chosen),
        host_judges=tuple(j for j in picked if isinstance(j, HostJudge)),
        fleet_judges=tuple(j for j in picked if isinstance(j, FleetJudge)),
        groups=tuple(dict.fromkeys(name for j in picked for name in j.groups)),
        needs=frozenset(need for j in picked for need in j.needs),
    )


def _urls(written: object) -> tuple[str, ...]:
    """A group's URLs: a list of them, or a single one."""
    if isinstance(written, str):
        return (written,)
    return tuple(str(url) for url in written) if isinstance(written, list | tuple) else ()


def prepared(
    site: Site,
    *,
    outbound: Mapping[str, object],
    head_ports: Sequence[int],
    log_dirs: Sequence[str],
    exporters: Sequence[str],
) -> Site:
    """The site with what operations need from parameters: outbound URLs by group, ports, log directories.

    A mirror in the inventory stands in for its own group only; where the site is offline nothing else is asked.
    `exporters` are written `name:port`.
    """
    # A group whose URLs are not understood stays, empty: it is then UNKNOWN, not left out.
    urls = {str(group): _urls(written) for group, written in outbound.items()}
    ports = {int(port) for name in exporters if (port := name.rpartition(":")[2]).isdigit()}
    return replace(
        site,
        outbound=site.outbound if site.offline else {**urls, **site.outbound},
        head_ports=tuple(head_ports) or site.head_ports,
        log_dirs=site.log_dirs or tuple(log_dirs),
        exporter_ports=tuple(sorted(ports)) or site.exporter_ports,
    )
