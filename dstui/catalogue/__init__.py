"""The checklist as data: 99 items of the document in both languages, their parameters, rules and remedies."""

from __future__ import annotations

from dstui.catalogue.entries import (
    DOCUMENT,
    HOST_REACHABLE,
    OVERDUE_FAIL,
    OVERDUE_WARN,
    SIGN_OFF_TTL,
    Catalogue,
    Check,
    Disabled,
    Guidance,
    Param,
    Part,
    Section,
    Snippet,
    nearest,
)
from dstui.catalogue.loader import load_catalogue
from dstui.catalogue.shapes import ParamType, Shape

__all__ = [
    "DOCUMENT",
    "HOST_REACHABLE",
    "OVERDUE_FAIL",
    "OVERDUE_WARN",
    "SIGN_OFF_TTL",
    "Catalogue",
    "Check",
    "Disabled",
    "Guidance",
    "Param",
    "ParamType",
    "Part",
    "Section",
    "Shape",
    "Snippet",
    "load_catalogue",
    "nearest",
]
