"""Tones follow the theme; none of them is needed to read the screen."""

from __future__ import annotations

from typing import Any

import pytest
from rich.color import Color

from dstui.catalogue import Catalogue
from screens.themes import NIGHT
from screens.tones import Tone, styles_of


async def test_the_house_theme_is_there_from_the_start(engine: Any, catalogue: Catalogue, hands: Any) -> None:
    app = hands.app(engine, catalogue)
    assert app.theme == NIGHT.name
    assert styles_of(app)[Tone.DIM].color == Color.parse(NIGHT.variables["text-muted"])
    assert styles_of(app)[Tone.PASS].color == Color.parse(app.theme_variables["success"])


@pytest.mark.parametrize("theme", ["textual-light", "textual-dark", "dracula", "ansi-dark"])
async def test_another_theme_has_all_tones(theme: str, mixed_engine: Any, catalogue: Catalogue, hands: Any) -> None:
    async with hands.driven(mixed_engine, catalogue) as (app, pilot):
        before = styles_of(app)
        app.theme = theme
        await pilot.pause()
        styles = styles_of(app)
        assert set(styles) == set(Tone)
        assert styles[Tone.DIM].color is not None and styles[Tone.DIM].color != styles[Tone.PLAIN].color
        assert styles[Tone.FAIL] != before[Tone.FAIL]
        assert styles[Tone.FAIL].bold and styles[Tone.GATE_SHUT].bgcolor is not None
