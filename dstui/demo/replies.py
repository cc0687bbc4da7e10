"""What the made-up model says: what it is told to repeat or to begin with, the code word of a text, numbers."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import count

_REPEAT = re.compile(r"(?:repeat(?: exactly| after me)?|重复|跟我说|复述)\s*[:：] ?(.*)", re.DOTALL | re.IGNORECASE)
_BEGIN = re.compile(r"(?:start|begin) your (?:answer|reply) with (\w{1,64})", re.ASCII | re.IGNORECASE)
_CODE_WORD = re.compile(r"the code word is (\w{1,64})", re.ASCII | re.IGNORECASE)
_SUM = re.compile(r"(\d{1,9})\s*([+*×-])\s*(\d{1,9})")
_COUNT = re.compile(r"\bcount\b|数到|数数", re.IGNORECASE)
_CHINESE = re.compile("[\u4e00-\u9fff]")
_EARLY = 400
"""Characters of a prompt in which an order is looked for."""
HELLO = "Hello! I am made up: this is the simulated fleet of dstui, and no model runs here. How can I help you?"
HELLO_ZH = "你好！这里是 dstui 的模拟集群，没有真正运行模型。请问需要什么帮助？"


def reply(prompt: str) -> Iterator[str]:
    """The answer in pieces of text; only one that counts has no end."""
    repeat = _REPEAT.search(prompt[:_EARLY])
    if repeat is not None:
        yield prompt[repeat.start(1) :]
        return
    begin = _BEGIN.search(prompt[:_EARLY])
    if begin is not None:
        yield f"{begin[1]} {_calculated(prompt)}"
        return
    hidden = _CODE_WORD.search(prompt)
    if hidden is not None and "code word?" in prompt[-_EARLY:]:
        yield f"The code word is {hidden[1]}."
        return
    if _COUNT.search(prompt[:_EARLY]):
        for number in count(1):
            yield f"{number}\n"
    if _SUM.search(prompt[:_EARLY]):
        yield _calculated(prompt)
        return
    yield HELLO_ZH if _CHINESE.search(prompt[:_EARLY]) else HELLO


def _calculated(prompt: str) -> str:
    found = _SUM.search(prompt)
    if found is None:
        return HELLO
    one, other = int(found[1]), int(found[3])
    result = {"+": one + other, "-": one - other}.get(found[2], one * other)
    return f"{found[1]} {found[2]} {found[3]} = {result}."
