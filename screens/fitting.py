"""Which columns of a table there is room for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, TypeVar


class Fits(Protocol):
    """`cells` wide; `weight`: the lower, the sooner it is left out."""

    @property
    def cells(self) -> int: ...

    @property
    def weight(self) -> int: ...


C = TypeVar("C", bound=Fits)


def fitting(columns: Sequence[C], room: int) -> tuple[C, ...]:
    """Those for which there is room, each with a blank before it, in their order."""
    left = room
    chosen: set[int] = set()
    for number in sorted(range(len(columns)), key=lambda number: -columns[number].weight):
        left -= columns[number].cells + 1
        if left < 0:
            break
        chosen.add(number)
    return tuple(columns[number] for number in sorted(chosen))
