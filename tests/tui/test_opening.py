"""From nothing to the first frame, the checklist and the engine: each is shown as soon as it is there."""

from __future__ import annotations

import asyncio
import gc
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from textual.pilot import Pilot

from dstui.catalogue import Catalogue
from dstui.model import CatalogueError, InventoryError, Lang
from screens.app import DstuiApp
from screens.checklist import ChecklistScreen
from screens.lines import Bar


class SlowCatalogue:
    """A catalogue that is read when the test says so."""

    def __init__(self, catalogue: Catalogue) -> None:
        self.catalogue = catalogue
        self.gate = threading.Event()

    def __call__(self) -> Catalogue:
        assert self.gate.wait(30)
        return self.catalogue


@contextmanager
def slow(catalogue: Catalogue) -> Iterator[SlowCatalogue]:
    """Lets the reading thread go at the end, whatever the test does."""
    source = SlowCatalogue(catalogue)
    try:
        yield source
    finally:
        source.gate.set()


async def ended(app: DstuiApp, pilot: Pilot[str]) -> None:
    while app.is_running:
        await pilot.pause()


@pytest.mark.parametrize("lang", list(Lang))
async def test_the_frame_is_there_before_the_checklist(
    lang: Lang, engine: Any, catalogue: Catalogue, hands: Any
) -> None:
    with slow(catalogue) as source:
        app = DstuiApp(engine, source, lang=lang, clock=engine.clock)
        async with app.run_test(size=(120, 40)) as pilot:
            await pilot.pause()
            home = hands.home(app)
            reading = {Lang.EN: "Reading the checklist", Lang.ZH: "正在读取检查清单"}[lang]
            assert reading in hands.text_of(home.query_one("#top", Bar))
            assert reading in hands.text_of(home.query_one("#strip", Bar))
            assert str(home.outline_list.border_title) == {Lang.EN: "Checklist", Lang.ZH: "检查清单"}[lang]
            assert home.outline_list.keys == [] and home.outline_list.has_focus
            places = [widget.region for widget in home.query("#top, #tree, #detail, #strip, KeyBar")]
            source.gate.set()
            await hands.opened(app, pilot)
            assert len([key for key in home.outline_list.keys if ":" not in key]) == 99
            assert [widget.region for widget in home.query("#top, #tree, #detail, #strip, KeyBar")] == places


async def test_keys_wait_for_the_checklist_and_keep_their_order(
    mixed_engine: Any, catalogue: Catalogue, hands: Any
) -> None:
    with slow(catalogue) as source:
        app = DstuiApp(mixed_engine, source, clock=mixed_engine.clock)
        async with app.run_test(size=(120, 40)) as pilot:
            await pilot.press("down", "down", "up", "slash", "d", "n", "s", "enter", "l")
            home = hands.home(app)
            await pilot.resize_terminal(100, 30)
            source.gate.set()
            await hands.opened(app, pilot)
            assert home.sheet.query == "dns"
            assert home.outline_list.cursor == "net.dns"
            assert app.lang is Lang.ZH


@pytest.mark.parametrize("key", ["ctrl+p", "question_mark", "R", "e", "s", "enter", "tab", "escape", "f", "space"])
async def test_no_key_breaks_the_opening(key: str, engine: Any, catalogue: Catalogue, hands: Any) -> None:
    with slow(catalogue) as source:
        app = DstuiApp(engine, source, clock=engine.clock)
        async with app.run_test(size=(80, 24)) as pilot:
            await pilot.press(key)
            assert isinstance(app.screen, ChecklistScreen)
            source.gate.set()
            while not app.opened:
                await pilot.pause()
            assert app.return_code is None


@pytest.mark.parametrize("key", ["q", "ctrl+q"])
async def test_leaving_does_not_wait(key: str, engine: Any, catalogue: Catalogue) -> None:
    with slow(catalogue) as source:
        app = DstuiApp(engine, source, clock=engine.clock)
        async with app.run_test() as pilot:
            await pilot.press("down", key)
            source.gate.set()
            await ended(app, pilot)
        assert app.return_value is None
        assert not app.return_code


async def test_a_narrow_terminal_never_sees_the_wide_layout(engine: Any, catalogue: Catalogue, hands: Any) -> None:
    with slow(catalogue) as source:
        app = DstuiApp(engine, source, clock=engine.clock)
        widths: list[int] = []
        app.post_display_hook = lambda: widths.append(app.screen.query_one("#tree").size.width)  # type: ignore[method-assign]
        async with app.run_test(size=(80, 24)) as pilot:
            await pilot.pause()
            source.gate.set()
            await hands.opened(app, pilot)
        assert len({width for width in widths if width}) == 1


async def test_the_catalogue_is_there_before_the_engine(mixed_engine: Any, catalogue: Catalogue, hands: Any) -> None:
    gate = asyncio.Event()

    async def slow_engine() -> Any:
        await gate.wait()
        return mixed_engine

    app = DstuiApp(slow_engine, lambda: catalogue, clock=mixed_engine.clock)
    async with app.run_test(size=(120, 40)) as pilot:
        home = await hands.furnished(app, pilot)
        assert len([k for k in home.outline_list.keys if ":" not in k]) == 99
        assert "Reading the inventory" in hands.text_of(app.screen.query_one("#top", Bar))
        await pilot.press("R")
        assert "still being read" in hands.told(app)
        gate.set()
        await hands.opened(app, pilot)
        assert "ds-prod · production" in hands.text_of(app.screen.query_one("#top", Bar))
    assert mixed_engine.closed


@pytest.mark.parametrize("error", [InventoryError("inventory.yaml:3:5: hosts is empty"), RuntimeError("boom")])
async def test_an_engine_that_cannot_open_ends_the_app_with_a_sentence(
    error: Exception, engine: Any, catalogue: Catalogue
) -> None:
    async def broken() -> Any:
        raise error

    app = DstuiApp(broken, lambda: catalogue, clock=engine.clock)
    async with app.run_test() as pilot:
        await ended(app, pilot)
    assert app.return_code == 3
    assert str(error) in (app.return_value or "")
    assert "\n" not in (app.return_value or "")


async def test_an_overlay_that_cannot_be_read_ends_the_app_with_its_sentence(engine: Any) -> None:
    def broken() -> Catalogue:
        raise CatalogueError("own.yaml:4:7: there is no check 'hw.memroy' (did you mean 'hw.memory'?)")

    app = DstuiApp(engine, broken, clock=engine.clock)
    async with app.run_test() as pilot:
        await ended(app, pilot)
    assert app.return_code == 3
    assert (app.return_value or "").startswith("own.yaml:4:7: ")


async def test_the_collector_of_garbage_works_again_once_the_checklist_stands(
    engine: Any, catalogue: Catalogue, hands: Any
) -> None:
    gc.disable()
    try:
        async with hands.driven(engine, catalogue):
            assert gc.isenabled()
    finally:
        gc.unfreeze()
        gc.enable()


def test_the_first_frame_imports_neither_checklist_nor_engine() -> None:
    heavy = (
        "asyncssh httpx pydantic yaml sqlite3 dstui.engine dstui.inventory dstui.catalogue dstui.state dstui.standing "
        "screens.sheet screens.detail screens.finding screens.host screens.acts screens.help"
    )
    code = f"import sys, dstui.cli, screens.app; print([m for m in '{heavy}'.split() if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == "[]"
