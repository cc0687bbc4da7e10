"""Keys: no screen binds one twice, all are in the registry, and what later screens need is left alone."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from collections import Counter

import pytest
from textual.app import App
from textual.binding import Binding
from textual.dom import DOMNode
from textual.widgets import Input

import screens
from dstui.model import Lang
from screens.acts import WaiveForm
from screens.app import DstuiApp
from screens.checklist import ChecklistScreen
from screens.finding import FindingScreen
from screens.form import Form
from screens.host import HostScreen
from screens.keybar import keys_line
from screens.keys import ALL, BY_ID
from screens.ladder import LadderScreen
from screens.lines import width_of

RESERVED = {"H", "c", "ctrl+q"}


def own_nodes() -> list[type[DOMNode]]:
    """Every screen, widget and app of the house."""
    found: list[type[DOMNode]] = []
    for module in pkgutil.iter_modules(screens.__path__):
        for _, kind in inspect.getmembers(importlib.import_module(f"screens.{module.name}"), inspect.isclass):
            if issubclass(kind, DOMNode) and kind.__module__.startswith("screens.") and kind not in found:
                found.append(kind)
    return found


NODES = own_nodes()


def own_bindings(node: type[DOMNode]) -> list[Binding]:
    return list(Binding.make_bindings(node.__dict__.get("BINDINGS", [])))


@pytest.mark.parametrize("node", NODES, ids=lambda node: node.__name__)
def test_no_key_is_bound_twice_in_one_place(node: type[DOMNode]) -> None:
    counted = Counter(binding.key for binding in own_bindings(node))
    assert [key for key, count in counted.items() if count > 1] == []


@pytest.mark.parametrize("screen", [ChecklistScreen, FindingScreen, HostScreen, LadderScreen])
def test_a_screen_and_the_app_do_not_fight_over_a_key(screen: type[DOMNode]) -> None:
    mine = {binding.key for binding in own_bindings(screen)}
    apps = {binding.key for binding in own_bindings(DstuiApp)} | {
        binding.key for binding in Binding.make_bindings(App.BINDINGS)
    }
    assert mine & apps == set()


@pytest.mark.parametrize("node", NODES, ids=lambda node: node.__name__)
def test_keys_of_later_screens_are_free(node: type[DOMNode]) -> None:
    assert {binding.key for binding in own_bindings(node)} & RESERVED == set()


@pytest.mark.parametrize("node", NODES, ids=lambda node: node.__name__)
def test_every_binding_from_the_registry_has_its_action(node: type[DOMNode]) -> None:
    for binding in own_bindings(node):
        if binding.id in BY_ID:
            name = binding.action.partition("(")[0]
            assert hasattr(node, f"action_{name}"), f"{node.__name__} has no action_{name}"


def test_keys_of_forms_are_not_taken_by_the_fields() -> None:
    fields = {key for binding in Binding.make_bindings(Input.BINDINGS) for key in binding.key.split(",")}
    # What has priority is the form's before a field sees it.
    forms = {b.key for kind in (Form, WaiveForm) for b in own_bindings(kind) if not b.priority}
    assert fields & forms == set()


def test_registry_ids_are_unique() -> None:
    assert len(BY_ID) == len(ALL)


@pytest.mark.parametrize("screen", [ChecklistScreen, FindingScreen, HostScreen, LadderScreen])
@pytest.mark.parametrize("lang", list(Lang))
@pytest.mark.parametrize(("width", "most"), [(80, 5), (99, 5), (120, 99), (200, 99), (20, 99)])
def test_the_footer_fits_and_ends_with_help(screen: type[ChecklistScreen], lang: Lang, width: int, most: int) -> None:
    shown, places = keys_line(screen.FOOTER, lang, width)
    assert width_of(shown) <= width + 2
    assert len(places) <= most
    assert places[-1][2] == "question_mark"
    assert all(start < end for start, end, _ in places)


def test_dangerous_keys_are_known() -> None:
    # Each of them asks before it acts, which its screen's tests show.
    assert [key.id for key in ALL if key.dangerous] == ["run-ladder"]
