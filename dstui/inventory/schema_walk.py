"""Which keys the schema knows at a place, asked without a value at hand."""

from __future__ import annotations

from types import UnionType
from typing import Annotated, Union, get_args, get_origin

from pydantic import BaseModel

from dstui.inventory.unfold import Path


def model_at(model: type[BaseModel], path: Path) -> type[BaseModel] | None:
    """The model that describes what stands at `path`; None when that is no block of fixed keys."""
    return model_in(_annotation_at(model, path))


def has_key(model: type[BaseModel], path: Path) -> bool:
    """Whether something can stand at `path`; any key can in a table such as `secrets`."""
    return _annotation_at(model, path) is not None


def model_in(annotation: object) -> type[BaseModel] | None:
    """The model of an annotation such as `Host | None`; None for a list, a table or a scalar."""
    bare = _bare(annotation)
    return bare if isinstance(bare, type) and issubclass(bare, BaseModel) else None


def _annotation_at(model: type[BaseModel], path: Path) -> object:
    current: object = model
    for part in path:
        block = model_in(current)
        if block is not None:
            field = block.model_fields.get(str(part))
            current = field.annotation if field is not None else None
        else:
            container = _bare(current)
            inner = get_args(container)
            current = inner[-1 if get_origin(container) is dict else 0] if inner else None
    return current


def _bare(annotation: object) -> object:
    """The annotation without Annotated and without `| None`."""
    if get_origin(annotation) is Annotated:
        return _bare(get_args(annotation)[0])
    if get_origin(annotation) in (Union, UnionType):
        inner = [a for a in get_args(annotation) if a is not type(None)]
        return _bare(inner[0]) if len(inner) == 1 else None
    return annotation
