"""What every screen of dstui has: the app as its own type, the footer, a repaint when something changed."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Generic, TypeVar, cast

from textual.screen import ModalScreen, Screen

from dstui.model import Lang, Text
from screens.keybar import KeyBar

if TYPE_CHECKING:
    from dstui.engine import Engine
    from screens.app import DstuiApp
    from screens.moment import Moment

R = TypeVar("R")

BREAKPOINTS = [(0, "-narrow"), (100, "-wide"), (160, "-rich")]
"""Columns from which a screen gets which class: one pane at a time, two, two with room."""


class House:
    """Access to the app. Mixed into screens and modals."""

    @property
    def house(self) -> DstuiApp:
        return cast("DstuiApp", self.app)  # type: ignore[attr-defined]

    @property
    def moment(self) -> Moment:
        return self.house.moment

    @property
    def lang(self) -> Lang:
        return self.house.lang

    @property
    def engine(self) -> Engine | None:
        return self.house.engine

    def say(self, text: Text) -> str:
        return text[self.house.lang]


class HouseScreen(House, Screen[None]):
    """A full screen. `repaint` is called when state or progress changed, `spin` while something runs."""

    FOOTER: ClassVar[tuple[str, ...]] = ()

    def repaint(self) -> None:
        raise NotImplementedError

    def spin(self) -> None:
        """One step of the spinner; repaints only what spins."""

    def repaint_live(self) -> None:
        """Time has passed for what is live: shows it anew. Called twice a second while the screen is on top."""

    def repaint_ladder(self) -> None:
        """The load ladder that runs has moved on. Called at most ten times a second while the screen is on top."""

    def relabel(self) -> None:
        """The language changed."""
        for bar in self.query(KeyBar):
            bar.show_keys(self.FOOTER, self.lang)
        self.repaint()

    def on_mount(self) -> None:
        # Textual sets the breakpoint's class after the first layout: a narrow terminal would see the wide one flash up.
        width = self.app.size.width
        self.add_class(max((at, name) for at, name in BREAKPOINTS if at <= width)[1])
        self.relabel()

    def on_screen_resume(self) -> None:
        self.relabel()


class HouseModal(House, ModalScreen[R], Generic[R]):
    """A dialog over a screen."""

    def relabel(self) -> None:
        """The language changed."""

    def repaint(self) -> None:
        """State or progress changed."""

    def spin(self) -> None:
        """One step of the spinner."""

    def repaint_live(self) -> None:
        """Time has passed for what is live."""

    def repaint_ladder(self) -> None:
        """The load ladder that runs has moved on."""
