"""Which checks a person has to say yes to before they do what they do (CATALOGUE 0.3: S3, S4, bursts in production)."""

from __future__ import annotations

from collections.abc import Mapping

from dstui.catalogue import Catalogue, Check
from dstui.facts.case import Site
from dstui.facts.raw import Missing
from dstui.judge.registry import FleetJudge, Judge
from dstui.model import Reason, SideEffect

ASKS_FIRST = "makes load on a production service: it runs when confirmed, in the app or with --allow-load"


def asks_first(check: Check, site: Site, judge: Judge | None = None) -> bool:
    """Whether somebody must agree first, on this cluster. Who judges a record does nothing to it."""
    if isinstance(judge, FleetJudge) and judge.recorded:
        return False
    heavy = check.side_effect in (SideEffect.S3, SideEffect.S4)
    return heavy or (check.confirm_in_production and site.environment == "production")


def held(
    catalogue: Catalogue, site: Site, confirmed: frozenset[str], judges: Mapping[str, Judge]
) -> Mapping[str, Missing]:
    """The checks that nobody has agreed to, and why they cannot be judged."""
    asking = (check.id for check in catalogue.checks if asks_first(check, site, judges.get(check.id)))
    return {check_id: Missing(Reason.NOT_RUN, ASKS_FIRST) for check_id in asking if check_id not in confirmed}
