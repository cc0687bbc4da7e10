"""The search line is on top of the footer: one sees what one types."""

from __future__ import annotations

from typing import Any

from dstui.catalogue import Catalogue
from screens.search import SearchLine


async def test_nothing_covers_the_search_line(mixed_engine: Any, catalogue: Catalogue, hands: Any) -> None:
    async with hands.driven(mixed_engine, catalogue) as (app, pilot):
        await pilot.press("slash")
        await pilot.pause()
        line = app.screen.query_one(SearchLine)
        place = line.region
        assert app.screen.get_widget_at(place.x + 2, place.y)[0] is line
        await pilot.press("escape")
        await pilot.pause()
        assert app.screen.get_widget_at(place.x + 2, place.y)[0] is not line
