"""Operators' own checks (overlays) as fact groups and judges, so that the engine treats them like any other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit, urlunsplit

from dstui.catalogue import Catalogue, Check
from dstui.catalogue.declared import CommandProbe, Declared
from dstui.facts.case import FleetCase, Group, HostCase, HostSite, Site
from dstui.facts.choreography import OwnAnswer
from dstui.facts.raw import Answer, Missing, Op, Raw, run
from dstui.judge.declared import judge_declared
from dstui.judge.registry import FleetJudge, HostJudge, Judge
from dstui.judge.rulings import not_applicable
from dstui.model import Ruling, Scope, Target, TargetKind, Text, host_target

GROUP_NAME = "own"


@dataclass(frozen=True, slots=True)
class OwnFacts:
    """Answers to the commands of own checks, by check id."""

    answers: Mapping[str, Answer | Missing]


def declared_checks(catalogue: Catalogue) -> Mapping[str, Declared]:
    """The probes of all own checks, by check id."""
    return {check.id: check.declared for check in catalogue.checks if check.declared is not None}


def own_groups(catalogue: Catalogue) -> Mapping[str, Group]:
    """One group with every command that own checks run on hosts; none where there are no such checks."""
    checks = [c for c in catalogue.checks if c.declared is not None and c.scope is Scope.EACH_HOST]
    if not checks:
        return {}

    def ops(host: HostSite, site: Site) -> tuple[Op, ...]:
        wanted = [c for c in checks if c.applies_to(host.roles, gpu=host.gpu)]
        return tuple(_command(c.id, c.declared.probe) for c in wanted if c.declared and _is_command(c.declared))

    def parse(raw: Raw) -> OwnFacts:
        return OwnFacts({c.id: raw.answer(f"own.{c.id}") for c in checks})

    return {GROUP_NAME: Group(GROUP_NAME, OwnFacts, ops, parse)}


def own_judges(catalogue: Catalogue) -> Mapping[str, Judge]:
    """A judge for each own check."""
    return {c.id: _judge(c, c.declared) for c in catalogue.checks if c.declared is not None}


def _is_command(declared: Declared) -> bool:
    return isinstance(declared.probe, CommandProbe)


def _command(check_id: str, probe: object) -> Op:
    assert isinstance(probe, CommandProbe)
    return run(f"own.{check_id}", *probe.argv, timeout=probe.timeout, root=probe.root)


def _judge(check: Check, declared: Declared) -> Judge:
    if check.scope is Scope.EACH_HOST:
        return HostJudge(check.id, (GROUP_NAME,), (f"own.{check.id}",), lambda case: _on_host(check, declared, case))
    kind = TargetKind.ENDPOINT if check.scope is Scope.ENDPOINT else TargetKind.CONTROLLER

    def rule(case: FleetCase) -> Sequence[Ruling]:
        found = case.get(OwnAnswer)
        name = case.site.name if kind is TargetKind.CONTROLLER or _is_command(declared) else _url(declared)
        answer = found if isinstance(found, Missing) else found.answer
        return [judge_declared(declared, Target(kind, name), answer)]

    return FleetJudge(check.id, (), (), rule, (f"own:{check.id}",))


def _url(declared: Declared) -> str:
    """The endpoint's name: without the query, which can hold a key and would stand in the journal as it is."""
    parts = urlsplit(getattr(declared.probe, "url", ""))
    return urlunsplit((parts.scheme, parts.netloc, parts.path, "", ""))


def _on_host(check: Check, declared: Declared, case: HostCase) -> Ruling:
    target = host_target(case.host.name)
    if not check.applies_to(case.host.roles, gpu=case.host.gpu):
        roles = ", ".join(sorted(case.host.roles))
        return not_applicable(target, Text(f"not for a host with roles {roles}", f"不适用于角色为 {roles} 的主机"))
    facts = case.facts.get(OwnFacts)
    return judge_declared(declared, target, facts if isinstance(facts, Missing) else facts.answers[check.id])
