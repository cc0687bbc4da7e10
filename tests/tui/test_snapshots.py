"""Pictures of the screens at three sizes in both languages. `pytest --snapshot-update` accepts new ones."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from dstui.catalogue import Catalogue
from dstui.model import Lang

SIZES = [(80, 24), (120, 40), (200, 60)]
SCREENS = {
    "home": ("n",),
    "finding": ("n", "enter", "2"),
    "sign": ("s",),
    "help": ("question_mark",),
}


@pytest.fixture(autouse=True)
def steady(monkeypatch: pytest.MonkeyPatch) -> None:
    """A cursor that does not blink and no variables of the machine that change colours."""
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setattr("textual.widgets.Input.cursor_blink", False)


def when_opened(app: Any, hands: Any) -> Callable[[Any], Awaitable[None]]:
    return lambda pilot: hands.opened(app, pilot)


@pytest.mark.parametrize("lang", list(Lang), ids=str)
@pytest.mark.parametrize("size", SIZES, ids=lambda size: f"{size[0]}x{size[1]}")
@pytest.mark.parametrize("screen", list(SCREENS))
def test_looks(
    screen: str,
    size: tuple[int, int],
    lang: Lang,
    mixed_engine: Any,
    catalogue: Catalogue,
    hands: Any,
    snap_compare: Callable[..., bool],
) -> None:
    app = hands.app(mixed_engine, catalogue, lang)
    assert snap_compare(app, press=SCREENS[screen], terminal_size=size, run_before=when_opened(app, hands))


@pytest.mark.parametrize("lang", list(Lang), ids=str)
def test_looks_before_the_first_run(
    lang: Lang, engine: Any, catalogue: Catalogue, hands: Any, snap_compare: Callable[..., bool]
) -> None:
    app = hands.app(engine, catalogue, lang)
    assert snap_compare(app, terminal_size=(120, 40), run_before=when_opened(app, hands))


def test_looks_without_colour(
    mixed_engine: Any,
    catalogue: Catalogue,
    hands: Any,
    monkeypatch: pytest.MonkeyPatch,
    snap_compare: Callable[..., bool],
) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    app = hands.app(mixed_engine, catalogue)
    assert snap_compare(app, press=("n",), terminal_size=(120, 40), run_before=when_opened(app, hands))


def test_looks_while_running(
    mixed_engine: Any, catalogue: Catalogue, hands: Any, snap_compare: Callable[..., bool]
) -> None:
    mixed_engine.begin_progress([c.id for c in catalogue.checks if c.section in ("hw", "sw")])
    mixed_engine.progress.hosts["gpu-01"].phase = "done"
    app = hands.app(mixed_engine, catalogue)

    async def still(pilot: Any) -> None:
        await hands.opened(app, pilot)
        app.repaint_clock.spinning = False

    assert snap_compare(app, terminal_size=(200, 60), run_before=still)
