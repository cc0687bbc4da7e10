"""What the catalogue holds, as frozen values: parts, sections, checks, their parameters, the long texts of a check."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING

from dstui.catalogue.shapes import ParamType
from dstui.model import Cadence, CatalogueError, Kind, Scope, SideEffect, Text, Threshold, Verdict

if TYPE_CHECKING:  # needed only where an operator declares checks; keep it off the first paint
    from dstui.catalogue.declared import Declared

HOST_REACHABLE = "host-reachable"
"""The prerequisite that is no check: there must be a session to the host."""

DOCUMENT = "document"
"""Origin of everything that is as the document has it."""

SIGN_OFF_TTL = 180 * 86_400.0
"""Seconds that an attestation holds (CATALOGUE 0.2), unless the person chose a shorter time."""

OVERDUE_WARN, OVERDUE_FAIL = 1.2, 2.0
"""Time since the last run, in cadences, from which a recurring check is overdue (warn) and failed (fail)."""


@dataclass(frozen=True, slots=True)
class Param:
    """A parameter of a check. `default` is the document's value, `value` what an overlay made of it.

    `source` is the dotted inventory path that sets it (`expect.driver`; `host.gpus_per_host` is asked of the host or
    its group). `unit` is for display.
    """

    name: str
    type: ParamType
    default: object = field(hash=False)
    value: object = field(hash=False)
    origin: str = DOCUMENT
    unit: str = ""
    source: str | None = None

    def threshold(self) -> Threshold:
        """The parameter as the catalogue and the overlays leave it, ready for the plan to lay the inventory over."""
        return Threshold(self.name, self.value, self.origin, self.default)


@dataclass(frozen=True, slots=True)
class Disabled:
    """Somebody decided that a check does not apply here: why, and where that is written."""

    reason: str
    origin: str


@dataclass(frozen=True, slots=True)
class Check:
    """One item of the checklist. `title.zh` of a document's item is its exact sentence; `label` is for narrow places.

    `number` counts the document's items from 1; an operator's own check has 0. `ttl` is seconds after which a finding
    is stale. `roles` empty means every role. `on_request` is the class of a deeper stage that runs only when asked
    for; `confirm_in_production` asks although the class is below S3. `disabled` makes it not applicable by decision,
    never a pass. `declared` is set for own checks only.
    """

    id: str
    number: int
    section: str
    title: Text
    label: Text
    kind: Kind
    scope: Scope
    side_effect: SideEffect
    ttl: float
    roles: frozenset[str] = frozenset()
    gpu_only: bool = False
    prerequisites: tuple[str, ...] = ()
    params: tuple[Param, ...] = ()
    cadence: Cadence | None = None
    on_request: SideEffect | None = None
    confirm_in_production: bool = False
    origin: str = DOCUMENT
    disabled: Disabled | None = None
    declared: Declared | None = field(default=None, hash=False)

    def applies_to(self, roles: Iterable[str], *, gpu: bool) -> bool:
        """Whether a host with these roles is a target."""
        return (not self.roles or not self.roles.isdisjoint(roles)) and (gpu or not self.gpu_only)

    def param(self, name: str) -> Param:
        """The parameter; CatalogueError with the nearest known name when there is none."""
        for found in self.params:
            if found.name == name:
                return found
        raise CatalogueError(f"{self.id} has no parameter {name!r}{nearest(name, [p.name for p in self.params])}")


@dataclass(frozen=True, slots=True)
class Snippet:
    """A code block that follows an item in the document."""

    language: str
    code: str


@dataclass(frozen=True, slots=True)
class Guidance:
    """The long texts of a check: why it matters, the rule behind each verdict, how to put it right, what misleads."""

    why: Text
    rules: Mapping[Verdict, Text]
    remedy: Text
    pitfalls: Text
    privileges: Text
    params: Mapping[str, Text]
    snippet: Snippet | None = None


@dataclass(frozen=True, slots=True)
class Section:
    """A heading of the document with its checks, in order."""

    id: str
    part: str
    heading: Text
    checks: tuple[Check, ...]


@dataclass(frozen=True, slots=True)
class Part:
    """A top heading. `is_section` where the document has no headings below it: part and section are one then."""

    id: str
    heading: Text
    sections: tuple[Section, ...]
    is_section: bool = False


@dataclass(frozen=True, slots=True)
class Catalogue:
    """The whole checklist. `guidance(id)` reads a section's long texts when they are first asked for."""

    parts: tuple[Part, ...]
    _guidance: Callable[[str], Guidance] = field(repr=False, compare=False)
    _by_id: Mapping[str, Check] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        by_id = {check.id: check for section in self.sections for check in section.checks}
        object.__setattr__(self, "_by_id", MappingProxyType(by_id))

    @property
    def sections(self) -> tuple[Section, ...]:
        return tuple(section for part in self.parts for section in part.sections)

    @property
    def checks(self) -> tuple[Check, ...]:
        """Every check, in the order of the document, own checks at the end of their section."""
        return tuple(self._by_id.values())

    def __contains__(self, check_id: object) -> bool:
        return check_id in self._by_id

    def check(self, check_id: str) -> Check:
        """The check; CatalogueError with the nearest known id when there is none."""
        found = self._by_id.get(check_id)
        if found is None:
            raise CatalogueError(f"there is no check {check_id!r}{nearest(check_id, self._by_id)}")
        return found

    def section(self, section_id: str) -> Section:
        """The section; CatalogueError with the nearest known id when there is none."""
        for found in self.sections:
            if found.id == section_id:
                return found
        raise CatalogueError(f"there is no section {section_id!r}{nearest(section_id, [s.id for s in self.sections])}")

    def param(self, name: str) -> tuple[Check, Param]:
        """The check and parameter of `hw.memory.mem_min_gb`; CatalogueError with the nearest known name."""
        check_id, _, param = name.rpartition(".")
        if check_id in self._by_id and any(p.name == param for p in self._by_id[check_id].params):
            return self._by_id[check_id], self._by_id[check_id].param(param)
        known = [f"{check.id}.{p.name}" for check in self.checks for p in check.params]
        raise CatalogueError(f"there is no parameter {name!r}{nearest(name, known)}")

    def guidance(self, check_id: str) -> Guidance:
        """The long texts of a check; CatalogueError when there is no such check."""
        return self._guidance(self.check(check_id).id)


def nearest(name: str, known: Iterable[str]) -> str:
    """` (did you mean X?)` for the known name that is nearest to a mistyped one, or nothing."""
    from difflib import get_close_matches  # only somebody who mistyped pays for it

    found = get_close_matches(name, list(known), n=1, cutoff=0.6)
    return f" (did you mean {found[0]!r}?)" if found else ""
