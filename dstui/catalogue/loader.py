"""Loads the checklist: the tree at once, the long texts of a section when somebody opens one of its checks."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path

from dstui.catalogue.entries import Catalogue, Guidance, Part, Section
from dstui.catalogue.fields import Fields
from dstui.catalogue.schema import check_prerequisites, section_checks, section_guidance
from dstui.catalogue.source import Fault, Source

SHIPPED = Path(__file__).parent
"""Where the catalogue that comes with dstui lies."""


def load_catalogue(overlays: Sequence[Path] = (), *, directory: Path = SHIPPED) -> Catalogue:
    """The checklist with the operator's overlays laid over it, later ones over earlier ones.

    Raises CatalogueError with file:line:column for every fault of the first file that has any.
    """
    catalogue = _shipped(directory)
    if not overlays:
        return catalogue
    from dstui.catalogue.overlay import lay_over  # kept off the first paint

    for path in overlays:
        catalogue = lay_over(catalogue, Source.of(path))
    return catalogue


def _shipped(directory: Path) -> Catalogue:
    source = Source.of(directory / "sections.yaml")
    faults: list[Fault] = []
    parts: list[Part] = []
    number = position = 0
    for path, entry in Fields(source.values(), (), faults, ("parts",)).each("parts"):
        table = Fields(entry, path, faults, ("id", "heading", "sections"))
        is_section = "sections" not in table
        sections: list[Section] = []
        below = [Fields(item, at, faults, ("id", "heading")) for at, item in table.each("sections")]
        for fields in [table] if is_section else below:
            position += 1
            section = _section(directory, fields, table.text("id"), position, number + 1)
            number += len(section.checks)
            sections.append(section)
        parts.append(Part(table.text("id"), table.bilingual("heading"), tuple(sections), is_section))
    if faults:
        source.refuse(faults)
    catalogue = Catalogue(tuple(parts), _shelf(directory, tuple(s for part in parts for s in part.sections)))
    _refuse_bad_prerequisites(directory, catalogue)
    return catalogue


def _section(directory: Path, entry: Fields, part: str, position: int, first_number: int) -> Section:
    section_id = entry.text("id")
    source = Source.of(directory / "checks" / _file_name(position, section_id))
    faults: list[Fault] = []
    checks = section_checks(source.values(), section_id, first_number, faults)
    if faults:
        source.refuse(faults)
    return Section(section_id, part, entry.bilingual("heading"), checks)


def _file_name(position: int, section_id: str) -> str:
    return f"{position:02d}-{section_id}.yaml"


def _refuse_bad_prerequisites(directory: Path, catalogue: Catalogue) -> None:
    faults: list[Fault] = []
    check_prerequisites({check.id: check for check in catalogue.checks}, faults)
    for position, section in enumerate(catalogue.sections, 1):
        here = [fault for fault in faults if str(fault.path[1]).startswith(f"{section.id}.")]
        if here:
            Source.of(directory / "checks" / _file_name(position, section.id)).refuse(here)


def _shelf(directory: Path, sections: tuple[Section, ...]) -> Callable[[str], Guidance]:
    """Gives the long texts of a check, reading a section's file once."""
    place = {check.id: position for position, section in enumerate(sections) for check in section.checks}

    @cache
    def texts(position: int) -> Mapping[str, Guidance]:
        section = sections[position]
        source = Source.of(directory / "texts" / _file_name(position + 1, section.id))
        faults: list[Fault] = []
        guidance = section_guidance(source.values(), section.checks, faults)
        if faults:
            source.refuse(faults)
        return guidance

    return lambda check_id: texts(place[check_id])[check_id]
