"""The catalogue's own files: plain values into entries, every fault noted."""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import MappingProxyType

from dstui.catalogue.entries import HOST_REACHABLE, Check, Guidance, Param, Snippet
from dstui.catalogue.fields import Fields
from dstui.catalogue.shapes import ParamType, Shape
from dstui.catalogue.source import Fault
from dstui.model import Cadence, Kind, Scope, SideEffect, Text, Verdict

CHECK_ID = re.compile(r"[a-z][a-z0-9]*\.[a-z0-9]+(?:-[a-z0-9]+)*")
PARAM_NAME = re.compile(r"[a-z][a-z0-9_]*")
INVENTORY_PATH = re.compile(r"[a-z][a-z0-9_]*(?:\.[a-z][a-z0-9_]*)*")
ROLES = ("head", "worker", "ray", "lb", "monitoring", "storage", "backup")

_SHARED = ("kind", "scope", "side_effect", "ttl", "roles", "prerequisites")
_CHECK = (*_SHARED, "text", "title", "label", "gpu_only", "params", "cadence", "on_request", "confirm_in_production")
_PARAM = ("type", "default", "unit", "from", "choices")
_GUIDANCE = ("why", "rules", "remedy", "pitfalls", "privileges", "params", "snippet")


def section_checks(values: object, section: str, first_number: int, faults: list[Fault]) -> tuple[Check, ...]:
    """The checks of one section file, numbered on from `first_number`."""
    file = Fields(values, (), faults, ("defaults", "checks"))
    defaults = file.below("defaults", _SHARED)
    shared = {key: defaults.raw(key) for key in defaults.names}
    table = file.below("checks")
    return tuple(
        _check(check_id, table.below(check_id, _CHECK), shared, section, first_number + position)
        for position, check_id in enumerate(table.names)
    )


def _check(check_id: str, own: Fields, shared: Mapping[str, object], section: str, number: int) -> Check:
    if not CHECK_ID.fullmatch(check_id) or not check_id.startswith(f"{section}."):
        own.fault(f"must be named {section}.something, in lower case with hyphens")
    merged = Fields({**shared, **{key: own.raw(key) for key in own.names}}, own.path, own.faults)
    for key in ("kind", "scope", "side_effect"):
        merged.require(key)
    text = own.text("text")
    cadence = own.word("cadence", Cadence, Cadence.DAILY) if "cadence" in own else None
    return Check(
        id=check_id,
        number=number,
        section=section,
        title=Text(own.text("title"), text),
        label=own.bilingual("label"),
        kind=merged.word("kind", Kind, Kind.AUTO),
        scope=merged.word("scope", Scope, Scope.EACH_HOST),
        side_effect=merged.word("side_effect", SideEffect, SideEffect.S0),
        ttl=merged.number("ttl"),
        roles=frozenset(known_roles(merged)),
        gpu_only=own.flag("gpu_only"),
        prerequisites=merged.texts("prerequisites"),
        params=_params(own.below("params")),
        cadence=cadence,
        on_request=own.word("on_request", SideEffect, SideEffect.S3) if "on_request" in own else None,
        confirm_in_production=own.flag("confirm_in_production"),
    )


def known_roles(table: Fields) -> tuple[str, ...]:
    """The roles that a check is limited to; an unknown one is a fault."""
    roles = table.texts("roles")
    for role in roles:
        if role not in ROLES:
            table.fault(f"{role!r} is not a role; roles are {', '.join(ROLES)}", "roles")
    return roles


def _params(table: Fields) -> tuple[Param, ...]:
    return tuple(param for name in table.names if (param := _param(name, table.below(name, _PARAM))) is not None)


def _param(name: str, entry: Fields) -> Param | None:
    if not PARAM_NAME.fullmatch(name):
        entry.fault("must be named in lower case with underscores")
    try:
        type_ = ParamType.parse(entry.text("type"), entry.texts("choices"))
    except ValueError:
        entry.fault(f"must be one of {', '.join(Shape)}, with ? where empty is allowed", "type")
        return None
    if not entry.require("default"):
        return None
    try:
        default = type_.accept(entry.raw("default"))
    except ValueError as error:
        entry.fault(str(error), "default")
        return None
    source = entry.text("from", "")
    if source and not INVENTORY_PATH.fullmatch(source):
        entry.fault("must be a dotted inventory path such as expect.driver", "from")
    return Param(name, type_, default, default, unit=entry.text("unit", ""), source=source)


def check_prerequisites(checks: Mapping[str, Check], faults: list[Fault]) -> None:
    """Every prerequisite is a check that exists, and none waits for itself in a circle."""
    for check in checks.values():
        for wanted in check.prerequisites:
            path = ("checks", check.id, "prerequisites")
            if wanted != HOST_REACHABLE and wanted not in checks:
                faults.append(Fault(path, f"{check.id} waits for {wanted!r}, which is no check"))
            elif check.id in _all_prerequisites(wanted, checks, set()):
                faults.append(Fault(path, f"{check.id} waits for {wanted}, which waits for it"))


def _all_prerequisites(check_id: str, checks: Mapping[str, Check], seen: set[str]) -> set[str]:
    if check_id in checks and check_id not in seen:
        seen.add(check_id)
        for wanted in checks[check_id].prerequisites:
            _all_prerequisites(wanted, checks, seen)
    return seen


def section_guidance(values: object, checks: tuple[Check, ...], faults: list[Fault]) -> Mapping[str, Guidance]:
    """The long texts of one section, for exactly its checks and their parameters."""
    file = Fields(values, (), faults, [check.id for check in checks])
    guidance = {check.id: _guidance(check, file) for check in checks if file.require(check.id)}
    return MappingProxyType(guidance)


def _guidance(check: Check, file: Fields) -> Guidance:
    table = file.below(check.id, _GUIDANCE)
    names = [param.name for param in check.params]
    described = table.below("params", names)
    return Guidance(
        why=table.bilingual("why"),
        rules=_rules(table.below("rules", [str(v) for v in Verdict if v is not Verdict.NOT_RUN])),
        remedy=table.bilingual("remedy"),
        pitfalls=table.bilingual("pitfalls"),
        privileges=table.bilingual("privileges"),
        params=MappingProxyType({name: described.bilingual(name) for name in names}),
        snippet=_snippet(table.below("snippet", ("language", "code"))) if "snippet" in table else None,
    )


def _rules(table: Fields) -> Mapping[Verdict, Text]:
    for needed in (Verdict.PASS, Verdict.FAIL, Verdict.UNKNOWN):
        table.require(needed)
    known = [verdict for verdict in Verdict if verdict in table]
    return MappingProxyType({verdict: table.bilingual(verdict) for verdict in known})


def _snippet(table: Fields) -> Snippet:
    return Snippet(table.text("language"), table.text("code"))
