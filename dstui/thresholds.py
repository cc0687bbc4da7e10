"""The value a parameter really has for one target, and where it came from.

Precedence (CATALOGUE part C): the document's default < overlay < the inventory's own key (`expect.driver`) <
`thresholds` < `groups.<g>.thresholds` < `hosts[].thresholds` < command line.
"""

from __future__ import annotations

from collections.abc import Mapping

from dstui.catalogue import Check
from dstui.facts.case import Params
from dstui.inventory import Inventory
from dstui.model import Threshold


def effective(check: Check, inventory: Inventory, host: str | None, overrides: Mapping[str, object]) -> Params:
    """The parameters of a check for a host, or for the cluster when `host` is None.

    `overrides` come from the command line, keyed `check.id.param`.
    """
    thresholds = []
    for param in check.params:
        value, origin = param.value, param.origin
        if param.source is not None:
            named = inventory.value(param.source)
            if named is not None:
                value, origin = named, f"inventory {param.source}"
        if (found := inventory.thresholds(check.id, param.name, host)) is not None:
            value, origin = found
        if (key := f"{check.id}.{param.name}") in overrides:
            value, origin = overrides[key], "command line"
        thresholds.append(Threshold(param.name, value, origin, param.default))
    return Params(thresholds)
