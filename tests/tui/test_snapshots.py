"""Pictures of the screens at three sizes in both languages. `pytest --snapshot-update` accepts new ones."""

from __future__ import annotations

from collections.abc import Callable
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
    assert snap_compare(app, press=SCREENS[screen], terminal_size=size)


@pytest.mark.parametrize("lang", list(Lang), ids=str)
def test_looks_before_the_first_run(
    lang: Lang, engine: Any, catalogue: Catalogue, hands: Any, snap_compare: Callable[..., bool]
) -> None:
    assert snap_compare(hands.app(engine, catalogue, lang), terminal_size=(120, 40))


def test_looks_without_colour(
    mixed_engine: Any,
    catalogue: Catalogue,
    hands: Any,
    monkeypatch: pytest.MonkeyPatch,
    snap_compare: Callable[..., bool],
) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    assert snap_compare(hands.app(mixed_engine, catalogue), press=("n",), terminal_size=(120, 40))


def test_looks_while_running(
    mixed_engine: Any, catalogue: Catalogue, hands: Any, snap_compare: Callable[..., bool]
) -> None:
    mixed_engine.begin_progress([c.id for c in catalogue.checks if c.section in ("hw", "sw")])
    mixed_engine.progress.hosts["gpu-01"].phase = "done"
    app = hands.app(mixed_engine, catalogue)

    def still(pilot: Any) -> None:
        app.repaint_clock.spinning = False

    assert snap_compare(app, terminal_size=(200, 60), run_before=still)
