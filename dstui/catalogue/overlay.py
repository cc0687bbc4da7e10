"""What an operator lays over the catalogue: other parameter values, checks that do not apply, checks of their own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType

from dstui.catalogue.declared import CommandProbe, Declared
from dstui.catalogue.entries import HOST_REACHABLE, Catalogue, Check, Disabled, Guidance, Param, Part, Section, nearest
from dstui.catalogue.expectations import declared
from dstui.catalogue.fields import Fields
from dstui.catalogue.schema import CHECK_ID, known_roles
from dstui.catalogue.source import Fault, Source, YamlPath
from dstui.model import CatalogueError, Kind, Scope, SideEffect, Text, Verdict

_OWN = (
    "id", "title", "section", "scope", "kind", "side_effect", "roles", "gpu_only", "ttl", "why", "remedy",
    "command", "http", "timeout", "root", "expect", "severity",
)  # fmt: skip
_OWN_PART = Part("own", Text("Own checks", "自定义检查"), ())
_HOST_TTL, _ENDPOINT_TTL = 3600.0, 300.0
_NOTHING = Text("None recorded.", "未填写。")


@dataclass(frozen=True, slots=True)
class _Own:
    """An own check with its long texts and the heading of its section, which may be new."""

    check: Check
    guidance: Guidance
    heading: Text | None


def lay_over(catalogue: Catalogue, source: Source) -> Catalogue:
    """The catalogue with one overlay on it; CatalogueError names every fault of the overlay with file:line:column."""
    faults: list[Fault] = []
    values = source.values()
    file = Fields({} if values is None else values, (), faults, ("params", "disable", "checks"))
    own = _own_checks(file, catalogue, source)
    changed = _params(file.below("params"), catalogue, source)
    disabled = _disabled(file.below("disable"), {check.id for check in catalogue.checks} | set(own), source)
    if faults:
        source.refuse(faults)
    return _rebuilt(catalogue, changed, disabled, own)


def _params(table: Fields, catalogue: Catalogue, source: Source) -> Mapping[tuple[str, str], Param]:
    changed: dict[tuple[str, str], Param] = {}
    for name in table.names:
        try:
            check, param = catalogue.param(name)
            value = param.type.accept(table.raw(name))
        except (CatalogueError, ValueError) as error:
            table.fault(str(error), name)
            continue
        changed[check.id, param.name] = replace(param, value=value, origin=_origin(source, (*table.path, name)))
    return changed


def _disabled(table: Fields, known: set[str], source: Source) -> Mapping[str, Disabled]:
    disabled: dict[str, Disabled] = {}
    for check_id in table.names:
        if check_id not in known:
            table.fault(f"there is no such check{nearest(check_id, known)}", check_id)
        elif not isinstance(table.raw(check_id), str) or not str(table.raw(check_id)).strip():
            table.fault("needs the reason in words: why this does not apply here", check_id)
        else:
            origin = _origin(source, (*table.path, check_id))
            disabled[check_id] = Disabled(str(table.raw(check_id)).strip(), origin)
    return disabled


def _own_checks(file: Fields, catalogue: Catalogue, source: Source) -> Mapping[str, _Own]:
    own: dict[str, _Own] = {}
    for path, item in file.each("checks"):
        table = Fields(item, path, file.faults, _OWN)
        check_id = table.text("id")
        if check_id in catalogue or check_id in own:
            table.fault(f"{check_id} is already a check; choose another id", "id")
        elif check_id and not CHECK_ID.fullmatch(check_id):
            table.fault("must look like site.ntp-offset: lower case, one dot, hyphens", "id")
        own[check_id] = _own_check(check_id, table, catalogue, _origin(source, path))
    return own


def _own_check(check_id: str, table: Fields, catalogue: Catalogue, origin: str) -> _Own:
    scope = table.word("scope", Scope, Scope.EACH_HOST)
    probe = declared(table)
    side_effect = table.word("side_effect", SideEffect, SideEffect.S0)
    _refuse_what_does_not_fit(table, scope, side_effect, probe)
    section, heading = _own_section(table, catalogue)
    title = table.bilingual("title", copy=True)
    on_host = scope is Scope.EACH_HOST
    check = Check(
        id=check_id,
        number=0,
        section=section,
        title=title,
        label=title,
        kind=Kind.AUTO,
        scope=scope,
        side_effect=side_effect,
        ttl=table.number("ttl", _HOST_TTL if on_host else _ENDPOINT_TTL),
        roles=frozenset(known_roles(table)),
        gpu_only=table.flag("gpu_only"),
        prerequisites=(HOST_REACHABLE,) if on_host else (),
        origin=origin,
        declared=probe,
    )
    remedy = table.bilingual("remedy", copy=True) if "remedy" in table else _NOTHING
    why = table.bilingual("why", copy=True) if "why" in table else Text("A check of your own.", "自定义检查项。")
    return _Own(check, Guidance(why, _OWN_RULES, remedy, _NOTHING, _privileges(probe), MappingProxyType({})), heading)


def _refuse_what_does_not_fit(table: Fields, scope: Scope, effect: SideEffect, probe: Declared | None) -> None:
    if scope not in (Scope.EACH_HOST, Scope.CONTROLLER, Scope.ENDPOINT):
        table.fault("must be each-host, controller or endpoint", "scope")
    if table.raw("kind") not in (None, "auto"):
        table.fault("must be auto: own checks are decided by their expectations", "kind")
    if table.require("side_effect") and effect not in (SideEffect.S0, SideEffect.S1, SideEffect.S2):
        table.fault("must be S0, S1 or S2: own checks load and break nothing", "side_effect")
    if probe is None:
        return
    if isinstance(probe.probe, CommandProbe) and scope is Scope.ENDPOINT:
        table.fault("a command runs on each-host or on the controller; an endpoint is asked with http", "scope")
    if not isinstance(probe.probe, CommandProbe) and scope is Scope.EACH_HOST:
        table.fault("http is asked from the jump host: the scope is endpoint or controller", "scope")


def _own_section(table: Fields, catalogue: Catalogue) -> tuple[str, Text | None]:
    known = [section.id for section in catalogue.sections]
    if not table.require("section"):
        return "", None
    value = table.raw("section")
    if isinstance(value, str):
        if value not in known:
            table.fault(f"is no section{nearest(value, known)}; a new one is {{id: …, heading: …}}", "section")
        return value, None
    new = table.below("section", ("id", "heading"))
    return new.text("id"), new.bilingual("heading", copy=True)


def _privileges(probe: Declared | None) -> Text:
    if probe is not None and isinstance(probe.probe, CommandProbe) and probe.probe.root:
        return Text("sudo -n for exactly this command.", "需要允许 sudo -n 执行这条命令。")
    return Text("None.", "无需特权。")


_OWN_RULES = MappingProxyType(
    {
        Verdict.PASS: Text("every expectation is met", "所有期望都满足"),
        Verdict.FAIL: Text("an expectation with severity fail is not met", "有级别为 fail 的期望不满足"),
        Verdict.WARN: Text("only expectations with severity warn are not met", "仅有级别为 warn 的期望不满足"),
        Verdict.UNKNOWN: Text(
            "the probe could not run, or its answer could not be read", "探测未能执行，或结果无法解析"
        ),
    }
)


def _rebuilt(
    catalogue: Catalogue,
    changed: Mapping[tuple[str, str], Param],
    disabled: Mapping[str, Disabled],
    own: Mapping[str, _Own],
) -> Catalogue:
    def laid(check: Check) -> Check:
        params = tuple(changed.get((check.id, param.name), param) for param in check.params)
        return replace(check, params=params, disabled=disabled.get(check.id, check.disabled))

    def with_own(section: Section) -> Section:
        added = [o.check for o in own.values() if o.check.section == section.id]
        return replace(section, checks=tuple(laid(check) for check in (*section.checks, *added)))

    parts = [replace(part, sections=tuple(map(with_own, part.sections))) for part in _with_new_sections(catalogue, own)]
    below = catalogue.guidance
    return Catalogue(tuple(parts), lambda check_id: own[check_id].guidance if check_id in own else below(check_id))


def _with_new_sections(catalogue: Catalogue, own: Mapping[str, _Own]) -> list[Part]:
    known = {section.id for section in catalogue.sections}
    new: dict[str, Section] = {}
    for entry in own.values():
        if entry.check.section not in known and entry.heading is not None:
            new.setdefault(entry.check.section, Section(entry.check.section, _OWN_PART.id, entry.heading, ()))
    if not new:
        return list(catalogue.parts)
    kept = [part for part in catalogue.parts if part.id != _OWN_PART.id]
    earlier = next((part for part in catalogue.parts if part.id == _OWN_PART.id), _OWN_PART)
    return [*kept, replace(earlier, sections=(*earlier.sections, *new.values()))]


def _origin(source: Source, path: YamlPath) -> str:
    return f"overlay {source.name}:{source.line(path)}"
