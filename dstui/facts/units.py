"""`systemctl show` of several units at once."""

from __future__ import annotations

import re
from collections.abc import Mapping

_BLANK_LINE = re.compile(r"\n[ \t]*\n")


def parse_units(text: str) -> Mapping[str, Mapping[str, str]] | None:
    """Unit name → property → value, by the Id of each block; None when no unit is named.

    A unit that does not exist is in the answer too, with `LoadState=not-found` and nothing enabled or active.
    """
    units: dict[str, dict[str, str]] = {}
    for block in _BLANK_LINE.split(text.strip()):
        lines = (line.partition("=") for line in block.splitlines())
        properties = {key: value for key, equals, value in lines if equals}
        if name := properties.get("Id"):
            units[name] = properties
    return units or None
