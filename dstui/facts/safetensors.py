"""The header of a safetensors file: eight bytes little-endian length, then JSON: which tensor lies where."""

from __future__ import annotations

import json
from dataclasses import dataclass
from math import prod

from dstui.facts.untyped import rows, table, text, whole

PREFIX = 8
MOST_HEADER_BYTES = 100_000_000
"""The limit of the format's own readers."""

_BITS = {
    "BOOL": 8, "U8": 8, "I8": 8, "F8_E5M2": 8, "F8_E4M3": 8, "F8_E8M0": 8, "F8_E4M3FNUZ": 8, "F8_E5M2FNUZ": 8,
    "I16": 16, "U16": 16, "F16": 16, "BF16": 16, "I32": 32, "U32": 32, "F32": 32, "I64": 64, "U64": 64, "F64": 64,
    "C64": 64, "F4": 4, "F6_E2M3": 6, "F6_E3M2": 6,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Tensor:
    """`begin` and `end` are offsets in bytes behind the header."""

    name: str
    dtype: str
    elements: int
    begin: int
    end: int

    @property
    def size(self) -> int:
        return self.end - self.begin


@dataclass(frozen=True, slots=True)
class Header:
    """The tensors of one file in the order of their bytes."""

    tensors: tuple[Tensor, ...]

    @property
    def size(self) -> int:
        """Bytes of all tensors."""
        return sum(tensor.size for tensor in self.tensors)


@dataclass(frozen=True, slots=True)
class Breach:
    """What is wrong with a file, as a clause: `ends 4,096 bytes early`; the same in Chinese."""

    en: str
    zh: str


def header_length(first: bytes, size: int) -> int | Breach:
    """Bytes of the JSON header, from the first eight of a file of `size` bytes."""
    if len(first) < PREFIX or size < PREFIX:
        return Breach(f"has only {size} bytes", f"只有 {size} 字节")
    length = int.from_bytes(first[:PREFIX], "little")
    if not 0 < length <= MOST_HEADER_BYTES:
        return Breach(
            f"is no safetensors file (a header of {length:,} bytes)", f"不是 safetensors（头部 {length:,} 字节）"
        )
    if PREFIX + length > size:
        return Breach("ends inside its header", "在头部中间截断")
    return length


def header(content: bytes, size: int) -> Header | Breach:
    """The header of a file of `size` bytes; a Breach when it and the file do not fit each other."""
    try:
        cells = table(json.loads(content.decode("utf-8")))
    except (ValueError, RecursionError):
        return Breach("has a header that is no JSON", "头部不是合法 JSON")
    if cells is None:
        return Breach("has a header that is no JSON object", "头部不是 JSON 对象")
    tensors = []
    for name, entry in cells.items():
        if name == "__metadata__":
            continue
        tensor = _tensor(name, entry)
        if isinstance(tensor, Breach):
            return tensor
        tensors.append(tensor)
    if not tensors:
        return Breach("holds no tensor", "不含任何张量")
    tensors.sort(key=lambda tensor: (tensor.begin, tensor.end))
    at = 0
    for tensor in tensors:
        if tensor.begin != at:
            what = tensor.name[:80]
            return Breach(f"has a hole or an overlap before {what}", f"在 {what} 之前有空洞或重叠")
        at = tensor.end
    there = size - PREFIX - len(content)
    if there < at:
        return Breach(f"ends {at - there:,} bytes early", f"少了 {at - there:,} 字节（被截断）")
    if there > at:
        return Breach(f"has {there - at:,} bytes too many", f"多出 {there - at:,} 字节")
    return Header(tuple(tensors))


def _numbers(value: object) -> list[int]:
    return [number for number in (whole(cell) for cell in rows(value) or []) if number is not None]


def _tensor(name: str, entry: object) -> Tensor | Breach:
    cells = table(entry) or {}
    offsets, shape = _numbers(cells.get("data_offsets")), _numbers(cells.get("shape"))
    dtype = text(cells.get("dtype"))
    broken = Breach(f"has no usable entry for {name[:80]}", f"{name[:80]} 的条目无效")
    if dtype is None or len(offsets) != 2 or not 0 <= offsets[0] <= offsets[1] or any(side < 0 for side in shape):
        return broken
    if len(shape) != len(rows(cells.get("shape")) or []) or len(shape) > 16:
        return broken
    elements = prod(shape)
    bits = _BITS.get(dtype)
    if bits is not None and (elements * bits + 7) // 8 != offsets[1] - offsets[0]:
        return Breach(f"has a size for {name[:80]} that is not that of its shape", f"{name[:80]} 的大小与形状不符")
    return Tensor(name, dtype, elements, offsets[0], offsets[1])
