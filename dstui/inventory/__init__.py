"""The inventory: what the operator says of the cluster. Pydantic comes in with the first use of a name from here."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dstui.inventory.inventory import Inventory
    from dstui.inventory.loader import load_inventory

__all__ = ["Inventory", "load_inventory"]

_HOME = {"Inventory": "dstui.inventory.inventory", "load_inventory": "dstui.inventory.loader"}


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)
