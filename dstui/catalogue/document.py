"""The parts of the document around its items, exact in Chinese, for the Markdown report; and end-of-life dates."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import MappingProxyType

from dstui.catalogue.fields import Fields
from dstui.catalogue.source import Fault, Source
from dstui.model import Text

_HERE = Path(__file__).parent
_MONTH = re.compile(r"\d{4}-(?:0[1-9]|1[0-2])")


@dataclass(frozen=True, slots=True)
class Document:
    """Title, introduction, conclusion and appendix. `script` is the appendix script, `language` its code fence."""

    title: Text
    intro: Text
    conclusion_heading: Text
    conclusion: Text
    appendix_heading: Text
    language: str
    script: Text
    closing: Text


@cache
def load_document(path: Path = _HERE / "document.yaml") -> Document:
    """The document's own words; CatalogueError with file:line:column when the file is wrong."""
    source = Source.of(path)
    faults: list[Fault] = []
    file = Fields(source.values(), (), faults, ("title", "intro", "conclusion", "appendix"))
    conclusion = file.below("conclusion", ("heading", "text"))
    appendix = file.below("appendix", ("heading", "language", "script", "closing"))
    document = Document(
        title=file.bilingual("title"),
        intro=file.bilingual("intro"),
        conclusion_heading=conclusion.bilingual("heading"),
        conclusion=conclusion.bilingual("text"),
        appendix_heading=appendix.bilingual("heading"),
        language=appendix.text("language"),
        script=appendix.bilingual("script"),
        closing=appendix.bilingual("closing"),
    )
    if faults:
        source.refuse(faults)
    return document


@cache
def end_of_life(path: Path = _HERE / "eol.yaml") -> Mapping[str, Mapping[str, str]]:
    """Product (os-release ID or `python`) → version → month `YYYY-MM` in which its standard support ends."""
    source = Source.of(path)
    faults: list[Fault] = []
    file = Fields(source.values(), (), faults)
    table: dict[str, Mapping[str, str]] = {}
    for product in file.names:
        versions = file.below(product)
        months = {version: versions.text(version) for version in versions.names}
        for version, month in months.items():
            if not _MONTH.fullmatch(month):
                versions.fault("must be a month such as 2029-04", version)
        table[product] = MappingProxyType(months)
    if faults:
        source.refuse(faults)
    return MappingProxyType(table)
