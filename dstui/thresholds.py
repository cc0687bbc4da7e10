"""The value a parameter really has for one target, and where it came from.

Precedence (CATALOGUE part C): the document's default < overlay < the inventory's own key (`expect.driver`) <
`thresholds` < `groups.<g>.thresholds` < `hosts[].thresholds` < command line.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping

from dstui.attest import plain
from dstui.catalogue import Check, Param
from dstui.facts.case import Params
from dstui.inventory import Inventory
from dstui.model import Finding, InventoryError, TargetKind, Threshold


def effective(check: Check, inventory: Inventory, host: str | None, overrides: Mapping[str, object]) -> Params:
    """The parameters of a check for a host, or for the cluster when `host` is None.

    `overrides` come from the command line, keyed `check.id.param`. Raises InventoryError when a key of the inventory
    does not fit the parameter that it sets.
    """
    thresholds = []
    for param in check.params:
        value, origin = param.value, param.origin
        if param.source:
            named = inventory.value(param.source, host)
            if named is not None:
                value, origin = _typed(inventory, param, named), f"inventory {param.source}"
        if (found := inventory.thresholds(check.id, param.name, host)) is not None:
            value, origin = param.type.accept(found[0]), found[1]
        if (key := f"{check.id}.{param.name}") in overrides:
            value, origin = overrides[key], "command line"
        thresholds.append(Threshold(param.name, value, origin, param.default))
    return Params(thresholds)


def _typed(inventory: Inventory, param: Param, value: object) -> object:
    try:
        return param.type.accept(value)
    except ValueError as error:
        raise InventoryError(f"{inventory.path}: {param.source} {error}") from error


def judged_by_others(
    findings: Iterable[Finding],
    known: Collection[str],
    params: Callable[[str | None], Params],
    redacted: Callable[[object], object],
) -> bool:
    """Whether a finding was judged by other parameter values than those in force now.

    `known` are the hosts of the inventory: what was found on one that left it does not count. `redacted` is how values
    are stored.
    """
    for finding in findings:
        host = finding.target.name if finding.target.kind is TargetKind.HOST else None
        if host is not None and host not in known:
            continue
        now = {t.param: plain(redacted(t.value)) for t in params(host).thresholds}
        if {t.param: plain(t.value) for t in finding.thresholds} != now:
            return True
    return False
